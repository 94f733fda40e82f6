"""The logs, proofs, epochs and evidence of a mint's liabilities, as values."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.ecash import Keyset, blinded_message, derive_keyset_id, wire
from specie.ecash.dleq import prove
from specie.ecash.liabilities import (
    EMPTY,
    NO_DIGEST,
    CommitmentBrokenError,
    ConsistencyProof,
    Epoch,
    Evidence,
    EvidenceKind,
    Forest,
    InclusionProof,
    KeysetCommitment,
    Root,
    Side,
    Signed,
    Span,
    Step,
    SumNode,
    bag,
    leaf,
    manifest_digest,
    parent,
    path_spans,
    spans,
    timestamp_read,
    timestamp_text,
    verify_consistency,
    verify_epoch,
    verify_evidence,
    verify_inclusion,
    verify_successor,
)
from specie.ecash.proof import BlindSignature
from specie.kernel import MAX_AMOUNT, MalformedError, curve

SECRET = b"\x07" * 32
PUBKEY = curve.public_key(SECRET)
AT = 1_800_000_000


def item(number: int) -> bytes:
    """33 bytes that name a leaf."""
    return b"\x02" + number.to_bytes(32, "big")


def tree(leaves: list[SumNode], span: Span) -> SumNode:
    """A complete subtree, made in the plainest way."""
    if not span.height:
        return leaves[span.start]
    half = 1 << (span.height - 1)
    low, high = Span(span.start, span.height - 1), Span(span.start + half, span.height - 1)
    return parent(tree(leaves, low), tree(leaves, high))


def prove_inclusion(leaves: list[SumNode], amounts: list[int], index: int) -> InclusionProof:
    """A proof, made in the plainest way."""
    size = len(leaves)
    path = [Step(*msgspec.structs.astuple(tree(leaves, s)), s.start < index) for s in path_spans(index, size)]
    peaks = tuple(tree(leaves, span) for span in spans(0, size))
    return InclusionProof(item(index), amounts[index], index, tuple(path), peaks)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=70), st.data())
def test_every_leaf_is_provable_and_no_other(amounts: list[int], data: st.DataObject) -> None:
    """A growing forest has the root of the whole, each leaf has a proof, and a proof holds for nothing else."""
    leaves = [leaf(item(n), amount) for n, amount in enumerate(amounts)]
    made: dict[Span, SumNode] = {}
    forest = Forest(made=made.__setitem__)
    for one in leaves:
        forest.append(one)
    assert forest.root == bag([tree(leaves, span) for span in spans(0, len(leaves))])
    assert forest.root.sum == sum(amounts)
    assert all(tree(leaves, span) == node for span, node in made.items())
    index = data.draw(st.integers(0, len(leaves) - 1))
    proof = prove_inclusion(leaves, amounts, index)
    verify_inclusion(proof, len(leaves), forest.root)
    (read,) = wire.inclusion_from_json(wire.inclusion_to_json([proof]))
    assert read == proof
    for wrong in (
        msgspec.structs.replace(proof, value=proof.value + 1),
        msgspec.structs.replace(proof, leaf_index=proof.leaf_index + 1),
        msgspec.structs.replace(proof, item=item(10_000)),
        msgspec.structs.replace(proof, peaks=proof.peaks[1:]),
        msgspec.structs.replace(proof, sibling_path=(*proof.sibling_path, Step(bytes(32), 0, True))),
    ):
        with pytest.raises(CommitmentBrokenError):
            verify_inclusion(wrong, len(leaves), forest.root)
    with pytest.raises(CommitmentBrokenError):
        verify_inclusion(proof, len(leaves), SumNode(forest.root.hash, forest.root.sum + 1))


@given(st.integers(0, 60), st.integers(1, 60), st.integers(0, 59))
def test_a_log_that_grew_is_proved_and_a_rewritten_one_is_not(old: int, more: int, touched: int) -> None:
    """Consistency holds for a log that only grew; if any old leaf was changed, no proof with the old peaks holds."""
    new = old + more
    leaves = [leaf(item(n), n) for n in range(new)]

    def proof(of: list[SumNode]) -> ConsistencyProof:
        old_peaks = tuple(tree(of, span) for span in spans(0, old))
        return ConsistencyProof(old, new, old_peaks, tuple(tree(of, span) for span in spans(old, new)))

    def root(of: list[SumNode], size: int) -> tuple[int, SumNode]:
        return size, bag([tree(of, span) for span in spans(0, size)])

    honest = proof(leaves)
    verify_consistency(honest, root(leaves, old), root(leaves, new))
    assert wire.consistency_from_json(wire.consistency_to_json(honest)) == honest
    with pytest.raises(CommitmentBrokenError):
        verify_consistency(honest, root(leaves, old), root(leaves, old))
    short = msgspec.structs.replace(honest, appended=honest.appended[1:])
    with pytest.raises(CommitmentBrokenError):
        verify_consistency(short, root(leaves, old), root(leaves, new))
    if not old:
        return
    rewritten = list(leaves)
    rewritten[touched % old] = leaf(item(9999), 1)
    for lie in (honest, proof(rewritten)):
        with pytest.raises(CommitmentBrokenError):
            verify_consistency(lie, root(leaves, old), root(rewritten, new))


def test_trees_refuse_what_cannot_be() -> None:
    """Sums and amounts beyond 64 bits, subtrees out of place, peaks of another size and leaves behind the end."""
    high = leaf(item(1), MAX_AMOUNT)
    with pytest.raises(CommitmentBrokenError):
        parent(high, leaf(item(2), 1))
    with pytest.raises(CommitmentBrokenError):
        leaf(item(1), -1)
    with pytest.raises(CommitmentBrokenError):
        Forest(3, [EMPTY])
    forest = Forest(1, [high])
    with pytest.raises(CommitmentBrokenError):
        forest.append_subtree(EMPTY, 1)
    with pytest.raises(ValueError, match="no such leaf"):
        path_spans(3, 3)


@given(st.integers(0, 253_402_300_799))
def test_times_are_those_of_the_calendar(at: int) -> None:
    """Manifest times are the standard library's, to the end of the year 9999, and are read back."""
    text = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert timestamp_text(at) == text.zfill(20)
    assert timestamp_read(timestamp_text(at)) == at


@pytest.mark.parametrize(
    "text", ["2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "1969-12-31T23:59:59Z"]
)
def test_times_that_are_none(text: str) -> None:
    """Days, months and hours that do not exist are refused, and so is what lies before 1970."""
    with pytest.raises(CommitmentBrokenError):
        timestamp_read(text)


def commitment(number: int = 1, keyset_id: str = "00aa", **changes: Any) -> KeysetCommitment:
    """What an epoch says of a keyset that issued `number` coins of 10."""
    forest = Forest()
    for n in range(number):
        forest.append(leaf(item(n), 10))
    root = Root(number, forest.root.hash, forest.root.sum)
    return msgspec.structs.replace(KeysetCommitment(keyset_id, "sat", root, Root(), True), **changes)


def signed(*keysets: KeysetCommitment, number: int = 1, at: int = AT, before: bytes = NO_DIGEST) -> Epoch:
    """An epoch signed by the mint's key."""
    epoch = Epoch(number, at, before, keysets)
    signatures = tuple(curve.schnorr_sign(manifest_digest(epoch, one), SECRET, bytes(32)) for one in keysets)
    return msgspec.structs.replace(epoch, signatures=signatures)


def test_an_epoch_is_checked_whole() -> None:
    """A good epoch passes both ways through JSON; order, number, signatures, sums and declared ends are checked."""
    good = signed(commitment(3), commitment(1, "00bb"))
    verify_epoch(good, PUBKEY)
    assert wire.epochs_from_json(wire.epochs_to_json([good])) == (good,)
    assert good.outstanding() == {"sat": 40}
    assert good.keyset("00cc") is None
    for wrong in (
        signed(commitment(1, "00bb"), commitment(3)),
        signed(commitment(3), number=0),
        signed(commitment(3, "00AA")),
        msgspec.structs.replace(good, signatures=good.signatures[:1]),
        msgspec.structs.replace(good, signatures=good.signatures[::-1]),
        msgspec.structs.replace(good, number=2),
        signed(commitment(1, spent=Root(1, bytes(32), 11))),
        signed(commitment(1, deactivation_epoch=1)),
    ):
        with pytest.raises(CommitmentBrokenError):
            verify_epoch(wrong, PUBKEY)


def test_an_epoch_must_continue_the_one_before() -> None:
    """Number, digest, time, keysets and each keyset's life; a keyset may be missing once it is expired."""
    first = signed(commitment(2), commitment(1, "00bb", active=False))

    def second(*keysets: KeysetCommitment, **changes: Any) -> Epoch:
        head: dict[str, Any] = {"number": 2, "at": AT + 60, "before": first.digest} | changes
        return signed(*keysets, **head)

    closed = commitment(1, "00bb", active=False)
    verify_successor(first, second(commitment(3), closed))
    verify_successor(first, second(commitment(3)), expired=["00bb"])
    for wrong in (
        second(commitment(3), closed, number=3),
        second(commitment(3), closed, before=NO_DIGEST),
        second(commitment(3), closed, at=AT - 1),
        second(commitment(3)),
        second(commitment(1), closed),
        second(commitment(2, issued=Root(2, bytes(32), 20)), closed),
        second(commitment(3, issued=Root(3, bytes(32), 5)), closed),
        second(commitment(3, unit="usd"), closed),
        second(commitment(3, deactivation_epoch=9), closed),
        second(commitment(3), commitment(1, "00bb")),
        second(commitment(3), commitment(2, "00bb", active=False)),
    ):
        with pytest.raises(CommitmentBrokenError):
            verify_successor(first, wrong)


# evidence


def coin(amount: int) -> tuple[Keyset, bytes, BlindSignature]:
    """A keyset, and a B_ that it signed for `amount`."""
    secrets = {1 << power: bytes([power + 1]) * 32 for power in range(5)}
    keys = {value: curve.public_key(secret) for value, secret in secrets.items()}
    keyset_id = derive_keyset_id(1, keys=keys, unit="sat")
    keyset = Keyset(id=keyset_id, unit="sat", keys=keys)
    b_ = blinded_message(amount, keyset_id, "secret", b"\x05" * 32).B_
    c_ = curve.multiply_secret(b_, secrets[amount])
    return keyset, b_, BlindSignature(amount=amount, id=keyset_id, C_=c_, dleq=prove(secrets[amount], keys[amount], b_, c_))


def log_with(b_: bytes, *amounts: int) -> tuple[Root, list[InclusionProof]]:
    """A log that holds `b_` once for each amount, and the proofs."""
    leaves = [leaf(b_, amount) for amount in amounts]
    root = bag([tree(leaves, span) for span in spans(0, len(leaves))])
    proofs = [msgspec.structs.replace(prove_inclusion(leaves, list(amounts), index), item=b_) for index in range(len(leaves))]
    return Root(len(leaves), root.hash, root.sum), proofs


def round_trip(evidence: Evidence) -> None:
    """It verifies as it is, and as read back from its file."""
    verify_evidence(evidence)
    read = wire.evidence_from_json(wire.evidence_to_json(evidence))
    verify_evidence(read)
    assert wire.evidence_to_json(read) == wire.evidence_to_json(evidence)


def refused(evidence: Evidence) -> None:
    """It does not hold."""
    with pytest.raises(CommitmentBrokenError):
        verify_evidence(evidence)


def test_evidence_of_two_manifests() -> None:
    """Two texts of one epoch, and a life that breaks a rule or runs backwards, hold; honest manifests do not."""
    one, other = signed(commitment(2)), signed(commitment(3))
    first, second = Signed.of(one, "00aa"), Signed.of(other, "00aa")
    with pytest.raises(LookupError):
        Signed.of(one, "00ff")
    evidence = Evidence(EvidenceKind.EQUIVOCATION, "http://mint", PUBKEY, first, second)
    round_trip(evidence)
    assert evidence.conclusive
    refused(msgspec.structs.replace(evidence, second=first))
    refused(msgspec.structs.replace(evidence, second=None))
    refused(msgspec.structs.replace(evidence, pubkey=curve.public_key(b"\x08" * 32)))
    refused(msgspec.structs.replace(evidence, second=Signed.of(signed(commitment(3, "00bb")), "00bb")))
    later = Signed.of(signed(commitment(1), number=5, at=AT + 9), "00aa")
    rewritten = Evidence(EvidenceKind.REWRITTEN, "http://mint", PUBKEY, first, later)
    round_trip(rewritten)
    refused(msgspec.structs.replace(rewritten, first=later, second=first))
    refused(msgspec.structs.replace(rewritten, second=Signed.of(signed(commitment(3), number=5, at=AT + 9), "00aa")))
    round_trip(msgspec.structs.replace(rewritten, second=Signed.of(signed(commitment(3), number=5, at=AT - 9), "00aa")))


def test_evidence_of_one_manifest() -> None:
    """More spent than issued, and a keyset active at its declared end."""
    over = Signed.of(signed(commitment(1, spent=Root(1, bytes(32), 11))), "00aa")
    round_trip(Evidence(EvidenceKind.OVERDRAWN, "http://mint", PUBKEY, over))
    run = Signed.of(signed(commitment(1, deactivation_epoch=1)), "00aa")
    round_trip(Evidence(EvidenceKind.OVERRUN, "http://mint", PUBKEY, run))
    refused(Evidence(EvidenceKind.OVERDRAWN, "http://mint", PUBKEY, run))
    refused(Evidence(EvidenceKind.OVERRUN, "http://mint", PUBKEY, over))


def test_evidence_of_a_coin() -> None:
    """A leaf of another amount than signed, an item twice, a coin that is missing; each falls if any part is changed."""
    keyset, b_, signature = coin(8)
    root, (proof,) = log_with(b_, 4)
    shrunk = Evidence(
        kind=EvidenceKind.AMOUNT,
        mint="http://mint",
        pubkey=PUBKEY,
        first=Signed.of(signed(commitment(1, keyset.id, issued=root)), keyset.id),
        side=Side.ISSUED,
        proofs=(proof,),
        item=b_,
        signature=signature,
        keyset=keyset,
    )
    round_trip(shrunk)
    honest_root, (honest,) = log_with(b_, 8)
    honest_manifest = Signed.of(signed(commitment(1, keyset.id, issued=honest_root)), keyset.id)
    replace = msgspec.structs.replace
    refused(replace(shrunk, first=honest_manifest, proofs=(honest,)))
    refused(replace(shrunk, proofs=()))
    refused(replace(shrunk, side=None))
    refused(replace(shrunk, item=item(1)))
    refused(replace(shrunk, signature=replace(signature, dleq=None)))
    refused(replace(shrunk, signature=replace(signature, amount=3)))
    refused(replace(shrunk, signature=replace(signature, amount=16)))
    refused(replace(shrunk, keyset=replace(keyset, keys=keyset.keys | {1: keyset.keys[2]})))
    twice_root, twice = log_with(b_, 8, 8)
    manifest = Signed.of(signed(commitment(1, keyset.id, issued=twice_root)), keyset.id)
    doubled = Evidence(EvidenceKind.TWICE, "http://mint", PUBKEY, manifest, side=Side.ISSUED, proofs=tuple(twice))
    round_trip(doubled)
    refused(replace(doubled, proofs=(twice[0], twice[0])))
    missing = replace(shrunk, kind=EvidenceKind.MISSING, side=None, proofs=(), issued_at=AT - 10)
    round_trip(missing)
    assert not missing.conclusive
    refused(replace(missing, issued_at=AT))
    refused(replace(missing, issued_at=None))


def test_json_of_others_is_bounded() -> None:
    """Wrong shapes, times, digests, heights and kinds are malformed, whatever they say."""
    good = json.loads(wire.epochs_to_json([signed(commitment(3))]))

    def broken(change: Any) -> None:
        body = json.loads(json.dumps(good))
        change(body["epochs"][0])
        with pytest.raises(MalformedError):
            wire.epochs_from_json(json.dumps(body).encode())

    broken(lambda epoch: epoch.update(timestamp="2026-06-11T12:00:00+00:00"))
    broken(lambda epoch: epoch.update(timestamp="1901-01-01T00:00:00Z"))
    broken(lambda epoch: epoch.update(epoch_index=2))
    broken(lambda epoch: epoch["epoch_keysets"][0].update(mint_signature=None))
    broken(lambda epoch: epoch.update(epoch_keysets=epoch["epoch_keysets"] * 5000))
    assert timestamp_text(0) == "1970-01-01T00:00:00Z"
    with pytest.raises(MalformedError):
        wire.leaves_from_json(b'{"items": [], "amounts": [1]}')
    assert wire.leaves_from_json(wire.leaves_to_json([(item(1), 5)])) == [(item(1), 5)]
    for side in Side:
        body = wire.proof_request_to_json(side, [item(1)])
        assert wire.proof_request_from_json(body, side, most=1) == [item(1)]
        with pytest.raises(MalformedError):
            wire.proof_request_from_json(wire.proof_request_to_json(side, [item(1)] * 2), side, most=1)
    node = {"hash": "00" * 32, "sum": 1}
    long = {"item": item(1).hex(), "leaf_index": 0, "value": 1, "sibling_path": [], "peaks": [node] * 65}
    with pytest.raises(MalformedError):
        wire.inclusion_from_json(json.dumps({"proofs": [long]}).encode())
    proof = {"old_size": 1, "new_size": 2, "old_peaks": [node | {"height": 1}], "appended_subtrees": [node | {"height": 0}]}
    with pytest.raises(MalformedError):
        wire.consistency_from_json(json.dumps(proof).encode())
    kept = json.loads(
        wire.evidence_to_json(
            Evidence(EvidenceKind.OVERRUN, "http://mint", PUBKEY, Signed.of(signed(commitment(1)), "00aa"), keyset=coin(8)[0])
        )
    )
    for change in ({"format": "?"}, {"kind": "?"}, {"side": "?"}, {"keyset": kept["keyset"] | {"keys": {"x": "00"}}}):
        with pytest.raises(MalformedError):
            wire.evidence_from_json(json.dumps(kept | change).encode())
