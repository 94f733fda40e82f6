"""PostgreSQL as a store: several processes on one database, group commit in each.

Some writer tasks, each with a connection of its own, share the bodies that wait and commit many in one transaction (READ
COMMITTED). What a body leaves to the end (`storage.deferred`) is written for all of them at once; a body with statements of its
own has a savepoint when there are several. When the server undoes such a transaction for the sake of another
one, its bodies are run again one by one. Reads run at once on a pool of connections, each on one snapshot. Notices travel by
LISTEN/NOTIFY over one channel of the server, on a connection that is always there; while it is being renewed notices are
missed, so a listener must also look by itself now and then. Identical notices of one commit may be heard once.

It does not back up (`pg_dump` does) nor fail over. TLS is part of the DSN (`sslmode=verify-full`).

Fate of a commit: if the connection breaks before COMMIT was sent, nothing happened: UnavailableError. If it breaks while
COMMIT is under way, nobody knows: UncertainError.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import asyncpg

from specie.kernel.errors import InvariantError, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.storage.adapters.broadcast import Broadcast, Listener
from specie.storage.adapters.postgres_connection import PostgresReaders, PostgresServer, command, let_go, rollback
from specie.storage.adapters.postgres_listener import CHANNEL, PostgresEar
from specie.storage.adapters.postgres_transaction import Columns, ConflictError, LostError, PostgresTransaction, translated
from specie.storage.deferred import Deferred, RerunError
from specie.storage.migration import checksum, pending_steps
from specie.storage.ports import Body, Migration, StorageStatus, Transaction

__all__ = ["PostgresStorage"]

T = TypeVar("T")

Connection = Any

_CREATE_SCHEMA = """CREATE TABLE IF NOT EXISTS specie_schema (
    room TEXT NOT NULL, version BIGINT NOT NULL, checksum TEXT NOT NULL,
    applied_at BIGINT NOT NULL DEFAULT extract(epoch FROM now())::bigint, PRIMARY KEY (room, version))"""

_MIGRATION_LOCK = int.from_bytes(b"specie\x00\x01", "big")
"""Key of the advisory lock under which one process at a time migrates."""

_NOTIFY = "SELECT pg_notify($1, notice) FROM unnest($2::text[]) AS notice"

_BATCH_LOCK_WAIT_MS = 250
"""How long a body of a batch waits for a lock. Two batches can block each other over pairs of rows that no two bodies would;
the server finds that out after a second, and everybody in the batch would wait."""

_CAREFUL_BATCHES = 16
"""Batches that put nothing off after one that had to be run again: whoever sends what is taken, sends more."""

_LEAST_SHARE = 8
"""A writer takes this many bodies if they are there, even if other writers are idle."""

_CLOSED = "the store is closed"


class _Job:
    """A body that waits, its caller's future, and what became of it."""

    __slots__ = ("body", "error", "future", "result")

    def __init__(self, body: Body[Any], future: asyncio.Future[Any]) -> None:
        self.body = body
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        self.result, self.error = None, error

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class PostgresStorage:
    """The `Storage` port on a PostgreSQL database; made by `connect`."""

    def __init__(
        self,
        dsn: str,
        *,
        writers: int,
        readers: int,
        max_queue: int,
        max_batch: int,
        attempts: int,
        statement_timeout_s: float,
        connect_timeout_s: float,
        listener_bound: int,
        telemetry: Telemetry,
    ) -> None:
        self._server = PostgresServer(dsn, statement_timeout_s, connect_timeout_s)
        self._writers = writers
        self._max_queue = max_queue
        self._max_batch = max_batch
        self._attempts = attempts
        self._telemetry = telemetry
        self._queue: deque[_Job] = deque()
        self._columns = Columns()
        self._careful = 0
        self._idle: deque[asyncio.Future[None]] = deque()
        self._busy = 0
        self._commits = 0
        self._bodies = 0
        self._closing = False
        self._broadcast = Broadcast(listener_bound)
        self._readers = PostgresReaders(self._server, readers)
        self._tasks: list[asyncio.Task[None]] = []
        self._ear = PostgresEar(self._server, self._broadcast, telemetry)
        self._hearing: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        writers: int = 4,
        readers: int = 8,
        max_queue: int = 4096,
        max_batch: int = 64,
        attempts: int = 8,
        statement_timeout_s: float = 30.0,
        connect_timeout_s: float = 10.0,
        listener_bound: int = 1024,
        telemetry: Telemetry = NULL_TELEMETRY,
    ) -> PostgresStorage:
        """A store on the database `dsn` names (`postgresql://user:password@host:port/name?sslmode=verify-full`).

        Args:
            dsn: where; never appears in an error.
            writers: connections that commit, at the same time.
            readers: connections that read.
            max_queue: bodies that may wait before `transact` answers UnavailableError.
            max_batch: bodies in one commit; beyond 64 savepoints the server slows down.
            attempts: times a body is run when the server undoes it for the sake of another.
            statement_timeout_s: for one statement, and for the commit.
            connect_timeout_s: for one connection, and for a free reader.
            listener_bound: notices a listener may have waiting before it loses the oldest.
            telemetry: told when a batch is run again and when the listening connection breaks.

        Raises:
            RefusedError: the DSN does not parse, or the server does not let us in.
            UnavailableError: the server does not answer.
        """
        store = cls(
            dsn,
            writers=max(1, writers),
            readers=max(1, readers),
            max_queue=max_queue,
            max_batch=max(1, max_batch),
            attempts=max(1, attempts),
            statement_timeout_s=statement_timeout_s,
            connect_timeout_s=connect_timeout_s,
            listener_bound=listener_bound,
            telemetry=telemetry,
        )
        await store._start()
        return store

    async def _start(self) -> None:
        heard = asyncio.Event()
        first = await self._server.open()
        self._hearing = asyncio.create_task(self._ear.run(first, heard), name="specie-listen")
        self._tasks = [asyncio.create_task(self._write(n), name=f"specie-write-{n}") for n in range(self._writers)]
        await heard.wait()

    # The port

    async def transact(self, body: Body[T]) -> T:
        """Run `body` in a transaction and return its result once that is durable.

        If the caller is cancelled the body may still commit; nobody gets its result.
        """
        if self._closing:
            raise UnavailableError(_CLOSED)
        if len(self._queue) >= self._max_queue:
            raise UnavailableError("too many transactions are waiting", retry_after_s=1.0)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._queue.append(_Job(body, future))
        self._wake()
        result: T = await future
        return result

    async def read(self, body: Body[T]) -> T:
        """Run `body` on one consistent snapshot; it may not write. Never waits for writers."""
        for attempt in range(1, self._attempts + 1):
            if self._closing:
                raise UnavailableError(_CLOSED)
            try:
                return await self._read_once(body)
            except ConflictError:
                if attempt == self._attempts:
                    raise
        raise UnavailableError("the read was undone too often")

    async def _read_once(self, body: Body[T]) -> T:
        connection = await self._readers.take()
        try:
            await command(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return await PostgresTransaction(connection, self._columns).run(body)
        except LostError:
            connection.terminate()
            raise
        finally:
            await self._readers.give(connection)

    async def migrate(self, migrations: Sequence[Migration]) -> list[Migration]:
        """Bring the schema up to date, all steps in one transaction, one process at a time.

        Raises:
            SchemaError: a newer schema, or a changed checksum.
            UnavailableError: the server cannot be reached; nothing was changed.
            UncertainError: the connection broke during the commit; calling again is safe.
            InvariantError: the steps themselves are wrong.
        """
        if self._closing:
            raise UnavailableError(_CLOSED)
        connection = await self._server.open()
        try:
            await command(connection, "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
            await command(connection, f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})", timeout=3600.0)
            await command(connection, _CREATE_SCHEMA)
            known = await connection.fetch("SELECT room, version, checksum FROM specie_schema")
            steps = pending_steps({(room, version): digest for room, version, digest in known}, migrations, "postgres")
            for step in steps:
                await command(connection, step.postgres, timeout=3600.0)
                if not connection.is_in_transaction():
                    raise InvariantError(f"migration {step.version} of {step.room} ends the transaction it runs in")
                await connection.execute(
                    "INSERT INTO specie_schema (room, version, checksum) VALUES ($1, $2, $3)",
                    step.room,
                    step.version,
                    checksum(step.postgres),
                )
            await self._commit(connection)
            return steps
        finally:
            await let_go(connection)

    def listen(self, channel: str) -> Listener:
        """Notices on `channel` from now on, from every process on this database, in the order of commits."""
        return self._broadcast.listen(channel)

    async def backup(self, target: Path) -> None:
        """Refused: the engine has its own tools.

        Raises:
            RefusedError: always.
        """
        raise RefusedError("PostgreSQL is backed up with its own tools: pg_dump --format=custom, or continuous archiving")

    def status(self) -> StorageStatus:
        """Figures since the start."""
        return StorageStatus("postgres", self._commits, self._bodies, len(self._queue))

    async def close(self) -> None:
        """Finish what is queued, end the listeners, close the connections. Again: does nothing."""
        if self._closing:
            return
        self._closing = True
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._ear.stop()
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)
        self._broadcast.close()
        await self._readers.close()

    # The writers

    def _wake(self) -> None:
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def _take(self) -> list[_Job]:
        """This writer's share of what waits; empty when the store closes."""
        while not self._queue:
            if self._closing:
                return []
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter
        share = -(-len(self._queue) // max(1, self._writers - self._busy))
        count = min(len(self._queue), self._max_batch, max(_LEAST_SHARE, share))
        jobs = [self._queue.popleft() for _ in range(count)]
        if self._queue:
            self._wake()
        return jobs

    async def _write(self, lane: int) -> None:
        """One writer: take, run, commit, answer. Whatever happens, every body taken is answered."""
        connection: Connection = None
        try:
            while jobs := await self._take():
                self._busy += 1
                try:
                    if connection is None or connection.is_closed():
                        connection = await self._server.open()
                    await self._serve(connection, jobs, lane)
                except BaseException as error:
                    for job in jobs:
                        job.fail(_told(error))
                    if connection is not None:
                        connection.terminate()
                        connection = None
                finally:
                    self._busy -= 1
                    self._bodies += len(jobs)
                    for job in jobs:
                        job.settle()
                if _stopped():
                    raise asyncio.CancelledError
        finally:
            if connection is not None:
                await let_go(connection)

    async def _serve(self, connection: Connection, jobs: list[_Job], lane: int) -> None:
        """Run and commit `jobs` together, or one by one if that was undone; raises what concerns them all."""
        try:
            if not self._careful:
                try:
                    await self._run(connection, jobs, lane, Deferred())
                    return
                except RerunError:
                    await rollback(connection)
                    self._careful = _CAREFUL_BATCHES
            self._careful -= 1
            await self._run(connection, jobs, lane, None)
            return
        except ConflictError:
            await rollback(connection)
        self._telemetry.count("storage_batch_retried")
        for job in jobs:
            for attempt in range(1, self._attempts + 1):
                try:
                    await self._run(connection, [job], lane, None)
                    break
                except ConflictError as conflict:
                    await rollback(connection)
                    if attempt == self._attempts:
                        job.fail(conflict)
                    else:
                        await asyncio.sleep(0.002 * 2**attempt * (1 + secrets.randbelow(1000) / 1000))
                except SpecieError as error:
                    # This body's fate is its own; those already committed keep theirs, those to come have had no effect.
                    job.fail(error)
                    job.settle()
                    raise UnavailableError("the connection to PostgreSQL broke before this transaction") from None
            job.settle()

    async def _run(self, connection: Connection, jobs: list[_Job], lane: int, deferred: Deferred | None) -> None:
        """One transaction; what may wait is collected in `deferred`, if given.

        Raises:
            RerunError: undone, for a key of what waited is taken (not yet rolled back); nothing happened to any of `jobs`.
            ConflictError: the same, undone by the server.
            UnavailableError: the connection broke; nothing happened.
            UncertainError: the connection broke during the commit.
        """
        several, changed, batch = len(jobs) > 1, False, deferred or Deferred()
        notices: list[str] = []
        await command(connection, f"BEGIN; SET LOCAL lock_timeout = {_BATCH_LOCK_WAIT_MS}" if several else "BEGIN")
        for job in jobs:
            job.fail(asyncio.CancelledError())
            if job.future.cancelled():
                continue
            transaction = PostgresTransaction(connection, self._columns, lane, batch=deferred, savepoint=several)
            try:
                job.result, job.error = await transaction.run(job.body), None
            except (ConflictError, LostError, RerunError):
                raise
            except BaseException as error:
                if _stopped():
                    raise
                job.fail(error)
                following = "ROLLBACK TO body; RELEASE body"
            else:
                changed = True
                batch.take(transaction.mine)
                notices += [f"{channel} {payload}" for channel, payload in transaction.notices]
                following = "RELEASE body"
            if transaction.saved:
                await command(connection, following)
        if not changed:
            await rollback(connection)
            return
        await PostgresTransaction(connection, self._columns, lane, batch=batch).run(_flushed)
        for tally, sums in batch.sums():
            await PostgresTransaction(connection, self._columns, lane).run(partial(tally.write, sums=sums))
        if notices:
            failure: SpecieError | None = None
            try:
                await connection.execute(_NOTIFY, CHANNEL, notices)
            except Exception as error:
                failure = translated(error)
            if failure is not None:
                raise failure
        await self._commit(connection)

    async def _commit(self, connection: Connection) -> None:
        """Send COMMIT; count it.

        Raises:
            ConflictError, UnavailableError: the server says that it undid the transaction.
            UncertainError: no answer.
        """
        failure: SpecieError
        try:
            tag = await connection.execute("COMMIT", timeout=self._server.timeout_s)
        except asyncpg.PostgresError as error:
            failure = translated(error)
            if isinstance(failure, LostError):
                failure = UncertainError("the server stopped during a commit")
        except BaseException as error:
            connection.terminate()
            failure = UncertainError(f"the connection to PostgreSQL broke during a commit ({type(error).__name__})")
        else:
            if tag == "COMMIT":
                self._commits += 1
                return
            failure = InvariantError(f"PostgreSQL answered COMMIT with {tag}")
        raise failure


async def _flushed(tx: Transaction) -> None:
    """The body that writes what all the others left to the end."""
    await cast(PostgresTransaction, tx).flush()


def _told(error: BaseException) -> SpecieError:
    """What the callers of a batch hear."""
    if isinstance(error, SpecieError):
        return error
    if isinstance(error, Exception):
        return InvariantError(f"the writer failed: {type(error).__name__}: {error}")
    return UnavailableError("the writer was stopped")


def _stopped() -> bool:
    """Whether this task itself is being cancelled (a body may raise CancelledError on its own account)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
