"""A wallet's `MintClient` on a mint in the same process: through the JSON of both sides, over a network that may fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from specie.ecash import (
    BlindedMessage,
    BlindSignature,
    Keyset,
    KeysetInfo,
    MeltQuote,
    MeltQuoteRequest,
    MintInfo,
    MintQuote,
    MintQuoteRequest,
    ProofState,
    wire,
)
from specie.kernel import RefusedError, SpecieError, UnavailableError, UncertainError
from specie.mint import Mint

T = TypeVar("T")


class Network:
    """What lies between wallet and mint; this one loses nothing. `carry` runs `deliver` once, or not, or more often."""

    async def carry(self, deliver: Callable[[], Awaitable[bytes]], *, moves_value: bool) -> bytes:
        """The answer's bytes. UnavailableError if the request surely never arrived, UncertainError if it may have."""
        return await deliver()


class MintGoneError(Exception):
    """The mint's process ended while it worked."""


class DirectClient:
    """`wallet.ports.MintClient` on a `Mint`. `mint` is asked for anew at each call, so that it can be restarted."""

    def __init__(self, url: str, mint: Callable[[], Mint | None], network: Network | None = None) -> None:
        self._url = url
        self._mint = mint
        self._network = network or Network()

    @property
    def url(self) -> str:
        return self._url

    async def _ask(self, work: Callable[[Mint], Awaitable[bytes]], *, moves_value: bool = False) -> bytes:
        async def deliver() -> bytes:
            mint = self._mint()
            if mint is None:
                raise UnavailableError("connection refused", retry_after_s=0.1)
            try:
                return b"2" + await work(mint)
            except RefusedError as error:
                return b"4" + wire.error_to_json(error)
            except UnavailableError:
                return b"5"
            except (SpecieError, MintGoneError) as error:
                raise UncertainError("no answer") from error

        try:
            answer = await self._network.carry(deliver, moves_value=moves_value)
        except UncertainError as error:
            if moves_value:
                raise
            raise UnavailableError("no answer", retry_after_s=0.1) from error
        if answer[:1] == b"2":
            return answer[1:]
        if answer[:1] == b"4":
            raise wire.error_from_json(answer[1:])
        raise UnavailableError("the mint is overloaded", retry_after_s=0.1)

    async def info(self) -> MintInfo:
        async def work(mint: Mint) -> bytes:
            return wire.info_to_json(mint.info())

        return wire.info_from_json(await self._ask(work))

    async def keysets(self) -> list[KeysetInfo]:
        async def work(mint: Mint) -> bytes:
            return wire.keysets_to_json(mint.keysets())

        return wire.keysets_from_json(await self._ask(work))

    async def keys(self, keyset_id: str) -> Keyset:
        async def work(mint: Mint) -> bytes:
            return wire.keys_to_json([mint.keyset(keyset_id)])

        return wire.keys_from_json(await self._ask(work))[0]

    async def request_mint_quote(self, request: MintQuoteRequest) -> MintQuote:
        body = wire.mint_quote_request_to_json(request)

        async def work(mint: Mint) -> bytes:
            asked = wire.mint_quote_request_from_json(body, method=request.method)
            return wire.mint_quote_to_json(await mint.request_mint_quote(asked))

        return wire.mint_quote_from_json(await self._ask(work), method=request.method)

    async def mint_quote(self, known: MintQuote) -> MintQuote:
        async def work(mint: Mint) -> bytes:
            return wire.mint_quote_to_json(await mint.mint_quote(known.quote, known.method))

        return wire.mint_quote_from_json(await self._ask(work), method=known.method)

    async def issue(self, method: str, request: bytes) -> list[BlindSignature]:
        async def work(mint: Mint) -> bytes:
            return wire.signatures_to_json(await mint.issue(wire.mint_request_from_json(request, method=method)))

        return list(wire.signatures_from_json(await self._ask(work, moves_value=True)))

    async def swap(self, request: bytes) -> list[BlindSignature]:
        async def work(mint: Mint) -> bytes:
            return wire.signatures_to_json(await mint.swap(wire.swap_request_from_json(request)))

        return list(wire.signatures_from_json(await self._ask(work, moves_value=True)))

    async def request_melt_quote(self, request: MeltQuoteRequest) -> MeltQuote:
        body = wire.melt_quote_request_to_json(request)

        async def work(mint: Mint) -> bytes:
            asked = wire.melt_quote_request_from_json(body, method=request.method)
            return wire.melt_quote_to_json(await mint.request_melt_quote(asked))

        return wire.melt_quote_from_json(await self._ask(work), method=request.method)

    async def melt_quote(self, known: MeltQuote) -> MeltQuote:
        async def work(mint: Mint) -> bytes:
            return wire.melt_quote_to_json(await mint.melt_quote(known.quote, known.method))

        return wire.melt_quote_from_json(await self._ask(work), method=known.method)

    async def melt(self, known: MeltQuote, request: bytes) -> MeltQuote:
        async def work(mint: Mint) -> bytes:
            return wire.melt_quote_to_json(await mint.melt(wire.melt_request_from_json(request, method=known.method)))

        return wire.melt_quote_from_json(await self._ask(work, moves_value=True), method=known.method)

    async def check_state(self, ys: Sequence[bytes]) -> list[ProofState]:
        body = wire.check_state_request_to_json(ys)

        async def work(mint: Mint) -> bytes:
            return wire.states_to_json(await mint.check_state(wire.check_state_request_from_json(body)))

        return wire.states_from_json(await self._ask(work))

    async def restore(self, outputs: Sequence[BlindedMessage]) -> list[tuple[BlindedMessage, BlindSignature]]:
        body = wire.restore_request_to_json(outputs)

        async def work(mint: Mint) -> bytes:
            return wire.restore_to_json(await mint.restore(wire.restore_request_from_json(body)))

        return wire.restore_from_json(await self._ask(work))

    async def watch(self, kind: str, name: str) -> AsyncIterator[None]:
        raise UnavailableError("no WebSocket here")
        yield

    async def close(self) -> None:
        await asyncio.sleep(0)
