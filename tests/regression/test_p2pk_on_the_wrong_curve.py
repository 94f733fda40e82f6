"""The mistake: spending conditions judged with another curve or scheme than BIP 340 on secp256k1.

A library whose default curve is P-256 was used for locks, so coins could be locked that no wallet can open, and what opened
them elsewhere did not open them here. Its relatives: ECDSA taken for BIP 340, keys compared with their parity byte, and
a message signed without its hash.
"""

from __future__ import annotations

from hashlib import sha256

import coincurve
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from specie.ecash import MintQuoteRequest, MintRequest
from specie.ecash import codes as refused
from specie.ecash.conditions import p2pk_secret, sig_inputs_digest
from specie.ecash.quote import quote_signature_digest
from specie.kernel import MalformedError, curve
from tests.support.coins import public_key, secret_key
from tests.support.house import House, Purse
from tests.support.locked import lock, sign_inputs, spend, witnessed

NONCE = bytes(32)


def _p256(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(number, ec.SECP256R1())


def _compressed(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)


def _raw(der: bytes) -> bytes:
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def test_a_key_of_another_curve_is_no_key() -> None:
    """Half of all P-256 points have an x that is on no secp256k1 point: a lock to one is refused before money is in it."""
    keys = [_compressed(_p256(number)) for number in range(1, 40)]
    foreign = [key for key in keys if not curve.is_point(key)]
    assert 5 < len(foreign) < 35
    for key in foreign:
        with pytest.raises(MalformedError):
            p2pk_secret(key.hex(), nonce=NONCE)
        with pytest.raises(MalformedError):
            p2pk_secret(key[1:].hex(), nonce=NONCE)


async def test_a_signature_of_another_curve_opens_nothing(purse: Purse) -> None:
    """A P-256 key whose x happens to fit is a key here, but its holder's P-256 signature is none; nor is Ed25519's."""
    key = next(key for key in map(_p256, range(1, 40)) if curve.is_point(_compressed(key)))
    (coin,) = await lock(purse, p2pk_secret(_compressed(key).hex(), nonce=NONCE))
    digest = sig_inputs_digest(coin)
    on_p256 = _raw(key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256()))))
    on_edwards = ed25519.Ed25519PrivateKey.from_private_bytes(secret_key("alice")).sign(digest)
    for signed in (on_p256, on_edwards):
        with pytest.raises(refused.ConditionUnmetError):
            await spend(purse, [witnessed(coin, [signed])])
    assert (await purse.house.mint.check_state([coin.y]))[0].state == "UNSPENT"


async def test_ecdsa_of_the_right_key_is_no_schnorr_signature(purse: Purse) -> None:
    """ECDSA by the very key that a coin is locked to does not open it; BIP 340 does."""
    (coin,) = await lock(purse, p2pk_secret(public_key("alice").hex(), nonce=NONCE))
    digest = sig_inputs_digest(coin)
    ecdsa, _ = curve.ecdsa_sign_recoverable(digest, secret_key("alice"))
    der = coincurve.PrivateKey(secret_key("alice")).sign(digest, hasher=None)
    for signed in (ecdsa, der):
        with pytest.raises(refused.ConditionUnmetError):
            await spend(purse, [witnessed(coin, [signed])])
    assert await spend(purse, [sign_inputs(coin, "alice")])


async def test_ecdsa_unlocks_no_quote(bank: House, purse: Purse) -> None:
    """NUT-20: a locked quote is opened by BIP 340 only."""
    quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 4, pubkey=public_key("alice").hex()))
    await bank.pay(quote)
    outputs = purse.outputs([4])
    ecdsa, _ = curve.ecdsa_sign_recoverable(quote_signature_digest(quote.quote, outputs.messages), secret_key("alice"))
    with pytest.raises(refused.QuoteSignatureInvalidError):
        await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages, ecdsa.hex()))


@pytest.mark.parametrize("parity", ["02", "03", ""], ids=["even", "odd", "x only"])
async def test_parity_of_a_key_decides_nothing(purse: Purse, parity: str) -> None:
    """BIP 340 keys are x coordinates: a lock to 02, 03 or the bare x of a key is opened by its one holder, and nobody else."""
    (coin,) = await lock(purse, p2pk_secret(parity + public_key("alice")[1:].hex(), nonce=NONCE))
    with pytest.raises(refused.ConditionUnmetError):
        await spend(purse, [sign_inputs(coin, "mallory")])
    assert await spend(purse, [sign_inputs(coin, "alice")])


def test_one_key_with_two_parities_is_one_key() -> None:
    """A 2-of-2 over 02|x and 03|x would be a 1-of-1 in disguise: it cannot be built."""
    x = public_key("alice")[1:].hex()
    with pytest.raises(MalformedError):
        p2pk_secret("02" + x, nonce=NONCE, pubkeys=["03" + x], n_sigs=2)


async def test_the_hash_of_the_text_is_signed_and_nothing_else(purse: Purse) -> None:
    """A signature over the hash's hash, over the parsed fields, or over another coin's text opens nothing."""
    secret = p2pk_secret(public_key("alice").hex(), nonce=NONCE)
    other = p2pk_secret(public_key("alice").hex(), nonce=b"\x01" * 32)
    (coin,) = await lock(purse, secret)
    for message in (sha256(secret.encode()).digest(), secret.replace(",", ", ").encode(), other.encode(), b""):
        signed = curve.schnorr_sign(sha256(message).digest(), secret_key("alice"), bytes(32))
        with pytest.raises(refused.ConditionUnmetError):
            await spend(purse, [witnessed(coin, [signed])])


async def test_signatures_of_another_library_open_our_locks(purse: Purse) -> None:
    """BIP 340 as libsecp256k1 makes it through another binding is what is meant here."""
    (coin,) = await lock(purse, p2pk_secret(public_key("alice").hex(), nonce=NONCE))
    signed = coincurve.PrivateKey(secret_key("alice")).sign_schnorr(sig_inputs_digest(coin))
    assert await spend(purse, [witnessed(coin, [signed])])
