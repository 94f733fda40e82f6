"""The log as files: lines that come back as they were, and cells that no spreadsheet computes."""

from __future__ import annotations

import csv
import io

import pytest

from specie.audit import Draft, verify
from specie.audit.export import CSV_COLUMNS, checkpoint_line, csv_line, line_read, record_line
from specie.audit.ports import StoredRecord
from specie.audit.record import NO_RECORD, Checkpoint, checkpoint_text, record_hash, record_text
from specie.kernel import MalformedError

TEXT = record_text(Draft(2**40, "=SUM(A1)", "v", "ü,\u2028", detail={"a": "x"}), 1, NO_RECORD)
ROW = StoredRecord(1, TEXT, record_hash(TEXT))


def test_a_line_is_the_record_again() -> None:
    """Text and hash, byte by byte; a checkpoint likewise."""
    line = record_line(ROW)
    assert "\n" not in line
    assert line_read(line + "\n", 9) == ROW
    checkpoint = checkpoint_text(Checkpoint(1, 1, ROW.hash, b"r" * 32))
    assert line_read(checkpoint_line(checkpoint), 1) == checkpoint


def test_a_line_that_was_changed_is_judged_where_it_stands() -> None:
    """A record that cannot be read keeps its place, so that the check can name it."""
    broken = record_line(ROW).replace('"sequence":1', '"sequence":x')
    row = line_read(broken, 1)
    assert isinstance(row, StoredRecord)
    assert [(one.kind.value, one.sequence) for one in verify([row]).findings] == [("changed", 1)]
    strange = line_read(record_line(StoredRecord(1, "two\nlines", b"h" * 32)), 1)
    assert isinstance(strange, StoredRecord)
    assert not verify([strange]).holds


@pytest.mark.parametrize("line", ["", "{}", "nonsense", '{"hash":"00","record":{}}'])
def test_what_is_no_line_is_refused(line) -> None:
    """Another file is not taken for a log."""
    with pytest.raises(MalformedError):
        line_read(line, 1)


def test_csv_has_a_column_each_and_no_formula() -> None:
    """Read by a CSV reader; a cell that would be computed is quoted; an unreadable record shows its text."""
    text = csv_line(None) + csv_line(ROW) + csv_line(StoredRecord(2, "=nonsense", b"h"))
    head, first, second = csv.reader(io.StringIO(text))
    assert tuple(head) == CSV_COLUMNS
    found = dict(zip(head, first, strict=True))
    assert (found["sequence"], found["actor"], found["subject"], found["detail"]) == (
        "1",
        "'=SUM(A1)",
        "ü,\N{REPLACEMENT CHARACTER}",
        '{"a": "x"}',
    )
    assert found["time"] == ""
    assert found["hash"] == ROW.hash.hex()
    assert second[8] == "'=nonsense"
    usual = record_text(Draft(0, "a", "v"), 1, NO_RECORD)
    assert "1970-01-01T00:00:00Z" in csv_line(StoredRecord(1, usual, b""))
