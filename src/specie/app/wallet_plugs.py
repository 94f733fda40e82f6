"""The plugs of a wallet: what `Wallet.open` opens in its directory, and hands to the engine.

What talks to a mint, a payee, a login provider or a relay is loaded when the first of them is talked to: to open a wallet and
look at it needs none of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specie.app.system import SystemClock, SystemEntropy
from specie.app.wallet_files import convert_database, database_key, open_seed, seed_store
from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.hd import seed_from_words, words_from_entropy
from specie.kernel.telemetry import Telemetry
from specie.keys.adapters.software import SoftwareSigner
from specie.keys.ports import MessageSigner
from specie.keys.sealing import OpenedSeed, SealSource
from specie.storage.adapters.sqlite import SqliteStorage
from specie.storage.adapters.sqlite_file import is_encrypted
from specie.wallet.adapters.post import HttpPaymentPost
from specie.wallet.adapters.store_sql import MIGRATIONS, SqlWalletStore
from specie.wallet.engine.kept_secrets import KeptSecrets
from specie.wallet.ports import MintClient, NostrRelays, Transports
from specie.wallet.settings import WalletSettings

if TYPE_CHECKING:
    from specie.wallet.engine.auth import WalletAuth
    from specie.wallet.engine.moved_secrets import MovedSecrets

__all__ = ["WalletPlugs", "open_plugs"]


@dataclass(frozen=True, slots=True)
class WalletPlugs:
    """An open wallet's plugs; `sealed` has the words' entropy, `moved` the logins where the keyring seals the wallet."""

    storage: SqliteStorage
    store: SqlWalletStore
    signer: SoftwareSigner
    clock: Clock
    entropy: Entropy
    clients: Callable[[str], MintClient]
    transports: Transports
    auth: Callable[[], WalletAuth]
    sealed: OpenedSeed
    encrypted: bool
    moved: MovedSecrets | None


async def open_plugs(
    stack: contextlib.AsyncExitStack,
    directory: Path,
    *,
    words: str | None,
    source: SealSource | None,
    create: bool,
    encrypt: bool | None,
    settings: WalletSettings,
    telemetry: Telemetry,
    clients: Callable[[str], MintClient] | None,
    clock: Clock | None,
    entropy: Entropy | None,
    config_home: Path | None,
    private_payees: bool,
) -> WalletPlugs:
    """Open the seed and the database; `stack` closes them. Parameters and errors as `Wallet.open`."""
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    opened = await asyncio.to_thread(open_seed, directory, source or SealSource(), words, create, entropy, config_home)
    signer = SoftwareSigner(seed_from_words(words_from_entropy(opened.seed)), entropy=entropy)
    stack.push_async_callback(signer.close)
    storage, encrypted = await asyncio.to_thread(_open_database, directory, opened.seed, encrypt)
    stack.push_async_callback(storage.close)
    await storage.migrate(MIGRATIONS)
    store = SqlWalletStore()
    kept = KeptSecrets(storage, store, signer, clock)
    moved = None
    keyring = seed_store(directory, entropy, config_home).secrets(opened, signer)
    if keyring is not None:
        from specie.wallet.engine.moved_secrets import MovedSecrets

        moved = MovedSecrets(keyring, kept)
    made: list[WalletAuth] = []

    async def close_auth() -> None:
        for one in made:
            await one.close()

    stack.push_async_callback(close_auth)

    def over_http(url: str) -> MintClient:
        from specie.wallet.adapters.http import HttpMintClient

        return HttpMintClient(url, limits=settings.limits, auth=auth())

    def auth() -> WalletAuth:
        if not made:
            from specie.wallet.adapters.auth_store import SqlBlindTokenStore
            from specie.wallet.adapters.callback import LoopbackListener
            from specie.wallet.adapters.openid import HttpOpenIdClient
            from specie.wallet.engine.auth import WalletAuth

            made.append(
                WalletAuth(
                    storage=storage,
                    store=store,
                    tokens=moved or kept,
                    pool=SqlBlindTokenStore(),
                    openid=HttpOpenIdClient(),
                    listener=LoopbackListener(),
                    clients=clients or over_http,
                    clock=clock,
                    entropy=entropy,
                    telemetry=telemetry,
                    limits=settings.limits,
                )
            )
        return made[0]

    return WalletPlugs(
        storage=storage,
        store=store,
        signer=signer,
        clock=clock,
        entropy=entropy,
        clients=clients or over_http,
        transports=_transports(signer, private_payees),
        auth=auth,
        sealed=opened,
        encrypted=encrypted,
        moved=moved,
    )


def _transports(signer: MessageSigner, private_payees: bool) -> Transports:
    """How payments of requests travel."""

    def nostr() -> NostrRelays:
        from specie.wallet.adapters.nostr import SdkNostrRelays

        return SdkNostrRelays(signer, allow_private=private_payees)

    return Transports(post=HttpPaymentPost(allow_private=private_payees), nostr=nostr)


def _open_database(directory: Path, entropy_bytes: bytes, encrypt: bool | None) -> tuple[SqliteStorage, bool]:
    """The database, converted first where `encrypt` asks for it; and whether it is encrypted. Blocks."""
    path, key = directory / "wallet.db", database_key(entropy_bytes)
    if encrypt is not None and path.exists() and path.stat().st_size:
        convert_database(directory, key, encrypt=encrypt)
    encrypted = is_encrypted(path) if path.exists() and path.stat().st_size else bool(encrypt)
    return SqliteStorage(path, key=key if encrypted else None), encrypted
