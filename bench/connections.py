"""Throughput by connections, and the distribution of latencies: 4/4 swaps in a closed loop.

    python -m bench.connections

At 1 to 256 connections; with the floor in C before and after, so that a rate can be read against what the curve allows.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import svg
from bench.bank import BenchError, running_bank
from bench.client import Clients
from bench.figures import names_checked, numbers_checked, percentile, summary_of, table
from bench.fill import embedded_engines
from bench.floor_looks import FloorLooks
from bench.load import ENDPOINTS, Load
from bench.record import Record, options_parser

__all__ = ["distribution", "main"]

_SHARES = (0.01, *(at / 20 for at in range(1, 19)), 0.925, 0.95, 0.975, 0.99, 0.995, 0.999, 1.0)
_NEEDED = {"mint": ("mint_quote",), "melt": ("mint_quote", "mint", "melt_quote"), "restore": ("swap4",)}


def distribution(ordered: Sequence[float]) -> list[tuple[float, float]]:
    """Shares in percent and milliseconds that such a share of ascending seconds do not exceed; [] for none."""
    return [(share * 100, percentile(ordered, share) * 1e3) for share in _SHARES] if ordered else []


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = options_parser("connections", __doc__)
    parser.add_argument("--endpoint", default="swap4", choices=ENDPOINTS, help="what is asked (swap4)")
    parser.add_argument("--concurrency", default=None, help="connections (1,2,4,8,16,32,64,128,256; quick: 1,8,64)")
    parser.add_argument("--engine", default=None, help="embedded engines (all that there are)")
    parser.add_argument("--reps", type=int, default=None, help="repetitions (3; quick: 1)")
    parser.add_argument("--seconds", type=float, default=None, help="length of a window (0.5; quick: 0.25)")
    options = parser.parse_args(arguments)
    options.reps = options.reps or (1 if options.quick else 3)
    options.seconds = options.seconds or (0.25 if options.quick else 0.5)
    known = embedded_engines()
    try:
        many = "1,8,64" if options.quick else "1,2,4,8,16,32,64,128,256"
        options.concurrency = numbers_checked(options.concurrency or many, 1, 512)
        options.engine = known if options.engine is None else names_checked(options.engine, known)
    except ValueError as error:
        parser.error(str(error))
    if not 0 < options.seconds <= 60 or not 1 <= options.reps <= 100:
        parser.error("seconds to 60, reps from 1 to 100")
    return options


def _measure(record: Record, home: Path, engine: str, options: argparse.Namespace) -> None:
    endpoint = options.endpoint
    with contextlib.ExitStack() as stack:
        bank = stack.enter_context(running_bank(home, engine=engine))
        clients = stack.enter_context(Clients(bank.host, bank.port))
        needed = tuple(dict.fromkeys((*_NEEDED.get(endpoint, ()), endpoint)))
        load = Load(bank, clients, options.seconds, report=record.say, endpoints=needed)
        pooled: dict[int, list[float]] = {}
        load.round(endpoint, max(options.concurrency))
        load.figures.clear()
        for _ in range(options.reps):
            for concurrency in options.concurrency:
                load.round(endpoint, concurrency)
                pooled.setdefault(concurrency, []).extend(load.latencies[endpoint][concurrency])
        record.figures[engine] = {
            str(concurrency): summary_of(rows) | {"distribution_ms": distribution(sorted(pooled[concurrency]))}
            for concurrency, rows in load.figures[endpoint].items()
        }
        record.figures.setdefault("error_samples", []).append(load.error_samples)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; 0, or 1 where a bank did something wrong."""
    options = _options(arguments)
    failed = False
    with tempfile.TemporaryDirectory(prefix="specie-bench-connections-", dir=options.dir) as name:
        record = Record("connections", options, Path(name))
        floor = FloorLooks(record, Path(name), 0.3 if options.quick else 0.6)
        floor.look("before")
        for engine in options.engine:
            try:
                _measure(record, Path(name) / engine, engine, options)
            except BenchError as error:
                record.note(f"{engine}: {error}")
                failed = True
        floor.look("after")
    found = {engine: record.figures[engine] for engine in options.engine if engine in record.figures}
    record.figures["floor"] = floor.looks
    if found:
        rates: dict[str, list[tuple[float, float]]] = {
            engine: [(float(concurrency), row["rps"]) for concurrency, row in by.items()] for engine, by in found.items()
        }
        for what in ("with DLEQ", "points alone"):
            limit = floor.of(what)
            if options.endpoint == "swap4" and limit is not None:
                rates[f"floor {what}"] = [(float(concurrency), limit) for concurrency in options.concurrency]
        title = f"{options.endpoint}: requests a second by connections"
        record.picture("rate", svg.lines(title, "connections", "requests a second", rates, log_x=True))
        late = {
            f"{engine}, c={concurrency}": row["distribution_ms"]
            for engine, by in found.items()
            for concurrency, row in by.items()
            if int(concurrency) in (1, 16, 64, 256, max(options.concurrency)) and row["distribution_ms"]
        }
        if late:
            title = f"{options.endpoint}: milliseconds that a share of requests does not exceed"
            record.picture("latency", svg.lines(title, "percent of requests", "ms", late, log_y=True))
        head = (
            "connections",
            "requests/s",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "max ms",
            "server cores",
            "CPU us",
            "errors",
            "others",
        )
        names = ("rps", "p50_ms", "p90_ms", "p99_ms", "max_ms", "server_cpu", "server_cpu_us", "errors", "others_cpu")
        rows = [
            [f"{engine} {concurrency}", *(row.get(figure, 0.0) for figure in names)]
            for engine, by in found.items()
            for concurrency, row in by.items()
        ]
        record.say(table(head, rows))
    record.write()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
