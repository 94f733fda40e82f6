"""Tokens locked to blinded keys (NUT-28) cross between our wallet and peers', at our mint, in both directions."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import Any

import pytest

from specie.ecash.token import decode_token
from tests.interop.matrix import OpenWallet
from tests.interop.peers import MintProcess, PeerError

pytestmark = [pytest.mark.interop, pytest.mark.network]


def _both_ways(*peers: str) -> Any:
    pairs = [pair for peer in peers for pair in (("specie", peer), (peer, "specie"))]
    return pytest.mark.parametrize(("sender", "receiver"), pairs, ids=["-".join(pair) for pair in pairs])


BOTH_WAYS = _both_ways("cashu-ts", "nutshell")
BOTH_WAYS_WITH_A_HASH = _both_ways("cashu-ts")  # Nutshell blinds no key of an HTLC


def _fresh(sender: str, receiver: str, mint: MintProcess, open_wallet: OpenWallet) -> tuple[Any, Any]:
    """Two new wallets, the sender's with money: what one test sends is no matter of the next."""
    giver, taker = open_wallet(sender, mint), open_wallet(receiver, mint)
    giver.mint(100)
    return giver, taker


def _hidden(token: str, key: str) -> None:
    """Every coin carries an ephemeral key, and none shows the receiver's."""
    for coin in decode_token(token).proofs:
        assert coin.p2pk_e is not None
        assert key[2:] not in coin.secret


@BOTH_WAYS
@pytest.mark.parametrize("sig_all", [False, True], ids=["SIG_INPUTS", "SIG_ALL"])
def test_a_blinded_token_crosses(
    sender: str, receiver: str, sig_all: bool, specie_mint: MintProcess, open_wallet: OpenWallet
) -> None:
    """The receiver finds his key in the lock and opens it; a thief does not; the receiver's key is nowhere in the token."""
    giver, taker = _fresh(sender, receiver, specie_mint, open_wallet)
    token = giver.send(21, lock={"pubkeys": [taker.pubkey], "sig_all": sig_all, "blinded": True})
    _hidden(token, taker.pubkey)
    with pytest.raises(PeerError):
        open_wallet("cashu-ts", specie_mint).receive(token)
    assert set(giver.states(token)) == {"UNSPENT"}
    assert taker.receive(token) in (20, 21)


@BOTH_WAYS
def test_two_blinded_keys_of_one_wallet(sender: str, receiver: str, specie_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """Two of two signatures, each by the key of its own slot."""
    giver, taker = _fresh(sender, receiver, specie_mint, open_wallet)
    token = giver.send(8, lock={"pubkeys": taker.lock_keys(2), "n_sigs": 2, "blinded": True})
    assert taker.receive(token) in (7, 8)


@BOTH_WAYS
def test_a_blinded_refund_key(sender: str, receiver: str, specie_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """After the locktime the refund key, in the slot behind the others, opens a lock that was made for somebody else."""
    giver, taker = _fresh(sender, receiver, specie_mint, open_wallet)
    lock = {"pubkeys": [giver.pubkey], "locktime": int(time.time()) - 10, "refund": [taker.pubkey], "blinded": True}
    assert taker.receive(giver.send(8, lock=lock)) in (7, 8)


@BOTH_WAYS_WITH_A_HASH
def test_a_blinded_key_beside_a_hash(sender: str, receiver: str, specie_mint: MintProcess, open_wallet: OpenWallet) -> None:
    """The hash of an HTLC is slot 0 and not blinded, its key is slot 1."""
    giver, taker = _fresh(sender, receiver, specie_mint, open_wallet)
    preimage = secrets.token_bytes(32)
    digest = hashlib.sha256(preimage).hexdigest()
    token = giver.send(8, lock={"hashlock": digest, "pubkeys": [taker.pubkey], "blinded": True})
    _hidden(token, taker.pubkey)
    assert all(digest in coin.secret for coin in decode_token(token).proofs)
    assert taker.receive(token, preimage=preimage.hex()) in (7, 8)
