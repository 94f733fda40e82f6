"""The part of `SqlWalletStore` that remembers transfers, mints being left, their health, targets and policies."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING

from specie.ecash.proof import Proof, ProofDleq
from specie.storage.ports import Row, Transaction, Value
from specie.wallet.adapters.rows import as_bytes, as_int, as_text, maybe_int, maybe_text, places
from specie.wallet.holding import StoredProof
from specie.wallet.states import CoinState, OperationState
from specie.wallet.transfer import TRANSFER, Transfer, TransferState

if TYPE_CHECKING:
    from specie.wallet.placement import Leaving, MintHealth
    from specie.wallet.target import Target

# ruff: noqa: S608 - only constant column lists are put into statements

__all__ = ["SqlPlacementStore"]

_TRANSFER = (
    "id, source, destination, unit, amount, fee, mint_quote, melt_quote, state, error, created_at, updated_at"  # columns
)
_COIN = "y, mint, unit, keyset, amount, secret, c, witness, dleq_e, dleq_s, dleq_r, p2pk_e, created_at"


class SqlPlacementStore:
    """Implements `wallet.placement_ports.PlacementStore`; `SqlWalletStore` adds the rest."""

    async def add_transfer(self, tx: Transaction, transfer: Transfer) -> bool:
        """Insert a transfer; False if there is one of its payment."""
        inserted = await tx.execute(
            f"INSERT INTO wallet_transfer ({_TRANSFER}) {places(12)} ON CONFLICT DO NOTHING",
            transfer.transfer_id,
            transfer.source,
            transfer.destination,
            transfer.unit,
            str(transfer.amount),
            str(transfer.fee),
            transfer.mint_quote,
            transfer.melt_quote,
            str(transfer.state),
            transfer.error,
            transfer.created_at,
            transfer.updated_at,
        )
        return inserted == 1

    async def transfer(self, tx: Transaction, transfer_id: str) -> Transfer | None:
        """One transfer."""
        row = await tx.fetch_one(f"SELECT {_TRANSFER} FROM wallet_transfer WHERE id = $1", transfer_id)
        return None if row is None else _transfer(row)

    async def transfers(self, tx: Transaction, states: Collection[TransferState]) -> list[Transfer]:
        """Transfers in these states, oldest first."""
        keys: list[Value] = [str(state) for state in states]
        rows = await tx.fetch_in(f"SELECT {_TRANSFER} FROM wallet_transfer WHERE state IN {{keys}}", keys)
        return sorted((_transfer(row) for row in rows), key=lambda one: one.transfer_id)

    async def move_transfer(
        self, tx: Transaction, transfer_id: str, after: TransferState, *, fee: int | None, error: str, now: int
    ) -> bool:
        """To `after` as the table allows; False where it does not allow it."""
        found = await self.transfer(tx, transfer_id)
        if found is None or (
            found.state is not after
            and after not in {to for (before, _), to in TRANSFER.table.items() if before is found.state}
        ):
            return False
        changed = await tx.execute(
            "UPDATE wallet_transfer SET state = $3, fee = $4, error = $5, updated_at = $6 WHERE id = $1 AND state = $2",
            transfer_id,
            str(found.state),
            str(after),
            str(found.fee if fee is None else fee),
            error,
            now,
        )
        return changed == 1

    async def quote_operations(self, tx: Transaction, mint: str, quote: str) -> list[OperationState]:
        """States of all operations about a quote, oldest first."""
        rows = await tx.fetch("SELECT state FROM wallet_operation WHERE mint = $1 AND quote = $2 ORDER BY id", mint, quote)
        return [OperationState(as_text(row[0])) for row in rows]

    async def payment_cost(self, tx: Transaction, mint: str, request: str) -> int | None:
        """What a finished payment of a request cost on top; None where there is none."""
        row = await tx.fetch_one(
            "SELECT fee FROM wallet_history WHERE kind = 'pay' AND mint = $1 AND reference = $2", mint, request
        )
        return None if row is None else as_int(row[0])

    async def save_leaving(self, tx: Transaction, leaving: Leaving) -> None:
        """Mark a mint as being left; again renews all but `since`."""
        await tx.execute(
            f"INSERT INTO wallet_leaving (mint, destinations, since, cost_ppm, again_at) {places(5)} "
            "ON CONFLICT (mint) DO UPDATE SET destinations = excluded.destinations, cost_ppm = excluded.cost_ppm, "
            "again_at = excluded.again_at",
            leaving.mint,
            json.dumps(list(leaving.destinations)),
            leaving.since,
            leaving.cost_ppm,
            leaving.again_at,
        )

    async def drop_leaving(self, tx: Transaction, mint: str) -> bool:
        """Take the mark off; whether there was one."""
        return await tx.execute("DELETE FROM wallet_leaving WHERE mint = $1", mint) == 1

    async def leaving(self, tx: Transaction) -> list[Leaving]:
        """Mints being left, by URL."""
        rows = await tx.fetch("SELECT mint, destinations, since, cost_ppm, again_at FROM wallet_leaving ORDER BY mint")
        return [_leaving(row) for row in rows]

    async def save_health(self, tx: Transaction, health: MintHealth) -> None:
        """Insert or replace what was seen of a mint."""
        await tx.execute(
            f"INSERT INTO wallet_health (mint, failures, failing_since, failed_at, answered_at) {places(5)} "
            "ON CONFLICT (mint) DO UPDATE SET failures = excluded.failures, failing_since = excluded.failing_since, "
            "failed_at = excluded.failed_at, answered_at = excluded.answered_at",
            health.mint,
            health.failures,
            health.failing_since,
            health.failed_at,
            health.answered_at,
        )

    async def health(self, tx: Transaction) -> list[MintHealth]:
        """What was seen of mints, by URL."""
        from specie.wallet.placement import MintHealth

        rows = await tx.fetch("SELECT mint, failures, failing_since, failed_at, answered_at FROM wallet_health ORDER BY mint")
        return [
            MintHealth(as_text(mint), as_int(failures), maybe_int(since), maybe_int(failed), maybe_int(answered))
            for mint, failures, since, failed, answered in rows
        ]

    async def save_target(self, tx: Transaction, target: Target) -> None:
        """Insert or replace the target of a mint and unit."""
        await tx.execute(
            f"INSERT INTO wallet_target (mint, unit, share_ppm, maximum) {places(4)} "
            "ON CONFLICT (mint, unit) DO UPDATE SET share_ppm = excluded.share_ppm, maximum = excluded.maximum",
            target.mint,
            target.unit,
            target.share_ppm,
            None if target.maximum is None else str(target.maximum),
        )

    async def drop_targets(self, tx: Transaction, *, mint: str | None, unit: str | None) -> int:
        """Delete targets, filtered; how many."""
        return await tx.execute(
            "DELETE FROM wallet_target WHERE ($1 = '' OR mint = $1) AND ($2 = '' OR unit = $2)", mint or "", unit or ""
        )

    async def targets(self, tx: Transaction) -> list[Target]:
        """All targets, by unit and mint."""
        from specie.wallet.target import Target

        rows = await tx.fetch("SELECT mint, unit, share_ppm, maximum FROM wallet_target ORDER BY unit, mint")
        return [Target(as_text(mint), as_text(unit), maybe_int(share), maybe_int(most)) for mint, unit, share, most in rows]

    async def save_policy(self, tx: Transaction, name: str, text: str | None) -> None:
        """Remember a policy as text; None forgets it."""
        if text is None:
            await tx.execute("DELETE FROM wallet_policy WHERE name = $1", name)
            return
        await tx.execute(
            f"INSERT INTO wallet_policy (name, text) {places(2)} ON CONFLICT (name) DO UPDATE SET text = excluded.text",
            name,
            text,
        )

    async def policy(self, tx: Transaction, name: str) -> str | None:
        """A policy's text."""
        row = await tx.fetch_one("SELECT text FROM wallet_policy WHERE name = $1", name)
        return None if row is None else as_text(row[0])

    async def unswapped(self, tx: Transaction) -> list[tuple[StoredProof, int]]:
        """UNSPENT coins that were received off-line, each with the time it came, oldest first."""
        rows = await tx.fetch(
            f"SELECT {_COIN} FROM wallet_proof WHERE state = 'UNSPENT' AND unswapped = 1 ORDER BY created_at, y"
        )
        return [_coin(row) for row in rows]

    async def drop_mint(self, tx: Transaction, url: str) -> bool:
        """Forget a mint, its health, mark and targets; keysets, counters and coins stay."""
        for table in ("wallet_health", "wallet_leaving", "wallet_target"):
            await tx.execute(f"DELETE FROM {table} WHERE mint = $1", url)
        return await tx.execute("DELETE FROM wallet_mint WHERE url = $1", url) == 1


def _leaving(row: Row) -> Leaving:
    from specie.wallet.placement import Leaving

    mint, to, since, cost, again = row
    return Leaving(as_text(mint), tuple(json.loads(as_text(to))), as_int(since), as_int(cost), as_int(again))


def _transfer(row: Row) -> Transfer:
    return Transfer(
        transfer_id=as_text(row[0]),
        source=as_text(row[1]),
        destination=as_text(row[2]),
        unit=as_text(row[3]),
        amount=as_int(row[4]),
        fee=as_int(row[5]),
        mint_quote=as_text(row[6]),
        melt_quote=as_text(row[7]),
        state=TransferState(as_text(row[8])),
        error=as_text(row[9]),
        created_at=as_int(row[10]),
        updated_at=as_int(row[11]),
    )


def _coin(row: Row) -> tuple[StoredProof, int]:
    dleq = None if row[8] is None else ProofDleq(as_bytes(row[8]), as_bytes(row[9]), as_bytes(row[10]))
    proof = Proof(
        amount=as_int(row[4]),
        id=as_text(row[3]),
        secret=as_text(row[5]),
        C=as_bytes(row[6]),
        witness=maybe_text(row[7]),
        dleq=dleq,
        p2pk_e=None if row[11] is None else as_bytes(row[11]),
    )
    coin = StoredProof(proof, as_bytes(row[0]), as_text(row[1]), as_text(row[2]), CoinState.UNSPENT, unswapped=True)
    return coin, as_int(row[12])
