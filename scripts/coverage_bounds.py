"""Check the coverage of the last test run: lines and branches, 85 % of the whole, 95 % of the rooms that guard money."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

WHOLE = 85.0
ROOMS = {"ecash": 95.0, "kernel": 95.0, "keys": 95.0, "mint": 95.0}


def measured(report: dict[str, dict[str, dict[str, int]]], prefix: str) -> float:
    """Share in percent of lines and branches run in the files below `prefix`."""
    done = total = 0
    for name, entry in report["files"].items():
        if name.startswith(prefix):
            figures = entry["summary"]
            done += figures["covered_lines"] + figures["covered_branches"]
            total += figures["num_statements"] + figures["num_branches"]
    return 100.0 * done / total if total else 0.0


def main() -> int:
    """Combine, measure, print a table; 1 if a bound is missed."""
    root = Path(__file__).parent.parent
    coverage = [sys.executable, "-m", "coverage"]
    if any(root.glob(".coverage.*")):
        subprocess.run([*coverage, "combine", "--append", "-q"], check=True, cwd=root)
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "coverage.json"
        subprocess.run([*coverage, "json", "-q", "-o", str(target)], check=True, cwd=root)
        report = json.loads(target.read_text())
    rows = [("whole", WHOLE, measured(report, "src/specie/"))]
    rows += [(room, bound, measured(report, f"src/specie/{room}/")) for room, bound in ROOMS.items()]
    missed = False
    for name, bound, share in rows:
        verdict = "ok" if share >= bound else "MISSED"
        missed = missed or share < bound
        print(f"coverage {name:8} {share:5.1f} %  (bound {bound:.0f} %)  {verdict}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
