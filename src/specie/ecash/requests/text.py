"""Any text of a payment request: `creqA` (NUT-18), `creqB` (NUT-26), or a BIP 321 URI that carries one of them."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote, unquote

from specie.ecash.requests.creq_a import CREQ_A, decode_creq_a, encode_creq_a
from specie.ecash.requests.creq_b import CREQ_B, decode_creq_b, encode_creq_b
from specie.ecash.requests.request import PaymentRequest, request_checked
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits

__all__ = ["RequestForm", "decode_payment_request", "encode_payment_request", "payment_request_uri"]

RequestForm = Literal["creqA", "creqB"]

_BITCOIN = "bitcoin:"
_SCHEMES = ("web+cashu://", "cashu://", "cashu:")
_PARAMETER = "creq"
_REQUIRED = "req-"


def encode_payment_request(request: PaymentRequest, form: RequestForm = "creqA", *, limits: Limits = DEFAULT_LIMITS) -> str:
    """Text of a request: `creqA`, which every wallet reads, or the shorter `creqB`, which makes better QR codes.

    MalformedError for a request that breaks the rules of NUT-18, or that `creqB` has no way to say.
    """
    request_checked(request, limits)
    text = encode_creq_a(request) if form == "creqA" else encode_creq_b(request)
    if len(text) > limits.payment_request_chars:
        raise MalformedError("the payment request is too long")
    return text


def payment_request_uri(request: PaymentRequest, *, address: str = "", lightning: str | None = None) -> str:
    """A BIP 321 URI with the request as `creqB`, and beside it what other wallets can pay: an address, a BOLT 11 invoice.

    Errors as `encode_payment_request`.
    """
    others = "" if lightning is None else f"lightning={quote(lightning, safe='')}&"
    return f"{_BITCOIN}{quote(address, safe='')}?{others}{_PARAMETER}={encode_payment_request(request, 'creqB')}"


def decode_payment_request(text: str, *, limits: Limits = DEFAULT_LIMITS) -> PaymentRequest:
    """Read a payment request from any of its texts. Nothing is asked of anybody.

    MalformedError for anything else, for a URI without `creq`, and for one with a `req-` parameter, since none is known
    here and BIP 321 forbids to pay then.
    """
    text = text.strip()
    if len(text) > limits.payment_request_chars:
        raise MalformedError("the payment request is too long")
    lower = text[: len(_BITCOIN)].lower()
    if lower == _BITCOIN:
        text = _creq_of(text[len(_BITCOIN) :])
    else:
        for scheme in _SCHEMES:
            if text[: len(scheme)].lower() == scheme:
                text = text[len(scheme) :]
                break
    if text[: len(CREQ_A)].lower() == CREQ_A.lower():
        return decode_creq_a(text, limits)
    if text[: len(CREQ_B)].lower() == CREQ_B:
        return decode_creq_b(text, limits)
    raise MalformedError("not a payment request: it starts with neither creqA nor creqB")


def _creq_of(body: str) -> str:
    """The first `creq` of a URI's parameters. A plus sign is itself here, for BIP 321 knows percent signs alone."""
    found: list[str] = []
    for item in body.partition("?")[2].partition("#")[0].split("&"):
        name, _, value = item.partition("=")
        name = unquote(name).lower()
        if name.startswith(_REQUIRED):
            raise MalformedError("the URI requires something that is not known here")
        if name == _PARAMETER:
            found.append(unquote(value))
    if not found:
        raise MalformedError("the URI carries no payment request")
    return found[0]
