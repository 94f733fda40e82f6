"""`Proxy`: what passes, what stays on one connection, and what is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest

from specie.kernel import MalformedError
from specie.paywall import Proxy

Handler = Callable[[httpx2.Request], Awaitable[httpx2.Response]]


class Upstream(httpx2.AsyncBaseTransport):
    """A server behind the proxy that streams both ways, as the network does."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self.handler(request)


def answered(status: int, body: bytes = b"", headers: Any = ()) -> httpx2.Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield body

    return httpx2.Response(status, headers=list(headers), content=pieces())


def through(handler: Any, **options: Any) -> tuple[Proxy, httpx2.AsyncClient]:
    proxy = Proxy("http://upstream.test:8000/base", transport=Upstream(handler), **options)
    return proxy, httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=proxy, client=("10.0.0.9", 1)), base_url="https://shop.test"
    )


async def test_request_and_answer_pass() -> None:
    """Method, path as it was sent, query, body and the application's headers; what clients say of themselves is replaced."""
    seen: list[httpx2.Request] = []

    async def handler(request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        seen.append(request)
        headers = [
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("connection", "x-inner"),
            ("x-inner", "1"),
            ("x-cashu", "creqA"),
        ]
        return answered(201, b"made", [*headers, ("keep-alive", "5"), ("x-outer", "2")])

    proxy, client = through(handler)
    async with client:
        answer = await client.post(
            "/a%2Fb/c?q=1&q=%20",
            content=b"body",
            headers={
                "x-cashu": "cashuB",
                "connection": "close, x-secret",
                "x-secret": "1",
                "te": "trailers",
                "proxy-authorization": "p",
                "x-forwarded-for": "1.2.3.4",
                "forwarded": "for=1.2.3.4",
                "authorization": "Bearer x",
            },
        )
    (request,) = seen
    assert (request.method, request.url.raw_path) == ("POST", b"/base/a%2Fb/c?q=1&q=%20")
    assert request.content == b"body"
    names = {name.lower() for name in request.headers}
    assert not names & {"x-cashu", "connection", "x-secret", "te", "proxy-authorization", "forwarded"}
    assert request.headers["x-forwarded-for"] == "10.0.0.9"
    assert (request.headers["host"], request.headers["x-forwarded-host"]) == ("upstream.test:8000", "shop.test")
    assert (request.headers["x-forwarded-proto"], request.headers["authorization"]) == ("https", "Bearer x")
    assert (answer.status_code, answer.content) == (201, b"made")
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert not {"x-inner", "x-cashu", "keep-alive", "connection"} & set(answer.headers)
    assert answer.headers["x-outer"] == "2"
    await proxy.aclose()


async def test_redirects_are_the_clients() -> None:
    """A redirect comes back as it is; the proxy goes nowhere else."""

    async def handler(request: httpx2.Request) -> httpx2.Response:
        return answered(302, b"", [("location", "http://169.254.169.254/")])

    proxy, client = through(handler)
    async with client:
        answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (302, "http://169.254.169.254/")
    await proxy.aclose()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (httpx2.ConnectError("no"), 502),
        (httpx2.ReadError("reset"), 502),
        (httpx2.ReadTimeout("slow"), 504),
        (OSError("x"), 502),
    ],
)
async def test_an_upstream_that_fails(error: Exception, status: int) -> None:
    """Not reachable is 502, too slow is 504."""

    async def handler(request: httpx2.Request) -> httpx2.Response:
        raise error

    proxy, client = through(handler)
    async with client:
        assert (await client.get("/")).status_code == status
    await proxy.aclose()


async def test_bodies_are_bounded_and_not_kept() -> None:
    """A body that says or turns out to be too large is 413; one that streams passes in pieces."""
    pieces: list[int] = []

    async def handler(request: httpx2.Request) -> httpx2.Response:
        async for piece in request.stream:  # type: ignore[union-attr]
            pieces.append(len(piece))

        async def thirty() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 10

        return httpx2.Response(200, content=thirty())

    async def body(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"y" * 40

    proxy, client = through(handler, max_body_bytes=100)
    async with client:
        assert (await client.post("/", content=b"x" * 101)).status_code == 413
        assert pieces == []
        assert (await client.post("/", content=body(3))).status_code == 413
        pieces.clear()
        answer = await client.post("/", content=body(2))
        assert (answer.content, pieces) == (b"x" * 30, [40, 40])
    await proxy.aclose()


async def test_requests_at_a_time_are_bounded() -> None:
    """One too many is told to come again."""
    go = asyncio.Event()

    async def handler(request: httpx2.Request) -> httpx2.Response:
        await go.wait()
        return answered(200)

    proxy, client = through(handler, max_requests=1)
    async with client:
        first = asyncio.create_task(client.get("/"))
        while not proxy._running:
            await asyncio.sleep(0)
        assert (await client.get("/")).status_code == 503
        go.set()
        assert (await first).status_code == 200
        assert (await client.get("/")).status_code == 200
    await proxy.aclose()


async def scoped(proxy: Proxy, scope: dict[str, Any], *received: dict[str, Any]) -> list[dict[str, Any]]:
    """What an ASGI server would be sent."""
    sent: list[dict[str, Any]] = []
    messages = [*received, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: Any) -> None:
        sent.append(message)

    await proxy(scope, receive, send)
    return sent


async def test_other_scopes_and_targets() -> None:
    """WebSockets are refused, a target that is no path is 400, a lifespan is none of its business."""

    async def handler(request: httpx2.Request) -> httpx2.Response:
        return answered(200)

    proxy, client = through(handler)
    assert [one["type"] for one in await scoped(proxy, {"type": "websocket"}, {"type": "websocket.connect"})] == [
        "websocket.close"
    ]
    assert await scoped(proxy, {"type": "lifespan"}) == []
    odd = {"type": "http", "method": "GET", "path": "http://evil.test/", "raw_path": b"http://evil.test/", "headers": []}
    assert (await scoped(proxy, odd))[0]["status"] == 400
    await client.aclose()
    await proxy.aclose()


async def test_a_client_that_leaves() -> None:
    """A body that ends in a disconnect does not reach the upstream whole; an answer to nobody is not read on for ever."""
    read = 0

    async def handler(request: httpx2.Request) -> httpx2.Response:
        async for _ in request.stream:  # type: ignore[union-attr]
            pass

        async def endless() -> AsyncIterator[bytes]:
            nonlocal read
            while True:
                read += 1
                await asyncio.sleep(0)
                yield b"x"

        return httpx2.Response(200, content=endless())

    proxy, client = through(handler)
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-length", b"9")], "query_string": b""}
    sent = await scoped(proxy, dict(scope), {"type": "http.request", "body": b"x", "more_body": True})
    assert sent[0]["status"] == 502
    sent = await scoped(proxy, dict(scope, method="GET", headers=[]))
    assert sent[0]["status"] == 200
    assert read < 10
    await client.aclose()
    await proxy.aclose()


def test_upstreams_that_are_none() -> None:
    """Only http and https with a host, and nothing behind the path."""
    for bad in ("", "shop.test", "ftp://x", "http://", "http://u:p@x", "http://x?q", "http://x#f"):
        with pytest.raises(MalformedError):
            Proxy(bad)
