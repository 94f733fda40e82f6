"""Revisions of settings on every SQL store: numbered once, in order, kept for each place, taken back by compare and swap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from specie.app.audit import MIGRATIONS as AUDIT_MIGRATIONS
from specie.app.system import SystemClock
from specie.audit import AuditBrokenError, AuditLog
from specie.audit.adapters.store_sql import SqlAuditStore
from specie.audit.record import record_from_text
from specie.ops.adapters import revision_sql
from specie.ops.adapters.revision_sql import MIGRATIONS, SqlRevisionStore
from specie.ops.revision import Change, Outcome, Revision
from specie.storage import Storage
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.rocks import needs_rocksdb, rocks_store


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


ONE = Revision(
    number=0,
    place="",
    at=1_700_000_000,
    author="alice (uid 1000)",
    outcome=Outcome.APPLIED,
    reasons=(),
    settings={"server.port": "3338", "mint.name": '"\\u0000 bänk"'},
    document={"mint": {"mint_max": 2**64 - 1, "contact": [["email", "a@b"]]}, "rails": [{"kind": "play"}]},
    changes=(Change("server.port", "1", "3338", False),),
)


async def test_a_revision_comes_back_whole(storage):
    """Every field, amounts exact; numbers count from 1; an unknown number is None."""
    store = SqlRevisionStore(storage)
    made = await store.add(ONE)
    assert made == replace(ONE, number=1)
    assert await store.find(1) == made
    refused = await store.add(replace(ONE, outcome=Outcome.REFUSED, reasons=("a", "b"), settings={}, document=None, changes=()))
    assert await store.find(2) == refused
    assert await store.find(3) is None
    assert await store.newest("", 10) == [refused, made]
    assert await store.newest("", 1) == [refused]
    assert await store.newest("", 5, applied=True) == [made]


async def test_numbers_are_given_once_whoever_asks(storage):
    """Several at once over two places: each number once, each place sees its own alone."""
    store = SqlRevisionStore(storage)
    made = await asyncio.gather(*(store.add(replace(ONE, place=f"host:{number % 2}")) for number in range(10)))
    assert sorted(revision.number for revision in made) == list(range(1, 11))
    for place in ("host:0", "host:1"):
        found = await store.newest(place, 100)
        assert len(found) == 5
        assert {revision.place for revision in found} == {place}
        assert [revision.number for revision in found] == sorted((revision.number for revision in found), reverse=True)


async def test_what_was_applied_can_be_taken_back_once(storage):
    """The reasons are kept, a refused one stays refused."""
    store = SqlRevisionStore(storage)
    await store.add(ONE)
    await store.add(replace(ONE, outcome=Outcome.REFUSED, reasons=("no",)))
    await store.undo(1, ["a part failed"])
    await store.undo(1, ["again"])
    await store.undo(2, ["again"])
    first, second = await store.find(1), await store.find(2)
    assert first is not None
    assert second is not None
    assert (first.outcome, first.reasons) == (Outcome.UNDONE, ("a part failed",))
    assert (second.outcome, second.reasons) == (Outcome.REFUSED, ("no",))
    assert await store.newest("", 1, applied=True) == []


async def test_old_ones_go_but_never_the_one_that_runs(storage, monkeypatch):
    """However many are refused after it, the newest applied revision stays; another place loses nothing."""
    monkeypatch.setattr(revision_sql, "_KEPT", 3)
    store = SqlRevisionStore(storage)
    await store.add(replace(ONE, place="other"))
    await store.add(ONE)
    await store.add(ONE)
    for _ in range(6):
        await store.add(replace(ONE, outcome=Outcome.REFUSED))
    assert [revision.number for revision in await store.newest("", 100)] == [9, 8, 7, 3]
    assert [revision.number for revision in await store.newest("other", 100)] == [1]


async def test_every_revision_is_audited_with_it(storage):
    """A revision and its audit record are one transaction: who brought it, what came of it, which settings; undoing it, too."""
    await storage.migrate(AUDIT_MIGRATIONS)
    log = AuditLog(storage, SqlAuditStore(), SystemClock())
    store = SqlRevisionStore(storage, log)
    made = await store.add(ONE)
    await store.add(replace(ONE, outcome=Outcome.REFUSED, reasons=("a",), settings={}, document=None, changes=()))
    await store.undo(made.number, ["the port is taken"])
    found = [record_from_text(row.text) for row in await log.records()]
    assert [(one.verb, one.subject, str(one.outcome)) for one in found] == [
        ("settings.change", "revision 1", "done"),
        ("settings.change", "revision 2", "refused"),
        ("settings.undo", "revision 1", "done"),
    ]
    assert found[0].detail == {"author": "alice (uid 1000)", "changed": "server.port"}
    await storage.transact(lambda tx: tx.execute("DELETE FROM audit_record WHERE sequence = 3"))
    await storage.transact(lambda tx: tx.execute("UPDATE audit_head SET count = 1"))
    with pytest.raises(AuditBrokenError):
        await store.add(ONE)
    assert await store.find(3) is None
