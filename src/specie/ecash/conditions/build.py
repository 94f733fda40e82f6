"""Locked secrets for outputs (NUT-11, NUT-14): they refuse to write what a mint will refuse to let anyone spend.

A wallet asks the mint's information before it locks: a mint without NUT-11 lets anyone spend such a coin.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from specie.ecash.codes import ConditionMalformedError
from specie.ecash.conditions.secret import SigFlag, parse_secret
from specie.kernel import curve
from specie.kernel.encoding import hex_checked
from specie.kernel.limits import DEFAULT_LIMITS, Limits

__all__ = ["NONCE_BYTES", "htlc_secret", "lock_key_checked", "p2pk_secret"]

NONCE_BYTES = 32


def p2pk_secret(
    pubkey: str,
    *,
    nonce: bytes,
    pubkeys: Sequence[str] = (),
    n_sigs: int | None = None,
    locktime: int | None = None,
    refund: Sequence[str] = (),
    n_sigs_refund: int | None = None,
    sigflag: SigFlag = SigFlag.SIG_INPUTS,
    limits: Limits = DEFAULT_LIMITS,
) -> str:
    """Text of a secret that `n_sigs` (default 1) of `pubkey` and `pubkeys` can spend, after `locktime` also `refund`.

    `nonce`: 16 or more FRESH random bytes for every output, even of one send. Keys are hex, compressed or x-only
    (which get 02). ConditionMalformedError for what NUT-11 calls malformed, and for refund keys without a locktime.
    """
    keys = [lock_key_checked(key) for key in (pubkey, *pubkeys)]
    tags = _tags(keys[1:], n_sigs, locktime, refund, n_sigs_refund, sigflag)
    return _write("P2PK", keys[0], nonce, tags, limits)


def htlc_secret(
    payment_hash: str,
    *,
    nonce: bytes,
    pubkeys: Sequence[str] = (),
    n_sigs: int | None = None,
    locktime: int | None = None,
    refund: Sequence[str] = (),
    n_sigs_refund: int | None = None,
    sigflag: SigFlag = SigFlag.SIG_INPUTS,
    limits: Limits = DEFAULT_LIMITS,
) -> str:
    """Text of a secret that the preimage of `payment_hash` (SHA-256, hex) opens, with `n_sigs` of `pubkeys` if any.

    After `locktime` also `refund`. `nonce` and errors as `p2pk_secret`.
    """
    keys = [lock_key_checked(key) for key in pubkeys]
    tags = _tags(keys, n_sigs, locktime, refund, n_sigs_refund, sigflag)
    return _write("HTLC", payment_hash.lower(), nonce, tags, limits)


def lock_key_checked(text: str) -> str:
    """A key to lock to, in lower case with its prefix; an x-only key (64 characters, Nostr) gets 02."""
    data = hex_checked(text)
    if len(data) == 32:
        return curve.lift_x(data).hex()
    return curve.point_from_bytes_checked(data).hex()


def _tags(
    pubkeys: Sequence[str],
    n_sigs: int | None,
    locktime: int | None,
    refund: Sequence[str],
    n_sigs_refund: int | None,
    sigflag: SigFlag,
) -> list[list[str]]:
    if refund and locktime is None:
        raise ConditionMalformedError("refund keys without a locktime never open")
    tags: list[list[str]] = []
    if sigflag is not SigFlag.SIG_INPUTS:
        tags.append(["sigflag", sigflag.value])
    if pubkeys:
        tags.append(["pubkeys", *pubkeys])
    if n_sigs is not None:
        tags.append(["n_sigs", str(n_sigs)])
    if locktime is not None:
        tags.append(["locktime", str(locktime)])
    if refund:
        tags.append(["refund", *[lock_key_checked(key) for key in refund]])
    if n_sigs_refund is not None:
        tags.append(["n_sigs_refund", str(n_sigs_refund)])
    return tags


def _write(kind: str, data: str, nonce: bytes, tags: list[list[str]], limits: Limits) -> str:
    if len(nonce) < 16:
        raise ConditionMalformedError("a nonce has at least 16 bytes")
    body: dict[str, object] = {"nonce": nonce.hex(), "data": data}
    if tags:
        body["tags"] = tags
    text = json.dumps([kind, body], separators=(",", ":"))
    condition = parse_secret(text, limits=limits)
    written = {tag[0]: tag[1] for tag in tags}
    if condition is None or ("locktime" in written and str(condition.locktime) != written["locktime"]):
        raise ConditionMalformedError("locktime is not a time")
    return text
