"""Columns to values and back, for the wallet's tables."""

from __future__ import annotations

from specie.storage.ports import Value

__all__ = ["as_bytes", "as_int", "as_text", "maybe_bytes", "maybe_int", "maybe_text", "places"]


def places(count: int) -> str:
    """`VALUES ($1, $2, ...)` of `count` columns."""
    return "VALUES (" + ", ".join(f"${number}" for number in range(1, count + 1)) + ")"


def as_text(value: Value) -> str:
    """A text column."""
    return str(value)


def as_int(value: Value) -> int:
    """A number, stored as such or as decimal text."""
    return int(str(value))


def maybe_text(value: Value) -> str | None:
    """A text column that may be NULL."""
    return None if value is None else str(value)


def maybe_int(value: Value) -> int | None:
    """A number that may be NULL."""
    return None if value is None else int(str(value))


def as_bytes(value: Value) -> bytes:
    """A column of bytes."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("the column holds no bytes")
    return bytes(value)


def maybe_bytes(value: Value) -> bytes | None:
    """A column of bytes that may be NULL."""
    return None if value is None else as_bytes(value)
