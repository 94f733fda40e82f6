"""`Paywall`: an ASGI application in front of another that answers 402 until a request carries a token that pays (NUT-24).

    app = Paywall(app, wallet, [Price("GET", "/articles/*", 21)])

It needs no web framework. What it answers, and what that does to the token:

| answer | when                                                           | the token                               |
|--------|----------------------------------------------------------------|-----------------------------------------|
| 402    | a price and no token                                           |                                         |
| 400    | another mint, unit, amount or lock; spent; not a token         | stays the payer's                       |
| 431    | more in the header than is read                                | stays the payer's                       |
| 503    | the wallet or the mint cannot tell now                         | the same one again is honoured          |
| other  | paid: the application's own                                    | taken; kept for a retry where it is 5xx |

The header is removed before the application sees the request, paid or not. Not here: money (`Wallet.till`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from specie.ecash.requests import RequestForm, encode_payment_request
from specie.kernel.errors import RefusedError, UnavailableError, UncertainError
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.paywall.price import HEADER, Price, price_for
from specie.wallet.paid import Settle, Taking, resource_name

if TYPE_CHECKING:
    from specie.wallet import Wallet

__all__ = ["ASGIApp", "Paywall", "Receive", "Scope", "Send", "answer"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_WAITING = 256


@dataclass(slots=True)
class _Refusal(Exception):
    """An answer instead of the resource."""

    status: int
    detail: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Paywall:
    """Prices the routes of an ASGI application; other scopes than HTTP pass, WebSockets on a priced path are refused."""

    def __init__(
        self,
        app: ASGIApp,
        wallet: Wallet,
        prices: Sequence[Price],
        *,
        form: RequestForm = "creqA",
        honour_s: int = 600,
        deliveries: int = 5,
        max_header_bytes: int = 16_384,
        settle_after_s: float = 60.0,
        telemetry: Telemetry = NULL_TELEMETRY,
    ) -> None:
        """Put `prices` (the first that fits counts) in front of `app`; the money goes to `wallet`.

        A token is honoured again for the same resource until it has been answered for, and `honour_s` seconds more, at
        most `deliveries` times in all. `settle_after_s`: how long tokens taken off-line wait for their swap.
        """
        self._app = app
        self._wallet = wallet
        self._prices = tuple(prices)
        self._form = form
        self._honour_s = honour_s
        self._deliveries = deliveries
        self._max_header_bytes = max_header_bytes
        self._settle_after_s = settle_after_s
        self._telemetry = telemetry
        self._settling: asyncio.Task[None] | None = None
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["type"] == "http" else "GET"
        price = price_for(self._prices, method, scope["path"])
        tokens = [value for name, value in scope["headers"] if name.lower() == HEADER]
        inner = {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() != HEADER]}
        if price is None or price.amount == 0:
            await self._app(inner, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "payment required"})
            return
        try:
            taking = await self._paid(scope, price, tokens)
        except _Refusal as refusal:
            self._telemetry.count("paywall_answer", status=str(refusal.status))
            await answer(send, refusal.status, {"detail": refusal.detail}, refusal.headers)
            return
        inner["specie.taking"] = taking
        await self._deliver(inner, receive, send, taking)

    async def aclose(self) -> None:
        """Stop waiting to swap what was taken off-line, and swap it now; what cannot be swapped now stays for `secure`."""
        task, self._settling = self._settling, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._secure()

    async def _paid(self, scope: Scope, price: Price, tokens: Sequence[bytes]) -> Taking:
        till = self._wallet.till
        try:
            request = await till.request(
                price.amount, unit=price.unit, mints=price.mints, locked=price.locked, description=price.description
            )
        except (RefusedError, UnavailableError) as error:
            raise _Refusal(503, f"nothing can be paid here now: {error.detail}", _later(5)) from error
        if not tokens:
            text = encode_payment_request(request, self._form)
            raise _Refusal(402, f"this costs {price.amount} {price.unit}", ((HEADER, text.encode()),))
        if len(tokens) != 1:
            raise _Refusal(400, "one X-Cashu header, with one token, pays")
        if len(tokens[0]) > self._max_header_bytes:
            raise _Refusal(431, f"X-Cashu is read up to {self._max_header_bytes} bytes: use fewer coins")
        if self._waiting >= _WAITING:
            raise _Refusal(503, "too many payments are being looked at", _later(1))
        self._waiting += 1
        try:
            return await till.take(
                tokens[0].decode("ascii", "replace"),
                request,
                _resource(scope),
                settle=price.settle,
                cap=price.cap,
                honour_s=self._honour_s,
                deliveries=self._deliveries,
            )
        except RefusedError as error:
            raise _Refusal(400, error.detail) from error
        except (UnavailableError, UncertainError) as error:
            retry = error.retry_after_s if isinstance(error, UnavailableError) else 5
            raise _Refusal(503, f"{error.detail}; the same token is taken again", _later(retry)) from error
        finally:
            self._waiting -= 1

    async def _deliver(self, scope: Scope, receive: Receive, send: Send, taking: Taking) -> None:
        """The application's answer; a delivery counts once the answer has begun and is not the server's own failure."""
        till, begun = self._wallet.till, False
        if taking.settle is Settle.LATER and self._settling is None:
            self._settling = asyncio.create_task(self._settle_later())

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start" and not begun and message["status"] < 500:
                begun = True
                await till.answered(taking.name)
                self._telemetry.count("paywall_taken", resource=f"{scope['method']} {scope['path']}"[:100])
                message = {**message, "headers": _private(message.get("headers", ()))}
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            if not begun:
                await asyncio.shield(till.released(taking.name))

    async def _settle_later(self) -> None:
        while True:
            await asyncio.sleep(self._settle_after_s)
            if await self._secure():
                self._settling = None
                return

    async def _secure(self) -> bool:
        try:
            await self._wallet.secure()
        except (RefusedError, UnavailableError, UncertainError) as error:
            self._telemetry.event("paywall_not_settled", reason=error.detail)
            return False
        return True


def _resource(scope: Scope) -> str:
    """What is paid for: method, path and query, as they were sent."""
    raw = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    target = raw.split(b"?")[0] + (b"?" + query if query else b"")
    return resource_name(f"{scope['method']} {target.decode('latin-1')}")


def _later(seconds: float) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", str(max(1, round(seconds))).encode()),)


def _private(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """No shared cache may give what one person paid for to others, unless the application says so itself."""
    found = [(bytes(name), bytes(value)) for name, value in headers]
    found.append((b"vary", HEADER))
    if not any(name.lower() == b"cache-control" for name, _ in found):
        found.append((b"cache-control", b"private"))
    return found


async def answer(send: Send, status: int, body: dict[str, object], headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """A small JSON answer that nobody may cache."""
    content = json.dumps(body).encode()
    base = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"cache-control", b"no-store"),
    ]
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": status, "headers": [*base, *headers]})
        await send({"type": "http.response.body", "body": content})
