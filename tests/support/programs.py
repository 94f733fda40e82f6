"""Starts `specie` as other people do: as a process of its own, in a home of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SPECIE", "RunningBank", "home_environment", "running_bank"]

SPECIE = (sys.executable, "-m", "specie")
"""The command line of the program under test."""


def home_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of somebody whose home is `home`: no setting of ours leaks in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPECIE_", "XDG_"))}
    places = {"HOME": home, "XDG_DATA_HOME": home / "data", "XDG_CONFIG_HOME": home / "config"}
    return kept | {name: str(place) for name, place in places.items()} | more


@dataclass
class RunningBank:
    """A bank in a process."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]
    log: Path

    @property
    def url(self) -> str:
        """Where wallets find it."""
        return str(self.facts["url"])

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 30) -> int:
        """Send a signal and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def running_bank(
    home: Path, *arguments: str, environment: Mapping[str, str] | None = None, start_s: float = 60, port: str = "0"
) -> Iterator[RunningBank]:
    """`specie up --json --port 0` and `arguments`, once it takes connections; killed on the way out if it still runs.

    `port`: that of a bank which ran before, for one that is started again.
    """
    log = Path(tempfile.mkstemp(dir=home, suffix=".log")[1])
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*SPECIE, "up", "--json", "--port", port, *arguments],
            env=dict(environment or home_environment(home)),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=home,
        )
    assert process.stdout is not None
    watchdog = threading.Timer(start_s, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise AssertionError(f"the bank did not start: {log.read_text()}")
        yield RunningBank(process, json.loads(line), log)
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stdout.close()
