"""Our wallet at a Nutshell mint with troubles: payments that fail or hang, a mint that is restarted with another keyset."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing

import pytest

from tests.interop.matrix import OpenWallet
from tests.interop.peers import MintProcess, PeerError

pytestmark = [pytest.mark.interop, pytest.mark.network]

Runs = Callable[..., AbstractContextManager[MintProcess]]
PAYMENT_FAILED = 20004


def test_a_failed_payment_gives_the_coins_back(
    nutshell_runs: Runs, open_wallet: OpenWallet, stranger_invoice: Callable[[int], str]
) -> None:
    """Where the mint says that a payment failed for good, the wallet has all its coins again and can spend them."""
    with nutshell_runs(FAKEWALLET_PAY_INVOICE_STATE="FAILED", FAKEWALLET_PAYMENT_STATE="FAILED") as mint:
        wallet = open_wallet("specie", mint)
        wallet.mint(100)
        with pytest.raises(PeerError) as failed:
            wallet.pay(stranger_invoice(10), wait_s=5.0)
        assert failed.value.code == PAYMENT_FAILED
        assert (wallet.balance + wallet.reserved) in (99, 100)  # the coins were perhaps swapped for fitting ones
        assert wallet.reserved == 0
        wallet.swap()


def test_a_hanging_payment_ends_after_the_mint_came_back(
    nutshell_runs: Runs, open_wallet: OpenWallet, stranger_invoice: Callable[[int], str]
) -> None:
    """A payment that hangs keeps its coins locked, through a restart of the mint; once paid, its change is claimed."""
    with nutshell_runs(FAKEWALLET_PAY_INVOICE_STATE="PENDING", FAKEWALLET_PAYMENT_STATE="PENDING") as mint:
        wallet = open_wallet("specie", mint)
        wallet.mint(100)
        assert wallet.pay(stranger_invoice(10), wait_s=0.5) == "PENDING"
        held = wallet.reserved
        assert held >= 12
        wallet.resume()
        assert wallet.reserved == held
    wallet_left = wallet.balance
    with nutshell_runs(FAKEWALLET_PAYMENT_STATE="SETTLED") as mint:
        wallet.resume()
        assert wallet.reserved == 0
        assert wallet_left <= wallet.balance <= wallet_left + held - 10
        assert set(wallet.states()) == {"UNSPENT"}
        assert open_wallet("specie", mint, wallet.words).restore() == wallet.balance


def test_coins_are_moved_off_a_keyset_that_a_mint_has_left(nutshell_runs: Runs, open_wallet: OpenWallet) -> None:
    """A mint that comes back with another active keyset still takes the old coins; the wallet moves and restores them."""
    with nutshell_runs() as mint:
        wallet = open_wallet("specie", mint)
        wallet.mint(100)
        price = -(-len(wallet.states()) * wallet.fee_ppk // 1000)
    with closing(sqlite3.connect(mint.data / "mint" / "mint.sqlite3")) as book, book:
        book.execute("UPDATE keysets SET active = FALSE")  # what Nutshell's own rotation does
    with nutshell_runs(MINT_DERIVATION_PATH="m/0'/0'/1'") as mint:
        assert wallet.rotate() == 100 - price
        wallet.mint(20)
        again = open_wallet("specie", mint, wallet.words)
        assert again.keyset != wallet.keyset
        assert again.restore() == wallet.balance == 120 - price
        assert open_wallet("cashu-ts", mint).receive(again.send(30, include_fees=True)) == 30
