"""Somebody in the simulated world without a wallet: offers and addresses paid again and again, parts, batches, payments.

What it asked for and has no answer to stays open, coins and all, until the world is healed; then the bank is asked what became
of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specie.ecash import (
    MeltQuote,
    MeltQuoteRequest,
    MeltRequest,
    MeltState,
    MintBatchRequest,
    MintQuote,
    MintQuoteRequest,
    MintRequest,
    Proof,
    blinded_message,
    wire,
)
from specie.kernel import RefusedError, SpecieError, split_amount
from specie.keys.adapters.software import SoftwareSigner
from specie.lightning.adapters.play import Fault, PlaySettings
from specie.lightning.adapters.play_methods import play_rail
from specie.lightning.adapters.play_onchain import PlayOnchainRail
from specie.lightning.adapters.play_requests import PlayRequestRail
from specie.mint import Mint
from tests.support.house import SEED, Outputs
from tests.support.methods import PUBKEY, foreign_address, sign_quote
from tests.support.virtual import SeededEntropy

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["CHAIN", "METHODS", "Depositor"]

METHODS = ("bolt12", "onchain")
CHAIN = PlaySettings(block_s=None, confirmations=2)


@dataclass
class _Open:
    """A request without an answer."""

    request: MintRequest | MintBatchRequest
    outputs: Outputs


class Depositor:
    """One actor; `play` is a life, `settle_down` its end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self._entropy = SeededEntropy(f"{world.seed} depositor")
        self.coins: list[Proof] = []
        self.quotes: list[MintQuote] = []
        self._open: list[_Open] = []
        self._flights: list[tuple[MeltQuote, list[Proof], Outputs]] = []
        signer = SoftwareSigner(SEED, threads=0, entropy=self._entropy)
        self.outside: dict[str, PlayRequestRail] = {}
        for method in METHODS:
            made = play_rail(method, world.bank_store, signer, world.clock, self._entropy, CHAIN, autopay_delay_s=None)
            assert isinstance(made, PlayRequestRail)
            self.outside[method] = made

    @property
    def chain(self) -> PlayOnchainRail:
        """The weather."""
        rail = self.outside["onchain"]
        assert isinstance(rail, PlayOnchainRail)
        return rail

    async def live(self, steps: int) -> None:
        """Do something, again and again."""
        verbs = [self._quote, self._deposit, self._deposit, self._weather, self._weather, self._issue, self._issue]
        verbs += [self._batch, self._pay, self._look]
        for _ in range(steps):
            verb = self.rng.choice(verbs)
            try:
                await verb()
            except SpecieError as error:
                self.world.log.append(f"depositor {verb.__name__}: {type(error).__name__}: {error.detail}")
            else:
                self.world.log.append(f"depositor {verb.__name__}")
            await self.world.check_step()
            await asyncio.sleep(self.rng.choice((0.01, 0.5, 5.0)))

    def _outputs(self, amounts: list[int]) -> Outputs:
        living = self.world.alive()
        if not living:
            raise RefusedError("nobody is there")
        keyset = next(one for one in living[0].mint.keysets() if one.unit == "sat" and one.active)
        parts = [part for amount in amounts for part in (split_amount(amount, keyset.keys) if amount else [1])]
        secrets = tuple(self._entropy.bytes(32).hex() for _ in parts)
        factors = tuple(self._entropy.bytes(32) for _ in parts)
        messages = tuple(blinded_message(a, keyset.id, s, r) for a, s, r in zip(parts, secrets, factors, strict=True))
        return Outputs(keyset, messages, secrets, factors)

    async def _quote(self) -> None:
        asked = MintQuoteRequest(self.rng.choice(METHODS), "sat", pubkey=PUBKEY)

        async def deliver(mint: Mint) -> bytes:
            return wire.mint_quote_to_json(await mint.request_mint_quote(asked))

        self.quotes.append(wire.mint_quote_from_json(await self.world.carry(deliver), method=asked.method))

    async def _deposit(self) -> None:
        if self.quotes:
            quote = self.rng.choice(self.quotes)
            await self.outside[quote.method].settle(quote.request, self.rng.choice((300, 5000, 9000)) * 1000)

    async def _weather(self) -> None:
        if self.rng.random() < 0.7:
            await self.chain.mine(self.rng.choice((1, 2, 3)))
        else:
            await self.chain.reorganise(self.rng.choice((1, 2, 3)))

    async def _seen(self, quote: MintQuote) -> MintQuote:
        async def deliver(mint: Mint) -> bytes:
            return wire.mint_quote_to_json(await mint.mint_quote(quote.quote, quote.method))

        return wire.mint_quote_from_json(await self.world.carry(deliver), method=quote.method)

    async def _issue(self) -> None:
        if not self.quotes:
            return
        quote = await self._seen(self.rng.choice(self.quotes))
        if quote.mintable:
            outputs = self._outputs([max(1, quote.mintable // self.rng.choice((1, 2, 3)))])
            signature = sign_quote(quote.quote, outputs.messages)
            await self._ask(_Open(MintRequest(quote.method, quote.quote, outputs.messages, signature), outputs))

    async def _batch(self) -> None:
        method = self.rng.choice(METHODS)
        seen = [await self._seen(quote) for quote in self.quotes if quote.method == method]
        chosen = [quote for quote in seen if quote.mintable][:3]
        self.rng.shuffle(chosen)
        if not chosen:
            return
        amounts = [max(1, quote.mintable // self.rng.choice((1, 2))) for quote in chosen]
        outputs = self._outputs([sum(amounts)])
        ids = tuple(quote.quote for quote in chosen)
        signatures = tuple(sign_quote(one, outputs.messages) for one in ids)
        await self._ask(_Open(MintBatchRequest(method, ids, outputs.messages, tuple(amounts), signatures), outputs))

    async def _ask(self, one: _Open) -> None:
        """Ask until there is an answer, or leave it open."""

        async def deliver(mint: Mint) -> bytes:
            asked = one.request
            signed = await (mint.issue(asked) if isinstance(asked, MintRequest) else mint.issue_batch(asked))
            return wire.signatures_to_json(signed)

        self._open.append(one)
        signed = wire.signatures_from_json(await self.world.carry(deliver))
        if one in self._open:
            self._open.remove(one)
            self.coins += one.outputs.proofs(signed)

    async def _pay(self) -> None:
        own = [quote.request for quote in self.quotes if quote.method == "onchain"]
        address = self.rng.choice([foreign_address(), *own])
        if not self.world.healed:
            for process in self.world.alive():
                process.others["onchain"].faults.for_next(self.world.fault() or Fault())
        asked = MeltQuoteRequest("onchain", address, "sat", amount=1000)

        async def price(mint: Mint) -> bytes:
            return wire.melt_quote_to_json(await mint.request_melt_quote(asked))

        quote = wire.melt_quote_from_json(await self.world.carry(price), method="onchain")
        option = self.rng.choice(quote.fee_options)
        if sum(coin.amount for coin in self.coins) < 1000 + option.fee_reserve + 50:
            return
        outputs = self._outputs([0] * 14)
        coins, self.coins = self.coins, []
        request = MeltRequest("onchain", quote.quote, tuple(coins), outputs.messages, fee_index=option.fee_index)
        self._flights.append((quote, coins, outputs))

        async def pay(mint: Mint) -> bytes:
            return wire.melt_quote_to_json(await mint.melt(request))

        await self.world.carry(pay)

    async def _look(self, *, at_rest: bool = False) -> None:
        """Payments that came to their end; one that is UNPAID gives its coins back only when nothing is on its way."""
        for flight in list(self._flights):
            quote, coins, outputs = flight

            async def deliver(mint: Mint, quote: MeltQuote = quote) -> bytes:
                return wire.melt_quote_to_json(await mint.melt_quote(quote.quote, "onchain"))

            now = wire.melt_quote_from_json(await self.world.carry(deliver), method="onchain")
            if now.state is MeltState.PAID:
                self._flights.remove(flight)
                self.coins += outputs.proofs(now.change or (), blank=True)
            elif now.state is MeltState.UNPAID and at_rest:
                self._flights.remove(flight)
                self.coins += coins

    async def settle_down(self) -> None:
        """Enough blocks for all; then everything open is asked for a last time."""
        for _ in range(6):
            await self.chain.mine(8)
            await asyncio.sleep(30.0)
        await self._look(at_rest=True)
        assert not self._flights, "a payment on-chain never came to its end"
        left, self._open = self._open, []
        for one in left:
            try:
                await self._ask(one)
            except RefusedError:  # it never took place, and at rest it never will
                self._open.remove(one)
        for quote in self.quotes:
            seen = await self._seen(quote)
            if seen.mintable:
                outputs = self._outputs([seen.mintable])
                signature = sign_quote(quote.quote, outputs.messages)
                await self._ask(_Open(MintRequest(quote.method, quote.quote, outputs.messages, signature), outputs))

    async def held(self) -> int:
        """What it has, each coin UNSPENT at the bank and there once."""
        ys = [coin.y for coin in self.coins]
        assert len(set(ys)) == len(ys)
        mint = self.world.alive()[0].mint
        states = [state for start in range(0, len(ys), 500) for state in await mint.check_state(ys[start : start + 500])]
        assert all(state.state.value == "UNSPENT" for state in states), "a coin of the depositor is spent"
        return sum(coin.amount for coin in self.coins)
