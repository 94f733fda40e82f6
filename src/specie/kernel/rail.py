"""`Rail`: anything that can be paid, pay, and say what became of a payment. Mint and swaps know only rails.

A rail is safe against us: every call names its payment by an id that the caller stored before the call, and a second call
with the same id never pays twice. Amounts on a rail are millisatoshi (`_msat`), whatever the unit of the ecash.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

__all__ = [
    "FeeOption",
    "IncomingPayment",
    "IncomingRequest",
    "OutgoingQuote",
    "PaymentOrder",
    "PaymentOutcome",
    "PaymentState",
    "Rail",
    "RailHealth",
    "RailTerms",
]


@dataclass(frozen=True, slots=True)
class RailTerms:
    """What a rail can do, said once at start and announced as it is (NUT-04 and NUT-05 options). The defaults are BOLT 11's."""

    incoming_amount: Literal["required", "optional", "never"] = "required"
    """Whether a request for payment names its amount: an invoice must, an offer may, an address does not."""
    reusable: bool = False
    """True if one request may be paid any number of times (offers, addresses); each arrival counts."""
    description: bool = True
    """Whether a request can carry a description."""
    pubkey_required: bool = False
    """Whether a mint quote must be locked to a key (NUT-25, NUT-30)."""
    outgoing_amount: Literal["request", "either", "payer"] = "either"
    """Who names the amount of an outgoing payment: the request, whichever of the two does, or the payer always."""
    partial: bool = False
    """Whether a part of an invoice can be paid, others paying the rest at the same time (NUT-15)."""
    asynchronous: bool = False
    """True if a payment takes so long that a melt is always answered PENDING (NUT-30)."""
    confirmations: int | None = None
    """Depth at which an arrival is told; None where that has no meaning."""
    expiry_cuts: bool = False
    """True if what was first seen after a request's expiry does not count (NUT-30); on Lightning it does."""
    minimum_in_msat: int = 0
    """Smallest arrival that counts, each alone (NUT-30), where the mint's own least is not more; 0: every arrival counts."""
    minimum_out_msat: int = 0
    """Smallest payment that can be made (dust is not carried on-chain)."""
    method_name: str | None = None
    """What people call the method (NUT-04); None: wallets make it from the method."""


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
    first_seen: int | None = None
    """Unix seconds at which the rail first saw it, unconfirmed perhaps; None where it arrives at once."""
    reference: str = ""
    """Where it can be looked up by others: an outpoint `txid:vout`."""
    withdrawn: bool = False
    """True if an arrival that was told before is there no more: a reorganisation undid it. `amount_msat` is what it was, and
    `receipt_id` that of the arrival. What was withdrawn stays so: the same money confirmed again is a new receipt."""


@dataclass(frozen=True, slots=True)
class FeeOption:
    """One of the prices at which a payment can be made (NUT-30). `fee_index` is unique in its quote."""

    fee_index: int
    fee_reserve_msat: int
    estimated_blocks: int


@dataclass(frozen=True, slots=True)
class OutgoingQuote:
    """What a payment would cost: `amount_msat` to the payee, at most `fee_reserve_msat` on top."""

    payment_id: str
    """The payee's id of the payment (BOLT 11: payment hash), equal for equal invoices. A request that may be paid any number of
    times (an offer, an address) gets a FRESH one for each quote."""
    amount_msat: int
    fee_reserve_msat: int
    expiry: int | None
    own: bool
    """True if this rail itself issued the request."""
    fee_options: tuple[FeeOption, ...] = ()
    """Where there is a choice: at least one, fixed for the quote's life; `fee_reserve_msat` is then the largest."""


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
    fee_index: int | None = None
    """Which of the quote's fee options was chosen; `max_fee_msat` is that option's reserve."""
    partial: bool = False
    """True if `amount_msat` is a part of what the request asks for; others pay the rest (NUT-15)."""


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
    outpoint: str | None = None
    """`txid:vout` once the payment was broadcast, also while PENDING."""


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

    @property
    def terms(self) -> RailTerms:
        """What it can do; never changes while it is open."""
        ...

    async def request(self, amount_msat: int | None, *, description: str, expiry_s: int) -> IncomingRequest:
        """Issue a FRESH request for payment. `description` may be empty; `amount_msat` None where the terms allow it.

        RefusedError if the amount cannot be asked for.
        """
        ...

    async def incoming(self, payment_id: str) -> list[IncomingPayment]:
        """Every arrival for one request that is there now, oldest first; empty while unpaid."""
        ...

    def arrivals(self, after: str | None) -> AsyncIterator[IncomingPayment]:
        """Stream of arrivals behind `after` (None: from the start), without end; replays what it is unsure of."""
        ...

    async def quote(self, request: str, *, amount_msat: int | None = None, partial: bool = False) -> OutgoingQuote:
        """Price a payment. `amount_msat` is for requests without an amount, or, with `partial`, the part to pay.

        RefusedError if it can never be paid. `partial` is asked for only where the terms allow it.
        """
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
