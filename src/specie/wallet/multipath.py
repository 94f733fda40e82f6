"""The plan of a payment by several mints (NUT-15): which mint pays how much of an invoice; pure and deterministic.

What a mint can pay is bounded by what is free there after the fee of spending it all, less the reserve the mint wants for the
part, and by the mint's own limits. Of all plans one with the fewest parts is taken, and of those the one with the fullest
mints; within it the mints are used in proportion to what they can pay, so that each has something to spare should it ask for
more than was reckoned with. Not here: quotes, and what is done when a mint asks for more (`engine.split` plans again).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice

from specie.kernel.errors import MalformedError

__all__ = ["PlannedPart", "Source", "plan_parts"]

_MILLION = 1_000_000
_CHOICES = 5000
"""Sets of mints that are looked at for each number of parts."""


@dataclass(frozen=True, slots=True)
class Source:
    """A mint that can pay a part. Amounts are in the unit.

    Attributes:
        mint: its URL.
        free: what can be spent there, after the fee of spending all of it.
        reserve_floor, reserve_ppm: the reserve it wants: so many millionths of a part, rounded up, and at least the floor.
        least, most: bounds of a part; `most` None for none.
    """

    mint: str
    free: int
    reserve_floor: int = 0
    reserve_ppm: int = 0
    least: int = 1
    most: int | None = None

    def reserve(self, amount: int) -> int:
        """The reserve for a part of `amount`."""
        return max(self.reserve_floor, -(-amount * self.reserve_ppm // _MILLION))

    @property
    def capacity(self) -> int:
        """The largest part it can pay; 0 if that is less than its least."""
        room = self.free - self.reserve_floor
        if room <= 0:
            return 0
        part = min(room, self.free * _MILLION // (_MILLION + self.reserve_ppm))
        if part + self.reserve(part) > self.free:
            part -= 1
        if self.most is not None:
            part = min(part, self.most)
        return part if part >= max(self.least, 1) else 0


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part of a plan, in the unit."""

    mint: str
    amount: int


def plan_parts(amount: int, sources: Sequence[Source], *, most_parts: int = 8) -> list[PlannedPart] | None:
    """Parts that sum to exactly `amount`, each within its source's capacity and limits; None if there is no such plan.

    The same sources in any order give the same plan. MalformedError unless the amount is positive and each mint named once.
    """
    if amount <= 0:
        raise MalformedError("an amount to pay must be positive")
    if len({source.mint for source in sources}) != len(sources):
        raise MalformedError("a plan names each mint once")
    able = sorted((one for one in sources if one.capacity), key=lambda one: (-one.capacity, one.mint))
    for count in range(1, min(most_parts, len(able)) + 1):
        if sum(one.capacity for one in able[:count]) < amount:
            continue
        for chosen in islice(combinations(able, count), _CHOICES):
            least = sum(max(one.least, 1) for one in chosen)
            if least <= amount <= sum(one.capacity for one in chosen):
                return _shared(amount, chosen)
    return None


def _shared(amount: int, chosen: Sequence[Source]) -> list[PlannedPart]:
    """Each its least, and of the rest a share in proportion to what it can pay beyond that; what rounding leaves, in order."""
    least = [max(one.least, 1) for one in chosen]
    room = [one.capacity - floor for one, floor in zip(chosen, least, strict=True)]
    rest, total = amount - sum(least), sum(room)
    extra = [rest * one // total if total else 0 for one in room]
    left = rest - sum(extra)
    for place, more in enumerate(extra):
        given = min(left, room[place] - more)
        extra[place] += given
        left -= given
    return [PlannedPart(one.mint, floor + more) for one, floor, more in zip(chosen, least, extra, strict=True)]
