"""What happened, one line for each finished verb: append only, never recomputed from coins."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HistoryEntry", "balance_effect"]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line. `amount` is what moved (always positive), `fee` what it cost on top or was taken from it."""

    entry_id: str
    """UUIDv7, so entries sort by time; equals the operation's id where there was one."""
    at: int
    kind: str
    """A `Purpose`, or `receive offline`, `restore`, `claimed` (somebody redeemed a token of ours)."""
    mint: str
    unit: str
    amount: int
    fee: int
    memo: str | None = None
    reference: str | None = None
    """Invoice of a payment or a claim; the token's id of what was sent."""
    payment: str | None = None
    """Id of the payment by several mints that this line is a part of (NUT-15)."""


def balance_effect(entry: HistoryEntry) -> int:
    """By how much the entry changed what is free to spend: fees always lessen it.

    `amount` of a receipt is what arrived after its fee, so that fee is not taken off again.
    """
    match entry.kind:
        case "mint" | "receive" | "receive offline" | "reclaim" | "restore":
            return entry.amount
        case "send" | "pay":
            return -entry.amount - entry.fee
        case "claimed":
            return 0
    return -entry.fee
