"""The least wallet over HTTP: it never gives up on a request, so that what a dying mint does with it can be seen."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence

import httpx2

from specie.ecash import (
    BlindedMessage,
    Keyset,
    MeltQuote,
    MeltQuoteRequest,
    MeltRequest,
    MeltState,
    MintQuoteRequest,
    MintRequest,
    Proof,
    SwapRequest,
    blinded_message,
    unblind_signature,
    wire,
)
from specie.kernel import RefusedError, split_amount


class HttpPurse:
    """Coins at a mint that may have several addresses (processes on one store) and may be dead at any moment."""

    def __init__(self, urls: Sequence[str], *, patience_s: float = 60.0) -> None:
        self._urls = list(urls)
        self._client = httpx2.AsyncClient(timeout=20.0)
        self._patience_s = patience_s
        self._keyset: Keyset | None = None
        self.lost_answers = 0

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The answer to this very request, asked again and again; RefusedError if the mint says no."""
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline:
            url = secrets.choice(self._urls)
            try:
                answer = await self._client.request(method, url + path, content=body)
            except httpx2.HTTPError:
                self.lost_answers += 1
                await asyncio.sleep(0.05)
                continue
            if answer.status_code == 200:
                return answer.content
            if answer.status_code == 400:
                raise wire.error_from_json(answer.content)
            self.lost_answers += 1
            await asyncio.sleep(0.1)
        raise AssertionError(f"no answer to {method} {path}")

    async def keyset(self) -> Keyset:
        """The active keyset for sat."""
        if self._keyset is None:
            found = wire.keys_from_json(await self.ask("GET", "/v1/keys"))
            self._keyset = next(keyset for keyset in found if keyset.unit == "sat")
        return self._keyset

    async def _outputs(self, amounts: Sequence[int]) -> tuple[tuple[BlindedMessage, ...], list[str], list[bytes]]:
        keyset = await self.keyset()
        texts = [secrets.token_hex(32) for _ in amounts]
        factors = [secrets.token_bytes(32) for _ in amounts]
        messages = tuple(blinded_message(a, keyset.id, s, r) for a, s, r in zip(amounts, texts, factors, strict=True))
        return messages, texts, factors

    async def _coins(self, body: bytes, messages: object, texts: Sequence[str], factors: Sequence[bytes]) -> list[Proof]:
        keyset = await self.keyset()
        signatures = wire.signatures_from_json(body)
        return [
            unblind_signature(m, s, secret=t, r=r, key=keyset.keys[s.amount], require_dleq=True)
            for m, s, t, r in zip(messages, signatures, texts, factors, strict=True)  # type: ignore[call-overload]
        ]

    async def mint(self, amount: int) -> list[Proof]:
        """New coins for a quote that pays itself."""
        asked = wire.mint_quote_request_to_json(MintQuoteRequest("bolt11", "sat", amount))
        quote = wire.mint_quote_from_json(await self.ask("POST", "/v1/mint/quote/bolt11", asked))
        while not quote.amount_paid:
            await asyncio.sleep(0.05)
            quote = wire.mint_quote_from_json(await self.ask("GET", f"/v1/mint/quote/bolt11/{quote.quote}"))
        messages, texts, factors = await self._outputs(split_amount(amount, (await self.keyset()).keys))
        body = wire.mint_request_to_json(MintRequest("bolt11", quote.quote, messages))
        return await self._coins(await self.ask("POST", "/v1/mint/bolt11", body), messages, texts, factors)

    async def swap(self, coins: Sequence[Proof]) -> list[Proof]:
        """The same amounts as new coins."""
        messages, texts, factors = await self._outputs([coin.amount for coin in coins])
        body = wire.swap_request_to_json(SwapRequest(tuple(coins), messages))
        return await self._coins(await self.ask("POST", "/v1/swap", body), messages, texts, factors)

    async def pay(self, invoice: str, coins: Sequence[Proof]) -> tuple[MeltQuote, list[Proof]]:
        """Pay, with eight blank outputs; the quote when it is PAID, and the change. RefusedError if the payment failed."""
        asked = wire.melt_quote_request_to_json(MeltQuoteRequest("bolt11", invoice, "sat"))
        quote = wire.melt_quote_from_json(await self.ask("POST", "/v1/melt/quote/bolt11", asked))
        messages, texts, factors = await self._outputs([1] * 8)
        body = wire.melt_request_to_json(MeltRequest("bolt11", quote.quote, tuple(coins), messages))
        done = wire.melt_quote_from_json(await self.ask("POST", "/v1/melt/bolt11", body))
        while done.state is MeltState.PENDING:
            await asyncio.sleep(0.1)
            done = wire.melt_quote_from_json(await self.ask("GET", f"/v1/melt/quote/bolt11/{quote.quote}"))
        if done.state is MeltState.UNPAID:
            raise RefusedError("the payment failed")
        keyset = await self.keyset()
        change = [
            unblind_signature(m, s, secret=t, r=r, key=keyset.keys[s.amount], blank=True, require_dleq=True)
            for m, s, t, r in zip(messages, done.change or (), texts, factors, strict=False)
        ]
        return done, change
