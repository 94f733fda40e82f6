"""Payments that travel inside HTTP requests, as values: what was taken for a resource, and what was paid for one (NUT-24)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from specie.kernel.machine import Machine

if TYPE_CHECKING:
    from specie.storage.ports import Transaction
    from specie.wallet.states import OperationState

__all__ = ["MACHINES", "TAKING", "TOLL", "PaidStore", "Settle", "Taking", "TakingState", "Toll", "TollState", "resource_name"]

_RESOURCE_CHARS = 500


class Settle(StrEnum):
    """When a token that pays for a resource becomes ours."""

    NOW = "now"
    """It is swapped before the resource is given."""
    LATER = "later"
    """It is locked to our key and checked without the mint, and swapped some time after."""


class TakingState(StrEnum):
    """What is known of a token that was shown for a resource."""

    BEGUN = "BEGUN"
    """It may have been redeemed."""
    TAKEN = "TAKEN"
    """It is ours."""


class TollState(StrEnum):
    """What became of a payment for a resource. Every state but BACK counts against the limit of its host in full."""

    BEGUN = "BEGUN"
    """Counted; its token may have been made."""
    SENT = "SENT"
    """Its token was given to the host, or is about to be; whether it was redeemed is not known."""
    SPENT = "SPENT"
    """The host has the money."""
    BACK = "BACK"
    """It came to nothing, or was taken back; what that cost stands as its amount."""


TAKING = Machine(
    name="taking",
    initial=TakingState.BEGUN,
    table={(TakingState.BEGUN, "redeem"): TakingState.TAKEN},
)
"""A taking that was refused is dropped."""

TOLL = Machine(
    name="toll",
    initial=TollState.BEGUN,
    table={
        (TollState.BEGUN, "hand out"): TollState.SENT,
        (TollState.BEGUN, "fail"): TollState.BACK,
        (TollState.SENT, "redeem"): TollState.SPENT,
        (TollState.SENT, "reclaim"): TollState.BACK,
    },
)

MACHINES = (TAKING, TOLL)


@dataclass(frozen=True, slots=True)
class Taking:
    """A token shown for a resource. Its name is the hash of its coins, so the same coins are the same taking in any text."""

    name: str
    resource: str
    """What it paid for; the token pays for nothing else."""
    mint: str
    unit: str
    amount: int
    """What the coins are worth, in the minor unit."""
    settle: Settle
    state: TakingState
    created_at: int
    deliveries: int = 0
    """How often the resource was given for it, or is being given."""
    answered_at: int | None = None
    """When the first answer began; None while the payer has got nothing for it."""


@dataclass(frozen=True, slots=True)
class Toll:
    """A payment of ours for a resource of a host."""

    toll_id: str
    host: str
    resource: str
    mint: str
    unit: str
    amount: int
    state: TollState
    token: str | None = None
    """Id of the sent token."""
    created_at: int = 0
    text: str | None = field(default=None, repr=False)
    """The token itself, where it is about to be handed out; not stored here."""


def resource_name(text: str) -> str:
    """A resource's name as it is stored: long ones are cut and end in their hash."""
    return text if len(text) <= _RESOURCE_CHARS else f"{text[:_RESOURCE_CHARS]}…{sha256(text.encode()).hexdigest()}"


class PaidStore(Protocol):
    """The tables of takings and tolls. Every method works inside the caller's transaction."""

    async def add_taking(self, tx: Transaction, taking: Taking) -> bool:
        """Insert; False, and nothing written, if there is one of its name."""
        ...

    async def taking(self, tx: Transaction, name: str) -> Taking | None:
        """One taking."""
        ...

    async def save_taking(self, tx: Transaction, taking: Taking) -> None:
        """Renew state, deliveries and time of the answer."""
        ...

    async def drop_taking(self, tx: Transaction, name: str) -> None:
        """Forget one that was refused while BEGUN."""
        ...

    async def takings(self, tx: Transaction, *, since: int, limit: int) -> list[Taking]:
        """Those begun since (Unix seconds), newest first."""
        ...

    async def forget_takings(self, tx: Transaction, before: int) -> int:
        """Forget TAKEN ones that were begun before; the number."""
        ...

    async def swaps_of(self, tx: Transaction, inputs: bytes, since: int) -> list[tuple[str, OperationState]]:
        """Ids and states of swaps with exactly these inputs (Ys one behind the other) made since, oldest first."""
        ...

    async def add_toll(self, tx: Transaction, toll: Toll) -> None:
        """Insert."""
        ...

    async def save_toll(self, tx: Transaction, toll: Toll, before: TollState) -> bool:
        """Renew state, amount and token by compare-and-swap on the state."""
        ...

    async def tolls(
        self, tx: Transaction, *, host: str | None = None, since: int = 0, states: Collection[TollState] = ()
    ) -> list[Toll]:
        """Tolls made since (Unix seconds), oldest first; no `states` means all."""
        ...
