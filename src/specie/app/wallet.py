"""The wallet's composition root, and its public face: `Wallet` opens by name. `sync_wallet` is the same without a loop.

    async with Wallet.open("alice") as wallet:
        await wallet.add_mint("http://127.0.0.1:3338")
        await wallet.mint(100)
        token = await wallet.send(21)

A wallet is a directory: `wallet.seed` (the words' entropy, sealed) and `wallet.db` (coins, journal, history). The words
restore what the mint knows of; locked coins and unswapped receipts live in `wallet.db` alone, so back it up as well.
Nothing here loads a server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from types import TracebackType
from typing import Any

import platformdirs

from specie.app.system import SystemClock, SystemEntropy
from specie.ecash.mint_url import mint_url_checked
from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.errors import MalformedError
from specie.kernel.hd import entropy_from_words, seed_from_words, words_from_entropy
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys import OpenedSeed, SealSource
from specie.keys.adapters.seed_store import SeedStore
from specie.keys.adapters.software import SoftwareSigner
from specie.keys.errors import SeedExistsError, SeedMissingError
from specie.storage import Storage
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet import MintClient, WalletSettings
from specie.wallet import Wallet as WalletEngine
from specie.wallet.adapters.http import HttpMintClient
from specie.wallet.adapters.store_sql import MIGRATIONS, SqlWalletStore

__all__ = ["Opening", "Wallet", "wallet_directory", "wallet_names"]

_ENTROPY_BYTES = 16
_USE = "wallet"


def wallet_directory(name: str | Path = "default", *, home: Path | None = None) -> Path:
    """Where a wallet lives: a `Path` stands for itself, a name is below `wallets` in the user's data home.

    MalformedError for a name that is not 1 to 64 letters, digits, '.', '_' and '-', or begins with a dot.
    """
    if isinstance(name, Path):
        return name
    plain = name.replace("-", "").replace("_", "").replace(".", "")
    if not (0 < len(name) <= 64 and plain.isascii() and plain.isalnum()) or name.startswith("."):
        raise MalformedError("a wallet's name has 1 to 64 letters, digits, '.', '_' and '-'")
    return (home or platformdirs.user_data_path("specie", appauthor=False)) / "wallets" / name


def wallet_names(*, home: Path | None = None) -> list[str]:
    """Names of the wallets in the user's data home, sorted."""
    base = (home or platformdirs.user_data_path("specie", appauthor=False)) / "wallets"
    return sorted(path.parent.name for path in base.glob("*/wallet.seed")) if base.is_dir() else []


class Wallet(WalletEngine):
    """A wallet in a directory. Open it with `Wallet.open`; all verbs are those of `specie.wallet.Wallet`.

    Attributes:
        directory: where it lives.
        created: whether this opening made it; then show the owner `words()`.
        sealed: how its seed is kept; holds no seed.
    """

    directory: Path
    created: bool
    sealed: OpenedSeed
    _entropy_bytes: bytes
    _exit: contextlib.AsyncExitStack

    @classmethod
    def open(
        cls,
        name: str | Path = "default",
        *,
        words: str | None = None,
        sealed: SealSource | None = None,
        mint: str | None = None,
        create: bool = True,
        resume: bool = True,
        settings: WalletSettings | None = None,
        telemetry: Telemetry = NULL_TELEMETRY,
        clients: Callable[[str], MintClient] | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        home: Path | None = None,
        config_home: Path | None = None,
    ) -> Opening:
        """Open a wallet, or make it: `async with Wallet.open("alice") as wallet`, or `await` it and `close` it yourself.

        `words`: BIP 39 words to make it from (fresh ones if None); for an existing wallet they must be its own. `sealed`:
        how the seed is sealed, by default with a key file in the user's config home. `mint`: a mint to trust from the
        start. With `create` False a missing wallet is SeedMissingError. With `resume` interrupted operations are taken up
        at once. MalformedError for wrong words; SeedExistsError for words of another wallet; errors of sealing.
        """
        source = sealed or SealSource()
        plugs = (clock or SystemClock(), entropy or SystemEntropy())

        async def work() -> Wallet:
            directory = wallet_directory(name, home=home)
            stack = contextlib.AsyncExitStack()
            try:
                opened = await asyncio.to_thread(_open_seed, directory, source, words, create, plugs[1], config_home)
                signer = SoftwareSigner(seed_from_words(words_from_entropy(opened.seed)), entropy=plugs[1])
                stack.push_async_callback(signer.close)
                storage = await asyncio.to_thread(SqliteStorage, directory / "wallet.db")
                stack.push_async_callback(storage.close)
                await storage.migrate(MIGRATIONS)
                wallet = cls._assembled(storage, signer, plugs, telemetry, settings or WalletSettings(), clients)
                stack.push_async_callback(WalletEngine.close, wallet)
                wallet.directory = directory
                wallet.created = opened.created
                wallet.sealed = OpenedSeed(b"", opened.kind, opened.created, opened.where)
                wallet._entropy_bytes = opened.seed
                wallet._exit = stack
                if mint is not None and mint_url_checked(mint) not in {view.url for view in await wallet.mints()}:
                    await wallet.add_mint(mint)
                if resume and await wallet.unfinished():
                    await wallet.resume()
            except BaseException:
                await stack.aclose()
                raise
            return wallet

        return Opening(work)

    @classmethod
    def _assembled(
        cls,
        storage: Storage,
        signer: SoftwareSigner,
        plugs: tuple[Clock, Entropy],
        telemetry: Telemetry,
        settings: WalletSettings,
        clients: Callable[[str], MintClient] | None,
    ) -> Wallet:
        def over_http(url: str) -> MintClient:
            return HttpMintClient(url, limits=settings.limits)

        return cls(
            storage=storage,
            store=SqlWalletStore(),
            signer=signer,
            clients=clients or over_http,
            clock=plugs[0],
            entropy=plugs[1],
            telemetry=telemetry,
            settings=settings,
        )

    def words(self) -> str:
        """The BIP 39 words that restore this wallet: show them to its owner and to nobody else."""
        return words_from_entropy(self._entropy_bytes)

    async def backup(self, target: Path) -> None:
        """Write a consistent copy of coins, journal and history to a new file; money for whoever reads it."""
        await self._context.storage.backup(target)

    async def close(self) -> None:
        """Close everything, in the opposite order of opening. A second time does nothing."""
        await self._exit.aclose()
        self._entropy_bytes = b""

    async def __aenter__(self) -> Wallet:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _open_seed(
    directory: Path, source: SealSource, words: str | None, create: bool, entropy: Entropy, config_home: Path | None
) -> OpenedSeed:
    """Open the sealed entropy, or seal that of `words` or FRESH one. Blocks."""
    wanted = None if words is None else entropy_from_words(words)
    seeds = SeedStore(directory, entropy=entropy, use=_USE, config_home=config_home)
    if seeds.exists():
        opened = seeds.open(source, all_play=True)
        if wanted is not None and wanted != opened.seed:
            raise SeedExistsError(f"{seeds.path} belongs to other words; a seed is never overwritten")
        return opened
    if not create:
        raise SeedMissingError(f"there is no wallet in {directory}")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return seeds.create(wanted if wanted is not None else entropy.bytes(_ENTROPY_BYTES), source, all_play=True)


class Opening:
    """A wallet about to be opened: `await` it, or enter it with `async with`."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Wallet]]) -> None:
        """Nothing is opened yet."""
        self._work = work
        self._wallet: Wallet | None = None

    def __await__(self) -> Generator[Any, Any, Wallet]:
        """Open; the caller closes."""
        return self._work().__await__()

    async def __aenter__(self) -> Wallet:
        self._wallet = await self._work()
        return self._wallet

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._wallet is not None:
            await self._wallet.close()
