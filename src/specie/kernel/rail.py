"""`Rail`: anything that can be paid, pay, and say what became of a payment. Mint and swaps know only rails.

A rail is safe against us: every call names its payment by an id that the caller stored before the call, and a second call
with the same id never pays twice. Amounts on a rail are millisatoshi (`_msat`), whatever the unit of the ecash.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

__all__ = [
    "IncomingPayment",
    "IncomingRequest",
    "OutgoingQuote",
    "PaymentOrder",
    "PaymentOutcome",
    "PaymentState",
    "Rail",
    "RailHealth",
]


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """A request for payment that the rail issued: `request` is what the payer is shown, `payment_id` names it here."""

    payment_id: str
    """Names the payment for good; a BOLT 11 payment hash in hex (64 characters)."""
    request: str
    """BOLT 11 invoice, address or offer."""
    amount_msat: int | None
    expiry: int | None
    """Unix seconds after which the payer's side refuses; a payment that still arrives counts."""


@dataclass(frozen=True, slots=True)
class IncomingPayment:
    """Money that arrived. `cursor` orders arrivals; a rail replays everything after a cursor, at least once."""

    payment_id: str
    receipt_id: str
    """Names this arrival: equal arrivals have equal ids, so crediting can be made unique."""
    amount_msat: int
    cursor: str


@dataclass(frozen=True, slots=True)
class OutgoingQuote:
    """What a payment would cost: `amount_msat` to the payee, at most `fee_reserve_msat` on top."""

    payment_id: str
    """The payee's id of the payment (BOLT 11: payment hash), equal for equal invoices."""
    amount_msat: int
    fee_reserve_msat: int
    expiry: int | None
    own: bool
    """True if this rail itself issued the request."""


@dataclass(frozen=True, slots=True)
class PaymentOrder:
    """An order to pay. The same `attempt` again is the same payment: it is looked up, never made twice.

    A new attempt for a `payment_id` is taken only where every earlier one FAILED; otherwise the earlier one's outcome is
    answered.
    """

    payment_id: str
    attempt: str
    """Names this attempt for good; stored by the caller before the call."""
    request: str
    amount_msat: int
    max_fee_msat: int
    deadline_s: float = 60.0


class PaymentState(StrEnum):
    """What is known of an outgoing payment."""

    PAID = "PAID"
    FAILED = "FAILED"
    """Failed for good: no attempt is running, and none will be made under this id."""
    PENDING = "PENDING"
    """On its way."""
    UNKNOWN = "UNKNOWN"
    """The rail cannot say; treat as PENDING and tell a human."""
    ABSENT = "ABSENT"
    """The rail has never heard of this id (answered by `outgoing` only)."""


@dataclass(frozen=True, slots=True)
class PaymentOutcome:
    """State of an outgoing payment, with preimage (hex) and fee once it is PAID."""

    state: PaymentState
    preimage: str | None = None
    fee_msat: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RailHealth:
    """Whether the rail answers, and what it holds (`balance_msat` is None where it cannot say)."""

    ok: bool
    balance_msat: int | None
    detail: str = ""


class Rail(Protocol):
    """A payment network as the mint sees it. Any call may raise UnavailableError; only `pay` may raise UncertainError."""

    @property
    def name(self) -> str:
        """Short name, unique in one bank: `play`, `lnd`."""
        ...

    @property
    def method(self) -> str:
        """Payment method of NUT-04 and NUT-05 that it serves: `bolt11`."""
        ...

    @property
    def play(self) -> bool:
        """True if its money is play money; shown wherever its money is shown."""
        ...

    async def request(self, amount_msat: int, *, description: str, expiry_s: int) -> IncomingRequest:
        """Issue a FRESH request for payment. `description` may be empty. RefusedError if the amount cannot be asked for."""
        ...

    async def incoming(self, payment_id: str) -> list[IncomingPayment]:
        """Every arrival for one request, oldest first; empty while unpaid."""
        ...

    def arrivals(self, after: str | None) -> AsyncIterator[IncomingPayment]:
        """Stream of arrivals behind `after` (None: from the start), without end; replays what it is unsure of."""
        ...

    async def quote(self, request: str, *, amount_msat: int | None = None) -> OutgoingQuote:
        """Price a payment. `amount_msat` is for requests without an amount. RefusedError if it can never be paid."""
        ...

    async def pay(self, order: PaymentOrder) -> PaymentOutcome:
        """Pay and wait up to `order.deadline_s`. PAID or FAILED is final; anything else keeps the inputs locked."""
        ...

    async def outgoing(self, payment_id: str, attempt: str) -> PaymentOutcome:
        """What became of one attempt of an ordered payment; ABSENT if that attempt was never ordered."""
        ...

    async def health(self) -> RailHealth:
        """One cheap look at the node."""
        ...

    async def close(self) -> None:
        """Let go of connections and tasks; running payments are looked up after the next start."""
        ...
