"""The part of `SqlWalletStore` that remembers what was checked of a mint's liabilities, and evidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from specie.storage.ports import Transaction
from specie.wallet.adapters.rows import PROOF_COLUMNS, as_bytes, as_int, as_text, places, proof_from_row

if TYPE_CHECKING:
    from specie.wallet.liabilities import CoinRecord, KeptEvidence, LoggedItem

# ruff: noqa: S608 - only constant column lists are put into statements

__all__ = ["SqlLiabilityRecords"]

_WIDTH = PROOF_COLUMNS.count(",") + 1


class SqlLiabilityRecords:
    """Views, items and evidence."""

    async def coin_records(self, tx: Transaction, mint: str) -> list[CoinRecord]:
        """Every coin of a mint, spent ones too, with its times."""
        from specie.wallet.liabilities import CoinRecord

        rows = await tx.fetch(
            f"SELECT {PROOF_COLUMNS}, created_at, changed_at FROM wallet_proof WHERE mint = $1 ORDER BY y", mint
        )
        return [CoinRecord(proof_from_row(row[:_WIDTH]), as_int(row[_WIDTH]), as_int(row[_WIDTH + 1])) for row in rows]

    async def liability_view(self, tx: Transaction, mint: str) -> bytes | None:
        """How far a mint's epochs were checked."""
        row = await tx.fetch_one("SELECT view FROM wallet_liability WHERE mint = $1", mint)
        return None if row is None else as_bytes(row[0])

    async def save_liability_view(self, tx: Transaction, mint: str, view: bytes) -> None:
        """Remember how far a mint's epochs were checked."""
        await tx.execute(
            "INSERT INTO wallet_liability (mint, view) VALUES ($1, $2) ON CONFLICT (mint) DO UPDATE SET view = excluded.view",
            mint,
            view,
        )

    async def logged_items(self, tx: Transaction, mint: str) -> list[LoggedItem]:
        """Our items that were seen in a mint's logs."""
        from specie.ecash.liabilities import Side
        from specie.wallet.liabilities import LoggedItem

        rows = await tx.fetch("SELECT side, item, y, keyset, position FROM wallet_liability_leaf WHERE mint = $1", mint)
        return [
            LoggedItem(Side(as_text(side)), as_bytes(item), as_bytes(y), as_text(keyset), as_int(position))
            for side, item, y, keyset, position in rows
        ]

    async def add_logged_items(self, tx: Transaction, mint: str, items: Iterable[LoggedItem]) -> None:
        """Remember items that were seen."""
        await tx.execute_many(
            f"INSERT INTO wallet_liability_leaf (mint, side, item, y, keyset, position) {places(6)} ON CONFLICT DO NOTHING",
            [(mint, one.side.value, one.item, one.y, one.keyset, str(one.position)) for one in items],
        )

    async def add_evidence(self, tx: Transaction, kept: KeptEvidence) -> None:
        """Keep evidence; the same is kept once."""
        await tx.execute(
            f"INSERT INTO wallet_evidence (id, mint, kind, body, at) {places(5)} ON CONFLICT DO NOTHING",
            kept.evidence_id,
            kept.mint,
            kept.kind,
            kept.body,
            kept.at,
        )

    async def evidence(self, tx: Transaction) -> list[KeptEvidence]:
        """All evidence, oldest first."""
        from specie.wallet.liabilities import KeptEvidence

        rows = await tx.fetch("SELECT id, mint, kind, body, at FROM wallet_evidence ORDER BY at, id")
        return [
            KeptEvidence(as_text(evidence_id), as_text(mint), as_text(kind), as_bytes(body), as_int(at))
            for evidence_id, mint, kind, body, at in rows
        ]
