"""The simulator over many seeds: `python -m tests.sim.soak --seeds 10000 --jobs 2`. Bounded; prints every seed that fails."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.sim.world import play


def attempt(seed: int, steps: int) -> tuple[int, int, str]:
    """Play one seed; its kills, and what went wrong ('' if nothing)."""
    try:
        return seed, play(seed, steps).kills, ""
    except BaseException as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        return seed, 0, f"{type(error).__name__}: {error}\n{notes}"


def main() -> int:
    """Play the seeds; 1 if any failed."""
    parser = argparse.ArgumentParser(description="Play many simulated worlds.")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many seeds to play (10,000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--steps", type=int, default=40, help="steps of each world (40)")
    parser.add_argument("--jobs", type=int, default=2, help="processes that play (2)")
    options = parser.parse_args()
    started, kills, failed, done = time.monotonic(), 0, 0, 0
    with ProcessPoolExecutor(options.jobs) as pool:
        waiting = [pool.submit(attempt, seed, options.steps) for seed in range(options.first, options.first + options.seeds)]
        for one in as_completed(waiting):
            seed, killed, trouble = one.result()
            done += 1
            kills += killed
            if trouble:
                failed += 1
                print(f"seed {seed} failed: {trouble}", flush=True)
            if done % 100 == 0:
                print(f"{done} worlds, {kills} kills, {failed} failed, {time.monotonic() - started:.0f} s", flush=True)
    print(f"soak: {done} worlds, {kills} kills, {failed} failed in {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
