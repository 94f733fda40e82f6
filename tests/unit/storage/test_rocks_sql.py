"""Statements on RocksDB: what is spoken and what is refused by name, values as SQLite takes them, and how much is read."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from specie.kernel.errors import InvariantError
from specie.ledger.adapters.store_sql import MIGRATIONS as LEDGER_MIGRATIONS
from specie.lightning.adapters import play_store
from specie.lightning.adapters.play import MIGRATIONS as PLAY_MIGRATIONS
from specie.mint.adapters.auth_sql import SqlAuthStore
from specie.mint.adapters.store_sql import MIGRATIONS as MINT_MIGRATIONS
from specie.mint.adapters.store_sql import SqlMintStore
from specie.storage import ConstraintError, Migration, Storage, Transaction
from tests.support.house import Purse, house
from tests.support.rocks import skip_module_without_rocksdb
from tests.support.virtual import run_virtual

skip_module_without_rocksdb()

from specie.storage.adapters import rocks_view  # noqa: E402
from specie.storage.adapters.rocks import RocksStorage  # noqa: E402
from specie.storage.adapters.rocks_rows import Kind, compared, encode_part, fitted, plain  # noqa: E402

TABLES = """
CREATE TABLE thing (
  id TEXT PRIMARY KEY, data BLOB, number INTEGER NOT NULL DEFAULT -3, label TEXT DEFAULT 'none'
) STRICT;
CREATE UNIQUE INDEX thing_label ON thing (label) WHERE number > 0;
CREATE TABLE pair (one TEXT NOT NULL, two INTEGER NOT NULL, PRIMARY KEY (one, two)) STRICT, WITHOUT ROWID;
INSERT INTO pair (one, two) VALUES ('a', 1), ('a', 2), ('b', 1);
UPDATE pair SET two = 3 WHERE one = 'b';
DELETE FROM pair WHERE two = 2;
"""
THINGS = Migration("things", 1, TABLES, TABLES)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Storage]:
    made = RocksStorage(tmp_path / "store", inline=True, sync=False)
    await made.migrate([THINGS])
    yield made
    await made.close()


async def ran(store: Storage, sql: str, *values: Any) -> list[Any]:
    return await store.transact(lambda tx: tx.fetch(sql, *values))


# What is spoken


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM thing WHERE id LIKE 'a%'",
        "SELECT id FROM thing WHERE number BETWEEN 1 AND 2",
        "SELECT id FROM thing WHERE number + 0.5 > 1",
        "SELECT id FROM thing HAVING COUNT(*) > 1",
        "SELECT id FROM thing LIMIT 1 OFFSET 1",
        "SELECT id FROM thing ORDER BY lower(id)",
        "SELECT id, COUNT(*) FROM thing",
        "SELECT COUNT(DISTINCT id) FROM thing",
        "SELECT id, COUNT(*) FROM thing GROUP BY id ORDER BY id",
        "SELECT thing.id FROM thing, pair",
        "SELECT thing.id FROM thing JOIN pair ON pair.one = thing.id",
        "SELECT id FROM (SELECT id FROM thing)",
        "SELECT id FROM thing UNION SELECT one FROM pair",
        "SELECT id FROM thing WHERE id IN (SELECT one FROM pair)",
        "SELECT id FROM thing WHERE number IS TRUE",
        "WITH t AS (SELECT 1) SELECT id FROM thing",
        "INSERT INTO thing (id) SELECT one FROM pair",
        "INSERT OR REPLACE INTO thing (id) VALUES ('a')",
        "INSERT INTO thing (id) VALUES ('a') ON CONFLICT (number) DO NOTHING",
        "INSERT INTO thing (id) VALUES ('a') ON CONFLICT (id) DO NOTHING",
        "UPDATE thing SET number = 1 FROM pair",
        "UPDATE thing SET number = 1 ORDER BY id LIMIT 1",
        "DELETE FROM thing USING pair",
        "DROP TABLE thing",
        "CREATE TABLE other (id TEXT PRIMARY KEY)",
        "PRAGMA user_version",
        "BEGIN",
    ],
)
async def test_what_is_not_spoken_is_refused_by_name(store: Storage, sql: str) -> None:
    """A statement beyond the subset is told, never half understood, and changes nothing."""
    with pytest.raises(InvariantError, match="does not speak"):
        await ran(store, sql)
    assert await ran(store, "SELECT COUNT(*) FROM thing") == [(0,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT",
        "SELECT id FROM nowhere",
        "SELECT nothing FROM thing",
        "SELECT one FROM pair LEFT JOIN thing ON one = two AND id = nothing",
        "INSERT INTO thing (id, nothing) VALUES ('a', 1)",
        "INSERT INTO thing (id, id) VALUES ('a', 'b')",
        "INSERT INTO thing (id) VALUES ('a', 'b')",
        "INSERT INTO pair VALUES ('a')",
        "UPDATE thing SET nothing = 1",
        "SELECT 1; SELECT 2",
        "SELECT number + 'a' FROM thing WHERE id = 'x'",
        "SELECT SUM(id) FROM thing",
        "SELECT id || data FROM thing",
        "SELECT id FROM thing WHERE id OR number",
        "SELECT id FROM thing WHERE number + $1 > 0 AND $1 = $1",
        "SELECT id FROM thing LIMIT 'a'",
        "SELECT id FROM thing WHERE id = $1",
    ],
)
async def test_what_is_wrong_is_told(store: Storage, sql: str) -> None:
    """Names that are not there, counts that do not match, operands that cannot be: an InvariantError, and no other."""
    await ran(store, "INSERT INTO thing (id, data, number) VALUES ('x', $1, $2)", b"d", 2**63 - 1)
    values = (2**63 - 1,) if "$1 = $1" in sql else ()
    with pytest.raises(InvariantError):
        await ran(store, sql, *values)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE bad (id TEXT)",
        "CREATE TABLE bad (id REAL PRIMARY KEY)",
        "CREATE TABLE bad (id TEXT PRIMARY KEY, CHECK (id <> ''))",
        "CREATE TABLE bad (id TEXT PRIMARY KEY REFERENCES thing (id))",
        "CREATE TABLE bad (id TEXT PRIMARY KEY DEFAULT x'00')",
        "CREATE TABLE bad (id TEXT PRIMARY KEY, n INTEGER DEFAULT (1 + 1))",
        "CREATE TABLE bad AS SELECT 1",
        "CREATE TABLE thing (id TEXT PRIMARY KEY)",
        "CREATE INDEX bad ON thing (lower(id))",
        "CREATE INDEX bad ON thing (id DESC)",
        "CREATE INDEX bad ON nowhere (id)",
        "CREATE INDEX bad ON thing (nothing)",
        "CREATE INDEX thing_label ON thing (id)",
        "ALTER TABLE thing ADD COLUMN bad TEXT NOT NULL",
        "ALTER TABLE thing ADD COLUMN bad TEXT UNIQUE",
        "ALTER TABLE thing ADD COLUMN label TEXT",
        "ALTER TABLE thing DROP COLUMN label",
        "ALTER TABLE thing RENAME TO other",
        "DROP TABLE thing",
        "CREATE VIEW bad AS SELECT id FROM thing",
    ],
)
async def test_a_schema_that_cannot_be_is_refused(store: Storage, sql: str) -> None:
    """Whole: the step is not applied, and the tables are what they were."""
    with pytest.raises(InvariantError):
        await store.migrate([THINGS, Migration("things", 2, sql + ";", sql)])
    more = "CREATE TABLE IF NOT EXISTS thing (id TEXT PRIMARY KEY);\nCREATE INDEX IF NOT EXISTS thing_label ON thing (id);"
    assert len(await store.migrate([THINGS, Migration("things", 2, more, more)])) == 1
    assert await ran(store, "SELECT one, two FROM pair ORDER BY one") == [("a", 1), ("b", 3)]


async def test_values_are_taken_as_by_sqlite(store: Storage) -> None:
    """Defaults, numbers for texts and texts that are numbers; what fits no column is refused, and told without the value."""
    await ran(store, "INSERT INTO thing (id, number) VALUES ($1, $2)", 7, " -12 ")
    await ran(store, "INSERT INTO thing (id, data) VALUES ('d', $1)", bytearray(b"abc"))
    assert await ran(store, "SELECT * FROM thing ORDER BY id") == [("7", None, -12, "none"), ("d", b"abc", -3, "none")]
    assert await ran(store, "SELECT id FROM thing WHERE id = $1 AND number = $2", 7, "-12") == [("7",)]
    assert await ran(store, "SELECT id FROM thing WHERE data = x'616263' AND id <> data") == [("d",)]
    for values, named in (
        ((b"x", 1), "BLOB value in TEXT"),
        (("a", "1e3"), "TEXT value in INTEGER"),
        (("a", b""), "BLOB value"),
    ):
        with pytest.raises(ConstraintError, match=named):
            await ran(store, "INSERT INTO thing (id, number) VALUES ($1, $2)", *values)
    with pytest.raises(ConstraintError, match="NOT NULL"):
        await ran(store, "INSERT INTO thing (id) VALUES (NULL)")
    for strange in (1.5, object(), "\ud800"):
        with pytest.raises(InvariantError) as raised:
            await ran(store, "INSERT INTO thing (id) VALUES ($1)", strange)
        assert "ud800" not in str(raised.value)
    with pytest.raises(InvariantError):
        await store.transact(lambda tx: tx.execute_many("DELETE FROM thing WHERE id = $1", [("a",), None]))  # type: ignore[list-item]


async def test_a_partial_unique_index_holds_for_its_rows_alone(store: Storage) -> None:
    """Rows outside of it may repeat; one that enters it by an update is checked, and one that leaves makes room."""
    for name in "abc":
        await ran(store, "INSERT INTO thing (id, label) VALUES ($1, 'same')", name)
    await ran(store, "UPDATE thing SET number = 1 WHERE id = 'a'")
    with pytest.raises(ConstraintError, match=r"thing\.label"):
        await ran(store, "UPDATE thing SET number = 2 WHERE id = 'b'")
    with pytest.raises(ConstraintError, match=r"thing\.label"):
        await ran(store, "INSERT INTO thing (id, number, label) VALUES ('d', 5, 'same')")
    assert await ran(store, "SELECT id FROM thing WHERE label = 'same' AND number > 0") == [("a",)]
    await ran(store, "UPDATE thing SET number = 0 WHERE id = 'a'")
    await ran(store, "UPDATE thing SET number = 2, id = 'bb' WHERE id = 'b'")
    assert await ran(store, "SELECT id FROM thing WHERE label = 'same' AND number > 0") == [("bb",)]
    with pytest.raises(ConstraintError, match=r"thing\.id"):
        await ran(store, "UPDATE thing SET id = 'c' WHERE id = 'a'")


def test_parts_of_keys_sort_as_values_do() -> None:
    """Whatever is inside a value: the bytes are in the order of the values, and no part begins another."""
    values: list[Any] = [-(2**63), -1, 0, 1, 255, 2**63 - 1, "", "\0", "\0\0", "\0a", "a", "a\0", "a\x01", "b", "\u00e9"]
    values += [b"", b"\0", b"\0\0", b"\0\xff", b"\x01", b"a", b"a\0b", b"\xff", b"\xff\xff"]
    parts = [encode_part(value) for value in (None, *values)]
    assert parts == sorted(parts)
    assert not any(one != other and other.startswith(one) for one in parts for other in parts)
    assert all(compared(one, other) < 0 for one, other in itertools.pairwise(values))
    with pytest.raises(InvariantError):
        encode_part(2**63)
    texts = ("+5", "--5", "", "\u0665", str(2**63))
    assert [fitted(text, Kind.INTEGER) for text in texts] == [5, *texts[1:]]
    assert (plain(memoryview(b"a")), plain(True)) == (b"a", 1)


# How much is read


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Keys that ranges have come by, added up in the only item."""
    counted = [0]
    real = rocks_view._range

    def counting(*arguments: Any) -> Iterator[tuple[bytes, bytes]]:
        for pair in real(*arguments):
            counted[0] += 1
            yield pair

    monkeypatch.setattr(rocks_view, "_range", counting)
    return counted


async def test_no_question_of_the_mint_reads_a_whole_table(tmp_path: Path, read: list[int]) -> None:
    """With thousands of coins, quotes, deposits and payments stored, each look-up comes by no more rows than it needs."""
    store = RocksStorage(tmp_path / "store", inline=True, sync=False)
    await store.migrate((*LEDGER_MIGRATIONS, *MINT_MIGRATIONS, *PLAY_MIGRATIONS))
    count, mints = 3000, SqlMintStore()
    quote_columns = (
        "quote, method, rail, unit, amount, request, payment_id, pubkey, description, expiry, amount_paid, amount_issued, "
        "created_at, updated_at, reusable, lost"
    )

    async def fill(tx: Transaction) -> None:
        for number in range(count):
            key = number.to_bytes(33, "big")
            await tx.execute(
                "INSERT INTO mint_proof (y, keyset, amount, state, operation, quote, at) VALUES ($1,'k','1',$2,$1,$3,1)",
                key,
                1 if number < 3 else 2,
                f"q{number % 500}",
            )
            await tx.execute(
                "INSERT INTO mint_output (b_, keyset, amount, c_, operation, quote, position, at) "
                "VALUES ($1,'k','1',$2,$1,$3,0,1)",
                key,
                None if number % 2 else key,
                f"q{number}" if number % 3 else None,
            )
            await tx.execute(
                f"INSERT INTO mint_quote ({quote_columns}) "
                "VALUES ($1,'bolt11','r','sat','1','r',$1,$2,'',NULL,'0','0',$3,1,0,'0')",
                f"q{number:05}",
                f"p{number % 100}",
                number,
            )
            await tx.execute(
                "INSERT INTO mint_deposit (rail, receipt_id, quote, amount, at) VALUES ('r', $1, $1, '1', 1)", str(number)
            )
            await tx.execute("INSERT INTO mint_auth_token VALUES ($1, 'k', $2, 'h', 1, 1)", key, 1 if number == 9 else 2)
            await tx.execute(
                "INSERT INTO play_invoice (payment_id, request, preimage, amount_msat, created_ms, expiry, held, settled_ms)"
                " VALUES ($1, 'r', 'p', '1', $2, 5, 0, $3)",
                str(number),
                number,
                None if number == 7 else 1,
            )

    await store.transact(fill)
    asked: list[tuple[Any, int]] = [
        (lambda tx: mints.claimed_by(tx, "q1"), 1),
        (lambda tx: mints.promises(tx, "q1"), 1),
        (lambda tx: mints.change(tx, "q4"), 1),
        (lambda tx: mints.mint_quote_by_payment(tx, "r", "q00007"), 0),
        (lambda tx: mints.mint_quotes_by_pubkey(tx, "bolt11", ["p1", "p2"], "q01000", 5), 100),
        (lambda tx: mints.deposits(tx, "17"), 1),
        (lambda tx: mints.recent_mint_quotes(tx, 5), 40),
        (lambda tx: mints.pending_melts(tx), 0),
        (lambda tx: mints.proofs(tx, [number.to_bytes(33, "big") for number in range(100)]), 0),
        (lambda tx: play_store.due(tx, now_ms=3000, autopay_delay_ms=0), 1),
    ]
    for body, most in asked:
        read[0] = 0
        assert await store.read(body) is not None
        assert read[0] <= most
    read[0] = 0
    assert await store.transact(SqlAuthStore().release_all) == 1
    assert await store.transact(lambda tx: mints.spend_claimed(tx, "q2")) == 1
    assert await store.transact(lambda tx: mints.release_claimed(tx, "q1")) == 1
    assert read[0] <= 5
    await store.close()


def test_a_mint_lives_on_rocksdb(tmp_path: Path) -> None:
    """Quotes, coins, a double spend and an audit over the real engine, and all of it there after the store was opened again."""

    async def life() -> None:
        store = RocksStorage(tmp_path / "store", inline=True, sync=False)
        async with house(storage=store, methods=("bolt12", "onchain")) as bank:
            purse = Purse(bank)
            coins = await purse.mint(13)
            fresh = await purse.swap(coins, [8, 4, 1])
            assert [coin.amount for coin in fresh] == [8, 4, 1]
            assert (await bank.mint.audit()).outstanding(bank.keyset().id, "sat") == 13
        await store.close()
        store = RocksStorage(tmp_path / "store", inline=True, sync=False)
        async with house(storage=store, methods=("bolt12", "onchain")) as bank:
            assert (await bank.mint.audit()).outstanding(bank.keyset().id, "sat") == 13
        await store.close()

    run_virtual(life())
