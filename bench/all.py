"""Every benchmark, one after another: `python -m bench.all`, some seventeen minutes; with --quick some six.

Further arguments go to all of them. A program that fails does not keep the others from running; the exit code says so.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

__all__ = ["PROGRAMS", "main"]

PROGRAMS = (
    "bench",
    "bench.connections",
    "bench.history",
    "bench.flame",
    "bench.mixed",
    "bench.peers",
    "bench.wallet",
    "bench.signer",
)
_TIMEOUT_S = 1800.0


def main(arguments: Sequence[str]) -> int:
    """Run them; 0, or 1 where any failed."""
    failed, began = [], time.monotonic()
    for program in PROGRAMS:
        print(f"== python -m {program} {' '.join(arguments)}", flush=True)
        try:
            done = subprocess.run([sys.executable, "-m", program, *arguments], check=False, timeout=_TIMEOUT_S)
            if done.returncode:
                failed.append(program)
        except subprocess.TimeoutExpired:
            failed.append(program)
    print(f"== bench.check, after {time.monotonic() - began:.0f} s", flush=True)
    if subprocess.run([sys.executable, "-m", "bench.check"], check=False, timeout=_TIMEOUT_S).returncode:
        failed.append("bench.check")
    print(f"all of it: {time.monotonic() - began:.0f} s" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
