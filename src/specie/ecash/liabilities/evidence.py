"""Evidence against a mint: what anybody can check who knows the mint's key (NUT-06), without the wallet that kept it.

| kind           | what it holds                                                        | what a mint could answer         |
|----------------|----------------------------------------------------------------------|----------------------------------|
| `equivocation` | two signed manifests of one keyset and epoch that differ             | nothing                          |
| `rewritten`    | two signed manifests of one keyset; the later breaks a rule          | nothing                          |
| `overdrawn`    | a signed manifest with more spent than issued                        | nothing                          |
| `overrun`      | a signed manifest of a keyset still active at its declared end       | nothing                          |
| `amount`       | a leaf that the manifest commits to, and the DLEQ for another amount | nothing                          |
| `twice`        | two leaves of one item at two places that one manifest commits to    | nothing                          |
| `missing`      | a signed manifest, the DLEQ of a coin its owner got before    | a proof that a log holds the item |
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from specie.ecash.dleq import verify_dleq
from specie.ecash.keyset import Keyset, verify_keyset_id
from specie.ecash.liabilities.epoch import Epoch, KeysetCommitment, Side, verify_life, verify_manifest
from specie.ecash.liabilities.errors import CommitmentBrokenError
from specie.ecash.liabilities.tree import InclusionProof, verify_inclusion
from specie.ecash.proof import BlindSignature
from specie.kernel.errors import RefusedError

__all__ = ["Evidence", "EvidenceKind", "Signed", "verify_evidence"]


class EvidenceKind(StrEnum):
    """What a mint did."""

    EQUIVOCATION = "equivocation"
    REWRITTEN = "rewritten"
    OVERDRAWN = "overdrawn"
    OVERRUN = "overrun"
    AMOUNT = "amount"
    TWICE = "twice"
    MISSING = "missing"


class Signed(msgspec.Struct, frozen=True):
    """One manifest: an epoch's head, what it says of one keyset, and the signature over both."""

    number: int
    at: int
    previous_digest: bytes
    keyset: KeysetCommitment
    signature: bytes

    @classmethod
    def of(cls, epoch: Epoch, keyset_id: str) -> Signed:
        """The manifest of a keyset in a signed epoch; LookupError if it has none."""
        for keyset, signature in zip(epoch.keysets, epoch.signatures, strict=True):
            if keyset.keyset_id == keyset_id:
                return cls(epoch.number, epoch.at, epoch.previous_digest, keyset, signature)
        raise LookupError(keyset_id)

    def verify(self, pubkey: bytes) -> None:
        """Check its signature; CommitmentBrokenError."""
        verify_manifest(self.head, self.keyset, self.signature, pubkey)

    @property
    def head(self) -> Epoch:
        """An epoch of this keyset alone; its digest is not the real one's."""
        return Epoch(self.number, self.at, self.previous_digest, (self.keyset,), (self.signature,))


class Evidence(msgspec.Struct, frozen=True):
    """What a wallet kept. `pubkey` is the mint's key (33 bytes); which fields are set depends on the kind."""

    kind: EvidenceKind
    mint: str
    pubkey: bytes
    first: Signed
    second: Signed | None = None
    side: Side | None = None
    proofs: tuple[InclusionProof, ...] = ()
    item: bytes | None = None
    signature: BlindSignature | None = None
    """C_ with its DLEQ: that the mint signed `item` under the key of `signature.amount`."""
    keyset: Keyset | None = None
    issued_at: int | None = None
    """When its owner got the coin, by the owner's clock."""

    @property
    def conclusive(self) -> bool:
        """Whether it stands by itself. What does not, a mint can refute by one proof, and must."""
        return self.kind is not EvidenceKind.MISSING


def verify_evidence(evidence: Evidence) -> None:
    """Check that evidence shows what it says; None if so, else CommitmentBrokenError.

    That `pubkey` is the mint's own key is for whoever reads it: `/v1/info` told it to all.
    """
    evidence.first.verify(evidence.pubkey)
    match evidence.kind:
        case EvidenceKind.EQUIVOCATION:
            _verify_equivocation(evidence.first, _second(evidence))
        case EvidenceKind.REWRITTEN:
            _verify_rewritten(evidence.first, _second(evidence))
        case EvidenceKind.OVERDRAWN:
            if evidence.first.keyset.outstanding >= 0:
                raise CommitmentBrokenError("not more was spent than issued")
        case EvidenceKind.OVERRUN:
            if not evidence.first.keyset.overrun(evidence.first.number):
                raise CommitmentBrokenError("the keyset was not active at its end")
        case EvidenceKind.AMOUNT:
            (proof,) = _included(evidence, 1)
            if proof.item != evidence.item or proof.value == _signed_amount(evidence):
                raise CommitmentBrokenError("the leaf has the amount that was signed")
        case EvidenceKind.TWICE:
            one, other = _included(evidence, 2)
            if one.item != other.item or one.leaf_index == other.leaf_index:
                raise CommitmentBrokenError("these are not two leaves of one item")
        case EvidenceKind.MISSING:
            _signed_amount(evidence)
            if evidence.issued_at is None or evidence.issued_at >= evidence.first.at:
                raise CommitmentBrokenError("the coin was issued after the epoch")


def _second(evidence: Evidence) -> Signed:
    if evidence.second is None or evidence.second.keyset.keyset_id != evidence.first.keyset.keyset_id:
        raise CommitmentBrokenError("two manifests of one keyset are needed")
    evidence.second.verify(evidence.pubkey)
    return evidence.second


def _verify_equivocation(first: Signed, second: Signed) -> None:
    same = (first.keyset, first.at, first.previous_digest) == (second.keyset, second.at, second.previous_digest)
    if first.number != second.number or same:
        raise CommitmentBrokenError("these are not two manifests of one epoch")


def _verify_rewritten(first: Signed, second: Signed) -> None:
    """The rules that two manifests of one keyset alone can break, whatever lies between them."""
    if first.number >= second.number:
        raise CommitmentBrokenError("the manifests are not in order")
    try:
        verify_life(first.keyset, second.keyset)
    except CommitmentBrokenError:
        return
    if second.at >= first.at:
        raise CommitmentBrokenError("the later manifest breaks no rule")


def _included(evidence: Evidence, count: int) -> tuple[InclusionProof, ...]:
    if evidence.side is None or len(evidence.proofs) != count:
        raise CommitmentBrokenError("proofs that the log holds the item are needed")
    log = evidence.first.keyset.log(evidence.side)
    for proof in evidence.proofs:
        verify_inclusion(proof, log.size, log.node)
    return evidence.proofs


def _signed_amount(evidence: Evidence) -> int:
    """The amount under whose key the mint signed the item."""
    keyset, signature = evidence.keyset, evidence.signature
    if keyset is None or signature is None or signature.dleq is None or evidence.item is None:
        raise CommitmentBrokenError("the mint's signature with its DLEQ is needed")
    key = keyset.keys.get(signature.amount)
    if key is None or not evidence.first.keyset.keyset_id == keyset.id == signature.id:
        raise CommitmentBrokenError("the signature is of another keyset")
    try:
        verify_keyset_id(keyset)
        verify_dleq(evidence.item, signature.C_, signature.dleq, key)
    except RefusedError as error:
        raise CommitmentBrokenError(f"the signature does not hold: {error.detail}") from error
    return signature.amount
