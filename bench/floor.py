"""The floor under every figure: curve work alone, in C and through our own Python binding.

One pair is one coin in (hash to curve, k*Y) and one coin out (k*B_ with its DLEQ proof), secret scalars in constant time.
Processor time per pair is the figure to trust where others use the machine too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

from specie.ecash import hash_to_curve
from specie.ecash.dleq import prove
from specie.kernel import curve

__all__ = ["Floor", "FloorProgram", "python_floor"]

_SOURCE = Path(__file__).with_name("floor.c")


class Floor(NamedTuple):
    """Pairs per second by the wall clock, and processor microseconds of one pair."""

    pairs_per_s: float
    cpu_us: float


class FloorProgram:
    """`floor.c`, compiled into `directory`; `missing` says what to install where that cannot be done."""

    def __init__(self, directory: Path) -> None:
        self._program = directory / "floor"
        self.missing = ""
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if not compiler:
            self.missing = "no C compiler"
            return
        command = [compiler, "-O2", str(_SOURCE), "-o", str(self._program), "-lsecp256k1", "-lcrypto", "-lpthread"]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode:
            reason = next((line for line in built.stderr.splitlines() if "error" in line), "the compiler failed")
            self.missing = f"{reason.strip()} (on Debian: apt-get install libsecp256k1-dev libssl-dev)"

    def measure(self, threads: int, seconds: float, *, points_only: bool = False) -> Floor | None:
        """The floor on that many threads, or None where there is no program. `points_only`: without the hashing of DLEQ."""
        if self.missing:
            return None
        command = [str(self._program), str(threads), f"{seconds:.3f}", *(["points"] if points_only else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        pairs, cpu = done.stdout.split()
        return Floor(float(pairs), float(cpu))


def _pairs(stop: threading.Event, counts: list[int], slot: int) -> None:
    k = bytes([1]) + os.urandom(31)
    key = curve.public_key(k)
    b_ = key
    done = 0
    while not stop.is_set():
        y = hash_to_curve(os.urandom(32).hex().encode())
        curve.multiply_secret(y, k)
        c_ = curve.multiply_secret(b_, k)
        prove(k, key, b_, c_)
        b_ = c_
        done += 1
    counts[slot] = done


def python_floor(threads: int, seconds: float) -> Floor:
    """The same through `kernel.curve`, on that many threads of this process."""
    stop, counts = threading.Event(), [0] * threads
    workers = [threading.Thread(target=_pairs, args=(stop, counts, slot)) for slot in range(threads)]
    start, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    time.sleep(seconds)
    stop.set()
    for worker in workers:
        worker.join()
    wall, used, pairs = time.perf_counter() - start, time.process_time() - cpu, max(1, sum(counts))
    return Floor(pairs / wall, used / pairs * 1e6)
