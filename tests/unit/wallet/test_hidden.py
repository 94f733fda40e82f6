"""What spends a coin is in no repr, so neither in logs nor in what a failed assertion or a traceback with locals shows."""

from __future__ import annotations

import cbor2
import msgspec
from msgspec.structs import replace

from specie.ecash import Token, encode_token_raw
from specie.ecash.conditions import htlc_secret, parse_secret, parse_witness, witness_text
from specie.ecash.token import _TokenV4
from specie.ecash.wire.auth import _AuthProofWire
from specie.ecash.wire.coins import inputs_to_wire, proof_to_wire
from specie.keys.ports import DerivedSecret
from specie.wallet.auth import BlindToken, BlindTokenState
from tests.support.coins import make_coin, make_keyset, public_key

KEYSET = make_keyset(amounts=4)


def test_no_form_of_a_coin_shows_what_spends_it() -> None:
    """Neither what is read of it on the way in or out, nor its parts: secret, nonce, blinding factor, preimage."""
    nonce, preimage = bytes(range(1, 33)), bytes(range(2, 34))
    text = htlc_secret("ab" * 32, nonce=nonce, pubkeys=[public_key("bob").hex()])
    coin = replace(make_coin(text, keyset=KEYSET), witness=witness_text([bytes(64)], preimage), p2pk_e=public_key("e"))
    assert coin.dleq is not None
    token = Token("http://mint.test", "sat", (coin,))
    v4 = msgspec.convert(cbor2.loads(encode_token_raw(token)[5:]), _TokenV4, builtin_types=(bytes,))
    forms: list[object] = [coin, coin.dleq, token, v4, proof_to_wire(coin), proof_to_wire(coin).dleq, *inputs_to_wire([coin])]
    forms += [parse_secret(text), parse_witness(coin.witness), DerivedSecret(7, text, coin.dleq.r)]
    forms += [BlindToken(text, "http://mint.test", KEYSET.id, coin.dleq.r, "batch", 0, None, BlindTokenState.ASKED, 0)]
    forms.append(_AuthProofWire(KEYSET.id, text, coin.C.hex()))
    for form in forms:
        for hidden in (nonce, preimage, coin.dleq.r):
            assert hidden.hex() not in repr(form)
            assert repr(hidden)[2:-1] not in repr(form)
