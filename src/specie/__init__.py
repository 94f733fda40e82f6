"""specie: a self-hosted bitcoin bank in one package. `specie.Wallet` is the embeddable wallet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie._version import __version__

if TYPE_CHECKING:
    from specie.app.wallet import SyncWallet, Wallet

__all__ = ["SyncWallet", "Wallet", "__version__"]


def __getattr__(name: str) -> object:
    if name in ("Wallet", "SyncWallet"):
        from specie.app import wallet

        return getattr(wallet, name)
    raise AttributeError(f"module 'specie' has no attribute {name!r}")
