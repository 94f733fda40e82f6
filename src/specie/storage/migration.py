"""Which migration steps a store still needs: pure.

Not the runner: each adapter applies the steps inside one transaction under its own lock, and keeps one row for each
applied step in the table `specie_schema`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from specie.kernel.errors import InvariantError
from specie.storage.errors import SchemaError
from specie.storage.ports import Migration

__all__ = ["Applied", "Dialect", "checksum", "pending_steps", "schema_label", "script"]

Dialect = Literal["sqlite", "postgres", "rocksdb"]

Applied = Mapping[tuple[str, int], str]
"""(room, version) -> checksum, as the store remembers it."""

_ROOM = re.compile(r"[a-z][a-z0-9_]{0,31}")


def script(migration: Migration, dialect: Dialect) -> str:
    """The SQL of a step in one dialect."""
    if dialect == "rocksdb" and migration.rocksdb is not None:
        return migration.rocksdb
    return migration.postgres if dialect == "postgres" else migration.sqlite


def checksum(sql: str) -> str:
    """SHA-256 (hex) of a script, blind to line ends, trailing blanks and blank lines around it."""
    text = "\n".join(line.rstrip() for line in sql.strip().splitlines())
    return hashlib.sha256(text.encode()).hexdigest()


def schema_label(applied: Applied) -> str:
    """The schema as one word for a file name: `ledger1-mint3`; an empty store is `empty`."""
    newest: dict[str, int] = {}
    for room, version in applied:
        newest[room] = max(version, newest.get(room, 0))
    return "-".join(f"{room}{newest[room]}" for room in sorted(newest)) or "empty"


def pending_steps(applied: Applied, migrations: Sequence[Migration], dialect: Dialect) -> list[Migration]:
    """The steps not yet applied, in the order given.

    A room the store knows and `migrations` does not is left alone: rooms may be brought up to date one at a time.

    Raises:
        SchemaError: the store has a version of a room that `migrations` does not reach, or a step whose script has changed.
        InvariantError: `migrations` itself is wrong (a gap, a repetition, an unusable room name).
    """
    newest: dict[str, int] = {}
    for step in migrations:
        if not _ROOM.fullmatch(step.room):
            raise InvariantError(f"{step.room!r} cannot name a room in the schema")
        if step.version != newest.get(step.room, 0) + 1:
            raise InvariantError(f"migrations of {step.room} must count 1, 2, 3 ... in order; {step.version} is out of line")
        newest[step.room] = step.version
    for room, version in applied:
        if room in newest and version > newest[room]:
            raise SchemaError(
                f"the store's schema is newer than this program: {room} is at {version}, known is {newest[room]}; "
                "run the program that wrote it, or restore the copy made before its migration"
            )
    pending: list[Migration] = []
    for step in migrations:
        stored = applied.get((step.room, step.version))
        if stored is None:
            pending.append(step)
        elif stored != checksum(script(step, dialect)):
            raise SchemaError(f"migration {step.version} of {step.room} was edited after it had been applied to this store")
    gaps = [step for step in pending if any(room == step.room and version > step.version for room, version in applied)]
    if gaps:
        raise SchemaError(f"the store lacks migration {gaps[0].version} of {gaps[0].room} but has a later one")
    return pending
