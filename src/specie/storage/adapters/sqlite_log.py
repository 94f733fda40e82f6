"""SQLite's log, moved into the database beside the writer: a commit never waits for it, however many pages there are to move.

A thread with a connection of its own moves what is in the log while the writer appends to it, again while much was appended
meanwhile; the last pages are moved by the writer itself between two commits, since only a log that is wholly moved begins
anew. A crash at any point leaves a log that is read at the next opening.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

import apsw

from specie.kernel.errors import UnavailableError

__all__ = ["LogMover"]

_PAGES = 8_000
"""In the log before they are moved: 32 MB that are written over again and again, which costs less than new ones."""
_MOST_PAGES = 128_000
"""Where the thread did not keep up, the writer moves them all itself."""
_FEW_PAGES = 500
_ROUNDS = 4


class LogMover:
    """Keeps the log of one store short.

    Args:
        writer: the only connection that writes; its hook after commits is taken.
        mover: a connection for the thread alone. Both stay open until after `close`.
        between_commits: runs something on the writer's thread, soon; UnavailableError if the store is closing.
    """

    def __init__(
        self,
        writer: apsw.Connection,
        mover: apsw.Connection,
        between_commits: Callable[[Callable[[], None]], None],
    ) -> None:
        self._writer = writer
        self._mover = mover
        self._between_commits = between_commits
        self._moving = False
        self._closed = False
        self._wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="specie-log", daemon=True)
        self._thread.start()
        writer.set_wal_hook(self._grown)

    def close(self) -> None:
        """End the thread, after what it is moving now."""
        self._closed = True
        self._wanted.set()
        self._thread.join()

    def _grown(self, connection: apsw.Connection, _: str, pages: int) -> int:
        if pages >= _MOST_PAGES:
            self._move(connection)
        elif pages >= _PAGES and not self._moving:
            self._moving = True
            self._wanted.set()
        return apsw.SQLITE_OK

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closed:
                return
            before = 0
            for _ in range(_ROUNDS):
                pages = self._move(self._mover)
                if pages - before <= _FEW_PAGES or self._closed:
                    break
                before = pages
            with contextlib.suppress(UnavailableError):
                self._between_commits(self._finish)

    def _finish(self) -> None:
        self._move(self._writer)
        self._moving = False

    @staticmethod
    def _move(connection: apsw.Connection) -> int:
        """Move what can be moved now; the pages that are in the log. What cannot be is tried again after a later commit."""
        try:
            return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)[0]
        except apsw.Error:
            return 0
