"""The Cashu API over HTTP: money moves through it, and every error has its form."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from specie.ecash import BlindedMessage, MeltQuoteRequest, MeltRequest, MintQuoteRequest, MintRequest, SwapRequest, wire
from specie.kernel import InvariantError, Limits, PeerFaultError, UnavailableError, UncertainError
from specie.ops.settings import RateSettings, ServerSettings


async def post(client, path: str, body: bytes | str):
    return await client.post(path, content=body)


async def minted(served, amount: int):
    """Coins got over HTTP alone."""
    client = served.client()
    answer = await post(
        client, "/v1/mint/quote/bolt11", wire.mint_quote_request_to_json(MintQuoteRequest("bolt11", "sat", amount))
    )
    quote = wire.mint_quote_from_json(answer.content, method="bolt11")
    await served.house.pay(quote)
    assert wire.mint_quote_from_json((await client.get(f"/v1/mint/quote/bolt11/{quote.quote}")).content).amount_paid == amount
    outputs = served.purse.outputs([1 << bit for bit in range(amount.bit_length()) if amount >> bit & 1])
    request = wire.mint_request_to_json(MintRequest("bolt11", quote.quote, outputs.messages))
    answer = await post(client, "/v1/mint/bolt11", request)
    assert (await post(client, "/v1/mint/bolt11", request)).content == answer.content
    return outputs.proofs(wire.signatures_from_json(answer.content)), outputs


async def test_mint_swap_check_restore_and_melt(served):
    """A whole life of coins: 100 sat minted, swapped, checked, restored, and 21 of them paid out."""
    client = served.client()
    proofs, outputs = await minted(served, 100)
    fresh = served.purse.outputs([4, 32, 64])
    swap = wire.swap_request_to_json(SwapRequest(tuple(proofs), fresh.messages))
    answer = await post(client, "/v1/swap", swap)
    assert answer.status_code == 200
    coins = fresh.proofs(wire.signatures_from_json(answer.content))
    assert (await post(client, "/v1/swap", swap)).content == answer.content

    from specie.ecash import y

    body = wire.check_state_request_to_json([y(proofs[0]), y(coins[0])])
    states = wire.states_from_json((await post(client, "/v1/checkstate", body)).content)
    assert [state.state.value for state in states] == ["SPENT", "UNSPENT"]
    restored = await post(client, "/v1/restore", wire.restore_request_to_json(outputs.messages))
    assert len(json.loads(restored.content)["signatures"]) == len(outputs.messages)

    target = await served.house.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 21))
    body = wire.melt_quote_request_to_json(MeltQuoteRequest("bolt11", target.request, "sat"))
    quote = wire.melt_quote_from_json((await post(client, "/v1/melt/quote/bolt11", body)).content, method="bolt11")
    melt = wire.melt_request_to_json(MeltRequest("bolt11", quote.quote, tuple(coins), served.purse.outputs([1] * 7).messages))
    paid = wire.melt_quote_from_json((await post(client, "/v1/melt/bolt11", melt)).content, method="bolt11")
    assert paid.state.value == "PAID"
    assert sum(signature.amount for signature in paid.change or ()) == 100 - 21
    again = await client.get(f"/v1/melt/quote/bolt11/{quote.quote}")
    assert wire.melt_quote_from_json(again.content, method="bolt11").state.value == "PAID"
    (await served.house.mint.audit()).check()


async def test_a_double_spend_is_refused_with_its_code(served):
    """400 and {detail, code}, readable across origins."""
    proofs, _ = await minted(served, 8)
    client = served.client()
    await post(client, "/v1/swap", wire.swap_request_to_json(SwapRequest(tuple(proofs), served.purse.outputs([8]).messages)))
    answer = await post(
        client, "/v1/swap", wire.swap_request_to_json(SwapRequest(tuple(proofs), served.purse.outputs([8]).messages))
    )
    assert answer.status_code == 400
    assert answer.json()["code"] == 11001
    assert set(answer.json()) == {"detail", "code"}
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_info_keys_and_keysets(served):
    """What anyone may read, with validators that save the second read."""
    client = served.client()
    info = wire.info_from_json((await client.get("/v1/info")).content)
    assert info.name == "Test <b>bank</b>"
    keys = await client.get("/v1/keys")
    (keyset,) = wire.keys_from_json(keys.content)
    assert len(keyset.keys) == 64
    one = await client.get(f"/v1/keys/{keyset.id}")
    assert one.json()["keysets"][0]["id"] == keyset.id
    listed = await client.get("/v1/keysets")
    assert [item.id for item in wire.keysets_from_json(listed.content)] == [keyset.id]
    for answer in (keys, one, listed):
        assert answer.headers["etag"]
        assert "max-age" in answer.headers["cache-control"]
    cached = await client.get("/v1/keys", headers={"if-none-match": f'W/"x", {keys.headers["etag"]}'})
    assert (cached.status_code, cached.content, cached.headers["etag"]) == (304, b"", keys.headers["etag"])
    assert (await client.get("/v1/keys", headers={"if-none-match": "*"})).status_code == 304
    await served.house.mint.rotate_keyset("sat")
    after = await client.get("/v1/keys", headers={"if-none-match": keys.headers["etag"]})
    assert after.status_code == 200
    assert len((await client.get("/v1/keysets")).json()["keysets"]) == 2
    unknown = await client.get("/v1/keys/00ffffffffffffff")
    assert (unknown.status_code, unknown.json()["code"]) == (400, 12001)


async def test_any_content_type_is_read_as_json(served):
    """Wallets differ in what they say they send."""
    client = served.client()
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"):
        answer = await client.post("/v1/checkstate", content=b'{"Ys":[]}', headers={"content-type": kind})
        assert answer.status_code == 200


async def test_head_options_404_and_405(served):
    """HEAD has a length and no body; a preflight is answered; a wrong path or method is JSON."""
    client = served.client()
    head = await client.head("/v1/keys")
    assert head.status_code == 200
    assert head.content == b""
    assert int(head.headers["content-length"]) > 1000
    preflight = await client.options("/v1/swap", headers={"origin": "https://wallet.example"})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in preflight.headers
    wrong = await client.get("/v1/swap")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "OPTIONS, POST")
    assert wrong.json()["code"] == 0
    for path in (
        "/v1/nothing",
        "/v1/",
        "/v1/keys/",
        "/v1/keys/a/b",
        "/v1/mint/quote/bolt11/x/y",
        "/v1/mint//",
        "/nothing",
        "/v1",
    ):
        missing = await client.get(path)
        assert missing.status_code == 404, path
        assert missing.json() == {"detail": "no such path", "code": 0}
    assert (await client.request("BREW", "/v1/swap")).status_code == 405
    assert "BREW" not in served.metrics.exposition().decode()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"inputs":1}', b"\xff\xfe", b'{"inputs":[],"outputs":[{"amount":-1}]}'])
async def test_bodies_that_do_not_parse_are_refused(served, body):
    """400, never 500, and nothing is paged."""
    answer = await post(served.client(), "/v1/swap", body)
    assert answer.status_code == 400
    assert isinstance(answer.json()["code"], int)
    assert served.metrics.pages == ()


async def test_a_method_that_is_no_name_is_refused(served):
    """Payment methods are a-z, 0-9, _ and -."""
    answer = await post(served.client(), "/v1/mint/quote/BOLT!", b"{}")
    assert answer.status_code == 400


async def test_a_body_is_cut_off_at_the_limit_while_it_is_read(served):
    """Both with a declared length and with none; the rest is never read."""
    served.rebuild(limits=Limits(body_bytes=1000))
    client = served.client()
    declared = await post(client, "/v1/swap", b" " * 1001)
    assert declared.status_code == 413
    read = 0

    async def endless():
        nonlocal read
        while True:
            read += 1
            yield b" " * 400

    streamed = await client.post("/v1/swap", content=endless())
    assert streamed.status_code == 413
    assert read < 10
    assert (await post(client, "/v1/checkstate", b'{"Ys":[]}' + b" " * 900)).status_code == 200


async def test_a_body_that_does_not_arrive_is_given_up(served):
    """408 after the time-out; and a peer that hangs up is not answered."""
    served.rebuild(settings=ServerSettings(body_timeout_s=0.01))
    sent = []

    async def never():
        await asyncio.Event().wait()

    async def gone():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/swap", "headers": [], "client": None, "scheme": "http"}
    await served.app(scope, never, send)
    assert sent[0]["status"] == 408
    sent.clear()
    await served.app(scope, gone, send)
    assert sent == []
    assert served.metrics.counter_value("http_gone") == 1


@pytest.mark.parametrize(
    ("error", "status", "code", "paged"),
    [
        (UnavailableError("rail is away", retry_after_s=7.2), 503, 0, False),
        (UncertainError("paid?", reference="q"), 500, 20005, False),
        (PeerFaultError("node lies", peer="x"), 502, 0, False),
        (InvariantError("books are wrong: canary"), 500, 0, True),
        (ZeroDivisionError("canary"), 500, 0, True),
    ],
)
async def test_the_error_tree_has_one_mapping(served, error, status, code, paged):
    """What the caller must do next decides the status; what is our fault is paged and not shown."""

    class Failing:
        def __getattr__(self, name):
            return getattr(served.house.mint, name)

        async def swap(self, request):
            raise error

    served.rebuild(mint=Failing())
    answer = await post(served.client(), "/v1/swap", b'{"inputs":[],"outputs":[]}')
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "canary" not in answer.text
    assert bool(served.metrics.pages) is paged
    if paged:
        reference = answer.json()["detail"].rpartition(" ")[2]
        assert served.metrics.pages[0].facts["reference"] == reference
        assert reference in served.log.getvalue()
    if status == 503:
        assert answer.headers["retry-after"] == "8"
    assert f'route="/v1/swap",status="{status}"' in served.metrics.exposition().decode()


async def test_rates_are_limited_per_peer_and_not_on_this_machine(served):
    """A burst, then 429 with Retry-After; another peer and loopback pass; time heals."""
    rate = RateSettings(requests_per_minute=60, burst=3, quotes_per_minute=0)
    served.rebuild(settings=ServerSettings(rate=rate))
    far, near = served.client("203.0.113.9"), served.client("127.0.0.1")
    codes = [(await far.get("/v1/keysets")).status_code for _ in range(5)]
    assert codes == [200, 200, 200, 429, 429]
    limited = await far.get("/v1/keysets")
    assert limited.headers["retry-after"] == "1"
    assert isinstance(limited.json()["code"], int)
    assert (await served.client("203.0.113.10").get("/v1/keysets")).status_code == 200
    assert all([(await near.get("/v1/keysets")).status_code == 200 for _ in range(20)])
    served.house.clock.skip(1.01)
    assert [(await far.get("/v1/keysets")).status_code for _ in range(2)] == [200, 429]
    served.rebuild(settings=ServerSettings(rate=replace(rate, limit_loopback=True)))
    assert [(await served.client().get("/v1/keysets")).status_code for _ in range(4)][-1] == 429


async def test_quotes_have_a_limit_of_their_own(served):
    """Each new quote asks a rail, so it is dearer than other requests."""
    served.rebuild(settings=ServerSettings(rate=RateSettings(quotes_per_minute=60, quote_burst=1)))
    far = served.client("203.0.113.9")
    body = wire.mint_quote_request_to_json(MintQuoteRequest("bolt11", "sat", 1))
    assert (await post(far, "/v1/mint/quote/bolt11", body)).status_code == 200
    assert (await post(far, "/v1/mint/quote/bolt11", body)).status_code == 429
    assert (await far.get("/v1/keysets")).status_code == 200


async def test_a_look_at_several_quotes_counts_as_a_new_one(served):
    """It may ask a rail a hundred times, so that a stranger may not have it as often as a look at one (NUT-29)."""
    served.rebuild(settings=ServerSettings(rate=RateSettings(quotes_per_minute=60, quote_burst=2)))
    far = served.client("203.0.113.9")
    body = wire.mint_quote_request_to_json(MintQuoteRequest("bolt11", "sat", 1))
    quote = (await post(far, "/v1/mint/quote/bolt11", body)).json()["quote"]
    look = wire.quote_check_request_to_json([quote])
    answers = [(await post(far, "/v1/mint/quote/bolt11/check", look)).status_code for _ in range(2)]
    assert answers == [200, 429]


async def test_more_than_allowed_at_once_is_told_to_come_back(served):
    """503 with Retry-After while others are being worked on."""
    held = asyncio.Event()

    class Slow:
        def __getattr__(self, name):
            return getattr(served.house.mint, name)

        async def check_state(self, ys):
            await held.wait()
            return []

    served.rebuild(mint=Slow(), settings=ServerSettings(in_flight=1))
    client = served.client()
    first = asyncio.create_task(post(client, "/v1/checkstate", b'{"Ys":[]}'))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    busy = await client.get("/v1/keysets")
    held.set()
    assert busy.status_code == 503
    assert "retry-after" in busy.headers
    assert (await first).status_code == 200
    assert (await client.get("/v1/keysets")).status_code == 200


async def test_too_many_outputs_have_their_code(served):
    """The limit of arrays is announced and kept."""
    served.rebuild(limits=Limits(array_length=2))
    point = served.purse.outputs([1]).messages[0]
    outputs = tuple(BlindedMessage(1, point.id, point.B_) for _ in range(3))
    answer = await post(served.client(), "/v1/restore", wire.restore_request_to_json(outputs))
    assert answer.json()["code"] == 11015
