"""Choice of coins, exact about fees; pure.

The mint takes `ceil(sum(input_fee_ppk) / 1000)` once for all inputs (NUT-02), so fee and choice depend on each other: one
more coin raises the fee. The knot is cut by counting in thousandths. A coin of `amount` from a keyset of `ppk` is worth
`1000 * amount - ppk`; the worth of coins adds up, and what is left of a set after its fee is `floor(sum(worth) / 1000)`.

Coins of inactive or expiring keysets go first. Only coins that are UNSPENT and wholly ours are ever chosen. Not here: how
the chosen coins are reserved (the store's compare-and-swap does that).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from specie.kernel.errors import MalformedError
from specie.kernel.money import split_amount
from specie.wallet.errors import InsufficientFundsError
from specie.wallet.holding import StoredProof
from specie.wallet.states import CoinState

__all__ = ["KeysetTerms", "Selection", "fee_of", "keep_amounts", "net_most", "net_value", "select", "select_exact", "spendable"]

_SEARCH_STEPS = 20_000


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
    best = sorted((_worth(p, terms) for p in spendable(proofs)), reverse=True)[:max_inputs]
    return sum(worth for worth in best if worth > 0) // 1000


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
    pool = [p for p in spendable(proofs) if _worth(p, terms) > 0]
    goal = target * 1000
    leaving = [p for p in pool if terms[p.proof.id].leaving]
    staying = [p for p in pool if not terms[p.proof.id].leaving]
    chosen = _cover(leaving, goal, terms, max_inputs) if leaving else None
    if chosen is None and leaving and len(leaving) < max_inputs:
        rest = goal - sum(_worth(p, terms) for p in leaving)
        more = _cover(staying, rest, terms, max_inputs - len(leaving))
        chosen = None if more is None else [*leaving, *more]
    if chosen is None:
        chosen = _cover(pool, goal, terms, max_inputs)
    if chosen is None:
        best = sorted(pool, key=lambda p: -_worth(p, terms))[:max_inputs]
        fee = fee_of(terms[p.proof.id].input_fee_ppk for p in best)
        raise InsufficientFundsError(target + fee, sum(p.proof.amount for p in best), unit)
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
    weigh = {p.y: (_worth(p, terms) if with_fee else 1000 * p.proof.amount) for p in spendable(proofs)}
    pool = [p for p in spendable(proofs) if weigh[p.y] > 0]
    pool.sort(key=lambda p: (-weigh[p.y], not terms[p.proof.id].leaving, p.y))
    chosen = _subset(pool, [weigh[p.y] for p in pool], target * 1000, max_inputs)
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


def _worth(stored: StoredProof, terms: Mapping[str, KeysetTerms]) -> int:
    return 1000 * stored.proof.amount - terms[stored.proof.id].input_fee_ppk


def _selection(chosen: Sequence[StoredProof], terms: Mapping[str, KeysetTerms]) -> Selection:
    return Selection(
        proofs=tuple(chosen),
        amount=sum(p.proof.amount for p in chosen),
        fee=fee_of(terms[p.proof.id].input_fee_ppk for p in chosen),
    )


def _cover(
    pool: Sequence[StoredProof], goal: int, terms: Mapping[str, KeysetTerms], max_inputs: int
) -> list[StoredProof] | None:
    """Coins worth at least `goal` thousandths, close to it and few; None if there are not enough."""
    if goal <= 0:
        return []
    ordered = sorted(pool, key=lambda p: (-_worth(p, terms), p.y))
    worths = [_worth(p, terms) for p in ordered]
    candidates: list[list[int]] = []
    greedy: list[int] = []
    rest = goal
    for index, worth in enumerate(worths):
        if worth <= rest:
            greedy.append(index)
            rest -= worth
            if not rest:
                break
    if rest <= 0:
        candidates.append(greedy)
    else:
        taken = set(greedy)
        for index in range(len(worths) - 1, -1, -1):
            if index not in taken and worths[index] >= rest:
                candidates.append([*greedy, index])
                break
    for index in range(len(worths) - 1, -1, -1):
        if worths[index] >= goal:
            candidates.append([index])
            break
    largest: list[int] = []
    total = 0
    for index, worth in enumerate(worths):
        largest.append(index)
        total += worth
        if total >= goal:
            candidates.append(largest)
            break
    best = min(
        (_pruned(candidate, worths, goal) for candidate in candidates if candidate),
        key=lambda c: (len(c) > max_inputs, sum(worths[i] for i in c) // 1000, len(c)),
        default=None,
    )
    if best is None or len(best) > max_inputs:
        return None
    return [ordered[index] for index in best]


def _pruned(candidate: Sequence[int], worths: Sequence[int], goal: int) -> list[int]:
    """Without coins that are not needed, the largest first."""
    total = sum(worths[index] for index in candidate)
    kept: list[int] = []
    for index in sorted(candidate, key=lambda i: -worths[i]):
        if total - worths[index] >= goal:
            total -= worths[index]
        else:
            kept.append(index)
    return kept


def _subset(pool: Sequence[StoredProof], weights: Sequence[int], goal: int, max_inputs: int) -> list[StoredProof] | None:
    """Depth-first search for weights whose sum is in [goal, goal + 999], largest first, in bounded steps."""
    suffix = [0] * (len(weights) + 1)
    for index in range(len(weights) - 1, -1, -1):
        suffix[index] = suffix[index + 1] + weights[index]
    stack: list[tuple[int, int, tuple[int, ...]]] = [(0, goal, ())]
    for _ in range(_SEARCH_STEPS):
        if not stack:
            return None
        index, rest, chosen = stack.pop()
        if -1000 < rest <= 0:
            return [pool[i] for i in chosen]
        if rest < 0 or index == len(weights) or suffix[index] < rest or len(chosen) == max_inputs:
            continue
        skip = index + 1
        while skip < len(weights) and weights[skip] == weights[index]:
            skip += 1
        stack.append((skip, rest, chosen))
        stack.append((index + 1, rest - weights[index], (*chosen, index)))
    return None
