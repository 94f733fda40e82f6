"""Statements as plans: SQL is parsed once for each text, turned into functions over tables, and kept.

Spoken is what the rooms of a bank say, with SQLite's meaning: SELECT, INSERT ... VALUES with ON CONFLICT and RETURNING,
UPDATE, DELETE, over strict tables. Anything else is refused by name, when it is first met.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlglot import exp

from specie.kernel.errors import InvariantError
from specie.storage.adapters.rocks_access import access_for, left_open
from specie.storage.adapters.rocks_expression import KEYS_PARAMETER, Run, Scope, Values, compiled, conjuncts, parameter, truths
from specie.storage.adapters.rocks_schema import Catalogue, only, parsed, refused
from specie.storage.adapters.rocks_select import Output, Plan, output, select_plan, table_of
from specie.storage.adapters.rocks_table import Relation
from specie.storage.adapters.rocks_view import View
from specie.storage.ports import Row, Value
from specie.storage.statement import KEYS

__all__ = ["Plans", "Statement"]

_KEPT = 2048
"""Plans kept; the rooms have some hundred statements, some of them for several counts of rows."""

_SEVERAL = re.compile(
    r"(?P<head>INSERT INTO \w+ \([\w, ]+\) VALUES )"
    r"(?P<marks>\((?:\$\d+,)*\$\d+\)(?:,\((?:\$\d+,)*\$\d+\))+)"
    r"(?P<tail>|\s+(?:ON|RETURNING)\s[^$]*)"
)
"""An insert of several rows of nothing but placeholders: planned as one of a single row."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A plan, how many values it takes, and whether it has a place for keys."""

    plan: Plan
    parameters: int
    keyed: bool


class Plans:
    """The plans of one catalogue. From any thread: a plan made twice is the same plan."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._relations: dict[str, Relation] = {}
        self._statements: dict[str, Statement] = {}
        self._inserts: dict[tuple[str, str], Callable[[View, Sequence[Sequence[Value]]], int]] = {}

    def insert(self, table: str, columns: str) -> Callable[[View, Sequence[Sequence[Value]]], int]:
        """What inserts rows of these columns, leaving out those whose key is taken; it answers how many it inserted."""
        found = self._inserts.get((table, columns))
        if found is None:
            relation = self.relation(table)
            given = _picked(relation, [relation.table.position(name.strip()) for name in columns.split(",")])

            def found(view: View, rows: Sequence[Sequence[Value]]) -> int:
                return len(relation.insert(view, [given(tuple(row)) for row in rows], skip=True))

            self._inserts[table, columns] = found
        return found

    def relation(self, name: str) -> Relation:
        """A table ready to be read and written. InvariantError if there is none of that name."""
        found = self._relations.get(name)
        if found is None:
            found = self._relations.setdefault(name, Relation(self.catalogue.table(name)))
        return found

    def statement(self, sql: str) -> Statement:
        """The plan of a statement. InvariantError for one that is wrong, or not spoken here."""
        found = self._statements.get(sql)
        if found is None:
            found = self._made(sql)
            if len(self._statements) >= _KEPT:
                self._statements.clear()
            self._statements[sql] = found
        return found

    def _made(self, sql: str) -> Statement:
        several = _SEVERAL.fullmatch(sql)
        if several is not None:
            marks = several["marks"]
            rows, width = marks.count("("), marks.partition(")")[0].count(",") + 1
            numbers = re.findall(r"\d+", marks)
            if numbers == [str(number) for number in range(1, width * rows + 1)]:
                marks = ",".join(f"${number}" for number in range(1, width + 1))
                node = _single(f"{several['head']}({marks}){several['tail']}")
                if isinstance(node, exp.Insert):
                    return Statement(self._insert(node, rows), width * rows, keyed=False)
        node = _single(sql.replace(KEYS, f"(${KEYS_PARAMETER})"))
        numbers_used = {number for one in node.find_all(exp.Placeholder) if (number := parameter(one)) is not None}
        return Statement(self.planned(node), max(numbers_used, default=0), KEYS_PARAMETER in numbers_used)

    def planned(self, node: exp.Expr) -> Plan:
        """The plan of a statement that was parsed."""
        if isinstance(node, exp.Select):
            return select_plan(node, self.relation)
        if isinstance(node, exp.Insert):
            return self._insert(node, 0)
        if isinstance(node, exp.Update):
            return self._update(node)
        if isinstance(node, exp.Delete):
            return self._delete(node)
        raise refused(node)

    # INSERT

    def _insert(self, node: exp.Insert, rows: int) -> Plan:
        """`rows` above zero: so many rows of placeholders in their order, whatever the statement holds."""
        only(node, "this", "expression", "conflict", "returning")
        schema = node.this
        relation = self.relation(table_of(schema.this if isinstance(schema, exp.Schema) else schema)[0])
        names = [str(one.name) for one in schema.expressions] if isinstance(schema, exp.Schema) else None
        values = node.expression
        if not isinstance(values, exp.Values):
            raise refused(node, "what is inserted is VALUES")
        table = relation.table
        places = list(range(relation.width)) if names is None else [table.position(name) for name in names]
        cells = [list(one.expressions) for one in values.expressions]
        if len(set(places)) != len(places) or any(len(one) != len(places) for one in cells):
            raise InvariantError(f"RocksDB refused a statement: columns and values of {table.name} do not match")
        numbers = [parameter(cell) for one in cells for cell in one]
        count = rows or len(cells)
        if rows or numbers == list(range(1, len(numbers) + 1)):
            given = _given(relation, places, count)
        else:
            given = _calculated(relation, places, cells)
        give = self._returning(node, relation)
        conflict = node.args.get("conflict")
        if conflict is not None and str(conflict.args["action"]) == "DO UPDATE":
            act = self._upsert(conflict, relation)
        elif conflict is None or str(conflict.args["action"]) == "DO NOTHING":
            skip = self._skips(conflict, relation)

            def act(view: View, rows: Sequence[Row], values: Values) -> list[Row]:
                return relation.insert(view, rows, skip=skip)

        else:
            raise refused(node)

        def insert(view: View, values: Values) -> tuple[list[Row], int]:
            changed = act(view, given(values), values)
            return [] if give is None else [give(row, values) for row in changed], len(changed)

        return insert

    def _skips(self, conflict: exp.Expr | None, relation: Relation) -> bool:
        if conflict is None:
            return False
        only(conflict, "action", "conflict_keys")
        if conflict.args.get("conflict_keys") and (
            self._target(conflict, relation) is not None or any(entries.unique for entries in relation.entries)
        ):
            raise refused(conflict, "a conflict that is named is that of the only thing that is unique")
        return True

    def _target(self, conflict: exp.Expr, relation: Relation) -> int | None:
        """Which uniqueness a conflict is about: None for the key, or the place of an index."""
        keys = {relation.table.position(str(one.this.name)) for one in conflict.args.get("conflict_keys") or ()}
        if keys == set(relation.table.key):
            return None
        for place, entries in enumerate(relation.entries):
            if entries.unique and entries.where is None and set(entries.columns) == keys:
                return place
        raise refused(conflict, "no such key, and no such unique index")

    def _upsert(self, conflict: exp.Expr, relation: Relation) -> Callable[[View, Sequence[Row], Values], list[Row]]:
        only(conflict, "action", "conflict_keys", "expressions", "where")
        target = self._target(conflict, relation)
        scope = Scope()
        scope.add(relation.table.name, relation.table)
        scope.add("excluded", relation.table)
        scope.preferred = relation.table.name
        change, moved = _assignments(conflict.expressions, relation, scope)
        where = conflict.args.get("where")
        holds = truths(list(conjuncts(None if where is None else where.this)), scope)

        def upsert(view: View, rows: Sequence[Row], values: Values) -> list[Row]:
            changed: list[Row] = []
            for row in rows:
                if not relation.awaits_number(row):
                    (row,) = relation.checked([row])
                stored = _rival(view, relation, target, row)
                if stored is None:
                    changed += relation.insert(view, [row], skip=False)
                    continue
                old = relation.decode(stored)
                both = old + row
                if holds(both, values):
                    key = relation.prefix + relation.key(old)
                    changed.append(relation.update(view, key, old, change(old, both, values), moved=moved))
            return changed

        return upsert

    # UPDATE and DELETE

    def _update(self, node: exp.Update) -> Plan:
        only(node, "this", "expressions", "where", "returning")
        relation, rows = self._found(node)
        scope = Scope()
        scope.add(relation.table.name, relation.table)
        change, moved = _assignments(node.expressions, relation, scope)
        give = self._returning(node, relation)

        def update(view: View, values: Values) -> tuple[list[Row], int]:
            view.tree(relation.prefix)  # a body that may not write is told so even where there is nothing to change
            changed = [
                relation.update(view, key, old, change(old, old, values), moved=moved) for key, old in rows(view, values)
            ]
            return [] if give is None else [give(row, values) for row in changed], len(changed)

        return update

    def _delete(self, node: exp.Delete) -> Plan:
        only(node, "this", "where", "returning")
        relation, rows = self._found(node)
        give = self._returning(node, relation)

        def delete(view: View, values: Values) -> tuple[list[Row], int]:
            view.tree(relation.prefix)
            gone = rows(view, values)
            for key, row in gone:
                relation.delete(view, key, row)
            return [] if give is None else [give(row, values) for _key, row in gone], len(gone)

        return delete

    def _found(self, node: exp.Expr) -> tuple[Relation, Callable[[View, Values], list[tuple[bytes, Row]]]]:
        """The rows a statement is about and their keys, all of them before the first is changed."""
        name, alias = table_of(node.this)
        relation = self.relation(name)
        scope = Scope()
        scope.add(alias, relation.table)
        where = node.args.get("where")
        conditions = list(conjuncts(None if where is None else where.this))
        access = access_for(relation, alias, conditions, scope, Scope())
        holds = truths(left_open(access, conditions), scope)

        def one(view: View, values: Values) -> list[tuple[bytes, Row]]:
            key = access.key((), values)
            stored = None if key is None else view.get(key)
            if key is None or stored is None:
                return []
            row = relation.decode(stored)
            return [(key, row)] if holds(row, values) else []

        def several(view: View, values: Values) -> list[tuple[bytes, Row]]:
            prefix, key = relation.prefix, relation.key
            return [(prefix + key(row), row) for row in access.rows(view, (), values) if holds(row, values)]

        return relation, one if access.exact else several

    def _returning(self, node: exp.Expr, relation: Relation) -> Output | None:
        returning = node.args.get("returning")
        if returning is None:
            return None
        only(returning, "expressions")
        scope = Scope()
        scope.add(relation.table.name, relation.table)
        return output(returning.expressions, scope, relation.width)


def _single(sql: str) -> exp.Expr:
    statements = parsed(sql)
    if len(statements) != 1:
        raise InvariantError("RocksDB refused a statement: it is one at a time")
    return statements[0]


def _rival(view: View, relation: Relation, target: int | None, row: Row) -> bytes | None:
    """The stored row that has what a row must have alone."""
    if target is None:
        if None in [row[position] for position in relation.table.key]:
            return None
        return view.get(relation.prefix + relation.key(row))
    entry = relation.entries[target].of(row, b"")
    key = view.get(entry[0]) if entry is not None and entry[1] else None
    return None if key is None else view.get(relation.prefix + key)


def _picked(relation: Relation, places: list[int]) -> Callable[[Row], Row]:
    """A whole row of the values of some columns: picked into their order, and filled up with defaults."""
    if places == list(range(relation.width)):
        return lambda row: row
    width, defaults = len(places), relation.defaults
    picked = [places.index(column) if column in places else width + column for column in range(relation.width)]
    pick: Callable[[Row], Any] = itemgetter(*picked) if len(picked) > 1 else lambda row: (row[picked[0]],)
    return lambda row: pick(row + defaults)


def _given(relation: Relation, places: list[int], count: int) -> Callable[[Values], list[Row]]:
    """Rows cut out of the values of a statement."""
    width = len(places)
    starts = range(1, 1 + width * count, width)
    pick = _picked(relation, places)
    return lambda values: [pick(values[start : start + width]) for start in starts]


def _calculated(relation: Relation, places: list[int], cells: list[list[exp.Expr]]) -> Callable[[Values], list[Row]]:
    """Rows of expressions over the values of a statement."""
    nothing = Scope()
    runs = [[(place, compiled(cell, nothing).run) for place, cell in zip(places, one, strict=True)] for one in cells]
    defaults = relation.defaults

    def rows(values: Values) -> list[Row]:
        made: list[Row] = []
        for one in runs:
            row: list[Value] = list(defaults)
            for place, run in one:
                row[place] = run((), values)
            made.append(tuple(row))
        return made

    return rows


def _assignments(
    nodes: Sequence[exp.Expr], relation: Relation, scope: Scope
) -> tuple[Callable[[Row, Sequence[Value], Values], Row], bool]:
    """The new row from the old one and what the assignments see; and whether its key may be another."""
    sets: list[tuple[int, Run]] = []
    for node in nodes:
        if not isinstance(node, exp.EQ) or not isinstance(node.this, exp.Column) or node.this.table:
            raise refused(node)
        sets.append((relation.table.position(node.this.name), compiled(node.expression, scope).run))

    def changed(old: Row, seen: Sequence[Value], values: Values) -> Row:
        row = list(old)
        for place, run in sets:
            row[place] = run(seen, values)
        return tuple(row)

    return changed, any(place in relation.table.key for place, _run in sets)
