"""Waits for the mint to have news: by WebSocket where it offers one (NUT-17), by patient polling always.

What a notification says is not believed; it only cuts the wait before the next GET short.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from specie.kernel.errors import PeerFaultError, RefusedError, UnavailableError
from specie.wallet.engine.context import Context
from specie.wallet.engine.methods import offers_news

__all__ = ["wait_until", "within"]

T = TypeVar("T")


async def wait_until(
    ctx: Context,
    mint: str,
    kind: str,
    name: str,
    look: Callable[[], Awaitable[T]],
    done: Callable[[T], bool],
    *,
    timeout_s: float | None,
) -> T | None:
    """Look until `done`; the last look, or None where the mint never answered within `timeout_s` (None: no end).

    A mint that is unavailable is asked again; any other error of `look` is raised.
    """
    news = asyncio.Event()
    listener: asyncio.Task[None] | None = None
    deadline = None if timeout_s is None else ctx.clock.monotonic() + timeout_s
    pause, last = ctx.settings.poll_s, None
    try:
        while True:
            with contextlib.suppress(UnavailableError):
                last = await look()
                if done(last):
                    return last
            rest = pause if deadline is None else min(pause, deadline - ctx.clock.monotonic())
            if rest <= 0:
                return last
            if listener is None:
                listener = asyncio.create_task(_listen(ctx, mint, kind, name, news))
            await _nap(ctx, rest, news)
            news.clear()
            pause = min(pause * 1.5, ctx.settings.longest_poll_s)
    finally:
        if listener is not None:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)


async def within(ctx: Context, work: Coroutine[Any, Any, T], seconds: float) -> T | None:
    """What `work` gives; None where it takes longer than `seconds`, and is cancelled then."""
    task = asyncio.ensure_future(work)
    timer = asyncio.ensure_future(ctx.clock.sleep(seconds))
    try:
        await asyncio.wait((task, timer), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for one in (task, timer):
            one.cancel()
        await asyncio.gather(task, timer, return_exceptions=True)


async def _nap(ctx: Context, seconds: float, news: asyncio.Event) -> None:
    tasks = [asyncio.create_task(ctx.clock.sleep(seconds)), asyncio.create_task(_wait_for(news))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_for(news: asyncio.Event) -> None:
    await news.wait()


async def _listen(ctx: Context, mint: str, kind: str, name: str, news: asyncio.Event) -> None:
    """Set `news` at each notification; a connection that ends is made anew, with patience, and tells first how things stand.

    Ends quietly where the mint has no such news, for polling goes on anyway.
    """
    if not offers_news(await ctx.info(mint), kind):
        return
    attempt = 0
    while True:
        try:
            async for _ in ctx.client(mint).watch(kind, name):
                attempt = 0
                news.set()
        except UnavailableError as error:
            ctx.telemetry.event("wallet_watch_ended", mint=mint, reason=error.detail)
        except (RefusedError, PeerFaultError) as error:
            ctx.telemetry.event("wallet_watch_ended", mint=mint, reason=error.detail)
            return
        attempt += 1
        await ctx.clock.sleep(min(ctx.settings.poll_s * 2 ** min(attempt, 10), ctx.settings.longest_poll_s))
