"""The tables of blind tokens on every SQL store: a claim is one insert, whoever else claims."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from specie.ecash import BlindSignature, Dleq
from specie.mint.adapters.auth_sql import SqlAuthStore
from specie.mint.adapters.schema import MIGRATIONS as MINT
from specie.mint.auth import AuthTokenState
from specie.storage import Storage
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet.adapters.auth_store import SqlBlindTokenStore
from specie.wallet.adapters.schema import MIGRATIONS as WALLET
from specie.wallet.auth import BlindToken, BlindTokenState
from tests.support.rocks import needs_rocksdb, rocks_store


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


MINTS, POOL = SqlAuthStore(), SqlBlindTokenStore()
Y = b"\x02" + b"y" * 32


async def test_a_token_is_claimed_once_and_ends_in_one_way(storage):
    """Reserve, spend, release and take over, each by its holder alone."""
    await storage.migrate(MINT)

    def reserve(holder: str, now: int = 100):
        return storage.transact(lambda tx: MINTS.reserve(tx, Y, keyset="k", holder=holder, now=now, lease_s=10))

    assert sorted(await asyncio.gather(*(reserve(name) for name in "abc"))) == [False, False, True]
    row = await storage.read(lambda tx: tx.fetch_one("SELECT holder FROM mint_auth_token"))
    holder = str(row[0])
    other = "a" if holder != "a" else "b"
    assert not await storage.transact(lambda tx: MINTS.spend(tx, Y, other))
    assert not await storage.transact(lambda tx: MINTS.release(tx, Y, other, spent_too=True))
    assert not await reserve(other, 110)
    assert await reserve(other, 111)
    assert not await storage.transact(lambda tx: MINTS.spend(tx, Y, holder))
    assert await storage.transact(lambda tx: MINTS.spend(tx, Y, other))
    assert not await reserve(holder, 10**6)
    assert await storage.read(lambda tx: MINTS.state(tx, Y)) is AuthTokenState.SPENT
    assert not await storage.transact(lambda tx: MINTS.release(tx, Y, other, spent_too=False))
    assert await storage.transact(MINTS.release_all) == 0
    assert await storage.transact(lambda tx: MINTS.release(tx, Y, other, spent_too=True))
    assert await storage.read(lambda tx: MINTS.state(tx, Y)) is None
    assert await reserve("d")
    assert await storage.transact(MINTS.release_all) == 1


async def test_signatures_are_kept_once(storage):
    """An output is signed once; what is kept comes back with its proof."""
    await storage.migrate(MINT)
    signature = BlindSignature(1, "k", b"\x02" + b"c" * 32, Dleq(b"e" * 32, b"s" * 32))

    def add(*names: bytes):
        rows = [(name, signature) for name in names]
        return storage.transact(lambda tx: MINTS.add_signatures(tx, rows, operation=b"o", at=1))

    assert await add(b"b", b"a")
    assert not await add(b"b")
    found = await storage.read(lambda tx: MINTS.signatures(tx, [b"a", b"b", b"c"]))
    assert {name: (one.operation, one.signature) for name, one in found.items()} == {
        b"a": (b"o", signature),
        b"b": (b"o", signature),
    }


def token(secret: str, position: int, batch: str = "1", mint: str = "m", keyset: str = "k") -> BlindToken:
    return BlindToken(secret, mint, keyset, b"r" * 32, batch, position, None, BlindTokenState.ASKED, 10)


async def test_the_pool_gives_each_token_to_one_request(storage):
    """Batches in order, tokens oldest first, none twice; states move as they should."""
    if storage.status().engine == "rocksdb":
        pytest.skip("a wallet's tables lie in SQLite")
    await storage.migrate(WALLET)
    batch = [token("a", 0), token("b", 1), token("c", 0, "2"), token("d", 0, "3", "other", "old")]
    await storage.transact(lambda tx: POOL.add(tx, batch))
    assert await storage.read(lambda tx: POOL.asked(tx, "m")) == batch[:2]
    signed = [
        BlindToken(one.secret, "m", "k", one.r, "1", one.position, b"\x02" * 33, BlindTokenState.READY, 11) for one in batch[:2]
    ]
    await storage.transact(lambda tx: POOL.settle(tx, signed))
    assert await storage.read(lambda tx: POOL.asked(tx, "m")) == batch[2:3]

    def take(state: BlindTokenState = BlindTokenState.READY, before: int = 12):
        return storage.transact(lambda tx: POOL.take(tx, "m", state, before=before, now=20))

    assert await take(before=11) is None
    first, second = await take(), await take()
    assert [first, second] == signed
    assert first.proof.amount == 1
    assert await take() is None
    await storage.transact(lambda tx: POOL.move(tx, "a", BlindTokenState.UNCERTAIN, 30))
    await storage.transact(lambda tx: POOL.drop(tx, ["b"]))
    counts = await storage.read(POOL.counts)
    assert counts["m"] == {BlindTokenState.UNCERTAIN: 1, BlindTokenState.ASKED: 1}
    assert (await take(BlindTokenState.UNCERTAIN, 31)).secret == "a"
    assert await storage.transact(lambda tx: POOL.keep_keysets(tx, "other", {"k"})) == 1
    assert await storage.transact(lambda tx: POOL.keep_keysets(tx, "m", {"k"})) == 0
    assert "other" not in await storage.read(POOL.counts)
