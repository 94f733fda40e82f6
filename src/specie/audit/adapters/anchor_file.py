"""An anchor that is a file: one checkpoint a line, appended and made durable, mode 0600.

It is worth what its place is worth: on a disk of another machine, or one that only appends, nobody who writes to the bank's
store can take a line back. Several processes may share it; its lock keeps their lines whole and in order.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from specie.audit.record import Checkpoint, checkpoint_from_text
from specie.kernel.errors import MalformedError, UnavailableError

__all__ = ["FileAnchor"]

_TAIL_BYTES = 4096
"""Far longer than some lines."""
_BEGIN = b'{"at":'
"""Of every line."""
_LOCK_TRIES = 40
_LOCK_PAUSE_S = 0.05
"""Others hold the lock for one append; whoever holds it longer is not waited for."""


class FileAnchor:
    """Implements `audit.ports.Anchor`. The file is made when it is first needed; its directory must be there."""

    def __init__(self, path: Path) -> None:
        """Name it; nothing is touched."""
        self._path = path

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            descriptor = self._descriptor()
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise UnavailableError(f"the audit log's anchor {self._path} is no file")
                self._lock(descriptor)
                yield descriptor
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnavailableError(f"the audit log's anchor {self._path} cannot be used: {error.strerror}") from None

    def _descriptor(self) -> int:
        """The opened file; its name is durable if it was made for this."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with contextlib.suppress(FileNotFoundError):
            return os.open(self._path, flags)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            descriptor = os.open(self._path, flags | os.O_CREAT, 0o600)
            try:
                os.fsync(directory)
            except OSError:
                os.close(descriptor)
                raise
        finally:
            os.close(directory)
        return descriptor

    def _lock(self, descriptor: int) -> None:
        """Take the lock, which goes with the descriptor; UnavailableError where somebody keeps it."""
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOCK_PAUSE_S)
            else:
                return
        raise UnavailableError(f"the audit log's anchor {self._path} is locked by another program")

    def _last(self, descriptor: int) -> tuple[Checkpoint | None, bool]:
        """The newest checkpoint, and whether the file ends with a whole line."""
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        lines = tail.split(b"\n")[:-1]
        for line in reversed(lines):  # a piece that a crash left is passed over
            with contextlib.suppress(MalformedError, UnicodeDecodeError):
                return checkpoint_from_text(line.decode()), tail.endswith(b"\n")
        piece = tail.rstrip(b"\0")[: len(_BEGIN)]  # nulls are what a crash leaves of bytes that had a place already
        if lines or size > _TAIL_BYTES or not _BEGIN.startswith(piece):
            raise UnavailableError(f"the audit log's anchor {self._path} ends with no checkpoint")
        return None, not tail

    def last(self) -> Checkpoint | None:
        """The newest checkpoint; a line that a crash cut short does not count."""
        with self._opened() as descriptor:
            return self._last(descriptor)[0]

    def add(self, texts: Sequence[str]) -> None:
        """Append those that are newer than the newest one, and wait for the disk. Nothing there is ever taken away.

        A piece of a line stays as a line of its own, and the whole one comes behind it; `verify.without_pieces` knows that.
        """
        with self._opened() as descriptor:
            newest, whole = self._last(descriptor)
            count = 0 if newest is None else newest.count
            lines = "".join(f"{text}\n" for text in texts if checkpoint_from_text(text).count > count).encode()
            left = lines if whole else b"\n" + lines
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
