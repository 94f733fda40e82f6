"""A store whose coins were kept in the older layout is brought up to date without losing or freeing one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from specie.ecash import BlindSignature, Dleq
from specie.mint.adapters.schema import MIGRATIONS
from specie.mint.adapters.store_sql import SqlMintStore
from specie.mint.ports import Claim, KeysetRecord, Promise
from specie.storage import Storage, Transaction
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.rocks import needs_rocksdb, rocks_store

BEFORE = 5
"""Steps of the layout with whole rows in the trees of keys."""

MINTS = SqlMintStore()
COINS = [Claim(b"\x02" + bytes([n]) * 32, "k", 1 << n, "w" if n == 3 else None) for n in range(8)]
SIGNED = [
    (b"\x03" + bytes([n]) * 32, BlindSignature(amount=1 << n, id="k", C_=b"\x02" * 33, dleq=Dleq(e=bytes(32), s=bytes(32))))
    for n in range(8)
]


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("rocksdb", marks=needs_rocksdb),
        pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.network]),
    ]
)
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    made: Storage
    if request.param == "sqlite":
        made = SqliteStorage(tmp_path / "store.db", synchronous="OFF")
    elif request.param == "rocksdb":
        made = rocks_store(tmp_path / "store.rocksdb", sync=False)
    else:
        made = await PostgresStorage.connect(request.getfixturevalue("postgres_dsn"))
    yield made
    await made.close()


async def test_coins_outlive_the_change_of_layout(storage: Storage) -> None:
    """Spent, pending, signed and promised: all as before, still taken, and found by what they are looked up by."""
    await storage.migrate(MIGRATIONS[:BEFORE])

    async def fill(tx: Transaction) -> None:
        assert await MINTS.claim(tx, COINS[:6], operation=b"one", quote=None, at=1)
        assert await MINTS.claim(tx, COINS[6:], operation=b"two", quote="q", at=2)
        assert await MINTS.add_signatures(tx, SIGNED[:7], operation=b"one", quote=None, at=1)
        promise = Promise(b_=SIGNED[7][0], keyset="k", position=0)
        assert await MINTS.add_promises(tx, [promise], operation=b"two", quote="q", at=2)

    await storage.transact(fill)

    async def look(tx: Transaction) -> tuple[object, ...]:
        ys, b_s = [coin.y for coin in COINS], [b_ for b_, _ in SIGNED]
        return (
            await MINTS.proofs(tx, ys),
            await MINTS.signatures(tx, b_s),
            await MINTS.claimed_by(tx, "q"),
            await MINTS.promises(tx, "q"),
            await MINTS.totals(tx),
        )

    before = await storage.read(look)
    assert [step.version for step in await storage.migrate(MIGRATIONS)] == list(range(BEFORE + 1, len(MIGRATIONS) + 1))
    assert await storage.read(look) == before

    for n in range(8):  # each by itself: a body that is refused once is over
        with pytest.raises(_TakenError):
            await storage.transact(_claiming(n))
    assert await storage.read(look) == before
    await storage.transact(lambda tx: MINTS.release_claimed(tx, "q"))
    await storage.transact(_claiming(7))


class _TakenError(Exception):
    pass


def _claiming(n: int):
    async def body(tx: Transaction) -> None:
        if not await MINTS.claim(tx, [COINS[n]], operation=b"three", quote=None, at=3):
            raise _TakenError
        if not await MINTS.add_signatures(tx, [SIGNED[n]], operation=b"three", quote=None, at=3):
            raise _TakenError

    return body


async def test_where_keys_live_is_remembered(storage: Storage) -> None:
    """Of keysets from before there was a choice, of those of the seed, and of those of a token."""
    await storage.migrate(MIGRATIONS[:-1])
    old = KeysetRecord("a", "sat", 0, 1, True, 0, None, 1, 0)

    async def add_old(tx: Transaction) -> None:
        await tx.execute(
            "INSERT INTO mint_keyset "
            "(id, unit, position, version, active, input_fee_ppk, final_expiry, created_at, configured_fee_ppk) "
            "VALUES ($1, 'sat', 0, 1, 1, 0, NULL, 1, 0)",
            "a",
        )

    await storage.transact(add_old)
    await storage.migrate(MIGRATIONS)
    added = [replace(old, id="b", index=1, home="pkcs11"), replace(old, id="c", index=2)]
    for record in added:
        assert await storage.transact(partial(MINTS.add_keyset, record=record))
    assert not await storage.transact(partial(MINTS.add_keyset, record=replace(added[0], id="d")))
    found = await storage.read(MINTS.keysets)
    assert [(one.id, one.home, one.active) for one in found] == [
        ("a", "software", False),
        ("b", "pkcs11", False),
        ("c", "software", True),
    ]
