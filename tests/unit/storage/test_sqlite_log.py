"""The log of SQLite stays short while commits go on, whoever moves it; nothing of it is lost."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

from specie.storage import Body, Migration, Transaction
from specie.storage.adapters import sqlite_log
from specie.storage.adapters.sqlite import SqliteStorage
from specie.storage.adapters.sqlite_file import open_connection

PAGE = 4096
STEP = Migration(
    "log", 1, sqlite="CREATE TABLE coin (y BLOB NOT NULL PRIMARY KEY, data BLOB NOT NULL) STRICT", postgres="SELECT 1"
)


def _coin(number: int) -> Body[bool]:
    async def body(tx: Transaction) -> bool:
        return await tx.insert("coin", "y, data", [(number.to_bytes(4, "little"), bytes(2000))])

    return body


async def _store(directory: Path, key: bytes | None = None) -> SqliteStorage:
    store = SqliteStorage(directory / "s.sqlite", synchronous="OFF", key=key)
    await store.migrate([STEP])
    return store


async def _count(store: SqliteStorage) -> object:
    rows = await store.read(lambda tx: tx.fetch("SELECT count(*) FROM coin"))
    return rows[0][0]


@pytest.mark.parametrize("key", [None, bytes(range(32))], ids=["plain", "encrypted"])
async def test_the_log_is_moved_while_commits_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: bytes | None) -> None:
    """Six thousand pages are written and the log never holds a quarter of them; all rows are there, again after a start."""
    monkeypatch.setattr(sqlite_log, "_PAGES", 100)
    monkeypatch.setattr(sqlite_log, "_FEW_PAGES", 10)
    store = await _store(tmp_path, key)
    for start in range(0, 2000, 10):
        await asyncio.gather(*(store.transact(_coin(number)) for number in range(start, start + 10)))
    assert (tmp_path / "s.sqlite-wal").stat().st_size < 1500 * PAGE
    assert await _count(store) == 2000
    await store.close()
    again = await _store(tmp_path, key)
    assert await _count(again) == 2000
    await again.close()


async def test_a_log_that_grows_past_all_bounds_is_moved_by_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that hangs is not waited for: the writer moves everything itself."""
    monkeypatch.setattr(sqlite_log, "_PAGES", 50)
    monkeypatch.setattr(sqlite_log, "_MOST_PAGES", 200)
    held = threading.Event()
    real = sqlite_log.LogMover._move

    def move(connection: apsw.Connection) -> int:
        if threading.current_thread().name == "specie-log":
            held.wait()
        return real(connection)

    monkeypatch.setattr(sqlite_log.LogMover, "_move", staticmethod(move))
    store = await _store(tmp_path)
    for number in range(1000):
        await store.transact(_coin(number))
    assert (tmp_path / "s.sqlite-wal").stat().st_size < 300 * PAGE
    held.set()
    await store.close()


async def test_what_cannot_be_moved_does_not_stop_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that refuses to move the log: commits go on, and it is tried again."""
    monkeypatch.setattr(sqlite_log, "_PAGES", 10)
    tried: list[bool] = []

    class Refusing:
        def wal_checkpoint(self, **_: Any) -> tuple[int, int]:
            tried.append(True)
            raise apsw.IOError("no")

    store = await _store(tmp_path)
    assert store._log is not None
    monkeypatch.setattr(store._log, "_mover", Refusing())
    for number in range(100):
        assert await store.transact(_coin(number))
    assert await _count(store) == 100
    await store.close()
    assert len(tried) > 1


def test_a_store_that_closes_meanwhile(tmp_path: Path) -> None:
    """The last pages are left to the closing; the thread ends, and again closing it does no harm."""
    writer = open_connection(tmp_path / "s.sqlite", 1000)
    mover = open_connection(tmp_path / "s.sqlite", 1000)
    asked = threading.Event()

    def closing(_: Any) -> None:
        asked.set()
        raise sqlite_log.UnavailableError("the store is closed")

    log = sqlite_log.LogMover(writer, mover, closing)
    log._grown(writer, "main", sqlite_log._PAGES)
    assert asked.wait(10)
    log.close()
    log.close()
    assert not log._thread.is_alive()
    writer.close()
    mover.close()
