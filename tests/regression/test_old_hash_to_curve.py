"""The mistake: the hash to curve of before 2024, without domain tag, is still accepted as a fall-back.

Then a text and a byte string can be found whose Y is one and the same under the two hashes, or one coin has two Ys, and it
is spent twice. There is one hash; a coin made with the old one is worth nothing.
"""

from __future__ import annotations

from hashlib import sha256

import pytest

from specie.ecash import BlindedMessage, Proof, SwapRequest, hash_to_curve
from specie.ecash import codes as refused
from specie.ecash.bdhke import unblind
from specie.kernel import curve
from tests.support.house import House, Purse


def old_hash_to_curve(message: bytes) -> bytes:
    """NUT-00 before the domain tag: hash, and hash the hash, until it is an x."""
    digest = sha256(message).digest()
    while not curve.is_point(b"\x02" + digest):
        digest = sha256(digest).digest()
    return b"\x02" + digest


async def test_a_coin_of_the_old_hash_is_refused(bank: House, purse: Purse) -> None:
    """The mint signs blindly, so such a coin can be made; it cannot be spent, and the true coin of its secret neither is it."""
    keyset, secret, r = bank.keyset(), "an old secret", b"\x03" * 32
    b_ = curve.add((old_hash_to_curve(secret.encode()), curve.public_key(r)))
    (signed,) = await bank.mint.swap(SwapRequest(tuple(await purse.mint(4)), (BlindedMessage(4, keyset.id, b_),)))
    old = Proof(4, keyset.id, secret, unblind(signed.C_, r, keyset.keys[4]))
    for text in (secret, old_hash_to_curve(secret.encode()).hex(), secret.encode().hex()):
        with pytest.raises(refused.ProofInvalidError):
            await purse.swap([Proof(4, keyset.id, text, old.C)], [4])


def test_the_two_hashes_never_agree() -> None:
    """Not for the empty text either; and Y depends on the text as it is written, not on the bytes its hex means."""
    for text in ("", "a", "00" * 32, "an old secret"):
        assert hash_to_curve(text.encode()) != old_hash_to_curve(text.encode())
    assert hash_to_curve(("00" * 32).encode()) != hash_to_curve(bytes(32))


async def test_a_coin_has_one_y(bank: House, purse: Purse) -> None:
    """Spending marks the one Y; asking under the old Y finds a coin that never was."""
    (coin,) = await purse.mint(4)
    await purse.swap([coin], [4])
    new, old = await bank.mint.check_state([coin.y, old_hash_to_curve(coin.secret.encode())])
    assert (new.state, old.state) == ("SPENT", "UNSPENT")
    with pytest.raises(refused.ProofsSpentError):
        await purse.swap([coin], [2, 2])
