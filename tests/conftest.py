"""Shared by all tests: one event-loop backend, and deterministic entropy and clock."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
