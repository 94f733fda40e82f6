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

import contextlib
from functools import cached_property
from typing import TYPE_CHECKING

from specie.app.wallet_places import wallet_directory, wallet_names
from specie.ecash.mint_url import mint_url_checked
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.wallet.engine.wallet import Wallet as WalletEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from pathlib import Path
    from types import TracebackType
    from typing import Any

    from specie.app.vault import Vault
    from specie.ecash.info import MintInfo
    from specie.kernel.clock import Clock
    from specie.kernel.entropy import Entropy
    from specie.keys import OpenedSeed, SealSource
    from specie.wallet import MintClient, WalletSettings, WatchReport
    from specie.wallet.engine.auth import WalletAuth
    from specie.wallet.engine.moved_secrets import MovedSecrets

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
    watched: tuple[WatchReport, ...]
    _entropy_bytes: bytes
    _logins: Callable[[], WalletAuth]
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

        async def work() -> Wallet:
            from specie.app.wallet_plugs import open_plugs
            from specie.keys.sealing import OpenedSeed, SealKind
            from specie.wallet.engine.due import may_watch
            from specie.wallet.settings import WalletSettings

            directory, chosen = wallet_directory(name, home=home), settings or WalletSettings()
            stack = contextlib.AsyncExitStack()
            try:
                plugs = await open_plugs(
                    stack,
                    directory,
                    words=words,
                    source=sealed,
                    create=create,
                    encrypt=encrypt,
                    settings=chosen,
                    telemetry=telemetry,
                    clients=clients,
                    clock=clock,
                    entropy=entropy,
                    config_home=config_home,
                    private_payees=private_payees,
                )
                wallet = cls(
                    storage=plugs.storage,
                    store=plugs.store,
                    signer=plugs.signer,
                    clients=plugs.clients,
                    clock=plugs.clock,
                    entropy=plugs.entropy,
                    telemetry=telemetry,
                    settings=chosen,
                    transports=plugs.transports,
                    admit=play_only if plugs.sealed.kind is SealKind.PLAY_KEY else None,
                )
                stack.push_async_callback(WalletEngine.close, wallet)
                opened = plugs.sealed
                wallet.directory = directory
                wallet.created = opened.created
                wallet.sealed = OpenedSeed(b"", opened.kind, opened.created, opened.where)
                wallet.encrypted = plugs.encrypted
                wallet._entropy_bytes = opened.seed
                wallet._logins = plugs.auth
                wallet._moved = plugs.moved
                wallet._exit = stack
                wallet.watched = ()
                if mint is not None and mint_url_checked(mint) not in {view.url for view in await wallet.mints()}:
                    await wallet.add_mint(mint)
                if resume and await wallet.unfinished():
                    await wallet.resume()
                if watch and await may_watch(wallet._context):
                    wallet.watched = tuple(await wallet.exits.check_due())
            except BaseException:
                await stack.aclose()
                raise
            return wallet

        return Opening(work)

    @property
    def auth(self) -> WalletAuth:
        """Logins and blind tokens for mints that ask who uses them (NUT-21, NUT-22)."""
        return self._logins()

    @cached_property
    def vault(self) -> Vault:
        """Its backups: making, proving and merging them."""
        from specie.app.vault import Vault

        return Vault(self, self.directory, self._entropy_bytes, self._context.entropy)

    def words(self) -> str:
        """The BIP 39 words that restore this wallet: show them to its owner and to nobody else."""
        from specie.kernel.hd import words_from_entropy

        return words_from_entropy(self._entropy_bytes)

    async def backup(self, target: Path, *, passphrase: str | None = None) -> None:
        """Write everything to one new encrypted file: the words open it, and `passphrase` if one is given. See `vault`."""
        await self.vault.backup(target, passphrase=passphrase)

    async def close(self) -> None:
        """Close everything, in the opposite order of opening. A second time does nothing."""
        await self._exit.aclose()
        self._entropy_bytes = b""
        if "vault" in vars(self):
            self.vault.forget()

    async def __aenter__(self) -> Wallet:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def play_only(mint: str, info: MintInfo) -> None:
    """What a wallet sealed by a key file thinks of a new mint: SealTooWeakError unless it says that its money is play money."""
    from specie.keys.errors import SealTooWeakError
    from specie.wallet.play import announces_play_money

    if not announces_play_money(info):
        raise SealTooWeakError(
            f"this wallet is sealed by a key file, which is for play money only, and {mint} does not say that its money is "
            "play money: seal the wallet by a passphrase or a keyring first (specie wallet reseal)"
        )


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
