"""Pay to blinded key (NUT-28): slots, the second hash, and everything that is refused."""

from __future__ import annotations

import pytest

from specie.ecash import htlc_secret, p2pk_secret, parse_secret
from specie.ecash.p2bk import SLOTS, blind_key, blind_keys, blinding_scalar, first_slots, shared_x, unblinded_secret
from specie.kernel import MalformedError, curve
from tests.support.coins import public_key, secret_key

ORDER = curve.ORDER.to_bytes(32, "big")
OFF_CURVE = b"\x02" + (5).to_bytes(32, "big")
E = secret_key("e")


def test_slots_have_different_scalars() -> None:
    """Each of the 11 slots blinds differently; there is no slot beyond them."""
    shared = shared_x(public_key("bob"), E)
    assert len({blinding_scalar(shared, slot) for slot in range(SLOTS)}) == SLOTS
    for slot in (-1, SLOTS, 256):
        with pytest.raises(MalformedError):
            blinding_scalar(shared, slot)


@pytest.mark.parametrize("first", [bytes(32), ORDER, b"\xff" * 32], ids=["zero", "order", "more"])
def test_hash_that_is_no_scalar_is_hashed_once_more(first: bytes) -> None:
    """0 and everything from n on is not reduced: the message gets one ff byte, and after that the key is given up."""
    asked: list[bytes] = []

    def digest(message: bytes) -> bytes:
        asked.append(message)
        return first if len(asked) == 1 else bytes(31) + b"\x07"

    assert blinding_scalar(bytes(32), 9, digest=digest) == bytes(31) + b"\x07"
    assert asked == [b"Cashu_P2BK_v1" + bytes(32) + b"\x09", b"Cashu_P2BK_v1" + bytes(32) + b"\x09\xff"]
    with pytest.raises(MalformedError):
        blinding_scalar(bytes(32), 9, digest=lambda _: first)


@pytest.mark.parametrize("key", [b"", bytes(33), OFF_CURVE], ids=["empty", "zeros", "off the curve"])
def test_bad_keys_are_refused(key: bytes) -> None:
    """What is no point can neither be blinded, nor share a secret, nor be found in a lock."""
    with pytest.raises(MalformedError):
        blind_key(key, E, 0)
    with pytest.raises(MalformedError):
        shared_x(key, E)
    assert unblinded_secret(key, secret_key("bob"), bytes(32), 0) is None


@pytest.mark.parametrize("secret", [bytes(32), ORDER, b""], ids=["zero", "order", "empty"])
def test_bad_ephemeral_secrets_are_refused(secret: bytes) -> None:
    """An ephemeral secret is a scalar."""
    with pytest.raises(MalformedError):
        blind_key(public_key("bob"), secret, 0)


def test_blinding_to_the_identity_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """P = -rG has no blinded form; neither has the scalar of its holder."""
    monkeypatch.setattr("specie.ecash.p2bk.blinding_scalar", lambda shared, slot: secret_key("bob"))
    with pytest.raises(MalformedError):
        blind_key(curve.negate(public_key("bob")), E, 0)
    assert unblinded_secret(public_key("bob"), secret_key("bob"), bytes(32), 0) is None
    doubled = curve.add((public_key("bob"), public_key("bob")))
    assert unblinded_secret(doubled, curve.scalar_negate(secret_key("bob")), bytes(32), 0) is not None


def test_only_the_holder_finds_his_key() -> None:
    """Another's key, another slot and another ephemeral key give nothing."""
    bob, eve = secret_key("bob"), secret_key("eve")
    blinded = blind_key(public_key("bob"), E, 2)
    shared = shared_x(public_key("e"), bob)
    assert unblinded_secret(blinded, bob, shared, 2) is not None
    assert unblinded_secret(blinded, bob, shared, 3) is None
    assert unblinded_secret(blinded, bob, shared, SLOTS) is None
    assert unblinded_secret(blinded, eve, shared_x(public_key("e"), eve), 2) is None
    assert unblinded_secret(blinded, bob, shared_x(public_key("f"), bob), 2) is None


def test_slots_of_a_lock() -> None:
    """P2PK keys begin at 0, those of an HTLC at 1 behind its hash, refund keys behind them."""
    names = [public_key(number).hex() for number in range(4)]
    times = {"nonce": bytes(32), "locktime": 5}
    p2pk = parse_secret(p2pk_secret(names[0], pubkeys=names[1:3], refund=names[3:], **times))  # type: ignore[arg-type]
    htlc = parse_secret(htlc_secret("ab" * 32, pubkeys=names[:2], refund=names[2:], **times))  # type: ignore[arg-type]
    bare = parse_secret(htlc_secret("ab" * 32, refund=names[2:], **times))  # type: ignore[arg-type]
    assert p2pk is not None
    assert htlc is not None
    assert bare is not None
    assert (first_slots(p2pk), first_slots(htlc), first_slots(bare)) == ((0, 3), (1, 3), (1, 1))


def test_keys_are_blinded_in_their_slots() -> None:
    """A run of keys takes slots one after the other, and not beyond the last."""
    keys = [public_key(number) for number in range(3)]
    assert blind_keys(keys, E, 4) == tuple(blind_key(key, E, 4 + place) for place, key in enumerate(keys))
    with pytest.raises(MalformedError):
        blind_keys(keys, E, 9)


def test_blinding_takes_no_shortcut_with_the_scalar(monkeypatch: pytest.MonkeyPatch) -> None:
    """r tells whose key it is, so what is multiplied by it is multiplied in constant time, on both sides."""

    def refuse(*_: bytes) -> bytes:
        raise AssertionError("variable time")

    for name in ("tweak_add_public", "tweak_add_public_uncompressed", "multiply_public", "multiply_public_uncompressed"):
        monkeypatch.setattr(curve, name, refuse)
    blinded = blind_key(public_key("bob"), E, 2)
    assert unblinded_secret(blinded, secret_key("bob"), shared_x(public_key("e"), secret_key("bob")), 2) is not None
