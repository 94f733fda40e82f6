"""The ear of the PostgreSQL store: one connection that listens, renewed when it breaks."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg

from specie.kernel.errors import SpecieError
from specie.kernel.telemetry import Telemetry
from specie.storage.adapters.broadcast import Broadcast
from specie.storage.adapters.postgres_connection import PostgresServer

__all__ = ["CHANNEL", "PostgresEar"]

Connection = Any

CHANNEL = "specie"
"""The one channel of the server; a notice on it is `<channel> <payload>`."""

_PING_S = 30.0
"""A half-open connection is found out this late."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0


class PostgresEar:
    """Hands what the server tells to a `Broadcast`. Notices sent while the connection is renewed are missed."""

    def __init__(self, server: PostgresServer, broadcast: Broadcast, telemetry: Telemetry) -> None:
        self._server = server
        self._broadcast = broadcast
        self._telemetry = telemetry
        self._stopped = False

    async def run(self, connection: Connection, heard: asyncio.Event) -> None:
        """Listen until cancelled, first on `connection`; `heard` is set once that stands (or has failed)."""
        pause_s = _FIRST_PAUSE_S
        while not self._stopped:
            try:
                if connection is None:
                    connection = await self._server.open()
                gone = asyncio.Event()
                connection.add_termination_listener(lambda _connection, gone=gone: gone.set())
                await connection.add_listener(CHANNEL, self._heard)
                heard.set()
                pause_s = _FIRST_PAUSE_S
                while not (gone.is_set() or self._stopped):
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_PING_S):  # not wait_for, which in Python 3.11 can swallow a cancellation
                            await gone.wait()
                    if not gone.is_set():
                        await connection.execute("SELECT 1")
            except (SpecieError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pass
            finally:
                if connection is not None:
                    connection.terminate()
                    connection = None
            heard.set()
            self._telemetry.count("storage_listener_lost")
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    def stop(self) -> None:
        """Do not listen again; the task is to be cancelled as well."""
        self._stopped = True

    def _heard(self, _connection: Connection, _pid: int, _channel: str, notice: object) -> None:
        channel, _space, payload = str(notice).partition(" ")
        self._broadcast.publish(channel, payload)
