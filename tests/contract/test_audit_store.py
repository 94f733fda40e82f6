"""The audit log on every SQL store: one chain of all writers, records with their effect or not at all."""

from __future__ import annotations

import asyncio
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
