"""Proofs of equal discrete logarithms on secp256k1 (NUT-12): the mint's, and the check on both sides of blinding.

`prove` is called by the holder of the mint's key alone (a `keys` adapter). The nonce is deterministic, so no randomness
can be reused for two signatures.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from specie.ecash.codes import ProofInvalidError
from specie.ecash.proof import Dleq, Proof, ProofDleq, y
from specie.kernel import curve
from specie.kernel.errors import MalformedError

__all__ = ["hash_e", "nonce", "prove", "verify_dleq", "verify_proof_dleq"]

_NONCE_TAG = b"Cashu_DLEQ_R_v1"


def hash_e(points: tuple[bytes, bytes, bytes, bytes]) -> bytes:
    """Challenge of NUT-12 over (R1, R2, A, C_), compressed points: SHA-256 of their uncompressed hex text."""
    return sha256("".join([_uncompressed(point).hex() for point in points]).encode()).digest()


def _uncompressed(point: bytes) -> bytes:
    """65 bytes; what has them already was computed by us."""
    return point if len(point) == 65 else curve.uncompress(point)


def nonce(k: bytes, key: bytes, b_: bytes, c_: bytes) -> bytes:
    """Deterministic nonce of NUT-12 (a scalar): HMAC under the SECRET `k` of tag, points and a retry counter."""
    message = _NONCE_TAG + _uncompressed(key) + _uncompressed(b_) + _uncompressed(c_)
    for counter in range(256):
        candidate = hmac.digest(k, message + bytes((counter,)), "sha256")
        if curve.is_scalar(candidate):
            return candidate
    raise MalformedError("no nonce found")


def prove(k: bytes, key: bytes, b_: bytes, c_: bytes) -> Dleq:
    """Prove that C_ = k*B_ for the key A = k*G. `k` is SECRET; `c_` must have been computed from it.

    ValueError if a point or `k` is invalid: the caller checked them when it signed.
    """
    r = nonce(k, key, b_, c_)
    e = hash_e((curve.public_key_uncompressed(r), curve.multiply_secret_uncompressed(b_, r), key, c_))
    product = curve.scalar_multiply(curve.scalar_from_bytes_wrapping(e), k)
    return Dleq(e, curve.scalar_add(product, r))


def verify_dleq(b_: bytes, c_: bytes, dleq: Dleq | ProofDleq, key: bytes) -> None:
    """Check that C_ was made from B_ with the secret of `key` (NUT-12); None if so, else ProofInvalidError."""
    try:
        challenge = curve.scalar_from_bytes_wrapping(dleq.e)
        # R1 = s*G - e*A and R2 = s*B_ - e*C_
        minus_e = curve.scalar_negate(challenge)
        r1 = curve.tweak_add_public_uncompressed(curve.multiply_public_uncompressed(key, minus_e), dleq.s)
        sides = (curve.multiply_public_uncompressed(b_, dleq.s), curve.multiply_public_uncompressed(c_, minus_e))
        r2 = curve.add_uncompressed(sides)
        expected = hash_e((r1, r2, key, c_))
    except (ValueError, MalformedError):
        raise ProofInvalidError("DLEQ proof is malformed") from None
    if expected != dleq.e:
        raise ProofInvalidError("DLEQ proof does not verify")


def verify_proof_dleq(proof: Proof, key: bytes) -> None:
    """Check a proof's DLEQ off-line, against a key already trusted for its mint; None if it holds.

    ProofInvalidError if it does not, or if the proof carries none: absence is not a pass.
    """
    dleq = proof.dleq
    if dleq is None:
        raise ProofInvalidError("proof carries no DLEQ")
    try:
        b_ = curve.tweak_add_public(y(proof), dleq.r)
        c_ = curve.add((proof.C, curve.multiply_secret_uncompressed(key, dleq.r)))
    except ValueError:
        raise ProofInvalidError("DLEQ proof is malformed") from None
    verify_dleq(b_, c_, dleq, key)
