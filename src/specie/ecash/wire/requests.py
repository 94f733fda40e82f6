"""JSON of a payment's payload (NUT-18), both ways."""

from __future__ import annotations

import msgspec

from specie.ecash.mint_url import mint_url_checked
from specie.ecash.payload import PaymentPayload
from specie.ecash.wire.codec import bounded_text, decode, encode
from specie.ecash.wire.coins import ProofWire, proof_from_wire, proof_to_wire
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.kernel.money import unit_checked

__all__ = ["payment_payload_from_json", "payment_payload_to_json"]


class _PayloadWire(msgspec.Struct, omit_defaults=True):
    mint: str
    unit: str
    proofs: list[ProofWire]
    id: str | None = None
    memo: str | None = None


_payload = msgspec.json.Decoder(_PayloadWire)


def payment_payload_from_json(data: bytes | str, *, limits: Limits = DEFAULT_LIMITS) -> PaymentPayload:
    """A PaymentRequestPayload (NUT-18). Nothing in it has been verified.

    MalformedError for no coins, more than `limits.array_length`, a coin twice, and texts beyond their bounds or with U+0000.
    """
    wire = decode(data, _payload, limits)
    if not 0 < len(wire.proofs) <= limits.array_length:
        raise MalformedError("a payment holds no coins, or more than the limit")
    proofs = tuple([proof_from_wire(item, limits) for item in wire.proofs])
    if len({proof.secret for proof in proofs}) != len(proofs):
        raise MalformedError("a payment holds a coin twice")
    return PaymentPayload(
        mint_url_checked(wire.mint),
        unit_checked(wire.unit),
        proofs,
        None if wire.id is None else _text(wire.id, limits.description_chars, "id"),
        None if wire.memo is None else _text(wire.memo, limits.secret_chars, "memo"),
    )


def _text(text: str, limit: int, name: str) -> str:
    if "\0" in text:  # which not every store takes
        raise MalformedError(f"{name} holds U+0000")
    return bounded_text(text, limit, name)


def payment_payload_to_json(payload: PaymentPayload) -> bytes:
    """A PaymentRequestPayload with witness, DLEQ and p2pk_e of every coin: it is money."""
    proofs = [proof_to_wire(proof) for proof in payload.proofs]
    return encode(_PayloadWire(payload.mint, payload.unit, proofs, payload.id, payload.memo))
