"""A real SIGKILL amid payments: the play rail's store knows everything that was answered, and pays nothing twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from specie.app.system import SystemClock, SystemEntropy
from specie.kernel import PaymentState
from specie.keys.adapters.software import SoftwareSigner
from specie.lightning.adapters.play import MIGRATIONS, PlayRail, PlaySettings
from specie.storage import Transaction
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.play import SEED

ROOT = Path(__file__).parents[2]
ROUNDS = 5


def killed_worker(path: Path, name: str, lines: int) -> list[list[str]]:
    """Run the worker, kill it after some lines; what it said."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}
    command = [sys.executable, "-m", "tests.support.play_worker", str(path), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
        process.wait(30)
    assert process.returncode == -signal.SIGKILL
    return [line.split() for line in said if line.endswith("\n")]


@pytest.mark.e2e
async def test_sigkill_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """After each kill: what was answered is still so, what was in flight ends PAID or was never ordered, the books agree."""
    path = tmp_path / "play.db"
    source = random.Random(7)
    storage = SqliteStorage(path)
    await storage.migrate(MIGRATIONS)
    await storage.close()
    said: dict[tuple[str, str], str] = {}
    for number in range(ROUNDS):
        lines = await asyncio.to_thread(killed_worker, path, f"life-{number}", source.randrange(2, 40))
        said.update({(payment_id, attempt): state for payment_id, attempt, state in lines})
    assert set(said.values()) <= {"ORDERED", "PAID"}
    storage = SqliteStorage(path)
    signer = SoftwareSigner(SEED, threads=0, entropy=SystemEntropy())
    rail = PlayRail(storage, signer, SystemClock(), SystemEntropy(), PlaySettings(grace_s=0.1), autopay_delay_s=None)
    await asyncio.sleep(0.3)
    await rail.tick()
    for (payment_id, attempt), state in said.items():
        outcome = await rail.outgoing(payment_id, attempt)
        assert outcome.state in ((PaymentState.PAID,) if state == "PAID" else (PaymentState.PAID, PaymentState.ABSENT))

    async def books(tx: Transaction) -> int:
        arrived = [str(row[0]) for row in await tx.fetch("SELECT amount_msat FROM play_arrival")]
        paid = await tx.fetch("SELECT amount_msat, fee_msat FROM play_payment WHERE state = 'PAID'")
        assert len(paid) >= list(said.values()).count("PAID")
        return sum(map(int, arrived)) - sum(int(str(value)) for row in paid for value in row)

    assert (await rail.health()).balance_msat == await storage.read(books)
    await rail.close()
    await storage.close()
