"""secp256k1 behind one face: points and scalars as bytes, arithmetic by libsecp256k1. No other room knows the library.

A point is its 33-byte compressed SEC1 form, a scalar 32 big-endian bytes in [1, n-1], an x-only key 32 bytes (BIP 340).
Functions take a point in its 65-byte uncompressed form too (not `is_point`, `negate`, `x_only`), which spares each of them
a square root; those named `..._uncompressed` answer in it. The compressed points read last are remembered as the library
holds them, since one that is checked is multiplied soon after.
Where a SECRET scalar multiplies a foreign point use `multiply_secret`, which is constant time; `multiply_public` is not.
The library releases the interpreter lock, so batches run in parallel on threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from btclib_secp256k1 import CData, dsa, ecdh, ffi, keys, lib, recovery, ssa, xonly

from specie.kernel.errors import MalformedError

__all__ = [
    "ORDER",
    "add",
    "add_uncompressed",
    "compress",
    "ecdsa_low_s",
    "ecdsa_recover",
    "ecdsa_sign_recoverable",
    "ecdsa_verify",
    "is_point",
    "is_scalar",
    "library_functions",
    "lift_x",
    "multiply_public",
    "multiply_public_uncompressed",
    "multiply_secret",
    "multiply_secret_uncompressed",
    "negate",
    "point_from_bytes_checked",
    "public_key",
    "public_key_uncompressed",
    "scalar_add",
    "scalar_from_bytes_wrapping",
    "scalar_multiply",
    "scalar_negate",
    "schnorr_sign",
    "schnorr_verify",
    "subtract",
    "tweak_add_public",
    "tweak_add_public_uncompressed",
    "uncompress",
    "x_only",
]

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Order n of the group."""


@lru_cache(maxsize=2048)
def _remembered(point: bytes) -> CData:
    return keys.parse(point)


def _parsed(point: bytes) -> CData:
    """The library's form of a point, which nobody may change; ValueError if it is none."""
    return _remembered(point) if len(point) == 33 else keys.parse(point)


def _copied(point: bytes) -> CData:
    """The same, for functions that work in place."""
    return ffi.new("secp256k1_pubkey *", _remembered(point)[0]) if len(point) == 33 else keys.parse(point)


def is_point(data: bytes) -> bool:
    """Whether `data` is the 33-byte compressed form of a curve point (the identity has no such form)."""
    if len(data) != 33 or data[0] not in (2, 3):
        return False
    try:
        _parsed(data)
    except ValueError:
        return False
    return True


def point_from_bytes_checked(data: bytes) -> bytes:
    """Return `data` if it is a compressed curve point; raise MalformedError otherwise."""
    if not is_point(data):
        raise MalformedError("not a compressed secp256k1 point")
    return data


def is_scalar(data: bytes) -> bool:
    """Whether `data` is 32 bytes in [1, n-1]."""
    return len(data) == 32 and keys.prvkey_verify(data)


def scalar_from_bytes_wrapping(data: bytes) -> bytes:
    """Big-endian `data` modulo n; MalformedError if that is 0. What is a scalar already comes back without arithmetic."""
    if is_scalar(data):
        return data
    value = int.from_bytes(data, "big") % ORDER
    if not value:
        raise MalformedError("scalar is zero")
    return value.to_bytes(32, "big")


def public_key(secret: bytes) -> bytes:
    """secret*G, constant time. ValueError unless `secret` is a scalar."""
    return keys.pubkey_from_prvkey(secret)


def public_key_uncompressed(secret: bytes) -> bytes:
    """secret*G in its 65-byte form, constant time. ValueError unless `secret` is a scalar."""
    return keys.pubkey_from_prvkey(secret, compressed=False)


def multiply_secret(point: bytes, secret: bytes) -> bytes:
    """secret*point in constant time. ValueError unless both are valid."""
    return ecdh._shared_point_(_parsed(point), secret)


def multiply_secret_uncompressed(point: bytes, secret: bytes) -> bytes:
    """secret*point in its 65-byte form, in constant time. ValueError unless both are valid."""
    return ecdh._shared_point_(_parsed(point), secret, False)


def multiply_public(point: bytes, scalar: bytes) -> bytes:
    """scalar*point in variable time: for scalars that are public only."""
    return keys.serialize(keys._pubkey_tweak_mul_(_copied(point), scalar))


def multiply_public_uncompressed(point: bytes, scalar: bytes) -> bytes:
    """scalar*point in its 65-byte form, in variable time: for scalars that are public only."""
    return keys.serialize(keys._pubkey_tweak_mul_(_copied(point), scalar), compressed=False)


def add(points: Sequence[bytes]) -> bytes:
    """Sum of points. ValueError if it is the identity."""
    return keys.serialize(keys._pubkey_combine_([_parsed(point) for point in points]))


def add_uncompressed(points: Sequence[bytes]) -> bytes:
    """Sum of points in its 65-byte form. ValueError if it is the identity."""
    return keys.serialize(keys._pubkey_combine_([_parsed(point) for point in points]), compressed=False)


def negate(point: bytes) -> bytes:
    """-point."""
    return bytes((point[0] ^ 1,)) + point[1:]


def subtract(left: bytes, right: bytes) -> bytes:
    """left - right. ValueError if they are equal."""
    return keys.serialize(keys._pubkey_combine_([_parsed(left), keys._pubkey_negate_(_copied(right))]))


def tweak_add_public(point: bytes, scalar: bytes) -> bytes:
    """point + scalar*G. ValueError if that is the identity."""
    return keys.serialize(keys._pubkey_tweak_add_(_copied(point), scalar))


def tweak_add_public_uncompressed(point: bytes, scalar: bytes) -> bytes:
    """point + scalar*G in its 65-byte form. ValueError if that is the identity."""
    return keys.serialize(keys._pubkey_tweak_add_(_copied(point), scalar), compressed=False)


def uncompress(point: bytes) -> bytes:
    """65-byte uncompressed form of a point. ValueError if it is none."""
    return keys.serialize(_parsed(point), compressed=False)


def compress(point: bytes) -> bytes:
    """33-byte form of a 65-byte point that came from this module; it is not checked to be on the curve."""
    return bytes((2 | point[64] & 1,)) + point[1:33]


def x_only(point: bytes) -> bytes:
    """The 32-byte x coordinate of a compressed point, as BIP 340 compares keys."""
    return point[1:]


def scalar_add(left: bytes, right: bytes) -> bytes:
    """left + right mod n. ValueError if that is 0."""
    return keys.prvkey_tweak_add(left, right)


def scalar_multiply(left: bytes, right: bytes) -> bytes:
    """left * right mod n."""
    return keys.prvkey_tweak_mul(left, right)


def scalar_negate(scalar: bytes) -> bytes:
    """-scalar mod n."""
    return keys.prvkey_negate(scalar)


def schnorr_sign(digest: bytes, secret: bytes, aux: bytes) -> bytes:
    """BIP 340 signature (64 bytes) over 32 bytes; `aux` is 32 FRESH random bytes."""
    return ssa.sign(digest, secret, aux)


def schnorr_verify(signature: bytes, digest: bytes, key: bytes) -> bool:
    """Whether `signature` is BIP 340 valid over `digest` for `key` (32 bytes x-only, or 33 whose first is ignored)."""
    if len(signature) != 64:
        return False
    try:
        return bool(ssa.verify(digest, key[1:] if len(key) == 33 else key, signature))
    except ValueError:
        return False


def ecdsa_sign_recoverable(digest: bytes, secret: bytes) -> tuple[bytes, int]:
    """Compact low-S ECDSA signature (64 bytes, RFC 6979 nonce) and recovery id 0 to 3 (BOLT 11)."""
    return recovery.sign(digest, secret)


def ecdsa_low_s(signature: bytes) -> bytes:
    """The low-S form of a compact signature (BIP 146), which signs the same. MalformedError where r or s is no scalar."""
    r, s = signature[:32], signature[32:]
    if not (is_scalar(r) and is_scalar(s)):
        raise MalformedError("not a compact ECDSA signature")
    return r + (scalar_negate(s) if int.from_bytes(s, "big") > ORDER // 2 else s)


def ecdsa_recover(digest: bytes, signature: bytes, recovery_id: int) -> bytes:
    """Compressed public key that made a compact signature; MalformedError where there is none."""
    try:
        return recovery.recover(digest, signature, recovery_id)
    except ValueError as error:
        raise MalformedError("signature has no public key") from error


def ecdsa_verify(digest: bytes, signature: bytes, key: bytes) -> bool:
    """Whether a compact signature is valid, of either S form (BOLT 11 takes high S)."""
    try:
        return bool(dsa.verify(digest, key, signature, normalize=True, compact=True))
    except ValueError:
        return False


def lift_x(x: bytes) -> bytes:
    """Compressed point with even y for an x coordinate (BIP 340); MalformedError if x is on no point."""
    if len(x) != 32 or not xonly.pubkey_verify(x):
        raise MalformedError("not an x-only public key")
    return b"\x02" + x


def library_functions(names: Sequence[str]) -> list[int]:
    """Addresses of public functions of the loaded libsecp256k1, for native code that calls it in batches.

    AttributeError for a name that is none of its functions. The addresses are good for as long as the process lives.
    """
    return [int(ffi.cast("uintptr_t", ffi.addressof(lib, name))) for name in names]
