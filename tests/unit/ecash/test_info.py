"""Mint information, lenient in and strict out; WebSocket messages both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from specie.ecash import wire
from specie.ecash.info import Contact, MethodSetting, MintInfo
from specie.ecash.proof import ProofState, State
from specie.ecash.quote import MeltQuote, MintQuote
from specie.ecash.subscription import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    Notification,
    RpcError,
    RpcResult,
    SubscribeRequest,
    SubscriptionKind,
    UnsubscribeRequest,
)
from specie.kernel.errors import MalformedError
from specie.kernel.limits import Limits
from tests.support.coins import public_key

Y = public_key("y")
INFO = MintInfo(
    name="Mint",
    pubkey=Y.hex(),
    version="specie/0.1.0",
    description="d",
    description_long="l",
    contact=(Contact("email", "a@b"),),
    motd="m\nn",
    icon_url="https://i",
    urls=("https://m",),
    time=5,
    tos_url="https://t",
    max_array_length=1000,
    nuts={"4": {"methods": [{"method": "bolt11", "unit": "sat", "min_amount": 0, "max_amount": 2**64 - 1}], "disabled": False},
          "5": {"methods": [], "disabled": False}, "7": {"supported": True}, "11": {"supported": False},
          "17": {"supported": [{"method": "bolt11"}]}, "19": {"ttl": None, "cached_endpoints": []}, "20": "yes"},
)  # fmt: skip


def test_information_crosses_the_wire() -> None:
    """All of it; what is not set is not written."""
    assert wire.info_from_json(wire.info_to_json(INFO)) == INFO
    assert json.loads(wire.info_to_json(MintInfo())) == {"nuts": {}}
    assert json.loads(wire.info_to_json(INFO))["max_array_length"] == 1000


def test_what_a_mint_supports() -> None:
    """A boolean, a list that is not empty, or for 4 and 5 methods that are not disabled."""
    assert [nut for nut in (4, 5, 7, 11, 17, 19, 20, 99) if INFO.supports(nut)] == [4, 7, 17, 19]
    off = MintInfo(nuts={"4": {"methods": [{"method": "bolt11", "unit": "sat"}], "disabled": True}, "17": {"supported": []}})
    assert not off.supports(4)
    assert not off.supports(17)


def test_methods_are_read_one_by_one() -> None:
    """One that does not parse does not hide the others; names are made where none is given."""
    assert INFO.methods(4) == (MethodSetting("bolt11", "sat", None, 0, 2**64 - 1),)
    odd = MintInfo(
        nuts={"4": {"methods": [1, {"method": "apple-pay", "unit": "usd"}, {"unit": "sat"}]}, "5": [], "15": {"methods": 1}}
    )
    (setting,) = odd.methods(4)
    assert setting.display_name == "Apple Pay"
    assert MethodSetting("x", "sat", "Own name").display_name == "Own name"
    assert (odd.methods(5), odd.methods(15), odd.methods(99)) == ((), (), ())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"contact": [["email", "a@b"], {"method": "x", "info": "y"}, ["z"], 5, {"method": 1, "info": "q"}]},
         {"contact": (Contact("email", "a@b"), Contact("x", "y"))}),
        ({"contact": "me", "urls": "https://m", "nuts": [], "name": 5}, {}),
        ({"urls": ["https://m", 5, ""]}, {"urls": ("https://m",)}),
        ({"time": "now", "max_array_length": 0}, {}),
        ({"time": True, "max_array_length": -1}, {}),
        ({"motd": "a\x07\u202eb", "name": "n" * 9999}, {"motd": "ab", "name": "n" * 500}),
        ({"name": None, "unknown": {"deep": [1]}}, {}),
    ],
)  # fmt: skip
def test_odd_information_is_read_leniently(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Old shapes, wrong types and hostile text: the rest stays readable."""
    assert wire.info_from_json(json.dumps(fields).encode()) == MintInfo(**expected)


@pytest.mark.parametrize("data", [b"[]", b"{", b"", b'{"nuts":' + b'{"a":' * 20 + b"1" + b"}" * 21, b'{"a":' + b"[" * 5000])
def test_what_is_no_information_is_malformed(data: bytes) -> None:
    """No object, no JSON, or nested too deeply."""
    with pytest.raises(MalformedError):
        wire.info_from_json(data)


# NUT-17


@pytest.mark.parametrize(
    "text", ["proof_state", "bolt11_mint_quote", "bolt12_melt_quote", "apple-pay_mint_quote", "my_own_melt_quote"]
)
def test_kinds_have_a_topic_and_a_method(text: str) -> None:
    """Any method may be watched; the text is kept."""
    assert str(SubscriptionKind.parse(text)) == text


@pytest.mark.parametrize("text", ["", "mint_quote", "_mint_quote", "proof_states", "BOLT11_mint_quote", "bolt11_mint_quotes"])
def test_other_kinds_are_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(MalformedError):
        SubscriptionKind.parse(text)


@pytest.mark.parametrize(
    "request_",
    [
        SubscribeRequest(0, "sub", SubscriptionKind("proof_state"), (Y.hex(), Y.hex())),
        SubscribeRequest("text id", "sub", SubscriptionKind("mint_quote", "bolt11"), ("q",)),
        UnsubscribeRequest(2**63, "sub"),
        UnsubscribeRequest(None, "sub"),
    ],
)
def test_requests_cross_the_wire(request_: SubscribeRequest | UnsubscribeRequest) -> None:
    """With `params` as an object or as text that holds one."""
    data = wire.rpc_request_to_json(request_)
    assert wire.rpc_request_from_json(data) == request_
    shape = json.loads(data)
    shape["params"] = json.dumps(shape["params"])
    assert wire.rpc_request_from_json(json.dumps(shape)) == request_


def rpc(method: str = "subscribe", /, **params: Any) -> bytes:
    """A request."""
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).encode()


GOOD: dict[str, Any] = {"kind": "proof_state", "subId": "s", "filters": [Y.hex()]}


@pytest.mark.parametrize(
    ("data", "code", "request_id"),
    [
        (b"{", PARSE_ERROR, None),
        (b"[]", INVALID_REQUEST, None),
        (b'{"id":1}', INVALID_REQUEST, None),
        (json.dumps({"id": "x" * 300, "method": "subscribe"}).encode(), INVALID_REQUEST, None),
        (rpc("publish"), METHOD_NOT_FOUND, 7),
        (rpc(), INVALID_PARAMS, 7),
        (b'{"id":7,"method":"subscribe"}', INVALID_PARAMS, 7),
        (b'{"id":7,"method":"subscribe","params":"{"}', INVALID_PARAMS, 7),
        (b'{"id":7,"method":"unsubscribe","params":{"subId":""}}', INVALID_PARAMS, 7),
        (rpc(**{**GOOD, "kind": "x"}), INVALID_PARAMS, 7),
        (rpc(**{**GOOD, "kind": None}), INVALID_PARAMS, 7),
        (rpc(**{**GOOD, "filters": []}), INVALID_PARAMS, 7),
        (rpc(**{**GOOD, "filters": None}), INVALID_PARAMS, 7),
        (rpc(**{**GOOD, "filters": [Y.hex()] * 101}), INVALID_PARAMS, 7),
        (rpc(**{**GOOD, "filters": ["zz"]}), INVALID_PARAMS, 7),
        (rpc(**{**GOOD, "kind": "bolt11_mint_quote", "filters": [""]}), INVALID_PARAMS, 7),
        (rpc(**{**GOOD, "subId": "s" * 256}), INVALID_PARAMS, 7),
    ],
)
def test_bad_requests_are_answered_with_their_id(data: bytes, code: int, request_id: int | None) -> None:
    """As JSON-RPC asks; the answer can be written and read."""
    with pytest.raises(RpcError) as caught:
        wire.rpc_request_from_json(data)
    error = caught.value
    assert (error.rpc_code, error.request_id) == (code, request_id)
    answer = wire.rpc_message_from_json(wire.rpc_error_to_json(error))
    assert isinstance(answer, RpcError)
    assert (answer.rpc_code, answer.request_id, answer.detail) == (code, request_id, error.detail)


def test_filters_are_bounded_by_the_limits() -> None:
    """And hex of Ys becomes lower case."""
    data = rpc(**{**GOOD, "filters": [Y.hex().upper()] * 3})
    request = wire.rpc_request_from_json(data)
    assert isinstance(request, SubscribeRequest)
    assert request.filters == (Y.hex(),) * 3
    with pytest.raises(RpcError):
        wire.rpc_request_from_json(data, limits=Limits(filters=2))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("proof_state", ProofState(Y, State.PENDING)),
        ("bolt11_mint_quote", MintQuote("q", "bolt11", "r", "sat", 2**64 - 1, amount_paid=2**64 - 1, updated_at=3)),
        ("bolt11_melt_quote", MeltQuote("q", "bolt11", "r", "sat", 1, 2)),
    ],
)
def test_notifications_cross_the_wire(kind: str, payload: Any) -> None:
    """One quote or one state, read by the kind of its subscription."""
    message = wire.rpc_message_from_json(wire.notification_to_json("sub", payload))
    assert isinstance(message, Notification)
    assert message.sub_id == "sub"
    assert wire.payload_from_json(message.payload, SubscriptionKind.parse(kind)) == payload


def test_results_cross_the_wire() -> None:
    """With the id of the request, a number or a text."""
    for request_id in (0, "1"):
        assert wire.rpc_message_from_json(wire.rpc_result_to_json(RpcResult(request_id, "s"))) == RpcResult(request_id, "s")


@pytest.mark.parametrize("data", [b"{}", b"[]", b"{", b'{"jsonrpc":"2.0","id":1}', b'{"result":{"status":"OK","subId":""}}'])
def test_other_messages_are_malformed(data: bytes) -> None:
    """Neither answer nor news."""
    with pytest.raises(MalformedError):
        wire.rpc_message_from_json(data)
