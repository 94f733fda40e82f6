"""Components that tests need and a machine may lack: PostgreSQL, the peers of the interop tests.

A test without its component is skipped aloud and counted at the end of the run. With SPECIE_REQUIRE_COMPONENTS=1 (continuous
integration sets it) it fails instead, so that nothing is skipped there by mistake.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

__all__ = ["missing_component", "skipped_by_component"]

VARIABLE = "SPECIE_REQUIRE_COMPONENTS"
_REASON = re.compile(r"component (\S+) is missing: ")


def missing_component(name: str, reason: str) -> NoReturn:
    """Skip the test that asks, or fail it where every component is required; `reason` says how to get it."""
    text = f"component {name} is missing: {reason}"
    if os.environ.get(VARIABLE) == "1":
        pytest.fail(f"{text} ({VARIABLE}=1)", pytrace=False)
    pytest.skip(text)


def skipped_by_component(reasons: Iterable[str]) -> Counter[str]:
    """How many of these reasons of skipped tests name each component."""
    return Counter(found.group(1) for reason in reasons if (found := _REASON.search(reason)))
