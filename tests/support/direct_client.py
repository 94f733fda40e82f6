"""A mint's client without a network: every value goes through the NUTs' JSON both ways, so nothing passes that HTTP would not.

Errors are turned as over HTTP: a refusal into its NUT body and back, everything unexpected into uncertainty. Faults are
planted by verb: `before` the mint sees the request, or `after` it has acted and before the answer arrives.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
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
from specie.kernel import RefusedError, UnavailableError, UncertainError
from specie.mint import Mint

T = TypeVar("T")


class Faults:
    """What goes wrong next, by verb. An entry is an exception to raise, or None to let one call through."""

    def __init__(self) -> None:
        self.before: dict[str, deque[BaseException | None]] = {}
        self.after: dict[str, deque[BaseException | None]] = {}
        self.calls: list[str] = []
        self.bodies: list[tuple[str, bytes]] = []
        self.change: Callable[[str, object], object] | None = None
        """A hook that may replace any answer: the hostile mint."""

    def plant(self, when: str, verb: str, *errors: BaseException | None) -> None:
        """Queue faults for a verb."""
        (self.before if when == "before" else self.after).setdefault(verb, deque()).extend(errors)

    def strike(self, table: dict[str, deque[BaseException | None]], verb: str) -> None:
        """Raise what is queued."""
        queue = table.get(verb)
        if queue:
            error = queue.popleft()
            if error is not None:
                raise error


class DirectClient:
    """`wallet.ports.MintClient` on a `Mint` in this process."""

    def __init__(self, mint: Mint, url: str = "http://mint.test", faults: Faults | None = None) -> None:
        self.mint = mint
        self.url = url
        self.faults = faults or Faults()
        self.pauses: Sequence[int] = ()
        """Hundredths of a second that the n-th request and the n-th answer are on their way; repeated."""
        self._legs = 0

    async def _travel(self) -> None:
        if self.pauses:
            self._legs += 1
            await asyncio.sleep(self.pauses[self._legs % len(self.pauses)] / 100)

    async def _call(self, verb: str, work: Callable[[], Awaitable[T]], *, moves_value: bool = False) -> T:
        self.faults.calls.append(verb)
        await self._travel()
        self.faults.strike(self.faults.before, verb)
        try:
            answer = await work()
        except RefusedError as error:
            raise wire.error_from_json(wire.error_to_json(error)) from None
        except UnavailableError:
            if moves_value:
                raise UncertainError("HTTP 503") from None
            raise
        except UncertainError:
            raise
        await self._travel()
        self.faults.strike(self.faults.after, verb)
        if self.faults.change is not None:
            return self.faults.change(verb, answer)  # type: ignore[return-value]
        return answer

    async def info(self) -> MintInfo:
        async def work() -> MintInfo:
            return wire.info_from_json(wire.info_to_json(self.mint.info()))

        return await self._call("info", work)

    async def keysets(self) -> list[KeysetInfo]:
        async def work() -> list[KeysetInfo]:
            return wire.keysets_from_json(wire.keysets_to_json(self.mint.keysets()))

        return await self._call("keysets", work)

    async def keys(self, keyset_id: str) -> Keyset:
        async def work() -> Keyset:
            (keyset,) = wire.keys_from_json(wire.keys_to_json([self.mint.keyset(keyset_id)]))
            return keyset

        return await self._call("keys", work)

    async def request_mint_quote(self, request: MintQuoteRequest) -> MintQuote:
        async def work() -> MintQuote:
            body = wire.mint_quote_request_to_json(request)
            asked = wire.mint_quote_request_from_json(body, method=request.method)
            return wire.mint_quote_from_json(wire.mint_quote_to_json(await self.mint.request_mint_quote(asked)))

        return await self._call("request_mint_quote", work)

    async def mint_quote(self, known: MintQuote) -> MintQuote:
        async def work() -> MintQuote:
            return wire.mint_quote_from_json(wire.mint_quote_to_json(await self.mint.mint_quote(known.quote, known.method)))

        return await self._call("mint_quote", work)

    async def issue(self, method: str, request: bytes) -> list[BlindSignature]:
        self.faults.bodies.append(("issue", request))

        async def work() -> list[BlindSignature]:
            signed = await self.mint.issue(wire.mint_request_from_json(request, method=method))
            return list(wire.signatures_from_json(wire.signatures_to_json(signed)))

        return await self._call("issue", work, moves_value=True)

    async def mint_quotes(self, known: Sequence[MintQuote]) -> list[MintQuote]:
        method, names = known[0].method, [one.quote for one in known]

        async def work() -> list[MintQuote]:
            asked = wire.quote_check_request_from_json(wire.quote_check_request_to_json(names))
            seen = await self.mint.check_mint_quotes(asked, method)
            return wire.mint_quotes_from_json(wire.mint_quotes_to_json(seen), names, method=method)

        return await self._call("mint_quotes", work)

    async def issue_batch(self, method: str, request: bytes) -> list[BlindSignature]:
        self.faults.bodies.append(("issue_batch", request))

        async def work() -> list[BlindSignature]:
            signed = await self.mint.issue_batch(wire.mint_batch_request_from_json(request, method=method))
            return list(wire.signatures_from_json(wire.signatures_to_json(signed)))

        return await self._call("issue_batch", work, moves_value=True)

    async def swap(self, request: bytes) -> list[BlindSignature]:
        self.faults.bodies.append(("swap", request))

        async def work() -> list[BlindSignature]:
            signed = await self.mint.swap(wire.swap_request_from_json(request))
            return list(wire.signatures_from_json(wire.signatures_to_json(signed)))

        return await self._call("swap", work, moves_value=True)

    async def request_melt_quote(self, request: MeltQuoteRequest) -> MeltQuote:
        async def work() -> MeltQuote:
            body = wire.melt_quote_request_to_json(request)
            asked = wire.melt_quote_request_from_json(body, method=request.method)
            return wire.melt_quote_from_json(wire.melt_quote_to_json(await self.mint.request_melt_quote(asked)))

        return await self._call("request_melt_quote", work)

    async def melt_quote(self, known: MeltQuote) -> MeltQuote:
        async def work() -> MeltQuote:
            return wire.melt_quote_from_json(wire.melt_quote_to_json(await self.mint.melt_quote(known.quote, known.method)))

        return await self._call("melt_quote", work)

    async def melt(self, known: MeltQuote, request: bytes) -> MeltQuote:
        self.faults.bodies.append(("melt", request))

        async def work() -> MeltQuote:
            answer = await self.mint.melt(wire.melt_request_from_json(request, method=known.method))
            return wire.melt_quote_from_json(wire.melt_quote_to_json(answer))

        return await self._call("melt", work, moves_value=True)

    async def check_state(self, ys: Sequence[bytes]) -> list[ProofState]:
        async def work() -> list[ProofState]:
            asked = wire.check_state_request_from_json(wire.check_state_request_to_json(ys))
            return wire.states_from_json(wire.states_to_json(await self.mint.check_state(asked)))

        return await self._call("check_state", work)

    async def restore(self, outputs: Sequence[BlindedMessage]) -> list[tuple[BlindedMessage, BlindSignature]]:
        async def work() -> list[tuple[BlindedMessage, BlindSignature]]:
            asked = wire.restore_request_from_json(wire.restore_request_to_json(outputs))
            return wire.restore_from_json(wire.restore_to_json(await self.mint.restore(asked)))

        return await self._call("restore", work)

    async def watch(self, kind: str, name: str) -> AsyncIterator[None]:
        self.faults.calls.append("watch")
        self.faults.strike(self.faults.before, "watch")
        wanted = kind if kind == "proof_state" else "_".join(kind.rsplit("_", 2)[-2:])
        async for change in self.mint.changes():
            if change.kind == wanted and change.key == name:
                yield

    async def ask(self, verb: str, *path: str, content: bytes | None = None, query: Mapping[str, int] | None = None) -> bytes:
        async def work() -> bytes:
            from tests.support.questions import answered

            return await answered(self.mint, verb, path, content, query)

        return await self._call("ask", work)

    async def close(self) -> None:
        await asyncio.sleep(0)


__all__ = ["DirectClient", "Faults"]
