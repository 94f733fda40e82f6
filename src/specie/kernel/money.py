"""Amounts and units. An amount is an `int` in the unit's minor unit, 0 to 2**64-1; never a float.

Not here: exchange rates, and the choice of coins (that is the wallet's).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from specie.kernel.errors import MalformedError

__all__ = [
    "MAX_AMOUNT",
    "amount_checked",
    "decimals",
    "format_amount",
    "msat_from_amount",
    "sat_ceil_from_msat",
    "split_amount",
    "unit_checked",
]

MAX_AMOUNT = 2**64 - 1
"""Largest amount a NUT message can carry (unsigned 64 bit)."""

_UNIT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")

# NUT-01: ISO 4217 codes whose minor unit is not 1/100; stablecoins follow the currency they are pegged to.
_DECIMALS = {
    "sat": 0, "msat": 0, "btc": 8, "auth": 0,
    "bhd": 3, "iqd": 3, "jod": 3, "kwd": 3, "lyd": 3, "omr": 3, "tnd": 3,
    "bif": 0, "clp": 0, "djf": 0, "gnf": 0, "isk": 0, "jpy": 0, "kmf": 0, "krw": 0, "pyg": 0, "rwf": 0,
    "ugx": 0, "uyi": 0, "vnd": 0, "vuv": 0, "xaf": 0, "xof": 0, "xpf": 0,
    "clf": 4, "uyw": 4,
    "gyen": 0, "jpyc": 0,
}  # fmt: skip


def amount_checked(value: object, *, minimum: int = 0) -> int:
    """Return `value` if it is an int from `minimum` to 2**64-1; raise MalformedError otherwise (bool is no amount)."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedError("amount is not an integer")
    if not minimum <= value <= MAX_AMOUNT:
        raise MalformedError(f"amount must be from {minimum} to 2^64-1")
    return value


def unit_checked(value: str) -> str:
    """Return the unit in lower case; raise MalformedError if it is not 1 to 32 of a-z, 0-9, '_' and '-'."""
    unit = value.lower()
    if not value.isascii() or not _UNIT.fullmatch(unit):  # a letter outside ASCII may fold into it
        raise MalformedError("unit must be 1 to 32 letters, digits, '_' or '-'")
    return unit


def decimals(unit: str) -> int:
    """Digits after the point when an amount of `unit` is shown (NUT-01): 0 for sat, 8 for btc, 2 for usd, 0 for jpy."""
    return _DECIMALS.get(unit.lower(), 2)


def format_amount(amount: int, unit: str) -> str:
    """Text for people: `21 sat`, `12.34 usd`, `0.00000021 btc`. Negative amounts (ledger balances) keep their sign."""
    places = decimals(unit)
    sign = "-" if amount < 0 else ""
    if not places:
        return f"{sign}{abs(amount):,} {unit}"
    whole, rest = divmod(abs(amount), 10**places)
    return f"{sign}{whole:,}.{rest:0{places}d} {unit}"


def split_amount(amount: int, denominations: Iterable[int]) -> list[int]:
    """Split `amount` over `denominations`, greedily from the largest; ascending (NUT-03 asks ascending).

    For powers of two those are the fewest coins. MalformedError where taking the largest first leaves a rest, or makes more
    than 10,000 coins.
    """
    amount_checked(amount)
    parts: list[int] = []
    rest = amount
    for coin in sorted(denominations, reverse=True):
        if coin <= 0:
            raise MalformedError("a denomination must be positive")
        count, rest = divmod(rest, coin)
        if len(parts) + count > 10_000:  # before the list is made: the denominations may be a stranger's
            raise MalformedError("amount needs more than 10,000 coins of these denominations")
        parts.extend([coin] * count)
    if rest:
        raise MalformedError("these denominations cannot make the amount")
    parts.reverse()
    return parts


def msat_from_amount(amount: int, unit: str) -> int:
    """Millisatoshi of an amount in `sat`, `msat` or `btc` (whose minor unit is the satoshi too, NUT-01)."""
    match unit:
        case "sat" | "btc":
            return amount * 1000
        case "msat":
            return amount
    raise MalformedError(f"{unit} has no fixed value in bitcoin")


def sat_ceil_from_msat(amount_msat: int) -> int:
    """Satoshi, rounded up: what a mint must charge for a sub-satoshi invoice (NUT-23)."""
    return -(-amount_msat // 1000)
