"""Mints that share one PostgreSQL: no double spend between them, and what one does the other's subscribers hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from specie.ecash import MintQuoteRequest, MintRequest, SwapRequest, codes
from specie.mint import Change
from specie.storage.adapters.postgres import PostgresStorage
from tests.support.house import House, Purse, house

pytestmark = pytest.mark.postgres


@pytest.fixture
async def pair(postgres_dsn: str) -> AsyncIterator[tuple[House, House]]:
    """Two mints as two processes would be: each with its own connections, one seed, one database."""
    async with AsyncExitStack() as stack:
        banks: list[House] = []
        for number in range(2):
            store = await PostgresStorage.connect(postgres_dsn, writers=2)
            stack.push_async_callback(store.close)
            banks.append(await stack.enter_async_context(house(storage=store, seed=f"process {number}", exclusive=False)))
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
