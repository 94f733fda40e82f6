"""A bank with its HTTP faces in one process, without sockets."""

from __future__ import annotations

import pytest

from tests.support.served import serving


@pytest.fixture
async def served():
    """A running mint with two hooks for an operator, and an app over it."""
    async with serving() as bank:
        yield bank
