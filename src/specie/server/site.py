"""Everything the bank serves beside the Cashu API: the start page, its figures, health and metrics.

Details meant for the operator (metrics, what each dependency says, recent quotes of a bank with real money) are shown to
readers on the bank's own machine, and to others only if the settings say so. Not here: how the page looks (`pages`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from specie.kernel.errors import RefusedError
from specie.ops.health import HealthState
from specie.ops.metrics import METRICS_CONTENT_TYPE
from specie.ops.settings import is_loopback
from specie.server.board import Board
from specie.server.errors import Answer
from specie.server.front import UNKNOWN, Front, Handler, Route
from specie.server.http import SECURITY_HEADERS, Receive, Request, Scope, Send, send_answer
from specie.server.pages import FAVICON, StartPage
from specie.server.peers import header
from specie.server.ports import ServerContext

__all__ = ["Site"]

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_PORT = re.compile(r":[0-9]+$")
_NO_STORE = (b"cache-control", b"no-store")
_HTML = b"text/html; charset=utf-8"


class Site:
    """ASGI application for all paths outside /v1 (HTTP only)."""

    def __init__(self, context: ServerContext, front: Front, board: Board, sockets: Callable[[], int]) -> None:
        self._context = context
        self._front = front
        self._board = board
        self._sockets = sockets
        self._page = StartPage(context.facts)
        handlers: dict[str, Handler] = {
            "/": self._start,
            "/status.json": self._status,
            "/healthz": self._healthz,
            "/livez": self._livez,
            "/readyz": self._readyz,
            "/metrics": self._metrics,
            "/favicon.svg": self._favicon,
            "/robots.txt": self._robots,
        }
        self._routes = {path: Route(path, {"GET": handler}) for path, handler in handlers.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get(scope["path"], UNKNOWN)
        if scope["method"] == "OPTIONS" and route is not UNKNOWN:
            await send_answer(send, Answer(b"", 204, [(b"allow", route.allowed.encode())]), SECURITY_HEADERS)
            return
        await self._front.answer(scope, receive, send, route)

    def _near(self, request: Request) -> bool:
        """Whether the reader sits at this machine and asked for it by a name of its own.

        A web page elsewhere can have its own name resolve to loopback and read through the visitor's browser; such a
        request carries that foreign name.
        """
        host = header(request.scope, b"host")
        name = host.rpartition(":")[0] if _PORT.search(host) else host
        return request.peer.local and (not name or is_loopback(name.strip("[]")))

    def _trusted(self, request: Request) -> bool:
        return self._near(request) or self._context.settings.metrics_public

    async def _start(self, request: Request) -> Answer:
        status = await self._board.status()
        near = self._near(request)
        shown = near or self._context.facts.play
        body = self._page.render(self._context.mint.info(), status, self._url(request.scope), quotes=shown, near=near)
        policy = (b"content-security-policy", self._page.content_security_policy.encode())
        return Answer(body, headers=[policy, _NO_STORE], content_type=_HTML)

    def _url(self, scope: Scope) -> str:
        """The mint's URL for wallets: the configured one, or the one this request came under."""
        if self._context.facts.public_url:
            return self._context.facts.public_url
        host = header(scope, b"host")
        if not _HOST.fullmatch(host):
            server = scope.get("server") or ("127.0.0.1", self._context.settings.port)
            host = f"{server[0]}:{server[1]}"
        return f"{scope['scheme']}://{host}"

    async def _status(self, request: Request) -> Answer:
        status = await self._board.status()
        if not (self._near(request) or self._context.facts.play):
            status = msgspec.structs.replace(status, quotes=())
        return Answer(msgspec.json.encode(status), headers=[_NO_STORE])

    async def _healthz(self, request: Request) -> Answer:
        report = await self._context.health.report()
        body = msgspec.json.encode(report if self._trusted(request) else {"state": report.state, "ready": report.ready})
        return Answer(body, 503 if report.state is HealthState.DOWN else 200, [_NO_STORE])

    async def _livez(self, request: Request) -> Answer:
        return Answer(b'{"alive":true}', headers=[_NO_STORE])

    async def _readyz(self, request: Request) -> Answer:
        ready = (await self._context.health.report()).ready
        return Answer(msgspec.json.encode({"ready": ready}), 200 if ready else 503, [_NO_STORE])

    async def _metrics(self, request: Request) -> Answer:
        if not self._trusted(request):
            raise RefusedError("metrics are shown on the bank's own machine only (server.metrics_public)")
        await self._board.status()
        self._context.metrics.gauge("http_in_flight", self._front.in_flight)
        self._context.metrics.gauge("sockets_open", self._sockets())
        body = self._context.metrics.exposition()
        return Answer(body, headers=[_NO_STORE], content_type=METRICS_CONTENT_TYPE.encode())

    async def _favicon(self, request: Request) -> Answer:
        return Answer(FAVICON, headers=[(b"cache-control", b"public, max-age=86400")], content_type=b"image/svg+xml")

    async def _robots(self, request: Request) -> Answer:
        return Answer(b"User-agent: *\nDisallow: /\n", content_type=b"text/plain")
