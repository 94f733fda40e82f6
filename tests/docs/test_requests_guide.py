"""The guide of payment requests works as printed: its programs and its commands, at a real bank and a real relay."""

from __future__ import annotations

import asyncio
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from nostr_sdk import LocalRelay, LocalRelayBuilder

from tests.support.programs import SPECIE, home_environment, running_bank

PAGE = (Path(__file__).resolve().parents[2] / "docs/guides/requests.md").read_text()
HERE, RELAY, PORT = "http://127.0.0.1:3338", "wss://relay.example.org", "8391"
EXAMPLES = re.findall(r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_every_program_has_its_output() -> None:
    """No example escapes the test below."""
    assert len(EXAMPLES) == PAGE.count("```python\n") == 2


@pytest.mark.e2e
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_programs_print_what_they_say(number: int, tmp_path: Path) -> None:
    """Each is a whole program that runs in a fresh home and prints the block below it."""
    program, printed = EXAMPLES[number]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with running_bank(tmp_path, "--autopay-delay", "0.2") as bank:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program.replace(HERE, bank.url).replace(PORT, port)],
            env=home_environment(tmp_path / "home"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.stdout, done.stderr, done.returncode) == (printed, "", 0)


@pytest.mark.e2e
def test_commands_work_as_pasted(tmp_path: Path) -> None:
    """One after another in one shell; the relay is one on this machine, which a payer must be told to accept."""

    async def start() -> tuple[LocalRelay, str]:
        made = LocalRelayBuilder().addr("127.0.0.1").build()
        await made.run()
        return made, str(await made.url())

    relay, url = asyncio.run(start())
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)).replace(RELAY, url)
    lines = lines.replace("request pay ", "request pay --private ")
    try:
        with running_bank(tmp_path, "--autopay-delay", "0.2") as bank:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", f'specie() {{ {shlex.join(SPECIE)} "$@"; }}\n{lines}'],
                env=home_environment(tmp_path / "home", SPECIE_WALLET_MINT_URL=bank.url),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=110,
                check=False,
            )
    finally:
        relay.shutdown()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "21 sat for" in done.stdout
    assert "5 sat for" in done.stdout
    assert "mints in the backup" in done.stdout
