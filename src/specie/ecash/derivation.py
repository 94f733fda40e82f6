"""Deterministic secrets and keys of a wallet's seed (NUT-13, NUT-27; NUT-11 and NUT-20 keys as merged since July 2026).

Called by the holder of the seed alone (a `keys` adapter). The way is chosen by the version of the keyset id; a version
unknown here is refused rather than guessed, since other secrets than those of issuance restore nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import sha256

from specie.ecash.keyset import keyset_id_checked
from specie.kernel import curve
from specie.kernel.errors import MalformedError
from specie.kernel.hd import HARDENED, ExtendedKey

__all__ = ["derive", "derive_v1", "derive_v2", "mint_backup_secret_key", "p2pk_secret_key", "quote_secret_key"]

_BACKUP_TAG = b"cashu-mint-backup"
_TAG = b"Cashu_KDF_HMAC_SHA256"
_SECRET, _BLINDING = b"\x00", b"\x01"
_PURPOSE_COINS = 129372 + HARDENED
_PURPOSE_KEYS = 129373 + HARDENED


def derive_v1(seed: bytes, keyset_id: str, counter: int) -> tuple[str, bytes]:
    """Secret and blinding factor of a 00 keyset (NUT-13, BIP 32 m/129372'/0'/{id}'/{counter}'/0 and /1).

    The keyset's number is its id, as an integer, modulo 2^31 - 1. MalformedError for a counter outside 0 to 2^31 - 1.
    """
    if not 0 <= counter < HARDENED:
        raise MalformedError("counter is outside of its range")
    number = int(keyset_id, 16) % (2**31 - 1)
    path = (_PURPOSE_COINS, HARDENED, HARDENED + number, HARDENED + counter)
    node = ExtendedKey.from_seed(seed).derive(path)
    return node.child(0).secret.hex(), node.child(1).secret


def derive_v2(seed: bytes, keyset_id: str, counter: int) -> tuple[str, bytes]:
    """Secret and blinding factor of a 01 keyset (NUT-13, HMAC-SHA256 under the 64-byte BIP 39 seed).

    MalformedError for a counter outside 0 to 2^64 - 1, or if the blinding factor is zero: use the next counter then.
    """
    if not 0 <= counter < 2**64:
        raise MalformedError("counter is outside of its range")
    message = _TAG + bytes.fromhex(keyset_id) + counter.to_bytes(8, "big")
    secret = hmac.digest(seed, message + _SECRET, "sha256")
    return secret.hex(), curve.scalar_from_bytes_wrapping(hmac.digest(seed, message + _BLINDING, "sha256"))


_BY_VERSION: dict[str, Callable[[bytes, str, int], tuple[str, bytes]]] = {"00": derive_v1, "01": derive_v2}


def derive(seed: bytes, keyset_id: str, counter: int) -> tuple[str, bytes]:
    """Secret (64 hex characters, to be used as text) and blinding factor r (32 bytes) of one counter of a keyset.

    `seed` is the 64-byte BIP 39 seed, SECRET. MalformedError for an id that is not full-length hex of a known version.
    """
    full = keyset_id_checked(keyset_id)
    return _BY_VERSION[full[:2]](seed, full, counter)


def p2pk_secret_key(seed: bytes, counter: int) -> bytes:
    """Secret key for receiving P2PK locked coins: m/129373'/10'/0'/0'/{counter}. MalformedError from 2^31."""
    return _wallet_key(seed, 10, counter)


def quote_secret_key(seed: bytes, counter: int) -> bytes:
    """Secret key that locks a mint quote (NUT-20): m/129373'/20'/0'/0'/{counter}. MalformedError from 2^31."""
    return _wallet_key(seed, 20, counter)


def mint_backup_secret_key(seed: bytes) -> bytes:
    """Secret key under which a wallet keeps its list of mints on Nostr relays (NUT-27)."""
    return sha256(seed + _BACKUP_TAG).digest()


def _wallet_key(seed: bytes, use: int, counter: int) -> bytes:
    if not 0 <= counter < HARDENED:
        raise MalformedError("counter is outside of its range")
    path = (_PURPOSE_KEYS, HARDENED + use, HARDENED, HARDENED, counter)
    return ExtendedKey.from_seed(seed).derive(path).secret
