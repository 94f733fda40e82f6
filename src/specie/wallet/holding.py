"""What a wallet holds, as values: coins with their state, mints, quotes, tokens sent, and the balance of them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specie.wallet.states import CoinState, OperationState, TokenState

if TYPE_CHECKING:
    from specie.ecash.info import MintInfo
    from specie.ecash.keyset import Keyset
    from specie.ecash.proof import Proof
    from specie.ecash.quote import MeltFeeOption

__all__ = [
    "Balance",
    "KnownKeyset",
    "MintRecord",
    "MintView",
    "SentToken",
    "SplitPart",
    "SplitPayment",
    "StoredProof",
    "WalletMeltQuote",
    "WalletMintQuote",
]


@dataclass(frozen=True, slots=True)
class StoredProof:
    """One coin of ours, complete: `proof` keeps dleq, witness and p2pk_e, without which some coins are lost."""

    proof: Proof = field(repr=False)
    y: bytes
    """hash_to_curve(secret), 33 bytes; names the coin."""
    mint: str
    unit: str
    state: CoinState = CoinState.UNSPENT
    operation: str | None = None
    """The operation that has reserved it."""
    token: str | None = None
    """The sent token it is part of."""
    unswapped: bool = False
    """Received off-line: whoever sent it still knows its secret."""


@dataclass(frozen=True, slots=True)
class KnownKeyset:
    """A keyset bound to its mint. `listed` is False while the mint leaves it out of its list; its coins are kept."""

    mint: str
    keyset: Keyset
    listed: bool = True

    def usable(self, now: int) -> bool:
        """Whether outputs may be made for it: active, listed and not expired (NUT-02)."""
        expiry = self.keyset.final_expiry
        return self.keyset.active and self.listed and (expiry is None or now < expiry)

    def leaving(self, now: int, horizon_s: int) -> bool:
        """Whether coins should move off it: inactive, or expiring within `horizon_s` seconds."""
        expiry = self.keyset.final_expiry
        return not self.keyset.active or (expiry is not None and expiry - now <= horizon_s)


@dataclass(frozen=True, slots=True)
class MintRecord:
    """A mint the owner trusts. `info` is its last NUT-06 answer as bytes (empty if it never gave one): text from outside."""

    url: str
    info: bytes = field(repr=False)
    added_at: int
    refreshed_at: int


@dataclass(frozen=True, slots=True)
class MintView:
    """A mint as last seen, for showing. Texts of `info` are the mint's own: bounded and without control characters."""

    url: str
    info: MintInfo
    keysets: tuple[KnownKeyset, ...]
    added_at: int
    refreshed_at: int

    @property
    def units(self) -> tuple[str, ...]:
        """Units it has keysets for, sorted."""
        return tuple(sorted({known.keyset.unit for known in self.keysets}))


@dataclass(frozen=True, slots=True)
class WalletMintQuote:
    """A request to be paid (NUT-04, 23, 25, 30): show `request` to the payer, then claim it. Never show `quote`."""

    mint: str
    quote: str = field(repr=False)
    method: str
    unit: str
    request: str
    """A BOLT 11 invoice, a BOLT 12 offer, a bitcoin address, or what another method has."""
    amount: int | None
    """What is asked for; None where the payer chooses. On chain it is only what the payer is shown."""
    expiry: int | None
    amount_paid: int
    amount_issued: int
    updated_at: int
    """Monotonic per quote: answers with a lower one are ignored (NUT-04)."""
    key_index: int | None
    """n of our key `quote/{n}` that locks it (NUT-20); None where the mint has no locked quotes."""
    created_at: int

    @property
    def claimable(self) -> int:
        """What has been paid and not been issued."""
        return max(self.amount_paid - self.amount_issued, 0)

    @property
    def reusable(self) -> bool:
        """Whether it may be paid more than once: all but invoices, which are paid once."""
        return self.method != "bolt11"

    @property
    def finished(self) -> bool:
        """Whether nothing can arrive any more."""
        return not self.reusable and self.amount is not None and self.amount_issued >= self.amount


@dataclass(frozen=True, slots=True)
class WalletMeltQuote:
    """What paying a request costs (NUT-05, 15, 23, 25, 30): `amount` to the payee and at most `fee_reserve` on top.

    With `fee_options` the reserve is that of the option `fee_index`, which says how soon an on-chain payment confirms.
    """

    mint: str
    quote: str = field(repr=False)
    method: str
    unit: str
    request: str
    amount: int
    fee_reserve: int
    state: str
    """UNPAID, PENDING or PAID."""
    expiry: int | None
    preimage: str | None
    created_at: int
    fee_options: tuple[MeltFeeOption, ...] = ()
    fee_index: int | None = None
    """The option that will be, or was, chosen; None where there is no choice."""
    outpoint: str | None = None
    """`txid:vout` of an on-chain payment once it was broadcast."""
    part_msat: int | None = None
    """The part of the invoice it pays, for a payment by several mints (NUT-15); None where it pays all."""


@dataclass(frozen=True, slots=True)
class SplitPart:
    """One mint's part of a payment by several mints: its quote, and the operation that pays it."""

    mint: str
    quote: str = field(repr=False)
    operation: str
    part_msat: int
    amount: int
    """The part in the unit."""
    fee: int
    """What it cost beyond `amount`; until it is paid, the most that it can cost."""
    state: OperationState = OperationState.OPEN
    """That of its operation: DONE when it was paid."""
    preimage: str | None = None


@dataclass(frozen=True, slots=True)
class SplitPayment:
    """One invoice paid by several mints (NUT-15). Its parts are written down together, before any of them is sent."""

    payment_id: str
    request: str
    unit: str
    amount: int
    """All parts together, in the unit."""
    memo: str | None
    created_at: int
    parts: tuple[SplitPart, ...]

    @property
    def state(self) -> str:
        """PENDING while a part may still be paid; PAID or FAILED if all parts agree; TORN if some were paid and others not.

        No honest mint lets a payment be TORN: a receiver takes all parts of an invoice or none.
        """
        states = {part.state for part in self.parts}
        if OperationState.OPEN in states:
            return "PENDING"
        if len(states) > 1:
            return "TORN"
        return "PAID" if OperationState.DONE in states else "FAILED"


@dataclass(frozen=True, slots=True)
class SentToken:
    """A token that left this wallet; money for whoever reads `text`."""

    token_id: str
    mint: str
    unit: str
    amount: int
    text: str = field(repr=False)
    memo: str | None
    state: TokenState
    locked: bool
    created_at: int


@dataclass(frozen=True, slots=True)
class Balance:
    """Money of one unit, at one mint or (mint is None) at all of them."""

    unit: str
    mint: str | None
    available: int = 0
    """Free to spend now."""
    reserved: int = 0
    """In operations whose end is not known yet, payments on their way among them."""
    sent: int = 0
    """In tokens that nobody has redeemed yet; can be reclaimed."""
    unswapped: int = 0
    """Received off-line and not yet made our own."""

    @property
    def total(self) -> int:
        """All of it that is still ours if nobody redeems what was sent: available, reserved, unswapped and sent."""
        return self.available + self.reserved + self.sent + self.unswapped

    def plus(self, other: Balance) -> Balance:
        """Both together, of this one's unit and mint."""
        return Balance(
            self.unit,
            self.mint,
            available=self.available + other.available,
            reserved=self.reserved + other.reserved,
            sent=self.sent + other.sent,
            unswapped=self.unswapped + other.unswapped,
        )
