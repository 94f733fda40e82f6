"""The mint's tables in an SQL store.

Uniqueness does the work: `mint_proof.y` holds claimed inputs, pending and spent alike, and `mint_output.b_` holds signed
and promised outputs alike, so a claim is one insert whatever runs beside it. Amounts are decimal TEXT. Claims of one
request are inserted in key order, so that two requests never wait for each other in a ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from specie.ecash import (
    BlindSignature,
    Dleq,
    MeltFeeOption,
    MeltState,
)
from specie.ecash.codes import (
    InvoicePaidError,
    QuotePendingError,
)
from specie.keys import SOFTWARE
from specie.mint.adapters.schema import MIGRATIONS
from specie.mint.ports import Claim, Deposit, DepositState, KeysetRecord, Promise, ProofRecord, SignedRecord
from specie.mint.quotes import MeltRecord, MintRecord
from specie.storage import Row, Transaction, Value

__all__ = ["MIGRATIONS", "SqlMintStore"]

_PENDING, _SPENT = 1, 2

_MINT_COLUMNS = (
    "quote, method, rail, unit, amount, request, payment_id, pubkey, description, expiry, "
    "amount_paid, amount_issued, created_at, updated_at, reusable, lost"
)
_MELT_COLUMNS = (
    "quote, method, rail, unit, amount, fee_reserve, request, payment_id, pay_msat, state, expiry, created_at, updated_at, "
    "preimage, fee_paid, operation, attempts, ordered, owner, lease_until, partial, fee_options, fee_index, outpoint"
)


def _optional_int(value: Value) -> int | None:
    return None if value is None else int(cast(int | str, value))


def _optional_text(value: Value) -> str | None:
    return None if value is None else str(value)


def _signature(row: Row) -> BlindSignature:
    keyset, amount, c_, e, s = row
    dleq = None if e is None or s is None else Dleq(e=cast(bytes, e), s=cast(bytes, s))
    return BlindSignature(amount=int(str(amount)), id=str(keyset), C_=cast(bytes, c_), dleq=dleq)


def _mint_record(row: Row) -> MintRecord:
    return MintRecord(
        quote=str(row[0]),
        method=str(row[1]),
        rail=str(row[2]),
        unit=str(row[3]),
        amount=int(str(row[4])) if row[4] else None,
        request=str(row[5]),
        payment_id=str(row[6]),
        pubkey=_optional_text(row[7]),
        description=str(row[8]),
        expiry=_optional_int(row[9]),
        amount_paid=int(str(row[10])),
        amount_issued=int(str(row[11])),
        created_at=cast(int, row[12]),
        updated_at=cast(int, row[13]),
        reusable=bool(row[14]),
        lost=int(str(row[15])),
    )


def _melt_record(row: Row) -> MeltRecord:
    return MeltRecord(
        quote=str(row[0]),
        method=str(row[1]),
        rail=str(row[2]),
        unit=str(row[3]),
        amount=int(str(row[4])),
        fee_reserve=int(str(row[5])),
        request=str(row[6]),
        payment_id=str(row[7]),
        pay_msat=int(str(row[8])),
        state=MeltState(str(row[9])),
        expiry=_optional_int(row[10]),
        created_at=cast(int, row[11]),
        updated_at=cast(int, row[12]),
        preimage=_optional_text(row[13]),
        fee_paid=_optional_int(row[14]),
        operation=cast(bytes | None, row[15]),
        attempts=cast(int, row[16]),
        ordered=bool(row[17]),
        owner=str(row[18]),
        lease_until=cast(int, row[19]),
        partial=bool(row[20]),
        fee_options=_fee_options(str(row[21])),
        fee_index=_optional_int(row[22]),
        outpoint=_optional_text(row[23]),
    )


def _fee_options(text: str) -> tuple[MeltFeeOption, ...]:
    """Options as they are kept: `index:reserve:blocks` with blanks between."""
    return tuple(MeltFeeOption(*map(int, option.split(":"))) for option in text.split())


class SqlMintStore:
    """Implements `mint.ports.MintStore` on `storage.Transaction`."""

    async def keysets(self, tx: Transaction) -> list[KeysetRecord]:
        """All keysets, oldest index first within a unit."""
        rows = await tx.fetch(
            "SELECT id, unit, position, version, active, input_fee_ppk, final_expiry, created_at, configured_fee_ppk "
            "FROM mint_keyset ORDER BY unit, position"
        )
        homes = {str(row[0]): str(row[1]) for row in await tx.fetch("SELECT keyset, home FROM mint_keyset_home")}
        return [
            KeysetRecord(
                id=str(row[0]),
                unit=str(row[1]),
                index=cast(int, row[2]),
                version=cast(int, row[3]),
                active=bool(row[4]),
                input_fee_ppk=cast(int, row[5]),
                final_expiry=_optional_int(row[6]),
                created_at=cast(int, row[7]),
                configured_fee_ppk=cast(int, row[8]),
                home=homes.get(str(row[0]), SOFTWARE),
            )
            for row in rows
        ]

    async def add_keyset(self, tx: Transaction, record: KeysetRecord) -> bool:
        """Insert a keyset and make it the only active one of its unit; False if that (unit, index) exists."""
        inserted = await tx.execute(
            "INSERT INTO mint_keyset "
            "(id, unit, position, version, active, input_fee_ppk, final_expiry, created_at, configured_fee_ppk) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING",
            record.id,
            record.unit,
            record.index,
            record.version,
            int(record.active),
            record.input_fee_ppk,
            record.final_expiry,
            record.created_at,
            record.configured_fee_ppk,
        )
        if inserted and record.home != SOFTWARE:
            await tx.execute("INSERT INTO mint_keyset_home (keyset, home) VALUES ($1, $2)", record.id, record.home)
        if inserted and record.active:
            await tx.execute("UPDATE mint_keyset SET active = 0 WHERE unit = $1 AND id <> $2", record.unit, record.id)
        return bool(inserted)

    async def claim(self, tx: Transaction, claims: Sequence[Claim], *, operation: bytes, quote: str | None, at: int) -> bool:
        """Mark all inputs, SPENT without a quote and PENDING with one; False if any was taken."""
        state = _SPENT if quote is None else _PENDING
        rows = [
            (claim.y, claim.keyset, str(claim.amount), state, operation, quote, claim.witness, at)
            for claim in sorted(claims, key=lambda claim: claim.y)
        ]
        return await tx.insert("mint_proof", "y, keyset, amount, state, operation, quote, witness, at", rows)

    async def proofs(self, tx: Transaction, ys: Sequence[bytes]) -> dict[bytes, ProofRecord]:
        """Records of those Ys that were ever claimed and not released."""
        rows = await tx.fetch_in("SELECT y, state, operation, witness, keyset, amount FROM mint_proof WHERE y IN {keys}", ys)
        return {record.y: record for record in map(self._proof, rows)}

    async def claimed_by(self, tx: Transaction, quote: str) -> list[ProofRecord]:
        """Inputs PENDING in a melt quote's payment."""
        sql = "SELECT y, state, operation, witness, keyset, amount FROM mint_proof WHERE quote = $1 AND state = 1"
        return [self._proof(row) for row in await tx.fetch(sql, quote)]

    @staticmethod
    def _proof(row: Row) -> ProofRecord:
        return ProofRecord(
            y=cast(bytes, row[0]),
            spent=row[1] == _SPENT,
            operation=cast(bytes, row[2]),
            witness=_optional_text(row[3]),
            keyset=str(row[4]),
            amount=int(str(row[5])),
        )

    async def spend_claimed(self, tx: Transaction, quote: str) -> int:
        """PENDING inputs of a quote become SPENT; how many."""
        return await tx.execute("UPDATE mint_proof SET state = 2 WHERE quote = $1 AND state = 1", quote)

    async def release_claimed(self, tx: Transaction, quote: str) -> int:
        """PENDING inputs of a quote become unspent again, and its blank outputs free; how many inputs."""
        await tx.execute("DELETE FROM mint_output WHERE quote = $1 AND c_ IS NULL", quote)
        return await tx.execute("DELETE FROM mint_proof WHERE quote = $1 AND state = 1", quote)

    async def add_signatures(
        self, tx: Transaction, signed: Sequence[tuple[bytes, BlindSignature]], *, operation: bytes, quote: str | None, at: int
    ) -> bool:
        """Store signatures for outputs; False if any B_ was signed or promised before."""
        rows = [
            (
                b_,
                signature.id,
                str(signature.amount),
                signature.C_,
                signature.dleq.e if signature.dleq else None,
                signature.dleq.s if signature.dleq else None,
                operation,
                quote,
                0,
                at,
            )
            for b_, signature in sorted(signed, key=lambda pair: pair[0])
        ]
        return await tx.insert("mint_output", "b_, keyset, amount, c_, dleq_e, dleq_s, operation, quote, position, at", rows)

    async def add_promises(
        self, tx: Transaction, promises: Sequence[Promise], *, operation: bytes, quote: str, at: int
    ) -> bool:
        """Keep blank outputs for change; False if any B_ was signed or promised before."""
        rows: list[tuple[Value, ...]] = [
            (promise.b_, promise.keyset, "0", operation, quote, promise.position, at)
            for promise in sorted(promises, key=lambda promise: promise.b_)
        ]
        return await tx.insert("mint_output", "b_, keyset, amount, operation, quote, position, at", rows)

    async def promises(self, tx: Transaction, quote: str) -> list[Promise]:
        """Unsigned blank outputs of a quote, in request order."""
        rows = await tx.fetch(
            "SELECT b_, keyset, position FROM mint_output WHERE quote = $1 AND c_ IS NULL ORDER BY position", quote
        )
        return [Promise(b_=cast(bytes, b_), keyset=str(keyset), position=cast(int, at)) for b_, keyset, at in rows]

    async def keep_promises(self, tx: Transaction, quote: str, signed: Sequence[tuple[bytes, BlindSignature]]) -> None:
        """Sign the first blank outputs of a quote and drop the rest."""
        for b_, signature in signed:
            await tx.execute(
                "UPDATE mint_output SET amount = $1, c_ = $2, dleq_e = $3, dleq_s = $4 WHERE b_ = $5",
                str(signature.amount),
                signature.C_,
                signature.dleq.e if signature.dleq else None,
                signature.dleq.s if signature.dleq else None,
                b_,
            )
        await tx.execute("DELETE FROM mint_output WHERE quote = $1 AND c_ IS NULL", quote)

    async def signatures(self, tx: Transaction, b_s: Sequence[bytes]) -> dict[bytes, SignedRecord]:
        """Signatures of those outputs that were signed."""
        rows = await tx.fetch_in(
            "SELECT b_, operation, keyset, amount, c_, dleq_e, dleq_s FROM mint_output WHERE b_ IN {keys} AND c_ IS NOT NULL",
            b_s,
        )
        records = (SignedRecord(cast(bytes, row[0]), cast(bytes, row[1]), _signature(row[2:])) for row in rows)
        return {record.b_: record for record in records}

    async def promised(self, tx: Transaction, b_s: Sequence[bytes]) -> set[bytes]:
        """Those outputs that are blank outputs of a running payment."""
        rows = await tx.fetch_in("SELECT b_ FROM mint_output WHERE b_ IN {keys} AND c_ IS NULL", b_s)
        return {cast(bytes, row[0]) for row in rows}

    async def change(self, tx: Transaction, quote: str) -> list[BlindSignature]:
        """Signatures given as change for a melt quote, in request order."""
        rows = await tx.fetch(
            "SELECT keyset, amount, c_, dleq_e, dleq_s FROM mint_output WHERE quote = $1 AND c_ IS NOT NULL ORDER BY position",
            quote,
        )
        return [_signature(row) for row in rows]

    async def totals(self, tx: Transaction) -> dict[str, tuple[int, int, int]]:
        """For each keyset: sum of signed outputs, of spent inputs (dropped ones too), of pending inputs; grouped by amount."""
        signed: dict[str, int] = {}
        spent: dict[str, int] = {}
        pending: dict[str, int] = {}
        rows = await tx.fetch("SELECT keyset, amount, COUNT(*) FROM mint_output WHERE c_ IS NOT NULL GROUP BY keyset, amount")
        for keyset, amount, count in rows:
            signed[str(keyset)] = signed.get(str(keyset), 0) + int(str(amount)) * cast(int, count)
        for keyset, amount, state, count in await tx.fetch(
            "SELECT keyset, amount, state, COUNT(*) FROM mint_proof GROUP BY keyset, amount, state"
        ):
            side = spent if state == _SPENT else pending
            side[str(keyset)] = side.get(str(keyset), 0) + int(str(amount)) * cast(int, count)
        for keyset, name, total in await tx.fetch("SELECT keyset, side, total FROM mint_pruned"):
            side = signed if name == "issued" else spent
            side[str(keyset)] = side.get(str(keyset), 0) + int(str(total))
        return {
            keyset: (signed.get(keyset, 0), spent.get(keyset, 0), pending.get(keyset, 0))
            for keyset in signed.keys() | spent.keys() | pending.keys()
        }

    async def add_mint_quote(self, tx: Transaction, record: MintRecord) -> None:
        """Insert a FRESH mint quote."""
        await tx.execute(
            f"INSERT INTO mint_quote ({_MINT_COLUMNS}) "  # noqa: S608
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
            record.quote,
            record.method,
            record.rail,
            record.unit,
            "" if record.amount is None else str(record.amount),
            record.request,
            record.payment_id,
            record.pubkey,
            record.description,
            record.expiry,
            str(record.amount_paid),
            str(record.amount_issued),
            record.created_at,
            record.updated_at,
            int(record.reusable),
            str(record.lost),
        )

    async def mint_quote(self, tx: Transaction, quote: str) -> MintRecord | None:
        """A mint quote by its id."""
        row = await tx.fetch_one(f"SELECT {_MINT_COLUMNS} FROM mint_quote WHERE quote = $1", quote)  # noqa: S608
        return None if row is None else _mint_record(row)

    async def mint_quote_by_payment(self, tx: Transaction, rail: str, payment_id: str) -> MintRecord | None:
        """The mint quote a rail's payment belongs to."""
        sql = f"SELECT {_MINT_COLUMNS} FROM mint_quote WHERE payment_id = $1 AND rail = $2"  # noqa: S608
        row = await tx.fetch_one(sql, payment_id, rail)
        return None if row is None else _mint_record(row)

    async def mint_quotes_by_pubkey(
        self, tx: Transaction, method: str, pubkeys: Sequence[str], after: str, limit: int
    ) -> list[MintRecord]:
        """Quotes locked to any of the keys with an id above `after`, in the order of ids."""
        found: list[MintRecord] = []
        for pubkey in pubkeys:  # one range of the index for each key, whatever the engine's planner thinks
            rows = await tx.fetch(
                f"SELECT {_MINT_COLUMNS} FROM mint_quote "  # noqa: S608
                "WHERE pubkey = $1 AND quote > $2 AND method = $3 ORDER BY quote LIMIT $4",
                pubkey,
                after,
                method,
                limit,
            )
            found += map(_mint_record, rows)
        return sorted(found, key=lambda record: record.quote)[:limit]

    async def change_mint_quote(self, tx: Transaction, old: MintRecord, new: MintRecord) -> bool:
        """Compare and swap of the accounting; False if it had changed."""
        changed = await tx.execute(
            "UPDATE mint_quote SET amount_paid = $1, amount_issued = $2, updated_at = $3, lost = $7 "
            "WHERE quote = $4 AND amount_paid = $5 AND amount_issued = $6 AND lost = $8",
            str(new.amount_paid),
            str(new.amount_issued),
            new.updated_at,
            old.quote,
            str(old.amount_paid),
            str(old.amount_issued),
            str(new.lost),
            str(old.lost),
        )
        return bool(changed)

    async def add_deposit(self, tx: Transaction, rail: str, receipt_id: str, deposit: Deposit, at: int) -> bool:
        """Record an arrival once; False if it was recorded before."""
        inserted = await tx.execute(
            "INSERT INTO mint_deposit (rail, receipt_id, quote, amount, at, state) VALUES ($1, $2, $3, $4, $5, $6) "
            "ON CONFLICT DO NOTHING",
            rail,
            receipt_id,
            deposit.quote,
            str(deposit.amount),
            at,
            deposit.state.value,
        )
        return bool(inserted)

    async def deposit(self, tx: Transaction, rail: str, receipt_id: str) -> Deposit | None:
        """What is recorded of an arrival."""
        row = await tx.fetch_one(
            "SELECT quote, amount, state FROM mint_deposit WHERE rail = $1 AND receipt_id = $2", rail, receipt_id
        )
        return None if row is None else Deposit(_optional_text(row[0]), int(str(row[1])), DepositState(str(row[2])))

    async def deposits(self, tx: Transaction, quote: str) -> set[str]:
        """Receipts recorded for a mint quote, whatever became of them."""
        return {str(row[0]) for row in await tx.fetch("SELECT receipt_id FROM mint_deposit WHERE quote = $1", quote)}

    async def change_deposit(self, tx: Transaction, rail: str, receipt_id: str, old: Deposit, new: Deposit) -> bool:
        """Compare and swap of what is recorded of an arrival; False if it had changed."""
        changed = await tx.execute(
            "UPDATE mint_deposit SET quote = $1, amount = $2, state = $3 WHERE rail = $4 AND receipt_id = $5 AND state = $6 "
            "AND COALESCE(quote, '') = $7",
            new.quote,
            str(new.amount),
            new.state.value,
            rail,
            receipt_id,
            old.state.value,
            old.quote or "",
        )
        return bool(changed)

    async def cursor(self, tx: Transaction, rail: str) -> str | None:
        """Up to where a rail's arrivals were recorded."""
        row = await tx.fetch_one("SELECT position FROM mint_cursor WHERE rail = $1", rail)
        return None if row is None else str(row[0])

    async def set_cursor(self, tx: Transaction, rail: str, cursor: str) -> None:
        """Remember how far a rail's arrivals were recorded."""
        await tx.execute(
            "INSERT INTO mint_cursor (rail, position) VALUES ($1, $2) "
            "ON CONFLICT (rail) DO UPDATE SET position = excluded.position",
            rail,
            cursor,
        )

    async def add_melt_quote(self, tx: Transaction, record: MeltRecord) -> None:
        """Insert a FRESH melt quote."""
        await tx.execute(
            f"INSERT INTO melt_quote ({_MELT_COLUMNS}) "  # noqa: S608
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, "
            "$21, $22, $23, $24)",
            record.quote,
            record.method,
            record.rail,
            record.unit,
            str(record.amount),
            str(record.fee_reserve),
            record.request,
            record.payment_id,
            str(record.pay_msat),
            record.state.value,
            record.expiry,
            record.created_at,
            record.updated_at,
            record.preimage,
            None if record.fee_paid is None else str(record.fee_paid),
            record.operation,
            record.attempts,
            int(record.ordered),
            record.owner,
            record.lease_until,
            int(record.partial),
            " ".join(f"{one.fee_index}:{one.fee_reserve}:{one.estimated_blocks}" for one in record.fee_options),
            record.fee_index,
            record.outpoint,
        )

    async def melt_quote(self, tx: Transaction, quote: str) -> MeltRecord | None:
        """A melt quote by its id."""
        row = await tx.fetch_one(f"SELECT {_MELT_COLUMNS} FROM melt_quote WHERE quote = $1", quote)  # noqa: S608
        return None if row is None else _melt_record(row)

    async def change_melt_quote(self, tx: Transaction, old: MeltRecord, new: MeltRecord) -> bool:
        """Compare and swap on (state, attempts, owner); a claim of the payment itself is a unique insert."""
        if new.state is not old.state:
            await self._claim_payment(tx, old, new)
        changed = await tx.execute(
            "UPDATE melt_quote SET state = $1, updated_at = $2, preimage = $3, fee_paid = $4, operation = $5, attempts = $6, "
            "ordered = $7, owner = $8, lease_until = $9, fee_reserve = $14, fee_index = $15, outpoint = $16 "
            "WHERE quote = $10 AND state = $11 AND attempts = $12 AND owner = $13",
            new.state.value,
            new.updated_at,
            new.preimage,
            None if new.fee_paid is None else str(new.fee_paid),
            new.operation,
            new.attempts,
            int(new.ordered),
            new.owner,
            new.lease_until,
            old.quote,
            old.state.value,
            old.attempts,
            old.owner,
            str(new.fee_reserve),
            new.fee_index,
            new.outpoint,
        )
        return bool(changed)

    async def _claim_payment(self, tx: Transaction, old: MeltRecord, new: MeltRecord) -> None:
        """One quote at a time may be in flight or paid for a payment; `melt_payment` holds it, unique by payment."""
        if new.state is MeltState.UNPAID:
            await tx.execute(
                "DELETE FROM melt_payment WHERE rail = $1 AND payment_id = $2 AND quote = $3",
                old.rail,
                old.payment_id,
                old.quote,
            )
            return
        row = None
        while row is None:  # taken when we tried to insert, and let go of before we looked: try again
            inserted = await tx.execute(
                "INSERT INTO melt_payment (rail, payment_id, quote) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                old.rail,
                old.payment_id,
                old.quote,
            )
            if inserted:
                return
            row = await tx.fetch_one(
                "SELECT quote FROM melt_payment WHERE rail = $1 AND payment_id = $2", old.rail, old.payment_id
            )
        if row[0] == old.quote:
            return
        holder = await self.melt_quote(tx, str(row[0]))
        if holder is not None and holder.state is MeltState.PAID:
            raise InvoicePaidError
        raise QuotePendingError("another quote for this invoice is in flight")

    async def pending_melts(self, tx: Transaction) -> list[MeltRecord]:
        """Melt quotes in flight, oldest first."""
        sql = f"SELECT {_MELT_COLUMNS} FROM melt_quote WHERE state = 'PENDING' ORDER BY created_at, quote"  # noqa: S608
        return [_melt_record(row) for row in await tx.fetch(sql)]

    async def recent_mint_quotes(self, tx: Transaction, limit: int) -> list[MintRecord]:
        """Newest mint quotes first."""
        sql = f"SELECT {_MINT_COLUMNS} FROM mint_quote ORDER BY created_at DESC, quote DESC LIMIT $1"  # noqa: S608
        return [_mint_record(row) for row in await tx.fetch(sql, limit)]

    async def recent_melt_quotes(self, tx: Transaction, limit: int) -> list[MeltRecord]:
        """Newest melt quotes first."""
        sql = f"SELECT {_MELT_COLUMNS} FROM melt_quote ORDER BY created_at DESC, quote DESC LIMIT $1"  # noqa: S608
        return [_melt_record(row) for row in await tx.fetch(sql, limit)]
