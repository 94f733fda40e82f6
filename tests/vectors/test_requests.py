"""The vectors of NUT-18, NUT-26 and NUT-27 against `specie.ecash`; all from tests/vectors/cashu."""

from __future__ import annotations

from typing import Any

import pytest

from specie.ecash.cbor import decode_cbor
from specie.ecash.derivation import mint_backup_secret_key
from specie.ecash.requests import (
    LockOption,
    PaymentMethod,
    PaymentRequest,
    Transport,
    decode_nostr_profile,
    decode_payment_request,
    encode_nostr_profile,
    encode_payment_request,
)
from specie.kernel import curve, hd
from specie.kernel.encoding import base64url_decode, bech32_decode, convert_bits
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS
from tests.support.vectors import each, records

Record = dict[str, Any]


def tags(items: list[list[str]] | None) -> tuple[tuple[str, ...], ...]:
    """Tags of a record."""
    return tuple(map(tuple, items or ()))


def request_of(body: Record) -> PaymentRequest:
    """The value that a record's JSON describes."""
    lock = body.get("nut10")
    return PaymentRequest(
        id=body.get("i"),
        amount=body.get("a"),
        unit=body.get("u"),
        single_use=body.get("s"),
        mints=tuple(body.get("m", ())),
        description=body.get("d"),
        transports=tuple(Transport(one["t"], one["a"], tags(one.get("g"))) for one in body.get("t", ())),
        lock=None if lock is None else LockOption(lock["k"], lock["d"], tags(lock.get("t"))),
        mints_preferred=body.get("mp"),
        methods=tuple(PaymentMethod(one["mn"], one.get("mf", 0)) for one in body.get("sm", ())),
    )


@each("nut18-payment-requests")
def test_creq_a(record: Record) -> None:
    """Each string is read as its CBOR says, and what is written for it is read as the same; alphabets and padding vary."""
    expected = request_of(record["decoded"])
    text = record["encoded"]
    assert decode_payment_request(text) == expected
    assert decode_payment_request(text.rstrip("=").replace("/", "_").replace("+", "-")) == expected
    assert decode_payment_request(encode_payment_request(expected)) == expected
    assert base64url_decode(text[5:]).hex() == record["cbor_hex"]


@each("nut18-payment-requests", consistent=True)
def test_creq_a_writes_the_same_fields(record: Record) -> None:
    """What is written holds the same fields as the printed JSON, whatever their order."""
    written = encode_payment_request(request_of(record["request"]))
    body = decode_cbor(base64url_decode(written[5:]), DEFAULT_LIMITS, "request")
    assert body == {key: value for key, value in record["request"].items() if value is not None}


@each("nut26-payment-requests", consistent=True)
def test_creq_b(record: Record) -> None:
    """Each string is read as its fields say, in both cases, and is written again to the letter."""
    expected = request_of(record["decoded"])
    assert decode_payment_request(record["encoded"]) == expected
    assert decode_payment_request(record["encoded"].lower()) == expected
    assert encode_payment_request(expected, "creqB") == record["encoded"]
    _, words = bech32_decode(record["encoded"], variant="bech32m")
    assert bytes(convert_bits(words, 5, 8, pad=False)).hex() == record["tlv_hex"]


@each("nut26-payment-requests", consistent=True)
def test_creq_b_is_written_from_either_form_of_target(record: Record) -> None:
    """The JSON that the specification prints, with nprofile or npub as it stands there, gives the very same string."""
    if "request" in record:
        assert encode_payment_request(request_of(record["request"]), "creqB") == record["encoded"]


@pytest.mark.parametrize(
    "transport",
    [
        transport
        for record in records("nut26-payment-requests")
        for transport in record.get("decoded", {}).get("t", ())
        if "_pk" in transport
    ],
    ids=lambda transport: transport["a"][:24],
)
def test_nostr_target(transport: Record) -> None:
    """Keys and relays of NIP-19 texts are those listed, and make the same text."""
    profile = decode_nostr_profile(transport["a"])
    assert profile.public_key.hex() == transport["_pk"]
    assert list(profile.relays) == transport["_relays"]
    assert encode_nostr_profile(profile) == transport["a"]


@pytest.mark.parametrize(
    "record", [r for r in records("nut26-payment-requests") if "uri" in r], ids=lambda record: str(record["id"])
)
def test_bip321(record: Record) -> None:
    """The request in a URI is found beside other ways to pay."""
    assert decode_payment_request(record["uri"]) == decode_payment_request(record["creq"])


@each("draft-nut18-nut26-preferences")
def test_preferences_snapshot(record: Record) -> None:
    """Of the July snapshot, `mp` and `sm` are read as in the merged text and fields that were dropped are passed over.

    The snapshot's tagged form numbered `sm` otherwise, and two closed drafts gave fields other types: those are refused.
    """
    name = record["id"]
    merged = not name.startswith(("pr381-26", "pr355-26")) and name != "pr355-18-supported-methods-field"
    if merged:
        body = {key: value for key, value in record["decoded"].items() if key not in ("fr", "pm")}
        assert decode_payment_request(record["encoded"]) == request_of(body)
    else:
        with pytest.raises(MalformedError):
            decode_payment_request(record["encoded"])


@each("peer-payment-requests")
def test_preferences_as_merged(record: Record) -> None:
    """Another implementation's requests with `mp` and `sm` are read, and creqB is written to the letter."""
    expected = request_of(record["decoded"])
    assert decode_payment_request(record["encoded"]) == expected
    if record["encoded"].startswith("CREQB"):
        assert encode_payment_request(expected, "creqB") == record["encoded"]


@each("nut27-backup-keys")
def test_backup_key(record: Record) -> None:
    """The key of a wallet's list of mints comes from its words."""
    secret = mint_backup_secret_key(hd.seed_from_words(record["mnemonic"]))
    assert secret.hex() == record["secret_key"]
    assert curve.x_only(curve.public_key(secret)).hex() == record["public_key"]
