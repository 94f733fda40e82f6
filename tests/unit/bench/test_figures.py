"""The benchmark's arithmetic: wrong percentiles would be believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.bank import BenchError, loopback_checked
from bench.client import request_bytes
from bench.figures import median_of, names_checked, numbers_checked, percentile, short, summary_of, table
from bench.machine import flush_times_us
from bench.report import floor_share, load_rows


def test_percentiles_are_values_that_were_measured() -> None:
    """Nearest rank: p50 of four is the second, p99 of a hundred the ninety-ninth, p100 the last."""
    assert percentile([1, 2, 3, 4], 0.5) == 2
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99
    assert percentile([1, 2, 3], 1.0) == 3
    assert percentile([7], 0.0) == 7


@given(st.lists(st.floats(0, 1e6), min_size=1).map(sorted), st.floats(0, 1))
def test_at_least_that_share_is_at_or_below_a_percentile(values: list[float], share: float) -> None:
    """The definition, for any values and any share."""
    mark = percentile(values, share)
    assert mark in values
    assert sum(value <= mark for value in values) >= share * len(values) - 1e-6


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5), ([1.0], -0.1)])
def test_a_percentile_of_nothing_is_refused(values: list[float], share: float) -> None:
    """No values or a share out of range raise, they do not give zero."""
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_medians_leave_out_what_a_repetition_lacks() -> None:
    """A repetition without any answer has no latency; it must not count as latency zero."""
    assert median_of([{"rps": 1.0, "p50": 5.0}, {"rps": 3.0}, {"rps": 2.0, "p50": 7.0}]) == {"rps": 2.0, "p50": 6.0}


def test_a_summary_keeps_every_error() -> None:
    """Medians of figures, the sum of errors; rows that count none get none."""
    assert summary_of([{"rps": 1.0, "errors": 0}, {"rps": 3.0, "errors": 7}, {"rps": 2.0, "errors": 0}]) == {
        "rps": 2.0,
        "errors": 7,
    }
    assert summary_of([{"rps": 1.0}]) == {"rps": 1.0}


def test_names_and_numbers_of_the_command_line() -> None:
    """Known names keep the order of the house; anything unknown or out of range is refused."""
    assert names_checked("c, a", ["a", "b", "c"]) == ["a", "c"]
    assert numbers_checked("64,1,64", 1, 512) == [64, 1]
    for wrong in ("a,x", ""):
        with pytest.raises(ValueError, match="choose from"):
            names_checked(wrong, ["a"])
    for wrong in ("0", "1000", "1,x"):
        with pytest.raises(ValueError):
            numbers_checked(wrong, 1, 512)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.01234, "0.0123"), (1.234, "1.23"), (99.94, "99.9"), (12345.6, "12,346"), (1000, "1,000"), ("x", "x")],
)
def test_figures_have_three_digits(value: object, text: str) -> None:
    """Neither noise digits nor lost ones."""
    assert short(value) == text


def test_a_table_is_markdown_with_straight_columns() -> None:
    """All lines of a table are equally long."""
    lines = table(("name", "us"), [["a", 1.0], ["longer", 12345.0]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].startswith("|:--")
    assert "12,345" in lines[3]


@pytest.mark.parametrize("url", ["http://127.0.0.1:3338", "http://[::1]:80", "http://localhost"])
def test_this_machine_is_loaded(url: str) -> None:
    """Loopback in its three spellings."""
    assert loopback_checked(url)[1] in (3338, 80)


@pytest.mark.parametrize(
    "url",
    ["http://192.168.1.1:3338", "http://mint.example", "https://127.0.0.1", "http://127.0.0.1.example", "http://127.0.0.1/x"],
)
def test_no_other_machine_is_loaded(url: str) -> None:
    """A benchmark cannot be pointed at somebody's mint."""
    with pytest.raises(BenchError):
        loopback_checked(url)


def test_requests_say_how_long_they_are() -> None:
    """The bytes on the wire are one complete HTTP/1.1 request."""
    assert request_bytes("GET", "/v1/info") == b"GET /v1/info HTTP/1.1\r\nHost: bench\r\n\r\n"
    assert request_bytes("POST", "/x", b"{}").endswith(b"Content-Length: 2\r\n\r\n{}")


def test_the_share_of_the_floor_is_of_processor_time() -> None:
    """A 4/4 swap that costs 1,600 us where its four pairs need 4 x 200 us has reached half of the floor."""
    assert floor_share("swap4", {"server_cpu_us": 1600.0}, 200.0) == 0.5
    assert floor_share("info", {"server_cpu_us": 1600.0}, 200.0) is None
    assert floor_share("swap4", {"server_cpu_us": 1600.0}, None) is None


def test_rows_tell_medians_and_all_errors() -> None:
    """Errors are summed over repetitions, so that one bad repetition cannot hide behind two good ones."""
    rep = {
        "rps": 10.0,
        "errors": 0,
        "client_cpu": 0.1,
        "server_cpu": 0.9,
        "others_cpu": 0.0,
        "rss_mib": 70.0,
        "server_cpu_us": 900.0,
    }
    head, rows = load_rows({"swap2": {1: [rep, rep | {"rps": 20.0, "errors": 3}, rep | {"rps": 30.0}]}}, 225.0)
    row = dict(zip(head, rows[0], strict=True))
    assert (row["requests/s"], row["min"], row["max"], row["errors"], row["of floor"]) == (20.0, 10.0, 30.0, 3, "50%")


def test_flush_times_are_measured(tmp_path: object) -> None:
    """Ascending and positive."""
    from pathlib import Path

    times = flush_times_us(Path(str(tmp_path)), 3)
    assert len(times) == 3
    assert 0 < times[0] <= times[-1]
