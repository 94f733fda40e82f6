"""The part of `SqlWalletStore` that remembers payment requests: ours, what came for them, and those we paid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.storage.ports import Row, Transaction
from specie.wallet.adapters.rows import as_bytes, as_int, as_text, maybe_int, maybe_text, places

if TYPE_CHECKING:
    from specie.wallet.request import RequestPayment, RequestReceipt, RequestRecord

# ruff: noqa: S608 - only constant column lists are put into statements

__all__ = ["SqlRequestStore"]

_REQUEST = "id, text, key_number, created_at, cancelled_at"
_RECEIPT = "id, request, mint, unit, amount, fee, memo, created_at, operation, coins"
_PAYMENT = "id, request, mint, unit, amount, memo, created_at, operation, delivered_by, delivered_at, error"
_SETTLED = "(SELECT COUNT(*) FROM wallet_operation o WHERE o.id = wallet_request_receipt.operation AND o.state = 'DONE')"


class SqlRequestStore:
    """Requests, receipts and payments; `SqlWalletStore` adds the rest."""

    async def add_request(self, tx: Transaction, record: RequestRecord) -> bool:
        """Insert a request of ours; False if the id is taken."""
        inserted = await tx.execute(
            f"INSERT INTO wallet_request ({_REQUEST}) {places(5)} ON CONFLICT DO NOTHING",
            record.request_id,
            record.text,
            record.key_number,
            record.created_at,
            record.cancelled_at,
        )
        return inserted == 1

    async def requests(self, tx: Transaction) -> list[RequestRecord]:
        """All requests of ours, newest first."""
        return [_request(row) for row in await tx.fetch(f"SELECT {_REQUEST} FROM wallet_request ORDER BY created_at DESC, id")]

    async def request(self, tx: Transaction, request_id: str) -> RequestRecord | None:
        """One request of ours."""
        row = await tx.fetch_one(f"SELECT {_REQUEST} FROM wallet_request WHERE id = $1", request_id)
        return None if row is None else _request(row)

    async def cancel_request(self, tx: Transaction, request_id: str, now: int) -> None:
        """Take no more payments for a request; the first time counts."""
        await tx.execute("UPDATE wallet_request SET cancelled_at = $2 WHERE id = $1 AND cancelled_at IS NULL", request_id, now)

    async def add_receipt(self, tx: Transaction, receipt: RequestReceipt, *, only: bool) -> bool:
        """Claim a request for these coins; False, and nothing written, if they, or (`only`) the request, are claimed already.

        A claim whose operation FAILED is none: it is removed first.
        """
        await tx.execute(
            "DELETE FROM wallet_request_receipt WHERE (coins = $1 OR request = $2) AND operation IN "
            "(SELECT id FROM wallet_operation WHERE state = 'FAILED')",
            receipt.coins,
            receipt.request_id,
        )
        inserted = await tx.execute(
            f"INSERT INTO wallet_request_receipt ({_RECEIPT}, single) {places(11)} ON CONFLICT DO NOTHING",
            receipt.receipt_id,
            receipt.request_id,
            receipt.mint,
            receipt.unit,
            str(receipt.amount),
            str(receipt.fee),
            receipt.memo,
            receipt.created_at,
            receipt.operation,
            receipt.coins,
            int(only),
        )
        return inserted == 1

    async def receipts(self, tx: Transaction, request_id: str) -> list[RequestReceipt]:
        """What was taken for a request, oldest first; claims whose operation FAILED are left out."""
        rows = await tx.fetch(
            f"SELECT {_RECEIPT}, {_SETTLED} FROM wallet_request_receipt WHERE request = $1 AND operation IN "
            "(SELECT id FROM wallet_operation WHERE state <> 'FAILED') ORDER BY id",
            request_id,
        )
        return [_receipt(row) for row in rows]

    async def save_payment(self, tx: Transaction, payment: RequestPayment, fingerprint: bytes, *, only: bool) -> bool:
        """Insert a payment, or note the operation that makes its coins now; False if (`only`) another one holds the claim."""
        changed = await tx.execute(
            "UPDATE wallet_request_payment SET operation = $2, mint = $3, amount = $4 WHERE id = $1",
            payment.payment_id,
            payment.operation,
            payment.mint,
            str(payment.amount),
        )
        if changed:
            return True
        inserted = await tx.execute(
            f"INSERT INTO wallet_request_payment ({_PAYMENT}, fingerprint, single) {places(13)} ON CONFLICT DO NOTHING",
            payment.payment_id,
            payment.request,
            payment.mint,
            payment.unit,
            str(payment.amount),
            payment.memo,
            payment.created_at,
            payment.operation,
            payment.delivered_by,
            payment.delivered_at,
            payment.error,
            fingerprint,
            int(only),
        )
        return inserted == 1

    async def release_payment(self, tx: Transaction, payment_id: str) -> None:
        """Give up the claim of a payment that came to nothing, or was taken back."""
        await tx.execute("UPDATE wallet_request_payment SET single = 0 WHERE id = $1", payment_id)

    async def note_delivery(self, tx: Transaction, payment_id: str, *, by: str | None, at: int | None, error: str) -> None:
        """Remember how a delivery went; one that was delivered stays delivered."""
        await tx.execute(
            "UPDATE wallet_request_payment SET delivered_by = $2, delivered_at = $3, error = $4 "
            "WHERE id = $1 AND (delivered_at IS NULL OR $5 = 1)",
            payment_id,
            by,
            at,
            error,
            int(at is not None),
        )

    async def payments(self, tx: Transaction, fingerprint: bytes | None = None) -> list[RequestPayment]:
        """Payments as stored, oldest first: all, or those of one request."""
        sql = f"SELECT {_PAYMENT} FROM wallet_request_payment"
        if fingerprint is None:
            rows = await tx.fetch(sql + " ORDER BY id")
        else:
            rows = await tx.fetch(sql + " WHERE fingerprint = $1 ORDER BY id", fingerprint)
        return [_payment(row) for row in rows]


def _request(row: Row) -> RequestRecord:
    from specie.wallet.request import RequestRecord

    return RequestRecord(as_text(row[0]), as_text(row[1]), maybe_int(row[2]), as_int(row[3]), maybe_int(row[4]))


def _receipt(row: Row) -> RequestReceipt:
    from specie.wallet.request import RequestReceipt

    return RequestReceipt(
        receipt_id=as_text(row[0]),
        request_id=as_text(row[1]),
        mint=as_text(row[2]),
        unit=as_text(row[3]),
        amount=as_int(row[4]),
        fee=as_int(row[5]),
        memo=maybe_text(row[6]),
        created_at=as_int(row[7]),
        operation=as_text(row[8]),
        coins=as_bytes(row[9]),
        settled=bool(row[10]),
    )


def _payment(row: Row) -> RequestPayment:
    from specie.wallet.request import RequestPayment

    return RequestPayment(
        payment_id=as_text(row[0]),
        request=as_text(row[1]),
        mint=as_text(row[2]),
        unit=as_text(row[3]),
        amount=as_int(row[4]),
        memo=maybe_text(row[5]),
        created_at=as_int(row[6]),
        operation=as_text(row[7]),
        delivered_by=maybe_text(row[8]),
        delivered_at=maybe_int(row[9]),
        error=as_text(row[10]),
    )
