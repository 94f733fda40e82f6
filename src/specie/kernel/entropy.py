"""The port through which engines get randomness, and the identifiers made from it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Entropy", "uuid7"]


class Entropy(Protocol):
    """A cryptographically secure source; `app.system.SystemEntropy` is the real one, the simulator's is seeded."""

    def bytes(self, count: int) -> bytes:
        """`count` FRESH random bytes."""
        ...


def uuid7(now_ms: int, random: bytes) -> str:
    """UUIDv7 text (RFC 9562 section 5.7) whose 74 variable bits all come from `random` (10 FRESH bytes).

    NUT-04 asks that a quote id be unguessable, so no counter stands in `rand_a`.
    """
    if len(random) != 10:
        raise ValueError("uuid7 takes 10 random bytes")
    if not 0 <= now_ms < 2**48:
        raise ValueError("time does not fit 48 bits")
    bits = int.from_bytes(random, "big")
    rand_a, rand_b = (bits >> 62) & 0xFFF, bits & ((1 << 62) - 1)
    value = now_ms << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
