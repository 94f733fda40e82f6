"""JSON of keysets and keys (NUT-01, NUT-02), both ways."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from specie.ecash.codes import KeysetUnknownError
from specie.ecash.keyset import Keyset, KeysetInfo
from specie.ecash.scheme import scheme_for
from specie.ecash.wire.codec import amount, count, decode, encode, keyset_id, point, seconds
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.kernel.money import unit_checked

__all__ = ["keys_from_json", "keys_to_json", "keysets_from_json", "keysets_to_json"]

_MAX_KEYS = 4096
_MAX_DIGITS = 20


class _KeysetInfoWire(msgspec.Struct):
    id: str
    unit: str
    active: bool = True
    input_fee_ppk: int | None = None
    final_expiry: int | None = None


class _KeysetWire(msgspec.Struct):
    id: str
    unit: str
    keys: dict[str, str]
    active: bool = True
    input_fee_ppk: int | None = None
    final_expiry: int | None = None


class _KeysetsWire(msgspec.Struct):
    keysets: list[_KeysetInfoWire]


class _KeysWire(msgspec.Struct):
    keysets: list[_KeysetWire]


_keysets = msgspec.json.Decoder(_KeysetsWire)
_keys = msgspec.json.Decoder(_KeysWire)


def keysets_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> list[KeysetInfo]:
    """Answer of GET /v1/keysets (NUT-02). A missing or null fee is 0; an expiry of 0 is none, as in the keyset id.

    Base64 ids from before 2023 and ids of unknown versions are kept as text.
    """
    return [
        KeysetInfo(
            id=keyset_id(item.id),
            unit=unit_checked(item.unit),
            active=item.active,
            input_fee_ppk=count(item.input_fee_ppk),
            final_expiry=seconds(item.final_expiry) or None,
        )
        for item in decode(data, _keysets, limits).keysets
    ]


def keysets_to_json(keysets: Iterable[KeysetInfo | Keyset]) -> bytes:
    """Answer of GET /v1/keysets."""
    return encode(
        _KeysetsWire(
            [_KeysetInfoWire(item.id, item.unit, item.active, item.input_fee_ppk, item.final_expiry) for item in keysets]
        )
    )


def keys_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> list[Keyset]:
    """Answer of GET /v1/keys or /v1/keys/{id} (NUT-01). Keysets whose id has a version unknown here are left out.

    MalformedError for an amount that is not 1 to 2^64-1 or a key that is not on the curve. The id is not recomputed: see
    `keyset.verify_keyset_id`.
    """
    return [_keyset(item) for item in decode(data, _keys, limits).keysets if _known_version(item.id)]


def _known_version(text: str) -> bool:
    try:
        scheme_for(text)
    except KeysetUnknownError:
        return False
    return True


def _keyset(item: _KeysetWire) -> Keyset:
    if len(item.keys) > _MAX_KEYS:
        raise MalformedError("keyset has too many keys")
    identifier = keyset_id(item.id)
    keys = {_key_amount(text): point(key, identifier) for text, key in item.keys.items()}
    return Keyset(
        id=identifier,
        unit=unit_checked(item.unit),
        keys={value: keys[value] for value in sorted(keys)},
        active=item.active,
        input_fee_ppk=count(item.input_fee_ppk),
        final_expiry=seconds(item.final_expiry) or None,
    )


def _key_amount(text: str) -> int:
    """Amount of a key, written as a decimal without leading zeros."""
    if not (text.isascii() and text.isdigit()) or len(text) > _MAX_DIGITS or text[0] == "0":
        raise MalformedError("amount of a key is not a positive decimal number")
    return amount(int(text))


def keys_to_json(keysets: Iterable[Keyset]) -> bytes:
    """Answer of GET /v1/keys and /v1/keys/{id}; keys in ascending order of amount."""
    return encode(
        _KeysWire(
            [
                _KeysetWire(
                    item.id,
                    item.unit,
                    {str(value): item.keys[value].hex() for value in sorted(item.keys)},
                    item.active,
                    item.input_fee_ppk,
                    item.final_expiry,
                )
                for item in keysets
            ]
        )
    )
