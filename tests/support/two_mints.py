"""A wallet between mints: several banks on one play network, where what one pays arrives at the other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from specie.ecash import MeltQuote, MeltState
from specie.lightning import decode_invoice
from specie.storage import Storage
from specie.wallet import Wallet, WalletSettings
from tests.support.direct_client import DirectClient, Faults
from tests.support.house import House, house
from tests.support.wallets import MINT_URL, SETTINGS, World

__all__ = ["OTHER_URL", "THIRD_URL", "Network", "network"]

OTHER_URL = "http://other.test"
THIRD_URL = "http://third.test"


class _PayingClient(DirectClient):
    """A mint's client whose payments arrive: what it paid is settled at whichever bank asked for it."""

    network: Network

    async def melt(self, known: MeltQuote, request: bytes) -> MeltQuote:
        answer = await super().melt(known, request)
        if answer.state is MeltState.PAID:
            await self.network.arrive(known.request)
        return answer

    async def melt_quote(self, known: MeltQuote) -> MeltQuote:
        answer = await super().melt_quote(known)
        if answer.state is MeltState.PAID:
            await self.network.arrive(known.request)
        return answer


class Network(World):
    """A world with more banks; `arrives` False holds back what is paid (until `arrive`)."""

    def __init__(self, banks: dict[str, House]) -> None:
        super().__init__(banks[MINT_URL])
        self.banks = banks
        self.arrives = True
        self.by_mint: dict[str, Faults] = {}
        for url, bank in banks.items():
            client = _PayingClient(bank.mint, url, Faults())
            client.network = self
            self.by_mint[url] = client.faults
            self.clients[url] = client
        self.faults = self.by_mint[MINT_URL]

    async def arrive(self, invoice: str, *, now: bool = False) -> None:
        """An invoice was paid: its bank sees it, unless that is held back."""
        if not (self.arrives or now):
            return
        payment = decode_invoice(invoice).payment_hash.hex()
        for bank in self.banks.values():
            with contextlib.suppress(Exception):
                await bank.rail.settle(payment)

    async def wallet(
        self,
        storage: Storage | None = None,
        *,
        words: str | None = None,
        settings: WalletSettings = SETTINGS,
        trusted: bool = True,
    ) -> Wallet:
        """A wallet that trusts every bank."""
        made = await super().wallet(storage, words=words, settings=settings, trusted=trusted)
        if trusted:
            for url in self.banks:
                await made.add_mint(url)
        return made

    async def fund(self, wallet: Wallet, amount: int, *, mint: str = MINT_URL) -> None:
        """Have a bank's own network pay an invoice of it, and claim it."""
        quote = await wallet.mint_quote(amount, mint=mint)
        await self.arrive(quote.request, now=True)
        assert await wallet.claim(quote) == amount

    async def all_books_hold(self, *wallets: Wallet) -> None:
        """At every bank: the audit passes, and what it owes is exactly what the wallets hold there."""
        for url, bank in self.banks.items():
            books = await bank.mint.audit()
            owed = sum(books.issued(one, "sat") - books.redeemed(one, "sat") for one in books.keysets("sat"))
            held = [(await wallet.balance(mint=url)).total for wallet in wallets]
            assert owed == sum(held), (url, owed, held)


@contextlib.asynccontextmanager
async def network(urls: tuple[str, ...] = (MINT_URL, OTHER_URL), **options: Any) -> AsyncIterator[Network]:
    """Running banks, each with keys of its own, on one clock."""
    async with contextlib.AsyncExitStack() as stack:
        banks: dict[str, House] = {}
        for number, url in enumerate(urls):
            secret = bytes([number]) + bytes(range(1, 32))
            clock = {"clock": next(iter(banks.values())).clock} if banks else {}
            banks[url] = await stack.enter_async_context(house(seed=f"bank {number}", keys=secret, **clock, **options))
        yield Network(banks)
