"""A wallet that sends anything: malformed secrets, nested JSON, mixed units, replayed witnesses, huge arrays.

Over the HTTP application, so that parsing, limits and the mint are all in the way. Whatever is sent is refused as the
sender's fault (never as ours, and nobody is paged), the coins it was about stay unspent, and the books still balance.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from specie.ecash import MintQuoteRequest, Proof, State, SwapRequest, wire
from specie.ecash.conditions import SigFlag, htlc_secret, p2pk_secret, sig_all_digest, sig_inputs_digest
from tests.support.coins import public_key, signature
from tests.support.house import Outputs, Purse, house
from tests.support.locked import lock, sign_all, sign_inputs, witnessed
from tests.support.served import Served, serving
from tests.support.virtual import run_virtual

ALICE, BOB = public_key("alice").hex(), public_key("bob").hex()
PREIMAGE = bytes(range(32))
HASH = sha256(PREIMAGE).hexdigest()
POINT = public_key("anything").hex()


EVERYTHING: dict[str, Any] = {"methods": ("bolt12", "onchain"), "quote_lookup": True, "liabilities": True}
"""Every route that needs no provider is there."""


def _locked(data: str = ALICE, **options: Any) -> str:
    return p2pk_secret(data, nonce=b"\x01" * 32, **options)


@pytest.fixture
async def hostile() -> AsyncIterator[Served]:
    """The bank; afterwards its books balance and nobody was paged."""
    async with serving(**EVERYTHING) as served:
        yield served
        await served.house.mint.audit()
        assert served.metrics.pages == ()
        assert served.house.telemetry.pages == []


async def refused(served: Served, path: str, body: bytes | str) -> int:
    """POST it; the code it is refused with. 4xx, and an error body."""
    answer = await served.client().post(path, content=body)
    assert 400 <= answer.status_code < 500, (path, answer.status_code, answer.text[:300])
    assert set(answer.json()) == {"detail", "code"}
    assert len(answer.text) < 2000
    return int(answer.json()["code"])


async def refused_swap(served: Served, coins: list[Proof], outputs: Outputs | None = None) -> int:
    """A swap that must not happen; afterwards every real coin of it is unspent."""
    outputs = outputs or served.purse.outputs([coin.amount for coin in coins])
    code = await refused(served, "/v1/swap", wire.swap_request_to_json(SwapRequest(tuple(coins), outputs.messages)))
    states = await served.house.mint.check_state(list({coin.y for coin in coins}))
    assert {state.state for state in states} == {State.UNSPENT}
    return code


# Malformed secrets and witnesses


SECRETS = {
    "no data": '["P2PK",{"nonce":"00"}]',
    "data is a number": '["P2PK",{"nonce":"00","data":1}]',
    "data is no key": '["P2PK",{"nonce":"00","data":"02"}]',
    "a key off the curve": '["P2PK",{"nonce":"00","data":"02' + "ff" * 32 + '"}]',
    "a third element": f'["P2PK",{{"nonce":"00","data":"{ALICE}"}},1]',
    "only a kind": '["P2PK"]',
    "the kind alone twice": '["P2PK","P2PK"]',
    "a tag that is no list": f'["P2PK",{{"nonce":"00","data":"{ALICE}","tags":["n_sigs"]}}]',
    "an empty tag": f'["P2PK",{{"nonce":"00","data":"{ALICE}","tags":[[]]}}]',
    "a tag of numbers": f'["P2PK",{{"nonce":"00","data":"{ALICE}","tags":[["n_sigs",1]]}}]',
    "a tag twice": f'["P2PK",{{"nonce":"00","data":"{ALICE}","tags":[["n_sigs","1"],["n_sigs","1"]]}}]',
    "more signatures than keys": f'["P2PK",{{"nonce":"00","data":"{ALICE}","tags":[["n_sigs","2"]]}}]',
    "no signatures": f'["P2PK",{{"nonce":"00","data":"{ALICE}","tags":[["n_sigs","0"]]}}]',
    "minus one signature": f'["P2PK",{{"nonce":"00","data":"{ALICE}","tags":[["n_sigs","-1"]]}}]',
    "signatures beyond measure": f'["P2PK",{{"nonce":"00","data":"{ALICE}","tags":[["n_sigs","{"9" * 5000}"]]}}]',
    "one key twice": f'["P2PK",{{"nonce":"00","data":"{ALICE}","tags":[["pubkeys","{ALICE.upper()}"]]}}]',
    "one key and its mirror": f'["P2PK",{{"nonce":"00","data":"02{ALICE[2:]}","tags":[["pubkeys","03{ALICE[2:]}"]]}}]',
    "an unknown flag": f'["P2PK",{{"nonce":"00","data":"{ALICE}","tags":[["sigflag","SIG_NONE"]]}}]',
    "a hash too short": '["HTLC",{"nonce":"00","data":"abcd"}]',
    "a hash in no hex": '["HTLC",{"nonce":"00","data":"' + "zz" * 32 + '"}]',
    "nested to no end": '["P2PK",' + "[" * 4000 + "]" * 4000 + "]",
    "nested and unclosed": '["P2PK",{"nonce":"00","data":' + '{"a":' * 1500,
    "a key twice in the object": f'["P2PK",{{"nonce":"00","data":"{ALICE}","data":"{BOB}"}}]',
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
async def test_a_malformed_lock_opens_for_nobody(hostile: Served, secret: str) -> None:
    """What begins as a lock and is none cannot be spent at all, least of all by anybody (NUT-10, NUT-11)."""
    coins = await lock(hostile.purse, secret)
    await refused_swap(hostile, coins)
    await refused_swap(hostile, [sign_inputs(coins[0], "alice")])


WITNESSES: dict[str, Callable[[Proof], str]] = {
    "no json": lambda coin: "signature",
    "a list": lambda coin: "[]",
    "nothing": lambda coin: "{}",
    "null": lambda coin: "null",
    "signatures are no list": lambda coin: '{"signatures":"' + "00" * 64 + '"}',
    "signatures in no hex": lambda coin: '{"signatures":["' + "zz" * 64 + '"]}',
    "signatures cut short": lambda coin: json.dumps({"signatures": [signature(sig_inputs_digest(coin), "alice").hex()[:-2]]}),
    "signatures of zeroes": lambda coin: json.dumps({"signatures": ["00" * 64]}),
    "signatures of another": lambda coin: json.dumps({"signatures": [signature(sig_inputs_digest(coin), "bob").hex()]}),
    "a signature of something else": lambda coin: json.dumps({"signatures": [signature(b"\x07" * 32, "alice").hex()]}),
    "a preimage alone": lambda coin: json.dumps({"preimage": PREIMAGE.hex()}),
    "thousands of wrong ones": lambda coin: json.dumps({"signatures": ["11" * 64] * 120}),
    "too long": lambda coin: json.dumps({"signatures": ["11" * 64] * 5000}),
    "nested to no end": lambda coin: '{"signatures":' + "[" * 3000 + "]" * 3000 + "}",
    "unclosed": lambda coin: '{"signatures":["',
}


@pytest.mark.parametrize("write", WITNESSES.values(), ids=WITNESSES)
async def test_a_wrong_witness_opens_nothing(hostile: Served, write: Callable[[Proof], str]) -> None:
    """And the coin can still be spent by whom it is for."""
    (coin,) = await lock(hostile.purse, _locked())
    await refused_swap(hostile, [replace(coin, witness=write(coin))])
    outputs = hostile.purse.outputs([4])
    body = wire.swap_request_to_json(SwapRequest((sign_inputs(coin, "alice"),), outputs.messages))
    assert (await hostile.client().post("/v1/swap", content=body)).status_code == 200


# Replayed witnesses


async def test_a_witness_opens_one_coin_only(hostile: Served) -> None:
    """A signature on one coin, shown with another of the same lock."""
    one, two = await lock(hostile.purse, _locked(), p2pk_secret(ALICE, nonce=b"\x02" * 32))
    await refused_swap(hostile, [replace(two, witness=sign_inputs(one, "alice").witness)])


async def test_a_signature_on_everything_is_for_those_outputs(hostile: Served) -> None:
    """SIG_ALL: other outputs, other amounts, another order, one coin less, one coin more."""
    all_ = {"sigflag": SigFlag.SIG_ALL}
    coins = await lock(hostile.purse, *(p2pk_secret(ALICE, nonce=bytes([n]) * 32, **all_) for n in (1, 2)))
    meant, other = hostile.purse.outputs([4, 4]), hostile.purse.outputs([4, 4])
    signed = sign_all(coins, meant, "alice")
    await refused_swap(hostile, signed, other)
    await refused_swap(hostile, signed, hostile.purse.outputs([2, 2, 4]))
    turned = Outputs(meant.keyset, meant.messages[::-1], meant.secrets, meant.factors)
    await refused_swap(hostile, signed, turned)
    await refused_swap(hostile, signed[:1], hostile.purse.outputs([4]))
    await refused_swap(hostile, [signed[1], signed[0]], meant)
    more = await hostile.purse.mint(4)
    await refused_swap(hostile, [*signed, *more], hostile.purse.outputs([4, 4, 4]))


async def test_a_signature_for_a_payment_is_for_that_quote(hostile: Served) -> None:
    """SIG_ALL over one quote does not pay another, and does not swap."""
    from tests.support.orders import foreign_invoice

    coins = await lock(hostile.purse, _locked(sigflag=SigFlag.SIG_ALL))
    quotes = [await hostile.purse.melt_quote(await foreign_invoice(hostile.house, 1000, f"payee {n}")) for n in range(2)]
    digest = sig_all_digest(coins, (), quotes[0].quote)
    signed = [witnessed(coins[0], [signature(digest, "alice")])]
    body = json.loads(wire.melt_request_to_json(_melt(quotes[1].quote, signed)))
    await refused(hostile, "/v1/melt/bolt11", json.dumps(body))
    await refused_swap(hostile, signed)


def _melt(quote: str, coins: list[Proof]) -> Any:
    from specie.ecash import MeltRequest

    return MeltRequest("bolt11", quote, tuple(coins))


async def test_a_spent_witness_spends_nothing_again(hostile: Served) -> None:
    """The same coin with the same witness for other outputs is spent before (11001)."""
    (coin,) = await lock(hostile.purse, _locked())
    signed = sign_inputs(coin, "alice")
    first = wire.swap_request_to_json(SwapRequest((signed,), hostile.purse.outputs([4]).messages))
    assert (await hostile.client().post("/v1/swap", content=first)).status_code == 200
    second = wire.swap_request_to_json(SwapRequest((signed,), hostile.purse.outputs([4]).messages))
    assert await refused(hostile, "/v1/swap", second) == 11001
    clean = wire.swap_request_to_json(SwapRequest((replace(signed, witness=None),), hostile.purse.outputs([4]).messages))
    assert await refused(hostile, "/v1/swap", clean) in (10001, 11001)


async def test_a_preimage_of_one_opens_no_other(hostile: Served) -> None:
    """HTLC: the preimage of another hash, its text in place of its bytes, and the hash itself."""
    (coin,) = await lock(hostile.purse, htlc_secret(HASH, nonce=b"\x01" * 32))
    for wrong in (b"\x06" * 32, PREIMAGE[::-1], bytes.fromhex(HASH)):
        await refused_swap(hostile, [witnessed(coin, [], wrong)])
    for text in (PREIMAGE.hex() + "00", PREIMAGE.hex()[:-2], "05" * 16 + "zz" * 16, ""):
        await refused_swap(hostile, [replace(coin, witness=json.dumps({"preimage": text}))])


# One coin that pretends to be two


async def test_a_coin_in_other_clothes_is_the_same_coin(hostile: Served) -> None:
    """Twice in a request; with its point in capitals; with a witness and without; as another amount or keyset."""
    (coin,) = await hostile.purse.mint(4)
    await refused_swap(hostile, [coin, coin], hostile.purse.outputs([4, 4]))
    await refused_swap(hostile, [coin, replace(coin, witness="{}")], hostile.purse.outputs([4, 4]))
    body = json.loads(wire.swap_request_to_json(SwapRequest((coin, coin), hostile.purse.outputs([4, 4]).messages)))
    body["inputs"][1]["C"] = body["inputs"][1]["C"].upper()
    body["inputs"][1]["id"] = body["inputs"][1]["id"].upper()
    assert await refused(hostile, "/v1/swap", json.dumps(body)) == 11007
    await refused_swap(hostile, [replace(coin, amount=8)], hostile.purse.outputs([8]))
    await refused_swap(hostile, [replace(coin, C=bytes([coin.C[0] ^ 1]) + coin.C[1:])])
    await hostile.house.mint.rotate_keyset("sat")
    await refused_swap(hostile, [replace(coin, id=hostile.house.keyset().id)])


async def test_a_coin_nobody_signed_is_no_coin(hostile: Served) -> None:
    """10001, however it is made up; and the most expensive of them are not checked further."""
    made = Proof(4, hostile.house.keyset().id, "made up", bytes.fromhex(POINT))
    assert await refused_swap(hostile, [made]) == 10001
    nested = replace(made, secret=_locked(pubkeys=[BOB], n_sigs=2), witness=json.dumps({"signatures": ["11" * 64] * 100}))
    assert await refused_swap(hostile, [nested]) == 10001


# Units and amounts


def test_units_do_not_mix() -> None:
    """sat for msat, both among inputs, both among outputs, and a quote of one paid out in the other."""

    async def main() -> None:
        from specie.ecash import MintRequest
        from specie.ecash.codes import MixedUnitsError, UnitMismatchError
        from specie.mint import MintSettings

        async with house(settings=MintSettings(units=("sat", "msat"))) as bank:
            purse = Purse(bank)
            sat, msat = await purse.mint(4), await purse.mint(4, "msat")
            in_sat = purse.outputs([4], bank.keyset("sat")).messages
            in_msat = purse.outputs([4], bank.keyset("msat")).messages
            cases: list[tuple[Any, Any, type[Exception]]] = [
                (sat, in_msat, UnitMismatchError),
                (msat, in_sat, UnitMismatchError),
                ([*sat, *msat], (*in_sat, *in_msat), MixedUnitsError),
                (sat, (*in_sat, *in_msat), MixedUnitsError),
            ]
            for inputs, outputs, error in cases:
                with pytest.raises(error):
                    await bank.mint.swap(SwapRequest(tuple(inputs), tuple(outputs)))
            quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "msat", 4))
            await bank.pay(quote)
            with pytest.raises(UnitMismatchError):
                await bank.mint.issue(MintRequest("bolt11", quote.quote, in_sat))
            await bank.mint.audit()

    run_virtual(main())


AMOUNTS = ["-1", "0", "3", "18446744073709551616", "1e3", "4.0", '"4"', "true", "null", "NaN", "1" + "0" * 400, "[4]"]


@pytest.mark.parametrize("amount", AMOUNTS)
async def test_amounts_are_amounts(hostile: Served, amount: str) -> None:
    """No float, no text, no boolean, nothing below one, above 2^64-1 or beside the keyset's keys."""
    (coin,) = await hostile.purse.mint(4)
    good = wire.swap_request_to_json(SwapRequest((coin,), hostile.purse.outputs([4]).messages)).decode()
    for side in ("inputs", "outputs"):
        head, _, tail = good.partition(f'"{side}":[{{"amount":4')
        assert tail
        await refused(hostile, "/v1/swap", f'{head}"{side}":[{{"amount":{amount}{tail}')
    await refused(hostile, "/v1/mint/quote/bolt11", f'{{"unit":"sat","amount":{amount}}}') if amount != "3" else None
    assert (await hostile.house.mint.check_state([coin.y]))[0].state is State.UNSPENT


# Arrays and nesting


PATHS = ["/v1/swap", "/v1/mint/bolt11", "/v1/melt/bolt11", "/v1/checkstate", "/v1/restore", "/v1/mint/quote/bolt11"]
PATHS += ["/v1/melt/quote/bolt11", "/v1/mint/bolt11/batch", "/v1/mint/quote/bolt11/check", "/v1/mint/quote/bolt12/pubkey"]
PATHS += ["/v1/mint/quote/bolt12", "/v1/mint/quote/onchain", "/v1/melt/quote/bolt12", "/v1/melt/quote/onchain"]
PATHS += ["/v1/mint/onchain/batch", f"/v1/pol/00{'ab' * 32}/proofs/issued", "/v1/auth/blind/mint"]
DEEP = {
    "lists": "[" * 100_000,
    "closed lists": "[" * 50_000 + "]" * 50_000,
    "objects": '{"inputs":' * 30_000,
    "in an unknown field": '{"unit":"sat","amount":1,"x":' + "[" * 40_000 + "]" * 40_000 + "}",
    "text without end": '{"quote":"' + "a" * 1_000_000,
    "a list of lists": '{"inputs":[' + ",".join(["[[]]"] * 50_000) + "]}",
    "white space": " " * 1_500_000,
    "a bomb of keys": "{" + ",".join(f'"{n}":{n}' for n in range(100_000)) + "}",
    "broken text": '{"unit":"\ud800"}'.encode("utf-8", "surrogatepass").decode("latin-1"),
}


@pytest.mark.parametrize("body", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("path", PATHS)
async def test_deep_and_long_bodies_are_refused(hostile: Served, path: str, body: str) -> None:
    """Whatever the nesting or length, on every route."""
    answer = await hostile.client().post(path, content=body.encode("latin-1"))
    assert answer.status_code in (200, 400, 413) or (answer.status_code == 404 and path.startswith("/v1/auth")), answer.text
    assert answer.status_code != 200 or path.startswith(("/v1/mint/quote", "/v1/melt/quote"))


async def test_arrays_are_bounded_everywhere(hostile: Served) -> None:
    """One more than announced is refused with its code, on every route that takes an array."""
    most = hostile.house.mint.info().max_array_length or 0
    one = hostile.purse.outputs([1]).messages[0]
    output = json.loads(wire.restore_request_to_json([one]))["outputs"][0]
    coin = {"amount": 1, "id": one.id, "secret": "s", "C": POINT}
    outputs, coins = [output] * (most + 1), [coin] * (most + 1)
    few = [output]
    for path, body, codes in (
        ("/v1/swap", {"inputs": coins, "outputs": few}, (11014,)),
        ("/v1/swap", {"inputs": [coin], "outputs": outputs}, (11015,)),
        ("/v1/mint/bolt11", {"quote": "q", "outputs": outputs}, (11015,)),
        ("/v1/melt/bolt11", {"quote": "q", "inputs": coins}, (11014,)),
        ("/v1/melt/bolt11", {"quote": "q", "inputs": [coin], "outputs": outputs}, (11015,)),
        ("/v1/restore", {"outputs": outputs}, (11015,)),
        ("/v1/mint/bolt11/batch", {"quotes": ["q"], "outputs": outputs}, (11015,)),
        ("/v1/mint/bolt11/batch", {"quotes": [str(n) for n in range(101)], "outputs": few}, (11017,)),
        ("/v1/mint/bolt11/batch", {"quotes": ["q", "q"], "outputs": few}, (11016,)),
        ("/v1/mint/quote/bolt11/check", {"quotes": [str(n) for n in range(101)]}, (11017,)),
        ("/v1/mint/quote/bolt11/check", {"quotes": ["q", "q"]}, (11016,)),
        (
            "/v1/mint/quote/bolt11/pubkey",
            {"pubkeys": [POINT] * 51, "pubkey_signatures": ["00" * 64] * 51, "timestamp": 0},
            (11017,),
        ),
        ("/v1/checkstate", {"Ys": [POINT] * (most + 1)}, (0, 11014)),
    ):
        assert await refused(hostile, path, json.dumps(body)) in codes, path


QUOTES = ["", "\x00", "a" * 256, "../../admin", "q'; DROP TABLE mint_quote; --", "%00", "\u202e", "q\n", "💥" * 200]


@pytest.mark.parametrize("quote", QUOTES)
async def test_quote_ids_are_looked_up_and_nothing_else(hostile: Served, quote: str) -> None:
    """Whatever text is given for one, in a body or in a path."""
    from urllib.parse import quote as escaped

    for path in ("/v1/mint/bolt11", "/v1/melt/bolt11"):
        body = {"quote": quote, "outputs": [], "inputs": []}
        await refused(hostile, path, json.dumps(body))
    for path in ("/v1/mint/quote/bolt11/", "/v1/melt/quote/bolt11/"):
        answer = await hostile.client().get(path + escaped(quote, safe=""))
        assert 400 <= answer.status_code < 500


REQUESTS = ["", "lnbc", "lnbc1" + "q" * 4000, "lnbc1" + "q" * 5000, "http://127.0.0.1/", "LNBCRT1Pabc", "\x00", "bc1q", "lno1"]


@pytest.mark.parametrize("request_", REQUESTS)
async def test_payment_requests_are_read_and_refused(hostile: Served, request_: str) -> None:
    """What is no invoice is refused, whatever else it is."""
    await refused(hostile, "/v1/melt/quote/bolt11", json.dumps({"request": request_, "unit": "sat"}))


# Anything at all


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
ANSWERED = ["quote", "inputs", "outputs", "unit", "amount", "request", "Ys", "pubkey", "options", "signature", "description"]
BATCHED = ["id", "quotes", "quote_amounts", "signatures", "fee_index", "pubkeys", "pubkey_signatures", "timestamp", "cursor"]
FIELDS = st.sampled_from([*ANSWERED, *BATCHED, "limit"])


@settings(max_examples=200)
@given(
    asked=st.lists(st.tuples(st.sampled_from(PATHS), JSON | st.dictionaries(FIELDS, JSON, max_size=6)), min_size=5, max_size=20)
)
def test_no_json_is_our_fault(asked: list[tuple[str, object]]) -> None:
    """Any JSON on any route gets an answer that is no 5xx, and nobody is paged."""

    async def main() -> None:
        async with serving(**EVERYTHING) as bank:
            client = bank.client()
            for path, body in asked:
                answer = await client.post(path, content=json.dumps(body))
                assert answer.status_code < 500, answer.text
            assert bank.metrics.pages == ()

    run_virtual(main())
