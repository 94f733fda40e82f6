"""A test whose component is missing is counted at the end of a run, and fails where components are required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.components import skipped_by_component

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest
from tests.support.components import missing_component

def test_one():
    missing_component("anvil", "ask the smith")

def test_two():
    missing_component("anvil", "ask the smith")

def test_other():
    pytest.skip("for another reason")
"""


def _run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_sample.py").write_text(TESTS)
    (folder / "conftest.py").write_text("from tests.conftest import pytest_terminal_summary\n")
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SPECIE_", "PYTEST_", "COV"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(folder / "pytest.ini"), str(folder)]
    return subprocess.run(command, cwd=folder, env=kept | environment, capture_output=True, text=True, timeout=60, check=False)


def test_missing_components_are_counted_by_name(tmp_path: Path) -> None:
    """Two tests without an anvil: skipped, and the end of the run says so; other skips are not counted as such."""
    done = _run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "skipped for want of a component" in done.stdout
    assert "anvil: 2 not run" in done.stdout


def test_required_components_may_not_be_missing(tmp_path: Path) -> None:
    """With SPECIE_REQUIRE_COMPONENTS=1 the same tests fail; what is skipped for another reason still may be."""
    done = _run(tmp_path, SPECIE_REQUIRE_COMPONENTS="1")
    assert done.returncode == 1
    assert "2 failed, 1 skipped" in done.stdout
    assert "component anvil is missing: ask the smith" in done.stdout


@pytest.mark.parametrize(
    ("reason", "counts"),
    [("Skipped: component postgres is missing: none", {"postgres": 1}), ("Skipped: an inline store has one body", {})],
)
def test_only_components_are_counted(reason: str, counts: dict[str, int]) -> None:
    """The reason's form decides, with pytest's own words before it."""
    assert skipped_by_component([reason]) == counts
