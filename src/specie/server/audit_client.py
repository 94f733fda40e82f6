"""The audit log of a running bank, read through its operator's socket as `specie.audit.AuditLog` is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from specie.audit.ports import Head, StoredRecord
from specie.audit.record import Checkpoint, checkpoint_from_text, checkpoint_text
from specie.kernel.errors import MalformedError, PeerFaultError
from specie.server.admin_client import AdminClient

__all__ = ["AuditClient"]

T = TypeVar("T")


class AuditClient:
    """Its log, unchecked. PeerFaultError for an answer that is none; else as `AdminClient`."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client

    async def head(self) -> Head | None:
        """Where the store says that the chain ends."""
        found = await self._client.audit_log("head")
        return _read(lambda: _head(found["head"]))

    async def records(self, *, after: int = 0, limit: int = 1000) -> list[StoredRecord]:
        """Records in order whose number is above `after`."""
        found = await self._client.audit_log("records", after=after, limit=limit)
        return _read(
            lambda: [
                StoredRecord(int(row["sequence"]), str(row["text"]), bytes.fromhex(row["hash"])) for row in found["records"]
            ]
        )

    async def checkpoints(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, str]]:
        """Counts and texts of checkpoints in order."""
        found = await self._client.audit_log("checkpoints", after=after, limit=limit)
        return _read(lambda: [(int(row["count"]), str(row["text"])) for row in found["checkpoints"]])

    async def checkpoint(self) -> Checkpoint | None:
        """Keep a checkpoint now, and anchor it."""
        found = (await self._client.audit_checkpoint())["checkpoint"]
        return None if found is None else _read(lambda: _checkpoint(found))


def _head(found: Any) -> Head | None:
    if found is None:
        return None
    return Head(int(found["count"]), bytes.fromhex(found["hash"]), bytes.fromhex(found["peaks"]))


def _checkpoint(found: Any) -> Checkpoint:
    made = Checkpoint(int(found["at"]), int(found["count"]), bytes.fromhex(found["head"]), bytes.fromhex(found["root"]))
    return checkpoint_from_text(checkpoint_text(made))


def _read(read: Callable[[], T]) -> T:
    try:
        return read()
    except (KeyError, TypeError, ValueError, MalformedError):
        raise PeerFaultError("the bank's answer is no audit log", peer="admin socket") from None
