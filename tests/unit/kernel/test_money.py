"""Amounts and units: bounds, splitting, and what people see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel import money
from specie.kernel.errors import MalformedError

POWERS = [1 << exponent for exponent in range(64)]
MINOR_UNITS = Path(__file__).parents[2] / "vectors/cashu/nut01-minor-units.json"


@given(st.integers(0, money.MAX_AMOUNT))
def test_split_over_powers_of_two(amount: int) -> None:
    """The parts sum up, ascend, and are the set bits: the fewest there can be, up to 2^64-1."""
    parts = money.split_amount(amount, POWERS)
    assert sum(parts) == amount
    assert parts == sorted(parts)
    assert len(parts) == amount.bit_count()


@given(st.integers(0, 5000), st.sets(st.integers(2, 500), max_size=6))
def test_split_over_any_denominations(amount: int, others: set[int]) -> None:
    """With a coin of 1 any amount splits into coins that exist."""
    parts = money.split_amount(amount, {1, *others})
    assert sum(parts) == amount
    assert set(parts) <= {1, *others}


@pytest.mark.parametrize(("amount", "coins"), [(3, [2]), (1, []), (5, [10]), (1, [0]), (1, [-1])])
def test_split_that_cannot_be(amount: int, coins: list[int]) -> None:
    """A rest, no coins, and coins that are not positive are malformed."""
    with pytest.raises(MalformedError):
        money.split_amount(amount, coins)


def test_split_does_not_fill_memory() -> None:
    """A stranger's keyset with the coin 1 alone is refused before a list of 2^64 is made."""
    with pytest.raises(MalformedError, match="10,000"):
        money.split_amount(money.MAX_AMOUNT, [1])
    with pytest.raises(MalformedError, match="10,000"):
        money.split_amount(10_001, [1])
    assert len(money.split_amount(10_000, [1])) == 10_000


@pytest.mark.parametrize("value", [-1, 2**64, True, False, 1.0, "1", None])
def test_what_is_no_amount(value: object) -> None:
    """Floats, text, booleans, negatives and 2^64 are malformed."""
    with pytest.raises(MalformedError):
        money.amount_checked(value)


def test_amount_bounds() -> None:
    """0 and 2^64-1 are amounts; a minimum is kept."""
    assert money.amount_checked(0) == 0
    assert money.amount_checked(money.MAX_AMOUNT) == 2**64 - 1
    with pytest.raises(MalformedError, match="from 1"):
        money.amount_checked(0, minimum=1)


def test_units() -> None:
    """A unit is lower case from here on."""
    assert money.unit_checked("SAT") == "sat"
    assert money.unit_checked("x-1_y") == "x-1_y"


@pytest.mark.parametrize("unit", ["", "_x", "-x", "s t", "a" * 33, "usd\n", "€", "\N{KELVIN SIGN}es", "a/b", "a.b"])
def test_what_is_no_unit(unit: str) -> None:
    """Empty, long, spaced and foreign names are malformed, also letters that fold into ASCII."""
    with pytest.raises(MalformedError):
        money.unit_checked(unit)


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (0, "sat", "0 sat"),
        (21, "sat", "21 sat"),
        (2_100_000, "sat", "2,100,000 sat"),
        (21, "btc", "0.00000021 btc"),
        (1234, "usd", "12.34 usd"),
        (5, "EUR", "0.05 EUR"),
        (-1234, "usd", "-12.34 usd"),
        (-5, "sat", "-5 sat"),
        (123, "jpy", "123 jpy"),
        (1234, "kwd", "1.234 kwd"),
        (money.MAX_AMOUNT, "sat", "18,446,744,073,709,551,615 sat"),
    ],
)
def test_format(amount: int, unit: str, text: str) -> None:
    """Amounts as people read them, exact and with the unit's digits."""
    assert money.format_amount(amount, unit) == text


def test_minor_units_of_nut01() -> None:
    """The printed minor units of NUT-01."""
    for record in json.loads(MINOR_UNITS.read_text())["records"]:
        assert money.decimals(record["unit"]) == record["minor_unit"], record


def test_millisatoshi() -> None:
    """sat and btc count satoshi, msat itself; other units have no fixed value."""
    assert money.msat_from_amount(21, "sat") == money.msat_from_amount(21, "btc") == 21_000
    assert money.msat_from_amount(21, "msat") == 21
    with pytest.raises(MalformedError):
        money.msat_from_amount(21, "usd")


@given(st.integers(0, 2**70))
def test_satoshi_are_rounded_up(msat: int) -> None:
    """A mint never charges less than an invoice costs, and never a whole satoshi more."""
    assert 0 <= money.sat_ceil_from_msat(msat) * 1000 - msat < 1000
