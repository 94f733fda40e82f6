"""A history for a bank: spent coins and signed outputs put into its store below its verbs, with one balanced entry for all.

Keys are random and arrive in their order, which every engine takes quickest. SQLite's are made by SQL itself, without a log,
in two passes, the second between the first, so that pages are split as random inserts split them; RocksDB's go into sorted
files that it takes in (`fill_rocks`); any other engine gets rows through `Storage.transact`. Nothing here is for a bank that
runs, or for one with money in it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from bench.bank import BenchError, bank_environment, data_directory
from specie.app import bank as composition
from specie.kernel.telemetry import NULL_TELEMETRY
from specie.ledger import Ledger, Posting
from specie.ledger.adapters.store_sql import SqlLedgerStore
from specie.ops.config import load_settings
from specie.ops.settings import BankSettings
from specie.storage import Storage, Transaction

__all__ = ["Filled", "amount_of", "embedded_engines", "fill", "keys", "total_of"]

_AMOUNTS = 8
_CHUNK = 20_000
_PARTS = ((0, 7), (7, 10))
"""Tenths of the rows of each pass of SQLite: which of every ten neighbours."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What was put in: rows in each of the two tables, seconds it took, and some keys of spent coins, at most 4,096."""

    rows: int
    took_s: float
    some: tuple[bytes, ...]


def amount_of(place: int) -> int:
    """Amount of the coin at a place, counted from 0: 1, 2, 4 ... 128, and again."""
    return 1 << place % _AMOUNTS


def total_of(rows: int) -> int:
    """Sum of the amounts of the first `rows` coins."""
    whole, rest = divmod(rows, _AMOUNTS)
    return whole * (2**_AMOUNTS - 1) + (1 << rest) - 1


def keys(rows: int, seed: int, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
    """Ascending keys of 33 bytes that begin as compressed points do: one at random out of each of `rows` equal ranges.

    `start` and `stop`: only those of the ranges from one to before the other, counted from 0.
    """
    chance = random.Random(f"{seed}/{start}")
    step = 2**64 // max(1, rows)
    for place in range(start, rows if stop is None else stop):
        yield b"\x02" + (place * step + int(chance.random() * step)).to_bytes(8, "big") + chance.randbytes(24)


def embedded_engines() -> list[str]:
    """Engines this version can be told to use: SQLite, and those that the setting `store.engine` names, where there is one."""
    from enum import Enum

    from specie.ops.schema import fields_of
    from specie.ops.settings import StoreSettings

    spec = fields_of(StoreSettings).get("engine")
    hint = getattr(spec, "hint", None)
    named = [str(one.value) for one in hint] if isinstance(hint, type) and issubclass(hint, Enum) else []
    return list(dict.fromkeys(("sqlite", *(name for name in named if name not in ("auto", "postgres", "postgresql")))))


def _settings(home: Path, engine: str) -> BankSettings:
    return load_settings(None, bank_environment(home, engine), {"data_dir": data_directory(home)})


async def fill(home: Path, engine: str, rows: int) -> Filled:
    """Put `rows` spent coins and as many signed outputs into the store of a bank that was started once and runs no more."""
    began = time.perf_counter()
    settings = _settings(home, engine)
    storage = await composition._open_storage(settings, NULL_TELEMETRY)
    try:
        keyset = await _keyset(storage)
        await _book(storage, keyset, total_of(rows))
        if engine not in _QUICK:
            await _fill_through_port(storage, keyset, rows)
    finally:
        await storage.close()
    if engine in _QUICK:
        _QUICK[engine](settings.store_path, keyset, rows)
    storage = await composition._open_storage(settings, NULL_TELEMETRY)
    try:
        some = await _some(storage)
    finally:
        await storage.close()
    return Filled(rows, time.perf_counter() - began, some)


async def _keyset(storage: Storage) -> str:
    rows = await storage.read(lambda tx: tx.fetch("SELECT id FROM mint_keyset WHERE unit = $1 AND active = 1", "sat"))
    if not rows:
        raise BenchError("the bank has no keyset yet: it must have been started once")
    return str(rows[0][0])


async def _book(storage: Storage, keyset: str, total: int) -> None:
    """All of the history as one swap: as much was redeemed as was issued."""
    postings = [
        Posting(f"liability:keyset/{keyset}/redeemed", "sat", total),
        Posting(f"liability:keyset/{keyset}/issued", "sat", -total),
    ]

    async def body(tx: Transaction) -> None:
        await Ledger(SqlLedgerStore()).post(tx, at=int(time.time()), kind="swap", reference="bench", postings=postings)

    await storage.transact(body)


async def _some(storage: Storage) -> tuple[bytes, ...]:
    """Keys of spent coins from all over the table."""
    found: list[bytes] = []
    for start in random.Random(1).sample(range(2**16), 64):
        bound = b"\x02" + start.to_bytes(2, "big")

        async def body(tx: Transaction, bound: bytes = bound) -> Sequence[Sequence[object]]:
            return await tx.fetch("SELECT y FROM mint_proof WHERE y >= $1 ORDER BY y LIMIT 64", bound)

        for row in await storage.read(body):
            assert isinstance(row[0], bytes)
            found.append(row[0])
    return tuple(dict.fromkeys(found))


_PROOFS = """
WITH RECURSIVE place(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM place WHERE i < :last)
INSERT INTO mint_proof (y, keyset, amount, state, operation, quote, witness, at)
SELECT CAST(unhex(printf('02%014x', i * :step + (random() & 0xffffffffffffff) % :step)) || randomblob(25) AS BLOB),
  :keyset, CAST(1 << (i % 8) AS TEXT), 2, randomblob(32), NULL, NULL, :at
FROM place WHERE i % 10 >= :low AND i % 10 < :high
"""
_OUTPUTS = """
WITH RECURSIVE place(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM place WHERE i < :last)
INSERT INTO mint_output (b_, keyset, amount, c_, dleq_e, dleq_s, operation, quote, position, at)
SELECT CAST(unhex(printf('02%014x', i * :step + (random() & 0xffffffffffffff) % :step)) || randomblob(25) AS BLOB),
  :keyset, CAST(1 << (i % 8) AS TEXT), CAST(x'02' || randomblob(32) AS BLOB),
  randomblob(32), randomblob(32), randomblob(32), NULL, 0, :at
FROM place WHERE i % 10 >= :low AND i % 10 < :high
"""


def _fill_sqlite(path: Path, keyset: str, rows: int) -> None:
    connection = apsw.Connection(str(path))
    try:
        settings = ("journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "cache_size = -400000")
        for setting in (*settings, "foreign_keys = OFF"):
            connection.execute(f"PRAGMA {setting}").fetchall()
        for low, high in _PARTS:
            values = {"last": rows - 1, "step": 2**56 // rows, "keyset": keyset, "at": int(time.time())}
            for statement in (_PROOFS, _OUTPUTS):
                connection.execute(statement, values | {"low": low, "high": high})
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
    finally:
        connection.close()


_PROOF_ROW = (
    "INSERT INTO mint_proof (y, keyset, amount, state, operation, quote, witness, at) "
    "VALUES ($1, $2, $3, 2, $4, NULL, NULL, $5)"
)
_OUTPUT_ROW = (
    "INSERT INTO mint_output (b_, keyset, amount, c_, dleq_e, dleq_s, operation, quote, position, at) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, 0, $8)"
)


async def _fill_through_port(storage: Storage, keyset: str, rows: int) -> None:
    chance, at = random.Random(2), int(time.time())
    proofs = ((key, keyset, str(amount_of(place)), chance.randbytes(32), at) for place, key in enumerate(keys(rows, 3)))
    outputs = (
        (key, keyset, str(amount_of(place)), b"\x02" + chance.randbytes(32), *_three(chance), at)
        for place, key in enumerate(keys(rows, 4))
    )
    for statement, supply in ((_PROOF_ROW, proofs), (_OUTPUT_ROW, outputs)):
        left = rows
        while left > 0:
            chunk = [next(supply) for _ in range(min(_CHUNK, left))]
            left -= len(chunk)

            async def body(tx: Transaction, statement: str = statement, chunk: Sequence[tuple[object, ...]] = chunk) -> None:
                await tx.execute_many(statement, chunk)  # type: ignore[arg-type]

            await storage.transact(body)


def _three(chance: random.Random) -> tuple[bytes, bytes, bytes]:
    return chance.randbytes(32), chance.randbytes(32), chance.randbytes(32)


def _fill_rocks(path: Path, keyset: str, rows: int) -> None:
    from bench.fill_rocks import fill_rocks

    fill_rocks(path, keyset, rows)


_QUICK = {"sqlite": _fill_sqlite, "rocksdb": _fill_rocks}
"""Engines with a way of their own."""
