"""CBOR from outside, read within bounds: what tokens (NUT-00) and payment requests (NUT-18) are written in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import cbor2

from specie.kernel.errors import MalformedError
from specie.kernel.limits import Limits

__all__ = ["decode_cbor"]


def _refuse_tag(*_: object) -> Any:
    raise ValueError("tag")


# Every tag that the library would otherwise turn into an object (dates, patterns, decimals, shared references ...).
_TAGS_KNOWN_TO_CBOR2 = (
    0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 43, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799
)  # fmt: skip
_NO_TAGS = dict.fromkeys(_TAGS_KNOWN_TO_CBOR2, _refuse_tag)


def _without_absent(item: Mapping[Any, Any], _immutable: bool) -> dict[Any, Any]:
    """A map without its null and undefined values, which some wallets write for absent ones."""
    return {key: value for key, value in item.items() if value is not None and value is not cbor2.undefined}


def decode_cbor(data: bytes, limits: Limits, name: str) -> Any:
    """One CBOR item without tags, null values, or anything behind it, no deeper than `limits.json_depth`.

    MalformedError, which calls it `name`, for anything else.
    """
    stream = cbor2.CBORDecoder(
        io.BytesIO(data),
        tag_hook=_refuse_tag,
        object_hook=_without_absent,
        semantic_decoders=_NO_TAGS,
        max_depth=limits.json_depth,
        allow_duplicate_keys=False,
        strict_hashable_types=True,
    )
    try:
        value = stream.decode()
    except (cbor2.CBORDecodeError, ValueError, OverflowError, RecursionError):
        raise MalformedError(f"{name} is not CBOR") from None
    try:
        stream.read(1)
    except cbor2.CBORDecodeEOF:
        return value
    raise MalformedError(f"{name} has bytes behind its end")
