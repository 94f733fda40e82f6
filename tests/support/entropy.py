"""Entropy for tests: the same bytes for the same seed, never twice the same within one source."""

from __future__ import annotations

import hashlib

__all__ = ["CountingEntropy"]


class CountingEntropy:
    """A `kernel.Entropy` that hashes a seed and a counter."""

    def __init__(self, seed: str = "test") -> None:
        self._seed = seed
        self.calls = 0

    def bytes(self, count: int) -> bytes:
        """`count` bytes, different at each call."""
        self.calls += 1
        return hashlib.shake_256(f"{self._seed}/{self.calls}".encode()).digest(count)
