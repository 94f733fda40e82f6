"""The ledger's tables: running balances equal the journal whatever is undone, and whoever writes beside."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.kernel import InvariantError
from specie.ledger import Books, Ledger, Posting
from specie.ledger.adapters.store_sql import MIGRATIONS, SqlLedgerStore
from specie.storage import Storage, Transaction
from specie.storage.adapters.sqlite import SqliteStorage

MAX_U64 = 2**64 - 1


async def opened() -> Storage:
    store = SqliteStorage(":memory:", inline=True)
    await store.migrate(MIGRATIONS)
    return store


async def post(storage: Storage, ledger: Ledger, amount: int, *, undo: bool = False) -> None:
    """One entry that moves `amount` into circulation; `undo` fails the transaction after it."""

    async def body(tx: Transaction) -> None:
        lines = [Posting("asset:rail/play", "sat", amount), Posting("liability:keyset/a/issued", "sat", -amount)]
        await ledger.post(tx, at=1, kind="mint", reference="r", postings=lines)
        if undo:
            raise InterruptedError

    if undo:
        with pytest.raises(InterruptedError):
            await storage.transact(body)
    else:
        await storage.transact(body)


async def issued(storage: Storage, ledger: Ledger) -> int:
    books: Books = await storage.read(ledger.audit)
    return books.issued("a", "sat")


@given(st.lists(st.tuples(st.integers(1, MAX_U64), st.booleans(), st.integers(0, 1)), max_size=12))
@settings(max_examples=40, deadline=None)
async def test_balances_follow_the_journal_through_rollbacks(steps: list[tuple[int, bool, int]]) -> None:
    """Two ledgers of one shard, some entries undone: what each remembers of balances never gets into the books."""
    storage = await opened()
    ledgers = Ledger(SqlLedgerStore("s")), Ledger(SqlLedgerStore("s"))
    for amount, undo, which in steps:
        await post(storage, ledgers[which], amount, undo=undo)
    assert await issued(storage, ledgers[0]) == sum(amount for amount, undo, _ in steps if not undo)
    await storage.close()


async def test_shards_are_summed() -> None:
    """Processes keep rows of their own; the books know one balance, exact beyond 64 bits."""
    storage = await opened()
    for shard in ("a", "b", "c"):
        await post(storage, Ledger(SqlLedgerStore(shard)), MAX_U64)
    assert await issued(storage, Ledger(SqlLedgerStore("d"))) == 3 * MAX_U64
    await storage.close()


async def test_each_lane_has_rows_of_its_own() -> None:
    """Writers of one process add to different rows, or each commit would wait for the one before it."""
    storage = await opened()
    store = SqlLedgerStore("s")

    async def body(tx: Transaction) -> list[str]:
        for lane in (0, 3, 3):
            await store.write(_Lane(tx, lane), {("asset:rail/play", "sat"): 5})
        rows = await tx.fetch("SELECT shard, amount FROM ledger_balance ORDER BY shard")
        return [f"{shard}={amount}" for shard, amount in rows]

    assert await storage.transact(body) == ["s=5", "s/3=10"]
    await storage.close()


class _Lane:
    """A transaction that says it runs on another lane."""

    def __init__(self, tx: Transaction, lane: int) -> None:
        self.lane = lane
        self.execute, self.execute_many = tx.execute, tx.execute_many
        self.insert, self.tally = tx.insert, tx.tally
        self.fetch, self.fetch_one, self.fetch_in, self.notify = tx.fetch, tx.fetch_one, tx.fetch_in, tx.notify


async def test_an_audit_finds_a_changed_balance() -> None:
    """A running balance that somebody touched is not believed."""
    storage = await opened()
    ledger = Ledger(SqlLedgerStore())
    await post(storage, ledger, 7)
    await storage.transact(lambda tx: tx.execute("UPDATE ledger_balance SET amount = '8' WHERE amount = '7'"))
    with pytest.raises(InvariantError):
        await storage.read(ledger.audit)
    await post(storage, ledger, 7)  # what was remembered is no longer there; the entry is booked on what is
    assert (await storage.read(ledger.books)).of("asset:rail/play", "sat") == 15
    await storage.close()
