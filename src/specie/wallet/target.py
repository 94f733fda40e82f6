"""How money should lie over the mints of a wallet, and the fewest transfers that bring it there; pure.

A mint may have a share of all money of a unit, a maximum, or both. Money moves for two reasons only: a mint holds more than it
may (over its maximum, or it is being left) or more than its share, or another holds less than its share. A mint without a share
gives what shares elsewhere lack and takes what others have too much of. What may be placed nowhere stays where it is.

Not here: fees. They are known when mints quote; `max_fee` of a move is what the caller's cost cap allows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from specie.kernel.errors import MalformedError

__all__ = ["Holding", "Move", "Target", "check_targets", "most_wanting", "plan_moves"]

_PPM = 1_000_000
_MOST_MOVES = 200
_GROUPING = 10
"""Up to so many mints with too much or too little the fewest moves are searched for; beyond, a greedy plan is taken."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a mint should hold of a unit: `share_ppm` millionths of all of it, and never more than `maximum`."""

    mint: str
    unit: str
    share_ppm: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """What a mint holds of one unit. `held` counts against targets; `movable` of it can be moved now.

    `least`, `most`: bounds of one payment into the mint, `least_out`, `most_out` of one out of it; None for none.
    """

    mint: str
    held: int
    movable: int
    leaving: bool = False
    least: int | None = None
    most: int | None = None
    least_out: int | None = None
    most_out: int | None = None
    takes: bool = True
    """Whether money can be put in at all."""


@dataclass(frozen=True, slots=True)
class Move:
    """One transfer to make: `amount` arrives, and it may cost `max_fee`."""

    source: str
    destination: str
    amount: int
    max_fee: int


def check_targets(targets: Sequence[Target]) -> None:
    """MalformedError unless shares are from 0 to 1,000,000 ppm and those of one unit add up to no more than the whole."""
    total: dict[str, int] = {}
    for one in targets:
        if one.share_ppm is None and one.maximum is None:
            raise MalformedError("a target is a share, a maximum, or both")
        if one.share_ppm is not None and not 0 <= one.share_ppm <= _PPM:
            raise MalformedError("a share is from 0 to 1,000,000 millionths")
        if one.maximum is not None and one.maximum < 0:
            raise MalformedError("a maximum is not negative")
        total[one.unit] = total.get(one.unit, 0) + (one.share_ppm or 0)
    if any(sum_ppm > _PPM for sum_ppm in total.values()):
        raise MalformedError("the shares of a unit add up to more than the whole")


def plan_moves(
    holdings: Sequence[Holding], targets: Mapping[str, Target], *, min_move: int = 1, cost_ppm: int = _PPM
) -> tuple[Move, ...]:
    """Moves that bring the holdings of one unit to their targets; none smaller than `min_move`.

    Nothing is created: what a move takes from one mint another gets. No destination goes over its maximum. A plan made after
    the moves were carried out (without cost) is empty.
    """
    whole = sum(one.held for one in holdings)
    state = {one.mint: one for one in holdings}
    moves: list[Move] = []

    def take(source: str, destination: str, amount: int) -> None:
        giver, taker = state[source], state[destination]
        state[source] = replace(giver, held=giver.held - amount, movable=giver.movable - amount)
        state[destination] = replace(taker, held=taker.held + amount)
        moves.append(Move(source, destination, amount, amount * cost_ppm // _PPM))

    for group in _even_groups(state, targets, whole):
        while len(moves) < _MOST_MOVES:
            found = _best(state, targets, whole, min_move, cost_ppm, within=group)
            if found is None:
                break
            take(*found)
    while len(moves) < _MOST_MOVES:
        found = _best(state, targets, whole, min_move, cost_ppm, within=None)
        if found is None:
            break
        take(*found)
    return tuple(moves)


@dataclass(frozen=True, slots=True)
class _Place:
    """What a mint has too much of (`hard`: it must go, `soft`: it should), could give, lacks, and could take besides."""

    hard: int
    soft: int
    idle: int
    lack: int
    room: int
    spare: int


def _place(one: Holding, target: Target | None, whole: int) -> _Place:
    if one.leaving:
        return _Place(one.held, 0, 0, 0, 0, 0)
    most = target.maximum if target is not None and target.maximum is not None else None
    over = 0 if most is None else max(one.held - most, 0)
    room = (2 * whole if most is None else max(most - one.held, 0)) if one.takes else 0
    if target is None or target.share_ppm is None:
        return _Place(over, 0, one.held - over, 0, room, 0)
    share = whole * target.share_ppm // _PPM
    wanted = share if most is None else min(share, most)
    lack = max(wanted - one.held, 0) if one.takes else 0
    return _Place(over, max(one.held - over - wanted, 0), 0, lack, 0, max(room - lack, 0))


def _best(
    state: Mapping[str, Holding],
    targets: Mapping[str, Target],
    whole: int,
    min_move: int,
    cost_ppm: int,
    *,
    within: frozenset[str] | None,
) -> tuple[str, str, int] | None:
    """The next move: what must go before what should, to whom lacks before who could; then exact fits, then the largest."""
    places = {name: _place(one, targets.get(name), whole) for name, one in state.items()}
    best: tuple[tuple[int, bool, int, str, str], tuple[str, str, int]] | None = None
    for source, giver in places.items():
        for destination, taker in places.items():
            if source == destination or (within is not None and not {source, destination} <= within):
                continue
            for rank, gives, takes in (
                (0, giver.hard + giver.soft, taker.lack),
                (1, giver.hard + giver.soft, taker.room),
                (2, giver.hard, taker.spare),
                (3, giver.idle, taker.lack),
            ):
                amount = _bounded(min(gives, takes), state[source], state[destination], min_move, cost_ppm)
                if amount:
                    key = (rank, not (gives == takes == amount), -amount, source, destination)
                    if best is None or key < best[0]:
                        best = (key, (source, destination, amount))
    return None if best is None else best[1]


def _bounded(amount: int, source: Holding, destination: Holding, min_move: int, cost_ppm: int) -> int:
    """As much of `amount` as one payment may carry and the source can pay with its cost; 0 where that is too little."""
    affordable = source.movable * _PPM // (_PPM + cost_ppm)
    bounds = [amount, affordable, *(most for most in (source.most_out, destination.most) if most is not None)]
    least = max(1, min_move, source.least_out or 0, destination.least or 0)
    found = min(bounds)
    return found if found >= least else 0


def _even_groups(state: Mapping[str, Holding], targets: Mapping[str, Target], whole: int) -> list[frozenset[str]]:
    """The most groups of mints within which surplus and lack are equal: n mints of a group need n - 1 moves, not n."""
    weights: dict[str, int] = {}
    for name, one in state.items():
        place = _place(one, targets.get(name), whole)
        weight = place.hard + place.soft - place.lack
        if weight:
            weights[name] = weight
    names = sorted(weights)
    if len(names) > _GROUPING:
        return []
    sums = [0] * (1 << len(names))
    most = [0] * (1 << len(names))
    step = [-1] * (1 << len(names))
    for mask in range(1, 1 << len(names)):
        low = mask & -mask
        sums[mask] = sums[mask ^ low] + weights[names[low.bit_length() - 1]]
        for bit in range(len(names)):
            if mask >> bit & 1 and (step[mask] < 0 or most[mask ^ (1 << bit)] > most[mask]):
                most[mask], step[mask] = most[mask ^ (1 << bit)], bit
        if sums[mask] == 0:
            most[mask] += 1
    groups: list[frozenset[str]] = []
    mask, last = (1 << len(names)) - 1, set[str]()
    while mask:
        if sums[mask] == 0 and last:
            groups, last = [*groups, frozenset(last)] if _is_even(last, weights) else groups, set()
        last.add(names[step[mask]])
        mask ^= 1 << step[mask]
    return [*groups, frozenset(last)] if last and _is_even(last, weights) else groups


def _is_even(names: set[str], weights: Mapping[str, int]) -> bool:
    return sum(weights[name] for name in names) == 0


def most_wanting(holdings: Sequence[Holding], targets: Mapping[str, Target]) -> list[str]:
    """Mints that may take money, best first: whose share lacks most, then those without a maximum reached, as given."""
    whole = sum(one.held for one in holdings)
    places = [(one.mint, _place(one, targets.get(one.mint), whole)) for one in holdings if one.takes and not one.leaving]
    able = [(mint, place) for mint, place in places if place.lack or place.room or place.spare]
    return [mint for mint, place in sorted(able, key=lambda pair: (-pair[1].lack, not pair[1].room))]
