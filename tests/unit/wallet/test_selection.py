"""Choice of coins: sums are exact, fees are the mint's, and nothing that is locked or pending is ever chosen."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.ecash import Proof
from specie.kernel import MalformedError
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
