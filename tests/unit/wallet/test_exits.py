"""Leaving a mint: nothing new comes in, what can be moved is moved, the rest is named, and then the mint can be forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from specie.ecash import Keyset, MintInfo
from specie.kernel import UnavailableError
from specie.lightning.adapters.play import Answer, Fault, PlayFaults
from specie.mint import MintSettings
from specie.wallet import P2PK, MintHealth, Reason, TransferState, WatchPolicy
from specie.wallet.errors import MintHoldsMoneyError, MintLeavingError, MintUnknownError
from specie.wallet.holding import KnownKeyset
from specie.wallet.placement import HealthTally, advice, next_probe_at
from tests.support.two_mints import OTHER_URL, THIRD_URL, network
from tests.support.virtual import run_virtual
from tests.support.wallets import MINT_URL, Died, MortalStorage, memory_storage, virtually

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
AWAY = UnavailableError("no connection")


@virtually
async def test_leave_moves_out_and_the_mint_can_be_forgotten() -> None:
    """All but dust arrives elsewhere; the dust becomes a token, and once that is redeemed the mint can be removed."""
    async with network(settings=MintSettings(input_fee_ppk=600)) as w:
        wallet, friend = await w.wallet(), await w.wallet()
        await w.fund(wallet, 3000)
        report = await wallet.exits.leave(MINT_URL, dust_as_token=True)
        assert report.transfers
        assert {one.state for one in report.transfers} == {TransferState.DONE}
        assert (await wallet.balance(mint=OTHER_URL)).available > 2900
        assert (await wallet.balance(mint=MINT_URL)).available == 0
        (dust,) = report.dust
        assert dust.token is not None
        assert not report.empty
        with pytest.raises(MintHoldsMoneyError) as refusal:
            await wallet.exits.remove(MINT_URL)
        assert any("are there" in reason for reason in refusal.value.reasons)
        taken = await friend.receive(dust.token.text)
        assert taken.amount + taken.fee == dust.amount
        await wallet.check_pending()
        w.clock.skip(10 * 86_400)  # its invoices have run out
        assert await wallet.exits.remove(MINT_URL) == []
        assert [view.url for view in await wallet.mints()] == [OTHER_URL]
        assert await wallet.exits.leaving() == []
        with pytest.raises(MintUnknownError):
            await wallet.exits.remove(MINT_URL)
        await w.all_books_hold(wallet, friend)


@virtually
async def test_nothing_new_comes_in() -> None:
    """No invoice, no token, no off-line receipt at a mint that is left; our own tokens come back; `stay` opens it again."""
    async with network() as w:
        wallet, friend = await w.wallet(), await w.wallet()
        await w.fund(wallet, 100)
        await w.fund(friend, 100)
        own = await wallet.send(8, mint=MINT_URL)
        await wallet.exits.leave(MINT_URL)
        with pytest.raises(MintLeavingError):
            await wallet.mint_quote(5, mint=MINT_URL)
        assert (await wallet.mint_quote(5)).mint == OTHER_URL
        token = await friend.send(16, mint=MINT_URL)
        with pytest.raises(MintLeavingError):
            await wallet.receive(token.text)
        with pytest.raises(MintLeavingError):
            await wallet.receive(token.text, offline=True)
        with pytest.raises(MintLeavingError):
            await wallet.transfers.move(1, source=OTHER_URL, destination=MINT_URL)
        with pytest.raises(MintLeavingError):
            await wallet.exits.leave(OTHER_URL, to=[MINT_URL])
        with pytest.raises(MintLeavingError):
            await wallet.exits.leave(MINT_URL, to=[MINT_URL])
        assert (await wallet.reclaim(own.text)).amount == 8
        assert await wallet.exits.stay(MINT_URL)
        assert not await wallet.exits.stay(MINT_URL)
        assert (await wallet.receive(token.text)).amount == 16
        await friend.check_pending()
        await w.all_books_hold(wallet, friend)


@virtually
async def test_what_cannot_be_moved_is_listed() -> None:
    """Sent tokens, a payment on its way and coins received off-line: each in its own column, without asking anybody."""
    async with network() as w:
        wallet, friend = await w.wallet(), await w.wallet()
        await w.fund(wallet, 1024)
        await w.fund(friend, 64)
        await wallet.send(100, lock=P2PK((await friend.p2pk_key(),)), mint=MINT_URL)
        offline = await friend.send(32, mint=MINT_URL)
        await wallet.receive(offline.text, offline=True)
        w.bank.rail.set_faults(PlayFaults(always=Fault(after_s=900.0, answer=Answer.PENDING)))
        report = await wallet.exits.leave(MINT_URL, to=[OTHER_URL], wait_s=1)
        assert [one.state for one in report.transfers] == [TransferState.PAYING]
        (stuck,) = report.stuck
        assert stuck.sent == 100
        assert stuck.unswapped == 0  # they were swapped on the way
        assert stuck.reserved > 900
        calls = len(w.by_mint[MINT_URL].calls)
        assert await wallet.exits.stuck() == [stuck]
        assert len(w.by_mint[MINT_URL].calls) == calls
        with pytest.raises(MintHoldsMoneyError) as refusal:
            await wallet.exits.remove(MINT_URL)
        assert {"an operation is open", "a transfer is on its way"} <= set(refusal.value.reasons)
        await wallet.resume(wait_s=1000)
        await friend.check_pending()
        await w.all_books_hold(wallet, friend)


@virtually
async def test_maximum_of_a_destination_is_kept() -> None:
    """Without named destinations targets choose: one is filled to its maximum, the next takes the rest."""
    async with network((MINT_URL, OTHER_URL, THIRD_URL)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 3000)
        await wallet.targets.set(OTHER_URL, share_ppm=900_000, maximum=1000)
        report = await wallet.exits.leave(MINT_URL)
        assert (await wallet.balance(mint=OTHER_URL)).total <= 1000
        assert (await wallet.balance(mint=THIRD_URL)).total > 1800
        assert {one.destination for one in report.transfers} == {OTHER_URL, THIRD_URL}
        await w.all_books_hold(wallet)


@virtually
async def test_destination_that_does_not_answer_is_passed_over() -> None:
    """The first named mint is gone: the second takes the money, and the report says why."""
    async with network((MINT_URL, OTHER_URL, THIRD_URL)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 500)
        w.by_mint[OTHER_URL].plant("before", "request_mint_quote", AWAY)
        report = await wallet.exits.leave(MINT_URL, to=[OTHER_URL, THIRD_URL])
        assert "no connection" in report.problems
        assert (await wallet.balance(mint=THIRD_URL)).available > 400
        await w.all_books_hold(wallet)


@virtually
async def test_forced_removal_hands_the_coins_out() -> None:
    """With force the coins become a token on record, in one commit with the removal; adding the mint again takes it back."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 700)
        (backup,) = await wallet.exits.remove(MINT_URL, force=True)
        assert backup.amount == 700
        assert [view.url for view in await wallet.mints()] == [OTHER_URL]
        assert (await wallet.balance()).sent == 700
        assert not (await wallet.resume()).open
        await wallet.add_mint(MINT_URL)
        assert (await wallet.reclaim(backup.text)).amount == 700
        await w.fund(wallet, 50)  # its counters went on where they were: no secret is used twice
        await w.all_books_hold(wallet)


@virtually
async def test_operations_of_a_removed_mint_wait_for_its_return() -> None:
    """A payment that hangs survives a forced removal: it is named, nobody is asked, and it ends once the mint is back."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1024)
        w.bank.rail.set_faults(PlayFaults(always=Fault(after_s=100.0, answer=Answer.PENDING)))
        await wallet.pay(await w.foreign_invoice(21_000), mint=MINT_URL, wait_s=1)
        await wallet.exits.remove(MINT_URL, force=True)
        calls = len(w.by_mint[MINT_URL].calls)
        ((_, reason),) = (await wallet.resume()).open.items()
        assert "was removed" in reason
        assert len(w.by_mint[MINT_URL].calls) == calls
        await wallet.add_mint(MINT_URL)
        assert not (await wallet.resume(wait_s=300)).open
        await w.all_books_hold(wallet)


async def _life(kill: Callable[[MortalStorage], None]) -> bool:
    async with network() as w:
        storage = MortalStorage(await memory_storage())
        wallet = await w.wallet(storage, words=WORDS)
        await w.fund(wallet, 1000)
        kill(storage)
        died = False
        try:
            await wallet.exits.leave(MINT_URL, dust_as_token=True)
            await wallet.exits.remove(MINT_URL, force=True)
        except Died:
            died = True
        storage.at = None
        again = await w.wallet(storage.inner, words=WORDS, trusted=False)
        assert not (await again.resume(wait_s=60)).open
        assert await again.transfers.entries() == []
        await w.all_books_hold(again)
        if MINT_URL in {view.url for view in await again.mints()}:
            await again.exits.leave(MINT_URL, dust_as_token=True)
            assert (await again.balance(mint=MINT_URL)).available == 0
            await w.all_books_hold(again)
        return died


@pytest.mark.parametrize("before", [True, False], ids=["lost", "durable"])
def test_dies_at_every_commit_of_a_departure(before: bool) -> None:
    """Whenever the process dies while it leaves and forgets a mint, the money is somewhere, once."""
    deaths = 0
    for number in range(1, 120):

        def kill(storage: MortalStorage, number: int = number) -> None:
            storage.at, storage.before = storage.commits + number, before

        if not run_virtual(_life(kill)):
            break
        deaths += 1
    else:
        pytest.fail("the departure never ended")
    assert deaths > 10


@virtually
async def test_health_is_remembered_and_a_silent_mint_is_probed_ever_more_seldom() -> None:
    """Failures are counted over restarts; probes wait longer each time; an answer ends it."""
    async with network() as w:
        storage = await memory_storage()
        wallet = await w.wallet(storage, words=WORDS)
        await w.fund(wallet, 500)
        await wallet.exits.watch(WatchPolicy(failures=3, silent_s=3600))
        w.by_mint[MINT_URL].plant("before", "info", *[AWAY] * 100)
        w.by_mint[MINT_URL].plant("before", "keysets", *[AWAY] * 100)
        w.clock.skip(7200)
        report = (await wallet.exits.check())[0]
        assert report.health.failures
        await wallet.close()
        again = await w.wallet(storage, words=WORDS, trusted=False)
        assert (await again.exits.health())[0].health.failures == report.health.failures
        calls = len(w.by_mint[MINT_URL].calls)
        await again.exits.check()  # too soon
        assert len(w.by_mint[MINT_URL].calls) == calls
        w.clock.skip(8 * 3600)
        silent = (await again.exits.check())[0]
        assert Reason.SILENT in {one.reason for one in silent.advice}
        assert silent.stuck[0].available == 500
        w.by_mint[MINT_URL].before.clear()
        w.clock.skip(8 * 3600)
        assert (await again.exits.check())[0].health.failures == 0


@virtually
async def test_opted_in_money_moves_out_when_the_mint_answers_again() -> None:
    """It winds down (minting disabled): advice alone by default; with `move` it is left as soon as it answers."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 500)

        def winding_down(verb: str, answer: object) -> object:
            if isinstance(answer, MintInfo):
                four: dict[str, Any] = {"methods": [], "disabled": True}
                return msgspec.structs.replace(answer, nuts={**answer.nuts, "4": four})
            return answer

        w.by_mint[MINT_URL].change = winding_down
        told = (await wallet.exits.check(force=True))[0]
        assert [one.reason for one in told.advice] == [Reason.MINTING_DISABLED]
        assert told.departure is None
        await wallet.exits.watch(WatchPolicy(move=True, destinations=(OTHER_URL,)))
        done = (await wallet.exits.check(force=True))[0]
        assert done.departure is not None
        assert (await wallet.balance(mint=OTHER_URL)).available > 450
        await wallet.exits.watch(None)
        assert await wallet.exits.policy() is None
        with pytest.raises(MintUnknownError):
            await wallet.exits.watch(WatchPolicy(destinations=("http://nowhere.test",)))
        await w.all_books_hold(wallet)


def _keyset(expiry: int | None, *, active: bool = True) -> KnownKeyset:
    return KnownKeyset(MINT_URL, Keyset(id="01" + "ab" * 32, unit="sat", keys={}, active=active, final_expiry=expiry))


def test_advice_by_what_is_known() -> None:
    """Silence by count and time, disabled methods, missing and expiring keysets; nothing where all is well."""
    policy, now = WatchPolicy(failures=2, silent_s=100, horizon_s=1000), 10_000
    well = MintHealth(MINT_URL, answered_at=now)
    assert advice(well, MintInfo(), [_keyset(None)], ["sat"], policy, now) == ()
    assert advice(well, MintInfo(), [_keyset(now + 5000)], ["sat"], policy, now) == ()

    def reasons(health: MintHealth, info: MintInfo, *keysets: KnownKeyset) -> list[Reason]:
        return [one.reason for one in advice(health, info, keysets, ["sat"], policy, now)]

    assert reasons(MintHealth(MINT_URL, 2, now - 100, now), MintInfo(), _keyset(None)) == [Reason.SILENT]
    assert reasons(MintHealth(MINT_URL, 2, now - 99, now), MintInfo(), _keyset(None)) == []
    assert reasons(well, MintInfo(nuts={"5": {"disabled": True}}), _keyset(None)) == [Reason.MELTING_DISABLED]
    assert reasons(well, MintInfo(), _keyset(None, active=False)) == [Reason.NO_KEYSET]
    assert reasons(well, MintInfo(), _keyset(now + 900)) == [Reason.EXPIRING]
    assert reasons(well, MintInfo(), _keyset(now + 900), _keyset(None)) == []


def test_tallies_add_up() -> None:
    """Failures without an answer between go on counting from the first; an answer begins anew."""
    known = MintHealth(MINT_URL, 3, 100, 150, 50)
    tally = HealthTally()
    assert tally.added_to(known) == known
    tally.unavailable(200)
    tally.unavailable(210)
    assert tally.added_to(known) == MintHealth(MINT_URL, 5, 100, 210, 50)
    tally.answered(300)
    assert tally.added_to(known) == MintHealth(MINT_URL, 0, None, 210, 300)
    tally.unavailable(400)
    assert tally.added_to(known) == MintHealth(MINT_URL, 1, 400, 400, 300)
    assert next_probe_at(known) == 150 + 240
    assert next_probe_at(MintHealth(MINT_URL)) == 0


@virtually
async def test_fees_make_dust() -> None:
    """At a mint whose coins cost more than they are worth nothing can be moved: it is dust, and stays."""
    async with network(settings=MintSettings(input_fee_ppk=1000)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1)
        report = await wallet.exits.leave(MINT_URL)
        assert report.transfers == []
        assert [(one.amount, one.token) for one in report.dust] == [(1, None)]
        await w.all_books_hold(wallet)


@virtually
async def test_a_mint_that_falls_silent_while_it_is_left_is_left_when_it_answers() -> None:
    """The mark stays, the money is stuck for all to see, and the check that finds the mint again moves it."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 500)
        for verb in ("info", "keysets", "request_melt_quote"):
            w.by_mint[MINT_URL].plant("before", verb, *[AWAY] * 100)
        w.clock.skip(7200)
        report = await wallet.exits.leave(MINT_URL)
        assert report.transfers == []
        assert report.problems
        assert report.stuck[0].available == 500
        assert (await wallet.exits.check(force=True))[0].departure is None
        for faults in w.by_mint.values():
            faults.before.clear()
        w.clock.skip(7 * 3600)
        found = (await wallet.exits.check())[0]
        assert found.departure is not None
        assert (await wallet.balance(mint=OTHER_URL)).available > 450
        await w.all_books_hold(wallet)


@virtually
async def test_with_one_mint_there_is_nowhere_to_go() -> None:
    """Nothing moves, and the report says that no other mint takes it."""
    async with network((MINT_URL,)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 50)
        report = await wallet.exits.leave(MINT_URL)
        assert report.problems == ["no other mint takes sat"]
        assert [one.amount for one in report.dust] == [50]
        with pytest.raises(MintUnknownError):
            await wallet.exits.leave("http://nowhere.test")
