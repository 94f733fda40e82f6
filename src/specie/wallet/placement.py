"""Where money should be and should not: mints that are being left, what is seen of a mint's health, and targets; values.

The judgement on them is pure and stands here too: `advice` says what speaks against keeping money at a mint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specie.ecash.info import MintInfo
    from specie.wallet.holding import KnownKeyset

__all__ = [
    "LEAVING_COST_PPM",
    "Advice",
    "HealthTally",
    "Leaving",
    "MintHealth",
    "Reason",
    "WatchPolicy",
    "advice",
    "next_probe_at",
]

LEAVING_COST_PPM = 200_000
_FIRST_PROBE_S = 60
_LONGEST_PROBE_S = 6 * 3600


@dataclass(frozen=True, slots=True)
class Leaving:
    """Nothing shall be at `mint` any more; its money goes to `destinations` (none: wherever targets say).

    Attributes:
        cost_ppm: the most that moving may cost, in millionths of what is moved.
        again_at: before this time no check moves: another one is at it, or what is left is not worth it for now.
    """

    mint: str
    destinations: tuple[str, ...]
    since: int
    cost_ppm: int = LEAVING_COST_PPM
    again_at: int = 0


@dataclass(frozen=True, slots=True)
class MintHealth:
    """What was seen of a mint. Times are Unix seconds, None where it never happened."""

    mint: str
    failures: int = 0
    """Calls in a row that found it unavailable."""
    failing_since: int | None = None
    """The first of those."""
    failed_at: int | None = None
    """The last of those."""
    answered_at: int | None = None
    """Its last answer, whatever it said."""


@dataclass(slots=True)
class HealthTally:
    """What this process has seen of a mint since it last wrote it down."""

    answered_at: int | None = None
    failures: int = 0
    failing_since: int | None = None
    failed_at: int | None = None

    def answered(self, now: int) -> None:
        """The mint gave an answer, whatever it said."""
        self.answered_at, self.failures, self.failing_since = now, 0, None

    def unavailable(self, now: int) -> None:
        """The mint gave none."""
        self.failures, self.failed_at = self.failures + 1, now
        self.failing_since = now if self.failing_since is None else self.failing_since

    def added_to(self, known: MintHealth) -> MintHealth:
        """What was known, and this on top."""
        if self.answered_at is not None:
            failed_at = known.failed_at if self.failed_at is None else self.failed_at
            return MintHealth(known.mint, self.failures, self.failing_since, failed_at, self.answered_at)
        if not self.failures:
            return known
        since = self.failing_since if known.failing_since is None else known.failing_since
        return MintHealth(known.mint, known.failures + self.failures, since, self.failed_at, known.answered_at)


@dataclass(frozen=True, slots=True)
class WatchPolicy:
    """When a mint is called bad, and what to do then.

    Attributes:
        failures, silent_s: so many calls in a row without an answer, over so many seconds.
        horizon_s: a mint all of whose usable keysets expire within this time winds down.
        move: whether money is moved out by itself (as soon as the mint answers); else there is only advice.
        destinations: where to; none: wherever targets and limits say.
        cost_ppm: the most that moving may cost, in millionths of what is moved.
        keep: mints that are never left by themselves.
        every_s: checks that nobody asked for are made at most once in so many seconds.
    """

    failures: int = 10
    silent_s: int = 24 * 3600
    horizon_s: int = 14 * 86_400
    move: bool = False
    destinations: tuple[str, ...] = ()
    cost_ppm: int = 50_000
    keep: tuple[str, ...] = ()
    every_s: int = 3600


class Reason(StrEnum):
    """What speaks against keeping money at a mint."""

    SILENT = "silent"
    """It has not answered for long."""
    MINTING_DISABLED = "minting disabled"
    """It takes no new money (NUT-04 `disabled`)."""
    MELTING_DISABLED = "melting disabled"
    """It pays nothing out (NUT-05 `disabled`): money cannot be moved by Lightning."""
    NO_KEYSET = "no active keyset"
    """It makes no new coins of a unit that we hold."""
    EXPIRING = "keysets expire"
    """All its usable keysets of a unit that we hold expire soon."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One reason to leave a mint, with a sentence for people."""

    mint: str
    reason: Reason
    detail: str


def advice(
    health: MintHealth, info: MintInfo, keysets: Sequence[KnownKeyset], units: Sequence[str], policy: WatchPolicy, now: int
) -> tuple[Advice, ...]:
    """What speaks against the mint now; `units` are those that we hold there. Nothing is judged that was never seen."""
    found: list[Advice] = []
    since = health.failing_since
    if since is not None and health.failures >= policy.failures and now - since >= policy.silent_s:
        hours = (now - since) // 3600
        found.append(Advice(health.mint, Reason.SILENT, f"no answer to {health.failures} calls in {hours} hours"))
    if _disabled(info, 4):
        found.append(Advice(health.mint, Reason.MINTING_DISABLED, "it takes no new money"))
    if _disabled(info, 5):
        found.append(Advice(health.mint, Reason.MELTING_DISABLED, "it pays no invoices"))
    for unit in units:
        usable = [known for known in keysets if known.keyset.unit == unit and known.usable(now)]
        expiries = [known.keyset.final_expiry for known in usable]
        if not usable:
            found.append(Advice(health.mint, Reason.NO_KEYSET, f"it makes no new coins of {unit}"))
        elif all(expiry is not None and expiry - now <= policy.horizon_s for expiry in expiries):
            last = max(expiry for expiry in expiries if expiry is not None)
            days = max(last - now, 0) // 86_400
            found.append(Advice(health.mint, Reason.EXPIRING, f"all its coins of {unit} expire within {days + 1} days"))
    return tuple(found)


def _disabled(info: MintInfo, nut: int) -> bool:
    setting = info.nuts.get(str(nut))
    return isinstance(setting, dict) and bool(setting.get("disabled", False))


def next_probe_at(health: MintHealth) -> int:
    """When a mint that does not answer is asked again: a minute after its last failure, doubling up to six hours."""
    if health.failed_at is None or not health.failures:
        return 0
    return int(health.failed_at + min(_FIRST_PROBE_S * 2 ** min(health.failures - 1, 16), _LONGEST_PROBE_S))
