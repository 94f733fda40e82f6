"""Tokens cross between wallets in every direction, at every mint: plain, old, locked in every way of NUT-11 and NUT-14."""

from __future__ import annotations

import hashlib
import secrets
import time
import urllib.request

import pytest
from coincurve import PrivateKey

from specie.ecash import fee_for, wire
from specie.ecash.token import decode_token, resolve_token
from tests.interop.matrix import EVERY_PAIR_AT_EVERY_MINT, EVERY_PAIR_AT_OLD_IDS, FundedPair, OpenWallet
from tests.interop.peers import MintProcess, PeerError

pytestmark = [pytest.mark.interop, pytest.mark.network]


def worth_of(token: str, mint: MintProcess) -> int:
    """What a token's coins bring after the input fee of the mint's keysets (NUT-02)."""
    with urllib.request.urlopen(f"{mint.url}/v1/keysets", timeout=10) as answer:
        keysets = wire.keysets_from_json(answer.read())
    fees = {keyset.id: keyset.input_fee_ppk for keyset in keysets}
    coins = resolve_token(decode_token(token), keysets).proofs
    return sum(coin.amount for coin in coins) - fee_for(fees[coin.id] for coin in coins)


@EVERY_PAIR_AT_EVERY_MINT
@pytest.mark.parametrize("legacy", [False, True], ids=["V4", "V3"])
def test_a_token_crosses(sender: str, receiver: str, legacy: bool, mint: MintProcess, funded_pair: FundedPair) -> None:
    """The receiver reads the sender's token, verifies its DLEQs and gets what it is worth after the mint's fee, to the unit.

    That is the amount asked for, where the sender adds the fee well; Nutshell's wallet now and then adds one too little.
    """
    giver, taker = funded_pair(sender, receiver, mint)
    had = taker.balance
    token = giver.send(21, include_fees=True, legacy=legacy, memo="für dich, 21")
    assert token.startswith("cashuA" if legacy else "cashuB")
    assert set(taker.states(token)) == {"UNSPENT"}
    worth = worth_of(token, mint)
    assert worth == 21 or (sender == "nutshell" and worth == 20)
    assert taker.receive(token) == worth
    assert set(giver.states(token)) == {"SPENT"}
    assert taker.balance == had + worth


@EVERY_PAIR_AT_OLD_IDS
@pytest.mark.parametrize("legacy", [False, True], ids=["V4", "V3"])
def test_a_token_of_old_ids_crosses(
    sender: str, receiver: str, legacy: bool, mint: MintProcess, funded_pair: FundedPair
) -> None:
    """Where keyset ids have eight bytes and no fee is asked, the amount crosses whole."""
    giver, taker = funded_pair(sender, receiver, mint)
    had = giver.balance
    assert taker.receive(giver.send(21, legacy=legacy)) == 21
    assert giver.balance == had - 21


@EVERY_PAIR_AT_EVERY_MINT
@pytest.mark.parametrize("sig_all", [False, True], ids=["SIG_INPUTS", "SIG_ALL"])
def test_a_locked_token_crosses(
    sender: str, receiver: str, sig_all: bool, mint: MintProcess, funded_pair: FundedPair, open_wallet: OpenWallet
) -> None:
    """Coins locked to the receiver's key are refused to a thief and opened by the receiver (NUT-11)."""
    giver, taker = funded_pair(sender, receiver, mint)
    token = giver.send(16, lock={"pubkeys": [taker.pubkey], "sig_all": sig_all})
    thief = open_wallet("cashu-ts", mint)
    with pytest.raises(PeerError):
        thief.receive(token)
    assert set(giver.states(token)) == {"UNSPENT"}
    assert taker.receive(token) in (15, 16)


@EVERY_PAIR_AT_EVERY_MINT
def test_a_token_locked_to_two_keys_crosses(sender: str, receiver: str, mint: MintProcess, funded_pair: FundedPair) -> None:
    """Two of two signatures open the lock; one does not."""
    giver, taker = funded_pair(sender, receiver, mint)
    half_known = [*taker.lock_keys(1), PrivateKey().public_key.format().hex()]
    with pytest.raises(PeerError):
        taker.receive(giver.send(8, lock={"pubkeys": half_known, "n_sigs": 2}))
    assert taker.receive(giver.send(8, lock={"pubkeys": taker.lock_keys(2), "n_sigs": 2})) in (7, 8)


@EVERY_PAIR_AT_EVERY_MINT
def test_a_refund_is_taken_after_the_locktime(sender: str, receiver: str, mint: MintProcess, funded_pair: FundedPair) -> None:
    """After the locktime the refund key opens a lock made for somebody else."""
    giver, taker = funded_pair(sender, receiver, mint)
    lock = {
        "pubkeys": [PrivateKey().public_key.format().hex()],
        "locktime": int(time.time()) - 5,
        "refund": [taker.pubkey],
    }
    assert taker.receive(giver.send(8, lock=lock)) in (7, 8)


@EVERY_PAIR_AT_EVERY_MINT
def test_a_hash_locked_token_crosses(sender: str, receiver: str, mint: MintProcess, funded_pair: FundedPair) -> None:
    """A hash lock with the receiver's key opens with the preimage and a signature, not with a wrong preimage (NUT-14)."""
    giver, taker = funded_pair(sender, receiver, mint)
    preimage = secrets.token_bytes(32)
    lock = {
        "pubkeys": [taker.pubkey],
        "hashlock": hashlib.sha256(preimage).hexdigest(),
        "locktime": int(time.time()) + 3600,
        "refund": [giver.pubkey],
    }
    token = giver.send(8, lock=lock)
    with pytest.raises(PeerError):
        taker.receive(token, preimage=secrets.token_hex(32))
    assert taker.receive(token, preimage=preimage.hex()) in (7, 8)
