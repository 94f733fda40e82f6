"""SQL of the rooms into SQL of the engines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel import InvariantError
from specie.storage.statement import MAX_CHUNK, key_chunks, sql_with_key_array, sql_with_keys, sqlite_sql


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ("SELECT $1, $2, $1", "SELECT ?1, ?2, ?1"),
        ("SELECT $12", "SELECT ?12"),
        ("SELECT '$1', $1, 'it''s $2'", "SELECT '$1', ?1, 'it''s $2'"),
        ('SELECT "$1" -- $2\n, $3', 'SELECT "$1" -- $2\n, ?3'),
        ("SELECT 1", "SELECT 1"),
        ("SELECT $x", "SELECT $x"),
    ],
)
def test_placeholders_outside_quotes_and_comments(written: str, taken: str) -> None:
    """`$n` becomes `?n` where it is a placeholder, and only there."""
    assert sqlite_sql(written) == taken


def test_keys_follow_the_values() -> None:
    """`{keys}` becomes placeholders after those of the values, or one array of them."""
    sql = "SELECT a FROM t WHERE b = $1 AND a IN {keys} AND c = $2"
    assert sql_with_keys(sql, 2, 3) == "SELECT a FROM t WHERE b = $1 AND a IN ($3, $4, $5) AND c = $2"
    assert sql_with_key_array(sql, 2, bytes).endswith("a IN (SELECT unnest($3::bytea[])) AND c = $2")
    assert "$1::text[]" in sql_with_key_array("x IN {keys}", 0, str)
    assert "$1::bigint[]" in sql_with_key_array("x IN {keys}", 0, int)


def test_statements_that_have_no_place_for_keys() -> None:
    """Without `{keys}`, or with keys of a type no column holds, the statement is refused before it is sent."""
    with pytest.raises(InvariantError):
        sql_with_keys("SELECT 1", 0, 1)
    with pytest.raises(InvariantError):
        sql_with_key_array("SELECT 1", 0, bytes)
    with pytest.raises(InvariantError):
        sql_with_key_array("x IN {keys}", 0, float)


@given(st.lists(st.integers(0, 2000), max_size=1500))
def test_chunks_hold_every_key_once_and_come_in_few_sizes(keys: list[int]) -> None:
    """No key is lost, none is in two chunks, and lengths are powers of two: few statements to prepare."""
    chunks = list(key_chunks(keys))
    assert set().union(*chunks) == set(keys)
    assert sum(len(set(chunk)) for chunk in chunks) == len(set(keys))
    assert all(len(chunk) & (len(chunk) - 1) == 0 and 0 < len(chunk) <= MAX_CHUNK for chunk in chunks)
    assert all(set(chunk[len(set(chunk)) :]) <= {chunk[-1]} for chunk in chunks)
