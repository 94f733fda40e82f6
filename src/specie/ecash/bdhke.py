"""Blind Diffie-Hellman key exchange on secp256k1 (NUT-00): hash to curve, blind, unblind.

Not here: signing and verifying with the mint's secret key (`keys.Signer` alone holds it), and DLEQ proofs (`dleq`). The
untagged hash to curve from before 2024 is left out for good: with both in use one coin could be spent twice.
"""

from __future__ import annotations

from hashlib import sha256

from specie.kernel import curve
from specie.kernel.errors import MalformedError

__all__ = ["blind", "hash_to_curve", "unblind"]

_DOMAIN = b"Secp256k1_HashToCurve_Cashu_"
_ATTEMPTS = 1 << 16


def hash_to_curve(message: bytes) -> bytes:
    """The point Y of a message (33 bytes, NUT-00): of a proof, the UTF-8 bytes of its secret text.

    MalformedError where 2^16 counters give no point, which happens to nobody (probability 2^-65536).
    """
    digest = sha256(_DOMAIN + message).digest()
    for counter in range(_ATTEMPTS):
        candidate = b"\x02" + sha256(digest + counter.to_bytes(4, "little")).digest()
        if curve.is_point(candidate):
            return candidate
    raise MalformedError("message hashes to no point")


def blind(secret: str, r: bytes) -> bytes:
    """B_ = Y + r*G (33 bytes) for the text of a secret. `r`: a FRESH scalar of 32 bytes, known to nobody else.

    MalformedError if `r` is no scalar (0 or at least n), or for the one r that blinds to the identity.
    """
    if not curve.is_scalar(r):
        raise MalformedError("blinding factor is not a scalar")
    try:
        return curve.add((hash_to_curve(secret.encode()), curve.public_key_uncompressed(r)))
    except ValueError as error:
        raise MalformedError("blinding gives the identity") from error


def unblind(c_: bytes, r: bytes, key: bytes) -> bytes:
    """C = C_ - r*K (33 bytes) for the mint's public key `key`. MalformedError if a point or the scalar is invalid."""
    try:
        return curve.subtract(c_, curve.multiply_secret_uncompressed(key, r))
    except ValueError as error:
        raise MalformedError("signature cannot be unblinded") from error
