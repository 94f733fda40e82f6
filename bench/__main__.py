"""`python -m bench`: floor, parts, load, floor again; figures on the terminal and under bench/results."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import report
from bench.bank import BenchError, PostgresServer, private_postgres, running_bank
from bench.client import Clients
from bench.figures import names_checked, numbers_checked, short, table
from bench.fill import embedded_engines
from bench.floor import FloorProgram, python_floor
from bench.load import ENDPOINTS, Load
from bench.machine import machine_facts
from bench.micro import measure_all

_STORES = (*embedded_engines(), "postgres")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition of short windows on SQLite, within a minute")
    parser.add_argument("--only", default=",".join(ENDPOINTS), help="endpoints to load; `none` for none")
    parser.add_argument("--concurrency", default=None, help="connections at once (1,16,64; quick: 1,64)")
    parser.add_argument("--reps", type=int, default=None, help="repetitions (3; quick: 1)")
    parser.add_argument("--seconds", type=float, default=None, help="length of a window (0.5; quick: 0.25)")
    parser.add_argument("--store", default=None, help=f"of {', '.join(_STORES)} (all; quick: sqlite)")
    parser.add_argument("--clients", type=int, default=1, help="client processes")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the bank on PostgreSQL")
    parser.add_argument("--budget", type=float, default=None, help="seconds of load, shared by the stores (150; quick: 35)")
    parser.add_argument("--no-parts", action="store_true", help="leave the micro-benchmarks out")
    parser.add_argument("--parts-seconds", type=float, default=None, help="for each micro-benchmark (0.4; quick: 0.15)")
    parser.add_argument("--dir", type=Path, default=None, help="where the stores are made (the system's temporary directory)")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), help="where results are written")
    parser.add_argument("--no-record", action="store_true", help="write no files")
    options = parser.parse_args(arguments)
    quick = options.quick
    try:
        options.only = [] if options.only == "none" else names_checked(options.only, ENDPOINTS)
        options.concurrency = numbers_checked(options.concurrency or ("1,64" if quick else "1,16,64"), 1, 512)
        options.store = names_checked(options.store or ("sqlite" if quick else ",".join(_STORES)), _STORES)
    except ValueError as error:
        parser.error(str(error))
    options.reps = options.reps or (1 if quick else 3)
    options.seconds = options.seconds or (0.25 if quick else 0.5)
    options.budget = options.budget or (35.0 if quick else 150.0)
    options.parts_seconds = options.parts_seconds or (0.15 if quick else 0.4)
    if not 1 <= options.workers <= 64:
        parser.error("workers from 1 to 64")
    if not 1 <= options.clients <= 16 or not 1 <= options.reps <= 100 or not 0 < options.seconds <= 60:
        parser.error("clients from 1 to 16, reps from 1 to 100, seconds to 60")
    return options


def say(line: str = "") -> None:
    """One line for the person who waits."""
    print(line, flush=True)


class _Run:
    """One run: what it was told, what it found so far."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self._options = options
        self._directory = directory
        self._program = FloorProgram(directory)
        self._cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.floor: list[dict[str, Any]] = []
        self.micro: list[dict[str, Any]] = []
        self.load: dict[str, Any] = {}
        self.notes: list[str] = []

    @property
    def floor_missing(self) -> str:
        """Why there is no floor in C, or nothing."""
        return self._program.missing

    @property
    def floor_cpu_us(self) -> float | None:
        """Processor microseconds of a pair in C on one thread, the median of this run's looks."""
        found = [floor["cpu_us"] for floor in self.floor if (floor["what"], floor["threads"]) == ("C", 1)]
        return statistics.median(found) if found else None

    def note(self, text: str) -> None:
        """Something the reader of the figures must know."""
        self.notes.append(text)
        say(f"NOTE: {text}")

    def measure_floor(self, when: str) -> None:
        """The floor on one thread and on all cores, in C if possible and through Python."""
        seconds = 0.4 if self._options.quick else 0.8
        for threads in sorted({1, self._cores}):
            measured = [
                ("C", self._program.measure(threads, seconds)),
                ("C, points", self._program.measure(threads, seconds, points_only=True)),
                ("kernel.curve", python_floor(threads, seconds)),
            ]
            for what, floor in measured:
                if floor is not None:
                    self.floor.append({"what": what, "when": when, "threads": threads} | floor._asdict())
                    line = f"  floor in {what:<12} threads {threads} {floor.pairs_per_s:>7.0f} pairs/s"
                    say(f"{line} {floor.cpu_us:>6.0f} us of CPU each")

    def measure_parts(self) -> None:
        """The micro-benchmarks."""
        for figure in measure_all(self._directory, self._options.parts_seconds):
            self.micro.append(dataclasses.asdict(figure))
            say(f"  {figure.name:<30} {short(figure.least_us):>8} us least {short(figure.median_us):>8} median a {figure.per}")

    def measure_load(self, store: str) -> None:
        """Every endpoint on one bank."""
        options, home = self._options, self._directory / store
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(_postgres(store))
            engine, dsn = ("sqlite", server.dsn) if server else (store, None)
            bank = stack.enter_context(running_bank(home, dsn, engine=engine, workers=options.workers))
            clients = stack.enter_context(Clients(bank.host, bank.port, options.clients))
            load = Load(bank, clients, options.seconds, [server.pid] if server else [], say)
            skipped, deadline = 0, time.monotonic() + options.budget / len(options.store)
            for _ in range(options.reps):
                for concurrency in options.concurrency:
                    for endpoint in options.only:
                        if time.monotonic() > deadline:
                            skipped += 1
                        else:
                            load.round(endpoint, concurrency)
            if skipped:
                self.note(f"{store}: {skipped} windows were not opened: the time was used up (--budget)")
            self.load[store] = {
                "start_s": round(bank.start_s, 3),
                "checks": load.checks,
                "figures": load.figures,
                "error_samples": load.error_samples,
            }


@contextlib.contextmanager
def _postgres(store: str) -> Iterator[PostgresServer | None]:
    if store != "postgres":
        yield None
        return
    with private_postgres() as server:
        yield server


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; 0, or 1 where the bank did something wrong."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="specie-bench-", dir=options.dir) as name:
        directory = Path(name)
        run = _Run(options, directory)
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        machine = machine_facts(directory)
        say(f"{date}  {machine['cpu']}, {machine['cores']} cores; 4 KiB durable in {machine['flush_us']}")
        if run.floor_missing:
            run.note(f"no floor in C: {run.floor_missing}")
        if not options.no_parts:
            run.measure_parts()
        run.measure_floor("before")
        failed = False
        for store in options.store if options.only else ():
            say(f"bank on {store}")
            try:
                run.measure_load(store)
            except BenchError as error:
                run.note(f"{store}: {error}")
                failed = failed or store != "postgres" or "PostgreSQL" not in str(error)
            run.measure_floor(f"after {store}")
        result = {
            "date": date,
            "machine": machine,
            "options": {
                "endpoints": ",".join(options.only) or "none",
                "concurrency": ",".join(map(str, options.concurrency)),
                "reps": options.reps,
                "seconds": options.seconds,
                "clients": options.clients,
                "workers": options.workers,
            },
            "floor": run.floor,
            "floor_missing": run.floor_missing,
            "floor_cpu_us": run.floor_cpu_us,
            "micro": run.micro,
            "load": run.load,
            "notes": run.notes,
        }
    for store, load in run.load.items():
        say(f"\nbank on {store}, up after {load['start_s']} s; checked: {load['checks']}")
        say(table(*report.load_rows(load["figures"], run.floor_cpu_us)))
    if not options.no_record:
        for path in report.write(result, options.out):
            say(f"written: {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
