"""`Metrics`: what a bank's engines report, kept for /metrics, the log and the health page. Implements kernel.Telemetry.

Counting is a dictionary addition; the Prometheus text is made when it is asked for. Names appear as they are first used,
with any labels: `count("swap", result="ok")` is `specie_swap_total{result="ok"}`, `observe("swap", ...)` is
`specie_swap_seconds`. Not here: which figures an engine reports.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from structlog.typing import FilteringBoundLogger

from specie.ops.redaction import redact

__all__ = ["BUCKETS_S", "METRICS_CONTENT_TYPE", "Metrics", "Page"]

METRICS_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histograms, in seconds."""

_MAX_SERIES = 500
"""Label sets of one metric; further ones are added to one called `other`."""

_MAX_PAGES = 50

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Something a human must look at."""

    time: int
    """Unix seconds."""
    reason: str
    facts: dict[str, Any]
    """Redacted."""


@dataclass(slots=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total: float = 0.0


class Metrics:
    """Counters, timings, gauges, events and pages of one bank. Every method may be called from any thread.

    `now` gives Unix seconds; `logger` takes events and pages.
    """

    def __init__(self, logger: FilteringBoundLogger, now: Callable[[], int], *, version: str = "") -> None:
        self._logger = logger
        self._now = now
        self._lock = threading.Lock()
        self._counters: dict[str, dict[Labels, int]] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {}
        self._gauges: dict[str, dict[Labels, float]] = {}
        self._pages: deque[Page] = deque(maxlen=_MAX_PAGES)
        self._started = now()
        self.gauge("info", 1, version=version)
        self.gauge("start_time_seconds", self._started)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def log_to(self, logger: FilteringBoundLogger) -> None:
        """Write events and pages to another logger from now on."""
        self._logger = logger

    @property
    def started(self) -> int:
        """Unix seconds of this object's making: the start of the bank."""
        return self._started

    @property
    def pages(self) -> tuple[Page, ...]:
        """The last pages, oldest first (at most 50)."""
        return tuple(self._pages)

    def count(self, name: str, /, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            series = self._counters.setdefault(name, {})
            key = _key(series, labels)
            series[key] = series.get(key, 0) + amount

    def observe(self, name: str, seconds: float, /, **labels: str) -> None:
        """Record a duration."""
        with self._lock:
            series = self._histograms.setdefault(name, {})
            key = _key(series, labels)
            histogram = series.get(key)
            if histogram is None:
                histogram = series[key] = _Histogram()
            histogram.counts[bisect_left(BUCKETS_S, seconds)] += 1
            histogram.total += seconds

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a figure that goes up and down."""
        with self._lock:
            series = self._gauges.setdefault(name, {})
            series[_key(series, labels)] = value

    def replace_gauges(self, name: str, values: Iterable[tuple[dict[str, str], float]]) -> None:
        """Set all figures of one gauge; label sets that are not given any more go away."""
        with self._lock:
            series = self._gauges[name] = {}
            for labels, value in values:
                series[_key(series, labels)] = value

    def event(self, name: str, /, **facts: object) -> None:
        """Write one structured log line."""
        self._logger.info(name, **_renamed(facts))

    def page(self, reason: str, /, **facts: object) -> None:
        """Write an error line, count it, and keep it for the health page."""
        clean = {key: redact(value, key) for key, value in facts.items()}
        self._pages.append(Page(self._now(), str(redact(reason)), clean))
        self.count("pages")
        self._logger.error("page", **_renamed(facts, "reason"), reason=reason)

    def counter_value(self, name: str, **labels: str) -> int:
        """Sum of a counter's series that carry `labels`; 0 if there is none."""
        wanted = set(labels.items())
        with self._lock:
            return sum(value for key, value in self._counters.get(name, {}).items() if wanted <= set(key))

    def exposition(self) -> bytes:
        """All figures in Prometheus text format (`METRICS_CONTENT_TYPE`)."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client: a snapshot of every metric."""
        with self._lock:
            counters = {name: dict(series) for name, series in self._counters.items()}
            gauges = {name: dict(series) for name, series in self._gauges.items()}
            histograms = {
                name: {key: _Histogram(value.counts[:], value.total) for key, value in series.items()}
                for name, series in self._histograms.items()
            }
        for name, series in counters.items():
            family = CounterMetricFamily(f"specie_{name}", _words(name), labels=_names(series))
            for key, value in series.items():
                family.add_metric(_row(key, series), value)
            yield family
        for name, levels in gauges.items():
            gauge = GaugeMetricFamily(f"specie_{name}", _words(name), labels=_names(levels))
            for key, level in levels.items():
                gauge.add_metric(_row(key, levels), level)
            yield gauge
        for name, timings in histograms.items():
            timing = HistogramMetricFamily(f"specie_{name}_seconds", _words(name), labels=_names(timings))
            for key, histogram in timings.items():
                timing.add_metric(_row(key, timings), _cumulative(histogram), histogram.total)
            yield timing


def _key(series: dict[Labels, Any], labels: dict[str, str]) -> Labels:
    key = tuple(sorted(labels.items()))
    if key not in series and len(series) >= _MAX_SERIES:
        return tuple((name, "other") for name, _ in key)
    return key


def _names(series: dict[Labels, Any]) -> list[str]:
    return sorted({name for key in series for name, _ in key})


def _row(key: Labels, series: dict[Labels, Any]) -> list[str]:
    given = dict(key)
    return [given.get(name, "") for name in _names(series)]


def _cumulative(histogram: _Histogram) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    running = 0
    for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), histogram.counts, strict=True):
        running += count
        buckets.append((bound, running))
    return buckets


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize() + "."


_KEPT_NAMES = ("event", "level", "time", "exc_info", "stack_info")


def _renamed(facts: dict[str, object], *also: str) -> dict[str, Any]:
    """The log keeps some names for itself; facts under them get an underscore."""
    return {f"{key}_" if key in _KEPT_NAMES or key in also else key: value for key, value in facts.items()}
