"""Connections to PostgreSQL with our settings, and the statements that belong to no body."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from specie.kernel.errors import InvariantError, RefusedError, SpecieError, UnavailableError
from specie.storage.adapters.postgres_transaction import LostError, translated

__all__ = ["PostgresReaders", "PostgresServer", "command", "let_go", "rollback"]

Connection = Any


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """Where the database is and how long to wait for it. The DSN may hold a password: it is never shown."""

    dsn: str = field(repr=False)
    timeout_s: float
    connect_timeout_s: float

    async def open(self) -> Connection:
        """A connection with our settings.

        Raises:
            RefusedError: the DSN does not parse, or the server does not let us in.
            UnavailableError: the server does not answer.
        """
        milliseconds = str(int(self.timeout_s * 1000))
        failure: SpecieError
        connection: Connection = None
        try:
            connection = await asyncpg.connect(
                self.dsn,
                timeout=self.connect_timeout_s,
                command_timeout=self.timeout_s + 5.0,
                statement_cache_size=256,
                max_cached_statement_lifetime=0,
                server_settings={
                    "application_name": "specie",
                    "statement_timeout": milliseconds,
                    "idle_in_transaction_session_timeout": milliseconds,
                    "default_transaction_isolation": "read committed",
                    "jit": "off",
                },
            )
            if await connection.fetchval("SHOW synchronous_commit") == "off":
                await connection.execute("SET synchronous_commit = on")  # what is acknowledged must be durable
            opened, connection = connection, None
        except (ValueError, asyncpg.InterfaceError):
            failure = RefusedError("the PostgreSQL DSN does not parse or asks for what cannot be")
        except Exception as error:
            failure = translated(error)
            if isinstance(failure, InvariantError):
                failure = UnavailableError(f"cannot connect to PostgreSQL ({type(error).__name__})")
        else:
            return opened
        finally:
            if connection is not None:  # it failed, or its caller was cancelled, after the connection stood
                connection.terminate()
        raise failure


class PostgresReaders:
    """A bounded number of connections, opened when needed and kept; each used by one caller at a time.

    Not asyncpg's pool: its release costs a round trip, and a connection that broke takes itself out of the caller's hands.
    """

    def __init__(self, server: PostgresServer, count: int) -> None:
        self._server = server
        self._free = asyncio.Semaphore(count)
        self._idle: deque[Connection] = deque()
        self._closed = False

    async def take(self) -> Connection:
        """A connection with no transaction open; to be given back.

        Raises:
            UnavailableError: none is free in time, or the server does not answer.
        """
        if self._free.locked():
            try:
                async with asyncio.timeout(self._server.connect_timeout_s):
                    await self._free.acquire()
            except TimeoutError:
                raise UnavailableError("all connections to PostgreSQL that read are busy") from None
        else:
            await self._free.acquire()  # at once
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            return await self._server.open()
        except BaseException:
            self._free.release()
            raise

    async def give(self, connection: Connection) -> None:
        """Take it back; kept if it is sound, with whatever transaction is open on it undone."""
        try:
            await rollback(connection)
        except LostError:
            connection.terminate()
        except BaseException:
            connection.terminate()
            raise
        finally:
            if self._closed:
                connection.terminate()
            elif not connection.is_closed():
                self._idle.append(connection)
            self._free.release()

    async def close(self) -> None:
        """Close what is idle now, and the others when they are given back."""
        self._closed = True
        while self._idle:
            await let_go(self._idle.pop())


async def command(connection: Connection, sql: str, timeout: float | None = None) -> None:
    """A statement of ours, not of a body.

    Raises:
        SpecieError: it failed; LostError whenever the connection is closed.
    """
    try:
        await connection.execute(sql, timeout=timeout)
        return
    except Exception as error:
        failure = LostError("the connection to PostgreSQL broke") if connection.is_closed() else translated(error)
    raise failure


async def rollback(connection: Connection) -> None:
    """End the transaction if one is open.

    Raises:
        LostError: the connection is closed.
    """
    if connection.is_closed():
        raise LostError("the connection to PostgreSQL broke")
    if connection.is_in_transaction():
        await command(connection, "ROLLBACK")


async def let_go(connection: Connection) -> None:
    """Close a connection, politely if that is quick."""
    try:
        await connection.close(timeout=2.0)
    except Exception:
        connection.terminate()
