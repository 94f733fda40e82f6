"""What the audit log needs: tables that keep it, and a place outside that remembers its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from specie.audit.record import Checkpoint
from specie.storage import Transaction

__all__ = ["Anchor", "AuditStore", "Head", "StoredRecord"]


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain ends: how many records, the hash of the last (32 bytes), the peaks of their tree."""

    count: int
    hash: bytes
    peaks: bytes


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it lies in the store: nothing of it is believed before it is checked."""

    sequence: int
    text: str
    hash: bytes


class AuditStore(Protocol):
    """The log's tables."""

    async def head(self, tx: Transaction) -> Head | None:
        """Where the chain ends; None for an empty log."""
        ...

    async def move_head(self, tx: Transaction, old: Head | None, new: Head) -> bool:
        """Take the next place; False if another writer took it. Held until the end of the transaction."""
        ...

    async def add(self, tx: Transaction, record: StoredRecord) -> bool:
        """Write a record; False if its place is taken."""
        ...

    async def records(self, tx: Transaction, *, after: int, limit: int) -> list[StoredRecord]:
        """Records in order whose number is above `after`."""
        ...

    async def add_checkpoint(self, tx: Transaction, count: int, text: str) -> bool:
        """Keep a checkpoint; False if there is one of this count."""
        ...

    async def checkpoints(self, tx: Transaction, *, after: int, limit: int) -> list[tuple[int, str]]:
        """Counts and texts of checkpoints in order whose count is above `after`."""
        ...


class Anchor(Protocol):
    """A place outside the bank's store that remembers checkpoints and lets nobody take them back. Its methods block."""

    def last(self) -> Checkpoint | None:
        """The newest checkpoint that it has. UnavailableError."""
        ...

    def add(self, texts: Sequence[str]) -> None:
        """Remember checkpoints, durably, in order; those that are there already are left out. UnavailableError."""
        ...
