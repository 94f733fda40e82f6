"""Whether a payment is what the request asked for: the payee's judgement, without asking anybody (NUT-18).

The policy on fees: a request's amount is what its payee is left with. The coins must be worth the amount, what the
request asks on top for mints outside its list, and the input fee of swapping these very coins (NUT-02). Whether the
coins are still unspent only the mint can say, so a payment is settled when they have been swapped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from specie.ecash.codes import ConditionMalformedError, ProofInvalidError
from specie.ecash.conditions import parse_secret
from specie.ecash.dleq import verify_proof_dleq
from specie.ecash.keyset import Keyset, fee_for
from specie.ecash.payload import PaymentPayload
from specie.ecash.requests.lock import lock_condition, same_lock
from specie.ecash.requests.request import PaymentRequest
from specie.kernel.errors import RefusedError

__all__ = ["Mismatch", "PaymentMismatchError", "verify_payment"]


class Mismatch(StrEnum):
    """Which rule a payment breaks."""

    ID = "id"
    MINT = "mint"
    METHOD = "method"
    UNIT = "unit"
    AMOUNT = "amount"
    KEYSET = "keyset"
    LOCK = "lock"
    DLEQ = "dleq"


class PaymentMismatchError(RefusedError):
    """The payment is not what was asked for; its coins were not touched, so the payer still has them.

    Attributes:
        reason: the rule it breaks.
    """

    def __init__(self, reason: Mismatch, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def verify_payment(
    request: PaymentRequest,
    payload: PaymentPayload,
    *,
    keysets: Mapping[str, Keyset],
    now: int,
    melt_methods: Collection[str] = (),
    locktime_at_least: int | None = None,
    payer_pays_fees: bool = True,
) -> None:
    """None if `payload` pays `request`, else PaymentMismatchError with the first rule it breaks, cheapest first.

    `keysets`: those of the payload's mint, verified, by id. `now`: Unix seconds; a lock's own time must be ahead of it.
    `melt_methods`: by which its mint melts this unit. `locktime_at_least`: see `same_lock`; None takes no lock with a time
    that was not asked for. Without `payer_pays_fees` the input fee is the payee's. Every coin needs a valid DLEQ proof;
    a lock that was not asked for is refused, for the payee could not open it.
    """
    if request.id is not None and payload.id != request.id:
        raise PaymentMismatchError(Mismatch.ID, "the payment names another request")
    if request.unit is not None and payload.unit != request.unit:
        raise PaymentMismatchError(Mismatch.UNIT, f"the payment is in {payload.unit}, not {request.unit}")
    if not request.takes(payload.mint):
        raise PaymentMismatchError(Mismatch.MINT, "the payment is of a mint that the request does not list")
    extra = request.fee_for(payload.mint, melt_methods)
    if extra is None:
        raise PaymentMismatchError(Mismatch.METHOD, "the payment's mint offers none of the methods asked for")
    fee = _check_coins(payload, keysets)
    net = payload.amount - extra - (fee if payer_pays_fees else 0)
    if net < (request.amount if request.amount is not None else 1):
        raise PaymentMismatchError(Mismatch.AMOUNT, "the payment leaves less than was asked for once its fees are paid")
    _check_locks(request, payload, now, locktime_at_least)
    try:
        for proof in payload.proofs:
            verify_proof_dleq(proof, keysets[proof.id].keys[proof.amount])
    except ProofInvalidError as error:
        raise PaymentMismatchError(Mismatch.DLEQ, error.detail) from None


def _check_coins(payload: PaymentPayload, keysets: Mapping[str, Keyset]) -> int:
    """The input fee of the coins, once each is known to be of a keyset and amount of its mint and unit."""
    for proof in payload.proofs:
        keyset = keysets.get(proof.id)
        if keyset is None or keyset.unit != payload.unit or proof.amount not in keyset.keys:
            raise PaymentMismatchError(Mismatch.KEYSET, "a coin is of no keyset of this mint and unit")
    return fee_for(keysets[proof.id].input_fee_ppk for proof in payload.proofs)


def _check_locks(request: PaymentRequest, payload: PaymentPayload, now: int, locktime_at_least: int | None) -> None:
    lock = request.lock
    if lock is not None:
        wanted = lock_condition(lock)
        if wanted.locktime is not None and wanted.locktime <= now:
            raise PaymentMismatchError(Mismatch.LOCK, "the time of the lock that was asked for is over")
    for proof in payload.proofs:
        try:
            condition = parse_secret(proof.secret)
        except ConditionMalformedError as error:
            raise PaymentMismatchError(Mismatch.LOCK, f"a coin can never be spent: {error.detail}") from None
        if proof.p2pk_e is not None or (condition is None) != (lock is None):
            raise PaymentMismatchError(Mismatch.LOCK, "the coins are not locked as was asked for")
        if lock is not None and condition is not None and not same_lock(lock, condition, locktime_at_least=locktime_at_least):
            raise PaymentMismatchError(Mismatch.LOCK, "the coins are locked otherwise than was asked for")
