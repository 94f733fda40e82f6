"""A run as two files: JSON with everything, and a page of tables for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.figures import median_of, short, table
from bench.load import PAIRS

__all__ = ["load_rows", "page", "write"]

_HEAD = ("endpoint", "c", "requests/s", "min", "max", "p50 ms", "p90 ms", "p99 ms", "max ms", "errors", "client", "server")
_TAIL = ("others", "RSS MiB", "CPU us", "of floor")


def floor_share(endpoint: str, row: Mapping[str, float], floor_cpu_us: float | None) -> float | None:
    """Share of the server's processor time that the curve itself needs for this swap (1 would be the floor), or None."""
    if endpoint not in PAIRS or not floor_cpu_us or not row.get("server_cpu_us"):
        return None
    return PAIRS[endpoint] * floor_cpu_us / row["server_cpu_us"]


def load_rows(
    figures: Mapping[str, Mapping[int, Sequence[Mapping[str, float]]]], floor_cpu_us: float | None
) -> tuple[list[str], list[list[object]]]:
    """Head and rows of the table of one bank: medians over the repetitions, CPU columns in cores."""
    store = any("store_cpu" in rep for by_c in figures.values() for reps in by_c.values() for rep in reps)
    rows: list[list[object]] = []
    for endpoint, by_concurrency in figures.items():
        for concurrency, reps in sorted(by_concurrency.items()):
            row = median_of(reps)
            rates = [rep["rps"] for rep in reps]
            share = floor_share(endpoint, row, floor_cpu_us)
            rows.append(
                [endpoint, concurrency, row["rps"], min(rates), max(rates)]
                + [row.get(name, 0.0) for name in ("p50_ms", "p90_ms", "p99_ms", "max_ms")]
                + [int(sum(rep["errors"] for rep in reps)), row["client_cpu"], row["server_cpu"]]
                + ([row["store_cpu"]] if store else [])
                + [row["others_cpu"], row["rss_mib"], row.get("server_cpu_us", 0.0), "" if share is None else f"{share:.0%}"]
            )
    return [*_HEAD, *(("store",) if store else ()), *_TAIL], rows


def page(run: Mapping[str, Any]) -> str:
    """The run for people, in Markdown."""
    machine = run["machine"]
    lines = [f"# Benchmark of {run['date']}", ""]
    lines.append(f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}; ")
    flush = machine["flush_us"]
    lines.append(
        f"disk: {machine['filesystem']}, 4 KiB durable in {short(flush['median'])} us (median; at most {short(flush['max'])}); "
        f"load average at the start {machine['load_average'][0]}; commit {machine['revision']}."
    )
    lines.append(", ".join(f"{name} {version}" for name, version in machine["versions"].items()) + ".")
    lines += ["", "Options: `" + " ".join(f"{name}={value}" for name, value in run["options"].items()) + "`", ""]
    lines += ["## Floor", "", "Curve work alone; one pair is a coin in and a coin out with DLEQ, in constant time.", ""]
    rows = [
        [f"{floor['what']}, {floor['when']}", floor["threads"], floor["pairs_per_s"], floor["pairs_per_s"] / 4, floor["cpu_us"]]
        for floor in run["floor"]
    ]
    lines += [table(("floor", "threads", "pairs/s", "4/4 swaps/s", "CPU us a pair"), rows), ""]
    if run["floor_missing"]:
        lines += [f"No floor in C: {run['floor_missing']}.", ""]
    if run["micro"]:
        lines += ["## Parts", "", "In one process, microseconds: the least and the median of several rounds.", ""]
        parts = [[part["name"], part["per"], part["least_us"], part["median_us"]] for part in run["micro"]]
        lines += [table(("part", "per", "least us", "median us"), parts), ""]
    for name, load in run["load"].items():
        lines += [f"## Bank on {name}", ""]
        lines.append(
            f"Up after {load['start_s']:.2f} s. Checked meanwhile: " + ", ".join(f"{k} {v}" for k, v in load["checks"].items())
        )
        lines += ["", table(*load_rows(load["figures"], run["floor_cpu_us"])), ""]
        lines += [f"- {endpoint}: {sample}" for endpoint, sample in load["error_samples"].items()]
    lines += [
        "Medians over the repetitions (min and max: of requests/s). client, server, store and others are cores used meanwhile;",
        "`others` is the noise. CPU us: the server's, for a request. of floor: the share of that which the curve needs.",
        "",
        *(f"Note: {note}" for note in run["notes"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def write(run: Mapping[str, Any], directory: Path) -> list[Path]:
    """`<date>.json` and `<date>.md` in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    stem = run["date"].replace(":", "").replace("-", "").removesuffix("Z") + "Z"
    paths = [directory / f"{stem}.json", directory / f"{stem}.md"]
    paths[0].write_text(json.dumps(run, indent=1) + "\n")
    paths[1].write_text(page(run))
    return paths
