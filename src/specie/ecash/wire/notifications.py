"""JSON-RPC messages of the WebSocket (NUT-17), both ways.

`params` is read as an object, as all examples have it, or as text that holds one, as the prose has it; ids are numbers or
texts. A mint sends the answer to `subscribe` first, then the present state of every filter.
"""

from __future__ import annotations

import msgspec

from specie.ecash.proof import ProofState
from specie.ecash.quote import MeltQuote, MintQuote
from specie.ecash.subscription import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    Notification,
    Payload,
    RpcError,
    RpcResult,
    SubscribeRequest,
    SubscriptionKind,
    UnsubscribeRequest,
)
from specie.ecash.wire.codec import decode, encode, point_shape, quote_id
from specie.ecash.wire.coins import StateWire, state_from_wire, state_to_wire
from specie.ecash.wire.quotes import (
    melt_quote_from_json,
    melt_quote_to_wire,
    mint_quote_from_json,
    mint_quote_to_wire,
)
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "notification_to_json",
    "payload_from_json",
    "rpc_error_to_json",
    "rpc_message_from_json",
    "rpc_request_from_json",
    "rpc_request_to_json",
    "rpc_result_to_json",
]

_VERSION = "2.0"
_MAX_ID_CHARS = 255
_DETAIL_CHARS = 500

_Id = int | str | None


class _RequestWire(msgspec.Struct):
    method: str
    params: msgspec.Raw = msgspec.Raw(b"null")
    id: _Id = None


class _ParamsWire(msgspec.Struct, omit_defaults=True):
    subId: str
    kind: str | None = None
    filters: list[str] | None = None


class _ResultWire(msgspec.Struct):
    status: str
    subId: str


class _ErrorWire(msgspec.Struct):
    code: int
    message: str


class _NewsWire(msgspec.Struct):
    subId: str
    payload: msgspec.Raw


class _MessageWire(msgspec.Struct):
    id: _Id = None
    result: _ResultWire | None = None
    error: _ErrorWire | None = None
    method: str | None = None
    params: _NewsWire | None = None


_request = msgspec.json.Decoder(_RequestWire)
_params = msgspec.json.Decoder(_ParamsWire)
_text = msgspec.json.Decoder(str)
_message = msgspec.json.Decoder(_MessageWire)
_state = msgspec.json.Decoder(StateWire)


def rpc_request_from_json(data: bytes | str, *, limits: Limits = DEFAULT_LIMITS) -> SubscribeRequest | UnsubscribeRequest:
    """A wallet's message to the mint. RpcError, with what is known of its id, for anything but the two commands."""
    try:
        wire = decode(data, _request, limits)
    except MalformedError as error:
        code = PARSE_ERROR if "JSON" in error.detail else INVALID_REQUEST
        raise RpcError(error.detail, rpc_code=code) from None
    request_id = wire.id
    if isinstance(request_id, str) and len(request_id) > _MAX_ID_CHARS:
        raise RpcError("id is too long", rpc_code=INVALID_REQUEST)
    if wire.method not in ("subscribe", "unsubscribe"):
        raise RpcError("unknown method", rpc_code=METHOD_NOT_FOUND, request_id=request_id)
    try:
        raw = bytes(wire.params)
        params = decode(decode(raw, _text, limits) if raw[:1] == b'"' else raw, _params, limits)
        sub_id = _sub_id(params.subId)
        if wire.method == "unsubscribe":
            return UnsubscribeRequest(request_id, sub_id)
        return _subscribe(request_id, sub_id, params, limits)
    except MalformedError as error:
        raise RpcError(error.detail, rpc_code=INVALID_PARAMS, request_id=request_id) from None


def _sub_id(text: str) -> str:
    if not 0 < len(text) <= _MAX_ID_CHARS:
        raise MalformedError("subId is empty or too long")
    return text


def _subscribe(request_id: _Id, sub_id: str, params: _ParamsWire, limits: Limits) -> SubscribeRequest:
    kind = SubscriptionKind.parse(params.kind or "")
    filters = params.filters or []
    if not 0 < len(filters) <= limits.filters:
        raise MalformedError(f"a subscription has 1 to {limits.filters} filters")
    if kind.topic == "proof_state":
        filters = [point_shape(item).hex() for item in filters]
    else:
        filters = [quote_id(item) for item in filters]
    return SubscribeRequest(request_id, sub_id, kind, tuple(filters))


def rpc_request_to_json(request: SubscribeRequest | UnsubscribeRequest) -> bytes:
    """A wallet's message to the mint, `params` as an object."""
    if isinstance(request, SubscribeRequest):
        params = _ParamsWire(request.sub_id, str(request.kind), list(request.filters))
        return encode({"jsonrpc": _VERSION, "method": "subscribe", "params": params, "id": request.id})
    params = _ParamsWire(request.sub_id)
    return encode({"jsonrpc": _VERSION, "method": "unsubscribe", "params": params, "id": request.id})


def rpc_result_to_json(result: RpcResult) -> bytes:
    """The mint's answer that a request is taken."""
    return encode({"jsonrpc": _VERSION, "result": {"status": "OK", "subId": result.sub_id}, "id": result.id})


def rpc_error_to_json(error: RpcError) -> bytes:
    """The mint's answer that it is not; `id` null where the request had none that could be read."""
    body = {"code": error.rpc_code, "message": error.detail}
    return encode({"jsonrpc": _VERSION, "error": body, "id": error.request_id})


def notification_to_json(sub_id: str, payload: Payload) -> bytes:
    """The mint's news for one subscription: one quote, or the state of one coin."""
    wire: object
    if isinstance(payload, MintQuote):
        wire = mint_quote_to_wire(payload)
    elif isinstance(payload, MeltQuote):
        wire = melt_quote_to_wire(payload)
    else:
        wire = state_to_wire(payload)
    return encode({"jsonrpc": _VERSION, "method": "subscribe", "params": {"subId": sub_id, "payload": wire}})


def rpc_message_from_json(data: bytes | str, *, limits: Limits = DEFAULT_LIMITS) -> RpcResult | RpcError | Notification:
    """A mint's message to the wallet; an RpcError is returned, not raised. MalformedError for anything else."""
    wire = decode(data, _message, limits)
    if wire.error is not None:
        return RpcError(wire.error.message[:_DETAIL_CHARS], rpc_code=wire.error.code, request_id=wire.id)
    if wire.result is not None:
        return RpcResult(wire.id, _sub_id(wire.result.subId))
    if wire.params is not None:
        return Notification(_sub_id(wire.params.subId), bytes(wire.params.payload))
    raise MalformedError("message is neither an answer nor a notification")


def payload_from_json(
    data: bytes,
    kind: SubscriptionKind,
    *,
    unit: str | None = None,
    amount_asked: int | None = None,
    quote: MeltQuote | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Payload:
    """The value in a notification, by the kind of its subscription. What old mints leave out is taken from the arguments."""
    if kind.topic == "mint_quote":
        return mint_quote_from_json(data, method=kind.method or "", unit=unit, amount_asked=amount_asked, limits=limits)
    if kind.topic == "melt_quote":
        return melt_quote_from_json(data, method=kind.method or "", quote=quote, unit=unit, limits=limits)
    state: ProofState = state_from_wire(decode(data, _state, limits), limits)
    return state
