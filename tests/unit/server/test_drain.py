"""What a stop tells its peers, on real sockets: no request fails that was sent in good faith."""

from __future__ import annotations

import asyncio

import httpx2
import pytest

from tests.unit.server.test_run import running

pytestmark = pytest.mark.network


async def test_peers_on_open_connections_are_told_to_leave(served):
    """A request on a connection from before the stop is answered, and with it the connection ends."""
    async with running(served) as (listening, stop, task), httpx2.AsyncClient(base_url=listening.url) as client:
        first = await client.get("/livez")
        assert "connection" not in first.headers
        stop.set()
        await asyncio.sleep(0.1)
        last = await client.get("/livez")
        assert (last.status_code, last.headers["connection"]) == (200, "close")
        async with asyncio.timeout(5):
            await task
        with pytest.raises(httpx2.ConnectError):
            await client.get("/livez")


async def test_an_answer_under_way_ends_its_connection(served):
    """A request that was being worked on when the stop began is told so too."""
    entered, held = asyncio.Event(), asyncio.Event()

    class Slow:
        def __getattr__(self, name):
            return getattr(served.house.mint, name)

        async def check_state(self, ys):
            entered.set()
            await held.wait()
            return []

    served.rebuild(mint=Slow())
    async with running(served) as (listening, stop, _), httpx2.AsyncClient(base_url=listening.url) as client:
        request = asyncio.create_task(client.post("/v1/checkstate", content=b'{"Ys":[]}'))
        await entered.wait()
        stop.set()
        await asyncio.sleep(0.1)
        held.set()
        answer = await request
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")


async def test_new_connections_are_taken_until_a_balancer_has_noticed(served):
    """With `accept_s` the bank says on /readyz that it goes, and still takes what comes for that long; then nothing."""
    async with running(served, accept_s=1.0) as (listening, stop, task):
        served.context.health.drain()
        stop.set()
        await asyncio.sleep(0.2)
        async with httpx2.AsyncClient(base_url=listening.url) as late:
            answer = await late.get("/v1/info")
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert (await late.get("/readyz")).status_code == 503
        async with asyncio.timeout(5):
            await task
        async with httpx2.AsyncClient(base_url=listening.url) as later:
            with pytest.raises(httpx2.ConnectError):
                await later.get("/livez")


async def test_a_quiet_connection_holds_a_stop_for_a_moment_only(served):
    """A peer that never asks again is let go of after a second or so."""
    loop = asyncio.get_running_loop()
    async with running(served) as (listening, stop, task):
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
        began = loop.time()
        stop.set()
        async with asyncio.timeout(5):
            assert await reader.read() == b""
            await task
        assert 0.9 <= loop.time() - began < 4
        writer.close()
