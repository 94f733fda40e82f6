"""Append-only trees with sums: a Merkle mountain range whose nodes add up (draft 388, sum-MMR).

A node is (hash, sum). A leaf's hash is SHA-256 of the 33 bytes of B_ or Y, its sum the amount; a parent's hash is SHA-256
of both hashes and both sums (8 bytes big-endian), left before right. A log of n leaves is one perfect tree for each bit
set in n, largest first; its root bags them from right to left. A complete subtree never changes, however the log grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

import msgspec

from specie.ecash.liabilities.errors import CommitmentBrokenError
from specie.kernel.money import MAX_AMOUNT

__all__ = [
    "EMPTY",
    "ConsistencyProof",
    "Forest",
    "InclusionProof",
    "Span",
    "Step",
    "SumNode",
    "bag",
    "leaf",
    "parent",
    "path_spans",
    "spans",
    "verify_consistency",
    "verify_inclusion",
]

_MAX_LEAVES = 2**63


class SumNode(msgspec.Struct, frozen=True):
    """A node: SHA-256 (32 bytes) of what is below it, and the sum of its leaves in the unit's minor unit."""

    hash: bytes
    sum: int


class Span(msgspec.Struct, frozen=True):
    """A complete subtree by its place: leaves `start` to `start` + 2^`height`, the end left out."""

    start: int
    height: int

    @property
    def end(self) -> int:
        """The first leaf behind it."""
        return self.start + (1 << self.height)


class Step(msgspec.Struct, frozen=True):
    """One sibling on the way from a leaf to its peak; `is_left` where it stands on the left."""

    hash: bytes
    sum: int
    is_left: bool


class InclusionProof(msgspec.Struct, frozen=True):
    """That a log holds `item` (33 bytes, B_ or Y) with `value`. The index is told; a check derives it."""

    item: bytes
    value: int
    leaf_index: int
    sibling_path: tuple[Step, ...]
    peaks: tuple[SumNode, ...]


class ConsistencyProof(msgspec.Struct, frozen=True):
    """That a log of `new_size` leaves begins with the log of `old_size` leaves."""

    old_size: int
    new_size: int
    old_peaks: tuple[SumNode, ...]
    appended: tuple[SumNode, ...]


EMPTY = SumNode(sha256(b"").digest(), 0)
"""Root of a log without leaves."""


def leaf(item: bytes, amount: int) -> SumNode:
    """The leaf of a point (33 bytes) and an amount from 0 to 2^64-1; CommitmentBrokenError for another amount."""
    if not 0 <= amount <= MAX_AMOUNT:
        raise CommitmentBrokenError("an amount is from 0 to 2^64-1")
    return SumNode(sha256(item).digest(), amount)


def parent(left: SumNode, right: SumNode) -> SumNode:
    """The node above two; CommitmentBrokenError where their sum passes 2^64-1."""
    total = left.sum + right.sum
    if total > MAX_AMOUNT:
        raise CommitmentBrokenError("a sum passes 2^64-1")
    return SumNode(sha256(left.hash + right.hash + left.sum.to_bytes(8, "big") + right.sum.to_bytes(8, "big")).digest(), total)


def bag(peaks: Sequence[SumNode]) -> SumNode:
    """The root over peaks, largest first."""
    if not peaks:
        return EMPTY
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = parent(peak, root)
    return root


def spans(start: int, end: int) -> tuple[Span, ...]:
    """The largest complete subtrees that make up leaves `start` to `end`, from the left; from 0 they are the peaks."""
    found: list[Span] = []
    cursor = start
    while cursor < end:
        height = (end - cursor).bit_length() - 1
        if cursor:
            height = min(height, (cursor & -cursor).bit_length() - 1)
        found.append(Span(cursor, height))
        cursor += 1 << height
    return tuple(found)


def path_spans(index: int, size: int) -> tuple[Span, ...]:
    """The siblings of leaf `index` in a log of `size` leaves, from the leaf up to its peak. ValueError if there is no such."""
    if not 0 <= index < size:
        raise ValueError("no such leaf")
    peak = next(span for span in spans(0, size) if span.start <= index < span.end)
    found: list[Span] = []
    for height in range(peak.height):
        own = index >> height
        found.append(Span((own ^ 1) << height, height))
    return tuple(found)


class Forest:
    """A log's peaks while it grows. `made`, if given, hears of every complete subtree, leaves left out."""

    __slots__ = ("_made", "_stack", "size")

    def __init__(
        self, size: int = 0, peaks: Iterable[SumNode] = (), *, made: Callable[[Span, SumNode], None] | None = None
    ) -> None:
        """Take up a log of `size` leaves; CommitmentBrokenError unless `peaks` are as many as it has."""
        places = spans(0, size)
        nodes = tuple(peaks)
        if len(nodes) != len(places):
            raise CommitmentBrokenError("a log of this size has another number of peaks")
        self.size = size
        self._stack = [(place.height, node) for place, node in zip(places, nodes, strict=True)]
        self._made = made

    @property
    def peaks(self) -> tuple[SumNode, ...]:
        """Its peaks, largest first."""
        return tuple(node for _, node in self._stack)

    @property
    def root(self) -> SumNode:
        """Root and sum of all its leaves."""
        return bag(self.peaks)

    def append(self, node: SumNode) -> None:
        """Add one leaf."""
        self.append_subtree(node, 0)

    def append_subtree(self, node: SumNode, height: int) -> None:
        """Add a complete subtree; the log's size must be a multiple of its width."""
        if self.size % (1 << height):
            raise CommitmentBrokenError("a subtree stands where none can")
        self.size += 1 << height
        self._stack.append((height, node))
        while len(self._stack) > 1 and self._stack[-1][0] == self._stack[-2][0]:
            top, right = self._stack.pop()
            _, left = self._stack.pop()
            merged = parent(left, right)
            self._stack.append((top + 1, merged))
            if self._made is not None:
                self._made(Span(self.size - (1 << (top + 1)), top + 1), merged)


def verify_inclusion(proof: InclusionProof, size: int, root: SumNode) -> None:
    """Check a proof against a log's size and root; None if it holds, else CommitmentBrokenError. Derives the index."""
    places = spans(0, size)
    if len(proof.peaks) != len(places):
        raise CommitmentBrokenError("the proof has another number of peaks than the log")
    node, offset = leaf(proof.item, proof.value), 0
    for level, step in enumerate(proof.sibling_path[:64]):
        sibling = SumNode(step.hash, step.sum)
        node = parent(sibling, node) if step.is_left else parent(node, sibling)
        offset |= int(step.is_left) << level
    height = len(proof.sibling_path)
    for place, peak in zip(places, proof.peaks, strict=True):
        if place.height == height:
            if node != peak or place.start + offset != proof.leaf_index:
                raise CommitmentBrokenError("the path does not end at its peak")
            if bag(proof.peaks) != root:
                raise CommitmentBrokenError("the peaks do not make the root")
            return
    raise CommitmentBrokenError("the path is as long as no peak is high")


def verify_consistency(proof: ConsistencyProof, old: tuple[int, SumNode], new: tuple[int, SumNode]) -> None:
    """Check that log `new` extends log `old`, both (size, root); None if so, else CommitmentBrokenError."""
    if (proof.old_size, proof.new_size) != (old[0], new[0]) or not 0 <= old[0] < new[0] < _MAX_LEAVES:
        raise CommitmentBrokenError("the proof is about logs of other sizes")
    appended = spans(old[0], new[0])
    if len(proof.appended) != len(appended):
        raise CommitmentBrokenError("the proof has another number of subtrees")
    forest = Forest(old[0], proof.old_peaks)
    if forest.root != old[1]:
        raise CommitmentBrokenError("the old peaks do not make the old root")
    for place, node in zip(appended, proof.appended, strict=True):
        forest.append_subtree(node, place.height)
    if forest.root != new[1]:
        raise CommitmentBrokenError("the log does not continue the old one")
