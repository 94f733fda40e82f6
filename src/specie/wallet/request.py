"""Payment requests as a wallet remembers them: those it made, what was paid for them, and those it paid (NUT-18)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specie.ecash.requests import PaymentRequest

__all__ = [
    "Arrival",
    "OwnRequest",
    "PaymentPlan",
    "PaymentState",
    "RequestPayment",
    "RequestReceipt",
    "RequestRecord",
    "RequestState",
]


class RequestState(StrEnum):
    """What became of a request of ours; read from its receipts, not stored."""

    OPEN = "OPEN"
    """It can be paid."""
    PAID = "PAID"
    """For single use, and paid."""
    CANCELLED = "CANCELLED"
    """It takes no more payments."""


class PaymentState(StrEnum):
    """What became of our payment of a request; read from its operation and token, not stored."""

    OPEN = "OPEN"
    """The coins are being made; `resume` knows the end."""
    UNDELIVERED = "UNDELIVERED"
    """The coins are made and nobody has them yet: deliver again, or take them back."""
    DELIVERED = "DELIVERED"
    """The payee has the coins, and has not redeemed them as far as we know."""
    CLAIMED = "CLAIMED"
    """The payee has redeemed them."""
    RECLAIMED = "RECLAIMED"
    """We took them back."""
    FAILED = "FAILED"
    """No coins were made."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request of ours, as stored. `key_number`: n of our key `nostr/{n}`, for one that is paid over Nostr."""

    request_id: str
    text: str
    """`creqA` text."""
    key_number: int | None
    created_at: int
    cancelled_at: int | None = None


@dataclass(frozen=True, slots=True)
class RequestReceipt:
    """Coins that were taken for a request of ours. `amount` is ours now; `fee` went to the mint."""

    receipt_id: str
    request_id: str
    mint: str
    unit: str
    amount: int
    fee: int
    memo: str | None
    """Text of the payer: hostile."""
    created_at: int
    operation: str
    coins: bytes = field(default=b"", repr=False)
    """SHA-256 over the sorted Ys of the coins that were paid."""
    settled: bool = False
    """Whether the coins have become ours; until then an operation is at it."""


@dataclass(frozen=True, slots=True)
class OwnRequest:
    """A request of ours: show `text` (or the shorter `short`, best as a QR code) to the payer."""

    request_id: str
    request: PaymentRequest
    text: str
    short: str
    state: RequestState
    receipts: tuple[RequestReceipt, ...]
    created_at: int
    key_number: int | None = None

    @property
    def received(self) -> int:
        """What its payments have brought, in the minor unit."""
        return sum(receipt.amount for receipt in self.receipts if receipt.settled)


@dataclass(frozen=True, slots=True)
class PaymentPlan:
    """What paying a request would do: nothing has been done yet.

    Attributes:
        amount: what the payee is left with.
        extra: what the payee asks on top, for a mint that the request does not list.
        transport: `nostr`, `post` or `in-band`.
        target: where the coins would go; empty in-band.
        locked: whether the coins are locked to the payee, so that they cannot be taken back.
        paid_before: payments of this very request from this wallet that were not taken back.
    """

    request: PaymentRequest
    mint: str
    unit: str
    amount: int
    extra: int
    transport: str
    target: str
    locked: bool
    paid_before: int


@dataclass(frozen=True, slots=True)
class RequestPayment:
    """A payment of somebody's request. `token` is money, until the payee has redeemed it."""

    payment_id: str
    request: str
    """`creqA` text."""
    mint: str
    unit: str
    amount: int
    memo: str | None
    created_at: int
    operation: str
    """Id of the token, and of the operation that made it."""
    state: PaymentState = PaymentState.OPEN
    delivered_by: str | None = None
    delivered_at: int | None = None
    error: str = ""
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something that came in while listening: a receipt, or why it was refused (`error`, with our request's id if known)."""

    request_id: str | None
    receipt: RequestReceipt | None = None
    error: Exception | None = None
