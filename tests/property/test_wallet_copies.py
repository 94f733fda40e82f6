"""One wallet on two devices that know nothing of each other, at a real mint: whatever they did, merged they hold what is owed.

Seeded: each number is one story of payments, tokens, losses of answers and restores. A failure names its number.
"""

from __future__ import annotations

import os
import random

import pytest

from specie.kernel.errors import SpecieError, UnavailableError, UncertainError
from specie.storage import Transaction
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet import P2PK, Wallet
from specie.wallet.adapters.store_sql import SqlWalletStore
from specie.wallet.engine.merging import look_at_coins, merge
from specie.wallet.merge import Tables
from tests.support.virtual import run_virtual
from tests.support.wallets import Died, MortalStorage, World, memory_storage, world

STORIES = int(os.environ.get("SPECIE_STORIES", "40"))
REMEMBERED = (77, 470)
"""Stories that once ended badly."""
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
        match rng.randrange(12):
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
            case 8:
                w.faults.plant(rng.choice(("before", "after")), "melt", *[UncertainError("lost")] * 9)
                w.faults.plant("before", "melt_quote", *[UnavailableError("lost")] * 9)
                await wallet.pay(await w.foreign_invoice(rng.randint(1, 9) * 1000, f"story {rng.random()}"), wait_s=1)
            case 9:
                w.faults.plant(rng.choice(("before", "after")), "issue", *[UncertainError("lost")] * 3)
                await w.fund(wallet, rng.randint(1, 20))
            case 10:
                await wallet.send(rng.randint(1, 20), offline=True)
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
        if report.open:  # a coin that both copies spent may be in a payment on its way
            await w.clock.sleep(60)
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
            w.clock.skip(1000)
            await two.resume(wait_s=60)  # what the other copy spent stays open: only merged the two know it
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


async def _dying_story(number: int, at: int, before: bool) -> bool:
    """A wallet that takes a backup up dies at commit `at`; the next process does it again. Whether it died."""
    rng = random.Random(f"dying {number}")
    async with world() as w:
        first = await memory_storage()
        one, bob = await w.wallet(first, words=WORDS), await w.wallet()
        await w.fund(one, 50)
        second = await _copy(first)
        two = await w.wallet(second, words=WORDS, trusted=False)
        for _ in range(6):
            await _act(w, rng.choice((one, two)), bob, rng)
        backup = await _tables(second)
        mortal = MortalStorage(first)
        dying = await w.wallet(mortal, words=WORDS, trusted=False)
        mortal.at, mortal.before = mortal.commits + at, before
        died = False
        try:
            await merge(dying._context, backup)
            await _settle(w, dying)
            await look_at_coins(dying._context)
        except Died:
            died = True
        one = await w.wallet(first, words=WORDS, trusted=False)
        await _settle(w, one, bob)
        await merge(one._context, backup)
        await _settle(w, one)
        await look_at_coins(one._context)
        await one.restore()
        await _settle(w, one)
        await w.books_hold(one, bob)
        return died


@pytest.mark.parametrize("before", [True, False], ids=["lost", "durable"])
@pytest.mark.parametrize("number", range(3))
def test_it_may_die_at_every_commit(number: int, before: bool) -> None:
    """Killed at any commit while a backup is taken up: done again it comes to what is owed."""
    deaths = 0
    while run_virtual(_dying_story(number, deaths + 1, before)):
        deaths += 1
        assert deaths < 60
    assert deaths >= 1


@pytest.mark.parametrize("number", sorted({*range(STORIES), *REMEMBERED}))
def test_copies_merge_to_what_is_owed(number: int) -> None:
    """The mint is the judge: what it owes is what the merged wallet and the other customer hold, to the unit."""
    run_virtual(_story(number))
