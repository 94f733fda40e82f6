"""From the samples of a profiler to time by layer. Pure.

A stack belongs to the layer of its innermost frame that any layer knows. Each thread's samples share the processor time that
the kernel counted for that thread, so a thread that mostly waits does not look busy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["LAYERS", "WAITING", "Sample", "by_layer", "layer_of", "parsed", "without_waiting"]

WAITING = "waiting"

_KNOWN = (
    ("curve work and its binding", ("secp256k1", "kernel/curve", "keys/native/", "adapters/native_batch")),
    ("store: SQL, driver and disk", ("specie/storage/", "adapters/store_sql.py", "apsw", "asyncpg/")),
    ("JSON and wire", ("ecash/wire/", "msgspec/")),
    ("HTTP server and event loop", ("uvicorn/", "httptools/", "uvloop/", "starlette/", "specie/server/", "asyncio/")),
    ("lightning rail", ("specie/lightning/",)),
    ("engine and rules in Python", ("specie/mint/", "specie/ledger/", "specie/ecash/", "specie/keys/", "specie/kernel/")),
    ("logs and metrics", ("specie/ops/", "structlog/", "prometheus_client/")),
)
_OTHER = "other"
LAYERS = (*(name for name, _ in _KNOWN), _OTHER)
"""In the order of the pictures."""

_WAITS = (
    re.compile(r"^run_thread \(.*storage/adapters/"),
    re.compile(r"^(Lanes\.)?_run \(.*keys/adapters/lanes\.py"),
    re.compile(r"^_worker \(concurrent/futures/thread\.py"),
    re.compile(r"^(Runner\.run|run) \(asyncio/runners\.py"),
    re.compile(r"^(select|wait|_wait_for_tstate_lock|get) \((selectors|threading|queue)\.py"),
)
_THREAD = re.compile(r"^thread \((\d+)\)")


@dataclass(frozen=True, slots=True)
class Sample:
    """A stack of one thread, outermost frame first as `name (file:line)`, and how often it was seen."""

    thread: int
    frames: tuple[str, ...]
    count: int


def parsed(text: str) -> list[Sample]:
    """Samples of py-spy's raw format with threads; ValueError for a line that is none."""
    samples = []
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        head, _, rest = stack.partition(";")
        thread = _THREAD.match(head)
        if thread is None or not count.isdigit():
            raise ValueError(f"not a line of samples with threads: {line[:80]!r}")
        samples.append(Sample(int(thread[1]), tuple(rest.split(";")) if rest else (), int(count)))
    return samples


def layer_of(frames: Iterable[str]) -> str:
    """The layer of a stack; WAITING where its innermost frame only waits for work."""
    inwards = list(frames)
    if inwards and any(pattern.match(inwards[-1]) for pattern in _WAITS):
        return WAITING
    for frame in reversed(inwards):
        place = frame.rpartition("(")[2]
        for layer, marks in _KNOWN:
            if any(mark in place for mark in marks):
                return layer
    return _OTHER


def without_waiting(samples: Iterable[Sample]) -> list[Sample]:
    """Samples of threads at work."""
    return [sample for sample in samples if layer_of(sample.frames) != WAITING]


def by_layer(samples: Iterable[Sample], thread_cpu_s: Mapping[int, float]) -> dict[str, float]:
    """Processor seconds of each layer that has any; what threads without a sample at work have used is `other`."""
    counts: dict[int, dict[str, int]] = {}
    for sample in without_waiting(samples):
        layers = counts.setdefault(sample.thread, {})
        layer = layer_of(sample.frames)
        layers[layer] = layers.get(layer, 0) + sample.count
    found = dict.fromkeys(LAYERS, 0.0)
    for thread, used in thread_cpu_s.items():
        layers = counts.get(thread, {_OTHER: 1})
        total = sum(layers.values())
        for layer, count in layers.items():
            found[layer] += used * count / total
    return {layer: seconds for layer, seconds in found.items() if seconds}
