"""Hex, base64url and bech32: official vectors, round trips, and strictness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel.encoding import (
    base64url_decode,
    base64url_encode,
    bech32_decode,
    bech32_encode,
    convert_bits,
    hex_checked,
)
from specie.kernel.errors import MalformedError

VECTORS = Path(__file__).parents[2] / "vectors/bips"
DOCUMENTS: dict[str, dict[str, Any]] = {
    "bech32": json.loads((VECTORS / "bip173.json").read_text()),
    "bech32m": json.loads((VECTORS / "bip350.json").read_text()),
}
OTHER = {"bech32": "bech32m", "bech32m": "bech32"}

prefixes = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20).map(str.lower)
words = st.lists(st.integers(0, 31), max_size=100)
variants = st.sampled_from(["bech32", "bech32m"])


@pytest.mark.parametrize("variant", OTHER)
def test_valid_bech32_vectors(variant: str) -> None:
    """Every valid string of BIP 173 and BIP 350 decodes, encodes back, and is invalid in the other variant."""
    for text in DOCUMENTS[variant]["valid"]:
        prefix, data = bech32_decode(text, variant=variant, limit=90)
        assert bech32_encode(prefix, data, variant=variant) == text.lower()
        with pytest.raises(MalformedError):
            bech32_decode(text, variant=OTHER[variant])


@pytest.mark.parametrize("variant", OTHER)
def test_invalid_bech32_vectors(variant: str) -> None:
    """Every invalid string of BIP 173 and BIP 350 is refused, those that are too long under the limit of addresses."""
    for vector in DOCUMENTS[variant]["invalid"]:
        with pytest.raises(MalformedError):
            bech32_decode(vector["text"], variant=variant, limit=90)


@pytest.mark.parametrize("variant", OTHER)
def test_segwit_address_vectors(variant: str) -> None:
    """The programs of the valid addresses are regrouped to their printed bytes and back."""
    seen = 0
    for vector in DOCUMENTS[variant]["addresses"]:
        script = bytes.fromhex(vector["script_pubkey"])
        if (script[0] == 0) != (variant == "bech32"):
            continue
        _, data = bech32_decode(vector["address"], variant=variant, limit=90)
        assert bytes(convert_bits(data[1:], 5, 8, pad=False)) == script[2:]
        assert convert_bits(script[2:], 8, 5, pad=True) == data[1:]
        seen += 1
    assert seen


@given(prefixes, words, variants)
def test_bech32_round_trip(prefix: str, data: list[int], variant: str) -> None:
    """What is encoded decodes to itself, in upper case too."""
    text = bech32_encode(prefix, data, variant=variant)
    assert bech32_decode(text, variant=variant) == (prefix, data)
    if text.upper().lower() == text:
        assert bech32_decode(text.upper(), variant=variant) == (prefix, data)


@given(prefixes, st.lists(st.integers(0, 31), max_size=60), variants, st.data())
def test_bech32_finds_one_changed_character(prefix: str, data: list[int], variant: str, draw: st.DataObject) -> None:
    """Any one character of the data part replaced by another is noticed."""
    text = bech32_encode(prefix, data, variant=variant)
    position = draw.draw(st.integers(len(prefix) + 1, len(text) - 1))
    other = draw.draw(st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l").filter(lambda char: char != text[position]))
    with pytest.raises(MalformedError):
        bech32_decode(text[:position] + other + text[position + 1 :], variant=variant)


def test_letters_that_fold_into_ascii_are_no_bech32() -> None:
    """The Kelvin sign, whose lower case is k, does not stand for a K."""
    text = bech32_encode("x", convert_bits(b"k", 8, 5, pad=True))
    with_k = next(
        candidate for candidate in (bech32_encode("k", [value]) for value in range(32)) if candidate.upper().count("K") == 1
    )
    assert bech32_decode(with_k.upper())
    with pytest.raises(MalformedError):
        bech32_decode(with_k.upper().replace("K", "\N{KELVIN SIGN}"))
    assert bech32_decode(text)[0] == "x"


def test_bech32_case_is_one() -> None:
    """Mixed case is refused even where prefix and data each keep to one case."""
    text = bech32_encode("bc", [1, 2, 3])
    with pytest.raises(MalformedError, match="mixed case"):
        bech32_decode("BC" + text[2:])


def test_bech32_length_is_bounded() -> None:
    """Text over the limit is refused before it is looked at."""
    text = bech32_encode("lnbc", [0] * 9000)
    with pytest.raises(MalformedError):
        bech32_decode(text)
    assert bech32_decode(text, limit=10_000)[0] == "lnbc"


@given(st.binary(max_size=60))
def test_bits_round_trip(data: bytes) -> None:
    """8 to 5 bits with padding and back without is the same."""
    assert bytes(convert_bits(convert_bits(data, 8, 5, pad=True), 5, 8, pad=False)) == data


@pytest.mark.parametrize("data", [[32], [-1], [0, 99]])
def test_bits_refuse_what_does_not_fit(data: list[int]) -> None:
    """A value outside of its bits is malformed."""
    with pytest.raises(MalformedError):
        convert_bits(data, 5, 8, pad=True)


@pytest.mark.parametrize("data", [[0], [0, 0, 0], [0, 1]], ids=["5 bits", "15 bits: a whole group left", "not zero"])
def test_bits_left_over(data: list[int]) -> None:
    """Left-over bits that make a group or are not zero are malformed."""
    with pytest.raises(MalformedError):
        convert_bits(data, 5, 8, pad=False)


@given(st.binary(max_size=60), st.booleans())
def test_base64url_round_trip(data: bytes, padding: bool) -> None:
    """Both forms decode, as does the ordinary alphabet."""
    text = base64url_encode(data, padding=padding)
    assert base64url_decode(text) == data
    assert base64url_decode(text.replace("-", "+").replace("_", "/")) == data
    assert padding or "=" not in text


@pytest.mark.parametrize("text", ["a", "ab=c", "ab c", "ab\n", "á", "a\x00bc", "****"])
def test_what_is_no_base64(text: str) -> None:
    """Wrong lengths, inner padding, white space and foreign letters are malformed."""
    with pytest.raises(MalformedError):
        base64url_decode(text)


@given(st.binary(max_size=40))
def test_hex_round_trip(data: bytes) -> None:
    """Either case, and the length if it is asked for."""
    assert hex_checked(data.hex()) == hex_checked(data.hex().upper(), len(data)) == data


@pytest.mark.parametrize("text", ["0", "0g", "0x00", " 00", "00 11", "٠٠", "00\n"])
def test_what_is_no_hex(text: str) -> None:
    """Odd lengths, prefixes, white space and other digits are malformed."""
    with pytest.raises(MalformedError):
        hex_checked(text)


def test_hex_of_another_length() -> None:
    """The number of bytes is checked and named."""
    with pytest.raises(MalformedError, match="expected 33 bytes of hex, not 1"):
        hex_checked("00", 33)
