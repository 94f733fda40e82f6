"""Where the bank's time goes: a flame graph for each endpoint, and its processor time by layer.

    python -m bench.flame [--py-spy PATH]

Stacks are taken by py-spy (`pip install py-spy`), which must be allowed to look into the bank: a bank forbids that to its
own user, so on Linux this needs root. Where py-spy is missing or may not, that is said and nothing is measured; exit 0.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer

from bench import svg
from bench.bank import BenchError, running_bank
from bench.client import Clients, Outcome
from bench.figures import names_checked, table
from bench.layers import LAYERS, Sample, by_layer, parsed, without_waiting
from bench.load import Load
from bench.record import Record, engine_option, options_parser

__all__ = ["ProfiledLoad", "find_profiler", "main", "thread_cpu_s"]

_ENDPOINTS = ("swap4", "mint_quote", "mint", "melt", "checkstate", "restore")
_NEEDED = ("mint_quote", "mint", "swap4", "melt_quote", "melt", "checkstate", "restore")
_CONCURRENCY = 16
_RATE_HZ = 200
_ATTACH_S = 20.0
_LONGEST_S = 60


def find_profiler(given: str | None) -> str | None:
    """The path of py-spy: as given, beside this interpreter, or on PATH; None if it is nowhere."""
    for name in filter(None, (given, str(Path(sys.executable).with_name("py-spy")), "py-spy")):
        found = shutil.which(name)
        if found is not None:
            return found
    return None


def thread_cpu_s(pid: int) -> dict[int, float]:
    """Processor seconds of each thread of a process so far; {} where the kernel does not tell."""
    found = {}
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            found[int(path.parent.name)] = int(path.read_text().split()[0]) / 1e9
    return found


@dataclass
class ProfiledLoad(Load):
    """`Load` whose windows can be watched by a profiler. `samples` and `used_s` are of the last watched window."""

    profiler: str = "py-spy"
    directory: Path = Path()
    samples: list[Sample] = field(default_factory=list)
    used_s: dict[int, float] = field(default_factory=dict)
    watching: bool = False

    def _measure(self, endpoint: str, concurrency: int, requests: Sequence[bytes], *, repeat: bool = False) -> Outcome:
        if not self.watching or endpoint == "melt_quote":
            return super()._measure(endpoint, concurrency, requests, repeat=repeat)
        target = self.directory / f"{endpoint}.raw"
        command = [self.profiler, "record", "--pid", str(self.bank.pid), "--format", "raw", "--threads", "--nonblocking"]
        command += ["--rate", str(_RATE_HZ), "--duration", str(_LONGEST_S), "--output", str(target)]
        profiler = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert profiler.stdout is not None
        watchdog = Timer(_ATTACH_S, profiler.kill)
        watchdog.start()
        said = ""
        try:
            for line in profiler.stdout:
                said += line
                if "Sampling process" in line:
                    break
            else:
                raise BenchError(f"py-spy cannot look into the bank: {said.strip()[-300:]}")
            watchdog.cancel()
            before = thread_cpu_s(self.bank.pid)
            outcome = super()._measure(endpoint, concurrency, requests, repeat=repeat)
            after = thread_cpu_s(self.bank.pid)
            profiler.send_signal(signal.SIGINT)
            profiler.communicate(timeout=_ATTACH_S)
        finally:
            watchdog.cancel()
            if profiler.poll() is None:
                profiler.kill()
                profiler.wait()
            profiler.stdout.close()
        self.samples = parsed(target.read_text())
        self.used_s = {thread: used - before.get(thread, 0.0) for thread, used in after.items()}
        return outcome


def _frame(name: str) -> str:
    """A frame without its line, so that one function is one box."""
    return name.rpartition(":")[0] + ")" if name.endswith(")") and ":" in name else name


def _stacks(samples: Sequence[Sample]) -> dict[Sequence[str], int]:
    stacks: dict[Sequence[str], int] = {}
    for sample in without_waiting(samples):
        stack = tuple(map(_frame, sample.frames))
        stacks[stack] = stacks.get(stack, 0) + sample.count
    return stacks


def _measure_all(record: Record, load: ProfiledLoad, endpoints: Sequence[str]) -> None:
    for endpoint in endpoints:
        plain = load.round(endpoint, _CONCURRENCY)
        load.watching = True
        try:
            watched = load.round(endpoint, _CONCURRENCY)
        finally:
            load.watching = False
        layers, done = by_layer(load.samples, load.used_s), max(1.0, watched["ok"])
        total, used = sum(layers.values()) or 1.0, plain.get("server_cpu_us", 0.0)
        record.figures[endpoint] = {
            "rps": plain["rps"],
            "server_cpu_us": used,
            "idle_cores": max(0.0, 1.0 - plain["server_cpu"]),
            "watched_rps": watched["rps"],
            "watched_cpu_us": total / done * 1e6,
            "samples": sum(sample.count for sample in load.samples),
            "samples_at_work": sum(sample.count for sample in without_waiting(load.samples)),
            "layer_us": {layer: used * layers.get(layer, 0.0) / total for layer in LAYERS},
        }
        stacks = _stacks(load.samples)
        if stacks:
            record.picture(endpoint, svg.flame(f"{endpoint}: where the bank's time goes", stacks))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the arguments say; 0, or 1 where the bank did something wrong."""
    parser = options_parser("flame", __doc__)
    parser.add_argument("--py-spy", default=None, help="the program (beside the interpreter, or on PATH)")
    parser.add_argument("--only", default=",".join(_ENDPOINTS), help="endpoints")
    parser.add_argument("--seconds", type=float, default=None, help="length of a window (2; quick: 0.7)")
    engine_option(parser)
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or (0.7 if options.quick else 2.0)
    try:
        endpoints = names_checked(options.only, _ENDPOINTS)
    except ValueError as error:
        parser.error(str(error))
    if not 0 < options.seconds <= 20:
        parser.error("seconds to 20")
    profiler = find_profiler(options.py_spy)
    if profiler is None:
        print("NOT MEASURED: py-spy is missing (pip install py-spy, or --py-spy PATH)")
        return 0
    with tempfile.TemporaryDirectory(prefix="specie-bench-flame-", dir=options.dir) as name:
        directory = Path(name)
        record = Record("flame", options, directory)
        with contextlib.ExitStack() as stack:
            bank = stack.enter_context(running_bank(directory / "home", engine=options.engine))
            clients = stack.enter_context(Clients(bank.host, bank.port))
            load = ProfiledLoad(
                bank,
                clients,
                options.seconds,
                report=record.say,
                endpoints=_NEEDED,
                profiler=profiler,
                directory=directory,
            )
            try:
                _measure_all(record, load, endpoints)
            except BenchError as error:
                record.note(f"not measured: {error}")
                return 0 if "py-spy" in str(error) else 1
    rows = {endpoint: figures["layer_us"] for endpoint, figures in record.figures.items()}
    record.say(table(("layer, CPU us", *rows), [[layer, *(row[layer] for row in rows.values())] for layer in LAYERS]))
    record.picture("layers", svg.bars("Processor time of a request by layer", "us", rows))
    record.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
