"""What a play rail can be told to do wrong, so that every saga on top of it can be tested.

A fault is decided when an order is stored and stored with it, so it comes true after a crash as it would have without.
The policy itself lives in memory: a restarted rail behaves well until it is told otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from specie.kernel.rail import PaymentState

__all__ = ["CRASH_POINTS", "Answer", "Fault", "PlayFaults"]

CRASH_POINTS = (
    "request:signed",
    "request:stored",
    "quote:held",
    "pay:begin",
    "pay:stored",
    "pay:settled",
    "settle:stored",
    "due:stored",
)
"""Names given to `PlayFaults.on_point`: before an effect is durable and just after it, in the order of the code."""


class Answer(StrEnum):
    """What `pay` says of an order with a fault."""

    TRUTH = "truth"
    """It waits for the truth, at most until the order's deadline."""
    PENDING = "pending"
    """PENDING at once; the truth comes later."""
    UNKNOWN = "unknown"
    """UNKNOWN at once, and `outgoing` says so too until the truth comes."""
    LOST = "lost"
    """The truth happens and its answer is lost: UncertainError."""
    UNAVAILABLE = "unavailable"
    """UnavailableError; nothing is stored and nothing happens."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of one order: `truth` after `after_s` seconds (PENDING: never, until an operator resolves it)."""

    truth: PaymentState = PaymentState.PAID
    after_s: float = 0.0
    answer: Answer = Answer.TRUTH
    fee_msat: int | None = None
    """Fee of a foreign payment that is PAID, instead of the rail's own; above the order's limit the payment fails."""
    reason: str = "told to"

    def __post_init__(self) -> None:
        if self.truth not in (PaymentState.PAID, PaymentState.FAILED, PaymentState.PENDING) or self.after_s < 0:
            raise ValueError("the truth of a payment is PAID, FAILED or PENDING, now or later")

    @classmethod
    def delay(cls, seconds: float) -> Fault:
        """Paid after `seconds`; `pay` waits for it."""
        return cls(after_s=seconds)

    @classmethod
    def fail(cls, after_s: float = 0.0) -> Fault:
        """Fails for good."""
        return cls(PaymentState.FAILED, after_s)

    @classmethod
    def hang(cls) -> Fault:
        """Never answered: `pay` waits out its deadline, the payment stays PENDING until `PlayRail.resolve`."""
        return cls(PaymentState.PENDING)

    @classmethod
    def late(cls, seconds: float, truth: PaymentState = PaymentState.PAID) -> Fault:
        """PENDING at once, the truth after `seconds`."""
        return cls(truth, seconds, Answer.PENDING)

    @classmethod
    def unknown(cls, seconds: float, truth: PaymentState = PaymentState.PAID) -> Fault:
        """UNKNOWN until the truth comes after `seconds`; with truth PENDING, until `PlayRail.resolve`."""
        return cls(truth, seconds, Answer.UNKNOWN)

    @classmethod
    def lost(cls, truth: PaymentState = PaymentState.PAID) -> Fault:
        """It happens, but the caller gets UncertainError."""
        return cls(truth, 0.0, Answer.LOST)

    @classmethod
    def unavailable(cls) -> Fault:
        """UnavailableError before anything happened."""
        return cls(answer=Answer.UNAVAILABLE)


@dataclass(slots=True)
class PlayFaults:
    """The policy of one rail; change it while the rail runs, or hand the rail another with `PlayRail.set_faults`."""

    unavailable: bool = False
    """Every call raises UnavailableError, nothing comes due and no autopay happens."""
    refuse_requests: bool = False
    refuse_quotes: bool = False
    always: Fault | None = None
    """For every order that has no fault of its own."""
    on_point: Callable[[str], None] | None = None
    """Called with a name of CRASH_POINTS where a crash would hurt; what it raises goes through (tests, simulator)."""
    _by_payment: dict[str, Fault] = field(default_factory=dict)
    _next: deque[Fault] = field(default_factory=deque)

    def for_payment(self, payment_id: str, fault: Fault | None) -> None:
        """Every attempt at one payment, until None takes it back."""
        if fault is None:
            self._by_payment.pop(payment_id, None)
        else:
            self._by_payment[payment_id] = fault

    def for_next(self, fault: Fault, count: int = 1) -> None:
        """The next `count` orders that have no fault by payment, behind those told before."""
        self._next.extend([fault] * count)

    def clear(self) -> None:
        """Behave well again; `on_point` stays."""
        self.unavailable = self.refuse_requests = self.refuse_quotes = False
        self.always = None
        self._by_payment.clear()
        self._next.clear()

    def take(self, payment_id: str) -> Fault | None:
        """The fault of an order that arrives now; one of `for_next` is used up."""
        if payment_id in self._by_payment:
            return self._by_payment[payment_id]
        return self._next.popleft() if self._next else self.always

    def give_back(self, payment_id: str, fault: Fault | None) -> None:
        """The order was no new one: its fault waits for the next."""
        if fault is not None and payment_id not in self._by_payment and fault is not self.always:
            self._next.appendleft(fault)

    def point(self, name: str) -> None:
        """Pass a crash point."""
        if self.on_point is not None:
            self.on_point(name)
