"""The one judge of spending conditions (NUT-10, 11, 14): `verify_spend` returns None or raises.

Not here: whether the coins are good, unspent and balanced. Signature checks are bounded for each request, since a secret
with many keys and a witness with many signatures would otherwise cost their product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec

from specie.ecash.codes import ConditionUnmetError
from specie.ecash.conditions.message import Witness, parse_witness, sig_all_digest, sig_inputs_digest
from specie.ecash.conditions.secret import SigFlag, SpendingCondition, parse_secret
from specie.ecash.proof import BlindedMessage, Proof
from specie.kernel import curve
from specie.kernel.encoding import hex_checked
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits

__all__ = ["Pathway", "SignatureChecks", "is_preimage", "open_pathways", "signatures_by_key", "verify_spend"]

_CHECKS_BASE = 256
_CHECKS_PER_INPUT = 16


class Pathway(msgspec.Struct, frozen=True):
    """One way to spend a coin now: `n_sigs` of `keys` sign, and the preimage is shown if `needs_preimage`."""

    keys: tuple[bytes, ...]
    n_sigs: int
    needs_preimage: bool = False


class SignatureChecks:
    """Signature checks left in one request."""

    def __init__(self, inputs: int) -> None:
        """Those of a request with so many inputs."""
        self.left = _CHECKS_BASE + _CHECKS_PER_INPUT * inputs

    def verify(self, signature: bytes, digest: bytes, key: bytes) -> bool:
        """Whether a signature is valid, as `curve.schnorr_verify`; ConditionUnmetError once too many were checked."""
        self.left -= 1
        if self.left < 0:
            raise ConditionUnmetError("too many signatures to check; use fewer inputs, or order signatures as their keys")
        return curve.schnorr_verify(signature, digest, key)


def open_pathways(condition: SpendingCondition, now: int) -> tuple[Pathway, ...]:
    """The ways to spend a coin at `now` (Unix seconds): main first, then, past the locktime, refund or anyone (0 keys)."""
    main = Pathway(condition.keys, condition.n_sigs, condition.hash is not None)
    if not condition.is_expired(now):
        return (main,)
    return main, Pathway(condition.refund, condition.n_sigs_refund)


def verify_spend(
    inputs: Sequence[Proof],
    outputs: Sequence[BlindedMessage],
    quote_id: str | None,
    now: int,
    *,
    limits: Limits = DEFAULT_LIMITS,
) -> None:
    """Judge the conditions of all inputs of a swap, or of a melt (`quote_id` given, `outputs` blank as sent); None if met.

    If any input says SIG_ALL, all must carry equal terms, and the first one's witness covers the whole request.
    `now` is Unix seconds. ConditionUnmetError if a condition is not met, ConditionMalformedError for a coin that
    nobody can spend or a witness that does not parse. A witness on an ordinary secret is ignored.
    """
    conditions = [parse_secret(proof.secret, limits=limits) for proof in inputs]
    locked = [(proof, condition) for proof, condition in zip(inputs, conditions, strict=True) if condition is not None]
    if not locked:
        return
    checks = SignatureChecks(len(inputs))
    if not any(condition.sigflag is SigFlag.SIG_ALL for _, condition in locked):
        for proof, condition in locked:
            _check(condition, proof, sig_inputs_digest, now, checks, limits)
        return
    first_proof, first = locked[0]
    if len(locked) != len(inputs) or not all(condition.same_terms(first) for _, condition in locked):
        raise ConditionUnmetError("SIG_ALL asks for the same kind, data and tags in every input")
    _check(first, first_proof, lambda _: sig_all_digest(inputs, outputs, quote_id), now, checks, limits)


def _check(
    condition: SpendingCondition,
    proof: Proof,
    digest_of: Callable[[Proof], bytes],
    now: int,
    checks: SignatureChecks,
    limits: Limits,
) -> None:
    pathways = open_pathways(condition, now)
    if any(not pathway.n_sigs and not pathway.needs_preimage for pathway in pathways):
        return
    witness = parse_witness(proof.witness, limits=limits)
    digest = digest_of(proof)
    for pathway in pathways:
        if pathway.needs_preimage and not is_preimage(witness.preimage, condition.hash):
            continue
        if len(signatures_by_key(pathway, witness, digest, checks)) == pathway.n_sigs:
            return
    raise ConditionUnmetError


def _signatures(witness: Witness) -> list[bytes]:
    """Each signature once, in order; what is not 64 bytes of hex signs nothing."""
    found: dict[bytes, None] = {}
    for text in witness.signatures:
        try:
            found[hex_checked(text, 64)] = None
        except MalformedError:
            continue
    return list(found)


def signatures_by_key(pathway: Pathway, witness: Witness, digest: bytes, checks: SignatureChecks) -> dict[bytes, bytes]:
    """Valid signatures of a witness by the key of the pathway that made them, in the pathway's order; no more than it asks for.

    Keys count, not signatures, of which one key can make many. ConditionUnmetError where `checks` does not allow as many.
    """
    unused = _signatures(witness)
    found: dict[bytes, bytes] = {}
    for key in pathway.keys:
        if len(found) == pathway.n_sigs:
            break
        for signature in unused:
            if checks.verify(signature, digest, key):
                unused.remove(signature)
                found[key] = signature
                break
    return found


def is_preimage(preimage: str | None, digest: bytes | None) -> bool:
    """Whether `preimage` is 64 hex characters whose 32 bytes hash to `digest` (NUT-14); the bytes are hashed, not the text."""
    if preimage is None or digest is None:
        return False
    try:
        return sha256(hex_checked(preimage, 32)).digest() == digest
    except MalformedError:
        return False
