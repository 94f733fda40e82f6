"""NUT-21 and NUT-22 on HTTP and on the WebSocket: nothing is worked on or replayed before authentication."""

from __future__ import annotations

import asyncio
import io
import json

import pytest

from specie.ecash import SwapRequest, wire
from specie.mint import MintSettings
from specie.ops.health import Health
from specie.ops.logging import make_logger
from specie.ops.metrics import Metrics
from specie.ops.settings import LogFormat, LogSettings, ServerSettings
from specie.server import BankFacts, RailFacts, ServerContext, build_app
from tests.support.house import Purse, house
from tests.support.openid import Provider, auth_settings, blind_tokens, outputs_of
from tests.support.served import Served
from tests.support.virtual import VirtualClock
from tests.unit.server.test_subscriptions import Wire

SWAP = "POST /v1/swap"


class Guarded(Served):
    """A served bank whose provider is at hand."""

    provider: Provider

    async def post(self, path: str, body: bytes = b"{}", **headers: str):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client().post(path, content=body, headers=named)


@pytest.fixture
async def guarded(request):
    """A bank that asks for the settings of the test's `auth` mark, else for blind tokens."""
    clock = VirtualClock()
    provider = Provider(clock)
    changes = getattr(request, "param", {})
    settings = MintSettings(auth=auth_settings(**changes))
    async with house(clock=clock, settings=settings, auth_source=provider) as running:
        log = io.StringIO()
        metrics = Metrics(make_logger(LogSettings(format=LogFormat.JSON), log), clock.now, version="9")
        context = ServerContext(
            mint=running.mint,
            facts=BankFacts(version="specie 9", rails=(RailFacts("play", "bolt11", True),)),
            settings=ServerSettings(),
            limits=settings.limits,
            metrics=metrics,
            health=Health(metrics, clock.now, clock.monotonic),
            clock=clock,
            entropy=running.entropy,
            auth=running.mint.auth,
        )
        served = Guarded(running, Purse(running), context, log, build_app(context))
        served.provider = provider
        yield served
        for client in served.clients:
            await client.aclose()
        await served.app.aclose()


def clear(**changes):
    """Clear authentication alone."""
    return pytest.mark.parametrize("guarded", [{"blind_endpoints": (), **changes}], indirect=True)


def code(response) -> int:
    """The NUT error code of an answer, which is always with HTTP 400 (NUT-00)."""
    assert response.status_code == 400, response.text
    found: int = response.json()["code"]
    return found


async def swap_body(guarded, coins=None):
    coins = coins or await guarded.purse.mint(8)
    return wire.swap_request_to_json(SwapRequest(tuple(coins), guarded.purse.outputs([8]).messages))


@clear(clear_endpoints=(SWAP,))
async def test_a_clear_token_opens_what_it_protects(guarded):
    """30001 without, 30002 with a wrong one, and the swap with a right one; other paths ask for nothing."""
    body = await swap_body(guarded)
    assert code(await guarded.post("/v1/swap", body)) == 30001
    assert code(await guarded.post("/v1/swap", body, Clear_auth="x.y.z")) == 30002
    assert code(await guarded.post("/v1/swap", body, Clear_auth=guarded.provider.token(exp=1))) == 30002
    assert (await guarded.post("/v1/swap", body, Clear_auth=guarded.provider.token())).status_code == 200
    assert (await guarded.client().get("/v1/keys")).status_code == 200
    assert (await guarded.client().get("/v1/auth/blind/keys")).status_code == 404


@clear(clear_endpoints=(SWAP,))
async def test_a_provider_that_is_away_is_503(guarded):
    """Not a pass and not a 30002: try again."""
    guarded.provider.away = True
    answer = await guarded.post("/v1/swap", await swap_body(guarded), Clear_auth=guarded.provider.token())
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


@clear(clear_endpoints=(SWAP,))
async def test_a_stored_answer_is_given_to_nobody_who_is_not_let_in(guarded):
    """NUT-19: the swap of before is replayed only to who authenticates again (clear)."""
    body = await swap_body(guarded)
    first = await guarded.post("/v1/swap", body, Clear_auth=guarded.provider.token())
    assert code(await guarded.post("/v1/swap", body)) == 30001
    assert code(await guarded.post("/v1/swap", body, Clear_auth=guarded.provider.token(iss="https://evil"))) == 30002
    again = await guarded.post("/v1/swap", body, Clear_auth=guarded.provider.token())
    assert again.content == first.content


async def test_a_stored_answer_is_given_to_no_one_without_a_blind_token(guarded):
    """NUT-19 before NUT-22: without, or with a spent one, the stored answer stays where it is."""
    one, two = await blind_tokens(guarded.house, 2)
    async with guarded.house.mint.auth.spending((await blind_tokens(guarded.house, 1, seed="m"))[0]):
        body = await swap_body(guarded)
    first = await guarded.post("/v1/swap", body, Blind_auth=one)
    assert first.status_code == 200
    assert code(await guarded.post("/v1/swap", body)) == 31001
    assert code(await guarded.post("/v1/swap", body, Blind_auth=one)) == 31002
    assert code(await guarded.post("/v1/swap", body, Blind_auth="authAe30")) == 31002
    assert (await guarded.post("/v1/swap", body, Blind_auth=two)).content == first.content


async def test_blind_tokens_are_minted_over_http_for_users(guarded):
    """The routes of NUT-22, a login for minting, and a padded header."""
    client = guarded.client()
    keysets = (await client.get("/v1/auth/blind/keysets")).json()["keysets"]
    active = next(keyset for keyset in keysets if keyset["active"])
    keys = (await client.get("/v1/auth/blind/keys")).json()["keysets"]
    assert [(keyset["id"], keyset["unit"], list(keyset["keys"])) for keyset in keys] == [(active["id"], "auth", ["1"])]
    assert (await client.get(f"/v1/auth/blind/keys/{active['id']}")).json()["keysets"][0]["keys"] == keys[0]["keys"]
    assert code(await client.get("/v1/auth/blind/keys/00ffffffffffffff")) == 12001
    assert active["id"] not in (await client.get("/v1/keys")).text + (await client.get("/v1/keysets")).text
    outputs = outputs_of(guarded.house, 2)
    body = wire.auth_mint_request_to_json(outputs.messages)
    assert code(await guarded.post("/v1/auth/blind/mint", body)) == 30001
    answer = await guarded.post("/v1/auth/blind/mint", body, Clear_auth=guarded.provider.token())
    token = wire.auth_token_to_text(outputs.proofs(wire.signatures_from_json(answer.content))[0])
    padded = token + "=" * (-(len(token) - 5) % 4)
    states = wire.check_state_request_to_json([b"\x02" * 33])
    assert (await guarded.post("/v1/checkstate", states, Blind_auth=padded)).status_code == 200
    assert code(await guarded.post("/v1/checkstate", states, Blind_auth=token)) == 31002


async def test_too_many_and_too_fast_have_their_codes(guarded):
    """31003 and 31004."""
    login = guarded.provider.token()
    for seed in range(4):
        body = wire.auth_mint_request_to_json(outputs_of(guarded.house, 50, seed).messages)
        assert (await guarded.post("/v1/auth/blind/mint", body, Clear_auth=login)).status_code == 200
    many = wire.auth_mint_request_to_json(outputs_of(guarded.house, 51, "many").messages)
    fast = wire.auth_mint_request_to_json(outputs_of(guarded.house, 50, "fast").messages)
    assert code(await guarded.post("/v1/auth/blind/mint", many, Clear_auth=login)) == 31003
    assert code(await guarded.post("/v1/auth/blind/mint", fast, Clear_auth=login)) == 31004
    other = guarded.provider.token(sub="bob")
    assert (await guarded.post("/v1/auth/blind/mint", fast, Clear_auth=other)).status_code == 200


async def test_a_body_that_is_refused_burns_no_token(guarded):
    """An error of any kind leaves the token to the next request."""
    (token,) = await blind_tokens(guarded.house, 1)
    for body in (b"", b"{}", b"[]", b'{"inputs":[],"outputs":[]}'):
        assert (await guarded.post("/v1/swap", body, Blind_auth=token)).status_code == 400
    states = wire.check_state_request_to_json([b"\x02" * 33])
    assert (await guarded.post("/v1/checkstate", states, Blind_auth=token)).status_code == 200


async def test_the_same_token_in_two_requests_at_once_runs_one(guarded):
    """Over HTTP: one 200, the other 31002."""
    (token,) = await blind_tokens(guarded.house, 1)
    bodies = [await swap_body(guarded, await guarded.purse.mint(8)) for _ in range(2)]
    answers = await asyncio.gather(*(guarded.post("/v1/swap", body, Blind_auth=token) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    assert code(next(answer for answer in answers if answer.status_code == 400)) == 31002


@clear(clear_endpoints=("GET /v1/keys*",))
async def test_no_other_spelling_of_a_path_passes(guarded):
    """HEAD counts as GET, and an escaped path is what it routes to."""
    client = guarded.client()
    assert (await client.head("/v1/keys")).status_code == 400
    assert code(await client.get("/v1/%6beys")) == 30001
    assert code(await client.get("/v1/keysets")) == 30001
    assert (await client.get("/v1/keys", headers={"clear-auth": guarded.provider.token()})).status_code == 200
    kept = await client.get("/v1/keys", headers={"clear-auth": guarded.provider.token()})
    assert kept.headers["cache-control"] == "no-store"  # no cache on the way may give it to somebody else
    assert (await client.options("/v1/keys")).status_code == 204
    assert (await client.get("/v1/info")).status_code == 200


@pytest.mark.parametrize("guarded", [{"clear_endpoints": (SWAP,), "blind_endpoints": (SWAP,)}], indirect=True)
async def test_a_path_can_ask_for_both(guarded):
    """The login is looked at first, for it costs no write."""
    (token,) = await blind_tokens(guarded.house, 1)
    body = await swap_body(guarded)
    assert code(await guarded.post("/v1/swap", body, Blind_auth=token)) == 30001
    assert code(await guarded.post("/v1/swap", body, Clear_auth=guarded.provider.token())) == 31001
    both = {"Blind_auth": token, "Clear_auth": guarded.provider.token()}
    assert (await guarded.post("/v1/swap", body, **both)).status_code == 200


class Door(Wire):
    """A socket that brings headers, to a server that can refuse with an HTTP answer."""

    def __init__(self, app, *, http: bool = True, **headers: str) -> None:
        named = [(name.replace("_", "-").lower().encode(), value.encode()) for name, value in headers.items()]

        async def with_headers(scope, receive, send):
            extensions = {"websocket.http.response": {}} if http else {}
            await app({**scope, "headers": named, "extensions": extensions}, receive, send)

        super().__init__(with_headers)

    async def refused(self) -> tuple[int, int]:
        """Status and NUT code of the answer."""
        start, body = await self.event(), await self.event()
        await self.task
        return start["status"], json.loads(body["body"])["code"]


async def test_a_socket_is_opened_by_one_blind_token(guarded):
    """31001 without one; with one it opens, and the token is spent."""
    assert await Door(guarded.app).refused() == (400, 31001)
    (token,) = await blind_tokens(guarded.house, 1)
    socket = await Door(guarded.app, Blind_auth=token).accepted()
    socket.ask("subscribe", 0, kind="proof_state", subId="a", filters=["02" * 33])
    assert (await socket.hear())["result"]["status"] == "OK"
    await socket.leave()
    assert await Door(guarded.app, Blind_auth=token).refused() == (400, 31002)


async def test_a_server_that_cannot_answer_http_closes(guarded):
    """1008: policy."""
    socket = Door(guarded.app, http=False)
    assert (await socket.event())["code"] == 1008
    await socket.task


@clear(clear_endpoints=("GET /v1/ws",))
async def test_a_socket_lives_no_longer_than_its_login(guarded):
    """A subscription after the clear token's end is refused, though the socket is open."""
    assert await Door(guarded.app).refused() == (400, 30001)
    socket = await Door(guarded.app, Clear_auth=guarded.provider.token()).accepted()
    socket.ask("subscribe", 0, kind="proof_state", subId="a", filters=["02" * 33])
    await socket.hear()
    await socket.hear()
    guarded.house.clock.skip(400)
    socket.ask("subscribe", 1, kind="proof_state", subId="b", filters=["02" * 33])
    assert (await socket.hear())["error"]["code"] == 30002
    guarded.provider.away = True
    guarded.house.clock.skip(100_000)
    socket.ask("subscribe", 2, kind="proof_state", subId="c", filters=["02" * 33])
    assert (await socket.hear())["error"]["code"] == -32603
    await socket.leave()


async def test_where_nothing_is_configured_nothing_is_checked(served):
    """The gate is not there at all."""
    assert served.app._front.gate is None
    assert (await served.client().get("/v1/auth/blind/keys")).status_code == 404
