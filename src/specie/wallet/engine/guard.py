"""A mint's client behind its circuit breaker, with retries where asking twice is harmless.

Questions (info, keysets, keys, quotes by id, states, restore) are retried with full-jitter backoff. New quotes are asked
for once: a lost answer leaves an unpaid quote at the mint and nothing here. Requests that move value are passed through
exactly once; whether the same bytes may be sent again is for `perform` and `pay` to decide, which hold the journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from specie.kernel.errors import PeerFaultError, RefusedError, UnavailableError, UncertainError
from specie.wallet.errors import BreakerOpenError
from specie.wallet.placement import HealthTally

if TYPE_CHECKING:
    from specie.ecash.info import MintInfo
    from specie.ecash.keyset import Keyset, KeysetInfo
    from specie.ecash.proof import BlindedMessage, BlindSignature, ProofState
    from specie.ecash.quote import MeltQuote, MeltQuoteRequest, MintQuote, MintQuoteRequest
    from specie.kernel.clock import Clock
    from specie.kernel.entropy import Entropy
    from specie.kernel.telemetry import Telemetry
    from specie.wallet.breaker import Breaker
    from specie.wallet.ports import MintClient
    from specie.wallet.retry import RetryPolicy

__all__ = ["GuardedClient"]

T = TypeVar("T")


class GuardedClient:
    """Implements `ports.MintClient` around another one."""

    def __init__(
        self,
        client: MintClient,
        breaker: Breaker,
        retry: RetryPolicy,
        clock: Clock,
        entropy: Entropy,
        telemetry: Telemetry,
        tally: HealthTally | None = None,
    ) -> None:
        """Guard `client`; `breaker` and `tally` belong to its mint alone."""
        self._tally = tally if tally is not None else HealthTally()
        self._client = client
        self._breaker = breaker
        self._retry = retry
        self._clock = clock
        self._entropy = entropy
        self._telemetry = telemetry

    @property
    def url(self) -> str:
        """Normalised URL of the mint."""
        return self._client.url

    async def _once(self, call: Callable[[], Awaitable[T]]) -> T:
        self._breaker.admit(self._clock.monotonic())
        try:
            result = await call()
        except (RefusedError, PeerFaultError):
            self._answered()
            raise
        except (UnavailableError, UncertainError):
            self._breaker.unavailable(self._clock.monotonic())
            self._tally.unavailable(self._clock.now())
            self._telemetry.count("wallet_mint_unavailable")
            raise
        except asyncio.CancelledError:
            self._breaker.abandoned()
            raise
        self._answered()
        return result

    def _answered(self) -> None:
        self._breaker.answered()
        self._tally.answered(self._clock.now())

    async def _question(self, call: Callable[[], Awaitable[T]]) -> T:
        attempt = 1
        while True:
            try:
                return await self._once(call)
            except BreakerOpenError:
                raise
            except UnavailableError as error:
                if attempt >= self._retry.attempts:
                    raise
                wait = error.retry_after_s if error.retry_after_s > 1.0 else 0.0
                await self._clock.sleep(self._retry.delay_s(attempt, self._entropy.bytes(4), at_least_s=wait))
                attempt += 1

    async def info(self) -> MintInfo:
        """As the port says, retried."""
        return await self._question(self._client.info)

    async def keysets(self) -> list[KeysetInfo]:
        """As the port says, retried."""
        return await self._question(self._client.keysets)

    async def keys(self, keyset_id: str) -> Keyset:
        """As the port says, retried."""
        return await self._question(lambda: self._client.keys(keyset_id))

    async def request_mint_quote(self, request: MintQuoteRequest) -> MintQuote:
        """As the port says, once."""
        return await self._once(lambda: self._client.request_mint_quote(request))

    async def mint_quote(self, known: MintQuote) -> MintQuote:
        """As the port says, retried."""
        return await self._question(lambda: self._client.mint_quote(known))

    async def issue(self, method: str, request: bytes) -> list[BlindSignature]:
        """As the port says, once."""
        return await self._once(lambda: self._client.issue(method, request))

    async def mint_quotes(self, known: Sequence[MintQuote]) -> list[MintQuote]:
        """As the port says, retried."""
        return await self._question(lambda: self._client.mint_quotes(known))

    async def issue_batch(self, method: str, request: bytes) -> list[BlindSignature]:
        """As the port says, once."""
        return await self._once(lambda: self._client.issue_batch(method, request))

    async def swap(self, request: bytes) -> list[BlindSignature]:
        """As the port says, once."""
        return await self._once(lambda: self._client.swap(request))

    async def request_melt_quote(self, request: MeltQuoteRequest) -> MeltQuote:
        """As the port says, once."""
        return await self._once(lambda: self._client.request_melt_quote(request))

    async def melt_quote(self, known: MeltQuote) -> MeltQuote:
        """As the port says, retried."""
        return await self._question(lambda: self._client.melt_quote(known))

    async def melt(self, known: MeltQuote, request: bytes) -> MeltQuote:
        """As the port says, once."""
        return await self._once(lambda: self._client.melt(known, request))

    async def check_state(self, ys: Sequence[bytes]) -> list[ProofState]:
        """As the port says, retried."""
        return await self._question(lambda: self._client.check_state(ys))

    async def restore(self, outputs: Sequence[BlindedMessage]) -> list[tuple[BlindedMessage, BlindSignature]]:
        """As the port says, retried."""
        return await self._question(lambda: self._client.restore(outputs))

    def watch(self, kind: str, name: str) -> AsyncIterator[None]:
        """As the port says; a broken connection is no sign against the mint, for polling goes on."""
        return self._client.watch(kind, name)

    async def ask(self, verb: str, *path: str, content: bytes | None = None, query: Mapping[str, int] | None = None) -> bytes:
        """As the port says, retried."""
        return await self._question(lambda: self._client.ask(verb, *path, content=content, query=query))

    async def close(self) -> None:
        """Close the guarded client."""
        await self._client.close()
