"""The wallet's composition root, and its public face: `Wallet` opens by name. `sync_wallet` is the same without a loop.

    async with Wallet.open("alice") as wallet:
        await wallet.add_mint("http://127.0.0.1:3338")
        await wallet.mint(100)
        token = await wallet.send(21)

A wallet is a directory: `wallet.seed` (the words' entropy, sealed) and `wallet.db` (coins, journal, history). The words
restore what the mint knows of; locked coins and unswapped receipts live in `wallet.db` alone, so make backups as well.
Logins at mints lie in the keyring if it seals the wallet, else sealed in `wallet.db`.
Nothing here loads a server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from types import TracebackType
from typing import Any

from specie.app.system import SystemClock, SystemEntropy
from specie.app.vault import Vault
from specie.app.wallet_files import (
    convert_database,
    database_key,
    open_seed,
    seed_store,
    wallet_directory,
    wallet_names,
)
from specie.ecash.info import MintInfo
from specie.ecash.mint_url import mint_url_checked
from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.hd import seed_from_words, words_from_entropy
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys import MessageSigner, OpenedSeed, SealKind, SealSource, SealTooWeakError, SecretShelf
from specie.keys.adapters.software import SoftwareSigner
from specie.storage import Storage
from specie.storage.adapters.sqlite import SqliteStorage
from specie.storage.adapters.sqlite_file import is_encrypted
from specie.wallet import MintClient, NostrRelays, Transports, WalletAuth, WalletSettings, WatchReport
from specie.wallet import Wallet as WalletEngine
from specie.wallet.adapters.auth_store import SqlBlindTokenStore
from specie.wallet.adapters.callback import LoopbackListener
from specie.wallet.adapters.http import HttpMintClient
from specie.wallet.adapters.openid import HttpOpenIdClient
from specie.wallet.adapters.post import HttpPaymentPost
from specie.wallet.adapters.store_sql import MIGRATIONS, SqlWalletStore
from specie.wallet.engine.kept_secrets import KeptSecrets
from specie.wallet.engine.moved_secrets import MovedSecrets
from specie.wallet.play import announces_play_money

__all__ = ["Opening", "Wallet", "play_only", "wallet_directory", "wallet_names"]


class Wallet(WalletEngine):
    """A wallet in a directory. Open it with `Wallet.open`; all verbs are those of `specie.wallet.Wallet`.

    Attributes:
        directory: where it lives.
        created: whether this opening made it; then show the owner `words()`.
        sealed: how its seed is kept; holds no seed.
        encrypted: whether its database is encrypted at rest.
        vault: its backups: making, proving and merging them.
        watched: what this opening's check of the mints has found; nothing where none was due.
    """

    directory: Path
    created: bool
    sealed: OpenedSeed
    encrypted: bool
    vault: Vault
    watched: tuple[WatchReport, ...]
    _entropy_bytes: bytes
    _moved: MovedSecrets | None
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
        watch: bool = True,
        encrypt: bool | None = None,
        settings: WalletSettings | None = None,
        telemetry: Telemetry = NULL_TELEMETRY,
        clients: Callable[[str], MintClient] | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        home: Path | None = None,
        config_home: Path | None = None,
        private_payees: bool = False,
    ) -> Opening:
        """Open a wallet, or make it: `async with Wallet.open("alice") as wallet`, or `await` it and `close` it yourself.

        `words`: BIP 39 words to make it from (fresh ones if None); for an existing wallet they must be its own. `sealed`:
        how the seed is sealed; unless given, by a keyring that is known to be safe, and SealSourceError where there is none
        (a key file, for play money, has to be asked for: `SealSource(play_key=True)`; such a wallet takes no mint that does
        not announce play money, SealTooWeakError). `mint`: a mint to trust from the start. With `create` False a missing
        wallet is SeedMissingError. With `resume` interrupted operations are taken up at once. With `watch`, and a
        watch policy that moves money or a mint that is being left, the mints are checked if it is time (`exits.check_due`: at
        most 20 seconds, no error; `watched` has the reports). `encrypt`: whether the
        database is encrypted at rest, by a key derived from the words; None leaves it as it is. `private_payees`: payments
        of requests may go to addresses on this machine or a private network, and by plain http. MalformedError for wrong
        words; SeedExistsError for words of another wallet; errors of sealing.
        """
        source = sealed or SealSource()
        plugs = (clock or SystemClock(), entropy or SystemEntropy())

        async def work() -> Wallet:
            directory = wallet_directory(name, home=home)
            stack = contextlib.AsyncExitStack()
            try:
                opened = await asyncio.to_thread(open_seed, directory, source, words, create, plugs[1], config_home)
                signer = SoftwareSigner(seed_from_words(words_from_entropy(opened.seed)), entropy=plugs[1])
                stack.push_async_callback(signer.close)
                storage, encrypted = await asyncio.to_thread(_open_database, directory, opened.seed, encrypt)
                stack.push_async_callback(storage.close)
                await storage.migrate(MIGRATIONS)
                transports = _transports(signer, private_payees)
                admit = play_only if opened.kind is SealKind.PLAY_KEY else None
                chosen = settings or WalletSettings()
                keyring = seed_store(directory, plugs[1], config_home).secrets(opened, signer)
                wallet = cls._assembled(storage, signer, plugs, telemetry, chosen, clients, transports, admit, keyring)
                stack.push_async_callback(WalletEngine.close, wallet)
                wallet.directory = directory
                wallet.created = opened.created
                wallet.sealed = OpenedSeed(b"", opened.kind, opened.created, opened.where)
                wallet.encrypted = encrypted
                wallet._entropy_bytes = opened.seed
                wallet.vault = Vault(wallet, directory, opened.seed, plugs[1])
                wallet._exit = stack
                wallet.watched = ()
                if mint is not None and mint_url_checked(mint) not in {view.url for view in await wallet.mints()}:
                    await wallet.add_mint(mint)
                if resume and await wallet.unfinished():
                    await wallet.resume()
                if watch:
                    wallet.watched = tuple(await wallet.exits.check_due())
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
        transports: Transports,
        admit: Callable[[str, MintInfo], None] | None,
        keyring: SecretShelf | None,
    ) -> Wallet:
        def over_http(url: str) -> MintClient:
            return HttpMintClient(url, limits=settings.limits, auth=auth)

        store = SqlWalletStore()
        kept = KeptSecrets(storage, store, signer, plugs[0])
        moved = None if keyring is None else MovedSecrets(keyring, kept)
        auth = WalletAuth(
            storage=storage,
            store=store,
            tokens=moved or kept,
            pool=SqlBlindTokenStore(),
            openid=HttpOpenIdClient(),
            listener=LoopbackListener(),
            clients=clients or over_http,
            clock=plugs[0],
            entropy=plugs[1],
            telemetry=telemetry,
            limits=settings.limits,
        )
        wallet = cls(
            storage=storage,
            store=store,
            signer=signer,
            clients=clients or over_http,
            clock=plugs[0],
            entropy=plugs[1],
            telemetry=telemetry,
            settings=settings,
            transports=transports,
            admit=admit,
            auth=auth,
        )
        wallet._moved = moved
        return wallet

    def words(self) -> str:
        """The BIP 39 words that restore this wallet: show them to its owner and to nobody else."""
        return words_from_entropy(self._entropy_bytes)

    async def backup(self, target: Path, *, passphrase: str | None = None) -> None:
        """Write everything to one new encrypted file: the words open it, and `passphrase` if one is given. See `vault`."""
        await self.vault.backup(target, passphrase=passphrase)

    async def close(self) -> None:
        """Close everything, in the opposite order of opening. A second time does nothing."""
        await self._exit.aclose()
        self._entropy_bytes = b""
        self.vault.forget()

    async def __aenter__(self) -> Wallet:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _transports(signer: MessageSigner, private_payees: bool) -> Transports:
    """How payments of requests travel. The Nostr library is loaded where it is asked for, since it costs start-up time."""

    def nostr() -> NostrRelays:
        from specie.wallet.adapters.nostr import SdkNostrRelays

        return SdkNostrRelays(signer, allow_private=private_payees)

    return Transports(post=HttpPaymentPost(allow_private=private_payees), nostr=nostr)


def play_only(mint: str, info: MintInfo) -> None:
    """What a wallet sealed by a key file thinks of a new mint: SealTooWeakError unless it says that its money is play money."""
    if not announces_play_money(info):
        raise SealTooWeakError(
            f"this wallet is sealed by a key file, which is for play money only, and {mint} does not say that its money is "
            "play money: seal the wallet by a passphrase or a keyring first (specie wallet reseal)"
        )


def _open_database(directory: Path, entropy_bytes: bytes, encrypt: bool | None) -> tuple[SqliteStorage, bool]:
    """The database, converted first where `encrypt` asks for it; and whether it is encrypted. Blocks."""
    path, key = directory / "wallet.db", database_key(entropy_bytes)
    if encrypt is not None and path.exists() and path.stat().st_size:
        convert_database(directory, key, encrypt=encrypt)
    encrypted = is_encrypted(path) if path.exists() and path.stat().st_size else bool(encrypt)
    return SqliteStorage(path, key=key if encrypted else None), encrypted


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
