"""Invariants of `ecash` over generated values: what must hold for every coin, amount, keyset, lock and token."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from specie.ecash import bdhke, dleq, wire
from specie.ecash.blank import blank_count, change_amounts
from specie.ecash.codes import ConditionUnmetError, ProofInvalidError, QuoteSignatureInvalidError
from specie.ecash.conditions import (
    SigFlag,
    add_signatures,
    p2pk_secret,
    parse_secret,
    sig_all_digest,
    sig_inputs_digest,
    verify_spend,
)
from specie.ecash.derivation import derive
from specie.ecash.keyset import derive_keyset_id, fee_for, resolve_keyset_id, short_keyset_id
from specie.ecash.mint_url import mint_url_checked
from specie.ecash.proof import BlindedMessage, BlindSignature, Dleq, Proof, ProofDleq, sum_amounts
from specie.ecash.quote import quote_signature_digest, quote_signature_message, verify_quote_signature
from specie.ecash.token import Token, decode_token, decode_token_raw, encode_token, encode_token_raw, resolve_token
from specie.ecash.transaction import SwapRequest, blinded_message, unblind_signature
from specie.kernel import curve
from specie.kernel.errors import MalformedError
from specie.kernel.money import MAX_AMOUNT, split_amount
from tests.support.coins import is_good, make_keyset, public_key, secret_key, sign_output, signature

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
many = settings(max_examples=150, deadline=None)

KEYSET = make_keyset(amounts=3)
POWERS = list(KEYSET.keys)
ALL_POWERS = [2**exponent for exponent in range(64)]

texts = st.text(st.characters(codec="utf-8"), max_size=80)
scalars = st.integers(1, curve.ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
amounts = st.one_of(st.integers(0, 10), st.integers(0, MAX_AMOUNT), st.just(MAX_AMOUNT), st.just(2**63))
points = st.integers(0, 200).map(public_key)
bytes32 = st.binary(min_size=32, max_size=32)
versions = st.sampled_from(["00", "01"])
ids = versions.flatmap(
    lambda version: (
        st.binary(min_size=7, max_size=7).map(lambda data: version + data.hex())
        if version == "00"
        else bytes32.map(lambda data: version + data.hex())
    )
)
dleqs = st.builds(ProofDleq, e=bytes32, s=bytes32, r=bytes32)
proofs = st.builds(
    Proof,
    amount=amounts,
    id=ids,
    secret=texts,
    C=points,
    witness=st.none() | texts,
    dleq=st.none() | dleqs,
    p2pk_e=st.none() | points,
)
outputs = st.builds(BlindedMessage, amount=amounts, id=ids, B_=points)


# Blinding


@few
@given(secret=texts, r=scalars, amount=st.sampled_from(POWERS))
def test_every_blinded_coin_is_good_and_proves_itself(secret: str, r: bytes, amount: int) -> None:
    """For any secret text and any scalar: unblinding gives C = kY, and the DLEQ holds on both sides."""
    output = blinded_message(amount, KEYSET.id, secret, r)
    coin = unblind_signature(output, sign_output(output), secret=secret, r=r, key=KEYSET.keys[amount], require_dleq=True)
    assert is_good(coin)
    dleq.verify_proof_dleq(coin, KEYSET.keys[amount])


@few
@given(
    secrets=st.lists(texts, min_size=2, max_size=3, unique=True), factors=st.lists(scalars, min_size=3, max_size=3, unique=True)
)
def test_every_signature_fits_every_coin(secrets: list[str], factors: list[bytes]) -> None:
    """Unlinkability: whatever (B_, C_) the mint saw explains any coin (Y, C) of that key by some blinding factor.

    C_ - C = k(B_ - Y) holds for all pairs, not only for the true ones, so the transcript tells them apart by nothing.
    """
    k = secret_key("mint 1")
    seen = [bdhke.blind(secret, r) for secret, r in zip(secrets, factors, strict=False)]
    assert len(set(seen)) == len(seen)
    for b_ in seen:
        c_ = curve.multiply_secret(b_, k)
        for secret in secrets:
            y = bdhke.hash_to_curve(secret.encode())
            c = curve.multiply_secret(y, k)
            assert curve.subtract(c_, c) == curve.multiply_secret(curve.subtract(b_, y), k)


@few
@given(secret=texts, other=texts, r=scalars)
def test_blinding_hides_and_binds(secret: str, other: str, r: bytes) -> None:
    """Another secret under one factor gives another B_; another factor for one secret too; the same gives the same."""
    assume(secret != other)
    b_ = bdhke.blind(secret, r)
    assert b_ == bdhke.blind(secret, r) != bdhke.blind(other, r)
    negated = curve.scalar_negate(r)
    assert negated == r or bdhke.blind(secret, negated) != b_


@few
@given(secret=texts, r=scalars, position=st.integers(0, 95), bit=st.integers(0, 7))
def test_any_flipped_bit_breaks_a_dleq(secret: str, r: bytes, position: int, bit: int) -> None:
    """No part of (e, s, r) is malleable."""
    output = blinded_message(1, KEYSET.id, secret, r)
    coin = unblind_signature(output, sign_output(output), secret=secret, r=r, key=KEYSET.keys[1])
    assert coin.dleq is not None
    raw = bytearray(coin.dleq.e + coin.dleq.s + coin.dleq.r)
    raw[position] ^= 1 << bit
    changed = ProofDleq(bytes(raw[:32]), bytes(raw[32:64]), bytes(raw[64:]))
    with pytest.raises(ProofInvalidError):
        dleq.verify_proof_dleq(msgspec.structs.replace(coin, dleq=changed), KEYSET.keys[1])


@few
@given(k=scalars, b=st.integers(0, 50))
def test_dleq_fails_for_a_signature_of_another_key(k: bytes, b: int) -> None:
    """A mint cannot tag a wallet by signing with a key of its own."""
    b_ = public_key(b)
    c_ = curve.multiply_secret(b_, k)
    proof = dleq.prove(k, curve.public_key(k), b_, c_)
    dleq.verify_dleq(b_, c_, proof, curve.public_key(k))
    with pytest.raises(ProofInvalidError):
        dleq.verify_dleq(b_, c_, proof, KEYSET.keys[1])


# Money


@many
@given(ppks=st.lists(st.integers(0, 5000), max_size=50), more=st.integers(0, 5000))
def test_fees_are_monotonic_and_least(ppks: list[int], more: int) -> None:
    """One more input never costs less, joining two transactions never costs more, and no order matters."""
    fee = fee_for(ppks)
    assert fee <= fee_for([*ppks, more]) <= fee + fee_for([more])
    assert fee == fee_for(sorted(ppks))
    assert 1000 * (fee - 1) < sum(ppks) <= 1000 * fee


@many
@given(overpaid=amounts, count=st.integers(0, 70))
def test_change_never_creates_money(overpaid: int, count: int) -> None:
    """At most `count` coins, at most `overpaid`, largest coins first; all of it where the outputs suffice."""
    parts = change_amounts(overpaid, count, ALL_POWERS)
    assert len(parts) <= count
    assert sum(parts) <= overpaid
    assert parts == sorted(parts)
    if count >= overpaid.bit_count():
        assert sum(parts) == overpaid
        assert parts == split_amount(overpaid, ALL_POWERS)


@many
@given(reserve=amounts, data=st.data())
def test_blank_outputs_suffice_for_any_change(reserve: int, data: st.DataObject) -> None:
    """Whatever part of the reserve comes back, it fits the blank outputs that a wallet sends, save the whole reserve."""
    overpaid = data.draw(st.integers(0, max(reserve - 1, 0)))
    assert sum(change_amounts(overpaid, blank_count(reserve), ALL_POWERS)) == overpaid


# Keysets


@few
@given(
    keys=st.dictionaries(st.integers(1, MAX_AMOUNT), points, min_size=1, max_size=5),
    fee=st.integers(0, 1000),
    expiry=st.none() | st.integers(1, 2**40),
)
def test_keyset_ids_bind_fee_expiry_and_unit(keys: dict[int, bytes], fee: int, expiry: int | None) -> None:
    """Version 01: any change gives another id; order of keys and case of the unit do not. Short ids are its beginning."""
    identifier = derive_keyset_id(1, unit="sat", keys=keys, input_fee_ppk=fee, final_expiry=expiry)
    shuffled = dict(sorted(keys.items(), reverse=True))
    assert identifier == derive_keyset_id(1, unit="SAT", keys=shuffled, input_fee_ppk=fee, final_expiry=expiry)
    others = {
        derive_keyset_id(1, unit="sat", keys=keys, input_fee_ppk=fee + 1, final_expiry=expiry),
        derive_keyset_id(1, unit="sat", keys=keys, input_fee_ppk=fee, final_expiry=(expiry or 0) + 1),
        derive_keyset_id(1, unit="usd", keys=keys, input_fee_ppk=fee, final_expiry=expiry),
        derive_keyset_id(0, unit="sat", keys=keys),
    }
    assert identifier not in others
    assert len(others) == 4
    assert resolve_keyset_id(short_keyset_id(identifier), [identifier, *others]) == identifier


@few
@given(
    seed=st.binary(min_size=64, max_size=64),
    identifier=ids,
    counters=st.lists(st.integers(0, 2**31 - 1), min_size=2, max_size=4, unique=True),
)
def test_derived_secrets_never_repeat(seed: bytes, identifier: str, counters: list[int]) -> None:
    """Restore depends on it: one counter, always the same secret and factor; two counters, never."""
    found = [derive(seed, identifier, counter) for counter in counters]
    assert found == [derive(seed, identifier, counter) for counter in counters]
    assert len({secret for secret, _ in found}) == len({r for _, r in found}) == len(counters)
    assert all(curve.is_scalar(r) and len(secret) == 64 for secret, r in found)


# Codecs


@few
@given(coins=st.lists(proofs, min_size=1, max_size=4, unique_by=lambda proof: proof.secret), memo=st.none() | texts)
def test_tokens_carry_everything(coins: list[Proof], memo: str | None) -> None:
    """V3, V4 and raw, with full ids: what is read is what was written, coin by coin."""
    token = Token("https://mint.example", "sat", tuple(coins), memo)
    by_secret = {proof.secret: proof for proof in coins}
    for draft in (
        decode_token(encode_token(token, 3)),
        decode_token(encode_token(token, 4, short_ids=False)),
        decode_token_raw(encode_token_raw(token, short_ids=False)),
    ):
        assert {proof.secret: proof for proof in draft.proofs} == by_secret
        assert (draft.mint, draft.unit, draft.memo) == (token.mint, "sat", memo)
        assert draft.amount == sum_amounts(coins)


@few
@given(coins=st.lists(proofs, min_size=1, max_size=4, unique_by=(lambda proof: proof.secret, lambda proof: proof.id)))
def test_short_ids_come_back_whole(coins: list[Proof]) -> None:
    """Writing short and resolving with the mint's keysets loses nothing."""
    assume(len({proof.id[:16] for proof in coins}) == len(coins))
    token = Token("https://mint.example", "sat", tuple(coins))
    known = [msgspec.structs.replace(KEYSET.info, id=proof.id) for proof in coins]
    assert resolve_token(decode_token(encode_token(token)), known) == token


@few
@given(inputs=st.lists(proofs, max_size=3), blanks=st.lists(outputs, max_size=3))
def test_requests_are_read_as_written_without_what_is_private(inputs: list[Proof], blanks: list[BlindedMessage]) -> None:
    """A swap crosses the wire exactly, less DLEQ and ephemeral keys."""
    request = SwapRequest(tuple(inputs), tuple(blanks))
    public = tuple(msgspec.structs.replace(proof, dleq=None, p2pk_e=None) for proof in inputs)
    assert wire.swap_request_from_json(wire.swap_request_to_json(request)) == SwapRequest(public, tuple(blanks))


@few
@given(
    items=st.lists(
        st.builds(BlindSignature, amount=amounts, id=ids, C_=points, dleq=st.none() | st.builds(Dleq, e=bytes32, s=bytes32)),
        max_size=4,
    )
)
def test_signatures_are_read_as_written(items: list[BlindSignature]) -> None:
    """Amounts to 2^64-1, with and without DLEQ."""
    assert wire.signatures_from_json(wire.signatures_to_json(items)) == tuple(items)


@many
@given(
    host=st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9.-]{0,20}", fullmatch=True),
    path=st.from_regex(r"(/[a-zA-Z0-9._~-]{0,8}){0,3}", fullmatch=True),
)
def test_mint_urls_settle(host: str, path: str) -> None:
    """The normal form of a normal form is itself, and slashes at the end never matter."""
    normal = mint_url_checked(f"https://{host}{path}")
    assert mint_url_checked(normal) == normal == mint_url_checked(f"HTTPS://{host}{path}///")


# Locks and signatures

signers = st.lists(st.integers(0, 5), min_size=1, max_size=5, unique=True)


@few
@given(
    holders=signers,
    who=st.lists(st.integers(0, 5), max_size=6),
    need=st.integers(1, 5),
    order=st.randoms(use_true_random=False),
)
def test_a_threshold_counts_holders(holders: list[int], who: list[int], need: int, order: Any) -> None:
    """n of m opens exactly when n different holders signed, in any order and however often each."""
    assume(need <= len(holders))
    keys = [public_key(holder).hex() for holder in holders]
    coin = Proof(1, KEYSET.id, p2pk_secret(keys[0], nonce=b"n" * 32, pubkeys=keys[1:], n_sigs=need), public_key("c"))
    digest = sig_inputs_digest(coin)
    made = [signature(digest, name, aux=bytes([n]) * 32) for n, name in enumerate(who)]
    order.shuffle(made)
    enough = len(set(who) & set(holders)) >= need
    try:
        verify_spend([add_signatures(coin, made)], (), None, 0)
    except ConditionUnmetError:
        assert not enough
    else:
        assert enough


@few
@given(now=st.integers(0, 2**40), locktime=st.integers(0, 2**40), name=st.sampled_from(["owner", "heir", "thief"]))
def test_time_only_ever_adds_a_way(now: int, locktime: int, name: str) -> None:
    """The owner may always spend, the heir after the locktime, a thief never."""
    text = p2pk_secret(public_key("owner").hex(), nonce=b"n" * 32, locktime=locktime, refund=[public_key("heir").hex()])
    coin = Proof(1, KEYSET.id, text, public_key("c"))
    coin = add_signatures(coin, [signature(sig_inputs_digest(coin), name)])
    allowed = name == "owner" or (name == "heir" and now > locktime)
    try:
        verify_spend([coin], (), None, now)
    except ConditionUnmetError:
        assert not allowed
    else:
        assert allowed


@few
@given(blanks=st.lists(outputs, min_size=1, max_size=4), drop=st.integers(0, 3), quote_id=st.none() | st.just("q"))
def test_sig_all_lets_no_output_be_changed(blanks: list[BlindedMessage], drop: int, quote_id: str | None) -> None:
    """Left out, repeated or replaced: the signature no longer holds."""
    text = p2pk_secret(public_key("owner").hex(), nonce=b"n" * 32, sigflag=SigFlag.SIG_ALL)
    coin = Proof(1, KEYSET.id, text, public_key("c"))
    coin = add_signatures(coin, [signature(sig_all_digest([coin], blanks, quote_id), "owner")])
    verify_spend([coin], blanks, quote_id, 0)
    place = drop % len(blanks)
    mine = msgspec.structs.replace(blanks[place], B_=public_key("mine"))
    for changed in (
        [*blanks[:place], *blanks[place + 1 :]],
        [*blanks, blanks[place]],
        [*blanks[:place], mine, *blanks[place + 1 :]],
    ):
        with pytest.raises(ConditionUnmetError):
            verify_spend([coin], changed, quote_id, 0)


@many
@given(
    data=st.recursive(
        st.none() | st.booleans() | st.integers() | texts,
        lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
        max_leaves=10,
    )
)
def test_a_locked_kind_never_becomes_ordinary(data: Any) -> None:
    """Whatever stands behind "P2PK" or "HTLC": it is a condition or refused, never spendable by anyone."""
    for kind in ("P2PK", "HTLC"):
        for text in (json.dumps([kind, data]), json.dumps([kind, data])[:-1], json.dumps([kind, data, data])):
            try:
                condition = parse_secret(text)
            except MalformedError:
                continue
            assert condition is not None
            with pytest.raises(ConditionUnmetError):
                verify_spend([Proof(1, KEYSET.id, text, public_key("c"))], (), None, 0)


@few
@given(quote_id=texts, first=st.lists(outputs, max_size=3), second=st.lists(outputs, max_size=3), other=texts)
def test_quote_signature_messages_never_collide(
    quote_id: str, first: list[BlindedMessage], second: list[BlindedMessage], other: str
) -> None:
    """Version 1 frames its fields: two requests with one message have the same quote, amounts and B_s."""
    same = quote_id == other and [(item.amount, item.B_) for item in first] == [(item.amount, item.B_) for item in second]
    assert (quote_signature_message(quote_id, first) == quote_signature_message(other, second)) is same


@few
@given(blanks=st.lists(outputs, max_size=3), flip=st.integers(0, 511))
def test_a_quote_stays_locked_for_any_other_signature(blanks: list[BlindedMessage], flip: int) -> None:
    """One flipped bit and it does not unlock."""
    raw = bytearray(signature(quote_signature_digest("q", blanks), "lock"))
    verify_quote_signature(public_key("lock").hex(), raw.hex(), "q", blanks)
    raw[flip // 8] ^= 1 << flip % 8
    with pytest.raises(QuoteSignatureInvalidError):
        verify_quote_signature(public_key("lock").hex(), raw.hex(), "q", blanks)
