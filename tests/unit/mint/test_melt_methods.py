"""Payments of every method beside BOLT 11, whole (NUT-25, NUT-30), and parts of invoices (NUT-15)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from specie.ecash import MeltQuote, MeltRequest, MeltState
from specie.ecash import codes as refused
from specie.kernel import MalformedError, OutgoingQuote, RefusedError
from specie.lightning import InvoiceNetworkError, Network
from specie.lightning.adapters.play import MIGRATIONS, Fault, PlayFaults
from specie.lightning.adapters.play_network import PlayNetwork
from specie.mint import MintSettings
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, house
from tests.support.methods import Teller, foreign_address, foreign_offer
from tests.support.orders import foreign_invoice, watch_orders
from tests.support.play import virtual
from tests.support.virtual import VirtualClock

METHODS = ("bolt12", "onchain", "barter")


@asynccontextmanager
async def banking(**plugs: Any) -> AsyncIterator[tuple[House, Teller]]:
    """A bank with every method, and a teller at it."""
    async with house(methods=METHODS, **plugs) as bank:
        yield bank, Teller(bank)


async def look(bank: House, quote: MeltQuote) -> MeltQuote:
    """A melt quote as it stands."""
    return await bank.mint.melt_quote(quote.quote, quote.method)


async def settled(bank: House, quote: MeltQuote) -> MeltQuote:
    """A melt quote after the mint has looked at its rail."""
    await bank.mint.reconcile()
    return await look(bank, quote)


# offers and other requests


@pytest.mark.parametrize("method", ["bolt12", "barter"])
@virtual
async def test_a_request_is_paid_any_number_of_times(method: str) -> None:
    """Two quotes for one request are two payments, and neither stands in the other's way."""
    async with banking() as (bank, teller):
        request = foreign_offer(10_000) if method == "bolt12" else f"play:barter:{'ab' * 20}:10000"
        coins = [await teller.mint(64) for _ in range(2)]
        quotes = [await teller.price(method, request) for _ in range(2)]
        done = await asyncio.gather(*(teller.pay(q, c, blanks=6) for q, c in zip(quotes, coins, strict=True)))
        assert [one.state for one in done] == [MeltState.PAID] * 2
        assert all(one.change and one.payment_preimage for one in done)
        assert done[0].payment_preimage != done[1].payment_preimage
        await bank.mint.audit()


@virtual
async def test_who_names_the_amount_of_an_offer() -> None:
    """The offer, or the payer where it names none; both only if they agree (11012)."""
    async with banking() as (_, teller):
        assert (await teller.price("bolt12", foreign_offer(10_500))).amount == 11
        assert (await teller.price("bolt12", foreign_offer(10_000), amount_msat=10_000)).amount == 10
        assert (await teller.price("bolt12", foreign_offer(), amount_msat=7000)).amount == 7
        with pytest.raises(RefusedError) as wrong:
            await teller.price("bolt12", foreign_offer(10_000), amount_msat=9000)
        assert wrong.value.code == 11012
        with pytest.raises(RefusedError, match="names no amount"):
            await teller.price("bolt12", foreign_offer())
        with pytest.raises(MalformedError, match="amountless"):
            await teller.price("bolt12", foreign_offer(), amount=7)
        with pytest.raises(InvoiceNetworkError):
            await teller.price("bolt12", foreign_offer(1000, network=Network.BITCOIN))


@virtual
async def test_a_custom_method_takes_its_amount_beside_the_request() -> None:
    """As other wallets send it, in the unit of the quote; `options.amountless` says the same."""
    async with banking() as (_, teller):
        target = await teller.quote("barter")
        assert (await teller.price("barter", target.request, amount=16)).amount == 16
        assert (await teller.price("barter", target.request, amount_msat=16_000)).amount == 16


@pytest.mark.parametrize("method", ["bolt12", "barter"])
@virtual
async def test_an_own_request_is_paid_through_its_rail(method: str) -> None:
    """Coins for this very mint's offer arrive as a deposit of its quote; not a satoshi is lost or made."""
    async with banking() as (bank, teller):
        target = await teller.quote(method)
        coins = await teller.mint(16)
        quote = await teller.price(method, target.request, amount_msat=16_000)
        assert quote.fee_reserve == 0
        assert (await teller.pay(quote, coins)).state is MeltState.PAID
        await teller.issue(target, 16)
        books = await bank.mint.audit()
        assert books.outstanding(bank.keyset().id, "sat") == 16
        assert books.of(f"asset:rail/play-{method}", "sat") == 0


# on-chain


@virtual
async def test_an_onchain_payment_from_its_quote_to_its_end() -> None:
    """Options fixed, PENDING at once, outpoint once broadcast, PAID when confirmed, change from the chosen reserve."""
    async with banking() as (bank, teller):
        coins = await teller.mint(8192)
        quote = await teller.price("onchain", foreign_address(), amount=2000)
        assert [one.fee_index for one in quote.fee_options] == [0, 1, 2]
        assert quote.fee_reserve == max(one.fee_reserve for one in quote.fee_options)
        assert (quote.selected_fee_index, quote.outpoint) == (None, None)
        begun = await teller.pay(quote, coins, blanks=13, fee_index=1)
        assert (begun.state, begun.selected_fee_index) == (MeltState.PENDING, 1)
        await asyncio.sleep(0.1)
        waiting = await look(bank, quote)
        assert waiting.outpoint is not None
        assert waiting.outpoint.endswith(":0")
        assert waiting.fee_options == quote.fee_options
        await bank.onchain.mine(2)
        assert (await settled(bank, quote)).state is MeltState.PENDING
        await bank.onchain.mine(3)
        done = await settled(bank, quote)
        assert (done.state, done.outpoint, done.fee_reserve) == (
            MeltState.PAID,
            waiting.outpoint,
            quote.fee_options[1].fee_reserve,
        )
        fee = quote.fee_options[1].fee_reserve * 3 // 4
        assert done.change is not None
        assert sum(one.amount for one in done.change) == 8192 - 2000 - fee
        books = await bank.mint.audit()
        assert -books.of("asset:rail/play-onchain", "sat") == 2000 + fee


@virtual
async def test_a_fee_index_must_be_one_of_the_quotes() -> None:
    """None, and an unknown one, are refused; so is one where there is no choice."""
    async with banking() as (bank, teller):
        coins = await teller.mint(8192)
        quote = await teller.price("onchain", foreign_address(), amount=2000)
        for index in (None, 3, 99):
            with pytest.raises(MalformedError, match="fee_index"):
                await teller.pay(quote, coins, fee_index=index)
        plain = await teller.price("bolt11", await foreign_invoice(bank))
        with pytest.raises(MalformedError, match="fee_index"):
            await teller.pay(plain, coins, fee_index=0)
        assert (await look(bank, quote)).state is MeltState.UNPAID


@virtual
async def test_the_chosen_reserve_is_what_the_coins_must_cover() -> None:
    """A cheap option needs fewer coins than a quick one."""
    async with banking() as (_, teller):
        coins = await teller.mint(2400)
        quote = await teller.price("onchain", foreign_address(), amount=2000)
        with pytest.raises(refused.UnbalancedError):
            await teller.pay(quote, coins, fee_index=0)
        assert (await teller.pay(quote, coins, fee_index=2)).state is MeltState.PENDING


@virtual
async def test_a_chosen_option_stays_chosen() -> None:
    """Another index is refused while it runs, as no replay, and after it failed; the same one may be tried again."""
    async with banking() as (bank, teller):
        coins = await teller.mint(8192)
        orders = watch_orders(bank.onchain)
        quote = await teller.price("onchain", foreign_address(), amount=2000)
        bank.onchain.faults.for_next(Fault.fail())
        outputs = teller.outputs([1] * 13).messages
        first = MeltRequest("onchain", quote.quote, tuple(coins), outputs, fee_index=1)
        assert (await bank.mint.melt(first)).state is MeltState.PENDING
        with pytest.raises(RefusedError):
            await bank.mint.melt(MeltRequest("onchain", quote.quote, tuple(coins), outputs, fee_index=2))
        await asyncio.sleep(0.1)
        failed = await look(bank, quote)
        assert (failed.state, failed.selected_fee_index) == (MeltState.UNPAID, 1)
        with pytest.raises(RefusedError, match="takes no other"):
            await teller.pay(quote, coins, fee_index=2)
        again = await bank.mint.melt(first)
        assert again.state is MeltState.PENDING
        assert (await bank.mint.melt(first)).state is MeltState.PENDING
        await asyncio.sleep(0.1)
        await bank.onchain.mine(6)
        assert (await settled(bank, quote)).state is MeltState.PAID
        assert {order.fee_index for order in orders} == {1}
        assert len({order.attempt for order in orders}) == 2


@virtual
async def test_dust_other_networks_and_missing_amounts_are_refused() -> None:
    """What nobody carries, what is not of this chain, and what has no amount."""
    async with banking() as (bank, teller):
        least = {one.method: one.min_amount for one in bank.mint.info().methods(5)}["onchain"]
        assert least == 546
        with pytest.raises(RefusedError, match="dust"):
            await teller.price("onchain", foreign_address(), amount=545)
        await teller.price("onchain", foreign_address(), amount=546)
        with pytest.raises(MalformedError, match="needs the amount"):
            await teller.price("onchain", foreign_address())
        for address in ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"):
            with pytest.raises(InvoiceNetworkError):
                await teller.price("onchain", address, amount=1000)
        for address in ("bcrt1qqqqqq", "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", foreign_address()[:-1] + "q", "lnbc1"):
            with pytest.raises(RefusedError):
                await teller.price("onchain", address, amount=1000)


@virtual
async def test_an_own_address_is_paid_like_any_other() -> None:
    """The transaction arrives at the quote when it is confirmed; a reorganisation in between loses nothing."""
    async with banking() as (bank, teller):
        target = await teller.quote("onchain")
        coins = await teller.mint(8192)
        quote = await teller.price("onchain", target.request, amount=4000)
        await teller.pay(quote, coins, blanks=13, fee_index=0)
        await asyncio.sleep(0.1)
        outpoint = (await look(bank, quote)).outpoint
        await bank.onchain.mine(2)
        await bank.onchain.reorganise(2)
        assert (await settled(bank, quote)).state is MeltState.PENDING
        await bank.onchain.mine(3)
        done = await settled(bank, quote)
        assert (done.state, done.outpoint) == (MeltState.PAID, outpoint)
        arrived = await bank.mint.mint_quote(target.quote, "onchain")
        assert arrived.amount_paid == 4000
        await teller.issue(target, 4000)
        await bank.mint.audit()


@virtual
async def test_a_payment_that_was_paid_stays_paid_when_its_block_goes() -> None:
    """After its end a deep reorganisation only sends the same transaction around again."""
    async with banking() as (bank, teller):
        coins = await teller.mint(8192)
        quote = await teller.price("onchain", foreign_address(), amount=2000)
        await teller.pay(quote, coins, fee_index=0)
        await asyncio.sleep(0.1)
        await bank.onchain.mine(3)
        assert (await settled(bank, quote)).state is MeltState.PAID
        books = await bank.mint.audit()
        await bank.onchain.reorganise(3)
        await bank.onchain.mine(4)
        assert (await settled(bank, quote)).state is MeltState.PAID
        assert (await bank.mint.audit()).balances == books.balances


@pytest.mark.parametrize("mined", [0, 1, 4])
@virtual
async def test_a_restart_in_the_middle_pays_once(mined: int) -> None:
    """Killed while it waits for blocks: the next start follows the same transaction to its end."""
    async with banking() as (bank, teller):
        coins = await teller.mint(8192)
        quote = await teller.price("onchain", foreign_address(), amount=2000)
        await teller.pay(quote, coins, blanks=13, fee_index=0)
        await asyncio.sleep(0.1)
        outpoint = (await look(bank, quote)).outpoint
        if mined:
            await bank.onchain.mine(mined)
        async with house(storage=bank.storage, clock=bank.clock, seed="again", methods=METHODS) as again:
            if mined < 3:
                await again.onchain.mine(3)
            done = await settled(again, quote)
            assert (done.state, done.outpoint) == (MeltState.PAID, outpoint)
            await again.mint.audit()
            assert (await again.onchain.health()).balance_msat == -1000 * (2000 + quote.fee_options[0].fee_reserve * 3 // 4)


@pytest.mark.parametrize("fault", [Fault.late(20), Fault.unknown(20), Fault.lost(), Fault.delay(20)])
@virtual
async def test_an_order_whose_answer_is_late_is_one_payment(fault: Fault) -> None:
    """Lost, unknown or late: one transaction, PAID in the end."""
    async with banking() as (bank, teller):
        coins = await teller.mint(8192)
        quote = await teller.price("onchain", foreign_address(), amount=2000)
        bank.onchain.faults.for_next(fault)
        assert (await teller.pay(quote, coins, fee_index=0)).state is MeltState.PENDING
        await asyncio.sleep(60)
        await bank.onchain.mine(3)
        assert (await settled(bank, quote)).state is MeltState.PAID
        await bank.mint.audit()


# parts of invoices


@asynccontextmanager
async def two_mints(patience_s: float = 60.0) -> AsyncIterator[tuple[House, House]]:
    """Two banks of their own stores that meet on one play network."""
    clock = VirtualClock()
    shared = SqliteStorage(":memory:", inline=True)
    await shared.migrate(MIGRATIONS)
    network = PlayNetwork(shared, clock, patience_s=patience_s)
    async with house(clock=clock, network=network) as one, house(clock=clock, network=network, seed="two") as two:
        yield one, two
    await shared.close()


@virtual
async def test_two_mints_pay_one_invoice_together() -> None:
    """Each its part, at the same time; both PAID by the same preimage, each with its own change."""
    async with two_mints() as banks:
        tellers = [Teller(bank, f"teller {n}") for n, bank in enumerate(banks)]
        invoice = await foreign_invoice(banks[0], 100_000)
        coins = [await teller.mint(128) for teller in tellers]
        quotes = [
            await teller.price("bolt11", invoice, mpp_msat=part) for teller, part in zip(tellers, (30_500, 69_500), strict=True)
        ]
        assert [quote.amount for quote in quotes] == [31, 70]
        pays = [teller.pay(quote, coin, blanks=8) for teller, quote, coin in zip(tellers, quotes, coins, strict=True)]
        done = await asyncio.gather(*pays)
        assert [one.state for one in done] == [MeltState.PAID] * 2
        assert done[0].payment_preimage == done[1].payment_preimage
        for bank in banks:
            await bank.mint.audit()


@virtual
async def test_a_part_that_stays_alone_fails_and_frees_its_coins() -> None:
    """All parts arrive within the time or none does; then the coins are free and another try may succeed."""
    async with two_mints(patience_s=20) as (bank, other):
        teller = Teller(bank)
        invoice = await foreign_invoice(bank, 100_000)
        coins = await teller.mint(128)
        quote = await teller.price("bolt11", invoice, mpp_msat=50_000)
        with pytest.raises(refused.PaymentFailedError):
            await teller.pay(quote, coins)
        assert (await look(bank, quote)).state is MeltState.UNPAID
        partner = Teller(other, "partner")
        theirs = await partner.mint(128)
        both = await asyncio.gather(
            teller.pay(quote, coins), partner.pay(await partner.price("bolt11", invoice, mpp_msat=50_000), theirs)
        )
        assert [one.state for one in both] == [MeltState.PAID] * 2


@virtual
async def test_a_part_that_was_cut_off_ends_with_the_others() -> None:
    """The bank dies with its part on the way: after the next start the part is found among the others, and paid once."""
    async with two_mints() as (bank, other):
        teller, partner = Teller(bank), Teller(other, "partner")
        invoice = await foreign_invoice(bank, 100_000)
        quote = await teller.price("bolt11", invoice, mpp_msat=50_000)
        coins = await teller.mint(128)
        begun = await teller.pay(quote, coins, prefer_async=True)
        assert begun.state is MeltState.PENDING
        await asyncio.sleep(0.1)
        await bank.rail.close()
        theirs = await partner.pay(await partner.price("bolt11", invoice, mpp_msat=50_000), await partner.mint(128))
        assert theirs.state is MeltState.PAID
        network = other.rail._network
        async with house(storage=bank.storage, clock=bank.clock, seed="again", network=network) as again:
            await asyncio.sleep(15)
            assert (await settled(again, quote)).state is MeltState.PAID
            await again.mint.audit()


@virtual
async def test_parts_that_cannot_be() -> None:
    """More than the invoice, without an amount to be part of, an own invoice, a method without parts."""
    async with banking() as (bank, teller):
        invoice = await foreign_invoice(bank, 100_000)
        with pytest.raises(RefusedError) as wrong:
            await teller.price("bolt11", invoice, mpp_msat=100_001)
        assert wrong.value.code == 11012
        assert (await teller.price("bolt11", invoice, mpp_msat=100_000)).amount == 100
        own = await teller.quote("bolt11", 100)
        with pytest.raises(RefusedError, match="whole"):
            await teller.price("bolt11", own.request, mpp_msat=50_000)
        for method, request in (("bolt12", foreign_offer(10_000)), ("onchain", foreign_address())):
            with pytest.raises(RefusedError, match="not supported"):
                await teller.price(method, request, mpp_msat=5000)
        assert bank.mint.info().nuts["15"] == {"methods": [{"method": "bolt11", "unit": "sat"}]}


@virtual
async def test_one_mint_pays_one_part_at_a_time() -> None:
    """A second quote for the same invoice waits for the first (20005), be it a part or the whole."""
    async with two_mints() as (bank, _):
        teller = Teller(bank)
        invoice = await foreign_invoice(bank, 100_000)
        first, second = await teller.mint(128), await teller.mint(128)
        part = await teller.price("bolt11", invoice, mpp_msat=50_000)
        rest = await teller.price("bolt11", invoice, mpp_msat=50_000)
        assert (await teller.pay(part, first, prefer_async=True)).state is MeltState.PENDING
        with pytest.raises(refused.QuotePendingError):
            await teller.pay(rest, second)


@virtual
async def test_a_rail_that_contradicts_what_was_asked_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another amount than was named, or a part of what is its own: refused, and no quote is made."""
    async with banking() as (bank, teller):
        invoice = await foreign_invoice(bank, 100_000)
        honest = bank.rail.quote
        for change, options, error in (
            ({"own": True}, {"mpp_msat": 5000}, RefusedError),
            ({"amount_msat": 5001}, {"mpp_msat": 5000}, refused.AmountMismatchError),
            ({"amount_msat": 99_000}, {"amount_msat": 100_000}, refused.AmountMismatchError),
            ({"amount_msat": 0}, {}, refused.AmountlessUnsupportedError),
        ):

            async def other(
                request: str, *, amount_msat: int | None = None, partial: bool = False, change: Any = change
            ) -> OutgoingQuote:
                return replace(await honest(request, amount_msat=amount_msat, partial=partial), **change)

            monkeypatch.setattr(bank.rail, "quote", other)
            with pytest.raises(error):
                await teller.price("bolt11", invoice, **options)
        assert await bank.mint.recent_melt_quotes() == []


@virtual
async def test_info_says_what_each_method_can() -> None:
    """Options by the terms of the rails, in NUT-04 and NUT-05, and every kind of news (NUT-17)."""
    async with banking(settings=MintSettings(melt_min=10)) as (bank, _):
        info = bank.mint.info()
        assert {one.method: one.options for one in info.methods(4)} == {
            "bolt11": {"description": True},
            "bolt12": {"description": True},
            "onchain": {"confirmations": 3},
            "barter": {"description": True},
        }
        assert {one.method: one.options for one in info.methods(5)} == {
            "bolt11": {"amountless": True},
            "bolt12": {"amountless": True},
            "onchain": None,
            "barter": {"amountless": True},
        }
        assert {one.method: one.display_name for one in info.methods(4)}["onchain"] == "On-chain"
        news = {one["method"]: one["commands"] for one in info.nuts["17"]["supported"]}
        assert news["onchain"] == ["onchain_melt_quote", "onchain_mint_quote", "proof_state"]
        assert {"method": "POST", "path": "/v1/mint/bolt12/batch"} in info.nuts["19"]["cached_endpoints"]


@virtual
async def test_news_of_deposits_withdrawals_and_outpoints() -> None:
    """Each is told to whoever listens, in every process on the store (NUT-17)."""
    async with banking() as (bank, teller):
        heard: list[tuple[str, str]] = []

        async def listen() -> None:
            async for change in bank.mint.changes():
                heard.append((change.kind, change.key))

        listener = asyncio.ensure_future(listen())
        await asyncio.sleep(0)
        target = await teller.quote("onchain")
        await teller.deposit(target, 5000)
        await asyncio.sleep(10)
        assert heard == [("mint_quote", target.quote)]
        await bank.onchain.reorganise(3)
        await asyncio.sleep(10)
        assert heard == [("mint_quote", target.quote)] * 2
        coins = await teller.mint(8192)
        quote = await teller.price("onchain", foreign_address(), amount=2000)
        heard.clear()
        await teller.pay(quote, coins, fee_index=0)
        await asyncio.sleep(0.1)
        assert heard.count(("melt_quote", quote.quote)) == 2  # taken, broadcast
        await asyncio.sleep(60)
        assert heard.count(("melt_quote", quote.quote)) == 2  # looked at, and nothing new
        await bank.onchain.mine(3)
        await settled(bank, quote)
        await asyncio.sleep(0.1)
        assert heard.count(("melt_quote", quote.quote)) == 3
        listener.cancel()


@virtual
async def test_a_rail_that_is_told_to_refuse_refuses() -> None:
    """Requests and quotes alike, of every method."""
    async with banking() as (bank, teller):
        for rail in bank.requests.values():
            rail.set_faults(PlayFaults(refuse_requests=True, refuse_quotes=True))
        with pytest.raises(RefusedError, match="told to"):
            await teller.quote("bolt12")
        with pytest.raises(RefusedError, match="told to"):
            await teller.price("onchain", foreign_address(), amount=1000)
