"""Blank outputs for overpaid fees (NUT-08): how many to send, and what a mint writes on them."""

from __future__ import annotations

from collections.abc import Iterable

from specie.kernel.money import amount_checked

__all__ = ["PLACEHOLDER_AMOUNT", "blank_count", "change_amounts"]

PLACEHOLDER_AMOUNT = 1
"""Amount that stands on a blank output when it is sent; it must not be zero and means nothing."""


def blank_count(fee_reserve: int) -> int:
    """Outputs a wallet should add to a melt so that any change of `fee_reserve` fits: 0, else max(ceil(log2), 1)."""
    amount_checked(fee_reserve)
    return max((fee_reserve - 1).bit_length(), 1) if fee_reserve else 0


def change_amounts(overpaid: int, count: int, denominations: Iterable[int]) -> list[int]:
    """Amounts for the first of `count` blank outputs that give back as much of `overpaid` as they can, ascending.

    The largest coins go first, so too few outputs lose least; what does not fit stays with the mint. Any denominations.
    """
    amount_checked(overpaid)
    parts: list[int] = []
    rest = overpaid
    for coin in sorted({coin for coin in denominations if coin > 0}, reverse=True):
        times = min(rest // coin, count - len(parts))
        parts += [coin] * times
        rest -= coin * times
        if len(parts) == count:
            break
    parts.reverse()
    return parts
