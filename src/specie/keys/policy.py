"""What keys may be used for: states and rules, decided purely.

A policy is a list of rules, each for some keys. All rules that name a key hold for it together; a key that no rule names may do
what its provider can. States are those of NIST SP 800-57 part 1 (revision 5, §7); what a state allows:

| state        | new signatures, sealing | judging coins, opening what was sealed | public key |
|--------------|-------------------------|----------------------------------------|------------|
| pre-active   | no                      | no                                     | yes        |
| active       | yes                     | yes                                    | yes        |
| suspended    | no                      | yes                                    | yes        |
| deactivated  | no                      | yes                                    | yes        |
| destroyed    | no                      | no                                     | no         |

Suspended is meant to end, deactivated is not; a signer treats them alike. A keyset that is suspended or deactivated thus issues
nothing more and still takes its coins back.

What a limit counts: `calls` each question of a verb, whatever is in it. `amount` the coins signed in excess of the coins that
came in with the same question: a swap of equal sums counts nothing, issuing and change count whole. Whether the coins that came
in were spent before, a signer cannot know: a bank that lies is held to the limit in what it issues, not in what it swaps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from specie.kernel.errors import InvariantError

__all__ = ["MINUTES", "KeyState", "Rule", "Usage", "Verb", "allowed", "parsed_hours", "pattern_checked", "why_not"]

MINUTES: Final = 60
"""Minutes that limits look back, in slots of one minute."""
_DAY: Final = 24 * 60
_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])")


class KeyState(StrEnum):
    """NIST SP 800-57 part 1, §7."""

    PRE_ACTIVE = "pre-active"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DEACTIVATED = "deactivated"
    DESTROYED = "destroyed"


class Verb(StrEnum):
    """What is asked of a key."""

    PUBLIC = "public"
    """Its public key."""
    ISSUE = "issue"
    """Blind signatures, with coins coming in (a swap) or without (issuing, change)."""
    JUDGE = "judge"
    """Whether coins are good."""
    SIGN = "sign"
    """ECDSA and BIP 340 signatures."""
    DERIVE = "derive"
    """Secrets of a wallet."""
    SEAL = "seal"
    OPEN = "open"


_ALLOWED: Final = {
    KeyState.PRE_ACTIVE: frozenset({Verb.PUBLIC}),
    KeyState.ACTIVE: frozenset(Verb),
    KeyState.SUSPENDED: frozenset({Verb.PUBLIC, Verb.JUDGE, Verb.OPEN}),
    KeyState.DEACTIVATED: frozenset({Verb.PUBLIC, Verb.JUDGE, Verb.OPEN}),
    KeyState.DESTROYED: frozenset(),
}


def allowed(state: KeyState) -> frozenset[Verb]:
    """What a key in this state may be asked for."""
    return _ALLOWED[state]


@dataclass(frozen=True, slots=True)
class Rule:
    """What holds for some keys; see the module for what limits count. InvariantError for a limit below zero.

    `keys` are patterns of refs (`mint/sat/*`, `node`; `*` matches anything): a keyset is `mint/{unit}/{index}`, wrapping is
    `wrapping`, a wallet's secrets are `secrets`.
    """

    name: str
    keys: tuple[str, ...]
    state: KeyState = KeyState.ACTIVE
    verbs: frozenset[Verb] | None = None
    """None: all that the state allows."""
    hours: tuple[int, int] | None = None
    """Minutes of the UTC day, first and the one after the last; the first may be greater (over midnight)."""
    calls_a_minute: int | None = None
    amount_an_hour: int | None = None
    """In units of the keyset's unit."""

    def __post_init__(self) -> None:
        if any(limit is not None and limit < 0 for limit in (self.calls_a_minute, self.amount_an_hour)):
            raise InvariantError("a limit is not below zero")

    def units(self) -> set[str]:
        """Units that its patterns spell out."""
        split = (pattern.split("/") for pattern in self.keys)
        return {parts[1] for parts in split if len(parts) > 1 and parts[0] == "mint" and parts[1] != "*"}

    def names(self, ref: str) -> bool:
        """Whether the rule holds for this key."""
        return any(fnmatchcase(ref, pattern) for pattern in self.keys)


@dataclass(slots=True)
class Usage:
    """What was used under one rule: calls of this minute, and amounts of the last hour by minute."""

    minute: int = -1
    """Unix minute that `calls` counts."""
    calls: int = 0
    amounts: dict[int, int] | None = None
    """Amount by unix minute."""

    def calls_in(self, minute: int) -> int:
        """Calls of this minute."""
        return self.calls if minute <= self.minute else 0  # a clock that was put back makes no room

    def amount_since(self, minute: int) -> int:
        """Amount of the hour that ends with this minute."""
        return sum(amount for at, amount in (self.amounts or {}).items() if at > minute - MINUTES)

    def used(self, minute: int, amount: int) -> None:
        """Count one call; what is older than an hour is dropped."""
        self.calls = self.calls_in(minute) + 1
        self.minute = max(self.minute, minute)
        if amount:
            kept = {at: before for at, before in (self.amounts or {}).items() if at > minute - MINUTES}
            kept[minute] = kept.get(minute, 0) + amount
            self.amounts = kept


def why_not(rule: Rule, usage: Usage, verb: Verb, amount: int, now: int) -> tuple[str, float | None] | None:
    """Why a rule forbids a use at unix time `now`, and after how many seconds it might not; None if it does not.

    None for the seconds: not by waiting.
    """
    if verb not in allowed(rule.state):
        return f"its keys are {rule.state}", None
    if rule.verbs is not None and verb not in rule.verbs:
        return f"its keys may not {verb}", None
    minute = now // 60
    if rule.hours is not None and not _open_at(rule.hours, minute % _DAY):
        return f"its hours are {_hours(rule.hours)} UTC", float(60 * ((rule.hours[0] - minute) % _DAY) - now % 60)
    if rule.calls_a_minute is not None and usage.calls_in(minute) >= rule.calls_a_minute:
        return f"its {rule.calls_a_minute} calls a minute are used up", float(60 - now % 60)
    if amount and rule.amount_an_hour is not None and usage.amount_since(minute) + amount > rule.amount_an_hour:
        wait_s = _until_room(rule.amount_an_hour, usage, amount, now)
        return f"{amount} more would be above its {rule.amount_an_hour} an hour", wait_s
    return None


def _until_room(limit: int, usage: Usage, amount: int, now: int) -> float | None:
    """Seconds until enough of the hour's amounts are old; None if the amount is above the limit itself."""
    if amount > limit:
        return None
    minute, sum_ = now // 60, usage.amount_since(now // 60)
    for at, used in sorted((usage.amounts or {}).items()):
        if at > minute - MINUTES:
            sum_ -= used
            if sum_ + amount <= limit:
                return float((at + MINUTES) * 60 - now)
    return None


def _open_at(hours: tuple[int, int], minute: int) -> bool:
    first, end = hours
    return first <= minute < end if first <= end else minute >= first or minute < end


def _hours(hours: Sequence[int]) -> str:
    return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in hours)


def pattern_checked(pattern: str) -> bool:
    """Whether a pattern can be judged: `*`, `mint/*`, `mint/UNIT/*`, `mint/UNIT/INDEX`, or one of other keys that begins with
    a whole word. A unit must be spelled out, for a pattern in its place would let other names of its keys through."""
    wild = frozenset("*?[]")
    first, *rest = pattern.split("/")
    if pattern in ("*", "mint/*"):
        return True
    if wild & set(first) or not first:
        return False
    if first != "mint":
        return True
    return len(rest) == 2 and bool(rest[0]) and not wild & set(rest[0]) and (rest[1] == "*" or rest[1].isdecimal())


def parsed_hours(text: str) -> tuple[int, int] | None:
    """`08:00-20:00` as minutes of the day; None for anything else, and for hours that never end or never begin."""
    found = _HOURS.fullmatch(text)
    if found is None:
        return None
    first, end = (60 * int(found[part]) + int(found[part + 1]) for part in (1, 3))
    return None if first == end else (first, end)
