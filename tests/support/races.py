"""A race: things at once over one thing, of which at most so many may succeed, and a judge of what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from specie.kernel import SpecieError

__all__ = ["Contestant", "Race", "check", "late", "nothing"]

Contestant = Callable[[], Awaitable[Any]]


@dataclass
class Race:
    """Contestants, of which `most` may succeed, and what must hold afterwards."""

    contestants: list[Contestant]
    most: int
    judge: Callable[[list[Any]], Awaitable[None]]
    least: int = 0
    """How many succeed at least, whatever the order."""


async def nothing(results: list[Any]) -> None:
    return None


async def late(delay: int, run: Contestant) -> Any:
    await asyncio.sleep(delay / 100)
    return await run()


def check(race: Race, results: list[Any]) -> None:
    for one in results:
        assert not isinstance(one, BaseException) or isinstance(one, SpecieError), repr(one)
    won = sum(not isinstance(one, BaseException) for one in results)
    assert race.least <= won <= race.most, results
