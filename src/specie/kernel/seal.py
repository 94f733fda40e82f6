"""Sealing: bytes at rest that only a key or a passphrase opens. AES-256-GCM, and Argon2id (RFC 9106) for passphrases.

A sealed blob is self-describing: magic, version, key kind, parameters, salt, nonce, ciphertext; all of its header is
authenticated. Not here: where the sealing key lives (that is a `keys` adapter's).
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from specie.kernel.errors import MalformedError, RefusedError

__all__ = [
    "NONCE_BYTES",
    "SALT_BYTES",
    "SealBrokenError",
    "derived_key",
    "is_passphrase_sealed",
    "seal",
    "seal_with_passphrase",
    "unseal",
    "unseal_with_passphrase",
]

_MAGIC = b"specie\x00\x01"
_RAW, _ARGON2ID = 0, 1
_PARAMETERS = struct.Struct(">BIII")
NONCE_BYTES = 12
SALT_BYTES = 16
_ITERATIONS, _LANES, _MEMORY_KIB = 3, 4, 65_536


class SealBrokenError(RefusedError):
    """Wrong key or passphrase, or the sealed bytes were changed; the two cannot be told apart."""


def seal(plaintext: bytes, key: bytes, *, nonce: bytes, context: bytes) -> bytes:
    """Seal with a 32-byte key. `nonce`: 12 FRESH random bytes; `context` names the use and must be given again to open."""
    if len(nonce) != NONCE_BYTES or len(key) != 32:
        raise ValueError("seal takes a key of 32 bytes and a nonce of 12")
    header = _MAGIC + _PARAMETERS.pack(_RAW, 0, 0, 0) + nonce
    return header + AESGCM(key).encrypt(nonce, plaintext, header + context)


def unseal(sealed: bytes, key: bytes, *, context: bytes) -> bytes:
    """Open what `seal` made. SealBrokenError for the wrong key or context, MalformedError for what is no sealed blob."""
    kind, _, start = _header(sealed)
    if kind != _RAW:
        raise SealBrokenError("this is sealed by a passphrase, not by a key file")
    return _open(sealed, key, start, context)


def seal_with_passphrase(plaintext: bytes, passphrase: bytes, *, salt: bytes, nonce: bytes, context: bytes) -> bytes:
    """Seal under a passphrase (Argon2id: 3 passes, 4 lanes, 64 MiB). `salt` 16 and `nonce` 12 FRESH random bytes."""
    if not passphrase:
        raise RefusedError("the passphrase is empty")
    if len(nonce) != NONCE_BYTES or len(salt) != SALT_BYTES:
        raise ValueError("seal_with_passphrase takes a salt of 16 bytes and a nonce of 12")
    header = _MAGIC + _PARAMETERS.pack(_ARGON2ID, _ITERATIONS, _LANES, _MEMORY_KIB) + salt + nonce
    key = _stretch(passphrase, salt, _ITERATIONS, _LANES, _MEMORY_KIB)
    return header + AESGCM(key).encrypt(nonce, plaintext, header + context)


def unseal_with_passphrase(sealed: bytes, passphrase: bytes, *, context: bytes) -> bytes:
    """Open what `seal_with_passphrase` made; errors as `unseal`. Its stored cost is bounded, so a file cannot exhaust us."""
    kind, (iterations, lanes, memory_kib), start = _header(sealed)
    if kind != _ARGON2ID:
        raise SealBrokenError("this is sealed by a key file, not by a passphrase")
    if not (1 <= iterations <= 16 and 1 <= lanes <= 16 and 8 * lanes <= memory_kib <= 1_048_576):
        raise MalformedError("sealed with a cost outside our bounds")
    salt = sealed[start - NONCE_BYTES - SALT_BYTES : start - NONCE_BYTES]
    return _open(sealed, _stretch(passphrase, salt, iterations, lanes, memory_kib), start, context)


def is_passphrase_sealed(sealed: bytes) -> bool:
    """Whether a sealed blob opens with a passphrase (else with a 32-byte key). MalformedError if it is no sealed blob."""
    return _header(sealed)[0] == _ARGON2ID


def derived_key(seed: bytes, use: str) -> bytes:
    """A key of 32 bytes for one use, from a seed of 16 bytes or more (HKDF-SHA256, RFC 5869; `use` is its info)."""
    if len(seed) < 16:
        raise ValueError("a seed has at least 16 bytes")
    return HKDF(SHA256(), 32, salt=None, info=use.encode()).derive(seed)


def _header(sealed: bytes) -> tuple[int, tuple[int, int, int], int]:
    fixed = len(_MAGIC) + _PARAMETERS.size
    if len(sealed) < fixed or not sealed.startswith(_MAGIC):
        raise MalformedError("not a sealed blob")
    kind, iterations, lanes, memory_kib = _PARAMETERS.unpack(sealed[len(_MAGIC) : fixed])
    if kind not in (_RAW, _ARGON2ID):
        raise MalformedError("sealed in a way this version does not know")
    start = fixed + NONCE_BYTES + (SALT_BYTES if kind == _ARGON2ID else 0)
    if len(sealed) < start + 16:
        raise MalformedError("sealed blob is cut short")
    return kind, (iterations, lanes, memory_kib), start


def _open(sealed: bytes, key: bytes, start: int, context: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[start - NONCE_BYTES : start], sealed[start:], sealed[:start] + context)
    except InvalidTag:
        raise SealBrokenError("wrong key or passphrase, or the sealed bytes were changed") from None


def _stretch(passphrase: bytes, salt: bytes, iterations: int, lanes: int, memory_kib: int) -> bytes:
    kdf = Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory_kib)
    return kdf.derive(passphrase)
