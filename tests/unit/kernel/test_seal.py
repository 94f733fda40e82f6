"""Sealing: it opens with the same key and context, and with nothing else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.kernel import seal
from specie.kernel.errors import MalformedError, RefusedError

KEY, NONCE, SALT = bytes(range(32)), bytes(range(12)), bytes(range(16))
SEED = b"a seed of thirty-two bytes......"
BLOB = seal.seal(SEED, KEY, nonce=NONCE, context=b"mint")


@pytest.fixture(scope="module")
def by_passphrase() -> bytes:
    """One blob under a passphrase, made once since that is meant to be slow."""
    return seal.seal_with_passphrase(SEED, b"correct horse", salt=SALT, nonce=NONCE, context=b"mint")


@given(st.binary(max_size=100), st.binary(min_size=32, max_size=32), st.binary(min_size=12, max_size=12), st.binary(max_size=9))
def test_round_trip(plaintext: bytes, key: bytes, nonce: bytes, context: bytes) -> None:
    """What is sealed opens, and is not readable in the blob."""
    sealed = seal.seal(plaintext, key, nonce=nonce, context=context)
    assert seal.unseal(sealed, key, context=context) == plaintext
    assert len(plaintext) < 8 or plaintext not in sealed[33:]
    assert key not in sealed[33:]
    assert not seal.is_passphrase_sealed(sealed)


@pytest.mark.parametrize("position", range(len(BLOB)))
def test_every_byte_is_authenticated(position: int) -> None:
    """Any byte changed, header included, and the blob does not open."""
    changed = BLOB[:position] + bytes((BLOB[position] ^ 1,)) + BLOB[position + 1 :]
    with pytest.raises(RefusedError):
        seal.unseal(changed, KEY, context=b"mint")


@pytest.mark.parametrize("length", range(len(BLOB)))
def test_every_cut_is_noticed(length: int) -> None:
    """A blob cut short anywhere does not open."""
    with pytest.raises(RefusedError):
        seal.unseal(BLOB[:length], KEY, context=b"mint")


def test_other_key_or_context_does_not_open() -> None:
    """Key and context are both needed."""
    with pytest.raises(seal.SealBrokenError):
        seal.unseal(BLOB, bytes(32), context=b"mint")
    with pytest.raises(seal.SealBrokenError):
        seal.unseal(BLOB, KEY, context=b"wallet")


def test_passphrase_round_trip(by_passphrase: bytes) -> None:
    """A passphrase opens what it sealed; another, or another context, does not."""
    assert seal.is_passphrase_sealed(by_passphrase)
    assert seal.unseal_with_passphrase(by_passphrase, b"correct horse", context=b"mint") == SEED
    with pytest.raises(seal.SealBrokenError) as caught:
        seal.unseal_with_passphrase(by_passphrase, b"battery staple", context=b"mint")
    assert "staple" not in str(caught.value)
    with pytest.raises(seal.SealBrokenError):
        seal.unseal_with_passphrase(by_passphrase, b"correct horse", context=b"wallet")


def test_kinds_are_not_confused(by_passphrase: bytes) -> None:
    """A key does not open a passphrase's blob, nor the reverse, and the error says which is wanted."""
    with pytest.raises(seal.SealBrokenError, match="by a passphrase"):
        seal.unseal(by_passphrase, KEY, context=b"mint")
    with pytest.raises(seal.SealBrokenError, match="by a key"):
        seal.unseal_with_passphrase(BLOB, b"correct horse", context=b"mint")


@pytest.mark.parametrize("cost", [(0, 4, 65536), (17, 4, 65536), (3, 0, 65536), (3, 17, 65536), (3, 4, 31), (3, 4, 2**21)])
def test_stored_cost_is_bounded(by_passphrase: bytes, cost: tuple[int, int, int]) -> None:
    """A changed file cannot ask for an hour or all memory: it is refused before the work."""
    changed = by_passphrase[:9] + struct.pack(">III", *cost) + by_passphrase[21:]
    with pytest.raises(MalformedError, match="cost"):
        seal.unseal_with_passphrase(changed, b"correct horse", context=b"mint")


def test_unknown_kind_is_named() -> None:
    """A blob of a later version is malformed, not a wrong key."""
    with pytest.raises(MalformedError, match="does not know"):
        seal.is_passphrase_sealed(BLOB[:8] + b"\x09" + BLOB[9:])
    with pytest.raises(MalformedError, match="not a sealed blob"):
        seal.is_passphrase_sealed(b"x" * 100)


def test_lengths_are_checked_when_sealing() -> None:
    """A nonce, salt or key of another length would make a blob that never opens; it is refused."""
    for nonce, key in ((bytes(11), KEY), (bytes(13), KEY), (NONCE, bytes(16))):
        with pytest.raises(ValueError):
            seal.seal(SEED, key, nonce=nonce, context=b"")
    for salt, nonce in ((bytes(15), NONCE), (SALT, bytes(16))):
        with pytest.raises(ValueError):
            seal.seal_with_passphrase(SEED, b"x", salt=salt, nonce=nonce, context=b"")
    with pytest.raises(RefusedError, match="empty"):
        seal.seal_with_passphrase(SEED, b"", salt=SALT, nonce=NONCE, context=b"")


def test_equal_plaintexts_are_sealed_differently() -> None:
    """Another nonce gives another ciphertext."""
    other = seal.seal(SEED, KEY, nonce=bytes(12), context=b"mint")
    assert other[-len(SEED) - 16 :] != BLOB[-len(SEED) - 16 :]


def test_derived_keys_are_those_of_rfc_5869() -> None:
    """Appendix A.3 (no salt, no info), and another key for each use and seed."""
    published = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert seal.derived_key(b"\x0b" * 22, "").hex() == published
    keys = {seal.derived_key(bytes([seed] * 16), use) for seed in (1, 2) for use in ("one", "two")}
    assert len(keys) == 4
    with pytest.raises(ValueError, match="16 bytes"):
        seal.derived_key(b"short", "one")
