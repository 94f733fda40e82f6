"""The pool of blind tokens, in an SQL store."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from specie.storage.ports import Row, Transaction
from specie.wallet.adapters.rows import as_bytes, as_int, as_text, places
from specie.wallet.auth import BlindToken, BlindTokenState

# ruff: noqa: S608 - only constant column lists are put into statements

__all__ = ["SqlBlindTokenStore"]

_COLUMNS = "secret, mint, keyset, r, batch, position, c, state, changed_at"


class SqlBlindTokenStore:
    """Implements `wallet.auth_ports.BlindTokenStore` on `storage.Transaction`."""

    async def add(self, tx: Transaction, tokens: Sequence[BlindToken]) -> None:
        """Insert tokens."""
        for token in tokens:
            await tx.execute(
                f"INSERT INTO wallet_blind_token ({_COLUMNS}) {places(9)}",
                token.secret,
                token.mint,
                token.keyset_id,
                token.r,
                token.batch,
                token.position,
                token.C,
                token.state.value,
                token.changed_at,
            )

    async def asked(self, tx: Transaction, mint: str) -> list[BlindToken]:
        """Tokens of the oldest batch that was asked for and has no answer, in order."""
        rows = await tx.fetch(
            f"SELECT {_COLUMNS} FROM wallet_blind_token WHERE mint = $1 AND state = 'ASKED' "
            "AND batch = (SELECT MIN(batch) FROM wallet_blind_token WHERE mint = $1 AND state = 'ASKED') ORDER BY position",
            mint,
        )
        return [_token(row) for row in rows]

    async def settle(self, tx: Transaction, tokens: Sequence[BlindToken]) -> None:
        """Write signature and state of tokens that are ASKED."""
        for token in tokens:
            await tx.execute(
                "UPDATE wallet_blind_token SET c = $2, state = $3, changed_at = $4 WHERE secret = $1 AND state = 'ASKED'",
                token.secret,
                token.C,
                token.state.value,
                token.changed_at,
            )

    async def take(self, tx: Transaction, mint: str, state: BlindTokenState, *, before: int, now: int) -> BlindToken | None:
        """Reserve the oldest token that is in `state` since before `before`, or None."""
        row = await tx.fetch_one(
            f"SELECT {_COLUMNS} FROM wallet_blind_token WHERE mint = $1 AND state = $2 AND changed_at < $3 "
            "ORDER BY batch, position LIMIT 1",
            mint,
            state.value,
            before,
        )
        if row is None:
            return None
        token = _token(row)
        moved = await tx.execute(
            "UPDATE wallet_blind_token SET state = 'RESERVED', changed_at = $2 WHERE secret = $1 AND state = $3",
            token.secret,
            now,
            state.value,
        )
        return token if moved else None

    async def move(self, tx: Transaction, secret: str, state: BlindTokenState, now: int) -> None:
        """A RESERVED token becomes `state`."""
        await tx.execute(
            "UPDATE wallet_blind_token SET state = $2, changed_at = $3 WHERE secret = $1 AND state = 'RESERVED'",
            secret,
            state.value,
            now,
        )

    async def drop(self, tx: Transaction, secrets: Sequence[str]) -> None:
        """Delete tokens."""
        for secret in secrets:
            await tx.execute("DELETE FROM wallet_blind_token WHERE secret = $1", secret)

    async def keep_keysets(self, tx: Transaction, mint: str, keyset_ids: Collection[str]) -> int:
        """Delete the mint's tokens of any other keyset; how many."""
        rows = await tx.fetch("SELECT DISTINCT keyset FROM wallet_blind_token WHERE mint = $1", mint)
        gone = [row[0] for row in rows if row[0] not in keyset_ids]
        sql = "DELETE FROM wallet_blind_token WHERE mint = $1 AND keyset = $2"
        return sum([await tx.execute(sql, mint, keyset) for keyset in gone])

    async def counts(self, tx: Transaction) -> dict[str, dict[BlindTokenState, int]]:
        """How many tokens there are of each mint and state."""
        found: dict[str, dict[BlindTokenState, int]] = {}
        for mint, state, count in await tx.fetch("SELECT mint, state, COUNT(*) FROM wallet_blind_token GROUP BY mint, state"):
            found.setdefault(as_text(mint), {})[BlindTokenState(as_text(state))] = as_int(count)
        return found


def _token(row: Row) -> BlindToken:
    return BlindToken(
        secret=as_text(row[0]),
        mint=as_text(row[1]),
        keyset_id=as_text(row[2]),
        r=as_bytes(row[3]),
        batch=as_text(row[4]),
        position=as_int(row[5]),
        C=None if row[6] is None else as_bytes(row[6]),
        state=BlindTokenState(as_text(row[7])),
        changed_at=as_int(row[8]),
    )
