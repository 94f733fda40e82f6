"""The wallet checks what a mint proves of its liabilities: honest mints pass, and every way to cheat a receipt is caught."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.ecash import wire
from specie.ecash.liabilities import CommitmentBrokenError, EvidenceKind, Root, Side, verify_evidence
from specie.kernel.errors import PeerFaultError, RefusedError
from specie.mint import MintSettings
from specie.wallet import LiabilitiesBrokenError, Wallet
from specie.wallet.errors import UnsupportedError
from specie.wallet.liabilities import LiabilityReport
from tests.support.liar import Liar, LiarClient
from tests.support.virtual import run_virtual
from tests.support.wallets import MINT_URL, Died, MortalStorage, World, memory_storage, virtually, world

ON = MintSettings(liabilities=True, liabilities_every_s=3600)


@contextlib.asynccontextmanager
async def deceived() -> AsyncIterator[tuple[World, Liar]]:
    """A world whose mint's epochs are made by a liar."""
    async with world() as w:
        liar = Liar(w.bank)
        client = LiarClient(w.bank.mint, MINT_URL, w.faults)
        client.liar = liar
        w.clients[MINT_URL] = client
        yield w, liar


async def later(w: World) -> None:
    """So much later that no clock excuses a missing coin."""
    w.clock.skip(1000)
    await asyncio.sleep(1)


def clean(report: LiabilityReport) -> LiabilityReport:
    """A report without faults."""
    assert not report.faults, report.faults
    report.check()
    return report


@virtually
async def test_an_honest_mint_passes() -> None:
    """Minted, sent, received and paid coins are found in the logs with their amounts; a second check reads only what is new."""
    async with world(settings=ON) as w:
        assert w.bank.mint.liabilities is not None
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 500)
        await bob.receive((await alice.send(37)).text)
        await alice.pay(await w.foreign_invoice(21_000))
        await alice.check_pending()
        await later(w)
        epoch = await w.bank.mint.liabilities.close_epoch()
        first = clean(await alice.liabilities.verify(MINT_URL))
        assert (first.epoch, first.waiting, first.unread) == (epoch.number, 0, [])
        assert first.issued > 0
        assert first.spent > 0
        assert first.owed == epoch.outstanding()
        assert sum(first.owed.values()) == (await alice.balance()).total + (await bob.balance()).total
        assert clean(await bob.liabilities.verify(MINT_URL)).issued > 0
        await w.fund(alice, 100)
        again = clean(await alice.liabilities.verify(MINT_URL))
        assert (again.leaves, again.epochs) == (0, 0)
        assert again.waiting > 0
        await later(w)
        await w.bank.mint.liabilities.close_epoch()
        third = clean(await alice.liabilities.verify(MINT_URL))
        assert (third.epochs, third.waiting) == (1, 0)
        assert third.issued > first.issued
        assert not third.stale
        w.clock.skip(100_000)
        assert clean(await alice.liabilities.verify(MINT_URL)).stale
        assert await alice.liabilities.evidence() == []


@virtually
async def test_asking_by_name() -> None:
    """Where logs are too long to read, proofs are asked for only if that is said; then nothing is left waiting."""
    async with world(settings=ON) as w:
        assert w.bank.mint.liabilities is not None
        alice = await w.wallet()
        await w.fund(alice, 500)
        await later(w)
        await w.bank.mint.liabilities.close_epoch()
        quiet = clean(await alice.liabilities.verify(MINT_URL, max_leaves=1))
        assert quiet.issued == 0
        assert quiet.waiting > 0
        assert len(quiet.unread) == 1
        asked = clean(await alice.liabilities.verify(MINT_URL, ask=True, max_leaves=1))
        assert (asked.waiting, asked.issued) == (0, quiet.waiting)
        whole = clean(await alice.liabilities.verify(MINT_URL))
        assert whole.unread == []
        await alice.send(1)
        await w.fund(alice, 300)
        await later(w)
        await w.bank.mint.liabilities.close_epoch()
        more = clean(await alice.liabilities.verify(MINT_URL, ask=True, max_leaves=1))
        assert more.issued > whole.issued
        await w.fund(alice, 3)
        await later(w)
        await w.bank.mint.liabilities.close_epoch()
        assert clean(await alice.liabilities.verify(MINT_URL)).unread == []


@virtually
async def test_mints_that_prove_nothing() -> None:
    """A mint without the switch is told apart from one that fails a check."""
    async with world() as w:
        alice = await w.wallet()
        with pytest.raises(UnsupportedError):
            await alice.liabilities.verify(MINT_URL)


async def caught(wallet: Wallet, kind: EvidenceKind | None, *, conclusive: bool = True, **options: Any) -> LiabilityReport:
    """The report of a check that finds a fault with this evidence, which stands by itself and is kept once."""
    report = await wallet.liabilities.verify(MINT_URL, **options)
    with pytest.raises(LiabilitiesBrokenError):
        report.check()
    if kind is None:
        assert all(fault.evidence is None for fault in report.faults), report.faults
        return report
    fault = next(one for one in report.faults if one.evidence is not None)
    assert fault.evidence is not None
    assert fault.evidence.kind is kind
    assert fault.conclusive is conclusive
    await wallet.liabilities.verify(MINT_URL, **options)
    kept = [one for one in await wallet.liabilities.evidence() if one.kind == kind]
    assert len({one.evidence_id for one in kept}) == len(kept) >= 1
    verify_evidence(wire.evidence_from_json(kept[0].body))
    return report


@virtually
async def test_a_dropped_coin() -> None:
    """A coin that no log holds is missing once the clocks leave no doubt; an epoch that holds it ends the matter."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        await w.fund(alice, 100)
        await liar.close({})
        assert clean(await alice.liabilities.verify(MINT_URL)).waiting > 0
        await later(w)
        await liar.close({})
        await caught(alice, EvidenceKind.MISSING, conclusive=False)
        await caught(alice, EvidenceKind.MISSING, conclusive=False, ask=True, max_leaves=-1)
        await liar.close()
        assert clean(await alice.liabilities.verify(MINT_URL)).waiting == 0


@virtually
async def test_a_dropped_coin_and_a_backdated_epoch() -> None:
    """A mint whose clock stands still is caught by the number of epochs that went by since a check that had the coin."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        liar.at = w.clock.now() - 5000
        await w.fund(alice, 100)
        await liar.close({})
        w.clock.skip(10)
        await asyncio.sleep(1)
        clean(await alice.liabilities.verify(MINT_URL))
        await liar.close({})
        clean(await alice.liabilities.verify(MINT_URL))
        await liar.close({})
        clean(await alice.liabilities.verify(MINT_URL))
        await liar.close({})
        await liar.close({})
        await caught(alice, None)


@virtually
async def test_a_dropped_spend() -> None:
    """A coin that went and is in no log of the spent is missed too, though nothing signed shows it to others."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        await w.fund(alice, 100)
        await alice.split([50, 50])
        await later(w)
        fresh = await liar.fresh()
        await liar.close({key: log for key, log in fresh.items() if key[1] is Side.ISSUED})
        await caught(alice, None)


@virtually
@pytest.mark.parametrize("ask", [False, True])
async def test_a_shrunk_coin(ask: bool) -> None:
    """A leaf of another amount than the mint signed is conclusive: leaf, manifest and DLEQ contradict each other."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        await w.fund(alice, 100)
        await later(w)
        fresh = await liar.fresh()
        for log in fresh.values():
            log[1] = (log[1][0], log[1][1] // 2)
        await liar.close(fresh)
        await caught(alice, EvidenceKind.AMOUNT, ask=ask, max_leaves=-1 if ask else 1000)


@virtually
async def test_an_inflated_spend() -> None:
    """A spent leaf of more than the coin was worth is seen by whoever spent it."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        await w.fund(alice, 100)
        await alice.split([50, 50])
        await later(w)
        fresh = await liar.fresh()
        key = next(key for key in fresh if key[1] is Side.SPENT)
        fresh[key][0] = (fresh[key][0][0], fresh[key][0][1] + 1)
        await liar.close(fresh)
        await caught(alice, None)


@virtually
async def test_an_item_twice() -> None:
    """A leaf that stands twice in what is read is conclusive; one of ours that comes again later is caught as well."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        await w.fund(alice, 100)
        await alice.split([50, 50])
        await later(w)
        fresh = await liar.fresh()
        key = next(key for key in fresh if key[1] is Side.SPENT)
        fresh[key].append(fresh[key][0])
        await liar.close(fresh)
        await caught(alice, EvidenceKind.TWICE)
    async with deceived() as (w, liar):
        alice = await w.wallet()
        await w.fund(alice, 100)
        await alice.split([50, 50])
        await later(w)
        await liar.close()
        clean(await alice.liabilities.verify(MINT_URL))
        key = next(key for key in liar.logs if key[1] is Side.SPENT)
        await liar.close({key: [liar.logs[key][0]]})
        await caught(alice, None)


@virtually
@pytest.mark.parametrize("how", ["read", "ask"])
async def test_a_rewritten_log(how: str) -> None:
    """A log whose past was changed does not make the new root from what was read, nor the old one from its own proof."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        await w.fund(alice, 100)
        await later(w)
        await liar.close()
        clean(await alice.liabilities.verify(MINT_URL))
        key = next(key for key in liar.logs if key[1] is Side.ISSUED)
        liar.logs[key][0] = (liar.logs[key][0][0], 0)
        await w.fund(alice, 1000)
        await later(w)
        await liar.close()
        await caught(alice, None, ask=how == "ask", max_leaves=1 if how == "ask" else 1000)


@virtually
async def test_another_epoch_of_one_number() -> None:
    """Two signed texts of one epoch are conclusive; an epoch that is shown no more is a fault without proof."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        await w.fund(alice, 100)
        await later(w)
        await liar.close()
        clean(await alice.liabilities.verify(MINT_URL))
        honest = liar.epochs[-1]
        other = msgspec.structs.replace(honest, at=honest.at + 1, signatures=())
        liar.shown = [await liar.signed(other)]
        await caught(alice, EvidenceKind.EQUIVOCATION)
        liar.shown = []
        await caught(alice, None)
        liar.shown = None
        clean(await alice.liabilities.verify(MINT_URL))


@virtually
async def test_epochs_that_break_a_rule() -> None:
    """Shrunk logs and overdrawn keysets are conclusive; forged signatures and a lost beginning are faults."""
    async with deceived() as (w, liar):
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        await later(w)
        first = await liar.close()
        clean(await alice.liabilities.verify(MINT_URL))
        smaller = msgspec.structs.replace(first.keysets[0], issued=Root(1, bytes(32), 1))
        head = {"number": 2, "previous_digest": first.digest, "signatures": ()}
        shrunk = await liar.signed(msgspec.structs.replace(first, keysets=(smaller,), **head))
        liar.shown = [first, shrunk]
        await caught(alice, EvidenceKind.REWRITTEN)
        overdrawn = msgspec.structs.replace(first.keysets[0], spent=Root(1, bytes(32), 101))
        liar.shown = [first, await liar.signed(msgspec.structs.replace(first, keysets=(overdrawn,), **head))]
        await caught(alice, EvidenceKind.OVERDRAWN)
        liar.shown = [first, msgspec.structs.replace(shrunk, signatures=(bytes(64),))]
        await caught(alice, None)
        liar.shown = [await liar.signed(msgspec.structs.replace(first, number=2, signatures=()))]
        await caught(bob, None)


@virtually
async def test_leaves_that_are_kept_back() -> None:
    """A mint that does not show all leaves it has signed for is at fault."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        await w.fund(alice, 100)
        await later(w)
        await liar.close()
        liar.hidden = 1
        await caught(alice, None)
        liar.hidden = -1
        key = next(iter(liar.logs))
        liar.logs[key].append((b"\x02" + bytes(32), 1))
        await caught(alice, None)


@virtually
async def test_another_key() -> None:
    """The key the mint had at the first check is the one that must sign for ever."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        await w.fund(alice, 100)
        await later(w)
        await liar.close()
        clean(await alice.liabilities.verify(MINT_URL))
        real = LiarClient.info

        async def other(self: LiarClient) -> Any:
            return msgspec.structs.replace(
                await real(self), pubkey="02" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
            )

        async def none(self: LiarClient) -> Any:
            return msgspec.structs.replace(await real(self), pubkey="no key")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LiarClient, "info", other)
            await caught(alice, None)
            patch.setattr(LiarClient, "info", none)
            with pytest.raises(PeerFaultError):
                await alice.liabilities.verify(MINT_URL)


@virtually
async def test_answers_that_do_not_fit() -> None:
    """JSON of another shape is the mint's fault, and nothing is kept."""
    async with deceived() as (w, _):
        alice = await w.wallet()
        w.faults.change = lambda verb, answer: b"[]" if verb == "ask" else answer
        with pytest.raises(PeerFaultError):
            await alice.liabilities.verify(MINT_URL)


@virtually
async def test_a_coin_of_a_keyset_in_no_epoch() -> None:
    """Coins of a keyset that the epochs leave out are missed."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        await w.fund(alice, 100)
        await later(w)
        epoch = await liar.close()
        liar.shown = [await liar.signed(msgspec.structs.replace(epoch, keysets=(), signatures=()))]
        await caught(alice, None)


@virtually
async def test_a_keyset_that_expired_may_be_forgotten() -> None:
    """The draft lets a mint leave out keysets whose final expiry has passed, and only those."""
    async with deceived() as (w, liar):
        expiry = w.clock.now() + 5000
        await w.bank.mint.rotate_keyset("sat", final_expiry=expiry)
        alice = await w.wallet()
        await w.fund(alice, 100)
        await later(w)
        first = await liar.close()
        clean(await alice.liabilities.verify(MINT_URL))
        await w.bank.mint.rotate_keyset("sat")
        kept = tuple(one for one in first.keysets if one.issued.size == 0)
        forgetful = msgspec.structs.replace(
            first, number=2, at=expiry - 1, previous_digest=first.digest, keysets=kept, signatures=()
        )
        liar.shown = [first, await liar.signed(forgetful)]
        await caught(alice, None)
        liar.shown = [first, await liar.signed(msgspec.structs.replace(forgetful, at=expiry + 1))]
        clean(await alice.liabilities.verify(MINT_URL))


@virtually
async def test_a_mint_whose_clock_is_ahead() -> None:
    """A clock that is an hour ahead, as the mint's own information says, makes no coin overdue that came after the epoch."""
    async with deceived() as (w, liar):
        alice = await w.wallet()
        liar.at = w.clock.now() + 3600
        await liar.close({})
        await w.fund(alice, 100)
        w.clock.skip(5)
        w.faults.change = lambda verb, answer: (
            msgspec.structs.replace(answer, time=w.clock.now() + 3600) if verb == "info" else answer
        )
        assert clean(await alice.liabilities.verify(MINT_URL)).waiting > 0
        w.faults.change = None
        await caught(alice, EvidenceKind.MISSING, conclusive=False)


@virtually
async def test_a_mint_of_another_making() -> None:
    """A mint that announces the draft and does not list epochs cannot be checked here; that is no fault of its own."""
    async with deceived() as (w, _):
        alice = await w.wallet()
        w.faults.plant("before", "ask", RefusedError("the mint answered HTTP 404"))
        with pytest.raises(UnsupportedError):
            await alice.liabilities.verify(MINT_URL)


@virtually
async def test_coins_without_a_proof_have_no_receipt() -> None:
    """A coin whose DLEQ was not kept is counted, and nothing is claimed of it."""
    async with world(settings=ON) as w:
        assert w.bank.mint.liabilities is not None
        alice = await w.wallet()
        await w.fund(alice, 100)

        async def forget(tx: Any) -> int:
            count: int = await tx.execute("UPDATE wallet_proof SET dleq_e = NULL, dleq_s = NULL, dleq_r = NULL")
            return count

        coins = await alice._context.storage.transact(forget)
        await later(w)
        await w.bank.mint.liabilities.close_epoch()
        report = clean(await alice.liabilities.verify(MINT_URL))
        assert (report.unproven, report.issued) == (coins, 0)


@virtually
async def test_a_crash_at_the_end_of_a_check() -> None:
    """Killed before the view is saved, the next check finds the same; killed after, it goes on from there."""
    for before in (True, False):
        async with world(settings=ON) as w:
            assert w.bank.mint.liabilities is not None
            inner = await memory_storage()
            alice = await w.wallet(inner, words=None)
            await w.fund(alice, 100)
            await later(w)
            await w.bank.mint.liabilities.close_epoch()
            mortal = MortalStorage(inner)
            alice._context.storage = mortal
            mortal.at, mortal.before = mortal.commits + 2, before
            with pytest.raises(Died):
                await alice.liabilities.verify(MINT_URL)
            alice._context.storage = inner
            report = clean(await alice.liabilities.verify(MINT_URL))
            assert (report.waiting, report.epochs == 0) == (0, not before)
            assert report.issued > 0


# any history, any lie


ACTIONS = st.lists(st.sampled_from(["mint", "send", "pay", "split", "close", "check"]), min_size=1, max_size=8)
LIES = ["drop issued", "drop spent", "shrink", "inflate", "twice", "rewrite", "fork", "vanish"]


@settings(max_examples=25, deadline=None)
@given(ACTIONS, st.sampled_from(LIES), st.integers(0, 1000))
def test_any_lie_is_caught_by_somebody(actions: list[str], lie: str, which: int) -> None:
    """After any honest history both wallets are content; after one lie about any coin at least one of them is not."""

    async def body() -> None:
        async with deceived() as (w, liar):
            wallets = [await w.wallet(), await w.wallet()]
            await w.fund(wallets[0], 100)
            for place, action in enumerate(["split", *actions, "split"]):
                await act(w, liar, wallets, action, place)
            for wallet in wallets:
                await wallet.check_pending()
            await later(w)
            if lie in ("fork", "vanish", "rewrite"):
                await liar.close()
            for wallet in wallets:
                clean(await wallet.liabilities.verify(MINT_URL))
            await tell(w, liar, wallets, lie, which)
            reports = [await wallet.liabilities.verify(MINT_URL) for wallet in wallets]
            faults = [fault for report in reports for fault in report.faults]
            assert faults
            for fault in faults:
                if fault.evidence is not None:
                    verify_evidence(fault.evidence)
                    with pytest.raises(CommitmentBrokenError):
                        verify_evidence(msgspec.structs.replace(fault.evidence, pubkey=b"\x02" + bytes(31) + b"\x01"))

    run_virtual(body())


async def act(w: World, liar: Liar, wallets: list[Wallet], action: str, place: int) -> None:
    """One step of an honest history."""
    one, other = wallets[place % 2], wallets[(place + 1) % 2]
    if action == "mint":
        await w.fund(one, 60 + place)
    elif action == "close":
        w.clock.skip(100)
        await liar.close()
    elif action == "check":
        clean(await one.liabilities.verify(MINT_URL))
    elif (await one.balance()).available < 40:
        await w.fund(one, 100)
    elif action == "send":
        await other.receive((await one.send(13)).text)
        await one.check_pending()
    elif action == "pay":
        await one.pay(await w.foreign_invoice(5_000, f"payee {place}"))
    else:
        await one.split([10, 10])


async def tell(w: World, liar: Liar, wallets: list[Wallet], lie: str, which: int) -> None:
    """Close an epoch with a lie in it, or show another one."""
    if lie == "vanish":
        liar.shown = liar.epochs[:-1]
        return
    if lie == "fork":
        last = liar.epochs[-1]
        liar.shown = [*liar.epochs[:-1], await liar.signed(msgspec.structs.replace(last, at=last.at + 1, signatures=()))]
        return
    await w.fund(wallets[0], 100)
    await wallets[0].split([20, 20])
    await later(w)
    side = Side.SPENT if lie in ("drop spent", "inflate", "twice") else Side.ISSUED
    if lie == "rewrite":
        log = next(log for key, log in liar.logs.items() if key[1] is side and log)
        item, amount = log[which % len(log)]
        log[which % len(log)] = (item, amount + 1)
        await liar.close()
        return
    fresh = await liar.fresh()
    log = next(log for key, log in fresh.items() if key[1] is side)
    item, amount = log[which % len(log)]
    if lie.startswith("drop"):
        log.remove((item, amount))
    elif lie == "twice":
        log.append((item, amount))
    else:
        log[which % len(log)] = (item, amount - 1 if lie == "shrink" else amount + 1)
    await liar.close(fresh)
