"""Whether one load disturbs another: p99 of swaps alone and beside something else, and of every route at half of its peak.

    python -m bench.mixed [--routes-only | --beside-only]

All of it in an open loop: requests are sent when they are due, and latency counts from then.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import svg
from bench.bank import BenchError, RunningBank, running_bank
from bench.client import Clients, Outcome, request_bytes
from bench.figures import percentile, summary_of, table
from bench.record import Record, engine_option, options_parser
from bench.routes import ROUTES, RouteLoad
from bench.sockets import Watchers, watching
from specie.ecash import hash_to_curve, wire

__all__ = ["beside", "main", "shares_of"]

_SLOW_BANK = Path(__file__).with_name("slow_bank.py")
_ARRAY = 1_000
_SOCKETS = 500
_YS_A_SOCKET = 8
_SLOW_MELTS = 32
"""Connections that wait for a slow rail."""
_CONNECTIONS = 64
"""Of an open loop: more than are ever under way unless the bank falls behind."""
_LEAD_S = 0.3
"""How long something else runs before and after the swaps that are measured."""


@contextlib.contextmanager
def beside(
    clients: Clients, requests: Sequence[bytes], connections: int, seconds: float, *, repeat: bool
) -> Iterator[list[Outcome]]:
    """Another load in a closed loop meanwhile; its outcome is in the list afterwards. BenchError if it failed."""
    outcomes: list[Outcome] = []
    failures: list[BaseException] = []

    def fire() -> None:
        try:
            outcomes.append(clients.fire(requests, connections, seconds=seconds + 2 * _LEAD_S, repeat=repeat))
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=fire)
    thread.start()
    try:
        time.sleep(_LEAD_S + connections * 0.002)
        yield outcomes
    finally:
        thread.join(120)
    if failures or not outcomes:
        raise BenchError(f"the load beside the swaps failed: {failures}")


def shares_of(items: Sequence[str], takers: int, each: int) -> list[list[str]]:
    """`each` of the items for every taker, dealt round and round, so that all items have takers; no taker has one twice.

    ValueError for no items.
    """
    if not items:
        raise ValueError("nothing to share")
    supply = itertools.cycle(items)
    return [list(itertools.islice(supply, min(each, len(items)))) for _ in range(takers)]


class _Mixed:
    """Swaps on one bank at a fixed rate, beside one thing after another."""

    def __init__(self, record: Record, bank: RunningBank, stack: contextlib.ExitStack, seconds: float) -> None:
        self._record = record
        self._bank = bank
        self._other = stack.enter_context(Clients(bank.host, bank.port))
        clients = stack.enter_context(Clients(bank.host, bank.port))
        self.load = RouteLoad(
            bank, clients, seconds, report=record.say, endpoints=("mint_quote", "mint", "melt_quote", "melt", "swap4")
        )
        self.load.round("swap4", _CONNECTIONS)  # learns how many to prepare
        self.rate = self.load.round("swap4", _CONNECTIONS)["rps"] / 2
        self.found: dict[str, list[dict[str, float]]] = {}

    @property
    def _window_s(self) -> float:
        return self.load._window(_CONNECTIONS)

    def _keep(self, name: str, row: dict[str, float], **more: float) -> None:
        self.found.setdefault(name, []).append(row | {f"beside_{key}": value for key, value in more.items()})

    def alone(self) -> None:
        """Nothing else."""
        self._keep("alone", self.load.round("swap4", _CONNECTIONS, pace=self.rate))

    def _beside(self, name: str, requests: Sequence[bytes], connections: int, *, repeat: bool) -> None:
        with beside(self._other, requests, connections, self._window_s, repeat=repeat) as outcomes:
            row = self.load.round("swap4", _CONNECTIONS, pace=self.rate)
        (other,) = outcomes
        took = other.latencies_s
        more = {"rps": len(took) / other.wall_s, "failed": float(other.failed)}
        if took:
            more["p99_ms"] = percentile(took, 0.99) * 1e3
        self._keep(name, row, **more)

    def restore(self) -> None:
        """A restore of 1,000 outputs, one after another."""
        self._prepared()
        outputs = (self.load.purse.signed * (1 + _ARRAY // max(1, len(self.load.purse.signed))))[:_ARRAY]
        request = request_bytes("POST", "/v1/restore", wire.restore_request_to_json(outputs))
        self._beside("restore of 1,000", [request], 1, repeat=True)

    def checkstate(self) -> None:
        """A checkstate of 1,000 Ys, one after another."""
        self._prepared()
        known = self.load.purse.spent[: _ARRAY // 2]
        ys = [*known, *(hash_to_curve(os.urandom(8)) for _ in range(_ARRAY - len(known)))]
        request = request_bytes("POST", "/v1/checkstate", wire.check_state_request_to_json(ys))
        self._beside("checkstate of 1,000", [request], 1, repeat=True)

    def melts(self) -> None:
        """Payments that a slow rail keeps waiting."""
        self._prepared()
        count = _SLOW_MELTS * 8
        self.load._rates["melt_quote"] = count / self._window_s
        quotes: list[tuple[str, int, int]] = []
        while len(quotes) < count:
            self.load._melt_quote(2)
            quotes += self.load._melt_quotes.pop(2)
        self._beside("payments on a slow rail", self.load._melt_requests(quotes[:count]), _SLOW_MELTS, repeat=False)

    def sockets(self) -> None:
        """500 sockets that watch the coins being spent."""
        wanted = int(self.rate * self._window_s) + 2
        ys = [proof.y.hex() for group in self.load.purse.next(4, wanted) for proof in group]
        with watching(self._bank.host, self._bank.port, _SOCKETS) as watchers:
            told, row = self._watched(watchers, ys)
        self._keep(f"{_SOCKETS} WebSockets", row, notices=float(told))

    def _watched(self, watchers: Watchers, ys: Sequence[str]) -> tuple[int, dict[str, float]]:
        watchers.watch(shares_of(ys, _SOCKETS, _YS_A_SOCKET))
        before = watchers.told
        row = self.load.round("swap4", _CONNECTIONS, pace=self.rate)
        time.sleep(_LEAD_S)
        return watchers.told - before, row

    def _prepared(self) -> None:
        """Coins for the next window, so that nothing is minted while something else is measured with."""
        self.load.purse.next(4, int(self.rate * self._window_s) + 2)


def _measure_beside(record: Record, directory: Path, engine: str, seconds: float, reps: int) -> None:
    with contextlib.ExitStack() as stack:
        mixed = _Mixed(record, stack.enter_context(running_bank(directory / "beside", engine=engine)), stack, seconds)
        for _ in range(reps):
            mixed.alone()
            mixed.restore()
            mixed.sockets()
            mixed.checkstate()
        record.figures["beside"] = {
            "rate": mixed.rate,
            "swap4": {name: summary_of(rows) for name, rows in mixed.found.items()},
        }
    with contextlib.ExitStack() as stack:
        bank = stack.enter_context(running_bank(directory / "slow", engine=engine, program=(str(_SLOW_BANK),)))
        mixed = _Mixed(record, bank, stack, seconds)
        for _ in range(reps):
            mixed.alone()
            mixed.melts()
        record.figures["slow_rail"] = {
            "rate": mixed.rate,
            "swap4": {name: summary_of(rows) for name, rows in mixed.found.items()},
        }


def _measure_routes(record: Record, directory: Path, engine: str, seconds: float) -> None:
    found: dict[str, dict[str, float]] = {}
    with contextlib.ExitStack() as stack:
        bank = stack.enter_context(running_bank(directory / "routes", engine=engine))
        clients = stack.enter_context(Clients(bank.host, bank.port))
        load = RouteLoad(bank, clients, seconds, report=record.say, endpoints=tuple(ROUTES))
        for endpoint in ROUTES:
            if load.learns(endpoint):
                load.round(endpoint, _CONNECTIONS)
            peak = load.round(endpoint, _CONNECTIONS)
            half = load.round(endpoint, _CONNECTIONS, pace=peak["rps"] / 2)
            found[endpoint] = half | {"peak_rps": peak["rps"], "peak_p99_ms": peak.get("p99_ms", 0.0)}
        record.figures["error_samples"] = load.error_samples
    record.figures["routes"] = found


def _tables(record: Record) -> None:
    rows: list[list[object]] = []
    for part in ("beside", "slow_rail"):
        for name, row in record.figures.get(part, {}).get("swap4", {}).items():
            label = name if part == "beside" or name != "alone" else "alone, on the bank with a slow rail"
            others = [row.get(f"beside_{key}", "") for key in ("rps", "p99_ms", "notices")]
            rows.append([label, row["rps"], row.get("p50_ms", 0.0), row.get("p99_ms", 0.0), int(row["errors"]), *others])
    if rows:
        record.say(table(("swap4 beside", "swaps/s", "p50 ms", "p99 ms", "errors", "other /s", "p99 ms", "notices"), rows))
        bars = {str(row[0]): {"p99 of swaps": float(str(row[3]))} for row in rows}
        record.picture("beside", svg.bars("p99 of 4/4 swaps at half of their peak, beside other load", "ms", bars))
    routes = record.figures.get("routes", {})
    if routes:
        lines = [
            [ROUTES[name], row["peak_rps"], row["rps"], row.get("p50_ms", 0.0), row.get("p99_ms", 0.0), int(row["errors"])]
            for name, row in routes.items()
        ]
        record.say(table(("route", "peak /s", "at half /s", "p50 ms", "p99 ms", "errors"), lines))
        bars = {name: {"p99": row.get("p99_ms", 0.0)} for name, row in routes.items()}
        record.picture("routes", svg.bars("p99 of each route at half of its peak load", "ms", bars))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; 0, or 1 where the bank did something wrong."""
    parser = options_parser("mixed", __doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--routes-only", action="store_true", help="leave the loads beside swaps out")
    which.add_argument("--beside-only", action="store_true", help="leave the routes out")
    parser.add_argument("--seconds", type=float, default=None, help="a third of a window (1; quick: 0.3)")
    parser.add_argument("--reps", type=int, default=None, help="repetitions beside other load (3; quick: 1)")
    engine_option(parser)
    options: Any = parser.parse_args(arguments)
    options.seconds = options.seconds or (0.3 if options.quick else 1.0)
    options.reps = options.reps or (1 if options.quick else 3)
    if not 0 < options.seconds <= 20 or not 1 <= options.reps <= 100:
        parser.error("seconds to 20, reps from 1 to 100")
    with tempfile.TemporaryDirectory(prefix="specie-bench-mixed-", dir=options.dir) as name:
        record = Record("mixed", options, Path(name))
        failed = False
        try:
            if not options.routes_only:
                _measure_beside(record, Path(name), options.engine, options.seconds, options.reps)
            if not options.beside_only:
                _measure_routes(record, Path(name), options.engine, options.seconds / 2)
        except BenchError as error:
            record.note(f"failed: {error}")
            failed = True
    _tables(record)
    record.write()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
