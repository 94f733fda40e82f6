"""The mistake: an invoice is known by its quote, so two quotes pay it twice.

What is paid is the payment hash. One quote at a time may be in flight for it, whoever asked and however the invoice was
written; once it is paid all others are refused (20005, 20006). The same holds for an invoice of the mint itself.
"""

from __future__ import annotations

import asyncio

import pytest

from specie.ecash import MeltQuote, MeltRequest, MeltState, MintQuoteRequest, Proof
from specie.ecash import codes as refused
from specie.kernel import PaymentState, RefusedError
from specie.lightning.adapters.play import Answer, Fault, PlayFaults
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, Purse, house
from tests.support.orders import foreign_invoice, watch_orders


async def states(bank: House, coins: list[Proof]) -> set[str]:
    return {one.state.value for one in await bank.mint.check_state([coin.y for coin in coins])}


async def test_the_second_quote_waits_and_is_then_refused(bank: House, purse: Purse) -> None:
    """20005 while the first is under way, 20006 once it is paid; the coins offered for the second stay free."""
    orders = watch_orders(bank.rail)
    invoice = await foreign_invoice(bank)
    first, second = await purse.melt_quote(invoice), await purse.melt_quote(invoice.upper())
    coins, more = await purse.mint(64), await purse.mint(64)
    bank.rail.set_faults(PlayFaults(always=Fault(PaymentState.PENDING, answer=Answer.PENDING)))
    assert (await purse.melt(first, coins)).state is MeltState.PENDING
    with pytest.raises(refused.QuotePendingError):
        await purse.melt(second, more)
    assert await states(bank, more) == {"UNSPENT"}
    await bank.rail.resolve(orders[0].payment_id, PaymentState.PAID)
    await bank.mint.reconcile()
    assert (await bank.mint.melt_quote(first.quote, "bolt11")).state is MeltState.PAID
    with pytest.raises(refused.InvoicePaidError):
        await purse.melt(second, more)
    assert await states(bank, more) == {"UNSPENT"}
    assert len(orders) == 1
    with pytest.raises(RefusedError):
        await purse.melt_quote(invoice)
    await bank.mint.audit()


async def test_a_failed_first_frees_the_way_for_the_second(bank: House, purse: Purse) -> None:
    """The invoice belongs to a quote only as long as that one is in flight or paid."""
    orders = watch_orders(bank.rail)
    invoice = await foreign_invoice(bank)
    first, second = await purse.melt_quote(invoice), await purse.melt_quote(invoice)
    coins = await purse.mint(64)
    bank.rail.set_faults(PlayFaults(always=Fault.fail()))
    with pytest.raises(refused.PaymentFailedError):
        await purse.melt(first, coins)
    bank.rail.set_faults(PlayFaults())
    assert (await purse.melt(second, coins)).state is MeltState.PAID
    with pytest.raises(refused.InvoicePaidError):
        await purse.melt(first, await purse.mint(64))
    assert [order.attempt for order in orders] == [f"{first.quote}/1", f"{second.quote}/1"]
    await bank.mint.audit()


async def _race(bank: House, invoice: str) -> list[MeltQuote | BaseException]:
    """Ten quotes for one invoice, all melted at once, each with coins of its own."""
    purse = Purse(bank)
    jobs = [(await purse.melt_quote(invoice), await purse.mint(64)) for _ in range(10)]
    requests = [MeltRequest("bolt11", quote.quote, tuple(coins)) for quote, coins in jobs]
    done = await asyncio.gather(*(bank.mint.melt(request) for request in requests), return_exceptions=True)
    won = [one for one in done if isinstance(one, MeltQuote) and one.state is MeltState.PAID]
    assert len(won) == 1
    lost = [one for one in done if isinstance(one, BaseException)]
    assert all(isinstance(one, (refused.QuotePendingError, refused.InvoicePaidError)) for one in lost), lost
    spent = [await states(bank, coins) for _, coins in jobs]
    assert sorted(map(str, spent)) == ["{'SPENT'}"] + ["{'UNSPENT'}"] * 9
    await bank.mint.audit()
    return list(done)


async def test_ten_quotes_at_once_pay_a_foreign_invoice_once(tmp_path: object) -> None:
    """On a threaded store, at the same moment: one order at the rail, nine refusals, nine times the coins back."""
    async with house(storage=SqliteStorage(f"{tmp_path}/bank.sqlite")) as bank:
        orders = watch_orders(bank.rail)
        await _race(bank, await foreign_invoice(bank))
        assert len(orders) == 1
        await bank.storage.close()


async def test_ten_quotes_at_once_pay_an_own_invoice_once(tmp_path: object) -> None:
    """The same for an invoice of this mint: no order at all, and its quote is credited once."""
    async with house(storage=SqliteStorage(f"{tmp_path}/bank.sqlite")) as bank:
        orders = watch_orders(bank.rail)
        asked = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 10))
        await _race(bank, asked.request)
        assert orders == []
        assert (await bank.mint.mint_quote(asked.quote, "bolt11")).amount_paid == 10
        await bank.storage.close()


async def test_an_own_invoice_paid_from_outside_is_not_paid_again_inside(bank: House, purse: Purse) -> None:
    """The payer was faster over the network: the melt that would settle it inside is refused and costs nothing."""
    asked = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 10))
    quote = await purse.melt_quote(asked.request)
    coins = await purse.mint(16)
    await bank.pay(asked)
    with pytest.raises(refused.InvoicePaidError):
        await purse.melt(quote, coins)
    assert await states(bank, coins) == {"UNSPENT"}
    assert (await bank.mint.mint_quote(asked.quote, "bolt11")).amount_paid == 10
    await bank.mint.audit()
