"""All bounds on what comes from outside, in one place, with their units. Every parser takes its bound from here."""

from __future__ import annotations

from dataclasses import dataclass, field

from specie.kernel.live import RESTART

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one mint or wallet; settings may lower or raise them. Lengths are in characters unless named otherwise."""

    array_length: int = field(default=1000, metadata=RESTART)
    """Largest array in any request: inputs, outputs, Ys (announced as `max_array_length`, NUT-06)."""
    batch_quotes: int = field(default=100, metadata=RESTART)
    """Largest batch of mint quotes (announced as `max_batch_size`, NUT-29)."""
    body_bytes: int = field(default=2_000_000, metadata=RESTART)
    """Largest HTTP body, request or answer."""
    secret_chars: int = field(default=8192, metadata=RESTART)
    """Longest `Proof.secret`; an 11-key multisig lock needs about 1,000."""
    witness_chars: int = field(default=16_384, metadata=RESTART)
    """Longest `Proof.witness`."""
    token_chars: int = field(default=4_000_000, metadata=RESTART)
    """Longest token text (NUT-00)."""
    json_depth: int = field(default=16, metadata=RESTART)
    """Deepest nesting of JSON or CBOR."""
    request_chars: int = field(default=4096, metadata=RESTART)
    """Longest payment request (a BOLT 11 invoice) in a quote."""
    payment_request_chars: int = field(default=16_384, metadata=RESTART)
    """Longest payment request of ecash (NUT-18, NUT-26), its URI included."""
    description_chars: int = field(default=640, metadata=RESTART)
    """Longest description of a quote (BOLT 11 field `d` holds 639 bytes)."""
    subscriptions: int = field(default=100, metadata=RESTART)
    """Subscriptions of one WebSocket (NUT-17)."""
    filters: int = field(default=100, metadata=RESTART)
    """Filters of one subscription (NUT-17)."""


DEFAULT_LIMITS = Limits()
