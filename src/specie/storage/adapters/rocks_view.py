"""What a body sees of the store: ordered bytes, as committed, and under the writer what was written since.

`Snapshot` is for readers: one moment, no writing. `Overlay` is the writer's: the changes of a batch lie in memory over the
database, each body's can be taken back without touching those of others, and all of them are committed at once.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, Protocol

from rocksdict import Rdict, RdictIter, WriteBatch

from specie.kernel.errors import InvariantError

__all__ = ["ABSENT", "PREFIX_BYTES", "Overlay", "Snapshot", "View", "Writes"]

PREFIX_BYTES: Final = 2
"""Every key begins with the number of the tree it belongs to: a table or an index."""

_ATTEMPTS = 16
"""To look at the store while nothing is committed; a look takes some microseconds, a commit hundreds."""

_CHUNK = 32
_CHUNK_MOST = 2048

ABSENT: Final = object()
"""What `Writes` gives for a key that was not written."""


class Writes:
    """What a batch wrote to one tree: value by key, None where the key was deleted."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: dict[bytes, bytes | None] = {}

    def between(self, start: bytes, end: bytes, *, backwards: bool) -> list[tuple[bytes, bytes | None]]:
        """The changes in a range, in order."""
        values = self.values
        return [(key, values[key]) for key in sorted((key for key in values if start <= key < end), reverse=backwards)]


Log = list[tuple[dict[bytes, bytes | None], bytes, Any]]
"""Changes of a body: where, which key, and what was there before."""


class View(Protocol):
    """Ordered bytes. A range is from `start` up to but not including `end`."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        ...

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values of keys, in their order."""
        ...

    def scan(self, start: bytes, end: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a range inside one tree, ascending or descending."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove a key."""
        ...

    @property
    def log(self) -> Log:
        """What the body changed and what was there before; whoever writes past `put` keeps it."""
        ...

    def keep(self) -> None:
        """What was written so far stays, whatever becomes of the body."""
        ...

    def tree(self, prefix: bytes) -> Writes:
        """What was written to a tree and is not committed; for `Relation.insert`, which must be quick."""
        ...

    def stored(self, keys: list[bytes]) -> list[bytes | None]:
        """The committed values of keys, whatever was written since."""
        ...


def _range(found: RdictIter, start: bytes, end: bytes, backwards: bool) -> Iterator[tuple[bytes, bytes]]:
    """A range; a failing disk raises and never looks like the end. Bounds in `ReadOptions` are not for keys as they are."""
    if start >= end:
        return
    valid, key, value = found.valid, found.key, found.value
    if backwards:
        found.seek_for_prev(end)
        if valid() and key() == end:
            found.prev()
        while valid() and (at := key()) >= start:
            yield at, value()
            found.prev()
    else:
        found.seek(start)
        while valid() and (at := key()) < end:
            yield at, value()
            found.next()
    found.status()


class Snapshot:
    """The store at one moment, for the bodies that one thread reads with.

    The library's snapshots know that moment for single keys, but iterators made from them do not (rocksdict 0.3.29); an
    iterator of the database shows the moment it was made. So both are made while nothing was committed, and one iterator
    serves all ranges, a chunk at a time.
    """

    __slots__ = ("_database", "_iterator", "_moment", "_snapshot")

    def __init__(self, database: Rdict, commits: threading.Lock) -> None:
        self._database = database
        for _ in range(_ATTEMPTS):
            if self._taken(database):
                return
        with commits:  # what is committed meanwhile waits, for once
            self._taken(database)

    def _taken(self, database: Rdict) -> bool:
        before = self._moment = database.latest_sequence_number()
        self._snapshot = database.snapshot()
        self._iterator = database.iter()
        return database.latest_sequence_number() == before

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes = self._snapshot[key]
        except Exception as error:
            if error.args == ("key not found",):  # the library has no other way to say so
                return None
            raise
        return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        if len(keys) > 1:
            found: list[bytes | None] = self._database.get(keys)  # type: ignore[arg-type, assignment]  # invariant list
            if self._database.latest_sequence_number() == self._moment:  # nothing was committed since
                return found
        return [self.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        size = _CHUNK
        while True:
            chunk = list(islice(_range(self._iterator, start, end, backwards), size))
            yield from chunk
            if len(chunk) < size:
                return
            if backwards:
                end = chunk[-1][0]
            else:
                start = chunk[-1][0] + b"\x00"
            size = min(size * 4, _CHUNK_MOST)

    def put(self, key: bytes, value: bytes) -> None:
        raise InvariantError("a body that only reads has tried to write")

    def delete(self, key: bytes) -> None:
        raise InvariantError("a body that only reads has tried to write")

    @property
    def log(self) -> Log:
        raise InvariantError("a body that only reads has tried to write")

    def keep(self) -> None:
        """Nothing: a body that only reads leaves nothing."""

    def tree(self, prefix: bytes) -> Writes:
        raise InvariantError("a body that only reads has tried to write")

    def stored(self, keys: list[bytes]) -> list[bytes | None]:
        return self.get_many(keys)


class Overlay:
    """The database as a batch of bodies sees it, for the one thread that writes."""

    __slots__ = ("_database", "_trees", "log")

    def __init__(self, database: Rdict) -> None:
        self._database = database
        self._trees: dict[bytes, Writes] = {}
        self.log: Log = []

    def tree(self, prefix: bytes) -> Writes:
        tree = self._trees.get(prefix)
        if tree is None:
            tree = self._trees[prefix] = Writes()
        return tree

    def get(self, key: bytes) -> bytes | None:
        tree = self._trees.get(key[:PREFIX_BYTES])
        if tree is not None:
            value = tree.values.get(key, ABSENT)
            if value is not ABSENT:
                return value  # type: ignore[return-value]
        return self._database.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        found = self.stored(keys)
        tree = self._trees.get(keys[0][:PREFIX_BYTES])
        if tree is None:
            return found
        values = tree.values
        return [values.get(key, value) for key, value in zip(keys, found, strict=True)]

    def stored(self, keys: list[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        found: list[bytes | None] = self._database.get(keys)  # type: ignore[arg-type, assignment]  # invariant list
        return found

    def scan(self, start: bytes, end: bytes, *, backwards: bool = False) -> Iterator[tuple[bytes, bytes]]:
        stored = _range(self._database.iter(), start, end, backwards)
        tree = self._trees.get(start[:PREFIX_BYTES])
        changed = [] if tree is None else tree.between(start, end, backwards=backwards)
        return _merged(stored, changed, backwards) if changed else stored

    def put(self, key: bytes, value: bytes | None) -> None:
        values = self.tree(key[:PREFIX_BYTES]).values
        self.log.append((values, key, values.get(key, ABSENT)))
        values[key] = value

    def delete(self, key: bytes) -> None:
        self.put(key, None)

    def undo(self) -> None:
        """Take back what was written since the last `keep`."""
        for values, key, before in reversed(self.log):
            if before is ABSENT:
                del values[key]
            else:
                values[key] = before
        self.log.clear()

    def keep(self) -> None:
        """What was written since the last time stays."""
        self.log.clear()

    def batch(self) -> WriteBatch:
        """All that was written, ready to be committed."""
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for tree in self._trees.values():
            for key, value in tree.values.items():
                if value is None:
                    delete(key)
                else:
                    put(key, value)
        return batch


def _merged(
    stored: Iterator[tuple[bytes, bytes]], changed: list[tuple[bytes, bytes | None]], backwards: bool
) -> Iterator[tuple[bytes, bytes]]:
    """A range with its changes: where both have a key, the change counts."""
    latest: bytes | None = None
    both: Iterator[tuple[bytes, bytes | None]] = heapq.merge(changed, stored, key=lambda pair: pair[0], reverse=backwards)
    for key, value in both:  # of equal keys that of the first source comes first
        if key != latest and value is not None:
            yield key, value
        latest = key
