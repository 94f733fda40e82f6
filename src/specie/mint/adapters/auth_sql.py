"""Tables of blind tokens in an SQL store: `mint_auth_token.y` is unique over reserved and spent ones alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from specie.ecash import BlindSignature, Dleq
from specie.mint.auth import AuthTokenState
from specie.mint.ports import SignedRecord
from specie.storage import Transaction

__all__ = ["SqlAuthStore"]

_STATES = {1: AuthTokenState.RESERVED, 2: AuthTokenState.SPENT}


class SqlAuthStore:
    """Implements `mint.auth_ports.AuthStore` on `storage.Transaction`."""

    async def reserve(self, tx: Transaction, y: bytes, *, keyset: str, holder: str, now: int, lease_s: int) -> bool:
        """Claim a token for one request by a unique insert, or take over a claim whose lease ran out; else False."""
        inserted = await tx.execute(
            "INSERT INTO mint_auth_token (y, keyset, state, holder, lease_until, at) VALUES ($1, $2, 1, $3, $4, $5) "
            "ON CONFLICT DO NOTHING",
            y,
            keyset,
            holder,
            now + lease_s,
            now,
        )
        if inserted:
            return True
        taken = await tx.execute(
            "UPDATE mint_auth_token SET holder = $1, lease_until = $2 WHERE y = $3 AND state = 1 AND lease_until < $4",
            holder,
            now + lease_s,
            y,
            now,
        )
        return bool(taken)

    async def spend(self, tx: Transaction, y: bytes, holder: str) -> bool:
        """The holder's token is SPENT (or was already); False if it is not the holder's any more."""
        return bool(await tx.execute("UPDATE mint_auth_token SET state = 2 WHERE y = $1 AND holder = $2", y, holder))

    async def release(self, tx: Transaction, y: bytes, holder: str, *, spent_too: bool) -> bool:
        """Forget the holder's claim, one that is SPENT only with `spent_too`; whether there was one."""
        sql = "DELETE FROM mint_auth_token WHERE y = $1 AND holder = $2 AND state <= $3"
        return bool(await tx.execute(sql, y, holder, 2 if spent_too else 1))

    async def release_all(self, tx: Transaction) -> int:
        """Forget every claim that is RESERVED: nobody is left who holds one."""
        return await tx.execute("DELETE FROM mint_auth_token WHERE state = 1")

    async def state(self, tx: Transaction, y: bytes) -> AuthTokenState | None:
        """What is remembered of a token."""
        row = await tx.fetch_one("SELECT state FROM mint_auth_token WHERE y = $1", y)
        return None if row is None else _STATES[cast(int, row[0])]

    async def add_signatures(
        self, tx: Transaction, signed: Sequence[tuple[bytes, BlindSignature]], *, operation: bytes, at: int
    ) -> bool:
        """Keep signatures on blind tokens, in key order; False if any B_ was signed before."""
        for b_, signature in sorted(signed, key=lambda pair: pair[0]):
            if signature.dleq is None or not await tx.execute(
                "INSERT INTO mint_auth_output (b_, keyset, c_, dleq_e, dleq_s, operation, at) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                b_,
                signature.id,
                signature.C_,
                signature.dleq.e,
                signature.dleq.s,
                operation,
                at,
            ):
                return False
        return True

    async def signatures(self, tx: Transaction, b_s: Sequence[bytes]) -> dict[bytes, SignedRecord]:
        """Signatures of those outputs that were signed."""
        rows = await tx.fetch_in(
            "SELECT b_, operation, keyset, c_, dleq_e, dleq_s FROM mint_auth_output WHERE b_ IN {keys}", b_s
        )
        records: dict[bytes, SignedRecord] = {}
        for b_, operation, keyset, c_, e, s in rows:
            dleq = Dleq(cast(bytes, e), cast(bytes, s))
            signature = BlindSignature(1, str(keyset), cast(bytes, c_), dleq)
            records[cast(bytes, b_)] = SignedRecord(cast(bytes, b_), cast(bytes, operation), signature)
        return records
