"""Whatever is done to a log below a checkpoint is found, at its record."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.audit import Draft, FindingKind, Report, verify
from specie.audit.ports import Head, StoredRecord
from specie.audit.record import NO_RECORD, Checkpoint, Tree, checkpoint_text, record_hash, record_text


def log(count: int, mark: str = "") -> tuple[list[StoredRecord], list[tuple[int, str]], Head]:
    """A whole log of `count` records with a checkpoint after each, and its head."""
    rows, checkpoints, tree, last = [], [], Tree(), NO_RECORD
    for number in range(1, count + 1):
        text = record_text(Draft(number, "op", "verb", f"{mark}{number}"), number, last)
        last = record_hash(text)
        tree.append(text)
        rows.append(StoredRecord(number, text, last))
        checkpoints.append((number, checkpoint_text(Checkpoint(number, number, last, tree.root))))
    return rows, checkpoints, Head(count, last, tree.peaks)


def found(report: Report) -> list[tuple[str, int]]:
    return [(finding.kind.value, finding.sequence) for finding in report.findings]


def test_a_whole_log_holds() -> None:
    """Nothing is found, and it is said how far checkpoints and anchors vouch."""
    rows, checkpoints, head = log(7)
    report = verify(rows, checkpoints=checkpoints[:5], anchors=[checkpoints[2][1]], head=head)
    assert report.holds
    assert (report.count, report.checkpoints, report.covered, report.anchors, report.anchored) == (7, 5, 5, 1, 3)
    assert report.head == head.hash
    assert verify([]).holds


ROWS, CHECKPOINTS, HEAD = log(9)
PLACE = st.integers(0, 8)


@given(place=PLACE, position=st.integers(0, 10_000), char=st.characters(codec="utf-8"))
def test_any_change_of_a_text_is_found_there(place, position, char) -> None:
    """One character of one record, without any checkpoint."""
    row = ROWS[place]
    position %= len(row.text)
    text = row.text[:position] + char + row.text[position + 1 :]
    rows = [*ROWS[:place], dataclasses.replace(row, text=text), *ROWS[place + 1 :]]
    report = verify(rows)
    if text == row.text:
        assert report.holds
    else:
        assert found(report)[0] == ("changed", place + 1)


@given(place=PLACE)
def test_a_record_replaced_with_its_hash_is_found(place) -> None:
    """By the record after it; where there is none, by the checkpoint."""
    row = ROWS[place]
    text = row.text.replace('"op"', '"no"')
    forged = StoredRecord(row.sequence, text, record_hash(text))
    rows = [*ROWS[:place], forged, *ROWS[place + 1 :]]
    report = verify(rows, checkpoints=CHECKPOINTS)
    assert not report.holds
    assert ("checkpoint", place + 1) in found(report)
    assert len(report.findings) <= 2
    if place < 8:
        assert ("unlinked", place + 2) in found(verify(rows))


@given(place=PLACE)
def test_a_removed_record_is_found(place) -> None:
    """By its number; the last one by a checkpoint, an anchor or the head, and by nothing else."""
    rows = [*ROWS[:place], *ROWS[place + 1 :]]
    if place < 8:
        assert ("removed", place + 1) in found(verify(rows))
        assert len(verify(rows).findings) == 1
    else:
        assert verify(rows).holds
        assert found(verify(rows, checkpoints=CHECKPOINTS)) == [("truncated", 9)]
        assert found(verify(rows, anchors=[text for _, text in CHECKPOINTS])) == [("truncated", 9)]
        assert found(verify(rows, head=HEAD)) == [("truncated", 9)]


@given(length=st.integers(0, 8))
def test_a_cut_below_a_checkpoint_is_found(length) -> None:
    """However much was cut off, it is told once, and how much."""
    report = verify(ROWS[:length], anchors=[text for _, text in CHECKPOINTS])
    assert found(report) == [("truncated", length + 1)]
    assert f"the last {9 - length} " in report.findings[0].detail


@given(place=PLACE, at=PLACE)
def test_an_inserted_record_is_found(place, at) -> None:
    """A copy of a record anywhere, or one with the number of another."""
    rows = [*ROWS[:at], ROWS[place], *ROWS[at:]]
    assert not verify(rows).holds


@given(first=PLACE, second=PLACE)
def test_reordered_records_are_found(first, second) -> None:
    """Rows that changed places, with and without their numbers."""
    rows = list(ROWS)
    rows[first], rows[second] = rows[second], rows[first]
    assert verify(rows).holds == (first == second)
    renumbered = [dataclasses.replace(row, sequence=number) for number, row in enumerate(rows, 1)]
    report = verify(renumbered)
    assert report.holds == (first == second)
    if first != second:
        assert ("reordered", min(first, second) + 1) in found(report)


def test_a_log_written_anew_is_found_by_an_anchor_alone() -> None:
    """Every hash, checkpoint and the head of another log fit together; the anchor knows better, and from which record on."""
    rows, checkpoints, head = log(9, "other")
    assert verify(rows, checkpoints=checkpoints, head=head).holds
    report = verify(rows, checkpoints=checkpoints, head=head, anchors=[CHECKPOINTS[2][1], CHECKPOINTS[5][1]])
    assert found(report) == [("anchor", 3)]
    assert "one of the records 1 to 3" in report.findings[0].detail


def test_a_changed_checkpoint_is_told_from_changed_records() -> None:
    """Where a later one agrees, it was the checkpoint that was changed."""
    strange = checkpoint_text(Checkpoint(1, 4, b"x" * 32, b"y" * 32))
    report = verify(ROWS, checkpoints=[*CHECKPOINTS[:3], (4, strange), *CHECKPOINTS[4:]])
    assert found(report) == [("checkpoint", 4)]
    assert "was changed: one of more records agrees" in report.findings[0].detail
    assert report.covered == 9


def test_an_anchor_that_was_told_a_rewritten_log_does_not_vouch_for_it() -> None:
    """Once it contradicts the log nothing that it was told later counts, and it is never the anchor that was changed."""
    rows, checkpoints, head = log(9, "other")
    anchors = [text for _, text in [*CHECKPOINTS[:3], *checkpoints[3:]]]
    report = verify(rows, checkpoints=checkpoints, head=head, anchors=anchors)
    assert found(report) == [("anchor", 1)]
    assert "record 1 is not the one that the anchor" in report.findings[0].detail
    assert report.anchored == 0
    middle = [CHECKPOINTS[1][1], checkpoints[4][1], CHECKPOINTS[7][1]]
    report = verify(ROWS, anchors=middle)
    assert found(report) == [("anchor", 5)]
    assert report.anchored == 2


@pytest.mark.parametrize(
    ("count", "text", "said"), [(4, "nonsense", "no checkpoint"), (4, CHECKPOINTS[2][1], "kept for 4 records is of 3")]
)
def test_what_is_no_checkpoint_is_told(count, text, said) -> None:
    """Garbage in the table, or a checkpoint under the count of another."""
    (finding,) = verify(ROWS, checkpoints=[(count, text)]).findings
    assert (finding.kind, finding.sequence) == (FindingKind.CHECKPOINT, count)
    assert said in finding.detail
    assert found(verify(ROWS, anchors=["nonsense"])) == [("anchor", 0)]


def test_a_head_that_differs_is_told() -> None:
    """One that counts less than there is, or has another hash."""
    assert found(verify(ROWS, head=Head(8, HEAD.hash, HEAD.peaks))) == [("checkpoint", 8)]
    assert found(verify(ROWS, head=Head(9, b"x" * 32, HEAD.peaks))) == [("checkpoint", 9)]


def test_findings_are_bounded() -> None:
    """A log of garbage does not fill memory."""
    rows = [StoredRecord(number, "x", b"") for number in range(1, 500)]
    report = verify(rows, checkpoints=[(number, "x") for number in range(500)])
    assert len(report.findings) == 100
