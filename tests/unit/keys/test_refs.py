"""The names of keys: what is one, and what is none, for every provider alike."""

from __future__ import annotations

import pytest

from specie.keys import KeysetRef, KeyUnknownError
from specie.keys.refs import amount_checked, counter_checked, mint_ref, mint_ref_parsed, word_ref_checked


def test_a_mint_keys_ref_is_read_as_it_is_written() -> None:
    """Unit, index and amount, to the largest of each."""
    for keyset, amount in ((KeysetRef("sat", 0), 1), (KeysetRef("usd", 2**31 - 1), 2**63)):
        assert mint_ref_parsed(mint_ref(keyset, amount)) == (keyset, amount)


@pytest.mark.parametrize(
    "ref", ["mint", "mint/sat/0", "mint/sat/0/064", "mint//0/1", "mint/sat/x/1", "mint/sat/0/1/2", "x/a/0/1"]
)
def test_what_is_no_mint_ref(ref: str) -> None:
    """Anything else names no key."""
    with pytest.raises(KeyUnknownError):
        mint_ref_parsed(ref)


@pytest.mark.parametrize(("index", "amount"), [(-1, 1), (2**31, 1), (0, 0), (0, 3), (0, 2**64)])
def test_keysets_and_amounts_without_keys(index: int, amount: int) -> None:
    """An index has 31 bits, an amount is a power of two."""
    with pytest.raises(KeyUnknownError):
        amount_checked(KeysetRef("sat", index), amount)


def test_counters_and_words() -> None:
    """A counter has no leading zero and 31 bits; words have no capitals, no empty part, and an end."""
    assert counter_checked("p2pk", "2147483647") == 2**31 - 1
    assert word_ref_checked("nostr/1.a_b-c") == "nostr/1.a_b-c"
    for text in ("", "01", "-1", "2147483648", "٣"):
        with pytest.raises(KeyUnknownError):
            counter_checked("p2pk", text)
    for ref in ("", "/", "a//b", "A", "a/", "x" * 201):
        with pytest.raises(KeyUnknownError):
            word_ref_checked(ref)
