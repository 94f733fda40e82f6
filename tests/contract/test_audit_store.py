"""The audit log on every SQL store: one chain of all writers, records with their effect or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from specie.audit import AuditBrokenError, AuditLog, Report, verify
from specie.audit.adapters.anchor_file import FileAnchor
from specie.audit.adapters.store_sql import MIGRATIONS, SqlAuditStore
from specie.audit.record import checkpoint_from_text, record_from_text
from specie.audit.verify import without_pieces
from specie.kernel import InvariantError, RefusedError, UnavailableError
from specie.storage import Storage
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.rocks import needs_rocksdb, rocks_store
from tests.support.virtual import VirtualClock


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("rocksdb", marks=needs_rocksdb),
        pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.network]),
    ]
)
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    made: Storage
    if request.param == "sqlite":
        made = SqliteStorage(tmp_path / "store.db", synchronous="OFF")
    elif request.param == "rocksdb":
        made = rocks_store(tmp_path / "store.rocksdb", sync=False)
    else:
        made = await PostgresStorage.connect(request.getfixturevalue("postgres_dsn"))
    await made.migrate(MIGRATIONS)
    yield made
    await made.close()


class Pages:
    """Telemetry that remembers what it paged."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def page(self, reason: str, /, **facts: object) -> None:
        self.pages.append(reason)


def opened(storage: Storage, **more: Any) -> AuditLog:
    return AuditLog(storage, SqlAuditStore(), VirtualClock(), **more)


async def checked(log: AuditLog, **more: Any) -> Report:
    return verify(await log.records(), checkpoints=await log.checkpoints(), head=await log.head(), **more)


async def test_records_make_a_chain_with_a_checkpoint_each(storage):
    """What is recorded is read back, whole, and a checkpoint covers it at once."""
    log = opened(storage, process="here")
    assert await log.head() is None
    assert await log.checkpoint() is None
    assert await log.record("bank.start", "test", detail={"version": "1"}) == 1
    with log.acting("operator"):
        async with log.recorded("keyset.rotate", "sat"):
            pass
    report = await checked(log)
    assert report.holds
    assert (report.count, report.covered) == (3, 3)
    records = [record_from_text(row.text) for row in await log.records()]
    assert [(one.actor, one.verb, one.outcome) for one in records] == [
        ("here", "bank.start", "done"),
        ("operator", "keyset.rotate", "begun"),
        ("operator", "keyset.rotate", "done"),
    ]
    assert [one.sequence for one in await log.records(after=1, limit=1)] == [2]


async def test_checkpoints_may_be_seldom_and_by_hand(storage):
    """Every third record, and whenever one is asked for; asking twice makes no second one."""
    log = opened(storage, every=3)
    for _ in range(4):
        await log.record("v")
    assert [count for count, _ in await log.checkpoints()] == [3]
    made = await log.checkpoint()
    assert made is not None
    assert made.count == 4
    await log.checkpoint()
    assert [count for count, _ in await log.checkpoints()] == [3, 4]
    assert (await checked(log)).holds


async def test_a_record_stands_or_falls_with_its_effect(storage):
    """A body that fails leaves no record, and the chain goes on as if it had not been."""
    log = opened(storage)

    gone = log.draft("v", "gone")

    async def body(tx):
        await log.append(tx, gone)
        raise RefusedError("no")

    await log.record("v", "kept")
    with pytest.raises(RefusedError):
        await storage.transact(body)
    await log.record("v", "next")
    assert [record_from_text(row.text).subject for row in await log.records()] == ["kept", "next"]
    assert (await checked(log)).holds


async def test_how_a_verb_ended_is_recorded(storage):
    """Refused, failed, or given up: the error's name is kept and its text is not."""
    log = opened(storage)
    for error in (RefusedError("secret text"), ValueError("secret text"), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            async with log.recorded("v", detail={"n": 1}):
                raise error
    rows = [record_from_text(row.text) for row in await log.records()]
    assert [row.outcome for row in rows] == ["begun", "refused", "begun", "failed", "begun", "failed"]
    assert rows[1].detail == {"n": 1, "error": "RefusedError"}
    assert "secret text" not in str(rows)


async def test_many_writers_make_one_chain(storage, request, tmp_path):
    """Two processes' worth of stores append at once, with one anchor: no gap, no fork, every checkpoint anchored in order."""
    other: Storage = storage
    if "postgres" in request.node.name:
        other = await PostgresStorage.connect(request.getfixturevalue("postgres_dsn"))
    path = tmp_path / "anchor.jsonl"
    logs = [opened(storage, process="one", anchor=FileAnchor(path)), opened(other, process="two", anchor=FileAnchor(path))]
    try:
        await asyncio.gather(*(log.record("v", str(number)) for number in range(40) for log in logs))
        report = await checked(logs[0])
    finally:
        if other is not storage:
            await other.close()
    assert report.holds
    assert (report.count, report.covered) == (80, 80)
    assert [checkpoint_from_text(line).count for line in path.read_text().splitlines()] == list(range(1, 81))
    actors = {record_from_text(row.text).actor for row in await logs[0].records()}
    assert actors == {"one", "two"}


async def test_nothing_happens_that_cannot_be_recorded(storage):
    """A store that cannot be reached, and a log that cannot go on, keep the verb from running."""

    class Away:
        async def transact(self, body):
            raise UnavailableError("the store is away")

    ran = []
    with pytest.raises(UnavailableError):
        async with opened(Away()).recorded("v"):
            ran.append(1)
    log = opened(storage)
    await log.record("v")
    await storage.transact(lambda tx: tx.execute("UPDATE audit_head SET peaks = $1", b"short"))
    with pytest.raises(AuditBrokenError):
        async with log.recorded("v"):
            ran.append(1)
    assert ran == []


async def test_tables_that_were_changed_take_no_record(storage):
    """A head that was set back, or has no sense, stops the log instead of forking it."""
    log = opened(storage)
    for _ in range(3):
        await log.record("v")
    await storage.transact(lambda tx: tx.execute("UPDATE audit_head SET count = $1, peaks = $2", 1, bytes(32)))
    with pytest.raises(AuditBrokenError, match="record 2 already"):
        await log.record("v")
    await storage.transact(lambda tx: tx.execute("UPDATE audit_head SET peaks = $1", b"short"))
    with pytest.raises(InvariantError, match="head was changed"):
        await log.record("v")
    assert not (await checked(log)).holds


async def test_an_anchor_gets_every_checkpoint(storage, tmp_path):
    """Also those it missed while it could not be reached; that pages somebody and stops nothing."""
    place, pages = tmp_path / "elsewhere", Pages()
    log = opened(storage, anchor=FileAnchor(place / "anchor.jsonl"), telemetry=pages)
    await log.record("v")
    assert len(pages.pages) == 1
    place.mkdir()
    assert await log.anchor_is_new()
    await log.record("v")
    lines = (place / "anchor.jsonl").read_text().splitlines()
    assert [checkpoint_from_text(line).count for line in lines] == [1, 2]
    assert (place / "anchor.jsonl").stat().st_mode & 0o777 == 0o600
    report = await checked(log, anchors=lines)
    assert (report.holds, report.anchored) == (True, 2)
    assert await log.agrees_with_anchor()
    assert await opened(storage).agrees_with_anchor()
    assert not await log.anchor_is_new()
    assert not await opened(storage).anchor_is_new()
    await storage.transact(lambda tx: tx.execute("DELETE FROM audit_record WHERE sequence = 2"))
    assert not await log.agrees_with_anchor()
    assert next(finding.kind.value for finding in (await checked(log, anchors=lines)).findings) == "truncated"


async def test_an_anchor_that_hangs_holds_nobody(storage):
    """A verb goes on without it and pages; it is not asked again while it is stuck, and gets all once it answers."""
    gone, asked, pages = threading.Event(), [], Pages()

    class Hanging:
        """An anchor on a place that is gone."""

        def last(self):
            asked.append("last")
            gone.wait()

        def add(self, texts):
            asked.extend(texts)

    log = opened(storage, anchor=Hanging(), telemetry=pages, anchor_s=0.05)
    async with asyncio.timeout(20):
        await log.record("v")
        await log.record("v")
        with pytest.raises(UnavailableError, match="still does not answer"):
            await log.agrees_with_anchor()
    assert asked == ["last"]
    assert pages.pages == ["checkpoints of the audit log were not anchored"] * 2
    gone.set()
    async with asyncio.timeout(20):
        while await log.anchor() != 2:
            await asyncio.sleep(0)
    assert asked[-2:] == [text for _, text in await log.checkpoints()]


async def test_an_error_that_an_anchor_does_not_name_stops_nothing(storage):
    """What the system says, as it stands: the record is durable, so the verb goes on and somebody is paged."""
    pages = Pages()

    class Broken:
        """An anchor whose disk is broken."""

        def last(self):
            raise OSError("no disk")

    assert await opened(storage, anchor=Broken(), telemetry=pages).record("v") == 1
    assert pages.pages == ["checkpoints of the audit log were not anchored"]


async def test_an_anchor_is_given_no_log_that_it_contradicts(storage, tmp_path):
    """Rewritten while the bank runs: nothing of it is handed over, so the anchor goes on saying which record was changed."""
    path, pages = tmp_path / "anchor.jsonl", Pages()
    log = opened(storage, anchor=FileAnchor(path), telemetry=pages)
    for _ in range(3):
        await log.record("v", "true")
    seen = path.read_text()
    for table in ("audit_record", "audit_checkpoint", "audit_head"):
        await storage.transact(lambda tx, table=table: tx.execute(f"DELETE FROM {table}"))
    other = opened(storage)
    for _ in range(3):
        await other.record("v", "false")
    await log.record("v", "next")
    assert path.read_text() == seen
    assert pages.pages == ["the audit log is not the one that its anchor has seen"]
    assert not await log.agrees_with_anchor()
    report = await checked(log, anchors=seen.splitlines())
    assert (report.holds, report.anchored) == (False, 0)


async def test_an_end_that_cannot_be_recorded_pages(storage):
    """What was done is done; somebody hears that the log lacks its end."""
    pages = Pages()
    log = opened(storage, telemetry=pages)
    async with log.recorded("v"):
        await storage.transact(lambda tx: tx.execute("UPDATE audit_head SET peaks = $1", b"short"))
    assert pages.pages == ["the end of an audited verb could not be recorded"]


def test_a_file_anchor_is_careful(tmp_path: Path) -> None:
    """A line cut short by a crash is dropped; what is no anchor is refused and never written to."""
    path = tmp_path / "anchor"
    lines = [f'{{"at":1,"count":{n},"head":"{"0" * 64}","root":"{"1" * 64}"}}' for n in (1, 2, 3)]
    anchor = FileAnchor(path)
    assert anchor.last() is None
    anchor.add(lines[:2])
    with path.open("a") as file:
        file.write(lines[2][:20])
    assert anchor.last() == checkpoint_from_text(lines[1])
    anchor.add(lines)
    assert anchor.last() == checkpoint_from_text(lines[2])
    found = path.read_text().splitlines()
    assert found == [*lines[:2], lines[2][:20], lines[2]], "nothing is taken away, so that the file may be one that only grows"
    assert without_pieces(found) == lines
    assert without_pieces(["strange", *lines, "more"]) == ["strange", *lines, "more"]
    with path.open("a") as file:
        file.write("a line\nof others\n")
    assert anchor.last() == checkpoint_from_text(lines[2])
    path.write_text("something else\n")
    for call in (anchor.last, lambda: anchor.add(lines)):
        with pytest.raises(UnavailableError, match="ends with no checkpoint"):
            call()
    assert path.read_text() == "something else\n"
    with pytest.raises(UnavailableError, match="cannot be used"):
        FileAnchor(tmp_path).last()
    with pytest.raises(UnavailableError, match="no file"):
        FileAnchor(Path("/dev/null")).last()
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(UnavailableError):
        FileAnchor(link).last()


def test_a_file_anchor_waits_for_nobody_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another program keeps is told, instead of waited for."""
    monkeypatch.setattr("specie.audit.adapters.anchor_file._LOCK_PAUSE_S", 0.0)
    path = tmp_path / "anchor"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UnavailableError, match="locked by another program"):
            FileAnchor(path).last()
    assert FileAnchor(path).last() is None


def test_the_directory_of_a_file_anchor_is_touched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is flushed where the file is made, and what it says then is an error as any other; later it is not needed."""
    synced: list[bool] = []
    broken = True
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        if broken:
            raise OSError(5, "no disk")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    text = f'{{"at":1,"count":1,"head":"{"0" * 64}","root":"{"1" * 64}"}}'
    with pytest.raises(UnavailableError, match="no disk"):
        FileAnchor(tmp_path / "one").last()
    broken = False
    FileAnchor(tmp_path / "two").add([text])
    FileAnchor(tmp_path / "two").add([text])
    assert synced == [True, True, False, False]


def test_what_a_crash_leaves_of_an_anchor_is_told_from_its_loss(tmp_path: Path) -> None:
    """Nulls where bytes should be are a piece as any other; a tail without any line is not an empty anchor."""
    path = tmp_path / "anchor"
    lines = [f'{{"at":1,"count":{n},"head":"{"0" * 64}","root":"{"1" * 64}"}}' for n in (1, 2, 3)]
    for piece in (lines[0][:3], lines[0][:30], "\0" * 40, lines[0][:30] + "\0" * 40):
        path.write_text(piece)
        assert FileAnchor(path).last() is None
        FileAnchor(path).add(lines[:1])
        with path.open("a") as file:
            file.write("\0" * 40)
        FileAnchor(path).add(lines)
        assert without_pieces(path.read_text().splitlines()) == lines
    for lost in (lines[0] + "\n" + "\0" * 5000, "x" * 40):
        path.write_text(lost)
        for call in (FileAnchor(path).last, lambda: FileAnchor(path).add(lines)):
            with pytest.raises(UnavailableError, match="ends with no checkpoint"):
                call()
        assert path.read_text() == lost
