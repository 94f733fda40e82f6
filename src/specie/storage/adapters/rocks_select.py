"""Queries: SELECT over one table, or over one and those that are joined to it from the left, as plans ready to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any

from sqlglot import exp

from specie.kernel.errors import InvariantError
from specie.storage.adapters.rocks_access import Access, Ordering, access_for, left_open
from specie.storage.adapters.rocks_expression import Compiled, Run, Scope, Values, compiled, conjuncts, truths
from specie.storage.adapters.rocks_rows import INT_MAX, INT_MIN, compared
from specie.storage.adapters.rocks_schema import only, refused
from specie.storage.adapters.rocks_table import Relation
from specie.storage.adapters.rocks_view import View
from specie.storage.ports import Row, Value

__all__ = ["Find", "Output", "Plan", "output", "select_plan", "table_of"]

Plan = Callable[[View, Values], tuple[list[Row], int]]
"""A statement ready to run: rows it gives, and how many it changed."""

Find = Callable[[str], Relation]
"""A table by name."""

Output = Callable[[Sequence[Value], Values], Row]


def table_of(node: exp.Expr) -> tuple[str, str]:
    """Name and alias of a table in a statement."""
    if not isinstance(node, exp.Table):
        raise refused(node)
    only(node, "this", "alias")
    return str(node.name), str(node.alias_or_name)


def output(nodes: Sequence[exp.Expr], scope: Scope, width: int) -> Output:
    """What of a row is given back; `*` is all of its first `width` columns."""
    runs: list[Run] = []
    places: list[int] = []
    for node in nodes:
        node = node.this if isinstance(node, exp.Alias) else node
        if isinstance(node, exp.Star):
            places += range(width)
            runs += [_column(position) for position in range(width)]
        else:
            runs.append(compiled(node, scope).run)
            if isinstance(node, exp.Column):
                places.append(scope.find(node)[0])
    if len(places) == len(runs) > 1:
        return _columns(places)
    if len(runs) == 1:
        run = runs[0]
        return lambda row, values: (run(row, values),)
    return lambda row, values: tuple([run(row, values) for run in runs])


def _column(position: int) -> Run:
    return lambda row, values: row[position]


def _columns(places: list[int]) -> Output:
    pick = itemgetter(*places)
    return lambda row, values: pick(row)


def select_plan(statement: exp.Select, find: Find) -> Plan:
    """A query as a plan. InvariantError for one this engine does not speak."""
    only(statement, "expressions", "distinct", "from_", "joins", "where", "group", "order", "limit")
    if not statement.expressions:
        raise refused(statement)
    source = statement.args.get("from_")
    scope = Scope()
    if source is None:
        only(statement, "expressions")
        give = output(statement.expressions, scope, 0)
        return lambda view, values: ([give((), values)], 0)
    name, alias = table_of(source.this)
    relation = find(name)
    scope.add(alias, relation.table)
    joins = [_join(node, find, scope) for node in statement.args.get("joins") or ()]
    where = statement.args.get("where")
    conditions = list(conjuncts(None if where is None else where.this))
    grouped = statement.args.get("group") is not None or any(isinstance(_bare(n), exp.AggFunc) for n in statement.expressions)
    order = _order(statement.args.get("order"), scope)
    limit = _limit(statement.args.get("limit"), scope)
    access = access_for(
        relation, alias, conditions, scope, Scope(), order=() if grouped else order, limited=limit is not None and not grouped
    )
    rows = _source(access, joins, truths(left_open(access, conditions), scope))
    if grouped:
        return _grouped(statement, scope, rows, order, limit)
    give = output(statement.expressions, scope, scope.width)
    return _plan(rows, give, None if access.ordered else order, limit, distinct=statement.args.get("distinct") is not None)


def _bare(node: exp.Expr) -> exp.Expr:
    return node.this if isinstance(node, exp.Alias) else node


_Source = Callable[[View, Values], Iterator[Row]]
_Join = Callable[[View, Iterator[Row], Values], Iterator[Row]]


def _source(access: Access, joins: list[_Join], holds: Callable[[Sequence[Value], Values], bool]) -> _Source:
    def rows(view: View, values: Values) -> Iterator[Row]:
        found = access.rows(view, (), values)
        for join in joins:
            found = join(view, found, values)
        return (row for row in found if holds(row, values))

    return rows


def _join(node: exp.Join, find: Find, scope: Scope) -> _Join:
    """A LEFT JOIN; what is ahead of it is known when its rows are looked for."""
    only(node, "this", "side", "on")
    if node.side != "LEFT" or node.args.get("on") is None:
        raise refused(node, "joins are LEFT JOIN ... ON")
    name, alias = table_of(node.this)
    relation = find(name)
    outer = scope.copy()
    scope.add(alias, relation.table)
    conditions = list(conjuncts(node.args["on"]))
    access = access_for(relation, alias, conditions, scope, outer)
    holds = truths(left_open(access, conditions), scope)
    nothing: Row = (None,) * relation.width

    def joined(view: View, rows: Iterator[Row], values: Values) -> Iterator[Row]:
        for row in rows:
            met = False
            for other in access.rows(view, row, values):
                both = row + other
                if holds(both, values):
                    met = True
                    yield both
            if not met:
                yield row + nothing

    return joined


def _order(node: exp.Expr | None, scope: Scope) -> Ordering:
    order: list[tuple[int, bool]] = []
    for ordered in node.expressions if node is not None else ():
        if not isinstance(ordered.this, exp.Column):
            raise refused(ordered, "rows are ordered by columns")
        order.append((scope.find(ordered.this)[0], bool(ordered.args.get("desc"))))
    return order


def _limit(node: exp.Expr | None, scope: Scope) -> Compiled | None:
    if node is None:
        return None
    only(node, "expression")
    return compiled(node.args["expression"], Scope())


def _count(limit: Compiled | None, values: Values) -> int | None:
    if limit is None:
        return None
    count = limit.run((), values)
    if not isinstance(count, int):
        raise InvariantError("a LIMIT is an integer")
    return None if count < 0 else count


class _Sortable:
    """A value in the order of SQLite: NULL first, then by class."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value

    def __lt__(self, other: _Sortable) -> bool:
        if self.value is None or other.value is None:
            return self.value is None and other.value is not None
        return compared(self.value, other.value) < 0


def _sorted(rows: Iterator[Row], order: Ordering) -> list[Row]:
    found = list(rows)
    for position, descending in reversed(order):
        found.sort(key=lambda row, at=position: _Sortable(row[at]), reverse=descending)  # type: ignore[misc]
    return found


def _plan(rows: _Source, give: Output, order: Ordering | None, limit: Compiled | None, *, distinct: bool) -> Plan:
    def run(view: View, values: Values) -> tuple[list[Row], int]:
        count = _count(limit, values)
        found = rows(view, values)
        if order:
            found = iter(_sorted(found, order))
        if distinct:
            return list(islice(dict.fromkeys(give(row, values) for row in found), count)), 0
        if count is not None:
            found = islice(found, count)
        return [give(row, values) for row in found], 0

    return run


# Groups


class _Sum:
    """What an aggregate has gathered of one group."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Any = None

    def add(self, value: Value) -> None:
        if value is None:
            return
        if not isinstance(value, int):
            raise InvariantError("the RocksDB store adds integers only")
        self.value = value if self.value is None else self.value + value

    @property
    def result(self) -> Value:
        if self.value is not None and not INT_MIN <= self.value <= INT_MAX:
            raise InvariantError("a sum does not fit into 64 bits")
        return self.value  # type: ignore[no-any-return]


class _Count(_Sum):
    __slots__ = ()

    def add(self, value: Value) -> None:
        if value is not None:
            self.value = (self.value or 0) + 1

    @property
    def result(self) -> Value:
        return self.value or 0


class _Max(_Sum):
    __slots__ = ()

    def add(self, value: Value) -> None:
        if value is not None and (self.value is None or compared(value, self.value) > 0):
            self.value = value

    @property
    def result(self) -> Value:
        return self.value  # type: ignore[no-any-return]


class _Min(_Max):
    __slots__ = ()

    def add(self, value: Value) -> None:
        if value is not None and (self.value is None or compared(value, self.value) < 0):
            self.value = value


_AGGREGATES: dict[type, type[_Sum]] = {exp.Count: _Count, exp.Sum: _Sum, exp.Max: _Max, exp.Min: _Min}


def _grouped(statement: exp.Select, scope: Scope, rows: _Source, order: Ordering, limit: Compiled | None) -> Plan:
    group = statement.args.get("group")
    if group is not None:
        only(group, "expressions")
    if order or statement.args.get("distinct") is not None:
        raise refused(statement, "groups come in no order")
    keys = tuple(compiled(node, scope).run for node in (group.expressions if group is not None else ()))
    items: list[tuple[type[_Sum] | None, Run]] = []
    for node in map(_bare, statement.expressions):
        kind = _AGGREGATES.get(type(node))
        if kind is None:
            items.append((None, compiled(node, scope).run))
            continue
        only(node, "this", "big_int")
        items.append((kind, _one if isinstance(node.this, exp.Star) else compiled(node.this, scope).run))
    gathering = [(place, kind, run) for place, (kind, run) in enumerate(items) if kind is not None]
    constant = [(place, run) for place, (kind, run) in enumerate(items) if kind is None]
    if constant and group is None:
        raise refused(statement, "a column beside an aggregate needs GROUP BY")

    def plan(view: View, values: Values) -> tuple[list[Row], int]:
        groups: dict[Row, tuple[Row, list[_Sum]]] = {}
        for row in rows(view, values):
            key = tuple([run(row, values) for run in keys])
            found = groups.get(key)
            if found is None:
                found = groups[key] = (row, [kind() for _, kind, _ in gathering])
            for gathered, (_, _, run) in zip(found[1], gathering, strict=True):
                gathered.add(run(row, values))
        if group is None and not groups:
            groups[()] = ((), [kind() for _, kind, _ in gathering])
        result: list[Row] = []
        for row, sums in groups.values():
            given: list[Value] = [None] * len(items)
            for gathered, (place, _, _) in zip(sums, gathering, strict=True):
                given[place] = gathered.result
            for place, run in constant:
                given[place] = run(row, values)
            result.append(tuple(given))
        return result[: _count(limit, values)], 0

    return plan


def _one(row: Sequence[Value], values: Values) -> Value:
    return 1
