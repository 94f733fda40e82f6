"""What a signature on a locked coin signs, and the witness that carries it (NUT-11, NUT-14).

Messages are chosen by version: 0 is the text of NUT-11 as it stands. A length-framed SIG_ALL message is under discussion
upstream; it becomes one more entry in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

import msgspec

from specie.ecash.codes import ConditionMalformedError
from specie.ecash.proof import BlindedMessage, Proof
from specie.kernel.encoding import hex_checked
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "SIG_ALL_VERSION",
    "Witness",
    "add_signatures",
    "parse_witness",
    "sig_all_digest",
    "sig_all_message",
    "sig_inputs_digest",
    "sig_inputs_message",
    "witness_text",
]

SIG_ALL_VERSION = 0
"""The version that mints accept today."""


class Witness(msgspec.Struct, frozen=True):
    """Signatures (64 bytes each, hex as given) and, for HTLC, the preimage (hex as given)."""

    signatures: tuple[str, ...] = ()
    preimage: str | None = None

    def __repr__(self) -> str:
        """Without the preimage, which is money until it is shown, and the signatures."""
        return f"Witness({len(self.signatures)} signatures, preimage={'...' if self.preimage is not None else None})"


class _WitnessWire(msgspec.Struct, omit_defaults=True):
    preimage: str | None = None
    signatures: list[str] | None = None


_decoder = msgspec.json.Decoder(_WitnessWire)


def sig_inputs_message(proof: Proof) -> bytes:
    """SIG_INPUTS: the secret of one input, as its text stands."""
    return proof.secret.encode()


def sig_inputs_digest(proof: Proof) -> bytes:
    """The 32 bytes that SIG_INPUTS signs by BIP 340."""
    return sha256(sig_inputs_message(proof)).digest()


def _sig_all_concatenated(inputs: Sequence[Proof], outputs: Sequence[BlindedMessage], quote_id: str | None) -> bytes:
    parts = [proof.secret + proof.C.hex() for proof in inputs]
    parts += [f"{output.amount}{output.B_.hex()}" for output in outputs]
    return "".join([*parts, quote_id or ""]).encode()


_SIG_ALL: dict[int, Callable[[Sequence[Proof], Sequence[BlindedMessage], str | None], bytes]] = {
    SIG_ALL_VERSION: _sig_all_concatenated,
}


def sig_all_message(
    inputs: Sequence[Proof],
    outputs: Sequence[BlindedMessage],
    quote_id: str | None = None,
    *,
    version: int = SIG_ALL_VERSION,
) -> bytes:
    """SIG_ALL: all inputs and outputs in the order of the request, and for a melt its quote id (blank outputs as sent)."""
    return _SIG_ALL[version](inputs, outputs, quote_id)


def sig_all_digest(
    inputs: Sequence[Proof],
    outputs: Sequence[BlindedMessage],
    quote_id: str | None = None,
    *,
    version: int = SIG_ALL_VERSION,
) -> bytes:
    """The 32 bytes that SIG_ALL signs by BIP 340."""
    return sha256(sig_all_message(inputs, outputs, quote_id, version=version)).digest()


def parse_witness(text: str | None, *, limits: Limits = DEFAULT_LIMITS) -> Witness:
    """The witness of a proof; an absent or empty one has no signatures. ConditionMalformedError if it is other JSON."""
    if not text:
        return Witness()
    if len(text) > limits.witness_chars:
        raise ConditionMalformedError("witness is too long")
    try:
        wire = _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise ConditionMalformedError("witness is not an object with signatures or a preimage") from None
    return Witness(tuple(wire.signatures or ()), wire.preimage)


def witness_text(signatures: Iterable[bytes], preimage: bytes | None = None) -> str:
    """The witness as JSON text: preimage (32 bytes) first, as in NUT-14, where there is one."""
    wire = _WitnessWire(None if preimage is None else preimage.hex(), [signature.hex() for signature in signatures])
    return msgspec.json.encode(wire).decode()


def add_signatures(proof: Proof, signatures: Iterable[bytes], preimage: bytes | None = None) -> Proof:
    """The proof with signatures (64 bytes each) behind those it has, none twice; several signers add in turn.

    ConditionMalformedError if its present witness does not parse.
    """
    present = parse_witness(proof.witness)
    try:
        collected = [hex_checked(signature, 64) for signature in present.signatures]
        known = hex_checked(present.preimage, 32) if present.preimage is not None else None
    except MalformedError:
        raise ConditionMalformedError("the witness holds what is neither a signature nor a preimage") from None
    for signature in signatures:
        if len(signature) != 64:
            raise ConditionMalformedError("a signature has 64 bytes")
        if signature not in collected:
            collected.append(signature)
    text = witness_text(collected, preimage if preimage is not None else known)
    return msgspec.structs.replace(proof, witness=text)
