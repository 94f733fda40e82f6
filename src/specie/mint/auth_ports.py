"""What authentication needs from outside: an OpenID provider's keys, and tables for blind tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from specie.ecash import BlindSignature
from specie.mint.auth import AuthTokenState, ProviderKeys
from specie.mint.ports import SignedRecord
from specie.storage import Transaction

__all__ = ["AuthStore", "KeySource"]


class KeySource(Protocol):
    """An OpenID provider, asked each time; nothing is kept here."""

    async def fetch(self) -> ProviderKeys:
        """Discovery document and key set, bounded. UnavailableError where they cannot be had, whatever the reason."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class AuthStore(Protocol):
    """Tables of blind tokens, apart from those of coins. Every method acts inside the caller's transaction."""

    async def reserve(self, tx: Transaction, y: bytes, *, keyset: str, holder: str, now: int, lease_s: int) -> bool:
        """Claim a token for one request by a unique insert, or take over a claim whose lease ran out; else False."""
        ...

    async def spend(self, tx: Transaction, y: bytes, holder: str) -> bool:
        """The holder's token is SPENT (or was already); False if it is not the holder's any more."""
        ...

    async def release(self, tx: Transaction, y: bytes, holder: str, *, spent_too: bool) -> bool:
        """Forget the holder's claim, one that is SPENT only with `spent_too`; whether there was one."""
        ...

    async def release_all(self, tx: Transaction) -> int:
        """Forget every claim that is RESERVED: nobody is left who holds one."""
        ...

    async def state(self, tx: Transaction, y: bytes) -> AuthTokenState | None:
        """What is remembered of a token."""
        ...

    async def add_signatures(
        self, tx: Transaction, signed: Sequence[tuple[bytes, BlindSignature]], *, operation: bytes, at: int
    ) -> bool:
        """Keep signatures on blind tokens. False, and the caller must raise, if any B_ was signed before."""
        ...

    async def signatures(self, tx: Transaction, b_s: Sequence[bytes]) -> dict[bytes, SignedRecord]:
        """Signatures of those outputs that were signed."""
        ...
