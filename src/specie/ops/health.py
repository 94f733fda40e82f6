"""`Health`: is the process alive, may it be given work, and what does each thing it depends on say.

A check is an async function that returns facts or raises. Checks run side by side, each with a time limit, and an answer
is kept for a moment, so that asking often costs little. Not here: the pages of the web; `server` makes those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from specie.kernel.errors import SpecieError, UnavailableError
from specie.kernel.rail import Rail
from specie.ops.metrics import Metrics
from specie.ops.redaction import redact, redact_text
from specie.storage.ports import Storage

__all__ = ["Check", "CheckResult", "Health", "HealthReport", "HealthState", "rail_check", "storage_check"]

Check = Callable[[], Awaitable[Mapping[str, object]]]
"""Returns facts for the health page; raises if the thing is not well."""


class HealthState(StrEnum):
    """What a whole bank, or one check, is."""

    OK = "ok"
    DEGRADED = "degraded"
    """Works, and a human should look: a page was sent, or something not essential is down."""
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one dependency said."""

    name: str
    ok: bool
    required: bool
    elapsed_ms: float
    detail: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What all dependencies said at one moment."""

    state: HealthState
    ready: bool
    """Whether new work should be sent here: every required check is well and no drain is going on."""
    time: int
    uptime_s: int
    pages: int
    last_page: str
    checks: tuple[CheckResult, ...] = field(default=())


class Health:
    """The checks of one bank. `timeout_s` bounds each; a report is kept for `keep_s`."""

    def __init__(
        self,
        metrics: Metrics,
        now: Callable[[], int],
        monotonic: Callable[[], float],
        *,
        timeout_s: float = 2.0,
        keep_s: float = 1.0,
    ) -> None:
        self._metrics = metrics
        self._now = now
        self._monotonic = monotonic
        self._timeout_s = timeout_s
        self._keep_s = keep_s
        self._checks: dict[str, tuple[Check, bool]] = {}
        self._kept: tuple[float, tuple[CheckResult, ...]] | None = None
        self._running = asyncio.Lock()
        self._draining = False

    def add(self, name: str, check: Check, *, required: bool = True) -> None:
        """Add a dependency; without `required` its failure degrades the bank and does not take it down."""
        self._checks[name] = (check, required)
        self._kept = None

    def drain(self) -> None:
        """From now on not ready: a stop has begun."""
        self._draining = True

    async def report(self) -> HealthReport:
        """Run the checks, or give the answers of a moment ago."""
        async with self._running:
            kept = self._kept
            if kept is None or self._monotonic() - kept[0] >= self._keep_s:
                results = await asyncio.gather(*(self._run(name, *item) for name, item in self._checks.items()))
                kept = self._kept = (self._monotonic(), tuple(results))
        results_ = kept[1]
        pages = self._metrics.pages
        down = any(not result.ok and result.required for result in results_)
        state = HealthState.OK
        if pages or any(not result.ok for result in results_):
            state = HealthState.DEGRADED
        if down:
            state = HealthState.DOWN
        return HealthReport(
            state=state,
            ready=not down and not self._draining,
            time=self._now(),
            uptime_s=max(0, self._now() - self._metrics.started),
            pages=len(pages),
            last_page=pages[-1].reason if pages else "",
            checks=results_,
        )

    async def _run(self, name: str, check: Check, required: bool) -> CheckResult:
        start = self._monotonic()
        facts: Mapping[str, object] = {}
        ok, detail = False, ""
        try:
            async with asyncio.timeout(self._timeout_s):
                facts = await check()
            ok = True
        except TimeoutError:
            detail = f"no answer within {self._timeout_s:g} s"
        except SpecieError as error:
            detail = redact_text(error.detail)
        except Exception as error:  # a supervisor: what a check raises is its report
            detail = type(error).__name__
        elapsed_ms = round((self._monotonic() - start) * 1000, 3)
        self._metrics.gauge("check_up", float(ok), check=name)
        return CheckResult(name, ok, required, elapsed_ms, detail, {key: redact(value, key) for key, value in facts.items()})


def storage_check(storage: Storage) -> Check:
    """Asks a store for one row, and tells its figures."""

    async def check() -> Mapping[str, object]:
        async def one(tx: Any) -> object:
            return await tx.fetch_one("SELECT 1")

        await storage.read(one)
        status = storage.status()
        return {"engine": status.engine, "commits": status.commits, "bodies": status.bodies, "queue": status.queue}

    return check


def rail_check(rail: Rail) -> Check:
    """Asks a rail how it is; not well if it says so."""

    async def check() -> Mapping[str, object]:
        health = await rail.health()
        if not health.ok:
            raise UnavailableError(health.detail or "the rail says it is not well")
        return {"method": rail.method, "play": rail.play, "balance_msat": health.balance_msat, "detail": health.detail}

    return check
