"""Delivery of notices to the listeners of one process; both adapters rest on it.

Not durable and not a queue of work: a listener that is slow loses the oldest notices, one that is not there gets none.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator

__all__ = ["Broadcast", "Listener"]


class Listener(AsyncIterator[str]):
    """Notices of one channel since it was made. For one reader; ends when the store closes or `aclose` is called."""

    def __init__(self, bound: int) -> None:
        self._notices: deque[str] = deque(maxlen=bound)
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False

    def put(self, notice: str) -> None:
        """Add a notice; from any thread."""
        self._notices.append(notice)
        self._wake()

    def end(self) -> None:
        """No more notices; the ones waiting are still read. From any thread."""
        self.closed = True
        self._wake()

    async def aclose(self) -> None:
        """Stop listening."""
        self._notices.clear()
        self.end()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is None:
            return
        loop = waiter.get_loop()
        if loop is asyncio._get_running_loop():
            _release(waiter)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(_release, waiter)

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> str:
        while True:
            # The waiter stands before the deque is looked at, so a notice that comes between is not slept through.
            self._waiter = waiter = asyncio.get_running_loop().create_future()
            try:
                if self._notices:
                    return self._notices.popleft()
                if self.closed:
                    raise StopAsyncIteration
                await waiter
            finally:
                self._waiter = None


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Broadcast:
    """The listeners of a store by channel. A listener nobody holds any more disappears by itself."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._lock = threading.Lock()
        self._listeners: dict[str, weakref.WeakKeyDictionary[Listener, None]] = {}

    def listen(self, channel: str) -> Listener:
        """A listener that has every notice from now on."""
        listener = Listener(self._bound)
        with self._lock:
            self._listeners.setdefault(channel, weakref.WeakKeyDictionary())[listener] = None
        return listener

    def publish(self, channel: str, notice: str) -> None:
        """Hand a notice to every listener of `channel`."""
        with self._lock:
            listeners = tuple(self._listeners.get(channel, ()))
        for listener in listeners:
            if not listener.closed:
                listener.put(notice)

    def close(self) -> None:
        """End every listener."""
        with self._lock:
            listeners = [listener for channel in self._listeners.values() for listener in channel]
            self._listeners.clear()
        for listener in listeners:
            listener.end()
