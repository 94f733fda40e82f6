"""What a wallet can ask of the past: the state of coins (NUT-07) and signatures on outputs (NUT-09)."""

from __future__ import annotations

from collections.abc import Sequence

from specie.ecash import (
    BlindedMessage,
    BlindSignature,
    ProofState,
    State,
)
from specie.ecash.codes import (
    TooManyInputsError,
    TooManyOutputsError,
)
from specie.mint.engine.context import Context

__all__ = ["check_state", "restore"]


async def check_state(context: Context, ys: Sequence[bytes]) -> list[ProofState]:
    """State of each coin in request order; one that was never seen is UNSPENT. TooManyInputsError above the limit."""
    if len(ys) > context.settings.limits.array_length:
        raise TooManyInputsError
    records = await context.large_reads.read(context.store.proofs, ys)
    states = []
    for y in ys:
        record = records.get(y)
        if record is None:
            states.append(ProofState(y, State.UNSPENT))
        elif record.spent:
            states.append(ProofState(y, State.SPENT, record.witness))
        else:
            states.append(ProofState(y, State.PENDING, record.witness))
    return states


async def restore(context: Context, outputs: Sequence[BlindedMessage]) -> list[tuple[BlindedMessage, BlindSignature]]:
    """The outputs that were ever signed, in request order, each with its signature; their amounts mean nothing here."""
    if len(outputs) > context.settings.limits.array_length:
        raise TooManyOutputsError
    found = await context.large_reads.read(context.store.signatures, [output.B_ for output in outputs])
    return [(output, found[output.B_].signature) for output in outputs if output.B_ in found]
