"""Invariants of NUT-28 over generated keys, slots and locks: what a sender blinds its holder opens, and nobody else."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from specie.ecash import p2pk_secret, parse_secret
from specie.ecash.conditions import open_pathways
from specie.ecash.p2bk import SLOTS, blind_key, blind_keys, first_slots, shared_x, unblinded_secret
from specie.ecash.proof import Proof
from specie.ecash.token import Token, decode_token, encode_token
from specie.ecash.transaction import SwapRequest
from specie.ecash.wire import proofs_from_json, proofs_to_json, swap_request_to_json
from specie.kernel import curve
from tests.support.coins import make_coin

scalars = st.integers(1, curve.ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
many = settings(max_examples=100, deadline=None)


@many
@given(secret=scalars, ephemeral=scalars, slot=st.integers(0, SLOTS - 1), flipped=st.booleans())
def test_the_holder_signs_for_the_blinded_key(secret: bytes, ephemeral: bytes, slot: int, flipped: bool) -> None:
    """In every slot and for both parities k*G is the blinded key exactly, so its signatures are valid."""
    named = curve.negate(curve.public_key(secret)) if flipped else curve.public_key(secret)
    blinded = blind_key(named, ephemeral, slot)
    k = unblinded_secret(blinded, secret, shared_x(curve.public_key(ephemeral), secret), slot)
    assert k is not None
    assert curve.public_key(k) == blinded
    assert blinded not in (named, curve.negate(named))
    assert curve.schnorr_verify(curve.schnorr_sign(bytes(32), k, bytes(32)), bytes(32), blinded)


@many
@given(holder=scalars, other=scalars, ephemeral=scalars, slot=st.integers(0, SLOTS - 1))
def test_nobody_else_does(holder: bytes, other: bytes, ephemeral: bytes, slot: int) -> None:
    """A key that is not the holder's is never taken for his."""
    blinded = blind_key(curve.public_key(holder), ephemeral, slot)
    k = unblinded_secret(blinded, other, shared_x(curve.public_key(ephemeral), other), slot)
    same = curve.public_key(holder)[1:] == curve.public_key(other)[1:]
    assert (k is not None) == same


@many
@given(people=st.lists(scalars, min_size=1, max_size=6, unique=True), ephemeral=scalars, refunds=st.integers(0, 5))
def test_every_slot_of_a_lock_is_found_by_its_holder(people: list[bytes], ephemeral: bytes, refunds: int) -> None:
    """Keys and refund keys of one lock, the same people in both: each finds himself in each of his slots."""
    main, back = people, people[:refunds]
    keys = [curve.lift_x(curve.x_only(curve.public_key(one))) for one in (*main, *back)]
    hidden = [key.hex() for key in blind_keys(keys, ephemeral, 0)]
    text = p2pk_secret(hidden[0], nonce=bytes(32), pubkeys=hidden[1 : len(main)], locktime=1, refund=hidden[len(main) :])
    condition = parse_secret(text)
    assert condition is not None
    e_public = curve.public_key(ephemeral)
    for pathway, first, holders in zip(open_pathways(condition, 2), first_slots(condition), (main, back), strict=True):
        for place, (key, holder) in enumerate(zip(pathway.keys, holders, strict=True)):
            assert unblinded_secret(key, holder, shared_x(e_public, holder), first + place) is not None


@many
@given(ephemeral=st.none() | scalars.map(curve.public_key), version=st.sampled_from([3, 4]))
def test_the_ephemeral_key_goes_with_the_coin_and_never_to_a_mint(ephemeral: bytes | None, version: int) -> None:
    """Both token versions and the wallets' JSON keep it; a request of a mint does not have it."""
    from msgspec.structs import replace

    coin: Proof = replace(make_coin("secret"), p2pk_e=ephemeral)
    (read,) = decode_token(encode_token(Token("http://mint.test", "sat", (coin,)), version, short_ids=False)).proofs
    assert read.p2pk_e == ephemeral
    assert proofs_from_json(proofs_to_json([coin]))[0].p2pk_e == ephemeral
    sent = swap_request_to_json(SwapRequest((coin,), ()))
    assert b"p2pk_e" not in sent
    assert ephemeral is None or ephemeral.hex().encode() not in sent
