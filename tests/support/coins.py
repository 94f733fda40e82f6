"""A mint's key and coins made with it, without a mint: what tests of `ecash` spend, lock and tamper with."""

from __future__ import annotations

from hashlib import sha256

from specie.ecash.dleq import prove
from specie.ecash.keyset import Keyset, derive_keyset_id
from specie.ecash.proof import BlindedMessage, BlindSignature, Proof
from specie.ecash.transaction import blinded_message, unblind_signature
from specie.kernel import curve


def secret_key(name: str | int) -> bytes:
    """A scalar that depends on a name alone."""
    return sha256(f"key {name}".encode()).digest()


def public_key(name: str | int) -> bytes:
    """The point of `secret_key`."""
    return curve.public_key(secret_key(name))


def make_keyset(name: str = "mint", *, amounts: int = 64, unit: str = "sat", fee: int = 0, expiry: int | None = None) -> Keyset:
    """A keyset of version 01 with a key for each power of two."""
    keys = {2**exponent: public_key(f"{name} {2**exponent}") for exponent in range(amounts)}
    identifier = derive_keyset_id(1, unit=unit, keys=keys, input_fee_ppk=fee, final_expiry=expiry)
    return Keyset(id=identifier, unit=unit, keys=keys, input_fee_ppk=fee, final_expiry=expiry)


def sign_output(output: BlindedMessage, name: str = "mint") -> BlindSignature:
    """What the mint of `make_keyset` answers."""
    k = secret_key(f"{name} {output.amount}")
    c_ = curve.multiply_secret(output.B_, k)
    return BlindSignature(output.amount, output.id, c_, prove(k, curve.public_key(k), output.B_, c_))


def make_coin(secret: str, amount: int = 1, *, keyset: Keyset | None = None, name: str = "mint") -> Proof:
    """A good coin with DLEQ."""
    keys = keyset or make_keyset(name)
    r = secret_key(f"r {secret}")
    output = blinded_message(amount, keys.id, secret, r)
    return unblind_signature(output, sign_output(output, name), secret=secret, r=r, key=keys.keys[amount])


def is_good(proof: Proof, name: str = "mint") -> bool:
    """Whether C == kY, as the mint judges."""
    return curve.multiply_secret(proof.y, secret_key(f"{name} {proof.amount}")) == proof.C


def signature(digest: bytes, name: str | int, *, aux: bytes = bytes(32)) -> bytes:
    """BIP 340 signature by the key of a name."""
    return curve.schnorr_sign(digest, secret_key(name), aux)
