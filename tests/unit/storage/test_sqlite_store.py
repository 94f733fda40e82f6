"""What only a file can do to its store: modes, copies, full disks, locks; and the places where a simulated store dies."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from specie.kernel import InvariantError, RefusedError, UnavailableError, UncertainError
from specie.storage import Migration, Transaction
from specie.storage.adapters.sqlite import SqliteStorage

NOTES = Migration("notes", 1, "CREATE TABLE note (name TEXT PRIMARY KEY, body BLOB) STRICT;", "")
MORE = Migration("notes", 2, "ALTER TABLE note ADD COLUMN more TEXT;", "")


def insert(name: str, body: bytes = b"") -> Callable[[Transaction], Awaitable[int]]:
    return lambda tx: tx.execute("INSERT INTO note (name, body) VALUES ($1, $2)", name, body)


async def names(store: SqliteStorage) -> list[str]:
    return [str(row[0]) for row in await store.read(lambda tx: tx.fetch("SELECT name FROM note ORDER BY name"))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bank" / "bank.sqlite"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStorage]:
    opened = SqliteStorage(path)
    await opened.migrate([NOTES])
    yield opened
    await opened.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# The file


async def test_nobody_else_can_read_it(store: SqliteStorage, path: Path) -> None:
    """The directory is 0700, the file and its log 0600, whatever the mask."""
    await store.transact(insert("a"))
    assert mode(path.parent) == 0o700
    assert {file.name: mode(file) for file in path.parent.iterdir()} == {
        "bank.sqlite": 0o600,
        "bank.sqlite-wal": 0o600,
        "bank.sqlite-shm": 0o600,
    }


async def test_a_file_that_was_open_to_others_is_closed_to_them(path: Path) -> None:
    """A store restored with a careless mode is tightened when it is opened."""
    path.parent.mkdir()
    path.touch(0o644)
    path.chmod(0o644)
    await SqliteStorage(path).close()
    assert mode(path) == 0o600


async def test_durable_by_default(store: SqliteStorage) -> None:
    """Write-ahead log, full synchronous, foreign keys on; when closed, the log is folded in and gone."""

    async def pragmas(tx: Transaction) -> list[object]:
        return [await tx.fetch_one(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]

    assert await store.transact(pragmas) == [("wal",), (2,), (1,)]


async def test_the_log_is_gone_after_close(path: Path) -> None:
    """A closed store is one file."""
    store = SqliteStorage(path)
    await store.migrate([NOTES])
    await store.transact(insert("a"))
    await store.close()
    assert [file.name for file in path.parent.iterdir()] == ["bank.sqlite"]


def test_what_is_not_a_store_is_refused(tmp_path: Path) -> None:
    """A file of another kind is not touched; a directory or an unreachable place is unavailable."""
    other = tmp_path / "letter.txt"
    other.write_text("dear reader, " * 1000)
    with pytest.raises(RefusedError, match="not a specie store"):
        SqliteStorage(other)
    assert other.read_text().startswith("dear reader")
    with pytest.raises(UnavailableError):
        SqliteStorage(tmp_path)
    with pytest.raises(UnavailableError):
        SqliteStorage(other / "below.sqlite")
    with pytest.raises(InvariantError):
        SqliteStorage(":memory:")


# Copies


async def test_a_copy_is_made_before_a_migration(path: Path) -> None:
    """A store that has a schema is copied beside itself before a step, and only then; the copy is the old store."""
    for inline in (True, False):
        store = SqliteStorage(path, inline=inline)
        await store.migrate([NOTES])
        await store.transact(insert(f"inline {inline}"))
        await store.migrate([NOTES])
        await store.close()
    assert list(path.parent.glob("*.backup")) == []

    store = SqliteStorage(path)
    assert await store.migrate([NOTES, MORE]) == [MORE]
    await store.transact(insert("later"))
    await store.close()
    (copy,) = path.parent.glob("*.backup")
    assert copy.name.startswith("bank.sqlite.notes1.2")
    assert copy.name.endswith("Z.backup")
    assert mode(copy) == 0o600

    restored = SqliteStorage(copy)
    assert await restored.migrate([NOTES]) == []
    assert await names(restored) == ["inline False", "inline True"]
    await restored.close()


async def test_copies_of_the_same_second_do_not_meet(path: Path) -> None:
    """A failed migration leaves its copy; the next one has another name, and no copy is overwritten."""
    store = SqliteStorage(path, inline=True)
    await store.migrate([NOTES])
    bad = Migration("notes", 2, "CREATE NONSENSE;", "")
    for _ in range(3):
        with pytest.raises(InvariantError):
            await store.migrate([NOTES, bad])
    await store.close()
    assert len(list(path.parent.glob("*.backup"))) == 3


async def test_without_room_for_the_copy_nothing_is_migrated(
    store: SqliteStorage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the copy fails the migration is refused, and nothing is left of either."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnavailableError, match="No space left"):
        await store.migrate([NOTES, MORE])
    monkeypatch.undo()
    assert list(path.parent.glob("*backup*")) == []
    assert await store.migrate([NOTES]) == []


async def test_backup_of_a_store_in_memory(tmp_path: Path) -> None:
    """An inline store can be copied too; a place that cannot be written is unavailable."""
    store = SqliteStorage(":memory:", inline=True)
    await store.migrate([NOTES])
    await store.transact(insert("a"))
    with pytest.raises(UnavailableError):
        await store.backup(tmp_path / "nowhere" / "copy.sqlite")
    await store.backup(tmp_path / "copy.sqlite")
    await store.close()
    with pytest.raises(UnavailableError):
        await store.backup(tmp_path / "late.sqlite")
    copy = SqliteStorage(tmp_path / "copy.sqlite")
    assert await names(copy) == ["a"]
    await copy.close()


# Failing commits


class Dying(SqliteStorage):
    """A store that fails where it is told to."""

    failure: BaseException | None = None
    after = False

    def _commit(self) -> None:
        failure, self.failure = self.failure, None
        if failure is not None and not self.after:
            raise failure
        super()._commit()
        if failure is not None:
            raise failure


class Killed(BaseException):
    """The end of the simulated process."""


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    ("failure", "heard"),
    [(apsw.FullError("disk full"), UnavailableError), (apsw.IOError("fsync"), UncertainError), (Killed(), Killed)],
)
async def test_a_commit_that_fails(path: Path, inline: bool, failure: BaseException, heard: type[BaseException]) -> None:
    """The error says whether the fate is certain; it is rolled back, nothing is told to listeners, and the store goes on."""
    store = Dying(path, inline=inline)
    await store.migrate([NOTES])
    listener = store.listen("news")
    store.failure = failure

    async def tells(tx: Transaction) -> None:
        await insert("lost")(tx)
        tx.notify("news", "lost")

    with pytest.raises(heard):
        await store.transact(tells)
    await store.transact(insert("kept"))
    assert await names(store) == ["kept"]
    await store.close()
    assert [notice async for notice in listener] == []


@pytest.mark.parametrize("inline", [True, False])
async def test_death_after_the_commit(path: Path, inline: bool) -> None:
    """A process that dies after the commit and before its answer has the row; the caller does not know."""
    store = Dying(path, inline=inline)
    await store.migrate([NOTES])
    store.failure, store.after = Killed(), True
    with pytest.raises(Killed):
        await store.transact(insert("there"))
    assert await names(store) == ["there"]
    await store.close()


async def test_a_failing_commit_concerns_the_whole_group(path: Path) -> None:
    """A body that was refused for what another of its group wrote is not refused any more when the group is undone."""
    store = Dying(path)
    await store.migrate([NOTES])
    began, go_on = threading.Event(), threading.Event()

    async def blocks(_tx: Transaction) -> None:
        began.set()
        assert go_on.wait(20)
        store.failure = None

    async def claims(tx: Transaction) -> None:
        if await tx.execute("INSERT INTO note (name) VALUES ('coin') ON CONFLICT DO NOTHING") == 0:
            raise RefusedError("spent")

    async def arms(_tx: Transaction) -> None:
        store.failure = apsw.FullError("disk full")

    blocking = asyncio.ensure_future(store.transact(blocks))
    assert await asyncio.to_thread(began.wait, 20)
    group = [asyncio.ensure_future(store.transact(body)) for body in (claims, claims, arms)]
    await asyncio.sleep(0)
    go_on.set()
    await blocking
    results = await asyncio.gather(*group, return_exceptions=True)
    assert [type(result) for result in results] == [UnavailableError] * 3
    await store.transact(claims)
    await store.close()


async def test_a_full_disk_undoes_the_whole_group(store: SqliteStorage) -> None:
    """SQLite may undo a whole transaction when the disk is full: then the whole group is told, and nothing of it is there."""
    began, go_on = threading.Event(), threading.Event()

    async def bounds(tx: Transaction) -> None:
        await tx.fetch("PRAGMA max_page_count = 1")  # the store as it is, and no page more
        began.set()
        assert go_on.wait(20)

    bounding = asyncio.ensure_future(store.transact(bounds))
    assert await asyncio.to_thread(began.wait, 20)
    group = [asyncio.ensure_future(store.transact(body)) for body in (insert("a"), insert("big", bytes(100_000)), insert("b"))]
    await asyncio.sleep(0)
    go_on.set()
    await bounding
    results = await asyncio.gather(*group, return_exceptions=True)
    assert isinstance(results[1], UnavailableError)
    there = await names(store)
    assert there == [name for name, result in zip(("a", "big", "b"), results, strict=True) if result == 1]
    await store.transact(lambda tx: tx.fetch("PRAGMA max_page_count = 1000000"))
    await store.transact(insert("after"))


async def test_a_body_that_ends_the_transaction(path: Path) -> None:
    """A body that commits or rolls back by itself is our mistake; the store goes on."""
    for inline in (True, False):
        store = SqliteStorage(path, inline=inline)
        await store.migrate([NOTES])

        async def ends(tx: Transaction) -> None:
            await tx.execute("ROLLBACK")

        with pytest.raises((InvariantError, UnavailableError)):
            await store.transact(ends)
        await store.transact(insert(f"{inline}"))
        await store.close()


# Several writers


async def test_another_process_that_writes_too_long(path: Path) -> None:
    """If the write lock is not to be had in time, the bodies are told to come back, inline or not; reads go on."""
    for inline in (True, False):
        store = SqliteStorage(path, inline=inline, busy_timeout_s=0.02)
        await store.migrate([NOTES])
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE; INSERT INTO note (name) VALUES ('other')")
        with pytest.raises(UnavailableError):
            await store.transact(insert("own"))
        with pytest.raises(UnavailableError):
            await store.migrate([NOTES])
        assert await names(store) == []
        other.execute("ROLLBACK")
        other.close()
        assert await store.transact(insert("own")) == 1
        assert await store.transact(lambda tx: tx.execute("DELETE FROM note")) == 1
        await store.close()


async def test_a_short_wait_for_another_writer(path: Path) -> None:
    """A writer of another process that is done soon is waited for."""
    store = SqliteStorage(path)
    await store.migrate([NOTES])
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.ensure_future(store.transact(insert("own")))
    await asyncio.to_thread(lambda: (threading.Event().wait(0.05), other.execute("COMMIT")))
    assert await writing == 1
    other.close()
    await store.close()


# Inline


async def test_inline_runs_at_once() -> None:
    """An inline body has run and committed before `transact` is awaited for the first time: no thread, no loop."""
    store = SqliteStorage(":memory:", inline=True)
    threads = threading.active_count()

    def drive(coroutine: Any) -> Any:
        with pytest.raises(StopIteration) as stop:
            coroutine.send(None)
        return stop.value.value

    assert drive(store.migrate([NOTES])) == [NOTES]
    assert drive(store.transact(insert("a"))) == 1
    assert drive(names(store)) == ["a"]
    assert threading.active_count() == threads
    drive(store.close())
    with pytest.raises(UnavailableError):
        store.transact(insert("late")).send(None)


async def test_no_transaction_inside_another() -> None:
    """A body that opens a transaction inside its own is our mistake, and is undone."""
    store = SqliteStorage(":memory:", inline=True)
    await store.migrate([NOTES])

    async def nests(tx: Transaction) -> None:
        await insert("outer")(tx)
        await store.transact(insert("inner"))

    with pytest.raises(InvariantError, match="inside"):
        await store.transact(nests)
    assert await names(store) == []
    await store.close()


def test_callers_on_several_loops(path: Path) -> None:
    """Each caller is answered on its own loop; a loop that was closed while its body waited harms nobody."""
    store = SqliteStorage(path)
    asyncio.run(store.migrate([NOTES]))
    began, go_on = threading.Event(), threading.Event()
    heard = store.listen("news")

    async def blocks(_tx: Transaction) -> None:
        began.set()
        assert go_on.wait(20)

    async def leaves(tx: Transaction) -> None:
        await insert("left")(tx)
        tx.notify("news", "left")

    async def starts_and_leaves() -> None:
        tasks = [asyncio.ensure_future(store.transact(body)) for body in (blocks, leaves)]
        assert await asyncio.to_thread(began.wait, 20)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def comes() -> tuple[int, list[str]]:
        working = asyncio.ensure_future(store.transact(insert("came")))
        looking = asyncio.ensure_future(store.read(lambda tx: tx.fetch("SELECT 1")))
        await asyncio.sleep(0)
        go_on.set()
        await looking
        return await working, await names(store)

    asyncio.run(starts_and_leaves())
    count, there = asyncio.run(comes())
    assert count == 1
    assert "came" in there
    asyncio.run(store.close())
    del heard
