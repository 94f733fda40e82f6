"""A wallet that pays one invoice at three banks is killed by SIGKILL at some moment: all parts arrive or none, once."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.test_payment_methods import Terminal, bank_with_all_rails, foreign_invoice
from tests.support.programs import SPECIE

pytestmark = pytest.mark.e2e

MOMENTS_S = (0.9, 1.3, 1.7, 2.2)


def test_killed_while_three_banks_pay(tmp_path: Path) -> None:
    """After each kill `resume` carries the parts to their end; what is in the history is what has left the balance."""
    network = tmp_path / "network.sqlite"
    with contextlib.ExitStack() as stack:
        names = ("one", "two", "three")
        banks = [stack.enter_context(bank_with_all_rails(tmp_path, name, network)) for name in names]
        wallet = Terminal(tmp_path, banks[0].url)
        for running in banks:
            wallet("mints", "add", running.url)
            wallet("mint", "5000", "--mint", running.url)
        held, asked = 15_000, set[int]()
        for number, moment_s in enumerate(MOMENTS_S):
            fullest = max(one["available"] for one in wallet("balance")["mints"])
            asked.add(fullest + 100)  # more than any bank has alone
            invoice = foreign_invoice((fullest + 100) * 1000, f"rent {number}")
            command = [*SPECIE, "wallet", "pay", invoice, "--split", "--yes"]
            paying = subprocess.Popen(
                command, env=wallet.environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            time.sleep(moment_s)
            paying.send_signal(signal.SIGKILL)
            paying.wait(10)
            for _ in range(20):
                wallet("balance")  # opening takes up what was interrupted
                if not wallet("pending")["operations"]:
                    break
                time.sleep(1)
            assert wallet("pending")["operations"] == []
            lines = [one for one in wallet("history", "--limit", "100")["history"] if one["kind"] == "pay"]
            by_payment: dict[str, int] = {}
            for one in lines:
                by_payment[one["payment"] or one["id"]] = by_payment.get(one["payment"] or one["id"], 0) + one["amount"]
            assert set(by_payment.values()) <= asked
            spent = sum(one["amount"] + one["fee"] for one in lines)
            assert wallet("balance")["balance"] == {"sat": held - spent}
