"""Subscriptions as values (NUT-17): what a wallet may watch over a WebSocket, and what it is told.

Not here: JSON-RPC (`wire.notifications`), and who is told when.
"""

from __future__ import annotations

import re

import msgspec

from specie.ecash.proof import ProofState
from specie.ecash.quote import MeltQuote, MintQuote
from specie.kernel.errors import MalformedError

__all__ = [
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "Notification",
    "Payload",
    "RpcError",
    "RpcResult",
    "SubscribeRequest",
    "SubscriptionKind",
    "UnsubscribeRequest",
]

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

_KIND = re.compile(r"([a-z0-9_-]{1,64})_(mint_quote|melt_quote)")

Payload = MintQuote | MeltQuote | ProofState


class SubscriptionKind(msgspec.Struct, frozen=True):
    """What is watched: `topic` is `mint_quote` or `melt_quote` of a payment method, or `proof_state`."""

    topic: str
    method: str | None = None

    @classmethod
    def parse(cls, text: str) -> SubscriptionKind:
        """Read `proof_state`, `{method}_mint_quote` or `{method}_melt_quote`; MalformedError for anything else."""
        if text == "proof_state":
            return cls("proof_state")
        match = _KIND.fullmatch(text)
        if match is None:
            raise MalformedError("unknown subscription kind")
        return cls(match[2], match[1])

    def __str__(self) -> str:
        """The text of the specification."""
        return self.topic if self.method is None else f"{self.method}_{self.topic}"


class SubscribeRequest(msgspec.Struct, frozen=True):
    """A wallet watches `filters`: quote ids, or Ys as 66 lower-case hex characters. `sub_id` is the wallet's choice."""

    id: int | str | None
    sub_id: str
    kind: SubscriptionKind
    filters: tuple[str, ...]


class UnsubscribeRequest(msgspec.Struct, frozen=True):
    """A wallet watches no more."""

    id: int | str | None
    sub_id: str


class RpcResult(msgspec.Struct, frozen=True):
    """The mint took the request with this id."""

    id: int | str | None
    sub_id: str


class Notification(msgspec.Struct, frozen=True):
    """News for a subscription; `payload` is JSON, read by `wire.payload_from_json` once the subscription's kind is known."""

    sub_id: str
    payload: bytes


class RpcError(MalformedError):
    """A JSON-RPC error, on either side. Attributes: `rpc_code` of JSON-RPC 2.0, `request_id` where it is known."""

    def __init__(self, detail: str, *, rpc_code: int, request_id: int | str | None = None) -> None:
        super().__init__(detail)
        self.rpc_code = rpc_code
        self.request_id = request_id
