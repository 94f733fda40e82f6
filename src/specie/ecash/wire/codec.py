"""Bytes to checked fields, for the modules of this package: JSON within bounds, amounts, hex, points, ids, texts.

msgspec checks shape and types (a bool is no int, nor is 1.0); what it cannot say, unsigned 64 bits first, is checked here.
Errors never repeat what was read.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import msgspec

from specie.ecash.scheme import Scheme, scheme_for
from specie.kernel.encoding import hex_checked
from specie.kernel.errors import MalformedError
from specie.kernel.limits import Limits
from specie.kernel.money import MAX_AMOUNT

__all__ = [
    "AMOUNT_RANGE",
    "MAX_ID_CHARS",
    "amount",
    "bounded_text",
    "count",
    "decode",
    "encode",
    "hex_bytes",
    "keyset_id",
    "keyset_scheme",
    "point",
    "point_shape",
    "quote_id",
    "scalar",
    "seconds",
]

T = TypeVar("T")

AMOUNT_RANGE = "amount must be from 0 to 2^64-1"
MAX_ID_CHARS = 66
_MAX_QUOTE_CHARS = 255
_LEGACY_ID_CHARS = 12

_encoder = msgspec.json.Encoder()
encode = _encoder.encode


def decode(data: bytes | str, decoder: msgspec.json.Decoder[T], limits: Limits) -> T:
    """JSON of the decoder's type; MalformedError for more than `limits.body_bytes`, other JSON, or no JSON."""
    if len(data) > limits.body_bytes:
        raise MalformedError("body is too large")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MalformedError(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Where and what, of msgspec's own words; those of other errors could quote what was read."""
    return f"body does not fit: {error}"[:200] if isinstance(error, msgspec.ValidationError) else "body is not JSON"


def amount(value: int) -> int:
    """An amount, 0 to 2^64-1."""
    if not 0 <= value <= MAX_AMOUNT:
        raise MalformedError(AMOUNT_RANGE)
    return value


def count(value: int | None) -> int:
    """A non-negative number that may be null or absent, as 0."""
    return 0 if value is None else amount(value)


def seconds(value: int | None) -> int | None:
    """Unix seconds, or None."""
    if value is not None and not 0 <= value <= MAX_AMOUNT:
        raise MalformedError("time is out of range")
    return value


def hex_bytes(text: str) -> bytes:
    """Bytes of hex text, which Python would let have white space in it."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise MalformedError("point is not hex") from None
    if len(text) != 2 * len(data):
        raise MalformedError("point is not hex")
    return data


def point_shape(text: str, keyset: str = "00") -> bytes:
    """Bytes of hex that is as long as a point of a keyset id's curve; KeysetUnknownError for an unknown version.

    Enough where the bytes are only compared with a point that was computed here: C of a mint's inputs, and Y.
    """
    data = hex_bytes(text)
    if len(data) != scheme_for(keyset).point_bytes:
        raise MalformedError("not a compressed point")
    return data


def point(text: str, keyset: str = "00") -> bytes:
    """Bytes of a hex point that is on the curve of a keyset id; KeysetUnknownError for an unknown version."""
    data = hex_bytes(text)
    if not scheme_for(keyset).is_point(data):
        raise MalformedError("not a point of the keyset's curve")
    return data


def scalar(text: str) -> bytes:
    """32 bytes of hex."""
    return hex_checked(text, 32)


@lru_cache(maxsize=1024)
def keyset_id(text: str) -> str:
    """A keyset id as it is compared: hex in lower case, base64 ids from before 2023 as they are. Unknown ones pass."""
    if len(text) > MAX_ID_CHARS:
        raise MalformedError("keyset id is too long")  # what raises is not kept, so the cache holds short texts only
    return text if len(text) == _LEGACY_ID_CHARS else text.lower()


@lru_cache(maxsize=1024)
def keyset_scheme(text: str) -> tuple[str, Scheme]:
    """The id as `keyset_id` gives it, and the curve of its version; KeysetUnknownError for an unknown version."""
    return keyset_id(text), scheme_for(text)


def quote_id(text: str) -> str:
    """A quote id: 1 to 255 characters, none of them U+0000, which not every store takes."""
    if not 0 < len(text) <= _MAX_QUOTE_CHARS or "\0" in text:
        raise MalformedError("quote id is empty or too long, or holds U+0000")
    return text


def bounded_text(text: str, limit: int, name: str) -> str:
    """Text of at most `limit` characters."""
    if len(text) > limit:
        raise MalformedError(f"{name} is longer than {limit} characters")
    return text
