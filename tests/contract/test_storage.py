"""The storage port: one suite, run on every adapter."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, cast

import pytest

from specie.kernel import InvariantError, MalformedError, RefusedError, UnavailableError
from specie.storage import Body, ConstraintError, Migration, SchemaError, Storage, Transaction
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.rocks import needs_rocksdb, rocks_store

MAX_U64 = 2**64 - 1

NOTES = Migration(
    "notes",
    1,
    sqlite="""
CREATE TABLE proof (y BLOB PRIMARY KEY, amount TEXT NOT NULL, owner INTEGER) STRICT, WITHOUT ROWID;
CREATE TABLE note (name TEXT PRIMARY KEY, number INTEGER NOT NULL) STRICT;
""",
    postgres="""
CREATE TABLE proof (y BYTEA PRIMARY KEY, amount TEXT NOT NULL, owner BIGINT);
CREATE TABLE note (name TEXT PRIMARY KEY, number BIGINT NOT NULL);
""",
)


class Letter(StrEnum):
    B = "b"


class Digit(IntEnum):
    TWO = 2


@dataclass
class Stores:
    """Opens stores on one place, and closes them."""

    kind: str
    where: str
    opened: list[Storage] = field(default_factory=list)

    async def open(self, **settings: Any) -> Storage:
        store: Storage
        if self.kind == "postgres":
            store = await PostgresStorage.connect(self.where, **settings)
        elif self.kind.startswith("rocksdb"):
            store = rocks_store(Path(self.where), inline=self.kind == "rocksdb-inline", **settings)
        else:
            store = SqliteStorage(Path(self.where), inline=self.kind == "sqlite-inline", **settings)
        self.opened.append(store)
        return store

    async def ready(self, **settings: Any) -> Storage:
        """A store with the tables of this suite."""
        store = await self.open(**settings)
        await store.migrate([NOTES])
        return store

    def pause(self, until: threading.Event) -> Callable[[Transaction], Awaitable[None]]:
        """A wait inside a body: on the thread of an embedded store, in the server of the other."""

        async def wait(tx: Transaction) -> None:
            if self.kind != "postgres":
                assert until.wait(20)
            while not until.is_set():
                await tx.fetch("SELECT pg_sleep(0.005)")

        return wait


@pytest.fixture(
    params=[
        "sqlite",
        "sqlite-inline",
        pytest.param("rocksdb", marks=needs_rocksdb),
        pytest.param("rocksdb-inline", marks=needs_rocksdb),
        pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.network]),
    ]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    if request.param == "postgres":
        return request.param, request.getfixturevalue("postgres_dsn")
    return request.param, str(tmp_path / "data" / f"store.{request.param.partition('-')[0]}")


@pytest.fixture
async def stores(place: tuple[str, str]) -> AsyncIterator[Stores]:
    made = Stores(*place)
    yield made
    for store in made.opened:
        await store.close()


@pytest.fixture
def threaded(stores: Stores) -> Stores:
    """For what cannot happen where a body runs at once on the caller's thread."""
    if stores.kind.endswith("-inline"):
        pytest.skip("an inline store has one body at a time")
    return stores


def insert(name: str, number: int = 0) -> Callable[[Transaction], Awaitable[int]]:
    async def body(tx: Transaction) -> int:
        return await tx.execute("INSERT INTO note (name, number) VALUES ($1, $2)", name, number)

    return body


async def names(store: Storage) -> list[str]:
    rows = await store.read(lambda tx: tx.fetch("SELECT name FROM note ORDER BY name"))
    return [str(row[0]) for row in rows]


async def entered(event: threading.Event) -> None:
    """Wait, without blocking the loop, until a body has come to its pause."""
    assert await asyncio.to_thread(event.wait, 20)


# Statements


async def test_values_return_as_they_went(stores: Stores) -> None:
    """Bytes, text, signed 64-bit integers, nothing, and 2**64-1 as text keep type and value."""
    store = await stores.ready()
    rows: list[tuple[bytes, str, int | None]] = [
        (b"\x00\xff" * 16, str(MAX_U64), None),
        (b"", "0", 2**63 - 1),
        (b"a", "\u20bf \u00e9 '$1' \\", -(2**63)),
    ]
    await store.transact(lambda tx: tx.execute_many("INSERT INTO proof (y, amount, owner) VALUES ($1, $2, $3)", rows))
    found = await store.read(lambda tx: tx.fetch("SELECT y, amount, owner FROM proof"))
    assert sorted(found, key=repr) == sorted(rows, key=repr)
    assert all(type(row) is tuple for row in found)
    assert {type(value) for row in found for value in row} == {bytes, str, int, type(None)}


async def test_a_text_with_a_zero_in_it_is_not_our_mistake(stores: Stores) -> None:
    """U+0000 comes from outside: kept or refused as malformed, asked for or written, never an invariant that stops the bank."""
    store = await stores.ready()
    try:
        assert await store.transact(insert("a\0b")) == 1
    except MalformedError:
        assert await names(store) == []
    else:
        assert await names(store) == ["a\0b"]
    try:
        found = await store.read(lambda tx: tx.fetch("SELECT name FROM note WHERE name = $1", "c\0d"))
    except MalformedError:
        found = []
    assert found == []
    assert await store.transact(insert("plain")) == 1


async def test_a_body_reads_what_it_wrote(stores: Stores) -> None:
    """Statements see what earlier statements of the same body wrote, and others see it after the commit."""
    store = await stores.ready()

    async def body(tx: Transaction) -> object:
        assert await tx.fetch_one("SELECT number FROM note WHERE name = $1", "a") is None
        await tx.execute("INSERT INTO note (name, number) VALUES ($1, $2)", "a", 1)
        await tx.execute("UPDATE note SET number = number + $2 WHERE name = $1", "a", 41)
        return await tx.fetch_one("SELECT number FROM note WHERE name = $1", "a")

    assert await store.transact(body) == (42,)
    assert await store.read(lambda tx: tx.fetch_one("SELECT number FROM note")) == (42,)


async def test_execute_counts_the_rows_it_changed(stores: Stores) -> None:
    """Inserts, ignored inserts, updates, deletes and statements that change nothing are counted alike everywhere."""
    store = await stores.ready()

    async def body(tx: Transaction) -> list[int]:
        insertion = "INSERT INTO note (name, number) VALUES ($1, $2) ON CONFLICT DO NOTHING"
        return [
            await tx.execute(insertion, "a", 1),
            await tx.execute(insertion, "a", 2),
            await tx.execute(insertion, "b", 2),
            await tx.execute("UPDATE note SET number = 7"),
            await tx.execute("SELECT name FROM note"),
            await tx.execute("UPDATE note SET number = 8 WHERE name = $1", "nobody"),
            await tx.execute("INSERT INTO note (name, number) VALUES ($1, 1), ($2, 2) RETURNING name", "c", "d"),
            await tx.execute("DELETE FROM note"),
        ]

    assert await store.transact(body) == [1, 0, 1, 2, 0, 0, 2, 4]


async def test_placeholders(stores: Stores) -> None:
    """`$1` may be used repeatedly and in any order, and is left alone inside a literal; RETURNING gives rows."""
    store = await stores.ready()

    async def body(tx: Transaction) -> object:
        return await tx.fetch(
            "INSERT INTO note (number, name) VALUES ($2, $1 || '$2' || $1) RETURNING name, number -- $9", "x", 5
        )

    assert await store.transact(body) == [("x$2x", 5)]


@pytest.mark.parametrize("count", [0, 1, 3, 5000])
async def test_fetch_in(stores: Stores, count: int) -> None:
    """Any number of keys, repeated ones too, beside other values; absent keys give nothing."""
    store = await stores.ready()
    keys = [number.to_bytes(33, "big") for number in range(count)]
    rows = [(key, str(number), number % 2) for number, key in enumerate(keys)]
    await store.transact(lambda tx: tx.execute_many("INSERT INTO proof (y, amount, owner) VALUES ($1, $2, $3)", rows))
    found = await store.read(lambda tx: tx.fetch_in("SELECT y, amount, owner FROM proof WHERE y IN {keys}", [*keys, *keys[:3]]))
    assert sorted(found) == rows
    odd = await store.read(
        lambda tx: tx.fetch_in("SELECT y FROM proof WHERE owner = $1 AND y IN {keys} AND amount <> $2", [*keys, b"no"], 1, "1")
    )
    assert sorted(odd) == [(key,) for number, key in enumerate(keys) if number % 2 and number != 1]


async def test_fetch_in_with_text_and_numbers(stores: Stores) -> None:
    """Keys may be text, integers or members of an enumeration; a body that writes may look them up too."""
    store = await stores.ready()

    async def body(tx: Transaction) -> object:
        await tx.execute_many("INSERT INTO note (name, number) VALUES ($1, $2)", [("a", 1), ("b", 2), ("c", 3)])
        by_name = await tx.fetch_in("SELECT number FROM note WHERE name IN {keys}", ["c", "a", "zz"])
        by_number = await tx.fetch_in("SELECT name FROM note WHERE number IN {keys}", (2,))
        by_member = await tx.fetch_in("SELECT name FROM note WHERE name IN {keys} AND number = $1", [Letter.B], Digit.TWO)
        return sorted(by_name), by_number, by_member

    assert await store.transact(body) == ([(1,), (3,)], [("b",)], [("b",)])


async def test_fetch_in_needs_its_place(stores: Stores) -> None:
    """A statement without `{keys}` is our mistake and says so."""
    store = await stores.ready()
    with pytest.raises(InvariantError, match="keys"):
        await store.read(lambda tx: tx.fetch_in("SELECT name FROM note", ["a"]))


# Alone and together


async def test_bodies_that_arrive_together_commit_together(threaded: Stores) -> None:
    """Group commit: many callers, fewer commits; each gets its own result."""
    store = await threaded.ready()
    before = store.status()
    results = await asyncio.gather(*(store.transact(insert(f"n{number:03}", number)) for number in range(200)))
    after = store.status()
    assert results == [1] * 200
    assert after.bodies - before.bodies == 200
    assert after.commits - before.commits < 100
    assert len(await names(store)) == 200


async def test_each_fails_alone(stores: Stores) -> None:
    """Of a group some raise, some break constraints, some write bad SQL: only they are undone, each with its own error."""
    store = await stores.ready()
    await store.transact(insert("taken"))

    class OwnError(RefusedError):
        pass

    async def refuses(tx: Transaction) -> None:
        await insert("refused")(tx)
        raise OwnError("no")

    async def conflicts(tx: Transaction) -> None:
        await insert("conflicting")(tx)
        await insert("taken")(tx)

    async def misspells(tx: Transaction) -> None:
        await insert("misspelt")(tx)
        await tx.execute("INSERT INTO nowhere VALUES (1)")

    bad = [refuses, conflicts, misspells]
    work = [task for number in range(12) for task in (insert(f"good{number:02}"), bad[number % 3])]
    results = await asyncio.gather(*(store.transact(body) for body in work), return_exceptions=True)
    assert [type(result) for result in results] == [int, OwnError, int, ConstraintError, int, InvariantError] * 4
    assert await names(store) == [*(f"good{number:02}" for number in range(12)), "taken"]


async def test_a_failed_statement_dooms_the_body(stores: Stores) -> None:
    """A body cannot go on after a failed statement, nor hide it: the same rule on every engine."""
    store = await stores.ready()
    await store.transact(insert("a"))
    later: list[str] = []

    async def swallows(tx: Transaction) -> str:
        await insert("b")(tx)
        with pytest.raises(ConstraintError):
            await insert("a")(tx)
        with pytest.raises(ConstraintError):
            await insert("c")(tx)
        with pytest.raises(ConstraintError):
            tx.notify("news", "b")
        later.append("went on")
        return "fine"

    with pytest.raises(ConstraintError):
        await store.transact(swallows)
    assert later == ["went on"]
    assert await names(store) == ["a"]


async def test_a_body_that_waits_for_something_else_is_undone(stores: Stores) -> None:
    """Bodies may await their transaction only: anything else is an InvariantError, and the store goes on."""
    store = await stores.ready()

    async def waits(tx: Transaction) -> None:
        await insert("waited")(tx)
        await asyncio.sleep(0)

    with pytest.raises(InvariantError, match="awaited"):
        await store.transact(waits)
    with pytest.raises(InvariantError, match="awaited"):
        await store.read(lambda _tx: asyncio.sleep(0))
    await store.transact(insert("after"))
    assert await names(store) == ["after"]


async def test_a_transaction_is_over_when_its_body_ends(stores: Stores) -> None:
    """A transaction kept beyond its body does nothing any more, whether the body succeeded or failed."""
    store = await stores.ready()
    kept: list[Transaction] = []

    async def keeps(tx: Transaction) -> None:
        kept.append(tx)
        if len(kept) == 2:
            raise RefusedError("no")

    await store.transact(keeps)
    with pytest.raises(RefusedError):
        await store.transact(keeps)
    await store.read(keeps)
    for tx in kept:
        with pytest.raises(InvariantError, match="over"):
            await tx.execute("DELETE FROM note")
        with pytest.raises(InvariantError, match="over"):
            await tx.execute_many("DELETE FROM note WHERE name = $1", [("a",)])
        with pytest.raises(InvariantError, match="over"):
            tx.notify("news", "late")


async def test_values_that_do_not_fit_are_our_mistake(stores: Stores) -> None:
    """An integer beyond 64 bits, or a wrong number of values, is an InvariantError that does not repeat the value."""
    store = await stores.ready()
    with pytest.raises(InvariantError) as raised:
        await store.transact(insert("big", 2**64))
    assert str(2**64) not in str(raised.value)
    with pytest.raises(InvariantError):
        await store.transact(lambda tx: tx.execute("INSERT INTO note (name, number) VALUES ($1, $2)", "a"))
    with pytest.raises(InvariantError):
        await store.transact(lambda tx: tx.execute_many("INSERT INTO note (name, number) VALUES ($1, $2)", [("a",)]))
    assert await names(store) == []


# Many at once


async def test_one_winner_for_one_row(stores: Stores) -> None:
    """Claims of the same rows, from two stores at once and in opposite orders: each row has exactly one winner."""
    first = await stores.ready()
    second = await stores.open()
    rows = [bytes([number]) * 33 for number in range(16)]

    def claim(row: bytes, owner: int) -> Callable[[Transaction], Awaitable[int]]:
        async def body(tx: Transaction) -> int:
            return await tx.execute(
                "INSERT INTO proof (y, amount, owner) VALUES ($1, '1', $2) ON CONFLICT DO NOTHING", row, owner
            )

        return body

    claims = [(store, row, owner) for owner in range(4) for store in (first, second) for row in rows[:: 1 if owner % 2 else -1]]
    won = await asyncio.gather(*(store.transact(claim(row, owner)) for store, row, owner in claims))
    assert sum(won) == len(rows)
    assert {row for (_store, row, _owner), count in zip(claims, won, strict=True) if count} == set(rows)


async def test_two_rows_in_opposite_orders(stores: Stores) -> None:
    """Bodies that take the same two rows in opposite orders, from two stores: each wins or loses, whole; none hangs."""
    first = await stores.ready()
    second = await stores.open()

    def claim(rows: tuple[bytes, bytes], owner: int) -> Callable[[Transaction], Awaitable[int]]:
        async def body(tx: Transaction) -> int:
            for row in rows:
                await tx.execute("INSERT INTO proof (y, amount, owner) VALUES ($1, '1', $2)", row, owner)
            return owner

        return body

    pairs = [(bytes([number]) * 33, bytes([number + 100]) * 33) for number in range(8)]
    work = []
    for number, (one, other) in enumerate(pairs):
        work += [first.transact(claim((one, other), number)), second.transact(claim((other, one), number + 100))]
    results = await asyncio.gather(*work, return_exceptions=True)
    assert {type(result) for result in results} == {int, ConstraintError}
    assert sum(isinstance(result, int) for result in results) == len(pairs)
    owners = dict(await first.read(lambda tx: tx.fetch("SELECT y, owner FROM proof")))  # type: ignore[arg-type]
    assert all(owners[one] == owners[other] for one, other in pairs)


async def test_no_update_is_lost(stores: Stores) -> None:
    """A hundred increments through two stores add up."""
    first = await stores.ready()
    second = await stores.open()
    await first.transact(insert("sum", 0))

    async def add(tx: Transaction) -> None:
        assert await tx.execute("UPDATE note SET number = number + 1 WHERE name = $1", "sum") == 1

    await asyncio.gather(*(store.transact(add) for _ in range(50) for store in (first, second)))
    assert await second.read(lambda tx: tx.fetch_one("SELECT number FROM note")) == (100,)


async def test_bodies_of_one_lane_run_one_after_the_other(stores: Stores) -> None:
    """What a lane is for: rows kept once a lane are never contended. An embedded store has one."""
    store = await stores.ready()
    running: set[int] = set()
    seen: list[int] = []

    async def body(tx: Transaction) -> None:
        assert tx.lane not in running
        running.add(tx.lane)
        seen.append(tx.lane)
        await tx.fetch("SELECT name FROM note")
        running.discard(tx.lane)

    await asyncio.gather(*(store.transact(body) for _ in range(60)))
    assert len(seen) == 60
    assert set(seen) <= set(range(4))
    if stores.kind != "postgres":
        assert set(seen) == {0}


async def test_a_read_sees_one_moment(threaded: Stores) -> None:
    """A read that began before a commit does not see it, however late its next statement; a new read does."""
    store = await threaded.ready()
    await store.transact(insert("before"))
    began, go_on = threading.Event(), threading.Event()
    pause = threaded.pause(go_on)

    async def looks_twice(tx: Transaction) -> tuple[object, object]:
        first = await tx.fetch("SELECT name FROM note")
        began.set()
        await pause(tx)
        return first, await tx.fetch("SELECT name FROM note")

    reading = asyncio.ensure_future(store.read(looks_twice))
    await entered(began)
    await store.transact(insert("meanwhile"))
    go_on.set()
    assert await reading == ([("before",)], [("before",)])
    assert await names(store) == ["before", "meanwhile"]


async def test_a_read_does_not_wait_for_a_writer(threaded: Stores) -> None:
    """While a body that has written is still running, reads answer, with what was committed."""
    store = await threaded.ready()
    began, go_on = threading.Event(), threading.Event()
    pause = threaded.pause(go_on)

    async def slow(tx: Transaction) -> None:
        await insert("slow")(tx)
        began.set()
        await pause(tx)

    writing = asyncio.ensure_future(store.transact(slow))
    await entered(began)
    assert await asyncio.wait_for(names(store), 10) == []
    go_on.set()
    await writing
    assert await names(store) == ["slow"]


async def test_a_read_may_not_write(stores: Stores) -> None:
    """A read that writes is an InvariantError and leaves nothing; an error of its own comes through as it is."""
    store = await stores.ready()
    with pytest.raises(InvariantError):
        await store.read(insert("sneaked"))

    async def refuses(_tx: Transaction) -> None:
        raise RefusedError("not found")

    with pytest.raises(RefusedError, match="not found"):
        await store.read(refuses)
    await store.transact(insert("proper"))
    assert await names(store) == ["proper"]


# Notices


async def test_notices_follow_the_commit(stores: Stores) -> None:
    """A notice of an undone body is never heard; when one is heard, what it speaks of can be read; channels are apart."""
    store = await stores.ready()
    heard, other = store.listen("news"), store.listen("weather")

    def tells(name: str, fails: bool) -> Callable[[Transaction], Awaitable[None]]:
        async def body(tx: Transaction) -> None:
            tx.notify("news", name)
            await insert(name)(tx)
            if fails:
                raise RefusedError("undone")

        return body

    await asyncio.gather(
        *(store.transact(tells(name, fails)) for name, fails in [("a", True), ("b", False), ("c", True), ("d", False)]),
        return_exceptions=True,
    )
    for expected in ("b", "d"):
        assert await asyncio.wait_for(anext(heard), 10) == expected
        assert expected in await names(store)
    await store.transact(tells("e", False))
    assert await asyncio.wait_for(anext(heard), 10) == "e"

    async def rains(tx: Transaction) -> None:
        tx.notify("weather", "rain \u2614 " + "x" * 6900)

    await store.transact(rains)
    assert (await asyncio.wait_for(anext(other), 10)).startswith("rain \u2614 x")


async def test_notices_reach_other_processes(stores: Stores) -> None:
    """On a server every store on the database hears; on a file only the one that spoke."""
    speaker = await stores.ready()
    hearer = await stores.open()
    own, others = speaker.listen("news"), hearer.listen("news")

    async def tells(tx: Transaction) -> None:
        tx.notify("news", "hello")

    await speaker.transact(tells)
    assert await asyncio.wait_for(anext(own), 10) == "hello"
    if stores.kind == "postgres":
        assert await asyncio.wait_for(anext(others), 10) == "hello"


async def test_a_slow_listener_loses_the_oldest(stores: Stores) -> None:
    """The queue of a listener is bounded; what is newest stays. One that leaves costs nothing."""
    store = await stores.ready(listener_bound=3)
    slow, gone = store.listen("news"), store.listen("news")
    last = store.listen("last")
    await gone.aclose()  # type: ignore[attr-defined]

    async def tells(tx: Transaction) -> None:
        for number in range(10):
            tx.notify("news", str(number))
        tx.notify("last", "done")

    await store.transact(tells)
    assert await asyncio.wait_for(anext(last), 10) == "done"
    assert [await anext(slow) for _ in range(3)] == ["7", "8", "9"]
    with pytest.raises(StopAsyncIteration):
        await anext(gone)


async def test_listeners_end_with_the_store(stores: Stores) -> None:
    """A loop over notices ends when the store closes."""
    store = await stores.ready()
    heard: list[str] = []
    notices = store.listen("news")

    async def listens() -> None:
        heard.extend([notice async for notice in notices])

    async def tells(tx: Transaction) -> None:
        tx.notify("news", "last words")

    listening = asyncio.ensure_future(listens())
    first = store.listen("news")
    await store.transact(tells)
    await asyncio.wait_for(anext(first), 10)
    await store.close()
    await asyncio.wait_for(listening, 10)
    assert heard == ["last words"]


# Schema


def step(version: int, table: str, room: str = "notes") -> Migration:
    sql = f"CREATE TABLE {table} (name TEXT PRIMARY KEY);"
    return Migration(room, version, sqlite=sql, postgres=sql)


async def test_migrations_are_applied_once(stores: Stores) -> None:
    """Each step is applied once, in order; a second start and a second process find nothing to do."""
    store = await stores.open()
    assert await store.migrate([NOTES]) == [NOTES]
    assert await store.migrate([NOTES]) == []
    more = [NOTES, step(2, "two"), step(1, "elsewhere", "other"), step(3, "three")]
    assert await store.migrate(more) == more[1:]
    again = await stores.open()
    assert await again.migrate(more) == []
    await again.transact(lambda tx: tx.execute("INSERT INTO three (name) VALUES ('x')"))


async def test_stores_that_start_together_migrate_once(threaded: Stores) -> None:
    """Several processes may start at once on an empty store: one applies the steps, the others wait and find them."""
    opened = [await threaded.open() for _ in range(3)]
    applied = await asyncio.gather(*(store.migrate([NOTES, step(2, "two")]) for store in opened))
    assert sorted(len(steps) for steps in applied) == [0, 0, 2]


async def test_a_newer_schema_is_refused(stores: Stores) -> None:
    """An older program does not touch a newer store; rooms it does not speak of are left alone."""
    store = await stores.open()
    await store.migrate([NOTES, step(2, "two")])
    with pytest.raises(SchemaError, match="newer"):
        await store.migrate([NOTES])
    assert await store.migrate([step(1, "elsewhere", "other")]) != []


async def test_an_edited_step_is_refused(stores: Stores) -> None:
    """A released step is never edited; white space at line ends does not count."""
    store = await stores.open()
    await store.migrate([step(1, "one")])
    spaced = Migration("notes", 1, **dict.fromkeys(("sqlite", "postgres"), "\nCREATE TABLE one (name TEXT PRIMARY KEY);  \n\n"))
    assert await store.migrate([spaced]) == []
    with pytest.raises(SchemaError, match="edited"):
        await store.migrate([step(1, "another")])


async def test_a_failing_step_undoes_all(stores: Stores) -> None:
    """Steps are applied all or none."""
    store = await stores.ready()
    bad = Migration("notes", 3, sqlite="CREATE TABLE x (y NONSENSE(", postgres="CREATE TABLE x (y NONSENSE(")
    with pytest.raises(InvariantError):
        await store.migrate([NOTES, step(2, "two"), bad])
    assert await store.migrate([NOTES, step(2, "two")]) == [step(2, "two")]


async def test_a_step_may_not_commit(stores: Stores) -> None:
    """A step that ends the transaction it runs in is our mistake."""
    store = await stores.open()
    sql = "CREATE TABLE x (y TEXT);\nCOMMIT;"
    with pytest.raises(InvariantError):
        await store.migrate([Migration("notes", 1, sqlite=sql, postgres=sql)])


# Copies, bounds, ends


async def test_backup(stores: Stores, tmp_path: Path) -> None:
    """A copy taken in use opens as a store with all that was committed; an engine with its own tools names them."""
    store = await stores.ready()
    await asyncio.gather(*(store.transact(insert(f"n{number:02}")) for number in range(20)))
    target = tmp_path / "copy.sqlite"
    if stores.kind == "postgres":
        with pytest.raises(RefusedError, match="pg_dump"):
            await store.backup(target)
        return
    await store.backup(target)
    await store.transact(insert("later"))
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.sqlite"]
    assert target.stat().st_mode & 0o777 == (0o700 if target.is_dir() else 0o600)
    with pytest.raises(RefusedError, match="exists"):
        await store.backup(target)
    copy = await Stores(f"{stores.kind.partition('-')[0]}-inline", str(target)).open()
    assert await copy.migrate([NOTES]) == []
    assert await names(copy) == [f"n{number:02}" for number in range(20)]
    await copy.close()


async def test_a_full_queue_says_when_to_come_back(threaded: Stores) -> None:
    """When too many bodies wait, one more is refused at once with UnavailableError, and the waiting ones are served."""
    settings: dict[str, Any] = {"writers": 1} if threaded.kind == "postgres" else {}
    store = await threaded.ready(max_queue=5, **settings)
    began, go_on = threading.Event(), threading.Event()
    pause = threaded.pause(go_on)

    async def slow(tx: Transaction) -> None:
        began.set()
        await pause(tx)

    blocking = asyncio.ensure_future(store.transact(slow))
    await entered(began)
    waiting = [asyncio.ensure_future(store.transact(insert(f"n{number}"))) for number in range(5)]
    await asyncio.sleep(0)
    assert store.status().queue == 5
    with pytest.raises(UnavailableError) as raised:
        await store.transact(insert("too many"))
    assert raised.value.retry_after_s > 0
    go_on.set()
    await blocking
    await asyncio.gather(*waiting)
    assert len(await names(store)) == 5


async def test_a_caller_that_leaves_harms_nobody(threaded: Stores) -> None:
    """Callers cancelled while their body waits or runs get nothing; the others of their group are served."""
    settings: dict[str, Any] = {"writers": 1} if threaded.kind == "postgres" else {}
    store = await threaded.ready(**settings)
    began, go_on = threading.Event(), threading.Event()
    pause = threaded.pause(go_on)

    async def slow(tx: Transaction) -> None:
        began.set()
        await insert("slow")(tx)
        await pause(tx)

    running = asyncio.ensure_future(store.transact(slow))
    await entered(began)
    leaving = [asyncio.ensure_future(store.transact(insert(f"leaves{number}"))) for number in range(3)]
    staying = [asyncio.ensure_future(store.transact(insert(f"stays{number}"))) for number in range(3)]
    await asyncio.sleep(0)
    for task in (running, *leaving):
        task.cancel()
    results = await asyncio.gather(running, *leaving, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    go_on.set()
    await asyncio.gather(*staying)
    assert [name for name in await names(store) if name.startswith("stays")] == ["stays0", "stays1", "stays2"]


async def test_close_finishes_what_is_queued(stores: Stores) -> None:
    """Closing answers every body that was accepted, then refuses; closing twice is fine."""
    store = await stores.ready()
    tasks = [asyncio.ensure_future(store.transact(insert(f"n{number:02}"))) for number in range(50)]
    reads = [asyncio.ensure_future(names(store)) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    results = await asyncio.gather(*tasks)
    assert results == [1] * 50
    for result in await asyncio.gather(*reads, return_exceptions=True):
        assert isinstance(result, list | UnavailableError)
    for refused in (store.transact(insert("late")), names(store), store.migrate([NOTES])):
        with pytest.raises(UnavailableError):
            await refused
    again = await stores.open()
    assert len(await names(again)) == 50


async def test_status_counts(stores: Stores) -> None:
    """The engine's name and the figures that health pages show."""
    store = await stores.ready()
    before = store.status()
    for number in range(3):
        await store.transact(insert(f"n{number}"))
    after = store.status()
    assert after.engine == stores.kind.partition("-")[0]
    assert (after.commits - before.commits, after.bodies - before.bodies, after.queue) == (3, 3, 0)


@pytest.mark.e2e
async def test_acknowledged_commits_survive_sigkill(threaded: Stores) -> None:
    """A process that commits under load is killed with SIGKILL: every row it acknowledged is there, none is half there."""
    store = await threaded.ready()
    await store.close()
    for attempt in range(2):
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("committer.py"), threaded.kind, threaded.where], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        seen: list[int] = []
        try:
            while len(seen) < 150 + 100 * attempt:
                seen.append(int(await asyncio.to_thread(process.stdout.readline)))
        finally:
            os.kill(process.pid, signal.SIGKILL)
            rest = await asyncio.to_thread(process.stdout.read)
            process.stdout.close()
            assert process.wait() == -signal.SIGKILL
        seen += [int(line) for line in rest.split(b"\n")[:-1]]
        reopened = await threaded.open()
        found = await names(reopened)
        assert {f"{side}{number}" for number in seen for side in "ab"} <= set(found)
        assert {name[1:] for name in found if name[0] == "a"} == {name[1:] for name in found if name[0] == "b"}
        await reopened.transact(lambda tx: tx.execute("DELETE FROM note"))
        await reopened.close()


# Rows and sums that a body leaves to the end of its commit


class Sums:
    """A tally that remembers what it was told, and keeps it in the table of notes."""

    def __init__(self) -> None:
        self.told: list[dict[tuple[str, ...], int]] = []

    async def write(self, tx: Transaction, sums: Mapping[tuple[str, ...], int]) -> None:
        self.told.append(dict(sums))
        for (name,), amount in sorted(sums.items()):
            while not await tx.execute("UPDATE note SET number = number + $2 WHERE name = $1", name, amount):
                await tx.execute("INSERT INTO note (name, number) VALUES ($1, 0) ON CONFLICT DO NOTHING", name)


def claim(*keys: int, owner: int = 0, after: Callable[[Transaction], Awaitable[Any]] | None = None) -> Body[bool]:
    """Insert proofs by the method that may put them off; a refused claim raises."""

    async def body(tx: Transaction) -> bool:
        rows = [(bytes([key]), str(key), owner or None) for key in keys]
        if not await tx.insert("proof", "y, amount, owner", rows):
            raise RefusedError("taken")
        if after is not None:
            await after(tx)
        return True

    return body


async def proofs(store: Storage) -> dict[int, int | None]:
    rows = await store.read(lambda tx: tx.fetch("SELECT y, owner FROM proof ORDER BY y"))
    return {cast(bytes, y)[0]: cast("int | None", owner) for y, owner in rows}


async def test_inserted_rows_are_there(stores: Stores) -> None:
    """Alone, many at once, none at all, with and without values that may be missing."""
    store = await stores.ready()
    assert await store.transact(claim(1, 2, 3, owner=7))
    assert await store.transact(claim())
    assert await asyncio.gather(*(store.transact(claim(key, key + 1)) for key in range(10, 50, 2))) == [True] * 20
    assert await proofs(store) == {1: 7, 2: 7, 3: 7} | dict.fromkeys(range(10, 50))


async def test_a_taken_key_undoes_its_body_alone(stores: Stores) -> None:
    """Taken before, within one body, or by another body of the same commit: who comes second hears of it, nobody else."""
    store = await stores.ready()
    await store.transact(claim(1, owner=1))
    bodies = [claim(2), claim(3, 1), claim(4, 4), claim(5, owner=5), claim(5, owner=6), claim(6)]
    answers = await asyncio.gather(*(store.transact(body) for body in bodies), return_exceptions=True)
    refused = [isinstance(answer, RefusedError) for answer in answers]
    assert refused[:3] == [False, True, True]
    assert sorted(refused[3:5]) == [False, True]
    assert refused[5] is False
    assert await proofs(store) == {1: 1, 2: None, 5: 6 if refused[3] else 5, 6: None}
    again = await asyncio.gather(*(store.transact(claim(key)) for key in (2, 7)), return_exceptions=True)
    assert isinstance(again[0], RefusedError)
    assert again[1] is True


async def test_later_statements_see_inserted_rows(stores: Stores) -> None:
    """Of the body itself and of those before it in the commit, whatever was put off."""
    store = await stores.ready()

    async def look(tx: Transaction) -> None:
        rows = await tx.fetch("SELECT y FROM proof ORDER BY y")
        assert (bytes([9]),) in rows
        assert await tx.execute("UPDATE proof SET owner = 3 WHERE y = $1", bytes([9])) == 1

    await asyncio.gather(store.transact(claim(1)), store.transact(claim(9, after=look)), store.transact(claim(2)))
    assert await proofs(store) == {1: None, 2: None, 9: 3}


async def test_a_body_that_fails_after_it_inserted(stores: Stores) -> None:
    """Its rows are gone, whether they were written already or not; its neighbours' are not."""
    store = await stores.ready()

    async def fail(tx: Transaction) -> None:
        raise RefusedError("no")

    async def write_and_fail(tx: Transaction) -> None:
        await tx.execute("INSERT INTO note (name, number) VALUES ('x', 1)")
        raise RefusedError("no")

    bodies = [claim(1), claim(2, after=fail), claim(3, after=write_and_fail), claim(4)]
    answers = await asyncio.gather(*(store.transact(body) for body in bodies), return_exceptions=True)
    assert [answer is True for answer in answers] == [True, False, False, True]
    assert await proofs(store) == {1: None, 4: None}
    assert await names(store) == []


async def test_rows_that_do_not_fit_harm_nobody_else(stores: Stores) -> None:
    """A row that the table refuses fails its own body."""
    store = await stores.ready()

    async def missing(tx: Transaction) -> bool:
        return await tx.insert("proof", "y, amount, owner", [(bytes([3]), None, None)])

    answers = await asyncio.gather(
        store.transact(claim(1)), store.transact(missing), store.transact(claim(2)), return_exceptions=True
    )
    assert [answer is True for answer in answers] == [True, False, True]
    assert isinstance(answers[1], ConstraintError)
    assert await proofs(store) == {1: None, 2: None}


async def test_a_reader_may_not_insert(stores: Stores) -> None:
    """Neither at once nor put off."""
    store = await stores.ready()
    with pytest.raises(InvariantError):
        await store.read(claim(1))
    assert await proofs(store) == {}


async def test_sums_are_written_once_a_commit(stores: Stores) -> None:
    """Bodies add; those that fail add nothing; the sums are right whatever was committed together or run again."""
    store = await stores.ready()
    sums = Sums()

    def adding(key: int) -> Body[bool]:
        async def add(tx: Transaction) -> None:
            tx.tally(sums, {("a",): 1, ("b",): key})
            if key % 5 == 0:
                raise RefusedError("no")

        return claim(key, after=add)

    await store.transact(claim(7))
    answers = await asyncio.gather(*(store.transact(adding(key)) for key in range(1, 21)), return_exceptions=True)
    good = [key for key in range(1, 21) if key % 5 and key != 7]
    assert [key for key, answer in zip(range(1, 21), answers, strict=True) if answer is True] == good
    rows = await store.read(lambda tx: tx.fetch("SELECT name, number FROM note ORDER BY name"))
    assert rows == [("a", len(good)), ("b", sum(good))]
    assert sum(told[("a",)] for told in sums.told) >= len(good)


async def test_a_finished_body_can_leave_nothing_behind(stores: Stores) -> None:
    """Its transaction takes no more rows and no more sums."""
    store = await stores.ready()
    kept: list[Transaction] = []

    async def keep(tx: Transaction) -> None:
        kept.append(tx)

    await store.transact(keep)
    with pytest.raises(InvariantError):
        await kept[0].insert("proof", "y, amount, owner", [(b"1", "1", None)])
    with pytest.raises(InvariantError):
        kept[0].tally(Sums(), {("a",): 1})
