"""Secrets that carry a spending condition (NUT-10), and what P2PK and HTLC conditions say (NUT-11, NUT-14).

Reading is strict, since the text decides who may spend. A text whose JSON begins as an array with "P2PK" or "HTLC" is a
secret of that kind whatever follows, and malformed if what follows breaks a rule: never an ordinary secret that anyone
may spend. Every other text is an ordinary secret, also one of an unknown kind. The text itself is what is hashed and
signed; it is never written anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal

import msgspec

from specie.ecash.codes import ConditionMalformedError
from specie.kernel import curve
from specie.kernel.encoding import hex_checked
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.kernel.money import MAX_AMOUNT

__all__ = ["Kind", "SigFlag", "SpendingCondition", "WellKnownSecret", "parse_secret", "parse_well_known_secret"]

Kind = Literal["P2PK", "HTLC"]

_ENFORCED: tuple[Kind, ...] = ("P2PK", "HTLC")
_JSON_SPACE = " \t\r\n"
_DIGITS = re.compile(r"[0-9]{1,20}")
_SINGLE_TAGS = frozenset({"sigflag", "n_sigs", "locktime", "n_sigs_refund", "pubkeys", "refund"})


class SigFlag(StrEnum):
    """What a signature covers: its own input, or all inputs and outputs (NUT-11)."""

    SIG_INPUTS = "SIG_INPUTS"
    SIG_ALL = "SIG_ALL"


class WellKnownSecret(msgspec.Struct, frozen=True):
    """A secret of the form of NUT-10: `[kind, {nonce, data, tags?}]`, its fields as they were written."""

    kind: Kind
    nonce: str
    data: str
    tags: tuple[tuple[str, ...], ...] = ()

    def __repr__(self) -> str:
        """Without the nonce, with which it would be the secret."""
        return f"WellKnownSecret(kind={self.kind!r}, nonce=..., data={self.data!r}, tags={self.tags!r})"


class SpendingCondition(msgspec.Struct, frozen=True):
    """Who may spend a coin, and when. Keys are 33 bytes, distinct by x coordinate within a pathway.

    Main pathway, always open: `n_sigs` of `keys` (and the preimage of `hash`, for HTLC). Refund pathway, open once the clock
    is past `locktime`: `n_sigs_refund` of `refund`, or nobody's signature if there are no refund keys.
    """

    kind: Kind
    keys: tuple[bytes, ...]
    n_sigs: int
    """1 and more; 0 for an HTLC without keys, which the preimage alone opens."""
    hash: bytes | None
    """SHA-256 of the preimage (HTLC)."""
    locktime: int | None
    """Unix seconds; None locks for good."""
    refund: tuple[bytes, ...]
    n_sigs_refund: int
    sigflag: SigFlag
    secret: WellKnownSecret

    def is_expired(self, now: int) -> bool:
        """Whether the refund pathway is open. At the very second of the locktime it is not."""
        return self.locktime is not None and now > self.locktime

    def same_terms(self, other: SpendingCondition) -> bool:
        """Whether kind, data and tags are equal, as SIG_ALL asks of all inputs; the order of tags matters."""
        left, right = self.secret, other.secret
        return (left.kind, left.data, left.tags) == (right.kind, right.data, right.tags)


def parse_secret(text: str, *, limits: Limits = DEFAULT_LIMITS) -> SpendingCondition | None:
    """The condition a secret carries, or None for an ordinary secret. ConditionMalformedError makes the coin unspendable."""
    secret = parse_well_known_secret(text, limits=limits)
    return None if secret is None else condition_of(secret)


def parse_well_known_secret(text: str, *, limits: Limits = DEFAULT_LIMITS) -> WellKnownSecret | None:
    """The form of NUT-10 alone, without a look at what data and tags mean; None for an ordinary secret.

    ConditionMalformedError for P2PK or HTLC with: JSON that does not parse or names a key twice, more or fewer than two
    elements, nonce or data missing or no text, a tag that is empty or holds an empty or non-text item, or nesting
    beyond `limits.json_depth`.
    """
    kind = _kind(text)
    if kind is None:
        return None
    if len(text) > limits.secret_chars:
        raise ConditionMalformedError("secret is too long")
    try:
        value = _decoder.decode(text.strip(_JSON_SPACE))
        depth = _depth(value)
    except (ValueError, RecursionError):
        raise ConditionMalformedError("secret is not strict JSON") from None
    if len(value) != 2 or not isinstance(value[1], dict) or depth > limits.json_depth:
        raise ConditionMalformedError("secret is not a kind followed by one object")
    body = value[1]
    nonce, data = body.get("nonce"), body.get("data")
    if not isinstance(nonce, str) or not isinstance(data, str):
        raise ConditionMalformedError("secret has no nonce or no data")
    return WellKnownSecret(kind, nonce, data, _tags(body.get("tags")))


def _kind(text: str) -> Kind | None:
    """The enforced kind that a text begins with, read as JSON would (so with its escapes)."""
    body = text.lstrip(_JSON_SPACE)
    if not body.startswith("["):
        return None
    start = len(body) - len(body[1:].lstrip(_JSON_SPACE))
    if body[start : start + 1] != '"':
        return None
    try:
        first, _ = _decoder.raw_decode(body, start)
    except ValueError:
        return None
    return next((kind for kind in _ENFORCED if kind == first), None)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_no_duplicates, parse_constant=_no_constant)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def _tags(value: Any) -> tuple[tuple[str, ...], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ConditionMalformedError("tags are not an array")
    for tag in value:
        if not isinstance(tag, list) or not tag or not all(isinstance(item, str) and item for item in tag):
            raise ConditionMalformedError("a tag is not an array of texts")
    return tuple(tuple(tag) for tag in value)


def condition_of(secret: WellKnownSecret) -> SpendingCondition:
    """What a well-known secret says (NUT-11, NUT-14). ConditionMalformedError by the rules of those:

    a known tag twice; a key that is no curve point, or twice in one pathway by its x coordinate; `n_sigs` or
    `n_sigs_refund` that is not one whole number from 1 to the number of keys; an unknown sigflag; HTLC data that is
    not 32 bytes of hex; a refund tag without a key, lest it open the coin to everyone. A locktime that is not one whole
    number below 2^64 is no time, so the lock is permanent.
    """
    tags: dict[str, tuple[str, ...]] = {}
    for name, *values in secret.tags:
        if name in tags and name in _SINGLE_TAGS:
            raise ConditionMalformedError(f"tag {name} stands twice")
        tags[name] = tuple(values)
    more = tags.get("pubkeys", ())
    keys = _keys((secret.data, *more) if secret.kind == "P2PK" else more)
    if tags.get("refund") == ():
        raise ConditionMalformedError("tag refund names no key")
    refund = _keys(tags.get("refund", ()))
    return SpendingCondition(
        kind=secret.kind,
        keys=keys,
        n_sigs=_threshold(tags, "n_sigs", keys),
        hash=_hash(secret.data) if secret.kind == "HTLC" else None,
        locktime=_number(tags.get("locktime", ())),
        refund=refund,
        n_sigs_refund=_threshold(tags, "n_sigs_refund", refund),
        sigflag=_sigflag(tags.get("sigflag")),
        secret=secret,
    )


def _keys(texts: Sequence[str]) -> tuple[bytes, ...]:
    try:
        keys = tuple(curve.point_from_bytes_checked(hex_checked(text, 33)) for text in texts)
    except MalformedError:
        raise ConditionMalformedError("a public key is not a compressed curve point") from None
    if len({curve.x_only(key) for key in keys}) != len(keys):
        raise ConditionMalformedError("a public key stands twice in one pathway")
    return keys


def _number(values: Sequence[str]) -> int | None:
    """The one whole decimal number of a tag; None where it holds anything else."""
    if len(values) != 1 or not _DIGITS.fullmatch(values[0]):
        return None
    number = int(values[0])
    return number if number <= MAX_AMOUNT else None


def _threshold(tags: dict[str, tuple[str, ...]], name: str, keys: Sequence[bytes]) -> int:
    if name not in tags:
        return min(1, len(keys))
    number = _number(tags[name])
    if number is None or not 1 <= number <= len(keys):
        raise ConditionMalformedError(f"{name} is not a number from 1 to the number of keys")
    return number


def _sigflag(values: tuple[str, ...] | None) -> SigFlag:
    if values is None:
        return SigFlag.SIG_INPUTS
    try:
        (value,) = values
        return SigFlag(value)
    except ValueError:
        raise ConditionMalformedError("unknown sigflag") from None


def _hash(data: str) -> bytes:
    try:
        return hex_checked(data, 32)
    except MalformedError:
        raise ConditionMalformedError("an HTLC is locked to a hash of 32 bytes in hex") from None
