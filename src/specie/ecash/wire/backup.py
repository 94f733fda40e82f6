"""JSON of a backup of a wallet's list of mints (NUT-27), both ways."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from specie.ecash.mint_url import mint_url_checked
from specie.ecash.wire.codec import decode, encode
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits

__all__ = ["mint_list_from_json", "mint_list_to_json"]

_LATEST = 100_000_000_000
"""No second is beyond this for 3,000 years; milliseconds, which some clocks count, are."""


class _MintListWire(msgspec.Struct):
    mints: list[str]
    timestamp: int


_mint_list = msgspec.json.Decoder(_MintListWire)


def mint_list_from_json(data: bytes | str, *, limits: Limits = DEFAULT_LIMITS) -> tuple[tuple[str, ...], int]:
    """The mints, each once and in normal form, and the time of the backup (Unix seconds).

    MalformedError for more than `limits.array_length` mints, one that is no mint URL, and a time that is no whole second.
    """
    wire = decode(data, _mint_list, limits)
    if len(wire.mints) > limits.array_length:
        raise MalformedError("more mints than the limit")
    if not 0 <= wire.timestamp < _LATEST:
        raise MalformedError("the time of the backup is not in seconds")
    return tuple(dict.fromkeys(map(mint_url_checked, wire.mints))), wire.timestamp


def mint_list_to_json(mints: Sequence[str], timestamp: int) -> bytes:
    """A backup of these mints at `timestamp` (Unix seconds)."""
    return encode(_MintListWire(list(mints), timestamp))
