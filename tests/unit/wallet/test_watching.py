"""Mints looked after by themselves: when a check is due, who makes it, what it moves, and that money goes one way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from specie.ecash import MintInfo
from specie.kernel import InvariantError, MalformedError, UnavailableError
from specie.lightning.adapters.play import Answer, Fault, PlayFaults
from specie.mint import MintSettings
from specie.storage import Storage
from specie.wallet import Balance, TransferState, Wallet, WatchPolicy, WatchReport
from specie.wallet.adapters.store_sql import SqlWalletStore
from specie.wallet.placement import Leaving
from specie.wallet.states import CoinState
from tests.support.two_mints import OTHER_URL, THIRD_URL, Network, network
from tests.support.virtual import run_virtual
from tests.support.wallets import MINT_URL, Died, MortalStorage, memory_storage, virtually

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
AWAY = UnavailableError("no connection")
MOVING = WatchPolicy(failures=3, silent_s=3600, move=True)
VERBS = ("info", "keysets", "keys", "swap", "request_melt_quote", "request_mint_quote", "melt", "mint_quote")


def fall_silent(w: Network, url: str = MINT_URL) -> None:
    """From now on this mint answers nothing."""
    for verb in VERBS:
        w.by_mint[url].plant("before", verb, *[AWAY] * 500)


def answer_again(w: Network, url: str = MINT_URL) -> None:
    """It is back."""
    w.by_mint[url].before.clear()


def wind_down(w: Network, url: str = MINT_URL) -> None:
    """It says that it takes no new money."""

    def change(verb: str, answer: object) -> object:
        if isinstance(answer, MintInfo):
            four: dict[str, Any] = {"methods": [], "disabled": True}
            return msgspec.structs.replace(answer, nuts={**answer.nuts, "4": four})
        return answer

    w.by_mint[url].change = change


def departed(reports: list[WatchReport]) -> list[str]:
    """Mints out of which something was moved."""
    return [one.health.mint for one in reports if one.departure is not None and one.departure.transfers]


@virtually
async def test_without_a_policy_nothing_is_due_and_nothing_moves() -> None:
    """The policy is off at first: no opening asks anybody, and a mint that winds down keeps its money."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 500)
        wind_down(w)
        w.clock.skip(7200)
        calls = len(w.by_mint[MINT_URL].calls)
        assert not await wallet.exits.is_due()
        assert await wallet.exits.check_due() == []
        assert len(w.by_mint[MINT_URL].calls) == calls
        await wallet.exits.watch(WatchPolicy(failures=3))  # advice alone
        assert not await wallet.exits.is_due()
        assert departed(await wallet.exits.check(force=True)) == []
        assert (await wallet.balance(mint=MINT_URL)).available == 500


@virtually
async def test_a_due_check_is_made_once_in_an_interval_by_one_process() -> None:
    """Two processes with one wallet check at once: one leaves the mint, once; nothing is due until the interval is over."""
    async with network() as w:
        storage = await memory_storage()
        one = await w.wallet(storage, words=WORDS)
        two = await w.wallet(storage, words=WORDS, trusted=False)
        await w.fund(one, 1000)
        await one.exits.watch(MOVING)
        wind_down(w)
        w.clock.skip(7200)
        assert await two.exits.is_due()
        first, second = await asyncio.gather(one.exits.check_due(), two.exits.check_due())
        assert sorted([departed(first), departed(second)]) == [[], [MINT_URL]]
        assert len(await one.transfers.entries(pending=False)) == 1
        w.clock.skip(3500)
        assert not await one.exits.is_due()
        assert await one.exits.check_due() == []
        w.clock.skip(200)
        assert await two.exits.is_due()
        await w.all_books_hold(one)


@virtually
async def test_checks_at_the_same_time_by_hand_leave_once() -> None:
    """`check` by hand asks for no turn, but the mark does: of two that find a bad mint one moves its money."""
    async with network() as w:
        storage = await memory_storage()
        one = await w.wallet(storage, words=WORDS)
        two = await w.wallet(storage, words=WORDS, trusted=False)
        await w.fund(one, 1000)
        await one.exits.watch(MOVING)
        wind_down(w)
        found = await asyncio.gather(one.exits.check(force=True), two.exits.check(force=True))
        assert sorted(departed(each) for each in found) == [[], [MINT_URL]]
        assert len(await two.transfers.entries(pending=False)) == 1
        await w.all_books_hold(one)


@virtually
async def test_a_silent_mint_is_marked_and_emptied_by_the_first_answer() -> None:
    """While it is silent nothing can be moved and nothing new goes there; the check that it answers empties it, for good."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        await wallet.exits.watch(MOVING)
        fall_silent(w)
        w.clock.skip(3700)
        assert [one.departure for one in await wallet.exits.check_due()] == [None, None]  # too early to judge
        w.clock.skip(3700)
        reports = await wallet.exits.check_due()
        assert reports[0].departure is not None
        assert reports[0].departure.transfers == []
        assert reports[0].departure.problems == ["it does not answer: its money moves once it does"]
        assert [one.mint for one in await wallet.exits.leaving()] == [MINT_URL]
        assert (await wallet.mint_quote(5)).mint == OTHER_URL
        w.clock.skip(3700)
        assert departed(await wallet.exits.check_due()) == []
        assert (await wallet.balance(mint=MINT_URL)).available == 1000
        answer_again(w)
        w.clock.skip(3700)  # a mint with money to be moved out is asked by every check, however long it was silent
        assert departed(await wallet.exits.check_due()) == [MINT_URL]
        assert (await wallet.balance(mint=OTHER_URL)).available > 950
        await w.all_books_hold(wallet)


@virtually
async def test_money_never_goes_back_and_forth() -> None:
    """Mints that are bad by turns are left once each, and the last good one keeps all, whatever the others say later."""
    async with network((MINT_URL, OTHER_URL, THIRD_URL)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        await wallet.exits.watch(MOVING)
        moved: list[str] = []
        for turn in range(12):
            bad, good = (MINT_URL, OTHER_URL) if turn % 2 == 0 else (OTHER_URL, MINT_URL)
            wind_down(w, bad)
            w.by_mint[good].change = None
            w.clock.skip(3700)
            moved += departed(await wallet.exits.check_due())
        assert moved in ([MINT_URL], [MINT_URL, OTHER_URL])
        assert len(await wallet.transfers.entries(pending=False)) == len(moved)
        wind_down(w, THIRD_URL)
        wind_down(w, OTHER_URL)
        w.clock.skip(3700)
        held = {one.mint: one.available for one in await wallet.balances()}
        for report in await wallet.exits.check_due():  # no mint is well: what is there stays
            assert report.departure is None or report.departure.transfers == []
        assert {one.mint: one.available for one in await wallet.balances()} == held
        await w.all_books_hold(wallet)


@virtually
async def test_an_outage_of_our_own_is_blamed_on_no_mint() -> None:
    """All mints were silent for days. One answers a check before the other does: not enough to give the other up."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        await wallet.exits.watch(MOVING)
        fall_silent(w, MINT_URL)
        fall_silent(w, OTHER_URL)
        for _ in range(20):
            w.clock.skip(7 * 3600)
            assert [one.departure for one in await wallet.exits.check_due()] == [None, None]
        answer_again(w, OTHER_URL)
        w.clock.skip(7 * 3600)
        assert [one.departure for one in await wallet.exits.check_due()] == [None, None]
        assert await wallet.exits.leaving() == []
        w.clock.skip(7 * 3600)
        assert (await wallet.exits.check_due())[0].departure is not None  # it answered twice, and the other did not
        assert [one.mint for one in await wallet.exits.leaving()] == [MINT_URL]


@virtually
async def test_an_owner_who_told_it_to_leave_is_obeyed_without_a_policy() -> None:
    """`leave` of a mint that is silent is carried on by later checks, at the cost that was said, to where was said."""
    async with network((MINT_URL, OTHER_URL, THIRD_URL)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        fall_silent(w)
        assert (await wallet.exits.leave(MINT_URL, to=[THIRD_URL], cost_ppm=150_000)).transfers == []
        assert [one.cost_ppm for one in await wallet.exits.leaving()] == [150_000]
        answer_again(w)
        w.clock.skip(3700)
        assert await wallet.exits.is_due()
        assert departed(await wallet.exits.check_due()) == [MINT_URL]
        assert (await wallet.balance(mint=THIRD_URL)).available > 900
        assert (await wallet.balance(mint=OTHER_URL)).available == 0
        assert not await wallet.exits.is_due()  # nothing is left that could be moved
        await w.all_books_hold(wallet)


@virtually
async def test_what_is_too_dear_to_move_is_not_asked_about_all_day() -> None:
    """Dust at a mint that is left: no check is due for it until a day has passed."""
    async with network(settings=MintSettings(input_fee_ppk=1000)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1)
        assert (await wallet.exits.leave(MINT_URL)).dust
        w.clock.skip(2 * 3600)
        assert not await wallet.exits.is_due()
        quotes = len(await wallet.mint_quotes())
        assert departed(await wallet.exits.check(force=True)) == []
        assert len(await wallet.mint_quotes()) == quotes
        w.clock.skip(86_400)
        assert await wallet.exits.is_due()


@virtually
async def test_kept_mints_and_named_destinations_are_respected() -> None:
    """`keep` is never left by itself; where no named destination is well nothing moves, and the report says so."""
    async with network((MINT_URL, OTHER_URL, THIRD_URL)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        wind_down(w)
        await wallet.exits.watch(replace(MOVING, keep=(MINT_URL + "/",)))
        assert (await wallet.exits.check(force=True))[0].departure is None
        await wallet.exits.watch(replace(MOVING, destinations=(MINT_URL, OTHER_URL + "/")))
        policy = await wallet.exits.policy()
        assert policy is not None
        assert policy.destinations == (MINT_URL, OTHER_URL)
        fall_silent(w, OTHER_URL)
        report = (await wallet.exits.check(force=True))[0]
        assert report.departure is not None
        assert report.departure.problems == ["no mint where its money may go is well"]
        assert await wallet.exits.leaving() == []
        answer_again(w, OTHER_URL)
        w.clock.skip(7200)
        assert departed(await wallet.exits.check(force=True)) == [MINT_URL]
        assert (await wallet.balance(mint=THIRD_URL)).available == 0


@virtually
async def test_a_policy_of_nonsense_is_refused() -> None:
    """Numbers out of range are no policy; what was set before stays."""
    async with network() as w:
        wallet = await w.wallet()
        await wallet.exits.watch(MOVING)
        for wrong in ({"failures": 0}, {"every_s": 0}, {"silent_s": -1}, {"horizon_s": -1}, {"cost_ppm": 1_000_001}):
            with pytest.raises(MalformedError):
                await wallet.exits.watch(replace(MOVING, **wrong))  # type: ignore[arg-type]
        assert await wallet.exits.policy() == MOVING


@virtually
async def test_a_policy_of_an_older_version_is_read() -> None:
    """Fields that it does not have yet are the defaults."""
    async with network() as w:
        wallet = await w.wallet()
        text = '{"failures": 4, "silent_s": 5, "horizon_s": 6, "move": true, "destinations": [], "cost_ppm": 7}'
        store = SqlWalletStore()
        await wallet._context.storage.transact(lambda tx: store.save_policy(tx, "watch", text))
        assert await wallet.exits.policy() == WatchPolicy(4, 5, 6, True, (), 7)


@virtually
async def test_a_check_at_opening_is_bounded_and_never_raises() -> None:
    """A mint that hangs costs an opening its bound and no more, which counts as no answer; a broken store costs nothing."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 500)
        await wallet.exits.watch(MOVING)
        w.clock.skip(7200)

        async def hang(*_: object) -> MintInfo:
            await w.clock.sleep(10_000)
            return MintInfo()

        w.clients[MINT_URL].info = hang  # type: ignore[method-assign]
        before = w.clock.monotonic()
        reports = await wallet.exits.check_due()
        assert w.clock.monotonic() - before == pytest.approx(10, abs=1)
        assert reports[0].health.failures == 1
        w.clock.skip(7200)
        before = w.clock.monotonic()
        assert await wallet.exits.check_due(within_s=2) == []
        assert w.clock.monotonic() - before == pytest.approx(2, abs=0.5)

        async def broken(*_: object) -> None:
            raise InvariantError("the store is broken")

        wallet.exits.policy = broken  # type: ignore[assignment]
        assert await wallet.exits.check_due() == []


@virtually
async def test_a_guard_checks_in_intervals_survives_errors_and_ends_when_told() -> None:
    """One check an interval at irregular times, each report heard, trouble survived, transfers on their way carried on."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        heard: list[tuple[float, WatchReport]] = []

        async def listen(report: WatchReport) -> None:
            heard.append((w.clock.monotonic(), report))

        guard = asyncio.create_task(wallet.exits.guard(listen))
        await w.clock.sleep(3 * 3600 + 1800)
        times = sorted({at for at, _ in heard})
        assert len(heard) == 2 * len(times)
        pauses = [after - before for before, after in itertools.pairwise(times)]
        assert len(pauses) in (2, 3)
        assert all(3600 <= pause <= 3600 * 1.1 + 30 for pause in pauses)
        assert len(set(pauses)) == len(pauses)

        await wallet.exits.watch(replace(MOVING, every_s=600))
        real, fails = wallet.exits.check, 2

        async def failing(**options: Any) -> list[WatchReport]:
            nonlocal fails
            fails -= 1
            if fails >= 0:
                raise UnavailableError("trouble")
            return await real(**options)

        wallet.exits.check = failing  # type: ignore[method-assign]
        w.bank.rail.set_faults(PlayFaults(always=Fault(after_s=900.0, answer=Answer.PENDING)))
        wind_down(w)
        await w.clock.sleep(4 * 3600)
        assert fails < 0
        assert {one.state for one in await wallet.transfers.entries(pending=False)} == {TransferState.DONE}
        assert (await wallet.balance(mint=OTHER_URL)).available > 950
        assert not guard.done()
        guard.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await guard
        assert guard.cancelled()
        await w.all_books_hold(wallet)


@virtually
async def test_a_guard_beside_something_else_asks_nobody_without_a_policy() -> None:
    """`always=False`: no mint is asked until a policy that moves money is set, and then soon."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 500)
        wind_down(w)
        calls = len(w.by_mint[MINT_URL].calls)
        guard = asyncio.create_task(wallet.exits.guard(always=False))
        await w.clock.sleep(6 * 3600)
        assert len(w.by_mint[MINT_URL].calls) == calls
        await wallet.exits.watch(MOVING)
        await w.clock.sleep(200)
        assert (await wallet.balance(mint=MINT_URL)).available < 50
        guard.cancel()
        await asyncio.gather(guard, return_exceptions=True)


@virtually
async def test_two_guards_share_the_checks() -> None:
    """Two programs with one wallet: still one check an interval."""
    async with network() as w:
        storage = await memory_storage()
        one = await w.wallet(storage, words=WORDS)
        two = await w.wallet(storage, words=WORDS, trusted=False)
        heard: list[float] = []

        async def listen(report: WatchReport) -> None:
            if report.health.mint == MINT_URL:
                heard.append(w.clock.monotonic())

        guards = [asyncio.create_task(each.exits.guard(listen, every_s=600)) for each in (one, two)]
        await w.clock.sleep(6 * 3600)
        for guard in guards:
            guard.cancel()
        await asyncio.gather(*guards, return_exceptions=True)
        assert 30 <= len(heard) <= 36
        assert all(after - before >= 599 for before, after in itertools.pairwise(heard))


async def _life(kill: Callable[[MortalStorage], None]) -> bool:
    async with network() as w:
        storage = MortalStorage(await memory_storage())
        wallet = await w.wallet(storage, words=WORDS)
        await w.fund(wallet, 1000)
        await wallet.exits.watch(MOVING)
        wind_down(w)
        w.clock.skip(7200)
        kill(storage)
        died = False
        try:
            await wallet.exits.check_due()
        except Died:
            died = True
        storage.at = None
        again = await w.wallet(storage.inner, words=WORDS, trusted=False)
        assert not (await again.resume(wait_s=60)).open
        await w.all_books_hold(again)
        for _ in range(2):
            w.clock.skip(3700)
            await again.exits.check_due()
        assert (await again.balance(mint=MINT_URL)).available < 50
        assert (await again.balance(mint=OTHER_URL)).available > 950
        await w.all_books_hold(again)
        return died


@pytest.mark.parametrize("before", [True, False], ids=["lost", "durable"])
def test_dies_at_every_commit_of_a_check(before: bool) -> None:
    """Whenever the process dies while a check moves money, nothing is lost, and later checks end what it began."""
    deaths = 0
    for number in range(1, 60):

        def kill(storage: MortalStorage, number: int = number) -> None:
            storage.at, storage.before = storage.commits + number, before

        if not run_virtual(_life(kill)):
            break
        deaths += 1
    else:
        pytest.fail("the check never ended")
    assert deaths > 8


@virtually
async def test_a_mark_from_the_future_holds_nobody_up() -> None:
    """After the clock was put back, marks and times of checks that lie ahead do not stop the watch."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 500)
        now = w.clock.now()
        store = SqlWalletStore()
        mark = Leaving(MINT_URL, (), now, 200_000, now + 10 * 86_400)
        await wallet._context.storage.transact(lambda tx: store.save_leaving(tx, mark))
        await wallet._context.storage.transact(lambda tx: store.save_policy(tx, "watch, last check", str(now + 10**6)))
        assert await wallet.exits.is_due()
        assert departed(await wallet.exits.check_due()) == [MINT_URL]


# balances


@contextlib.asynccontextmanager
async def _random_coins(seed: int) -> AsyncIterator[tuple[Wallet, Storage]]:
    dice = random.Random(seed)
    async with network() as w:
        storage = await memory_storage()
        wallet = await w.wallet(storage)

        async def body(tx: Any) -> None:
            for number in range(dice.randrange(0, 300)):
                state = dice.choice(list(CoinState))
                token = dice.choice([None, "token"]) if state in (CoinState.PENDING, CoinState.SPENT) else None
                await tx.execute(
                    "INSERT INTO wallet_proof (y, mint, unit, keyset, amount, secret, c, state, token, unswapped, created_at, "
                    "changed_at) VALUES ($1, $2, $3, 'k', $4, $5, $6, $7, $8, $9, 0, 0)",
                    number.to_bytes(33, "big"),
                    dice.choice([MINT_URL, OTHER_URL, THIRD_URL]),
                    dice.choice(["sat", "usd"]),
                    str(2 ** dice.randrange(0, 64)),
                    str(number),
                    bytes(33),
                    str(state),
                    token,
                    dice.randrange(2),
                )

        await storage.transact(body)
        yield wallet, storage


@pytest.mark.parametrize("seed", range(12))
def test_balances_are_what_reading_every_coin_gives(seed: int) -> None:
    """Sums made by the store equal those of all coins read one by one, amounts up to 2^63 in any number among them."""

    async def compare() -> None:
        async with _random_coins(seed) as (wallet, storage):
            sums: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
            for coin in await storage.read(SqlWalletStore().proofs):
                if coin.state is CoinState.UNSPENT:
                    kind = "unswapped" if coin.unswapped else "available"
                else:
                    kind = "sent" if coin.state is CoinState.PENDING and coin.token is not None else "reserved"
                sums[coin.mint, coin.unit][kind] += coin.proof.amount
            wanted = [Balance(unit, mint, **held) for (mint, unit), held in sorted(sums.items())]
            assert await wallet.balances() == wanted
            for unit in ("sat", "usd", "eur"):
                for mint in (None, MINT_URL, OTHER_URL):
                    found = await wallet.balance(unit=unit, mint=mint)
                    ours = [one for one in wanted if one.unit == unit and mint in (None, one.mint)]
                    assert (found.unit, found.mint) == (unit, mint)
                    assert found.total == sum(one.total for one in ours)
                    assert found.reserved == sum(one.reserved for one in ours)

    run_virtual(compare())
