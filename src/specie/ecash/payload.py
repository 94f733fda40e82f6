"""What a payer hands over for a payment request (NUT-18), whatever carries it. Its JSON is in `ecash.wire`."""

from __future__ import annotations

import msgspec

from specie.ecash.proof import Proof, sum_amounts

__all__ = ["PaymentPayload"]


class PaymentPayload(msgspec.Struct, frozen=True):
    """Coins of one mint and unit, with the id of the request they pay. `mint` is in normal form; `memo` is hostile text."""

    mint: str
    unit: str
    proofs: tuple[Proof, ...]
    id: str | None = None
    memo: str | None = None

    @property
    def amount(self) -> int:
        """What the coins say they are worth, in the minor unit; exact."""
        return sum_amounts(self.proofs)
