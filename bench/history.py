"""Whether a bank gets slower with its history: the same 4/4 swap after a thousand, a million, twenty million spent coins.

python -m bench.history                       1,000 and 1,000,000 on every embedded engine
python -m bench.history --most 20000000       twenty million too: some 8 GB of disk and some minutes an engine
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import svg
from bench.bank import BenchError, data_directory, running_bank
from bench.client import Clients, request_bytes
from bench.figures import names_checked, summary_of, table
from bench.fill import Filled, embedded_engines, fill
from bench.load import Load
from bench.machine import tree
from bench.record import Record, options_parser
from specie.ecash import hash_to_curve, wire

__all__ = ["HistoryLoad", "main", "sizes_up_to"]

_SIZES = (1_000, 1_000_000, 20_000_000)
_BYTES_A_COIN = 600
"""Disk that a coin of history takes, generously: a spent coin and a signed output."""
_CONCURRENCY = (1, 64)
_YS = 64
_START_S = 300.0


def sizes_up_to(most: int) -> list[int]:
    """The sizes to measure: those of the series up to `most`, and `most` itself where it is none of them."""
    return sorted({size for size in _SIZES if size <= most} | {most})


class HistoryLoad(Load):
    """`Load` with one endpoint more: `checkstate` of 64 Ys, 32 of them from all over the history."""

    def history_checkstate(self, some: Sequence[bytes], concurrency: int) -> dict[str, float]:
        """Measure it once, at that many connections; no two requests alike until 256 were sent."""
        requests = []
        for _ in range(256):
            unknown = [hash_to_curve(os.urandom(8)) for _ in range(_YS - _YS // 2)]
            body = wire.check_state_request_to_json([*random.sample(list(some), min(len(some), _YS // 2)), *unknown])
            requests.append(request_bytes("POST", "/v1/checkstate", body))
        self._measure("checkstate", concurrency, requests, repeat=True)
        return self.figures["checkstate"][concurrency][-1]


def _size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _measured(record: Record, home: Path, engine: str, filled: Filled, seconds: float, reps: int) -> dict[str, Any]:
    with contextlib.ExitStack() as stack:
        bank = stack.enter_context(running_bank(home, engine=engine, start_s=_START_S))
        rss_mib = sum(process.memory_info().rss for process in tree(bank.pid)) / 2**20
        clients = stack.enter_context(Clients(bank.host, bank.port))
        load = HistoryLoad(bank, clients, seconds, report=record.say, endpoints=("swap4",))
        for _ in range(reps):
            for concurrency in _CONCURRENCY:
                load.round("swap4", concurrency)
                load.history_checkstate(filled.some, concurrency)
        figures = {
            endpoint: {str(concurrency): summary_of(rows) for concurrency, rows in by_concurrency.items()}
            for endpoint, by_concurrency in load.figures.items()
        }
        return {
            "start_s": round(bank.start_s, 3),
            "rss_at_start_mib": round(rss_mib, 1),
            "checks": load.checks,
            "errors": load.error_samples,
            "load": figures,
        }


def _series(record: Record, directory: Path, engine: str, sizes: Sequence[int], seconds: float, reps: int) -> None:
    for size in sizes:
        home = directory / f"{engine}-{size}"
        room = shutil.disk_usage(directory).free
        if room < size * _BYTES_A_COIN * 2:
            record.note(f"{engine}: no {size:,} coins, {directory} has only {room / 2**30:.0f} GiB free")
            continue
        try:
            with running_bank(home, engine=engine) as empty:
                empty_s = empty.start_s
            filled = asyncio.run(fill(home, engine, size))
            bytes_ = _size_of(data_directory(home))
            record.say(
                f"{engine}, {size:,} spent coins: filled in {filled.took_s:.1f} s, {bytes_ / 2**20:,.0f} MiB; "
                f"an empty bank was up after {empty_s:.2f} s"
            )
            found = _measured(record, home, engine, filled, seconds, reps)
        except BenchError as error:
            record.note(f"{engine}, {size:,}: {error}")
            continue
        finally:
            shutil.rmtree(home, ignore_errors=True)
        head = {"spent": size, "fill_s": round(filled.took_s, 1), "store_bytes": bytes_, "empty_start_s": round(empty_s, 3)}
        record.figures.setdefault(engine, []).append(head | found)


def _rows(figures: dict[str, list[dict[str, Any]]]) -> list[list[object]]:
    rows: list[list[object]] = []
    for engine, runs in figures.items():
        for run in runs:
            swap, check = run["load"]["swap4"], run["load"]["checkstate"]
            row: list[object] = [f"{engine} {run['spent']:,}", run["start_s"], run["rss_at_start_mib"]]
            row.append(run["store_bytes"] / 2**20)
            row += [swap["1"].get("p50_ms", 0.0), swap["1"]["rps"], swap["1"].get("server_cpu_us", 0.0)]
            row += [swap["64"]["rps"], swap["64"].get("p99_ms", 0.0), swap["64"].get("server_cpu_us", 0.0)]
            rows.append([*row, check["1"].get("p99_ms", 0.0), check["64"].get("p99_ms", 0.0)])
    return rows


_HEAD = (
    *("history", "start s", "RSS MiB", "store MiB"),
    *("swap4 p50 ms", "c=1 /s", "CPU us", "c=64 /s", "p99 ms", "CPU us"),
    *("check p99 ms", "c=64 p99 ms"),
)


def _pictures(record: Record) -> None:
    def series(concurrency: str, endpoint: str, figure: str) -> dict[str, list[tuple[float, float]]]:
        return {
            f"{engine}, {endpoint}, c={concurrency}": [
                (float(run["spent"]), run["load"][endpoint][concurrency].get(figure, 0.0)) for run in runs
            ]
            for engine, runs in record.figures.items()
        }

    cpu = series("1", "swap4", "server_cpu_us") | series("64", "swap4", "server_cpu_us")
    record.picture("cpu", svg.lines("Cost of a 4/4 swap by history", "spent coins", "server CPU us", cpu, log_x=True))
    rates = series("64", "swap4", "rps")
    record.picture("rate", svg.lines("4/4 swaps a second by history", "spent coins", "swaps a second", rates, log_x=True))
    late = series("64", "swap4", "p99_ms") | series("1", "checkstate", "p99_ms")
    record.picture("p99", svg.lines("p99 by history", "spent coins", "ms", late, log_x=True))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = options_parser("history", __doc__)
    parser.add_argument("--most", type=int, default=None, help="largest history (1,000,000; quick: 50,000)")
    parser.add_argument("--engine", default=None, help="embedded engines (all that there are)")
    parser.add_argument("--seconds", type=float, default=None, help="length of a window (0.5; quick: 0.25)")
    parser.add_argument("--reps", type=int, default=None, help="repetitions (3; quick: 1)")
    options = parser.parse_args(arguments)
    options.most = options.most or (50_000 if options.quick else 1_000_000)
    options.seconds = options.seconds or (0.25 if options.quick else 0.5)
    options.reps = options.reps or (1 if options.quick else 3)
    known = embedded_engines()
    try:
        options.engine = known if options.engine is None else names_checked(options.engine, known)
    except ValueError as error:
        parser.error(str(error))
    if not 1_000 <= options.most <= 200_000_000 or not 0 < options.seconds <= 60 or not 1 <= options.reps <= 100:
        parser.error("most from 1,000 to 200,000,000, seconds to 60, reps from 1 to 100")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; 0, or 1 where nothing could be measured."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="specie-bench-history-", dir=options.dir) as name:
        record = Record("history", options, Path(name))
        for engine in options.engine:
            _series(record, Path(name), engine, sizes_up_to(options.most), options.seconds, options.reps)
    if not record.figures:
        return 1
    record.say(table(_HEAD, _rows(record.figures)))
    noise = [
        row["others_cpu"]
        for runs in record.figures.values()
        for run in runs
        for by in run["load"].values()
        for row in by.values()
    ]
    if statistics.median(noise) > 0.2:
        record.note(f"the machine was shared: {statistics.median(noise):.2f} cores were busy with something else (median)")
    _pictures(record)
    record.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
