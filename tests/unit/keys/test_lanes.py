"""The signer's lanes: jobs are done together, answered each by itself, and not after the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from specie.keys.adapters.lanes import Lanes
from specie.keys.errors import SignerClosedError


async def test_jobs_that_wait_are_done_together() -> None:
    """While a lane is busy others line up; the next batch takes as many as its weight allows."""
    seen: list[list[int]] = []
    began, go_on = threading.Event(), threading.Event()

    def work(tasks: Sequence[int]) -> list[int]:
        seen.append(list(tasks))
        began.set()
        assert go_on.wait(20)
        return [-task for task in tasks]

    lanes = Lanes(1, 4, work)
    first = lanes.put(0, 1)
    await asyncio.to_thread(began.wait, 20)
    others = [lanes.put(task, 2) for task in range(1, 6)]
    go_on.set()
    assert await asyncio.gather(first, *others) == [0, -1, -2, -3, -4, -5]
    assert seen == [[0], [1, 2], [3, 4], [5]]
    lanes.close()


async def test_a_failure_reaches_everybody_of_its_batch() -> None:
    """Work that raises fails its jobs; the lane goes on."""

    def work(tasks: Sequence[int]) -> list[int]:
        if 13 in tasks:
            raise ArithmeticError("no")
        return list(tasks)

    lanes = Lanes(1, 1, work)
    with pytest.raises(ArithmeticError):
        await lanes.put(13, 1)
    assert await lanes.put(7, 1) == 7
    lanes.close()


async def test_whoever_left_is_not_answered() -> None:
    """A cancelled caller is passed over."""
    go_on = threading.Event()

    def work(tasks: Sequence[int]) -> list[int]:
        assert go_on.wait(20)
        return list(tasks)

    lanes = Lanes(1, 100, work)
    gone = lanes.put(1, 1)
    gone.cancel()
    stays = lanes.put(2, 1)
    go_on.set()
    assert await stays == 2
    lanes.close()


async def test_closing_does_what_waits_and_takes_no_more() -> None:
    """Every job in line is answered; a later one is refused; a second close does nothing; the threads end."""
    lanes: Lanes[int, int] = Lanes(2, 3, list)
    waiting = [lanes.put(task, 1) for task in range(20)]
    lanes.close()
    lanes.close()
    assert await asyncio.gather(*waiting) == list(range(20))
    with pytest.raises(SignerClosedError):
        lanes.put(1, 1)
    for thread in lanes._threads:
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive()


def test_a_loop_that_is_gone_is_nobody() -> None:
    """A job whose loop was closed meanwhile harms nobody."""
    go_on = threading.Event()

    def work(tasks: Sequence[int]) -> list[int]:
        assert go_on.wait(20)
        return list(tasks)

    lanes: Lanes[int, int] = Lanes(1, 1, work)

    async def leave() -> None:
        lanes.put(1, 1)

    asyncio.run(leave())
    go_on.set()
    assert asyncio.run(_asked(lanes)) == 2
    lanes.close()


async def _asked(lanes: Lanes[int, int]) -> int:
    return await lanes.put(2, 1)
