"""Every wallet does everything a wallet does, at every mint: mint, swap, melt, subscribe, restore."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.interop.matrix import EVERY_WALLET_AT_EVERY_MINT, EVERY_WALLET_AT_EVERY_SLOW_MINT, OpenWallet
from tests.interop.peers import MintProcess, PeerError

pytestmark = [pytest.mark.interop, pytest.mark.network]

SPENT = 11001
PAID_OR_ISSUED = ("PAID", "ISSUED")


@EVERY_WALLET_AT_EVERY_MINT
def test_mints(kind: str, mint: MintProcess, open_wallet: OpenWallet) -> None:
    """A paid quote becomes as much ecash, every coin with a valid DLEQ and unspent."""
    wallet = open_wallet(kind, mint)
    assert wallet.mint(100) == 100
    assert wallet.balance == 100
    assert set(wallet.states()) == {"UNSPENT"}


@EVERY_WALLET_AT_EVERY_MINT
def test_mints_from_a_quote_locked_to_its_key(kind: str, mint: MintProcess, open_wallet: OpenWallet) -> None:
    """The mint accepts this wallet's signature on a quote with a public key (NUT-20)."""
    assert open_wallet(kind, mint).mint(65, locked=True) == 65


@EVERY_WALLET_AT_EVERY_MINT
def test_a_quote_is_minted_once(kind: str, mint: MintProcess, open_wallet: OpenWallet) -> None:
    """A second issue of the same quote, with new outputs, is refused and adds nothing."""
    wallet = open_wallet(kind, mint)
    quote = wallet.mint_quote(32)["quote"]
    wallet.wait_paid(quote)
    wallet.issue(quote)
    with pytest.raises(PeerError):
        wallet.issue(quote)
    assert wallet.balance == 32


@EVERY_WALLET_AT_EVERY_MINT
def test_swaps(kind: str, mint: MintProcess, open_wallet: OpenWallet) -> None:
    """All coins are renewed at the price the keyset announces, and wallet and mint agree on it."""
    wallet = open_wallet(kind, mint)
    wallet.mint(100)
    coins = len(wallet.states())
    assert wallet.swap() == -(-coins * wallet.fee_ppk // 1000)
    assert set(wallet.states()) == {"UNSPENT"}


@EVERY_WALLET_AT_EVERY_MINT
def test_melts_a_strangers_invoice(
    kind: str, mint: MintProcess, open_wallet: OpenWallet, stranger_invoice: Callable[[int], str]
) -> None:
    """An invoice from outside is paid; what the payment did not cost comes back as change (NUT-08)."""
    wallet = open_wallet(kind, mint)
    wallet.mint(200)
    paid = wallet.melt(stranger_invoice(33))
    assert paid["state"] == "PAID"
    assert paid["amount"] == 33
    assert len(paid["preimage"]) == 64
    assert 0 <= paid["change"] <= paid["fee_reserve"]
    fees = 200 - 33 - wallet.balance
    assert 0 <= fees <= paid["fee_reserve"] - paid["change"] + 2  # the rest: input fees of at most two requests
    assert set(wallet.states()) == {"UNSPENT"}


@EVERY_WALLET_AT_EVERY_SLOW_MINT
def test_pays_another_wallet_of_the_same_mint(kind: str, slow_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """The invoice of a mint quote, paid with ecash of the same mint, becomes ecash of the other wallet."""
    payer, payee = open_wallet(kind, slow_mint), open_wallet("cashu-ts", slow_mint)
    payer.mint(100)
    quote = payee.mint_quote(40)
    payer.melt(quote["request"])
    payee.wait_paid(quote["quote"])
    assert payee.issue(quote["quote"]) == 40


@EVERY_WALLET_AT_EVERY_SLOW_MINT
def test_hears_of_a_payment_by_subscription(kind: str, slow_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """A NUT-17 subscription to a mint quote tells that it is paid."""
    wallet = open_wallet(kind, slow_mint)
    quote = wallet.mint_quote(10)["quote"]
    assert wallet.wait_paid(quote, by_socket=True) in PAID_OR_ISSUED


@EVERY_WALLET_AT_EVERY_MINT
def test_restores_from_its_words(
    kind: str, mint: MintProcess, open_wallet: OpenWallet, stranger_invoice: Callable[[int], str]
) -> None:
    """A new device with the same words finds exactly what is left after minting, swapping, sending and melting."""
    wallet = open_wallet(kind, mint)
    wallet.mint(100)
    wallet.swap()
    other = open_wallet("cashu-ts", mint)
    other.receive(wallet.send(21))
    wallet.melt(stranger_invoice(9))
    again = open_wallet(kind, mint, wallet.words)
    assert again.balance == 0
    assert again.restore() == wallet.balance
    assert again.swap() <= 2  # what was found can be spent


@EVERY_WALLET_AT_EVERY_MINT
def test_a_token_is_received_once(kind: str, mint: MintProcess, open_wallet: OpenWallet) -> None:
    """The second receiver of a token is refused with the code for spent proofs."""
    sender, second = open_wallet("cashu-ts", mint), open_wallet(kind, mint)
    sender.mint(64)
    token = sender.send(16)
    open_wallet("cashu-ts", mint).receive(token)
    with pytest.raises(PeerError) as refused:
        second.receive(token)
    assert refused.value.code == SPENT
    assert second.balance == 0
