"""What embedded stores have in common: a thread that writes, threads that read, and how callers wait for them.

Bodies that wait for the writer are taken together, up to a bound, and each caller is answered once their common commit is
durable. Inline there are no threads: a body runs and commits at once on the calling one.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from specie.kernel.errors import InvariantError, UnavailableError
from specie.storage.adapters.broadcast import Broadcast, Listener
from specie.storage.adapters.jobs import Job, Work, answer, run_thread
from specie.storage.deferred import Deferred, RerunError
from specie.storage.ports import Body, StorageStatus

__all__ = ["EmbeddedStorage"]

T = TypeVar("T")

_CLOSED = "the store is closed"

_CAREFUL_BATCHES = 16
"""Batches that leave nothing to the end, after one that had to be run again: whoever sends what fails, sends more."""


class EmbeddedStorage:
    """The parts of the `Storage` port that do not depend on the engine.

    Args:
        inline: no threads; each body runs and commits at once on the calling thread. For the simulator and for tools.
        max_queue: bodies that may wait before `transact` and `read` answer UnavailableError.
        listener_bound: notices a listener may have waiting before it loses the oldest.
    """

    engine = ""

    def __init__(self, *, inline: bool, max_queue: int, listener_bound: int) -> None:
        self._inline = inline
        self._max_queue = max_queue
        self._closing = False
        self._gate = threading.Lock()
        self._careful = 0
        self._commits = 0
        self._bodies = 0
        self._broadcast = Broadcast(listener_bound)
        self._inside = False
        self._readers = 0
        self._writes: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def _start_writer(self, most: int, run: Callable[[list[Job]], None]) -> None:
        self._start("specie-write", self._writes, lambda: most, run)

    def _start_reader(self, run: Callable[[list[Job]], None]) -> None:
        self._readers += 1
        self._start("specie-read", self._reads, lambda: 1 + self._reads.qsize() // self._readers, run)

    def _start(
        self, name: str, work: queue.SimpleQueue[Work], bound: Callable[[], int], run: Callable[[list[Job]], None]
    ) -> None:
        thread = threading.Thread(target=run_thread, args=(work, bound, run), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    # The port

    async def transact(self, body: Body[T]) -> T:
        """Run `body` in a transaction and return its result once that is durable.

        If the caller is cancelled the body may still commit; nobody gets its result.
        """
        if self._inline:
            with self._entered():
                return self._transact_inline(body)
        result: T = await self._enqueue(self._writes, body).future
        return result

    async def read(self, body: Body[T]) -> T:
        """Run `body` on one consistent snapshot; it may not write. Never waits for writers."""
        if self._inline:
            with self._entered():
                return self._read_inline(body)
        result: T = await self._enqueue(self._reads, body).future
        return result

    def listen(self, channel: str) -> Listener:
        """Notices on `channel` from this object from now on (other processes are not heard)."""
        return self._broadcast.listen(channel)

    def status(self) -> StorageStatus:
        """Figures since the start."""
        return StorageStatus(self.engine, self._commits, self._bodies, self._writes.qsize())

    async def close(self) -> None:
        """Finish what is queued, end the listeners, let go of the files. Again: does nothing."""
        with self._gate:
            if self._closing:
                return
            self._closing = True
        if not self._inline:
            for _ in range(self._readers):
                self._reads.put(None)
            self._writes.put(None)
            await asyncio.to_thread(self._join)
        self._broadcast.close()
        self._let_go()

    # What the engine adds

    @abstractmethod
    def _transact_inline(self, body: Body[T]) -> T:
        """Run and commit one body on this thread."""

    @abstractmethod
    def _read_inline(self, body: Body[T]) -> T:
        """Run one body that reads on this thread."""

    @abstractmethod
    def _let_go(self) -> None:
        """Close the files; nothing runs any more."""

    # For the engine

    def _check_open(self) -> None:
        if self._closing:
            raise UnavailableError(_CLOSED)

    @contextlib.contextmanager
    def _entered(self) -> Any:
        self._check_open()
        if self._inside:
            raise InvariantError("a body has opened a transaction inside its own")
        self._inside = True
        try:
            yield
        finally:
            self._inside = False

    def _enqueue(self, work: queue.SimpleQueue[Work], body: Body[Any]) -> Job:
        if work.qsize() >= self._max_queue:
            raise UnavailableError("too many transactions are waiting", retry_after_s=1.0)
        job = Job(body, asyncio.get_running_loop())
        self._put(work, job)
        return job

    def _put(self, work: queue.SimpleQueue[Work], item: Work) -> None:
        with self._gate:  # nothing comes behind the end, whatever thread it comes from
            self._check_open()
            work.put(item)

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    async def _alone(self, act: Callable[[], T]) -> T:
        """Run `act` on the writer's thread, between batches."""
        if self._inline:
            self._check_open()
            return act()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def work() -> None:
            result: Any = None
            failure: BaseException | None = None
            try:
                result = act()
            except BaseException as error:
                failure = error

            def tell() -> None:
                if future.done():
                    return
                if failure is not None:
                    future.set_exception(failure)
                else:
                    future.set_result(result)

            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell)

        self._put(self._writes, work)
        return await future

    def _write_batch(self, jobs: list[Job], notices: list[tuple[str, str]]) -> None:
        """Write and commit a batch, with what may wait left to its end; or else, where that fails, each body by itself."""
        if not self._careful:
            try:
                self._attempt(jobs, notices, Deferred())
                return
            except RerunError:
                self._undo()
                notices.clear()
                self._careful = _CAREFUL_BATCHES
        self._careful -= 1
        self._attempt(jobs, notices, None)

    @abstractmethod
    def _attempt(self, jobs: list[Job], notices: list[tuple[str, str]], deferred: Deferred | None) -> None:
        """Run and commit all, with what may wait collected in `deferred`. RerunError, with nothing committed."""

    @abstractmethod
    def _undo(self) -> None:
        """Take back what an attempt wrote."""

    def _answer(self, jobs: list[Job], notices: list[tuple[str, str]]) -> None:
        """Answer those who wait, then tell the listeners."""
        answer(jobs, lambda: self._publish(notices))

    def _publish(self, notices: Iterable[tuple[str, str]]) -> None:
        for channel, payload in notices:
            self._broadcast.publish(channel, payload)
