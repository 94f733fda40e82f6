"""The same load on our bank and on a Nutshell mint, one after the other in one run, with the floor before, between and after.

    python -m bench.peers            scripts/install-peers.sh installs Nutshell; SPECIE_PEERS says where it is

Nutshell runs with SQLite, without rate limits and delays, without an input fee and with its fake backend, as its interop
tests run it. Both are loaded by the same clients with the same requests.
"""

from __future__ import annotations

import contextlib
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

from bench import svg
from bench.bank import BenchError, RunningBank, loopback_checked, running_bank
from bench.client import Clients
from bench.figures import names_checked, numbers_checked, summary_of, table
from bench.floor_looks import FloorLooks
from bench.load import Load
from bench.machine import tree
from bench.record import Record, engine_option, options_parser
from tests.interop.peers import free_port, missing_peer, peers_directory, run_mint

__all__ = ["ENDPOINTS", "main", "nutshell_environment", "nutshell_version", "running_nutshell"]

ENDPOINTS = ("swap4", "mint", "melt", "checkstate", "restore")
_NEEDED = ("mint_quote", "mint", "swap4", "melt_quote", "melt", "checkstate", "restore")
"""Passed once before anything is measured, in an order in which each finds what it needs."""


def nutshell_environment(home: Path, port: int) -> dict[str, str]:
    """Settings of a Nutshell mint that is held back by nothing but itself."""
    return {
        "CASHU_DIR": str(home / "cashu"),
        "DEBUG": "FALSE",
        "FAKEWALLET_BALANCE_SAT": "100000000",
        "FAKEWALLET_DELAY_INCOMING_PAYMENT": "0",
        "FAKEWALLET_DELAY_OUTGOING_PAYMENT": "0",
        "LOG_LEVEL": "ERROR",
        "MINT_BACKEND_BOLT11_SAT": "FakeWallet",
        "MINT_DATABASE": str(home / "mint"),
        "MINT_INPUT_FEE_PPK": "0",
        "MINT_LISTEN_HOST": "127.0.0.1",
        "MINT_LISTEN_PORT": str(port),
        "MINT_PRIVATE_KEY": secrets.token_hex(32),
        "MINT_QUOTE_BACKEND_CHECK_RATE_LIMIT": "0",
        "MINT_RATE_LIMIT": "FALSE",
        "TOR": "FALSE",
    }


def nutshell_version() -> str:
    """What is installed, by the name of its metadata; "unknown" if that says nothing."""
    found = sorted((peers_directory() / "nutshell").glob("lib/python3*/site-packages/cashu-*.dist-info"))
    return found[-1].name.removeprefix("cashu-").removesuffix(".dist-info") if found else "unknown"


@contextlib.contextmanager
def running_nutshell(home: Path) -> Iterator[RunningBank]:
    """A Nutshell mint on a free loopback port. BenchError where it is not installed or does not start."""
    missing = missing_peer("nutshell")
    if missing is not None:
        raise BenchError(missing)
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [str(peers_directory() / "nutshell" / "bin" / "python"), "-m", "cashu.mint", "--timeout-keep-alive=75"]
    began = time.perf_counter()
    try:
        with run_mint("nutshell", command, home, port, nutshell_environment(home, port)) as mint:
            host, found = loopback_checked(mint.url)
            yield RunningBank(host, found, mint.pid, time.perf_counter() - began)
    except (RuntimeError, TimeoutError) as error:
        raise BenchError(f"Nutshell: {error}") from error


def _measured(
    record: Record, bank: RunningBank, options: Any, seconds: float, *, replays: bool
) -> dict[str, dict[str, dict[str, float]]]:
    with Clients(bank.host, bank.port) as clients:
        load = Load(bank, clients, seconds, report=record.say, endpoints=_NEEDED, replays=replays)
        for endpoint in options.only:
            if load.learns(endpoint):
                load.round(endpoint, options.concurrency[0])
        load.figures.clear()
        deadline = time.monotonic() + options.budget
        try:
            for concurrency, endpoint in list(product(options.concurrency, options.only)) * options.reps:
                if time.monotonic() > deadline:
                    record.note(f"{endpoint} at {concurrency}: no window, the time was used up (--budget)")
                else:
                    load.round(endpoint, concurrency)
        except BenchError as error:
            if replays:
                raise
            record.note(f"the figures of Nutshell end early: {error}")
        record.figures.setdefault("error_samples", []).append(load.error_samples)
    return {
        endpoint: {str(concurrency): summary_of(rows) for concurrency, rows in by_concurrency.items()}
        for endpoint, by_concurrency in load.figures.items()
        if endpoint in options.only
    }


def _rows(record: Record, options: Any, floors: tuple[float | None, float | None]) -> list[list[object]]:
    ours, theirs = record.figures["specie"]["load"], record.figures.get("nutshell", {}).get("load", {})
    rows: list[list[object]] = []
    for endpoint in options.only:
        for concurrency in map(str, options.concurrency):
            mine = ours.get(endpoint, {}).get(concurrency)
            other = theirs.get(endpoint, {}).get(concurrency)
            if mine is None:
                continue
            row: list[object] = [f"{endpoint}, c={concurrency}", mine["rps"], mine.get("p99_ms", 0.0), int(mine["errors"])]
            if other is None:
                row += ["-"] * 4
            else:
                ratio = f"{mine['rps'] / other['rps']:.1f}x" if other["rps"] else "-"
                row += [other["rps"], other.get("p99_ms", 0.0), int(other["errors"]), ratio]
            row += [f"{mine['rps'] / floor:.0%}" if floor and endpoint == "swap4" else "" for floor in floors]
            rows.append(row)
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; 0, or 1 where our bank did something wrong."""
    parser = options_parser("peers", __doc__)
    parser.add_argument("--only", default=",".join(ENDPOINTS), help="endpoints")
    parser.add_argument("--concurrency", default=None, help="connections at once (1,16,64; quick: 1,16)")
    parser.add_argument("--seconds", type=float, default=None, help="length of our windows (0.5; quick: 0.25)")
    parser.add_argument(
        "--peer-seconds", type=float, default=None, help="length of Nutshell's, which is slower (1.5; quick: 0.7)"
    )
    parser.add_argument("--reps", type=int, default=None, help="repetitions (2; quick: 1)")
    parser.add_argument("--budget", type=float, default=90.0, help="seconds of load on each mint")
    engine_option(parser)
    options = parser.parse_args(arguments)
    quick = options.quick
    try:
        options.only = names_checked(options.only, ENDPOINTS)
        options.concurrency = numbers_checked(options.concurrency or ("1,16" if quick else "1,16,64"), 1, 256)
    except ValueError as error:
        parser.error(str(error))
    options.seconds = options.seconds or (0.25 if quick else 0.5)
    options.peer_seconds = options.peer_seconds or (0.7 if quick else 1.5)
    options.reps = options.reps or (1 if quick else 2)
    if not 0 < options.seconds <= 20 or not 0 < options.peer_seconds <= 20 or not 1 <= options.reps <= 20:
        parser.error("seconds to 20, reps from 1 to 20")
    failed = False
    with tempfile.TemporaryDirectory(prefix="specie-bench-peers-", dir=options.dir) as name:
        directory = Path(name)
        record = Record("peers", options, directory)
        floor = FloorLooks(record, directory, 0.3 if quick else 0.6)
        floor.look("before")
        try:
            with running_bank(directory / "specie", engine=options.engine) as bank:
                record.say(f"specie, up after {bank.start_s:.2f} s")
                load = _measured(record, bank, options, options.seconds, replays=True)
                record.figures["specie"] = {"version": version("specie"), "load": load} | _facts(bank)
        except BenchError as error:
            record.note(f"specie: {error}")
            failed = True
        floor.look("between")
        try:
            with running_nutshell(directory / "nutshell") as bank:
                record.say(f"Nutshell {nutshell_version()}, up after {bank.start_s:.2f} s")
                load = _measured(record, bank, options, options.peer_seconds, replays=False)
                record.figures["nutshell"] = {"version": nutshell_version(), "load": load} | _facts(bank)
        except BenchError as error:
            record.note(f"no figures of Nutshell: {error}")
        floor.look("after")
    record.figures["floor"] = floor.looks
    if "specie" in record.figures:
        floors = (floor.of("with DLEQ"), floor.of("points alone"))
        head = ("endpoint", "ours /s", "p99 ms", "errors", "Nutshell /s", "p99 ms", "errors", "ratio", "of floor", "of points")
        record.say(table(head, _rows(record, options, floors)))
        bars = {
            f"{who} {endpoint}": {"requests a second": by[max(by, key=int)]["rps"]}
            for endpoint in options.only
            for who in ("specie", "nutshell")
            if (by := record.figures.get(who, {}).get("load", {}).get(endpoint))
        }
        record.picture("rate", svg.bars(f"Requests a second at {options.concurrency[-1]} connections", "/s", bars))
    record.write()
    return 1 if failed else 0


def _facts(bank: RunningBank) -> dict[str, float]:
    rss = sum(process.memory_info().rss for process in tree(bank.pid)) / 2**20
    return {"start_s": round(bank.start_s, 3), "rss_mib": round(rss, 1)}


if __name__ == "__main__":
    sys.exit(main())
