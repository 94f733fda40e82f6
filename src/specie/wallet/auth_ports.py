"""What authentication needs from outside: a login provider, a browser's way back, a table of tokens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from specie.ecash.info import MintInfo
from specie.ecash.keyset import Keyset, KeysetInfo
from specie.ecash.proof import BlindedMessage, BlindSignature
from specie.storage.ports import Transaction
from specie.wallet.auth import BlindToken, BlindTokenState, DeviceCode, Provider, TokenAnswer

__all__ = [
    "AuthClient",
    "BlindTokenStore",
    "OpenIdClient",
    "RedirectListener",
    "RequestAuth",
]

T = TypeVar("T")


class OpenIdClient(Protocol):
    """Any login provider, all of them hostile. LoginRefusedError, UnavailableError, PeerFaultError of every method."""

    async def discover(self, url: str) -> Provider:
        """GET a discovery document; PeerFaultError unless its issuer is that of the URL and its addresses are safe."""
        ...

    async def tokens(self, endpoint: str, form: Mapping[str, str]) -> TokenAnswer:
        """POST to a token endpoint (RFC 6749 §3.2); LoginRefusedError carries the provider's error code."""
        ...

    async def device(self, endpoint: str, form: Mapping[str, str]) -> DeviceCode:
        """POST to a device authorization endpoint (RFC 8628 §3.1)."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class RedirectListener(Protocol):
    """Hears the browser come back to `REDIRECT_URL`."""

    def listening(self, state: str) -> AbstractAsyncContextManager[Awaitable[Mapping[str, str]]]:
        """While inside, listen; the awaitable gives the query of the first request whose `state` is the given one.

        UnavailableError if nothing can listen there.
        """
        ...


class BlindTokenStore(Protocol):
    """The pool's table. Every method works inside the caller's transaction."""

    async def add(self, tx: Transaction, tokens: Sequence[BlindToken]) -> None:
        """Insert tokens."""
        ...

    async def asked(self, tx: Transaction, mint: str) -> list[BlindToken]:
        """Tokens of the oldest batch that was asked for and has no answer, in order."""
        ...

    async def settle(self, tx: Transaction, tokens: Sequence[BlindToken]) -> None:
        """Write signature and state of tokens that are ASKED."""
        ...

    async def take(self, tx: Transaction, mint: str, state: BlindTokenState, *, before: int, now: int) -> BlindToken | None:
        """Reserve the oldest token that is in `state` since before `before` (Unix seconds), or None."""
        ...

    async def move(self, tx: Transaction, secret: str, state: BlindTokenState, now: int) -> None:
        """A RESERVED token becomes `state`."""
        ...

    async def drop(self, tx: Transaction, secrets: Sequence[str]) -> None:
        """Delete tokens."""
        ...

    async def keep_keysets(self, tx: Transaction, mint: str, keyset_ids: Collection[str]) -> int:
        """Delete the mint's tokens of any other keyset; how many."""
        ...

    async def counts(self, tx: Transaction) -> dict[str, dict[BlindTokenState, int]]:
        """How many tokens there are of each mint and state."""
        ...


class AuthClient(Protocol):
    """What a mint's client offers to authentication (NUT-06, NUT-22)."""

    @property
    def url(self) -> str:
        """Normalised URL of the mint."""
        ...

    async def info(self) -> MintInfo:
        """GET /v1/info."""
        ...

    async def auth_keysets(self) -> list[KeysetInfo]:
        """GET /v1/auth/blind/keysets. Ids are not verified yet."""
        ...

    async def auth_keys(self, keyset_id: str) -> Keyset:
        """GET /v1/auth/blind/keys/{id}. Its id is not verified yet."""
        ...

    async def mint_auth(self, outputs: Sequence[BlindedMessage]) -> list[BlindSignature]:
        """POST /v1/auth/blind/mint. A lost answer is UnavailableError: the same request can be sent again."""
        ...


class RequestAuth(Protocol):
    """Adds the headers that a mint asks for to the requests of its client. `WalletAuth` is one."""

    def learnt(self, mint: str, info: MintInfo) -> None:
        """The mint has just said this of itself."""
        ...

    async def run(self, client: AuthClient, verb: str, path: str, call: Callable[[Mapping[str, str]], Awaitable[T]]) -> T:
        """Make a request with the headers it needs; `path` without the mint's own prefix. May make it again if refused."""
        ...
