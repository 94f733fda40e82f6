"""The wallet's public types, as the type checker sees them: ports are met, and the face gives what it says."""

from __future__ import annotations

from typing import assert_type

import specie
from specie.app.system import SystemClock, SystemEntropy
from specie.kernel import Clock, Entropy
from specie.wallet import (
    Balance,
    Departure,
    HistoryEntry,
    MintClient,
    MintView,
    OfflinePolicy,
    Payment,
    Rebalance,
    Receipt,
    SentToken,
    Transfer,
    WalletMintQuote,
    WalletStore,
)
from specie.wallet.adapters.http import HttpMintClient
from specie.wallet.adapters.store_sql import SqlWalletStore
from specie.wallet.engine.guard import GuardedClient


def as_client(client: HttpMintClient, guarded: GuardedClient) -> tuple[MintClient, MintClient]:
    """Both are clients of a mint."""
    return client, guarded


def as_store(store: SqlWalletStore) -> WalletStore:
    """The tables are the store."""
    return store


def as_system(clock: SystemClock, entropy: SystemEntropy) -> tuple[Clock, Entropy]:
    """The machine's clock and generator are the kernel's."""
    return clock, entropy


async def use() -> None:
    """A tour of the asynchronous face."""
    async with specie.Wallet.open("alice", mint="http://127.0.0.1:3338") as wallet:
        assert_type(await wallet.add_mint("http://127.0.0.1:3338"), MintView)
        assert_type(await wallet.mint(100), int)
        quote = await wallet.mint_quote(5)
        assert_type(quote, WalletMintQuote)
        assert_type(await wallet.balance(), Balance)
        token = await wallet.send(21, memo="lunch")
        assert_type(token, SentToken)
        assert_type(await wallet.receive(token.text), Receipt)
        assert_type(await wallet.pay("lnbc1", max_fee=2), Payment)
        assert_type(await wallet.history(), list[HistoryEntry])


def use_sync() -> None:
    """The same without a loop."""
    with specie.SyncWallet.open("alice") as wallet:
        assert_type(wallet.mint(100), int)
        token = wallet.send(21)
        assert_type(token, SentToken)
        assert_type(wallet.receive(token.text), Receipt)
        assert_type(wallet.balance(), Balance)
        assert_type(wallet.transfers.move(5, source="http://a", destination="http://b"), Transfer)
        assert_type(wallet.targets.rebalance(dry_run=True), Rebalance)
        assert_type(wallet.exits.leave("http://a"), Departure)
        assert_type(wallet.offline.policy(), OfflinePolicy | None)
