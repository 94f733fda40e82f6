"""The settings file as bytes: read whole, and replaced at once with a copy of what it was beside it.

    killed after                    the file is             beside it
    the new text is written         as it was               a file `.NAME.new`, which the next replacement overwrites
    the copy is made                as it was               the copy
    the new one has its name        new                     the copy

At no moment is the file absent or half written. It keeps its mode and group; a link to a file stays one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from specie.kernel.errors import RefusedError
from specie.ops.config import read_content

__all__ = ["digest_of", "file_content", "replaced"]


def file_content(file: Path) -> bytes | None:
    """What the file holds, None where it is not there; OSError."""
    try:
        return read_content(file)
    except FileNotFoundError:
        return None


def digest_of(content: bytes | None) -> str:
    """Tells two contents apart, an absent one included."""
    return "" if content is None else hashlib.sha256(content).hexdigest()


def replaced(file: Path, content: bytes, at: int) -> tuple[Path | None, Callable[[], None]]:
    """Replace the file, and copy what it was to `NAME.TIME.bak` (`at`, Unix seconds); the copy, and what puts it back.

    RefusedError, and nothing is changed, where the file or its directory cannot be written.
    """
    target = Path(os.path.realpath(file))
    stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")

    def back() -> None:
        with contextlib.suppress(OSError):  # whoever undoes has worse to tell
            if kept is None:
                target.unlink()
            else:
                kept.replace(target)
            _settle(target.parent)

    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        was = target.stat() if target.exists() else None
        new = target.with_name(f".{target.name}.new")
        _write(new, content, was)
        kept = _copied(target, stamp, was)
        new.replace(target)
        try:
            _settle(target.parent)
        except OSError:
            back()
            raise
    except OSError as error:
        raise RefusedError(f"{target} cannot be replaced: {error.strerror or error}") from None
    return kept, back


def _copied(target: Path, stamp: str, was: os.stat_result | None) -> Path | None:
    if was is None:
        return None
    kept, number = target.with_name(f"{target.name}.{stamp}.bak"), 1
    while kept.exists():
        number += 1
        kept = target.with_name(f"{target.name}.{stamp}-{number}.bak")
    _write(kept, target.read_bytes(), was)
    return kept


def _write(path: Path, content: bytes, like: os.stat_result | None) -> None:
    """A new file with the group and mode of another; nobody but the owner may read it where its group cannot be kept."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as opened:
        opened.write(content)
        opened.flush()
        mode = 0o600 if like is None else stat.S_IMODE(like.st_mode)
        if like is not None and os.fstat(opened.fileno()).st_gid != like.st_gid:
            try:
                os.fchown(opened.fileno(), -1, like.st_gid)
            except PermissionError:
                mode &= 0o700
        os.fchmod(opened.fileno(), mode)
        os.fsync(opened.fileno())


def _settle(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
