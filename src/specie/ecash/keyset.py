"""Keysets, their ids and their fees (NUT-01, NUT-02).

An id is lower-case hex whose first byte is a version: 00 (8 bytes, deprecated) or 01 (33 bytes, commits to unit, fee and
expiry). Ids of 12 base64 characters, from before 2023, may be held as text but never verify. Not here: who has which keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256

import msgspec

from specie.ecash.codes import KeysetUnknownError
from specie.ecash.scheme import scheme_for
from specie.kernel.encoding import hex_checked
from specie.kernel.errors import MalformedError
from specie.kernel.money import amount_checked

__all__ = [
    "CURRENT_VERSION",
    "Keyset",
    "KeysetInfo",
    "derive_keyset_id",
    "fee_for",
    "is_expired",
    "keyset_id_checked",
    "resolve_keyset_id",
    "short_keyset_id",
    "short_keyset_id_checked",
    "verify_keyset_id",
]

CURRENT_VERSION = 1
"""Version of the ids of new keysets."""

_ID_CHARS = {"00": 16, "01": 66}
_SHORT_CHARS = 16
_LEGACY_CHARS = 12


class KeysetInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a mint lists of a keyset (NUT-02), without its keys."""

    id: str
    unit: str
    active: bool
    input_fee_ppk: int = 0
    """Fee for each input of this keyset, in thousandths of the minor unit."""
    final_expiry: int | None = None
    """Unix seconds after which the mint takes its coins no more; None for never."""


class Keyset(msgspec.Struct, frozen=True, kw_only=True):
    """A keyset with its public keys by amount (NUT-01), in ascending order of amount."""

    id: str
    unit: str
    keys: dict[int, bytes]
    active: bool = True
    input_fee_ppk: int = 0
    final_expiry: int | None = None

    @property
    def info(self) -> KeysetInfo:
        """The same without keys."""
        return KeysetInfo(
            id=self.id,
            unit=self.unit,
            active=self.active,
            input_fee_ppk=self.input_fee_ppk,
            final_expiry=self.final_expiry,
        )


def is_expired(keyset: Keyset | KeysetInfo, now: int) -> bool:
    """Whether the final expiry has passed at `now` (Unix seconds). At that very second it has not."""
    return keyset.final_expiry is not None and now > keyset.final_expiry


def derive_keyset_id(
    version: int,
    *,
    unit: str,
    keys: Mapping[int, bytes],
    input_fee_ppk: int = 0,
    final_expiry: int | None = None,
) -> str:
    """The id of a keyset by NUT-02, of version 0 (keys alone) or 1. MalformedError for another version or no keys."""
    if not keys:
        raise MalformedError("a keyset has at least one key")
    ordered = [(amount, keys[amount]) for amount in sorted(keys)]
    try:
        return _DERIVATIONS[version](ordered, unit, input_fee_ppk, final_expiry)
    except KeyError:
        raise MalformedError("keyset id has an unknown version") from None


def _derive_v1(keys: list[tuple[int, bytes]], _unit: str, _fee: int, _expiry: int | None) -> str:
    return "00" + sha256(b"".join(key for _, key in keys)).hexdigest()[:14]


def _derive_v2(keys: list[tuple[int, bytes]], unit: str, input_fee_ppk: int, final_expiry: int | None) -> str:
    preimage = ",".join(f"{amount}:{key.hex()}" for amount, key in keys) + f"|unit:{unit.lower()}"
    if input_fee_ppk:
        preimage += f"|input_fee_ppk:{input_fee_ppk}"
    if final_expiry:
        preimage += f"|final_expiry:{final_expiry}"
    return "01" + sha256(preimage.encode()).hexdigest()


_DERIVATIONS: dict[int, Callable[[list[tuple[int, bytes]], str, int, int | None], str]] = {0: _derive_v1, 1: _derive_v2}


def verify_keyset_id(keyset: Keyset) -> None:
    """Check a downloaded keyset: every amount and key is valid and its id is the right one. None, or MalformedError.

    Not checked: whether the id collides with one of another mint; the wallet that holds them knows.
    """
    full = keyset_id_checked(keyset.id)
    is_point = scheme_for(full).is_point
    for amount, key in keyset.keys.items():
        amount_checked(amount, minimum=1)
        if not is_point(key):
            raise MalformedError("keyset has a key that is not a compressed curve point")
    expected = derive_keyset_id(
        int(full[:2], 16),
        unit=keyset.unit,
        keys=keyset.keys,
        input_fee_ppk=keyset.input_fee_ppk,
        final_expiry=keyset.final_expiry,
    )
    if expected != full:
        raise MalformedError("keyset id does not match its keys, unit, fee and expiry")


def keyset_id_checked(text: str) -> str:
    """The full id in lower case; MalformedError unless it is hex of a known version and of its length."""
    expected = _ID_CHARS.get(text[:2])
    if expected is None:
        raise MalformedError("keyset id has an unknown version")
    if len(text) != expected:
        raise MalformedError(f"a keyset id of this version has {expected} characters")
    hex_checked(text)
    return text.lower()


def short_keyset_id_checked(text: str) -> str:
    """An id as tokens carry it, in lower case: full, or the first 8 bytes of a version 01 id (NUT-00). Else MalformedError."""
    if len(text) == _SHORT_CHARS and text[:2] in _ID_CHARS:
        hex_checked(text)
        return text.lower()
    return keyset_id_checked(text)


def short_keyset_id(keyset_id: str) -> str:
    """The id that tokens may carry in place of the full one: its first 8 bytes. Ids of version 00 are never shortened."""
    return keyset_id_checked(keyset_id)[:_SHORT_CHARS]


def resolve_keyset_id(short: str, known: Iterable[str]) -> str:
    """The one full id among `known` ids of a mint that `short` (or full) names.

    KeysetUnknownError for none; MalformedError for two of the same beginning, and for what is no id. A base64 id from
    before versions stands for itself.
    """
    ids = set(known)
    if len(short) == _LEGACY_CHARS:
        if short in ids:
            return short
        raise KeysetUnknownError
    text = short_keyset_id_checked(short)
    matches = [full for full in ids if full.lower() == text or (text[:2] != "00" and full.lower().startswith(text))]
    if not matches:
        raise KeysetUnknownError
    if len(matches) > 1:
        raise MalformedError("short keyset id names several keysets")
    return matches[0]


def fee_for(ppks: Iterable[int]) -> int:
    """Fee of a transaction whose inputs have these `input_fee_ppk`, one for each input: rounded up once (NUT-02)."""
    return (sum(ppks) + 999) // 1000
