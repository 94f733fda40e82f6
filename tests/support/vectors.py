"""Reads the vector files that stand in tests/vectors/cashu."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "vectors" / "cashu"


def records(name: str) -> list[dict[str, Any]]:
    """The records of one file, by its name without `.json`."""
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text())["records"]
    return found


def each(*names: str, **wanted: Any) -> pytest.MarkDecorator:
    """Run a test on every record whose fields are as `wanted`, under the record's id."""
    rows = [
        record for name in names for record in records(name) if all(record.get(key) == value for key, value in wanted.items())
    ]
    if not rows:
        raise LookupError(f"no records like {wanted} in {names}")
    return pytest.mark.parametrize("record", rows, ids=lambda record: str(record["id"]))
