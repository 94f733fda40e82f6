"""A signer's policy as a TOML file, and the file beside its seed in which reserved amounts are kept.

    [[rule]]
    name = "sat, at most a million an hour"
    keys = ["mint/sat/*"]
    state = "active"                 # pre-active, active, suspended, deactivated, destroyed
    verbs = ["issue", "judge"]       # public, issue, judge, sign, derive, seal, open; all that the state allows unless given
    hours = "08:00-20:00"            # UTC
    calls_a_minute = 6000
    amount_an_hour = 1_000_000

The reservations are JSON, replaced as a whole: a crash leaves the old file or the new one.
"""

from __future__ import annotations

import json
import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from specie.kernel.errors import MalformedError, UnavailableError
from specie.keys.engine.guarded import Amounts
from specie.keys.policy import KeyState, Rule, Verb, parsed_hours, pattern_checked

__all__ = ["ReservationFile", "policy_from_file"]

_MAX_BYTES: Final = 1_000_000
_MAX_RULES: Final = 256
_KEYS: Final = frozenset({"name", "keys", "state", "verbs", "hours", "calls_a_minute", "amount_an_hour"})

E = TypeVar("E", bound=StrEnum)


def policy_from_file(path: Path) -> tuple[Rule, ...]:
    """Read a policy. MalformedError with all that is wrong with it, UnavailableError if it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnavailableError(f"cannot read the policy {path}: {error.strerror}") from error
    problems: list[str] = []
    rules: list[Rule] = []
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError("is larger than 1 MB")
        document = tomllib.loads(data.decode())
    except ValueError as error:
        raise MalformedError(f"the policy {path}: {error}") from None
    tables = document.pop("rule", [])
    problems += [f"{name}: is not known here; a policy has [[rule]] tables only" for name in document]
    if not isinstance(tables, list) or len(tables) > _MAX_RULES:
        problems.append(f"rule: is a list of at most {_MAX_RULES} tables, [[rule]]")
        tables = []
    for number, table in enumerate(tables, 1):
        reader = _Reader(f"rule {number}", table if isinstance(table, dict) else {}, problems)
        rule = reader.rule()
        if rule is not None:
            if rule.name in {other.name for other in rules}:
                problems.append(f"rule {number}: another rule has the name {rule.name!r}")
            rules.append(rule)
    if not tables and not problems:
        problems.append("there is no [[rule]] in it; leave it out if everything is allowed")
    if problems:
        raise MalformedError(f"the policy {path} is not good: " + "; ".join(problems))
    return tuple(rules)


class _Reader:
    """One table of the file; what is wrong with it is written down."""

    def __init__(self, place: str, table: dict[str, object], problems: list[str]) -> None:
        self._place = place
        self._table = table
        self._problems = problems

    def _wrong(self, key: str, what: str) -> None:
        self._problems.append(f"{self._place}: {key} {what}")

    def rule(self) -> Rule | None:
        """The rule; None if anything is wrong."""
        before = len(self._problems)
        for unknown in sorted(set(self._table) - _KEYS):
            self._wrong(unknown, f"is not known here; known are {', '.join(sorted(_KEYS))}")
        name = self._table.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= 100 or not name.isprintable():
            self._wrong("name", "is needed: 1 to 100 characters")
        keys = self._texts("keys")
        if not keys:
            self._wrong("keys", 'is needed: a list of patterns, as in ["mint/sat/*"]')
        elif not all(pattern_checked(pattern) for pattern in keys):
            self._wrong("keys", 'are "*", "mint/*", "mint/UNIT/*", "mint/UNIT/INDEX", or names of other keys as "node"')
        states, verbs = self._named("state", KeyState, [self._table.get("state", "active")]), self._verbs()
        hours = self._hours()
        calls, amount = self._limit("calls_a_minute"), self._limit("amount_an_hour")
        if len(self._problems) > before:
            return None
        return Rule(str(name), keys, states[0], verbs, hours, calls, amount)

    def _texts(self, key: str) -> tuple[str, ...]:
        found = self._table.get(key, [])
        if not isinstance(found, list) or not all(isinstance(text, str) and 0 < len(text) <= 200 for text in found):
            self._wrong(key, "is a list of texts")
            return ("",)
        return tuple(found)

    def _named(self, key: str, kind: type[E], names: list[object]) -> list[E]:
        known = {str(member): member for member in kind}
        for name in names:
            if name not in known:
                self._wrong(key, f"{name!r} is not known; known are {', '.join(known)}")
        return [known[str(name)] for name in names if name in known]

    def _verbs(self) -> frozenset[Verb] | None:
        if "verbs" not in self._table:
            return None
        return frozenset(self._named("verbs", Verb, list(self._texts("verbs"))))

    def _hours(self) -> tuple[int, int] | None:
        text = self._table.get("hours")
        hours = parsed_hours(text) if isinstance(text, str) else None
        if text is not None and hours is None:
            self._wrong("hours", 'are two times of the day in UTC, as in "08:00-20:00"')
        return hours

    def _limit(self, key: str) -> int | None:
        limit = self._table.get(key)
        if limit is None or (isinstance(limit, int) and not isinstance(limit, bool) and 0 <= limit < 2**63):
            return limit
        self._wrong(key, "is a whole number, 0 to 2^63-1")
        return None


class ReservationFile:
    """`keys.engine.guarded.Reservations` in one small file (0600)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Amounts:
        """What was reserved; nothing without a file. MalformedError if it is damaged, UnavailableError if it is not read."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise UnavailableError(f"cannot read {self._path}: {error.strerror}") from error
        try:
            found = json.loads(data)
            return {str(name): {int(at): _amount(one) for at, one in amounts.items()} for name, amounts in found.items()}
        except (ValueError, AttributeError, RecursionError):
            raise MalformedError(
                f"{self._path} is damaged, so what was issued in the last hour is not known; "
                "remove it when the signer has been down for an hour"
            ) from None

    def save(self, amounts: Amounts) -> None:
        """Replace the file, durably. UnavailableError if the disk refuses; the old one stands then."""
        beside = self._path.with_name(self._path.name + ".tmp")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(json.dumps(amounts).encode())
                file.flush()
                os.fsync(descriptor)
            os.replace(beside, self._path)
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise UnavailableError(f"cannot write {self._path}: {error.strerror}", retry_after_s=1.0) from error


def _amount(found: object) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise ValueError("not an amount")
    return found
