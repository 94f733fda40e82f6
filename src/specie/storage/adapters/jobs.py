"""Work for the threads of an embedded store: what waits for them, how they take it, how callers are answered."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterable
from typing import Any, Literal

from specie.storage.ports import Body

__all__ = ["Job", "Work", "answer", "run_thread", "settle"]


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


def settle(jobs: Iterable[Job]) -> None:
    """Answer each caller that still waits; on its loop."""
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)


def answer(jobs: list[Job], then: Callable[[], None] = lambda: None) -> None:
    """Wake each loop once (there is one, but in tests); `then` runs once, behind the first answers."""
    groups: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.loop, []).append(job)
    following = then

    def tell(group: list[Job], act: Callable[[], None]) -> None:
        settle(group)
        act()

    for loop, group in groups.items():
        try:
            loop.call_soon_threadsafe(tell, group, following)
        except RuntimeError:  # that loop is closed: nobody waits
            following()
        following = _nothing


def _nothing() -> None:
    pass
