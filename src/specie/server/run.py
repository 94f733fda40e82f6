"""Runs the faces of one bank in one event loop, TCP and unix socket, until it is told to stop; then drains.

A first SIGINT or SIGTERM begins a stop (`drain`) and lets running requests end within `drain_s`; a second one does not
wait. WebSockets are told 1012 (service restart). Not here: what is served, and closing the bank behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from specie.kernel.errors import RefusedError
from specie.ops.settings import ServerSettings
from specie.server.drain import DrainingServer
from specie.server.errors import SocketInUseError
from specie.server.http import ASGIApp
from specie.server.operator_peer import OperatorProtocol
from specie.server.unix_socket import bind_unix_socket, remove_unix_socket

__all__ = ["Listening", "bind_tcp_socket", "serve"]

_KEEP_ALIVE_S = 65
_WS_MAX_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the bank can be reached, told once it can."""

    host: str
    port: int
    admin_socket: Path | None

    @property
    def url(self) -> str:
        """`http://host:port`; an address that means "all" is shown as loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - shown, not bound
        return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{self.port}"


def bind_tcp_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound TCP socket, `shared` with others that are so too (the system spreads connections over those that listen).

    SocketInUseError if the port is taken; RefusedError if the host is not ours to listen on.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise RefusedError(f"{host} is no address to listen on: {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SocketInUseError(f"port {port} of {host} is in use; choose another with --port") from None
        raise RefusedError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    listener.setblocking(False)
    return listener


def _server(app: ASGIApp, drain_s: float, *, http: Any = "httptools", **options: Any) -> DrainingServer:
    config = uvicorn.Config(
        app,
        http=http,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(drain_s)),
        ws_max_size=_WS_MAX_BYTES,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        ws_per_message_deflate=False,
        **options,
    )
    return DrainingServer(config)


async def serve(
    app: ASGIApp,
    settings: ServerSettings,
    *,
    admin: ASGIApp | None = None,
    admin_socket: Path | None = None,
    stop: asyncio.Event,
    announce: Callable[[Listening], None],
    draining: Callable[[], None] = lambda: None,
    signals: bool = True,
    listener: socket.socket | None = None,
    admin_listener: socket.socket | None = None,
    lingering: Callable[[], bool] = lambda: True,
) -> None:
    """Serve until `stop` is set or a signal comes, then drain and return.

    `announce` is called once, when connections are taken; `draining` when a stop begins. `signals`: whether SIGINT and
    SIGTERM are handled here (only in the main thread). `listener` and `admin_listener` are sockets of whoever supervises
    this process, then none is made here; `lingering`, asked when a stop begins, is whether `accept_s` is to be waited for.
    SocketInUseError or RefusedError before anything is served.
    """
    own = listener is None
    listener = listener or bind_tcp_socket(settings.host, settings.port)
    servers = [(_server(app, settings.drain_s, ws="websockets-sansio"), listener)]
    try:
        if admin is not None and admin_socket is not None:
            bound = admin_listener or bind_unix_socket(admin_socket)
            servers.append((_server(admin, settings.drain_s, http=OperatorProtocol, ws="none"), bound))
        host, port = listener.getsockname()[:2]
        listening = Listening(host, port, admin_socket if len(servers) > 1 else None)
        hurry = (signal.SIGINT, signal.SIGTERM) if own else (signal.SIGINT,)
        with _handled(stop, [server for server, _ in servers], hurry) if signals else contextlib.nullcontext():
            await _run(servers, listening, stop, announce, draining, lambda: settings.accept_s if lingering() else 0.0)
    finally:
        for _, bound in servers:
            bound.close()
        if own and len(servers) > 1 and admin_socket is not None:
            remove_unix_socket(admin_socket)


async def _run(
    servers: list[tuple[DrainingServer, socket.socket]],
    listening: Listening,
    stop: asyncio.Event,
    announce: Callable[[Listening], None],
    draining: Callable[[], None],
    accept_s: Callable[[], float],
) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(server.serve(sockets=[bound])) for server, bound in servers]
        while not all(server.started for server, _ in servers):
            await asyncio.sleep(0.005)
            if any(task.done() for task in tasks):
                break
        else:
            announce(listening)
        waiting = group.create_task(stop.wait())
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        draining()
        for number, (server, _) in enumerate(servers):
            group.create_task(server.drain(0.0 if number else accept_s()))


@contextlib.contextmanager
def _handled(stop: asyncio.Event, servers: list[DrainingServer], hurry: Sequence[int]) -> Iterator[None]:
    """Begin a stop at the first signal; do not wait at a further one of `hurry`.

    SIGTERM may reach a worker twice, from its supervisor and from whoever ends all processes of a service.
    """
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set() and number in hurry:
            for server in servers:
                server.force_exit = True
        stop.set()

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            if handler is not None:  # None: it was not set from Python, and cannot be put back from here
                signal.signal(number, handler)
