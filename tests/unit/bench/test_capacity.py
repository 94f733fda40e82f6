"""The capacity model is the arithmetic that docs/scale.md prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.capacity import Assumptions, Constants, model

VERBS = ("swap", "mint_quote", "mint", "melt_quote", "melt", "checkstate")
ONE = Constants(
    cpu_us=dict.fromkeys(VERBS, 1000.0),
    store_cpu_us=dict.fromkeys(VERBS, 500.0),
    written_bytes=dict.fromkeys(VERBS, 10_000.0),
    log_bytes=dict.fromkeys(VERBS, 1000.0),
    commits=dict.fromkeys(VERBS, 0.25),
    row_bytes={"mint_proof": 100.0, "mint_output": 100.0},
)
USERS = Assumptions(users=86_400, swaps=4, mints=1, melts=1, states=2, coins=4, peak=3, busy=0.5)


def test_by_hand() -> None:
    """One user a second: ten requests a second, thirty at the peak, and what they cost."""
    found = model(ONE, USERS)
    assert found["requests_per_s_mean"] == pytest.approx(10)
    assert found["requests_per_s_peak"] == pytest.approx(30)
    assert found["worker_cores"] == pytest.approx(30 * 0.001 / 0.5)
    assert found["database_cores"] == pytest.approx(30 * 0.0005 / 0.5)
    assert found["log_gb_per_day"] == pytest.approx(86_400 * 10 * 1000 / 1e9)
    assert found["flushes_per_s_peak"] == pytest.approx(30 * 0.25)
    rows = (4 * 4 + 4) + (4 * 4 + 4 + 1)
    assert found["page_iops_peak_uncached"] == pytest.approx(2 * rows * 3)
    assert found["disk_gb_per_day"] == pytest.approx(rows * 100 * 86_400 / 1e9)


def test_twice_the_coins_cost_twice_the_swap() -> None:
    """What a swap costs goes with its coins; what the other verbs cost does not."""
    small, large = model(ONE, USERS), model(ONE, Assumptions(86_400, 4, 1, 1, 2, 8, 3, 0.5))
    assert large["worker_cores"] - small["worker_cores"] == pytest.approx(4 * 3 * 0.001 / 0.5)
    assert large["requests_per_s_peak"] == small["requests_per_s_peak"]


def test_the_page_prints_the_assumptions_of_the_program() -> None:
    """docs/scale.md has each default, and a model of a million users that adds up with its own constants."""
    page = (Path(__file__).resolve().parents[3] / "docs" / "scale.md").read_text()
    defaults = Assumptions(1_000_000)
    for name in ("swaps", "mints", "melts", "states", "coins", "peak", "busy"):
        row = re.search(rf"^\| `{name}` \| ([0-9.]+) \|", page, re.MULTILINE)
        assert row is not None, name
        assert float(row[1]) == getattr(defaults, name)
    peak = re.search(r"^\| requests per s peak +\| +(\d+) \|", page, re.MULTILINE)
    assert peak is not None
    assert float(peak[1]) == pytest.approx(model(ONE, defaults)["requests_per_s_peak"], abs=0.5)
