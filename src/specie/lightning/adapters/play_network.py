"""Where parts of one foreign invoice meet (NUT-15): a network that play banks may share.

All parts arrive, or none: they wait for each other, at most `patience_s` after the first of them, and end in one
transaction. What is simulated: the payee is nobody, so the last part that makes the sum whole lets all arrive; and only parts
that are paid through the same network are known to it. Banks of one process share a `PlayNetwork`; banks in several processes
share a file (setting `network` of the rail), which both open as an SQLite store. Alone in its own store a bank meets nobody:
a part that is not the whole invoice fails when the time is over.
"""

from __future__ import annotations

from specie.kernel.clock import Clock
from specie.kernel.errors import UnavailableError, UncertainError
from specie.kernel.rail import PaymentState
from specie.lightning.adapters.play_store import number
from specie.storage import Storage, Transaction

__all__ = ["PlayNetwork"]


class PlayNetwork:
    """The meeting place on `storage` (schema: `play_schema.MIGRATIONS`)."""

    def __init__(self, storage: Storage, clock: Clock, *, patience_s: float = 60.0) -> None:
        self._storage = storage
        self._clock = clock
        self._patience_ms = int(patience_s * 1000)

    async def join(self, payment_hash: str, whole_msat: int, part_id: str, amount_msat: int) -> PaymentState:
        """Bring a part, once, or look at it again: PENDING until all are there, then PAID; FAILED if they did not come.

        UnavailableError: nothing is known of it; ask again.
        """
        now_ms = self._clock.now_ns() // 1_000_000

        async def body(tx: Transaction) -> PaymentState:
            await self._give_up(tx, payment_hash, now_ms)
            if await _state(tx, part_id) is None:
                sql = "SELECT part_id FROM play_part WHERE payment_hash = $1 AND state = 'PAID' LIMIT 1"
                paid = await tx.fetch_one(sql, payment_hash)
                await tx.execute(
                    "INSERT INTO play_part (part_id, payment_hash, amount_msat, joined_ms, state)"
                    " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                    part_id,
                    payment_hash,
                    str(amount_msat),
                    now_ms,
                    "PENDING" if paid is None else "FAILED",
                )
            sql = "SELECT amount_msat FROM play_part WHERE payment_hash = $1 AND state = 'PENDING'"
            if sum(number(row[0]) for row in await tx.fetch(sql, payment_hash)) >= whole_msat:
                sql = "UPDATE play_part SET state = 'PAID' WHERE payment_hash = $1 AND state = 'PENDING'"
                await tx.execute(sql, payment_hash)
            return await _state(tx, part_id) or PaymentState.PENDING

        try:
            return await self._storage.transact(body)
        except UncertainError as error:
            raise UnavailableError(error.detail) from error

    async def joined(self, part_id: str) -> bool:
        """Whether a part was ever brought."""

        return await self._storage.read(lambda tx: _state(tx, part_id)) is not None

    async def _give_up(self, tx: Transaction, payment_hash: str, now_ms: int) -> None:
        row = await tx.fetch_one(
            "SELECT MIN(joined_ms) FROM play_part WHERE payment_hash = $1 AND state = 'PENDING'", payment_hash
        )
        if row is not None and row[0] is not None and number(row[0]) + self._patience_ms <= now_ms:
            await tx.execute(
                "UPDATE play_part SET state = 'FAILED' WHERE payment_hash = $1 AND state = 'PENDING'", payment_hash
            )


async def _state(tx: Transaction, part_id: str) -> PaymentState | None:
    row = await tx.fetch_one("SELECT state FROM play_part WHERE part_id = $1", part_id)
    return None if row is None else PaymentState(str(row[0]))
