"""Mints that share one PostgreSQL: no double spend between them, and what one does the other's subscribers hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from specie.ecash import MintQuoteRequest, MintRequest, SwapRequest, codes
from specie.kernel import UnavailableError
from specie.mint import Change
from specie.storage.adapters.postgres import PostgresStorage
from tests.support.house import House, Purse, house
from tests.support.methods import Teller, foreign_address

pytestmark = pytest.mark.postgres


@pytest.fixture
async def pair(postgres_dsn: str) -> AsyncIterator[tuple[House, House]]:
    """Two mints as two processes would be: each with its own connections, one seed, one database."""
    async with AsyncExitStack() as stack:
        banks: list[House] = []
        for number in range(2):
            store = await PostgresStorage.connect(postgres_dsn, writers=2)
            stack.push_async_callback(store.close)
            banks.append(
                await stack.enter_async_context(
                    house(storage=store, seed=f"process {number}", exclusive=False, methods=("bolt12", "onchain"))
                )
            )
        yield banks[0], banks[1]


async def test_one_coin_has_one_spender(pair: tuple[House, House]) -> None:
    """Swaps of one coin at both mints at once: one wins, and the very same request is answered alike by both."""
    first, second = pair
    purse = Purse(first)
    for _ in range(5):
        coins = await purse.mint(8)
        requests = [SwapRequest(tuple(coins), purse.outputs([8]).messages) for _ in range(6)]
        work = [bank.mint.swap(request) for request in requests for bank in pair]
        results = await asyncio.gather(*work, return_exceptions=True)
        won = [result for result in results if not isinstance(result, BaseException)]
        assert len(won) == 2
        assert won[0] == won[1]
        lost = [result for result in results if isinstance(result, BaseException)]
        assert all(isinstance(error, codes.ProofsSpentError) for error in lost), lost
    books = await second.mint.audit()
    assert books.outstanding(first.keyset().id, "sat") == 40


async def test_one_quote_is_issued_once(pair: tuple[House, House]) -> None:
    """A paid quote claimed at both mints at once, with different outputs, is issued once."""
    first, second = pair
    purse = Purse(first)
    quote = await first.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
    await first.pay(quote)
    work = [bank.mint.issue(MintRequest("bolt11", quote.quote, purse.outputs([8]).messages)) for bank in pair * 4]
    results = await asyncio.gather(*work, return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    await second.mint.audit()


async def test_news_cross_between_processes(pair: tuple[House, House]) -> None:
    """A deposit and a swap at one mint are told to those who listen at the other (NUT-17)."""
    first, second = pair
    heard: list[Change] = []

    async def listen() -> None:
        async for change in second.mint.changes():
            heard.append(change)

    listener = asyncio.create_task(listen())
    await asyncio.sleep(0)
    purse = Purse(first)
    quote = await first.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
    await first.pay(quote)
    outputs = purse.outputs([8])
    coins = outputs.proofs(await first.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages)))
    await purse.swap(coins, [8])
    wanted = {Change("mint_quote", quote.quote), Change("proof_state", coins[0].y.hex())}
    async with asyncio.timeout(20):
        while not wanted <= set(heard):
            await asyncio.sleep(0.02)
    listener.cancel()


async def test_a_rotation_is_followed(pair: tuple[House, House]) -> None:
    """What one mint rotates the other signs with."""
    first, second = pair
    keyset = await first.mint.rotate_keyset("sat")
    async with asyncio.timeout(20):
        while second.keyset().id != keyset.id:
            await asyncio.sleep(0.02)


async def test_batches_in_opposite_orders_never_wait_for_each_other(pair: tuple[House, House]) -> None:
    """Overlapping batches, single issues and partial issues at both mints at once: no deadlock, all is counted (NUT-29)."""
    teller = Teller(pair[0])
    for _ in range(4):
        quotes = [await teller.quote("bolt12") for _ in range(4)]
        for quote in quotes:
            await teller.deposit(quote, 4)
        work = []
        for bank in pair:
            work += [bank.mint.issue_batch(teller.batch(order, 16, (4,) * 4)) for order in (quotes, quotes[::-1])]
            work += [bank.mint.issue_batch(teller.batch([quotes[2], quotes[0]], 3, (2, 1)))]
        async with asyncio.timeout(60):
            results = await asyncio.gather(*work, return_exceptions=True)
        won = [one for one in results if not isinstance(one, BaseException)]
        lost = [one for one in results if isinstance(one, BaseException)]
        assert all(isinstance(one, codes.QuoteIssuedError | codes.UnbalancedError | UnavailableError) for one in lost), lost
        seen = await pair[1].mint.check_mint_quotes([one.quote for one in quotes], "bolt12")
        assert sum(one.amount for signatures in won for one in signatures) == sum(one.amount_issued for one in seen)
        assert all(one.amount_issued <= one.amount_paid == 4 for one in seen)
    await pair[1].mint.audit()


async def test_parts_of_one_quote_at_both_mints_never_exceed_it(pair: tuple[House, House]) -> None:
    """Deposits told to both mints at once count once, and what both issue of them is at most what arrived."""
    tellers = [Teller(bank, f"teller {number}") for number, bank in enumerate(pair)]
    quote = await tellers[0].quote("bolt12")
    await asyncio.gather(*(teller.deposit(quote, 10) for teller in tellers for _ in range(2)))
    results = await asyncio.gather(*(teller.issue(quote, 7) for teller in tellers for _ in range(6)), return_exceptions=True)
    won = sum(not isinstance(one, BaseException) for one in results)
    now = await pair[1].mint.mint_quote(quote.quote, "bolt12")
    assert (now.amount_paid, now.amount_issued) == (40, 7 * won)
    assert won <= 5
    await pair[0].mint.audit()


async def test_a_withdrawal_crosses_between_processes(pair: tuple[House, House]) -> None:
    """A deposit, its reorganisation and an outpoint at one mint are told at the other, and booked once (NUT-17, NUT-30)."""
    first, second = pair
    heard: list[Change] = []

    async def listen() -> None:
        async for change in second.mint.changes():
            heard.append(change)

    listener = asyncio.create_task(listen())
    await asyncio.sleep(0)
    teller = Teller(first)
    quote = await teller.quote("onchain")
    await teller.deposit(quote, 5000)

    async def until(paid: int) -> None:
        async with asyncio.timeout(30):
            while (await second.mint.mint_quote(quote.quote, "onchain")).amount_paid != paid:
                await asyncio.sleep(0.02)

    await until(5000)
    await first.onchain.reorganise(3)
    await until(0)
    await second.onchain.mine(3)
    await until(5000)
    price = await teller.price("onchain", foreign_address(), amount=2000)
    await teller.pay(price, await teller.mint(8192), fee_index=0)
    async with asyncio.timeout(30):
        while heard.count(Change("melt_quote", price.quote)) < 2 or heard.count(Change("mint_quote", quote.quote)) < 3:
            await asyncio.sleep(0.02)
    listener.cancel()
    books = await second.mint.audit()
    assert -books.of("liability:deposit/onchain", "sat") == 5000
