"""The one thread on which all calls of a PKCS#11 module are made, and the deadline of each call.

The library initialises a module without locks, so a second thread in it would crash the process: there is one thread a module,
shared by every signer of the process. It cannot be interrupted in a call. A call that takes longer than its deadline is
therefore left alone: whoever waits hears UnavailableError, and so does everybody who asks until the call has come back. Jobs
whose asker has left are dropped between two calls. The thread never holds the process up when it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from specie.kernel.errors import UnavailableError

__all__ = ["TokenThread", "token_thread"]

T = TypeVar("T")

_MOST_WAITING = 512
_threads: dict[Path, TokenThread] = {}
_registering = threading.Lock()


class _LeftError(Exception):
    """Whoever asked has left: the rest of the job is not done."""


@dataclass(slots=True, eq=False)
class _Job:
    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    left: bool = False


class TokenThread:
    """Runs jobs one after another. `epoch` counts how often the module was initialised; a session belongs to one epoch."""

    def __init__(self, name: str) -> None:
        """`name` is shown in lists of threads."""
        self.epoch = 0
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._job: _Job | None = None
        self._since: float | None = None
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def hangs(self, deadline_s: float) -> bool:
        """Whether the call that is being made has taken longer than this."""
        since = self._since
        return since is not None and time.monotonic() - since > deadline_s

    async def run(self, work: Callable[[], T], *, deadline_s: float) -> T:
        """Run `work` when its turn comes. UnavailableError if a call takes longer than `deadline_s`, or too many wait."""
        if self.hangs(deadline_s):
            raise self._hanging(deadline_s)
        if not self._thread.is_alive() or self._jobs.qsize() >= _MOST_WAITING:
            raise UnavailableError("the token has more to do than it can", retry_after_s=deadline_s)
        loop = asyncio.get_running_loop()
        job = _Job(work, loop, loop.create_future())
        self._jobs.put(job)
        try:
            while True:
                await asyncio.wait([job.answer], timeout=deadline_s / 2)
                if job.answer.done():
                    result: T = job.answer.result()
                    return result
                if self.hangs(deadline_s):
                    raise self._hanging(deadline_s)
        finally:
            job.left = True

    def call(self, function: Callable[..., T], *arguments: Any, always: bool = False, **named: Any) -> T:
        """One call of the module, on this thread, timed. `always`: made even if nobody waits any more, since it tidies up."""
        if not always and self._job is not None and self._job.left:
            raise _LeftError
        self._since = time.monotonic()
        try:
            return function(*arguments, **named)
        finally:
            self._since = None

    def _hanging(self, deadline_s: float) -> UnavailableError:
        return UnavailableError(f"the token has not answered for {deadline_s:g} seconds", retry_after_s=deadline_s)

    def _serve(self) -> None:
        while True:
            job = self._jobs.get()
            if job.left:
                continue
            self._job = job
            result: Any = None
            failed: BaseException | None = None
            try:
                result = job.work()
            except _LeftError:
                continue
            except BaseException as error:  # whatever it is, it belongs to who asked
                failed = error
            finally:
                self._job = None
            with contextlib.suppress(RuntimeError):  # its event loop is closed: nobody listens
                job.loop.call_soon_threadsafe(_tell, job, result, failed)


def _tell(job: _Job, result: Any, failed: BaseException | None) -> None:
    if job.left or job.answer.done():
        return
    if failed is None:
        job.answer.set_result(result)
    else:
        job.answer.set_exception(failed)


def token_thread(module: Path) -> TokenThread:
    """The thread of a module, by its path; it starts with the first signer."""
    path = module.resolve()
    with _registering:
        if path not in _threads:
            _threads[path] = TokenThread("token")
        return _threads[path]
