"""What the figures were measured on, and who used the processor meanwhile."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import apsw
import psutil

__all__ = ["CpuMeter", "flush_times_us", "machine_facts", "tree"]

_PACKAGES = ("btclib-secp256k1", "apsw-sqlite3mc", "asyncpg", "msgspec", "uvicorn", "uvloop", "httptools", "starlette")


def flush_times_us(directory: Path, rounds: int = 40) -> list[float]:
    """Microseconds of each of `rounds` appends of 4 KiB made durable by fdatasync in `directory`, ascending."""
    took: list[float] = []
    with tempfile.TemporaryFile(dir=directory) as file:
        block = os.urandom(4096)
        for _ in range(rounds):
            os.write(file.fileno(), block)
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - start) * 1e6)
    return sorted(took)


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _filesystem(directory: Path) -> str:
    best = ("", "unknown")
    for part in psutil.disk_partitions(all=True):
        if directory.resolve().is_relative_to(part.mountpoint) and len(part.mountpoint) > len(best[0]):
            best = (part.mountpoint, part.fstype)
    return best[1]


def _revision() -> str:
    """Commit of the checkout, with a + where tracked source files differ from it."""
    root = Path(__file__).parents[1]
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        )
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "src"], cwd=root, capture_output=True, check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+" if changed.returncode else "")


def machine_facts(directory: Path) -> dict[str, object]:
    """Processor, memory, kernel, versions, and how long the disk under `directory` takes to make 4 KiB durable."""
    versions: dict[str, str] = {"python": platform.python_version(), "sqlite": apsw.sqlite_lib_version()}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    flush = flush_times_us(directory)
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "implementation": f"{sys.implementation.name} {platform.python_build()[0]}",
        "filesystem": _filesystem(directory),
        "flush_us": {"median": round(statistics.median(flush), 1), "max": round(flush[-1], 1)},
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "versions": versions,
        "revision": _revision(),
    }


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants; [] if it is gone."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _cpu_seconds(pids: Iterable[int]) -> float:
    total = 0.0
    for process in (member for pid in pids for member in tree(pid)):
        with contextlib.suppress(psutil.Error, OSError):
            total += _cpu_seconds_of(process)
    return total


def _cpu_seconds_of(process: psutil.Process) -> float:
    """From the scheduler, to the nanosecond, where it tells; psutil's are in ticks of 10 ms, too coarse for a short window."""
    threads = list(Path(f"/proc/{process.pid}/task").glob("*/schedstat"))
    if threads:
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


class CpuMeter:
    """Processor time by group of processes between two looks; "others" is the rest of the machine: the noise."""

    def __init__(self, groups: Mapping[str, Iterable[int]]) -> None:
        self._groups = {name: tuple(pids) for name, pids in groups.items()}
        self._started = time.monotonic()
        self._before = self._look()

    def _look(self) -> dict[str, float]:
        return {name: _cpu_seconds(pids) for name, pids in self._groups.items()} | {"all": _busy_seconds()}

    def used(self) -> dict[str, float]:
        """Seconds of processor time of each group since this meter was made; "others" in cores, averaged over that time."""
        after, elapsed = self._look(), time.monotonic() - self._started
        used = {name: max(0.0, after[name] - self._before[name]) for name in after}
        known = sum(used[name] for name in self._groups)
        return {name: used[name] for name in self._groups} | {"others": max(0.0, used["all"] - known) / elapsed}
