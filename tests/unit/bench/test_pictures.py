"""Pictures and layers: what is drawn is what was measured."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from bench import svg
from bench.layers import LAYERS, WAITING, Sample, by_layer, layer_of, parsed, without_waiting
from bench.record import stem_of

_TAG = "{http://www.w3.org/2000/svg}"


def _widths(text: str, name: str) -> list[float]:
    """Widths of the boxes whose tooltip begins with `name`."""
    found = []
    for box in ElementTree.fromstring(text).iter():
        title = box.find(f"{_TAG}title")
        rect = box.find(f"{_TAG}rect") if box.tag == f"{_TAG}g" else box
        if title is not None and rect is not None and (title.text or "").startswith(name) and rect.get("width"):
            found.append(float(rect.get("width") or 0))
    return found


def test_lines_are_xml_and_grow_upwards() -> None:
    """Names are escaped; a larger value stands higher, which in SVG is a smaller y."""
    text = svg.lines("a <title>", "x", "y", {"one & all": [(1, 10.0), (10, 20.0)]}, log_x=True)
    ElementTree.fromstring(text)
    points = re.search(r"points='([\d.]+),([\d.]+) ([\d.]+),([\d.]+)'", text)
    assert points is not None
    assert float(points[4]) < float(points[2])
    assert float(points[1]) < float(points[3])


def test_parts_of_bars_are_as_long_as_their_values() -> None:
    """Twice the value, twice the length; the sum stands behind the bar."""
    text = svg.bars("t", "us", {"swap": {"curve": 300.0, "store": 150.0}, "mint": {"curve": 75.0}})
    assert _widths(text, "swap: curve")[0] == pytest.approx(2 * _widths(text, "swap: store")[0], rel=0.01)
    assert _widths(text, "mint: curve")[0] == pytest.approx(_widths(text, "swap: store")[0] / 2, rel=0.01)
    assert "450 us" in text


def test_a_flame_graph_adds_up() -> None:
    """A caller is as wide as all it called; stacks with a common beginning share its box."""
    text = svg.flame("t", {("run", "a<b>"): 30, ("run", "c"): 10, ("other",): 40})
    (run,), (a,), (c,) = _widths(text, "run:"), _widths(text, "a<b>:"), _widths(text, "c:")
    assert run == pytest.approx(a + c, abs=0.2)
    assert a == pytest.approx(3 * c, rel=0.01)
    assert "50.0%" in text


def test_pictures_of_nothing_are_refused() -> None:
    """An empty picture would look like a result."""
    for draw in (lambda: svg.lines("t", "x", "y", {}), lambda: svg.bars("t", "us", {}), lambda: svg.flame("t", {})):
        with pytest.raises(ValueError, match="needs"):
            draw()


_MAIN = "thread (7): MainThread;_run (asyncio/events.py:80);swap (specie/mint/engine/swap.py:68);"
_RAW = (
    f"{_MAIN}_checked (btclib_secp256k1/context.py:183) 6\n"
    f"{_MAIN}digest (hmac.py:198) 2\n"
    "thread (8): w;run_thread (specie/storage/adapters/sqlite_thread.py:57) 90\n"
    "thread (8): w;run_thread (specie/storage/adapters/sqlite_thread.py:60);_commit (specie/storage/adapters/sqlite.py:9) 1\n"
)


def test_samples_are_read_with_their_threads() -> None:
    """Thread, frames and count of each line; a line that is none of it is refused, not skipped."""
    samples = parsed(_RAW)
    assert [(sample.thread, sample.count) for sample in samples] == [(7, 6), (7, 2), (8, 90), (8, 1)]
    assert samples[0].frames[-1].startswith("_checked")
    with pytest.raises(ValueError, match="not a line"):
        parsed("swap (swap.py:1) 5\n")


def test_a_stack_belongs_to_its_innermost_known_frame() -> None:
    """A hash inside of the engine is the engine's; waiting for work is nobody's."""
    samples = parsed(_RAW)
    assert layer_of(samples[0].frames) == "curve work and its binding"
    assert layer_of(samples[1].frames) == "engine and rules in Python"
    assert layer_of(samples[2].frames) == WAITING
    assert layer_of(()) == "other"
    assert sum(sample.count for sample in without_waiting(samples)) == 9


def test_a_thread_counts_by_the_time_it_used() -> None:
    """One sample at work of a busy writer outweighs eight of a thread that used little; nothing gets lost."""
    found = by_layer(parsed(_RAW), {7: 0.8, 8: 3.0, 9: 0.2})
    assert found == pytest.approx(
        {
            "curve work and its binding": 0.6,
            "engine and rules in Python": 0.2,
            "store: SQL, driver and disk": 3.0,
            "other": 0.2,
        }
    )
    assert set(found) <= set(LAYERS)
    assert by_layer([Sample(1, (), 1)], {}) == {}


def test_files_of_a_run_sort_by_date() -> None:
    """No separators that a file system minds."""
    assert stem_of("2026-11-25T03:21:00Z", "history") == "20261125T032100Z-history"
    assert stem_of("2026-11-25T03:21:00Z", "") == "20261125T032100Z"
