"""Is this log whole? Recomputes the chain and every checkpoint, and says which record is wrong: pure.

A change that leaves the hashes after it as they were is seen at its very record. Whoever rewrites every later hash, too, is
seen where the first checkpoint differs. A checkpoint is worth what its place is worth: those in the store can be rewritten
with the rest, those of an anchor elsewhere cannot. Records cut off at the end are missed only by a checkpoint or an anchor
that counted them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from specie.audit.ports import Head, StoredRecord
from specie.audit.record import NO_RECORD, Checkpoint, Tree, checkpoint_from_text, record_from_text, record_hash
from specie.kernel.errors import MalformedError

__all__ = ["Finding", "FindingKind", "Report", "Verifier", "verify", "without_pieces"]

_MAX_FINDINGS = 100


class FindingKind(StrEnum):
    """What is wrong."""

    CHANGED = "changed"
    """A record's text is not the one that was hashed, or is no record."""
    REMOVED = "removed"
    """A number is missing."""
    INSERTED = "inserted"
    """A number is there twice."""
    REORDERED = "reordered"
    """A record stands in the place of another."""
    UNLINKED = "unlinked"
    """A record does not follow the one before it: one of both was replaced, hash and all."""
    TRUNCATED = "truncated"
    """The log is shorter than a checkpoint or the head says."""
    CHECKPOINT = "checkpoint"
    """A checkpoint of the store does not agree with the records."""
    ANCHOR = "anchor"
    """A checkpoint of an anchor does not agree with the records: they were rewritten after it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and the record (its number) that it is about."""

    kind: FindingKind
    sequence: int
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a check came to. `covered`: up to which record checkpoints vouch, and `anchored`: up to which an anchor does."""

    count: int
    head: bytes
    root: bytes
    checkpoints: int
    anchors: int
    covered: int
    anchored: int
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(slots=True)
class _Mark:
    """A checkpoint that is waited for, and where it was read."""

    kind: FindingKind
    checkpoint: Checkpoint


@dataclass(slots=True)
class _Witness:
    """What the checkpoints of one place came to: how many, up to which record they agree, and the finding not yet explained."""

    place: str
    marks: int = 0
    good: int = 0
    open: int | None = None
    failed: bool = False
    """Whether one of them differed."""


class Verifier:
    """A check that is fed records in the order of the store or of a file, so that a log of any length can be checked."""

    def __init__(self, checkpoints: Iterable[tuple[int, str]] = (), anchors: Iterable[str] = ()) -> None:
        """`checkpoints` as the store has them (count, text); `anchors` as lines of an anchor."""
        self._findings: list[Finding] = []
        self._tree = Tree()
        self._last = NO_RECORD
        self._number = 0
        self._straight = True
        """Whether the record before was in its place, so that the link to it means something."""
        self._marks: dict[int, list[_Mark]] = {}
        self._witnesses = {FindingKind.CHECKPOINT: _Witness("a checkpoint"), FindingKind.ANCHOR: _Witness("the anchor")}
        for count, text in checkpoints:
            self._mark(FindingKind.CHECKPOINT, text, count)
        for text in anchors:
            self._mark(FindingKind.ANCHOR, text, None)

    def _mark(self, kind: FindingKind, text: str, count: int | None) -> None:
        self._witnesses[kind].marks += 1
        try:
            found = checkpoint_from_text(text)
        except MalformedError as error:
            self._find(kind, count or 0, f"this is no checkpoint: {error.detail}")
            return
        if count is not None and found.count != count:
            self._find(kind, count, f"the checkpoint kept for {count} records is of {found.count}")
            return
        self._marks.setdefault(found.count, []).append(_Mark(kind, found))

    def _find(self, kind: FindingKind, sequence: int, detail: str) -> None:
        if len(self._findings) < _MAX_FINDINGS:
            self._findings.append(Finding(kind, sequence, detail))

    def add(self, row: StoredRecord) -> None:
        """The next record."""
        own = record_hash(row.text)
        sound = self._place(row) & self._content(row, own)
        self._number = max(self._number, row.sequence)
        self._straight = sound
        self._last = own
        self._tree.append(row.text)
        for mark in self._marks.pop(self._tree.size, ()):
            self._judge(mark)

    def _place(self, row: StoredRecord) -> bool:
        """Whether its number is the next one."""
        expected = self._number + 1
        if row.sequence == expected:
            return True
        if row.sequence > expected:
            gone = f"record {expected} is" if row.sequence == expected + 1 else f"records {expected} to {row.sequence - 1} are"
            self._find(FindingKind.REMOVED, expected, f"{gone} missing before record {row.sequence}")
        elif row.sequence == self._number:
            self._find(FindingKind.INSERTED, row.sequence, f"record {row.sequence} is there twice")
        else:
            self._find(FindingKind.REORDERED, row.sequence, f"record {row.sequence} stands after record {self._number}")
        return False

    def _content(self, row: StoredRecord, own: bytes) -> bool:
        """Whether its text is what was hashed, names its own number, and follows the record before."""
        try:
            record = record_from_text(row.text)
        except MalformedError as error:
            self._find(FindingKind.CHANGED, row.sequence, f"record {row.sequence} cannot be read: {error.detail}")
            return False
        if own != row.hash:
            self._find(FindingKind.CHANGED, row.sequence, f"record {row.sequence} is not what was hashed when it was written")
            return False
        if record.sequence != row.sequence:
            moved = f"in the place of record {row.sequence} stands the text of record {record.sequence}"
            self._find(FindingKind.REORDERED, row.sequence, moved)
            return False
        if record.previous != self._last and self._straight and row.sequence == self._number + 1:
            before = f"record {self._number}" if self._number else "nothing, as the first one should"
            detail = f"record {row.sequence} does not follow {before}: one of them was replaced after it was written"
            self._find(FindingKind.UNLINKED, row.sequence, detail)
            return False
        return True

    def _judge(self, mark: _Mark) -> None:
        """Compare a checkpoint with the tree as it is now. Of those that differ in a row, the first one is told."""
        found, witness = mark.checkpoint, self._witnesses[mark.kind]
        if mark.kind is FindingKind.ANCHOR and witness.failed:
            return  # an anchor takes nothing back: a log that it contradicts once is not proved by what it was told later
        if (found.head, found.root) == (self._last, self._tree.root):
            witness.good = found.count
            if witness.open is not None:
                place = witness.place
                count = self._findings[witness.open].sequence
                detail = f"what {place} says of {count} records was changed: one of more records agrees with all of them"
                self._findings[witness.open] = Finding(mark.kind, count, detail)
                witness.open = None
            return
        witness.failed = True
        if witness.open is None and len(self._findings) < _MAX_FINDINGS:
            first = witness.good + 1
            among = f"record {first}" if first == found.count else f"one of the records {first} to {found.count}"
            witness.open = len(self._findings)
            self._find(mark.kind, found.count, f"{among} is not the one that {witness.place} of {found.count} records covers")

    def finish(self, head: Head | None = None) -> Report:
        """What it came to; `head` is where the store says that the chain ends, None where nothing says so."""
        size = self._tree.size
        longest = {mark.kind: count for count in sorted(self._marks) for mark in self._marks[count]}
        for kind, count in longest.items():
            seen = f"{self._witnesses[kind].place} has seen {count} records and {size} are there"
            self._find(FindingKind.TRUNCATED, size + 1, f"{seen}: the last {count - size} were cut off")
        if head is not None and (head.count, head.hash, head.peaks) != (size, self._last, self._tree.peaks):
            if head.count > size:
                detail = f"the log's head counts {head.count} records and {size} are there"
                self._find(FindingKind.TRUNCATED, size + 1, detail)
            else:
                self._find(FindingKind.CHECKPOINT, head.count, "the log's head does not agree with the records")
        kept, anchored = self._witnesses[FindingKind.CHECKPOINT], self._witnesses[FindingKind.ANCHOR]
        return Report(
            count=size,
            head=self._last,
            root=self._tree.root,
            checkpoints=kept.marks,
            anchors=anchored.marks,
            covered=kept.good,
            anchored=anchored.good,
            findings=tuple(self._findings),
        )


def without_pieces(lines: Iterable[str]) -> list[str]:
    """An anchor's lines without the pieces that crashes left: each is the beginning of the checkpoint that follows it.

    Where a crash came between the length of the file and its bytes, nulls stand for these.
    """
    kept: list[str] = []
    pieces: list[str] = []
    for line in lines:
        try:
            checkpoint_from_text(line)
        except MalformedError:
            pieces.append(line)
            continue
        kept += [piece for piece in pieces if not line.startswith(piece.strip("\0"))]
        kept.append(line)
        pieces.clear()
    return kept + pieces


def verify(
    records: Iterable[StoredRecord],
    *,
    checkpoints: Iterable[tuple[int, str]] = (),
    anchors: Sequence[str] = (),
    head: Head | None = None,
) -> Report:
    """Check a whole log at once; see `Verifier`."""
    verifier = Verifier(checkpoints, anchors)
    for record in records:
        verifier.add(record)
    return verifier.finish(head)
