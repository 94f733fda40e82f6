"""One process at a time in a data directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from specie.kernel.errors import RefusedError

__all__ = ["DataDirectoryInUseError", "owned_directory"]


class DataDirectoryInUseError(RefusedError):
    """Another process runs the bank, or the signer, of this data directory."""


@contextlib.contextmanager
def owned_directory(path: Path, *, busy: str = "another process runs the bank in") -> Iterator[None]:
    """Make `path` (mode 0700) if need be and hold its lock; DataDirectoryInUseError if another process does.

    The kernel drops the lock when this process ends, however it ends. `busy`: how the error begins.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirectoryInUseError(f"{busy} {path}") from None
        yield
    finally:
        os.close(handle)
