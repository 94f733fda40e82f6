"""`PaymentReceiver`: takes payments of our requests by HTTP POST (NUT-18). An ASGI application, for any server to mount.

    receiver = PaymentReceiver(wallet.requests)      # in Starlette: Mount("/pay", app=receiver)

| answer | means                                                                                                  |
|--------|--------------------------------------------------------------------------------------------------------|
| 200    | the coins are ours: `{"id", "amount", "unit", "mint"}`; the same payment again is answered so, too       |
| 202    | taken up, and the mint's answer is awaited: post it again later                                        |
| 400    | no payment                                                                                             |
| 404    | no such request, or another path                                                                       |
| 409    | refused, with `detail`; the coins were not touched                                                     |
| 503    | busy, or the mint was not reached: post it again after `retry-after` seconds                           |

Anybody may post, from web pages, too: what a payment is worth is what its mint says. Bodies and the number at once are
bounded; limits on rates are the server's in front.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from specie.kernel.errors import (
    MalformedError,
    PeerFaultError,
    RefusedError,
    SpecieError,
    UnavailableError,
    UncertainError,
)
from specie.wallet.engine.requests import Requests
from specie.wallet.errors import OperationBusyError, RequestUnknownError
from specie.wallet.request import RequestReceipt

__all__ = ["PaymentReceiver"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Heard = Callable[[RequestReceipt], Awaitable[None]]

_CORS = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-allow-headers", b"content-type"),
)


class PaymentReceiver:
    """ASGI 3 application over a wallet's `requests`."""

    def __init__(
        self, requests: Requests, *, received: Heard | None = None, body_bytes: int = 1_000_000, at_once: int = 16
    ) -> None:
        """`received` is awaited with every receipt before the payer is answered; a payment that is posted again calls it again.

        `body_bytes`: largest body taken. `at_once`: payments judged at the same time; more are answered with 503.
        """
        self._requests = requests
        self._received = received
        self._body_bytes = body_bytes
        self._free = at_once

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request; of other protocols than HTTP only `lifespan` is known."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError("payments are received over HTTP")
        status, body = await self._answer(scope, receive)
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), *_CORS]
        if status == 503:
            headers.append((b"retry-after", b"2"))
        if status == 405:
            headers.append((b"allow", b"POST, OPTIONS"))
        data = b"" if status == 204 else json.dumps(body).encode()
        headers.append((b"content-length", str(len(data)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Message, receive: Receive) -> tuple[int, dict[str, object]]:
        if scope["path"].removeprefix(scope.get("root_path", "")).strip("/"):
            return 404, {"detail": "payments are posted to the address itself"}
        if scope["method"] == "OPTIONS":
            return 204, {}
        if scope["method"] != "POST":
            return 405, {"detail": "payments are posted"}
        if not self._free:
            return 503, {"detail": "too many payments at once"}
        self._free -= 1
        try:
            body = await self._body(receive)
            if body is None:
                return 413, {"detail": "the payment is too large"}
            return await self._accept(body)
        finally:
            self._free += 1

    async def _body(self, receive: Receive) -> bytes | None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return b""
            body += message.get("body", b"")
            if len(body) > self._body_bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)

    async def _accept(self, body: bytes) -> tuple[int, dict[str, object]]:
        try:
            receipt = await self._requests.accept(body)
        except SpecieError as error:
            return _refusal(error), {"detail": error.detail}
        if self._received is not None:
            await self._received(receipt)
        return 200, {"id": receipt.request_id, "amount": receipt.amount, "unit": receipt.unit, "mint": receipt.mint}


def _refusal(error: SpecieError) -> int:
    match error:
        case RequestUnknownError():
            return 404
        case OperationBusyError() | UnavailableError():
            return 503
        case MalformedError():
            return 400
        case UncertainError() | PeerFaultError():
            return 202
        case RefusedError():
            return 409
    raise error
