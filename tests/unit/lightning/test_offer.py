"""BOLT 12 offers: the vectors of the specification, both ways, and what a reader must not take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel import RefusedError, curve
from specie.lightning import Network, OfferMalformedError, decode_offer, encode_offer

RECORDS: list[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "vectors" / "bolt12.json").read_text())["records"]
KEY = curve.public_key(b"\x07" * 32)


@pytest.mark.parametrize("record", RECORDS, ids=lambda one: str(one["id"]))
def test_vectors(record: dict[str, Any]) -> None:
    """Every offer that is valid is read, every other is refused."""
    if record["valid"]:
        assert len(decode_offer(record["offer"]).digest) == 32
        return
    with pytest.raises(RefusedError):
        decode_offer(record["offer"])


def _named(name: str) -> str:
    return next(str(one["offer"]) for one in RECORDS if one["id"] == name)


def test_what_the_vectors_say() -> None:
    """Amount, words, expiry, currency, issuer and chains are those that the vectors print."""
    amount = decode_offer(_named("with amount"))
    assert (amount.amount_msat, amount.description, amount.currency) == (10_000, "Test vectors", None)
    foreign = decode_offer(_named("with currency"))
    assert (foreign.amount_msat, foreign.currency) == (None, "USD")
    expiry = decode_offer(_named("with expiry"))
    assert expiry.absolute_expiry == 0x7A4297D8
    assert expiry.expired(expiry.absolute_expiry + 1)
    assert not expiry.expired(expiry.absolute_expiry)
    assert decode_offer(_named("with issuer")).issuer == "https://bolt12.org BOLT12 industries"
    assert decode_offer(_named("with metadata")).metadata == bytes(16)
    minimal = decode_offer(_named("minimal"))
    assert minimal.on(Network.BITCOIN)
    assert not minimal.expired(2**40)
    assert decode_offer(_named("for testnet")).on(Network.TESTNET)
    assert not decode_offer(_named("for testnet")).on(Network.BITCOIN)
    liquid = decode_offer(_named("for bitcoin or liquid"))
    assert [liquid.on(one) for one in (Network.BITCOIN, Network.REGTEST, Network.SIGNET)] == [True, False, False]
    assert decode_offer(_named("path and no issuer")).issuer_id is None
    texts = ("a complete string", "upper case", "joined anywhere", "joined with white space")
    assert len({decode_offer(_named(name)).digest for name in texts}) == 1


@given(
    amount=st.none() | st.integers(1, 10**15),
    description=st.text(max_size=300),
    expiry=st.none() | st.integers(0, 2**63),
    network=st.sampled_from([Network.BITCOIN, Network.TESTNET, Network.REGTEST]),
    metadata=st.binary(min_size=16, max_size=64),
)
def test_what_is_written_is_read(
    amount: int | None, description: str, expiry: int | None, network: Network, metadata: bytes
) -> None:
    """Every field comes back, and the text is its own reading."""
    made = encode_offer(
        network=network,
        issuer_id=KEY,
        metadata=metadata,
        amount_msat=amount,
        description=description,
        absolute_expiry=expiry,
    )
    assert (made.amount_msat, made.description, made.absolute_expiry, made.metadata, made.issuer_id) == (
        amount,
        description,
        expiry,
        metadata,
        KEY,
    )
    assert made.on(network)
    assert decode_offer(made.text.upper()).digest == made.digest


@pytest.mark.parametrize(
    "text",
    ["", "lno", "lni1pg", "Lno1pg", "lno1b", "lno1" + "q" * 5000, "lno1pg\u00e9", "lno1q0", "lno1pqqqpgqkyypwa3eyt44h6txtxq"],
)
def test_what_is_no_offer_is_refused(text: str) -> None:
    """Other beginnings, mixed case, foreign characters, lengths, and amounts of nothing."""
    with pytest.raises(OfferMalformedError):
        decode_offer(text)


@pytest.mark.parametrize("amount", [0, 21_000_000 * 100_000_000 * 1000 + 1])
def test_amounts_out_of_range_are_refused(amount: int) -> None:
    """Nothing, and more than there is."""
    with pytest.raises(OfferMalformedError):
        encode_offer(network=Network.BITCOIN, issuer_id=KEY, metadata=bytes(16), amount_msat=amount)


@given(st.text(alphabet="lno1qpzry9x8gf2tvdw0s3jn54khce6mua7+ \n", max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No other error than those of the tree."""
    try:
        decode_offer("lno1" + text)
    except RefusedError:
        return
