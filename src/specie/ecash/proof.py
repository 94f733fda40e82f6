"""The coins and their makings as values (NUT-00, NUT-07, NUT-12). Points are 33 bytes, keyset ids lower-case hex text.

Not here: JSON (`wire`), tokens (`token`), and any check of a signature.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from specie.ecash.scheme import scheme_for

__all__ = ["BlindSignature", "BlindedMessage", "Dleq", "Proof", "ProofDleq", "ProofState", "State", "sum_amounts", "y"]


class Dleq(msgspec.Struct, frozen=True, gc=False):
    """Proof of equal discrete logarithms that comes with a blind signature (NUT-12): two times 32 bytes."""

    e: bytes
    s: bytes


class ProofDleq(msgspec.Struct, frozen=True, gc=False):
    """The same on an unblinded proof, with the blinding factor `r` (32 bytes). Never shown to the mint."""

    e: bytes
    s: bytes
    r: bytes

    def __repr__(self) -> str:
        """Without the blinding factor, which tells the mint whose coin it is."""
        return f"ProofDleq(e={self.e.hex()!r}, s={self.s.hex()!r}, r=...)"


class Proof(msgspec.Struct, frozen=True, gc=False):
    """A coin (NUT-00). `secret` is hashed and signed as this very text; `witness` is JSON text (NUT-11, NUT-14)."""

    amount: int
    id: str
    secret: str
    C: bytes
    witness: str | None = None
    dleq: ProofDleq | None = None
    p2pk_e: bytes | None = None
    """Ephemeral key of NUT-28 (33 bytes): kept and passed on with the coin, never shown to the mint."""

    @property
    def y(self) -> bytes:
        """Y = hash_to_curve(secret), 33 bytes; the name under which a mint remembers the coin. Computed each time."""
        return y(self)

    def __repr__(self) -> str:
        """Without the secret, which is money."""
        return f"Proof(amount={self.amount}, id={self.id!r}, secret=..., C={self.C.hex()!r})"


class BlindedMessage(msgspec.Struct, frozen=True, gc=False):
    """A blinded secret to be signed by the key for `amount` of keyset `id` (NUT-00)."""

    amount: int
    id: str
    B_: bytes


class BlindSignature(msgspec.Struct, frozen=True, gc=False):
    """A mint's signature on a blinded message. `amount` and `id` are what the mint signed, perhaps not what was asked."""

    amount: int
    id: str
    C_: bytes
    dleq: Dleq | None = None


class State(StrEnum):
    """What a mint says of a coin (NUT-07)."""

    UNSPENT = "UNSPENT"
    PENDING = "PENDING"
    SPENT = "SPENT"


class ProofState(msgspec.Struct, frozen=True, gc=False):
    """State of the coin named by Y (NUT-07); `witness` is that of the spend, if the coin had a condition."""

    Y: bytes
    state: State
    witness: str | None = None


def y(proof: Proof) -> bytes:
    """Y of a proof on the curve of its keyset (33 bytes on secp256k1)."""
    return scheme_for(proof.id).hash_to_curve(proof.secret.encode())


def sum_amounts(items: Iterable[Proof | BlindedMessage | BlindSignature]) -> int:
    """Sum of amounts, exact and of any size."""
    return sum(item.amount for item in items)
