"""The RocksDB store beyond the contract: its directory, its one owner, failing commits, undone bodies, one moment."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from specie.kernel.errors import InvariantError, RefusedError, UnavailableError, UncertainError
from specie.storage import ConstraintError, Migration, Transaction
from tests.support.rocks import skip_module_without_rocksdb

skip_module_without_rocksdb()

from rocksdict import Options, Rdict, WriteBatch  # noqa: E402

from specie.storage.adapters import rocks_file, rocks_view  # noqa: E402
from specie.storage.adapters.rocks import RocksStorage  # noqa: E402
from specie.storage.adapters.rocks_file import StoreInUseError  # noqa: E402

NOTES = Migration(
    "notes",
    1,
    sqlite="""
CREATE TABLE note (name TEXT PRIMARY KEY, number INTEGER NOT NULL, tag TEXT, UNIQUE (number)) STRICT;
CREATE INDEX note_tag ON note (tag) WHERE tag IS NOT NULL;
CREATE TABLE entry (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL) STRICT;
""",
    postgres="",
)


async def ready(path: Path, kind: type[RocksStorage] = RocksStorage, **settings: Any) -> RocksStorage:
    store = kind(path, sync=False, **settings)
    await store.migrate([NOTES])
    return store


def insert(name: str, number: int, tag: str | None = None) -> Callable[[Transaction], Awaitable[int]]:
    async def body(tx: Transaction) -> int:
        return await tx.execute("INSERT INTO note (name, number, tag) VALUES ($1, $2, $3)", name, number, tag)

    return body


async def names(store: RocksStorage) -> list[str]:
    return [str(row[0]) for row in await store.read(lambda tx: tx.fetch("SELECT name FROM note ORDER BY name"))]


# The directory


async def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    """In this process and in another: RocksDB has one owner, and the error says so; once closed there may be a new one."""
    store = await ready(tmp_path / "store")
    with pytest.raises(StoreInUseError, match="one owner"):
        RocksStorage(tmp_path / "store")
    program = "import sys; from specie.storage.adapters.rocks import RocksStorage; RocksStorage(sys.argv[1])"
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program, str(tmp_path / "store")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "StoreInUseError" in ran.stderr
    await store.close()
    again = await ready(tmp_path / "store")
    await again.close()


async def test_what_is_not_a_store_is_left_alone(tmp_path: Path) -> None:
    """A file, a directory with something in it, and somebody else's RocksDB are refused and stay as they were."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    foreign = Rdict(str(tmp_path / "foreign"), Options(raw_mode=True))
    foreign.put(b"key", b"value")
    foreign.close()
    for name in ("file", "full", "foreign"):
        with pytest.raises(RefusedError, match="not a specie store"):
            RocksStorage(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["letter.txt"]
    (tmp_path / "shut").write_text("")
    with pytest.raises((RefusedError, UnavailableError)):
        RocksStorage(tmp_path / "shut" / "store")


async def test_a_store_that_was_never_opened_to_the_end_opens(tmp_path: Path) -> None:
    """What a start that died leaves behind, with and without a database in it, is taken up by the next one."""
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "LOG").write_text("")
    Rdict(str(tmp_path / "late"), rocks_file._options()).close()
    for name in ("early", "late"):
        store = await ready(tmp_path / name)
        await store.close()
    assert (tmp_path / "early").stat().st_mode & 0o777 == 0o700


async def test_a_damaged_store_does_not_open(tmp_path: Path) -> None:
    """A file of it that is gone is told, not overlooked."""
    store = await ready(tmp_path / "store")
    await store.close()
    next((tmp_path / "store").glob("MANIFEST*")).unlink()
    with pytest.raises(UnavailableError, match="cannot open"):
        RocksStorage(tmp_path / "store")


async def test_a_migration_copies_the_store_first(tmp_path: Path) -> None:
    """Beside itself, private, as it was; a second one of the same second has a name of its own."""
    store = await ready(tmp_path / "store")
    await store.transact(insert("a", 1))
    steps = [NOTES]
    for version in (2, 3):
        sql = f"ALTER TABLE note ADD COLUMN more{version} TEXT NOT NULL DEFAULT 'x';"
        steps.append(Migration("notes", version, sql, sql))
        await store.migrate(steps)
    assert await store.read(lambda tx: tx.fetch("SELECT name, more2, more3 FROM note")) == [("a", "x", "x")]
    await store.close()
    copies = sorted(tmp_path.glob("store.*.backup"))
    assert [path.name.split(".")[1] for path in copies] == ["notes1", "notes2"]
    assert {path.stat().st_mode & 0o777 for path in copies} == {0o700}
    old = RocksStorage(copies[0])
    assert await old.migrate([NOTES]) == []
    assert await names(old) == ["a"]
    await old.close()


async def test_an_index_is_filled_when_it_comes(tmp_path: Path) -> None:
    """A new index knows the rows there are; one that cannot be unique is refused, and nothing of its step stays."""
    store = await ready(tmp_path / "store")
    for number in range(3):
        await store.transact(insert(f"n{number}", number, "same"))
    bad = "CREATE UNIQUE INDEX note_one ON note (tag);"
    with pytest.raises(ConstraintError, match=r"note\.tag"):
        await store.migrate([NOTES, Migration("notes", 2, bad, bad)])
    good = "CREATE INDEX note_two ON note (tag, number);"
    await store.migrate([NOTES, Migration("notes", 2, good, good)])
    sql = "SELECT name FROM note WHERE tag = $1 AND number >= $2 ORDER BY number DESC"
    assert await store.read(lambda tx: tx.fetch(sql, "same", 1)) == [("n2",), ("n1",)]
    await store.close()


async def test_a_backup_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the copy nor its beginning; a beginning of a copy that died is cleared away by the next one."""
    store = await ready(tmp_path / "store")

    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(rocks_file, "_flush", full)
        with pytest.raises(UnavailableError, match="No space"):
            await store.backup(tmp_path / "copy")
    assert not list(tmp_path.glob("copy*"))
    with pytest.raises(UnavailableError):
        await store.backup(tmp_path / "nowhere" / "copy")
    (tmp_path / "copy.partial").mkdir()
    await store.backup(tmp_path / "copy")
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy"]
    await store.close()


# Commits


class Failing(RocksStorage):
    """A store whose disk fails, before or after the log has the batch."""

    fails = ""

    def _commit(self, batch: WriteBatch) -> None:
        if self.fails == "before":
            raise OSError(5, "Input/output error")
        super()._commit(batch)
        if self.fails == "after":
            raise Exception("IO error: While fsync")


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("fails", ["before", "after"])
async def test_a_failing_commit_is_uncertain_until_the_store_is_opened_again(tmp_path: Path, fails: str, inline: bool) -> None:
    """Its callers are told that it is not known; later ones are refused; what stands shows when it is opened anew."""
    store = await ready(tmp_path / "store", Failing, inline=inline)
    assert isinstance(store, Failing)
    heard = store.listen("news")
    await store.transact(insert("a", 1))
    store.fails = fails

    async def tells(tx: Transaction) -> None:
        await insert("b", 2)(tx)
        tx.notify("news", "b")

    with pytest.raises(UncertainError):
        await store.transact(tells)
    store.fails = ""
    with pytest.raises(UnavailableError, match="opened again"):
        await store.transact(insert("c", 3))
    with pytest.raises(UnavailableError, match="opened again"):
        await store.migrate([NOTES])
    with pytest.raises(UnavailableError, match="opened again"):
        await names(store)
    await store.close()
    assert [notice async for notice in heard] == []
    again = await ready(tmp_path / "store")
    assert await names(again) == (["a", "b"] if fails == "after" else ["a"])
    await again.transact(insert("c", 3))
    await again.close()


async def test_a_migration_whose_commit_fails_changes_nothing_here(tmp_path: Path) -> None:
    """It is told that the new schema is not certain; what was not written is not there."""
    store = await ready(tmp_path / "store", Failing)
    assert isinstance(store, Failing)
    store.fails = "before"
    sql = "CREATE TABLE more (name TEXT PRIMARY KEY);"
    with pytest.raises(UncertainError):
        await store.migrate([NOTES, Migration("notes", 2, sql, sql)])
    await store.close()
    again = await ready(tmp_path / "store")
    with pytest.raises(InvariantError, match="no such table: more"):
        await again.read(lambda tx: tx.fetch("SELECT name FROM more"))
    await again.close()


FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from specie.kernel.errors import UnavailableError, UncertainError
from specie.storage.adapters.rocks import RocksStorage

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

async def main():
    store = RocksStorage(Path(sys.argv[1]))
    done = 0
    async def body(tx):
        await tx.execute("INSERT INTO note (name, number, tag) VALUES ($1, $2, $3)", f"n{done}", done, "x" * 20_000)
    try:
        while True:
            await store.transact(body)
            done += 1
    except UncertainError:
        pass
    for action in (store.transact, store.read):
        try:
            await action(body)
        except UnavailableError:
            print(done)
    await store.close()

asyncio.run(main())
"""


async def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A real disk that takes no more: uncertain once, then refused; opened again with room, every acknowledged row is there."""
    store = await ready(tmp_path / "store")
    await store.close()
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", FULL_DISK, str(tmp_path / "store")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    first, second = map(int, ran.stdout.split())
    assert first == second > 3
    again = await ready(tmp_path / "store")
    assert {f"n{number}" for number in range(first)} <= set(await names(again))
    assert len(await names(again)) - first in (0, 1)
    await again.transact(insert("after", 10**6))
    await again.close()


async def test_an_undone_body_takes_only_its_own_back(tmp_path: Path) -> None:
    """Of bodies in one batch each sees those before it; one that fails leaves what the others wrote to the same rows."""
    store = await ready(tmp_path / "store")

    async def adds(tx: Transaction) -> int:
        await tx.execute("INSERT INTO entry (text) VALUES ('x')")
        await tx.execute(
            "INSERT INTO note (name, number, tag) VALUES ('sum', 1, 't') "
            "ON CONFLICT (name) DO UPDATE SET number = note.number + 1"
        )
        row = await tx.fetch_one("SELECT number FROM note WHERE tag = 't'")
        assert row is not None
        return int(str(row[0]))

    async def fails(tx: Transaction) -> None:
        await adds(tx)
        await tx.execute("UPDATE note SET tag = 'other', number = 100 WHERE name = 'sum'")
        await tx.execute("DELETE FROM note WHERE tag = 'other'")
        assert await tx.fetch("SELECT name FROM note") == []
        await tx.execute("INSERT INTO note (name, number) VALUES ('new', 7)")
        raise RefusedError("no")

    results = await asyncio.gather(*(store.transact(body) for body in (adds, fails, adds, fails, adds)), return_exceptions=True)
    assert [one for one in results if isinstance(one, int)] == [1, 2, 3]
    assert await names(store) == ["sum"]
    assert await store.read(lambda tx: tx.fetch("SELECT id FROM entry ORDER BY id")) == [(1,), (2,), (3,)]
    assert await store.read(lambda tx: tx.fetch("SELECT name, number FROM note WHERE tag = 't'")) == [("sum", 3)]
    await store.close()


async def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    """Not after the newest row was deleted, not after the store was opened again."""
    store = await ready(tmp_path / "store")
    sql = "INSERT INTO entry (text) VALUES ('x') RETURNING id"
    assert [await store.transact(lambda tx: tx.fetch(sql)) for _ in range(2)] == [[(1,)], [(2,)]]
    await store.transact(lambda tx: tx.execute("DELETE FROM entry"))
    await store.close()
    store = await ready(tmp_path / "store")
    assert await store.transact(lambda tx: tx.fetch(sql)) == [(3,)]
    with pytest.raises(InvariantError, match="number"):
        await store.transact(lambda tx: tx.execute("INSERT INTO entry (id, text) VALUES ('a', 'x')"))
    await store.transact(lambda tx: tx.execute("INSERT INTO entry (id, text) VALUES ($1, 'x')", 2**63 - 1))
    with pytest.raises(InvariantError, match="used up"):
        await store.transact(lambda tx: tx.fetch(sql))
    await store.close()


# Reading


async def test_keys_and_ranges_are_of_one_moment(tmp_path: Path) -> None:
    """While rows are added and removed, a read finds by key exactly what it finds in a range, however often it looks."""
    store = await ready(tmp_path / "store", max_batch=1)
    stopped = False

    async def write() -> None:
        number = 0
        while not stopped:
            number += 1
            await store.transact(insert(f"n{number}", number))
            if number > 3:
                await store.transact(lambda tx, gone=number - 3: tx.execute("DELETE FROM note WHERE number = $1", gone))  # type: ignore[misc]

    async def look(tx: Transaction) -> int:
        seen: set[tuple[Any, ...]] = set()
        for _ in range(5):
            listed = tuple(row[0] for row in await tx.fetch("SELECT name FROM note"))
            by_key = [row[0] for row in await tx.fetch_in("SELECT name FROM note WHERE name IN {keys}", listed)]
            assert sorted(map(str, by_key)) == sorted(map(str, listed))
            seen.add(listed)
        assert len(seen) == 1
        return len(listed)

    writing = asyncio.create_task(write())
    assert max([await store.read(look) for _ in range(60)]) >= 3
    stopped = True
    await writing
    await store.close()


async def test_a_moment_is_taken_even_under_endless_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every look meets a commit, the last one keeps the writer out for once."""
    store = await ready(tmp_path / "store")
    looks: list[bool] = []
    taken = rocks_view.Snapshot._taken

    def meets(self: rocks_view.Snapshot, database: Rdict) -> bool:
        taken(self, database)
        looks.append(store._commit_lock.locked())
        return False

    monkeypatch.setattr(rocks_view.Snapshot, "_taken", meets)
    assert await names(store) == []
    assert looks == [False] * rocks_view._ATTEMPTS + [True]
    await store.close()


async def test_long_ranges_are_read_in_parts(tmp_path: Path) -> None:
    """Forwards, backwards, behind an index, up to a limit, with changes of the body itself: each row once, in order."""
    store = await ready(tmp_path / "store", inline=True)
    rows = [(f"n{number:05}", number, f"t{number % 2}") for number in range(5000)]
    await store.transact(lambda tx: tx.execute_many("INSERT INTO note (name, number, tag) VALUES ($1, $2, $3)", rows))
    everything = [(row[0],) for row in rows]

    async def look(tx: Transaction) -> None:
        assert await tx.fetch("SELECT name FROM note ORDER BY name") == everything
        assert await tx.fetch("SELECT name FROM note ORDER BY name DESC") == everything[::-1]
        assert await tx.fetch("SELECT name FROM note WHERE tag = 't1' ORDER BY name") == everything[1::2]
        sql = "SELECT name FROM note WHERE name > $1 ORDER BY name LIMIT 40"
        assert await tx.fetch(sql, "n00099") == everything[100:140]
        assert await tx.fetch_one("SELECT COUNT(*), MAX(name), MIN(number) FROM note WHERE tag = 't0'") == (2500, "n04998", 0)

    async def change(tx: Transaction) -> None:
        await look(tx)
        await tx.execute("DELETE FROM note WHERE number = 2500")
        await tx.execute("INSERT INTO note (name, number) VALUES ('n02500+', 9999)")
        changed = [("n02500+",) if row == ("n02500",) else row for row in everything]
        assert await tx.fetch("SELECT name FROM note ORDER BY name") == changed
        assert await tx.fetch("SELECT name FROM note ORDER BY name DESC") == changed[::-1]
        raise RefusedError("undone")

    await store.read(look)
    with pytest.raises(RefusedError):
        await store.transact(change)
    await store.read(look)
    await store.close()
