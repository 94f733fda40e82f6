"""All bounds on what comes from outside, in one place, with their units. Every parser takes its bound from here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_LIMITS", "Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one mint or wallet; settings may lower or raise them. Lengths are in characters unless named otherwise."""

    array_length: int = 1000
    """Largest array in any request: inputs, outputs, Ys (announced as `max_array_length`, NUT-06)."""
    batch_quotes: int = 100
    """Largest batch of mint quotes (announced as `max_batch_size`, NUT-29)."""
    body_bytes: int = 2_000_000
    """Largest HTTP body, request or answer."""
    secret_chars: int = 8192
    """Longest `Proof.secret`; an 11-key multisig lock needs about 1,000."""
    witness_chars: int = 16_384
    """Longest `Proof.witness`."""
    token_chars: int = 4_000_000
    """Longest token text (NUT-00)."""
    json_depth: int = 16
    """Deepest nesting of JSON or CBOR."""
    request_chars: int = 4096
    """Longest payment request (a BOLT 11 invoice) in a quote."""
    payment_request_chars: int = 16_384
    """Longest payment request of ecash (NUT-18, NUT-26), its URI included."""
    description_chars: int = 640
    """Longest description of a quote (BOLT 11 field `d` holds 639 bytes)."""
    subscriptions: int = 100
    """Subscriptions of one WebSocket (NUT-17)."""
    filters: int = 100
    """Filters of one subscription (NUT-17)."""


DEFAULT_LIMITS = Limits()
