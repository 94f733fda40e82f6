"""Bank and signer as two processes: money moves through both, the signer is killed under load; no key is with the bank."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from specie.app.system import SystemEntropy
from specie.ecash import wire
from specie.keys import SealSource
from specie.keys.adapters.seed_store import SeedStore
from tests.e2e.test_sigkill import COIN_SUM, hold
from tests.support.http_purse import HttpPurse
from tests.support.process import BankProcess

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system has no SO_PEERCRED"),
]

KILLS = 4
HOLDERS = 4


@dataclass
class SignerProcess:
    """`specie signer run` beside a bank, in the bank's test home."""

    bank: BankProcess
    data: Path
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, Any]:
        """Start it and wait until it takes connections; what it says of itself."""
        command = [sys.executable, "-m", "specie", "signer", "run", "--json", "--play", "--data", str(self.data)]
        with (self.bank.home / "signer.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--log-format", "json", *self.arguments],
                env=self.bank.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        facts: dict[str, Any] = json.loads(self.process.stdout.readline() or b"{}")
        assert facts, (self.bank.home / "signer.log").read_text()
        return facts

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a short name: a socket's path is."""
    with tempfile.TemporaryDirectory(prefix="specie-") as name:
        yield Path(name)


@pytest.fixture
async def both(home: Path) -> AsyncIterator[tuple[BankProcess, SignerProcess]]:
    """A running signer and a running bank that uses it, paired by the command."""
    settings = home / "bank.toml"
    bank = BankProcess(home, home / "bank", arguments=("--config", str(settings)))
    keys = SignerProcess(bank, home / "signer")
    bank.run("signer", "pair", "--data", str(keys.data), "--bank", str(home / "pairing"))
    facts = await asyncio.to_thread(keys.start)
    settings.write_text(
        f'[keys]\nprovider = "remote"\n[keys.remote]\nsocket = "{facts["socket"]}"\n'
        'identity = "pairing/bank.pem"\nsigner = "pairing/signer.crt"\n'
    )
    try:
        await asyncio.to_thread(bank.start)
        yield bank, keys
    finally:
        code = await asyncio.to_thread(bank.stop)
        ended = await asyncio.to_thread(keys.end, signal.SIGTERM)
    assert (code, ended) == (0, 0)


async def test_kills_of_the_signer_under_load_lose_and_make_nothing(both: tuple[BankProcess, SignerProcess]) -> None:
    """Four SIGKILLs of the signer while four holders swap and pay: every coin is good, once, and the books agree."""
    bank, keys = both
    purses = [HttpPurse([bank.url]) for _ in range(HOLDERS)]
    watch = HttpPurse([bank.url])
    done = asyncio.Event()
    holding = [asyncio.create_task(hold(purse, done, number)) for number, purse in enumerate(purses)]
    gaps: list[tuple[float, float]] = []
    try:
        coins = await watch.mint(COIN_SUM)
        for _ in range(KILLS):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(keys.end, signal.SIGKILL)
            killed = time.monotonic()
            await asyncio.to_thread(keys.start)
            ready = time.monotonic()
            coins = await watch.swap(coins)
            gaps.append((ready - killed, time.monotonic() - ready))
        done.set()
        held = await asyncio.wait_for(asyncio.gather(*holding), 100)
        every = [coin for mine, _, _ in held for coin in mine] + coins
        assert sum(purse.lost_answers for purse in purses) > 0, "no request was hit by a kill"
        assert len({coin.secret for coin in every}) == len(every)
        body = wire.check_state_request_to_json([coin.y for coin in every])
        states = wire.states_from_json(await watch.ask("POST", "/v1/checkstate", body))
        assert {state.state.value for state in states} == {"UNSPENT"}
        books = bank.run("mint", "liabilities", "--verify", "--data", str(bank.data), "--config", str(bank.home / "bank.toml"))
        assert sum(coin.amount for coin in every) == sum(int(row["outstanding"]) for row in books["keysets"])
    finally:
        done.set()
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
        for purse in (*purses, watch):
            await purse.close()
    shown = ", ".join(f"{start_s * 1000:.0f}+{after_s * 1000:.0f}" for start_s, after_s in gaps)
    sys.stdout.write(f"\nms from SIGKILL until the signer was up again + until a swap was done: {shown}\n")


def memory_holds(process: int, wanted: bytes) -> bool:
    """Whether these bytes are in the memory of a process."""
    with open(f"/proc/{process}/maps") as maps, open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, mode, *_ = line.split()
            if not mode.startswith("rw"):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            try:
                memory.seek(start)
                if wanted in memory.read(end - start):
                    return True
            except (OSError, ValueError, OverflowError):
                continue
    return False


async def test_the_bank_has_no_key_on_disk_or_in_memory(
    both: tuple[BankProcess, SignerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No seed file in the bank's directory; the seed is in the signer's memory and not in the bank's, after money moved."""
    bank, keys = both
    purse = HttpPurse([bank.url])
    try:
        await purse.swap(await purse.mint(COIN_SUM))
    finally:
        await purse.close()
    assert not [path for path in bank.data.rglob("*") if path.suffix in (".seed", ".key")]
    assert (keys.data / "mint.seed").exists()
    seeds = SeedStore(keys.data, entropy=SystemEntropy(), config_home=bank.home / "config" / "specie")
    opened = seeds.open(SealSource(play_key=True), all_play=True)
    assert bank.process is not None
    assert keys.process is not None
    for process in (bank.process, keys.process):
        limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
        (core,) = [line.split() for line in limits if line.startswith("Max core file size")]
        assert core[4:6] == ["0", "0"]
    try:
        assert await asyncio.to_thread(memory_holds, keys.process.pid, opened.seed)
    except PermissionError:
        pytest.skip("only root may look into these processes, as it should be")
    assert not await asyncio.to_thread(memory_holds, bank.process.pid, opened.seed)


async def test_a_seed_left_in_the_banks_directory_stops_its_start(both: tuple[BankProcess, SignerProcess]) -> None:
    """A bank that is told its keys are elsewhere does not start beside a seed of its own."""
    bank, keys = both
    await asyncio.to_thread(bank.stop)
    (bank.data / "mint.seed").write_bytes((keys.data / "mint.seed").read_bytes())
    with pytest.raises(AssertionError, match="move it into the signer"):
        await asyncio.to_thread(bank.start)
    (bank.data / "mint.seed").unlink()
    await asyncio.to_thread(bank.start)
