"""Figures are counted, pages are kept, and health tells the truth about each dependency."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from specie.kernel import RailHealth, UnavailableError
from specie.kernel.telemetry import Telemetry
from specie.ops.health import Health, HealthState, rail_check, storage_check
from specie.ops.logging import make_logger
from specie.ops.metrics import Metrics
from specie.ops.settings import LogFormat, LogSettings
from specie.storage.ports import StorageStatus


class Time:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.value = 1000.0

    def now(self) -> int:
        return int(self.value)

    def monotonic(self) -> float:
        return self.value


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def metrics(stream, time) -> Metrics:
    return Metrics(make_logger(LogSettings(format=LogFormat.JSON), stream), time.now, version="1.2.3")


def test_it_is_a_telemetry(metrics):
    """Engines can be given it."""
    port: Telemetry = metrics
    port.count("swap")
    assert metrics.counter_value("swap") == 1


def test_exposition_has_counters_histograms_gauges_and_the_process(metrics):
    """Names, labels and sums as Prometheus reads them."""
    metrics.count("swap", result="ok")
    metrics.count("swap", 4, result="ok")
    metrics.count("swap", result='no "quotes"\n', extra="x")
    metrics.observe("swap", 0.003)
    metrics.observe("swap", 99.0)
    metrics.replace_gauges("liabilities", [({"unit": "sat"}, 21), ({"unit": "msat"}, 1)])
    metrics.replace_gauges("liabilities", [({"unit": "sat"}, 22)])
    text = metrics.exposition().decode()
    assert 'specie_swap_total{extra="",result="ok"} 5.0' in text
    assert 'specie_swap_total{extra="x",result="no \\"quotes\\"\\n"} 1.0' in text
    assert 'specie_swap_seconds_bucket{le="0.005"} 1.0' in text
    assert 'specie_swap_seconds_bucket{le="+Inf"} 2.0' in text
    assert "specie_swap_seconds_count 2.0" in text
    assert 'specie_liabilities{unit="sat"} 22.0' in text
    assert "msat" not in text
    assert 'specie_info{version="1.2.3"} 1.0' in text
    assert "process_cpu_seconds_total" in text
    assert metrics.counter_value("swap", result="ok") == 5
    assert metrics.counter_value("nothing") == 0


def test_labels_without_bound_do_not_fill_the_memory(metrics):
    """The 501st label set goes to `other`."""
    for index in range(600):
        metrics.count("request", route=f"/{index}")
    assert metrics.counter_value("request") == 600
    assert metrics.counter_value("request", route="other") == 100


def test_pages_are_logged_counted_and_kept_without_secrets(metrics, stream):
    """A page reaches log, counter and health, redacted in all three."""
    metrics.page("books do not balance", keyset="00ad", secret="canary", event="x", reason="y", name="z")
    (page,) = metrics.pages
    assert (page.time, page.reason) == (1000, "books do not balance")
    assert page.facts["secret"] == "[redacted]"
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["reason"], line["event_"]) == ("page", "error", "books do not balance", "x")
    assert (line["reason_"], line["name"]) == ("y", "z")
    assert "canary" not in stream.getvalue()
    assert "specie_pages_total 1.0" in metrics.exposition().decode()
    for index in range(80):
        metrics.page(f"again {index}")
    assert len(metrics.pages) == 50


def test_events_are_info_lines(metrics, stream):
    """With facts under names that the log keeps for itself renamed."""
    metrics.event("started", time="noon", port=3338)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["time_"], line["port"]) == ("started", "info", "noon", 3338)


async def test_all_well(metrics, time):
    """Ready and ok with facts; secrets in facts are taken out."""
    health = Health(metrics, time.now, time.monotonic)

    async def store():
        return {"engine": "sqlite", "password": "canary"}

    health.add("store", store)
    time.value += 5
    report = await health.report()
    assert (report.state, report.ready, report.uptime_s) == (HealthState.OK, True, 5)
    assert report.checks[0].facts == {"engine": "sqlite", "password": "[redacted]"}
    assert 'specie_check_up{check="store"} 1.0' in metrics.exposition().decode()


async def test_a_required_failure_is_down_an_optional_one_degraded(metrics, time):
    """Only what the bank cannot work without takes it out of service."""
    health = Health(metrics, time.now, time.monotonic)

    async def bad():
        raise UnavailableError("rail is away")

    async def worse():
        raise ZeroDivisionError("with a secret in its text")

    health.add("rail", bad, required=False)
    report = await health.report()
    assert (report.state, report.ready) == (HealthState.DEGRADED, True)
    assert report.checks[0].detail == "rail is away"
    health.add("store", worse)
    report = await health.report()
    assert (report.state, report.ready) == (HealthState.DOWN, False)
    assert report.checks[1].detail == "ZeroDivisionError"


async def test_a_check_that_hangs_is_cut_off(metrics, time):
    """No answer in time is a failure, not a wait."""
    health = Health(metrics, time.now, time.monotonic, timeout_s=0.01)

    async def hang():
        await asyncio.Event().wait()
        return {}

    health.add("store", hang)
    report = await health.report()
    assert report.checks[0].detail == "no answer within 0.01 s"


async def test_reports_are_kept_for_a_moment(metrics, time):
    """A hundred askers at once cost one check."""
    calls = []

    async def check():
        calls.append(1)
        return {}

    health = Health(metrics, time.now, time.monotonic, keep_s=1.0)
    health.add("store", check)
    await asyncio.gather(*(health.report() for _ in range(100)))
    assert len(calls) == 1
    time.value += 1.0
    await health.report()
    assert len(calls) == 2


async def test_a_page_degrades_and_a_drain_is_not_ready(metrics, time):
    """A human should look; and no new work while stopping."""
    health = Health(metrics, time.now, time.monotonic)
    metrics.page("look here")
    report = await health.report()
    assert (report.state, report.ready, report.pages, report.last_page) == (HealthState.DEGRADED, True, 1, "look here")
    health.drain()
    assert (await health.report()).ready is False


async def test_storage_and_rail_checks(metrics, time):
    """The ready-made checks ask, and tell figures."""

    class Store:
        async def read(self, body):
            return await body(self)

        async def fetch_one(self, sql, *values):
            return (1,)

        def status(self):
            return StorageStatus("sqlite", 3, 9, 0)

    class Play:
        method, play, answer = "bolt11", True, RailHealth(True, 5000)

        async def health(self):
            return self.answer

    rail = Play()
    health = Health(metrics, time.now, time.monotonic, keep_s=0)
    health.add("store", storage_check(Store()))
    health.add("rail:play", rail_check(rail))
    report = await health.report()
    assert report.checks[0].facts == {"engine": "sqlite", "commits": 3, "bodies": 9, "queue": 0}
    assert report.checks[1].facts["balance_msat"] == 5000
    rail.answer = RailHealth(False, None, "node is syncing")
    report = await health.report()
    assert report.checks[1].detail == "node is syncing"
