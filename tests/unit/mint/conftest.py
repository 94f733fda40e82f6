"""A fresh mint for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from tests.support.house import House, Purse, house
from tests.support.virtual import run_virtual


@pytest.fixture
async def bank() -> AsyncIterator[House]:
    async with house() as running:
        yield running


@pytest.fixture
def purse(bank: House) -> Purse:
    return Purse(bank)


@pytest.fixture
def virtual() -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    """Runs a story on virtual time."""
    return lambda story: run_virtual(story())
