"""The half of the wallet's store that remembers transfers, mints being left, their health, targets and policies."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from specie.storage.ports import Transaction
    from specie.wallet.holding import StoredProof
    from specie.wallet.placement import Leaving, MintHealth
    from specie.wallet.states import OperationState
    from specie.wallet.target import Target
    from specie.wallet.transfer import Transfer, TransferState

__all__ = ["PlacementStore"]


class PlacementStore(Protocol):
    """Tables of what should be where. Every method works inside the caller's transaction and commits nothing itself."""

    async def add_transfer(self, tx: Transaction, transfer: Transfer) -> bool:
        """Insert a transfer; False if there is one of its payment."""
        ...

    async def transfer(self, tx: Transaction, transfer_id: str) -> Transfer | None:
        """One transfer."""
        ...

    async def transfers(self, tx: Transaction, states: Collection[TransferState]) -> list[Transfer]:
        """Transfers in these states, oldest first."""
        ...

    async def move_transfer(
        self, tx: Transaction, transfer_id: str, after: TransferState, *, fee: int | None, error: str, now: int
    ) -> bool:
        """To `after` as `transfer.TRANSFER` allows (or to itself), with `fee` if given; False where it does not allow it."""
        ...

    async def quote_operations(self, tx: Transaction, mint: str, quote: str) -> list[OperationState]:
        """States of all operations about a quote, oldest first."""
        ...

    async def payment_cost(self, tx: Transaction, mint: str, request: str) -> int | None:
        """What a finished payment of a request cost on top; None where there is none."""
        ...

    async def save_leaving(self, tx: Transaction, leaving: Leaving) -> None:
        """Mark a mint as being left; again renews all but `since`."""
        ...

    async def drop_leaving(self, tx: Transaction, mint: str) -> bool:
        """Take the mark off; whether there was one."""
        ...

    async def leaving(self, tx: Transaction) -> list[Leaving]:
        """Mints being left, by URL."""
        ...

    async def save_health(self, tx: Transaction, health: MintHealth) -> None:
        """Insert or replace what was seen of a mint."""
        ...

    async def health(self, tx: Transaction) -> list[MintHealth]:
        """What was seen of mints, by URL."""
        ...

    async def save_target(self, tx: Transaction, target: Target) -> None:
        """Insert or replace the target of a mint and unit."""
        ...

    async def drop_targets(self, tx: Transaction, *, mint: str | None, unit: str | None) -> int:
        """Delete targets, filtered; how many."""
        ...

    async def targets(self, tx: Transaction) -> list[Target]:
        """All targets, by unit and mint."""
        ...

    async def save_policy(self, tx: Transaction, name: str, text: str | None) -> None:
        """Remember a policy as text; None forgets it."""
        ...

    async def policy(self, tx: Transaction, name: str) -> str | None:
        """A policy's text."""
        ...

    async def unswapped(self, tx: Transaction) -> list[tuple[StoredProof, int]]:
        """UNSPENT coins that were received off-line, each with the time it came, oldest first."""
        ...

    async def drop_mint(self, tx: Transaction, url: str) -> bool:
        """Forget a mint, its health, mark and targets. Its keysets, counters and coins stay, lest secrets be used twice."""
        ...
