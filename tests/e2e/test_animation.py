"""`specie wallet send --animate` at a terminal of its own: frames move, Ctrl-C ends them, the token is printed."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest

from tests.support.programs import SPECIE, home_environment, running_bank

pytestmark = pytest.mark.e2e


class _Terminal:
    """Reads what a terminal shows until it is closed, as terminals do: a program that nobody reads would be held up."""

    def __init__(self, terminal: int) -> None:
        self.seen = ""
        self.open = True
        self._terminal = terminal
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while self.open:
            if select.select([self._terminal], [], [], 0.2)[0]:
                self.seen += os.read(self._terminal, 65536).decode(errors="replace")

    def wait_for(self, frames: int, timeout_s: float) -> None:
        """Until so many QR codes were drawn."""
        end = time.monotonic() + timeout_s
        while self.seen.count("█▀▀▀▀▀▀▀█") < 2 * frames and time.monotonic() < end:
            time.sleep(0.05)

    def close(self) -> None:
        """Read no more."""
        self.open = False
        self._reader.join()


def test_ctrl_c_ends_the_animation_and_prints_the_token(tmp_path: Path) -> None:
    """The whole token on standard output, exit code 0, and another wallet takes it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 70, 160, 0, 0))
    with running_bank(tmp_path, "--autopay-delay", "0.2") as bank:
        environment = home_environment(tmp_path, SPECIE_WALLET_MINT_URL=bank.url, TERM="xterm-256color")
        environment.pop("COLUMNS", None)

        def run(*words: str) -> str:
            command = [*SPECIE, "wallet", *words]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        run("mint", "500")
        run("mint", "499")
        with subprocess.Popen(
            [*SPECIE, "wallet", "send", "511", "--animate", "--rate", "20"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        ) as process:
            screen = _Terminal(ours)
            try:
                screen.wait_for(4, 40)
                process.send_signal(signal.SIGINT)
                assert process.stdout is not None
                token = process.stdout.read().strip()
                code = process.wait(20)
            finally:
                process.kill()
                screen.close()
        os.close(theirs)
        os.close(ours)
        assert screen.seen.count("█▀▀▀▀▀▀▀█") >= 8, screen.seen[-500:]
        assert code == 0
        assert token.startswith("cashuB")
        assert "511 sat received" in run("receive", token, "--name", "bob")
        frames = run("frames", token, "--density", "60")
        assert len(frames.splitlines()) > 10
