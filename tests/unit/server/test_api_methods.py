"""Every payment method over HTTP: batches (NUT-29), fee options (NUT-30), and news of each kind (NUT-17)."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from specie.ecash import MeltQuoteRequest, MeltRequest, MeltState, MintQuoteRequest, wire
from specie.kernel import RefusedError
from specie.mint import MintSettings
from specie.ops.health import Health
from specie.ops.logging import make_logger
from specie.ops.metrics import Metrics
from specie.ops.settings import LogFormat, LogSettings, ServerSettings
from specie.server import BankFacts, ServerContext, build_app
from specie.server.admin import build_admin
from specie.server.admin_client import AdminClient
from specie.server.ports import OperatorActions, PlayChainActions
from tests.support.house import House, house
from tests.support.methods import PUBKEY, Teller, foreign_address
from tests.unit.server.test_subscriptions import Wire

METHODS = ("bolt12", "onchain")


@dataclass
class Desk:
    """A bank with every method behind its HTTP face."""

    bank: House
    teller: Teller
    client: httpx2.AsyncClient
    context: ServerContext

    async def post(self, path: str, body: bytes) -> httpx2.Response:
        return await self.client.post(path, content=body)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    settings = MintSettings()
    async with house(settings=settings, methods=METHODS) as bank:
        chain = PlayChainActions(mine=bank.onchain.mine, reorganise=bank.onchain.reorganise, replace=bank.onchain.replace)
        metrics = Metrics(make_logger(LogSettings(format=LogFormat.JSON), io.StringIO()), bank.clock.now, version="9")
        context = ServerContext(
            mint=bank.mint,
            facts=BankFacts(version="specie 9", rails=()),
            settings=ServerSettings(),
            limits=settings.limits,
            metrics=metrics,
            health=Health(metrics, bank.clock.now, bank.clock.monotonic),
            clock=bank.clock,
            entropy=bank.entropy,
            operator=OperatorActions(chain=chain),
        )
        app = build_app(context)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:3338") as client:
            yield Desk(bank, Teller(bank), client, context)
        await app.aclose()


async def ordered(bank: House) -> None:
    """Until every payment was given to its rail."""
    while bank.mint._paying:
        await asyncio.sleep(0)


async def test_quotes_are_looked_at_and_issued_together(desk: Desk) -> None:
    """POST .../check answers in order; POST .../batch signs, and signs the same again."""
    quotes = [await desk.teller.quote("bolt12") for _ in range(2)]
    for quote, amount in zip(quotes, (3, 5), strict=True):
        await desk.teller.deposit(quote, amount)
    ids = [quote.quote for quote in quotes]
    answer = await desk.post("/v1/mint/quote/bolt12/check", wire.quote_check_request_to_json(ids))
    assert [one.amount_paid for one in wire.mint_quotes_from_json(answer.content, ids, method="bolt12")] == [3, 5]
    assert answer.headers["cache-control"] == "no-store"
    body = wire.mint_batch_request_to_json(desk.teller.batch(quotes, 8, (3, 5)))
    first = await desk.post("/v1/mint/bolt12/batch", body)
    assert first.status_code == 200
    assert sum(one.amount for one in wire.signatures_from_json(first.content)) == 8
    assert (await desk.post("/v1/mint/bolt12/batch", body)).content == first.content


async def test_a_route_is_no_quote_id(desk: Desk) -> None:
    """`check` and `batch` take POST alone, of any method, and a quote of that name is not looked for."""
    for path in ("/v1/mint/quote/bolt11/check", "/v1/mint/bolt11/batch"):
        answer = await desk.client.get(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    assert (await desk.post("/v1/mint/quote/bolt11/check", b'{"quotes":["x"]}')).json()["detail"] == "quote not found"
    for path in ("/v1/melt/quote/bolt11/check", "/v1/melt/bolt11/batch", "/v1/swap/bolt11/batch", "/v1/mint/quote/bolt11/a/b"):
        assert (await desk.post(path, b"{}")).status_code in (404, 405), path
    for body, code in (
        (b'{"quotes":["a","a"]}', 11016),
        (json.dumps({"quotes": [str(n) for n in range(101)]}).encode(), 11017),
    ):
        assert (await desk.post("/v1/mint/quote/bolt11/check", body)).json()["code"] == code


async def test_an_onchain_payment_over_http(desk: Desk) -> None:
    """Options in the quote, `fee_index` in the melt, PENDING at once, `outpoint` later."""
    asked = MeltQuoteRequest("onchain", foreign_address(), "sat", amount=2000)
    answer = await desk.post("/v1/melt/quote/onchain", wire.melt_quote_request_to_json(asked))
    quote = wire.melt_quote_from_json(answer.content, method="onchain")
    assert len(quote.fee_options) == 3
    assert answer.json()["selected_fee_index"] is None
    coins = tuple(await desk.teller.mint(8192))
    body = wire.melt_request_to_json(MeltRequest("onchain", quote.quote, coins, fee_index=0))
    begun = wire.melt_quote_from_json((await desk.post("/v1/melt/onchain", body)).content, method="onchain")
    assert (begun.state, begun.selected_fee_index) == (MeltState.PENDING, 0)
    await ordered(desk.bank)
    await desk.bank.onchain.mine(3)
    await desk.bank.mint.reconcile()
    found = await desk.client.get(f"/v1/melt/quote/onchain/{quote.quote}")
    done = wire.melt_quote_from_json(found.content, method="onchain")
    assert done.state is MeltState.PAID
    assert done.outpoint
    refused = await desk.post("/v1/melt/onchain", wire.melt_request_to_json(MeltRequest("onchain", quote.quote, coins)))
    assert refused.status_code == 400


async def test_every_kind_is_followed(desk: Desk) -> None:
    """Deposits and issues of offers and addresses, a withdrawal, and an outpoint (NUT-17)."""
    wire_ = await Wire(desk.client._transport.app).accepted()  # type: ignore[attr-defined]
    for number, method in enumerate(METHODS):
        quote = await desk.teller.quote(method)
        wire_.ask("subscribe", number, kind=f"{method}_mint_quote", subId=method, filters=[quote.quote])
        assert (await wire_.hear())["id"] == number
        assert (await wire_.hear())["params"]["payload"]["amount_paid"] == 0
        await desk.teller.deposit(quote, 5000)
        assert (await wire_.hear())["params"]["payload"]["amount_paid"] == 5000
        await desk.teller.issue(quote, 3000)
        assert (await wire_.hear())["params"]["payload"]["amount_issued"] == 3000
        if method == "onchain":
            await desk.bank.onchain.reorganise(3)
            assert (await wire_.hear())["params"]["payload"]["amount_paid"] == 3000
    price = await desk.teller.price("onchain", foreign_address(), amount=2000)
    wire_.ask("subscribe", 9, kind="onchain_melt_quote", subId="m", filters=[price.quote])
    assert (await wire_.hear())["id"] == 9
    assert (await wire_.hear())["params"]["payload"]["state"] == "UNPAID"
    await desk.teller.pay(price, await desk.teller.mint(8192), fee_index=2)
    while True:
        payload = (await wire_.hear())["params"]["payload"]
        assert (payload["state"], payload["selected_fee_index"]) == ("PENDING", 2)
        if payload["outpoint"]:
            break
    await wire_.leave()


async def test_a_quote_without_a_key_is_refused_with_its_code(desk: Desk) -> None:
    """20009, where the method needs one."""
    for method in METHODS:
        body = wire.mint_quote_request_to_json(MintQuoteRequest(method, "sat"))
        assert (await desk.post(f"/v1/mint/quote/{method}", body)).json()["code"] == 20009
        body = wire.mint_quote_request_to_json(MintQuoteRequest(method, "sat", pubkey=PUBKEY))
        answer = (await desk.post(f"/v1/mint/quote/{method}", body)).json()
        assert (answer["amount"], answer["amount_paid"], answer["amount_issued"]) == (None, 0, 0)


async def test_the_operator_moves_the_chain(desk: Desk) -> None:
    """Blocks, a reorganisation and a replacement by hand; a bank without a chain says so."""
    transport = httpx2.ASGITransport(app=build_admin(desk.context))
    async with httpx2.AsyncClient(transport=transport, base_url="http://bank") as client:
        operator = AdminClient(client)
        quote = await desk.teller.quote("onchain")
        txid = await desk.teller.deposit(quote, 5000, confirm=False)
        other = await operator.replace(txid)
        assert other
        assert await operator.mine(3) == 3
        assert await operator.reorganise(3, drop=other) == 1
        with pytest.raises(RefusedError):
            await operator.replace(other)
        shown: list[dict[str, Any]] = await operator.quotes()
        assert shown[0]["method"] == "onchain"
        assert shown[0]["amount"] in (0, 5000)
    bare = httpx2.ASGITransport(app=build_admin(_without_chain(desk.context)))
    async with httpx2.AsyncClient(transport=bare, base_url="http://bank") as client:
        with pytest.raises(RefusedError, match="no on-chain play rail"):
            await AdminClient(client).mine()


def _without_chain(context: ServerContext) -> ServerContext:
    from dataclasses import replace

    return replace(context, operator=OperatorActions())
