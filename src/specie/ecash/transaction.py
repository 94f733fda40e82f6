"""What a wallet asks of a mint with coins or blinded messages (NUT-03, 04, 05), and how a wallet takes the answer.

Not here: the balance of a request, and whether its coins are good (`mint` decides).
"""

from __future__ import annotations

import msgspec

from specie.ecash.codes import ProofInvalidError
from specie.ecash.dleq import verify_dleq
from specie.ecash.proof import BlindedMessage, BlindSignature, Proof, ProofDleq
from specie.ecash.scheme import scheme_for
from specie.kernel.errors import MalformedError

__all__ = ["MeltRequest", "MintBatchRequest", "MintRequest", "SwapRequest", "blinded_message", "unblind_signature"]


class SwapRequest(msgspec.Struct, frozen=True):
    """Coins for new coins (NUT-03)."""

    inputs: tuple[Proof, ...]
    outputs: tuple[BlindedMessage, ...]


class MintRequest(msgspec.Struct, frozen=True):
    """Ecash for a paid quote (NUT-04); `signature` is hex and unlocks a locked one (NUT-20)."""

    method: str
    quote: str
    outputs: tuple[BlindedMessage, ...]
    signature: str | None = None


class MintBatchRequest(msgspec.Struct, frozen=True):
    """Ecash for several paid quotes at once (NUT-29). `amounts` and `signatures` stand in the order of `quotes`, or are None.

    Each signature (hex) covers its quote id and all outputs; None stands for a quote that is not locked.
    """

    method: str
    quotes: tuple[str, ...]
    outputs: tuple[BlindedMessage, ...]
    amounts: tuple[int, ...] | None = None
    signatures: tuple[str | None, ...] | None = None


class MeltRequest(msgspec.Struct, frozen=True):
    """A payment for coins (NUT-05); `outputs` are blank and take the change (NUT-08), `fee_index` chooses a price (NUT-30)."""

    method: str
    quote: str
    inputs: tuple[Proof, ...]
    outputs: tuple[BlindedMessage, ...] = ()
    prefer_async: bool = False
    fee_index: int | None = None


def blinded_message(amount: int, keyset_id: str, secret: str, r: bytes) -> BlindedMessage:
    """Blind a secret on the curve of its keyset. `r`: a FRESH or derived (NUT-13) scalar, never used twice."""
    return BlindedMessage(amount, keyset_id, scheme_for(keyset_id).blind(secret, r))


def unblind_signature(
    output: BlindedMessage,
    signature: BlindSignature,
    *,
    secret: str,
    r: bytes,
    key: bytes,
    blank: bool = False,
    require_dleq: bool = False,
) -> Proof:
    """The coin that a mint's signature on `output` makes, with its DLEQ for off-line checks.

    `key` is the mint's key for the signature's amount. The signature must carry the keyset and, unless the output was
    `blank` (NUT-08) or restored (NUT-09), the amount that were asked for. ProofInvalidError if it does not, if its DLEQ
    is wrong, or if it carries none and `require_dleq` is set. MalformedError for an invalid point.
    """
    if signature.id != output.id:
        raise ProofInvalidError("the mint signed with another keyset than asked")
    if signature.amount != output.amount and not blank:
        raise ProofInvalidError("the mint signed another amount than asked")
    dleq = signature.dleq
    if dleq is not None:
        verify_dleq(output.B_, signature.C_, dleq, key)
    elif require_dleq:
        raise ProofInvalidError("the signature carries no DLEQ")
    scheme = scheme_for(output.id)
    if not scheme.is_point(signature.C_):
        raise MalformedError("the signature is not a curve point")
    c = scheme.unblind(signature.C_, r, key)
    proof_dleq = ProofDleq(dleq.e, dleq.s, r) if dleq else None
    return Proof(signature.amount, output.id, secret, c, dleq=proof_dleq)
