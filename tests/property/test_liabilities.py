"""Whatever a mint does, its epochs only ever grow: every later one extends every earlier one, and all of it is in the books."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.ecash import Proof, y
from specie.ecash.liabilities import (
    CommitmentBrokenError,
    ConsistencyProof,
    Epoch,
    Side,
    SumNode,
    verify_consistency,
    verify_epoch,
    verify_inclusion,
    verify_life,
    verify_successor,
)
from specie.kernel import RefusedError
from specie.mint import Liabilities, MintSettings
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import MIGRATIONS, House, Purse, house
from tests.support.orders import foreign_invoice
from tests.support.virtual import run_virtual

ON = MintSettings(liabilities=True, liabilities_every_s=10_000_000)
STEPS = st.lists(st.sampled_from(["mint", "swap", "pay", "rotate", "close", "restart", "decide"]), min_size=3, max_size=14)


def log(bank: House) -> Liabilities:
    """The mint's liabilities."""
    assert bank.mint.liabilities is not None
    return bank.mint.liabilities


class Life:
    """A mint on one store that is stopped and started again, and the coins of whoever uses it."""

    def __init__(self) -> None:
        self.coins: list[Proof] = []
        self.spent: list[bytes] = []
        self.payments = 0

    async def step(self, bank: House, step: str) -> None:
        """One thing that happens at a bank."""
        purse = Purse(bank, f"{step} {self.payments} {len(self.spent)} {len(self.coins)}")
        bank.clock.skip(10)
        if step == "mint" or (step in ("swap", "pay") and sum(coin.amount for coin in self.coins) < 64):
            self.coins += await purse.mint(64)
        elif step == "swap":
            await self._spend(self.coins)
            self.coins = await purse.swap(self.coins, [1] * sum(coin.amount for coin in self.coins))
        elif step == "pay":
            self.payments += 1
            quote = await purse.melt_quote(await foreign_invoice(bank, 21_000, f"payee {self.payments}"))
            await self._spend(self.coins)
            inputs, self.coins = self.coins, []
            await purse.melt(quote, inputs, blanks=6)
        elif step == "rotate":
            await bank.mint.rotate_keyset("sat")
        elif step == "close":
            await log(bank).close_epoch()
        elif step == "decide":
            liabilities = log(bank)
            decided = await bank.storage.read(lambda tx: liabilities._decide(tx, bank.clock.now()))
            if decided is not None:
                await bank.storage.transact(lambda tx: liabilities._commit(tx, decided))

    async def _spend(self, coins: list[Proof]) -> None:
        self.spent += [y(coin) for coin in coins]


async def all_epochs(bank: House) -> list[Epoch]:
    """Every epoch that was signed."""
    found: list[Epoch] = []
    while page := await log(bank).epochs(len(found) + 1):
        found += page
    return found


async def extends(bank: House, old: Epoch, new: Epoch) -> None:
    """Every log of a later epoch begins as in the earlier one; a proof for anything else does not hold."""
    for before in old.keysets:
        after = new.keyset(before.keyset_id)
        assert after is not None
        verify_life(before, after)
        for side in Side:
            was, now = before.log(side), after.log(side)
            if was.size == now.size:
                assert was == now
                with pytest.raises(RefusedError):
                    await log(bank).prove_consistency(before.keyset_id, side, old.number, new.number)
                continue
            proof = await log(bank).prove_consistency(before.keyset_id, side, old.number, new.number)
            verify_consistency(proof, (was.size, was.node), (now.size, now.node))
            lie = SumNode(bytes(32), proof.appended[0].sum)
            forged = ConsistencyProof(proof.old_size, proof.new_size, proof.old_peaks, (lie, *proof.appended[1:]))
            with pytest.raises(CommitmentBrokenError):
                verify_consistency(forged, (was.size, was.node), (now.size, now.node))


@settings(max_examples=20, deadline=None)
@given(STEPS)
def test_every_epoch_extends_every_earlier_one(steps: list[str]) -> None:
    """Over any life of a mint, restarts and half-closed epochs included: one chain, consistent logs, books and proofs."""

    async def body() -> None:
        storage, life = SqliteStorage(":memory:", inline=True), Life()
        await storage.migrate(MIGRATIONS)
        for run in [list(group) for stop, group in itertools.groupby([*steps, "close"], lambda s: s == "restart") if not stop]:
            async with house(storage=storage, settings=ON, seed=str(len(life.spent))) as bank:
                while not await log(bank).epochs(1):
                    await asyncio.sleep(1)
                for step in run:
                    await life.step(bank, step)
                epochs = await all_epochs(bank)
                for epoch in epochs:
                    verify_epoch(epoch, log(bank).pubkey)
                for old, new in itertools.pairwise(epochs):
                    verify_successor(old, new)
                for old, new in itertools.combinations(epochs[-5:], 2):
                    await extends(bank, old, new)
        async with house(storage=storage, settings=ON, seed="last") as bank:
            closed = await log(bank).close_epoch()
            assert await log(bank).audit() == closed.number
            books = await bank.mint.audit()
            assert closed.outstanding() == {"sat": sum(books.outstanding(one, "sat") for one in books.keysets("sat"))} or (
                not books.keysets("sat")
            )
            proved = 0
            for keyset in closed.keysets:
                for start in range(0, len(life.spent), 50):
                    items = life.spent[start : start + 50]
                    for proof in await log(bank).prove_inclusion(keyset.keyset_id, Side.SPENT, items):
                        verify_inclusion(proof, keyset.spent.size, keyset.spent.node)
                        proved += 1
            assert proved == len(life.spent)
        await storage.close()

    run_virtual(body())
