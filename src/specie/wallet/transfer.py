"""Money on its way from one of our mints to another, as a value, and what may be moved at most; pure.

A transfer is the destination's invoice, paid by the source. Both legs have journals of their own (`operation`); the
transfer ties them together, so that what was paid is claimed whatever happens in between.

| from   | event  | to     | when                                                                             |
|--------|--------|--------|----------------------------------------------------------------------------------|
| PAYING | paid   | PAID   | the source says it paid the destination's invoice                                |
| PAYING | fail   | FAILED | the payment is known to have had no effect; its coins are free                   |
| PAYING | claim  | DONE   | the destination has issued the coins                                             |
| FAILED | paid   | PAID   | another process, which reached the source after all, had it paid                 |
| PAID   | claim  | DONE   | the same                                                                         |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from specie.kernel.machine import Machine

__all__ = ["TRANSFER", "Transfer", "TransferQuote", "TransferState"]


class TransferState(StrEnum):
    """What the wallet knows of a transfer."""

    PAYING = "PAYING"
    """The source was or will be asked to pay; its end is not known."""
    PAID = "PAID"
    """The source says that it paid; the destination has not issued the coins yet."""
    DONE = "DONE"
    """The coins of the destination are ours."""
    FAILED = "FAILED"
    """Nothing was paid."""


TRANSFER = Machine(
    name="transfer",
    initial=TransferState.PAYING,
    table={
        (TransferState.PAYING, "paid"): TransferState.PAID,
        (TransferState.PAYING, "fail"): TransferState.FAILED,
        (TransferState.PAYING, "claim"): TransferState.DONE,
        (TransferState.FAILED, "paid"): TransferState.PAID,
        (TransferState.PAID, "claim"): TransferState.DONE,
    },
)


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer. `amount` arrives at the destination; `fee` is all that it costs on top (the most it can, until PAID)."""

    transfer_id: str
    source: str
    destination: str
    unit: str
    amount: int
    fee: int
    mint_quote: str = field(repr=False)
    """Id of the destination's quote."""
    melt_quote: str = field(repr=False)
    """Id of the source's quote."""
    state: TransferState = TransferState.PAYING
    error: str = ""
    """Why it failed or is not done yet, for people."""
    created_at: int = 0
    updated_at: int = 0


@dataclass(frozen=True, slots=True)
class TransferQuote:
    """What moving `amount` would cost: at most `fee`, of which what the payment does not need comes back as change."""

    source: str
    destination: str
    unit: str
    amount: int
    fee: int
