"""JSON of proofs, blinded messages, blind signatures and states (NUT-00, 03, 07, 09, 12), both ways.

The mint's hot path: one wire struct and a handful of operations for each coin. The C of an input is checked for its shape
alone, for it is only compared with a point computed from the mint's key; B_ is multiplied by that key, so it is
checked to be on the curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from specie.ecash.codes import TooManyInputsError, TooManyOutputsError
from specie.ecash.proof import BlindedMessage, BlindSignature, Dleq, Proof, ProofDleq, ProofState, State
from specie.ecash.transaction import SwapRequest
from specie.ecash.wire.codec import (
    AMOUNT_RANGE,
    amount,
    bounded_text,
    decode,
    encode,
    hex_bytes,
    keyset_id,
    keyset_scheme,
    point,
    point_shape,
    scalar,
)
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.kernel.money import MAX_AMOUNT

__all__ = [
    "InputWire",
    "OutputWire",
    "ProofWire",
    "SignatureWire",
    "check_state_request_from_json",
    "check_state_request_to_json",
    "inputs_from_wire",
    "inputs_to_wire",
    "outputs_from_wire",
    "outputs_to_wire",
    "proof_from_wire",
    "proof_to_wire",
    "proofs_from_json",
    "proofs_to_json",
    "restore_from_json",
    "restore_request_from_json",
    "restore_request_to_json",
    "restore_to_json",
    "signatures_from_json",
    "signatures_from_wire",
    "signatures_to_json",
    "signatures_to_wire",
    "state_to_wire",
    "states_from_json",
    "states_to_json",
    "swap_request_from_json",
    "swap_request_to_json",
]


class InputWire(msgspec.Struct, gc=False, omit_defaults=True):
    """A proof as a mint sees it: without DLEQ and without p2pk_e."""

    amount: int
    id: str
    secret: str
    C: str
    witness: str | dict[str, Any] | None = None

    def __repr__(self) -> str:
        """Without the secret and the witness, which are money."""
        return f"InputWire(amount={self.amount}, id={self.id!r}, secret=..., C={self.C!r})"


class ProofDleqWire(msgspec.Struct, gc=False):
    """DLEQ of a proof."""

    e: str
    s: str
    r: str

    def __repr__(self) -> str:
        """Without the blinding factor."""
        return f"ProofDleqWire(e={self.e!r}, s={self.s!r}, r=...)"


class ProofWire(msgspec.Struct, omit_defaults=True):
    """A proof as wallets pass it on."""

    amount: int
    id: str
    secret: str
    C: str
    witness: str | dict[str, Any] | None = None
    dleq: ProofDleqWire | None = None
    p2pk_e: str | None = None

    def __repr__(self) -> str:
        """Without the secret and the witness, which are money."""
        return f"ProofWire(amount={self.amount}, id={self.id!r}, secret=..., C={self.C!r})"


class OutputWire(msgspec.Struct, gc=False):
    """A blinded message."""

    amount: int
    id: str
    B_: str


class DleqWire(msgspec.Struct, gc=False):
    """DLEQ of a blind signature."""

    e: str
    s: str


class SignatureWire(msgspec.Struct, gc=False, omit_defaults=True):
    """A blind signature."""

    id: str
    amount: int
    C_: str
    dleq: DleqWire | None = None


class _SwapWire(msgspec.Struct):
    inputs: list[InputWire]
    outputs: list[OutputWire]


class _SignaturesWire(msgspec.Struct):
    signatures: list[SignatureWire]


class _CheckWire(msgspec.Struct):
    Ys: list[str]


class StateWire(msgspec.Struct):
    """State of one coin."""

    Y: str
    state: str
    witness: str | dict[str, Any] | None = None


class _StatesWire(msgspec.Struct):
    states: list[StateWire]


class _RestoreRequestWire(msgspec.Struct):
    outputs: list[OutputWire]


class _RestoreWire(msgspec.Struct):
    outputs: list[OutputWire]
    signatures: list[SignatureWire] | None = None
    promises: list[SignatureWire] | None = None


_swap = msgspec.json.Decoder(_SwapWire)
_signatures = msgspec.json.Decoder(_SignaturesWire)
_check = msgspec.json.Decoder(_CheckWire)
_states = msgspec.json.Decoder(_StatesWire)
_restore_request = msgspec.json.Decoder(_RestoreRequestWire)
_restore = msgspec.json.Decoder(_RestoreWire)
_proofs = msgspec.json.Decoder(list[ProofWire])


def _witness(value: str | dict[str, Any] | None, limits: Limits) -> str | None:
    """Witness as text; some peers send the object itself."""
    if value is None:
        return None
    text = value if isinstance(value, str) else encode(value).decode()
    return bounded_text(text, limits.witness_chars, "witness")


def inputs_from_wire(items: Sequence[InputWire], limits: Limits) -> tuple[Proof, ...]:
    """Proofs for a mint. TooManyInputsError beyond `limits.array_length`; MalformedError for a bad field."""
    if len(items) > limits.array_length:
        raise TooManyInputsError
    secret_chars = limits.secret_chars
    proofs = []
    for item in items:
        identifier, scheme = keyset_scheme(item.id)
        c = hex_bytes(item.C)
        if not 0 <= item.amount <= MAX_AMOUNT:
            raise MalformedError(AMOUNT_RANGE)
        if len(c) != scheme.point_bytes:
            raise MalformedError("C is not a compressed point")
        if len(item.secret) > secret_chars:
            raise MalformedError(f"secret is longer than {secret_chars} characters")
        witness = None if item.witness is None else _witness(item.witness, limits)
        proofs.append(Proof(item.amount, identifier, item.secret, c, witness))
    return tuple(proofs)


def inputs_to_wire(proofs: Iterable[Proof]) -> list[InputWire]:
    """Proofs as a mint may see them: DLEQ and p2pk_e stay with the wallet."""
    return [InputWire(proof.amount, proof.id, proof.secret, proof.C.hex(), proof.witness) for proof in proofs]


def outputs_from_wire(
    items: Sequence[OutputWire], limits: Limits, *, checked_later: bool = False
) -> tuple[BlindedMessage, ...]:
    """Blinded messages on their curve. TooManyOutputsError beyond `limits.array_length`; MalformedError for a bad field.

    `checked_later`: B_ need only be as long as a point, because the signer, who reads it next, refuses one that is none, or
    because it is only looked for among those that were signed.
    """
    if len(items) > limits.array_length:
        raise TooManyOutputsError
    outputs = []
    for item in items:
        identifier, scheme = keyset_scheme(item.id)
        b_ = hex_bytes(item.B_)
        if not 0 <= item.amount <= MAX_AMOUNT:
            raise MalformedError(AMOUNT_RANGE)
        if not (len(b_) == scheme.point_bytes if checked_later else scheme.is_point(b_)):
            raise MalformedError("B_ is not a point of the keyset's curve")
        outputs.append(BlindedMessage(item.amount, identifier, b_))
    return tuple(outputs)


def outputs_to_wire(outputs: Iterable[BlindedMessage]) -> list[OutputWire]:
    """Blinded messages for JSON."""
    return [OutputWire(output.amount, output.id, output.B_.hex()) for output in outputs]


def signatures_from_wire(items: Sequence[SignatureWire], limits: Limits) -> tuple[BlindSignature, ...]:
    """Blind signatures of a mint, on their curve. MalformedError for a bad field or too many."""
    if len(items) > limits.array_length:
        raise MalformedError("more signatures than a request can ask for")
    return tuple(
        [
            BlindSignature(
                amount(item.amount),
                keyset_id(item.id),
                point(item.C_, item.id),
                None if item.dleq is None else Dleq(scalar(item.dleq.e), scalar(item.dleq.s)),
            )
            for item in items
        ]
    )


def signatures_to_wire(signatures: Iterable[BlindSignature]) -> list[SignatureWire]:
    """Blind signatures for JSON."""
    return [
        SignatureWire(
            signature.id,
            signature.amount,
            signature.C_.hex(),
            None if (dleq := signature.dleq) is None else DleqWire(dleq.e.hex(), dleq.s.hex()),
        )
        for signature in signatures
    ]


def proof_from_wire(item: ProofWire, limits: Limits) -> Proof:
    """A proof as wallets pass it on; C and p2pk_e are on the curve. MalformedError for a bad field."""
    dleq = item.dleq
    return Proof(
        amount(item.amount),
        keyset_id(item.id),
        bounded_text(item.secret, limits.secret_chars, "secret"),
        point(item.C, item.id),
        _witness(item.witness, limits),
        None if dleq is None else ProofDleq(scalar(dleq.e), scalar(dleq.s), scalar(dleq.r)),
        None if item.p2pk_e is None else point(item.p2pk_e),
    )


def proof_to_wire(proof: Proof) -> ProofWire:
    """A proof with all a receiver needs: witness, DLEQ and p2pk_e."""
    dleq = proof.dleq
    return ProofWire(
        proof.amount,
        proof.id,
        proof.secret,
        proof.C.hex(),
        proof.witness,
        None if dleq is None else ProofDleqWire(dleq.e.hex(), dleq.s.hex(), dleq.r.hex()),
        None if proof.p2pk_e is None else proof.p2pk_e.hex(),
    )


def proofs_from_json(data: bytes | str, *, limits: Limits = DEFAULT_LIMITS) -> tuple[Proof, ...]:
    """A JSON array of proofs as wallets pass them on (NUT-00)."""
    items = decode(data, _proofs, limits)
    if len(items) > limits.array_length:
        raise MalformedError("more proofs than the limit")
    return tuple([proof_from_wire(item, limits) for item in items])


def proofs_to_json(proofs: Iterable[Proof]) -> bytes:
    """A JSON array of proofs with witness, DLEQ and p2pk_e; for wallets, never for a mint."""
    return encode([proof_to_wire(proof) for proof in proofs])


def swap_request_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> SwapRequest:
    """Body of POST /v1/swap (NUT-03). TooManyInputsError, TooManyOutputsError, MalformedError."""
    wire = decode(data, _swap, limits)
    outputs = outputs_from_wire(wire.outputs, limits, checked_later=True)
    return SwapRequest(inputs_from_wire(wire.inputs, limits), outputs)


def swap_request_to_json(request: SwapRequest) -> bytes:
    """Body of POST /v1/swap."""
    return encode(_SwapWire(inputs_to_wire(request.inputs), outputs_to_wire(request.outputs)))


def signatures_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[BlindSignature, ...]:
    """Answer to a swap or mint request: `{"signatures": [...]}` (NUT-03, NUT-04)."""
    return signatures_from_wire(decode(data, _signatures, limits).signatures, limits)


def signatures_to_json(signatures: Iterable[BlindSignature]) -> bytes:
    """Answer to a swap or mint request."""
    return encode(_SignaturesWire(signatures_to_wire(signatures)))


def check_state_request_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> list[bytes]:
    """Body of POST /v1/checkstate: the Ys in order (NUT-07); hex of either case. MalformedError for too many."""
    ys = decode(data, _check, limits).Ys
    if len(ys) > limits.array_length:
        raise TooManyInputsError("more Ys than the mint takes in one request")
    return [point_shape(item) for item in ys]


def check_state_request_to_json(ys: Iterable[bytes]) -> bytes:
    """Body of POST /v1/checkstate."""
    return encode(_CheckWire([item.hex() for item in ys]))


def states_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> list[ProofState]:
    """Answer to a checkstate request, in order (NUT-07). MalformedError for a state outside of the three."""
    items = decode(data, _states, limits).states
    if len(items) > limits.array_length:
        raise MalformedError("more states than a request can ask for")
    return [state_from_wire(item, limits) for item in items]


def state_from_wire(item: StateWire, limits: Limits) -> ProofState:
    """One state; MalformedError for a state outside of the three."""
    try:
        state = State(item.state)
    except ValueError:
        raise MalformedError("unknown proof state") from None
    return ProofState(point_shape(item.Y), state, _witness(item.witness, limits))


def states_to_json(states: Iterable[ProofState]) -> bytes:
    """Answer to a checkstate request."""
    return encode(_StatesWire([state_to_wire(state) for state in states]))


def state_to_wire(state: ProofState) -> StateWire:
    """One state for JSON; `witness` is null where there is none."""
    return StateWire(state.Y.hex(), state.state.value, state.witness)


def restore_request_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[BlindedMessage, ...]:
    """Body of POST /v1/restore (NUT-09). Amounts in it mean nothing. TooManyOutputsError, MalformedError."""
    return outputs_from_wire(decode(data, _restore_request, limits).outputs, limits, checked_later=True)


def restore_request_to_json(outputs: Iterable[BlindedMessage]) -> bytes:
    """Body of POST /v1/restore."""
    return encode(_RestoreRequestWire(outputs_to_wire(outputs)))


def restore_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> list[tuple[BlindedMessage, BlindSignature]]:
    """Answer to a restore request: the outputs known to the mint, each with its signature (NUT-09).

    The array name `promises` of old mints is read too. MalformedError where the two arrays differ in length.
    """
    wire = decode(data, _restore, limits)
    signatures = wire.signatures if wire.signatures is not None else wire.promises
    if signatures is None or len(signatures) != len(wire.outputs):
        raise MalformedError("restored outputs and signatures do not match")
    return list(zip(outputs_from_wire(wire.outputs, limits), signatures_from_wire(signatures, limits), strict=True))


class _RestoreAnswerWire(msgspec.Struct):
    outputs: list[OutputWire]
    signatures: list[SignatureWire]


def restore_to_json(pairs: Sequence[tuple[BlindedMessage, BlindSignature]]) -> bytes:
    """Answer to a restore request."""
    return encode(
        _RestoreAnswerWire(
            outputs_to_wire(output for output, _ in pairs),
            signatures_to_wire(signature for _, signature in pairs),
        )
    )
