"""The supervisor over small programs that stand in for workers: starts, deaths, replacements, stops, and seats."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from specie.kernel import UnavailableError
from specie.server import workers
from specie.server.run import bind_tcp_socket
from specie.server.workers import Seat, Supervisor
from tests.support.house import Pages

pytestmark = pytest.mark.network

WORKER = """
import json, os, select, signal, socket, sys, threading
seat = json.loads(os.environ.pop("_SPECIE_SEAT"))
mode = sys.argv[1]
if mode == "broken" or (mode == "broken later" and seat["generation"] > 1) or (mode == "second" and seat["number"] == 1):
    sys.exit(7)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.socket(fileno=seat["listener"])
listener.listen()
retired = threading.Event()
line = socket.socket(fileno=seat["line"])
def serve():
    while not retired.is_set():
        if not select.select([listener], [], [], 0.05)[0]:
            continue
        try:
            peer, _ = listener.accept()
        except BlockingIOError:
            continue
        peer.sendall(f"{seat['number']} {seat['generation']} {os.getpid()}".encode())
        peer.close()
thread = threading.Thread(target=serve, daemon=True)
thread.start()
if mode != "mute":
    line.sendall(json.dumps({"number": seat["number"], "admin": seat["admin"]}).encode() + b"\\n")
line.recv(100)
if mode == "stubborn":
    signal.pause()
retired.set()
thread.join()
os._exit(0)
"""


class Crew:
    """A running supervisor and what it told."""

    def __init__(self, supervisor: Supervisor, telemetry: Pages, port: int) -> None:
        self.supervisor = supervisor
        self.telemetry = telemetry
        self.port = port
        self.facts: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(supervisor.run(self.facts.set_result))

    async def ready(self) -> dict[str, object]:
        """Facts once all are up."""
        async with asyncio.timeout(20):
            return await self.facts

    async def ask(self) -> tuple[int, int, int]:
        """Seat, generation and pid of whoever answers a connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        number, generation, pid = (await reader.read()).split()
        writer.close()
        await writer.wait_closed()
        return int(number), int(generation), int(pid)

    def events(self, name: str) -> int:
        """How often an event was told."""
        return sum(event == name for event, _ in self.telemetry.events)

    def pages(self, reason: str) -> int:
        """How often somebody was paged for it."""
        return sum(one == reason for one, _ in self.telemetry.pages)

    async def until(self, what: Callable[[], bool]) -> None:
        """Wait for what processes do."""
        async with asyncio.timeout(20):
            while not what():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def crew(tmp_path: Path, mode: str = "ok", count: int = 2, drain_s: float = 10.0) -> AsyncIterator[Crew]:
    """A supervisor over `count` stand-ins."""
    with bind_tcp_socket("127.0.0.1", 0) as alone:
        port = int(alone.getsockname()[1])
    telemetry = Pages()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
        admin.bind(str(tmp_path / "a.sock"))
        supervisor = Supervisor(
            (sys.executable, "-c", WORKER, mode),
            count,
            bind=lambda: bind_tcp_socket("127.0.0.1", port, shared=True),
            admin=admin,
            telemetry=telemetry,
            drain_s=drain_s,
        )
        made = Crew(supervisor, telemetry, port)
        try:
            yield made
        finally:
            supervisor.stop()
            async with asyncio.timeout(20):
                await made.task


async def test_all_are_up_before_anybody_is_told_and_all_end(tmp_path: Path) -> None:
    """The facts are those of seat 0, which alone has the operator's socket; a stop ends every process with code 0."""
    async with crew(tmp_path, count=3) as made:
        facts = await made.ready()
        assert facts["number"] == 0
        assert facts["admin"] is not None
        assert facts["supervisor"] == os.getpid()
        assert facts["workers"] == made.supervisor.pids
        assert len(set(made.supervisor.pids)) == 3
        seats = {(await made.ask())[0] for _ in range(40)}
        assert seats == {0, 1, 2}
        pids = made.supervisor.pids
    assert made.task.result() == 0
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(("mode", "started"), [("broken", 1), ("second", 2)])
async def test_a_worker_that_cannot_start_ends_all(tmp_path: Path, mode: str, started: int) -> None:
    """Its exit code becomes that of the whole; nobody was told that the bank is up."""
    async with crew(tmp_path, mode) as made:
        assert await made.task == 7
        assert not made.facts.done()
        assert made.events("worker_started") == started


async def test_a_worker_that_never_gets_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says nothing in time is killed, and counts as broken."""
    monkeypatch.setattr(workers, "_READY_S", 0.5)
    monkeypatch.setattr(workers, "_FAREWELL_S", 0.1)
    async with crew(tmp_path, "mute") as made:
        assert await made.task == 70


async def test_the_seat_of_a_dead_worker_is_taken_again(tmp_path: Path) -> None:
    """SIGKILL of one: somebody is paged, another process sits there, and connections went elsewhere meanwhile."""
    async with crew(tmp_path) as made:
        await made.ready()
        before = made.supervisor.pids
        os.kill(before[1], signal.SIGKILL)
        await made.until(lambda: made.pages("a worker died") == 1)
        await made.until(lambda: made.supervisor.pids[1] != before[1])
        assert made.supervisor.pids[0] == before[0]
        os.kill(made.supervisor.pids[1], signal.SIGKILL)
        await made.until(lambda: made.events("worker_started") == 4)
        assert (await made.ask())[0] in (0, 1)


async def test_a_restart_replaces_all_seat_0_last(tmp_path: Path) -> None:
    """Every process is another one, generations went up by one, and at every moment somebody answered."""
    async with crew(tmp_path, count=3) as made:
        await made.ready()
        before = made.supervisor.pids
        made.supervisor.restart()
        while not made.events("restart_done"):
            await made.ask()
        assert not set(before) & set(made.supervisor.pids)
        seats = [facts["seat"] for name, facts in made.telemetry.events if name == "worker_started"]
        assert seats == [0, 1, 2, 1, 2, 0]
        assert {(await made.ask())[1] for _ in range(20)} == {2}
        assert not made.telemetry.pages


async def test_a_restart_that_fails_leaves_the_old_ones(tmp_path: Path) -> None:
    """The first new worker that does not come up ends the restart; those that serve go on."""
    async with crew(tmp_path, "broken later") as made:
        await made.ready()
        before = made.supervisor.pids
        made.supervisor.restart()
        await made.until(lambda: made.pages("a new worker did not start; the old ones go on") == 1)
        assert made.supervisor.pids == before
        assert (await made.ask())[1] == 1
        assert not made.events("restart_done")


async def test_whoever_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    """A worker that ignores SIGTERM outlives neither a restart nor a stop, not even one in the middle of a restart."""
    async with crew(tmp_path, "stubborn", drain_s=0.3) as made:
        await made.ready()
        before = made.supervisor.pids
        made.supervisor.restart()
        await made.until(lambda: made.supervisor.pids[1] != before[1])
        made.supervisor.stop()
        made.supervisor.stop()
        assert await made.task == 0
        for pid in {*before, *made.supervisor.pids}:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


async def test_a_stop_while_they_start(tmp_path: Path) -> None:
    """Told to stop before anybody is ready: a clean end."""
    async with crew(tmp_path, "mute") as made:
        await made.until(lambda: made.events("worker_started") == 1)
        made.supervisor.stop()
        assert await made.task == 0
        assert not made.facts.done()


async def test_a_seat_is_passed_in_the_environment_and_taken_once() -> None:
    """What goes in comes out, and is not handed on to children by accident."""
    seat = Seat(number=1, generation=2, count=3, supervisor=4, listener=5, line=6)
    environment = seat.environment({"HOME": "/"})
    assert Seat.taken(environment) == seat
    assert environment == {"HOME": "/"}
    assert Seat.taken(environment) is None


@pytest.mark.parametrize(("word", "others"), [(b"retire\n", True), (b"", False)])
async def test_a_worker_follows_its_supervisor(word: bytes, others: bool) -> None:
    """Facts go out; the word to retire says that others serve, the end of the line that nobody does."""
    ours, theirs = socket.socketpair()
    heard: list[bool] = []
    seat = Seat(number=0, generation=1, count=2, supervisor=os.getppid(), listener=-1, line=theirs.detach())
    following = asyncio.create_task(seat.follow({"port": 1}, heard.append))
    reader, writer = await asyncio.open_connection(sock=ours)
    assert json.loads(await reader.readline()) == {"port": 1}
    writer.write(word)
    if not word:
        writer.close()
    async with asyncio.timeout(10):
        await following
    assert heard == [others]
    writer.close()


def test_a_worker_asks_nobody_but_its_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal goes to the parent process if that is the supervisor; an orphan says so, and signals nobody."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    Seat(number=0, generation=1, count=2, supervisor=os.getppid(), listener=-1, line=-1).ask(signal.SIGHUP)
    assert sent == [(os.getppid(), signal.SIGHUP)]
    orphan = Seat(number=0, generation=1, count=2, supervisor=os.getpid(), listener=-1, line=-1)
    with pytest.raises(UnavailableError, match="gone"):
        orphan.ask(signal.SIGHUP)
    assert len(sent) == 1
