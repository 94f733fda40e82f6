"""The guide to paid HTTP can be pasted: its commands run one after another, its program prints what it says, its file loads."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from specie.paywall.config import load_paywall
from specie.wallet.paid import Settle
from tests.support.programs import SPECIE, home_environment, running_bank

PAGE = (Path(__file__).resolve().parents[2] / "docs/guides/paid-http.md").read_text()
HERE = "http://127.0.0.1:3338"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.e2e
def test_the_commands_work_as_pasted(tmp_path: Path) -> None:
    """Server, paywall, asking and paying in one shell; what was started in it is ended."""
    lines = "".join(_blocks("sh")).replace("8402", _free_port()).replace("8000", _free_port())
    lines = re.sub(r"^(python3 -m http.server .*|specie wallet paywall .*)$", r"\1 &", lines, flags=re.MULTILINE)  # terminals
    lines = lines.replace("specie wallet", f"{shlex.join(SPECIE)} wallet")  # no function: jobs are then ended by their own id
    with running_bank(tmp_path, "--autopay-delay", "0.2") as bank:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", "trap 'kill $(jobs -p) 2>/dev/null' EXIT\n" + lines],
            env=home_environment(tmp_path, SPECIE_WALLET_MINT_URL=bank.url),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "402 Payment Required" in done.stdout
    assert "x-cashu: creqA" in done.stdout
    assert "the news of today" in done.stdout
    assert "GET /news.txt" in done.stdout


@pytest.mark.e2e
def test_the_program_prints_what_it_says(tmp_path: Path) -> None:
    """Middleware and client in one process, at a fresh bank."""
    (program,), (printed,) = _blocks("python"), _blocks("text")
    with running_bank(tmp_path, "--autopay-delay", "0.2") as bank:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program.replace(HERE, bank.url)],
            env=home_environment(tmp_path),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.stdout, done.stderr, done.returncode) == (printed, "", 0)


def test_the_file_loads(tmp_path: Path) -> None:
    """Its TOML is a paywall's settings, with the values that the text names."""
    (block,) = _blocks("toml")
    path = tmp_path / "paywall.toml"
    path.write_text(block)
    settings = load_paywall(path)
    assert (settings.listen, settings.honour_s, settings.deliveries) == ("127.0.0.1:8402", 600, 5)
    assert [(price.path, price.amount, price.settle) for price in settings.prices] == [
        ("/news*", 21, Settle.NOW),
        ("/ask", 3, Settle.LATER),
    ]
