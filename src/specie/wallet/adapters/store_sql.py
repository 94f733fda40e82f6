"""`WalletStore` on any SQL storage; the statements are those of SQLite and PostgreSQL alike.

Not here: transactions (the engine opens them) and meaning (states and their moves are `wallet.states`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence

from specie.ecash.keyset import Keyset
from specie.storage.ports import Row, Transaction, Value
from specie.wallet.adapters.rows import (
    PROOF_COLUMNS,
    as_bytes,
    as_int,
    as_text,
    maybe_bytes,
    maybe_int,
    maybe_text,
    places,
    proof_from_row,
)
from specie.wallet.adapters.schema import MIGRATIONS
from specie.wallet.adapters.store_liabilities import SqlLiabilityRecords
from specie.wallet.adapters.store_paid import SqlPaidStore
from specie.wallet.adapters.store_placement import SqlPlacementStore
from specie.wallet.adapters.store_records import SqlRecordStore
from specie.wallet.adapters.store_requests import SqlRequestStore
from specie.wallet.adapters.store_tables import SqlTableStore
from specie.wallet.holding import Balance, KnownKeyset, MintRecord, StoredProof
from specie.wallet.operation import Claimed, Kind, Operation, Output, Purpose, Role
from specie.wallet.states import COIN, OPERATION, CoinState, OperationState

# ruff: noqa: S608 - only constant column lists are put into statements

__all__ = ["MIGRATIONS", "SqlWalletStore"]

_OPERATION = (
    "id, kind, purpose, mint, unit, amount, fee, request, inputs, method, quote, memo, include_dleq, locked, "
    "state, error, created_at, updated_at"
)
_Y_BYTES = 33


class SqlWalletStore(SqlRecordStore, SqlRequestStore, SqlLiabilityRecords, SqlPaidStore, SqlTableStore, SqlPlacementStore):
    """Implements `wallet.ports.WalletStore`; it holds no state of its own."""

    # mints and keysets

    async def save_mint(self, tx: Transaction, mint: MintRecord) -> None:
        """Insert a mint, or renew its info and time."""
        await tx.execute(
            "INSERT INTO wallet_mint (url, position, info, added_at, refreshed_at) "
            "SELECT $1, COALESCE(MAX(position), 0) + 1, $2, $3, $4 FROM wallet_mint WHERE true "
            "ON CONFLICT (url) DO UPDATE SET info = excluded.info, refreshed_at = excluded.refreshed_at",
            mint.url,
            mint.info,
            mint.added_at,
            mint.refreshed_at,
        )

    async def mints(self, tx: Transaction) -> list[MintRecord]:
        """All mints, in the order they were added."""
        rows = await tx.fetch("SELECT url, info, added_at, refreshed_at FROM wallet_mint ORDER BY position, url")
        return [
            MintRecord(as_text(url), as_bytes(info), as_int(added), as_int(refreshed)) for url, info, added, refreshed in rows
        ]

    async def save_keyset(self, tx: Transaction, known: KnownKeyset, derivation: int | None) -> bool:
        """Insert or renew a keyset; False where its id or derivation belongs to another."""
        keyset = known.keyset
        row = await tx.fetch_one("SELECT mint FROM wallet_keyset WHERE id = $1", keyset.id)
        if row is not None:
            if row[0] != known.mint:
                return False
            await tx.execute(
                "UPDATE wallet_keyset SET active = $2, listed = $3, input_fee_ppk = $4, final_expiry = $5 WHERE id = $1",
                keyset.id,
                int(keyset.active),
                int(known.listed),
                str(keyset.input_fee_ppk),
                None if keyset.final_expiry is None else str(keyset.final_expiry),
            )
            return True
        keys = json.dumps({str(amount): key.hex() for amount, key in keyset.keys.items()}, separators=(",", ":"))
        inserted = await tx.execute(
            "INSERT INTO wallet_keyset (id, mint, unit, active, listed, input_fee_ppk, final_expiry, keys, derivation) "
            + places(9)
            + " ON CONFLICT DO NOTHING",
            keyset.id,
            known.mint,
            keyset.unit,
            int(keyset.active),
            int(known.listed),
            str(keyset.input_fee_ppk),
            None if keyset.final_expiry is None else str(keyset.final_expiry),
            keys,
            derivation,
        )
        return inserted == 1

    async def mark_unlisted(self, tx: Transaction, mint: str, listed: Collection[str]) -> None:
        """Mark the mint's keysets whose id is not in `listed`."""
        rows = await tx.fetch("SELECT id FROM wallet_keyset WHERE mint = $1 AND listed = 1", mint)
        missing = [(row[0],) for row in rows if row[0] not in listed]
        await tx.execute_many("UPDATE wallet_keyset SET listed = 0 WHERE id = $1", missing)

    async def keysets(self, tx: Transaction, mint: str | None = None) -> list[KnownKeyset]:
        """All keysets with their keys, of one mint or of all."""
        sql = "SELECT id, mint, unit, active, listed, input_fee_ppk, final_expiry, keys FROM wallet_keyset"
        rows = await (tx.fetch(sql + " ORDER BY id") if mint is None else tx.fetch(sql + " WHERE mint = $1 ORDER BY id", mint))
        return [
            KnownKeyset(
                mint=as_text(owner),
                keyset=Keyset(
                    id=as_text(keyset_id),
                    unit=as_text(unit),
                    keys={int(amount): bytes.fromhex(key) for amount, key in json.loads(as_text(keys)).items()},
                    active=bool(active),
                    input_fee_ppk=as_int(ppk),
                    final_expiry=maybe_int(expiry),
                ),
                listed=bool(listed),
            )
            for keyset_id, owner, unit, active, listed, ppk, expiry, keys in rows
        ]

    # counters

    async def take_counters(self, tx: Transaction, mint: str, keyset_id: str, count: int) -> int:
        """Advance the counter of (mint, keyset) by `count`; the first of the taken numbers."""
        first = await self.counter(tx, mint, keyset_id)
        await self._set_counter(tx, mint, keyset_id, first + count)
        return first

    async def return_counters(self, tx: Transaction, mint: str, keyset_id: str, first: int, count: int) -> bool:
        """Undo `take_counters`; False, and no change, if others were taken since."""
        if await self.counter(tx, mint, keyset_id) != first + count:
            return False
        await self._set_counter(tx, mint, keyset_id, first)
        return True

    async def raise_counter(self, tx: Transaction, mint: str, keyset_id: str, at_least: int) -> None:
        """Make the next counter no less than `at_least`."""
        if await self.counter(tx, mint, keyset_id) < at_least:
            await self._set_counter(tx, mint, keyset_id, at_least)

    async def counter(self, tx: Transaction, mint: str, keyset_id: str) -> int:
        """The next counter; 0 for a keyset that has none yet."""
        row = await tx.fetch_one("SELECT next FROM wallet_counter WHERE mint = $1 AND keyset = $2", mint, keyset_id)
        return 0 if row is None else as_int(row[0])

    async def _set_counter(self, tx: Transaction, mint: str, keyset_id: str, value: int) -> None:
        await tx.execute(
            "INSERT INTO wallet_counter (mint, keyset, next) VALUES ($1, $2, $3) "
            "ON CONFLICT (mint, keyset) DO UPDATE SET next = excluded.next",
            mint,
            keyset_id,
            str(value),
        )

    async def take_key_index(self, tx: Transaction, purpose: str) -> int:
        """Advance the index of a purpose; the number taken."""
        index = await self.key_index(tx, purpose)
        await self._set_key_index(tx, purpose, index + 1)
        return index

    async def key_index(self, tx: Transaction, purpose: str) -> int:
        """The index that would be taken next; 0 if none was."""
        row = await tx.fetch_one("SELECT next FROM wallet_key_index WHERE purpose = $1", purpose)
        return 0 if row is None else as_int(row[0])

    async def _set_key_index(self, tx: Transaction, purpose: str, value: int) -> None:
        await tx.execute(
            "INSERT INTO wallet_key_index (purpose, next) VALUES ($1, $2) "
            "ON CONFLICT (purpose) DO UPDATE SET next = excluded.next",
            purpose,
            value,
        )

    async def save_key(self, tx: Transaction, purpose: str, index: int, public_key: bytes) -> None:
        """Remember a public key; the purpose's next index is beyond it."""
        await tx.execute(
            "INSERT INTO wallet_key (purpose, number, public_key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            purpose,
            index,
            public_key,
        )
        row = await tx.fetch_one("SELECT next FROM wallet_key_index WHERE purpose = $1", purpose)
        if row is None or as_int(row[0]) <= index:
            await self._set_key_index(tx, purpose, index + 1)

    async def keys(self, tx: Transaction, purpose: str) -> dict[bytes, int]:
        """Our public keys of a purpose, x-only, with their indices."""
        rows = await tx.fetch("SELECT public_key, number FROM wallet_key WHERE purpose = $1", purpose)
        return {as_bytes(key)[-32:]: as_int(number) for key, number in rows}

    # coins

    async def add_proofs(self, tx: Transaction, proofs: Iterable[StoredProof], now: int) -> int:
        """Insert coins; those known by Y already are left as they are. The number inserted."""
        inserted = 0
        for stored in proofs:
            inserted += await tx.execute(
                f"INSERT INTO wallet_proof ({PROOF_COLUMNS}, created_at, changed_at) {places(18)} ON CONFLICT DO NOTHING",
                *_proof_values(stored),
                now,
                now,
            )
        return inserted

    async def proofs(
        self,
        tx: Transaction,
        *,
        mint: str | None = None,
        unit: str | None = None,
        states: Collection[CoinState] = (),
    ) -> list[StoredProof]:
        """Coins, filtered; no `states` means all but SPENT."""
        wanted: list[Value] = [str(state) for state in states] or ["UNSPENT", "RESERVED", "PENDING"]
        rows = await tx.fetch_in(
            f"SELECT {PROOF_COLUMNS} FROM wallet_proof WHERE state IN {{keys}} "
            "AND (CAST($1 AS TEXT) IS NULL OR mint = $1) AND (CAST($2 AS TEXT) IS NULL OR unit = $2)",
            wanted,
            mint,
            unit,
        )
        return sorted((proof_from_row(row) for row in rows), key=lambda stored: stored.y)

    async def balances(self, tx: Transaction, *, mint: str | None = None, unit: str | None = None) -> list[Balance]:
        """What is held, by mint and unit. Coins of one amount are counted, not summed: that is exact beyond what SQL adds."""
        rows = await tx.fetch(
            "SELECT mint, unit, kind, amount, COUNT(*) FROM ("
            "SELECT mint, unit, amount, CASE WHEN state = 'UNSPENT' AND unswapped = 1 THEN 'unswapped' "
            "WHEN state = 'UNSPENT' THEN 'available' WHEN state = 'PENDING' AND token IS NOT NULL THEN 'sent' "
            "ELSE 'reserved' END AS kind FROM wallet_proof WHERE state <> 'SPENT' "
            "AND (CAST($1 AS TEXT) IS NULL OR mint = $1) AND (CAST($2 AS TEXT) IS NULL OR unit = $2)) AS held "
            "GROUP BY mint, unit, kind, amount",
            mint,
            unit,
        )
        sums: dict[tuple[str, str], dict[str, int]] = {}
        for where, of, kind, amount, count in rows:
            held = sums.setdefault((as_text(where), as_text(of)), {})
            held[as_text(kind)] = held.get(as_text(kind), 0) + as_int(amount) * as_int(count)
        return [Balance(of, where, **held) for (where, of), held in sorted(sums.items())]

    async def proofs_by_y(self, tx: Transaction, ys: Sequence[bytes]) -> list[StoredProof]:
        """Those of the coins that are ours, in any state."""
        rows = await tx.fetch_in(f"SELECT {PROOF_COLUMNS} FROM wallet_proof WHERE y IN {{keys}}", list(ys))
        return sorted((proof_from_row(row) for row in rows), key=lambda stored: stored.y)

    async def reserve(self, tx: Transaction, ys: Sequence[bytes], operation_id: str) -> bool:
        """UNSPENT to RESERVED for all; False where any is not UNSPENT."""
        for y in ys:
            changed = await tx.execute(
                "UPDATE wallet_proof SET state = 'RESERVED', operation = $2 WHERE y = $1 AND state = 'UNSPENT'", y, operation_id
            )
            if not changed:
                return False
        return True

    async def release(self, tx: Transaction, operation_id: str) -> int:
        """RESERVED of this operation back to UNSPENT."""
        return await tx.execute(
            "UPDATE wallet_proof SET state = 'UNSPENT', operation = NULL WHERE operation = $1 AND state = 'RESERVED'",
            operation_id,
        )

    async def move_proofs(
        self,
        tx: Transaction,
        ys: Sequence[bytes],
        before: Collection[CoinState],
        after: CoinState,
        now: int,
        *,
        token: str | None = None,
    ) -> int:
        """Those of the coins in a state of `before` become `after`; the number moved. InvariantError for no move of COIN."""
        moved = 0
        for state in before:
            COIN.check_move(state, after)
            for y in ys:
                if after is CoinState.UNSPENT:
                    moved += await tx.execute(
                        "UPDATE wallet_proof SET state = 'UNSPENT', operation = NULL, token = NULL, changed_at = $3 "
                        "WHERE y = $1 AND state = $2",
                        y,
                        str(state),
                        now,
                    )
                else:
                    moved += await tx.execute(
                        "UPDATE wallet_proof SET state = $3, token = COALESCE($4, token), changed_at = $5 "
                        "WHERE y = $1 AND state = $2",
                        y,
                        str(state),
                        str(after),
                        token,
                        now,
                    )
        return moved

    # operations

    async def add_operation(self, tx: Transaction, operation: Operation) -> bool:
        """Journal an operation whole; False if a quote of it has an OPEN operation already (the caller then undoes all)."""
        inserted = await tx.execute(
            f"INSERT INTO wallet_operation ({_OPERATION}) {places(18)} ON CONFLICT DO NOTHING",
            operation.operation_id,
            str(operation.kind),
            str(operation.purpose),
            operation.mint,
            operation.unit,
            str(operation.amount),
            str(operation.fee),
            operation.request,
            b"".join(operation.inputs),
            operation.method,
            operation.quote,
            operation.memo,
            int(operation.include_dleq),
            int(operation.locked),
            str(operation.state),
            operation.error,
            operation.created_at,
            operation.updated_at,
        )
        if not inserted:
            return False
        for position, claimed in enumerate(operation.claims):
            if not await tx.execute(
                "INSERT INTO wallet_claim (operation, position, mint, quote, amount, issued, open) "
                "VALUES ($1, $2, $3, $4, $5, $6, 1) ON CONFLICT DO NOTHING",
                operation.operation_id,
                position,
                operation.mint,
                claimed.quote,
                str(claimed.amount),
                str(claimed.issued),
            ):
                return False
        await tx.execute_many(
            "INSERT INTO wallet_output (operation, position, role, amount, keyset, secret, r, b_, counter, p2pk_e) "
            + places(10),
            [
                (
                    operation.operation_id,
                    position,
                    str(output.role),
                    str(output.amount),
                    output.keyset_id,
                    output.secret,
                    output.r,
                    output.b_,
                    None if output.counter is None else str(output.counter),
                    output.p2pk_e,
                )
                for position, output in enumerate(operation.outputs)
            ],
        )
        return True

    async def operation(self, tx: Transaction, operation_id: str) -> Operation | None:
        """One operation."""
        row = await tx.fetch_one(f"SELECT {_OPERATION} FROM wallet_operation WHERE id = $1", operation_id)
        return None if row is None else await self._operation(tx, row)

    async def operations(self, tx: Transaction, states: Collection[OperationState]) -> list[Operation]:
        """Operations in these states, oldest first."""
        keys: list[Value] = [str(state) for state in states]
        rows = await tx.fetch_in(f"SELECT {_OPERATION} FROM wallet_operation WHERE state IN {{keys}} ORDER BY id", keys)
        return [await self._operation(tx, row) for row in sorted(rows, key=lambda row: as_text(row[0]))]

    async def _operation(self, tx: Transaction, row: Row) -> Operation:
        outputs = await tx.fetch(
            "SELECT role, amount, keyset, secret, r, b_, counter, p2pk_e FROM wallet_output "
            "WHERE operation = $1 ORDER BY position",
            row[0],
        )
        claims = await tx.fetch("SELECT quote, amount, issued FROM wallet_claim WHERE operation = $1 ORDER BY position", row[0])
        inputs = as_bytes(row[8])
        return Operation(
            operation_id=as_text(row[0]),
            kind=Kind(as_text(row[1])),
            purpose=Purpose(as_text(row[2])),
            mint=as_text(row[3]),
            unit=as_text(row[4]),
            amount=as_int(row[5]),
            fee=as_int(row[6]),
            request=as_bytes(row[7]),
            inputs=tuple(inputs[start : start + _Y_BYTES] for start in range(0, len(inputs), _Y_BYTES)),
            outputs=tuple(
                Output(
                    Role(as_text(role)),
                    as_int(amount),
                    as_text(keyset),
                    as_text(secret),
                    as_bytes(r),
                    as_bytes(b_),
                    maybe_int(counter),
                    maybe_bytes(p2pk_e),
                )
                for role, amount, keyset, secret, r, b_, counter, p2pk_e in outputs
            ),
            method=as_text(row[9]),
            quote=maybe_text(row[10]),
            claims=tuple(Claimed(as_text(quote), as_int(amount), as_int(issued)) for quote, amount, issued in claims),
            memo=maybe_text(row[11]),
            include_dleq=bool(row[12]),
            locked=bool(row[13]),
            state=OperationState(as_text(row[14])),
            error=as_text(row[15]),
            created_at=as_int(row[16]),
            updated_at=as_int(row[17]),
        )

    async def note_operation(self, tx: Transaction, operation_id: str, *, request: bytes | None, error: str, now: int) -> bool:
        """Change request bytes (if given) and error of an OPEN operation; False if it is OPEN no more."""
        if request is None:
            changed = await tx.execute(
                "UPDATE wallet_operation SET error = $2, updated_at = $3 WHERE id = $1 AND state = 'OPEN'",
                operation_id,
                error,
                now,
            )
        else:
            changed = await tx.execute(
                "UPDATE wallet_operation SET request = $4, error = $2, updated_at = $3 WHERE id = $1 AND state = 'OPEN'",
                operation_id,
                error,
                now,
                request,
            )
        return changed == 1

    async def close_operation(self, tx: Transaction, operation_id: str, state: OperationState, error: str, now: int) -> bool:
        """To DONE or FAILED as `OPERATION` allows, by compare-and-swap. DONE forgets request and outputs: coins are stored."""
        row = await tx.fetch_one("SELECT state FROM wallet_operation WHERE id = $1", operation_id)
        event = "settle" if state is OperationState.DONE else "fail"
        if row is None or (OperationState(str(row[0])), event) not in OPERATION.table:
            return False
        changed = await tx.execute(
            "UPDATE wallet_operation SET state = $2, error = $3, updated_at = $4 WHERE id = $1 AND state = $5",
            operation_id,
            str(state),
            error,
            now,
            str(row[0]),
        )
        if changed:
            await tx.execute("UPDATE wallet_claim SET open = 0 WHERE operation = $1", operation_id)
        if changed and state is OperationState.DONE:
            await tx.execute("UPDATE wallet_operation SET request = $2 WHERE id = $1", operation_id, b"")
            await tx.execute("DELETE FROM wallet_output WHERE operation = $1", operation_id)
        return changed == 1


def _proof_values(stored: StoredProof) -> tuple[Value, ...]:
    proof = stored.proof
    dleq = proof.dleq
    return (
        stored.y,
        stored.mint,
        stored.unit,
        proof.id,
        str(proof.amount),
        proof.secret,
        proof.C,
        proof.witness,
        None if dleq is None else dleq.e,
        None if dleq is None else dleq.s,
        None if dleq is None else dleq.r,
        proof.p2pk_e,
        str(stored.state),
        stored.operation,
        stored.token,
        int(stored.unswapped),
    )
