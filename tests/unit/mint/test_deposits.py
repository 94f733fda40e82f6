"""Mint quotes that are paid any number of times (NUT-25, NUT-30): what counts, what is issued of it, what is taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from specie.ecash import MintQuote, MintQuoteRequest
from specie.ecash import codes as refused
from specie.ecash.quote import MintState
from specie.kernel import IncomingPayment, MalformedError, RefusedError, UnavailableError
from specie.ledger import Books
from specie.mint import MintSettings
from specie.mint.engine import deposit as booking
from specie.storage import Transaction
from tests.support.house import House, house
from tests.support.methods import PUBKEY, Teller
from tests.support.play import virtual

METHODS = ("bolt12", "onchain", "barter")


@asynccontextmanager
async def banking(**plugs: Any) -> AsyncIterator[tuple[House, Teller]]:
    """A bank with every method, and a teller at it."""
    async with house(methods=METHODS, **plugs) as bank:
        yield bank, Teller(bank)


async def seen(bank: House, quote: MintQuote) -> tuple[int, int]:
    """What a quote says was paid and issued."""
    now = await bank.mint.mint_quote(quote.quote, quote.method)
    return now.amount_paid, now.amount_issued


def sums(books: Books, method: str) -> tuple[int, int, int, int]:
    """What the rail holds, what is owed to quotes, what counts for none, and what was lost."""
    rail = f"asset:rail/play-{method}"
    return (
        books.of(rail, "sat"),
        -books.of(f"liability:deposit/{method}", "sat"),
        -books.of("liability:deposit/uncounted", "sat"),
        books.of("expense:withdrawn_deposits", "sat"),
    )


@virtual
async def test_amount_pubkey_and_description_by_the_terms() -> None:
    """An address names no amount, an offer may, an invoice must; offers and addresses are locked (20009)."""
    async with banking() as (bank, teller):
        ask = bank.mint.request_mint_quote
        for method in ("bolt12", "onchain"):
            with pytest.raises(refused.QuotePubkeyRequiredError):
                await ask(MintQuoteRequest(method, "sat"))
        with pytest.raises(MalformedError, match="payer chooses"):
            await ask(MintQuoteRequest("onchain", "sat", 1000, pubkey=PUBKEY))
        with pytest.raises(MalformedError, match="needs an amount"):
            await ask(MintQuoteRequest("bolt11", "sat"))
        with pytest.raises(RefusedError, match="no place for a description"):
            await ask(MintQuoteRequest("onchain", "sat", description="rent", pubkey=PUBKEY))
        with pytest.raises(refused.AmountOutOfRangeError):
            await ask(MintQuoteRequest("bolt12", "sat", MintSettings().mint_max + 1, pubkey=PUBKEY))
        for method, amount in (("bolt12", None), ("bolt12", 9), ("barter", None), ("barter", 9), ("onchain", None)):
            quote = await teller.quote(method, amount, locked=method != "barter")
            again = await bank.mint.mint_quote(quote.quote, method)
            assert (again.amount, again.state, again.pubkey is not None) == (amount, MintState.UNPAID, method != "barter")


@virtual
async def test_an_offer_is_paid_and_issued_in_parts() -> None:
    """Two payments of one offer count both; any total up to what arrived is issued, and no more."""
    async with banking() as (bank, teller):
        quote = await teller.quote("bolt12")
        with pytest.raises(refused.QuoteUnpaidError):
            await teller.issue(quote, 1)
        await teller.deposit(quote, 10)
        await teller.issue(quote, 3)
        assert await seen(bank, quote) == (10, 3)
        with pytest.raises(refused.UnbalancedError):
            await teller.issue(quote, 8)
        await teller.deposit(quote, 5)
        await teller.issue(quote, 12)
        assert await seen(bank, quote) == (15, 15)
        with pytest.raises(refused.QuoteIssuedError):
            await teller.issue(quote, 1)
        assert sums(await bank.mint.audit(), "bolt12") == (15, 0, 0, 0)


@virtual
async def test_an_unpaid_offer_expires_and_a_late_payment_counts() -> None:
    """On Lightning what arrives after the expiry counts (NUT-04)."""
    async with banking(settings=MintSettings(quote_expiry_s=60)) as (bank, teller):
        quote = await teller.quote("bolt12")
        bank.clock.skip(61)
        with pytest.raises(refused.QuoteExpiredError):
            await teller.issue(quote, 1)
        await teller.deposit(quote, 10)
        assert await seen(bank, quote) == (10, 0)
        await teller.issue(quote, 10)


@virtual
async def test_parts_asked_for_at_once_never_exceed_what_arrived() -> None:
    """Concurrent issues of one quote: the sum of those that succeed is what was paid at most (compare and swap)."""
    async with banking() as (bank, teller):
        quote = await teller.quote("bolt12")
        await teller.deposit(quote, 10)
        results = await asyncio.gather(*(teller.issue(quote, 3) for _ in range(8)), return_exceptions=True)
        won = [one for one in results if not isinstance(one, BaseException)]
        assert 1 <= len(won) <= 3
        assert await seen(bank, quote) == (10, 3 * len(won))
        await bank.mint.audit()


@virtual
async def test_a_deposit_counts_at_its_depth() -> None:
    """Not at sight, not one block early; then once."""
    async with banking() as (bank, teller):
        quote = await teller.quote("onchain")
        await teller.deposit(quote, 5000, confirm=False)
        for blocks in (0, 2):
            if blocks:
                await bank.onchain.mine(blocks)
            assert await seen(bank, quote) == (0, 0)
        await bank.onchain.mine()
        assert await seen(bank, quote) == (5000, 0)
        await bank.onchain.mine(5)
        assert await seen(bank, quote) == (5000, 0)
        await teller.issue(quote, 5000)
        assert sums(await bank.mint.audit(), "onchain") == (5000, 0, 0, 0)


@virtual
async def test_small_outputs_are_not_added_up() -> None:
    """Each output alone must reach the least (NUT-30); what does not is booked apart, and the books balance."""
    async with banking(settings=MintSettings(mint_min=1000)) as (bank, teller):
        info = bank.mint.info()
        assert {one.method: one.min_amount for one in info.methods(4)}["onchain"] == 1000
        quote = await teller.quote("onchain")
        for amount in (999, 999, 600):
            await teller.deposit(quote, amount)
        assert await seen(bank, quote) == (0, 0)
        await teller.deposit(quote, 1000)
        assert await seen(bank, quote) == (1000, 0)
        assert sums(await bank.mint.audit(), "onchain") == (3598, 1000, 2598, 0)
        await bank.onchain.reorganise(12)
        await asyncio.sleep(10)
        assert await seen(bank, quote) == (0, 0)
        assert sums(await bank.mint.audit(), "onchain") == (0, 0, 0, 0)


@virtual
async def test_first_seen_after_expiry_never_counts() -> None:
    """Seen before the expiry it is followed until it is confirmed; seen after it counts for nothing (NUT-30)."""
    async with banking(settings=MintSettings(quote_expiry_s=60)) as (bank, teller):
        quote = await teller.quote("onchain")
        await teller.deposit(quote, 5000, confirm=False)
        bank.clock.skip(61)
        await teller.deposit(quote, 7000, confirm=False)
        bank.clock.skip(86_400)
        await bank.onchain.mine(3)
        assert await seen(bank, quote) == (5000, 0)
        assert sums(await bank.mint.audit(), "onchain") == (12_000, 5000, 7000, 0)


@virtual
async def test_a_reorganisation_takes_credit_back_and_gives_it_again() -> None:
    """What was not issued goes with its block, and comes back with another, once."""
    async with banking() as (bank, teller):
        quote = await teller.quote("onchain")
        await teller.deposit(quote, 5000)
        assert await seen(bank, quote) == (5000, 0)
        assert await bank.onchain.reorganise(3) == 1
        await asyncio.sleep(10)
        assert await seen(bank, quote) == (0, 0)
        assert sums(await bank.mint.audit(), "onchain") == (0, 0, 0, 0)
        with pytest.raises(refused.QuoteUnpaidError):
            await teller.issue(quote, 1)
        await bank.onchain.mine(3)
        assert await seen(bank, quote) == (5000, 0)
        await teller.issue(quote, 5000)
        assert sums(await bank.mint.audit(), "onchain") == (5000, 0, 0, 0)
        assert not bank.telemetry.pages


@virtual
async def test_issued_credit_that_is_gone_is_the_mints_loss() -> None:
    """Booked, told to a human, never negative; and the same money confirmed again makes up for it instead of counting twice."""
    async with banking() as (bank, teller):
        quote = await teller.quote("onchain")
        await teller.deposit(quote, 5000)
        await teller.issue(quote, 3000)
        await bank.onchain.reorganise(3)
        await asyncio.sleep(10)
        assert await seen(bank, quote) == (3000, 3000)
        assert sums(await bank.mint.audit(), "onchain") == (0, 0, 0, 3000)
        assert [page[0] for page in bank.telemetry.pages] == ["a deposit was withdrawn after ecash was issued for it"]
        assert bank.telemetry.pages[0][1]["amount"] == 3000
        await bank.onchain.mine(3)
        assert await seen(bank, quote) == (5000, 3000)
        assert sums(await bank.mint.audit(), "onchain") == (5000, 2000, 0, 0)
        await teller.issue(quote, 2000)
        with pytest.raises(refused.QuoteIssuedError):
            await teller.issue(quote, 1)


@virtual
async def test_a_deposit_spent_elsewhere_stays_lost() -> None:
    """Reorganised away and then double-spent: the loss stays until something else is paid to the quote."""
    async with banking() as (bank, teller):
        quote = await teller.quote("onchain")
        txid = await teller.deposit(quote, 5000)
        await teller.issue(quote, 5000)
        await bank.onchain.reorganise(3, drop=txid)
        await bank.onchain.mine(5)
        await asyncio.sleep(10)
        assert await seen(bank, quote) == (5000, 5000)
        assert sums(await bank.mint.audit(), "onchain") == (0, 0, 0, 5000)
        await teller.deposit(quote, 6000)
        assert await seen(bank, quote) == (6000, 5000)
        assert sums(await bank.mint.audit(), "onchain") == (6000, 1000, 0, 0)


@virtual
async def test_a_replaced_transaction_counts_once() -> None:
    """Replaced before it was confirmed: the replacement counts, the first never."""
    async with banking() as (bank, teller):
        quote = await teller.quote("onchain")
        first = await teller.deposit(quote, 5000, confirm=False)
        second = await bank.onchain.replace(first)
        assert second not in (None, first)
        await bank.onchain.mine(3)
        assert await seen(bank, quote) == (5000, 0)
        third = await teller.deposit(quote, 5000, confirm=False)
        assert await bank.onchain.replace(third, paid=False) is None
        await bank.onchain.mine(3)
        assert await seen(bank, quote) == (5000, 0)


def _news(quote_payment: str, receipt: str, amount: int, *, withdrawn: bool = False) -> IncomingPayment:
    return IncomingPayment(quote_payment, receipt, amount * 1000, "7", first_seen=1, withdrawn=withdrawn)


@virtual
async def test_news_in_any_order_and_any_number() -> None:
    """Each arrival and withdrawal takes effect once; an arrival that is told after its withdrawal counts no more."""
    async with banking() as (bank, teller):
        quote = await teller.quote("onchain")
        record = (await bank.mint.recent_mint_quotes(1))[0]
        context = bank.mint._context

        async def tell(receipt: str, amount: int, *, withdrawn: bool = False) -> None:
            news = _news(record.payment_id, receipt, amount, withdrawn=withdrawn)
            await booking.credit(context, "play-onchain", news, cursor=False)

        for _ in range(2):
            await tell("late", 900, withdrawn=True)
            await tell("late", 900)
            await tell("kept", 1000)
            await tell("gone", 2000)
            await tell("gone", 2000, withdrawn=True)
        record = (await bank.mint.recent_mint_quotes(1))[0]
        assert (record.amount_paid, record.amount_issued, record.lost) == (1000, 0, 0)
        assert sums(await bank.mint.audit(), "onchain") == (1000, 1000, 0, 0)
        assert quote.quote == record.quote


@virtual
async def test_an_arrival_without_a_quote_can_be_withdrawn_too() -> None:
    """Booked for none, taken back for none: the books are empty again."""
    async with banking() as (bank, _):
        for withdrawn in (False, True, True, False):
            news = _news("nobody's", "r", 700, withdrawn=withdrawn)
            await booking.credit(bank.mint._context, "play-onchain", news, cursor=True)
        books = await bank.mint.audit()
        assert not any(books.balances.values())


@virtual
async def test_a_quote_survives_a_restart_with_all_it_is() -> None:
    """Reusable, without amount, partly issued, partly lost: as it was."""
    async with banking() as (bank, teller):
        quote = await teller.quote("onchain")
        await teller.deposit(quote, 5000)
        await teller.issue(quote, 4000)
        await bank.onchain.reorganise(3)
        await asyncio.sleep(10)
        before = await bank.mint.recent_mint_quotes(1)
        assert before[0].lost == 4000
        async with house(storage=bank.storage, clock=bank.clock, seed="again", methods=METHODS) as again:
            assert await again.mint.recent_mint_quotes(1) == before
            await again.onchain.mine(3)
            assert await seen(again, quote) == (5000, 4000)
            await Teller(again, "later").issue(quote, 1000)
            await again.mint.audit()


@virtual
async def test_a_quote_that_moves_is_looked_at_again() -> None:
    """A body that lost to another change is run again; one that always loses says that nothing happened."""
    async with house() as bank:
        context, runs = bank.mint._context, 0

        async def moving(tx: Transaction) -> int:
            nonlocal runs
            runs += 1
            if runs < 3:
                raise booking.QuoteMovedError
            return runs

        async def never(tx: Transaction) -> None:
            raise booking.QuoteMovedError

        assert await booking.transact_moving(context, moving) == 3
        with pytest.raises(UnavailableError, match="same moment"):
            await booking.transact_moving(context, never)
