"""`Proxy`: an ASGI application that passes requests on to another server and its answers back, as they stream.

Headers that belong to one connection stay on it (RFC 9110 §7.6.1), `X-Cashu` never passes in either direction, and what a
client says about where it came from is replaced by what is seen here. Redirects are the client's to follow. Bodies are not
kept in memory; requests at a time and the size of a request's body are bounded. Not here: prices (`Paywall`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from urllib.parse import urlsplit

import httpx2

from specie.kernel.errors import MalformedError
from specie.paywall.middleware import Receive, Scope, Send, answer
from specie.paywall.price import HEADER

__all__ = ["Proxy"]

_ONE_HOP = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        HEADER,
    )
)
_REPLACED = frozenset((b"host", b"expect", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"))


class _TooLarge(Exception):
    """The request's body is beyond its bound."""


class Proxy:
    """Passes HTTP requests on to one upstream server. WebSockets are refused."""

    def __init__(
        self,
        upstream: str,
        *,
        max_body_bytes: int = 100_000_000,
        max_requests: int = 256,
        connect_s: float = 10.0,
        read_s: float = 120.0,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`upstream`: http(s) URL, whose path stands before that of every request. `read_s`: longest pause in its answer.

        MalformedError for anything else. `transport` is for tests.
        """
        parts = urlsplit(upstream)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
            raise MalformedError("an upstream is http://HOST:PORT or https://..., perhaps with a path")
        self._url = httpx2.URL(upstream)
        self._base = parts.path.rstrip("/").encode()
        self._max_body_bytes = max_body_bytes
        self._max_requests = max_requests
        self._running = 0
        self._client = httpx2.AsyncClient(
            follow_redirects=False,
            trust_env=False,
            timeout=httpx2.Timeout(read_s, connect=connect_s),
            limits=httpx2.Limits(max_connections=max_requests, max_keepalive_connections=32, keepalive_expiry=5.0),
            transport=transport,
        )

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1003, "reason": "no WebSockets here"})
            return
        if scope["type"] != "http":
            return
        if self._running >= self._max_requests:
            await answer(send, 503, {"detail": "too many requests at a time"}, [(b"retry-after", b"1")])
            return
        self._running += 1
        try:
            await self._pass(scope, receive, send)
        finally:
            self._running -= 1

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = (scope.get("raw_path") or scope["path"].encode()).split(b"?")[0]
        if not path.startswith(b"/"):
            await answer(send, 400, {"detail": "a request names a path"})
            return
        length = _length(scope["headers"])
        if length is not None and length > self._max_body_bytes:
            await answer(send, 413, {"detail": "the body is too large"})
            return
        query = scope.get("query_string", b"")
        url = self._url.copy_with(raw_path=self._base + path + (b"?" + query if query else b""))
        chunked = any(name.lower() == b"transfer-encoding" for name, _ in scope["headers"])
        body = self._body(receive) if length or chunked else None
        request = httpx2.Request(scope["method"], url, headers=self._forwarded(scope), content=body)
        request.extensions["timeout"] = self._client.timeout.as_dict()
        try:
            response = await self._client.send(request, stream=True)
        except _TooLarge:
            await answer(send, 413, {"detail": "the body is too large"})
        except httpx2.TimeoutException:
            await answer(send, 504, {"detail": "the server behind this one did not answer in time"})
        except (httpx2.TransportError, httpx2.InvalidURL, OSError):
            await answer(send, 502, {"detail": "the server behind this one is not reachable"})
        else:
            try:
                await self._back(response, receive, send)
            finally:
                await response.aclose()

    async def _body(self, receive: Receive) -> AsyncIterator[bytes]:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise httpx2.WriteError("the client has gone")
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(chunk)
            if size > self._max_body_bytes:
                raise _TooLarge
            if chunk:
                yield chunk

    def _forwarded(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        headers = _through(scope["headers"], _REPLACED)
        given = {name.lower(): value for name, value in scope["headers"]}
        client = scope.get("client")
        headers.append((b"host", self._url.netloc))
        if client:
            headers.append((b"x-forwarded-for", str(client[0]).encode()))
        if b"host" in given:
            headers.append((b"x-forwarded-host", given[b"host"]))
        headers.append((b"x-forwarded-proto", str(scope.get("scheme", "http")).encode()))
        return headers

    async def _back(self, response: httpx2.Response, receive: Receive, send: Send) -> None:
        headers = _through(response.headers.raw, frozenset())
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        gone = asyncio.create_task(_disconnected(receive))
        try:
            async for chunk in response.aiter_raw():
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    for name, value in headers:
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() else None
    return None


def _through(headers: Iterable[tuple[bytes, bytes]], but: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """Headers that pass a proxy: none of one connection, none that `Connection` names, none of `but`."""
    pairs = [(name.lower(), value) for name, value in headers]
    named = {item.strip().lower() for name, value in pairs if name == b"connection" for item in value.split(b",")}
    return [(name, value) for name, value in pairs if name not in _ONE_HOP and name not in named and name not in but]
