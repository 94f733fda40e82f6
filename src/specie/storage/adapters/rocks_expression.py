"""Expressions of statements as functions of a row and the values of a statement, with SQLite's meaning. Pure.

Truth has three values: 1, 0 and None. What is compared with a column is first taken as that column would take it; values of
different classes are never equal and sort by class. Arithmetic is on integers only, and beyond 64 bits it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from specie.kernel.errors import InvariantError
from specie.storage.adapters.rocks_rows import INT_MAX, INT_MIN, Kind, compared, fitted
from specie.storage.adapters.rocks_schema import Table, constant, only, refused
from specie.storage.ports import Value

__all__ = ["KEYS_PARAMETER", "Compiled", "Run", "Scope", "Values", "compiled", "conjuncts", "list_of", "parameter", "truths"]

Values = tuple[Any, ...]
"""What a statement was given: `$n` at place n; the keys of `fetch_in` at place 0."""

Run = Callable[[Sequence[Value], Values], Value]

KEYS_PARAMETER = 0


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression, and the kind of the column if it is nothing but one."""

    run: Run
    kind: Kind | None = None


class Scope:
    """The tables a statement names, their rows laid one behind the other."""

    def __init__(self) -> None:
        self._sources: list[tuple[str, Table, int]] = []
        self.width = 0
        self.preferred = ""
        """The table meant by a column without one, where several have it."""

    def add(self, alias: str, table: Table) -> int:
        """Lay another table behind; where its columns begin."""
        offset = self.width
        self._sources.append((alias, table, offset))
        self.width += len(table.columns)
        return offset

    def copy(self) -> Scope:
        """The same tables; more can be added to either."""
        other = Scope()
        other._sources, other.width, other.preferred = self._sources[:], self.width, self.preferred
        return other

    def find(self, node: exp.Column) -> tuple[int, Kind]:
        """Place and kind of a column. InvariantError if there is none, or more than one without saying which."""
        found: list[tuple[int, Kind]] = []
        for alias, table, offset in self._sources:
            if (node.table or self.preferred or alias) != alias:
                continue
            for position, column in enumerate(table.columns):
                if column.name == node.name:
                    found.append((offset + position, column.kind))
        if len(found) != 1:
            raise InvariantError(f"RocksDB refused a statement: {'ambiguous' if found else 'no such'} column: {node.name}")
        return found[0]


def parameter(node: exp.Expr) -> int | None:
    """The number of a placeholder; None for anything else."""
    if isinstance(node, exp.Placeholder):
        return int(str(node.this)[1:])
    return None


def conjuncts(node: exp.Expr | None) -> Iterator[exp.Expr]:
    """The conditions that must all hold."""
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And):
        yield from conjuncts(node.this)
        yield from conjuncts(node.expression)
    elif node is not None:
        yield node


def truths(nodes: Sequence[exp.Expr], scope: Scope) -> Callable[[Sequence[Value], Values], bool]:
    """Whether all conditions hold."""
    tests = tuple(compiled(node, scope).run for node in nodes)
    if not tests:
        return lambda row, values: True
    if len(tests) == 1:
        only_test = tests[0]
        return lambda row, values: bool(only_test(row, values))

    def every(row: Sequence[Value], values: Values) -> bool:
        for test in tests:  # noqa: SIM110 - a generator costs more than the tests
            if not test(row, values):
                return False
        return True

    return every


def compiled(node: exp.Expr, scope: Scope) -> Compiled:
    """An expression ready to run. InvariantError for what this engine does not speak."""
    if isinstance(node, exp.Column):
        only(node, "this", "table")
        position, kind = scope.find(node)
        return Compiled(lambda row, values: row[position], kind)
    number = parameter(node)
    if number is not None:
        if number == KEYS_PARAMETER:
            raise refused("{keys} stands behind IN only")
        return Compiled(lambda row, values: values[number])
    if isinstance(node, exp.Literal | exp.HexString | exp.Null) or (
        isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal)
    ):
        value = constant(node)
        return Compiled(lambda row, values: value)
    if isinstance(node, exp.Paren):
        return compiled(node.this, scope)
    for base, build in _BUILDERS.items():
        if type(node) is base:
            return Compiled(build(node, scope))
    raise refused(node)


def _comparison(node: exp.Expr, scope: Scope) -> Run:
    left, right = compiled(node.this, scope), compiled(node.expression, scope)
    one, other = left.run, right.run
    fit = _fitting(left.kind, right.kind)
    if type(node) is exp.EQ:
        return _equality(one, other, fit)
    test = _TESTS[type(node)]

    def compare(row: Sequence[Value], values: Values) -> Value:
        a, b = one(row, values), other(row, values)
        if a is None or b is None:
            return None
        if type(a) is not type(b):
            a, b = fit(a, b)
        return int(test(compared(a, b)))

    return compare


def _equality(one: Run, other: Run, fit: Callable[[Value, Value], tuple[Value, Value]]) -> Run:
    """The comparison there is most of."""

    def equal(row: Sequence[Value], values: Values) -> Value:
        a, b = one(row, values), other(row, values)
        if a is None or b is None:
            return None
        if type(a) is not type(b):
            a, b = fit(a, b)
        return 1 if a == b else 0

    return equal


_TESTS: dict[type, Callable[[int], bool]] = {
    exp.EQ: lambda order: order == 0,
    exp.NEQ: lambda order: order != 0,
    exp.LT: lambda order: order < 0,
    exp.LTE: lambda order: order <= 0,
    exp.GT: lambda order: order > 0,
    exp.GTE: lambda order: order >= 0,
}


def _fitting(left: Kind | None, right: Kind | None) -> Callable[[Value, Value], tuple[Value, Value]]:
    """Values of different classes as SQLite takes them before it compares them."""
    if Kind.INTEGER in (left, right):
        return lambda a, b: (fitted(a, Kind.INTEGER), fitted(b, Kind.INTEGER))
    if left is None and right is Kind.TEXT:
        return lambda a, b: (fitted(a, Kind.TEXT), b)
    if left is Kind.TEXT and right is None:
        return lambda a, b: (a, fitted(b, Kind.TEXT))
    return lambda a, b: (a, b)


def list_of(node: exp.In, scope: Scope) -> Callable[[Sequence[Value], Values], Sequence[Value]]:
    """The list behind an IN."""
    only(node, "this", "expressions")
    if len(node.expressions) == 1 and parameter(node.expressions[0]) == KEYS_PARAMETER:
        return lambda row, values: values[KEYS_PARAMETER]
    runs = tuple(compiled(one, scope).run for one in node.expressions)
    return lambda row, values: [run(row, values) for run in runs]


def _in(node: exp.Expr, scope: Scope) -> Run:
    left = compiled(node.this, scope)
    one, kind = left.run, left.kind
    items = list_of(node, scope)  # type: ignore[arg-type]

    def contains(row: Sequence[Value], values: Values) -> Value:
        value = one(row, values)
        if value is None:
            return None
        found = items(row, values)
        if value in found:
            return 1
        if kind is not None and any(type(item) is not type(value) and fitted(item, kind) == value for item in found):
            return 1
        return None if None in found else 0

    return contains


def _is(node: exp.Expr, scope: Scope) -> Run:
    only(node, "this", "expression", "negate")
    if not isinstance(node.expression, exp.Null):
        raise refused(node)
    run, negate = compiled(node.this, scope).run, bool(node.args.get("negate"))
    return lambda row, values: int((run(row, values) is None) is not negate)


def _truth(value: Value) -> bool | None:
    if value is None or isinstance(value, int):
        return None if value is None else value != 0
    raise InvariantError("a condition is neither true nor false")


def _and(node: exp.Expr, scope: Scope) -> Run:
    one, other = compiled(node.this, scope).run, compiled(node.expression, scope).run

    def both(row: Sequence[Value], values: Values) -> Value:
        a, b = _truth(one(row, values)), _truth(other(row, values))
        if a is False or b is False:
            return 0
        return None if a is None or b is None else 1

    return both


def _or(node: exp.Expr, scope: Scope) -> Run:
    one, other = compiled(node.this, scope).run, compiled(node.expression, scope).run

    def either(row: Sequence[Value], values: Values) -> Value:
        a, b = _truth(one(row, values)), _truth(other(row, values))
        if a or b:
            return 1
        return None if a is None or b is None else 0

    return either


def _not(node: exp.Expr, scope: Scope) -> Run:
    run = compiled(node.this, scope).run

    def negated(row: Sequence[Value], values: Values) -> Value:
        truth = _truth(run(row, values))
        return None if truth is None else int(not truth)

    return negated


def _arithmetic(node: exp.Expr, scope: Scope) -> Run:
    one, other = compiled(node.this, scope).run, compiled(node.expression, scope).run
    act = _OPERATIONS[type(node)]

    def calculate(row: Sequence[Value], values: Values) -> Value:
        a, b = one(row, values), other(row, values)
        if a is None or b is None:
            return None
        if not isinstance(a, int) or not isinstance(b, int):
            raise InvariantError("the RocksDB store calculates with integers only")
        result = act(a, b)
        if not INT_MIN <= result <= INT_MAX:
            raise InvariantError("a result does not fit into 64 bits")
        return result

    return calculate


_OPERATIONS: dict[type, Callable[[int, int], int]] = {
    exp.Add: lambda a, b: a + b,
    exp.Sub: lambda a, b: a - b,
    exp.Mul: lambda a, b: a * b,
}


def _concatenation(node: exp.Expr, scope: Scope) -> Run:
    one, other = compiled(node.this, scope).run, compiled(node.expression, scope).run

    def concatenate(row: Sequence[Value], values: Values) -> Value:
        a, b = one(row, values), other(row, values)
        if a is None or b is None:
            return None
        if isinstance(a, bytes) or isinstance(b, bytes):
            raise InvariantError("the RocksDB store joins texts only")
        return f"{a}{b}"

    return concatenate


def _coalesce(node: exp.Expr, scope: Scope) -> Run:
    only(node, "this", "expressions")
    runs = tuple(compiled(one, scope).run for one in (node.this, *node.expressions))

    def first(row: Sequence[Value], values: Values) -> Value:
        return next((value for run in runs if (value := run(row, values)) is not None), None)

    return first


_BUILDERS: dict[type, Callable[[exp.Expr, Scope], Run]] = {
    **dict.fromkeys(_TESTS, _comparison),
    **dict.fromkeys(_OPERATIONS, _arithmetic),
    exp.In: _in,
    exp.Is: _is,
    exp.And: _and,
    exp.Or: _or,
    exp.Not: _not,
    exp.DPipe: _concatenation,
    exp.Coalesce: _coalesce,
}
