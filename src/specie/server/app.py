"""The bank's ASGI application on TCP: the Cashu API, its WebSocket, and the site around them.

The paths of money come first and pass through nothing but `Front`. The operator's API is another application (`admin`),
which never stands here.
"""

from __future__ import annotations

from specie.ops.reload import Swap
from specie.ops.settings import ServerSettings
from specie.server.api import CashuApi
from specie.server.board import Board
from specie.server.front import Front
from specie.server.http import Receive, Scope, Send
from specie.server.peers import PeerRule
from specie.server.ports import ServerContext
from specie.server.site import Site
from specie.server.subscriptions import ChangeHub, Subscriptions

__all__ = ["BankApp", "build_app"]


class BankApp:
    """ASGI 3 application of one bank. `aclose` ends its background work, after the last connection."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._hub = ChangeHub(context)
        self._front = Front(context, PeerRule(context.settings.trusted_proxies))
        self._api = CashuApi(context, self._front)
        self._sockets = Subscriptions(context, self._front, self._hub)
        self._site = Site(context, self._front, Board(context), lambda: self._sockets.open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            if scope["path"].startswith("/v1/"):
                await self._api(scope, receive, send)
            else:
                await self._site(scope, receive, send)
        elif kind == "websocket":
            await self._sockets(scope, receive, send)
        else:
            await self._lifespan(receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """For servers that insist; `run.serve` does not ask."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def prepare(self, settings: ServerSettings) -> Swap:
        """What puts other settings in place, all at once; a request that has begun ends under those it began with."""
        return self._front.prepare(settings)

    async def aclose(self) -> None:
        """Stop following the mint's changes."""
        await self._hub.close()


def build_app(context: ServerContext) -> BankApp:
    """The application that `run.serve` puts on TCP."""
    return BankApp(context)
