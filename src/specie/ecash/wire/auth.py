"""JSON and header text of blind authentication (NUT-22), both ways.

A blind token travels in the header `Blind-auth` as `authA` and base64url of `{id, secret, C}`, padded or not. It never
carries its DLEQ proof: with the blinding factor in it the mint would know its own signature again.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from specie.ecash.codes import BlindAuthFailedError
from specie.ecash.proof import BlindedMessage, Proof
from specie.ecash.wire.codec import bounded_text, decode, encode, keyset_id, point_shape
from specie.ecash.wire.coins import OutputWire, outputs_from_wire, outputs_to_wire
from specie.kernel.encoding import base64url_decode, base64url_encode
from specie.kernel.errors import RefusedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits

__all__ = ["auth_mint_request_from_json", "auth_mint_request_to_json", "auth_token_from_text", "auth_token_to_text"]

_PREFIX = "authA"
_MAX_CHARS = 4096


class _AuthProofWire(msgspec.Struct):
    id: str
    secret: str
    C: str

    def __repr__(self) -> str:
        return f"_AuthProofWire(id={self.id!r}, secret=..., C={self.C!r})"


class _MintWire(msgspec.Struct):
    outputs: list[OutputWire]


_auth_proof = msgspec.json.Decoder(_AuthProofWire)
_mint = msgspec.json.Decoder(_MintWire)


def auth_token_to_text(proof: Proof) -> str:
    """The header's value of one blind token."""
    return _PREFIX + base64url_encode(encode(_AuthProofWire(proof.id, proof.secret, proof.C.hex())))


def auth_token_from_text(text: str, *, limits: Limits = DEFAULT_LIMITS) -> Proof:
    """The blind token of a header's value, of amount 1. BlindAuthFailedError for what is none."""
    if len(text) > _MAX_CHARS or not text.startswith(_PREFIX):
        raise BlindAuthFailedError("the header holds no blind token")
    try:
        wire = decode(base64url_decode(text[len(_PREFIX) :]), _auth_proof, limits)
        identifier = keyset_id(wire.id)
        secret = bounded_text(wire.secret, limits.secret_chars, "secret")
        return Proof(1, identifier, secret, point_shape(wire.C, identifier))
    except RefusedError:
        raise BlindAuthFailedError("the header holds no blind token") from None


def auth_mint_request_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[BlindedMessage, ...]:
    """Body of POST /v1/auth/blind/mint: the blinded messages. TooManyOutputsError, MalformedError."""
    return outputs_from_wire(decode(data, _mint, limits).outputs, limits)


def auth_mint_request_to_json(outputs: Iterable[BlindedMessage]) -> bytes:
    """Body of POST /v1/auth/blind/mint."""
    return encode(_MintWire(outputs_to_wire(outputs)))
