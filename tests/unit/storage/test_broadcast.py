"""Notices between the bodies and the listeners of one process."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from specie.storage.adapters.broadcast import Broadcast


async def test_each_listener_of_the_channel_hears_in_order() -> None:
    """Everything since the listener was made, nothing from before, nothing of other channels."""
    broadcast = Broadcast(10)
    broadcast.publish("news", "before")
    one, two, other = broadcast.listen("news"), broadcast.listen("news"), broadcast.listen("other")
    for notice in ("a", "b"):
        broadcast.publish("news", notice)
    assert [await anext(one), await anext(one)] == ["a", "b"]
    assert [await anext(two), await anext(two)] == ["a", "b"]
    broadcast.close()
    with pytest.raises(StopAsyncIteration):
        await anext(other)


async def test_a_waiting_listener_is_woken_from_its_loop_and_from_a_thread() -> None:
    """A listener that waits hears what is published on its own loop and on another thread."""
    broadcast = Broadcast(10)
    listener = broadcast.listen("news")
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    broadcast.publish("news", "here")
    broadcast.publish("news", "next")
    assert await waiting == "here"
    assert await anext(listener) == "next"
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    thread = threading.Thread(target=broadcast.publish, args=("news", "there"))
    thread.start()
    assert await asyncio.wait_for(waiting, 10) == "there"
    thread.join()


async def test_the_oldest_is_lost_first() -> None:
    """A bounded queue keeps the newest."""
    broadcast = Broadcast(2)
    listener = broadcast.listen("news")
    for number in range(5):
        broadcast.publish("news", str(number))
    assert [await anext(listener), await anext(listener)] == ["3", "4"]


async def test_a_listener_that_was_cancelled_hears_on() -> None:
    """Giving up one wait loses nothing."""
    broadcast = Broadcast(10)
    listener = broadcast.listen("news")
    waiting = asyncio.ensure_future(anext(listener))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    broadcast.publish("news", "later")
    assert await anext(listener) == "later"


async def test_leaving_and_being_forgotten() -> None:
    """A closed listener ends its loop, even one that waits; one that nobody holds is no longer kept."""
    broadcast = Broadcast(10)
    listener = broadcast.listen("news")
    waiting = asyncio.ensure_future(anext(listener, "ended"))
    await asyncio.sleep(0)
    await listener.aclose()
    assert await waiting == "ended"
    broadcast.publish("news", "unheard")
    assert [notice async for notice in listener] == []
    del listener
    gc.collect()
    assert len(broadcast._listeners["news"]) == 0


def test_a_loop_that_is_gone_is_no_error() -> None:
    """Publishing to a listener whose loop was closed while it waited does nothing."""
    broadcast = Broadcast(10)
    listener = broadcast.listen("news")
    loop = asyncio.new_event_loop()
    step = listener.__anext__().__await__()
    loop.call_soon(lambda: next(step))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    broadcast.publish("news", "late")
    step.close()
