"""The journal's values: an operation is written down whole before a byte of it is sent; pure.

It holds the exact bytes of the request and every secret behind its outputs, so that a lost answer can be had again by
sending the same bytes (NUT-19) or by asking for the signatures on the outputs (NUT-09). States: `states.OPERATION`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from specie.ecash.proof import BlindedMessage
from specie.wallet.states import OperationState

__all__ = ["Claimed", "Kind", "Operation", "Output", "Purpose", "Role", "blinded_messages"]


class Kind(StrEnum):
    """Which request of the mint it is."""

    MINT = "mint"
    SWAP = "swap"
    MELT = "melt"


class Purpose(StrEnum):
    """Which verb of the wallet asked for it; also the kind of its line in the history."""

    MINT = "mint"
    SEND = "send"
    RECEIVE = "receive"
    RECLAIM = "reclaim"
    PAY = "pay"
    SPLIT = "split"
    CONSOLIDATE = "consolidate"
    ROTATE = "rotate"
    SECURE = "secure"


class Role(StrEnum):
    """Where an output's coin goes when it is signed."""

    KEEP = "keep"
    SEND = "send"
    CHANGE = "change"
    """A blank output (NUT-08): its amount is chosen by the mint."""


@dataclass(frozen=True, slots=True)
class Output:
    """One output with what is needed to unblind it. `counter` is its place in NUT-13's sequence, None for locked secrets."""

    role: Role
    amount: int
    """Of a blank output a placeholder."""
    keyset_id: str
    secret: str = field(repr=False)
    r: bytes = field(repr=False)
    b_: bytes
    counter: int | None
    p2pk_e: bytes | None = None
    """Of a secret locked to blinded keys (NUT-28): the ephemeral key that goes with its coin, 33 bytes."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A mint quote that an operation claims `amount` of; `issued` is what had been issued of it before.

    The mint has acted on the operation once it says that at least their sum was issued.
    """

    quote: str = field(repr=False)
    amount: int
    issued: int


@dataclass(frozen=True, slots=True)
class Operation:
    """One journalled request. `inputs` are the Ys of everything it spends, ours or a received token's."""

    operation_id: str
    kind: Kind
    purpose: Purpose
    mint: str
    unit: str
    amount: int
    """What the verb is about: sent, received, minted, or paid to the payee; in the unit's minor unit."""
    fee: int
    """Input fee of the mint, known beforehand."""
    request: bytes = field(repr=False)
    """The body of the POST, to the byte."""
    inputs: tuple[bytes, ...]
    outputs: tuple[Output, ...]
    method: str = ""
    quote: str | None = field(default=None, repr=False)
    """The quote it works on; None for a swap and for a batch, whose quotes are in `claims`."""
    claims: tuple[Claimed, ...] = ()
    """The mint quotes it claims, in the order of the request; empty for other kinds, and for claims of older versions."""
    memo: str | None = None
    include_dleq: bool = True
    locked: bool = False
    """Its SEND outputs are locked to somebody."""
    state: OperationState = OperationState.OPEN
    error: str = ""
    """Why it failed or is still open, for people."""
    created_at: int = 0
    updated_at: int = 0

    def with_request(self, request: bytes, now: int) -> Operation:
        """The same operation with other request bytes (after a refusal that had no effect)."""
        return replace(self, request=request, updated_at=now)


def blinded_messages(outputs: Sequence[Output]) -> tuple[BlindedMessage, ...]:
    """The outputs as the mint sees them, in order."""
    return tuple(BlindedMessage(amount=output.amount, id=output.keyset_id, B_=output.b_) for output in outputs)
