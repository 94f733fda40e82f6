"""The lock of a payment request on a coin: written into its secret by the payer, compared with it by the payee."""

from __future__ import annotations

import json

from specie.ecash.codes import ConditionMalformedError
from specie.ecash.conditions import parse_secret
from specie.ecash.conditions.build import NONCE_BYTES
from specie.ecash.conditions.secret import SpendingCondition
from specie.ecash.requests.request import LockOption
from specie.kernel.limits import DEFAULT_LIMITS, Limits

__all__ = ["lock_condition", "locked_secret", "same_lock"]

_DEFAULTS = {"n_sigs": ("1",), "n_sigs_refund": ("1",), "sigflag": ("SIG_INPUTS",)}


def locked_secret(lock: LockOption, *, nonce: bytes, limits: Limits = DEFAULT_LIMITS) -> str:
    """Text of a secret with exactly the kind, data and tags of `lock`. `nonce`: 32 FRESH bytes for every coin.

    ConditionMalformedError for a kind that no mint enforces, and for what NUT-11 and NUT-14 call malformed: nobody could
    ever spend such a coin.
    """
    if len(nonce) != NONCE_BYTES:
        raise ConditionMalformedError("a nonce has 32 bytes")
    body: dict[str, object] = {"nonce": nonce.hex(), "data": lock.data}
    if lock.tags:
        body["tags"] = [list(tag) for tag in lock.tags]
    text = json.dumps([lock.kind, body], separators=(",", ":"))
    if parse_secret(text, limits=limits) is None:
        raise ConditionMalformedError("the payment request wants a lock that mints do not enforce")
    return text


def lock_condition(lock: LockOption) -> SpendingCondition:
    """What the lock says. ConditionMalformedError as `locked_secret`."""
    condition = parse_secret(locked_secret(lock, nonce=bytes(NONCE_BYTES)))
    if condition is None:
        raise ConditionMalformedError("the payment request wants a lock that mints do not enforce")
    return condition


def same_lock(lock: LockOption, found: SpendingCondition, *, locktime_at_least: int | None = None) -> bool:
    """Whether a coin's condition is the lock asked for: kind, data and all tags; their order, and defaults, do not matter.

    With `locktime_at_least` (Unix seconds), a coin may also carry a locktime that was not asked for, with refund keys or
    without, if it is not before that time.
    """
    wanted, tags = _terms(lock.tags), _terms(found.secret.tags)
    if locktime_at_least is not None and "locktime" not in wanted and found.locktime is not None:
        if found.locktime < locktime_at_least:
            return False
        for name in ("locktime", "refund", "n_sigs_refund"):
            tags.pop(name, None)
            wanted.pop(name, None)
    return (lock.kind, lock.data.lower(), wanted) == (found.kind, found.secret.data.lower(), tags)


def _terms(tags: tuple[tuple[str, ...], ...]) -> dict[str, list[tuple[str, ...]]]:
    terms: dict[str, list[tuple[str, ...]]] = {}
    for name, *values in tags:
        if _DEFAULTS.get(name) != tuple(values):
            terms.setdefault(name, []).append(tuple(sorted(value.lower() for value in values)))
    return terms
