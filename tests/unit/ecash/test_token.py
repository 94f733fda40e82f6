"""Tokens of versions 3 and 4, raw bytes, short ids resolved in a second step, and what is refused on the way."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import msgspec
import pytest

from specie.ecash.codes import KeysetUnknownError, MixedUnitsError, UnitMismatchError
from specie.ecash.mint_url import join_url, mint_url_checked
from specie.ecash.proof import Proof
from specie.ecash.token import (
    Token,
    TokenDraft,
    decode_token,
    decode_token_raw,
    encode_token,
    encode_token_raw,
    resolve_token,
)
from specie.kernel.encoding import base64url_encode
from specie.kernel.errors import MalformedError, RefusedError
from specie.kernel.limits import Limits
from tests.support.coins import make_coin, make_keyset, public_key

KEYSET = make_keyset(amounts=2)
OTHER = make_keyset("other", amounts=2)
USD = make_keyset("usd", amounts=1, unit="usd")
FULL = msgspec.structs.replace(make_coin("one", 1, keyset=KEYSET), witness='{"signatures":[]}', p2pk_e=public_key("e"))
TOKEN = Token(
    "https://mint.example/Path",
    "sat",
    (FULL, make_coin("two", 2, keyset=OTHER, name="other"), make_coin("three", 1, keyset=KEYSET)),
    "for ☕",
)


def v3(**change: Any) -> str:
    """Text of a V3 token from JSON."""
    proof = {"amount": 1, "id": "009a1f293253e41e", "secret": "s", "C": public_key("c").hex()}
    body: dict[str, Any] = {"token": [{"mint": "https://m", "proofs": [proof]}], **change}
    return "cashuA" + base64url_encode(json.dumps(body).encode())


def v4(**change: Any) -> bytes:
    """A raw V4 token from CBOR."""
    proof = {"a": 1, "s": "s", "c": public_key("c"), **change.pop("proof", {})}
    body = {"m": "https://m", "u": "sat", "t": [{"i": bytes.fromhex("009a1f293253e41e"), "p": [proof]}], **change}
    return b"crawB" + cbor2.dumps(body)


def test_all_forms_carry_all_of_a_coin() -> None:
    """Witness, DLEQ and the ephemeral key of NUT-28 survive; V4 groups by keyset, so order within a keyset is kept."""
    grouped = (TOKEN.proofs[0], TOKEN.proofs[2], TOKEN.proofs[1])
    known = [KEYSET, OTHER.info]
    for text, proofs in (
        (encode_token(TOKEN), grouped),
        (encode_token(TOKEN, short_ids=False), grouped),
        (encode_token(TOKEN, 3), TOKEN.proofs),
    ):
        draft = decode_token(text)
        assert resolve_token(draft, known) == msgspec.structs.replace(TOKEN, proofs=proofs)
        assert draft.amount == TOKEN.amount == 4
    assert resolve_token(decode_token_raw(encode_token_raw(TOKEN)), known).proofs == grouped


def test_short_ids_wait_for_the_second_step() -> None:
    """Reading needs no keysets; using does."""
    draft = decode_token(encode_token(TOKEN))
    assert {len(proof.id) for proof in draft.proofs} == {16}
    assert {len(proof.id) for proof in decode_token(encode_token(TOKEN, short_ids=False)).proofs} == {66}
    with pytest.raises(KeysetUnknownError):
        resolve_token(draft, [KEYSET])
    twin = msgspec.structs.replace(KEYSET.info, id=KEYSET.id[:16] + "0" * 50)
    with pytest.raises(MalformedError):
        resolve_token(draft, [KEYSET, OTHER, twin])


def test_units_must_agree() -> None:
    """Coins of two units, or of another than the token says, are refused; V3 may leave the unit out."""
    coin = make_coin("usd coin", 1, keyset=USD, name="usd")
    with pytest.raises(MixedUnitsError):
        resolve_token(TokenDraft("https://m", None, (FULL, coin)), [KEYSET, USD])
    with pytest.raises(UnitMismatchError):
        resolve_token(TokenDraft("https://m", "sat", (coin,)), [USD])
    assert resolve_token(TokenDraft("https://m", None, (coin,)), [USD]).unit == "usd"


@pytest.mark.parametrize("prefix", ["", "cashu:", "CASHU:", "cashu://", "web+cashu://", "\n "])
@pytest.mark.parametrize("suffix", ["", "=", "==", " \n"])
def test_wrappings_are_taken_off(prefix: str, suffix: str) -> None:
    """URI schemes, padding and white space around; the standard base64 alphabet inside."""
    text = encode_token(TOKEN)
    assert decode_token(prefix + text + suffix) == decode_token(text)
    body = text[6:].replace("-", "+").replace("_", "/")
    assert decode_token(prefix + "cashuB" + body + suffix) == decode_token(text)


def test_v3_of_several_mints_is_refused() -> None:
    """Neither the first nor the last is taken silently; two entries of one mint are one token."""
    entry = {
        "mint": "https://m",
        "proofs": [{"amount": 1, "id": "009a1f293253e41e", "secret": "s", "C": public_key("c").hex()}],
    }
    second = {"mint": "https://m/", "proofs": [{**entry["proofs"][0], "secret": "t"}]}  # type: ignore[dict-item]
    assert decode_token(v3(token=[entry, second])).amount == 2
    with pytest.raises(MalformedError, match="several mints"):
        decode_token(v3(token=[entry, {**second, "mint": "https://n"}]))


def test_v3_reads_old_ids_and_witness_objects() -> None:
    """Base64 ids stay text; a witness that is an object becomes its text; no unit is no unit."""
    proof = {"amount": 1, "id": "eGnEWtdJ0PIM", "secret": "s", "C": public_key("c").hex(), "witness": {"signatures": []}}
    draft = decode_token(v3(token=[{"mint": "https://m", "proofs": [proof]}]))
    assert draft.unit is None
    assert (draft.proofs[0].id, draft.proofs[0].witness) == ("eGnEWtdJ0PIM", '{"signatures":[]}')
    assert draft.version == 3


@pytest.mark.parametrize(
    "text",
    [
        "", "cashuA", "cashuB", "cashuC" + "AAAA", "cashuB!", "cashuBo", "cashuAe30", "not a token", "cashuB" + "é",
        v3(token=[]), v3(token=[{"mint": "https://m", "proofs": []}]), v3(token=1), v3(unit=5),
        v3(token=[{"mint": "ftp://m", "proofs": []}]),
    ],
)  # fmt: skip
def test_what_is_no_token_is_refused(text: str) -> None:
    """Prefix, base64, JSON, fields."""
    with pytest.raises(MalformedError):
        decode_token(text)


def nested(depth: int) -> bytes:
    """CBOR arrays in arrays."""
    return b"\x81" * depth + b"\x00"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"crawA" + v4()[5:], b"crawB", b"crawB\xff", v4() + b"\x00", v4()[:-1], b"crawB" + nested(1000), b"crawB\x01",
        v4(m="no url"), v4(u=""), v4(u=None), v4(t=[]), v4(t=[{"i": b"\x00" * 8, "p": []}]),
        v4(t=[{"i": b"\x00" * 7, "p": []}]),
        v4(t=[{"i": "009a1f293253e41e", "p": []}]), v4(t=nested(3)), v4(x=cbor2.CBORTag(35, "a+")),
        v4(x=cbor2.CBORTag(999999, 1)),
        v4(x={1: 2}), v4(t=[{"i": b"\x00" * 9, "p": [{"a": 1, "s": "s", "c": public_key("c")}]}]),
        *(v4(proof=change) for change in (
            {"a": 2**64}, {"a": -1}, {"a": True}, {"a": 1.0}, {"a": "1"}, {"s": b"s"}, {"c": b"\x02" + b"\xff" * 32},
            {"c": b""},
            {"c": public_key("c").hex()}, {"d": {"e": b"1", "s": b"1", "r": b"1"}}, {"d": {"e": b"1" * 32, "s": b"1" * 32}},
            {"w": 1}, {"pe": b"\x02" + b"\xff" * 32}, {"s": "s" * 9000}, {"w": "w" * 20000},
        )),
        b"crawB\xa2\x61m\x61a\x61m\x61b",
    ],
)  # fmt: skip
def test_cbor_that_is_no_token_is_refused(data: bytes) -> None:
    """Truncation, trailing bytes, tags, depth, duplicate keys, wrong types and lengths."""
    with pytest.raises(RefusedError):
        decode_token_raw(data)


def test_every_cbor_tag_is_refused() -> None:
    """Whatever object the library would build from a tag (a date, a pattern, a decimal), it is not built here."""
    for tag in (*range(1100), 43000, 55799):
        for inner in (b"\x00", b"\x60", b"\x80"):
            head = b"\xd9" + tag.to_bytes(2, "big")
            with pytest.raises(MalformedError, match="not CBOR"):
                decode_token_raw(b"crawB" + head + inner)


def test_null_undefined_and_indefinite_lengths_are_read() -> None:
    """Some wallets write them for what is absent."""
    plain = decode_token_raw(v4())
    assert decode_token_raw(v4(d=None, x=cbor2.undefined, proof={"d": None, "w": cbor2.undefined, "pe": None})) == plain
    head, tail = b"\xbf", b"\xff"
    body = b"".join(cbor2.dumps(key) + cbor2.dumps(value) for key, value in cbor2.loads(v4()[5:]).items())
    assert decode_token_raw(b"crawB" + head + body + tail) == plain


def test_amounts_are_exact_to_the_last_unit() -> None:
    """2^64-1 in both versions."""
    top = Proof(2**64 - 1, KEYSET.id, "s", public_key("c"))
    token = Token("https://m", "sat", (top,))
    for version in (3, 4):
        assert decode_token(encode_token(token, version)).proofs[0].amount == 2**64 - 1


def test_a_coin_twice_is_refused() -> None:
    """The second copy is worth nothing, but would swell what a person sees."""
    token = Token("https://m", "sat", (FULL, FULL))
    for version in (3, 4):
        with pytest.raises(MalformedError, match="twice"):
            decode_token(encode_token(token, version))


def test_size_is_bounded() -> None:
    """Characters, bytes and number of proofs."""
    text, data = encode_token(TOKEN), encode_token_raw(TOKEN)
    for limits in (Limits(token_chars=50), Limits(array_length=0)):
        with pytest.raises(MalformedError):
            decode_token(text, limits=limits)
        with pytest.raises(MalformedError):
            decode_token_raw(data, limits=limits)
    with pytest.raises(MalformedError):
        decode_token(encode_token(TOKEN, 3), limits=Limits(body_bytes=50))


def test_encoders_refuse_what_cannot_be_read() -> None:
    """No proofs, another version, an id that V4 cannot carry."""
    old = Token("https://m", "sat", (msgspec.structs.replace(FULL, id="eGnEWtdJ0PIM"),))
    assert decode_token(encode_token(old, 3)).proofs == old.proofs
    for token, version in ((Token("https://m", "sat", ()), 4), (Token("https://m", "sat", ()), 3), (TOKEN, 5), (old, 4)):
        with pytest.raises(MalformedError):
            encode_token(token, version)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("HTTPS://Mint.Example:443/a//", "https://mint.example:443/a"),
        ("http://[::1]:3338", "http://[::1]:3338"),
        ("http://mint.onion", "http://mint.onion"),
    ],
)
def test_mint_urls_have_one_spelling(text: str, normal: str) -> None:
    """Scheme and host in lower case, port and path kept, no slash at the end."""
    assert mint_url_checked(text) == normal
    assert join_url(normal + "/", "/v1/", "keys") == normal + "/v1/keys"


@pytest.mark.parametrize(
    "text",
    ["", "mint.example", "ftp://m", "file:///etc", "https://", "https://u:p@m", "https://m?x", "https://m#f", "https://m:99999",
     "https://m m", "https://m\n", "https://m\\x", "https://[::1", "https://" + "m" * 3000, "javascript:alert(1)", "https://m\u202ex"],
)  # fmt: skip
def test_what_is_no_mint_url_is_refused(text: str) -> None:
    """Other schemes, credentials, queries, control characters."""
    with pytest.raises(MalformedError):
        mint_url_checked(text)
