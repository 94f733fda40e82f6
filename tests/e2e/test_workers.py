"""Several workers behind one port, and several banks on one store: restarted and killed under load, and no request fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import httpx2
import pytest
import websockets

from specie.ecash import MintQuoteRequest, Proof, wire
from tests.e2e.test_sigkill import COIN_SUM, hold
from tests.support.http_purse import HttpPurse
from tests.support.process import BankProcess

pytestmark = [pytest.mark.e2e, pytest.mark.postgres, pytest.mark.timeout(400)]

HOLDERS = 6


class StrictPurse(HttpPurse):
    """A client that obeys HTTP and forgives nothing: what is not answered with 200 or a refusal is a failure."""

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        answer = await self._client.request(method, self._urls[0] + path, content=body)
        if answer.status_code == 400:
            raise wire.error_from_json(answer.content)
        assert answer.status_code == 200, answer.text
        return answer.content


class BalancingPurse(StrictPurse):
    """The same behind a load balancer: addresses that are not ready, or refuse the connection, are not asked."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(urls)
        self._every = list(urls)
        self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        async with httpx2.AsyncClient(timeout=5.0) as client:
            while True:
                ready = []
                for url in self._every:
                    with contextlib.suppress(httpx2.TransportError):
                        if (await client.get(f"{url}/readyz", headers={"connection": "close"})).status_code == 200:
                            ready.append(url)
                self._urls = ready or self._every
                await asyncio.sleep(0.1)

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        random.shuffle(self._urls)
        return await super().ask(method, path, body)

    async def close(self) -> None:
        self._looking.cancel()
        await super().close()


def worker_pids(bank: BankProcess) -> dict[int, int]:
    """Process ids of the workers that were started last, by seat, from the log."""
    found: dict[int, int] = {}
    for line in (bank.home / f"bank-{bank.port}.log").read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "worker_started":
                found[event["seat"]] = event["worker_pid"]
    return found


def events(bank: BankProcess, name: str) -> int:
    """How often the log tells of an event."""
    return (bank.home / f"bank-{bank.port}.log").read_text().count(f'"event": "{name}"')


async def until(what: Callable[[], bool], timeout_s: float = 90.0) -> None:
    """Wait for something that processes do."""
    async with asyncio.timeout(timeout_s):
        while not what():
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def workers(tmp_path: Path, dsn: str, count: int = 3) -> AsyncIterator[BankProcess]:
    """A bank of several workers, sealed by a passphrase; stopped at the end with code 0, and no worker lives on."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse battery staple")
    passphrase.chmod(0o600)
    sealed = ("--passphrase-file", str(passphrase))
    bank = BankProcess(tmp_path, tmp_path / "bank", dsn=dsn, arguments=("--workers", str(count), *sealed))
    await asyncio.to_thread(bank.start)
    try:
        await until(lambda: events(bank, "workers_ready") == 1)
        yield bank
        pids = worker_pids(bank)
        assert await asyncio.to_thread(bank.stop) == 0, bank.log()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids.values())
        assert not (bank.data / "admin.sock").exists()
    finally:
        await asyncio.to_thread(bank.stop)


async def counted(bank: BankProcess, purse: HttpPurse, held: Sequence[tuple[list[Proof], int, int]]) -> None:
    """What is held is unspent, unlike any other coin, and all that the bank owes."""
    every = [coin for coins, _, _ in held for coin in coins]
    assert len({coin.secret for coin in every}) == len(every)
    states = wire.states_from_json(
        await purse.ask("POST", "/v1/checkstate", wire.check_state_request_to_json([coin.y for coin in every]))
    )
    assert {state.state.value for state in states} == {"UNSPENT"}
    assert bank.dsn is not None
    books = await asyncio.to_thread(
        bank.run, "mint", "liabilities", "--verify", "--data", str(bank.data), "--database", bank.dsn
    )
    assert sum(coin.amount for coin in every) == sum(int(row["outstanding"]) for row in books["keysets"])


@contextlib.asynccontextmanager
async def held_by(purses: Sequence[HttpPurse]) -> AsyncIterator[asyncio.Event]:
    """Load on a bank while inside; set the event, and what the holders hold is in its attribute `held`."""
    done = asyncio.Event()
    holding = [asyncio.create_task(hold(purse, done, number)) for number, purse in enumerate(purses)]
    try:
        yield done
        done.set()
        done.held = await asyncio.wait_for(asyncio.gather(*holding), 120)  # type: ignore[attr-defined]
    finally:
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)


async def test_workers_are_replaced_under_load_and_no_request_fails(tmp_path: Path, postgres_dsn: str) -> None:
    """Two rolling restarts, one by command and one by SIGHUP: every process is another one, every request was answered."""
    async with workers(tmp_path, postgres_dsn) as bank:
        before = worker_pids(bank)
        purses = [StrictPurse([bank.url]) for _ in range(HOLDERS)]
        async with held_by(purses) as done:
            await asyncio.sleep(1)
            told = await asyncio.to_thread(bank.run, "mint", "restart", "--data", str(bank.data), "--database", str(bank.dsn))
            assert told == {"restarting": False, "workers": 3}
            assert events(bank, "restart_done") == 1
            between = worker_pids(bank)
            assert not set(before.values()) & set(between.values())
            assert bank.process is not None
            bank.process.send_signal(signal.SIGHUP)
            await until(lambda: events(bank, "restart_done") == 2)
            assert not set(between.values()) & set(worker_pids(bank).values())
            await asyncio.sleep(0.5)
        held = done.held  # type: ignore[attr-defined]
        assert all(swaps > 10 for _, _, swaps in held), held
        await counted(bank, purses[0], held)
        for purse in purses:
            await purse.close()


async def test_one_of_two_banks_is_stopped_behind_a_load_balancer(tmp_path: Path, postgres_dsn: str) -> None:
    """Two banks on one store and two ports; one is stopped and started while clients balance: no request fails."""
    settings = tmp_path / "bank.toml"
    settings.write_text("[server]\naccept_s = 1.5\n")
    options = ("--config", str(settings))
    first = BankProcess(tmp_path, tmp_path / "first", dsn=postgres_dsn, arguments=options)
    await asyncio.to_thread(first.start)
    second = BankProcess(tmp_path, tmp_path / "second", dsn=postgres_dsn, arguments=options)
    shutil.copytree(first.data, second.data, ignore=shutil.ignore_patterns("*.sock", "lock"))
    await asyncio.to_thread(second.start)
    try:
        purses = [BalancingPurse([first.url, second.url]) for _ in range(HOLDERS)]
        async with held_by(purses) as done:
            for bank in (first, second):
                await asyncio.sleep(1)
                assert await asyncio.to_thread(bank.stop) == 0
                await asyncio.to_thread(bank.start)
        await counted(first, purses[0], done.held)  # type: ignore[attr-defined]
        for purse in purses:
            await purse.close()
    finally:
        await asyncio.to_thread(first.stop)
        await asyncio.to_thread(second.stop)


async def test_workers_killed_under_load_lose_nothing(tmp_path: Path, postgres_dsn: str) -> None:
    """SIGKILL of one worker after another: their seats are taken again, no coin is lost or made."""
    rng = random.Random(7)
    async with workers(tmp_path, postgres_dsn) as bank:
        purses = [HttpPurse([bank.url]) for _ in range(HOLDERS)]
        async with held_by(purses) as done:
            for kill in range(6):
                await asyncio.sleep(rng.uniform(0.3, 1.0))
                seat = kill % 3
                pid = worker_pids(bank)[seat]
                os.kill(pid, signal.SIGKILL)
                await until(lambda seat=seat, pid=pid: worker_pids(bank)[seat] != pid)  # type: ignore[misc]
            await asyncio.sleep(0.5)
        held = done.held  # type: ignore[attr-defined]
        assert sum(purse.lost_answers for purse in purses) > 0, "no request was hit by a kill"
        assert sum(len(coins) for coins, _, _ in held) >= HOLDERS
        await until(lambda: bank.run("mint", "health", "--data", str(bank.data), check=False) is not None)
        await counted(bank, purses[0], held)
        for purse in purses:
            await purse.close()


async def test_workers_end_with_their_supervisor(tmp_path: Path, postgres_dsn: str) -> None:
    """SIGKILL of the supervisor: no worker is left behind, and the bank can be started again at once."""
    bank = BankProcess(tmp_path, tmp_path / "bank", dsn=postgres_dsn, arguments=("--workers", "2"))
    await asyncio.to_thread(bank.start)
    try:
        await until(lambda: events(bank, "workers_ready") == 1)
        pids = worker_pids(bank)
        bank.kill()
        await until(lambda: not any(_runs(pid) for pid in pids.values()))
        await asyncio.to_thread(bank.start)
    finally:
        assert await asyncio.to_thread(bank.stop) == 0


def _runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


async def test_sockets_on_every_worker_hear_of_changes_by_any(tmp_path: Path, postgres_dsn: str) -> None:
    """Twelve subscriptions over three workers; a payment that one worker takes is told to all (NUT-17 by NOTIFY)."""
    async with workers(tmp_path, postgres_dsn) as bank, contextlib.AsyncExitStack() as stack:
        purse = StrictPurse([bank.url])
        asked = wire.mint_quote_request_to_json(MintQuoteRequest("bolt11", "sat", COIN_SUM))
        quote = wire.mint_quote_from_json(await purse.ask("POST", "/v1/mint/quote/bolt11", asked)).quote
        sockets = []
        for number in range(12):
            socket = await stack.enter_async_context(websockets.connect(f"ws://127.0.0.1:{bank.port}/v1/ws", proxy=None))
            params = {"kind": "bolt11_mint_quote", "filters": [quote], "subId": secrets.token_hex(4)}
            await socket.send(json.dumps({"jsonrpc": "2.0", "method": "subscribe", "params": params, "id": number}))
            sockets.append(socket)
        states: list[set[str]] = []
        for socket in sockets:
            heard: set[str] = set()
            async with asyncio.timeout(30):
                while "PAID" not in heard:
                    told = json.loads(await socket.recv())
                    if told.get("method") == "subscribe":
                        heard.add(told["params"]["payload"]["state"])
            states.append(heard)
        assert all("PAID" in heard for heard in states)
        inodes = {pid: _connections(pid, bank.port) for pid in worker_pids(bank).values()}
        assert sum(count > 0 for count in inodes.values()) > 1, f"one worker had all sockets: {inodes}"
        await purse.close()


def _connections(pid: int, port: int) -> int:
    """Established connections to `port` that a process holds."""
    inodes = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")} if _readable(pid) else set()
    count = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "01" and int(fields[1].rpartition(":")[2], 16) == port and f"socket:[{fields[9]}]" in inodes:
            count += 1
    return count


def _readable(pid: int) -> bool:
    try:
        os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    return True


def test_a_worker_that_cannot_start_ends_the_bank_with_its_exit_code(tmp_path: Path) -> None:
    """A database that is not there: the worker's own error and exit code, and no socket is left."""
    bank = BankProcess(tmp_path, tmp_path / "bank", dsn="postgresql://nobody@127.0.0.1:9/none", arguments=("--workers", "2"))
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"ended by itself \(5\)"):
        bank.start()
    assert time.monotonic() - began < 60
    assert not (bank.data / "admin.sock").exists()
