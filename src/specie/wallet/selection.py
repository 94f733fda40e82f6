"""Choice of coins, exact about fees; pure.

The mint takes `ceil(sum(input_fee_ppk) / 1000)` once for all inputs (NUT-02), so fee and choice depend on each other: one
more coin raises the fee. The knot is cut by counting in thousandths. A coin of `amount` from a keyset of `ppk` is worth
`1000 * amount - ppk`; the worth of coins adds up, and what is left of a set after its fee is `floor(sum(worth) / 1000)`.

Coins of one keyset and one amount are alike, and a wallet has many of few kinds: they are counted in heaps, and only where a
heap gives some of its coins does it matter which (those of the smallest Y; a last one, of the largest).

Coins of inactive or expiring keysets go first. Only coins that are UNSPENT and wholly ours are ever chosen. Not here: how
the chosen coins are reserved (the store's compare-and-swap does that).
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from specie.kernel.errors import MalformedError
from specie.kernel.money import split_amount
from specie.wallet.errors import InsufficientFundsError
from specie.wallet.holding import StoredProof
from specie.wallet.states import CoinState

__all__ = ["KeysetTerms", "Selection", "fee_of", "keep_amounts", "net_most", "net_value", "select", "select_exact", "spendable"]

_SEARCH_STEPS = 20_000
_by_y = attrgetter("y")

_Heaps = Mapping[int, Sequence[StoredProof]]
"""Coins by what each is worth, in thousandths."""


@dataclass(frozen=True, slots=True)
class KeysetTerms:
    """What selection must know of a keyset: its fee per input in thousandths, and whether to get rid of it first."""

    input_fee_ppk: int
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """Chosen coins, their sum, the mint's fee for spending them, and `net` = amount - fee."""

    proofs: tuple[StoredProof, ...]
    amount: int
    fee: int

    @property
    def net(self) -> int:
        """What remains after the fee."""
        return self.amount - self.fee


def fee_of(ppks: Iterable[int]) -> int:
    """Fee of a transaction with these inputs (NUT-02): the sum of their ppk, rounded up to whole units once."""
    return -(-sum(ppks) // 1000)


def net_value(proofs: Iterable[StoredProof], terms: Mapping[str, KeysetTerms]) -> int:
    """What spending all these coins at once leaves after the fee; may be negative."""
    chosen = list(proofs)
    return sum(p.proof.amount for p in chosen) - fee_of(terms[p.proof.id].input_fee_ppk for p in chosen)


def net_most(proofs: Iterable[StoredProof], terms: Mapping[str, KeysetTerms], *, max_inputs: int = 1000) -> int:
    """The most that one payment with these coins can leave after their fee."""
    rest, total = max_inputs, 0
    heaps = _heaps(_kinds(proofs), terms)
    for worth in sorted(heaps, reverse=True):
        count = min(len(heaps[worth]), rest)
        rest -= count
        total += count * worth
    return total // 1000


def spendable(proofs: Iterable[StoredProof]) -> list[StoredProof]:
    """The coins that may be chosen: UNSPENT, in no operation, in no token, and already swapped to secrets of our own."""
    return [p for p in proofs if p.state is CoinState.UNSPENT and p.operation is None and p.token is None and not p.unswapped]


def select(
    proofs: Iterable[StoredProof],
    target: int,
    terms: Mapping[str, KeysetTerms],
    *,
    unit: str = "",
    max_inputs: int = 1000,
) -> Selection:
    """Coins that are worth at least `target` after their own fee: exactly it if possible, else with little to spare.

    Leaving keysets go first. InsufficientFundsError if all coins together do not reach it within `max_inputs`; then its
    `needed` includes the fee of all coins.
    """
    if target <= 0:
        raise MalformedError("an amount to spend must be positive")
    kinds, goal = _kinds(proofs), target * 1000
    leaving = _heaps({kind: coins for kind, coins in kinds.items() if terms[kind[0]].leaving}, terms)
    chosen = _cover(leaving, goal, max_inputs)
    if chosen is None and leaving:
        all_leaving = [p for coins in leaving.values() for p in coins]
        if len(all_leaving) < max_inputs:
            staying = _heaps({kind: coins for kind, coins in kinds.items() if not terms[kind[0]].leaving}, terms)
            rest = goal - sum(worth * len(coins) for worth, coins in leaving.items())
            more = _cover(staying, rest, max_inputs - len(all_leaving))
            chosen = None if more is None else [*all_leaving, *more]
    pool = _heaps(kinds, terms)
    if chosen is None:
        chosen = _cover(pool, goal, max_inputs)
    if chosen is None:
        best = _selection([p for worth in sorted(pool, reverse=True) for p in pool[worth]][:max_inputs], terms)
        raise InsufficientFundsError(target + best.fee, best.amount, unit)
    return _selection(chosen, terms)


def select_exact(
    proofs: Iterable[StoredProof],
    target: int,
    terms: Mapping[str, KeysetTerms],
    *,
    with_fee: bool = False,
    max_inputs: int = 1000,
) -> Selection | None:
    """Coins that sum to exactly `target` as they are (`with_fee`: after the fee of spending them), or None.

    The search is complete for denominations that divide each other, such as powers of two, without fees; otherwise it
    gives up after a bounded number of steps.
    """
    if target <= 0:
        raise MalformedError("an amount to spend must be positive")
    goal = target * 1000
    heaps: dict[int, list[list[StoredProof]]] = defaultdict(lambda: [[], []])
    for (keyset, amount), coins in _kinds(proofs).items():
        weight = 1000 * amount - (terms[keyset].input_fee_ppk if with_fee else 0)
        if 0 < weight < goal + 1000:
            heaps[weight][not terms[keyset].leaving] += coins
    pool: list[StoredProof] = []
    weights: list[int] = []
    for weight in sorted(heaps, reverse=True):
        most = min((goal + 999) // weight, max_inputs)  # no sum has more of them
        some = _first(heaps[weight][0], most)
        some += _first(heaps[weight][1], most - len(some))
        pool += some
        weights += [weight] * len(some)
    chosen = _subset(pool, weights, goal, max_inputs)
    return None if chosen is None else _selection(chosen, terms)


def keep_amounts(amount: int, denominations: Sequence[int], held: Mapping[int, int], *, target: int = 3) -> list[int]:
    """Coins to make for `amount` that the wallet keeps, ascending.

    Small change is useful: first each denomination is filled up to `target` pieces, from the smallest, as long as the
    amount lasts; the rest becomes as few coins as possible. `held` counts the pieces already there.
    """
    rest = amount
    made: Counter[int] = Counter()
    for coin in sorted(denominations):
        wanted = max(target - held.get(coin, 0), 0)
        count = min(wanted, rest // coin)
        made[coin] += count
        rest -= coin * count
        if not rest or coin > rest:
            break
    parts = list(made.elements())
    return sorted(parts + split_amount(rest, denominations)) if rest else sorted(parts)


def _kinds(proofs: Iterable[StoredProof]) -> dict[tuple[str, int], list[StoredProof]]:
    """Spendable coins by keyset and amount."""
    kinds: dict[tuple[str, int], list[StoredProof]] = defaultdict(list)
    for stored in spendable(proofs):
        proof = stored.proof
        kinds[proof.id, proof.amount].append(stored)
    return kinds


def _heaps(kinds: Mapping[tuple[str, int], list[StoredProof]], terms: Mapping[str, KeysetTerms]) -> _Heaps:
    """The coins that are worth more than their fee."""
    heaps: dict[int, list[StoredProof]] = {}
    for (keyset, amount), coins in kinds.items():
        worth = 1000 * amount - terms[keyset].input_fee_ppk
        if worth > 0:
            heaps[worth] = [*heaps[worth], *coins] if worth in heaps else coins
    return heaps


def _first(coins: Sequence[StoredProof], count: int) -> list[StoredProof]:
    """The coins of the smallest Y, in order."""
    if 8 * count < len(coins):
        return heapq.nsmallest(count, coins, key=_by_y)
    return sorted(coins, key=_by_y)[:count]


def _selection(chosen: Sequence[StoredProof], terms: Mapping[str, KeysetTerms]) -> Selection:
    return Selection(
        proofs=tuple(chosen),
        amount=sum(p.proof.amount for p in chosen),
        fee=fee_of(terms[p.proof.id].input_fee_ppk for p in chosen),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """Of one heap the coins from `start` to `end`, by Y, and its last coin as well if `tail`."""

    worth: int
    start: int
    end: int
    tail: bool

    @property
    def count(self) -> int:
        """How many coins these are."""
        return self.end - self.start + self.tail


def _cover(heaps: _Heaps, goal: int, max_inputs: int) -> list[StoredProof] | None:
    """Coins worth at least `goal` thousandths, close to it and few; None if there are not enough."""
    if goal <= 0:
        return []
    worths = sorted(heaps, reverse=True)
    candidates: list[list[_Part]] = []
    greedy: dict[int, int] = {}
    rest = goal
    for worth in worths:
        count = min(len(heaps[worth]), rest // worth)
        if count:
            greedy[worth] = count
            rest -= worth * count
    if not rest:
        candidates.append(_pruned(greedy, None, goal))
    else:
        over = (worth for worth in reversed(worths) if worth >= rest and greedy.get(worth, 0) < len(heaps[worth]))
        candidates += [_pruned(greedy, worth, goal) for worth in over][:1]
    candidates += [_pruned({}, worth, goal) for worth in reversed(worths) if worth >= goal][:1]
    largest: dict[int, int] = {}
    rest = goal
    for worth in worths:
        largest[worth] = min(len(heaps[worth]), -(-rest // worth))
        rest -= worth * largest[worth]
        if rest <= 0:
            candidates.append(_pruned(largest, None, goal))
            break
    best = min(
        candidates,
        key=lambda parts: (_count(parts) > max_inputs, sum(part.worth * part.count for part in parts) // 1000, _count(parts)),
        default=None,
    )
    if best is None or _count(best) > max_inputs:
        return None
    return [stored for part in best for stored in _taken(heaps[part.worth], part)]


def _count(parts: Iterable[_Part]) -> int:
    return sum(part.count for part in parts)


def _taken(coins: Sequence[StoredProof], part: _Part) -> list[StoredProof]:
    taken = _first(coins, part.end)[part.start :]
    return [*taken, max(coins, key=_by_y)] if part.tail else taken


def _pruned(counts: Mapping[int, int], tail: int | None, goal: int) -> list[_Part]:
    """So many of each heap, and of one the last as well, without those that are not needed, the largest first."""
    spare = sum(worth * count for worth, count in counts.items()) + (tail or 0) - goal
    parts: list[_Part] = []
    for worth in sorted({*counts, *(() if tail is None else (tail,))}, reverse=True):
        end, more = counts.get(worth, 0), worth == tail
        start = min(spare // worth, end)
        spare -= worth * start
        if more and start == end and spare >= worth:
            spare -= worth
            more = False
        if end - start + more:
            parts.append(_Part(worth, start, end, more))
    return parts


def _subset(pool: Sequence[StoredProof], weights: Sequence[int], goal: int, max_inputs: int) -> list[StoredProof] | None:
    """Depth-first search for weights whose sum is in [goal, goal + 999], largest first, in bounded steps."""
    suffix = [0] * (len(weights) + 1)
    for index in range(len(weights) - 1, -1, -1):
        suffix[index] = suffix[index + 1] + weights[index]
    after = [len(weights)] * len(weights)
    for index in range(len(weights) - 2, -1, -1):
        after[index] = after[index + 1] if weights[index] == weights[index + 1] else index + 1
    stack: list[tuple[int, int, tuple[int, ...]]] = [(0, goal, ())]
    for _ in range(_SEARCH_STEPS):
        if not stack:
            return None
        index, rest, chosen = stack.pop()
        if -1000 < rest <= 0:
            return [pool[i] for i in chosen]
        if rest < 0 or index == len(weights) or suffix[index] < rest or len(chosen) == max_inputs:
            continue
        stack.append((after[index], rest, chosen))
        stack.append((index + 1, rest - weights[index], (*chosen, index)))
    return None
