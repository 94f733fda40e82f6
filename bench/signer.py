"""Swaps a second of a bank that signs itself, and of one whose signer is a process of its own, in turn.

    python -m bench.signer [--quick] [--engine sqlite]

Both stand all the time; rounds alternate, so that whatever else the machine does meets both. "CPU us" is the processor time of
the bank alone, for one swap.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from bench.bank import BenchError, bank_environment, running_bank
from bench.client import Clients
from bench.figures import summary_of, table
from bench.load import Load
from bench.record import Record, engine_option, options_parser

__all__ = ["main"]

_ENDPOINT = "swap4"
_START_S = 60.0


@dataclass(frozen=True)
class _Signer:
    """A signer that takes connections: its process, and the settings of a bank that uses it."""

    pid: int
    environment: dict[str, str]


@contextlib.contextmanager
def _running_signer(home: Path) -> Iterator[_Signer]:
    """`specie signer run` in a directory of its own, paired with the bank to come; told to stop on the way out."""
    home.mkdir(mode=0o700)
    data, pairing, socket = home / "signer", home / "pairing", home / "run" / "s"
    program = [sys.executable, "-m", "specie", "signer"]
    environment = bank_environment(home)
    subprocess.run(
        [*program, "pair", "--data", str(data), "--bank", str(pairing)], env=environment, check=True, capture_output=True
    )
    log = home / "signer.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*program, "run", "--json", "--play", "--data", str(data), "--socket", str(socket)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    watchdog = Timer(_START_S, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise BenchError(f"the signer did not start:\n{log.read_text(errors='replace')[-2000:]}")
        yield _Signer(
            process.pid,
            {
                "SPECIE_KEYS_PROVIDER": "remote",
                "SPECIE_KEYS_REMOTE_SOCKET": json.loads(line)["socket"],
                "SPECIE_KEYS_REMOTE_IDENTITY": str(pairing / "bank.pem"),
                "SPECIE_KEYS_REMOTE_SIGNER": str(pairing / "signer.crt"),
            },
        )
    finally:
        watchdog.cancel()
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        process.stdout.close()


def _measure(record: Record, directory: Path, options: Any) -> None:
    with contextlib.ExitStack() as stack:
        loads: dict[str, Load] = {}
        signer = stack.enter_context(_running_signer(directory / "s"))
        for name, environment, others in (("in the bank", {}, []), ("own process", signer.environment, [signer.pid])):
            home = directory / name.replace(" ", "-")
            bank = stack.enter_context(running_bank(home, engine=options.engine, environment=environment))
            clients = stack.enter_context(Clients(bank.host, bank.port))
            endpoints = ("mint_quote", "mint", _ENDPOINT)
            loads[name] = Load(bank, clients, options.seconds, others, record.say, endpoints=endpoints)
        for load in loads.values():
            load.round(_ENDPOINT, max(options.concurrency))  # learns how many to prepare
            load.figures.clear()
        for _ in range(options.reps):
            for concurrency in options.concurrency:
                for name, load in loads.items():
                    record.say(name)
                    load.round(_ENDPOINT, concurrency)
        for name, load in loads.items():
            record.figures[name] = {str(number): summary_of(rows) for number, rows in load.figures[_ENDPOINT].items()}
            if load.error_samples:
                record.note(f"{name}: {load.error_samples}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; 0, or 1 where a bank or the signer did something wrong."""
    parser = options_parser("signer", __doc__)
    engine_option(parser)
    options = parser.parse_args(arguments)
    options.concurrency = (1, 64) if options.quick else (1, 16, 64)
    options.reps = 2 if options.quick else 5
    options.seconds = 0.3 if options.quick else 1.0
    failed = False
    with tempfile.TemporaryDirectory(prefix="specie-bench-", dir=options.dir) as name:
        record = Record("signer", options, Path(name))
        try:
            _measure(record, Path(name), options)
        except BenchError as error:
            record.note(str(error))
            failed = True
    names = ("rps", "p50_ms", "p99_ms", "server_cpu", "store_cpu", "server_cpu_us", "errors", "others_cpu")
    head = ("signs, connections", "swaps/s", "p50 ms", "p99 ms", "bank cores", "signer cores", "CPU us", "errors", "others")
    rows = [
        [f"{where} {concurrency}", *(row.get(figure, 0.0) for figure in names)]
        for where, by in record.figures.items()
        for concurrency, row in by.items()
    ]
    if rows:
        record.say(table(head, rows))
    record.write()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
