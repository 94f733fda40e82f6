"""Methods beyond BOLT 11, batches and parts: cashu-ts at our mints, Nutshell where its wallet or its mint speaks them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.matrix import EVERY_PEER, OpenWallet
from tests.interop.ours import OurWallet
from tests.interop.peers import MintProcess, PeerError, PeerWallet
from tests.support.methods import foreign_address, foreign_offer

pytestmark = [pytest.mark.interop, pytest.mark.network]

GIFT = 10_000
"""What the play rails send to a request that names no amount."""
TIMEOUT_MS = 15_000
METHODS = pytest.mark.parametrize("method", ["bolt11", "bolt12", "onchain"])


def _wallet(mint: MintProcess, open_wallet: OpenWallet, funds: int = 0) -> Callable[..., Any]:
    """Calls on a new wallet of cashu-ts that owns `funds`."""
    wallet = open_wallet("cashu-ts", mint)
    assert isinstance(wallet, PeerWallet)
    if funds:
        wallet.mint(funds)
    return wallet._call


def _quote(call: Callable[..., Any], method: str, amount: int) -> str:
    """A locked quote of a method with at least `amount` paid."""
    quote = str(call("method_quote", method=method, amount=amount if method == "bolt11" else None)["quote"])
    assert call("method_seen", quote=quote, at_least=amount, timeout_ms=TIMEOUT_MS)["issued"] == 0
    return quote


@pytest.mark.parametrize("method", ["bolt12", "onchain"])
def test_a_deposit_is_minted_in_parts(method: str, method_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """What came to an offer or an address is issued in parts, never more than came (NUT-25, NUT-30)."""
    call = _wallet(method_mint, open_wallet)
    quote = _quote(call, method, GIFT)
    assert call("mint_part", quote=quote, amount=3000)["amount"] == 3000
    assert call("method_seen", quote=quote, timeout_ms=0) == {"paid": GIFT, "issued": 3000}
    with pytest.raises(PeerError):
        call("mint_part", quote=quote, amount=GIFT - 3000 + 1)
    assert call("mint_part", quote=quote, amount=GIFT - 3000)["balance"] == GIFT
    assert call("method_seen", quote=quote, timeout_ms=0) == {"paid": GIFT, "issued": GIFT}


def test_an_offer_of_an_amount_is_minted(method_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """An offer that names its amount is paid that much (NUT-25)."""
    call = _wallet(method_mint, open_wallet)
    quote = call("method_quote", method="bolt12", amount=77)
    assert quote["request"].startswith("lno1")
    assert call("method_seen", quote=quote["quote"], at_least=77, timeout_ms=TIMEOUT_MS) == {"paid": 77, "issued": 0}
    assert call("mint_part", quote=quote["quote"], amount=77)["amount"] == 77


@pytest.mark.parametrize("named", [True, False], ids=["amount", "amountless"])
def test_an_offer_is_paid(named: bool, method_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """A stranger's offer, with its own amount or the payer's, and change of the reserve (NUT-25)."""
    call = _wallet(method_mint, open_wallet, 200)
    offer = foreign_offer(21_000, name=1) if named else foreign_offer(None, name=2)
    paid = call("method_melt", method="bolt12", request=offer, amount_msat=None if named else 21_000, timeout_ms=TIMEOUT_MS)
    assert paid["states"][-1] == "PAID"
    assert paid["amount"] == 21
    assert 200 - 21 - paid["reserve"] <= paid["balance"] <= 200 - 21


@pytest.mark.parametrize("choice", [0, -1], ids=["first", "last"])
def test_an_address_is_paid_at_a_chosen_fee(choice: int, method_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """The mint offers fees, the wallet chooses one, and learns the output that paid (NUT-30)."""
    call = _wallet(method_mint, open_wallet, 20_000)
    asked = {"method": "onchain", "request": foreign_address(40 + choice), "amount": 2000, "timeout_ms": TIMEOUT_MS}
    with pytest.raises(PeerError):
        call("method_melt", **asked, fee_index=9999)
    fee_index = range(3)[choice]
    paid = call("method_melt", **asked, fee_index=fee_index)
    assert paid["states"] == ["PENDING", "PAID"]
    assert [option[0] for option in paid["options"]] == [0, 1, 2]
    assert paid["selected"] == fee_index
    txid, _, vout = paid["outpoint"].partition(":")
    assert len(bytes.fromhex(txid)) == 32
    assert vout.isdecimal()
    assert 20_000 - 2000 - paid["reserve"] <= paid["balance"] < 20_000 - 2000


@METHODS
@pytest.mark.parametrize("signature", ["v1", "legacy"])
def test_quotes_are_minted_together(method: str, signature: str, method_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """Three locked quotes are looked at and issued in one request each (NUT-29), by either form of signature (NUT-20).

    The same request again has the same answer (NUT-19), and other outputs for the same money are refused.
    """
    call = _wallet(method_mint, open_wallet)
    quotes = [_quote(call, method, 100) for _ in range(3)]
    entries = [[quote, 100] for quote in quotes]
    assert call("mint_batch", method=method, entries=entries, signature=signature, twice=True)["amount"] == 300
    seen = call_batch(call, method, quotes)
    assert [one["quote"] for one in seen] == quotes
    assert {one["issued"] for one in seen} == {100}
    too_much = [[quote, GIFT] for quote in quotes]
    with pytest.raises(PeerError):
        call("mint_batch", method=method, entries=too_much)
    assert call_batch(call, method, quotes) == seen


def call_batch(call: Callable[..., Any], method: str, quotes: list[str]) -> list[dict[str, Any]]:
    """The states of several quotes by one request."""
    wallet: PeerWallet = call.__self__  # type: ignore[attr-defined]
    seen: list[dict[str, Any]] = wallet.driver.call("check_batch", wallet.handle, method=method, quotes=quotes)
    return seen


@METHODS
@pytest.mark.parametrize("signature", ["v1", "legacy"])
def test_a_quote_is_minted_by_either_signature(
    method: str, signature: str, method_mint: MintProcess, open_wallet: OpenWallet
) -> None:
    """Each form of the signature does alone (NUT-20), and a repeated request is answered as the first was (NUT-19)."""
    call = _wallet(method_mint, open_wallet)
    quote = _quote(call, method, 100)
    assert call("mint_part", quote=quote, amount=100, signature=signature, twice=True)["amount"] == 100


@pytest.mark.parametrize("method", ["bolt11", "bolt12", "onchain"])
def test_a_quote_of_any_method_is_told(method: str, method_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """A subscriber hears what is issued of a quote, by the kind of its method (NUT-17)."""
    call = _wallet(method_mint, open_wallet)
    quote = _quote(call, method, 100)
    call("hear", kind=f"{method}_mint_quote", name=quote)
    call("mint_part", quote=quote, amount=100)
    assert call("heard_until", field="amount_issued", value=100, timeout_ms=TIMEOUT_MS)["count"] >= 1


@EVERY_PEER
def test_an_invoice_is_paid_by_two_mints(
    kind: str,
    method_mints: tuple[MintProcess, MintProcess],
    open_wallet: OpenWallet,
    stranger_invoice: Callable[[int], str],
) -> None:
    """A peer's wallet has two mints of ours pay a part each, and both parts arrive or none (NUT-15)."""
    wallets = [open_wallet(kind, mint) for mint in method_mints]
    for wallet in wallets:
        wallet.mint(200)
    parts = [[wallet.handle, amount] for wallet, amount in zip(wallets, (40_000, 60_000), strict=True)]
    one, other = wallets[0].driver.call("pay_parts", request=stranger_invoice(100), parts=parts)
    assert (one["state"], other["state"]) == ("PAID", "PAID")
    assert (one["amount"], other["amount"]) == (40, 60)
    assert one["preimage"] == other["preimage"]
    for wallet, paid in zip(wallets, (one, other), strict=True):
        assert 190 - paid["amount"] <= paid["balance"] <= 200 - paid["amount"]
        assert set(wallet.states()) == {"UNSPENT"}


def test_our_wallet_mints_together_at_nutshell(nutshell_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """Three paid quotes become ecash in one operation (NUT-29), all of it found again by the words."""
    wallet = open_wallet("specie", nutshell_mint)
    assert isinstance(wallet, OurWallet)
    for amount in (8, 20, 37):
        wallet.wait_paid(wallet.mint_quote(amount)["quote"])
    assert wallet.claim_all() == 65
    assert wallet.minted() == [65]
    assert set(wallet.states()) == {"UNSPENT"}
    assert open_wallet("specie", nutshell_mint, wallet.words).restore() == 65
