"""The mistake: one arrival is credited each time it is told.

A payment is told by the stream, by a poll, again after a reconnect and again after a restart, to every process. It is booked
by its receipt, once; and a quote is issued once even where an invoice was really paid twice.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from specie.ecash import MintQuote, MintQuoteRequest, MintRequest, MintState
from specie.ecash import codes as refused
from specie.kernel import IncomingPayment, UnavailableError
from specie.lightning import decode_invoice
from specie.mint.engine import deposit as verbs
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, Purse, house
from tests.support.virtual import run_virtual


async def arrival(bank: House, quote: MintQuote) -> IncomingPayment:
    return await bank.rail.settle(decode_invoice(quote.request).payment_hash.hex())


async def tell(bank: House, payment: IncomingPayment, *, cursor: bool) -> None:
    """Book an arrival as the stream or a poll does; contention is tried again, as there."""
    for _ in range(50):
        with contextlib.suppress(UnavailableError):
            return await verbs.credit(bank.mint._context, "play", payment, cursor=cursor)
    raise AssertionError("never booked")


async def test_told_a_hundred_times_at_once_it_is_booked_once(tmp_path: object) -> None:
    """Stream and polls at the same moment on a threaded store: one deposit, one entry in the books."""
    async with house(storage=SqliteStorage(f"{tmp_path}/bank.sqlite")) as bank:
        quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
        payment = await arrival(bank, quote)
        looks = [bank.mint.mint_quote(quote.quote, "bolt11") for _ in range(10)]
        told = [tell(bank, payment, cursor=bool(number % 2)) for number in range(40)]
        await asyncio.gather(*told, *looks, return_exceptions=True)
        seen = await bank.mint.mint_quote(quote.quote, "bolt11")
        assert (seen.amount_paid, seen.state) == (8, MintState.PAID)
        books = await bank.mint.audit()
        assert books.of("asset:rail/play", "sat") == 8
        await bank.storage.close()


def test_a_restart_and_a_second_process_book_nothing_again() -> None:
    """The rail tells everything again from the start to every new process: the books do not move."""

    async def main() -> None:
        store = SqliteStorage(":memory:", inline=True)
        async with house(storage=store, exclusive=False) as bank:
            quotes = [await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8)) for _ in range(3)]
            for quote in quotes:
                await arrival(bank, quote)
            await asyncio.sleep(5)
            async with house(storage=store, clock=bank.clock, seed=1, exclusive=False) as other:
                await store.transact(lambda tx: bank.mint._context.store.set_cursor(tx, "play", "0"))
                await asyncio.sleep(5)
                clock = bank.clock
                assert (await other.mint.audit()).of("asset:rail/play", "sat") == 24
        await store.transact(lambda tx: bank.mint._context.store.set_cursor(tx, "play", "0"))
        async with house(storage=store, clock=clock, seed=2) as again:
            await asyncio.sleep(5)
            assert (await again.mint.audit()).of("asset:rail/play", "sat") == 24
            assert {(await again.mint.mint_quote(quote.quote, "bolt11")).amount_paid for quote in quotes} == {8}
        await store.close()

    run_virtual(main())


async def test_an_invoice_really_paid_twice_is_owed_and_issued_once(bank: House, purse: Purse) -> None:
    """Two receipts for one invoice: both are in the books, so nothing is hidden, but the quote gives its amount once."""
    quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
    payment = await arrival(bank, quote)
    second = IncomingPayment(payment.payment_id, "another receipt", 8000, payment.cursor)
    for one in (payment, second, payment, second):
        await tell(bank, one, cursor=True)
    assert (await bank.mint.mint_quote(quote.quote, "bolt11")).amount_paid == 16
    with pytest.raises(refused.UnbalancedError):
        await bank.mint.issue(MintRequest("bolt11", quote.quote, purse.outputs([16]).messages))
    assert await bank.mint.issue(MintRequest("bolt11", quote.quote, purse.outputs([8]).messages))
    with pytest.raises(refused.QuoteIssuedError):
        await bank.mint.issue(MintRequest("bolt11", quote.quote, purse.outputs([8]).messages))
    books = await bank.mint.audit()
    assert books.of("asset:rail/play", "sat") == 16
    assert books.of("liability:deposit/bolt11", "sat") == -8


async def test_settled_inside_it_is_not_booked_as_an_arrival_too(bank: House, purse: Purse) -> None:
    """An invoice settled inside the mint is no arrival: no asset appears, and a stray payment of it is booked beside it."""
    asked = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
    await purse.melt(await purse.melt_quote(asked.request), await purse.mint(8))
    before = (await bank.mint.audit()).of("asset:rail/play", "sat")
    await bank.mint.mint_quote(asked.quote, "bolt11")
    assert (await bank.mint.audit()).of("asset:rail/play", "sat") == before == 8
