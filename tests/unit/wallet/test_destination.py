"""What a pasted text asks to have paid: addresses, offers, BIP 21 URIs; exact amounts, and nothing guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel import MalformedError
from specie.wallet.destination import (
    Destination,
    bitcoin_uri,
    is_address,
    parse_destination,
    sat_from_bitcoin,
)
from tests.support.method_mint import address_of, offer_of

# examples of BIP 173 and BIP 350, and addresses of the genesis block and of BIP 16 form
ADDRESSES = [
    "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
    "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
    "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
    "BC1SW50QGDZ25J",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "3P14159f73E4gFr7JterCCQh9QjiTjiZrG",
]
WRONG = [
    "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
    "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
    "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL",
    "bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",
    "bc1gmk9yu",
    "bc1rw5uspcuh",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7Divf0a",
    "ltc1qw508d6qejxtdg4y5r3zarvary0c5xw7kgmn4n9",
    "",
    "x" * 101,
    "bc1é",
]
INVOICE = "lnbc1u1p0"


@pytest.mark.parametrize("text", ADDRESSES)
def test_addresses_are_known(text: str) -> None:
    """Of every kind, in either case where the kind has none."""
    assert is_address(text)
    assert parse_destination(f" {text} ") == Destination(onchain=text)


@pytest.mark.parametrize("text", WRONG)
def test_what_is_mistyped_is_no_address(text: str) -> None:
    """A wrong checksum, the wrong kind of checksum for a version, another chain."""
    assert not is_address(text)
    with pytest.raises(MalformedError):
        parse_destination(text)


@given(place=st.integers(5, 41), step=st.integers(1, 31))
def test_one_wrong_letter_is_seen(place: int, step: int) -> None:
    """Any letter of an address replaced by another one."""
    charset = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    text = address_of("anyone")
    place = min(place, len(text) - 1)
    wrong = charset[(charset.index(text[place]) + step) % 32] if text[place] in charset else "q"
    assert not is_address(text[:place] + wrong + text[place + 1 :]) or text[place] == wrong


@pytest.mark.parametrize(
    ("text", "amount_sat"),
    [
        ("1", 100_000_000),
        ("0.00000001", 1),
        ("20.3", 2_030_000_000),
        ("50", 5_000_000_000),
        ("21000000", 2_100_000_000_000_000),
    ],
)
def test_amounts_are_exact(text: str, amount_sat: int) -> None:
    """Decimals of bitcoin, to the satoshi."""
    assert sat_from_bitcoin(text) == amount_sat


@pytest.mark.parametrize(
    "text",
    ["", "0", "0.0", "-1", "+1", "1e3", "1,5", ".5", "1.", "0.000000001", "21000000.00000001", "٣", "1 ", "NaN", "999999999"],
)
def test_amounts_that_are_not(text: str) -> None:
    """No exponents, no other digits, no rounding, no more than there is."""
    with pytest.raises(MalformedError):
        sat_from_bitcoin(text)


@given(st.integers(1, 2_100_000_000_000_000))
def test_a_uri_comes_back(amount_sat: int) -> None:
    """What we show a payer is read as what was meant."""
    address = address_of("shop")
    uri = bitcoin_uri(address, amount_sat=amount_sat, message="a & b?")
    assert parse_destination(uri) == Destination(onchain=address, amount_sat=amount_sat, message="a & b?")
    assert parse_destination(bitcoin_uri(address)) == Destination(onchain=address)


def test_a_uri_names_several_ways() -> None:
    """Lightning before on-chain, upper case as in QR codes, unknown parameters ignored, no address needed."""
    address, offer = address_of("shop"), offer_of(None)
    found = parse_destination(
        f"BITCOIN:{address.upper()}?AMOUNT=0.1&lightning={INVOICE}&LNO={offer.upper()}&pj=x&label=Caf%C3%A9"
    )
    assert found.ways == (("bolt11", INVOICE), ("bolt12", offer.upper()), ("onchain", address.upper()))
    assert (found.amount_sat, found.message) == (10_000_000, "Café")
    assert parse_destination(f"bitcoin:?lno={offer}").ways == (("bolt12", offer),)
    assert parse_destination(f"lightning:{INVOICE}").ways == (("bolt11", INVOICE),)


@pytest.mark.parametrize(
    "text",
    [
        "bitcoin:",
        "bitcoin:?amount=1",
        "bitcoin:bcrt1qwrong?amount=1",
        "bitcoin:{0}?req-future=1",
        "bitcoin:{0}?amount=1&amount=2",
        "bitcoin:{0}?amount=1&AMOUNT=1",
        "bitcoin:{0}?amount=0.000000001",
        "bitcoin:{0}?amount=",
        "bitcoin:{0}?lightning=hello",
        "bitcoin:{0}?lno=lno1x",
        "bitcoin:{0}?label=%ff",
        "bitcoin:{0}?" + "&".join(f"a{n}=1" for n in range(33)),
        "x" * 5000,
        "hello",
        "lnbc",
    ],
)
def test_a_uri_that_is_not_understood_is_refused(text: str) -> None:
    """Required things that are unknown, doubled or wrong parameters, nothing to pay."""
    with pytest.raises(MalformedError):
        parse_destination(text.replace("{0}", address_of("shop")))
