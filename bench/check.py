"""Whether anything got slower than it was: instructions of a fixed workload, counted by valgrind, against a recorded baseline.

    python -m bench.check            compare with bench/baseline.json; exit 1 where a section grew by more than 10 %
    python -m bench.check --record   write the baseline anew

Instructions do not depend on who else uses the machine, nor on its processor: valgrind shows programs one of its own. They
depend on versions, so a baseline of other versions is reported and not held against anybody. Where valgrind, its headers or
a C compiler is missing, nothing is checked, which is said aloud; exit 0.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import apsw

from bench.figures import short, table
from bench.signing import curve_work
from bench.workload import SECTIONS

__all__ = ["compared", "fingerprint", "main", "section_totals"]

_HERE = Path(__file__).parent
_BASELINE = _HERE / "baseline.json"
_TOLERANCE = 0.10
_TIMEOUT_S = 600.0
_PACKAGES = ("btclib-secp256k1", "apsw-sqlite3mc", "cbor2", "cryptography", "msgspec")


def fingerprint() -> dict[str, str]:
    """What else decides how many instructions the same source takes."""
    found = {
        "python": f"{platform.python_implementation()} {platform.python_version()} {platform.python_compiler()}",
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "sqlite": apsw.sqlite_lib_version(),
        "curve": curve_work(),
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def section_totals(text: str) -> tuple[str, int] | None:
    """Name and instructions of one dump of callgrind; None for a dump that no mark asked for, ValueError for half a dump."""
    name, total = "", None
    for line in text.splitlines():
        if line.startswith("desc: Trigger: Client Request: "):
            name = line.removeprefix("desc: Trigger: Client Request: ").strip()
        elif line.startswith("totals: "):
            total = int(line.split()[1])
    if not name:
        return None
    if total is None:
        raise ValueError(f"the dump of {name} has no end")
    return name, total


def compared(
    counted: Mapping[str, float], baseline: Mapping[str, float], tolerance: float = _TOLERANCE
) -> tuple[list[list[object]], list[str]]:
    """Rows of a table, and the sections that grew by more than `tolerance` or that the baseline lacks or has alone."""
    rows: list[list[object]] = []
    wrong: list[str] = []
    for name in dict.fromkeys((*baseline, *counted)):
        now, then = counted.get(name), baseline.get(name)
        if now is None or then is None:
            wrong.append(name)
            rows.append([name, then or "-", now or "-", "only here" if then is None else "gone"])
            continue
        if now > then * (1 + tolerance):
            wrong.append(name)
        rows.append([name, then, now, f"{now / then - 1:+.1%}"])
    return rows, wrong


def _count(directory: Path) -> dict[str, float]:
    """Instructions for each item of each section. RuntimeError says what is missing or went wrong."""
    valgrind, compiler = shutil.which("valgrind"), os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if valgrind is None or compiler is None:
        raise RuntimeError("valgrind or a C compiler is missing (on Debian: apt-get install valgrind gcc)")
    library = directory / "mark.so"
    built = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", str(_HERE / "mark.c"), "-o", str(library)],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise RuntimeError(f"mark.c does not compile: {built.stderr.strip()[-300:]}")
    root = _HERE.parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SPECIE_"))}
    environment = kept | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": f"{root / 'src'}:{root}"}
    done = subprocess.run(
        [
            valgrind,
            "--tool=callgrind",
            "--instr-atstart=no",
            f"--callgrind-out-file={directory / 'dump'}",
            f"--log-file={directory / 'log'}",
            sys.executable,
            "-m",
            "bench.workload",
            str(library),
        ],
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the workload failed under valgrind: {done.stderr.strip()[-500:]}")
    items = json.loads(done.stdout)
    dumps = filter(None, (section_totals(path.read_text()) for path in sorted(directory.glob("dump.*"))))
    totals = dict(dumps)
    missing = sorted(set(SECTIONS) - set(totals))
    if missing:
        raise RuntimeError(f"valgrind wrote no counts of {', '.join(missing)}")
    return {name: totals[name] / items[name] for name in SECTIONS}


def _told_differences(recorded: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    return [
        f"{name}: {recorded.get(name)} in the baseline, {here.get(name)} here"
        for name in dict.fromkeys((*recorded, *here))
        if recorded.get(name) != here.get(name)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where nothing grew or nothing could be checked, 1 where something did."""
    parser = argparse.ArgumentParser(
        prog="bench.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="write the baseline anew")
    parser.add_argument("--baseline", type=Path, default=_BASELINE, help="the file to compare with")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="specie-bench-check-") as name:
        try:
            counted = _count(Path(name))
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            if "missing" in str(error) or "mark.c" in str(error):
                print(f"NOT CHECKED: {error}")
                return 0
            print(f"bench.check: {error}", file=sys.stderr)
            return 1
    here = fingerprint()
    if options.record:
        document = {"unit": "instructions for each item, counted by callgrind", "versions": here, "counted": counted}
        options.baseline.write_text(json.dumps(document, indent=1) + "\n")
        print(table(("section", "instructions an item"), [[name, round(value)] for name, value in counted.items()]))
        print(f"written: {options.baseline}")
        return 0
    if not options.baseline.is_file():
        print(f"NOT CHECKED: there is no baseline {options.baseline} (make one with --record)")
        return 0
    baseline: dict[str, Any] = json.loads(options.baseline.read_text())
    rows, wrong = compared(counted, baseline["counted"])
    print(table(("section", "baseline", "now", "change"), [[row[0], *map(_whole, row[1:])] for row in rows]))
    other = _told_differences(baseline["versions"], here)
    if other:
        print("NOT CHECKED: the baseline is of other versions, so the changes above may be theirs:")
        print("\n".join(f"  {line}" for line in other))
        return 0
    if wrong:
        print(f"FAILED: more than {_TOLERANCE:.0%} more instructions than the baseline, or not in both: {', '.join(wrong)}")
        return 1
    print("nothing grew by more than " + short(_TOLERANCE * 100) + " %")
    return 0


def _whole(value: object) -> object:
    return round(value) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
