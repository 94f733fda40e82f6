"""What only a server can do to its store: deadlocks, broken connections, commits without an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from specie.kernel import InvariantError, RefusedError, UnavailableError, UncertainError
from specie.storage import Migration, Transaction
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.postgres_connection import PostgresServer
from tests.support.postgres import PrivatePostgres

pytestmark = [pytest.mark.postgres, pytest.mark.network]

NOTES = Migration("notes", 1, "", "CREATE TABLE note (name TEXT PRIMARY KEY, number BIGINT NOT NULL);")

Open = Callable[..., Awaitable[PostgresStorage]]


class Counts:
    """Telemetry that remembers counters."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        self.seen.append(name)

    def observe(self, name: str, seconds: float, **labels: str) -> None: ...

    def event(self, name: str, **facts: object) -> None: ...

    def page(self, reason: str, **facts: object) -> None: ...


@pytest.fixture
async def open_store(postgres_dsn: str) -> AsyncIterator[Open]:
    opened: list[PostgresStorage] = []

    async def open_one(**settings: Any) -> PostgresStorage:
        store = await PostgresStorage.connect(postgres_dsn, **settings)
        opened.append(store)
        await store.migrate([NOTES])
        return store

    yield open_one
    for store in opened:
        await store.close()


def insert(name: str, number: int = 0) -> Callable[[Transaction], Awaitable[int]]:
    return lambda tx: tx.execute("INSERT INTO note (name, number) VALUES ($1, $2)", name, number)


async def names(store: PostgresStorage) -> list[str]:
    return [str(row[0]) for row in await store.read(lambda tx: tx.fetch("SELECT name FROM note ORDER BY name"))]


def database(dsn: str) -> str:
    return dsn.rpartition("/")[2]


async def end_backends(server: PrivatePostgres, dsn: str, condition: str) -> None:
    """Terminate the matching server processes of this database as soon as there are any."""
    statement = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE datname = '{database(dsn)}' AND pid <> pg_backend_pid() AND {condition}"
    )
    for _ in range(200):
        if await asyncio.to_thread(server.sql, statement) != "0":
            return
    raise AssertionError(f"no server process with {condition}")


async def test_a_deadlock_is_run_again(open_store: Open) -> None:
    """Two bodies that lock two rows in opposite orders, each holding its first: both succeed in the end, and are run again."""
    counts = Counts()
    stores = [await open_store(telemetry=counts) for _ in range(2)]
    await stores[0].transact(insert("a"))
    await stores[0].transact(insert("b"))
    runs: list[str] = []
    held: set[str] = set()

    def crossing(first: str, second: str) -> Callable[[Transaction], Awaitable[None]]:
        async def body(tx: Transaction) -> None:
            runs.append(first)
            await tx.execute("UPDATE note SET number = number + 1 WHERE name = $1", first)
            held.add(first)
            while len(held) < 2:
                await tx.fetch("SELECT pg_sleep(0.005)")
            await tx.execute("UPDATE note SET number = number + 1 WHERE name = $1", second)

        return body

    await asyncio.gather(stores[0].transact(crossing("a", "b")), stores[1].transact(crossing("b", "a")))
    assert await stores[0].read(lambda tx: tx.fetch("SELECT name, number FROM note ORDER BY name")) == [("a", 2), ("b", 2)]
    assert len(runs) > 2
    assert "storage_batch_retried" in counts.seen


async def test_a_batch_that_is_undone_is_run_one_by_one(open_store: Open) -> None:
    """When the server undoes a batch, each of its bodies is run again alone, and a refusal among them stays its own."""
    store = await open_store(writers=1)
    other = await open_store()
    await store.transact(insert("row"))
    go_on, holding = threading.Event(), threading.Event()
    runs: list[str] = []

    async def holds(tx: Transaction) -> None:
        await tx.execute("UPDATE note SET number = 1 WHERE name = 'row'")
        holding.set()
        while not go_on.is_set():
            await tx.fetch("SELECT pg_sleep(0.005)")

    def noted(name: str, sql: str | None = None) -> Callable[[Transaction], Awaitable[None]]:
        async def body(tx: Transaction) -> None:
            runs.append(name)
            await insert(name)(tx)
            if name == "refused":
                raise RefusedError("no")
            if sql:
                try:
                    await tx.execute(sql)
                except UnavailableError as error:  # the lock was not to be had: whatever a body makes of it, it is run again
                    go_on.set()
                    raise RefusedError("gave up") from error

        return body

    holder = asyncio.ensure_future(other.transact(holds))
    assert await asyncio.to_thread(holding.wait, 20)
    results = await asyncio.gather(
        store.transact(noted("one")),
        store.transact(noted("refused")),
        store.transact(noted("waits", "UPDATE note SET number = number + 10 WHERE name = 'row'")),
        store.transact(noted("two")),
        return_exceptions=True,
    )
    await holder
    assert [type(result) for result in results] == [type(None), RefusedError, type(None), type(None)]
    assert runs == ["one", "refused", "waits", "one", "refused", "waits", "two"]
    assert await names(store) == ["one", "row", "two", "waits"]
    assert await store.read(lambda tx: tx.fetch_one("SELECT number FROM note WHERE name = 'row'")) == (11,)


async def test_conflicts_are_given_up_after_some_attempts(open_store: Open) -> None:
    """A body that is undone again and again ends as UnavailableError."""
    store = await open_store(attempts=3)
    runs: list[int] = []

    async def undone(tx: Transaction) -> None:
        runs.append(1)
        await tx.execute("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")

    with pytest.raises(UnavailableError):
        await store.transact(undone)
    assert len(runs) == 1 + 3
    runs.clear()
    with pytest.raises(UnavailableError):
        await store.read(undone)
    assert len(runs) == 3


async def test_a_broken_connection_before_the_commit(
    open_store: Open, postgres_server: PrivatePostgres, postgres_dsn: str
) -> None:
    """If the connection breaks while bodies run, all of the batch hear UnavailableError, and nothing is written."""
    store = await open_store(writers=1)

    async def dies(tx: Transaction) -> None:
        await insert("dies")(tx)
        await tx.fetch("SELECT pg_sleep(30)")

    bodies = [insert("before"), dies, insert("after")]
    work = [asyncio.ensure_future(store.transact(body)) for body in bodies]
    await end_backends(postgres_server, postgres_dsn, "query LIKE 'SELECT pg_sleep%'")
    results = await asyncio.gather(*work, return_exceptions=True)
    assert all(isinstance(result, UnavailableError) for result in results)
    await store.transact(insert("later"))
    assert await names(store) == ["later"]


async def test_a_broken_connection_of_a_reader(open_store: Open, postgres_server: PrivatePostgres, postgres_dsn: str) -> None:
    """A read whose connection breaks is UnavailableError, and the next read has a new connection."""
    store = await open_store(readers=1)
    reading = asyncio.ensure_future(store.read(lambda tx: tx.fetch("SELECT pg_sleep(30)")))
    await end_backends(postgres_server, postgres_dsn, "query LIKE 'SELECT pg_sleep%'")
    with pytest.raises(UnavailableError):
        await reading
    assert await names(store) == []


async def test_a_read_that_is_cancelled_gives_its_connection_back(open_store: Open) -> None:
    """A caller that leaves in the middle of a statement does not use up a reader."""
    store = await open_store(readers=1)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(store.read(lambda tx: tx.fetch("SELECT pg_sleep(30)")), 0.05)
    assert await asyncio.wait_for(names(store), 10) == []


async def test_readers_are_bounded(open_store: Open) -> None:
    """More reads than connections wait for one; those that wait too long are told to come back, and the store goes on."""
    store = await open_store(readers=2)
    together = await asyncio.gather(*(store.read(lambda tx: tx.fetch_one("SELECT pg_backend_pid()")) for _ in range(12)))
    assert len(set(together)) == 2
    hasty = await open_store(readers=1, connect_timeout_s=0.3)
    began, go_on = threading.Event(), threading.Event()

    async def slow(tx: Transaction) -> None:
        began.set()
        while not go_on.is_set():
            await tx.fetch("SELECT pg_sleep(0.005)")

    reading = asyncio.ensure_future(hasty.read(slow))
    assert await asyncio.to_thread(began.wait, 20)
    with pytest.raises(UnavailableError, match="busy"):
        await names(hasty)
    go_on.set()
    await reading
    assert await names(hasty) == []


async def test_closing_while_a_read_runs(open_store: Open) -> None:
    """A read that is under way when the store closes still answers, and its connection is not kept."""
    store = await open_store()
    began, go_on = threading.Event(), threading.Event()

    async def slow(tx: Transaction) -> object:
        began.set()
        while not go_on.is_set():
            await tx.fetch("SELECT pg_sleep(0.005)")
        return await tx.fetch("SELECT 1")

    reading = asyncio.ensure_future(store.read(slow))
    assert await asyncio.to_thread(began.wait, 20)
    await store.close()
    go_on.set()
    assert await reading == [(1,)]


SLOW_COMMIT = """
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER dawdles AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW WHEN (NEW.name = 'slow') EXECUTE FUNCTION dawdle();
"""


async def test_a_commit_without_an_answer_is_uncertain(
    open_store: Open, postgres_server: PrivatePostgres, postgres_dsn: str
) -> None:
    """If the connection breaks while COMMIT is under way, everybody in the batch hears UncertainError, refused ones too."""
    store = await open_store(writers=1)
    await store.migrate([NOTES, Migration("notes", 2, "", SLOW_COMMIT)])

    async def refuses(_tx: Transaction) -> None:
        raise RefusedError("for what another of the batch wrote, perhaps")

    work = [asyncio.ensure_future(store.transact(body)) for body in (insert("slow"), refuses, insert("beside"))]
    await end_backends(postgres_server, postgres_dsn, "query = 'COMMIT' AND state = 'active'")
    results = await asyncio.gather(*work, return_exceptions=True)
    assert [type(result) for result in results] == [UncertainError] * 3
    await store.transact(insert("later"))
    assert await names(store) == ["later"]


async def test_a_commit_that_takes_too_long_is_uncertain(open_store: Open) -> None:
    """A server that does not answer COMMIT in time leaves its fate open; the store goes on with another connection."""
    store = await open_store(writers=1, statement_timeout_s=0.3)
    await store.migrate([NOTES, Migration("notes", 2, "", SLOW_COMMIT)])
    with pytest.raises((UncertainError, UnavailableError)):
        await store.transact(insert("slow"))
    await store.transact(insert("later"))
    assert await names(store) == ["later"]


async def test_a_commit_that_the_server_refuses(open_store: Open) -> None:
    """A deferred constraint that fails at COMMIT is certain: the batch is undone and told."""
    store = await open_store()
    await store.migrate([NOTES, Migration("notes", 2, "", "CREATE TABLE pair (a TEXT UNIQUE DEFERRABLE INITIALLY DEFERRED);")])

    async def twice(tx: Transaction) -> None:
        await tx.execute_many("INSERT INTO pair (a) VALUES ($1)", [("x",), ("x",)])

    with pytest.raises(RefusedError):
        await store.transact(twice)
    assert await store.read(lambda tx: tx.fetch("SELECT a FROM pair")) == []


async def test_a_statement_that_takes_too_long(open_store: Open) -> None:
    """The server stops a statement at the limit: UnavailableError for its body, the others of the batch commit."""
    store = await open_store(writers=1, statement_timeout_s=0.2)

    async def slow(tx: Transaction) -> None:
        await tx.fetch("SELECT pg_sleep(30)")

    results = await asyncio.gather(
        store.transact(insert("a")), store.transact(slow), store.transact(insert("b")), return_exceptions=True
    )
    assert [type(result) for result in results] == [int, UnavailableError, int]
    assert await names(store) == ["a", "b"]


async def test_listening_goes_on_after_the_connection_broke(
    open_store: Open, postgres_server: PrivatePostgres, postgres_dsn: str
) -> None:
    """The listening connection is renewed by itself, and notices are heard again."""
    counts = Counts()
    store = await open_store(telemetry=counts)
    heard = store.listen("news")
    await end_backends(postgres_server, postgres_dsn, "query LIKE 'LISTEN%'")

    async def tells(tx: Transaction) -> None:
        tx.notify("news", "again")

    async def tell_until_heard() -> None:
        while True:
            await store.transact(tells)
            await asyncio.sleep(0.02)

    telling = asyncio.ensure_future(tell_until_heard())
    assert await asyncio.wait_for(anext(heard), 20) == "again"
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    assert "storage_listener_lost" in counts.seen


async def test_a_notice_beyond_the_limit(open_store: Open) -> None:
    """A payload that the server does not take undoes its batch, and the store goes on."""
    store = await open_store()

    async def shouts(tx: Transaction) -> None:
        await insert("loud")(tx)
        tx.notify("news", "x" * 9000)

    with pytest.raises(InvariantError):
        await store.transact(shouts)
    await store.transact(insert("quiet"))
    assert await names(store) == ["quiet"]


async def test_the_server_dies_and_comes_back(open_store: Open, postgres_server: PrivatePostgres) -> None:
    """SIGKILL of the server: what was acknowledged is there, and the same store object works again."""
    store = await open_store()
    await asyncio.gather(*(store.transact(insert(f"n{number:02}")) for number in range(40)))
    await asyncio.to_thread(postgres_server.kill)
    for attempt in range(20):
        try:
            await store.transact(insert("back"))
            break
        except UnavailableError:
            assert attempt < 19
    found: list[str] = []
    for attempt in range(20):
        try:
            found = await names(store)
            break
        except UnavailableError:
            assert attempt < 19
    assert found == ["back", *(f"n{number:02}" for number in range(40))]


async def test_a_schema_change_does_not_break_prepared_statements(open_store: Open) -> None:
    """A statement prepared before another process changed its table is prepared again, for writers and readers."""
    store = await open_store(writers=1, readers=1)
    await store.transact(insert("a"))

    async def everything(tx: Transaction) -> object:
        return await tx.fetch("SELECT * FROM note")

    assert await store.read(everything) == [("a", 0)]
    assert await store.transact(everything) == [("a", 0)]
    other = await open_store()
    await other.migrate([NOTES, Migration("notes", 2, "", "ALTER TABLE note ADD COLUMN more TEXT;")])
    assert await store.read(everything) == [("a", 0, None)]
    assert await store.transact(everything) == [("a", 0, None)]


async def test_a_store_that_is_closed_while_the_server_is_away(postgres_server: PrivatePostgres, postgres_dsn: str) -> None:
    """Closing ends in time although every connection was cut."""
    store = await PostgresStorage.connect(postgres_dsn)
    await end_backends(postgres_server, postgres_dsn, "true")
    await asyncio.wait_for(store.close(), 20)


async def test_synchronous_commit_is_not_off(postgres_server: PrivatePostgres, postgres_dsn: str) -> None:
    """A database that acknowledges before it is durable is told otherwise by the store."""
    postgres_server.sql(f"ALTER DATABASE {database(postgres_dsn)} SET synchronous_commit = off")
    store = await PostgresStorage.connect(postgres_dsn)
    assert await store.transact(lambda tx: tx.fetch_one("SHOW synchronous_commit")) == ("on",)
    await store.close()


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("mysql://specie:hunter2@127.0.0.1/x", RefusedError),
        ("postgresql://specie:hunter2@127.0.0.1:1/x", UnavailableError),
    ],
)
async def test_where_no_server_is(dsn: str, expected: type[Exception]) -> None:
    """A wrong DSN is refused, an absent server is unavailable, and neither error shows the password."""
    with pytest.raises(expected) as raised:
        await PostgresStorage.connect(dsn, connect_timeout_s=2)
    assert "hunter2" not in repr(raised.value)
    assert raised.value.__context__ is None


async def test_a_database_that_does_not_exist(postgres_server: PrivatePostgres) -> None:
    """The server answers, but does not let us in: refused."""
    with pytest.raises(RefusedError):
        await PostgresStorage.connect(postgres_server.dsn("nowhere"))


async def test_an_opening_that_is_cancelled_leaves_no_connection(postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled between the connection and its first answer, nothing stays open at the server's expense."""
    connected: list[Any] = []
    connect = asyncpg.connect

    async def connect_and_be_cancelled(*arguments: Any, **settings: Any) -> Any:
        connected.append(await connect(*arguments, **settings))
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return connected[0]

    monkeypatch.setattr(asyncpg, "connect", connect_and_be_cancelled)
    opening = asyncio.create_task(PostgresServer(postgres_dsn, 5.0, 5.0).open())
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert connected[0].is_closed()
