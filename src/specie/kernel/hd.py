"""Seeds and hierarchical keys: BIP 39 words and BIP 32 private derivation.

Not here: public (unhardened from public key) derivation and extended-key text; the treasury brings those.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from dataclasses import dataclass, field

from mnemonic import Mnemonic

from specie.kernel import curve
from specie.kernel.errors import MalformedError

__all__ = ["HARDENED", "ExtendedKey", "entropy_from_words", "path_from_text", "seed_from_words", "words_from_entropy"]

HARDENED = 0x8000_0000


@functools.cache
def _wordlist() -> Mnemonic:
    return Mnemonic("english")


def words_from_entropy(entropy: bytes) -> str:
    """BIP 39 English words of 16, 20, 24, 28 or 32 FRESH random bytes (12 to 24 words)."""
    if len(entropy) not in (16, 20, 24, 28, 32):
        raise ValueError("entropy must be 16, 20, 24, 28 or 32 bytes")
    return str(_wordlist().to_mnemonic(entropy))


def _words_checked(words: str) -> str:
    normal = " ".join(words.lower().split())
    if len(normal.split(" ")) not in (12, 15, 18, 21, 24):
        raise MalformedError("a BIP 39 phrase has 12, 15, 18, 21 or 24 words")
    if not _wordlist().check(normal):
        raise MalformedError("the BIP 39 words or their checksum are wrong")
    return normal


def entropy_from_words(words: str) -> bytes:
    """The 16 to 32 bytes that the words spell; `words_from_entropy` gives them again. Errors as `seed_from_words`."""
    return bytes(_wordlist().to_entropy(_words_checked(words)))


def seed_from_words(words: str, passphrase: str = "") -> bytes:
    """The 64-byte BIP 39 seed. MalformedError, which never repeats a word, where words or checksum are wrong."""
    return bytes(Mnemonic.to_seed(_words_checked(words), passphrase))


def path_from_text(path: str) -> tuple[int, ...]:
    """Indices of `m/84'/0'/0`; `'` and `h` mark hardened ones. MalformedError for anything else."""
    head, *steps = path.split("/")
    if head != "m":
        raise MalformedError("a derivation path starts with m")
    indices: list[int] = []
    for step in steps:
        hard = step.endswith(("'", "h"))
        digits = step[:-1] if hard else step
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 10) or int(digits) >= HARDENED:
            raise MalformedError("a derivation path holds numbers below 2^31")
        indices.append(int(digits) + (HARDENED if hard else 0))
    return tuple(indices)


@dataclass(frozen=True, slots=True)
class ExtendedKey:
    """A BIP 32 private key: `secret` is a scalar, `chain_code` 32 bytes; neither is shown by repr."""

    secret: bytes = field(repr=False)
    chain_code: bytes = field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> ExtendedKey:
        """Master key of a 16 to 64 byte seed (BIP 32, master key generation)."""
        if not 16 <= len(seed) <= 64:
            raise ValueError("a BIP 32 seed has 16 to 64 bytes")
        digest = hmac.digest(b"Bitcoin seed", seed, hashlib.sha512)
        if not curve.is_scalar(digest[:32]):
            raise MalformedError("this seed has no master key")
        return cls(digest[:32], digest[32:])

    def child(self, index: int) -> ExtendedKey:
        """CKDpriv of BIP 32; `index` from 0 to 2**32-1, hardened from 2**31. Raises ValueError with probability 2**-127."""
        if index >= HARDENED:
            data = b"\x00" + self.secret
        else:
            data = curve.public_key(self.secret)
        digest = hmac.digest(self.chain_code, data + index.to_bytes(4, "big"), hashlib.sha512)
        return ExtendedKey(curve.scalar_add(self.secret, digest[:32]), digest[32:])

    def derive(self, path: tuple[int, ...]) -> ExtendedKey:
        """The descendant along `path`."""
        key = self
        for index in path:
            key = key.child(index)
        return key
