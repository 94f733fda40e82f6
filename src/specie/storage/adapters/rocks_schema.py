"""The catalogue of a RocksDB store: which tables and indexes there are, and how statements of a migration change it. Pure.

Every table is strict, has a primary key, and lies in the order of that key. What a schema may not have here is refused by
name: checks, foreign keys, generated columns, indexes over expressions, types other than INTEGER, TEXT and BLOB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, cast

import msgspec
import sqlglot
from sqlglot import exp

from specie.kernel.errors import InvariantError
from specie.storage.adapters.rocks_rows import Kind
from specie.storage.ports import Value
from specie.storage.statement import named_sql

__all__ = ["Catalogue", "Column", "Index", "Table", "constant", "defined", "only", "parsed", "refused"]

_TYPES = {
    exp.DType.INT: Kind.INTEGER,
    exp.DType.BIGINT: Kind.INTEGER,
    exp.DType.TEXT: Kind.TEXT,
    exp.DType.VARBINARY: Kind.BLOB,
}

_OPTIONS = re.compile(r"\)\s*(?:STRICT|WITHOUT\s+ROWID)(?:\s*,\s*(?:STRICT|WITHOUT\s+ROWID))*\s*(?=;|$)", re.IGNORECASE)
"""What a table is here anyway, and the parser does not know."""

_FIRST_TREE = 16
"""Trees below are the store's own."""

_LAST_TREE = 0xFEFF


class Column(msgspec.Struct, frozen=True):
    """One column. `required`: it is never NULL."""

    name: str
    kind: Kind
    required: bool = False
    default: str | int | None = None


class Index(msgspec.Struct, frozen=True):
    """Entries for the rows for which `where` holds (all without one), by the columns at these positions."""

    name: str
    tree: int
    columns: tuple[int, ...]
    unique: bool
    where: str = ""


class Table(msgspec.Struct, frozen=True):
    """A table, the positions of its key's columns and its indexes. `numbered`: a row without a key is given the next one."""

    name: str
    tree: int
    columns: tuple[Column, ...]
    key: tuple[int, ...]
    numbered: bool
    lasting: bool
    """A number is never given twice, even if the newest row was deleted (AUTOINCREMENT)."""
    indexes: tuple[Index, ...] = ()

    def position(self, name: str) -> int:
        """Where a column is. InvariantError if nowhere."""
        for position, column in enumerate(self.columns):
            if column.name == name:
                return position
        raise InvariantError(f"RocksDB refused a statement: no such column: {self.name}.{name}")


class Catalogue(msgspec.Struct, frozen=True):
    """All tables by name."""

    tables: dict[str, Table] = {}
    next_tree: int = _FIRST_TREE

    def table(self, name: str) -> Table:
        """A table. InvariantError if there is none of that name."""
        table = self.tables.get(name)
        if table is None:
            raise InvariantError(f"RocksDB refused a statement: no such table: {name}")
        return table

    def _with(self, table: Table, trees: int) -> Catalogue:
        if self.next_tree + trees > _LAST_TREE:
            raise InvariantError("the store has no room for another table")
        return Catalogue(self.tables | {table.name: table}, self.next_tree + trees)


def refused(node: exp.Expr | str, why: str = "") -> InvariantError:
    """The error for what this engine does not speak."""
    text = node if isinstance(node, str) else node.sql(dialect="postgres")
    return InvariantError(f"the RocksDB store does not speak this: {text[:400]}{why and f' ({why})'}")


def parsed(sql: str) -> tuple[exp.Expr, ...]:
    """The statements of a text. InvariantError if it is no SQL."""
    try:
        statements = sqlglot.parse(_OPTIONS.sub(")", named_sql(sql)), dialect="postgres")
    except sqlglot.errors.SqlglotError as error:
        raise InvariantError(f"RocksDB refused a statement: {str(error).splitlines()[0]}") from error
    return tuple(statement for statement in statements if statement is not None)


def only(node: exp.Expr, *allowed: str) -> None:
    """Refuse a node that says more than what is understood of it."""
    for name, value in node.args.items():
        if value and name not in allowed:
            raise refused(node, f"{type(node).__name__.lower()}: {name}")


def constant(node: exp.Expr) -> Value:
    """The value of a literal."""
    if isinstance(node, exp.Literal):
        return str(node.this) if node.is_string else _integer(node, 1)
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
        return _integer(node.this, -1)
    if isinstance(node, exp.HexString):
        return bytes.fromhex(str(node.this))
    if isinstance(node, exp.Null):
        return None
    raise refused(node, "not a constant")


def _integer(node: exp.Literal, sign: int) -> int:
    if not str(node.this).isdigit():
        raise refused(node, "not an integer")
    return sign * int(node.this)


def defined(catalogue: Catalogue, statement: exp.Expr) -> tuple[Catalogue, Table, Index | None] | None:
    """What a CREATE or ALTER makes of the catalogue, the table it changes, and the index that is to be filled.

    None for a statement that defines nothing, or something that is there already (IF NOT EXISTS).
    """
    if isinstance(statement, exp.Create) and statement.kind == "TABLE":
        return _create_table(catalogue, statement)
    if isinstance(statement, exp.Create) and statement.kind == "INDEX":
        return _create_index(catalogue, statement)
    if isinstance(statement, exp.Alter):
        return _add_column(catalogue, statement)
    if isinstance(statement, exp.Create):
        raise refused(statement)
    return None


def _create_table(catalogue: Catalogue, statement: exp.Create) -> tuple[Catalogue, Table, Index | None] | None:
    only(statement, "this", "kind", "exists", "properties")
    schema = statement.this
    if not isinstance(schema, exp.Schema):
        raise refused(statement)
    name = str(schema.this.name)
    if name in catalogue.tables:
        if statement.args.get("exists"):
            return None
        raise InvariantError(f"RocksDB refused a statement: table {name} exists already")
    columns: list[Column] = []
    key: tuple[str, ...] = ()
    uniques: list[tuple[str, ...]] = []
    lasting = False
    for part in schema.expressions:
        if isinstance(part, exp.ColumnDef):
            column, marks = _column(part)
            columns.append(column)
            key = (column.name,) if "primary" in marks else key
            uniques += [(column.name,)] if "unique" in marks else []
            lasting = lasting or "lasting" in marks
        elif isinstance(part, exp.PrimaryKey):
            key = _names(part.expressions)
        elif isinstance(part, exp.UniqueColumnConstraint) and isinstance(part.this, exp.Schema):
            uniques.append(_names(part.this.expressions))
        else:
            raise refused(part)
    if not key:
        raise refused(statement, "a table needs a primary key")
    columns = [msgspec.structs.replace(one, required=True) if one.name in key else one for one in columns]
    table = Table(name, catalogue.next_tree, tuple(columns), (), False, lasting)
    positions = tuple(map(table.position, key))
    numbered = len(positions) == 1 and columns[positions[0]].kind is Kind.INTEGER
    indexes = tuple(
        Index(f"{name}.{'.'.join(names)}", catalogue.next_tree + number, tuple(map(table.position, names)), True)
        for number, names in enumerate(uniques, 1)
    )
    table = msgspec.structs.replace(table, key=positions, numbered=numbered, indexes=indexes)
    return catalogue._with(table, 1 + len(indexes)), table, None


def _names(nodes: Iterable[Any]) -> tuple[str, ...]:
    return tuple(str(node.name) for node in nodes)


def _column(part: exp.ColumnDef) -> tuple[Column, set[str]]:
    kind = _TYPES.get(part.kind.this) if part.kind is not None else None
    if kind is None:
        raise refused(part, "types are INTEGER, TEXT and BLOB")
    marks: set[str] = set()
    default: Value = None
    for constraint in part.args.get("constraints") or ():
        what = constraint.kind
        if isinstance(what, exp.PrimaryKeyColumnConstraint):
            marks.add("primary")
        elif isinstance(what, exp.NotNullColumnConstraint) and not what.args.get("allow_null"):
            marks.add("required")
        elif isinstance(what, exp.UniqueColumnConstraint) and what.this is None:
            marks.add("unique")
        elif isinstance(what, exp.AutoIncrementColumnConstraint):
            marks.add("lasting")
        elif isinstance(what, exp.DefaultColumnConstraint):
            default = constant(what.this)
            if isinstance(default, bytes):
                raise refused(part, "a default is a text or an integer")
        else:
            raise refused(part)
    return Column(str(part.name), kind, "required" in marks, cast(str | int | None, default)), marks


def _create_index(catalogue: Catalogue, statement: exp.Create) -> tuple[Catalogue, Table, Index | None] | None:
    only(statement, "this", "kind", "exists", "unique")
    made = statement.this
    only(made, "this", "table", "params")
    parameters = made.args["params"]
    only(parameters, "columns", "where")
    name, table = str(made.name), catalogue.table(str(made.args["table"].name))
    if any(index.name == name for other in catalogue.tables.values() for index in other.indexes):
        if statement.args.get("exists"):
            return None
        raise InvariantError(f"RocksDB refused a statement: index {name} exists already")
    columns: list[int] = []
    for ordered in parameters.args["columns"]:
        if not isinstance(ordered.this, exp.Column) or ordered.args.get("desc"):
            raise refused(statement, "an index is over columns, ascending")
        columns.append(table.position(str(ordered.this.name)))
    where = parameters.args.get("where")
    text = "" if where is None else where.this.sql(dialect="postgres")
    index = Index(name, catalogue.next_tree, tuple(columns), bool(statement.args.get("unique")), text)
    table = msgspec.structs.replace(table, indexes=(*table.indexes, index))
    return catalogue._with(table, 1), table, index


def _add_column(catalogue: Catalogue, statement: exp.Alter) -> tuple[Catalogue, Table, Index | None]:
    only(statement, "this", "kind", "actions")
    table = catalogue.table(str(statement.this.name))
    columns = table.columns
    for action in statement.args["actions"]:
        if not isinstance(action, exp.ColumnDef):
            raise refused(statement)
        column, marks = _column(action)
        if marks - {"required"} or (column.required and column.default is None):
            raise refused(statement, "a column is added plain, and with a default if it may not be NULL")
        if any(one.name == column.name for one in columns):
            raise InvariantError(f"RocksDB refused a statement: {table.name} has a column {column.name} already")
        columns = (*columns, column)
    table = msgspec.structs.replace(table, columns=columns)
    return catalogue._with(table, 0), table, None
