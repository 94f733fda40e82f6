"""The mint on a spent set in eight parts, divided by the hash of Y: what holds on one table holds on all of them.

The tests of two mints on one store are run again here, on a database that `scripts/partition-postgres.sql` has divided.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from specie.ecash import MeltState, SwapRequest, codes
from specie.ecash.liabilities import Side
from specie.storage.adapters.postgres import PostgresStorage
from tests.contract.test_mint_processes import (
    pair,
    test_batches_in_opposite_orders_never_wait_for_each_other,
    test_one_coin_has_one_spender,
    test_one_quote_is_issued_once,
    test_parts_of_one_quote_at_both_mints_never_exceed_it,
)
from tests.support.house import MIGRATIONS, House, Purse, house
from tests.support.orders import foreign_invoice
from tests.support.postgres import PrivatePostgres

__all__ = [
    "pair",
    "test_batches_in_opposite_orders_never_wait_for_each_other",
    "test_one_coin_has_one_spender",
    "test_one_quote_is_issued_once",
    "test_parts_of_one_quote_at_both_mints_never_exceed_it",
]

pytestmark = pytest.mark.postgres

SCRIPT = Path(__file__).parents[2] / "scripts" / "partition-postgres.sql"
PARTS = 8


def divide(server: PrivatePostgres, dsn: str) -> subprocess.CompletedProcess[str]:
    """Run the script as an operator does."""
    command = [server.binaries / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-f", SCRIPT]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(name="postgres_dsn")
async def divided_dsn(postgres_dsn: str, postgres_server: PrivatePostgres) -> str:
    """The same, divided; under the name that the tests of two mints ask for."""
    store = await PostgresStorage.connect(postgres_dsn)
    await store.migrate(MIGRATIONS)
    await store.close()
    done = divide(postgres_server, postgres_dsn)
    assert done.returncode == 0, done.stderr
    return postgres_dsn


async def test_rows_are_spread_and_every_claim_is_unique(
    pair: tuple[House, House],
    postgres_server: PrivatePostgres,
    postgres_dsn: str,
) -> None:
    """Coins lie in every part, a key is refused in whichever part it lies, and the books add up over all parts."""
    first, second = pair
    purse = Purse(first)
    coins = await purse.mint(255)
    for _ in range(6):
        coins = await purse.swap(coins, [coin.amount for coin in coins])
    database = postgres_dsn.rpartition("/")[2]
    for table in ("mint_proof", "mint_output"):
        counted = [postgres_server.sql(f"SELECT count(*) FROM {table}_{part}", database) for part in range(PARTS)]
        assert all(int(count) > 0 for count in counted), (table, counted)
    spent = await purse.mint(8)
    outputs = purse.outputs([8])
    await first.mint.swap(SwapRequest(tuple(spent), outputs.messages))
    with pytest.raises(codes.ProofsSpentError):
        await second.mint.swap(SwapRequest(tuple(spent), purse.outputs([8]).messages))
    with pytest.raises(codes.OutputsSignedError):
        await second.mint.swap(SwapRequest(tuple(coin for coin in coins if coin.amount == 8), outputs.messages))
    assert len(await second.mint.restore(outputs.messages)) == 1
    await second.mint.audit()


async def test_a_payment_with_change_settles_over_several_parts(pair: tuple[House, House]) -> None:
    """Inputs locked, blank outputs promised and signed, change read back: all over parts, and at both mints."""
    first, second = pair
    purse = Purse(first)
    for number in range(3):
        coins = await purse.mint(255)
        quote = await purse.melt_quote(await foreign_invoice(first, 21_000, f"node {number}"))
        paid = await purse.melt(quote, coins, blanks=8)
        assert paid.state is MeltState.PAID
        assert paid.change
        seen = await second.mint.melt_quote(quote.quote, "bolt11")
        assert seen.change == paid.change
        for bank in pair:
            with pytest.raises(codes.ProofsSpentError):
                await bank.mint.swap(SwapRequest(tuple(coins), purse.outputs([coin.amount for coin in coins]).messages))
    await first.mint.audit()


async def test_expired_keysets_are_pruned_in_every_part(pair: tuple[House, House]) -> None:
    """Pruning walks all parts in the order of their keys, at both mints at once, and the audit still holds."""
    first, second = pair
    old = await first.mint.rotate_keyset("sat", final_expiry=first.clock.now() + 86_400)
    async with asyncio.timeout(20):
        while second.keyset().id != old.id:
            await asyncio.sleep(0.02)
    purse = Purse(first)
    coins = await purse.mint(255)
    for _ in range(3):
        coins = await purse.swap(coins, [coin.amount for coin in coins])
    await first.mint.rotate_keyset("sat")
    for bank in pair:
        bank.clock.skip(3 * 86_400)
    steps = [bank.mint.pruning.step(grace_s=86_400, act=True) for bank in pair if bank.mint.pruning]
    found = await asyncio.gather(*steps)
    gone = {side: sum(step.found[side, old.id].count for step in found if (side, old.id) in step.found) for side in Side}
    assert gone == {Side.SPENT: 24, Side.ISSUED: 32}
    await second.mint.audit()


async def test_rows_that_are_there_move_along(postgres_dsn: str, postgres_server: PrivatePostgres) -> None:
    """A bank with history is divided between two runs: coins, change and books are what they were; twice is refused."""
    store = await PostgresStorage.connect(postgres_dsn)
    async with house(storage=store, exclusive=False) as bank:
        coins = await Purse(bank).mint(64)
        coins = await Purse(bank, "next").swap(coins, [32, 32])
    await store.close()
    # The fixture divided it before there was any row; put together again, it is as its migrations leave it.
    database = postgres_dsn.rpartition("/")[2]
    for table, key in (("mint_proof", "y"), ("mint_output", "b_")):
        postgres_server.sql(f"CREATE TABLE one AS SELECT * FROM {table}; DROP TABLE {table}", database)
        postgres_server.sql(f"ALTER TABLE one RENAME TO {table}; ALTER TABLE {table} ADD PRIMARY KEY ({key})", database)
    done = divide(postgres_server, postgres_dsn)
    assert done.returncode == 0, done.stderr
    again = divide(postgres_server, postgres_dsn)
    assert again.returncode != 0
    assert "divided already" in again.stderr
    store = await PostgresStorage.connect(postgres_dsn)
    async with house(storage=store, exclusive=False, seed=1) as bank:
        await bank.mint.audit()
        assert len(await Purse(bank, "last").swap(coins, [64])) == 1
    await store.close()
