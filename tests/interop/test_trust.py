"""What a receiver can verify by itself: the mint's DLEQ on every coin (NUT-12)."""

from __future__ import annotations

import msgspec
import pytest

from specie.ecash import encode_token
from tests.interop.matrix import EVERY_WALLET_AT_EVERY_MINT, FundedPair
from tests.interop.ours import read_token
from tests.interop.peers import MintProcess, PeerError

pytestmark = [pytest.mark.interop, pytest.mark.network]


def _tampered(mint: MintProcess, text: str) -> str:
    """The token with a false DLEQ on its last coin."""
    token = read_token(mint.url, text)
    *honest, last = token.proofs
    assert last.dleq is not None
    false = msgspec.structs.replace(last, dleq=msgspec.structs.replace(last.dleq, s=(7).to_bytes(32, "big")))
    return encode_token(msgspec.structs.replace(token, proofs=(*honest, false)))


@EVERY_WALLET_AT_EVERY_MINT
def test_a_token_with_a_false_dleq_is_refused(kind: str, mint: MintProcess, funded_pair: FundedPair) -> None:
    """A coin whose DLEQ does not verify is not taken, though the mint would take it; the honest token still is."""
    giver, taker = funded_pair("cashu-ts", kind, mint)
    token = giver.send(9)
    with pytest.raises(PeerError):
        taker.receive(_tampered(mint, token))
    assert set(giver.states(token)) == {"UNSPENT"}
    assert taker.receive(token) in (8, 9)


@pytest.mark.parametrize("sender", ["cashu-ts", "nutshell"])
@pytest.mark.parametrize("mint", ["specie", "nutshell"], indirect=True)
def test_a_peers_token_is_taken_off_line(sender: str, mint: MintProcess, funded_pair: FundedPair) -> None:
    """Our wallet takes a peer's coins on their DLEQs alone, refuses false ones, and makes them its own later."""
    giver, taker = funded_pair(sender, "specie", mint)
    token, had = giver.send(9), taker.balance
    with pytest.raises(PeerError):
        taker.receive_offline(_tampered(mint, token))
    worth = sum(proof.amount for proof in read_token(mint.url, token).proofs)
    assert taker.receive_offline(token) == worth
    assert set(giver.states(token)) == {"UNSPENT"}
    secured = taker.secure()
    assert secured in (worth - 1, worth)
    assert set(giver.states(token)) == {"SPENT"}
    assert taker.balance == had + secured
