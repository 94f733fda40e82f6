"""Wallets for tests: the real engine on the real store and signer, at mints in this process; and plugs that die on demand."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from specie.kernel.clock import Clock
from specie.kernel.hd import seed_from_words, words_from_entropy
from specie.keys.adapters.software import SoftwareSigner
from specie.lightning import InvoiceDraft, Network, decode_invoice, encode_invoice
from specie.lightning.adapters.play import Fault, PlayFaults
from specie.storage import Body, Migration, Storage, StorageStatus
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet import MintClient, RetryPolicy, Transports, Wallet, WalletSettings
from specie.wallet.adapters.schema import MIGRATIONS
from specie.wallet.adapters.store_sql import SqlWalletStore
from tests.support.direct_client import DirectClient, Faults
from tests.support.house import House, Pages, house
from tests.support.virtual import SeededEntropy, run_virtual

WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
SETTINGS = WalletSettings(
    change_pieces=0, retry=RetryPolicy(attempts=3, base_s=0.01, longest_s=0.1), poll_s=0.1, longest_poll_s=1.0
)

T = TypeVar("T")
P = ParamSpec("P")


class Died(BaseException):
    """The process ended here; nothing after it ran."""


class MortalStorage:
    """A store that dies: at commit number `at`, either `before` it is durable or after."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.commits = 0
        self.at: int | None = None
        self.before = True

    async def transact(self, body: Body[T]) -> T:
        self.commits += 1
        fatal = self.at is not None and self.commits >= self.at
        if fatal and self.before:
            raise Died
        result = await self.inner.transact(body)
        if fatal:
            raise Died
        return result

    async def read(self, body: Body[T]) -> T:
        if self.at is not None and self.commits >= self.at:
            raise Died
        return await self.inner.read(body)

    async def migrate(self, migrations: Sequence[Migration]) -> list[Migration]:
        return await self.inner.migrate(migrations)

    def listen(self, channel: str) -> AsyncIterator[str]:
        return self.inner.listen(channel)

    async def backup(self, target: Path) -> None:
        await self.inner.backup(target)

    def status(self) -> StorageStatus:
        return self.inner.status()

    async def close(self) -> None:
        await self.inner.close()


async def memory_storage() -> SqliteStorage:
    """An empty, migrated wallet store in memory."""
    storage = SqliteStorage(":memory:", inline=True)
    await storage.migrate(MIGRATIONS)
    return storage


def make_wallet(
    storage: Storage,
    clients: Mapping[str, MintClient],
    clock: Clock,
    *,
    words: str = WORDS,
    seed: object = "wallet",
    settings: WalletSettings = SETTINGS,
    telemetry: object = None,
    transports: Transports | None = None,
) -> Wallet:
    """A wallet over these plugs; `seed` seeds its entropy, `words` are its money."""
    entropy = SeededEntropy(seed)
    extra = {} if telemetry is None else {"telemetry": telemetry}
    return Wallet(
        storage=storage,
        store=SqlWalletStore(),
        signer=SoftwareSigner(seed_from_words(words), threads=0, entropy=entropy),
        clients=lambda url: clients[url],
        clock=clock,
        entropy=entropy,
        settings=settings,
        transports=transports,
        **extra,  # type: ignore[arg-type]
    )


MINT_URL = "http://mint.test"


class World:
    """One mint, its play network, and wallets at it, all on one virtual clock."""

    def __init__(self, bank: House) -> None:
        self.bank = bank
        self.clock = bank.clock
        self.faults = Faults()
        self.client = DirectClient(bank.mint, MINT_URL, self.faults)
        self.clients: dict[str, MintClient] = {MINT_URL: self.client}
        self.pages = Pages()
        self.words: list[str] = []
        """The words of every wallet made so far, in order."""

    async def wallet(
        self,
        storage: Storage | None = None,
        *,
        words: str | None = None,
        settings: WalletSettings = SETTINGS,
        trusted: bool = True,
        transports: Transports | None = None,
    ) -> Wallet:
        """A wallet; each has other words unless they are given. `trusted`: it has added the mint."""
        number = len(self.words) + 1
        text = words if words is not None else words_from_entropy(number.to_bytes(16, "big"))
        self.words.append(text)
        wallet = make_wallet(
            storage or await memory_storage(),
            self.clients,
            self.clock,
            words=text,
            seed=f"wallet {number}",
            settings=settings,
            telemetry=self.pages,
            transports=transports,
        )
        if trusted:
            await wallet.add_mint(MINT_URL)
        return wallet

    async def fund(self, wallet: Wallet, amount: int, *, mint: str = MINT_URL) -> None:
        """Have the play network pay an invoice of the wallet, and claim it."""
        quote = await wallet.mint_quote(amount, mint=mint)
        await self.pay(quote.request)
        assert await wallet.claim(quote) == amount

    async def pay(self, invoice: str) -> None:
        """Pay an invoice of the bank's own node, in play money."""
        await self.bank.rail.settle(decode_invoice(invoice).payment_hash.hex())

    def fail_payments(self) -> None:
        """From now on every foreign payment fails for good."""
        self.bank.rail.set_faults(PlayFaults(always=Fault.fail()))

    async def foreign_invoice(self, amount_msat: int | None, name: str = "elsewhere") -> str:
        """An invoice of another node on the play network."""
        signer = SoftwareSigner(b"\x09" * 32, threads=0, entropy=SeededEntropy(name))
        draft = InvoiceDraft(
            network=Network.REGTEST,
            amount_msat=amount_msat,
            timestamp=self.clock.now(),
            payment_hash=sha256(name.encode()).digest(),
            payment_secret=sha256(b"secret" + name.encode()).digest(),
            description=name,
        )

        async def sign(digest: bytes) -> tuple[bytes, int]:
            return (await signer.sign_recoverable("node", [digest]))[0]

        return await encode_invoice(draft, sign)

    async def books_hold(self, *wallets: Wallet) -> None:
        """The mint's audit passes, and what it owes is exactly what the wallets hold."""
        books = await self.bank.mint.audit()
        owed = sum(books.issued(one, "sat") - books.redeemed(one, "sat") for one in books.keysets("sat"))
        held = [(await wallet.balance()).total for wallet in wallets]
        assert owed == sum(held), (owed, held)


@contextlib.asynccontextmanager
async def world(**options: Any) -> AsyncIterator[World]:
    """A running world."""
    async with house(**options) as bank:
        yield World(bank)


def virtually(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on a virtual loop, where waiting costs nothing."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_virtual(test(*args, **kwargs))

    return run
