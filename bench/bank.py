"""The bank under test: `specie up` as a process of its own, in a directory of its own; and a PostgreSQL for it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from threading import Timer
from urllib.parse import urlsplit

__all__ = [
    "BenchError",
    "PostgresServer",
    "RunningBank",
    "bank_environment",
    "data_directory",
    "loopback_checked",
    "private_postgres",
    "running_bank",
]

_POSTGRES = Path(__file__).parents[1] / "scripts" / "postgres.sh"


class BenchError(Exception):
    """The benchmark cannot go on; the text says why."""


@dataclass(frozen=True)
class RunningBank:
    """A bank that takes requests: where, which process, and how long it took to come up."""

    host: str
    port: int
    pid: int
    start_s: float


@dataclass(frozen=True)
class PostgresServer:
    """A database server of our own: the URL of its database, and the process under which all of its others stand."""

    dsn: str
    pid: int


def loopback_checked(url: str) -> tuple[str, int]:
    """Host and port of an http URL on this machine. BenchError for any other: no benchmark loads somebody's mint."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        local = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        local = False
    if parts.scheme != "http" or not local or parts.path.strip("/"):
        raise BenchError(f"{url}: only http addresses of this machine are loaded")
    return host, parts.port or 80


def data_directory(home: Path) -> Path:
    """Where the bank of this home keeps everything."""
    return home / "bank"


def bank_environment(home: Path, engine: str = "sqlite") -> dict[str, str]:
    """What a bank of ours is started with: a home of its own, no settings of the user's, and an embedded engine by name.

    SQLite is what a bank takes unless told, so it is not named.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPECIE_", "XDG_"))}
    places = {"HOME": home, "XDG_DATA_HOME": home / "data", "XDG_CONFIG_HOME": home / "config"}
    chosen = {} if engine == "sqlite" else {"SPECIE_STORE_ENGINE": engine}
    return kept | {name: str(place) for name, place in places.items()} | {"NO_COLOR": "1"} | chosen


@contextlib.contextmanager
def running_bank(
    home: Path,
    dsn: str | None = None,
    *,
    workers: int = 1,
    start_s: float = 60.0,
    engine: str = "sqlite",
    program: Sequence[str] = ("-m", "specie"),
    environment: Mapping[str, str] | None = None,
) -> Iterator[RunningBank]:
    """`specie up` on any free loopback port, its invoices paid at once; told to stop on the way out.

    `program`: what the interpreter runs instead of the package, with the same command line. `environment`: settings
    beside those that every bank of ours gets.
    """
    home.mkdir(mode=0o700, exist_ok=True)
    command = [sys.executable, *program, "up", "--json", "--port", "0", "--autopay-delay", "0"]
    command += ["--log-format", "json", "--log-level", "warning", "--data", str(data_directory(home))]
    if dsn is not None:
        command += ["--database", dsn, "--workers", str(workers)]
    log = home / "bank.log"
    began = time.perf_counter()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            env=bank_environment(home, engine) | dict(environment or {}),
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    watchdog = Timer(start_s, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise BenchError(f"the bank did not start:\n{log.read_text(errors='replace')[-2000:]}")
        host, port = loopback_checked(json.loads(line)["url"])
        yield RunningBank(host, port, process.pid, time.perf_counter() - began)
    finally:
        watchdog.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        process.stdout.close()


@contextlib.contextmanager
def private_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server with flushing on, in a new directory, gone afterwards. BenchError where none is installed."""
    directory = Path(tempfile.mkdtemp(prefix="specie-bench-postgres-"))  # its own user must reach it
    try:
        started = subprocess.run(
            [str(_POSTGRES), "start", str(directory)],
            env=os.environ | {"PG_FSYNC": "on"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if started.returncode:
            raise BenchError(f"no PostgreSQL: {started.stderr.strip() or 'it did not start'}")
        try:
            pid = int((directory / "data" / "postmaster.pid").read_text().split()[0])
            yield PostgresServer(started.stdout.strip(), pid)
        finally:
            subprocess.run([str(_POSTGRES), "stop", str(directory)], check=False, capture_output=True, timeout=60)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
