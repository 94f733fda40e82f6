"""Space of expired keysets (NUT-02 `final_expiry`): what was spent or signed under them is dropped, and its sums are kept.

The coins of such a keyset are refused by their keyset alone, so that nobody has to know which were spent; a signature under
it is worth nothing to whoever would restore it. What is in flight (inputs PENDING, change promised) stays, as do the ledger's
entries and the logs of proved liabilities. One step is: read a stretch of a table on a snapshot, then drop what is to go
in transactions of a few hundred rows. What a crash leaves behind:

    before a transaction    the rows; the next run finds them
    after it                its rows are gone and its sums are counted, both or neither

A grace time lies between expiry and dropping, so that no clock of any process still takes the coins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specie.ecash.liabilities import Side
from specie.kernel import MalformedError, RefusedError
from specie.mint.engine.context import Context
from specie.mint.prune_ports import Dropped, PruneStore
from specie.storage import Transaction

__all__ = ["LEAST_GRACE_S", "PruneStep", "Pruning"]

LEAST_GRACE_S = 86_400
"""A day: more than clocks differ, and more than a payment begun before the expiry should last."""
_WINDOW = 2000
"""Rows read at once."""
_BATCH = 256
"""Rows dropped in one transaction."""
_STEP_S = 2.0
"""How long one step may go on reading."""


@dataclass(frozen=True, slots=True)
class PruneStep:
    """What one step found (or dropped), by side and keyset, and where the next begins: None when all was seen."""

    found: dict[tuple[Side, str], Dropped]
    cursor: str | None


class Pruning:
    """Drops rows of expired keysets, a step at a time. Any number of processes may do so on one store."""

    def __init__(self, context: Context, store: PruneStore) -> None:
        self._context = context
        self._store = store

    def expired(self, grace_s: int) -> list[str]:
        """Ids of the keysets that expired at least `grace_s` seconds ago; RefusedError for less than a day."""
        if grace_s < LEAST_GRACE_S:
            raise RefusedError("coins of an expired keyset are kept for a day at least")
        before = self._context.clock.now() - grace_s
        keysets = self._context.catalogue.all()
        return [one.id for one in keysets if one.final_expiry is not None and one.final_expiry < before]

    async def step(self, *, grace_s: int, act: bool, cursor: str | None = None) -> PruneStep:
        """Look at the next rows, for some two seconds, and with `act` drop what may go.

        MalformedError for a cursor of nobody's.
        """
        expired = frozenset(self.expired(grace_s))
        side, after = _place(cursor)
        found: dict[tuple[Side, str], Dropped] = {}
        clock = self._context.clock
        began = clock.monotonic()
        while expired:
            window = await self._context.storage.read(lambda tx, s=side, a=after: self._store.window(tx, s, a, _WINDOW))  # type: ignore[misc]
            going: dict[str, list[tuple[bytes, int]]] = {}
            for item, keyset, amount in window.rows:
                if keyset in expired:
                    going.setdefault(keyset, []).append((item, amount))
            for keyset, rows in going.items():
                gone = await self._drop(side, keyset, [item for item, _ in rows]) if act else _seen(rows)
                if gone.count:
                    found[side, keyset] = found.get((side, keyset), Dropped()) + gone
            if window.last is not None:
                after = window.last
            elif side is Side.SPENT:
                side, after = Side.ISSUED, b""
            else:
                break
            if clock.monotonic() - began >= _STEP_S:
                return PruneStep(found, f"{side.value}:{after.hex()}")
        return PruneStep(found, None)

    async def _drop(self, side: Side, keyset: str, items: Sequence[bytes]) -> Dropped:
        gone = Dropped()
        unlogged = not self._context.settings.liabilities
        for start in range(0, len(items), _BATCH):
            chunk = items[start : start + _BATCH]

            async def body(tx: Transaction, chunk: Sequence[bytes] = chunk) -> Dropped:
                return await self._store.drop(tx, side, keyset, chunk, unlogged=unlogged)

            gone += await self._context.storage.transact(body)
        self._context.telemetry.count("pruned_rows", gone.count, side=side.value)
        return gone


def _seen(rows: Sequence[tuple[bytes, int]]) -> Dropped:
    return Dropped(len(rows), sum(amount for _, amount in rows))


def _place(cursor: str | None) -> tuple[Side, bytes]:
    if cursor is None:
        return Side.SPENT, b""
    name, _, after = cursor.partition(":")
    try:
        return Side(name), bytes.fromhex(after)
    except ValueError:
        raise MalformedError("the cursor is none of this bank's") from None
