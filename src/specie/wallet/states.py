"""State tables of the wallet: what a coin, an operation and a sent token may become. Drawings are generated from these.

A coin of ours:

| from     | event    | to       | when                                                                       |
|----------|----------|----------|----------------------------------------------------------------------------|
| UNSPENT  | reserve  | RESERVED | an operation is journalled; the coin carries the operation's id            |
| RESERVED | release  | UNSPENT  | the operation is known to have had no effect                               |
| RESERVED | spend    | SPENT    | the mint signed the replacement, paid the invoice, or says SPENT           |
| RESERVED | hand out | PENDING  | an exact coin becomes part of a token                                      |
| UNSPENT  | hand out | PENDING  | the same, without a mint                                                   |
| UNSPENT  | spend    | SPENT    | the mint says SPENT (another device of the same seed)                      |
| UNSPENT  | lock     | PENDING  | the mint says PENDING (restored, or another device)                        |
| PENDING  | spend    | SPENT    | the receiver redeemed it, or we took it back                               |
| PENDING  | release  | UNSPENT  | the mint says UNSPENT, for a coin that is part of no token                 |

An operation:

| from | event | to        | when                                                                               |
|------|-------|-----------|------------------------------------------------------------------------------------|
| OPEN | settle| DONE      | one transaction: new coins in, old coins SPENT, token and history written          |
| OPEN | fail  | FAILED    | known to have had no effect (never sent, or refused and every input still unspent) |
"""

from __future__ import annotations

from enum import StrEnum

from specie.kernel.machine import Machine
from specie.wallet.transfer import TRANSFER

__all__ = ["COIN", "MACHINES", "OPERATION", "TOKEN", "CoinState", "OperationState", "TokenState"]


class CoinState(StrEnum):
    """What the wallet knows of one of its coins."""

    UNSPENT = "UNSPENT"
    """Free to spend."""
    RESERVED = "RESERVED"
    """An operation that may have been sent uses it."""
    PENDING = "PENDING"
    """Handed out in a token, or held by the mint."""
    SPENT = "SPENT"
    """Gone; kept for its history."""


class OperationState(StrEnum):
    """What the wallet knows of one operation."""

    OPEN = "OPEN"
    """Journalled: it may have been sent."""
    DONE = "DONE"
    """Its results are stored."""
    FAILED = "FAILED"
    """It had no effect."""


class TokenState(StrEnum):
    """What became of a token that was sent from here."""

    PENDING = "PENDING"
    """Not redeemed yet, as far as we know."""
    CLAIMED = "CLAIMED"
    """Somebody redeemed it."""
    RECLAIMED = "RECLAIMED"
    """We took it back."""


COIN = Machine(
    name="coin of the wallet",
    initial=CoinState.UNSPENT,
    table={
        (CoinState.UNSPENT, "reserve"): CoinState.RESERVED,
        (CoinState.RESERVED, "release"): CoinState.UNSPENT,
        (CoinState.RESERVED, "spend"): CoinState.SPENT,
        (CoinState.RESERVED, "hand out"): CoinState.PENDING,
        (CoinState.UNSPENT, "hand out"): CoinState.PENDING,
        (CoinState.UNSPENT, "spend"): CoinState.SPENT,
        (CoinState.UNSPENT, "lock"): CoinState.PENDING,
        (CoinState.PENDING, "spend"): CoinState.SPENT,
        (CoinState.PENDING, "release"): CoinState.UNSPENT,
    },
)

OPERATION = Machine(
    name="operation",
    initial=OperationState.OPEN,
    table={
        (OperationState.OPEN, "settle"): OperationState.DONE,
        (OperationState.OPEN, "fail"): OperationState.FAILED,
        (OperationState.FAILED, "settle"): OperationState.DONE,
    },
)
"""FAILED is what one process knows; what the mint signed for another that took the operation up settles it all the same."""

TOKEN = Machine(
    name="sent token",
    initial=TokenState.PENDING,
    table={(TokenState.PENDING, "redeem"): TokenState.CLAIMED, (TokenState.PENDING, "reclaim"): TokenState.RECLAIMED},
)

MACHINES = (COIN, OPERATION, TOKEN, TRANSFER)
