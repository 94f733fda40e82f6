"""The README's tour, run as it is pasted, against a bank started as the README starts it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import home_environment, running_bank

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
_TOUR = re.compile(r"<!-- tour -->\s*```sh\n(.*?)```\s*<!-- /tour -->", re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout after `make up`: the launcher of the repository beside an environment with the program in it."""
    place = tmp_path / "checkout"
    (place / ".venv/bin").mkdir(parents=True)
    program = place / ".venv/bin/specie"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m specie "$@"\n')
    program.chmod(0o755)
    launcher = place / "specie"
    launcher.write_bytes((ROOT / "specie").read_bytes())
    launcher.chmod(0o755)
    return place


def _tour() -> str:
    match = _TOUR.search((ROOT / "README.md").read_text())
    assert match is not None, "README.md has no tour between its markers"
    return match[1]


def _balance(checkout: Path, environment: dict[str, str], name: str) -> dict[str, int]:
    done = subprocess.run(
        ["./specie", "wallet", "balance", "--name", name, "--json"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    balance: dict[str, int] = json.loads(done.stdout)["balance"]
    return balance


def test_the_tour_has_six_lines() -> None:
    """Mint, balance, send, receive, pay, restore: nothing else is asked of a newcomer."""
    lines = _tour().splitlines()
    assert len(lines) == 6
    for line, verb in zip(lines, ("mint 100", "balance", "send 21", "--name bob", "pay", "restore"), strict=True):
        assert verb in line


def test_the_tour_works_as_pasted(tmp_path: Path, checkout: Path) -> None:
    """Each line does what the README says, in a fresh home, and the money is where it should be afterwards."""
    home = tmp_path / "home"
    home.mkdir()
    with running_bank(home) as bank:
        environment = home_environment(home, SPECIE_WALLET_MINT_URL=bank.url, COLUMNS="100")
        done = subprocess.run(
            ["bash", "-e", "-u", "-o", "pipefail", "-c", _tour()],
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "100 sat minted" in done.stdout
        assert "PLAY" in done.stdout
        assert "21 sat received" in done.stdout
        assert "10 sat paid" in done.stdout
        assert "69 sat restored" in done.stdout
        assert "█▀▀▀▀▀▀▀█" in done.stderr  # a finder pattern of the token's QR code
        assert "cashuB" not in done.stdout + done.stderr  # the token went into the variable and nowhere else
        assert "Traceback" not in done.stderr
        assert _balance(checkout, environment, "default") == {"sat": 69}
        assert _balance(checkout, environment, "bob") == {"sat": 31}
        assert _balance(checkout, environment, "copy") == {"sat": 69}


def test_the_launcher_says_what_to_do_before_make_up(tmp_path: Path) -> None:
    """Without an environment it names the command that makes one."""
    launcher = tmp_path / "specie"
    launcher.write_bytes((ROOT / "specie").read_bytes())
    launcher.chmod(0o755)
    done = subprocess.run(["./specie"], cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert done.returncode == 1
    assert "make up" in done.stderr
