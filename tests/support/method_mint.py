"""A scripted mint of every payment method, on top of a real one: it keeps the quotes, the real mint signs and owes.

What is minted by a scripted quote is issued by the real mint against an invoice that the play network pays in that moment, so
its books count it; what is paid by a scripted quote is a foreign invoice that the real mint pays. Tests move the world:
`deposit`, `withdraw`, `confirm`, `fail`. Parts of one invoice (NUT-15) meet at a `Receiver`, who takes all of them or none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from specie.ecash import (
    BlindSignature,
    MeltFeeOption,
    MeltQuote,
    MeltQuoteRequest,
    MintInfo,
    MintQuote,
    MintQuoteRequest,
    MintRequest,
    wire,
)
from specie.ecash import codes as refused
from specie.ecash.proof import BlindedMessage
from specie.ecash.quote import MeltState, verify_quote_signature
from specie.kernel import RefusedError, curve
from specie.kernel.clock import Clock
from specie.lightning import Network, decode_invoice, decode_offer, encode_offer
from specie.wallet import MintClient, Wallet
from tests.support.direct_client import DirectClient, Faults
from tests.support.house import House, Pages, house
from tests.support.virtual import VirtualClock
from tests.support.wallets import SETTINGS, World, make_wallet, memory_storage


def offer_of(amount_msat: int | None, name: str = "coffee") -> str:
    """A BOLT 12 offer on the play network."""
    issuer = curve.public_key(b"\x09" * 32)
    metadata = sha256(name.encode()).digest()[:16]
    made = encode_offer(network=Network.REGTEST, issuer_id=issuer, metadata=metadata, amount_msat=amount_msat, description=name)
    return made.text


def address_of(name: str) -> str:
    """A regtest address."""
    from specie.kernel.encoding import bech32_encode, convert_bits

    program = sha256(name.encode()).digest()[:20]
    return bech32_encode("bcrt", [0, *convert_bits(program, 8, 5, pad=True)])


@dataclass
class Receiver:
    """Who is paid an invoice in parts: takes them once they are enough, or none after a minute."""

    total_msat: int
    clock: Clock
    held: dict[str, int] = field(default_factory=dict)
    taken: bool = False
    patience_s: float = 60.0
    enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def arrive(self, name: str, part_msat: int) -> bool:
        """Hold a part until all have come; False when it is given back."""
        if self.taken:
            return False
        self.held[name] = part_msat
        if sum(self.held.values()) >= self.total_msat:
            self.taken = True
            self.enough.set()
        waits = [asyncio.ensure_future(self.enough.wait()), asyncio.ensure_future(self.clock.sleep(self.patience_s))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if not self.taken:
            del self.held[name]
        return self.taken


@dataclass
class ScriptedMelt:
    """A melt that the script holds: what the wallet sees, the real quote behind it, and what it was sent."""

    quote: MeltQuote
    inner: MeltQuote
    part_msat: int | None
    request: bytes | None = None
    running: asyncio.Task[None] | None = None


class MethodClient(DirectClient):
    """`MintClient` of the scripted mint."""

    def __init__(self, bank: House, url: str, world: World | None = None, faults: Faults | None = None) -> None:
        super().__init__(bank.mint, url, faults)
        self.bank = bank
        self.quotes: dict[str, MintQuote] = {}
        self.signed: dict[bytes, list[BlindSignature]] = {}
        self.melts: dict[str, ScriptedMelt] = {}
        self.receivers: dict[str, Receiver] = {}
        self.methods = ("bolt12", "onchain", "voucher")
        self.bounds: dict[str, tuple[int | None, int | None]] = {}
        self.batch: dict[str, object] | None = {"max_batch_size": 3}
        self.splits = True
        self.amountless: tuple[str, ...] = ()
        self.reserve = 10
        """Reserve of a part (NUT-15)."""
        self.hang = False
        """Parts are held for ever."""
        self.refuse_parts: RefusedError | None = None
        self.options = (MeltFeeOption(0, 50, 1), MeltFeeOption(1, 20, 6), MeltFeeOption(7, 12, 144))
        self.change_melt: dict[str, object] = {}
        """Fields of every later melt quote answer that the mint lies about."""
        self._world = world or World(bank)
        self._names = 0

    def _name(self) -> str:
        self._names += 1
        return f"{self.url}/{self._names}"

    async def info(self) -> MintInfo:
        real = await super().info()
        nuts = {nut: setting for nut, setting in real.nuts.items() if nut not in ("15", "29")}
        for nut in ("4", "5"):
            extra = [
                {
                    "method": one,
                    "unit": "sat",
                    "min_amount": self.bounds.get(one, (None, None))[0],
                    "max_amount": self.bounds.get(one, (None, None))[1],
                    "options": {"confirmations": 3}
                    if one == "onchain"
                    else {"amountless": True}
                    if one in self.amountless
                    else None,
                }
                for one in self.methods
            ]
            nuts[nut] = {**nuts[nut], "methods": [*nuts[nut]["methods"], *extra]}
        if self.splits:
            nuts["15"] = {"methods": [{"method": "bolt11", "unit": "sat"}]}
        if self.batch is not None:
            nuts["29"] = self.batch
        return wire.info_from_json(wire.info_to_json(msgspec.structs.replace(real, nuts=nuts)))

    # minting

    async def request_mint_quote(self, request: MintQuoteRequest) -> MintQuote:
        if request.method == "bolt11":
            return await super().request_mint_quote(request)

        async def work() -> MintQuote:
            asked = wire.mint_quote_request_from_json(wire.mint_quote_request_to_json(request), method=request.method)
            if request.method in ("bolt12", "onchain") and asked.pubkey is None:
                raise refused.QuotePubkeyRequiredError
            name = self._name()
            text = {
                "bolt12": offer_of(None if asked.amount is None else asked.amount * 1000, str(self._names)),
                "onchain": address_of(name),
            }.get(request.method, f"pay {name}")
            quote = MintQuote(
                f"quote-{self._names}", request.method, text, request.unit, asked.amount, None, asked.pubkey, updated_at=1
            )
            self.quotes[quote.quote] = quote
            return quote

        return await self._call("request_mint_quote", work)

    def deposit(self, name: str, amount: int) -> None:
        """Somebody pays."""
        old = self.quotes[name]
        self.quotes[name] = msgspec.structs.replace(old, amount_paid=old.amount_paid + amount, updated_at=old.updated_at + 1)

    async def mint_quote(self, known: MintQuote) -> MintQuote:
        if known.quote not in self.quotes:
            return await super().mint_quote(known)

        async def work() -> MintQuote:
            return wire.mint_quote_from_json(wire.mint_quote_to_json(self.quotes[known.quote]))

        return await self._call("mint_quote", work)

    async def mint_quotes(self, known: Sequence[MintQuote]) -> list[MintQuote]:
        if known[0].quote not in self.quotes:
            return await super().mint_quotes(known)

        async def work() -> list[MintQuote]:
            return [self.quotes[one.quote] for one in known]

        return await self._call("mint_quotes", work)

    async def issue(self, method: str, request: bytes) -> list[BlindSignature]:
        if method == "bolt11":
            return await super().issue(method, request)
        self.faults.bodies.append(("issue", request))

        async def work() -> list[BlindSignature]:
            asked = wire.mint_request_from_json(request, method=method)
            total = sum(output.amount for output in asked.outputs)
            return await self._sign(request, [(asked.quote, total, asked.signature)], asked.outputs)

        return await self._call("issue", work, moves_value=True)

    async def issue_batch(self, method: str, request: bytes) -> list[BlindSignature]:
        self.faults.bodies.append(("issue_batch", request))

        async def work() -> list[BlindSignature]:
            if self.batch is None:
                raise RefusedError("Not Found")
            asked = wire.mint_batch_request_from_json(request, method=method)
            most = self.batch.get("max_batch_size")
            if isinstance(most, int) and len(asked.quotes) > most:
                raise refused.BatchTooLargeError
            for name in asked.quotes:
                if name not in self.quotes:  # an invoice of the real mint: as the script sees it
                    self.quotes[name] = await self.mint.mint_quote(name, method)
            signatures = asked.signatures or (None,) * len(asked.quotes)
            claims = list(zip(asked.quotes, asked.amounts or (), signatures, strict=True))
            return await self._sign(request, claims, asked.outputs)

        return await self._call("issue_batch", work, moves_value=True)

    async def _sign(
        self, body: bytes, claims: Sequence[tuple[str, int, str | None]], outputs: tuple[BlindedMessage, ...]
    ) -> list[BlindSignature]:
        if body in self.signed:
            return self.signed[body]
        for name, amount, signature in claims:
            quote = self.quotes[name]
            if quote.pubkey is not None:
                verify_quote_signature(quote.pubkey, signature, name, outputs)
            if not 0 < amount <= quote.mintable:
                raise refused.QuoteUnpaidError
        total = sum(amount for _, amount, _ in claims)
        if total != sum(output.amount for output in outputs):
            raise refused.UnbalancedError
        inner = await self.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", total))
        await self.bank.pay(inner)
        found = list(await self.mint.issue(MintRequest("bolt11", inner.quote, outputs)))
        for name, amount, _ in claims:
            old = self.quotes[name]
            self.quotes[name] = msgspec.structs.replace(
                old, amount_issued=old.amount_issued + amount, updated_at=old.updated_at + 1
            )
        self.signed[body] = found
        return found

    # paying

    async def request_melt_quote(self, request: MeltQuoteRequest) -> MeltQuote:
        if request.method == "bolt11" and request.mpp_msat is None:
            return await super().request_melt_quote(request)

        async def work() -> MeltQuote:
            body = wire.melt_quote_request_to_json(request)
            asked = wire.melt_quote_request_from_json(body, method=request.method)
            if asked.mpp_msat is not None and self.refuse_parts is not None:
                raise self.refuse_parts
            amount = asked.amount or -(-(asked.mpp_msat or asked.amount_msat or 0) // 1000)
            if request.method == "bolt12" and not amount:
                amount = -(-(decode_offer(request.request).amount_msat or 0) // 1000)
            name = self._name()
            inner = await self.mint.request_melt_quote(
                MeltQuoteRequest("bolt11", await self._world.foreign_invoice(amount * 1000, name), "sat")
            )
            onchain = request.method == "onchain"
            quote = MeltQuote(
                f"melt-{self._names}",
                request.method,
                request.request,
                request.unit,
                amount,
                max(one.fee_reserve for one in self.options) if onchain else max(self.reserve, inner.fee_reserve),
                expiry=inner.expiry,
                fee_options=self.options if onchain else (),
            )
            self.melts[quote.quote] = ScriptedMelt(quote, inner, asked.mpp_msat)
            return self._told(quote)

        return await self._call("request_melt_quote", work)

    def _told(self, quote: MeltQuote) -> MeltQuote:
        lie = msgspec.structs.replace(quote, **self.change_melt)
        return wire.melt_quote_from_json(wire.melt_quote_to_json(lie), method=quote.method)

    async def melt_quote(self, known: MeltQuote) -> MeltQuote:
        if known.quote not in self.melts:
            return await super().melt_quote(known)

        async def work() -> MeltQuote:
            return self._told(self.melts[known.quote].quote)

        return await self._call("melt_quote", work)

    async def melt(self, known: MeltQuote, request: bytes) -> MeltQuote:
        if known.quote not in self.melts:
            return await super().melt(known, request)
        self.faults.bodies.append(("melt", request))
        held = self.melts[known.quote]

        async def work() -> MeltQuote:
            if held.request is not None and held.request != request:
                raise refused.QuotePendingError
            if held.quote.state is MeltState.UNPAID:
                held.request = request
                asked = wire.melt_request_from_json(request, method=known.method)
                if held.quote.fee_options:
                    held.quote.reserve(asked.fee_index)
                self._becomes(held, state=MeltState.PENDING, selected_fee_index=asked.fee_index)
                if not held.quote.fee_options:
                    held.running = asyncio.ensure_future(self._part(held))
            if held.running is not None:
                await asyncio.shield(held.running)
                if held.quote.state is MeltState.UNPAID:
                    raise refused.PaymentFailedError("the payee did not take the part")
            return self._told(held.quote)

        return await self._call("melt", work, moves_value=True)

    async def _part(self, held: ScriptedMelt) -> None:
        """A part waits for the others; what is no part is paid at once. Whoever asked may be gone meanwhile."""
        if self.hang:
            await asyncio.Event().wait()
        receiver = self.receivers.get(held.quote.request)
        taken = True
        if held.part_msat is not None:
            if receiver is None:
                taken = False
            else:
                taken = await receiver.arrive(f"{self.url} {held.quote.quote}", held.part_msat)
        if taken:
            await self.confirm(held.quote.quote)
        else:
            self._becomes(held, state=MeltState.UNPAID)

    def _becomes(self, held: ScriptedMelt, **fields: object) -> None:
        held.quote = msgspec.structs.replace(held.quote, **fields)

    def broadcast(self, name: str, outpoint: str) -> None:
        """The transaction is out."""
        self._becomes(self.melts[name], outpoint=outpoint)

    async def confirm(self, name: str) -> None:
        """The payment is final: the real mint takes the coins and gives the change."""
        held = self.melts[name]
        assert held.request is not None
        asked = wire.melt_request_from_json(held.request, method=held.quote.method)
        done = await self.mint.melt(
            msgspec.structs.replace(asked, method="bolt11", quote=held.inner.quote, fee_index=None, prefer_async=False)
        )
        self._becomes(held, state=done.state, change=done.change, payment_preimage=done.payment_preimage)

    def fail(self, name: str) -> None:
        """The payment failed for good."""
        self._becomes(self.melts[name], state=MeltState.UNPAID)

    async def close(self) -> None:
        for held in self.melts.values():
            if held.running is not None and not held.running.done():
                held.running.cancel()
                await asyncio.gather(held.running, return_exceptions=True)


class Mints:
    """Several scripted mints on one clock, and a wallet at all of them."""

    def __init__(self, banks: Sequence[House], clock: VirtualClock) -> None:
        self.clock = clock
        self.banks = list(banks)
        self.worlds = [World(bank) for bank in banks]
        self.urls = [f"http://mint{number}.test" for number in range(len(banks))]
        self.mints = [MethodClient(bank, url, world) for bank, url, world in zip(banks, self.urls, self.worlds, strict=True)]
        self.clients: dict[str, MintClient] = dict(zip(self.urls, self.mints, strict=True))
        self.pages = Pages()
        self._names = 0

    async def wallet(self, storage: object = None, *, words: str | None = None, trusted: bool = True) -> Wallet:
        """A wallet that knows all mints."""
        from specie.kernel.hd import words_from_entropy

        self._names += 1
        wallet = make_wallet(
            storage or await memory_storage(),  # type: ignore[arg-type]
            self.clients,
            self.clock,
            words=words or words_from_entropy(self._names.to_bytes(16, "big")),
            seed=f"wallet {self._names}",
            settings=SETTINGS,
            telemetry=self.pages,
        )
        if trusted:
            for url in self.urls:
                await wallet.add_mint(url)
        return wallet

    async def fund(self, wallet: Wallet, *amounts: int) -> None:
        """So much at each mint."""
        for url, world, amount in zip(self.urls, self.worlds, amounts, strict=True):
            if amount:
                quote = await wallet.mint_quote(amount, mint=url)
                await world.pay(quote.request)
                assert await wallet.claim(quote) == amount

    async def invoice(self, amount: int, name: str = "shop", *, msat: int | None = None) -> tuple[str, Receiver]:
        """A foreign invoice that parts can be paid of, and who gets it."""
        text = await self.worlds[0].foreign_invoice(msat or amount * 1000, name)
        assert decode_invoice(text).amount_msat == (msat or amount * 1000)
        receiver = Receiver(msat or amount * 1000, self.clock)
        for mint in self.mints:
            mint.receivers[text] = receiver
        return text, receiver

    async def books_hold(self, *wallets: Wallet) -> None:
        """Each mint owes exactly what the wallets hold there."""
        for url, bank in zip(self.urls, self.banks, strict=True):
            books = await bank.mint.audit()
            owed = sum(books.issued(one, "sat") - books.redeemed(one, "sat") for one in books.keysets("sat"))
            held = [(await wallet.balance(mint=url)).total for wallet in wallets]
            assert owed == sum(held), (url, owed, held)


@contextlib.asynccontextmanager
async def method_mints(count: int = 1) -> AsyncIterator[Mints]:
    """So many scripted mints, running."""
    clock = VirtualClock()
    async with contextlib.AsyncExitStack() as stack:
        banks = [
            await stack.enter_async_context(house(clock=clock, seed=number, keys=bytes([number + 1] * 32)))
            for number in range(count)
        ]
        mints = Mints(banks, clock)
        try:
            yield mints
        finally:
            for mint in mints.mints:
                await mint.close()


__all__ = ["MethodClient", "Mints", "Receiver", "address_of", "method_mints", "offer_of"]
