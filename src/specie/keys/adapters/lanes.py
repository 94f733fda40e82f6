"""Threads that take the signer's jobs as they wait and do them together: one native call for many requests.

A job is bounded by its maker, so that a large request does not hold up small ones: its parts stand in line like anybody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from specie.keys.errors import SignerClosedError

__all__ = ["Job", "Lanes"]

Task = TypeVar("Task")
Result = TypeVar("Result")


class Job(Generic[Task, Result]):
    """One task that waits, how much work it is, its caller's future, and what became of it."""

    __slots__ = ("error", "future", "loop", "result", "task", "weight")

    def __init__(self, task: Task, weight: int) -> None:
        self.task = task
        self.weight = weight
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Result] = self.loop.create_future()
        self.result: Result | None = None
        self.error: BaseException | None = None


class Lanes(Generic[Task, Result]):
    """So many threads over one line of jobs. Each takes what waits, up to `weight`, and hands it to `work` as one batch."""

    def __init__(self, threads: int, weight: int, work: Callable[[Sequence[Task]], Sequence[Result]]) -> None:
        self._weight = weight
        self._work = work
        self._jobs: queue.SimpleQueue[Job[Task, Result] | None] = queue.SimpleQueue()
        self._closed = False
        self._threads = [threading.Thread(target=self._run, name=f"signer-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, task: Task, weight: int) -> asyncio.Future[Result]:
        """Stand in line; the result comes on the caller's loop. SignerClosedError after `close`."""
        if self._closed:
            raise SignerClosedError("the signer is closed")
        job: Job[Task, Result] = Job(task, weight)
        self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Take no more; the threads end after what waits already."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            batch, weight, last = [job], job.weight, False
            while weight < self._weight:
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    last = True
                    break
                batch.append(following)
                weight += following.weight
            self._do(batch)
            if last:
                return

    def _do(self, batch: list[Job[Task, Result]]) -> None:
        try:
            for job, result in zip(batch, self._work([job.task for job in batch]), strict=True):
                job.result = result
        except BaseException as error:
            for job in batch:
                job.error = error
        groups: dict[asyncio.AbstractEventLoop, list[Job[Task, Result]]] = {}
        for job in batch:
            groups.setdefault(job.loop, []).append(job)
        for loop, jobs in groups.items():
            with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle, jobs)


def _settle(jobs: Iterable[Job[Task, Result]]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.result)  # type: ignore[arg-type]  # set where there is no error
