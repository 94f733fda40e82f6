"""The vocabulary every room speaks; pure. Modules with many names (`curve`, `encoding`, `hd`, `seal`) are used by module."""

from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy, uuid7
from specie.kernel.errors import (
    InvariantError,
    MalformedError,
    PeerFaultError,
    RefusedError,
    SpecieError,
    UnavailableError,
    UncertainError,
)
from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.kernel.money import MAX_AMOUNT, amount_checked, format_amount, split_amount, unit_checked
from specie.kernel.rail import (
    FeeOption,
    IncomingPayment,
    IncomingRequest,
    OutgoingQuote,
    PaymentOrder,
    PaymentOutcome,
    PaymentState,
    Rail,
    RailHealth,
    RailTerms,
)
from specie.kernel.telemetry import NULL_TELEMETRY, NullTelemetry, Telemetry

__all__ = [
    "DEFAULT_LIMITS",
    "MAX_AMOUNT",
    "NULL_TELEMETRY",
    "Clock",
    "Entropy",
    "FeeOption",
    "IncomingPayment",
    "IncomingRequest",
    "InvariantError",
    "Limits",
    "MalformedError",
    "NullTelemetry",
    "OutgoingQuote",
    "PaymentOrder",
    "PaymentOutcome",
    "PaymentState",
    "PeerFaultError",
    "Rail",
    "RailHealth",
    "RailTerms",
    "RefusedError",
    "SpecieError",
    "Telemetry",
    "UnavailableError",
    "UncertainError",
    "amount_checked",
    "format_amount",
    "split_amount",
    "unit_checked",
    "uuid7",
]
