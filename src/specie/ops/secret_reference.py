"""Where a secret stands, written in its place: `file:/path`, `env:NAME` or `keyring:service/user`.

The reference is what settings, history and logs hold and show; the secret is read when it is needed (`resolve`) and kept by
nobody here. A scheme is one function in a table, so another one is one more line. Not here: the keyring itself; whoever
resolves says how it is asked.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from specie.kernel.errors import RefusedError
from specie.ops.secret import Secret

__all__ = [
    "MAX_SECRET_BYTES",
    "SCHEMES",
    "SecretReference",
    "SecretReferenceError",
    "Sources",
    "reference_from_text",
    "resolve",
]

MAX_SECRET_BYTES: Final = 65_536
"""Longest secret that is read."""

_MAX_REFERENCE_CHARS = 4096
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


class SecretReferenceError(RefusedError):
    """A reference leads to no secret that can be used. The text names the reference, never what stands there."""

    def __init__(self, reference: object, reason: str) -> None:
        super().__init__(f"{reference}: {reason}")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SecretReference:
    """A place of a secret: `scheme` is one of `SCHEMES`, `place` what stands behind the colon. Equal if the place is."""

    scheme: str
    place: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.place}"


@dataclass(frozen=True, slots=True)
class Sources:
    """Where secrets come from. Tests put their own here."""

    environ: Mapping[str, str]
    keyring: Callable[[str, str], str | None] | None = None
    """Asked with service and user; None for no entry. Raises leaves of the error tree. None: no keyring is at hand."""


def _file(reference: SecretReference, sources: Sources) -> bytes:
    """A regular file that nobody else may use, by the rule for files that guard a seed."""
    from specie.keys.errors import SealFileUnsafeError
    from specie.keys.sealing import file_checked

    try:
        handle = os.open(reference.place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise SecretReferenceError(reference, "there is no such file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it cannot be opened"
        raise SecretReferenceError(reference, f"cannot be read: {reason}") from None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise SecretReferenceError(reference, "is no regular file")
        file_checked((found.st_mode, found.st_uid, found.st_gid), user=os.geteuid(), path=reference.place, kind="the file")
        read = b""
        while len(read) <= MAX_SECRET_BYTES and (more := os.read(handle, MAX_SECRET_BYTES + 1 - len(read))):
            read += more
    except OSError as error:
        raise SecretReferenceError(reference, f"cannot be read: {error.strerror}") from None
    except SealFileUnsafeError as error:
        raise SecretReferenceError(reference, error.detail) from None
    finally:
        os.close(handle)
    for end in (b"\r\n", b"\n"):
        if read.endswith(end):
            return read[: -len(end)]
    return read


def _env(reference: SecretReference, sources: Sources) -> bytes:
    value = sources.environ.get(reference.place)
    if value is None:
        raise SecretReferenceError(reference, "this variable is not set in the bank's environment")
    return os.fsencode(value)


def _keyring(reference: SecretReference, sources: Sources) -> bytes:
    if sources.keyring is None:
        raise SecretReferenceError(reference, "no keyring can be asked here")
    service, _, user = reference.place.partition("/")
    value = sources.keyring(service, user)
    if value is None:
        raise SecretReferenceError(reference, "the keyring has no such entry")
    return value.encode(errors="surrogateescape")


SCHEMES: Final[Mapping[str, Callable[[SecretReference, Sources], bytes]]] = {
    "file": _file,
    "env": _env,
    "keyring": _keyring,
}
"""How a secret of each scheme is read."""


def reference_from_text(text: str, base: Path) -> SecretReference | None:
    """The reference that `text` is, or None for text of no known scheme; a relative file is taken from `base`.

    ValueError for a reference that can lead nowhere.
    """
    scheme, colon, place = text.partition(":")
    if not colon or scheme not in SCHEMES:
        return None
    if len(text) > _MAX_REFERENCE_CHARS or not place.isprintable():
        raise ValueError(f"is no usable {scheme}: reference: it is too long or holds control characters")
    if scheme == "file":
        if not place or place.endswith("/"):
            raise ValueError("file: needs the path of a file")
        try:
            place = str((base / Path(place).expanduser()).absolute())
        except RuntimeError:
            raise ValueError("file: names the home of a user that is not known") from None
    elif scheme == "env":
        if not _NAME.fullmatch(place):
            raise ValueError("env: needs the name of a variable: letters, digits and '_'")
    else:
        service, slash, user = place.partition("/")
        if not (service and slash and user):
            raise ValueError("keyring: needs service/user")
    return SecretReference(scheme, place)


def resolve(reference: SecretReference, sources: Sources) -> Secret:
    """Read the secret now. Blocks, as a keyring may. SecretReferenceError says which reference, and why."""
    found = SCHEMES[reference.scheme](reference, sources)
    if not found:
        raise SecretReferenceError(reference, "is empty")
    if len(found) > MAX_SECRET_BYTES:
        raise SecretReferenceError(reference, f"is larger than {MAX_SECRET_BYTES:,} bytes")
    try:
        found.decode()
    except UnicodeDecodeError:
        raise SecretReferenceError(reference, "is no UTF-8 text") from None
    return Secret(found)
