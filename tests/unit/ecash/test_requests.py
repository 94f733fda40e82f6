"""Payment requests: what each text takes and refuses, BIP 321, payloads, and the judgement of a payment."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import msgspec
import pytest

from specie.ecash import wire
from specie.ecash.codes import ConditionMalformedError
from specie.ecash.conditions import htlc_secret, p2pk_secret, parse_secret
from specie.ecash.keyset import fee_for
from specie.ecash.payload import PaymentPayload
from specie.ecash.requests import (
    LockOption,
    Mismatch,
    NostrProfile,
    PaymentMethod,
    PaymentMismatchError,
    PaymentRequest,
    Transport,
    decode_nostr_profile,
    decode_payment_request,
    encode_nostr_profile,
    encode_payment_request,
    lock_condition,
    locked_secret,
    payment_request_uri,
    same_lock,
    verify_payment,
)
from specie.kernel.encoding import base64url_encode, bech32_decode, bech32_encode, convert_bits
from specie.kernel.errors import MalformedError
from specie.kernel.limits import Limits
from tests.support.coins import make_coin, make_keyset, public_key

MINT = "https://mint.example.com"
KEYSET = make_keyset(amounts=8)
ALICE, BOB = public_key("alice").hex(), public_key("bob").hex()
NOW = 1_800_000_000
KEY = public_key("nostr")[1:]
FULL = PaymentRequest(
    id="id-1",
    amount=21,
    unit="sat",
    single_use=True,
    mints=(MINT, "https://other.example.com"),
    description="coffee ☕",
    transports=(
        Transport("nostr", encode_nostr_profile(NostrProfile(KEY, ("wss://one.example", "wss://two.example"))), (("n", "17"),)),
        Transport("post", "https://shop.example.com/pay?x=1", (("priority", "backup", "slow"),)),
    ),
    lock=LockOption("P2PK", ALICE, (("locktime", "1900000000"), ("refund", BOB))),
    mints_preferred=True,
    methods=(PaymentMethod("bolt11"), PaymentMethod("bolt12", 5)),
)


def creq_a(body: Any) -> str:
    """Text of any CBOR."""
    return "creqA" + base64url_encode(cbor2.dumps(body))


def creq_b(*fields: tuple[int, bytes]) -> str:
    """Text of any fields."""
    return raw_b(b"".join(bytes((kind,)) + len(value).to_bytes(2, "big") + value for kind, value in fields))


def raw_b(data: bytes, prefix: str = "creqb", variant: str = "bech32m") -> str:
    """Text of any bytes."""
    return bech32_encode(prefix, convert_bits(data, 8, 5, pad=True), variant=variant)


def test_both_forms_carry_everything() -> None:
    """All fields survive both texts, and a URI; the second is upper case."""
    assert decode_payment_request(encode_payment_request(FULL)) == FULL
    text = encode_payment_request(FULL, "creqB")
    assert text == text.upper()
    assert decode_payment_request(text) == FULL
    assert decode_payment_request(payment_request_uri(FULL, address="bc1q", lightning="lnbc1")) == FULL
    nothing = PaymentRequest()
    assert decode_payment_request(encode_payment_request(nothing)) == nothing
    assert decode_payment_request(encode_payment_request(nothing, "creqB")) == nothing


@pytest.mark.parametrize("form", ["creqA", "creqB"])
def test_schemes_and_white_space(form: Any) -> None:
    """A text is read with `cashu:` before it and space around it; the first five letters of creqA in either case."""
    text = encode_payment_request(FULL, form)
    for written in (f" {text}\n", f"cashu:{text}", f"CASHU:{text}", f"web+cashu://{text}", text[:5].swapcase() + text[5:]):
        if form == "creqB" and written.startswith("creqb"):
            with pytest.raises(MalformedError, match="mixed case"):
                decode_payment_request(written)
        else:
            assert decode_payment_request(written) == FULL


def test_absence_has_many_spellings() -> None:
    """null, undefined and empty lists are absence; what is unknown is passed over."""
    body = {"i": None, "a": cbor2.undefined, "m": [], "t": None, "nut10": None, "sm": [], "later": {"x": [1]}, "mp": None}
    assert decode_payment_request(creq_a(body)) == PaymentRequest()
    assert decode_payment_request(creq_b((99, b"later"), (0, b""))) == PaymentRequest()


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"a": 21},
        {"sm": [{"mn": "bolt11"}]},
        {"a": -1, "u": "sat"},
        {"a": 2**64, "u": "sat"},
        {"a": 1.0, "u": "sat"},
        {"a": True, "u": "sat"},
        {"a": "1", "u": "sat"},
        {"u": "sat!"},
        {"s": 1},
        {"m": MINT},
        {"m": ["ftp://mint"]},
        {"m": [MINT + f"/{n}" for n in range(101)]},
        {"t": [{"t": "post"}]},
        {"t": [{"t": "post", "a": "x", "g": [[]]}]},
        {"t": [{"t": "post", "a": "x", "g": [[1]]}]},
        {"nut10": {"k": "P2PK"}},
        {"u": "sat", "sm": [{"mf": 1}]},
        {"u": "sat", "sm": [{"mn": "x", "mf": -1}]},
        {"i": "x" * 1000},
        {"i": b"bytes"},
    ],
    ids=lambda body: str(body)[:40],
)
def test_cbor_that_is_refused(body: Any) -> None:
    """Other types, numbers out of range, an amount without a unit, and more than the bounds."""
    with pytest.raises(MalformedError):
        decode_payment_request(creq_a(body))


@pytest.mark.parametrize(
    "text", ["", "creq", "creqC", "creqA", "creqA!!", "creqA" + "oA" * 9000, "cashuB", "creqb1", "creqb1qqqq"]
)
def test_texts_that_are_none(text: str) -> None:
    """Other beginnings, no base64, no CBOR, no bech32, too long."""
    with pytest.raises(MalformedError):
        decode_payment_request(text)


@pytest.mark.parametrize(
    "text",
    [
        creq_b((1, b"a"), (1, b"b")),
        creq_b((1, b"\xff")),
        creq_b((2, b"\x01"), (3, b"\0")),
        creq_b((2, bytes(8))),
        creq_b((3, b"")),
        creq_b((4, b"\x02")),
        creq_b((4, b"")),
        creq_b((9, b"yes")),
        creq_b((5, b"ftp://mint")),
        creq_b((7, b"")),
        creq_b((7, b"\x01\x00\x01\x01")),
        creq_b((7, b"\x01\x00\x01\x00\x02\x00\x02ab")),
        creq_b((7, b"\x01\x00\x01\x01\x02\x00\x02ab\x03\x00\x00")),
        creq_b((7, b"\x01\x00\x01\x01\x02\x00\x02ab\x03\x00\x02\x05a")),
        creq_b((8, b"\x01\x00\x02\x00\x00\x02\x00\x01a")),
        creq_b((3, b"\0"), (10, b"\x02\x00\x01\x05")),
        creq_b((3, b"\0"), (10, b"\x01\x00\x01a\x02\x00\x01\x05")),
        raw_b(b"\x01"),
        raw_b(b"\x01\x00"),
        raw_b(b"\x01\x00\x05abc"),
        raw_b(b"\x01\x00\x01a", variant="bech32"),
        raw_b(b"", prefix="creqbb"),
    ],
)
def test_fields_that_are_refused(text: str) -> None:
    """A field twice, cut short, of a wrong length, no UTF-8; bech32 in place of bech32m; another prefix."""
    with pytest.raises(MalformedError):
        decode_payment_request(text)


def test_no_limit_of_90_characters_but_ours() -> None:
    """Long requests are read up to the bound of `Limits`."""
    text = encode_payment_request(msgspec.structs.replace(FULL, description="x" * 3000), "creqB")
    assert len(decode_payment_request(text).description or "") == 3000
    with pytest.raises(MalformedError, match="too long"):
        decode_payment_request(text, limits=Limits(payment_request_chars=1000))
    with pytest.raises(MalformedError, match="too long"):
        encode_payment_request(FULL, limits=Limits(payment_request_chars=100))


def test_numbers_without_a_name_are_kept() -> None:
    """Kinds of transport and lock that are not known yet are read, and written again as they were."""
    transport = b"\x01\x00\x01\x07\x02\x00\x02\xab\xcd"
    lock = b"\x01\x00\x01\x09\x02\x00\x01d"
    text = creq_b((7, transport), (8, lock))
    request = decode_payment_request(text)
    assert request.transports == (Transport("tlv:7", "abcd"),)
    assert request.lock == LockOption("tlv:9", "d")
    assert encode_payment_request(request, "creqB").lower() == text


@pytest.mark.parametrize(
    "request_",
    [
        PaymentRequest(transports=(Transport("pigeon", "coop"),)),
        PaymentRequest(transports=(Transport("tlv:1", "ab"),)),
        PaymentRequest(transports=(Transport("tlv:256", "ab"),)),
        PaymentRequest(transports=(Transport("tlv:9", "no hex"),)),
        PaymentRequest(transports=(Transport("nostr", "nsec1"),)),
        PaymentRequest(transports=(Transport("post", "https://x", (("key", "v" * 256),)),)),
        PaymentRequest(transports=(Transport("post", "https://x", (("é" * 128, "v"),)),)),
        PaymentRequest(lock=LockOption("MAGIC", "x")),
        PaymentRequest(description="é" * 40_000),
    ],
)
def test_what_creq_b_cannot_say(request_: PaymentRequest) -> None:
    """Names without a number, targets that are none, and items of tags above 255 bytes are refused, not cut."""
    with pytest.raises(MalformedError):
        encode_payment_request(request_, "creqB", limits=Limits(payment_request_chars=100_000))


def test_requests_that_break_the_rules_are_not_written() -> None:
    """An amount without a unit, a unit in upper case, numbers out of range, a tag without a name."""
    for request in (
        PaymentRequest(amount=1),
        PaymentRequest(unit="SAT"),
        PaymentRequest(amount=2**64, unit="sat"),
        PaymentRequest(lock=LockOption("P2PK", ALICE, ((),))),
    ):
        with pytest.raises(MalformedError):
            encode_payment_request(request)


def test_uri_reading() -> None:
    """Percent signs are decoded and plus signs are not; names in any case; others beside it are passed over."""
    text = encode_payment_request(FULL)
    assert decode_payment_request(f"bitcoin:?creq={text.replace('=', '%3D')}") == FULL
    assert decode_payment_request(f"BITCOIN:bc1q?amount=1&CREQ={text}#part") == FULL
    assert decode_payment_request(f"bitcoin:?cr%65q={text}") == FULL
    standard = next(
        written for n in range(500) if "+" in (written := creq_a({"d": f"{n}~~~"}).replace("-", "+").replace("_", "/"))
    )
    assert decode_payment_request(f"bitcoin:?creq={standard}").description is not None
    for uri in ("bitcoin:", "bitcoin:bc1q?lightning=x", f"bitcoin:?creq={text}&req-x=1", f"bitcoin:?REQ-pop=x&creq={text}"):
        with pytest.raises(MalformedError):
            decode_payment_request(uri)


def test_nostr_profiles() -> None:
    """npub without relays, nprofile with them, unknown parts passed over, relays once each; the rest is refused."""
    plain, full = NostrProfile(KEY), NostrProfile(KEY, ("wss://a", "wss://b"))
    assert encode_nostr_profile(plain).startswith("npub1")
    assert decode_nostr_profile("nostr:" + encode_nostr_profile(full)) == full

    def nprofile(data: bytes) -> str:
        return bech32_encode("nprofile", convert_bits(data, 8, 5, pad=True))

    twice = b"\0\x20" + KEY + b"\x01\x02ws\x05\x01x\x01\x02ws"
    assert decode_nostr_profile(nprofile(twice)) == NostrProfile(KEY, ("ws",))
    for data in (
        b"",
        b"\0",
        b"\0\x20" + KEY[:31],
        b"\0\x1f" + KEY[:31],
        (b"\0\x20" + KEY) * 2,
        b"\0\x20" + KEY + b"\x01\x01\xff",
        b"\0\x20" + KEY + b"\x01\x00",
        b"\0\x20" + KEY + b"\x01\x03a b",
        b"\0\x20" + KEY + b"".join(b"\x01\x03" + f"{n:03}".encode() for n in range(51)),
    ):
        with pytest.raises(MalformedError):
            decode_nostr_profile(nprofile(data))
    for text in (
        bech32_encode("npub", convert_bits(KEY[:31], 8, 5, pad=True)),
        bech32_encode("nsec", convert_bits(KEY, 8, 5, pad=True)),
        "npub",
    ):
        with pytest.raises(MalformedError):
            decode_nostr_profile(text)
    for profile in (NostrProfile(b"x"), NostrProfile(KEY, ("w" * 256,)), NostrProfile(KEY, ("",))):
        with pytest.raises(MalformedError):
            encode_nostr_profile(profile)


def test_relays_become_tags_and_back() -> None:
    """In creqB the relays of a profile are tags `r` behind the others."""
    text = encode_payment_request(PaymentRequest(transports=FULL.transports[:1]), "creqB")
    _, words = bech32_decode(text, variant="bech32m")
    data = bytes(convert_bits(words, 5, 8, pad=False))
    assert KEY in data
    assert data.index(b"\x01n\x0217") < data.index(b"\x01r\x11wss://one.example") < data.index(b"\x01r\x11wss://two.example")


def payload(request: PaymentRequest = FULL, **change: Any) -> PaymentPayload:
    """A good payment of 21 sat for an unlocked request."""
    coins = tuple(make_coin(f"coin {amount}", amount, keyset=KEYSET) for amount in (1, 4, 16))
    return msgspec.structs.replace(PaymentPayload(MINT, "sat", coins, request.id), **change)


PLAIN = msgspec.structs.replace(FULL, lock=None, methods=())


def judge(request: PaymentRequest, paid: PaymentPayload, **options: Any) -> None:
    """Judge with the keysets of the mint."""
    verify_payment(request, paid, **{"keysets": {KEYSET.id: KEYSET}, "now": NOW, **options})


def reason(request: PaymentRequest, paid: PaymentPayload, **options: Any) -> Mismatch:
    """Why a payment is refused."""
    with pytest.raises(PaymentMismatchError) as caught:
        judge(request, paid, **options)
    return caught.value.reason


def test_payload_both_ways() -> None:
    """A payload survives its JSON; a coin twice, none, too many, and long texts are refused."""
    good = payload(memo="☕")
    text = wire.payment_payload_to_json(good)
    assert wire.payment_payload_from_json(text) == good
    assert good.amount == 21
    body = json.loads(text)
    assert set(body) == {"id", "memo", "mint", "unit", "proofs"}
    assert set(json.loads(wire.payment_payload_to_json(payload(id=None)))) == {"mint", "unit", "proofs"}
    for change in (
        {"proofs": []},
        {"proofs": body["proofs"] * 2},
        {"proofs": None},
        {"mint": "nowhere"},
        {"unit": None},
        {"id": "x" * 1000},
        {"memo": "x" * 10_000},
        {"memo": "a\0b"},
        {"id": "\0"},
        {"id": 5},
    ):
        with pytest.raises(MalformedError):
            wire.payment_payload_from_json(json.dumps({**body, **change}))
    with pytest.raises(MalformedError):
        wire.payment_payload_from_json(text, limits=Limits(array_length=2))


def test_good_payments() -> None:
    """Exactly the amount, more of it, another mint where the list is a preference, any mint where there is none."""
    judge(PLAIN, payload())
    judge(msgspec.structs.replace(PLAIN, amount=20), payload())
    judge(msgspec.structs.replace(PLAIN, amount=None), payload())
    judge(PLAIN, payload(mint="https://third.example.com"))
    judge(msgspec.structs.replace(PLAIN, mints=(), mints_preferred=None), payload(mint="https://third.example.com"))
    judge(PaymentRequest(), payload(id="whatever"))


def test_reasons() -> None:
    """Each rule has its own reason."""
    coins = payload().proofs
    strict = msgspec.structs.replace(PLAIN, mints_preferred=None)
    assert reason(PLAIN, payload(id="other")) is Mismatch.ID
    assert reason(PLAIN, payload(id=None)) is Mismatch.ID
    assert reason(PLAIN, payload(unit="msat")) is Mismatch.UNIT
    assert reason(strict, payload(mint="https://third.example.com")) is Mismatch.MINT
    assert reason(msgspec.structs.replace(PLAIN, amount=22), payload()) is Mismatch.AMOUNT
    assert reason(PLAIN, payload(), keysets={}) is Mismatch.KEYSET
    other_unit = msgspec.structs.replace(KEYSET, unit="usd")
    assert reason(PLAIN, payload(), keysets={KEYSET.id: other_unit}) is Mismatch.KEYSET
    large = msgspec.structs.replace(coins[0], amount=2**40)
    assert reason(PLAIN, payload(proofs=(large,))) is Mismatch.KEYSET
    without = msgspec.structs.replace(coins[0], dleq=None)
    assert reason(PLAIN, payload(proofs=(without, *coins[1:]))) is Mismatch.DLEQ
    forged = msgspec.structs.replace(coins[0], secret="another")
    assert reason(PLAIN, payload(proofs=(forged, *coins[1:]))) is Mismatch.DLEQ
    dust = make_keyset(amounts=8, fee=3000)
    worthless = (make_coin("dust", 1, keyset=dust),)
    open_amount = msgspec.structs.replace(PLAIN, amount=None)
    assert reason(open_amount, payload(proofs=worthless), keysets={dust.id: dust}) is Mismatch.AMOUNT


def test_methods_and_their_fees() -> None:
    """Mints outside the list owe the least fee of the methods in common, and must have one; listed mints owe nothing."""
    request = msgspec.structs.replace(FULL, lock=None)
    third = payload(mint="https://third.example.com")
    judge(request, payload())
    judge(request, third, melt_methods=["bolt11", "bolt12"])
    assert reason(request, third, melt_methods=["bolt12"]) is Mismatch.AMOUNT
    judge(msgspec.structs.replace(request, amount=16), third, melt_methods=["bolt12"])
    assert reason(request, third, melt_methods=["onchain"]) is Mismatch.METHOD
    assert reason(request, third) is Mismatch.METHOD


def test_who_pays_the_input_fee() -> None:
    """By default the coins must leave the amount after their swap; the payee may say otherwise."""
    keyset = make_keyset(amounts=8, fee=100)
    coins = tuple(make_coin(f"coin {amount}", amount, keyset=keyset) for amount in (1, 4, 16))
    assert fee_for([100] * 3) == 1
    options = {"keysets": {keyset.id: keyset}}
    assert reason(PLAIN, payload(proofs=coins), **options) is Mismatch.AMOUNT
    judge(PLAIN, payload(proofs=coins), **options, payer_pays_fees=False)
    judge(msgspec.structs.replace(PLAIN, amount=20), payload(proofs=coins), **options)


def locked_payload(secret: str, **change: Any) -> PaymentPayload:
    """One coin of 32 with this secret."""
    return payload(proofs=(msgspec.structs.replace(make_coin(secret, 32, keyset=KEYSET), **change),))


def test_locks() -> None:
    """A coin locked as asked passes; unlocked, locked to others, with other terms, or blinded (NUT-28) it does not."""
    lock = LockOption("P2PK", ALICE, (("pubkeys", BOB), ("n_sigs", "2"), ("purpose", "offline")))
    request = msgspec.structs.replace(PLAIN, lock=lock)
    good = locked_secret(lock, nonce=bytes(32))
    judge(request, locked_payload(good))
    assert reason(request, locked_payload("plain")) is Mismatch.LOCK
    assert reason(PLAIN, locked_payload(good)) is Mismatch.LOCK
    assert reason(request, locked_payload(good, p2pk_e=public_key("e"))) is Mismatch.LOCK
    assert reason(request, locked_payload(p2pk_secret(ALICE, nonce=bytes(32), pubkeys=[BOB], n_sigs=2))) is Mismatch.LOCK
    assert reason(request, locked_payload(p2pk_secret(BOB, nonce=bytes(32)))) is Mismatch.LOCK
    assert reason(request, locked_payload('["P2PK",{"nonce":"00","data":"02"}]')) is Mismatch.LOCK
    hashed = LockOption("HTLC", "ab" * 32)
    judge(msgspec.structs.replace(PLAIN, lock=hashed), locked_payload(htlc_secret("ab" * 32, nonce=bytes(32))))


def test_defaults_and_order_make_no_difference() -> None:
    """Tags in another order, and defaults that are written out, are the same lock."""
    lock = LockOption("P2PK", ALICE.upper(), (("n_sigs", "1"), ("sigflag", "SIG_INPUTS"), ("x", "1"), ("y", "2")))
    text = json.dumps(["P2PK", {"nonce": "00" * 32, "data": ALICE, "tags": [["y", "2"], ["x", "1"]]}])
    condition = parse_secret(text)
    assert condition is not None
    assert same_lock(lock, condition)


def test_locktimes() -> None:
    """A time that was asked for must be ahead; one that was not is taken only from the time on that the payee names."""
    plain = LockOption("P2PK", ALICE)
    request = msgspec.structs.replace(PLAIN, lock=plain)
    late = locked_payload(p2pk_secret(ALICE, nonce=bytes(32), locktime=NOW + 1000, refund=[BOB]))
    assert reason(request, late) is Mismatch.LOCK
    judge(request, late, locktime_at_least=NOW + 1000)
    assert reason(request, late, locktime_at_least=NOW + 1001) is Mismatch.LOCK
    other = locked_payload(p2pk_secret(BOB, nonce=bytes(32), locktime=NOW + 1000))
    assert reason(request, other, locktime_at_least=NOW) is Mismatch.LOCK
    timed = LockOption("P2PK", ALICE, (("locktime", str(NOW + 1000)), ("refund", BOB)))
    asked = msgspec.structs.replace(PLAIN, lock=timed)
    judge(asked, late)
    judge(asked, late, locktime_at_least=NOW + 5000)
    assert reason(asked, late, now=NOW + 1000) is Mismatch.LOCK
    sooner = locked_payload(p2pk_secret(ALICE, nonce=bytes(32), locktime=NOW + 999, refund=[BOB]))
    assert reason(asked, sooner) is Mismatch.LOCK


@pytest.mark.parametrize(
    "lock",
    [
        LockOption("MAGIC", ALICE),
        LockOption("P2PK", "02" + "ff" * 32),
        LockOption("P2PK", ALICE, (("n_sigs", "5"),)),
        LockOption("P2PK", ALICE, (("sigflag", "SIG_SOME"),)),
        LockOption("HTLC", "short"),
        LockOption("P2PK", ALICE, (("purpose", ""),)),
    ],
)
def test_locks_that_would_lose_the_coins(lock: LockOption) -> None:
    """Kinds that no mint enforces, and what mints call malformed, are never written."""
    with pytest.raises(ConditionMalformedError):
        lock_condition(lock)
    with pytest.raises(ConditionMalformedError):
        locked_secret(lock, nonce=b"short")
