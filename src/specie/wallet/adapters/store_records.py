"""The half of `SqlWalletStore` that remembers quotes, sent tokens and history."""

from __future__ import annotations

from collections.abc import Collection

from specie.storage.ports import Row, Transaction, Value
from specie.wallet.adapters.rows import as_bytes, as_int, as_text, maybe_int, maybe_text, places
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import SentToken, WalletMeltQuote, WalletMintQuote
from specie.wallet.states import TokenState

# ruff: noqa: S608 - only constant column lists are put into statements

__all__ = ["SqlRecordStore"]

_MINT_QUOTE = (
    "mint, quote, method, unit, request, amount, expiry, amount_paid, amount_issued, updated_at, key_index, created_at"
)
_MELT_QUOTE = "mint, quote, method, unit, request, amount, fee_reserve, state, expiry, preimage, created_at"
_TOKEN = "id, mint, unit, amount, text, memo, state, locked, created_at"  # noqa: S105 - column names
_HISTORY = "id, at, kind, mint, unit, amount, fee, memo, reference"


class SqlRecordStore:
    """Quotes, tokens and history; `SqlWalletStore` adds the rest."""

    async def save_mint_quote(self, tx: Transaction, quote: WalletMintQuote) -> None:
        """Insert, or renew amounts unless a later `updated_at` is stored."""
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
        elif as_int(row[0]) <= quote.updated_at:
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
        """Insert, or renew state and preimage."""
        await tx.execute(
            f"INSERT INTO wallet_melt_quote ({_MELT_QUOTE}) {places(11)} "
            "ON CONFLICT (mint, quote) DO UPDATE SET state = excluded.state, "
            "preimage = COALESCE(excluded.preimage, wallet_melt_quote.preimage)",
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
        )

    async def melt_quote(self, tx: Transaction, mint: str, quote_id: str) -> WalletMeltQuote | None:
        """One quote."""
        row = await tx.fetch_one(f"SELECT {_MELT_QUOTE} FROM wallet_melt_quote WHERE mint = $1 AND quote = $2", mint, quote_id)
        return None if row is None else _melt_quote(row)

    async def melt_quotes(self, tx: Transaction) -> list[WalletMeltQuote]:
        """All quotes, newest first."""
        rows = await tx.fetch(f"SELECT {_MELT_QUOTE} FROM wallet_melt_quote ORDER BY created_at DESC, quote DESC")
        return [_melt_quote(row) for row in rows]

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
            f"INSERT INTO wallet_history ({_HISTORY}) {places(9)} ON CONFLICT DO NOTHING",
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
            f"SELECT {_HISTORY} FROM wallet_history WHERE CAST($1 AS TEXT) IS NULL OR id < $1 ORDER BY id DESC LIMIT $2",
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
