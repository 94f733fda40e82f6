"""Pay to blinded key (NUT-28): locks whose keys the mint cannot link to anybody; pure.

The sender blinds every key of a lock with a secret that only he and that key's holder can compute (ECDH of a fresh
ephemeral key, which travels with the coin as `p2pk_e`). The mint sees an ordinary lock. Keys stand in slots, counted over
`[data, ...pubkeys, ...refund]`; the hash of an HTLC is slot 0 and is not blinded.

Not here: whose keys are tried (the wallet), and who holds them (`keys.Signer`, which calls `unblinded_secret`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from specie.kernel import curve
from specie.kernel.errors import MalformedError

if TYPE_CHECKING:
    from specie.ecash.conditions.secret import SpendingCondition

__all__ = ["SLOTS", "blind_key", "blind_keys", "blinding_scalar", "first_slots", "shared_x", "unblinded_secret"]

SLOTS = 11
"""Slots of one lock: 0 to 10."""

_TAG = b"Cashu_P2BK_v1"
_AGAIN = b"\xff"


def shared_x(point: bytes, secret: bytes) -> bytes:
    """Zx: the x coordinate (32 bytes) of secret*point, SECRET. MalformedError for what is no point or no scalar."""
    try:
        return curve.multiply_secret(point, secret)[1:]
    except ValueError as error:
        raise MalformedError("there is no shared secret with this key") from error


def blinding_scalar(shared: bytes, slot: int, *, digest: Callable[[bytes], bytes] | None = None) -> bytes:
    """r of one slot (32 bytes) from Zx, never reduced modulo n but hashed once more where it is no scalar (NUT-28).

    MalformedError for a slot outside 0 to 10, and where the second hash is no scalar either (never met): take another
    ephemeral key then. `digest` stands for SHA-256 in tests of that case.
    """
    if not 0 <= slot < SLOTS:
        raise MalformedError("a lock to blinded keys has slots 0 to 10")
    hashed = digest or _sha256
    message = _TAG + shared + bytes((slot,))
    for candidate in (message, message + _AGAIN):
        r = hashed(candidate)
        if curve.is_scalar(r):
            return r
    raise MalformedError("this ephemeral key blinds nothing; take another")


def _sha256(message: bytes) -> bytes:
    return sha256(message).digest()


def blind_key(key: bytes, ephemeral_secret: bytes, slot: int) -> bytes:
    """P' = P + r*G (33 bytes) of a receiver's key in its slot. `ephemeral_secret`: a FRESH scalar of 32 bytes.

    MalformedError for what is no point, a slot outside 0 to 10, or (never met) a sum that is no point.
    """
    r = blinding_scalar(shared_x(key, ephemeral_secret), slot)
    try:
        return curve.add((key, curve.public_key(r)))  # in constant time: r tells whose key it is
    except ValueError as error:
        raise MalformedError("blinding gives the identity") from error


def blind_keys(keys: Sequence[bytes], ephemeral_secret: bytes, first_slot: int) -> tuple[bytes, ...]:
    """Keys blinded for slots from `first_slot` on; errors as `blind_key`."""
    return tuple(blind_key(key, ephemeral_secret, first_slot + place) for place, key in enumerate(keys))


def first_slots(condition: SpendingCondition) -> tuple[int, int]:
    """Slots of the first key of the main pathway and of the refund pathway; those of an HTLC begin behind its hash."""
    main = 0 if condition.hash is None else 1
    return main, main + len(condition.keys)


def unblinded_secret(blinded: bytes, secret: bytes, shared: bytes, slot: int) -> bytes | None:
    """The scalar k with k*G = `blinded` if that is the key of `secret` blinded for `slot`; else None. SECRET.

    `shared` is Zx of `secret` and the coin's `p2pk_e`. k = r + p, or r - p where the lock names the key with the other
    parity, as BIP 340 and Nostr keys do (NUT-28, deriving private keys).
    """
    if not 0 <= slot < SLOTS:
        return None
    r = blinding_scalar(shared, slot)
    try:
        named = curve.subtract(blinded, curve.public_key(r))
        own = curve.public_key(secret)
        if curve.x_only(named) != curve.x_only(own):
            return None
        return curve.scalar_add(secret if named == own else curve.scalar_negate(secret), r)
    except ValueError:
        return None
