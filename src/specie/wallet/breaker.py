"""Circuit breaker of one mint: after several unavailabilities IN A ROW, asks pause for a while.

Only unavailability counts. An answer of any kind, a refusal included, proves the mint to be there and resets the count.
When the pause is over one probe is let through (half-open): it closes the breaker or doubles the pause. Pure: time is an
argument. Not here: retries (`retry`), and what to do with money meanwhile (`engine`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from specie.wallet.errors import BreakerOpenError

__all__ = ["Breaker", "BreakerState"]


class BreakerState(StrEnum):
    """Where the breaker stands."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(slots=True)
class Breaker:
    """One mint's breaker; it belongs to one event loop.

    Attributes:
        threshold: unavailabilities in a row that open it.
        pause_s: first pause; each failed probe doubles it, up to `longest_pause_s`.
    """

    threshold: int = 5
    pause_s: float = 5.0
    longest_pause_s: float = 120.0
    _failures: int = 0
    _opened_at: float | None = None
    _pause: float = 0.0
    _probing: bool = False

    def state(self, now: float) -> BreakerState:
        """Where it stands at `now` (monotonic seconds)."""
        if self._opened_at is None:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if now >= self._opened_at + self._pause else BreakerState.OPEN

    def admit(self, now: float) -> None:
        """Ask to make a call; BreakerOpenError while it pauses or while another probe is out."""
        if self._opened_at is None:
            return
        rest = self._opened_at + self._pause - now
        if rest > 0 or self._probing:
            raise BreakerOpenError("the mint did not answer several times in a row", retry_after_s=max(rest, 0.1))
        self._probing = True

    def answered(self) -> None:
        """The mint gave an answer, whatever it said."""
        self._failures = 0
        self._opened_at = None
        self._probing = False

    def unavailable(self, now: float) -> None:
        """The mint could not be reached, or gave no answer."""
        self._failures += 1
        if self._opened_at is not None:
            if self._probing:
                self._pause = min(self._pause * 2, self.longest_pause_s)
                self._opened_at = now
            self._probing = False
        elif self._failures >= self.threshold:
            self._opened_at, self._pause = now, self.pause_s

    def abandoned(self) -> None:
        """A call was cancelled before anything was learnt: the next one may probe."""
        self._probing = False
