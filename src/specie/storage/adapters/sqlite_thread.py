"""The threads of the SQLite store: what waits for them, how they take it, how callers are answered; and the reading one."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable, Iterable
from typing import Any, Literal

import apsw

from specie.storage.adapters.sqlite_transaction import SqliteTransaction, translated
from specie.storage.ports import Body

__all__ = ["Job", "Reader", "Work", "run_thread", "settle"]


class Job:
    """A body that waits, its caller's future, and what became of it."""

    __slots__ = ("body", "error", "future", "loop", "result")

    def __init__(self, body: Body[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.body = body
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None


Work = Job | Callable[[], None] | None
"""What a thread takes: a body, something to run by itself, or None: finish."""


def run_thread(work: queue.SimpleQueue[Work], bound: Callable[[], int], run: Callable[[list[Job]], None]) -> None:
    """Take all bodies that wait, up to the bound, hand them to `run`; until None comes."""
    item = work.get()
    while item is not None:
        if not isinstance(item, Job):
            item()
            item = work.get()
            continue
        jobs, most = [item], bound()
        following: Work | Literal[False] = False
        while len(jobs) < most:
            try:
                following = work.get_nowait()
            except queue.Empty:
                break
            if not isinstance(following, Job):
                break
            jobs.append(following)
            following = False
        run(jobs)
        del jobs
        item = work.get() if following is False else following


class Reader:
    """One read-only connection; all the bodies it takes at a time share one snapshot."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()

    def run(self, jobs: list[Job]) -> None:
        """Run and answer."""
        try:
            self._cursor.execute("BEGIN")
            for job in jobs:
                try:
                    job.result = SqliteTransaction(self._connection, self._cursor).run(job.body)
                except BaseException as error:
                    job.error = error
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except Exception as error:
            for job in jobs:
                job.error = job.error or translated(error)
        groups: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        for job in jobs:
            groups.setdefault(job.loop, []).append(job)
        for loop, group in groups.items():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, group)


def settle(jobs: Iterable[Job]) -> None:
    """Answer each caller that still waits; on its loop."""
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)
