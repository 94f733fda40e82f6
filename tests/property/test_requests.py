"""Invariants of payment requests over generated values: both texts carry all, and every mixed case is refused."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from specie.ecash.requests import (
    LockOption,
    NostrProfile,
    PaymentMethod,
    PaymentRequest,
    Transport,
    decode_nostr_profile,
    decode_payment_request,
    encode_nostr_profile,
    encode_payment_request,
    payment_request_uri,
)
from specie.kernel.errors import MalformedError
from specie.kernel.money import MAX_AMOUNT

many = settings(max_examples=100, deadline=None)

texts = st.text(st.characters(codec="utf-8"), max_size=60)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda text: text != "r")
tags = st.lists(st.tuples(names) | st.tuples(names, texts) | st.tuples(names, texts, texts), max_size=4).map(tuple)
relays = st.lists(st.from_regex(r"wss://[a-z]{1,20}\.example", fullmatch=True), max_size=4, unique=True).map(tuple)
profiles = st.builds(NostrProfile, st.binary(min_size=32, max_size=32), relays)
transports = st.builds(Transport, st.just("nostr"), profiles.map(encode_nostr_profile), tags) | st.builds(
    Transport, st.just("post"), texts, tags
)
amounts = st.integers(0, MAX_AMOUNT)
mints = st.lists(st.from_regex(r"https?://[a-z]{1,20}\.example(/[A-Za-z]{1,9})?", fullmatch=True), max_size=4, unique=True)
requests = st.builds(
    PaymentRequest,
    id=st.none() | texts,
    amount=st.none() | amounts,
    unit=st.sampled_from(["sat", "msat", "usd", "btc"]),
    single_use=st.none() | st.booleans(),
    mints=mints.map(tuple),
    description=st.none() | texts,
    transports=st.lists(transports, max_size=3).map(tuple),
    lock=st.none() | st.builds(LockOption, st.sampled_from(["P2PK", "HTLC"]), texts, tags),
    mints_preferred=st.none() | st.booleans(),
    methods=st.lists(st.builds(PaymentMethod, texts, amounts), max_size=3).map(tuple),
)


@many
@given(requests)
def test_every_request_survives_every_text(request: PaymentRequest) -> None:
    """creqA, creqB in both cases, and a URI."""
    assert decode_payment_request(encode_payment_request(request)) == request
    short = encode_payment_request(request, "creqB")
    assert decode_payment_request(short) == decode_payment_request(short.lower()) == request
    assert decode_payment_request(payment_request_uri(request, lightning="lnbc1x")) == request


@many
@given(requests, st.integers(6, 10_000))
def test_one_letter_in_another_case_is_refused(request: PaymentRequest, place: int) -> None:
    """bech32 is never of mixed case."""
    text = encode_payment_request(request, "creqB")
    letters = [index for index, char in enumerate(text) if char.isalpha()]
    index = letters[place % len(letters)]
    mixed = text[:index] + text[index].lower() + text[index + 1 :]
    try:
        decode_payment_request(mixed)
    except MalformedError:
        return
    raise AssertionError(mixed)


@many
@given(profiles)
def test_every_profile_survives(profile: NostrProfile) -> None:
    """npub and nprofile."""
    assert decode_nostr_profile(encode_nostr_profile(profile)) == profile
