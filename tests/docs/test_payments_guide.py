"""What the guide to payment methods prints can be pasted: its commands one after another, and its program."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import SPECIE, home_environment, running_bank

PAGE = Path(__file__).resolve().parents[2] / "docs/guides/payments.md"
HERE = "http://127.0.0.1:3338"
FUNCTION = f'specie() {{ {shlex.join(SPECIE)} "$@"; }}\n'


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.e2e
def test_its_commands_work_as_pasted(tmp_path: Path) -> None:
    """One shell, one bank in play money; all that is on its way at the end arrives."""
    lines = "".join(_blocks("sh")) + "specie wallet pending --json\n"
    assert lines.count("specie wallet") > 10
    with running_bank(tmp_path, "--autopay-delay", "6") as bank:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", FUNCTION + lines],
            env=home_environment(tmp_path, SPECIE_WALLET_MINT_URL=bank.url),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on its way" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["operations"] == []


@pytest.mark.e2e
def test_its_program_prints_what_it_says(tmp_path: Path) -> None:
    """The program is whole and its output is the block below it."""
    (program,), (printed,) = _blocks("python"), _blocks("text")
    with running_bank(tmp_path, "--autopay-delay", "0.5") as bank:
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
