"""SQLite as a store: one file, one writer, group commit.

The writer thread owns the only connection that writes. It takes every body that waits, runs them in one transaction, writes
what they left to its end at once (`storage.deferred`), commits once, and answers all callers through one wake-up of their
loop. A batch in which a body fails after it wrote is undone and run again with a savepoint around each body: savepoints copy
every page that is touched, so they are not for the common case. Readers have their own threads and read-only connections and
never wait for it (WAL), and the log is moved into the database beside it (`sqlite_log`). Bodies run on those threads, without
an event loop.

It does not: keep a second owner out (the lock file of `app` does), or carry notices to other processes.

Fate of a commit: a commit that SQLite refuses (disk full, lock) is rolled back, for certain: UnavailableError. An IO error
*during* the commit is UncertainError: its frames may be in the log and come back after a crash before the next commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, cast

import apsw

from specie.kernel.errors import InvariantError, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.storage.adapters.embedded import EmbeddedStorage
from specie.storage.adapters.jobs import Job
from specie.storage.adapters.sqlite_file import backup_file, open_connection, prepare_file
from specie.storage.adapters.sqlite_log import LogMover
from specie.storage.adapters.sqlite_thread import Reader
from specie.storage.adapters.sqlite_transaction import SqliteTransaction, translated
from specie.storage.deferred import Deferred, RerunError
from specie.storage.migration import checksum, pending_steps, schema_label
from specie.storage.ports import Body, Migration

__all__ = ["SqliteStorage"]

T = TypeVar("T")

_CREATE_SCHEMA = """CREATE TABLE IF NOT EXISTS specie_schema (
    room TEXT NOT NULL, version INTEGER NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL DEFAULT (unixepoch()),
    PRIMARY KEY (room, version)) STRICT, WITHOUT ROWID"""

_BUSY_ATTEMPTS = 3
"""BEGIN IMMEDIATE can be refused without the busy timeout having been waited out (log recovery by another process)."""


class SqliteStorage(EmbeddedStorage):
    """The `Storage` port on one SQLite file.

    Args:
        path: the database file; it and its directory are made if missing (0600 and 0700). `:memory:` only with `inline`.
        synchronous: `FULL` makes a commit durable against loss of power; `NORMAL` only against the death of the process.
        inline: no threads; each body runs and commits at once on the calling thread. For the simulator and for tools.
        readers: threads that read.
        max_queue: bodies that may wait before `transact` and `read` answer UnavailableError.
        max_batch: bodies in one commit.
        busy_timeout_s: how long to wait for another process that writes.
        listener_bound: notices a listener may have waiting before it loses the oldest.
        key: 32 bytes that encrypt the file, its log and its copies; None for an unencrypted store.

    Raises:
        RefusedError: the file is not a database, or not one of this key.
        UnavailableError: it cannot be opened.
    """

    engine = "sqlite"

    def __init__(
        self,
        path: Path | str,
        *,
        synchronous: Literal["FULL", "NORMAL", "OFF"] = "FULL",
        inline: bool = False,
        readers: int = 2,
        max_queue: int = 4096,
        max_batch: int = 128,
        busy_timeout_s: float = 10.0,
        listener_bound: int = 1024,
        key: bytes | None = None,
    ) -> None:
        if str(path) == ":memory:" and not inline:
            raise InvariantError("a store in memory has one connection, so it must be inline")
        super().__init__(inline=inline, max_queue=max_queue, listener_bound=listener_bound)
        self._path = Path(path) if str(path) != ":memory:" else None
        self._key = key
        if self._path is not None:
            prepare_file(self._path)
        busy_ms = int(busy_timeout_s * 1000)
        self._connection = open_connection(self._path, busy_ms, synchronous=synchronous, key=key)
        self._cursor = self._connection.cursor()
        self._others: list[apsw.Connection] = []
        self._log: LogMover | None = None
        if inline:
            return
        self._others = [open_connection(self._path, busy_ms, reader=True, key=key) for _ in range(max(1, readers))]
        for connection in self._others:
            self._start_reader(Reader(connection).run)
        self._start_writer(max_batch, self._run_batch)
        mover = open_connection(self._path, busy_ms, synchronous=synchronous, key=key)
        self._others.append(mover)
        self._log = LogMover(self._connection, mover, lambda act: self._put(self._writes, act))

    # The port

    async def migrate(self, migrations: Sequence[Migration]) -> list[Migration]:
        """Bring the schema up to date, all steps in one transaction that keeps every other writer out.

        A store with any step applied is first copied beside itself: `<name>.<schema>.<UTC>.backup`, mode 0600.

        Raises:
            SchemaError: a newer schema, or a changed checksum.
            UnavailableError: disk full, file locked; nothing was changed.
            InvariantError: the steps themselves are wrong.
        """
        return await self._alone(lambda: self._migrate(migrations))

    async def backup(self, target: Path) -> None:
        """Write a consistent copy to the new file `target` (0600) while in use; a single file, complete or absent.

        Raises:
            RefusedError: `target` exists.
            UnavailableError: the copy failed; nothing is left behind.
        """
        self._check_open()
        if self._inline or self._path is None:
            backup_file(self._connection, target, key=self._key)
            return
        path, key = self._path, self._key

        def copy() -> None:
            connection = open_connection(path, 10_000, reader=True, key=key)
            try:
                backup_file(connection, target, key=key)
            finally:
                connection.close()

        await asyncio.to_thread(copy)

    def _let_go(self) -> None:
        if self._log is not None:
            self._log.close()
        for connection in self._others:
            connection.close()
        self._connection.close()

    # The writer; `_begin` and `_commit` are where a simulator's store dies.

    def _begin(self) -> None:
        """Take the write lock."""
        for attempt in range(1, _BUSY_ATTEMPTS + 1):
            try:
                self._cursor.execute("BEGIN IMMEDIATE")
            except apsw.BusyError:
                if attempt == _BUSY_ATTEMPTS:
                    raise
            else:
                return

    def _commit(self) -> None:
        """Make the open transaction durable."""
        self._cursor.execute("COMMIT")

    def _undo(self) -> None:
        self._rollback()

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            self._cursor.execute("ROLLBACK")

    def _committed(self) -> SpecieError | None:
        """Commit and count; or the reason why not, rolled back."""
        try:
            self._commit()
        except apsw.Error as error:
            with contextlib.suppress(apsw.Error):
                self._rollback()
            if isinstance(error, apsw.IOError):
                return UncertainError(f"the disk failed during a commit: {error}")
            return translated(error)
        self._commits += 1
        return None

    def _run_batch(self, jobs: list[Job]) -> None:
        """Run, commit and answer; whatever happens, every job is answered."""
        notices: list[tuple[str, str]] = []
        try:
            self._write_batch(jobs, notices)
        except BaseException as error:
            with contextlib.suppress(apsw.Error):
                self._rollback()
            notices.clear()
            told = translated(error) if isinstance(error, apsw.Error) else error
            for job in jobs:
                job.error = told
                job.result = None
        self._bodies += len(jobs)
        self._answer(jobs, notices)

    def _attempt(self, jobs: list[Job], notices: list[tuple[str, str]], deferred: Deferred | None) -> None:
        """Run and commit all, with what may wait collected in `deferred`; without it each in its savepoint. RerunError."""
        cursor, connection = self._cursor, self._connection
        self._begin()
        several, changed, batch = deferred is None and len(jobs) > 1, False, deferred or Deferred()
        for job in jobs:
            if job.future.cancelled():
                continue
            job.error = job.result = None
            transaction = SqliteTransaction(connection, cursor, deferred)
            if several:
                cursor.execute("SAVEPOINT body")
            try:
                job.result = transaction.run(job.body)
            except RerunError:
                raise
            except BaseException as error:
                if transaction.wrote and len(jobs) > 1:
                    raise RerunError from None
                job.error = error
                if several and connection.in_transaction:
                    cursor.execute("ROLLBACK TO body")
            else:
                changed = True
                batch.take(transaction.mine)
                if transaction.notices is not None:
                    notices += transaction.notices
            if several and connection.in_transaction:
                cursor.execute("RELEASE body")
            if not connection.in_transaction:  # some failures (disk full, IO) undo everything, with or without a savepoint
                raise UnavailableError("SQLite undid the whole transaction") from job.error
        if not changed:
            self._rollback()
            return
        self._finish(batch)
        failure = self._committed()
        if failure is not None:
            notices.clear()
            for job in jobs:  # even one that was refused: it may have been refused for what another of the batch wrote
                job.error = failure

    def _finish(self, batch: Deferred) -> None:
        """Write what the bodies left to the end. RerunError if a key of it is taken."""
        SqliteTransaction(self._connection, self._cursor, batch).flush()
        for tally, sums in batch.sums():
            SqliteTransaction(self._connection, self._cursor).run(partial(tally.write, sums=sums))

    # Inline

    def _transact_inline(self, body: Body[T]) -> T:
        try:
            result, notices = self._attempt_inline(body, Deferred())
        except RerunError:
            result, notices = self._attempt_inline(body, None)
        self._inside = False  # a listener may go on at once
        self._publish(notices)
        return result

    def _attempt_inline(self, body: Body[T], deferred: Deferred | None) -> tuple[T, list[tuple[str, str]]]:
        transaction = SqliteTransaction(self._connection, self._cursor, deferred)
        try:
            self._begin()
        except apsw.Error as error:
            raise translated(error) from error
        try:
            result = transaction.run(body)
            if not self._connection.in_transaction:
                raise InvariantError("a body ended the transaction it was given")
            batch = deferred or Deferred()
            batch.take(transaction.mine)
            self._finish(batch)
        except BaseException:
            with contextlib.suppress(apsw.Error):
                self._rollback()
            raise
        finally:
            self._bodies += 1
        try:
            failure = self._committed()
        except BaseException:
            self._rollback()
            raise
        if failure is not None:
            raise failure
        return result, transaction.notices or []

    def _read_inline(self, body: Body[T]) -> T:
        try:
            self._cursor.execute("PRAGMA query_only = 1; BEGIN")
        except apsw.Error as error:
            raise translated(error) from error
        try:
            return SqliteTransaction(self._connection, self._cursor).run(body)
        finally:
            self._rollback()
            self._cursor.execute("PRAGMA query_only = 0")

    # Schema

    def _migrate(self, migrations: Sequence[Migration]) -> list[Migration]:
        try:
            self._begin()
            self._cursor.execute(_CREATE_SCHEMA)
            known = self._cursor.execute("SELECT room, version, checksum FROM specie_schema").fetchall()
            applied: dict[tuple[str, int], str] = {(row[0], row[1]): row[2] for row in cast(list[tuple[str, int, str]], known)}
            steps = pending_steps(applied, migrations, "sqlite")
            if steps and applied:
                self._copy_beside(schema_label(applied))
            for step in steps:
                self._cursor.execute(step.sqlite)
                if not self._connection.in_transaction:
                    raise InvariantError(f"migration {step.version} of {step.room} ends the transaction it runs in")
                self._cursor.execute(
                    "INSERT INTO specie_schema (room, version, checksum) VALUES (?1, ?2, ?3)",
                    (step.room, step.version, checksum(step.sqlite)),
                )
            self._commit()
        except BaseException as error:
            with contextlib.suppress(apsw.Error):
                self._rollback()
            if isinstance(error, apsw.Error):
                raise translated(error) from error
            raise
        return steps

    def _copy_beside(self, label: str) -> None:
        """Copy the store as it was before this transaction (its own connection sees nothing of ours yet)."""
        if self._path is None:
            return
        moment = self._cursor.execute("SELECT strftime('%Y%m%dT%H%M%SZ', 'now')").fetchall()[0][0]
        connection = open_connection(self._path, 10_000, reader=True, key=self._key)
        try:
            for attempt in range(100):
                more = f"-{attempt}" if attempt else ""
                target = self._path.with_name(f"{self._path.name}.{label}.{moment}{more}.backup")
                if not os.path.lexists(target):
                    backup_file(connection, target, key=self._key)
                    return
            raise RefusedError("no free name for the copy of the store")
        finally:
            connection.close()
