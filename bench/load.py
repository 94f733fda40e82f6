"""Rounds of load on one bank: each endpoint at each concurrency, measured, and its answers checked afterwards."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.bank import BenchError, RunningBank
from bench.client import Answer, Clients, Outcome, request_bytes
from bench.figures import percentile
from bench.machine import CpuMeter, tree
from bench.purse import Purse, amounts_for, foreign_invoice
from specie.ecash import (
    BlindedMessage,
    MeltQuoteRequest,
    MeltRequest,
    MeltState,
    blank_count,
    hash_to_curve,
    wire,
)
from specie.kernel import curve, split_amount

__all__ = ["ENDPOINTS", "PAIRS", "Load"]

ENDPOINTS = ("info", "keys", "mint_quote", "mint", "swap2", "swap4", "swap64", "melt_quote", "melt", "checkstate", "restore")

PAIRS = {"swap2": 2, "swap4": 4, "swap64": 64}
"""Coins in, and coins out, of one request."""

_MINT_OUTPUTS = 4
_MELT_SAT = 64
_ARRAY = 64
"""Ys of a checkstate request, outputs of a restore request."""

_AT_MOST = 3000
"""Requests prepared for one window."""

_RETRIES = 3
"""Of requests that prepare a window, at a mint that refuses some when it is busy."""

_FIRST_GUESS = {"mint_quote": 300, "mint": 200, "swap2": 200, "swap4": 150, "swap64": 12, "melt_quote": 300, "melt": 60}
"""Requests a second that are prepared for before anything is known."""


@dataclass
class Load:
    """Measures one bank. `figures` holds, by endpoint and concurrency, one row of figures for each repetition."""

    bank: RunningBank
    clients: Clients
    seconds: float
    store_pids: Sequence[int] = ()
    report: Callable[[str], None] = print
    figures: dict[str, dict[int, list[dict[str, float]]]] = field(default_factory=dict)
    checks: dict[str, int] = field(default_factory=dict)
    error_samples: dict[str, str] = field(default_factory=dict)
    endpoints: Sequence[str] = ENDPOINTS
    """Those that will be measured."""
    replays: bool = True
    """Whether the same request again must get the same answer, and none may fail; not every mint promises that."""
    latencies: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    """Seconds of each answer 200 of the last round, ascending, by endpoint and concurrency."""

    def __post_init__(self) -> None:
        """Learn the keys, and pass every path once, so that nothing is met for the first time in a window."""
        self._pace: float | None = None
        self.purse = Purse(self.clients, retries=0 if self.replays else _RETRIES)
        self._rates: dict[str, float] = {name: float(rate) for name, rate in _FIRST_GUESS.items()}
        self._node_key = curve.scalar_from_bytes_wrapping(os.urandom(32))
        self._quotes: dict[int, list[str]] = {}
        self._melt_quotes: dict[int, list[tuple[str, int, int]]] = {}
        kept, self.seconds, self.report = (self.seconds, self.report), 0.1, lambda _: None
        for endpoint in self.endpoints:
            self.round(endpoint, 2)
        self.seconds, self.report = kept
        self.figures.clear()
        self.latencies.clear()
        self.checks.clear()

    def round(self, endpoint: str, concurrency: int, *, pace: float | None = None) -> dict[str, float]:
        """Measure one endpoint once, at that many connections; the row of its figures.

        `pace`: requests a second in an open loop, with latency from when each was due; else a closed loop.
        """
        self._pace = pace
        try:
            if endpoint in PAIRS:
                self._swap(endpoint, concurrency)
            else:
                getattr(self, f"_{endpoint}")(concurrency)
        finally:
            self._pace = None
        rows = self.figures.get(endpoint, {}).get(concurrency)
        if not rows:
            raise BenchError(f"{endpoint}: nothing was measured")
        return rows[-1]

    def learns(self, endpoint: str) -> bool:
        """Whether each request is prepared once, and a first round finds out how many are needed."""
        return endpoint in self._rates

    def _count(self, check: str, amount: int = 1) -> None:
        self.checks[check] = self.checks.get(check, 0) + amount

    def _window(self, concurrency: int) -> float:
        """Seconds: up to three times as long with many connections, so that each of them sends several requests."""
        return self.seconds * min(3.0, max(1.0, concurrency / 16))

    def _wanted(self, endpoint: str, concurrency: int) -> int:
        """Requests to prepare: half as many again as the rate so far would use up."""
        if self._pace is not None:
            return min(_AT_MOST, int(self._pace * self._window(concurrency)) + 2)
        return max(concurrency, min(_AT_MOST, int(self._rates[endpoint] * self._window(concurrency) * 1.5)))

    def _measure(self, endpoint: str, concurrency: int, requests: Sequence[bytes], *, repeat: bool = False) -> Outcome:
        groups = {"client": self.clients.pids, "server": [self.bank.pid]}
        if self.store_pids:
            groups["store"] = list(self.store_pids)
        meter = CpuMeter(groups)
        outcome = self.clients.fire(requests, concurrency, seconds=self._window(concurrency), repeat=repeat, rate=self._pace)
        used = meter.used()
        took, done = outcome.latencies_s, len(outcome.latencies_s)
        row: dict[str, float] = {"rps": done / outcome.wall_s, "ok": done, "errors": outcome.failed}
        if took:
            marks = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
            row |= {name: percentile(took, share) * 1e3 for name, share in marks.items()}
            row["server_cpu_us"] = used["server"] / done * 1e6
        row |= {f"{name}_cpu": used[name] / outcome.wall_s for name in groups} | {"others_cpu": used["others"]}
        row["rss_mib"] = sum(process.memory_info().rss for process in tree(self.bank.pid)) / 2**20
        self.figures.setdefault(endpoint, {}).setdefault(concurrency, []).append(row)
        self.latencies.setdefault(endpoint, {})[concurrency] = took
        if endpoint in self._rates and self._pace is None:
            self._rates[endpoint] = max(row["rps"], self._rates[endpoint] * 0.5)
        for answer in outcome.answers.values():
            if answer.status != 200:
                self.error_samples.setdefault(endpoint, f"HTTP {answer.status} {answer.body[:160].decode(errors='replace')}")
        self.report(
            f"  {endpoint:<11} c={concurrency:<3} {row['rps']:>8.1f}/s   p50 {row.get('p50_ms', 0):>7.2f}   p99 "
            f"{row.get('p99_ms', 0):>7.2f} ms   server {row['server_cpu']:.2f}   others {row['others_cpu']:.2f} cores"
            + (f"   {outcome.failed} ERRORS {self.error_samples.get(endpoint, '')}" if outcome.failed else "")
        )
        return outcome

    @staticmethod
    def _good(outcome: Outcome) -> dict[int, Answer]:
        return {place: answer for place, answer in outcome.answers.items() if answer.status == 200}

    # Endpoints

    def _info(self, concurrency: int) -> None:
        self._measure("info", concurrency, [request_bytes("GET", "/v1/info")], repeat=True)

    def _keys(self, concurrency: int) -> None:
        self._measure("keys", concurrency, [request_bytes("GET", "/v1/keys")], repeat=True)

    def _mint_quote(self, concurrency: int) -> None:
        amount = sum(amounts_for(_MINT_OUTPUTS))
        requests = [self.purse.quote_request(amount)] * self._wanted("mint_quote", concurrency)
        good = self._good(self._measure("mint_quote", concurrency, requests))
        quotes = [wire.mint_quote_from_json(answer.body).quote for answer in good.values()]
        self.purse.wait_paid(quotes)
        self._quotes[concurrency] = quotes

    def _mint(self, concurrency: int) -> None:
        wanted, amounts = self._wanted("mint", concurrency), amounts_for(_MINT_OUTPUTS)
        quotes = self._quotes.pop(concurrency, [])[:wanted]
        if len(quotes) < wanted:
            quotes += self.purse.paid_quotes([sum(amounts)] * (wanted - len(quotes)))
        outputs = [self.purse.outputs(amounts) for _ in quotes]
        requests = [self.purse.mint_request(quote, made) for quote, made in zip(quotes, outputs, strict=True)]
        for place, answer in self._good(self._measure("mint", concurrency, requests)).items():
            signatures = wire.signatures_from_json(answer.body)
            self.purse.give(self.purse.coins(outputs[place], signatures, verify=place < 2))

    def _swap(self, endpoint: str, concurrency: int) -> None:
        purse, coins = self.purse, PAIRS[endpoint]
        groups = purse.take(coins, self._wanted(endpoint, concurrency))
        outputs = [purse.outputs([proof.amount for proof in group]) for group in groups]
        requests = [purse.swap_request(group, made) for group, made in zip(groups, outputs, strict=True)]
        outcome = self._measure(endpoint, concurrency, requests)
        good = self._good(outcome)
        for place, answer in good.items():
            signatures = wire.signatures_from_json(answer.body)
            purse.give(purse.coins(outputs[place], signatures, verify=2 if place < 2 else 0))
        for place, group in enumerate(groups):
            if place not in outcome.answers:
                purse.give(group)
        if len(purse.spent) < 4096:
            purse.spent += [proof.y for place in list(good)[:32] for proof in groups[place]]
        if good:
            place = min(good)
            purse.check_double_spend(groups[place])
            self._count("double_spends_refused")
            if self.replays:
                purse.check_replay(requests[place], good[place])
                self._count("replays_equal")
        self.checks["dleqs_verified"] = purse.dleqs_verified

    def _melt_quote(self, concurrency: int) -> None:
        invoices = [foreign_invoice(_MELT_SAT, self._node_key) for _ in range(self._wanted("melt_quote", concurrency))]
        requests = [
            request_bytes(
                "POST",
                "/v1/melt/quote/bolt11",
                wire.melt_quote_request_to_json(MeltQuoteRequest("bolt11", invoice, "sat")),
            )
            for invoice in invoices
        ]
        quotes = []
        for answer in self._good(self._measure("melt_quote", concurrency, requests)).values():
            quote = wire.melt_quote_from_json(answer.body)
            quotes.append((quote.quote, quote.amount, quote.fee_reserve))
        self._melt_quotes[concurrency] = quotes

    def _melt(self, concurrency: int) -> None:
        if len(self._melt_quotes.get(concurrency, ())) < concurrency:
            self._melt_quote(concurrency)
        quotes = self._melt_quotes.pop(concurrency)[: self._wanted("melt", concurrency)]
        if not quotes:
            return
        requests = self._melt_requests(quotes)
        for answer in self._good(self._measure("melt", concurrency, requests)).values():
            paid = wire.melt_quote_from_json(answer.body).state is MeltState.PAID
            self._count("melts_paid" if paid else "melts_not_paid")

    def _melt_requests(self, quotes: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """Payments of melt quotes (id, amount, fee reserve) with coins minted for them."""
        amounts = [split_amount(amount + reserve, self.purse.keyset.keys) for _, amount, reserve in quotes]
        requests = []
        for (quote, _, reserve), inputs in zip(quotes, self.purse.minted(amounts), strict=True):
            blank = self.purse.outputs([1] * blank_count(reserve))
            body = wire.melt_request_to_json(MeltRequest("bolt11", quote, inputs, blank.messages))
            requests.append(request_bytes("POST", "/v1/melt/bolt11", body))
        return requests

    def _checkstate(self, concurrency: int) -> None:
        unknown = [hash_to_curve(os.urandom(8)) for _ in range(_ARRAY)]
        known = self.purse.spent or unknown
        requests = [
            request_bytes(
                "POST",
                "/v1/checkstate",
                wire.check_state_request_to_json(
                    [*random.sample(known, min(_ARRAY // 2, len(known))), *random.sample(unknown, _ARRAY // 2)]
                ),
            )
            for _ in range(32)
        ]
        self._measure("checkstate", concurrency, requests, repeat=True)

    def _restore(self, concurrency: int) -> None:
        signed: Sequence[BlindedMessage] = self.purse.signed or self.purse.outputs([1] * _ARRAY).messages
        shuffled = random.sample(list(signed), len(signed))
        arrays = [shuffled[start : start + _ARRAY] for start in range(0, len(shuffled), _ARRAY)]
        requests = [request_bytes("POST", "/v1/restore", wire.restore_request_to_json(array)) for array in arrays]
        self._measure("restore", concurrency, requests, repeat=True)
