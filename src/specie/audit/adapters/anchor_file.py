"""An anchor that is a file: one checkpoint a line, appended and made durable, mode 0600.

It is worth what its place is worth: on a disk of another machine, or one that only appends, nobody who writes to the bank's
store can take a line back. Several processes may share it; its lock keeps their lines whole and in order.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from specie.audit.record import Checkpoint, checkpoint_from_text
from specie.kernel.errors import MalformedError, UnavailableError

__all__ = ["FileAnchor"]

_TAIL_BYTES = 4096
"""Far longer than a line."""


class FileAnchor:
    """Implements `audit.ports.Anchor`. The file is made when it is first needed; its directory must be there."""

    def __init__(self, path: Path) -> None:
        """Name it; nothing is touched."""
        self._path = path

    @contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            descriptor = os.open(
                self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600
            )
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise UnavailableError(f"the audit log's anchor {self._path} is no file")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnavailableError(f"the audit log's anchor {self._path} cannot be used: {error.strerror}") from None

    def _last(self, descriptor: int) -> tuple[Checkpoint | None, bool]:
        """The newest line, and whether the file ends with a whole one."""
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        whole = not tail or tail.endswith(b"\n")
        lines = tail.split(b"\n")[:-1]
        try:
            return (checkpoint_from_text(lines[-1].decode()) if lines else None), whole
        except (MalformedError, UnicodeDecodeError):
            raise UnavailableError(f"the last line of the audit log's anchor {self._path} is no checkpoint") from None

    def last(self) -> Checkpoint | None:
        """The newest checkpoint; a line that a crash cut short does not count."""
        with self._opened() as descriptor:
            return self._last(descriptor)[0]

    def add(self, texts: Sequence[str]) -> None:
        """Append those that are newer than the newest line, and wait for the disk."""
        with self._opened() as descriptor:
            newest, whole = self._last(descriptor)
            if not whole:
                os.ftruncate(descriptor, _end_of_lines(descriptor))
            count = 0 if newest is None else newest.count
            lines = "".join(f"{text}\n" for text in texts if checkpoint_from_text(text).count > count).encode()
            while lines:
                lines = lines[os.write(descriptor, lines) :]
            os.fsync(descriptor)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _end_of_lines(descriptor: int) -> int:
    """How long the file is without the piece of a line that a crash left at its end."""
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    return size - len(tail) + tail.rfind(b"\n") + 1
