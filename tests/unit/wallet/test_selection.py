"""Choice of coins: sums are exact, fees are the mint's, and nothing that is locked or pending is ever chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.ecash import Proof
from specie.kernel import MalformedError
from specie.wallet import selection
from specie.wallet.errors import InsufficientFundsError
from specie.wallet.holding import StoredProof
from specie.wallet.selection import KeysetTerms, fee_of, keep_amounts, net_value, select, select_exact, spendable
from specie.wallet.states import CoinState

POWERS = [1 << n for n in range(64)]


def coin(number: int, amount: int, keyset: str = "a", **state: object) -> StoredProof:
    """A coin whose name is its number."""
    proof = Proof(amount, keyset, f"secret {number}", b"\x02" * 33)
    return StoredProof(proof, number.to_bytes(33, "big"), "http://mint", "sat", **state)  # type: ignore[arg-type]


amounts = st.lists(st.integers(0, 20).map(lambda n: 1 << n), max_size=40)
odd_amounts = st.lists(st.integers(1, 10_000), max_size=30)
ppks = st.sampled_from([0, 1, 99, 100, 500, 999, 1000, 1001, 2500])


@st.composite
def purses(draw: st.DrawFn) -> tuple[list[StoredProof], dict[str, KeysetTerms]]:
    """Coins of three keysets, one of them leaving, some of them not free."""
    terms = {"a": KeysetTerms(draw(ppks)), "b": KeysetTerms(draw(ppks), leaving=True), "c": KeysetTerms(draw(ppks))}
    sums = draw(st.one_of(amounts, odd_amounts))
    coins = []
    for number, amount in enumerate(sums):
        state = draw(
            st.sampled_from(
                [{}] * 6
                + [
                    {"state": CoinState.RESERVED, "operation": "x"},
                    {"state": CoinState.PENDING, "token": "t"},
                    {"state": CoinState.SPENT},
                    {"unswapped": True},
                ]
            )
        )
        coins.append(coin(number, amount, draw(st.sampled_from("abc")), **state))
    return coins, terms


def reachable(coins: list[StoredProof], terms: dict[str, KeysetTerms]) -> int:
    """The most that can be had after fees."""
    worth = sum(max(1000 * p.proof.amount - terms[p.proof.id].input_fee_ppk, 0) for p in spendable(coins))
    return worth // 1000


@given(purses(), st.integers(1, 100_000))
@settings(max_examples=400)
def test_selection_covers_and_is_free(purse: tuple[list[StoredProof], dict[str, KeysetTerms]], target: int) -> None:
    """What is chosen is free, distinct, worth the target after the mint's own fee, and not one coin too many;
    it is found exactly where all coins together would do."""
    coins, terms = purse
    try:
        chosen = select(coins, target, terms)
    except InsufficientFundsError:
        assert reachable(coins, terms) < target
        return
    assert reachable(coins, terms) >= target
    ys = [p.y for p in chosen.proofs]
    assert len(set(ys)) == len(ys)
    assert all(p.state is CoinState.UNSPENT and not p.unswapped and p.operation is None for p in chosen.proofs)
    assert chosen.fee == fee_of(terms[p.proof.id].input_fee_ppk for p in chosen.proofs)
    assert chosen.amount == sum(p.proof.amount for p in chosen.proofs)
    assert chosen.net == net_value(chosen.proofs, terms) >= target
    staying = [p for p in chosen.proofs if not terms[p.proof.id].leaving]
    for one in staying:
        assert net_value([p for p in chosen.proofs if p is not one], terms) < target


@given(purses(), st.integers(1, 100_000))
@settings(max_examples=200)
def test_leaving_keysets_go_first(purse: tuple[list[StoredProof], dict[str, KeysetTerms]], target: int) -> None:
    """A coin that stays is spent only where the leaving ones do not reach the target."""
    coins, terms = purse
    try:
        chosen = select(coins, target, terms)
    except InsufficientFundsError:
        return
    if any(not terms[p.proof.id].leaving for p in chosen.proofs):
        leaving = [p for p in coins if terms[p.proof.id].leaving]
        assert reachable(leaving, terms) < target


@given(amounts, st.integers(1, 1 << 21))
@settings(max_examples=300)
def test_exact_is_found_for_powers_of_two(sums: list[int], target: int) -> None:
    """Without fees the search is complete: it finds a subset exactly where greed from the largest would."""
    coins = [coin(n, amount) for n, amount in enumerate(sums)]
    rest = target
    for amount in sorted(sums, reverse=True):
        if amount <= rest:
            rest -= amount
    found = select_exact(coins, target, {"a": KeysetTerms(0)})
    assert (found is not None) == (rest == 0)
    if found is not None:
        assert found.amount == target


@given(purses(), st.integers(1, 5_000))
@settings(max_examples=200, deadline=None)
def test_exact_is_exact(purse: tuple[list[StoredProof], dict[str, KeysetTerms]], target: int) -> None:
    """Whatever is found sums to the target as it is, or after its fee where that was asked."""
    coins, terms = purse
    plain = select_exact(coins, target, terms)
    assert plain is None or plain.amount == target
    netted = select_exact(coins, target, terms, with_fee=True)
    assert netted is None or netted.net == target
    for found in (plain, netted):
        assert found is None or all(p in spendable(coins) for p in found.proofs)


@given(st.lists(ppks, max_size=50), ppks)
def test_fee_is_monotonic_and_rounded_once(inputs: list[int], more: int) -> None:
    """One input more never makes it cheaper, and two transactions never cost less than one."""
    assert fee_of(inputs) <= fee_of([*inputs, more])
    half = len(inputs) // 2
    assert fee_of(inputs) <= fee_of(inputs[:half]) + fee_of(inputs[half:])
    assert 0 <= 1000 * fee_of(inputs) - sum(inputs) < 1000


@given(
    st.integers(1, 1 << 40),
    st.dictionaries(st.integers(0, 40).map(lambda n: 1 << n), st.integers(0, 9), max_size=10),
    st.integers(0, 5),
)
def test_kept_amounts_sum_up(amount: int, held: dict[int, int], target: int) -> None:
    """Change is split without loss, into denominations of the keyset, ascending."""
    parts = keep_amounts(amount, POWERS, held, target=target)
    assert sum(parts) == amount
    assert parts == sorted(parts)
    assert set(parts) <= set(POWERS)


def test_kept_amounts_fill_small_change_first() -> None:
    """Denominations that are short are filled up; with none wanted the split is the fewest coins."""
    assert Counter(keep_amounts(100, POWERS, {}, target=2))[1] == 2
    assert keep_amounts(100, POWERS, {}, target=0) == [4, 32, 64]
    assert keep_amounts(5, POWERS, {1: 2, 2: 2}, target=2) == [1, 4]


def test_too_many_inputs_are_avoided() -> None:
    """A mint's bound on inputs is kept: few large coins are preferred, else the money is not enough in one request."""
    coins = [coin(n, 1) for n in range(50)] + [coin(99, 32)]
    chosen = select(coins, 33, {"a": KeysetTerms(0)}, max_inputs=5)
    assert len(chosen.proofs) <= 5
    with pytest.raises(InsufficientFundsError):
        select(coins, 45, {"a": KeysetTerms(0)}, max_inputs=5)
    for wrong in (0, -1):
        with pytest.raises(MalformedError):
            select(coins, wrong, {"a": KeysetTerms(0)})
        with pytest.raises(MalformedError):
            select_exact(coins, wrong, {"a": KeysetTerms(0)})


def test_dust_is_left_alone() -> None:
    """A coin not worth its own fee is never chosen."""
    coins = [coin(n, 1) for n in range(20)] + [coin(50, 64)]
    chosen = select(coins, 60, {"a": KeysetTerms(1000)})
    assert [p.proof.amount for p in chosen.proofs] == [64]


def _cover_by_coin(pool: Sequence[StoredProof], goal: int, terms: dict[str, KeysetTerms], most: int) -> set[bytes] | None:
    """The rules of covering, one coin at a time: the best of greed, of one coin, and of the largest, each without what is
    not needed; of equal coins those of the smallest Y, but the one that goes over comes from the other end."""
    if goal <= 0:
        return set()

    def worth(stored: StoredProof) -> int:
        return 1000 * stored.proof.amount - terms[stored.proof.id].input_fee_ppk

    def needed(candidate: list[StoredProof]) -> list[StoredProof]:
        total, kept = sum(map(worth, candidate)), []
        for one in sorted(candidate, key=lambda p: -worth(p)):
            if total - worth(one) >= goal:
                total -= worth(one)
            else:
                kept.append(one)
        return kept

    ordered = sorted(pool, key=lambda p: (-worth(p), p.y))
    candidates: list[list[StoredProof]] = []
    greedy: list[StoredProof] = []
    for one in ordered:
        if worth(one) <= goal - sum(map(worth, greedy)):
            greedy.append(one)
    rest = goal - sum(map(worth, greedy))
    over = [one for one in reversed(ordered) if one not in greedy and worth(one) >= rest]
    candidates += [greedy] if not rest else [[*greedy, over[0]]] if over else []
    candidates += [[one] for one in reversed(ordered) if worth(one) >= goal][:1]
    enough = [count for count in range(len(ordered) + 1) if sum(map(worth, ordered[:count])) >= goal]
    candidates += [ordered[: enough[0]]] if enough else []
    if not candidates:
        return None
    best = min(map(needed, candidates), key=lambda c: (len(c) > most, sum(map(worth, c)) // 1000, len(c)))
    return None if len(best) > most else {p.y for p in best}


def _select_by_coin(coins: list[StoredProof], target: int, terms: dict[str, KeysetTerms], most: int) -> set[bytes] | None:
    """Leaving keysets alone, else all of them and as little as possible of the others, else any coins."""
    pool = [p for p in spendable(coins) if 1000 * p.proof.amount > terms[p.proof.id].input_fee_ppk]
    leaving = [p for p in pool if terms[p.proof.id].leaving]
    staying = [p for p in pool if not terms[p.proof.id].leaving]
    chosen = _cover_by_coin(leaving, target * 1000, terms, most) if leaving else None
    if chosen is None and leaving and len(leaving) < most:
        had = sum(1000 * p.proof.amount - terms[p.proof.id].input_fee_ppk for p in leaving)
        more = _cover_by_coin(staying, target * 1000 - had, terms, most - len(leaving))
        chosen = None if more is None else more | {p.y for p in leaving}
    return _cover_by_coin(pool, target * 1000, terms, most) if chosen is None else chosen


@given(purses(), st.integers(1, 100_000), st.sampled_from([1, 2, 3, 5, 8, 1000]), st.randoms(use_true_random=False))
@settings(max_examples=400, deadline=None)
def test_counting_heaps_chooses_as_by_coin(
    purse: tuple[list[StoredProof], dict[str, KeysetTerms]], target: int, most: int, order: Random
) -> None:
    """Choosing among heaps of equal coins chooses the coins that the rules choose one by one, in whatever order they come."""
    coins, terms = purse
    wanted = _select_by_coin(coins, target, terms, most)
    order.shuffle(coins)
    if wanted is None:
        with pytest.raises(InsufficientFundsError):
            select(coins, target, terms, max_inputs=most)
    else:
        found = select(coins, target, terms, max_inputs=most)
        assert {p.y for p in found.proofs} == wanted
        assert len(found.proofs) == len(wanted)


@given(st.lists(st.integers(1, 12), max_size=9), st.integers(1, 60), ppks, st.booleans(), st.sampled_from([1, 3, 9]))
@settings(max_examples=400, deadline=None)
def test_exact_is_found_where_there_is_one(sums: list[int], target: int, ppk: int, with_fee: bool, most: int) -> None:
    """In few coins of any amounts an exact choice is found exactly where trying all of them finds one."""
    terms = {"a": KeysetTerms(ppk)}
    coins = [coin(number, amount) for number, amount in enumerate(sums)]
    tried = [
        sum(some) - (fee_of([ppk] * len(some)) if with_fee else 0)
        for count in range(1, min(most, len(sums)) + 1)
        for some in combinations([one for one in sums if not with_fee or 1000 * one > ppk], count)
    ]
    found = select_exact(coins, target, terms, with_fee=with_fee, max_inputs=most)
    assert (found is not None) == (target in tried)


def test_many_coins_are_counted_not_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Among 20,000 coins of few kinds only those of the chosen heaps are looked at: counted in what is put in order."""
    ordered = []

    def first(coins: Sequence[StoredProof], count: int) -> list[StoredProof]:
        ordered.append(count)
        return sorted(coins, key=lambda p: p.y)[:count]

    coins = [coin(number, 1 << number % 16) for number in range(20_000)]
    monkeypatch.setattr(selection, "_first", first)
    chosen = select(coins, 54_321, {"a": KeysetTerms(0)})
    assert (chosen.amount, len(chosen.proofs)) == (54_321, 7)
    assert sum(ordered) == 7
