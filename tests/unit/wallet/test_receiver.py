"""The receiver of posted payments: what it answers, what it bounds, and whom it tells."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from specie.kernel.errors import PeerFaultError, UnavailableError, UncertainError
from specie.wallet import PaymentReceiver, RequestReceipt
from tests.support.payees import ask
from tests.support.wallets import virtually, world

POINT = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"


@virtually
async def test_payment_is_answered_with_what_it_brought() -> None:
    """200 with id, amount, unit and mint; the same body again too; whoever listens hears of it before the payer."""
    async with world() as w:
        payer, payee = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        heard: list[RequestReceipt] = []

        async def received(receipt: RequestReceipt) -> None:
            heard.append(receipt)

        app = PaymentReceiver(payee.requests, received=received)
        own = await payee.requests.create(21)
        paid = await payer.requests.pay(own.text)
        body = await payer.requests.payload(paid.payment_id)
        for chunks in (1, 3):
            status, headers, answer = await ask(app, body, chunks=chunks, path="/pay", root="/pay")
            assert status == 200
            assert answer == {"id": own.request_id, "amount": 21, "unit": "sat", "mint": "http://mint.test"}
            assert headers["content-type"] == "application/json"
            assert headers["access-control-allow-origin"] == "*"
        assert [one.request_id for one in heard] == [own.request_id] * 2
        other = await payer.send(21)
        second = await payee.requests.create(20)
        assert (await payee.requests.accept(other.text, request_id=second.request_id)).amount == 21
        again = await payer.requests.pay(own.text, again=True)
        status, _, answer = await ask(app, await payer.requests.payload(again.payment_id))
        assert (status, answer["detail"]) == (409, "the payment request takes no more payments: it is PAID")


@virtually
async def test_what_is_no_payment() -> None:
    """Other bodies, requests, methods, paths and sizes each have their answer, and none touches the wallet."""
    async with world() as w:
        payee = await w.wallet()
        app = PaymentReceiver(payee.requests, body_bytes=1000)
        assert (await ask(app, b"{"))[0] == 400
        assert (await ask(app))[0] == 400
        assert (await ask(app, b"x" * 1001, chunks=4))[0] == 413
        assert (await ask(app, path="/other"))[0] == 404
        status, headers, _ = await ask(app, method="GET")
        assert (status, headers["allow"]) == (405, "POST, OPTIONS")
        status, headers, answer = await ask(app, method="OPTIONS")
        assert (status, headers["access-control-allow-methods"], answer) == (204, "POST, OPTIONS", {})
        proof = {"amount": 1, "id": "00" * 8, "secret": "s", "C": "02" + POINT}
        body = json.dumps({"id": "x", "mint": "https://m", "unit": "sat", "proofs": [proof]})
        assert (await ask(app, body.encode()))[0] == 404


class Answering:
    """In place of `Requests`: raises, or waits."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.gate = asyncio.Event()

    async def accept(self, body: bytes) -> Any:
        if self.error is not None:
            raise self.error
        await self.gate.wait()
        raise UnavailableError("off")


@virtually
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnavailableError("the mint is away"), 503),
        (UncertainError("no answer"), 202),
        (PeerFaultError("the mint's signature is wrong", peer="m"), 202),
    ],
)
async def test_troubles_with_the_mint(error: Exception, status: int) -> None:
    """A mint that is away means later; one whose answer is lost, or wrong, means that the coins have been taken up."""
    found, headers, answer = await ask(PaymentReceiver(Answering(error)), b"{}")  # type: ignore[arg-type]
    assert (found, answer["detail"]) == (status, str(error))
    assert ("retry-after" in headers) == (status == 503)


@virtually
async def test_only_so_many_at_once() -> None:
    """Beyond the bound payments are put off, and the place of one that is over is free again."""
    requests = Answering()
    app = PaymentReceiver(requests, at_once=1)  # type: ignore[arg-type]
    first = asyncio.ensure_future(ask(app, b"{}"))
    await asyncio.sleep(1)
    assert (await ask(app, b"{}"))[2]["detail"] == "too many payments at once"
    requests.gate.set()
    assert (await first)[2]["detail"] == "off"
    assert (await ask(app, b"{}"))[2]["detail"] == "off"


@virtually
async def test_protocols() -> None:
    """A server that announces its life is answered; WebSockets are not spoken; a payer that went away is no payment."""
    app = PaymentReceiver(Answering())  # type: ignore[arg-type]
    queue = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> Any:
        return queue.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(RuntimeError):
        await app({"type": "websocket"}, receive, send)
