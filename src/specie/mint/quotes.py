"""Quotes as the mint keeps them: what the wallet is shown (`ecash`), plus what only the mint may know."""

from __future__ import annotations

from dataclasses import dataclass

from specie.ecash import MeltQuote, MeltState, MintQuote

__all__ = ["MeltRecord", "MintRecord"]


@dataclass(frozen=True, slots=True)
class MintRecord:
    """A mint quote (NUT-04). Amounts are in the minor unit of `unit`."""

    quote: str
    method: str
    rail: str
    unit: str
    amount: int
    request: str
    payment_id: str
    pubkey: str | None
    description: str
    expiry: int | None
    amount_paid: int
    amount_issued: int
    created_at: int
    updated_at: int

    def public(self) -> MintQuote:
        """What the wallet is shown."""
        return MintQuote(
            quote=self.quote,
            method=self.method,
            request=self.request,
            unit=self.unit,
            amount=self.amount,
            expiry=self.expiry,
            pubkey=self.pubkey,
            amount_paid=self.amount_paid,
            amount_issued=self.amount_issued,
            updated_at=self.updated_at,
        )


@dataclass(frozen=True, slots=True)
class MeltRecord:
    """A melt quote (NUT-05). `pay_msat` is what the payee gets; `amount` and `fee_reserve` are in the minor unit."""

    quote: str
    method: str
    rail: str
    unit: str
    amount: int
    fee_reserve: int
    request: str
    payment_id: str
    pay_msat: int
    state: MeltState
    expiry: int | None
    created_at: int
    updated_at: int
    preimage: str | None = None
    fee_paid: int | None = None
    operation: bytes | None = None
    """Hash of the melt request that is in flight or was settled; the same request again gets the same answer."""
    attempts: int = 0
    """How many times the quote was put in flight; names the attempt at the rail."""
    ordered: bool = False
    """True once the rail is known to have taken the current attempt."""
    owner: str = ""
    """The process that holds the lease on the payment; only it may order, settle or release."""
    lease_until: int = 0
    """Unix time at which the lease ends unless renewed."""

    @property
    def attempt(self) -> str:
        """Name of the current attempt at the rail (`PaymentOrder.attempt`)."""
        return f"{self.quote}/{self.attempts}"

    def public(self) -> MeltQuote:
        """What the wallet is shown, without change."""
        return MeltQuote(
            quote=self.quote,
            method=self.method,
            request=self.request,
            unit=self.unit,
            amount=self.amount,
            fee_reserve=self.fee_reserve,
            state=self.state,
            expiry=self.expiry,
            payment_preimage=self.preimage,
            change=None,
            updated_at=self.updated_at,
        )
