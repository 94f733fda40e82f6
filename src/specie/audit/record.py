"""Records of the audit log, their one encoding, and the hashes over it: pure.

A record is written as JSON in the form of RFC 8785: no blanks, members sorted by name, shortest escapes, integers only and
none beyond 2^53-1. That text is what is stored, hashed, exported and checked; nothing is ever encoded again to be checked.

    record hash       SHA-256("specie audit record 1\\n" + text)
    previous          the hash of the record before, in hex; 64 zeros in the first one
    leaf              SHA-256(0x00 + text)                    RFC 6962 section 2.1, over the texts in order
    node              SHA-256(0x01 + left + right)
    checkpoint        the text of {"at", "count", "head", "root"}: how many records, the hash of the last, the tree's root

Not here: where records are kept (`adapters`), and what is recorded; those who act know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any

from specie.audit.errors import AuditDetailError
from specie.kernel.errors import MalformedError

__all__ = [
    "MAX_TEXT_BYTES",
    "NO_RECORD",
    "Checkpoint",
    "Draft",
    "Outcome",
    "Record",
    "Scalar",
    "Tree",
    "checkpoint_from_text",
    "checkpoint_text",
    "record_from_text",
    "record_hash",
    "record_text",
]

Scalar = str | int | bool | None
"""What a detail may be."""

NO_RECORD = bytes(32)
"""What stands for the hash before the first record."""

MAX_TEXT_BYTES = 16_384
"""A record's text is never longer; one that is was not written here."""

_DOMAIN = b"specie audit record 1\n"
_MAX_INT = 2**53 - 1
_MAX_DETAILS = 16
_MAX_WORD = 128
_MAX_VALUE = 256
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_VERB = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_SECRET = re.compile(
    r"secret|seed|preimage|passphrase|passw|mnemonic|words?$|token|private|privkey|xprv|dsn|pin$|(^|_)r$|(^|_)k$"
)
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Controls, ends of lines, and halves of characters."""
_MEMBERS = ("actor", "at", "detail", "outcome", "previous", "sequence", "subject", "tenant", "verb")


class Outcome(StrEnum):
    """What became of it. BEGUN is written before the effect, one of the others after it or with it."""

    BEGUN = "begun"
    DONE = "done"
    REFUSED = "refused"
    """The rules forbid it: nothing happened."""
    FAILED = "failed"
    """It did not come to its end; the detail names the error."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is to be recorded, before it has its place in the chain.

    AuditDetailError for what no record may hold. Texts are cut to their bound; names of details are checked.
    """

    at: int
    """Unix seconds."""
    actor: str
    verb: str
    subject: str = ""
    outcome: Outcome = Outcome.DONE
    detail: Mapping[str, Scalar] = field(default_factory=dict)
    tenant: str = ""
    """Empty: the bank itself."""

    def __post_init__(self) -> None:
        if not _VERB.fullmatch(self.verb):
            raise AuditDetailError(f"{self.verb[:64]!r} is no verb of the audit log")
        if not 0 <= self.at <= _MAX_INT:
            raise AuditDetailError("a record's time is in unix seconds")
        if len(self.detail) > _MAX_DETAILS:
            raise AuditDetailError(f"a record has at most {_MAX_DETAILS} details")
        for name, value in self.detail.items():
            if not _NAME.fullmatch(name):
                raise AuditDetailError(f"{name[:64]!r} is no name of a detail")
            if _SECRET.search(name) and isinstance(value, str):
                raise AuditDetailError(f"a detail called {name} would be a secret")
            if not isinstance(value, str | int | bool | None):
                raise AuditDetailError(f"the detail {name} is neither text nor an integer")
        object.__setattr__(self, "actor", _cut(self.actor, _MAX_WORD))
        object.__setattr__(self, "subject", _cut(self.subject, _MAX_WORD))
        object.__setattr__(self, "tenant", _cut(self.tenant, _MAX_WORD))
        object.__setattr__(self, "detail", {name: _value(value) for name, value in self.detail.items()})


@dataclass(frozen=True, slots=True)
class Record:
    """One record in its place. `sequence` counts from 1 without a gap; `previous` is the hash (32 bytes) of the one before."""

    sequence: int
    previous: bytes
    at: int
    tenant: str
    actor: str
    verb: str
    subject: str
    outcome: str
    detail: dict[str, Scalar]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the log was when it had `count` records: the hash of the last one and the root (32 bytes each) over all."""

    at: int
    count: int
    head: bytes
    root: bytes


def _cut(text: str, most: int) -> str:
    """Text that any store and any reader takes as one line, at most `most` characters."""
    clean = _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text[: most + 1])
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def _value(value: Scalar) -> Scalar:
    if isinstance(value, str):
        return _cut(value, _MAX_VALUE)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _MAX_INT:
        return str(value)[:_MAX_VALUE]
    return value


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def record_text(draft: Draft, sequence: int, previous: bytes) -> str:
    """The text of a draft that takes its place after the record whose hash is `previous`."""
    return _canonical(
        {
            "actor": draft.actor,
            "at": draft.at,
            "detail": dict(draft.detail),
            "outcome": draft.outcome.value,
            "previous": previous.hex(),
            "sequence": sequence,
            "subject": draft.subject,
            "tenant": draft.tenant,
            "verb": draft.verb,
        }
    )


def record_hash(text: str) -> bytes:
    """The hash of a record by its text (32 bytes)."""
    return sha256(_DOMAIN + text.encode("utf-8", "surrogatepass")).digest()


def record_from_text(text: str) -> Record:
    """Read a record; MalformedError for what is none, or is not written in the one way."""
    found = _object(text, _MEMBERS)
    detail = found["detail"]
    words = ("tenant", "actor", "verb", "subject", "outcome")
    if not all(isinstance(found[name], str) for name in words) or not isinstance(detail, dict):
        raise MalformedError("a record's texts are no texts")
    if not all(type(value) in (str, int, bool, type(None)) for value in detail.values()):
        raise MalformedError("a record's details are not plain")
    if not _count(found["sequence"]) or not _count(found["at"], least=0):
        raise MalformedError("a record's numbers are none")
    return Record(**found | {"previous": _hash(found["previous"])})


def checkpoint_text(checkpoint: Checkpoint) -> str:
    """The text of a checkpoint; its SHA-256 is what one would have timestamped."""
    return _canonical(
        {"at": checkpoint.at, "count": checkpoint.count, "head": checkpoint.head.hex(), "root": checkpoint.root.hex()}
    )


def checkpoint_from_text(text: str) -> Checkpoint:
    """Read a checkpoint; MalformedError for what is none."""
    found = _object(text, ("at", "count", "head", "root"))
    if not _count(found["count"]) or not _count(found["at"], least=0):
        raise MalformedError("a checkpoint's numbers are none")
    return Checkpoint(found["at"], found["count"], _hash(found["head"]), _hash(found["root"]))


def _object(text: str, members: tuple[str, ...]) -> dict[str, Any]:
    if len(text) > MAX_TEXT_BYTES:
        raise MalformedError("the text is too long")
    try:
        found = json.loads(text)
        same = isinstance(found, dict) and tuple(sorted(found)) == members and _canonical(found) == text
    except (ValueError, RecursionError):
        raise MalformedError("the text is no JSON") from None
    if not same:
        raise MalformedError("the text is not written in the one way that records are")
    return found  # type: ignore[no-any-return]


def _count(value: object, *, least: int = 1) -> bool:
    return type(value) is int and least <= value <= _MAX_INT


def _hash(value: object) -> bytes:
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value, re.ASCII):
        return bytes.fromhex(value)
    raise MalformedError("a hash is 64 hex characters")


class Tree:
    """The Merkle tree of RFC 6962 (section 2.1) while it grows: only the roots of its complete subtrees are kept."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: bytes = b"") -> None:
        """Take up a tree of `size` leaves; MalformedError unless `peaks` (32 bytes each, largest first) are all of its own."""
        if len(peaks) != 32 * size.bit_count():
            raise MalformedError("a tree of this size has another number of peaks")
        self.size = size
        self._peaks = [peaks[start : start + 32] for start in range(0, len(peaks), 32)]

    @property
    def peaks(self) -> bytes:
        """The roots of its complete subtrees, largest first, 32 bytes each."""
        return b"".join(self._peaks)

    @property
    def root(self) -> bytes:
        """The root; SHA-256 of nothing for an empty tree."""
        if not self._peaks:
            return sha256(b"").digest()
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = sha256(b"\x01" + peak + root).digest()
        return root

    def append(self, text: str) -> None:
        """Add a record's text as the next leaf."""
        node, size = sha256(b"\x00" + text.encode("utf-8", "surrogatepass")).digest(), self.size
        while size & 1:
            node = sha256(b"\x01" + self._peaks.pop() + node).digest()
            size >>= 1
        self._peaks.append(node)
        self.size += 1
