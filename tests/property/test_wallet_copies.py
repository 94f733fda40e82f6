"""One wallet on two devices that know nothing of each other, at a real mint: whatever they did, merged they hold what is owed.

Seeded: each number is one story of payments, tokens, losses of answers and restores. A failure names its number.
"""

from __future__ import annotations

import os
import random

import pytest

from specie.kernel.errors import SpecieError, UncertainError
from specie.storage import Transaction
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet import P2PK, Wallet
from specie.wallet.adapters.store_sql import SqlWalletStore
from specie.wallet.engine.merging import look_at_coins, merge
from specie.wallet.merge import Tables
from tests.support.virtual import run_virtual
from tests.support.wallets import World, memory_storage, world

STORIES = int(os.environ.get("SPECIE_STORIES", "25"))
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
STORE = SqlWalletStore()


async def _tables(storage: SqliteStorage) -> Tables:
    return await storage.read(STORE.tables)


async def _copy(storage: SqliteStorage) -> SqliteStorage:
    rows = await _tables(storage)
    made = await memory_storage()

    async def body(tx: Transaction) -> None:
        await STORE.fill(tx, rows)

    await made.transact(body)
    return made


async def _act(w: World, wallet: Wallet, bob: Wallet, rng: random.Random) -> None:
    """One thing that somebody does with a wallet; what cannot be done is left."""
    try:
        match rng.randrange(9):
            case 0:
                await w.fund(wallet, rng.randint(1, 20))
            case 1:
                await wallet.send(rng.randint(1, 20))
            case 2:
                await bob.receive((await wallet.send(rng.randint(1, 20))).text)
            case 3:
                tokens = await wallet.tokens()
                if tokens:
                    await wallet.reclaim(rng.choice(tokens).text)
            case 4:
                await wallet.pay(await w.foreign_invoice(rng.randint(1, 9) * 1000, f"story {rng.random()}"), wait_s=1)
            case 5:
                w.faults.plant("after", "swap", *[UncertainError("lost")] * 3)
                await wallet.send(rng.randint(1, 20))
            case 6:
                w.faults.plant("before", "swap", *[UncertainError("lost")] * 3)
                await wallet.send(rng.randint(1, 20))
            case 7:
                await wallet.send(rng.randint(1, 8), lock=P2PK((await wallet.p2pk_key(),)))
            case _:
                await wallet.check_pending()
    except SpecieError:
        pass
    finally:
        w.faults.before.clear()
        w.faults.after.clear()
        w.clock.skip(30)


async def _settle(w: World, *wallets: Wallet) -> None:
    for wallet in wallets:
        w.clock.skip(1000)
        report = await wallet.resume(wait_s=60)
        assert not report.open, report.open
        await wallet.check_pending()


async def _story(number: int) -> None:
    rng = random.Random(f"copies {number}")
    async with world() as w:
        first = await memory_storage()
        one, bob = await w.wallet(first, words=WORDS), await w.wallet()
        await w.fund(one, 50)
        await w.fund(bob, 20)
        for _ in range(rng.randrange(3)):
            await _act(w, one, bob, rng)
        second = await _copy(first)
        two = await w.wallet(second, words=WORDS, trusted=False)
        for _ in range(rng.randint(1, 10)):
            await _act(w, rng.choice((one, two)), bob, rng)
        if rng.random() < 0.5:
            await _settle(w, two)
        backup = await _tables(second)
        for _ in range(rng.randrange(3)):
            await _act(w, one, bob, rng)
        await merge(one._context, backup)
        await _settle(w, one, bob)
        await look_at_coins(one._context)
        await one.restore()
        await _settle(w, one)
        before = await one.balance()
        await w.books_hold(one, bob)
        await merge(one._context, backup)
        await _settle(w, one)
        await look_at_coins(one._context)
        assert await one.balance() == before, "the same backup again changes nothing"
        await w.books_hold(one, bob)


@pytest.mark.parametrize("number", range(STORIES))
def test_copies_merge_to_what_is_owed(number: int) -> None:
    """The mint is the judge: what it owes is what the merged wallet and the other customer hold, to the unit."""
    run_virtual(_story(number))
