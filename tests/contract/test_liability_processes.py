"""Mints that share one PostgreSQL close epochs at once: one chain, one set of leaves, whoever decides and whoever signs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from specie.ecash import SwapRequest
from specie.ecash.liabilities import Side, verify_inclusion
from specie.kernel import UnavailableError
from specie.mint import Liabilities, MintSettings
from specie.storage.adapters.postgres import PostgresStorage
from tests.support.house import House, Purse, house

pytestmark = pytest.mark.postgres

ON = MintSettings(liabilities=True, liabilities_every_s=10_000_000, quote_lookup=True)


@pytest.fixture
async def pair(postgres_dsn: str) -> AsyncIterator[tuple[House, House]]:
    """Two mints as two processes would be: each with its own connections, one seed, one database."""
    async with AsyncExitStack() as stack:
        banks: list[House] = []
        for number in range(2):
            store = await PostgresStorage.connect(postgres_dsn, writers=2)
            stack.push_async_callback(store.close)
            banks.append(
                await stack.enter_async_context(house(storage=store, seed=f"process {number}", exclusive=False, settings=ON))
            )
        yield banks[0], banks[1]


def log(bank: House) -> Liabilities:
    """The mint's liabilities."""
    assert bank.mint.liabilities is not None
    return bank.mint.liabilities


async def closed(bank: House) -> int:
    """Close an epoch, trying again where the store says so; its number."""
    for _ in range(20):
        try:
            return (await log(bank).close_epoch()).number
        except UnavailableError:
            await asyncio.sleep(0.05)
    raise AssertionError("it never closed")


async def test_closing_beside_swaps(pair: tuple[House, House]) -> None:
    """Coins are minted and swapped while both processes close; the logs are the books', proofs verify at either."""
    first, second = pair
    purse = Purse(first)
    for _ in range(4):
        coins = await purse.mint(8)
        request = SwapRequest(tuple(coins), purse.outputs([4, 4]).messages)
        await asyncio.gather(first.mint.swap(request), *(closed(bank) for bank in pair * 2))
    number = await closed(second)
    assert await log(first).audit() == number == await log(second).audit()
    assert await log(first).epochs(1) == await log(second).epochs(1)
    keyset = first.keyset().id
    books = await second.mint.audit()
    epoch, said = await log(first).manifest(keyset)
    assert epoch.number == number
    assert (said.issued.sum, said.spent.sum) == (books.issued(keyset, "sat"), books.redeemed(keyset, "sat"))
    for side in Side:
        items = [item for item, _ in await log(second).leaves(keyset, side, 0)]
        for proof in await log(second).prove_inclusion(keyset, side, items):
            verify_inclusion(proof, said.log(side).size, said.log(side).node)
