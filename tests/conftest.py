"""Shared by all tests: one event-loop backend, one profile of generated tests, and a count of what was not run."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.support.components import skipped_by_component

os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"  # never the keyring of whoever runs the tests
settings.register_profile("specie", deadline=None, derandomize=True, database=None)
settings.load_profile("specie")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped for want of a component, by component."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    counts = skipped_by_component(reasons)
    if not counts:
        return
    terminalreporter.write_sep("=", "skipped for want of a component", yellow=True)
    for name, count in sorted(counts.items()):
        terminalreporter.write_line(f"{name}: {count} not run")
