"""Quotes as the mint keeps them: what the wallet is shown (`ecash`), plus what only the mint may know."""

from __future__ import annotations

from dataclasses import dataclass

from specie.ecash import MeltFeeOption, MeltQuote, MeltState, MintQuote
from specie.kernel import RefusedError

__all__ = ["MeltRecord", "MintRecord"]


@dataclass(frozen=True, slots=True)
class MintRecord:
    """A mint quote (NUT-04). Amounts are in the minor unit of `unit`; `amount` is None where the payer chooses.

    What arrived and is still there is `amount_paid - lost`. Something is lost only while all of `amount_paid` is issued.
    """

    quote: str
    method: str
    rail: str
    unit: str
    amount: int | None
    request: str
    payment_id: str
    pubkey: str | None
    description: str
    expiry: int | None
    amount_paid: int
    amount_issued: int
    created_at: int
    updated_at: int
    reusable: bool = False
    """True if it may be paid, and issued, any number of times (NUT-25, NUT-30)."""
    lost: int = 0
    """Credit that was issued and then withdrawn by its rail; later arrivals make up for it first."""

    @property
    def mintable(self) -> int:
        """What may be issued now."""
        return max(self.amount_paid - self.amount_issued, 0)

    def credited(self, amount: int) -> tuple[int, int]:
        """An arrival divided: what may be issued for it, and what makes up for a loss."""
        recovered = min(amount, self.lost)
        return amount - recovered, recovered

    def withdrawn(self, amount: int) -> tuple[int, int]:
        """A withdrawal divided: what is taken back, and what was issued already and so is the mint's loss."""
        taken = min(amount, self.mintable)
        return taken, amount - taken

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
    partial: bool = False
    """True if `pay_msat` is a part of what the request asks for (NUT-15)."""
    fee_options: tuple[MeltFeeOption, ...] = ()
    """The prices to choose from (NUT-30); `fee_reserve` is the largest, or the chosen one's."""
    fee_index: int | None = None
    """The option that was chosen first; the quote is never executed with another."""
    outpoint: str | None = None
    """`txid:vout` once it was broadcast."""

    @property
    def attempt(self) -> str:
        """Name of the current attempt at the rail (`PaymentOrder.attempt`)."""
        return f"{self.quote}/{self.attempts}"

    def chosen(self, fee_index: int | None) -> int:
        """The fee reserve of a choice. MalformedError for one that is not there, RefusedError for another than before."""
        if self.fee_index is not None and fee_index != self.fee_index:
            raise RefusedError(f"the quote was executed with fee_index {self.fee_index} and takes no other")
        return self.public().reserve(fee_index)

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
            fee_options=self.fee_options,
            selected_fee_index=self.fee_index,
            outpoint=self.outpoint,
        )
