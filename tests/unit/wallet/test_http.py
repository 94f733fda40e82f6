"""The HTTP client: what each failure means, and what a hostile mint cannot do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import httpx2
import pytest

from specie.ecash import Keyset, MeltQuote, MintQuote, codes, wire
from specie.kernel import Limits, PeerFaultError, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.wallet.adapters.http import HttpMintClient, HttpTimeouts
from specie.wallet.errors import UnsupportedError

URL = "http://mint.test/path"
POINT = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
KNOWN = MeltQuote("q", "bolt11", "lnbc1", "sat", 21, 1)

Handler = Callable[[httpx2.Request], httpx2.Response]


def client(handler: Handler | Exception, **settings: object) -> HttpMintClient:
    """A client whose every exchange is answered by `handler`, or fails with an exception."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if isinstance(handler, Exception):
            raise handler
        return handler(request)

    return HttpMintClient(URL, transport=httpx2.MockTransport(answer), **settings)  # type: ignore[arg-type]


def saying(status: int, body: object = None, **headers: str) -> Handler:
    """A mint that always says the same."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda request: httpx2.Response(
        status, content=content, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


async def watched(mint: HttpMintClient) -> tuple[int, type[Exception]]:
    """How much news came before the watch ended, and with which error."""
    news = 0
    try:
        async for _ in mint.watch("bolt11_mint_quote", "q"):
            news += 1
    except SpecieError as error:
        return news, type(error)
    raise AssertionError("a watch never ends well")


@pytest.mark.parametrize(
    "error", [httpx2.ConnectError("x"), httpx2.ConnectTimeout("x"), httpx2.PoolTimeout("x"), httpx2.UnsupportedProtocol("x")]
)
async def test_no_connection_means_nothing_happened(error: Exception) -> None:
    """Before anything is sent every request is simply unavailable."""
    mint = client(error)
    for call in (mint.keysets, lambda: mint.swap(b"{}"), lambda: mint.melt(KNOWN, b"{}")):
        with pytest.raises(UnavailableError):
            await call()
    await mint.close()


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ReadTimeout("x"),
        httpx2.ReadError("x"),
        httpx2.WriteError("x"),
        httpx2.RemoteProtocolError("x"),
        httpx2.CloseError("x"),
    ],
)
async def test_lost_answer_is_uncertain_for_value_only(error: Exception) -> None:
    """After sending, a question may be asked again; whether value moved nobody knows."""
    mint = client(error)
    for question in (mint.keysets, mint.info, lambda: mint.check_state([bytes.fromhex(POINT)]), lambda: mint.melt_quote(KNOWN)):
        with pytest.raises(UnavailableError):
            await question()
    for order in (lambda: mint.swap(b"{}"), lambda: mint.issue("bolt11", b"{}"), lambda: mint.melt(KNOWN, b"{}")):
        with pytest.raises(UncertainError):
            await order()
    await mint.close()


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_server_errors(status: int) -> None:
    """5xx and 408 may hide an effect, whatever code the body names."""
    mint = client(saying(status, {"detail": "x", "code": 11001}))
    with pytest.raises(UncertainError):
        await mint.swap(b"{}")
    with pytest.raises(UnavailableError):
        await mint.keysets()
    await mint.close()


async def test_too_many_requests() -> None:
    """429 says when to come back, within reason."""
    mint = client(saying(429, {}, retry_after="7"))
    with pytest.raises(UnavailableError) as caught:
        await mint.swap(b"{}")
    assert caught.value.retry_after_s == 7
    mint = client(saying(429, {}, retry_after="9" * 30))
    with pytest.raises(UnavailableError) as caught:
        await mint.swap(b"{}")
    assert caught.value.retry_after_s == 600
    await mint.close()


async def test_refusals_are_leaves_of_their_code() -> None:
    """A 4xx with a NUT body raises the class of its code; without one it is a refusal all the same."""
    mint = client(saying(400, {"detail": "Token already spent.", "code": 11001}))
    with pytest.raises(codes.ProofsSpentError):
        await mint.swap(b"{}")
    for body in (b"<html>", b"[]", b"", json.dumps({"detail": "x", "code": 99999}).encode()):
        with pytest.raises(RefusedError):
            await client(saying(404, body)).swap(b"{}")
    await mint.close()


@pytest.mark.parametrize("status", [301, 302, 307, 308, 201, 204])
async def test_redirects_are_not_followed(status: int) -> None:
    """A redirect, to another host or the same, is a fault; the second request is never made."""
    seen: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        return httpx2.Response(status, headers={"location": "http://evil.test/v1/swap"})

    mint = client(handler)
    with pytest.raises(PeerFaultError) as caught:
        await mint.swap(b'{"secret":1}')
    assert caught.value.peer == URL
    assert seen == [f"{URL}/v1/swap"]
    await mint.close()


async def test_bodies_are_bounded_while_they_are_read() -> None:
    """An endless answer is cut off after the bound, not after it was all read."""
    read = 0

    class Endless(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal read
            while True:
                read += 1
                yield b"x" * 1000

    mint = client(lambda request: httpx2.Response(200, stream=Endless()), limits=Limits(body_bytes=10_000))
    with pytest.raises(PeerFaultError):
        await mint.keysets()
    assert read <= 12
    await mint.close()


async def test_compressed_bodies_are_refused() -> None:
    """Nothing compressed was asked for, so a small body cannot become a large one."""
    mint = client(
        lambda request: httpx2.Response(200, stream=httpx2.ByteStream(b"\x1f\x8b"), headers={"content-encoding": "gzip"})
    )
    with pytest.raises(PeerFaultError):
        await mint.keysets()
    await mint.close()


async def test_a_slow_answer_ends() -> None:
    """An answer that drips for ever ends at the deadline: uncertain for value, unavailable for a question."""

    class Drip(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0.005)
                yield b" "

    mint = client(
        lambda request: httpx2.Response(200, stream=Drip()), timeouts=HttpTimeouts(connect_s=0.02, answer_s=0.02, melt_s=0.02)
    )
    with pytest.raises(UncertainError):
        await mint.swap(b"{}")
    with pytest.raises(UnavailableError):
        await mint.keysets()
    await mint.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"signatures":1}',
        b'{"signatures":[{"id":"00","amount":1,"C_":"02"}]}',
        b"\xff",
        b"[" * 50_000,
    ],
)
async def test_answers_that_do_not_fit_are_the_mints_fault(body: bytes) -> None:
    """Whatever our decoder refuses is a fault of the mint, never a refusal by it."""
    mint = client(saying(200, body))
    for call in (
        mint.keysets,
        lambda: mint.swap(b"{}"),
        lambda: mint.issue("bolt11", b"{}"),
        lambda: mint.melt(KNOWN, b"{}"),
        lambda: mint.restore([]),
    ):
        with pytest.raises(PeerFaultError):
            await call()
    await mint.close()


async def test_answers_about_something_else_are_faults() -> None:
    """States out of order or of other coins, and keys of another keyset."""
    y = bytes.fromhex(POINT)
    other = bytes.fromhex("02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5")
    states = {"states": [{"Y": other.hex(), "state": "UNSPENT"}, {"Y": y.hex(), "state": "SPENT"}]}
    mint = client(saying(200, states))
    for asked in ([y, other], [y]):
        with pytest.raises(PeerFaultError):
            await mint.check_state(asked)
    assert [one.state for one in await mint.check_state([other, y])] == ["UNSPENT", "SPENT"]
    keyset = Keyset(id="00" + "11" * 7, unit="sat", keys={1: y})
    mint = client(saying(200, wire.keys_to_json([keyset])))
    with pytest.raises(PeerFaultError):
        await mint.keys("00" + "22" * 7)
    await mint.close()


async def test_paths_cannot_be_escaped() -> None:
    """A quote id from a mint is one path segment, whatever is in it; bodies and headers are what they should be."""
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(404, content=b"{}")

    mint = client(handler)
    with pytest.raises(RefusedError):
        await mint.mint_quote(MintQuote("../../admin?x=1#", "bolt11", "lnbc1", "sat", 5))
    assert seen[0].url.raw_path == b"/path/v1/mint/quote/bolt11/..%2F..%2Fadmin%3Fx%3D1%23"
    with pytest.raises(RefusedError):
        await mint.swap(b'{"exact": "bytes" }')
    assert seen[1].read() == b'{"exact": "bytes" }'
    assert seen[1].headers["content-type"] == "application/json"
    assert seen[1].headers["accept-encoding"] == "identity"
    assert "cookie" not in seen[1].headers
    await mint.close()


@pytest.mark.network
async def test_websocket_tells_that_there_is_news_and_ends_as_unavailable() -> None:
    """Subscribed with the mint's JSON-RPC; each notification is one item; the end of the connection is UnavailableError."""
    from websockets.asyncio.server import ServerConnection, serve

    asked: list[dict[str, object]] = []

    async def mint_side(socket: ServerConnection) -> None:
        request = json.loads(await socket.recv())
        asked.append(request)
        await socket.send(json.dumps({"jsonrpc": "2.0", "result": {"status": "OK", "subId": "0"}, "id": 0}))
        for _ in range(2):
            news = {"subId": "0", "payload": {"quote": "q"}}
            await socket.send(json.dumps({"jsonrpc": "2.0", "method": "subscribe", "params": news}))

    async with serve(mint_side, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        mint = HttpMintClient(f"http://127.0.0.1:{port}")
        assert await watched(mint) == (2, UnavailableError)
        assert asked[0]["params"] == {"subId": "0", "kind": "bolt11_mint_quote", "filters": ["q"]}
        await mint.close()
    assert await watched(mint) == (0, UnavailableError)


@pytest.mark.network
async def test_websocket_refusals_and_redirects() -> None:
    """An RPC error ends the watch as a refusal; a redirect is not followed; garbage is a fault."""
    from http import HTTPStatus

    from websockets.asyncio.server import ServerConnection, serve
    from websockets.http11 import Request, Response

    answers = iter([b'{"jsonrpc":"2.0","error":{"code":-32602,"message":"no"},"id":0}', b"garbage"])

    async def mint_side(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(next(answers).decode())

    elsewhere = 0

    async def elsewhere_side(socket: ServerConnection) -> None:
        nonlocal elsewhere
        elsewhere += 1

    async with serve(elsewhere_side, "127.0.0.1", 0) as trap:

        def redirect(socket: ServerConnection, request: Request) -> Response | None:
            if not request.path.startswith("/moved"):
                return None
            response = socket.respond(HTTPStatus.FOUND, "")
            response.headers["Location"] = f"ws://127.0.0.1:{trap.sockets[0].getsockname()[1]}/"
            return response

        async with serve(mint_side, "127.0.0.1", 0, process_request=redirect) as server:
            base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            for url, expected in ((base, UnsupportedError), (base, PeerFaultError), (f"{base}/moved", UnavailableError)):
                assert (await watched(HttpMintClient(url)))[1] is expected
    assert elsewhere == 0


async def test_batches_over_http() -> None:
    """Several quotes are looked at and minted by one request each; an answer about others is the mint's fault."""
    known = [MintQuote(name, "bolt12", "lno1", "sat", amount_paid=5) for name in ("a", "b")]
    seen: list[tuple[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.method, request.url.path))
        if request.url.path.endswith("/check"):
            return httpx2.Response(200, content=wire.mint_quotes_to_json(known))
        return httpx2.Response(200, json={"signatures": []})

    mint = client(answer)
    assert await mint.mint_quotes(known) == known
    assert await mint.issue_batch("bolt12", b"{}") == []
    assert seen == [("POST", "/path/v1/mint/quote/bolt12/check"), ("POST", "/path/v1/mint/bolt12/batch")]
    with pytest.raises(PeerFaultError):
        await mint.mint_quotes(known[:1])


async def test_the_fate_of_a_batch_is_uncertain_without_an_answer() -> None:
    """A question is unavailable, an order is uncertain."""
    mint = client(saying(503))
    with pytest.raises(UnavailableError):
        await mint.mint_quotes([MintQuote("a", "bolt12", "lno1", "sat")])
    with pytest.raises(UncertainError):
        await mint.issue_batch("bolt12", b"{}")
