"""How a statement comes to the rows of one table: by its key, by an index, or by reading all of it.

A way is chosen once, from the conditions that must all hold: those that say what a leading column equals, or between what it
lies, become keys and ranges. All conditions but those equalities are tested on the rows all the same, so a range may be too
wide, never too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from sqlglot import exp

from specie.kernel.errors import InvariantError
from specie.storage.adapters.rocks_expression import Run, Scope, Values, compiled, conjuncts, list_of
from specie.storage.adapters.rocks_rows import Bound, after, encode_part, fitted, kind_of, plain, single_bounds, single_key
from specie.storage.adapters.rocks_schema import parsed
from specie.storage.adapters.rocks_table import Entries, Relation
from specie.storage.adapters.rocks_view import View
from specie.storage.ports import Row, Value

__all__ = ["Access", "Ordering", "access_for", "left_open"]

Ordering = Sequence[tuple[int, bool]]
"""Positions of columns, and whether descending."""

_CHUNK = 8
_CHUNK_MOST = 256
"""Rows fetched at a time behind index entries: few at first, for many statements want one."""

_MIRRORED: dict[type, type] = {exp.EQ: exp.EQ, exp.LT: exp.GT, exp.LTE: exp.GTE, exp.GT: exp.LT, exp.GTE: exp.LTE}

_End = tuple[Run, bool]


@dataclass(slots=True)
class _Terms:
    """What the conditions say of one column."""

    equal: Run | None = None
    equality: exp.Expr | None = None
    among: Callable[[Sequence[Value], Values], Sequence[Value]] | None = None
    low: _End | None = None
    high: _End | None = None

    @property
    def any(self) -> bool:
        return bool(self.equal or self.among or self.low or self.high)


@dataclass(slots=True)
class Access:
    """One way to the rows of a table. `entries` None: the table itself, by its key."""

    relation: Relation
    entries: Entries | None = None
    columns: tuple[int, ...] = ()
    """Positions of the columns that are fixed, in the order of the key."""
    equal: list[Run | None] = field(default_factory=list)
    """What they equal; None for the one that is among several."""
    among: Callable[[Sequence[Value], Values], Sequence[Value]] | None = None
    low: _End | None = None
    high: _End | None = None
    following: int | None = None
    """Position of the column that `low` and `high` speak of."""
    complete: bool = False
    """All columns of the key (or of a unique index) are fixed."""
    ordered: bool = False
    """Rows come in the order that was asked for."""
    backwards: bool = False
    proved: list[exp.Expr] = field(default_factory=list)
    """Conditions that hold for every row that comes: a part of a key is equal when, and only when, the values are."""

    @property
    def exact(self) -> bool:
        """It leads to one row at most, by its key: `key`."""
        return self.complete and self.entries is None and self.among is None

    def key(self, outer: Row, values: Values) -> bytes | None:
        """The key, with the number of the table, where the way is `exact`; None where no row can be meant."""
        relation = self.relation
        kinds = relation.kinds
        parts: list[Value] = []
        for position, run in zip(self.columns, self.equal, strict=True):
            value = run(outer, values)  # type: ignore[misc]
            if value is None:
                return None
            kind = kinds[position]
            if kind_of(value) is not kind:
                value = fitted(value, kind)
                if kind_of(value) is not kind:
                    return None
            parts.append(value)
        if relation.single is not None:
            return relation.prefix + single_key(kinds[relation.single])(parts[0])
        return relation.prefix + b"".join(map(encode_part, parts))

    def rows(self, view: View, outer: Row, values: Values) -> Iterator[Row]:
        """The rows, as they are stored; `outer` is the row of the table before it, where there is one."""
        relation = self.relation
        if self.exact:
            key = self.key(outer, values)
            stored = None if key is None else view.get(key)
            if stored is not None:
                yield relation.decode(stored)
            return
        kinds = relation.kinds
        fixed: list[list[Value]] = [[]]
        for position, run in zip(self.columns, self.equal, strict=True):
            if run is not None:
                value = fitted(run(outer, values), kinds[position])
                if value is None:
                    return
                for one in fixed:
                    one.append(value)
            else:
                assert self.among is not None
                given = [fitted(plain(value), kinds[position]) for value in self.among(outer, values)]
                fixed = [[*one, value] for one in fixed for value in dict.fromkeys(given) if value is not None]
        if self.complete:
            yield from self._points(view, fixed)
            return
        ends = self._ends(outer, values)
        if ends is None:
            return
        for one in fixed:
            start, end = self._range(one, *ends)
            found = view.scan(start, end, backwards=self.backwards)
            if self.entries is None:
                decode = relation.decode
                for _key, stored in found:
                    yield decode(stored)
            else:
                yield from self._behind(view, (key for _entry, key in found))

    def _ends(self, outer: Row, values: Values) -> tuple[Bound | None, Bound | None] | None:
        """The range of the following column; None if nothing can lie in it."""
        ends: list[Bound | None] = []
        for end in (self.low, self.high):
            if end is None or self.following is None:
                ends.append(None)
                continue
            value = fitted(end[0](outer, values), self.relation.kinds[self.following])
            if value is None:
                return None
            ends.append((value, end[1]))
        return ends[0], ends[1]

    def _points(self, view: View, fixed: list[list[Value]]) -> Iterator[Row]:
        relation = self.relation
        if self.entries is not None:
            prefix = self.entries.prefix
            keys = [prefix + b"".join(map(encode_part, one)) for one in fixed]
            yield from self._behind(view, (key for key in view.get_many(keys) if key is not None))
            return
        prefix = relation.prefix
        if relation.single is not None:
            kind = relation.kinds[relation.single]
            encode = single_key(kind)
            keys = [prefix + encode(one[0]) for one in fixed if kind_of(one[0]) is kind]
        else:
            keys = [prefix + b"".join(map(encode_part, one)) for one in fixed]
        decode = relation.decode
        for stored in view.get_many(keys):
            if stored is not None:
                yield decode(stored)

    def _range(self, fixed: list[Value], low: Bound | None, high: Bound | None) -> tuple[bytes, bytes]:
        relation = self.relation
        if self.entries is None and relation.single is not None:
            return single_bounds(relation.prefix, relation.kinds[relation.single], low, high)
        prefix = relation.prefix if self.entries is None else self.entries.prefix
        prefix += b"".join(map(encode_part, fixed))
        start, end = prefix, after(prefix)
        if low is not None:
            edge = prefix + encode_part(low[0])
            start = edge if low[1] else after(edge)
        elif high is not None:
            start = prefix + b"\x01"  # NULL is in no range
        if high is not None:
            edge = prefix + encode_part(high[0])
            end = after(edge) if high[1] else edge
        return start, end

    def _behind(self, view: View, keys: Iterator[bytes]) -> Iterator[Row]:
        """Rows by their keys."""
        prefix, decode, size = self.relation.prefix, self.relation.decode, _CHUNK
        chunk: list[bytes] = []
        for key in keys:
            chunk.append(prefix + key)
            if len(chunk) == size:
                yield from map(decode, _all(view.get_many(chunk)))
                chunk, size = [], min(size * 2, _CHUNK_MOST)
        if chunk:
            yield from map(decode, _all(view.get_many(chunk)))


def _all(found: list[bytes | None]) -> Iterator[bytes]:
    for stored in found:
        if stored is None:
            raise InvariantError("an index of the store leads to no row")
        yield stored


def access_for(
    relation: Relation,
    alias: str,
    conditions: Sequence[exp.Expr],
    scope: Scope,
    outer: Scope,
    *,
    order: Ordering = (),
    limited: bool = False,
) -> Access:
    """The best way to the rows for which all `conditions` hold; `outer` are the tables whose row is known by then."""
    terms, said = _terms(relation, alias, conditions, scope, outer)
    best, most = _candidate(relation, None, terms, order), 0
    most = _merit(best, limited, implied=False)
    for entries in relation.entries:
        implied = False
        if entries.index.where:
            wanted = conjuncts(parsed(f"SELECT {entries.index.where}")[0].expressions[0])
            if not all(_is_implied(one, said, terms, relation) for one in wanted):
                continue
            implied = True
        candidate = _candidate(relation, entries, terms, order)
        merit = _merit(candidate, limited, implied=implied)
        if merit > most:
            best, most = candidate, merit
    return best


def left_open(access: Access, conditions: Sequence[exp.Expr]) -> list[exp.Expr]:
    """The conditions that are to be tested on the rows."""
    return [one for one in conditions if not any(one is other for other in access.proved)]


def _merit(access: Access, limited: bool, *, implied: bool) -> int:
    if access.complete:
        return 1001 if access.entries is None else 1000
    merit = 10 * len(access.columns) + (5 if access.low or access.high else 0) + (6 if implied else 0)
    merit += 3 if access.ordered and limited else 0
    return merit - (1 if access.entries is not None else 0)


def _terms(
    relation: Relation, alias: str, conditions: Sequence[exp.Expr], scope: Scope, outer: Scope
) -> tuple[dict[int, _Terms], set[str]]:
    """By column what the conditions say of it; and, as texts, the conditions that speak of this table alone."""
    terms: dict[int, _Terms] = {}
    said: set[str] = set()
    names = {column.name for column in relation.table.columns}

    def own(node: exp.Expr) -> bool:
        if not isinstance(node, exp.Column) or node.name not in names:
            return False
        return node.table == alias or (not node.table and scope.find(node) is not None)

    def known(node: exp.Expr) -> bool:
        """Whether it can be told before a row of this table is seen."""
        return all(not own(column) and _found(outer, column) for column in node.find_all(exp.Column))

    for condition in conditions:
        if all(own(column) for column in condition.find_all(exp.Column)):
            said.add(_text(condition))
        if isinstance(condition, exp.In) and own(condition.this) and all(map(known, condition.expressions)):
            terms.setdefault(relation.table.position(condition.this.name), _Terms()).among = list_of(condition, outer)
            continue
        kind, left, right = type(condition), condition.this, condition.args.get("expression")
        if kind not in _MIRRORED or right is None:
            continue
        if own(right) and known(left):
            kind, left, right = _MIRRORED[kind], right, left
        elif not (own(left) and known(right)):
            continue
        position = relation.table.position(left.name)
        other = compiled(right, outer)
        if other.kind is not None and other.kind is not relation.kinds[position]:
            continue  # columns of two kinds are equal where their parts of a key are not
        term, run = terms.setdefault(position, _Terms()), other.run
        if kind is exp.EQ:
            term.equal, term.equality = run, condition
        elif kind in (exp.GT, exp.GTE):
            term.low = (run, kind is exp.GTE)
        else:
            term.high = (run, kind is exp.LTE)
    return terms, said


def _found(scope: Scope, column: exp.Column) -> bool:
    try:
        scope.find(column)
    except InvariantError:
        return False
    return True


def _text(node: exp.Expr) -> str:
    """A condition without the names of tables."""
    node = node.copy()
    for column in node.find_all(exp.Column):
        column.set("table", None)
    return node.sql(dialect="postgres")


def _is_implied(wanted: exp.Expr, said: set[str], terms: dict[int, _Terms], relation: Relation) -> bool:
    """Whether what an index asks of its rows is among the conditions, or follows from one."""
    if _text(wanted) in said:
        return True
    if isinstance(wanted, exp.Is) and wanted.args.get("negate") and isinstance(wanted.expression, exp.Null):
        term = terms.get(relation.table.position(wanted.this.name))
        return term is not None and term.any  # a comparison with NULL never holds
    return False


def _candidate(relation: Relation, entries: Entries | None, terms: dict[int, _Terms], order: Ordering) -> Access:
    own = relation.table.key if entries is None else entries.columns
    access = Access(relation, entries)
    columns: list[int] = []
    for position in own:
        term = terms.get(position, _Terms())
        if term.equal is not None and term.equality is not None:
            access.equal.append(term.equal)
            access.proved.append(term.equality)
        elif term.among is not None and access.among is None:
            access.equal.append(None)
            access.among = term.among
        else:
            if term.low or term.high:
                access.low, access.high, access.following = term.low, term.high, position
            break
        columns.append(position)
    access.columns = tuple(columns)
    access.complete = len(columns) == len(own) and (entries is None or entries.unique)
    sequence = list(own) if entries is None else [*own, *relation.table.key]
    fixed = {position for position, run in zip(columns, access.equal, strict=True) if run is not None}
    direction = _direction(sequence, fixed, order, several=access.among is not None)
    access.ordered, access.backwards = direction is not None, direction == "backwards"
    return access


def _direction(
    sequence: list[int], fixed: set[int], order: Ordering, *, several: bool
) -> Literal["forwards", "backwards"] | None:
    """In which direction a key must be read to give rows in an order; None if it cannot."""
    wanted = [(position, descending) for position, descending in order if position not in fixed]
    if not wanted:
        return "forwards"
    if several or len({descending for _, descending in wanted}) > 1:
        return None
    free = [position for position in dict.fromkeys(sequence) if position not in fixed]
    for (position, _), there in zip(wanted, free, strict=False):  # behind the whole key no order is left open
        if position != there:
            return None
    return "backwards" if wanted[0][1] else "forwards"
