"""JSON of epochs, leaves and proofs of a mint's liabilities (draft 388), and of the evidence a wallet keeps.

Manifest and proofs have the draft's shapes. Lists of epochs and of leaves are ours: the draft has no way to read a log
without naming the items one asks about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from specie.ecash.keyset import Keyset
from specie.ecash.liabilities import (
    CommitmentBrokenError,
    ConsistencyProof,
    Epoch,
    Evidence,
    EvidenceKind,
    InclusionProof,
    KeysetCommitment,
    Root,
    Side,
    Signed,
    Step,
    SumNode,
    spans,
    timestamp_read,
    timestamp_text,
)
from specie.ecash.proof import BlindSignature, Dleq
from specie.ecash.wire.codec import amount, bounded_text, decode, encode, keyset_id, point_shape, scalar
from specie.kernel.encoding import hex_checked
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "consistency_from_json",
    "consistency_to_json",
    "epochs_from_json",
    "epochs_to_json",
    "evidence_from_json",
    "evidence_to_json",
    "inclusion_from_json",
    "inclusion_to_json",
    "leaves_from_json",
    "leaves_to_json",
    "manifest_to_json",
    "proof_request_from_json",
    "proof_request_to_json",
]

_UNIT_CHARS = 64
_MAX_KEYSETS = 4096
_MAX_PATH = 64


class _KeysetWire(msgspec.Struct):
    keyset_id: str
    unit: str
    issued_mmr_size: int
    issued_mmr_root_hash: str
    issued_mmr_root_sum: int
    spent_mmr_size: int
    spent_mmr_root_hash: str
    spent_mmr_root_sum: int
    active: bool
    deactivation_epoch: int
    mint_signature: str | None = None


class _EpochWire(msgspec.Struct):
    epoch_index: int
    timestamp: str
    previous_global_digest: str
    global_digest: str
    epoch_keysets: list[_KeysetWire]


class _EpochsWire(msgspec.Struct):
    epochs: list[_EpochWire]


class _LeavesWire(msgspec.Struct):
    items: list[str]
    amounts: list[int]


class _NodeWire(msgspec.Struct):
    hash: str
    sum: int


class _HighNodeWire(msgspec.Struct):
    hash: str
    sum: int
    height: int


class _StepWire(msgspec.Struct):
    hash: str
    sum: int
    is_left: bool


class _InclusionWire(msgspec.Struct):
    item: str
    leaf_index: int
    value: int
    sibling_path: list[_StepWire]
    peaks: list[_NodeWire]


class _InclusionsWire(msgspec.Struct):
    proofs: list[_InclusionWire]


class _ConsistencyWire(msgspec.Struct):
    old_size: int
    new_size: int
    old_peaks: list[_HighNodeWire]
    appended_subtrees: list[_HighNodeWire]


class _AskIssuedWire(msgspec.Struct):
    blinded_messages: list[str]


class _AskSpentWire(msgspec.Struct):
    ys: list[str]


class _SignedWire(msgspec.Struct):
    epoch_index: int
    timestamp: str
    previous_global_digest: str
    keyset: _KeysetWire


class _SignatureWire(msgspec.Struct):
    amount: int
    C_: str
    e: str
    s: str


class _KeysWire(msgspec.Struct):
    id: str
    unit: str
    keys: dict[str, str]
    input_fee_ppk: int
    final_expiry: int | None


class _EvidenceWire(msgspec.Struct, omit_defaults=True):
    format: str
    kind: str
    mint: str
    pubkey: str
    manifest: _SignedWire
    second_manifest: _SignedWire | None = None
    side: str | None = None
    proofs: list[_InclusionWire] = []
    item: str | None = None
    signature: _SignatureWire | None = None
    keyset: _KeysWire | None = None
    issued_at: int | None = None


_FORMAT = "specie liability evidence 1"
_epochs = msgspec.json.Decoder(_EpochsWire)
_leaves = msgspec.json.Decoder(_LeavesWire)
_inclusions = msgspec.json.Decoder(_InclusionsWire)
_consistency = msgspec.json.Decoder(_ConsistencyWire)
_ask_issued = msgspec.json.Decoder(_AskIssuedWire)
_ask_spent = msgspec.json.Decoder(_AskSpentWire)
_evidence = msgspec.json.Decoder(_EvidenceWire)


# epochs


def _keyset_to_wire(keyset: KeysetCommitment, signature: bytes | None) -> _KeysetWire:
    return _KeysetWire(
        keyset_id=keyset.keyset_id,
        unit=keyset.unit,
        issued_mmr_size=keyset.issued.size,
        issued_mmr_root_hash=keyset.issued.hash.hex(),
        issued_mmr_root_sum=keyset.issued.sum,
        spent_mmr_size=keyset.spent.size,
        spent_mmr_root_hash=keyset.spent.hash.hex(),
        spent_mmr_root_sum=keyset.spent.sum,
        active=keyset.active,
        deactivation_epoch=keyset.deactivation_epoch,
        mint_signature=None if signature is None else signature.hex(),
    )


def _keyset_from_wire(wire: _KeysetWire) -> KeysetCommitment:
    return KeysetCommitment(
        keyset_id=keyset_id(wire.keyset_id),
        unit=bounded_text(wire.unit, _UNIT_CHARS, "unit"),
        issued=Root(amount(wire.issued_mmr_size), scalar(wire.issued_mmr_root_hash), amount(wire.issued_mmr_root_sum)),
        spent=Root(amount(wire.spent_mmr_size), scalar(wire.spent_mmr_root_hash), amount(wire.spent_mmr_root_sum)),
        active=wire.active,
        deactivation_epoch=amount(wire.deactivation_epoch),
    )


def _signature(wire: _KeysetWire) -> bytes:
    if wire.mint_signature is None:
        raise MalformedError("a manifest is not signed")
    return hex_checked(wire.mint_signature, 64)


def _at(text: str) -> int:
    """Unix time of a manifest's timestamp, which has one form only."""
    try:
        return timestamp_read(text)
    except CommitmentBrokenError as error:
        raise MalformedError(error.detail) from None


def _epoch_from_wire(wire: _EpochWire) -> Epoch:
    if len(wire.epoch_keysets) > _MAX_KEYSETS:
        raise MalformedError("an epoch has too many keysets")
    epoch = Epoch(
        number=amount(wire.epoch_index),
        at=_at(wire.timestamp),
        previous_digest=scalar(wire.previous_global_digest),
        keysets=tuple(map(_keyset_from_wire, wire.epoch_keysets)),
        signatures=tuple(map(_signature, wire.epoch_keysets)),
    )
    if epoch.digest != scalar(wire.global_digest):
        raise MalformedError("an epoch's digest is not that of its contents")
    return epoch


def epochs_to_json(epochs: Sequence[Epoch]) -> bytes:
    """Signed epochs, oldest first; each keyset carries its manifest's signature."""
    return encode(
        _EpochsWire(
            [
                _EpochWire(
                    epoch.number,
                    timestamp_text(epoch.at),
                    epoch.previous_digest.hex(),
                    epoch.digest.hex(),
                    [_keyset_to_wire(k, s) for k, s in zip(epoch.keysets, epoch.signatures, strict=True)],
                )
                for epoch in epochs
            ]
        )
    )


def epochs_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[Epoch, ...]:
    """Epochs of a list; signatures and chain are not verified yet. MalformedError."""
    return tuple(map(_epoch_from_wire, decode(data, _epochs, limits).epochs))


def manifest_to_json(epoch: Epoch, keyset: KeysetCommitment, pubkey: bytes) -> bytes:
    """One keyset's manifest as the draft answers it. There is no `ots_receipt`: nothing was timestamped."""
    signature = epoch.signatures[epoch.keysets.index(keyset)]
    body: dict[str, Any] = msgspec.to_builtins(_keyset_to_wire(keyset, signature))
    others = [msgspec.to_builtins(_keyset_to_wire(one, None)) for one in epoch.keysets]
    for other in others:
        del other["mint_signature"]
    return encode(
        body
        | {
            "epoch_index": epoch.number,
            "timestamp": timestamp_text(epoch.at),
            "previous_global_digest": epoch.previous_digest.hex(),
            "signing_pubkey": pubkey[-32:].hex(),
            "outstanding_balance": keyset.outstanding,
            "global_digest": epoch.digest.hex(),
            "keyset_merkle_root": epoch.keysets_root.hex(),
            "epoch_keysets": others,
        }
    )


# leaves


def leaves_to_json(leaves: Sequence[tuple[bytes, int]]) -> bytes:
    """Consecutive leaves of a log: items and amounts, in order."""
    return encode(_LeavesWire([item.hex() for item, _ in leaves], [value for _, value in leaves]))


def leaves_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> list[tuple[bytes, int]]:
    """Leaves in order; MalformedError."""
    wire = decode(data, _leaves, limits)
    if len(wire.items) != len(wire.amounts):
        raise MalformedError("items and amounts are not as many")
    return [(point_shape(item), amount(value)) for item, value in zip(wire.items, wire.amounts, strict=True)]


# proofs


def proof_request_to_json(side: Side, items: Sequence[bytes]) -> bytes:
    """A question after inclusion proofs, under the draft's name for the items."""
    return encode({"blinded_messages" if side is Side.ISSUED else "ys": [item.hex() for item in items]})


def proof_request_from_json(data: bytes, side: Side, *, most: int, limits: Limits = DEFAULT_LIMITS) -> list[bytes]:
    """The items asked about, at most `most`; MalformedError."""
    texts = decode(data, _ask_issued, limits).blinded_messages if side is Side.ISSUED else decode(data, _ask_spent, limits).ys
    if not 0 < len(texts) <= most:
        raise MalformedError(f"ask about 1 to {most} items")
    return [point_shape(text) for text in texts]


def _inclusion_to_wire(proof: InclusionProof) -> _InclusionWire:
    return _InclusionWire(
        proof.item.hex(),
        proof.leaf_index,
        proof.value,
        [_StepWire(step.hash.hex(), step.sum, step.is_left) for step in proof.sibling_path],
        [_NodeWire(peak.hash.hex(), peak.sum) for peak in proof.peaks],
    )


def _inclusion_from_wire(wire: _InclusionWire) -> InclusionProof:
    if len(wire.sibling_path) > _MAX_PATH or len(wire.peaks) > _MAX_PATH:
        raise MalformedError("a proof is longer than any log needs")
    return InclusionProof(
        item=point_shape(wire.item),
        value=amount(wire.value),
        leaf_index=amount(wire.leaf_index),
        sibling_path=tuple(Step(scalar(step.hash), amount(step.sum), step.is_left) for step in wire.sibling_path),
        peaks=tuple(SumNode(scalar(peak.hash), amount(peak.sum)) for peak in wire.peaks),
    )


def inclusion_to_json(proofs: Sequence[InclusionProof]) -> bytes:
    """Inclusion proofs, in the order of the question; items that a log has not are left out."""
    return encode(_InclusionsWire(list(map(_inclusion_to_wire, proofs))))


def inclusion_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[InclusionProof, ...]:
    """Inclusion proofs, not verified yet; MalformedError."""
    return tuple(map(_inclusion_from_wire, decode(data, _inclusions, limits).proofs))


def consistency_to_json(proof: ConsistencyProof) -> bytes:
    """A consistency proof; heights are told, and derived again by whoever checks."""

    def high(nodes: Sequence[SumNode], start: int, end: int) -> list[_HighNodeWire]:
        return [_HighNodeWire(n.hash.hex(), n.sum, place.height) for n, place in zip(nodes, spans(start, end), strict=True)]

    return encode(
        _ConsistencyWire(
            proof.old_size,
            proof.new_size,
            high(proof.old_peaks, 0, proof.old_size),
            high(proof.appended, proof.old_size, proof.new_size),
        )
    )


def consistency_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> ConsistencyProof:
    """A consistency proof, not verified yet. MalformedError, also where its heights are not those of its sizes."""
    wire = decode(data, _consistency, limits)
    sizes = amount(wire.old_size), amount(wire.new_size)
    for nodes, places in ((wire.old_peaks, spans(0, sizes[0])), (wire.appended_subtrees, spans(*sizes))):
        if [node.height for node in nodes] != [place.height for place in places]:
            raise MalformedError("a proof's heights are not those of its sizes")
    return ConsistencyProof(
        *sizes,
        tuple(SumNode(scalar(node.hash), amount(node.sum)) for node in wire.old_peaks),
        tuple(SumNode(scalar(node.hash), amount(node.sum)) for node in wire.appended_subtrees),
    )


# evidence


def _signed_to_wire(signed: Signed) -> _SignedWire:
    return _SignedWire(
        signed.number,
        timestamp_text(signed.at),
        signed.previous_digest.hex(),
        _keyset_to_wire(signed.keyset, signed.signature),
    )


def _signed_from_wire(wire: _SignedWire) -> Signed:
    return Signed(
        amount(wire.epoch_index),
        _at(wire.timestamp),
        scalar(wire.previous_global_digest),
        _keyset_from_wire(wire.keyset),
        _signature(wire.keyset),
    )


def evidence_to_json(evidence: Evidence) -> bytes:
    """Evidence as a file that stands by itself."""
    signature, keyset = evidence.signature, evidence.keyset
    return encode(
        _EvidenceWire(
            format=_FORMAT,
            kind=evidence.kind.value,
            mint=evidence.mint,
            pubkey=evidence.pubkey.hex(),
            manifest=_signed_to_wire(evidence.first),
            second_manifest=None if evidence.second is None else _signed_to_wire(evidence.second),
            side=None if evidence.side is None else evidence.side.value,
            proofs=list(map(_inclusion_to_wire, evidence.proofs)),
            item=None if evidence.item is None else evidence.item.hex(),
            signature=None
            if signature is None or signature.dleq is None
            else _SignatureWire(signature.amount, signature.C_.hex(), signature.dleq.e.hex(), signature.dleq.s.hex()),
            keyset=None
            if keyset is None
            else _KeysWire(
                keyset.id,
                keyset.unit,
                {str(value): key.hex() for value, key in keyset.keys.items()},
                keyset.input_fee_ppk,
                keyset.final_expiry,
            ),
            issued_at=evidence.issued_at,
        )
    )


def evidence_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> Evidence:
    """Evidence of a file, not verified yet; MalformedError."""
    wire = decode(data, _evidence, limits)
    if wire.format != _FORMAT:
        raise MalformedError("this is no evidence of this format")
    try:
        kind, side = EvidenceKind(wire.kind), None if wire.side is None else Side(wire.side)
    except ValueError:
        raise MalformedError("evidence of an unknown kind") from None
    keyset = None if wire.keyset is None else _keys_from_wire(wire.keyset)
    signature = wire.signature
    return Evidence(
        kind=kind,
        mint=wire.mint,
        pubkey=point_shape(wire.pubkey),
        first=_signed_from_wire(wire.manifest),
        second=None if wire.second_manifest is None else _signed_from_wire(wire.second_manifest),
        side=side,
        proofs=tuple(map(_inclusion_from_wire, wire.proofs)),
        item=None if wire.item is None else point_shape(wire.item),
        signature=None
        if signature is None or keyset is None
        else BlindSignature(
            amount=amount(signature.amount),
            id=keyset.id,
            C_=point_shape(signature.C_),
            dleq=Dleq(e=scalar(signature.e), s=scalar(signature.s)),
        ),
        keyset=keyset,
        issued_at=None if wire.issued_at is None else amount(wire.issued_at),
    )


def _keys_from_wire(wire: _KeysWire) -> Keyset:
    if not all(text.isascii() and text.isdigit() and len(text) <= 20 for text in wire.keys):
        raise MalformedError("an amount is no number")
    keys = sorted((amount(int(text)), point_shape(key)) for text, key in wire.keys.items())
    return Keyset(
        id=keyset_id(wire.id),
        unit=bounded_text(wire.unit, _UNIT_CHARS, "unit"),
        keys=dict(keys),
        input_fee_ppk=amount(wire.input_fee_ppk),
        final_expiry=None if wire.final_expiry is None else amount(wire.final_expiry),
    )
