"""Values, keys and rows as bytes, for a store that knows nothing but ordered bytes: pure.

A part of a key is one byte for its class and then the value such that bytes sort as values do: nothing, integers, texts,
bytes, the order of SQLite. No part is the beginning of another, so parts follow each other and a range over the first of
them is a range of bytes. A key of a single column that is never NULL needs none of that: it is the value itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final

import msgspec

from specie.kernel.errors import InvariantError
from specie.storage.ports import Row, Value

__all__ = [
    "INT_MAX",
    "INT_MIN",
    "Bound",
    "Kind",
    "after",
    "compared",
    "decode_row",
    "encode_part",
    "encode_row",
    "fitted",
    "kind_of",
    "plain",
    "single_bounds",
    "single_key",
]

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1


class Kind(IntEnum):
    """The class of a value, in the order of classes; a column holds one of the last three, or NULL."""

    NULL = 0
    INTEGER = 1
    TEXT = 2
    BLOB = 3


_KINDS: dict[type, Kind] = {type(None): Kind.NULL, int: Kind.INTEGER, str: Kind.TEXT, bytes: Kind.BLOB}

Bound = tuple[Value, bool]
"""An end of a range, and whether it belongs to it."""


def plain(value: object) -> Value:
    """A value of one of the four classes themselves, whatever class of its own it came as; its content is never told.

    Raises:
        InvariantError: no column holds such a thing.
    """
    if value is None or type(value) in _KINDS:
        return value  # type: ignore[return-value]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise InvariantError(f"no column holds a {type(value).__name__}")


def kind_of(value: Value) -> Kind:
    """The class of a value. InvariantError for an integer beyond 64 bits."""
    kind = _KINDS[type(value)]
    if kind is Kind.INTEGER and not INT_MIN <= value <= INT_MAX:  # type: ignore[operator]
        raise InvariantError("an integer does not fit into 64 bits")
    return kind


def fitted(value: Value, kind: Kind) -> Value:
    """A value as a column of `kind` takes it: an integer is a text there, and a text that is an integer one here."""
    if kind is Kind.TEXT and type(value) is int:
        return str(value)
    if kind is Kind.INTEGER and type(value) is str:
        text = value.strip(" \t\n\v\f\r")
        if text.isascii() and text.lstrip("+-").isdigit() and len(text) - len(text.lstrip("+-")) <= 1:
            number = int(text)
            return number if INT_MIN <= number <= INT_MAX else value
    return value


def compared(one: Value, other: Value) -> int:
    """Below zero, zero or above it, as `one` sorts before, with or after `other`; neither is None."""
    if type(one) is type(other):
        return (one > other) - (one < other)  # type: ignore[operator]
    return _KINDS[type(one)] - _KINDS[type(other)]


def encode_part(value: Value) -> bytes:
    """One part of a key of several."""
    if value is None:
        return b"\x00"
    if type(value) is bytes:
        return b"\x03" + value.replace(b"\x00", b"\x00\xff") + b"\x00\x01"
    if type(value) is str:
        return b"\x02" + value.encode().replace(b"\x00", b"\x00\xff") + b"\x00\x01"
    kind_of(value)
    return b"\x01" + (value - INT_MIN).to_bytes(8, "big")  # type: ignore[operator]


def after(prefix: bytes) -> bytes:
    """The least bytes above everything that begins with `prefix`, which is not all 0xff, for it begins with a tree's number."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1])


def _single_integer(value: Value) -> bytes:
    kind_of(value)
    return (value - INT_MIN).to_bytes(8, "big")  # type: ignore[operator]


def _single_text(value: Value) -> bytes:
    return value.encode()  # type: ignore[union-attr]


def _single_blob(value: Value) -> bytes:
    return value  # type: ignore[return-value]


_SINGLE: dict[Kind, Callable[[Value], bytes]] = {
    Kind.INTEGER: _single_integer,
    Kind.TEXT: _single_text,
    Kind.BLOB: _single_blob,
}


def single_key(kind: Kind) -> Callable[[Value], bytes]:
    """How the value of a key of one column becomes that key."""
    return _SINGLE[kind]


def single_bounds(prefix: bytes, kind: Kind, low: Bound | None, high: Bound | None) -> tuple[bytes, bytes]:
    """Beginning and end (which is outside) of a range over a key of one column; empty where no value of it can be meant."""
    start, end = prefix, after(prefix)
    if low is not None:
        value, inside = low
        if kind_of(value) > kind:
            return end, end
        if kind_of(value) == kind:
            start = prefix + _SINGLE[kind](value) + (b"" if inside else b"\x00")
    if high is not None:
        value, inside = high
        if kind_of(value) < kind:
            return end, end
        if kind_of(value) == kind:
            end = prefix + _SINGLE[kind](value) + (b"\x00" if inside else b"")
    return start, end


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple)

encode_row: Callable[[Sequence[Value]], bytes] = _encoder.encode
"""A row as it is stored: MessagePack of its columns."""

decode_row: Callable[[bytes], Row] = _decoder.decode
"""A stored row; it may lack columns that were added to its table later."""
