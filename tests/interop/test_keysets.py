"""Keysets as peers' wallets meet them at our mint: one that is replaced under their coins, and a second unit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.interop.matrix import EVERY_PEER, OpenWallet
from tests.interop.peers import Driver, MintProcess, PeerWallet, fresh_words, our_environment

pytestmark = [pytest.mark.interop, pytest.mark.network]


def _operator(mint: MintProcess, *words: str) -> dict[str, object]:
    command = [sys.executable, "-m", "specie", "mint", *words, "--data", str(mint.data / "data"), "--json"]
    done = subprocess.run(command, env=our_environment(mint.data), cwd=mint.data, capture_output=True, timeout=60, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@EVERY_PEER
def test_coins_of_a_replaced_keyset_stay_good(kind: str, rotated_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """After a rotation a wallet spends its old coins into new ones, sends them, and restores both from its words."""
    wallet = open_wallet(kind, rotated_mint)
    wallet.mint(100)
    _operator(rotated_mint, "keysets", "rotate", "--fee", "200")
    again = open_wallet(kind, rotated_mint, wallet.words)
    assert again.keyset != wallet.keyset
    assert again.restore() == 100
    again.mint(20)
    again.swap()
    taker = open_wallet("cashu-ts", rotated_mint)
    assert taker.receive(again.send(30, include_fees=True)) == 30
    assert taker.keyset == again.keyset


@pytest.mark.parametrize("kind", ["cashu_ts", "nutshell"])
def test_millisatoshi_are_a_unit_of_their_own(kind: str, request: pytest.FixtureRequest, two_unit_mint: MintProcess) -> None:
    """A wallet of the unit msat mints and swaps where sat is issued beside it."""
    driver: Driver = request.getfixturevalue(kind)
    wallet = PeerWallet(driver, two_unit_mint.url, fresh_words(), unit="msat")
    assert wallet.mint(123_456) == 123_456
    assert wallet.swap() >= 0
    assert PeerWallet(driver, two_unit_mint.url, wallet.words, unit="msat").restore() == wallet.balance
