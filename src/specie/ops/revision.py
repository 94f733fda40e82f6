"""Settings as they are remembered: what is shown of them, what changed between two, and a revision. Pure.

A secret is shown as its reference, or as `[redacted]` where it was written out: no digest of it is made, for a digest of a
guessable password lets others guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum, StrEnum
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

from specie.ops.config import leaves
from specie.ops.schema import as_toml, convert, fields_of, is_section
from specie.ops.secret import REDACTED, Secret
from specie.ops.secret_reference import SecretReference
from specie.ops.settings import BankSettings

__all__ = [
    "Change",
    "Outcome",
    "Revision",
    "changes_between",
    "document_text",
    "redacted_document",
    "restart_keys",
    "secrets_of",
    "shown",
]


class Outcome(StrEnum):
    """What became of a revision."""

    APPLIED = "applied"
    """The bank runs, or ran, with it."""
    REFUSED = "refused"
    """Nothing of it was taken."""
    UNDONE = "undone"
    """It was begun and taken back whole."""


@dataclass(frozen=True, slots=True)
class Change:
    """One setting before and after, as TOML text; `live` is whether a running bank takes it."""

    key: str
    before: str
    after: str
    live: bool


@dataclass(frozen=True, slots=True)
class Revision:
    """One set of settings that a bank was given."""

    number: int
    """From 1, over all processes of a store."""
    place: str
    """Which bank of a shared store: empty for an embedded one."""
    at: int
    """Unix seconds."""
    author: str
    outcome: Outcome
    reasons: tuple[str, ...]
    """Why it was refused or taken back."""
    settings: Mapping[str, str]
    """Every setting by its name, as `shown`; empty where they could not be read."""
    document: Mapping[str, Any] | None
    """The tables of the file. None where it could not be read, or holds a secret in the clear."""
    changes: tuple[Change, ...]
    """What differs from what ran before."""

    @property
    def facts(self) -> dict[str, Any]:
        """For programs: everything but the settings themselves."""
        return {
            "number": self.number,
            "at": self.at,
            "author": self.author,
            "outcome": self.outcome.value,
            "reasons": list(self.reasons),
            "changes": [asdict(change) for change in self.changes],
            "place": self.place,
        }


def _plain(value: object) -> Any:
    """A value with a TOML form: a rail is a table of what was set, what is absent is the empty text."""
    if value is None:
        return ""
    if isinstance(value, Secret):
        return REDACTED
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, SecretReference | type):
        return {spec.name: _plain(getattr(value, spec.name)) for spec in fields_of(type(value)).values()}
    return value


def shown(settings: BankSettings) -> dict[str, str]:
    """Every setting by its dotted name, as TOML text without secrets."""
    return {key: as_toml(_plain(attrgetter(key)(settings))) for key, _ in leaves()}


def changes_between(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Change, ...]:
    """What differs, in the order of the settings; names that only one side knows are told with nothing on the other."""
    live = {key: bool(spec.live) for key, spec in leaves()}
    keys = dict.fromkeys([*live, *before, *after])
    return tuple(
        Change(key, before.get(key, ""), after.get(key, ""), live.get(key, False))
        for key in keys
        if before.get(key, "") != after.get(key, "")
    )


def restart_keys(before: BankSettings, after: BankSettings) -> list[str]:
    """Settings that differ and are taken at a start alone. Secrets are compared, references by what is written."""
    return [key for key, spec in leaves() if not spec.live and attrgetter(key)(before) != attrgetter(key)(after)]


def redacted_document(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """A valid file's tables as they may be remembered; None if a secret stands in them in the clear."""
    return None if _tells_a_secret(document, BankSettings) else dict(document)


def _tells_a_secret(table: Mapping[str, Any], section: Any) -> bool:
    specs = fields_of(section)
    for name, value in table.items():
        spec = specs[name]
        kinds = [spec.hint, *get_args(spec.hint)]
        if Secret in kinds:
            if not isinstance(convert(spec, value, Path("/")), SecretReference | None):
                return True
            continue
        for kind in filter(is_section, kinds):
            if any(_tells_a_secret(item, kind) for item in (value if isinstance(value, list) else [value])):
                return True
    return False


def secrets_of(settings: Any, prefix: str = "") -> Iterator[tuple[str, Secret | SecretReference]]:
    """Every secret in the settings by its dotted name, those of rails included."""
    section: Any = type(settings)
    for spec in fields_of(section).values():
        value = getattr(settings, spec.name)
        if isinstance(value, Secret | SecretReference):
            yield prefix + spec.name, value
        for item in value if isinstance(value, tuple) else (value,):
            if is_section(type(item)) and not isinstance(item, SecretReference):
                yield from secrets_of(item, f"{prefix}{spec.name}.")


def document_text(document: Mapping[str, Any], note: str = "") -> str:
    """A settings file with these tables: keys first, then a section each, then the rails."""
    lines = [f"# {note}"] if note else []
    lines += _section(document, BankSettings, "")
    for rail in document.get("rails", ()):
        lines += ["", "[[rails]]", *(f"{name} = {as_toml(value)}" for name, value in rail.items())]
    return "\n".join(lines) + "\n"


def _section(table: Mapping[str, Any], section: Any, name: str) -> Iterator[str]:
    specs = fields_of(section)
    keys = [key for key in table if not is_section(specs[key].hint) and (name or key != "rails")]
    if name and keys:
        yield from ("", f"[{name}]")
    for key in keys:
        yield f"{key} = {as_toml(table[key])}"
    for key in table:
        if is_section(specs[key].hint):
            yield from _section(table[key], specs[key].hint, f"{name}.{key}" if name else key)
