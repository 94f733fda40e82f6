"""The few CBOR items that a UR's parts and byte strings are made of, in their shortest form (RFC 8949 §4.2.1).

Not here: CBOR at large. A UR of any other type brings its own codec and hands bytes over.
"""

from __future__ import annotations

from specie.kernel.errors import MalformedError

__all__ = ["array_head", "bytes_item", "read_array_head", "read_bytes", "read_unsigned", "unsigned_item"]

_UNSIGNED, _BYTES, _ARRAY = 0, 2, 4


def _head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes([major << 5 | value])
    for code, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if value < 1 << 8 * width:
            return bytes([major << 5 | code]) + value.to_bytes(width, "big")
    raise ValueError("a number of CBOR has at most 64 bits")


def unsigned_item(value: int) -> bytes:
    """A number from 0 to 2**64-1."""
    return _head(_UNSIGNED, value)


def bytes_item(data: bytes) -> bytes:
    """A byte string."""
    return _head(_BYTES, len(data)) + data


def array_head(count: int) -> bytes:
    """The head of an array of `count` items."""
    return _head(_ARRAY, count)


def _read_head(data: bytes, at: int, major: int) -> tuple[int, int]:
    """The number in a head of this kind, and where it ends. MalformedError for another kind or a longer form than needed."""
    if at >= len(data) or data[at] >> 5 != major:
        raise MalformedError("this CBOR item is not of the kind that belongs here")
    code = data[at] & 31
    if code < 24:
        return code, at + 1
    if code > 27:
        raise MalformedError("a CBOR item has no definite length")
    end = at + 1 + (1 << code - 24)
    if end > len(data):
        raise MalformedError("a CBOR item is cut short")
    value = int.from_bytes(data[at + 1 : end], "big")
    if _head(major, value) != data[at:end]:
        raise MalformedError("a CBOR number is not in its shortest form")
    return value, end


def read_unsigned(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where the next item begins. MalformedError."""
    return _read_head(data, at, _UNSIGNED)


def read_array_head(data: bytes, at: int) -> tuple[int, int]:
    """How many items the array at `at` has, and where the first begins. MalformedError."""
    return _read_head(data, at, _ARRAY)


def read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """The byte string at `at`, and where the next item begins. MalformedError."""
    length, start = _read_head(data, at, _BYTES)
    if length > len(data) - start:
        raise MalformedError("a byte string is cut short")
    return data[start : start + length], start + length
