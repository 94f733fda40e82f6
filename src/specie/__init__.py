"""specie: a self-hosted bitcoin bank in one package. `specie.Wallet` is the embeddable wallet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie._version import __version__

if TYPE_CHECKING:
    from specie.app.sync_wallet import SyncWallet
    from specie.app.wallet import Wallet
    from specie.keys import SealSource

__all__ = ["SealSource", "SyncWallet", "Wallet", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Wallet":
        from specie.app import wallet

        return wallet.Wallet
    if name == "SyncWallet":
        from specie.app import sync_wallet

        return sync_wallet.SyncWallet
    if name == "SealSource":
        from specie.keys import sealing

        return sealing.SealSource
    raise AttributeError(f"module 'specie' has no attribute {name!r}")
