"""Two signers with one seed, either of which may be killed; and a signer that keeps to a policy."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from specie.kernel import RefusedError
from tests.e2e.test_sigkill import COIN_SUM
from tests.e2e.test_signer import SignerProcess
from tests.support.http_purse import HttpPurse
from tests.support.process import BankProcess

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system has no SO_PEERCRED"),
]

POLICY = """
[[rule]]
name = "small"
keys = ["mint/sat/*"]
amount_an_hour = 1000

[[rule]]
name = "nothing in usd"
keys = ["mint/usd/*"]
state = "pre-active"
"""


@dataclass
class World:
    """A bank, its signer, and a second signer with the same seed."""

    bank: BankProcess
    first: SignerProcess
    second: SignerProcess
    config: Path

    def pair(self, keys: SignerProcess, files: str) -> None:
        self.bank.run("signer", "pair", "--data", str(keys.data), "--bank", str(self.config.parent / files))

    def configure(self, standby: bool) -> None:
        """Write the bank's settings; deadlines are short, so that a hanging signer is left soon."""
        sections = [("remote", self.first, "pairing"), ("standby", self.second, "pairing2")][: 1 + standby]
        lines = ['[keys]\nprovider = "remote"\n']
        for name, keys, files in sections:
            lines.append(f'[keys.{name}]\nsocket = "{keys.data}/run/signer.sock"\ndeadline_s = 1\nwait_s = 3\n')
            lines.append(f'identity = "{files}/bank.pem"\nsigner = "{files}/signer.crt"\n')
        self.config.write_text("".join(lines))


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a short name: a socket's path is."""
    with tempfile.TemporaryDirectory(prefix="specie-") as name:
        yield Path(name)


@pytest.fixture
async def world(home: Path) -> AsyncIterator[World]:
    """Nothing runs yet; whatever does is stopped afterwards."""
    bank = BankProcess(home, home / "bank", arguments=("--config", str(home / "bank.toml")))
    made = World(bank, SignerProcess(bank, home / "one"), SignerProcess(bank, home / "two"), home / "bank.toml")
    made.pair(made.first, "pairing")
    made.pair(made.second, "pairing2")
    try:
        yield made
    finally:
        if bank.process is not None:
            await asyncio.to_thread(bank.stop)
        for keys in (made.first, made.second):
            if keys.process is not None and keys.process.poll() is None:
                await asyncio.to_thread(keys.end, signal.SIGTERM)


async def both_run(world: World) -> None:
    """Start the first signer, give its seed to the second, start that and the bank."""
    await asyncio.to_thread(world.first.start)
    await asyncio.to_thread(shutil.copy2, world.first.data / "mint.seed", world.second.data / "mint.seed")
    await asyncio.to_thread(world.second.start)
    world.configure(standby=True)
    await asyncio.to_thread(world.bank.start)


async def test_either_signer_may_be_killed_and_nobody_is_turned_away(world: World) -> None:
    """SIGKILLs of one signer after the other while coins are swapped: no request fails, no coin is lost; the gap is printed."""
    await both_run(world)
    purse = HttpPurse([world.bank.url])
    gaps: list[float] = []
    try:
        coins = await purse.mint(COIN_SUM)
        for keys in (world.first, world.second, world.first, world.second):
            swapping = asyncio.create_task(purse.swap(coins))
            await asyncio.to_thread(keys.end, signal.SIGKILL)
            killed = time.monotonic()
            coins = await purse.swap(await swapping)
            gaps.append(time.monotonic() - killed)
            await asyncio.to_thread(keys.start)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:  # until the bank has seen that it is back
                coins = await purse.swap(coins)
                log = (world.bank.home / f"bank-{world.bank.port}.log").read_text()
                if log.count("signer_back") >= len(gaps) and log.count("replica_back") >= log.count("replica_away"):
                    break
                await asyncio.sleep(0.1)
            else:
                raise AssertionError(f"a signer that is back was not seen:\n{log}")
        assert sum(coin.amount for coin in coins) == COIN_SUM
        assert purse.lost_answers == 0
    finally:
        await purse.close()
    shown = ", ".join(f"{gap * 1000:.0f}" for gap in gaps)
    sys.stdout.write(f"\nms from SIGKILL of a signer until two swaps were done: {shown}\n")


async def test_a_hanging_signer_costs_its_deadline(world: World) -> None:
    """A signer that is stopped (SIGSTOP) is left after its deadline, and the other one answers from then on."""
    await both_run(world)
    purse = HttpPurse([world.bank.url])
    try:
        coins = await purse.mint(COIN_SUM)
        assert world.first.process is not None
        world.first.process.send_signal(signal.SIGSTOP)
        try:
            coins = await purse.swap(coins)
            coins = await purse.swap(coins)
        finally:
            world.first.process.send_signal(signal.SIGCONT)
        assert purse.lost_answers == 0
        assert sum(coin.amount for coin in coins) == COIN_SUM
    finally:
        await purse.close()


async def test_starts_with_either(world: World) -> None:
    """A bank starts while one of its signers is away, and takes it when it comes; another seed is refused at the start."""
    await both_run(world)
    await asyncio.to_thread(world.bank.stop)
    await asyncio.to_thread(world.first.end, signal.SIGTERM)
    await asyncio.to_thread(world.bank.start)
    purse = HttpPurse([world.bank.url])
    try:
        coins = await purse.mint(COIN_SUM)
        await asyncio.to_thread(world.first.start)
        await asyncio.to_thread(world.second.end, signal.SIGTERM)
        assert sum(coin.amount for coin in await purse.swap(coins)) == COIN_SUM
    finally:
        await purse.close()
    await asyncio.to_thread(world.bank.stop)
    (world.second.data / "mint.seed").unlink()
    await asyncio.to_thread(world.second.start)
    with pytest.raises(AssertionError, match="do not have the same keys"):
        await asyncio.to_thread(world.bank.start)


async def test_a_policy_bounds_what_the_bank_can_issue(world: World) -> None:
    """A rule of the signer refuses what goes beyond it, across the signer's death, while swaps go on; the bank goes on."""
    policy = world.config.parent / "policy.toml"
    policy.write_text(POLICY)
    world.first.arguments = ("--policy", str(policy))
    facts = await asyncio.to_thread(world.first.start)
    assert facts["rules"] == 2
    world.configure(standby=False)
    await asyncio.to_thread(world.bank.start)
    purse = HttpPurse([world.bank.url])
    try:
        coins = await purse.mint(600)
        with pytest.raises(RefusedError, match="rule small"):
            await purse.mint(600)
        await asyncio.to_thread(world.first.end, signal.SIGKILL)
        await asyncio.to_thread(world.first.start)
        with pytest.raises(RefusedError, match="rule small"):
            await purse.mint(600)
        for _ in range(3):
            coins = await purse.swap(coins)
        assert sum(coin.amount for coin in coins) == 600
        await purse.mint(100)
    finally:
        await purse.close()
    assert (world.bank.home / "signer.log").read_text().count("policy_refused") == 2
