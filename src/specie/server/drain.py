"""A server that can be stopped under load without failing a request.

A stop has four steps. Every answer now says `Connection: close`, so that peers that obey HTTP open their next connection
elsewhere; new connections are still taken for a while where a load balancer has to learn of the stop first; then none
are; connections on which nothing is asked are left open for a moment more, because a request may be on its way; and what
still runs is finished by uvicorn within its limit. Not here: when to stop (`run`, `workers`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

__all__ = ["DrainingServer"]

_CLOSE = (b"connection", b"close")
_IDLE_S = 1.0
"""How long a connection without a request is left open once a stop has begun."""
_LOOK_EVERY_S = 0.02


class DrainingServer(uvicorn.Server):
    """uvicorn without signal handlers of its own, and with a stop that tells peers first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the caller's."""
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Never installed."""

    async def drain(self, accept_s: float) -> None:
        """Tell peers, take new connections for `accept_s` seconds more, then none; return when uvicorn may finish the rest."""
        self._tell_peers()
        await self._wait(accept_s, lambda: True)
        for listening in self.servers:
            listening.close()
        await self._wait(_IDLE_S, lambda: bool(self._http_connections()))
        self.should_exit = True

    def _tell_peers(self) -> None:
        self.config.encoded_headers = [*self.config.encoded_headers, _CLOSE]  # uvicorn makes its headers of it each second
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        for connection in self._http_connections():
            cycle = connection.cycle
            if cycle is not None and not cycle.response_complete:
                cycle.keep_alive = False

    def _http_connections(self) -> list[Any]:
        """Connections that are not WebSockets, with or without a request."""
        return [connection for connection in self.server_state.connections if hasattr(connection, "cycle")]

    async def _wait(self, seconds: float, while_true: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end and while_true() and not self.force_exit:  # noqa: ASYNC110 - uvicorn has flags, no events
            await asyncio.sleep(_LOOK_EVERY_S)
