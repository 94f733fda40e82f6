"""`python -m bench.capacity --users 1000000`: what a bank of that size costs in cores, disk and IOPS, from measured constants.

A bank of its own is loaded with each verb in turn; processor time, bytes written, commits and the sizes of its tables are
read before and after. The model is arithmetic on those figures and on a few assumptions, which are options (docs/scale.md).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.bank import BenchError, PostgresServer, RunningBank, private_postgres, running_bank
from bench.client import Clients, request_bytes
from bench.figures import names_checked, table
from bench.machine import CpuMeter, machine_facts, tree
from bench.purse import Purse, amounts_for, foreign_invoice
from specie.ecash import MeltQuoteRequest, MeltRequest, blank_count, hash_to_curve, wire
from specie.kernel import curve, split_amount

__all__ = ["Assumptions", "Constants", "model"]

_COINS = 4
"""Coins in, and coins out, of the swap that is measured."""
_STATES = 16
"""Ys of a checkstate request."""
_MELT_SAT = 64
_DAY_S = 86_400
_TABLES = ("mint_proof", "mint_output", "ledger_entry", "mint_quote", "mint_deposit", "melt_quote", "melt_payment")


@dataclass(frozen=True, slots=True)
class Constants:
    """What one request of each verb, and one row of each table, costs on one store of one machine."""

    cpu_us: Mapping[str, float]
    """Processor microseconds of the workers, by verb."""
    store_cpu_us: Mapping[str, float]
    """The same of the database server; zero where the store is embedded."""
    written_bytes: Mapping[str, float]
    """Bytes that reach the disk, by verb: log and pages, as the system counts them."""
    log_bytes: Mapping[str, float]
    """Bytes of write-ahead log, by verb."""
    commits: Mapping[str, float]
    """Commits, each a flush of the log, by verb, at the concurrency that was measured."""
    row_bytes: Mapping[str, float]
    """Bytes on disk of one row with its indices, by table."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What people do. Requests are of one active user on one day."""

    users: int
    swaps: float = 6.0
    mints: float = 0.5
    melts: float = 1.0
    states: float = 6.0
    coins: float = 4.0
    """Inputs of a swap, and as many outputs."""
    peak: float = 4.0
    """Busiest hour over the mean."""
    busy: float = 0.6
    """Share of a core that may be used at the peak."""


def model(constants: Constants, assumed: Assumptions) -> dict[str, float]:
    """Cores, disk, log and IOPS of a bank; figures named with their units. Pure."""
    mean = assumed.users / _DAY_S
    verbs = {
        "swap": assumed.swaps,
        "mint_quote": assumed.mints,
        "mint": assumed.mints,
        "melt_quote": assumed.melts,
        "melt": assumed.melts,
        "checkstate": assumed.states,
    }
    coins = assumed.coins / _COINS

    def sum_of(costs: Mapping[str, float]) -> float:
        """Of one user on one day; what a swap costs goes with its coins."""
        return sum(count * costs.get(verb, 0.0) * (coins if verb == "swap" else 1.0) for verb, count in verbs.items())

    proofs = assumed.swaps * assumed.coins + assumed.melts * _COINS
    signatures = assumed.swaps * assumed.coins + assumed.mints * _COINS + assumed.melts
    rows = {
        "mint_proof": proofs,
        "mint_output": signatures,
        "ledger_entry": assumed.swaps + 2 * assumed.mints + assumed.melts,
        "mint_quote": assumed.mints,
        "mint_deposit": assumed.mints,
        "melt_quote": assumed.melts,
        "melt_payment": assumed.melts,
    }
    disk = sum(count * constants.row_bytes.get(name, 0.0) for name, count in rows.items())
    keyed = (proofs + signatures) * mean * assumed.peak
    writes = sum(verbs[verb] for verb in ("swap", "mint_quote", "mint", "melt_quote", "melt"))
    commits = min(sum_of(constants.commits), 2 * writes) * mean * assumed.peak
    return {
        "requests_per_s_mean": sum(verbs.values()) * mean,
        "requests_per_s_peak": sum(verbs.values()) * mean * assumed.peak,
        "swaps_per_s_peak": assumed.swaps * mean * assumed.peak,
        "worker_cores": sum_of(constants.cpu_us) / 1e6 * mean * assumed.peak / assumed.busy,
        "database_cores": sum_of(constants.store_cpu_us) / 1e6 * mean * assumed.peak / assumed.busy,
        "disk_gb_per_day": disk * assumed.users / 1e9,
        "disk_tb_per_year": disk * assumed.users * 365 / 1e12,
        "log_gb_per_day": sum_of(constants.log_bytes) * assumed.users / 1e9,
        "log_mb_per_s_peak": sum_of(constants.log_bytes) * mean * assumed.peak / 1e6,
        "written_gb_per_day": sum_of(constants.written_bytes) * assumed.users / 1e9,
        "flushes_per_s_peak": commits,
        "page_iops_peak_uncached": 2 * keyed,
        "rows_per_day_millions": sum(rows.values()) * assumed.users / 1e6,
    }


# Measuring


def _proc_written(pids: Sequence[int]) -> int:
    total = 0
    for process in (member for pid in pids for member in tree(pid)):
        with contextlib.suppress(psutil.Error, OSError):
            total += process.io_counters().write_bytes
    return total


class _Store:
    """What can be asked of the store beneath a bank: sizes, rows, log."""

    def __init__(self, bank: RunningBank, home: Path, server: PostgresServer | None) -> None:
        self._bank = bank
        self._file = home / "bank" / "bank.sqlite"
        self._server = server

    @property
    def pids(self) -> list[int]:
        return [self._server.pid] if self._server else [self._bank.pid]

    def _psql(self, sql: str) -> str:
        assert self._server is not None
        found = subprocess.run(
            [str(_psql_program()), "-X", "-q", "-A", "-t", "-d", self._server.dsn, "-c", sql],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        return found.stdout.strip()

    def settle(self) -> None:
        """Have dirty pages written, so that what was done before is not counted after."""
        if self._server:
            self._psql("CHECKPOINT")

    def log_bytes(self) -> int:
        """Bytes of log ever written; on SQLite what this process wrote, for all of it goes through the log first."""
        if self._server:
            return int(self._psql("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").partition(".")[0])
        return _proc_written(self.pids)

    def written(self) -> int:
        return _proc_written(self.pids)

    def commits(self) -> int:
        """As the bank counts them; its answer is a second old at most, so a second is waited for."""
        time.sleep(1.2)
        with urllib.request.urlopen(f"http://{self._bank.host}:{self._bank.port}/healthz", timeout=10) as answer:
            checks = json.load(answer)["checks"]
        return int(next(check["facts"]["commits"] for check in checks if check["name"] == "store"))

    def row_bytes(self) -> dict[str, float]:
        """Size on disk of a table and its indices, by its rows."""
        sizes: dict[str, float] = {}
        if self._server:
            for name in _TABLES:
                self._psql(f"VACUUM ANALYZE {name}")
                count, size = self._psql(f"SELECT count(*), pg_total_relation_size('{name}') FROM {name}").split("|")
                if int(count):
                    sizes[name] = int(size) / int(count)
            return sizes
        with contextlib.closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as connection:
            for name in _TABLES:
                count = connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                sql = "SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = ?)"
                size = connection.execute(sql, (name,)).fetchone()[0]
                if count:
                    sizes[name] = size / count
        return sizes


def _psql_program() -> Path:
    found = subprocess.run(
        [str(Path(__file__).parents[1] / "scripts" / "postgres.sh"), "find"], capture_output=True, text=True, check=True
    )
    return Path(found.stdout.strip()) / "psql"


class _Meter:
    """One verb after another on one bank."""

    def __init__(self, bank: RunningBank, clients: Clients, store: _Store, server: PostgresServer | None, concurrency: int):
        self._bank, self._clients, self._store = bank, clients, store
        self._server = server
        self._concurrency = concurrency
        self.cpu_us: dict[str, float] = {}
        self.store_cpu_us: dict[str, float] = {}
        self.written: dict[str, float] = {}
        self.log: dict[str, float] = {}
        self.commits: dict[str, float] = {}
        self.rates: dict[str, float] = {}

    def verb(self, name: str, requests: Sequence[bytes], answered: Callable[[int, bytes], None] | None = None) -> None:
        """Send every request once and take note of what they cost together."""
        store = self._store
        store.settle()
        before = store.log_bytes(), store.written(), store.commits()
        groups = {"server": [self._bank.pid]} | ({"store": [self._server.pid]} if self._server else {})
        meter = CpuMeter(groups)
        outcome = self._clients.fire(requests, self._concurrency)
        used = meter.used()
        commits = store.commits() - before[2]
        log = store.log_bytes() - before[0]
        store.settle()
        written = store.written() - before[1]
        good = len(outcome.latencies_s)
        if good < len(requests):
            bad = next(answer for answer in outcome.answers.values() if answer.status != 200)
            raise BenchError(f"{name}: HTTP {bad.status} {bad.body[:200]!r}")
        self.cpu_us[name] = used["server"] / good * 1e6
        self.store_cpu_us[name] = used.get("store", 0.0) / good * 1e6
        self.written[name], self.log[name], self.commits[name] = written / good, log / good, commits / good
        self.rates[name] = good / outcome.wall_s
        if answered:
            for place, answer in outcome.answers.items():
                answered(place, answer.body)


def _measure(
    bank: RunningBank, clients: Clients, store: _Store, server: PostgresServer | None, count: int, at_once: int
) -> _Meter:
    purse = Purse(clients)
    meter = _Meter(bank, clients, store, server, at_once)
    groups = purse.take(_COINS, count)
    outputs = [purse.outputs([coin.amount for coin in group]) for group in groups]
    swaps = [purse.swap_request(group, made) for group, made in zip(groups, outputs, strict=True)]
    spent = [coin.y for group in groups for coin in group]
    meter.verb("swap", swaps)
    amount = sum(amounts_for(_COINS))
    quotes: list[str] = []
    few = max(at_once, count // 4)
    meter.verb(
        "mint_quote",
        [purse.quote_request(amount)] * few,
        lambda _, body: quotes.append(wire.mint_quote_from_json(body).quote),
    )
    purse.wait_paid(quotes)
    meter.verb("mint", [purse.mint_request(quote, purse.outputs(amounts_for(_COINS))) for quote in quotes])
    node = curve.scalar_from_bytes_wrapping(os.urandom(32))
    asked = [MeltQuoteRequest("bolt11", foreign_invoice(_MELT_SAT, node), "sat") for _ in range(few)]
    priced: list[tuple[str, int, int]] = []

    def price(_: int, body: bytes) -> None:
        quote = wire.melt_quote_from_json(body)
        priced.append((quote.quote, quote.amount, quote.fee_reserve))

    path = "/v1/melt/quote/bolt11"
    meter.verb("melt_quote", [request_bytes("POST", path, wire.melt_quote_request_to_json(one)) for one in asked], price)
    inputs = purse.minted([split_amount(worth + reserve, purse.keyset.keys) for _, worth, reserve in priced])
    melts = []
    for (quote, _, reserve), coins in zip(priced, inputs, strict=True):
        blank = purse.outputs([1] * blank_count(reserve))
        melts.append(
            request_bytes(
                "POST", "/v1/melt/bolt11", wire.melt_request_to_json(MeltRequest("bolt11", quote, coins, blank.messages))
            )
        )
    meter.verb("melt", melts)
    unknown = [hash_to_curve(os.urandom(8)) for _ in range(_STATES // 2)]
    states = [
        request_bytes(
            "POST",
            "/v1/checkstate",
            wire.check_state_request_to_json([*spent[start : start + _STATES // 2], *unknown]),
        )
        for start in range(0, min(len(spent), few * _STATES // 2), _STATES // 2)
    ]
    meter.verb("checkstate", states)
    return meter


@contextlib.contextmanager
def _server(store: str) -> Iterator[PostgresServer | None]:
    if store == "sqlite":
        yield None
        return
    with private_postgres() as server:
        yield server


def _constants(name: str, directory: Path, count: int, at_once: int) -> tuple[Constants, dict[str, float]]:
    home = directory / name
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_server(name))
        bank = stack.enter_context(running_bank(home, server.dsn if server else None))
        clients = stack.enter_context(Clients(bank.host, bank.port))
        store = _Store(bank, home, server)
        meter = _measure(bank, clients, store, server, count, at_once)
        found = Constants(meter.cpu_us, meter.store_cpu_us, meter.written, meter.log, meter.commits, store.row_bytes())
        return found, meter.rates


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench.capacity", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--users", type=int, default=1_000_000, help="active users on one day")
    parser.add_argument("--swaps", type=float, default=Assumptions(0).swaps, help="swaps of a user on a day")
    parser.add_argument("--mints", type=float, default=Assumptions(0).mints, help="deposits of a user on a day")
    parser.add_argument("--melts", type=float, default=Assumptions(0).melts, help="payments of a user on a day")
    parser.add_argument("--states", type=float, default=Assumptions(0).states, help="checkstate requests of a user on a day")
    parser.add_argument("--coins", type=float, default=Assumptions(0).coins, help="inputs of a swap, and outputs")
    parser.add_argument("--peak", type=float, default=Assumptions(0).peak, help="busiest hour over the mean")
    parser.add_argument("--busy", type=float, default=Assumptions(0).busy, help="share of a core to use at the peak")
    parser.add_argument("--store", default="sqlite,postgres", help="sqlite, postgres or both")
    parser.add_argument("--requests", type=int, default=1500, help="swaps that are measured; a quarter of the other verbs")
    parser.add_argument("--concurrency", type=int, default=32, help="connections at once")
    parser.add_argument("--dir", type=Path, default=None, help="where the stores are made")
    options = parser.parse_args(arguments)
    try:
        options.store = names_checked(options.store, ("sqlite", "postgres"))
    except ValueError as error:
        parser.error(str(error))
    if not 64 <= options.requests <= 100_000 or not 1 <= options.concurrency <= 256 or not 0 < options.busy <= 1:
        parser.error("requests from 64 to 100,000, concurrency from 1 to 256, busy above 0 and at most 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the constants and the model; 1 where no store could be measured."""
    options = _options(arguments)
    assumed = Assumptions(
        options.users, options.swaps, options.mints, options.melts, options.states, options.coins, options.peak, options.busy
    )
    found: dict[str, Constants] = {}
    rates: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="specie-capacity-", dir=options.dir) as name:
        machine = machine_facts(Path(name))
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}  {machine['cpu']}, {machine['cores']} cores")
        for store in options.store:
            try:
                found[store], rates[store] = _constants(store, Path(name), options.requests, options.concurrency)
            except BenchError as error:
                print(f"NOTE: {store}: {error}")
    for store, constants in found.items():
        print(f"\n{store}: one request ({_COINS} coins in a swap, {options.concurrency} connections)\n")
        head = ("verb", "per s", "worker CPU us", "database CPU us", "log bytes", "written bytes", "commits")
        rows = [
            (
                verb,
                rates[store][verb],
                constants.cpu_us[verb],
                constants.store_cpu_us[verb],
                constants.log_bytes[verb],
                constants.written_bytes[verb],
                constants.commits[verb],
            )
            for verb in constants.cpu_us
        ]
        print(table(head, rows))
        print(f"\n{store}: one row with its indices\n")
        print(table(("table", "bytes"), list(constants.row_bytes.items())))
    if found:
        print(f"\n{options.users:,} active users a day\n")
        models = {store: model(constants, assumed) for store, constants in found.items()}
        names = list(next(iter(models.values())))
        rows = [(name.replace("_", " "), *(models[store][name] for store in models)) for name in names]
        print(table(("what", *models), rows))
        print(f"\nworkers for it: {math.ceil(max(one['worker_cores'] for one in models.values()))} (one process a core)")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
