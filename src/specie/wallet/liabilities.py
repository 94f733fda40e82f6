"""What a wallet knows of what a mint owes, as values: receipts of its own coins, how far it read, and what it found.

A receipt is nothing that a mint has to hand out. For a coin it got, a wallet keeps B_, C_ and the DLEQ by which the mint
signed that amount; for a coin that went, its Y and that the mint took it. Both are in the stored coin already.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from specie.ecash.liabilities import Epoch, Evidence, Side, SumNode
from specie.ecash.proof import BlindSignature, Dleq
from specie.kernel import curve
from specie.wallet.errors import LiabilitiesBrokenError
from specie.wallet.states import CoinState

if TYPE_CHECKING:
    from specie.ecash.keyset import Keyset
    from specie.wallet.holding import StoredProof

__all__ = [
    "CoinRecord",
    "KeptEvidence",
    "LiabilityFault",
    "LiabilityReceipt",
    "LiabilityReport",
    "LiabilityView",
    "LogView",
    "LoggedItem",
    "issued_signature",
    "receipts_of",
]


@dataclass(frozen=True, slots=True)
class CoinRecord:
    """A coin the wallet has or had, with the Unix times at which it came and changed its state last."""

    stored: StoredProof
    created_at: int
    changed_at: int


@dataclass(frozen=True, slots=True)
class LiabilityReceipt:
    """What a log must hold: an item (B_ or Y), its amount and keyset, and since when."""

    side: Side
    item: bytes
    y: bytes
    keyset: str
    amount: int
    at: int
    coin: CoinRecord = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoggedItem:
    """An item of ours that was seen in a log, and where."""

    side: Side
    item: bytes
    y: bytes
    keyset: str
    position: int


class LogView(msgspec.Struct, frozen=True):
    """How far a log was read: its size then, and its peaks."""

    size: int = 0
    peaks: tuple[SumNode, ...] = ()


class LiabilityView(msgspec.Struct, frozen=True):
    """How far a mint's epochs were checked. `pubkey` is the key it had when they were looked at first."""

    pubkey: bytes
    epoch: Epoch | None = None
    logs: dict[str, LogView] = {}
    """By `keyset/side`."""
    checked_at: int = 0
    """When, by the wallet's clock."""


@dataclass(frozen=True, slots=True)
class KeptEvidence:
    """Evidence as the wallet keeps it: `body` is the file, `evidence_id` the beginning of its SHA-256 in hex."""

    evidence_id: str
    mint: str
    kind: str
    body: bytes = field(repr=False)
    at: int


@dataclass(frozen=True, slots=True)
class LiabilityFault:
    """Something that does not hold. `evidence` is what shows it to others, where anything does."""

    detail: str
    evidence: Evidence | None = None

    @property
    def conclusive(self) -> bool:
        """Whether evidence shows it that the mint cannot refute."""
        return self.evidence is not None and self.evidence.conclusive


@dataclass(slots=True)
class LiabilityReport:
    """What a check of one mint found. Counts are of this wallet's own coins."""

    mint: str
    epoch: int | None = None
    """The newest epoch that was checked."""
    at: int | None = None
    """When the mint closed it, by the mint's clock."""
    stale: bool = False
    """Whether that is long ago, by what the mint announces."""
    epochs: int = 0
    """How many epochs were new and hold."""
    owed: dict[str, int] = field(default_factory=dict)
    """What the mint says it owes, by unit."""
    issued: int = 0
    """Coins we got that its logs hold with the right amount, all told."""
    spent: int = 0
    """Coins that went that its logs hold with the right amount, all told."""
    waiting: int = 0
    """Receipts that no epoch has to hold yet."""
    unproven: int = 0
    """Coins without a DLEQ, of which there is no receipt."""
    leaves: int = 0
    """Leaves that were read."""
    unread: list[str] = field(default_factory=list)
    """Logs (`keyset/side`) that are too long to be read whole."""
    faults: list[LiabilityFault] = field(default_factory=list)

    def check(self) -> None:
        """None if nothing was found against the mint; LiabilitiesBrokenError otherwise."""
        if self.faults:
            raise LiabilitiesBrokenError(self.faults[0].detail, peer=self.mint)


def receipts_of(coin: CoinRecord) -> list[LiabilityReceipt]:
    """The receipts of a coin: that it was issued, if its DLEQ was kept, and that it was spent, if the mint has said so."""
    stored, proof = coin.stored, coin.stored.proof
    found: list[LiabilityReceipt] = []
    if proof.dleq is not None:
        b_ = curve.tweak_add_public(stored.y, proof.dleq.r)
        found.append(LiabilityReceipt(Side.ISSUED, b_, stored.y, proof.id, proof.amount, coin.created_at, coin))
    if stored.state is CoinState.SPENT:
        found.append(LiabilityReceipt(Side.SPENT, stored.y, stored.y, proof.id, proof.amount, coin.changed_at, coin))
    return found


def issued_signature(coin: CoinRecord, keyset: Keyset) -> BlindSignature | None:
    """C_ and its DLEQ as the mint gave them; None where the coin or the keyset does not have what that takes."""
    proof, key = coin.stored.proof, keyset.keys.get(coin.stored.proof.amount)
    if proof.dleq is None or key is None:
        return None
    c_ = curve.add((proof.C, curve.multiply_secret(key, proof.dleq.r)))
    return BlindSignature(amount=proof.amount, id=proof.id, C_=c_, dleq=Dleq(e=proof.dleq.e, s=proof.dleq.s))
