"""The wallet's composition root, and its public face: `Wallet` opens by name, `SyncWallet` is the same without a loop.

    async with Wallet.open("alice") as wallet:
        await wallet.add_mint("http://127.0.0.1:3338")
        await wallet.mint(100)
        token = await wallet.send(21)

A wallet is a directory: `wallet.seed` (the words' entropy, sealed) and `wallet.db` (coins, journal, history). The words
restore what the mint knows of; locked coins and unswapped receipts live in `wallet.db` alone, so make backups as well.
Nothing here loads a server.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from specie.app.system import SystemClock, SystemEntropy
from specie.app.vault import Vault
from specie.app.wallet_files import (
    convert_database,
    database_key,
    open_seed,
    wallet_directory,
    wallet_names,
)
from specie.ecash.info import MintInfo
from specie.ecash.mint_url import mint_url_checked
from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.hd import seed_from_words, words_from_entropy
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys import MessageSigner, OpenedSeed, SealKind, SealSource, SealTooWeakError
from specie.keys.adapters.software import SoftwareSigner
from specie.storage import Storage
from specie.storage.adapters.sqlite import SqliteStorage
from specie.storage.adapters.sqlite_file import is_encrypted
from specie.wallet import (
    HTLC,
    P2PK,
    Balance,
    CheckReport,
    HistoryEntry,
    MintClient,
    MintView,
    NostrRelays,
    Operation,
    Payment,
    Progress,
    Receipt,
    Restored,
    ResumeReport,
    SentToken,
    Transports,
    WalletAuth,
    WalletMeltQuote,
    WalletMintQuote,
    WalletSettings,
)
from specie.wallet import Wallet as WalletEngine
from specie.wallet.adapters.auth_store import SqlBlindTokenStore
from specie.wallet.adapters.callback import LoopbackListener
from specie.wallet.adapters.http import HttpMintClient
from specie.wallet.adapters.openid import HttpOpenIdClient
from specie.wallet.adapters.post import HttpPaymentPost
from specie.wallet.adapters.store_sql import MIGRATIONS, SqlWalletStore
from specie.wallet.engine.kept_secrets import KeptSecrets
from specie.wallet.play import announces_play_money

__all__ = ["Opening", "SyncWallet", "Wallet", "play_only", "wallet_directory", "wallet_names"]

T = TypeVar("T")


class Wallet(WalletEngine):
    """A wallet in a directory. Open it with `Wallet.open`; all verbs are those of `specie.wallet.Wallet`.

    Attributes:
        directory: where it lives.
        created: whether this opening made it; then show the owner `words()`.
        sealed: how its seed is kept; holds no seed.
        encrypted: whether its database is encrypted at rest.
        vault: its backups: making, proving and merging them.
    """

    directory: Path
    created: bool
    sealed: OpenedSeed
    encrypted: bool
    vault: Vault
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
        wallet is SeedMissingError. With `resume` interrupted operations are taken up at once. `encrypt`: whether the
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
                wallet = cls._assembled(storage, signer, plugs, telemetry, chosen, clients, transports, admit)
                stack.push_async_callback(WalletEngine.close, wallet)
                wallet.directory = directory
                wallet.created = opened.created
                wallet.sealed = OpenedSeed(b"", opened.kind, opened.created, opened.where)
                wallet.encrypted = encrypted
                wallet._entropy_bytes = opened.seed
                wallet.vault = Vault(wallet, directory, opened.seed, plugs[1])
                wallet._exit = stack
                if mint is not None and mint_url_checked(mint) not in {view.url for view in await wallet.mints()}:
                    await wallet.add_mint(mint)
                if resume and await wallet.operations():
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
        transports: Transports,
        admit: Callable[[str, MintInfo], None] | None,
    ) -> Wallet:
        def over_http(url: str) -> MintClient:
            return HttpMintClient(url, limits=settings.limits, auth=auth)

        store = SqlWalletStore()
        auth = WalletAuth(
            storage=storage,
            store=store,
            tokens=KeptSecrets(storage, store, signer, plugs[0]),
            pool=SqlBlindTokenStore(),
            openid=HttpOpenIdClient(),
            listener=LoopbackListener(),
            clients=clients or over_http,
            clock=plugs[0],
            entropy=plugs[1],
            telemetry=telemetry,
            limits=settings.limits,
        )
        return cls(
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


class SyncWallet:
    """`Wallet` without `await`: the same verbs, run on a loop of its own in a thread of its own.

        with SyncWallet.open("alice") as wallet:
            wallet.send(21)

    Any thread may call it, several at once too. A call that is interrupted (Ctrl-C) is cancelled; `resume` settles it.
    """

    def __init__(self, opening: Opening) -> None:
        """Start the loop and open; use `SyncWallet.open`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="specie-wallet", daemon=True)
        self._thread.start()
        try:
            self._wallet = self._run(_opened(opening))
        except BaseException:
            self._stop()
            raise

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
        encrypt: bool | None = None,
        settings: WalletSettings | None = None,
        telemetry: Telemetry = NULL_TELEMETRY,
        clients: Callable[[str], MintClient] | None = None,
        home: Path | None = None,
        config_home: Path | None = None,
    ) -> SyncWallet:
        """As `Wallet.open`, at once. Close it, or use it in a `with`."""
        return cls(
            Wallet.open(
                name,
                words=words,
                sealed=sealed,
                mint=mint,
                create=create,
                resume=resume,
                encrypt=encrypt,
                settings=settings,
                telemetry=telemetry,
                clients=clients,
                home=home,
                config_home=config_home,
            )
        )

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def directory(self) -> Path:
        """Where the wallet lives."""
        return self._wallet.directory

    @property
    def created(self) -> bool:
        """Whether this opening made it."""
        return self._wallet.created

    def words(self) -> str:
        """As `Wallet.words`."""
        return self._wallet.words()

    def add_mint(self, url: str) -> MintView:
        """As `Wallet.add_mint`."""
        return self._run(self._wallet.add_mint(url))

    def mints(self) -> list[MintView]:
        """As `Wallet.mints`."""
        return self._run(self._wallet.mints())

    def balance(self, *, unit: str = "sat", mint: str | None = None) -> Balance:
        """As `Wallet.balance`."""
        return self._run(self._wallet.balance(unit=unit, mint=mint))

    def balances(self) -> list[Balance]:
        """As `Wallet.balances`."""
        return self._run(self._wallet.balances())

    def mint_quote(
        self, amount: int, *, mint: str | None = None, unit: str = "sat", description: str | None = None
    ) -> WalletMintQuote:
        """As `Wallet.mint_quote`."""
        return self._run(self._wallet.mint_quote(amount, mint=mint, unit=unit, description=description))

    def mint_quotes(self) -> list[WalletMintQuote]:
        """As `Wallet.mint_quotes`."""
        return self._run(self._wallet.mint_quotes())

    def wait(self, quote: WalletMintQuote, *, timeout_s: float | None = None) -> WalletMintQuote:
        """As `Wallet.wait`."""
        return self._run(self._wallet.wait(quote, timeout_s=timeout_s))

    def claim(self, quote: WalletMintQuote, *, memo: str | None = None) -> int:
        """As `Wallet.claim`."""
        return self._run(self._wallet.claim(quote, memo=memo))

    def mint(self, amount: int, *, mint: str | None = None, unit: str = "sat", timeout_s: float | None = None) -> int:
        """As `Wallet.mint`."""
        return self._run(self._wallet.mint(amount, mint=mint, unit=unit, timeout_s=timeout_s))

    def send(
        self,
        amount: int,
        *,
        mint: str | None = None,
        unit: str = "sat",
        lock: P2PK | HTLC | None = None,
        memo: str | None = None,
        include_dleq: bool = True,
        include_fee: bool = False,
        offline: bool = False,
    ) -> SentToken:
        """As `Wallet.send`."""
        return self._run(
            self._wallet.send(
                amount,
                mint=mint,
                unit=unit,
                lock=lock,
                memo=memo,
                include_dleq=include_dleq,
                include_fee=include_fee,
                offline=offline,
            )
        )

    def receive(self, token: str, *, preimage: str | None = None, offline: bool = False, trust: bool = False) -> Receipt:
        """As `Wallet.receive`."""
        return self._run(self._wallet.receive(token, preimage=preimage, offline=offline, trust=trust))

    def secure(self) -> int:
        """As `Wallet.secure`."""
        return self._run(self._wallet.secure())

    def tokens(self, *, pending: bool = True) -> list[SentToken]:
        """As `Wallet.tokens`."""
        return self._run(self._wallet.tokens(pending=pending))

    def reclaim(self, token: str) -> Receipt:
        """As `Wallet.reclaim`."""
        return self._run(self._wallet.reclaim(token))

    def p2pk_key(self) -> str:
        """As `Wallet.p2pk_key`."""
        return self._run(self._wallet.p2pk_key())

    def melt_quote(
        self, invoice: str, *, mint: str | None = None, unit: str = "sat", amount_msat: int | None = None
    ) -> WalletMeltQuote:
        """As `Wallet.melt_quote`."""
        return self._run(self._wallet.melt_quote(invoice, mint=mint, unit=unit, amount_msat=amount_msat))

    def melt_quotes(self) -> list[WalletMeltQuote]:
        """As `Wallet.melt_quotes`."""
        return self._run(self._wallet.melt_quotes())

    def pay(
        self,
        invoice: str | WalletMeltQuote,
        *,
        mint: str | None = None,
        unit: str = "sat",
        max_fee: int | None = None,
        amount_msat: int | None = None,
        memo: str | None = None,
        wait_s: float | None = None,
    ) -> Payment:
        """As `Wallet.pay`."""
        return self._run(
            self._wallet.pay(invoice, mint=mint, unit=unit, max_fee=max_fee, amount_msat=amount_msat, memo=memo, wait_s=wait_s)
        )

    def split(self, amounts: Sequence[int], *, mint: str | None = None, unit: str = "sat") -> int:
        """As `Wallet.split`."""
        return self._run(self._wallet.split(amounts, mint=mint, unit=unit))

    def consolidate(self, *, mint: str | None = None, unit: str = "sat") -> int:
        """As `Wallet.consolidate`."""
        return self._run(self._wallet.consolidate(mint=mint, unit=unit))

    def rotate(self) -> int:
        """As `Wallet.rotate`."""
        return self._run(self._wallet.rotate())

    def restore(self, mints: Sequence[str] = (), *, p2pk_keys: int = 100, progress: Progress | None = None) -> list[Restored]:
        """As `Wallet.restore`."""
        return self._run(self._wallet.restore(mints, p2pk_keys=p2pk_keys, progress=progress))

    def resume(self, *, wait_s: float = 0.0) -> ResumeReport:
        """As `Wallet.resume`."""
        return self._run(self._wallet.resume(wait_s=wait_s))

    def check_pending(self, *, claim_paid: bool = True) -> CheckReport:
        """As `Wallet.check_pending`."""
        return self._run(self._wallet.check_pending(claim_paid=claim_paid))

    def operations(self) -> list[Operation]:
        """As `Wallet.operations`."""
        return self._run(self._wallet.operations())

    def history(self, *, limit: int = 50, before: str | None = None) -> list[HistoryEntry]:
        """As `Wallet.history`."""
        return self._run(self._wallet.history(limit=limit, before=before))

    def find_mint_quote(self, invoice: str) -> WalletMintQuote:
        """As `Wallet.find_mint_quote`."""
        return self._run(self._wallet.find_mint_quote(invoice))

    def backup(self, target: Path, *, passphrase: str | None = None) -> None:
        """As `Wallet.backup`."""
        self._run(self._wallet.backup(target, passphrase=passphrase))

    def close(self) -> None:
        """As `Wallet.close`; ends the thread."""
        if self._loop.is_closed():
            return
        self._run(self._wallet.close())
        self._stop()

    def __enter__(self) -> SyncWallet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


async def _opened(opening: Opening) -> Wallet:
    return await opening
