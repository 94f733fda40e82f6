"""Which steps a store needs, and when the answer is no."""

from __future__ import annotations

import pytest

from specie.kernel import InvariantError
from specie.storage import Migration, SchemaError
from specie.storage.migration import checksum, pending_steps, schema_label, script


def step(room: str, version: int, sql: str = "CREATE TABLE t (a TEXT);") -> Migration:
    return Migration(room, version, sqlite=sql, postgres=sql.lower())


ALL = [step("ledger", 1), step("mint", 1), step("mint", 2), step("ledger", 2)]


def applied(*steps: Migration) -> dict[tuple[str, int], str]:
    return {(one.room, one.version): checksum(one.sqlite) for one in steps}


def test_only_what_is_missing_in_the_order_given() -> None:
    """An empty store needs all, a part-way one the rest, a complete one nothing."""
    assert pending_steps({}, ALL, "sqlite") == ALL
    assert pending_steps(applied(*ALL[:2]), ALL, "sqlite") == ALL[2:]
    assert pending_steps(applied(*ALL), ALL, "sqlite") == []


def test_dialects_have_their_own_checksums() -> None:
    """A step is judged by the script of the engine that stores the checksum."""
    assert script(ALL[0], "sqlite") != script(ALL[0], "postgres")
    with pytest.raises(SchemaError, match="edited"):
        pending_steps(applied(*ALL), ALL, "postgres")


def test_a_room_not_spoken_of_is_left_alone() -> None:
    """Rooms may be brought up to date one at a time."""
    assert pending_steps(applied(*ALL, step("wallet", 7)), ALL, "sqlite") == []


def test_newer_and_torn_stores_are_refused() -> None:
    """A version beyond the known ones, or a later one without an earlier one, stops the program."""
    with pytest.raises(SchemaError, match="ledger is at 2, known is 1"):
        pending_steps(applied(*ALL), ALL[:3], "sqlite")
    with pytest.raises(SchemaError, match="lacks migration 1 of mint"):
        pending_steps(applied(ALL[0], ALL[2]), ALL, "sqlite")


@pytest.mark.parametrize(
    "steps",
    [
        [step("mint", 2)],
        [step("mint", 1), step("mint", 3)],
        [step("mint", 1), step("mint", 1)],
        [step("mint", 0)],
        [step("Mint", 1)],
        [step("", 1)],
        [step("a'; DROP TABLE x; --", 1)],
    ],
)
def test_wrong_lists_are_our_mistake(steps: list[Migration]) -> None:
    """Gaps, repetitions and unusable room names never reach a store."""
    with pytest.raises(InvariantError):
        pending_steps({}, steps, "sqlite")


def test_checksums_see_words_not_white_space_at_line_ends() -> None:
    """Line ends, trailing blanks and blank lines around a script do not count; anything else does."""
    assert checksum("a\nb") == checksum("\n a  \r\nb\t\n\n")
    assert checksum("a\nb") != checksum("a\n b")
    assert checksum("a\nb") != checksum("a b")
    assert len(checksum("")) == 64


def test_a_schema_has_a_name_for_files() -> None:
    """The newest version of each room, in a fixed order."""
    assert schema_label({}) == "empty"
    assert schema_label(applied(*reversed(ALL))) == "ledger2-mint2"
