"""The same words are the same money in every wallet (NUT-13): what one wallet minted, another restores."""

from __future__ import annotations

import pytest

from tests.interop.matrix import EVERY_TWO_AT_EVERY_MINT, EVERY_TWO_AT_OLD_IDS, OpenWallet
from tests.interop.peers import MintProcess

pytestmark = [pytest.mark.interop, pytest.mark.network]


@EVERY_TWO_AT_EVERY_MINT
def test_another_wallet_restores_the_words(sender: str, receiver: str, mint: MintProcess, open_wallet: OpenWallet) -> None:
    """Secrets and blinding factors are derived alike, so the receiver's wallet finds the sender's coins and can spend them."""
    _moves_by_its_words(sender, receiver, mint, open_wallet)


@EVERY_TWO_AT_OLD_IDS
def test_another_wallet_restores_the_words_under_old_ids(
    sender: str, receiver: str, mint: MintProcess, open_wallet: OpenWallet
) -> None:
    """The same, where keyset ids have eight bytes and secrets come from BIP32."""
    _moves_by_its_words(sender, receiver, mint, open_wallet)


def _moves_by_its_words(sender: str, receiver: str, mint: MintProcess, open_wallet: OpenWallet) -> None:
    minted = open_wallet(sender, mint)
    minted.mint(77)
    minted.swap()
    found = open_wallet(receiver, mint, minted.words)
    assert found.restore() == minted.balance
    found.swap()
    assert set(minted.states()) == {"SPENT"}
