"""When to ask again, and how long to wait before it: full-jitter exponential backoff. Pure.

What may be repeated is decided by the caller: questions (keys, quotes, states, restore) freely; a request that moves value
only as the identical bytes of the journal; a melt not before its quote was looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RetryPolicy"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently.

    Attributes:
        attempts: tries in all, at least 1.
        base_s: upper bound of the first wait; doubles each time up to `longest_s`.
        longest_s: upper bound of any wait.
    """

    attempts: int = 4
    base_s: float = 0.2
    longest_s: float = 5.0

    def delay_s(self, attempt: int, random: bytes, *, at_least_s: float = 0.0) -> float:
        """Seconds to wait after failed try number `attempt` (from 1): uniform in [0, bound], drawn from 4 FRESH bytes.

        `at_least_s` is what the mint asked for (Retry-After); it is honoured up to `longest_s`.
        """
        bound = min(self.base_s * float(1 << min(attempt - 1, 30)), self.longest_s)
        share = int.from_bytes(random[:4], "big") / 2**32
        return max(bound * share, min(at_least_s, self.longest_s))
