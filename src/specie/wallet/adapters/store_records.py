"""The half of `SqlWalletStore` that remembers quotes, payments, sent tokens and history."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from specie.ecash.quote import MeltFeeOption
from specie.storage.ports import Row, Transaction, Value
from specie.wallet.adapters.rows import as_bytes, as_int, as_text, maybe_int, maybe_text, places
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import SentToken, SplitPart, SplitPayment, WalletMeltQuote, WalletMintQuote
from specie.wallet.states import OperationState, TokenState

# ruff: noqa: S608 - only constant column lists are put into statements

__all__ = ["SqlRecordStore"]

_MINT_QUOTE = (
    "mint, quote, method, unit, request, amount, expiry, amount_paid, amount_issued, updated_at, key_index, created_at"
)
_MELT_QUOTE = (
    "mint, quote, method, unit, request, amount, fee_reserve, state, expiry, preimage, created_at, "
    "fee_options, fee_index, outpoint, part_msat"
)
_PAYMENT = "id, request, unit, amount, memo, created_at"
_TOKEN = "id, mint, unit, amount, text, memo, state, locked, created_at"  # noqa: S105 - column names
_HISTORY = "id, at, kind, wallet_history.mint, unit, amount, fee, memo, reference"


class SqlRecordStore:
    """Quotes, payments, tokens and history; `SqlWalletStore` adds the rest."""

    async def save_mint_quote(self, tx: Transaction, quote: WalletMintQuote, *, older: bool = False) -> None:
        """Insert, or renew amounts unless a later `updated_at` is stored; with `older` even then."""
        row = await tx.fetch_one(
            "SELECT updated_at FROM wallet_mint_quote WHERE mint = $1 AND quote = $2", quote.mint, quote.quote
        )
        if row is None:
            await tx.execute(
                f"INSERT INTO wallet_mint_quote ({_MINT_QUOTE}) {places(12)} ON CONFLICT DO NOTHING",
                quote.mint,
                quote.quote,
                quote.method,
                quote.unit,
                quote.request,
                None if quote.amount is None else str(quote.amount),
                None if quote.expiry is None else str(quote.expiry),
                str(quote.amount_paid),
                str(quote.amount_issued),
                str(quote.updated_at),
                quote.key_index,
                quote.created_at,
            )
        elif older or as_int(row[0]) <= quote.updated_at:
            await tx.execute(
                "UPDATE wallet_mint_quote SET amount_paid = $3, amount_issued = $4, updated_at = $5 "
                "WHERE mint = $1 AND quote = $2",
                quote.mint,
                quote.quote,
                str(quote.amount_paid),
                str(quote.amount_issued),
                str(quote.updated_at),
            )

    async def mint_quotes(self, tx: Transaction) -> list[WalletMintQuote]:
        """All quotes, newest first."""
        rows = await tx.fetch(f"SELECT {_MINT_QUOTE} FROM wallet_mint_quote ORDER BY created_at DESC, quote DESC")
        return [_mint_quote(row) for row in rows]

    async def mint_quote(self, tx: Transaction, mint: str, quote_id: str) -> WalletMintQuote | None:
        """One quote."""
        row = await tx.fetch_one(f"SELECT {_MINT_QUOTE} FROM wallet_mint_quote WHERE mint = $1 AND quote = $2", mint, quote_id)
        return None if row is None else _mint_quote(row)

    async def save_melt_quote(self, tx: Transaction, quote: WalletMeltQuote) -> None:
        """Insert, or renew state, preimage, outpoint and chosen option (with its reserve)."""
        await tx.execute(
            f"INSERT INTO wallet_melt_quote ({_MELT_QUOTE}) {places(15)} "
            "ON CONFLICT (mint, quote) DO UPDATE SET state = excluded.state, fee_reserve = excluded.fee_reserve, "
            "fee_index = excluded.fee_index, preimage = COALESCE(excluded.preimage, wallet_melt_quote.preimage), "
            "outpoint = COALESCE(excluded.outpoint, wallet_melt_quote.outpoint)",
            quote.mint,
            quote.quote,
            quote.method,
            quote.unit,
            quote.request,
            str(quote.amount),
            str(quote.fee_reserve),
            quote.state,
            None if quote.expiry is None else str(quote.expiry),
            quote.preimage,
            quote.created_at,
            msgspec.json.encode(quote.fee_options).decode(),
            quote.fee_index,
            quote.outpoint,
            None if quote.part_msat is None else str(quote.part_msat),
        )

    async def melt_quote(self, tx: Transaction, mint: str, quote_id: str) -> WalletMeltQuote | None:
        """One quote."""
        row = await tx.fetch_one(f"SELECT {_MELT_QUOTE} FROM wallet_melt_quote WHERE mint = $1 AND quote = $2", mint, quote_id)
        return None if row is None else _melt_quote(row)

    async def melt_quotes(self, tx: Transaction) -> list[WalletMeltQuote]:
        """All quotes, newest first."""
        rows = await tx.fetch(f"SELECT {_MELT_QUOTE} FROM wallet_melt_quote ORDER BY created_at DESC, quote DESC")
        return [_melt_quote(row) for row in rows]

    async def invoice_states(self, tx: Transaction, request: str) -> set[OperationState]:
        """States of the operations that pay, or paid, this very request."""
        rows = await tx.fetch(
            "SELECT DISTINCT o.state FROM wallet_operation o JOIN wallet_melt_quote q ON q.mint = o.mint AND q.quote = o.quote "
            "WHERE lower(q.request) = lower($1) AND o.kind = 'melt'",
            request,
        )
        return {OperationState(as_text(row[0])) for row in rows}

    async def add_payment(self, tx: Transaction, payment: SplitPayment) -> None:
        """Insert a payment by several mints."""
        await tx.execute(
            f"INSERT INTO wallet_payment ({_PAYMENT}) {places(6)}",
            payment.payment_id,
            payment.request,
            payment.unit,
            str(payment.amount),
            payment.memo,
            payment.created_at,
        )
        await tx.execute_many(
            "INSERT INTO wallet_payment_part (payment, position, mint, quote, operation, part_msat) " + places(6),
            [
                (payment.payment_id, position, part.mint, part.quote, part.operation, str(part.part_msat))
                for position, part in enumerate(payment.parts)
            ],
        )

    async def split_payments(self, tx: Transaction) -> list[SplitPayment]:
        """Payments by several mints, newest first."""
        rows = await tx.fetch(f"SELECT {_PAYMENT} FROM wallet_payment ORDER BY id DESC")
        return [await _payment(tx, row) for row in rows]

    async def payment_of(self, tx: Transaction, operation_id: str) -> SplitPayment | None:
        """The payment that an operation pays a part of."""
        row = await tx.fetch_one(
            f"SELECT {_PAYMENT} FROM wallet_payment WHERE id = (SELECT payment FROM wallet_payment_part WHERE operation = $1)",
            operation_id,
        )
        return None if row is None else await _payment(tx, row)

    async def add_token(self, tx: Transaction, token: SentToken) -> None:
        """Insert a sent token."""
        await tx.execute(
            f"INSERT INTO wallet_token ({_TOKEN}) {places(9)} ON CONFLICT DO NOTHING",
            token.token_id,
            token.mint,
            token.unit,
            str(token.amount),
            token.text,
            token.memo,
            str(token.state),
            int(token.locked),
            token.created_at,
        )

    async def token(self, tx: Transaction, token_id: str) -> SentToken | None:
        """One token."""
        row = await tx.fetch_one(f"SELECT {_TOKEN} FROM wallet_token WHERE id = $1", token_id)
        return None if row is None else _token(row)

    async def tokens(self, tx: Transaction, states: Collection[TokenState]) -> list[SentToken]:
        """Sent tokens in these states, oldest first."""
        keys: list[Value] = [str(state) for state in states]
        rows = await tx.fetch_in(f"SELECT {_TOKEN} FROM wallet_token WHERE state IN {{keys}}", keys)
        return sorted((_token(row) for row in rows), key=lambda token: token.token_id)

    async def close_token(self, tx: Transaction, token_id: str, state: TokenState) -> bool:
        """PENDING to CLAIMED or RECLAIMED; False if it was closed before."""
        changed = await tx.execute(
            "UPDATE wallet_token SET state = $2 WHERE id = $1 AND state = 'PENDING'", token_id, str(state)
        )
        return changed == 1

    async def add_history(self, tx: Transaction, entry: HistoryEntry) -> None:
        """Append a line; one with the same id is left as it is."""
        await tx.execute(
            f"INSERT INTO wallet_history (id, at, kind, mint, unit, amount, fee, memo, reference) {places(9)} "
            "ON CONFLICT DO NOTHING",
            entry.entry_id,
            entry.at,
            entry.kind,
            entry.mint,
            entry.unit,
            str(entry.amount),
            str(entry.fee),
            entry.memo,
            entry.reference,
        )

    async def save_secret(self, tx: Transaction, name: str, sealed: bytes, now: int) -> None:
        """Keep a sealed secret in place of one of the same name."""
        await tx.execute(
            "INSERT INTO wallet_secret (name, sealed, changed_at) VALUES ($1, $2, $3) "
            "ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, changed_at = excluded.changed_at",
            name,
            sealed,
            now,
        )

    async def secret(self, tx: Transaction, name: str) -> bytes | None:
        """A sealed secret, or None."""
        row = await tx.fetch_one("SELECT sealed FROM wallet_secret WHERE name = $1", name)
        return None if row is None else as_bytes(row[0])

    async def delete_secret(self, tx: Transaction, name: str) -> None:
        """Forget a sealed secret."""
        await tx.execute("DELETE FROM wallet_secret WHERE name = $1", name)

    async def history(self, tx: Transaction, *, before: str | None, limit: int) -> list[HistoryEntry]:
        """Lines, newest first."""
        rows = await tx.fetch(
            f"SELECT {_HISTORY}, payment FROM wallet_history LEFT JOIN wallet_payment_part ON operation = id "
            "WHERE CAST($1 AS TEXT) IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
            before,
            limit,
        )
        return [
            HistoryEntry(
                entry_id=as_text(row[0]),
                at=as_int(row[1]),
                kind=as_text(row[2]),
                mint=as_text(row[3]),
                unit=as_text(row[4]),
                amount=as_int(row[5]),
                fee=as_int(row[6]),
                memo=maybe_text(row[7]),
                reference=maybe_text(row[8]),
                payment=maybe_text(row[9]),
            )
            for row in rows
        ]


def _mint_quote(row: Row) -> WalletMintQuote:
    return WalletMintQuote(
        mint=as_text(row[0]),
        quote=as_text(row[1]),
        method=as_text(row[2]),
        unit=as_text(row[3]),
        request=as_text(row[4]),
        amount=maybe_int(row[5]),
        expiry=maybe_int(row[6]),
        amount_paid=as_int(row[7]),
        amount_issued=as_int(row[8]),
        updated_at=as_int(row[9]),
        key_index=maybe_int(row[10]),
        created_at=as_int(row[11]),
    )


def _melt_quote(row: Row) -> WalletMeltQuote:
    return WalletMeltQuote(
        mint=as_text(row[0]),
        quote=as_text(row[1]),
        method=as_text(row[2]),
        unit=as_text(row[3]),
        request=as_text(row[4]),
        amount=as_int(row[5]),
        fee_reserve=as_int(row[6]),
        state=as_text(row[7]),
        expiry=maybe_int(row[8]),
        preimage=maybe_text(row[9]),
        created_at=as_int(row[10]),
        fee_options=msgspec.json.decode(as_text(row[11]), type=tuple[MeltFeeOption, ...]),
        fee_index=maybe_int(row[12]),
        outpoint=maybe_text(row[13]),
        part_msat=maybe_int(row[14]),
    )


async def _payment(tx: Transaction, row: Row) -> SplitPayment:
    """The payment with its parts as their operations, quotes and lines of the history say."""
    rows = await tx.fetch(
        "SELECT p.mint, p.quote, p.operation, p.part_msat, o.amount, o.fee, q.fee_reserve, h.fee, o.state, q.preimage "
        "FROM wallet_payment_part p JOIN wallet_operation o ON o.id = p.operation "
        "JOIN wallet_melt_quote q ON q.mint = p.mint AND q.quote = p.quote "
        "LEFT JOIN wallet_history h ON h.id = p.operation WHERE p.payment = $1 ORDER BY p.position",
        row[0],
    )
    return SplitPayment(
        payment_id=as_text(row[0]),
        request=as_text(row[1]),
        unit=as_text(row[2]),
        amount=as_int(row[3]),
        memo=maybe_text(row[4]),
        created_at=as_int(row[5]),
        parts=tuple(_part(one) for one in rows),
    )


def _part(row: Row) -> SplitPart:
    paid = maybe_int(row[7])
    return SplitPart(
        mint=as_text(row[0]),
        quote=as_text(row[1]),
        operation=as_text(row[2]),
        part_msat=as_int(row[3]),
        amount=as_int(row[4]),
        fee=as_int(row[5]) + as_int(row[6]) if paid is None else paid,
        state=OperationState(as_text(row[8])),
        preimage=maybe_text(row[9]),
    )


def _token(row: Row) -> SentToken:
    return SentToken(
        token_id=as_text(row[0]),
        mint=as_text(row[1]),
        unit=as_text(row[2]),
        amount=as_int(row[3]),
        text=as_text(row[4]),
        memo=maybe_text(row[5]),
        state=TokenState(as_text(row[6])),
        locked=bool(row[7]),
        created_at=as_int(row[8]),
    )
