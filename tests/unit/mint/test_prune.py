"""Space of expired keysets: what is dropped, what stays, what is refused, and what audits still prove."""

from __future__ import annotations

from dataclasses import replace

import pytest

from specie.ecash import Keyset, MintQuoteRequest, MintRequest, Proof, SwapRequest, codes
from specie.ecash.liabilities import Side
from specie.kernel import InvariantError, MalformedError, RefusedError
from specie.lightning.adapters.play import Fault, PlayFaults
from specie.mint import MintSettings, Pruning
from specie.mint.adapters.prune_sql import SqlPruneStore
from specie.mint.engine import prune
from specie.mint.prune_ports import Dropped
from specie.storage import Transaction
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import MIGRATIONS, House, Purse, house
from tests.support.orders import foreign_invoice
from tests.support.virtual import run_virtual
from tests.support.wallets import Died, MortalStorage

DAY = 86_400
ON = MintSettings(liabilities=True, liabilities_every_s=10_000_000)


def pruning(bank: House) -> Pruning:
    """The mint's pruning."""
    assert bank.mint.pruning is not None
    return bank.mint.pruning


async def all_steps(bank: House, *, act: bool, grace_s: int = DAY) -> dict[tuple[Side, str], Dropped]:
    """Every step; what they found together."""
    found: dict[tuple[Side, str], Dropped] = {}
    cursor: str | None = None
    while True:
        step = await pruning(bank).step(grace_s=grace_s, act=act, cursor=cursor)
        for key, gone in step.found.items():
            found[key] = found.get(key, Dropped()) + gone
        if (cursor := step.cursor) is None:
            return found


async def counts(bank: House) -> tuple[int, int]:
    """Rows of spent inputs and of outputs."""

    async def body(tx: Transaction) -> tuple[int, int]:
        found = [await tx.fetch_one(f"SELECT COUNT(*) FROM {name}") for name in ("mint_proof", "mint_output")]
        return tuple(int(str(row[0])) for row in found if row)  # type: ignore[return-value]

    return await bank.storage.read(body)


async def history(bank: House) -> tuple[Keyset, list[Proof], list[Proof]]:
    """A keyset that will expire, with coins spent and unspent, and coins of the one after it."""
    await Purse(bank, "before").mint(4)
    old = await bank.mint.rotate_keyset("sat", final_expiry=bank.clock.now() + DAY)
    purse = Purse(bank)
    spent = await purse.mint(8)
    kept = await purse.swap(spent, [4, 2, 1, 1])
    await purse.swap(kept[:1], [2, 2])
    await bank.mint.rotate_keyset("sat")
    young = await purse.mint(16)
    fresh = await purse.swap(young, [8, 8])
    return old, kept[1:], fresh


def test_rows_go_and_sums_stay() -> None:
    """Only what was spent and signed under the expired keyset goes; the books and the audit say what they said."""

    async def body() -> None:
        async with house() as bank:
            old, kept, fresh = await history(bank)
            before = await counts(bank)
            bank.clock.skip(3 * DAY)
            audited = await bank.mint.audit()
            seen = await all_steps(bank, act=False)
            assert await counts(bank) == before
            assert {key: (gone.count, gone.total) for key, gone in seen.items()} == {
                (Side.SPENT, old.id): (2, 12),
                (Side.ISSUED, old.id): (7, 20),
            }
            gone = await all_steps(bank, act=True)
            assert {key: (one.count, one.total) for key, one in gone.items()} == {
                key: (one.count, one.total) for key, one in seen.items()
            }
            assert await counts(bank) == (before[0] - 2, before[1] - 7)
            assert await all_steps(bank, act=True) == {}
            assert (await bank.mint.audit()).balances == audited.balances
            assert (await bank.mint.books()).outstanding(old.id, "sat") == 8
            assert len(await Purse(bank, "again").swap(fresh, [16])) == 1
            assert kept
            await bank.mint.audit()

    run_virtual(body())


def test_expired_coins_are_refused_before_and_after() -> None:
    """Spent or not, a coin of an expired keyset is refused by its keyset, and so is the very request that spent it."""

    async def body() -> None:
        async with house() as bank:
            old = await bank.mint.rotate_keyset("sat", final_expiry=bank.clock.now() + DAY)
            purse = Purse(bank)
            coins = await purse.mint(8)
            outputs = purse.outputs([8])
            request = SwapRequest(tuple(coins), outputs.messages)
            kept = outputs.proofs(await bank.mint.swap(request))
            await bank.mint.rotate_keyset("sat")
            bank.clock.skip(DAY + 1)
            attempts = [request, *(SwapRequest(tuple(some), purse.outputs([8]).messages) for some in (coins, kept))]
            for attempt in attempts[1:]:
                with pytest.raises(codes.KeysetExpiredError):
                    await bank.mint.swap(attempt)
            bank.clock.skip(3 * DAY)
            assert (await all_steps(bank, act=True))[Side.SPENT, old.id].count == 1
            for attempt in attempts:
                with pytest.raises(codes.KeysetExpiredError):
                    await bank.mint.swap(attempt)
            quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
            await bank.pay(quote)
            late = purse.outputs([8], old)
            with pytest.raises((codes.KeysetExpiredError, codes.KeysetInactiveError)):
                await bank.mint.issue(MintRequest("bolt11", quote.quote, late.messages))
            assert await bank.mint.restore(outputs.messages) == []
            await bank.mint.audit()

    run_virtual(body())


def test_only_what_expired_long_enough_ago() -> None:
    """Neither a keyset without an expiry, nor one that has not expired, nor one within the grace time; no grace below a day."""

    async def body() -> None:
        async with house() as bank:
            old, _, _ = await history(bank)
            assert pruning(bank).expired(DAY) == []
            assert await all_steps(bank, act=True) == {}
            bank.clock.skip(2 * DAY)
            assert pruning(bank).expired(DAY) == [old.id][: bank.clock.now() - DAY > (old.final_expiry or 0)]
            bank.clock.skip(2)
            assert pruning(bank).expired(DAY) == [old.id]
            assert pruning(bank).expired(2 * DAY) == []
            with pytest.raises(RefusedError, match="a day"):
                await pruning(bank).step(grace_s=DAY - 1, act=True)
            with pytest.raises(MalformedError):
                await pruning(bank).step(grace_s=DAY, act=True, cursor="nowhere:xyz")

    run_virtual(body())


def test_what_is_in_flight_stays() -> None:
    """Inputs locked in a payment, and its blank outputs, outlast the expiry of their keyset; it comes to its end."""

    async def body() -> None:
        async with house() as bank:
            old = await bank.mint.rotate_keyset("sat", final_expiry=bank.clock.now() + DAY)
            purse = Purse(bank)
            coins = await purse.mint(64)
            bank.rail.set_faults(PlayFaults(always=Fault.hang()))
            quote = await purse.melt_quote(await foreign_invoice(bank, 40_000))
            await purse.melt(quote, coins, blanks=4, prefer_async=True)
            await bank.mint.rotate_keyset("sat")
            bank.clock.skip(3 * DAY)
            assert len(await bank.mint.pending_melts()) == 1
            gone = await all_steps(bank, act=True)
            assert set(gone) == {(Side.ISSUED, old.id)}
            await bank.mint.audit()
            bank.rail.set_faults(PlayFaults())
            await bank.clock.sleep(3600)
            assert await bank.mint.pending_melts() == []
            assert (await bank.mint.melt_quote(quote.quote, "bolt11")).state.value in ("PAID", "UNPAID")
            await bank.mint.audit()

    run_virtual(body())


def test_logs_of_liabilities_still_hold() -> None:
    """What a log holds may go, what no log holds waits for its epoch; proofs of what went are still given (draft 388)."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            liabilities = bank.mint.liabilities
            assert liabilities is not None
            await liabilities.close_epoch()
            old, _, _ = await history(bank)
            bank.clock.skip(3 * DAY)
            assert await all_steps(bank, act=True) == {}
            await liabilities.close_epoch()
            gone = await all_steps(bank, act=True)
            assert {key: (one.count, one.logged_count) for key, one in gone.items()} == {
                (Side.SPENT, old.id): (2, 2),
                (Side.ISSUED, old.id): (7, 7),
            }
            await bank.mint.audit()
            assert await liabilities.audit() >= 1
            leaves = await liabilities.leaves(old.id, Side.SPENT, 0)
            assert len(await liabilities.prove_inclusion(old.id, Side.SPENT, [item for item, _ in leaves])) == 2
            await liabilities.close_epoch()
            await liabilities.audit()
            await bank.storage.transact(lambda tx: tx.execute("DELETE FROM mint_proof"))
            with pytest.raises(InvariantError):
                await liabilities.audit()

    run_virtual(body())


def test_logs_that_begin_after_rows_went() -> None:
    """Liabilities switched on later: the logs hold what is there, and with what was dropped they add up to the books."""

    async def body() -> None:
        store = SqliteStorage(":memory:", inline=True)
        async with house(storage=store) as bank:
            old, _, _ = await history(bank)
            clock = bank.clock
            clock.skip(3 * DAY)
            assert (await all_steps(bank, act=True))[Side.SPENT, old.id].logged_count == 0
        async with house(storage=store, settings=ON, clock=clock, seed=1) as bank:
            liabilities = bank.mint.liabilities
            assert liabilities is not None
            epoch = await liabilities.close_epoch()
            commitment = epoch.keyset(old.id)
            assert commitment is not None
            assert (commitment.issued.sum, commitment.spent.sum) == (0, 0)
            await liabilities.audit()
            await bank.mint.audit()
        await store.close()

    run_virtual(body())


def test_killed_at_any_commit_nothing_is_lost_or_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Die at each commit of a run in tiny batches: after the next run all is gone, and the audit holds at every moment."""
    monkeypatch.setattr(prune, "_BATCH", 2)
    monkeypatch.setattr(prune, "_WINDOW", 3)

    async def body() -> None:
        deaths = 0
        for at in range(1, 40):
            store = SqliteStorage(":memory:", inline=True)
            await store.migrate(MIGRATIONS)
            async with house(storage=store) as bank:
                await history(bank)
                bank.clock.skip(3 * DAY)
                mortal = MortalStorage(store)
                mortal.at, mortal.before = at, bool(at % 2)
                died = await _dies(bank, mortal)
                deaths += died
                await bank.mint.audit()
                await all_steps(bank, act=True)
                await bank.mint.audit()
                assert await all_steps(bank, act=True) == {}
            await store.close()
            if not died:
                break
        assert died is False
        assert deaths >= 4

    run_virtual(body())


async def _dies(bank: House, mortal: MortalStorage) -> bool:
    context = replace(bank.mint._context, storage=mortal)
    dying = Pruning(context, SqlPruneStore())
    cursor: str | None = None
    try:
        while True:
            step = await dying.step(grace_s=DAY, act=True, cursor=cursor)
            if (cursor := step.cursor) is None:
                return False
    except Died:
        return True
