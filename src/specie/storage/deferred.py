"""What bodies leave to the end of their commit: rows whose keys are new, and sums. Shared by the engines; no IO.

An engine tries a batch with `Deferred` first: bodies only collect, and one statement a table writes what all of them insert.
Where that meets a key that is taken, or a body fails after it wrote, `RerunError` undoes the batch, and it is run again with
each insert at its own place, so that the body concerned hears of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from specie.storage.ports import Tally, Value

__all__ = ["Deferred", "RerunError", "insert_sql"]


class RerunError(Exception):
    """The batch has to be run again, each body by itself. Never leaves an engine."""


class Deferred:
    """Rows and sums of one body, or of a batch so far."""

    __slots__ = ("_rows", "_sums")

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], list[Sequence[Value]]] = {}
        self._sums: dict[Tally, dict[tuple[str, ...], int]] = {}

    @property
    def waiting(self) -> bool:
        """Whether rows wait to be written."""
        return bool(self._rows)

    def insert(self, table: str, columns: str, rows: Sequence[Sequence[Value]]) -> None:
        """Keep rows for the table."""
        self._rows.setdefault((table, columns), []).extend(rows)

    def add(self, target: Tally, sums: Mapping[tuple[str, ...], int]) -> None:
        """Add to the sums of a tally."""
        kept = self._sums.setdefault(target, {})
        for key, amount in sums.items():
            kept[key] = kept.get(key, 0) + amount

    def take(self, other: Deferred) -> None:
        """Everything of `other`, a body that succeeded, behind what is here."""
        for (table, columns), rows in other._rows.items():
            self.insert(table, columns, rows)
        for target, sums in other._sums.items():
            self.add(target, sums)

    def rows(self) -> Iterator[tuple[str, str, list[Sequence[Value]]]]:
        """Tables in the order of their names, so that no two writers wait for each other; nothing waits afterwards."""
        kept, self._rows = self._rows, {}
        for table, columns in sorted(kept):
            yield table, columns, kept[table, columns]

    def sums(self) -> list[tuple[Tally, dict[tuple[str, ...], int]]]:
        """Tallies in the order they were first added to."""
        return list(self._sums.items())


def insert_sql(table: str, columns: str) -> str:
    """One row; nothing where its key is taken."""
    marks = ", ".join(f"${number + 1}" for number in range(columns.count(",") + 1))
    return f"INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608 - names of tables are ours
