"""Numbers that sender and receiver of a fountain code draw alike (BCR-2024-001, "The Consensus Stack").

xoshiro256** seeded by SHA-256, and the alias method of Walker and Vose on top of it. The order of every floating-point
step is part of the agreement. Predictable on purpose: never use it where randomness must be FRESH.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["AliasSampler", "Xoshiro256"]

_MASK = 0xFFFF_FFFF_FFFF_FFFF
_RANGE = 1 << 64


def _rotated(value: int, by: int) -> int:
    return (value << by | value >> 64 - by) & _MASK


class Xoshiro256:
    """The generator; its state is SHA-256 of `seed`, as four big-endian numbers."""

    def __init__(self, seed: bytes) -> None:
        """Begin the sequence of `seed`."""
        digest = hashlib.sha256(seed).digest()
        self._a, self._b, self._c, self._d = (int.from_bytes(digest[at : at + 8], "big") for at in range(0, 32, 8))

    def next(self) -> int:
        """The next number, from 0 to 2**64-1."""
        result = _rotated(self._b * 5 & _MASK, 7) * 9 & _MASK
        shifted = self._b << 17 & _MASK
        self._c ^= self._a
        self._d ^= self._b
        self._b ^= self._c
        self._a ^= self._d
        self._c ^= shifted
        self._d = _rotated(self._d, 45)
        return result

    def next_double(self) -> float:
        """The next number as a share of 2**64."""
        return float(self.next()) / float(_RANGE)

    def next_int(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return min(int(self.next_double() * (high - low + 1)) + low, high)  # a share can round up to 1.0

    def next_bytes(self, count: int) -> bytes:
        """`count` bytes, each one `next_int`."""
        return bytes(self.next_int(0, 255) for _ in range(count))


class AliasSampler:
    """Draws index i with a probability in proportion to `weights[i]`."""

    def __init__(self, weights: Sequence[float]) -> None:
        """At least one weight; none negative, and their sum positive."""
        count, total = len(weights), sum(weights)
        share = [weight * float(count) / total for weight in weights]
        small = [index for index in reversed(range(count)) if share[index] < 1]
        large = [index for index in reversed(range(count)) if share[index] >= 1]
        self._keep = [1.0] * count
        self._alias = [0] * count
        while small and large:
            lesser, greater = small.pop(), large.pop()
            self._keep[lesser] = share[lesser]
            self._alias[lesser] = greater
            share[greater] += share[lesser] - 1
            (small if share[greater] < 1 else large).append(greater)

    def next(self, numbers: Xoshiro256) -> int:
        """Draw one index; takes two numbers."""
        first, second = numbers.next_double(), numbers.next_double()
        index = min(int(len(self._keep) * first), len(self._keep) - 1)
        return index if second < self._keep[index] else self._alias[index]
