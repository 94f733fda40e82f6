"""The log as files: JSON lines, from which it can be checked anywhere, and CSV for a spreadsheet: pure.

A line of JSON is `{"hash":"...","record":TEXT}` with the record's own text in it as it is, or `{"checkpoint":TEXT}`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime

from specie.audit.ports import StoredRecord
from specie.audit.record import MAX_TEXT_BYTES, record_from_text
from specie.kernel.errors import MalformedError

__all__ = ["CSV_COLUMNS", "MAX_LINE", "checkpoint_line", "csv_line", "line_read", "record_line"]

MAX_LINE = MAX_TEXT_BYTES + 256
"""Characters of the longest line."""

CSV_COLUMNS = (
    "sequence",
    "at",
    "time",
    "tenant",
    "actor",
    "verb",
    "subject",
    "outcome",
    "detail",
    "previous",
    "hash",
)

_RECORD = re.compile(r'\{"hash":"([0-9a-f]{64})","record":(\{.*\})\}', re.ASCII | re.DOTALL)
_CHECKPOINT = re.compile(r'\{"checkpoint":(\{.*\})\}', re.DOTALL)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def record_line(row: StoredRecord) -> str:
    """A record's line, without its end. Text that is no record is put into it as a string, so that it stays one line."""
    text = row.text if row.text.startswith("{") and "\n" not in row.text else json.dumps({"unreadable": row.text})
    return f'{{"hash":"{row.hash.hex()}","record":{text}}}'


def checkpoint_line(text: str) -> str:
    """A checkpoint's line, without its end."""
    return f'{{"checkpoint":{text}}}'


def line_read(line: str, expected: int) -> StoredRecord | str:
    """A record, or the text of a checkpoint. A record that cannot be read is taken for number `expected`, to be judged there.

    MalformedError for a line that is neither.
    """
    line = line.rstrip("\r\n")
    checkpoint = _CHECKPOINT.fullmatch(line)
    if checkpoint is not None:
        return checkpoint[1]
    found = _RECORD.fullmatch(line)
    if found is None:
        raise MalformedError("this is no line of an exported audit log")
    try:
        number = record_from_text(found[2]).sequence
    except MalformedError:
        number = expected
    return StoredRecord(number, found[2], bytes.fromhex(found[1]))


def csv_line(row: StoredRecord | None) -> str:
    """A record as a line of CSV (RFC 4180) with its end, or the head line for None. A cell is never read as a formula."""
    target = io.StringIO()
    writer = csv.writer(target)
    if row is None:
        writer.writerow(CSV_COLUMNS)
        return target.getvalue()
    try:
        record = record_from_text(row.text)
    except MalformedError:
        writer.writerow([row.sequence, *[""] * 7, _cell(row.text), "", row.hash.hex()])
        return target.getvalue()
    words = [record.tenant, record.actor, record.verb, record.subject, record.outcome]
    detail = json.dumps(record.detail, ensure_ascii=False, sort_keys=True)
    writer.writerow(
        [row.sequence, record.at, _time(record.at), *map(_cell, words), detail, record.previous.hex(), row.hash.hex()]
    )
    return target.getvalue()


def _time(at: int) -> str:
    """ISO 8601 in UTC; empty for a time that no calendar has."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return ""


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
