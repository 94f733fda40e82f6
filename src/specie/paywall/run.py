"""Serves a paywall with its proxy on TCP until it is told to stop; then running requests may end.

Imports uvicorn, so only whoever serves imports this.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from specie.kernel.errors import MalformedError, RefusedError
from specie.paywall.middleware import ASGIApp

__all__ = ["address_from_text", "serve"]

_HEADERS_BYTES = 65_536
_KEEP_ALIVE_S = 15


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Never installed."""


def address_from_text(text: str) -> tuple[str, int]:
    """`HOST:PORT`, with brackets around an IPv6 address. MalformedError for anything else."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise MalformedError("an address to listen on is HOST:PORT")
    return host, int(port)


async def serve(
    app: ASGIApp, host: str, port: int, *, announce: Callable[[str, int], None], drain_s: float = 10.0, stop: asyncio.Event
) -> None:
    """Serve until `stop` is set or SIGINT or SIGTERM comes; a second signal does not wait for running requests.

    `announce` is called once, with address and port, when connections are taken. RefusedError if it cannot listen there.
    """
    listener = _bound(host, port)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_HEADERS_BYTES,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(drain_s)),
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()

    def told() -> None:
        server.force_exit = stop.is_set()
        stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, told)
    try:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not running.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        if not running.done():
            announce(*listener.getsockname()[:2])
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        server.should_exit = True
        await running
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        listener.close()


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise RefusedError(f"{host} is no address to listen on: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise RefusedError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    listener.setblocking(False)
    return listener
