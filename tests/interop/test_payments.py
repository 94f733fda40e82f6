"""Payments beyond the plain one, by peers' wallets at our mint: locked coins, no amount, no waiting, units, the other mint."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.matrix import EVERY_PEER_AT_OUR_MINT, EVERY_WALLET_AT_EVERY_MINT, OpenWallet
from tests.interop.peers import Driver, MintProcess, PeerError

pytestmark = [pytest.mark.interop, pytest.mark.network]


@EVERY_PEER_AT_OUR_MINT
@pytest.mark.parametrize("sig_all", [False, True], ids=["SIG_INPUTS", "SIG_ALL"])
def test_locked_coins_pay_an_invoice(
    kind: str, sig_all: bool, mint: MintProcess, open_wallet: OpenWallet, stranger_invoice: Callable[[int], str]
) -> None:
    """A signature over a melt, its blank outputs and its quote opens the lock where it is paid out, without a swap between."""
    giver, taker = open_wallet("cashu-ts", mint), open_wallet(kind, mint)
    giver.mint(100)
    token = giver.send(50, lock={"pubkeys": [taker.pubkey], "sig_all": sig_all})
    invoice = stranger_invoice(20)
    with pytest.raises(PeerError):
        open_wallet("cashu-ts", mint).melt(invoice, token=token)
    paid = taker.melt(invoice, token=token)
    assert paid["state"] == "PAID"
    assert set(giver.states(token)) == {"SPENT"}


@EVERY_PEER_AT_OUR_MINT
def test_a_payment_may_be_left_to_the_mint(
    kind: str, mint: MintProcess, open_wallet: OpenWallet, stranger_invoice: Callable[[int], str]
) -> None:
    """A wallet that does not want to wait for the payment learns its end afterwards."""
    wallet = open_wallet(kind, mint)
    wallet.mint(100)
    paid = wallet.melt(stranger_invoice(20), prefer_async=True)
    assert paid["first_state"] in ("PENDING", "PAID")
    assert paid["state"] == "PAID"
    assert len(paid["preimage"]) == 64


def test_an_invoice_without_an_amount_is_paid(specie_mint: MintProcess, open_wallet: OpenWallet, nutshell: Driver) -> None:
    """The payer names the amount in millisatoshi (NUT-23 `amountless`)."""
    wallet = open_wallet("cashu-ts", specie_mint)
    wallet.mint(100)
    request = nutshell.call("invoice", amount_msat=None, currency="bcrt")["request"]
    paid = wallet.melt(request, amount_msat=21_000)
    assert (paid["state"], paid["amount"]) == ("PAID", 21)


@EVERY_WALLET_AT_EVERY_MINT
def test_an_invoice_is_paid_once(
    kind: str, mint: MintProcess, open_wallet: OpenWallet, stranger_invoice: Callable[[int], str]
) -> None:
    """A second melt of the same invoice is refused and costs nothing."""
    wallet = open_wallet(kind, mint)
    wallet.mint(100)
    invoice = stranger_invoice(10)
    wallet.melt(invoice)
    left = wallet.balance
    with pytest.raises(PeerError):
        wallet.melt(invoice)
    assert wallet.balance == left
    assert set(wallet.states()) == {"UNSPENT"}


@EVERY_PEER_AT_OUR_MINT
def test_an_invoice_of_another_network_is_refused(
    kind: str, mint: MintProcess, open_wallet: OpenWallet, nutshell: Driver
) -> None:
    """Play money pays no invoice that asks for bitcoin; the wallet is told and keeps its coins."""
    wallet = open_wallet(kind, mint)
    wallet.mint(100)
    with pytest.raises(PeerError):
        wallet.melt(nutshell.call("invoice", amount_msat=10_000, currency="bc")["request"])
    assert wallet.balance == 100


@EVERY_PEER_AT_OUR_MINT
def test_spent_coins_are_told_to_a_subscriber(kind: str, mint: MintProcess, open_wallet: OpenWallet) -> None:
    """A sender who watches its token hears that every coin of it was redeemed (NUT-17 `proof_state`)."""
    giver, taker = open_wallet(kind, mint), open_wallet("cashu-ts", mint)
    giver.mint(100)
    token = giver.send(21)
    giver.watch(token)
    taker.receive(token)
    assert giver.watched() == len(giver.states(token))
