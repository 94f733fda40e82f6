"""The part of `SqlWalletStore` that remembers takings and tolls (NUT-24)."""

from __future__ import annotations

from collections.abc import Collection

from specie.storage.ports import Row, Transaction, Value
from specie.wallet.adapters.rows import as_int, as_text, maybe_int, maybe_text, places
from specie.wallet.paid import Settle, Taking, TakingState, Toll, TollState
from specie.wallet.states import OperationState

# ruff: noqa: S608 - only constant column lists are put into statements

__all__ = ["SqlPaidStore"]

_TAKING = "name, resource, mint, unit, amount, settle, state, created_at, deliveries, answered_at"
_TOLL = "id, host, resource, mint, unit, amount, state, token, created_at"


class SqlPaidStore:
    """Implements `wallet.paid.PaidStore`."""

    async def add_taking(self, tx: Transaction, taking: Taking) -> bool:
        """Insert; False if there is one of its name."""
        inserted = await tx.execute(
            f"INSERT INTO wallet_taking ({_TAKING}) {places(10)} ON CONFLICT DO NOTHING",
            taking.name,
            taking.resource,
            taking.mint,
            taking.unit,
            str(taking.amount),
            str(taking.settle),
            str(taking.state),
            taking.created_at,
            taking.deliveries,
            taking.answered_at,
        )
        return inserted == 1

    async def taking(self, tx: Transaction, name: str) -> Taking | None:
        """One taking."""
        row = await tx.fetch_one(f"SELECT {_TAKING} FROM wallet_taking WHERE name = $1", name)
        return None if row is None else _taking(row)

    async def save_taking(self, tx: Transaction, taking: Taking) -> None:
        """Renew state, deliveries and time of the answer."""
        await tx.execute(
            "UPDATE wallet_taking SET state = $2, deliveries = $3, answered_at = $4 WHERE name = $1",
            taking.name,
            str(taking.state),
            taking.deliveries,
            taking.answered_at,
        )

    async def drop_taking(self, tx: Transaction, name: str) -> None:
        """Forget one that was refused while BEGUN."""
        await tx.execute("DELETE FROM wallet_taking WHERE name = $1 AND state = 'BEGUN'", name)

    async def takings(self, tx: Transaction, *, since: int, limit: int) -> list[Taking]:
        """Those begun since, newest first."""
        rows = await tx.fetch(
            f"SELECT {_TAKING} FROM wallet_taking WHERE created_at >= $1 ORDER BY created_at DESC, name LIMIT $2", since, limit
        )
        return [_taking(row) for row in rows]

    async def forget_takings(self, tx: Transaction, before: int) -> int:
        """Forget TAKEN ones that were begun before; the number."""
        return await tx.execute("DELETE FROM wallet_taking WHERE state = 'TAKEN' AND created_at < $1", before)

    async def swaps_of(self, tx: Transaction, inputs: bytes, since: int) -> list[tuple[str, OperationState]]:
        """Ids and states of swaps with exactly these inputs made since, oldest first."""
        rows = await tx.fetch(
            "SELECT id, state FROM wallet_operation WHERE kind = 'swap' AND created_at >= $2 AND inputs = $1 ORDER BY id",
            inputs,
            since,
        )
        return [(as_text(identifier), OperationState(as_text(state))) for identifier, state in rows]

    async def add_toll(self, tx: Transaction, toll: Toll) -> None:
        """Insert."""
        await tx.execute(
            f"INSERT INTO wallet_toll ({_TOLL}) {places(9)}",
            toll.toll_id,
            toll.host,
            toll.resource,
            toll.mint,
            toll.unit,
            str(toll.amount),
            str(toll.state),
            toll.token,
            toll.created_at,
        )

    async def save_toll(self, tx: Transaction, toll: Toll, before: TollState) -> bool:
        """Renew state, amount and token by compare-and-swap on the state."""
        changed = await tx.execute(
            "UPDATE wallet_toll SET state = $2, amount = $3, token = $4 WHERE id = $1 AND state = $5",
            toll.toll_id,
            str(toll.state),
            str(toll.amount),
            toll.token,
            str(before),
        )
        return changed == 1

    async def tolls(
        self, tx: Transaction, *, host: str | None = None, since: int = 0, states: Collection[TollState] = ()
    ) -> list[Toll]:
        """Tolls made since, oldest first; no `states` means all."""
        keys: list[Value] = [str(state) for state in states or tuple(TollState)]
        rows = await tx.fetch_in(
            f"SELECT {_TOLL} FROM wallet_toll WHERE state IN {{keys}} "
            "AND created_at >= $1 AND (CAST($2 AS TEXT) IS NULL OR host = $2)",
            keys,
            since,
            host,
        )
        return sorted((_toll(row) for row in rows), key=lambda toll: toll.toll_id)


def _taking(row: Row) -> Taking:
    return Taking(
        name=as_text(row[0]),
        resource=as_text(row[1]),
        mint=as_text(row[2]),
        unit=as_text(row[3]),
        amount=as_int(row[4]),
        settle=Settle(as_text(row[5])),
        state=TakingState(as_text(row[6])),
        created_at=as_int(row[7]),
        deliveries=as_int(row[8]),
        answered_at=maybe_int(row[9]),
    )


def _toll(row: Row) -> Toll:
    return Toll(
        toll_id=as_text(row[0]),
        host=as_text(row[1]),
        resource=as_text(row[2]),
        mint=as_text(row[3]),
        unit=as_text(row[4]),
        amount=as_int(row[5]),
        state=TollState(as_text(row[6])),
        token=maybe_text(row[7]),
        created_at=as_int(row[8]),
    )
