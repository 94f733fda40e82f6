"""A wallet's client through the JSON of both sides, over a simulated network, to whichever mint process is alive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

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


class Network(Protocol):
    """What lies between wallet and mint: it may lose, delay and repeat."""

    async def carry(self, deliver: Callable[[Mint], Awaitable[bytes]]) -> bytes:
        """The answer's bytes. UnavailableError if the request surely never arrived, UncertainError if it may have."""
        ...


class SimClient:
    """`wallet.ports.MintClient` on whichever mint process the network finds alive."""

    def __init__(self, url: str, network: Network) -> None:
        self._url = url
        self._network = network

    @property
    def url(self) -> str:
        return self._url

    async def _ask(self, work: Callable[[Mint], Awaitable[bytes]], *, moves_value: bool = False) -> bytes:
        async def deliver(mint: Mint) -> bytes:
            try:
                return b"2" + await work(mint)
            except RefusedError as error:
                return b"4" + wire.error_to_json(error)
            except UnavailableError:
                return b"5"
            except SpecieError as error:
                raise UncertainError("HTTP 500") from error

        try:
            answer = await self._network.carry(deliver)
        except UncertainError as error:
            if moves_value:
                raise
            raise UnavailableError("no answer", retry_after_s=0.1) from error
        if answer[:1] == b"2":
            return answer[1:]
        if answer[:1] == b"4":
            raise wire.error_from_json(answer[1:])
        raise UncertainError("HTTP 503") if moves_value else UnavailableError("HTTP 503", retry_after_s=0.1)

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

    async def mint_quotes(self, known: Sequence[MintQuote]) -> list[MintQuote]:
        method, names = known[0].method, [one.quote for one in known]

        async def work(mint: Mint) -> bytes:
            asked = wire.quote_check_request_from_json(wire.quote_check_request_to_json(names))
            return wire.mint_quotes_to_json(await mint.check_mint_quotes(asked, method))

        return wire.mint_quotes_from_json(await self._ask(work), names, method=method)

    async def issue_batch(self, method: str, request: bytes) -> list[BlindSignature]:
        async def work(mint: Mint) -> bytes:
            asked = wire.mint_batch_request_from_json(request, method=method)
            return wire.signatures_to_json(await mint.issue_batch(asked))

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
