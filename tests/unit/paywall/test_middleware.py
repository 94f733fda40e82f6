"""`Paywall` and `CashuAuth` together, in one process: who gets what, and what becomes of the money."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from specie.ecash import PaymentRequest, Token, decode_payment_request, decode_token, encode_payment_request, encode_token
from specie.kernel import UnavailableError
from specie.paywall import CashuAuth, Paywall, Price
from specie.paywall.middleware import Receive, Scope, Send
from specie.wallet import Wallet
from specie.wallet.errors import PaymentUnfitError, SpendingLimitError
from specie.wallet.paid import Settle, TollState
from tests.support.wallets import MINT_URL, SETTINGS, World, virtually, world

URL = "https://shop.test"
PRICES = (Price("GET", "/paid*", 21), Price("POST", "/paid*", 5), Price("GET", "/locked", 8, locked=True))


class Shop:
    """An application that says what it saw."""

    def __init__(self) -> None:
        self.requests: list[Scope] = []
        self.bodies: list[bytes] = []
        self.status = 200
        self.fail: BaseException | None = None
        self.headers: list[tuple[bytes, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests.append(scope)
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        if self.fail is not None:
            raise self.fail
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"wares " + body})


def client(app: Any, auth: CashuAuth | None = None, **options: Any) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url=URL, auth=auth, **options)


def auth(wallet: Wallet, **options: Any) -> CashuAuth:
    return CashuAuth(wallet, **({"max_per_request": 50} | options))


async def purses(w: World, amount: int = 200) -> tuple[Wallet, Wallet]:
    shop, payer = await w.wallet(), await w.wallet()
    await w.fund(payer, amount)
    return shop, payer


async def settled(w: World, *wallets: Wallet) -> None:
    for wallet in wallets:
        await wallet.check_pending()
    await w.books_hold(*wallets)


@virtually
async def test_asks_and_is_paid() -> None:
    """Without a token 402 with a request; with one the wares, once paid; the application never sees the token."""
    async with world() as w:
        shop, payer = await purses(w)
        app = Shop()
        wall = Paywall(app, shop, PRICES)
        async with client(wall) as plain:
            answer = await plain.get("/paid/1?a=b")
            assert (answer.status_code, answer.headers["cache-control"]) == (402, "no-store")
            request = decode_payment_request(answer.headers["x-cashu"])
            assert (request.amount, request.unit, request.mints, request.transports) == (21, "sat", (MINT_URL,), ())
            assert (await plain.get("/free", headers={"x-cashu": "cashuB"})).status_code == 200
            assert app.requests[-1]["type"] == "http"
            assert b"x-cashu" not in dict(app.requests[-1]["headers"])
        async with client(wall, auth(payer)) as paying:
            answer = await paying.get("/paid/1?a=b")
            assert (answer.status_code, answer.content) == (200, b"wares ")
            assert answer.headers["cache-control"] == "private"
            assert "x-cashu" in answer.headers["vary"].lower()
            assert b"x-cashu" not in dict(app.requests[-1]["headers"])
            assert app.requests[-1]["specie.taking"].resource == "GET /paid/1?a=b"
            assert (await paying.post("/paid/2", content=b"with a body")).content == b"wares with a body"
            assert (await paying.get("/locked")).status_code == 200
        assert (await shop.balance()).available == 21 + 5 + 8
        assert [toll.state for toll in await payer.allowance.tolls()] == [TollState.SPENT] * 3
        await settled(w, shop, payer)


@virtually
async def test_creq_b_is_paid_too() -> None:
    """The other form of the request."""
    async with world() as w:
        shop, payer = await purses(w)
        wall = Paywall(Shop(), shop, PRICES, form="creqB")
        async with client(wall, auth(payer)) as paying:
            assert (await paying.get("/paid")).status_code == 200
        async with client(wall) as plain:
            assert (await plain.get("/paid")).headers["x-cashu"].lower().startswith("creqb1")


@virtually
async def test_the_same_token_again() -> None:
    """The resource again without a second payment, another resource not; cashuA is read like cashuB."""
    async with world() as w:
        shop, payer = await purses(w)
        app = Shop()
        text = (await payer.send(21)).text
        async with client(Paywall(app, shop, PRICES, deliveries=3)) as plain:
            for form in (text, text, text):
                assert (await plain.get("/paid", headers={"x-cashu": form})).status_code == 200
            refused = await plain.get("/paid", headers={"x-cashu": text})
            assert (refused.status_code, "used" in refused.json()["detail"]) == (400, True)
            assert (await plain.get("/paid/other", headers={"x-cashu": text})).status_code == 400
        assert len(app.requests) == 3
        assert (await shop.balance()).available == 21


@virtually
async def test_two_at_once() -> None:
    """The same token twice at the same moment is one payment, and both are answered."""
    async with world() as w:
        shop, payer = await purses(w)
        text = (await payer.send(21)).text
        async with client(Paywall(Shop(), shop, PRICES)) as plain:
            answers = await asyncio.gather(*(plain.get("/paid", headers={"x-cashu": text}) for _ in range(2)))
        assert [one.status_code for one in answers] == [200, 200]
        assert (await shop.balance()).available == 21
        await settled(w, shop, payer)


@virtually
async def test_what_does_not_fit_is_told() -> None:
    """400 with the reason for a wrong amount, mint, lock or text, or two tokens; 431 for too much; never a taking."""
    async with world() as w:
        shop, payer = await purses(w)
        app = Shop()
        good = (await payer.send(21)).text
        draft = decode_token(good)
        foreign = encode_token(Token("http://other.test", "sat", draft.proofs), version=3)
        async with client(Paywall(app, shop, PRICES, max_header_bytes=2000)) as plain:
            for text, word in (
                ((await payer.send(20)).text, "less"),
                (foreign, "mint"),
                ("cashuB", "token"),
                ("", "token"),
                ("creqA", "token"),
                ("\x7f" * 9, "token"),
            ):
                answer = await plain.get("/paid", headers={"x-cashu": text})
                assert answer.status_code == 400, text
                assert word in answer.json()["detail"], answer.json()
            answer = await plain.get("/locked", headers={"x-cashu": good})
            assert (answer.status_code, "lock" in answer.json()["detail"]) == (400, True)
            two = [("x-cashu", good), ("x-cashu", good)]
            assert (await plain.get("/paid", headers=two)).status_code == 400
            assert (await plain.get("/paid", headers={"x-cashu": good + "A" * 2000})).status_code == 431
        assert app.requests == []
        assert await shop.till.takings() == []
        assert (await payer.receive(good)).amount == 21


@virtually
async def test_an_outage_does_not_eat_the_token() -> None:
    """503 while the mint is away, with a time to come again; the same token pays afterwards."""
    async with world() as w:
        shop, payer = await purses(w)
        text = (await payer.send(21)).text
        w.faults.plant("before", "swap", *[UnavailableError("down")] * SETTINGS.retry.attempts)
        async with client(Paywall(Shop(), shop, PRICES)) as plain:
            answer = await plain.get("/paid", headers={"x-cashu": text})
            assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
            assert (await plain.get("/paid", headers={"x-cashu": text})).status_code == 200


@virtually
async def test_a_server_that_fails_keeps_the_payment_for_a_retry() -> None:
    """5xx, or an application that dies, is not a delivery: the same token gets the wares later, however long it takes."""
    async with world() as w:
        shop, payer = await purses(w)
        app = Shop()
        text = (await payer.send(21)).text
        async with client(Paywall(app, shop, PRICES, deliveries=1)) as plain:
            app.status = 502
            for _ in range(3):
                assert (await plain.get("/paid", headers={"x-cashu": text})).status_code == 502
            app.status, app.fail = 200, RuntimeError("broken")
            assert (await plain.get("/paid", headers={"x-cashu": text})).status_code == 500
            app.fail = None
            w.clock.skip(100_000)
            assert (await plain.get("/paid", headers={"x-cashu": text})).status_code == 200
            assert (await plain.get("/paid", headers={"x-cashu": text})).status_code == 400


@virtually
async def test_the_payer_comes_back_with_the_same_token() -> None:
    """After a 5xx the client's next request for the resource carries the token it has paid, not another one."""
    async with world() as w:
        shop, payer = await purses(w)
        app = Shop()
        async with client(Paywall(app, shop, PRICES), auth(payer)) as paying:
            app.status = 503
            assert (await paying.get("/paid")).status_code == 503
            app.status = 200
            assert (await paying.get("/paid")).status_code == 200
        assert (await shop.balance()).available == 21
        assert [toll.state for toll in await payer.allowance.tolls()] == [TollState.SPENT]


@virtually
async def test_taken_later() -> None:
    """With `later` the wares come without the mint, and the coins are swapped soon after, or when the wall is closed."""
    async with world() as w:
        shop, payer = await purses(w)
        prices = [Price("GET", "/*", 8, locked=True, settle=Settle.LATER, cap=100)]
        wall = Paywall(Shop(), shop, prices, settle_after_s=0.0)
        async with client(wall, auth(payer)) as paying:
            assert (await paying.get("/a")).status_code == 200
            assert (await shop.balance()).unswapped in (0, 8)
            await w.clock.sleep(1)
            assert (await shop.balance()).available == 8
            wall._settle_after_s = 1000.0
            await paying.get("/b")
            assert (await shop.balance()).unswapped == 8
        await wall.aclose()
        assert (await shop.balance()).available == 16
        await wall.aclose()


@virtually
async def test_websockets_and_other_scopes() -> None:
    """A WebSocket on a priced path is closed before it opens; one elsewhere, and the lifespan, pass."""
    async with world() as w:
        shop, _ = await purses(w)
        app = Shop()
        wall = Paywall(app, shop, PRICES)
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await wall({"type": "websocket", "path": "/paid", "headers": []}, receive, send)
        assert [one["type"] for one in sent] == ["websocket.close"]
        await wall({"type": "websocket", "path": "/chat", "headers": []}, receive, send)
        await wall({"type": "lifespan"}, receive, send)
        assert [one["type"] for one in app.requests] == ["websocket", "lifespan"]


@virtually
async def test_a_wallet_without_a_mint_sells_nothing_and_gives_nothing_away() -> None:
    """What cannot be asked for is 503, not free."""
    async with world() as w:
        stranger = await w.wallet(trusted=False)
        app = Shop()
        async with client(Paywall(app, stranger, PRICES)) as plain:
            assert (await plain.get("/paid")).status_code == 503
        assert app.requests == []


class Host:
    """A server that is not ours: answers by path, and remembers what it was told."""

    def __init__(self, request: PaymentRequest) -> None:
        self.text = encode_payment_request(request)
        self.seen: list[tuple[str, str, str | None]] = []
        self.paid: httpx2.Response | BaseException | None = None
        self.asked: dict[str, Any] | None = None

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        token = next((value.decode() for name, value in request.headers.raw if name.lower() == b"x-cashu"), None)
        self.seen.append((request.url.host, request.url.path, token))
        if request.url.host != "shop.test" or request.url.path == "/elsewhere":
            return httpx2.Response(402, headers={"x-cashu": self.text})
        if request.url.path == "/led":
            return httpx2.Response(302, headers={"location": "https://other.test/asks"})
        if token is None:
            return httpx2.Response(402, **(self.asked or {"headers": {"x-cashu": self.text}}))
        if isinstance(self.paid, BaseException):
            raise self.paid
        assert self.paid is not None
        return self.paid

    def client(self, paying: CashuAuth, **options: Any) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self), base_url=URL, auth=paying, **options)


REQUEST = PaymentRequest(amount=21, unit="sat", mints=(MINT_URL,))


@virtually
@pytest.mark.parametrize("location", ["https://evil.test/", "/elsewhere", "https://shop.test:444/", "http://shop.test/x"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_never_carries_the_token(status: int, location: str) -> None:
    """The host that was paid sends us on, to itself or elsewhere: what follows has no token, and nothing is paid twice."""
    async with world() as w:
        _, payer = await purses(w)
        host = Host(REQUEST)
        host.paid = httpx2.Response(status, headers={"location": location})
        async with host.client(auth(payer, plain_http=True), follow_redirects=True) as paying:
            answer = await paying.get("/paid")
        assert answer.status_code == 402
        tokens = [token for _, _, token in host.seen]
        assert [token is not None for token in tokens] == [False, True, False]
        (toll,) = await payer.allowance.tolls()
        assert toll.state is TollState.SENT


@virtually
async def test_a_request_of_another_host_than_asked_is_not_paid() -> None:
    """Whoever leads us to a host that asks for money does not make us pay it."""
    async with world() as w:
        _, payer = await purses(w)
        host = Host(REQUEST)
        async with host.client(auth(payer), follow_redirects=True) as paying:
            with pytest.raises(PaymentUnfitError):
                await paying.get("/led")
        assert await payer.allowance.tolls() == []


@virtually
@pytest.mark.parametrize("status", [400, 402, 431])
async def test_a_host_that_declines(status: int) -> None:
    """The token is taken back once the mint says that it is unspent; it is sent once, and the answer is the caller's."""
    async with world() as w:
        _, payer = await purses(w)
        host = Host(REQUEST)
        host.paid = httpx2.Response(status, headers={"x-cashu": host.text}, json={"detail": "no"})
        async with host.client(auth(payer)) as paying:
            answer = await paying.get("/paid")
        assert (answer.status_code, answer.json()) == (status, {"detail": "no"})
        assert [token is not None for _, _, token in host.seen] == [False, True]
        assert [toll.state for toll in await payer.allowance.tolls()] == [TollState.BACK]
        assert (await payer.balance()).available == 200


@virtually
async def test_a_connection_that_breaks() -> None:
    """No answer to the token: the error is the caller's, nothing is sent again, and the token stays on record."""
    async with world() as w:
        _, payer = await purses(w)
        host = Host(REQUEST)
        host.paid = httpx2.ReadError("reset")
        async with host.client(auth(payer)) as paying:
            with pytest.raises(httpx2.ReadError):
                await paying.get("/paid")
        assert len(host.seen) == 2
        assert [toll.state for toll in await payer.allowance.tolls()] == [TollState.SENT]
        assert (await payer.balance()).sent == 21
        assert payer.allowance._flying == set()


@virtually
async def test_what_is_never_paid() -> None:
    """Beyond a limit, another host than listed, without TLS on the way, a request that cannot be read: no token is made."""
    async with world() as w:
        _, payer = await purses(w)
        host = Host(REQUEST)
        for options, url, error in (
            ({"max_per_request": 20}, "/paid", SpendingLimitError),
            ({"max_per_host": 20}, "/paid", SpendingLimitError),
            ({"hosts": ["elsewhere.test"]}, "/paid", PaymentUnfitError),
            ({"unit": "usd"}, "/paid", PaymentUnfitError),
            ({}, "http://shop.test/paid", PaymentUnfitError),
        ):
            async with host.client(auth(payer, **options)) as paying:
                with pytest.raises(error):
                    await paying.get(url)
        for headers in ({}, {"x-cashu": "creqA!"}, {"x-cashu": "creqA" + "A" * 20_000}, {"x-cashu": ""}):
            host.asked = {"headers": headers}
            async with host.client(auth(payer)) as paying:
                assert (await paying.get("/paid")).status_code == 402
        assert await payer.allowance.tolls() == []
        host.asked, host.paid = None, httpx2.Response(200)
        async with host.client(auth(payer, hosts=["shop.test"])) as paying:
            assert (await paying.get("/paid")).status_code == 200
        with pytest.raises(RuntimeError, match="AsyncClient"):
            httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200)), auth=auth(payer)).get(URL)


@virtually
async def test_a_streamed_body_is_sent_with_the_payment() -> None:
    """A body that comes piece by piece is kept, so that the paid request carries it too."""
    async with world() as w:
        shop, payer = await purses(w)
        app = Shop()

        async def pieces() -> AsyncIterator[bytes]:
            for piece in (b"one ", b"two"):
                yield piece

        async with client(Paywall(app, shop, PRICES), auth(payer)) as paying:
            assert (await paying.post("/paid", content=pieces())).content == b"wares one two"


@virtually
async def test_a_header_of_the_callers_is_replaced() -> None:
    """An X-Cashu header that the caller set is not sent beside the token."""
    async with world() as w:
        shop, payer = await purses(w)
        async with client(Paywall(Shop(), shop, PRICES), auth(payer)) as paying:
            answer = await paying.get("/paid", headers={"x-cashu": "cashuB"})
        assert answer.status_code == 400  # the server was shown the caller's own token, and asked for none
        assert await payer.allowance.tolls() == []


def test_a_token_is_in_no_copy_of_the_headers() -> None:
    """On the wire, and nowhere else: neither in a copy nor in a text of the headers."""
    from specie.paywall.auth import _with_token
    from specie.wallet.paid import Toll

    toll = Toll("1", "shop.test", "GET /", MINT_URL, "sat", 21, TollState.SENT, text="cashuBsecret")
    paid = _with_token(httpx2.Request("POST", URL, content=b"x", headers={"x-cashu": "old"}), toll)
    assert [value for name, value in paid.headers.raw if name == b"X-Cashu"] == [b"cashuBsecret"]
    assert all(value != b"old" for _, value in paid.headers.raw)
    assert "secret" not in repr(paid.headers)
    assert b"cashuBsecret" not in [value for _, value in httpx2.Headers(paid.headers).raw]
    assert paid.content == b"x"


def test_requests_of_this_machine_need_no_tls() -> None:
    """Loopback is not the way to anybody."""
    from specie.paywall.auth import _is_here

    assert [_is_here(host) for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert [_is_here(host) for host in ("10.0.0.1", "localhost.evil.test", "example.com", "")] == [False] * 4
