"""A bank as a real process, to be killed: started by its command line, reached over HTTP, ended by its pid."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A loopback port that the kernel gives to nobody else for the next minute: only a server that asks for it gets it.

    A port that was merely free is soon given to any connection of this machine, while the program that shall listen there
    is still starting. A connection that the listening side closed first keeps it in TIME_WAIT; servers may take it.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = int(listener.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)) as visitor:
            accepted, _ = listener.accept()
            accepted.close()
            visitor.recv(1)
    return port


@dataclass
class BankProcess:
    """`specie up` in a directory of its own; its home is there too, so nothing of the user is touched."""

    home: Path
    data: Path
    dsn: str | None = None
    arguments: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SPECIE_")}
        home = str(self.home)
        return kept | {
            "HOME": home,
            "XDG_DATA_HOME": f"{home}/data",
            "XDG_CONFIG_HOME": f"{home}/config",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, timeout_s: float = 60.0) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "specie", "up", "--data", str(self.data), "--port", str(self.port)]
        command += ["--autopay-delay", "0", "--log-format", "json", *self.arguments]
        if self.dsn is not None:
            command += ["--database", self.dsn]
        with (self.home / f"bank-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the bank ended by itself ({self.process.returncode}):\n{self.log()}")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"the bank did not start:\n{self.log()}")

    def log(self) -> str:
        """What it printed last."""
        return (self.home / f"bank-{self.port}.log").read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGINT, as Ctrl-C; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"the bank did not stop:\n{self.log()}") from None
        return int(self.process.returncode)

    def run(self, *arguments: str, check: bool = True) -> Any:
        """A `specie ... --json` command against this bank's data directory; its JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "specie", *arguments, "--json"],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{arguments}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}")
        return json.loads(done.stdout) if done.stdout.strip() else None
