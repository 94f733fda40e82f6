"""Epochs of proved liabilities at the mint: what they say, who closes them, and what a crash or a tamperer leaves."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from specie.ecash import MintQuoteRequest, Proof, y
from specie.ecash.liabilities import (
    CommitmentBrokenError,
    Side,
    verify_consistency,
    verify_epoch,
    verify_inclusion,
    verify_successor,
)
from specie.kernel import InvariantError, MalformedError, RefusedError, UnavailableError
from specie.lightning.adapters.play import Fault, PlayFaults
from specie.mint import Liabilities, Mint, MintSettings
from specie.mint.adapters.liability_store import SqlLiabilityStore
from specie.storage import Storage
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import MIGRATIONS, House, Purse, house
from tests.support.orders import foreign_invoice
from tests.support.virtual import run_virtual
from tests.support.wallets import Died, MortalStorage

ON = MintSettings(liabilities=True, liabilities_every_s=10_000_000)
"""Switched on; the tests close epochs themselves."""


def log(bank: House) -> Liabilities:
    """The mint's liabilities."""
    found = bank.mint.liabilities
    assert found is not None
    return found


async def begun(bank: House) -> Liabilities:
    """The mint's liabilities once the epoch of its start is closed."""
    liabilities = log(bank)
    while (latest := await liabilities.latest()) is None or not latest.signatures:
        await asyncio.sleep(1)
    return liabilities


def ys(proofs: Sequence[Proof]) -> list[bytes]:
    """What names coins in the log of the spent."""
    return [y(proof) for proof in proofs]


def test_off_means_off() -> None:
    """Unless it is switched on nothing is announced, nothing runs and no table is written."""

    async def body() -> None:
        async with house() as bank:
            await Purse(bank).mint(8)
            assert bank.mint.liabilities is None
            assert "388" not in bank.mint.info().nuts
            assert await bank.storage.read(SqlLiabilityStore().latest_epoch) is None

    run_virtual(body())


def test_a_mint_without_the_tables_does_not_start() -> None:
    """Switched on and without a store for it, the mint refuses to start rather than announce what it cannot do."""

    async def body() -> None:
        with pytest.raises(InvariantError):
            async with house(settings=ON, liability_store=None):
                pass

    run_virtual(body())


def test_epochs_say_what_the_books_say() -> None:
    """Coins minted, swapped and paid away are in the logs, sums are the ledger's, every proof verifies, the chain holds."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            liabilities, purse, keyset = await begun(bank), Purse(bank), bank.keyset().id
            assert bank.mint.info().nuts["388"] == {"supported": True, "draft": True, "epoch_s": 10_000_000}
            coins = await purse.mint(100)
            first = await liabilities.close_epoch()
            bank.clock.skip(60)
            new = await purse.swap(coins, [64, 32, 4])
            quote = await purse.melt_quote(await foreign_invoice(bank, 21_000))
            await purse.melt(quote, new[:1], blanks=8)
            second = await liabilities.close_epoch()
            books = await bank.mint.audit()
            for epoch in (first, second):
                verify_epoch(epoch, liabilities.pubkey)
            verify_successor(first, second)
            said = second.keyset(keyset)
            assert said is not None
            assert (said.issued.sum, said.spent.sum) == (books.issued(keyset, "sat"), books.redeemed(keyset, "sat"))
            assert said.outstanding == books.outstanding(keyset, "sat")
            spent = [*ys(coins), *ys(new[:1])]
            proofs = await liabilities.prove_inclusion(keyset, Side.SPENT, [*spent, *ys(new[1:])])
            assert [proof.item for proof in proofs] == spent
            for proof in proofs:
                verify_inclusion(proof, said.spent.size, said.spent.node)
            assert await liabilities.prove_inclusion(keyset, Side.SPENT, spent, first.number) == []
            before = first.keyset(keyset)
            assert before is not None
            consistency = await liabilities.prove_consistency(keyset, Side.ISSUED, first.number, second.number)
            verify_consistency(consistency, (before.issued.size, before.issued.node), (said.issued.size, said.issued.node))
            assert await liabilities.audit() == second.number
            assert await liabilities.find(spent[0]) == (Side.SPENT, keyset)
            assert await liabilities.find(b"\x02" * 33) is None
            nothing = await liabilities.close_epoch()
            assert nothing.keysets == second.keysets

    run_virtual(body())


def test_logs_of_any_length_have_proofs() -> None:
    """Logs that pass the sizes of kept subtrees, in one epoch or several, answer for every leaf and every pair of epochs."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            liabilities, purse, keyset = await begun(bank), Purse(bank), bank.keyset().id
            numbers = []
            for amounts in ([1] * 300, [1] * 5, [1] * 250):
                coins = await purse.mint(512)
                await purse.swap(coins, [*amounts, 512 - sum(amounts)] if 512 - sum(amounts) in _POWERS else _fill(amounts))
                numbers.append((await liabilities.close_epoch()).number)
            _, said = await liabilities.manifest(keyset)
            leaves = await liabilities.leaves(keyset, Side.ISSUED, 0)
            assert len(leaves) == said.issued.size > 512
            assert await liabilities.leaves(keyset, Side.ISSUED, said.issued.size) == []
            assert await liabilities.leaves(keyset, Side.ISSUED, -1) == []
            for start in range(0, len(leaves), 50):
                items = [item for item, _ in leaves[start : start + 50]]
                for proof in await liabilities.prove_inclusion(keyset, Side.ISSUED, items):
                    verify_inclusion(proof, said.issued.size, said.issued.node)
            for old in numbers[:-1]:
                proof_of = await liabilities.prove_consistency(keyset, Side.ISSUED, old, numbers[-1])
                was = (await liabilities.manifest(keyset, old))[1].issued
                verify_consistency(proof_of, (was.size, was.node), (said.issued.size, said.issued.node))
            assert await liabilities.audit() == numbers[-1]

    run_virtual(body())


_POWERS = {1 << power for power in range(10)}


def _fill(amounts: list[int]) -> list[int]:
    """Amounts that make 512 with the smallest pieces first."""
    rest, found = 512 - sum(amounts), list(amounts)
    for power in range(9, -1, -1):
        while rest >= 1 << power:
            found.append(1 << power)
            rest -= 1 << power
    return found


def test_questions_are_bounded() -> None:
    """Unknown epochs and keysets, logs that did not grow, and too many items at once are refused."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            liabilities, keyset = await begun(bank), bank.keyset().id
            with pytest.raises(RefusedError):
                await liabilities.epoch(77)
            with pytest.raises(RefusedError):
                await liabilities.manifest("00ff")
            with pytest.raises(RefusedError):
                await liabilities.prove_consistency(keyset, Side.ISSUED, 1, 1)
            with pytest.raises(MalformedError):
                await liabilities.prove_inclusion(keyset, Side.ISSUED, [bytes(33)] * 51)
            for _ in range(60):
                await liabilities.close_epoch()
            assert len(await liabilities.epochs(0, 1000)) == 50
            assert await liabilities.epochs(1, 0) == []

    run_virtual(body())


def test_a_rotated_keyset_is_closed_once_it_cannot_issue() -> None:
    """While change under an old keyset may come it counts as active; a quiet epoch later it is closed, and stays so."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            liabilities, purse, old = await begun(bank), Purse(bank), bank.keyset().id
            coins = await purse.mint(64)
            bank.rail.set_faults(PlayFaults(always=Fault.hang()))
            quote = await purse.melt_quote(await foreign_invoice(bank, 21_000))
            task = asyncio.create_task(purse.melt(quote, coins, blanks=8))
            await asyncio.sleep(5)
            await bank.mint.rotate_keyset("sat")
            waiting = await liabilities.close_epoch()
            said = waiting.keyset(old)
            assert said is not None
            assert said.active
            await liabilities.close_epoch()
            assert (await liabilities.manifest(old))[1].active
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        async with house(settings=ON) as bank:
            liabilities, purse, old = await begun(bank), Purse(bank), bank.keyset().id
            coins = await purse.mint(64)
            await bank.mint.rotate_keyset("sat")
            states = []
            for _ in range(3):
                await liabilities.close_epoch()
                states.append((await liabilities.manifest(old))[1].active)
            assert states == [True, False, False]
            await purse.swap(coins, [64])
            await liabilities.close_epoch()
            assert (await liabilities.manifest(old))[1].outstanding == 0
            assert await liabilities.audit() > 0

    run_virtual(body())


def test_the_background_closes_epochs_in_time() -> None:
    """One epoch at the start, then one each interval, whoever looks."""

    async def body() -> None:
        async with house(settings=MintSettings(liabilities=True, liabilities_every_s=3600)) as bank:
            await asyncio.sleep(3600 * 3 + 100)
            epochs = await log(bank).epochs(1)
            assert 3 <= len(epochs) <= 4
            assert all(later.at - epoch.at >= 3600 for epoch, later in itertools.pairwise(epochs))

    run_virtual(body())


def test_two_processes_make_one_chain() -> None:
    """Two mints on one store close at once, again and again: numbers and digests chain, and both see the same epochs."""

    async def body() -> None:
        storage = SqliteStorage(":memory:", inline=True)
        await storage.migrate(MIGRATIONS)
        async with (
            house(storage=storage, settings=ON, seed="one", exclusive=False) as one,
            house(storage=storage, settings=ON, seed="two", exclusive=False) as two,
        ):
            await begun(one)
            purse = Purse(one)
            for _ in range(5):
                await purse.mint(7)
                await asyncio.gather(*(log(bank).close_epoch() for bank in (one, two) * 3))
            assert await log(one).epochs(1) == await log(two).epochs(1)
            assert await log(two).audit() > 5
        await storage.close()

    run_virtual(body())


def test_a_number_is_decided_once() -> None:
    """What another process decided and did not sign is signed as it is; a late decision of the same number changes nothing."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            liabilities, purse = await begun(bank), Purse(bank)
            await purse.mint(7)
            stale = await bank.storage.read(lambda tx: liabilities._decide(tx, bank.clock.now()))
            await purse.mint(9)
            fresh = await bank.storage.read(lambda tx: liabilities._decide(tx, bank.clock.now()))
            assert await bank.storage.transact(lambda tx: liabilities._commit(tx, fresh))
            assert not await bank.storage.transact(lambda tx: liabilities._commit(tx, stale))
            assert await liabilities.epochs(fresh.epoch.number) == []
            assert (await liabilities.epoch()).number == fresh.epoch.number - 1
            signed = [await liabilities._sign(fresh.epoch), await liabilities._sign(fresh.epoch)]
            assert signed[0] == signed[1]
            await liabilities.close_epoch()
            assert await liabilities.audit() == fresh.epoch.number + 1

    run_virtual(body())


def test_no_epoch_is_passed_over() -> None:
    """While an epoch is decided and not signed no next one is decided; the next close and the audit sign it first."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            liabilities, purse = await begun(bank), Purse(bank)
            for look in (liabilities.close_epoch, liabilities.audit):
                await purse.mint(7)
                decided = await bank.storage.read(lambda tx: liabilities._decide(tx, bank.clock.now()))
                assert decided is not None
                assert await bank.storage.transact(lambda tx, what=decided: liabilities._commit(tx, what))
                assert await bank.storage.read(lambda tx: liabilities._decide(tx, bank.clock.now())) is None
                await look()
                assert (await liabilities.epochs(decided.epoch.number))[0].number == decided.epoch.number
            numbers = [epoch.number for epoch in await liabilities.epochs(1)]
            assert numbers == list(range(1, len(numbers) + 1))

            async def busy(tx, now):  # type: ignore[no-untyped-def]
                return None

            liabilities._decide = busy  # type: ignore[method-assign]
            with pytest.raises(UnavailableError):
                await liabilities.close_epoch()

    run_virtual(body())


def test_a_race_for_a_number_is_lost_quietly() -> None:
    """A process whose decision comes second answers with the epoch of the first, and signs it if that died."""

    async def body(died: bool) -> None:
        async with house(settings=ON) as bank:
            liabilities, purse = await begun(bank), Purse(bank)
            await purse.mint(7)
            real = liabilities._decide

            async def overtaken(tx, now):  # type: ignore[no-untyped-def]
                liabilities._decide = real  # type: ignore[method-assign]
                return await real(tx, now)

            mine = await bank.storage.read(lambda tx: real(tx, bank.clock.now()))

            async def late(tx, now):  # type: ignore[no-untyped-def]
                return mine

            if died:
                await bank.storage.transact(lambda tx: liabilities._commit(tx, mine))
                liabilities.latest = _after(liabilities, 1)  # type: ignore[method-assign]
            else:
                await liabilities.close_epoch()
            liabilities._decide = late  # type: ignore[method-assign]
            closed = await liabilities.close_epoch()
            assert closed.number == mine.epoch.number
            assert closed.signatures
            liabilities._decide = overtaken  # type: ignore[method-assign]
            await liabilities.close_epoch()

    run_virtual(body(False))
    run_virtual(body(True))


def _after(liabilities: Liabilities, skipped: int):  # type: ignore[no-untyped-def]
    """`latest` that sees nothing the first time, as before the other process had committed."""
    real, calls = liabilities.latest, [0]

    async def latest():  # type: ignore[no-untyped-def]
        calls[0] += 1
        return None if calls[0] <= skipped else await real()

    return latest


def test_a_crash_at_any_commit_leaves_an_epoch_or_none() -> None:
    """Killed before or after each commit of a close, the next start goes on: no number twice, no leaf lost, all signed."""

    async def body(at: int, before: bool) -> None:
        inner = SqliteStorage(":memory:", inline=True)
        await inner.migrate(MIGRATIONS)
        async with house(storage=inner, settings=ON) as bank:
            await begun(bank)
            await Purse(bank).mint(100)
            mortal = MortalStorage(inner)
            liabilities = _on(bank.mint, mortal)
            mortal.at, mortal.before = at, before
            with pytest.raises(Died):
                await liabilities.close_epoch()
        async with house(storage=inner, settings=ON) as bank:
            again = log(bank)
            left = await again.latest()
            assert left is not None
            assert bool(left.signatures) == ((at, before) in ((1, True), (2, False)))
            closed = await again.close_epoch()
            keyset = closed.keyset(bank.keyset().id)
            assert keyset is not None
            assert keyset.issued.sum == 100
            assert await again.audit() == closed.number
        await inner.close()

    for at in (1, 2):
        for before in (True, False):
            run_virtual(body(at, before))


def _on(mint: Mint, storage: Storage) -> Liabilities:
    """Liabilities of a mint over another store object."""
    from dataclasses import replace

    assert mint.liabilities is not None
    return Liabilities(replace(mint._context, storage=storage), SqlLiabilityStore(), mint.liabilities.pubkey)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE mint_leaf SET amount = '1' WHERE side = 'issued' AND position = 0",
        "DELETE FROM mint_leaf WHERE side = 'issued' AND position = 1",
        "UPDATE mint_epoch_keyset SET issued_sum = '1' WHERE epoch = 2",
        "UPDATE mint_epoch SET previous_digest = x'00' WHERE number = 3",
        "DELETE FROM mint_epoch WHERE number = 1",
        "UPDATE mint_epoch SET number = 30 WHERE number = 3",
        "UPDATE mint_output SET amount = '1' WHERE amount = '64'",
        "DELETE FROM mint_output WHERE amount = '64'",
        "UPDATE mint_proof SET state = 1",
        "UPDATE mint_leaf_node SET total = '1' WHERE height = 8",
    ],
)
def test_tampering_is_seen(sql: str) -> None:
    """Whatever is changed in leaves, epochs, subtrees or coins behind the mint's back, the audit or the next close raises."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            liabilities, purse = await begun(bank), Purse(bank)
            coins = await purse.mint(100)
            await liabilities.close_epoch()
            await purse.swap(coins, [1] * 100)
            for _ in range(2):
                await purse.swap(await purse.mint(100), [1] * 100)
            await liabilities.close_epoch()
            await liabilities.audit()

            async def tamper(tx) -> int:  # type: ignore[no-untyped-def]
                return await tx.execute(sql)

            assert await bank.storage.transact(tamper) > 0
            await purse.mint(3)

            async def look() -> None:
                await liabilities.close_epoch()
                await liabilities.audit()

            with pytest.raises(InvariantError):
                await look()

    run_virtual(body())


def test_a_lost_leaf_or_subtree_is_an_invariant() -> None:
    """A proof is never made of what is left: it raises."""

    async def body(table: str, keep: str) -> None:
        async with house(settings=ON) as bank:
            liabilities, purse, keyset = await begun(bank), Purse(bank), bank.keyset().id
            for _ in range(3):
                await purse.swap(await purse.mint(100), [1] * 100)
            await liabilities.close_epoch()
            leaves = await liabilities.leaves(keyset, Side.ISSUED, 0)

            async def lose(tx) -> int:  # type: ignore[no-untyped-def]
                return await tx.execute(f"DELETE FROM {table} WHERE {keep}")

            await bank.storage.transact(lose)
            with pytest.raises(InvariantError):
                await liabilities.prove_inclusion(keyset, Side.ISSUED, [leaves[299][0]])

    run_virtual(body("mint_leaf_node", "1 = 1"))
    run_virtual(body("mint_leaf", "position = 298"))


def test_books_that_differ_stop_the_close() -> None:
    """Coins that the ledger does not know of are never signed for; what was decided is nothing."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            liabilities = await begun(bank)
            await Purse(bank).mint(100)
            before = await liabilities.latest()

            async def forge(tx) -> int:  # type: ignore[no-untyped-def]
                return await tx.execute("UPDATE mint_output SET amount = '128' WHERE amount = '64'")

            await bank.storage.transact(forge)
            with pytest.raises(InvariantError, match="add up"):
                await liabilities.close_epoch()
            assert await liabilities.latest() == before

            async def stray(tx) -> int:  # type: ignore[no-untyped-def]
                return await tx.execute("UPDATE mint_output SET keyset = '00ff' WHERE amount = '32'")

            await bank.storage.transact(stray)
            with pytest.raises(InvariantError):
                await liabilities.close_epoch()

    run_virtual(body())


def test_a_mint_request_is_no_part_of_it() -> None:
    """Quotes alone put nothing into the logs."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            liabilities = await begun(bank)
            await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
            epoch = await liabilities.close_epoch()
            assert epoch.outstanding() == {"sat": 0}
            with pytest.raises(CommitmentBrokenError):
                verify_epoch(epoch, b"\x02" + b"\x11" * 32)

    run_virtual(body())
