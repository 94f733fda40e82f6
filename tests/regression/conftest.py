"""A fresh mint for each test that asks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.house import House, Purse, house


@pytest.fixture
async def bank() -> AsyncIterator[House]:
    async with house() as running:
        yield running


@pytest.fixture
def purse(bank: House) -> Purse:
    return Purse(bank)
