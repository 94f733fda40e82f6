"""What the mint needs from outside: its store. Everything else it uses is a port of a floor below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from specie.ecash import BlindSignature
from specie.ecash.liabilities import Epoch, Side, Span, SumNode
from specie.keys import SOFTWARE
from specie.mint.quotes import MeltRecord, MintRecord
from specie.storage import Transaction

__all__ = [
    "Claim",
    "Deposit",
    "DepositState",
    "KeysetRecord",
    "LiabilityStore",
    "LoggedLeaf",
    "MintStore",
    "Promise",
    "ProofRecord",
    "SignedRecord",
]


@dataclass(frozen=True, slots=True)
class KeysetRecord:
    """A keyset without its keys, which the signer derives again from (unit, index)."""

    id: str
    unit: str
    index: int
    version: int
    active: bool
    input_fee_ppk: int
    final_expiry: int | None
    created_at: int
    configured_fee_ppk: int
    """The fee setting when it was made: only a start with another setting asks for a new keyset by itself."""
    home: str = SOFTWARE
    """Where its keys live: derived from the seed, or a provider's name."""


class Claim(NamedTuple):
    """One input to be marked: Y is claimed once and for all, whatever its keyset or unit (NUT-03)."""

    y: bytes
    keyset: str
    amount: int
    witness: str | None


@dataclass(frozen=True, slots=True)
class ProofRecord:
    """A claimed input: PENDING in a payment, or SPENT for good."""

    y: bytes
    spent: bool
    operation: bytes
    witness: str | None
    keyset: str
    amount: int


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """An output that was signed, with the hash of the operation that signed it."""

    b_: bytes
    operation: bytes
    signature: BlindSignature


@dataclass(frozen=True, slots=True)
class Promise:
    """A blank output kept for the change of a running payment (NUT-08); `position` is its place in the request."""

    b_: bytes
    keyset: str
    position: int


@dataclass(frozen=True, slots=True)
class LoggedLeaf:
    """A leaf of a keyset's log: B_ or Y, its amount, and its place from 0."""

    keyset: str
    item: bytes
    amount: int
    position: int


class LiabilityStore(Protocol):
    """The tables of proved liabilities (draft 388). Rows are added and never changed, but for an epoch's signatures."""

    async def latest_epoch(self, tx: Transaction) -> Epoch | None:
        """The newest epoch, signed or only decided (then without signatures)."""
        ...

    async def epochs(self, tx: Transaction, first: int, limit: int) -> list[Epoch]:
        """Signed epochs from number `first` on, ascending."""
        ...

    async def add_epoch(self, tx: Transaction, epoch: Epoch) -> bool:
        """Write an epoch down as decided; False, and nothing written, if its number is taken."""
        ...

    async def sign_epoch(self, tx: Transaction, epoch: Epoch) -> bool:
        """Give a decided epoch its signatures; False if it has them."""
        ...

    async def unlogged(self, tx: Transaction, side: Side) -> list[tuple[str, bytes, int]]:
        """Everything issued or spent that no log holds, as (keyset, item, amount), sorted."""
        ...

    async def add_leaves(self, tx: Transaction, side: Side, leaves: Sequence[LoggedLeaf]) -> bool:
        """Append to logs. False, and the caller must raise, if an item or a place is taken."""
        ...

    async def leaves(self, tx: Transaction, side: Side, keyset: str, first: int, limit: int) -> list[LoggedLeaf]:
        """Leaves of a log from place `first` on, in order."""
        ...

    async def find_leaves(self, tx: Transaction, side: Side, items: Sequence[bytes]) -> dict[bytes, LoggedLeaf]:
        """Those of the items that are in a log."""
        ...

    async def add_nodes(self, tx: Transaction, side: Side, keyset: str, nodes: Sequence[tuple[Span, SumNode]]) -> None:
        """Keep complete subtrees, so that no proof reads a whole log."""
        ...

    async def node(self, tx: Transaction, side: Side, keyset: str, span: Span) -> SumNode | None:
        """A complete subtree that was kept."""
        ...

    async def promised_keysets(self, tx: Transaction) -> set[str]:
        """Keysets under which change of a running payment may still be signed."""
        ...

    async def unbacked(self, tx: Transaction, side: Side) -> int:
        """How many leaves the mint's tables of coins do not bear out; 0 unless somebody tampered with them."""
        ...

    async def unlogged_dropped(self, tx: Transaction, side: Side) -> dict[str, int]:
        """For each keyset: sum of what was pruned before any log held it."""
        ...


class DepositState(StrEnum):
    """What an arrival is worth to its quote."""

    COUNTED = "counted"
    UNCOUNTED = "uncounted"
    """It was too small or too late (NUT-30): owed to whoever sent it, and to no quote."""
    WITHDRAWN = "withdrawn"
    """Its rail took it back; for good."""


@dataclass(frozen=True, slots=True)
class Deposit:
    """An arrival as the mint booked it: for no quote, in sat, or for one, in its unit."""

    quote: str | None
    amount: int
    state: DepositState = DepositState.COUNTED


class MintStore(Protocol):
    """The mint's tables. Every method acts inside the caller's transaction; claims are unique inserts, never look-ups."""

    async def keysets(self, tx: Transaction) -> list[KeysetRecord]:
        """All keysets, oldest index first within a unit."""
        ...

    async def add_keyset(self, tx: Transaction, record: KeysetRecord) -> bool:
        """Insert a keyset and make it the only active one of its unit; False if that (unit, index) exists."""
        ...

    async def claim(self, tx: Transaction, claims: Sequence[Claim], *, operation: bytes, quote: str | None, at: int) -> bool:
        """Mark all inputs, SPENT without a quote and PENDING with one. False, and the caller must raise, if any was taken."""
        ...

    async def proofs(self, tx: Transaction, ys: Sequence[bytes]) -> dict[bytes, ProofRecord]:
        """Records of those Ys that were ever claimed and not released."""
        ...

    async def claimed_by(self, tx: Transaction, quote: str) -> list[ProofRecord]:
        """Inputs PENDING in a melt quote's payment."""
        ...

    async def spend_claimed(self, tx: Transaction, quote: str) -> int:
        """PENDING inputs of a quote become SPENT; how many."""
        ...

    async def release_claimed(self, tx: Transaction, quote: str) -> int:
        """PENDING inputs of a quote become unspent again; how many."""
        ...

    async def add_signatures(
        self, tx: Transaction, signed: Sequence[tuple[bytes, BlindSignature]], *, operation: bytes, quote: str | None, at: int
    ) -> bool:
        """Store signatures for outputs. False, and the caller must raise, if any B_ was signed or promised before."""
        ...

    async def add_promises(
        self, tx: Transaction, promises: Sequence[Promise], *, operation: bytes, quote: str, at: int
    ) -> bool:
        """Keep blank outputs for change. False, and the caller must raise, if any B_ was signed or promised before."""
        ...

    async def promises(self, tx: Transaction, quote: str) -> list[Promise]:
        """Unsigned blank outputs of a quote, in request order."""
        ...

    async def keep_promises(self, tx: Transaction, quote: str, signed: Sequence[tuple[bytes, BlindSignature]]) -> None:
        """Sign the first blank outputs of a quote and drop the rest."""
        ...

    async def signatures(self, tx: Transaction, b_s: Sequence[bytes]) -> dict[bytes, SignedRecord]:
        """Signatures of those outputs that were signed."""
        ...

    async def promised(self, tx: Transaction, b_s: Sequence[bytes]) -> set[bytes]:
        """Those outputs that are blank outputs of a running payment."""
        ...

    async def change(self, tx: Transaction, quote: str) -> list[BlindSignature]:
        """Signatures given as change for a melt quote, in request order."""
        ...

    async def totals(self, tx: Transaction) -> dict[str, tuple[int, int, int]]:
        """For each keyset: sum of signed outputs, of spent and of pending inputs, with what was pruned. It reads all rows."""
        ...

    async def add_mint_quote(self, tx: Transaction, record: MintRecord) -> None:
        """Insert a FRESH mint quote."""
        ...

    async def mint_quote(self, tx: Transaction, quote: str) -> MintRecord | None:
        """A mint quote by its id."""
        ...

    async def mint_quote_by_payment(self, tx: Transaction, rail: str, payment_id: str) -> MintRecord | None:
        """The mint quote a rail's payment belongs to."""
        ...

    async def mint_quotes_by_pubkey(
        self, tx: Transaction, method: str, pubkeys: Sequence[str], after: str, limit: int
    ) -> list[MintRecord]:
        """Quotes locked to any of the keys (lower-case hex) with an id above `after`, in the order of ids."""
        ...

    async def change_mint_quote(self, tx: Transaction, old: MintRecord, new: MintRecord) -> bool:
        """Compare and swap of the accounting (`amount_paid`, `amount_issued`, `lost`); False if it had changed."""
        ...

    async def add_deposit(self, tx: Transaction, rail: str, receipt_id: str, deposit: Deposit, at: int) -> bool:
        """Record an arrival once; False if it was recorded before."""
        ...

    async def deposit(self, tx: Transaction, rail: str, receipt_id: str) -> Deposit | None:
        """What is recorded of an arrival."""
        ...

    async def deposits(self, tx: Transaction, quote: str) -> set[str]:
        """Receipts recorded for a mint quote, whatever became of them."""
        ...

    async def change_deposit(self, tx: Transaction, rail: str, receipt_id: str, old: Deposit, new: Deposit) -> bool:
        """Compare and swap of what is recorded of an arrival (its quote and state); False if it had changed."""
        ...

    async def cursor(self, tx: Transaction, rail: str) -> str | None:
        """Up to where a rail's arrivals were recorded."""
        ...

    async def set_cursor(self, tx: Transaction, rail: str, cursor: str) -> None:
        """Remember how far a rail's arrivals were recorded."""
        ...

    async def add_melt_quote(self, tx: Transaction, record: MeltRecord) -> None:
        """Insert a FRESH melt quote."""
        ...

    async def melt_quote(self, tx: Transaction, quote: str) -> MeltRecord | None:
        """A melt quote by its id."""
        ...

    async def change_melt_quote(self, tx: Transaction, old: MeltRecord, new: MeltRecord) -> bool:
        """Compare and swap on (state, attempts, owner); False if another got there first. What is fixed for a quote stays.

        Raises `InvoicePaidError` or `QuotePendingError` where another quote for the same payment is paid or in flight.
        """
        ...

    async def pending_melts(self, tx: Transaction) -> list[MeltRecord]:
        """Melt quotes in flight, oldest first."""
        ...

    async def recent_mint_quotes(self, tx: Transaction, limit: int) -> list[MintRecord]:
        """Newest mint quotes first."""
        ...

    async def recent_melt_quotes(self, tx: Transaction, limit: int) -> list[MeltRecord]:
        """Newest melt quotes first."""
        ...
