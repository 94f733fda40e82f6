"""`creqA...`: a payment request as CBOR in base64 (NUT-18). Unknown fields are ignored, null and undefined are absence."""

from __future__ import annotations

from typing import Any

import cbor2
import msgspec

from specie.ecash.cbor import decode_cbor
from specie.ecash.mint_url import mint_url_checked
from specie.ecash.requests.request import LockOption, PaymentMethod, PaymentRequest, Transport, request_checked
from specie.kernel.encoding import base64url_decode, base64url_encode
from specie.kernel.errors import MalformedError
from specie.kernel.limits import Limits
from specie.kernel.money import unit_checked

__all__ = ["CREQ_A", "decode_creq_a", "encode_creq_a"]

CREQ_A = "creqA"


class _TransportCbor(msgspec.Struct):
    t: str
    a: str
    g: list[list[str]] = []


class _LockCbor(msgspec.Struct):
    k: str
    d: str
    t: list[list[str]] = []


class _MethodCbor(msgspec.Struct):
    mn: str
    mf: int = 0


class _RequestCbor(msgspec.Struct):
    i: str | None = None
    a: int | None = None
    u: str | None = None
    s: bool | None = None
    m: list[str] = []
    d: str | None = None
    t: list[_TransportCbor] = []
    nut10: _LockCbor | None = None
    mp: bool | None = None
    sm: list[_MethodCbor] = []


def encode_creq_a(request: PaymentRequest) -> str:
    """Text of a request: base64 of the URL alphabet, padded as the specification's examples are."""
    body: dict[str, Any] = {"i": request.id, "a": request.amount, "u": request.unit, "s": request.single_use}
    body["m"] = list(request.mints)
    body["d"] = request.description
    body["t"] = [_without_empty({"t": one.kind, "a": one.target, "g": _lists(one.tags)}) for one in request.transports]
    if (lock := request.lock) is not None:
        body["nut10"] = _without_empty({"k": lock.kind, "d": lock.data, "t": _lists(lock.tags)})
    body["mp"] = request.mints_preferred
    body["sm"] = [{"mn": one.name, "mf": one.fee} if one.fee else {"mn": one.name} for one in request.methods]
    return CREQ_A + base64url_encode(cbor2.dumps(_without_empty(body)), padding=True)


def _lists(tags: tuple[tuple[str, ...], ...]) -> list[list[str]]:
    return [list(tag) for tag in tags]


def _without_empty(body: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if value is not None and value != []}


def decode_creq_a(text: str, limits: Limits) -> PaymentRequest:
    """Read what follows `creqA`, which is itself read in either case. MalformedError for anything else."""
    if text[: len(CREQ_A)].lower() != CREQ_A.lower():
        raise MalformedError("not a payment request: it does not start with creqA")
    value = decode_cbor(base64url_decode(text[len(CREQ_A) :]), limits, "payment request")
    try:
        wire = msgspec.convert(value, _RequestCbor)
    except msgspec.ValidationError as error:
        raise MalformedError(f"payment request does not fit: {error}"[:200]) from None
    return request_checked(
        PaymentRequest(
            id=wire.i,
            amount=wire.a,
            unit=None if wire.u is None else unit_checked(wire.u),
            single_use=wire.s,
            mints=tuple(dict.fromkeys(map(mint_url_checked, wire.m))),
            description=wire.d,
            transports=tuple(Transport(one.t, one.a, tuple(map(tuple, one.g))) for one in wire.t),
            lock=None if wire.nut10 is None else LockOption(wire.nut10.k, wire.nut10.d, tuple(map(tuple, wire.nut10.t))),
            mints_preferred=wire.mp,
            methods=tuple(PaymentMethod(one.mn, one.mf) for one in wire.sm),
        ),
        limits,
    )
