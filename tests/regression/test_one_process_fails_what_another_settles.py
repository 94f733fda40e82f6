"""The mistake: a wallet's process calls an operation failed that another one has carried out, and what it brought is lost.

Two commands run on one wallet. The first cannot reach the mint; the second takes up what it finds open, and reaches it. The
first then says "never sent", which is true of itself alone: the coins that the mint signed for the second must be kept.
"""

from __future__ import annotations

import asyncio

import pytest

from specie.kernel import UnavailableError
from specie.wallet import HTLC
from tests.support.wallets import SETTINGS, virtually, world

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
AWAY = UnavailableError("no connection")


@virtually
@pytest.mark.parametrize("locked", [False, True])
async def test_what_the_other_process_was_given_is_kept(locked: bool) -> None:
    """The first fails the operation after the second was answered and before it has written that down: nothing is lost."""
    async with world() as w:
        first = await w.wallet(words=WORDS)
        await w.fund(first, 100)
        second = await w.wallet(first._context.storage, words=WORDS, trusted=False)  # type: ignore[arg-type]
        other = await w.wallet()
        sent, failed = asyncio.Event(), asyncio.Event()
        honest = w.client.swap
        tries = 0

        async def swap(request: bytes) -> object:
            nonlocal tries
            tries += 1
            if tries == SETTINGS.retry.attempts:  # the first process's last try: meanwhile the second got through
                task = asyncio.ensure_future(second.resume())
                tasks.append(task)
                await sent.wait()
                raise AWAY
            if tries > SETTINGS.retry.attempts:
                answer = await honest(request)
                sent.set()
                await failed.wait()
                return answer
            raise AWAY

        tasks: list[asyncio.Future[object]] = []
        w.client.swap = swap  # type: ignore[method-assign, assignment]
        lock = HTLC("11" * 32, locktime=w.clock.now() + 10, refund=(await first.p2pk_key(),)) if locked else None
        with pytest.raises(UnavailableError):
            await first.send(37, lock=lock)
        failed.set()
        await asyncio.gather(*tasks)
        w.client.swap = honest  # type: ignore[method-assign]
        w.clock.skip(20)
        await w.books_hold(first)
        for token in await first.tokens():
            await first.reclaim(token.text)
        await first.resume()
        await first.send(50)
        await first.check_pending()
        await w.books_hold(first, other)
