"""The encrypted store: nothing of it is readable without its key, and a conversion that dies leaves a whole store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from specie.kernel.errors import RefusedError, UnavailableError
from specie.storage import Migration, Transaction
from specie.storage.adapters import sqlite_file
from specie.storage.adapters.sqlite import SqliteStorage
from specie.storage.adapters.sqlite_file import convert_file, is_encrypted

KEY, OTHER = bytes(range(32)), bytes(32)
CANARY = "canary-secret-of-a-coin"
SQL = "CREATE TABLE room_coin (secret TEXT PRIMARY KEY) STRICT;"
STEPS = (Migration("room", 1, SQL, SQL),)
MORE = (*STEPS, Migration("room", 2, "CREATE TABLE room_more (x TEXT) STRICT;", ""))


async def _make(path: Path, key: bytes | None, steps: tuple[Migration, ...] = STEPS) -> SqliteStorage:
    storage = SqliteStorage(path, key=key)
    await storage.migrate(steps)

    async def body(tx: Transaction) -> None:
        await tx.execute("INSERT INTO room_coin (secret) VALUES ($1) ON CONFLICT DO NOTHING", CANARY)

    await storage.transact(body)
    return storage


async def _secrets(path: Path, key: bytes | None) -> list[str]:
    storage = SqliteStorage(path, key=key)
    try:
        return [str(row[0]) for row in await storage.read(lambda tx: tx.fetch("SELECT secret FROM room_coin"))]
    finally:
        await storage.close()


def _readable(folder: Path) -> list[str]:
    """Names of the files in which the canary can be found by grep."""
    return sorted(path.name for path in folder.iterdir() if path.is_file() and CANARY.encode() in path.read_bytes())


async def test_nothing_is_readable_without_the_key(tmp_path: Path) -> None:
    """Not in the file, its log, a backup, nor the copy made before a migration."""
    path = tmp_path / "store.db"
    storage = await _make(path, KEY)
    assert _readable(tmp_path) == []  # while it runs: the log is not folded in yet
    assert (tmp_path / "store.db-wal").stat().st_size > 0
    await storage.backup(tmp_path / "copy.db")
    await storage.migrate(MORE)
    await storage.close()
    copies = list(tmp_path.glob("store.db.room1.*.backup"))
    assert len(copies) == 1
    assert _readable(tmp_path) == []
    for copy in (path, tmp_path / "copy.db", copies[0]):
        assert is_encrypted(copy)
        assert copy.stat().st_mode & 0o077 == 0
        assert await _secrets(copy, KEY) == [CANARY]


async def test_a_plain_store_is_found_by_grep(tmp_path: Path) -> None:
    """The control: the test above proves something."""
    await (await _make(tmp_path / "store.db", None)).close()
    assert _readable(tmp_path) == ["store.db"]
    assert not is_encrypted(tmp_path / "store.db")


async def test_a_wrong_key_is_said_plainly(tmp_path: Path) -> None:
    """Another key, none, or one where there is none: refused, without the key in the words."""
    await (await _make(tmp_path / "sealed.db", KEY)).close()
    await (await _make(tmp_path / "plain.db", None)).close()
    for path, key, why in (
        (tmp_path / "sealed.db", OTHER, "does not open with this key"),
        (tmp_path / "sealed.db", None, "needs its key"),
        (tmp_path / "plain.db", KEY, "does not open with this key"),
    ):
        with pytest.raises(RefusedError, match=why) as caught:
            SqliteStorage(path, key=key)
        assert KEY.hex() not in str(caught.value)
    with pytest.raises(ValueError, match="32 bytes"):
        SqliteStorage(tmp_path / "new.db", key=b"short")
    (tmp_path / "empty").touch()
    assert not is_encrypted(tmp_path / "empty")
    with pytest.raises(UnavailableError):
        is_encrypted(tmp_path / "missing")


@pytest.mark.parametrize(("old", "new"), [(None, KEY), (KEY, None), (KEY, OTHER)])
async def test_converted_whole(tmp_path: Path, old: bytes | None, new: bytes | None) -> None:
    """Encrypted, decrypted, or under another key: the same rows, one file, mode 0600."""
    path = tmp_path / "store.db"
    await (await _make(path, old)).close()
    convert_file(path, old=old, new=new)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["store.db"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert is_encrypted(path) is (new is not None)
    assert (_readable(tmp_path) == []) is (new is not None)
    assert await _secrets(path, new) == [CANARY]


async def test_a_store_in_use_is_not_converted(tmp_path: Path) -> None:
    """Another process's open store stays as it is."""
    path = tmp_path / "store.db"
    storage = await _make(path, None)
    with pytest.raises(UnavailableError):
        convert_file(path, old=None, new=KEY)
    await storage.close()
    assert not is_encrypted(path)
    assert await _secrets(path, None) == [CANARY]


@pytest.mark.parametrize("step", ["_proved", "_flush", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk", "death"])
async def test_a_conversion_that_fails_leaves_the_old_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    """Whichever step fails, the old file is there, whole, and nothing else; the next try succeeds."""
    path = tmp_path / "store.db"
    await (await _make(path, None)).close()

    def failing(*_: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os if step == "replace" else sqlite_file, step, failing)
        with pytest.raises((UnavailableError, KeyboardInterrupt)) as caught:
            convert_file(path, old=None, new=KEY)
    assert KEY.hex() not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["store.db"]
    assert await _secrets(path, None) == [CANARY]
    convert_file(path, old=None, new=KEY)
    assert await _secrets(path, KEY) == [CANARY]


async def test_a_conversion_killed_on_the_way_is_done_again(tmp_path: Path) -> None:
    """A file left by a kill is in nobody's way, and a conversion with the wrong key changes nothing."""
    path = tmp_path / "store.db"
    await (await _make(path, KEY)).close()
    (tmp_path / "store.db.converting").write_bytes(b"half of a store")
    before = path.read_bytes()
    with pytest.raises(RefusedError):
        convert_file(path, old=OTHER, new=None)
    assert path.read_bytes() == before
    (tmp_path / "store.db.converting").write_bytes(b"half of a store")
    convert_file(path, old=KEY, new=None)
    assert [file.name for file in tmp_path.iterdir()] == ["store.db"]


async def test_a_copy_that_differs_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer rows in the new file than in the old one: the old one stays."""
    path = tmp_path / "store.db"
    await (await _make(path, None)).close()
    counts = iter([{"a": 1}, {"a": 2}])
    monkeypatch.setattr(sqlite_file, "_row_counts", lambda _: next(counts))
    with pytest.raises(UnavailableError, match="not what was copied"):
        convert_file(path, old=None, new=KEY)
    assert not is_encrypted(path)
    with pytest.raises(UnavailableError, match="cannot open"):
        convert_file(tmp_path / "missing", old=None, new=KEY)
