"""Seeds, words and derivation against BIP 32 and BIP 39, and what they refuse."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.kernel import curve, hd
from specie.kernel.errors import MalformedError

VECTORS = Path(__file__).parents[2] / "vectors/bips"
BIP32: list[dict[str, Any]] = json.loads((VECTORS / "bip32.json").read_text())["records"]
BIP39: list[dict[str, Any]] = json.loads((VECTORS / "bip39.json").read_text())["records"]
WORDS = "abandon " * 11 + "about"


@pytest.mark.parametrize("vector", BIP32, ids=lambda vector: f"{vector['seed'][:8]}-{vector['path']}")
def test_bip32_vectors(vector: dict[str, str]) -> None:
    """Every printed extended key of BIP 32, leading zeros included."""
    key = hd.ExtendedKey.from_seed(bytes.fromhex(vector["seed"])).derive(hd.path_from_text(vector["path"]))
    assert key.secret.hex() == vector["secret"]
    assert key.chain_code.hex() == vector["chain_code"]
    assert curve.public_key(key.secret).hex() == vector["public_key"]


@pytest.mark.parametrize("vector", BIP39, ids=lambda vector: vector["entropy"][:12])
def test_bip39_vectors(vector: dict[str, str]) -> None:
    """Every English vector of BIP 39: words of the entropy, seed of the words."""
    assert hd.words_from_entropy(bytes.fromhex(vector["entropy"])) == vector["words"]
    assert hd.seed_from_words(vector["words"], "TREZOR").hex() == vector["seed"]


def test_words_are_read_as_people_write_them() -> None:
    """Case and white space of the words do not matter."""
    assert hd.seed_from_words("  " + WORDS.upper().replace(" ", "\n ")) == hd.seed_from_words(WORDS)


@pytest.mark.parametrize(
    "words",
    ["", "abandon", WORDS + " about", "abandon " * 12, WORDS.replace("about", "zzz"), WORDS.replace("about", "ábandon")],
)
def test_wrong_words_are_refused_and_not_repeated(words: str) -> None:
    """A wrong count, word or checksum is malformed, and the error holds none of the words."""
    with pytest.raises(MalformedError) as caught:
        hd.seed_from_words(words)
    assert not any(word in caught.value.detail.split() for word in words.split())


@pytest.mark.parametrize("count", [0, 15, 17, 33, 64])
def test_entropy_has_five_sizes(count: int) -> None:
    """Entropy that makes no whole number of words is an error of the caller."""
    with pytest.raises(ValueError):
        hd.words_from_entropy(bytes(count))


@pytest.mark.parametrize("count", [0, 15, 65])
def test_seed_has_16_to_64_bytes(count: int) -> None:
    """BIP 32 takes seeds of 128 to 512 bits."""
    with pytest.raises(ValueError):
        hd.ExtendedKey.from_seed(bytes(count))


def test_paths() -> None:
    """Both marks of hardening are read; the master is the empty path."""
    assert hd.path_from_text("m") == ()
    assert hd.path_from_text("m/84'/0h/7/2147483647") == (84 + hd.HARDENED, hd.HARDENED, 7, hd.HARDENED - 1)


@pytest.mark.parametrize(
    "path",
    ["", "84", "/0", "m/", "m//0", "m/-1", "m/0''", "m/'", "m/x", "m/2147483648", "m/1.0", "m/٣", "m/" + "9" * 5000, "M/0"],
)
def test_what_is_no_path(path: str) -> None:
    """Anything but m and numbers below 2^31 is malformed, however long."""
    with pytest.raises(MalformedError):
        hd.path_from_text(path)


def test_keys_stay_out_of_repr() -> None:
    """Neither the secret nor the chain code of a key is shown."""
    key = hd.ExtendedKey.from_seed(bytes(range(32)))
    assert repr(key) == "ExtendedKey()"


@given(st.binary(min_size=16, max_size=64), st.lists(st.integers(0, 2**32 - 1), max_size=4))
@settings(max_examples=40, deadline=None)
def test_derivation_is_the_sum_of_bip32(seed: bytes, path: list[int]) -> None:
    """Each child is parent + HMAC left half modulo n, with the parent's secret or public key by hardening."""
    key = hd.ExtendedKey.from_seed(seed)
    for index in path:
        data = b"\x00" + key.secret if index >= hd.HARDENED else curve.public_key(key.secret)
        digest = hmac.new(key.chain_code, data + index.to_bytes(4, "big"), hashlib.sha512).digest()
        total = int.from_bytes(key.secret, "big") + int.from_bytes(digest[:32], "big")
        child = key.child(index)
        assert int.from_bytes(child.secret, "big") == total % curve.ORDER
        assert child.chain_code == digest[32:]
        key = child
    assert hd.ExtendedKey.from_seed(seed).derive(tuple(path)) == key


def test_seed_without_master_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed whose left half is no scalar is refused, as BIP 32 asks."""
    monkeypatch.setattr(hmac, "digest", lambda *_: b"\xff" * 64)
    with pytest.raises(MalformedError):
        hd.ExtendedKey.from_seed(bytes(32))
