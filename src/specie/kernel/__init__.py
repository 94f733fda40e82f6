"""The vocabulary every room speaks; pure. Modules with many names (`curve`, `encoding`, `hd`, `seal`) are used by module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.front_door import front_door

if TYPE_CHECKING:
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
else:
    __getattr__ = front_door(
        __name__,
        {
            "clock": ("Clock",),
            "entropy": ("Entropy", "uuid7"),
            "errors": (
                "InvariantError",
                "MalformedError",
                "PeerFaultError",
                "RefusedError",
                "SpecieError",
                "UnavailableError",
                "UncertainError",
            ),
            "limits": ("DEFAULT_LIMITS", "Limits"),
            "money": ("MAX_AMOUNT", "amount_checked", "format_amount", "split_amount", "unit_checked"),
            "rail": (
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
            ),
            "telemetry": ("NULL_TELEMETRY", "NullTelemetry", "Telemetry"),
        },
    )

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
