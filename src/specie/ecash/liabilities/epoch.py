"""Epochs: what a mint commits to for every keyset, the digest that chains epochs, and the signed manifests (draft 388).

One signature a keyset, by the mint's own key (NUT-06), over a line of text that names everything about it in this epoch
and the digest of the epoch before. Texts and preimages are those of the draft of September 2026, unit included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from hashlib import sha256

import msgspec

from specie.ecash.liabilities.errors import CommitmentBrokenError
from specie.ecash.liabilities.tree import EMPTY, SumNode
from specie.kernel import curve
from specie.kernel.money import MAX_AMOUNT

__all__ = [
    "NO_DIGEST",
    "UNSCHEDULED",
    "Epoch",
    "KeysetCommitment",
    "Root",
    "Side",
    "manifest_digest",
    "manifest_message",
    "timestamp_read",
    "timestamp_text",
    "verify_epoch",
    "verify_life",
    "verify_manifest",
    "verify_successor",
]

NO_DIGEST = bytes(32)
"""What the first epoch names as the digest before it."""
UNSCHEDULED = MAX_AMOUNT
"""The `deactivation_epoch` of a keyset that was promised no end: the draft wants a number, and this is its largest."""

_LEAF = b"Cashu_PoL_Keyset_Leaf_v1"
_NODE = b"Cashu_PoL_Keyset_Node_v1"
_NO_KEYSETS = b"Cashu_PoL_Keyset_Empty_v1"
_EPOCH = b"Cashu_PoL_Epoch_v1"
_MAX_KEYSETS = 2**16 - 1
_MONTHS = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)
_TIMESTAMP = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z")
_LATEST = 253_402_300_799
"""End of the year 9999, behind which RFC 3339 has no text."""


class Side(StrEnum):
    """Which log of a keyset: blinded messages signed, or Ys of coins spent."""

    ISSUED = "issued"
    SPENT = "spent"


class Root(msgspec.Struct, frozen=True):
    """A log at the end of an epoch: how many leaves, its root, their sum."""

    size: int = 0
    hash: bytes = EMPTY.hash
    sum: int = 0

    @property
    def node(self) -> SumNode:
        """Root and sum as a node."""
        return SumNode(self.hash, self.sum)

    def packed(self) -> bytes:
        """Size, root and sum as the draft hashes them."""
        return self.size.to_bytes(8, "big") + self.hash + self.sum.to_bytes(8, "big")


class KeysetCommitment(msgspec.Struct, frozen=True):
    """What a mint says of one keyset at the end of an epoch. `active` as of NUT-02 at that moment."""

    keyset_id: str
    unit: str
    issued: Root
    spent: Root
    active: bool
    deactivation_epoch: int = UNSCHEDULED

    @property
    def outstanding(self) -> int:
        """What is owed, in the minor unit; negative only where a mint lies."""
        return self.issued.sum - self.spent.sum

    def log(self, side: Side) -> Root:
        """One of its two logs."""
        return self.issued if side is Side.ISSUED else self.spent

    def overrun(self, number: int) -> bool:
        """Whether it is still active in an epoch at or behind its declared end."""
        return self.active and number >= self.deactivation_epoch

    @property
    def leaf_hash(self) -> bytes:
        """Its leaf in the epoch's tree of keysets."""
        keyset_id, unit = self.keyset_id.encode(), self.unit.encode()
        return sha256(
            _LEAF
            + len(keyset_id).to_bytes(2, "big")
            + keyset_id
            + len(unit).to_bytes(2, "big")
            + unit
            + self.issued.packed()
            + self.spent.packed()
            + bytes((self.active,))
            + self.deactivation_epoch.to_bytes(8, "big")
        ).digest()


class Epoch(msgspec.Struct, frozen=True):
    """One epoch: its keysets in the order of their ids, and one signature (64 bytes) for each, in that order.

    `at` is Unix time. `signatures` is empty while an epoch is decided and not signed.
    """

    number: int
    at: int
    previous_digest: bytes
    keysets: tuple[KeysetCommitment, ...]
    signatures: tuple[bytes, ...] = ()

    @property
    def keysets_root(self) -> bytes:
        """Root of the tree over its keysets; an odd last node is doubled."""
        if not self.keysets:
            return sha256(_NO_KEYSETS).digest()
        level = [keyset.leaf_hash for keyset in self.keysets]
        while len(level) > 1:
            if len(level) % 2:
                level.append(level[-1])
            level = [sha256(_NODE + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=True)]
        return level[0]

    @property
    def digest(self) -> bytes:
        """What the next epoch names, and what one would have timestamped elsewhere."""
        head = _EPOCH + self.previous_digest + self.number.to_bytes(8, "big") + len(self.keysets).to_bytes(2, "big")
        return sha256(head + self.keysets_root).digest()

    def keyset(self, keyset_id: str) -> KeysetCommitment | None:
        """What it says of a keyset; None if it has none of this id."""
        return next((keyset for keyset in self.keysets if keyset.keyset_id == keyset_id), None)

    def outstanding(self) -> dict[str, int]:
        """What is owed, by unit."""
        owed: dict[str, int] = {}
        for keyset in self.keysets:
            owed[keyset.unit] = owed.get(keyset.unit, 0) + keyset.outstanding
        return owed


def timestamp_text(at: int) -> str:
    """Unix time as the manifest writes it: RFC 3339, UTC, whole seconds, `Z`."""
    days, second = divmod(at, 86_400)
    year = 1970 + days // 366
    while days >= _day_of(year + 1, 1):
        year += 1
    month = 12
    while days < _day_of(year, month):
        month -= 1
    day = days - _day_of(year, month) + 1
    return f"{year:04}-{month:02}-{day:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def timestamp_read(text: str) -> int:
    """Unix time of what `timestamp_text` writes; CommitmentBrokenError for any other text."""
    found = _TIMESTAMP.fullmatch(text)
    if found is not None:
        year, month, day, hour, minute, second = map(int, found.groups())
        if year >= 1970 and 1 <= month <= 12:
            at = (_day_of(year, month) + day - 1) * 86_400 + hour * 3600 + minute * 60 + second
            if 0 <= at <= _LATEST and timestamp_text(at) == text:
                return at
    raise CommitmentBrokenError("timestamp is not RFC 3339 in UTC with whole seconds")


def _day_of(year: int, month: int) -> int:
    """Days from 1970-01-01 to the first of a month in the Gregorian calendar."""
    before = year - 1
    leaps = before // 4 - before // 100 + before // 400 - 477
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return (year - 1970) * 365 + leaps + _MONTHS[month - 1] + int(leap and month > 2)


def manifest_message(epoch: Epoch, keyset: KeysetCommitment) -> str:
    """The line of text that is signed for a keyset in an epoch."""
    fields = (
        keyset.keyset_id,
        keyset.unit,
        epoch.number,
        timestamp_text(epoch.at),
        epoch.previous_digest.hex(),
        keyset.issued.size,
        keyset.issued.hash.hex(),
        keyset.issued.sum,
        keyset.spent.size,
        keyset.spent.hash.hex(),
        keyset.spent.sum,
        keyset.outstanding,
        "true" if keyset.active else "false",
        keyset.deactivation_epoch,
    )
    return ":".join(map(str, fields))


def manifest_digest(epoch: Epoch, keyset: KeysetCommitment) -> bytes:
    """The 32 bytes that the mint's key signs by BIP 340."""
    return sha256(manifest_message(epoch, keyset).encode()).digest()


def verify_manifest(epoch: Epoch, keyset: KeysetCommitment, signature: bytes, pubkey: bytes) -> None:
    """Check one signature under the mint's key (33 bytes); None if it holds, else CommitmentBrokenError."""
    if not curve.schnorr_verify(signature, manifest_digest(epoch, keyset), pubkey):
        raise CommitmentBrokenError(f"epoch {epoch.number}: the mint's key has not signed this manifest")


def verify_epoch(epoch: Epoch, pubkey: bytes) -> None:
    """Check one epoch by itself: order, bounds, sums that are no debt of the holders, and every signature.

    None if it holds, else CommitmentBrokenError.
    """
    ids = [keyset.keyset_id for keyset in epoch.keysets]
    if ids != sorted(set(ids)) or len(ids) > _MAX_KEYSETS or any(one != one.lower() for one in ids):
        raise CommitmentBrokenError("the keysets of an epoch are not in order")
    if not 0 <= epoch.at <= _LATEST or not 1 <= epoch.number <= MAX_AMOUNT:
        raise CommitmentBrokenError("number or time of an epoch is out of range")
    if len(epoch.signatures) != len(epoch.keysets):
        raise CommitmentBrokenError("an epoch has another number of signatures than keysets")
    for keyset, signature in zip(epoch.keysets, epoch.signatures, strict=True):
        verify_manifest(epoch, keyset, signature, pubkey)
        if keyset.outstanding < 0:
            raise CommitmentBrokenError(f"keyset {keyset.keyset_id}: more was spent than issued")
        if keyset.overrun(epoch.number):
            raise CommitmentBrokenError(f"keyset {keyset.keyset_id} is active beyond its declared end")


def verify_successor(old: Epoch, new: Epoch, *, expired: Sequence[str] = ()) -> None:
    """Check that `new` comes right after `old`: number, time, digest, and logs that did not shrink.

    Also what the draft asks of a keyset's life: its unit and end are declared once, what is inactive stays so and issues
    nothing. A keyset may be missing only if it is among `expired`. None if all holds, else CommitmentBrokenError. That the
    logs begin as before is for `verify_consistency`, or for whoever reads their leaves.
    """
    if new.number != old.number + 1 or new.previous_digest != old.digest or new.at < old.at:
        raise CommitmentBrokenError(f"epoch {new.number} does not continue epoch {old.number}")
    for before in old.keysets:
        after = new.keyset(before.keyset_id)
        if after is None:
            if before.keyset_id in expired:
                continue
            raise CommitmentBrokenError(f"keyset {before.keyset_id} is gone from epoch {new.number}")
        verify_life(before, after)


def verify_life(before: KeysetCommitment, after: KeysetCommitment) -> None:
    """Check what a keyset may become in any later epoch; None if it may, else CommitmentBrokenError."""
    name = before.keyset_id
    if (after.unit, after.deactivation_epoch) != (before.unit, before.deactivation_epoch):
        raise CommitmentBrokenError(f"keyset {name} is declared in another way than before")
    for side in Side:
        shrunk = after.log(side).size < before.log(side).size or after.log(side).sum < before.log(side).sum
        if shrunk or (after.log(side).size == before.log(side).size and after.log(side) != before.log(side)):
            raise CommitmentBrokenError(f"keyset {name}: the {side} log was rewritten")
    if not before.active and (after.active or after.issued != before.issued):
        raise CommitmentBrokenError(f"keyset {name} was closed, and issues again")
