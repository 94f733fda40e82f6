"""Targets over mints: the plan is pure and bounded, and what it says is carried out by transfers."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel import MalformedError
from specie.lightning.adapters.play import Answer, Fault, PlayFaults
from specie.wallet import Holding, Move, Target, TransferState
from specie.wallet.errors import MintUnknownError
from specie.wallet.target import check_targets, most_wanting, plan_moves
from tests.support.two_mints import OTHER_URL, THIRD_URL, network
from tests.support.wallets import MINT_URL, virtually


def after(holdings: Sequence[Holding], moves: Sequence[Move]) -> list[Holding]:
    """What the mints hold once all moves are made, without cost."""
    by_mint = {one.mint: one for one in holdings}
    for move in moves:
        giver, taker = by_mint[move.source], by_mint[move.destination]
        by_mint[move.source] = replace(giver, held=giver.held - move.amount, movable=giver.movable - move.amount)
        by_mint[move.destination] = replace(taker, held=taker.held + move.amount)
    return list(by_mint.values())


@st.composite
def _scenes(draw: st.DrawFn) -> tuple[list[Holding], dict[str, Target], int, int]:
    bounds = st.one_of(st.none(), st.integers(0, 400))
    holdings, targets, left = [], {}, 1_000_000
    for number in range(draw(st.integers(1, 6))):
        mint = f"http://{number}.test"
        held = draw(st.integers(0, 1000))
        movable = draw(st.integers(0, held))
        holdings.append(
            Holding(
                mint,
                held,
                movable if draw(st.booleans()) else held,
                leaving=draw(st.integers(0, 9)) == 0,
                least=draw(bounds),
                most=draw(bounds),
                least_out=draw(bounds),
                most_out=draw(bounds),
                takes=draw(st.integers(0, 9)) > 0,
            )
        )
        share = draw(st.one_of(st.none(), st.integers(0, left)))
        most = draw(st.one_of(st.none(), st.integers(0, 1200)))
        left -= share or 0
        if share is not None or most is not None:
            targets[mint] = Target(mint, "sat", share, most)
    return holdings, targets, draw(st.integers(1, 50)), draw(st.sampled_from([0, 1000, 20_000, 1_000_000]))


@given(_scenes())
def test_a_plan_keeps_every_bound(scene: tuple[list[Holding], dict[str, Target], int, int]) -> None:
    """Nothing is created, no mint goes over its maximum or below nothing, each move is within limits and its cost cap."""
    holdings, targets, min_move, cost_ppm = scene
    moves = plan_moves(holdings, targets, min_move=min_move, cost_ppm=cost_ppm)
    then = {one.mint: one for one in after(holdings, moves)}
    assert sum(one.held for one in then.values()) == sum(one.held for one in holdings)
    given_by_mint = {one.mint: one for one in holdings}
    for move in moves:
        giver, taker = given_by_mint[move.source], given_by_mint[move.destination]
        assert move.source != move.destination
        assert move.amount >= max(min_move, giver.least_out or 0, taker.least or 0)
        assert move.amount <= min(giver.most_out or 10**9, taker.most or 10**9)
        assert move.max_fee * 1_000_000 <= move.amount * cost_ppm
        assert taker.takes
        assert not taker.leaving
    for mint, one in then.items():
        assert one.movable >= 0
        most = targets[mint].maximum if mint in targets else None
        if most is not None and any(move.destination == mint for move in moves):
            assert one.held <= most


@given(_scenes())
def test_a_plan_carried_out_leaves_nothing_to_plan(scene: tuple[list[Holding], dict[str, Target], int, int]) -> None:
    """Planning again after the moves gives none: what is balanced stays as it is."""
    holdings, targets, min_move, cost_ppm = scene
    moves = plan_moves(holdings, targets, min_move=min_move, cost_ppm=cost_ppm)
    if len(moves) < 200:
        assert plan_moves(after(holdings, moves), targets, min_move=min_move, cost_ppm=cost_ppm) == ()


def _fewest(weights: Mapping[str, int]) -> int:
    """The least number of transfers that settles surpluses and lacks, by trying every partition into even groups."""
    names = sorted(weights)
    best = 0
    seen = {frozenset[str](): 0}
    for size in range(1, len(names) + 1):
        for chosen in itertools.combinations(names, size):
            group = frozenset(chosen)
            if sum(weights[name] for name in chosen):
                continue
            seen[group] = max(
                seen[part] + 1 for part in seen if part < group and (not part or sum(weights[n] for n in part) == 0)
            )
            best = max(best, seen[group])
    return len(names) - best


@given(st.lists(st.integers(-30, 30).filter(bool), min_size=1, max_size=6))
def test_moves_are_the_fewest(changes: list[int]) -> None:
    """Where shares are met exactly and nothing bounds a move, no plan has fewer transfers."""
    changes = [*changes, -sum(changes)] if sum(changes) else changes
    base = 10_000
    whole = base * len(changes)
    shares = [base + change for change in changes]
    holdings = [Holding(f"http://{n}.test", base, base) for n in range(len(changes))]
    scale = 1_000_000
    targets = {
        one.mint: Target(one.mint, "sat", -(-share * scale // whole)) for one, share in zip(holdings, shares, strict=True)
    }
    moves = plan_moves(holdings, targets, cost_ppm=0)
    weights = {one.mint: change for one, change in zip(holdings, changes, strict=True)}
    assert [one.held for one in after(holdings, moves)] == shares
    assert len(moves) == _fewest(weights)


def test_groups_of_three_are_found() -> None:
    """Two even groups of three mints need four transfers; taking the largest first would need five."""
    weights = {"a": 6, "b": -1, "c": -5, "d": 8, "e": -2, "f": -6}
    holdings = [Holding(name, 100 + weight, 100 + weight) for name, weight in weights.items()]
    whole = sum(one.held for one in holdings)
    assert whole == 600
    targets = {name: Target(name, "sat", 166_667) for name in weights}
    moves = plan_moves(holdings, targets, cost_ppm=0)
    assert len(moves) == 4
    assert [one.held for one in after(holdings, moves)] == [100] * 6


def test_a_mint_that_is_left_is_emptied_wherever_there_is_room() -> None:
    """Hard surplus goes to the share that lacks, then to mints without one, then beyond shares; never over a maximum."""
    holdings = [Holding("a", 300, 300, leaving=True), Holding("b", 50, 50), Holding("c", 0, 0), Holding("d", 0, 0)]
    targets = {"b": Target("b", "sat", 500_000), "c": Target("c", "sat", None, 60)}
    moves = plan_moves(holdings, targets, cost_ppm=0)
    then = {one.mint: one.held for one in after(holdings, moves)}
    assert then["a"] == 0
    assert then["b"] == 175
    assert then["c"] <= 60


def test_targets_that_make_no_sense() -> None:
    """Neither share nor maximum, shares beyond the whole, negative figures."""
    for wrong in (
        [Target("a", "sat")],
        [Target("a", "sat", 600_000), Target("b", "sat", 600_000)],
        [Target("a", "sat", -1)],
        [Target("a", "sat", None, -1)],
    ):
        with pytest.raises(MalformedError):
            check_targets(wrong)
    check_targets([Target("a", "sat", 600_000), Target("b", "usd", 600_000)])


def test_new_money_goes_where_it_lacks_most() -> None:
    """The emptiest share first; a full mint, one being left and one that takes nothing are no places."""
    holdings = [
        Holding("full", 100, 100),
        Holding("a", 10, 10),
        Holding("b", 0, 0),
        Holding("gone", 0, 0, leaving=True),
        Holding("shut", 0, 0, takes=False),
    ]
    targets = {
        "full": Target("full", "sat", None, 100),
        "a": Target("a", "sat", 400_000),
        "b": Target("b", "sat", 400_000),
        "gone": Target("gone", "sat", 200_000),
    }
    assert most_wanting(holdings, targets) == ["b", "a"]


@virtually
async def test_a_wallet_is_brought_to_its_targets() -> None:
    """A dry run moves nothing; the real one meets the shares within its costs; a second one has nothing to do."""
    async with network((MINT_URL, OTHER_URL, THIRD_URL)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 9000)
        await wallet.targets.set(MINT_URL, share_ppm=400_000)
        await wallet.targets.set(OTHER_URL, share_ppm=300_000, maximum=2000)
        await wallet.targets.set(THIRD_URL, share_ppm=300_000)
        plan = await wallet.targets.rebalance(dry_run=True)
        assert {(one.destination, one.amount) for one in plan.moves} == {(OTHER_URL, 2000), (THIRD_URL, 2700)}
        assert (await wallet.balance(mint=OTHER_URL)).total == 0
        done = await wallet.targets.rebalance()
        assert [one.state for one in done.transfers] == [TransferState.DONE] * 2
        assert done.refused == ()
        assert (await wallet.balance(mint=OTHER_URL)).available == 2000
        assert (await wallet.targets.plan(min_move=100)).moves == ()
        await w.all_books_hold(wallet)


@virtually
async def test_new_money_prefers_mints_below_target() -> None:
    """An invoice without a mint named is asked for where the share lacks most."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        assert (await wallet.mint_quote(5)).mint == MINT_URL
        await wallet.targets.set(OTHER_URL, share_ppm=500_000)
        assert (await wallet.mint_quote(5)).mint == OTHER_URL
        assert await wallet.targets.clear(mint=OTHER_URL) == 1
        assert (await wallet.mint_quote(5)).mint == MINT_URL
        with pytest.raises(MintUnknownError):
            await wallet.targets.set("http://nowhere.test", maximum=1)


@virtually
async def test_moves_that_cost_too_much_are_left_and_said() -> None:
    """With a cap that no mint meets nothing moves; without targets there is no plan."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        assert (await wallet.targets.rebalance()).moves == ()
        await wallet.targets.set(OTHER_URL, share_ppm=500_000)
        report = await wallet.targets.rebalance(cost_ppm=1)
        assert report.transfers == ()
        assert len(report.refused) == 1
        assert (await wallet.balance(mint=MINT_URL)).available == 1000


@virtually
async def test_rebalance_waits_behind_a_payment_nobody_knows_of() -> None:
    """After a transfer that hangs no further one leaves that mint; resume ends it and the next run does the rest."""
    async with network((MINT_URL, OTHER_URL, THIRD_URL)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 4096)
        await w.fund(wallet, 4096)
        for url in (OTHER_URL, THIRD_URL):
            await wallet.targets.set(url, share_ppm=250_000)
        w.bank.rail.set_faults(PlayFaults(always=Fault(after_s=500.0, answer=Answer.PENDING)))
        report = await wallet.targets.rebalance(wait_s=1)
        assert [one.state for one in report.transfers] == [TransferState.PAYING]
        assert len(report.refused) == 1
        await wallet.resume(wait_s=600)
        w.bank.rail.set_faults(PlayFaults())
        await wallet.targets.rebalance()
        assert (await wallet.balance(mint=OTHER_URL)).available > 1900
        assert (await wallet.balance(mint=THIRD_URL)).available > 1900
        await w.all_books_hold(wallet)


@virtually
async def test_rebalance_while_spending() -> None:
    """Sends and a rebalance at once: each gets coins or is refused; nothing is spent twice."""
    async with network() as w:
        wallet = await w.wallet()
        for _ in range(4):
            await w.fund(wallet, 500)
        await wallet.targets.set(OTHER_URL, share_ppm=500_000)
        results = await asyncio.gather(
            wallet.targets.rebalance(), *(wallet.send(200, mint=MINT_URL) for _ in range(4)), return_exceptions=True
        )
        assert any(not isinstance(one, BaseException) for one in results)
        await wallet.resume(wait_s=60)
        assert (await wallet.balance()).reserved == 0
        await w.all_books_hold(wallet)
