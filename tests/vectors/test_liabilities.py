"""The vectors of the draft on proof of liabilities (pull request 388, September 2026) against `specie.ecash.liabilities`."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from specie.ecash import wire
from specie.ecash.liabilities import (
    CommitmentBrokenError,
    Epoch,
    Evidence,
    EvidenceKind,
    Forest,
    KeysetCommitment,
    Root,
    Signed,
    SumNode,
    leaf,
    manifest_message,
    verify_consistency,
    verify_epoch,
    verify_evidence,
    verify_inclusion,
    verify_life,
)
from tests.support.vectors import each, records

Record = dict[str, Any]


def node(record: Record, prefix: str = "root") -> SumNode:
    """A root of a record."""
    return SumNode(bytes.fromhex(record[f"{prefix}_hash"]), record[f"{prefix}_sum"])


def manifest(record_id: str) -> tuple[Epoch, Record]:
    """An epoch of one keyset, read back from the text that was signed."""
    record = next(record for record in records("draft-liabilities") if record["id"] == record_id)
    fields = record["message"].split(":")
    keyset_id, unit, number = fields[:3]
    moment, rest = ":".join(fields[3:6]), fields[6:]
    body = {
        "epochs": [
            {
                "epoch_index": int(number),
                "timestamp": moment,
                "previous_global_digest": rest[0],
                "global_digest": "",
                "epoch_keysets": [
                    {
                        "keyset_id": keyset_id,
                        "unit": unit,
                        "issued_mmr_size": int(rest[1]),
                        "issued_mmr_root_hash": rest[2],
                        "issued_mmr_root_sum": int(rest[3]),
                        "spent_mmr_size": int(rest[4]),
                        "spent_mmr_root_hash": rest[5],
                        "spent_mmr_root_sum": int(rest[6]),
                        "active": rest[8] == "true",
                        "deactivation_epoch": int(rest[9]),
                        "mint_signature": record["signature"],
                    }
                ],
            }
        ]
    }
    entry = body["epochs"][0]["epoch_keysets"][0]  # type: ignore[index]
    keyset = KeysetCommitment(
        keyset_id,
        unit,
        Root(int(rest[1]), bytes.fromhex(rest[2]), int(rest[3])),
        Root(int(rest[4]), bytes.fromhex(rest[5]), int(rest[6])),
        entry["active"],
        int(rest[9]),
    )
    plain = Epoch(int(number), 0, bytes.fromhex(rest[0]), (keyset,), (bytes.fromhex(record["signature"]),))
    body["epochs"][0]["global_digest"] = plain.digest.hex()
    (epoch,) = wire.epochs_from_json(json.dumps(body).encode())
    return epoch, record


def key(record: Record) -> bytes:
    """The mint's key, whose parity BIP 340 does not look at."""
    return b"\x02" + bytes.fromhex(record["pubkey"])


@each("draft-liabilities", kind="tree")
def test_roots(record: Record) -> None:
    """Leaves, parents and bagged peaks are the draft's, byte by byte."""
    forest = Forest()
    for one in record["leaves"]:
        made = leaf(bytes.fromhex(one["item"]), one["value"])
        assert made.hash.hex() == one["hash"]
        forest.append(made)
    assert forest.root == node(record)


@each("draft-liabilities", kind="inclusion")
def test_inclusion(record: Record) -> None:
    """The draft's proofs verify, and with any field changed they do not."""
    (proof,) = wire.inclusion_from_json(json.dumps({"proofs": [record["proof"]]}).encode())
    verify_inclusion(proof, record["size"], node(record))
    for changed in (
        {"value": proof.value + 1},
        {"leaf_index": proof.leaf_index + 1},
        {"peaks": proof.peaks[::-1] if len(proof.peaks) > 1 else ()},
        {"item": b"\x02" + bytes(32)},
    ):
        other = type(proof)(**{name: changed.get(name, getattr(proof, name)) for name in proof.__struct_fields__})
        with pytest.raises(CommitmentBrokenError):
            verify_inclusion(other, record["size"], node(record))


@each("draft-liabilities", kind="consistency")
def test_consistency(record: Record) -> None:
    """The draft's proof verifies, and is written again as it was read; not for another root."""
    proof = wire.consistency_from_json(json.dumps(record["proof"]).encode())
    old, new = (proof.old_size, node(record, "old_root")), (proof.new_size, node(record, "new_root"))
    verify_consistency(proof, old, new)
    assert json.loads(wire.consistency_to_json(proof)) == record["proof"]
    with pytest.raises(CommitmentBrokenError):
        verify_consistency(proof, (3, node(record, "new_root")), new)
    with pytest.raises(CommitmentBrokenError):
        verify_consistency(proof, old, (4, node(record, "old_root")))


@each("draft-liabilities", kind="epoch")
def test_digest(record: Record) -> None:
    """The keyset's leaf, the tree over keysets and the digest that chains epochs are the draft's."""
    epoch, _ = manifest(record["manifest"])
    assert epoch.keysets[0].leaf_hash.hex() == record["keyset_leaf"]
    assert epoch.keysets_root.hex() == record["keyset_merkle_root"]
    assert epoch.digest.hex() == record["global_digest"]


@each("draft-liabilities", kind="empty_keysets")
def test_no_keysets(record: Record) -> None:
    """An epoch without keysets has the draft's root."""
    assert Epoch(1, 0, bytes(32), ()).keysets_root.hex() == record["keyset_merkle_root"]


@each("draft-liabilities", kind="manifest")
def test_manifest(record: Record) -> None:
    """The signed text, its hash and its signature are the draft's."""
    epoch, _ = manifest(record["id"])
    message = manifest_message(epoch, epoch.keysets[0])
    assert message == record["message"]
    assert sha256(message.encode()).hexdigest() == record["message_sha256"]
    Signed.of(epoch, epoch.keysets[0].keyset_id).verify(key(record))


@each("draft-liabilities", kind="life")
def test_life(record: Record) -> None:
    """Each way to break a keyset's life is seen, and its manifests are evidence by themselves; the clean life is none."""
    first, source = manifest(record["first"])
    one = Signed.of(first, first.keysets[0].keyset_id)
    if record["second"] is None:
        with pytest.raises(CommitmentBrokenError):
            verify_epoch(first, key(source))
        verify_evidence(Evidence(EvidenceKind.OVERRUN, "http://mint", key(source), one))
        return
    second, _ = manifest(record["second"])
    evidence = Evidence(EvidenceKind.REWRITTEN, "http://mint", key(source), one, Signed.of(second, second.keysets[0].keyset_id))
    if record["violation"] is None:
        verify_life(first.keysets[0], second.keysets[0])
        with pytest.raises(CommitmentBrokenError):
            verify_evidence(evidence)
        return
    with pytest.raises(CommitmentBrokenError):
        verify_life(first.keysets[0], second.keysets[0])
    verify_evidence(evidence)
    verify_evidence(wire.evidence_from_json(wire.evidence_to_json(evidence)))
