"""Columns to values and back, for the wallet's tables."""

from __future__ import annotations

from specie.ecash.proof import Proof, ProofDleq
from specie.storage.ports import Row, Value
from specie.wallet.holding import StoredProof
from specie.wallet.states import CoinState

__all__ = [
    "PROOF_COLUMNS",
    "as_bytes",
    "as_int",
    "as_text",
    "maybe_bytes",
    "maybe_int",
    "maybe_text",
    "places",
    "proof_from_row",
]

PROOF_COLUMNS = (
    "y, mint, unit, keyset, amount, secret, c, witness, dleq_e, dleq_s, dleq_r, p2pk_e, state, operation, token, unswapped"
)
"""What `proof_from_row` reads, in its order."""


def places(count: int) -> str:
    """`VALUES ($1, $2, ...)` of `count` columns."""
    return "VALUES (" + ", ".join(f"${number}" for number in range(1, count + 1)) + ")"


def as_text(value: Value) -> str:
    """A text column."""
    return str(value)


def as_int(value: Value) -> int:
    """A number, stored as such or as decimal text."""
    return int(str(value))


def maybe_text(value: Value) -> str | None:
    """A text column that may be NULL."""
    return None if value is None else str(value)


def maybe_int(value: Value) -> int | None:
    """A number that may be NULL."""
    return None if value is None else int(str(value))


def as_bytes(value: Value) -> bytes:
    """A column of bytes."""
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("the column holds no bytes")
    return bytes(value)


def maybe_bytes(value: Value) -> bytes | None:
    """A column of bytes that may be NULL."""
    return None if value is None else as_bytes(value)


def proof_from_row(row: Row) -> StoredProof:
    """A coin of the columns `PROOF_COLUMNS`."""
    y, mint, unit, keyset, amount, secret, c, witness, dleq_e, dleq_s, dleq_r, p2pk_e, state, operation, token, unswapped = row
    dleq = None if dleq_e is None else ProofDleq(as_bytes(dleq_e), as_bytes(dleq_s), as_bytes(dleq_r))
    return StoredProof(
        proof=Proof(
            amount=as_int(amount),
            id=as_text(keyset),
            secret=as_text(secret),
            C=as_bytes(c),
            witness=maybe_text(witness),
            dleq=dleq,
            p2pk_e=maybe_bytes(p2pk_e),
        ),
        y=as_bytes(y),
        mint=as_text(mint),
        unit=as_text(unit),
        state=CoinState(as_text(state)),
        operation=maybe_text(operation),
        token=maybe_text(token),
        unswapped=bool(unswapped),
    )
