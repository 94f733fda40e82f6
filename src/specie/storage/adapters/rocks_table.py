"""One table of a RocksDB store: its rows and their index entries as keys and values, and how they are written.

A row lies under the number of its table and its key; an index entry under the number of the index, the indexed columns and,
unless they are unique and not NULL, the row's key; its value is the row's key. A partial index has entries only for the rows
its condition holds for. Whatever is written here keeps rows and entries together, so no body can part them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from specie.kernel.errors import InvariantError
from specie.storage.adapters.rocks_expression import Scope, conjuncts, truths
from specie.storage.adapters.rocks_rows import (
    INT_MAX,
    Kind,
    after,
    decode_row,
    encode_part,
    encode_row,
    fitted,
    kind_of,
    single_key,
)
from specie.storage.adapters.rocks_schema import Index, Table, parsed
from specie.storage.adapters.rocks_view import ABSENT, PREFIX_BYTES, View
from specie.storage.errors import ConstraintError
from specie.storage.ports import Row, Value

__all__ = ["Entries", "Relation", "tree_prefix"]

_SEQUENCES: Final = b"\x00\x01"
"""The tree of the numbers given last, by table."""


def tree_prefix(tree: int) -> bytes:
    """How all keys of a tree begin."""
    return tree.to_bytes(PREFIX_BYTES, "big")


class Entries:
    """The entries of one index."""

    __slots__ = ("columns", "index", "label", "prefix", "unique", "where")

    def __init__(self, table: Table, index: Index) -> None:
        self.index = index
        self.prefix = tree_prefix(index.tree)
        self.columns = index.columns
        self.unique = index.unique
        self.label = ", ".join(f"{table.name}.{table.columns[position].name}" for position in index.columns)
        self.where: Callable[[Sequence[Value], tuple[()]], bool] | None = None
        if index.where:
            scope = Scope()
            scope.add(table.name, table)
            self.where = truths(list(conjuncts(parsed(f"SELECT {index.where}")[0].expressions[0])), scope)

    def of(self, row: Row, key: bytes) -> tuple[bytes, bool] | None:
        """The entry's key for a row, and whether no other row may have it; None where the index does not hold the row."""
        return None if self.where is not None and not self.where(row, ()) else self.entry(row, key)

    def entry(self, row: Row, key: bytes) -> tuple[bytes, bool]:
        """As `of`, for a row that is known to be held."""
        values = [row[position] for position in self.columns]
        entry = self.prefix + b"".join(map(encode_part, values))
        if self.unique and None not in values:
            return entry, True
        return entry + key, False


class Relation:
    """A table, ready to be read and written."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.prefix = tree_prefix(table.tree)
        self.width = len(table.columns)
        self.kinds = tuple(column.kind for column in table.columns)
        self.defaults: Row = tuple(column.default for column in table.columns)
        self.entries = tuple(Entries(table, index) for index in table.indexes)
        self.single = table.key[0] if len(table.key) == 1 else None
        self._single_key = single_key(self.kinds[table.key[0]])
        self._number = table.key[0] if table.numbered else None
        self._known_classes: set[tuple[type, ...]] = set()

    # Reading

    def decode(self, stored: bytes) -> Row:
        """A stored row, with the defaults of columns that it lacks."""
        row = decode_row(stored)
        return row if len(row) == self.width else row + self.defaults[len(row) :]

    def key(self, row: Row) -> bytes:
        """A row's key, without the number of the table."""
        if self.single is not None:
            return self._single_key(row[self.single])
        return b"".join([encode_part(row[position]) for position in self.table.key])

    def awaits_number(self, row: Row) -> bool:
        """Whether a new row is to be given its key."""
        return self._number is not None and row[self._number] is None

    # Writing

    def checked(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows as the columns take them. ConstraintError if one does not."""
        known = self._known_classes
        for row in rows:
            if tuple(map(type, row)) not in known:
                return [self._check(one) for one in rows]
        return rows

    def _check(self, row: Row) -> Row:
        classes = tuple(map(type, row))
        if classes in self._known_classes:
            return row
        name, columns = self.table.name, self.table.columns
        taken = tuple(fitted(value, kind) for value, kind in zip(row, self.kinds, strict=True))
        for value, column in zip(taken, columns, strict=True):
            if value is None:
                if column.required:
                    raise ConstraintError(f"NOT NULL constraint failed: {name}.{column.name}")
            elif (kind := kind_of(value)) is not column.kind:
                if self._number is not None and column is columns[self._number]:
                    raise InvariantError(f"RocksDB refused a statement: the number {name}.{column.name} is none")
                raise ConstraintError(f"cannot store {kind.name} value in {column.kind.name} column {name}.{column.name}")
        if tuple(map(type, taken)) == classes and len(self._known_classes) < 256:
            self._known_classes.add(classes)
        return taken

    def insert(self, view: View, rows: Sequence[Row], *, skip: bool) -> list[Row]:
        """Insert rows whose columns are all given; those that were inserted.

        Raises:
            ConstraintError: a row breaks a constraint; one that is not unique is left out instead if `skip`.
        """
        fresh = False
        if self._number is not None:
            rows, fresh = self._numbered(view, rows)
        rows = self.checked(rows)
        prefix, single = self.prefix, self.single
        if single is not None and self.kinds[single] is Kind.BLOB:
            keys: list[bytes] = [prefix + row[single] for row in rows]  # type: ignore[operator]
        else:
            keys = [prefix + self.key(row) for row in rows]
        values, log = view.tree(prefix).values, view.log
        taken: set[bytes] = set()
        if not fresh:
            unknown = [key for key in keys if key not in values]
            for key, stored in zip(unknown, view.stored(unknown), strict=True):
                if stored is not None:
                    taken.add(key)
        inserted: list[Row] = []
        for key, row in zip(keys, rows, strict=True):
            before = values.get(key, ABSENT)
            if key in taken if before is ABSENT else before is not None:
                if skip:
                    continue
                raise ConstraintError(f"UNIQUE constraint failed: {self._key_label()}")
            if self.entries and not self._insert_entries(view, row, key[PREFIX_BYTES:], skip=skip):
                continue
            log.append((values, key, before))
            values[key] = encode_row(row)
            inserted.append(row)
        return inserted

    def _key_label(self) -> str:
        return ", ".join(f"{self.table.name}.{self.table.columns[position].name}" for position in self.table.key)

    def _insert_entries(self, view: View, row: Row, key: bytes, *, skip: bool) -> bool:
        found: list[bytes] = []
        for entries in self.entries:
            if entries.where is not None and not entries.where(row, ()):
                continue
            entry = entries.entry(row, key)
            if entry[1] and view.get(entry[0]) is not None:
                if skip:
                    return False
                raise ConstraintError(f"UNIQUE constraint failed: {entries.label}")
            found.append(entry[0])
        for one in found:
            view.put(one, key)
        return True

    def _numbered(self, view: View, rows: Sequence[Row]) -> tuple[list[Row], bool]:
        """Rows with numbers for keys; True if all of them are new, above every one that was given."""
        assert self._number is not None
        place = self._number
        last = given = self._last_number(view)
        fresh = True
        numbered: list[Row] = []
        for row in rows:
            number = fitted(row[place], Kind.INTEGER)
            if number is None:
                if last == INT_MAX:
                    raise InvariantError(f"the numbers of {self.table.name} are used up")
                number = last + 1
            elif not isinstance(number, int) or number <= last:
                fresh = False
            if isinstance(number, int):
                last = max(last, number)
            numbered.append((*row[:place], number, *row[place + 1 :]))
        if self.table.lasting and last != given:
            view.put(_SEQUENCES + self.prefix, encode_row((last,)))
        return numbered, fresh

    def _last_number(self, view: View) -> int:
        if self.table.lasting:
            stored = view.get(_SEQUENCES + self.prefix)
            return 0 if stored is None else decode_row(stored)[0]  # type: ignore[return-value]
        newest = next(view.scan(self.prefix, after(self.prefix), backwards=True), None)
        return 0 if newest is None else self.decode(newest[1])[self.table.key[0]]  # type: ignore[return-value]

    def update(self, view: View, key: bytes, old: Row, new: Row, *, moved: bool) -> Row:
        """Replace the row under `key`; the new one as its columns took it. `moved`: its key may differ.

        Raises:
            ConstraintError: it breaks a constraint.
        """
        new = self._check(new)
        if not moved and not self.entries:
            view.put(key, encode_row(new))
            return new
        old_key = key[PREFIX_BYTES:]
        new_key = self.key(new) if moved else old_key
        if old_key != new_key:
            if view.get(self.prefix + new_key) is not None:
                raise ConstraintError(f"UNIQUE constraint failed: {self._key_label()}")
            view.delete(key)
        for entries in self.entries:
            before, now = entries.of(old, old_key), entries.of(new, new_key)
            if before == now and old_key == new_key:
                continue
            if before is not None:
                view.delete(before[0])
            if now is not None:
                if now[1] and view.get(now[0]) is not None:
                    raise ConstraintError(f"UNIQUE constraint failed: {entries.label}")
                view.put(now[0], new_key)
        view.put(self.prefix + new_key, encode_row(new))
        return new

    def delete(self, view: View, key: bytes, row: Row) -> None:
        """Remove the row under `key`."""
        for entries in self.entries:
            entry = entries.of(row, key[PREFIX_BYTES:])
            if entry is not None:
                view.delete(entry[0])
        view.delete(key)

    def fill(self, view: View, index: Index) -> None:
        """Make the entries of a new index for the rows there are."""
        entries = next(one for one in self.entries if one.index == index)
        for key, stored in view.scan(self.prefix, after(self.prefix)):
            entry = entries.of(self.decode(stored), key[PREFIX_BYTES:])
            if entry is None:
                continue
            if entry[1] and view.get(entry[0]) is not None:
                raise ConstraintError(f"UNIQUE constraint failed: {entries.label}")
            view.put(entry[0], key[PREFIX_BYTES:])
