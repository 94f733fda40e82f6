"""What wallets ask is answered while a writer holds everything it can hold: reads never wait for writers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from specie.ecash import MintQuoteRequest
from specie.storage import Transaction
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import MIGRATIONS, House, Purse, house


async def ask_everything(bank: House, purse: Purse) -> None:
    """Every question that changes nothing."""
    await bank.mint.check_state([b"\2" + bytes(32)])
    await bank.mint.restore(purse.outputs([1]).messages)
    await bank.mint.books()
    await bank.mint.recent_mint_quotes()
    await bank.mint.recent_melt_quotes()
    await bank.mint.pending_melts()
    assert bank.mint.pruning is not None
    await bank.mint.pruning.step(grace_s=86_400, act=False)


async def test_sqlite_readers_do_not_wait_for_the_writer(tmp_path: Path) -> None:
    """A transaction that has written and counts to thirty million holds nobody up who only reads."""
    store = SqliteStorage(tmp_path / "bank.sqlite")
    await store.migrate(MIGRATIONS)
    async with house(storage=store, exclusive=False) as bank:
        purse = Purse(bank)
        await purse.mint(8)

        async def writes(tx: Transaction) -> None:
            await tx.execute("UPDATE mint_output SET at = at + 1")
            await tx.fetch(
                "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 30000000) SELECT max(n) FROM c"
            )

        writing = asyncio.create_task(store.transact(writes))
        await asyncio.sleep(0.1)
        await ask_everything(bank, purse)
        assert not writing.done()
        await writing
    await store.close()


@pytest.mark.postgres
async def test_postgres_readers_do_not_wait_for_a_writer(postgres_dsn: str) -> None:
    """Every row of every hot table is changed by somebody who does not commit: reads show what was before."""
    store = await PostgresStorage.connect(postgres_dsn)
    await store.migrate(MIGRATIONS)
    async with house(storage=store, exclusive=False) as bank:
        purse = Purse(bank)
        coins = await purse.swap(await purse.mint(8), [8])
        quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
        writer = await asyncpg.connect(postgres_dsn)
        try:
            await writer.execute("BEGIN")
            for table in ("mint_proof", "mint_output", "mint_quote", "ledger_entry"):
                await writer.execute(f"UPDATE {table} SET at = at + 1" if table != "mint_quote" else "DELETE FROM mint_quote")
            await writer.execute("UPDATE ledger_balance SET amount = '0'")
            async with asyncio.timeout(10):
                await ask_everything(bank, purse)
                assert (await bank.mint.books()).outstanding(bank.keyset().id, "sat") == 8
                assert (await bank.mint.recent_mint_quotes(1))[0].quote == quote.quote
                assert (await bank.mint.check_state([coins[0].y]))[0].state.value == "UNSPENT"
            await writer.execute("ROLLBACK")
        finally:
            await writer.close()
    await store.close()
