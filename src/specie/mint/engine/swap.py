"""Swap (NUT-03): coins in, coins out, in one transaction.

What a crash leaves behind:

    before the transaction   nothing
    in the transaction       nothing: it is undone
    after the transaction    all of it; the same request again is answered from the store
"""

from __future__ import annotations

from collections.abc import Sequence

from specie.ecash import (
    BlindedMessage,
    BlindSignature,
    Proof,
    SwapRequest,
)
from specie.ecash.codes import (
    OutputsPendingError,
    OutputsSignedError,
    ProofsPendingError,
    ProofsSpentError,
    UnbalancedError,
)
from specie.ecash.conditions import verify_spend
from specie.kernel import RefusedError
from specie.ledger import Posting
from specie.mint.engine import checks
from specie.mint.engine.context import CHANGES, Context
from specie.storage import Transaction

__all__ = ["announce_proofs", "refuse_inputs", "refuse_outputs", "replay", "swap"]


async def swap(context: Context, request: SwapRequest) -> list[BlindSignature]:
    """Exchange coins; signatures in the order of the outputs. The same request again gets the same answer.

    RefusedError with the NUT-03 code; then nothing has changed.
    """
    operation = checks.operation_hash("swap", "", request.inputs, request.outputs)
    try:
        return await _swap_once(context, request.inputs, request.outputs, operation)
    except RefusedError:
        done = await replay(context, request.outputs, operation)
        if done is None:
            raise
        context.telemetry.count("replayed", verb="swap")
        return done


async def _swap_once(
    context: Context, proofs: Sequence[Proof], outputs: Sequence[BlindedMessage], operation: bytes
) -> list[BlindSignature]:
    now = context.clock.now()
    limit = context.settings.limits.array_length
    inputs = checks.check_inputs(proofs, context.catalogue, now, limit)
    unit, amount = checks.check_outputs(outputs, context.catalogue, now, limit)
    checks.check_same_unit(inputs, unit)
    if inputs.amount - inputs.fee != amount:
        raise UnbalancedError(f"inputs {inputs.amount} - fee {inputs.fee} != outputs {amount}")
    ys, signatures = await checks.exchange(context, inputs, outputs)
    verify_spend(inputs.proofs, outputs, None, now)
    signed = [(output.B_, signature) for output, signature in zip(outputs, signatures, strict=True)]
    claims = inputs.claims(ys)
    spent = checks.by_keyset(inputs.proofs)
    postings = [
        *(Posting(f"liability:keyset/{keyset}/redeemed", unit, amount) for keyset, amount in spent.items()),
        *checks.issued(unit, outputs),
        Posting("income:input_fee", unit, -inputs.fee),
    ]

    async def body(tx: Transaction) -> None:
        if not await context.store.claim(tx, claims, operation=operation, quote=None, at=now):
            await refuse_inputs(context, tx, ys)
        if not await context.store.add_signatures(tx, signed, operation=operation, quote=None, at=now):
            await refuse_outputs(context, tx, outputs)
        await context.ledger.post(tx, at=now, kind="swap", reference=operation.hex()[:32], postings=postings)
        announce_proofs(tx, ys)

    await context.storage.transact(body)
    return signatures


async def refuse_inputs(context: Context, tx: Transaction, ys: Sequence[bytes]) -> None:
    """Raise what fits inputs of which at least one was taken."""
    if any(record.spent for record in (await context.store.proofs(tx, ys)).values()):
        raise ProofsSpentError
    raise ProofsPendingError


async def refuse_outputs(context: Context, tx: Transaction, outputs: Sequence[BlindedMessage]) -> None:
    """Raise what fits outputs of which at least one was taken."""
    if await context.store.signatures(tx, [output.B_ for output in outputs]):
        raise OutputsSignedError
    raise OutputsPendingError


async def replay(context: Context, outputs: Sequence[BlindedMessage], operation: bytes) -> list[BlindSignature] | None:
    """The signatures this very operation was answered with before, or None if it never took place."""

    async def body(tx: Transaction) -> list[BlindSignature] | None:
        found = await context.store.signatures(tx, [output.B_ for output in outputs])
        records = [found.get(output.B_) for output in outputs]
        if not records or any(record is None or record.operation != operation for record in records):
            return None
        return [record.signature for record in records if record is not None]

    return await context.storage.read(body)


def announce_proofs(tx: Transaction, ys: Sequence[bytes]) -> None:
    """Tell subscribers of these coins, in every process, that their state changed (NUT-17)."""
    for start in range(0, len(ys), 100):
        tx.notify(CHANGES, "proof_state:" + ",".join(y.hex() for y in ys[start : start + 100]))
