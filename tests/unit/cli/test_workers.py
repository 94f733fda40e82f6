"""`specie up --workers`, one worker of it in this process, `specie mint restart` and `specie mint prune`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from specie.app.bank import _shard, open_bank
from specie.kernel import NULL_TELEMETRY, UnavailableError
from specie.ops.config import load_settings
from specie.server import AdminClient, admin_client
from specie.server.run import bind_tcp_socket
from specie.server.unix_socket import bind_unix_socket
from specie.server.workers import Seat

pytestmark = pytest.mark.network


def test_an_embedded_store_has_one_process(specie, home) -> None:  # type: ignore[no-untyped-def]
    """Refused before anything is made, in words that say what is needed."""
    ran = specie("up", "--workers", "2", "--data", str(home / "bank"), "--json")
    assert ran.code == 3
    assert "PostgreSQL" in ran.error()["detail"]
    assert not (home / "bank").exists()


@pytest.fixture
def line(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The supervisor's end of the line to a worker that is to be this process, sitting in seat 0 of two."""
    (home / "bank").mkdir()
    ours, theirs = socket.socketpair()
    listener, admin = bind_tcp_socket("127.0.0.1", 0, shared=True), bind_unix_socket(home / "bank" / "admin.sock")
    seat = Seat(
        number=0,
        generation=4,
        count=2,
        supervisor=os.getppid(),
        listener=listener.detach(),
        line=theirs.detach(),
        admin=admin.detach(),
    )
    for name, value in seat.environment({}).items():
        monkeypatch.setenv(name, value)
    with ours:
        yield ours


@pytest.mark.parametrize("word", [b"retire\n", b""])
def test_a_worker_serves_and_retires(specie, home, line, monkeypatch, word: bytes) -> None:  # type: ignore[no-untyped-def]
    """It tells its facts to its supervisor and nothing to the terminal, asks the supervisor to stop or restart, and leaves."""
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: asked.append((pid, number)))
    told: list[dict[str, object]] = []

    async def operator() -> None:
        async with admin_client(home / "bank" / "admin.sock") as client:
            assert await client.restart() == {"count": 2, "generation": 4}
            await client.stop()

    def supervise() -> None:
        told.append(json.loads(line.makefile().readline()))
        try:
            asyncio.run(operator())
        finally:
            line.sendall(word) if word else line.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=supervise)
    thread.start()
    ran = specie("up", "--data", str(home / "bank"), "--log-format", "json")
    thread.join()
    assert ran.code == 0
    assert ran.out == ""
    assert "stopping" not in ran.err
    assert told[0]["play"] is True
    assert asked == [(os.getppid(), signal.SIGHUP), (os.getppid(), signal.SIGTERM)]
    assert (home / "bank" / "admin.sock").exists()


class _Bank:
    """An operator's socket whose generation goes up when it is asked often enough."""

    def __init__(self, replaced_after: int | None) -> None:
        self.looks = 0
        self.replaced_after = replaced_after

    async def restart(self) -> dict[str, int]:
        return {"count": 2, "generation": 1}

    async def workers(self) -> dict[str, int]:
        self.looks += 1
        if self.looks == 1:
            raise UnavailableError("changing hands")
        done = self.replaced_after is not None and self.looks >= self.replaced_after
        return {"count": 2, "generation": 2 if done else 1}


@pytest.fixture
def restarting(monkeypatch: pytest.MonkeyPatch) -> _Bank:
    """`admin_client` gives a stand-in."""
    bank = _Bank(3)

    @contextlib.asynccontextmanager
    async def client(path: Path):  # type: ignore[no-untyped-def]
        yield bank

    monkeypatch.setattr(importlib.import_module("specie.server.admin_client"), "admin_client", client)
    monkeypatch.setattr("specie.cli.restart._LOOK_EVERY_S", 0.01)
    return bank


def test_a_restart_is_waited_for(specie, restarting) -> None:  # type: ignore[no-untyped-def]
    """Until the operator's socket, which changes hands last, has changed hands."""
    ran = specie("mint", "restart", "--json")
    assert (ran.code, ran.json()) == (0, {"restarting": False, "workers": 2})
    assert restarting.looks == 3


def test_a_restart_need_not_be_waited_for(specie, restarting) -> None:  # type: ignore[no-untyped-def]
    """With --no-wait it has only begun."""
    ran = specie("mint", "restart", "--no-wait")
    assert ran.code == 0
    assert "restarting 2 workers" in ran.out
    assert restarting.looks == 0


def test_a_restart_that_does_not_end_is_told(specie, restarting) -> None:  # type: ignore[no-untyped-def]
    """Exit code 5 after the time that was given."""
    restarting.replaced_after = None
    began = time.monotonic()
    ran = specie("mint", "restart", "--timeout", "0.2", "--json")
    assert ran.code == 5
    assert "log" in ran.error()["detail"]
    assert time.monotonic() - began < 20


def test_a_bank_that_does_not_run_cannot_be_restarted(specie, home) -> None:  # type: ignore[no-untyped-def]
    """Nothing answers: exit code 5."""
    assert specie("mint", "restart", "--data", str(home / "none")).code == 5


def test_prune_counts_first(specie, home, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A dry run says what would go, in as many steps as it takes; --yes drops it."""
    data = home / "bank"

    async def once() -> None:
        async with open_bank(load_settings(None, {}, {"data_dir": data}), telemetry=NULL_TELEMETRY):
            pass

    asyncio.run(once())
    empty = specie("mint", "prune", "--data", str(data))
    assert empty.code == 0
    assert "nothing is to be dropped" in empty.out
    assert specie("mint", "prune", "--grace-days", "0", "--data", str(data)).code == 3
    keyset = specie("mint", "keysets", "list", "--data", str(data), "--json").json()["keysets"][0]["id"]
    asked: list[tuple[int, bool, str | None]] = []

    async def step(self: AdminClient, grace_s: int, *, act: bool, cursor: str | None = None) -> dict[str, object]:
        asked.append((grace_s, act, cursor))
        rows = [{"keyset": keyset, "side": "spent", "count": 2, "total": 5}]
        return {"expired": [keyset], "rows": rows, "cursor": None if cursor else "spent:02"}

    monkeypatch.setattr(AdminClient, "prune", step)
    shown = specie("mint", "prune", "--data", str(data))
    assert "can be dropped with --yes: 4 rows of 1 expired keysets" in " ".join(shown.out.split())
    told = specie("mint", "prune", "--yes", "--grace-days", "2", "--data", str(data), "--json").json()
    assert (told["dropped"], told["count"], told["expired"]) == (True, 4, [keyset])
    assert told["rows"] == [{"keyset": keyset, "side": "spent", "count": 4, "total": 10}]
    assert asked == [
        (30 * 86_400, False, None),
        (30 * 86_400, False, "spent:02"),
        (2 * 86_400, True, None),
        (2 * 86_400, True, "spent:02"),
    ]


class _Supervisor:
    """A stand-in that says what it was given, hears a SIGHUP and two SIGTERMs, and ends."""

    made: _Supervisor

    def __init__(self, command, count, *, bind, admin, telemetry, drain_s) -> None:  # type: ignore[no-untyped-def]
        self.command, self.count, self.drain_s = command, count, drain_s
        with bind() as one, bind() as other:
            self.ports = {one.getsockname()[1], other.getsockname()[1]}
        self.heard: list[str] = []
        _Supervisor.made = self

    def restart(self) -> None:
        self.heard.append("restart")

    def stop(self) -> None:
        self.heard.append("stop")

    async def run(self, announce) -> int:  # type: ignore[no-untyped-def]
        announce(FACTS | {"workers": [11, 12], "supervisor": os.getpid()})
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.05)
        return 7 if self.count == 3 else 0


FACTS = {
    "url": "http://127.0.0.1:1",
    "port": 1,
    "play": True,
    "sealing": "play-key",
    "sealing_key": "/k",
    "data_dir": "/d",
    "curve": "native",
}


@pytest.mark.parametrize(("count", "code"), [(2, 0), (3, 7)])
def test_a_supervisor_is_set_up(specie, home, monkeypatch, count: int, code: int) -> None:  # type: ignore[no-untyped-def]
    """Its sockets share one port, signals reach it, its exit code is that of the program, and no socket file stays."""
    monkeypatch.setattr(importlib.import_module("specie.server.workers"), "Supervisor", _Supervisor)
    before = signal.getsignal(signal.SIGHUP)
    try:
        ran = specie(
            *("up", "--workers", str(count), "--port", "0", "--database", "postgresql://nobody@127.0.0.1:9/none"),
            *("--data", str(home / "bank")),
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    made = _Supervisor.made
    assert ran.code == code
    assert made.heard == ["restart", "stop", "stop"]
    assert len(made.ports) == 1
    assert made.drain_s > 20
    assert made.command[1:3] == ("-m", "specie")
    assert "2 processes" in ran.out
    assert ("books are closed" in ran.err) == (code == 0)
    assert not (home / "bank" / "admin.sock").exists()


def test_processes_of_one_directory_have_balances_of_their_own(home: Path) -> None:
    """Seat 0 keeps the name that a single process had; every other seat has another one, each the same at every start."""
    names = [_shard(home, seat) for seat in (0, 1, 2, 0, 1)]
    assert len(set(names)) == 3
    assert names[:2] == names[3:]
