"""SQL as the rooms write it, turned into what each engine takes: pure text.

Not a parser: it knows quotes and comments well enough to leave `$1` inside them alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from specie.kernel.errors import InvariantError
from specie.storage.ports import Value

__all__ = ["KEYS", "MAX_CHUNK", "key_chunks", "named_sql", "sql_with_key_array", "sql_with_keys", "sqlite_sql"]

KEYS = "{keys}"
"""What `Transaction.fetch_in` replaces."""

MAX_CHUNK = 512
"""Keys in one statement; far below SQLite's 32,766 variables, and its text fits the statement cache."""

_PLACEHOLDER = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|\$(\d+)")


@lru_cache(maxsize=1024)
def sqlite_sql(sql: str) -> str:
    """`$n` as SQLite's `?n`."""
    return _PLACEHOLDER.sub(lambda found: f"?{found[1]}" if found[1] else found[0], sql)


def named_sql(sql: str) -> str:
    """`$n` as `:pn`, for a parser to whom a dollar begins a quotation."""
    return _PLACEHOLDER.sub(lambda found: f":p{found[1]}" if found[1] else found[0], sql)


@lru_cache(maxsize=1024)
def sql_with_keys(sql: str, values: int, keys: int) -> str:
    """`{keys}` as `($k, $k+1, ...)`, where k follows the `values` placeholders the statement has already.

    Raises:
        InvariantError: the statement has no `{keys}`.
    """
    if KEYS not in sql:
        raise InvariantError("fetch_in needs a statement with {keys}")
    return sql.replace(KEYS, "(" + ", ".join(f"${values + 1 + number}" for number in range(keys)) + ")")


def key_chunks(keys: Sequence[Value]) -> Iterator[tuple[Value, ...]]:
    """`keys` without repetitions, in chunks whose lengths are powers of two, so that few different statements arise.

    The last chunk is filled up with its own last key, which changes nothing in an IN list.
    """
    distinct = list(dict.fromkeys(keys))
    for start in range(0, len(distinct), MAX_CHUNK):
        chunk = distinct[start : start + MAX_CHUNK]
        chunk += chunk[-1:] * ((1 << (len(chunk) - 1).bit_length()) - len(chunk))
        yield tuple(chunk)


_ARRAYS: dict[type, str] = {bytes: "bytea", str: "text", int: "bigint"}


@lru_cache(maxsize=1024)
def sql_with_key_array(sql: str, values: int, kind: type) -> str:
    """`{keys}` as a sub-select of one array, the placeholder after the `values` (PostgreSQL): one text for any count.

    Raises:
        InvariantError: the statement has no `{keys}`, or keys are of no type a column holds.
    """
    array = next((name for base, name in _ARRAYS.items() if issubclass(kind, base)), None)
    if KEYS not in sql or array is None:
        raise InvariantError("fetch_in needs a statement with {keys} and keys of bytes, str or int")
    return sql.replace(KEYS, f"(SELECT unnest(${values + 1}::{array}[]))")
