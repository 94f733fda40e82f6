"""WebSockets (NUT-17): the answer first, then the present state, then news; and bounds on everything."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from specie.ecash import MintQuoteRequest, MintRequest, SwapRequest, y
from specie.kernel import Limits, UnavailableError
from specie.ops.settings import RateSettings, ServerSettings
from specie.server import subscriptions
from tests.support.coins import public_key


class Wire:
    """The wallet's side of a socket, without a network."""

    def __init__(self, app, address: str = "127.0.0.1", path: str = "/v1/ws") -> None:
        self._in: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.out: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.stuck = asyncio.Event()
        self.stuck.set()
        scope = {"type": "websocket", "path": path, "headers": [], "client": (address, 1), "scheme": "ws", "subprotocols": []}
        self._in.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(app(scope, self._in.get, self._take))

    async def _take(self, message) -> None:
        if message["type"] == "websocket.send":
            await self.stuck.wait()
        await self.out.put(message)

    async def event(self) -> dict[str, Any]:
        async with asyncio.timeout(5):
            return await self.out.get()

    async def accepted(self) -> Wire:
        assert (await self.event())["type"] == "websocket.accept"
        return self

    def say(self, text: str | bytes) -> None:
        self._in.put_nowait({"type": "websocket.receive", "text" if isinstance(text, str) else "bytes": text})

    def ask(self, method: str, request_id: Any, **params: Any) -> None:
        self.say(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": request_id}))

    async def hear(self) -> dict[str, Any]:
        return json.loads((await self.event())["text"])

    async def leave(self) -> None:
        self._in.put_nowait({"type": "websocket.disconnect", "code": 1000})
        async with asyncio.timeout(5):
            await self.task

    async def silent(self) -> bool:
        for _ in range(50):
            await asyncio.sleep(0)
        return self.out.empty()


async def quote_of(served, amount: int = 8):
    return await served.house.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", amount))


async def test_a_quote_is_followed_from_unpaid_to_issued(served):
    """Answer, UNPAID, PAID, ISSUED: in this order, each once; nothing after unsubscribing."""
    quote = await quote_of(served)
    wire = await Wire(served.app).accepted()
    wire.ask("subscribe", 7, kind="bolt11_mint_quote", subId="s", filters=[quote.quote, quote.quote])
    assert await wire.hear() == {"jsonrpc": "2.0", "result": {"status": "OK", "subId": "s"}, "id": 7}
    first = await wire.hear()
    assert (first["method"], first["params"]["subId"]) == ("subscribe", "s")
    assert (first["params"]["payload"]["quote"], first["params"]["payload"]["state"]) == (quote.quote, "UNPAID")
    assert await wire.silent()
    await served.house.pay(quote)
    assert (await wire.hear())["params"]["payload"]["state"] == "PAID"
    outputs = served.purse.outputs([8])
    await served.house.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages))
    assert (await wire.hear())["params"]["payload"]["state"] == "ISSUED"
    wire.ask("unsubscribe", "text id", subId="s")
    assert (await wire.hear())["id"] == "text id"
    assert await wire.silent()
    await wire.leave()


async def test_coins_and_payments_are_followed(served):
    """proof_state carries one state; a melt quote comes to PAID; parameters as text are read."""
    coins = await served.purse.mint(40)
    target = await quote_of(served, 21)
    melt = await served.purse.melt_quote(target.request)
    wire = await Wire(served.app).accepted()
    params = json.dumps({"kind": "bolt11_melt_quote", "subId": "m", "filters": [melt.quote]})
    wire.say(json.dumps({"jsonrpc": "2.0", "method": "subscribe", "params": params, "id": 1}))
    assert (await wire.hear())["id"] == 1
    assert (await wire.hear())["params"]["payload"]["state"] == "UNPAID"
    wire.ask("subscribe", 2, kind="proof_state", subId="p", filters=[y(coin).hex() for coin in coins])
    assert (await wire.hear())["id"] == 2
    assert {(await wire.hear())["params"]["payload"]["state"] for _ in coins} == {"UNSPENT"}
    await served.purse.melt(melt, coins, blanks=5)
    seen = set()
    while not {"m PAID", "p SPENT"} <= seen:
        news = (await wire.hear())["params"]
        seen.add(f"{news['subId']} {news['payload']['state']}")
    await wire.leave()


async def test_a_swap_tells_each_watcher_once(served):
    """Two sockets watch one coin: each hears SPENT, from one reading."""
    (coin,) = await served.purse.mint(8)
    wires = [await Wire(served.app).accepted() for _ in range(2)]
    for wire in wires:
        wire.ask("subscribe", 1, kind="proof_state", subId="p", filters=[y(coin).hex()])
        await wire.hear()
        assert (await wire.hear())["params"]["payload"]["state"] == "UNSPENT"
    await served.house.mint.swap(SwapRequest((coin,), served.purse.outputs([8]).messages))
    for wire in wires:
        assert (await wire.hear())["params"]["payload"] == {"Y": y(coin).hex(), "state": "SPENT", "witness": None}
        assert await wire.silent()
        await wire.leave()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", -32700),
        ("[]", -32600),
        ('{"method":"shout","id":3}', -32601),
        ('{"method":"subscribe","params":{"subId":"a","kind":"gossip","filters":["x"]},"id":3}', -32602),
        ('{"method":"subscribe","params":{"subId":"a","kind":"proof_state","filters":["zz"]},"id":3}', -32602),
        ('{"method":"subscribe","params":{"subId":"a","kind":"proof_state","filters":[]},"id":3}', -32602),
        ('{"method":"subscribe","params":{"subId":"a","kind":"bolt11_mint_quote","filters":["no such quote"]},"id":3}', -32602),
        ('{"method":"subscribe","params":{"subId":"a","kind":"bolt12_mint_quote","filters":["no such quote"]},"id":3}', -32602),
        ('{"method":"unsubscribe","params":{"subId":"nobody"},"id":3}', -32602),
    ],
)
async def test_what_cannot_be_done_is_answered_with_an_error(served, message, code):
    """Never silence, never a closed socket; the next message is taken."""
    wire = await Wire(served.app).accepted()
    wire.say(message)
    answer = await wire.hear()
    assert answer["error"]["code"] == code
    assert answer["id"] == (3 if code not in (-32700, -32600) else None)
    quote = await quote_of(served)
    wire.say(json.dumps({"method": "subscribe", "id": 4, "params": {"kind": "bolt11_mint_quote", "subId": "b",
                                                                  "filters": [quote.quote]}}).encode())  # fmt: skip
    assert (await wire.hear())["result"]["subId"] == "b"
    await wire.leave()


async def test_bounds_of_one_socket(served):
    """Subscriptions, filters, a subId twice, and the length of a message."""
    served.rebuild(limits=Limits(subscriptions=1, filters=2))
    quote = await quote_of(served)
    wire = await Wire(served.app).accepted()
    wire.ask("subscribe", 1, kind="bolt11_mint_quote", subId="a", filters=[quote.quote])
    await wire.hear()
    await wire.hear()
    wire.ask("subscribe", 2, kind="bolt11_mint_quote", subId="a", filters=[quote.quote])
    assert "in use" in (await wire.hear())["error"]["message"]
    wire.ask("subscribe", 3, kind="bolt11_mint_quote", subId="b", filters=[quote.quote])
    assert (await wire.hear())["error"]["code"] == -32000
    wire.ask("subscribe", 4, kind="bolt11_mint_quote", subId="c", filters=["1", "2", "3"])
    assert (await wire.hear())["error"]["code"] == -32602
    wire.say("x" * 70_000)
    assert await wire.event() == {"type": "websocket.close", "code": 1009, "reason": ""}
    async with asyncio.timeout(5):
        await wire.task


async def test_a_socket_watches_a_bounded_number_of_things(served):
    """All filters of a socket count together, each subscription's once; letting go makes room."""
    served.rebuild(limits=Limits(array_length=3, filters=2))
    wire = await Wire(served.app).accepted()
    keys = [public_key(number).hex() for number in range(4)]
    wire.ask("subscribe", 1, kind="proof_state", subId="a", filters=[keys[0], keys[1]])
    for _ in range(3):
        await wire.hear()
    wire.ask("subscribe", 2, kind="proof_state", subId="b", filters=[keys[2], keys[3]])
    assert (await wire.hear())["error"]["code"] == -32000
    wire.ask("subscribe", 3, kind="proof_state", subId="b", filters=[keys[2], keys[2]])
    for _ in range(2):
        await wire.hear()
    wire.ask("unsubscribe", 4, subId="a")
    await wire.hear()
    wire.ask("subscribe", 5, kind="proof_state", subId="c", filters=[keys[0], keys[1]])
    assert (await wire.hear())["result"]["subId"] == "c"
    await wire.leave()


async def test_bounds_of_all_sockets(served):
    """So many in all, so many of one peer, so many messages a minute; a wrong path is refused."""
    served.rebuild(settings=ServerSettings(sockets=2, sockets_per_peer=1))
    far = await Wire(served.app, "203.0.113.9").accepted()
    assert (await Wire(served.app, "203.0.113.9").event())["type"] == "websocket.close"
    near = await Wire(served.app).accepted()
    assert (await Wire(served.app).event())["type"] == "websocket.close"
    await near.leave()
    near = await Wire(served.app).accepted()
    await far.leave()
    await (await Wire(served.app, "203.0.113.9").accepted()).leave()
    assert (await Wire(served.app, path="/v1/other").event())["type"] == "websocket.close"
    await near.leave()
    served.rebuild(settings=ServerSettings(rate=RateSettings(requests_per_minute=1, burst=2)))
    far = await Wire(served.app, "203.0.113.9").accepted()
    for code in (-32602, -32000):
        far.ask("unsubscribe", 1, subId="x")
        assert (await far.hear())["error"]["code"] == code
    await far.leave()


async def test_an_idle_socket_is_closed(served):
    """Nothing said and nothing told for long enough."""
    served.rebuild(settings=ServerSettings(socket_idle_s=1.0))
    served.house.clock.skip(1)
    wire = Wire(served.app)
    await wire.accepted()
    real_sleep = served.house.clock.sleep

    async def sleep(seconds: float) -> None:
        served.house.clock.skip(seconds)
        await real_sleep(0)

    served.house.clock.sleep = sleep
    wire = await Wire(served.app).accepted()
    assert await wire.event() == {"type": "websocket.close", "code": 1001, "reason": ""}
    served.house.clock.sleep = real_sleep


async def test_a_peer_that_does_not_read_is_let_go(served, monkeypatch):
    """Its queue is bounded, and nobody else waits for it."""
    monkeypatch.setattr(subscriptions, "_QUEUE", 3)
    wire = await Wire(served.app).accepted()
    wire.stuck.clear()
    for index in range(10):
        wire.ask("unsubscribe", index, subId="x")
    assert await wire.event() == {"type": "websocket.close", "code": 1013, "reason": ""}
    async with asyncio.timeout(5):
        await wire.task


async def test_a_store_that_is_away_is_an_error_and_not_an_end(served):
    """Reading fails for now: the wallet is told, and may ask again on the same socket."""
    failing = True

    class Sometimes:
        def __getattr__(self, name):
            return getattr(served.house.mint, name)

        async def mint_quote(self, quote_id, method):
            if failing:
                raise UnavailableError("store is away")
            return await served.house.mint.mint_quote(quote_id, method)

    served.rebuild(mint=Sometimes())
    quote = await quote_of(served)
    wire = await Wire(served.app).accepted()
    wire.ask("subscribe", 1, kind="bolt11_mint_quote", subId="a", filters=[quote.quote])
    assert (await wire.hear())["error"] == {"code": -32603, "message": "not possible now"}
    failing = False
    wire.ask("subscribe", 2, kind="bolt11_mint_quote", subId="a", filters=[quote.quote])
    assert "result" in await wire.hear()
    assert (await wire.hear())["params"]["payload"]["state"] == "UNPAID"
    assert await wire.silent()
    failing = True
    await served.house.pay(quote)
    assert await wire.silent()
    failing = False
    served.app._hub._look_at_all()
    assert (await wire.hear())["params"]["payload"]["state"] == "PAID"
    await wire.leave()
    assert len(served.app._hub) == 0


async def test_an_interrupted_stream_of_changes_is_taken_up_again(served):
    """The store's notices end or fail: everything watched is looked at again, so no change is lost."""
    outages = ["fail", "end"]

    class Interrupted:
        def __getattr__(self, name):
            return getattr(served.house.mint, name)

        async def changes(self):
            if outages:
                await served.house.pay(quote) if outages[0] == "fail" else None
                if outages.pop(0) == "fail":
                    raise UnavailableError("connection lost")
                return
            async for change in served.house.mint.changes():
                yield change

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(0 if seconds < 10 else 3600)

    quote = await quote_of(served)
    served.house.clock.sleep = sleep
    served.rebuild(mint=Interrupted())
    wire = await Wire(served.app).accepted()
    wire.ask("subscribe", 1, kind="bolt11_mint_quote", subId="a", filters=[quote.quote])
    assert "result" in await wire.hear()
    assert (await wire.hear())["params"]["payload"]["state"] == "UNPAID"
    assert (await wire.hear())["params"]["payload"]["state"] == "PAID"
    while outages:
        await asyncio.sleep(0)
    await served.house.mint.issue(MintRequest("bolt11", quote.quote, served.purse.outputs([8]).messages))
    assert (await wire.hear())["params"]["payload"]["state"] == "ISSUED"
    assert "changes_interrupted" in served.log.getvalue()
    await wire.leave()


async def test_what_is_watched_is_looked_at_again_in_time(served):
    """A notice that never came costs half a minute and nothing else."""
    quote = await quote_of(served)

    class Deaf:
        def __getattr__(self, name):
            return getattr(served.house.mint, name)

        async def changes(self):
            await asyncio.Event().wait()
            yield

    woken = asyncio.Event()

    async def sleep(seconds: float) -> None:
        if seconds == subscriptions._RESYNC_S:
            await woken.wait()
            woken.clear()
        else:
            await asyncio.sleep(3600)

    served.house.clock.sleep = sleep
    served.rebuild(mint=Deaf())
    wire = await Wire(served.app).accepted()
    wire.ask("subscribe", 1, kind="bolt11_mint_quote", subId="a", filters=[quote.quote])
    await wire.hear()
    await wire.hear()
    await served.house.pay(quote)
    assert await wire.silent()
    woken.set()
    assert (await wire.hear())["params"]["payload"]["state"] == "PAID"
    await wire.leave()


async def test_the_lifespan_protocol_is_spoken(served):
    """Servers that insist on it get their answers."""
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message["type"])

    await served.app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
