"""RocksDB as a store: one directory, one owner, one writer, group commit.

Written for a mint's spent set: rows under random keys cost a log-structured store an append, where a tree of pages rewrites a
page for each. The writer thread takes every body that waits, runs each over the same overlay of the database, where the
changes of one that raises are taken back alone, writes the rest as one batch, durable at once, and answers all callers through
one wake-up of their loop. Readers have their own threads and read snapshots; they never wait for the writer.

It does not: share a directory with another process (RocksDB's own lock refuses that), carry notices to other processes, or
encrypt anything.

Fate of a commit: where writing a batch fails, its bytes may be in the log and come back when the store is opened again. That
is UncertainError, and the store refuses every further body, reading ones too, until it was opened anew, for only that decides
what stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from rocksdict import Rdict, WriteBatch

from specie.kernel.errors import InvariantError, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.storage.adapters.embedded import EmbeddedStorage
from specie.storage.adapters.jobs import Job, answer
from specie.storage.adapters.rocks_file import backup_directory, commit_options, open_database
from specie.storage.adapters.rocks_schema import Catalogue, defined, parsed
from specie.storage.adapters.rocks_sql import Plans
from specie.storage.adapters.rocks_transaction import RocksTransaction, translated
from specie.storage.adapters.rocks_view import Overlay, Snapshot
from specie.storage.deferred import Deferred, RerunError
from specie.storage.migration import Applied, checksum, pending_steps, schema_label, script
from specie.storage.ports import Body, Migration

__all__ = ["RocksStorage"]

T = TypeVar("T")

_CATALOGUE = b"\x00\x00catalogue"

_SCHEMA = """CREATE TABLE IF NOT EXISTS specie_schema (
    room TEXT NOT NULL, version INTEGER NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL,
    PRIMARY KEY (room, version))"""


class RocksStorage(EmbeddedStorage):
    """The `Storage` port on one RocksDB directory.

    Args:
        path: the directory; it is made if missing (0700).
        sync: a commit is durable against loss of power; without it only against the death of the process.
        inline: no threads; each body runs and commits at once on the calling thread. For the simulator and for tools.
        readers: threads that read.
        max_queue: bodies that may wait before `transact` and `read` answer UnavailableError.
        max_batch: bodies in one commit.
        listener_bound: notices a listener may have waiting before it loses the oldest.

    Raises:
        StoreInUseError: somebody has the directory open.
        RefusedError: it holds something else.
        UnavailableError: it cannot be opened.
    """

    engine = "rocksdb"

    def __init__(
        self,
        path: Path | str,
        *,
        sync: bool = True,
        inline: bool = False,
        readers: int = 2,
        max_queue: int = 4096,
        max_batch: int = 128,
        listener_bound: int = 1024,
    ) -> None:
        super().__init__(inline=inline, max_queue=max_queue, listener_bound=listener_bound)
        self._path = Path(path)
        self._database: Rdict = open_database(self._path)
        self._commit_options = commit_options(sync=sync)
        self._broken: SpecieError | None = None
        self._schema_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        stored = self._database.get(_CATALOGUE)
        self._plans = Plans(Catalogue() if stored is None else msgspec.msgpack.decode(stored, type=Catalogue))
        if inline:
            return
        for _ in range(max(1, readers)):
            self._start_reader(self._run_reads)
        self._start_writer(max_batch, self._run_batch)

    # The port

    async def migrate(self, migrations: Sequence[Migration]) -> list[Migration]:
        """Bring the schema up to date, all steps in one batch; their SQL is that of SQLite.

        A store with any step applied is first copied beside itself: `<name>.<schema>.<UTC>.backup`, mode 0700.

        Raises:
            SchemaError: a newer schema, or a changed checksum.
            UnavailableError: the disk refuses; nothing was changed.
            InvariantError: the steps themselves are wrong, or say something this engine does not speak.
        """
        return await self._alone(lambda: self._migrate(migrations))

    async def backup(self, target: Path) -> None:
        """Write a consistent copy to the new directory `target` (0700) while in use, complete or absent; it opens as a store.

        Raises:
            RefusedError: `target` exists.
            UnavailableError: the copy failed; nothing is left behind.
        """
        self._check_open()
        if self._inline:
            backup_directory(self._database, target)
        else:
            await asyncio.to_thread(backup_directory, self._database, target)

    def _let_go(self) -> None:
        with contextlib.suppress(Exception):  # it tidies up and closes; what was acknowledged is in the log already
            self._database.close()

    # The writer; `_commit` is where a simulator's store dies.

    def _commit(self, batch: WriteBatch) -> None:
        """Make a batch durable."""
        self._database.write(batch, self._commit_options)

    def _committed(self, batch: WriteBatch) -> SpecieError | None:
        """Commit and count; or the reason why that is not certain. What writes nothing needs no commit."""
        if batch.is_empty():
            return None
        try:
            with self._commit_lock:
                self._commit(batch)
        except Exception as error:
            self._broken = UnavailableError("a commit failed, and the store must be opened again: stop and start")
            return UncertainError(f"the disk failed during a commit: {error}")
        self._commits += 1
        return None

    def _run_batch(self, jobs: list[Job]) -> None:
        """Run, commit and answer; whatever happens, every job is answered."""
        notices: list[tuple[str, str]] = []
        try:
            self._write_batch(jobs, notices)
        except BaseException as error:
            notices.clear()
            told = translated(error) if isinstance(error, Exception) else error
            for job in jobs:
                job.error, job.result = told, None
        self._bodies += len(jobs)
        self._answer(jobs, notices)

    def _undo(self) -> None:
        """Nothing: what an attempt writes is its own until the commit."""

    def _attempt(self, jobs: list[Job], notices: list[tuple[str, str]], deferred: Deferred | None) -> None:
        if self._broken is not None:
            raise self._broken
        overlay, batch = Overlay(self._database), deferred or Deferred()
        succeeded = False
        for job in jobs:
            if job.future.cancelled():
                continue
            job.error = job.result = None
            transaction = RocksTransaction(overlay, self._plans, deferred)
            try:
                job.result = transaction.run(job.body)
            except RerunError:
                raise
            except BaseException as error:
                job.error = error
                overlay.undo()
            else:
                overlay.keep()
                batch.take(transaction.mine)
                succeeded = True
                if transaction.notices is not None:
                    notices += transaction.notices
        if not succeeded:
            return
        RocksTransaction(overlay, self._plans, batch).flush()
        self._add_up(overlay, batch)
        failure = self._committed(overlay.batch())
        if failure is not None:
            notices.clear()
            for job in jobs:  # even one that was refused: it may have been refused for what another of the batch wrote
                job.error = failure

    def _add_up(self, overlay: Overlay, batch: Deferred) -> None:
        """Write the sums that the bodies left to the end."""
        for tally, sums in batch.sums():
            RocksTransaction(overlay, self._plans).run(partial(tally.write, sums=sums))

    def _run_reads(self, jobs: list[Job]) -> None:
        """All bodies that are taken at a time share one snapshot."""
        try:
            plans, snapshot = self._moment()
            for job in jobs:
                try:
                    job.result = RocksTransaction(snapshot, plans).run(job.body)
                except BaseException as error:
                    job.error = error
        except Exception as error:
            for job in jobs:
                job.error = job.error or translated(error)
        answer(jobs)

    def _moment(self) -> tuple[Plans, Snapshot]:
        """The schema and the data of one moment."""
        if self._broken is not None:
            raise self._broken
        with self._schema_lock:
            return self._plans, Snapshot(self._database, self._commit_lock)

    # Inline

    def _transact_inline(self, body: Body[T]) -> T:
        if self._broken is not None:
            raise self._broken
        overlay = Overlay(self._database)
        transaction = RocksTransaction(overlay, self._plans)
        try:
            result = transaction.run(body)
        finally:
            self._bodies += 1
        self._add_up(overlay, transaction.mine)
        failure = self._committed(overlay.batch())
        if failure is not None:
            raise failure
        self._inside = False  # a listener may go on at once
        self._publish(transaction.notices or ())
        return result

    def _read_inline(self, body: Body[T]) -> T:
        plans, snapshot = self._moment()
        return RocksTransaction(snapshot, plans).run(body)

    # Schema

    def _migrate(self, migrations: Sequence[Migration]) -> list[Migration]:
        if self._broken is not None:
            raise self._broken
        overlay = Overlay(self._database)
        try:
            plans = _defined(self._plans, overlay, _SCHEMA)
            applied = _applied(plans, overlay)
            steps = pending_steps(applied, migrations, "rocksdb")
            if not steps and plans is self._plans:
                return []
            if steps and applied:
                self._copy_beside(schema_label(applied))
            now = int(datetime.now(UTC).timestamp())
            for step in steps:
                sql_of_step = script(step, "rocksdb")
                plans = _defined(plans, overlay, sql_of_step)
                sql = "INSERT INTO specie_schema (room, version, checksum, applied_at) VALUES ($1, $2, $3, $4)"
                _ran(plans, overlay, sql, step.room, step.version, checksum(sql_of_step), now)
            overlay.put(_CATALOGUE, msgspec.msgpack.encode(plans.catalogue))
        except Exception as error:
            raise translated(error) from error
        with self._schema_lock:
            failure = self._committed(overlay.batch())
            if failure is not None:
                raise failure
            self._plans = plans
        return steps

    def _copy_beside(self, label: str) -> None:
        """Copy the store as it is before this migration."""
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        for attempt in range(100):
            more = f"-{attempt}" if attempt else ""
            target = self._path.with_name(f"{self._path.name}.{label}.{moment}{more}.backup")
            if not target.exists():
                backup_directory(self._database, target)
                return
        raise RefusedError("no free name for the copy of the store")


def _defined(plans: Plans, overlay: Overlay, script: str) -> Plans:
    """Run a script of a migration: what it defines, and what it writes."""
    for statement in parsed(script):
        made = defined(plans.catalogue, statement)
        if made is not None:
            catalogue, table, index = made
            plans = Plans(catalogue)
            if index is not None:
                plans.relation(table.name).fill(overlay, index)
        elif statement.key in ("insert", "update", "delete"):
            plans.planned(statement)(overlay, (None,))
        elif statement.key != "create":  # what is created there already was asked for with IF NOT EXISTS
            raise InvariantError(f"a migration does not say this: {statement.key}")
    return plans


def _ran(plans: Plans, overlay: Overlay, sql: str, *values: Any) -> list[Any]:
    rows, _changed = plans.statement(sql).plan(overlay, (None, *values))
    return rows


def _applied(plans: Plans, overlay: Overlay) -> Applied:
    rows = _ran(plans, overlay, "SELECT room, version, checksum FROM specie_schema")
    return {(row[0], row[1]): row[2] for row in rows}
