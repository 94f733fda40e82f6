"""The plan of a payment by several mints, as a property: exact, within what each can, deterministic, as few parts as can be."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel import MalformedError
from specie.wallet.multipath import Source, plan_parts

SOURCES = st.lists(
    st.builds(
        Source,
        mint=st.integers(0, 50).map(lambda n: f"https://m{n}.test"),
        free=st.integers(0, 5000),
        reserve_floor=st.integers(0, 50),
        reserve_ppm=st.sampled_from([0, 1, 5_000, 10_000, 333_333, 2_000_000]),
        least=st.integers(1, 300),
        most=st.none() | st.integers(0, 4000),
    ),
    max_size=7,
    unique_by=lambda source: source.mint,
)


@given(amount=st.integers(1, 12_000), sources=SOURCES)
def test_a_plan_is_exact_and_within_what_each_mint_can(amount: int, sources: list[Source]) -> None:
    """Parts sum to the amount; each with its reserve is within what is free, and within the mint's limits; each mint once."""
    plan = plan_parts(amount, sources)
    if plan is None:
        return
    by_mint = {source.mint: source for source in sources}
    assert sum(part.amount for part in plan) == amount
    assert len({part.mint for part in plan}) == len(plan)
    for part in plan:
        source = by_mint[part.mint]
        assert part.amount + source.reserve(part.amount) <= source.free
        assert part.amount >= source.least
        assert source.most is None or part.amount <= source.most


@given(amount=st.integers(1, 12_000), sources=SOURCES, order=st.randoms(use_true_random=False))
def test_the_same_mints_in_any_order_give_the_same_plan(amount: int, sources: list[Source], order: object) -> None:
    """Nothing but the sources decides."""
    shuffled = list(sources)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan_parts(amount, shuffled) == plan_parts(amount, sources)


@given(amount=st.integers(1, 12_000), sources=SOURCES)
def test_no_plan_with_fewer_parts_exists(amount: int, sources: list[Source]) -> None:
    """By trying all sets of mints: the plan has the least number of parts, and None only where no set can pay."""
    able = [source for source in sources if source.capacity]
    fewest = next(
        (
            count
            for count in range(1, len(able) + 1)
            for chosen in combinations(able, count)
            if sum(one.least for one in chosen) <= amount <= sum(one.capacity for one in chosen)
        ),
        None,
    )
    plan = plan_parts(amount, sources)
    assert (None if plan is None else len(plan)) == fewest


@given(free=st.integers(0, 5000), floor=st.integers(0, 100), ppm=st.integers(0, 3_000_000), least=st.integers(1, 50))
def test_the_capacity_is_the_largest_part(free: int, floor: int, ppm: int, least: int) -> None:
    """One more would be too much, and it itself is not."""
    source = Source("m", free, floor, ppm, least)
    best = max((part for part in range(least, free + 1) if part + source.reserve(part) <= free), default=0)
    assert source.capacity == best


def test_a_plan_of_nothing_is_refused() -> None:
    """No amount, or a mint twice."""
    with pytest.raises(MalformedError):
        plan_parts(0, [Source("a", 10)])
    with pytest.raises(MalformedError):
        plan_parts(5, [Source("a", 10), Source("a", 10)])


def test_mints_are_used_in_proportion() -> None:
    """Each keeps something to spare; a bound on the number of parts is kept."""
    sources = [Source("a", 100), Source("b", 100), Source("c", 50)]
    assert [part.amount for part in plan_parts(150, sources) or []] == [75, 75]
    assert plan_parts(250, sources, most_parts=2) is None
    assert [part.mint for part in plan_parts(250, sources) or []] == ["a", "b", "c"]
