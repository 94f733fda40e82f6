"""What may become of a quote and of a coin at the mint, as tables; `docs/states/` is drawn from them."""

from __future__ import annotations

from specie.ecash import MeltState, MintState, State
from specie.kernel.machine import Machine

__all__ = ["COIN", "MACHINES", "MELT_QUOTE", "MINT_QUOTE"]

MINT_QUOTE = Machine(
    name="mint quote",
    initial=MintState.UNPAID,
    table={
        (MintState.UNPAID, "deposit"): MintState.PAID,
        (MintState.PAID, "deposit"): MintState.PAID,
        (MintState.PAID, "issue"): MintState.ISSUED,
        (MintState.PAID, "issue a part"): MintState.PAID,
        (MintState.ISSUED, "deposit"): MintState.PAID,
        (MintState.PAID, "withdraw all"): MintState.UNPAID,
        (MintState.PAID, "withdraw some"): MintState.PAID,
        (MintState.PAID, "withdraw what was not issued"): MintState.ISSUED,
        (MintState.ISSUED, "withdraw at the mint's loss"): MintState.ISSUED,
    },
)
"""NUT-04, NUT-25, NUT-30. A second deposit on one invoice is booked and owed, but a BOLT 11 quote is issued once and whole."""

MELT_QUOTE = Machine(
    name="melt quote",
    initial=MeltState.UNPAID,
    table={
        (MeltState.UNPAID, "lock inputs"): MeltState.PENDING,
        (MeltState.UNPAID, "settle inside the mint"): MeltState.PAID,
        (MeltState.PENDING, "payment arrived"): MeltState.PAID,
        (MeltState.PENDING, "payment failed for good"): MeltState.UNPAID,
    },
)
"""NUT-05. Nothing leaves PENDING while the payment's end is not known."""

COIN = Machine(
    name="coin",
    initial=State.UNSPENT,
    table={
        (State.UNSPENT, "swap"): State.SPENT,
        (State.UNSPENT, "lock inputs"): State.PENDING,
        (State.UNSPENT, "settle inside the mint"): State.SPENT,
        (State.PENDING, "payment arrived"): State.SPENT,
        (State.PENDING, "payment failed for good"): State.UNSPENT,
    },
)
"""NUT-07."""

MACHINES = (MINT_QUOTE, MELT_QUOTE, COIN)
