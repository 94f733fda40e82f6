"""The curve façade: against another library on the same inputs, against BIP 340, and at its edges."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import coincurve
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.kernel import curve
from specie.kernel.errors import MalformedError

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/bips/bip340.json").read_text())["records"]

ONE = (1).to_bytes(32, "big")
ZERO = bytes(32)
N = curve.ORDER.to_bytes(32, "big")
MAX = (curve.ORDER - 1).to_bytes(32, "big")
G = bytes.fromhex("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
# x = 5 is on no point of the curve; x = field prime is no field element.
OFF_CURVE = b"\x02" + (5).to_bytes(32, "big")
NOT_IN_FIELD = b"\x02" + bytes.fromhex("fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f")

edges = st.sampled_from([1, 2, 3, curve.ORDER // 2, curve.ORDER // 2 + 1, curve.ORDER - 2, curve.ORDER - 1])
scalars = st.one_of(edges, st.integers(1, curve.ORDER - 1)).map(lambda value: value.to_bytes(32, "big"))
points = scalars.map(curve.public_key)
digests = st.binary(min_size=32, max_size=32)
differential = settings(max_examples=60, deadline=None)


@differential
@given(scalars)
def test_public_keys_agree(secret: bytes) -> None:
    """k*G is the other library's public key, in both forms."""
    other = coincurve.PrivateKey(secret).public_key
    assert curve.public_key(secret) == other.format()
    assert curve.public_key_uncompressed(secret) == other.format(compressed=False)


@differential
@given(points, scalars)
def test_multiplications_agree(point: bytes, scalar: bytes) -> None:
    """Constant-time and variable-time products are one value, the other library's, from either form of the point."""
    expected = coincurve.PublicKey(point).multiply(scalar).format()
    assert curve.multiply_secret(point, scalar) == expected
    assert curve.multiply_public(point, scalar) == expected
    assert curve.multiply_secret(curve.uncompress(point), scalar) == expected
    assert curve.compress(curve.multiply_secret_uncompressed(point, scalar)) == expected


@differential
@given(points, points, scalars)
def test_sums_agree(left: bytes, right: bytes, scalar: bytes) -> None:
    """Sum, difference, negation and P + k*G are the other library's; those that give the identity raise."""
    first, second = coincurve.PublicKey(left), coincurve.PublicKey(right)
    minus = coincurve.PublicKey(right).multiply(MAX)
    assert curve.negate(right) == minus.format()
    if left == curve.negate(right):
        with pytest.raises(ValueError):
            curve.add((left, right))
    else:
        assert curve.add((left, right)) == coincurve.PublicKey.combine_keys([first, second]).format()
    if left == right:
        with pytest.raises(ValueError):
            curve.subtract(left, right)
    else:
        assert curve.subtract(left, right) == coincurve.PublicKey.combine_keys([first, minus]).format()
    if left != curve.negate(curve.public_key(scalar)):
        assert curve.tweak_add_public(left, scalar) == coincurve.PublicKey(left).add(scalar).format()


@differential
@given(scalars, scalars)
def test_scalars_are_integers_modulo_n(left: bytes, right: bytes) -> None:
    """Sum, product and negation of scalars are those of integers modulo n; a sum of zero raises."""
    a, b = int.from_bytes(left, "big"), int.from_bytes(right, "big")
    assert int.from_bytes(curve.scalar_multiply(left, right), "big") == a * b % curve.ORDER
    assert int.from_bytes(curve.scalar_negate(left), "big") == curve.ORDER - a
    if (a + b) % curve.ORDER:
        assert int.from_bytes(curve.scalar_add(left, right), "big") == (a + b) % curve.ORDER
    else:
        with pytest.raises(ValueError):
            curve.scalar_add(left, right)


@differential
@given(points)
def test_forms_of_a_point(point: bytes) -> None:
    """Compressing undoes uncompressing, and both are the other library's forms."""
    long = curve.uncompress(point)
    assert long == coincurve.PublicKey(point).format(compressed=False)
    assert curve.compress(long) == point
    assert curve.x_only(point) == point[1:]
    assert curve.lift_x(point[1:]) == b"\x02" + point[1:]


@differential
@given(scalars, digests, digests)
def test_schnorr_agrees(secret: bytes, digest: bytes, aux: bytes) -> None:
    """A BIP 340 signature is byte for byte the other library's; one changed bit breaks it."""
    signature = curve.schnorr_sign(digest, secret, aux)
    assert signature == coincurve.PrivateKey(secret).sign_schnorr(digest, aux)
    key = curve.public_key(secret)
    assert curve.schnorr_verify(signature, digest, key)
    assert curve.schnorr_verify(signature, digest, curve.x_only(key))
    assert not curve.schnorr_verify(bytes((signature[0] ^ 1,)) + signature[1:], digest, key)
    assert not curve.schnorr_verify(signature, bytes((digest[0] ^ 1,)) + digest[1:], key)


@differential
@given(scalars, digests)
def test_ecdsa_agrees(secret: bytes, digest: bytes) -> None:
    """The recoverable signature is the other library's (RFC 6979, low S), recovers its key, and verifies in both S forms."""
    signature, recovery_id = curve.ecdsa_sign_recoverable(digest, secret)
    assert signature + bytes((recovery_id,)) == coincurve.PrivateKey(secret).sign_recoverable(digest, hasher=None)
    key = curve.public_key(secret)
    assert curve.ecdsa_recover(digest, signature, recovery_id) == key
    assert curve.ecdsa_verify(digest, signature, key)
    assert curve.ecdsa_verify(digest, signature[:32] + curve.scalar_negate(signature[32:]), key)
    assert not curve.ecdsa_verify(bytes((digest[0] ^ 1,)) + digest[1:], signature, key)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['index']}-{vector['comment'][:30]}")
def test_bip340_vectors(vector: dict[str, str]) -> None:
    """Every official BIP 340 vector signs and verifies as printed."""
    key, message = bytes.fromhex(vector["public_key"]), bytes.fromhex(vector["message"])
    signature = bytes.fromhex(vector["signature"])
    assert curve.schnorr_verify(signature, message, key) is vector["verification_result"]
    if vector["secret_key"] and len(message) == 32:
        secret = bytes.fromhex(vector["secret_key"])
        assert curve.x_only(curve.public_key(secret)) == key
        assert curve.schnorr_sign(message, secret, bytes.fromhex(vector["aux_rand"])) == signature


def test_group_facts() -> None:
    """1*G is G, (n-1)*G is -G, and G - G, 0*G and n*G do not exist."""
    assert curve.public_key(ONE) == G
    assert curve.public_key(MAX) == curve.negate(G)
    for refused in (ZERO, N, b"\xff" * 32, b"", bytes(31)):
        with pytest.raises(ValueError):
            curve.public_key(refused)
        with pytest.raises(ValueError):
            curve.multiply_secret(G, refused)
        assert not curve.is_scalar(refused)
    with pytest.raises(ValueError):
        curve.subtract(G, G)
    with pytest.raises(ValueError):
        curve.tweak_add_public(G, MAX)
    with pytest.raises(ValueError):
        curve.add(())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x00" * 33,
        G[:-1],
        G + b"\x00",
        b"\x04" + G[1:],
        b"\x05" + G[1:],
        OFF_CURVE,
        NOT_IN_FIELD,
        b"\x06" + G[1:],
    ],
    ids=lambda data: data.hex()[:10],
)
def test_what_is_no_point(data: bytes) -> None:
    """The identity, other lengths, other prefixes, x off the curve and x outside the field are refused."""
    assert not curve.is_point(data)
    with pytest.raises(MalformedError):
        curve.point_from_bytes_checked(data)


def test_uncompressed_and_hybrid_points_are_not_compressed_ones() -> None:
    """A 65-byte point is one for the arithmetic but not where the wire asks for 33 bytes."""
    long = curve.uncompress(G)
    assert not curve.is_point(long)
    assert not curve.is_point(bytes((6 + (long[64] & 1),)) + long[1:])
    assert curve.point_from_bytes_checked(G) is G


@given(st.binary(min_size=33, max_size=33))
@settings(max_examples=200, deadline=None)
def test_is_point_agrees(data: bytes) -> None:
    """`is_point` says of any 33 bytes what the other library's parser says."""
    for candidate in (data, bytes((2 + (data[0] & 1),)) + data[1:]):
        try:
            coincurve.PublicKey(candidate)
        except ValueError:
            assert not curve.is_point(candidate)
        else:
            assert curve.is_point(candidate)


def test_scalar_from_bytes_wrapping() -> None:
    """Bytes of any length are reduced modulo n, and zero is refused."""
    assert curve.scalar_from_bytes_wrapping((curve.ORDER + 5).to_bytes(32, "big")) == (5).to_bytes(32, "big")
    assert curve.scalar_from_bytes_wrapping(b"\xff" * 64) == ((2**512 - 1) % curve.ORDER).to_bytes(32, "big")
    for zero in (ZERO, N, b""):
        with pytest.raises(MalformedError):
            curve.scalar_from_bytes_wrapping(zero)


def test_verification_answers_no_to_nonsense() -> None:
    """Signatures and keys of wrong length or off the curve are not valid, and raise nothing."""
    digest = bytes(32)
    good = curve.schnorr_sign(digest, ONE, bytes(32))
    for signature in (b"", good[:-1], good + b"\x00", bytes(64), b"\xff" * 64):
        assert not curve.schnorr_verify(signature, digest, G)
        assert not curve.ecdsa_verify(digest, signature, G)
    for key in (b"", G[1:-1], OFF_CURVE[1:], NOT_IN_FIELD[1:], bytes(32)):
        assert not curve.schnorr_verify(good, digest, key)
        assert not curve.ecdsa_verify(digest, good, key)


def test_recovery_of_nonsense_is_malformed() -> None:
    """No signature, no key: a parser of invoices sees one error class."""
    for signature, recovery_id in ((bytes(64), 0), (b"\xff" * 64, 1), (b"\x01" * 63, 0), (b"\x01" * 64, 4), (b"\x01" * 64, -1)):
        with pytest.raises(MalformedError):
            curve.ecdsa_recover(bytes(32), signature, recovery_id)


@pytest.mark.parametrize("x", [b"", bytes(32), OFF_CURVE[1:], NOT_IN_FIELD[1:], G], ids=["empty", "zero", "off", "field", "33"])
def test_lift_x_refuses(x: bytes) -> None:
    """What is no x coordinate lifts to no point."""
    with pytest.raises(MalformedError):
        curve.lift_x(x)


def test_secrets_stay_out_of_errors() -> None:
    """A refused secret does not appear in the error it causes."""
    secret = b"\xff" * 32
    for call in (curve.public_key, lambda key: curve.multiply_secret(G, key), lambda key: curve.scalar_add(key, ONE)):
        with pytest.raises(ValueError) as caught:
            call(secret)
        assert "ff" * 8 not in str(caught.value)
        assert str(int.from_bytes(secret, "big")) not in str(caught.value)


def test_threads_share_the_library() -> None:
    """Many threads at once get the answers one gets."""
    secrets = [(index + 1).to_bytes(32, "big") for index in range(64)]
    expected = [curve.multiply_secret(G, secret) for secret in secrets]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda secret: curve.multiply_secret(G, secret), secrets)) == expected


def test_low_s_signs_the_same() -> None:
    """The high form of a signature becomes the low one, which stays; what holds no two scalars is refused."""
    digest, secret = bytes(range(32)), bytes(31) + b"\x07"
    low, _ = curve.ecdsa_sign_recoverable(digest, secret)
    high = low[:32] + curve.scalar_negate(low[32:])
    assert curve.ecdsa_low_s(low) == curve.ecdsa_low_s(high) == low
    assert curve.ecdsa_verify(digest, high, curve.public_key(secret))
    for bad in (b"", low[:63], low + b"\0", bytes(64), b"\xff" * 64, bytes(32) + low[32:]):
        with pytest.raises(MalformedError):
            curve.ecdsa_low_s(bad)
