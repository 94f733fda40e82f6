"""What pruning needs from a store: rows of the tables of coins in the order of their key, and a memory of what was dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from specie.ecash.liabilities import Side
from specie.storage import Transaction

__all__ = ["Dropped", "PruneStore", "Window"]


@dataclass(frozen=True, slots=True)
class Window:
    """Settled rows of one stretch of a table: spent inputs as (Y, keyset, amount), or signed outputs as (B_, ...)."""

    rows: tuple[tuple[bytes, str, int], ...]
    last: bytes | None
    """Key behind which the next stretch begins; None at the end of the table."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows of one keyset and side that are gone, and those of them that a log of proved liabilities holds."""

    count: int = 0
    total: int = 0
    logged_count: int = 0
    logged_total: int = 0

    def __add__(self, other: Dropped) -> Dropped:
        return Dropped(
            self.count + other.count,
            self.total + other.total,
            self.logged_count + other.logged_count,
            self.logged_total + other.logged_total,
        )


class PruneStore(Protocol):
    """The tables of coins, as pruning sees them."""

    async def window(self, tx: Transaction, side: Side, after: bytes, limit: int) -> Window:
        """The settled ones among the next `limit` rows behind `after`, whatever their keyset."""
        ...

    async def drop(self, tx: Transaction, side: Side, keyset: str, items: Sequence[bytes], *, unlogged: bool) -> Dropped:
        """Delete settled rows of a keyset and remember their sums, in the caller's transaction; what was deleted.

        Without `unlogged` a row that no log of liabilities holds stays.
        """
        ...

    async def dropped(self, tx: Transaction) -> dict[tuple[Side, str], Dropped]:
        """Everything that was ever dropped, by side and keyset."""
        ...
