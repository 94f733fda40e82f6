"""What an operator decides about a mint: one frozen value, built by `ops.config` and given to `mint.Mint`."""

from __future__ import annotations

from dataclasses import dataclass, field

from specie.kernel import DEFAULT_LIMITS, MAX_AMOUNT, Limits
from specie.kernel.live import LIVE, RESTART
from specie.mint.auth import AuthSettings

__all__ = ["MintSettings"]


@dataclass(frozen=True, slots=True)
class MintSettings:
    """Identity, prices and bounds of one mint. Amounts are in the minor unit of the unit they apply to."""

    name: str = field(default="specie", metadata=LIVE)
    """What wallets call the mint (NUT-06, as the next ones)."""
    description: str = field(default="", metadata=LIVE)
    """One line about the mint."""
    description_long: str = field(default="", metadata=LIVE)
    """As much as there is to say."""
    motd: str = field(default="", metadata=LIVE)
    """Message of the day; a bank in play money says so here unless something else is written."""
    icon_url: str = field(default="", metadata=LIVE)
    """Picture that wallets show; fetching it tells its host who looks."""
    tos_url: str = field(default="", metadata=LIVE)
    """Terms of service."""
    contact: tuple[tuple[str, str], ...] = field(default=(), metadata=LIVE)
    """Pairs (method, address), as NUT-06 shows them: `("email", "bank@example.org")`."""
    urls: tuple[str, ...] = field(default=(), metadata=LIVE)
    """Every URL under which wallets reach the mint."""
    units: tuple[str, ...] = field(default=("sat",), metadata=RESTART)
    """Units issued over the rails: `sat`, `msat`."""
    input_fee_ppk: int = field(default=0, metadata=RESTART)
    """Fee of a new keyset, in thousandths of the minor unit for each input (NUT-02); old keysets keep theirs."""
    keyset_version: int = field(default=1, metadata=RESTART)
    """Version byte of the ids of new keysets: 1 (33-byte ids, NUT-02 v2) or 0 (8-byte ids, deprecated)."""
    mint_min: int = field(default=1, metadata=RESTART)
    """Smallest amount of a mint quote; of a quote by address, of each payment to it."""
    mint_max: int = field(default=1_000_000_000, metadata=LIVE)
    """Largest amount of a mint quote."""
    melt_min: int = field(default=1, metadata=LIVE)
    """Smallest amount of a melt quote."""
    melt_max: int = field(default=1_000_000_000, metadata=LIVE)
    """Largest amount of a melt quote."""
    quote_expiry_s: int = field(default=86_400, metadata=LIVE)
    """How long a mint quote's invoice can be paid; a payment that arrives later still counts."""
    melt_quote_expiry_s: int = field(default=900, metadata=LIVE)
    """How long a melt quote's price holds."""
    pay_deadline_s: float = field(default=60.0, metadata=LIVE)
    """How long a synchronous melt waits for its rail before it answers PENDING."""
    fee_limit_ppm: int = field(default=50_000, metadata=LIVE)
    """Largest fee reserve a rail may ask, in millionths of the amount, on top of `fee_limit_min_msat`."""
    fee_limit_min_msat: int = field(default=100_000, metadata=LIVE)
    """Fee reserve a rail may ask for the smallest amounts, in millisatoshi."""
    reconcile_every_s: float = field(default=10.0, metadata=LIVE)
    """Pause between two looks at payments whose end is not known."""
    minting: bool = field(default=True, metadata=LIVE)
    """Whether new mint quotes are made. Off: quotes that were paid already are still issued."""
    melting: bool = field(default=True, metadata=LIVE)
    """Whether payments are made. Off: no new melt quotes, and no payments of old ones."""
    liabilities: bool = field(default=False, metadata=RESTART)
    """Whether the mint proves what it owes, by the open draft NUT-388: epochs, logs of what was issued and spent, proofs."""
    liabilities_every_s: int = field(default=3600, metadata=RESTART)
    """Length of an epoch of proved liabilities."""
    quote_lookup: bool = field(default=False, metadata=LIVE)
    """Whether owners of keys may find the mint quotes locked to them, by an open draft (pull request 341 of the NUTs)."""
    limits: Limits = field(default=DEFAULT_LIMITS)
    auth: AuthSettings = field(default_factory=AuthSettings)
    """Who may use the mint."""

    def __post_init__(self) -> None:
        """Refuse what can never work; ValueError names the setting."""
        if not self.units:
            raise ValueError("units: at least one is needed")
        for unit in self.units:
            if unit not in ("sat", "msat"):
                raise ValueError(f"units: {unit!r} is not issued here; sat and msat are")
        if not 0 <= self.input_fee_ppk < 2**31:
            raise ValueError("input_fee_ppk: must be from 0 to 2^31-1")
        if self.keyset_version not in (0, 1):
            raise ValueError("keyset_version: must be 0 or 1")
        for low, high, name in ((self.mint_min, self.mint_max, "mint"), (self.melt_min, self.melt_max, "melt")):
            if not 1 <= low <= high <= MAX_AMOUNT:
                raise ValueError(f"{name}_min and {name}_max: 1 <= min <= max <= 2^64-1 must hold")
        if self.quote_expiry_s < 1 or self.melt_quote_expiry_s < 1:
            raise ValueError("quote_expiry_s and melt_quote_expiry_s: must be at least 1")
        if self.auth.blind_endpoints and self.auth.bat_max_mint > self.limits.array_length:
            raise ValueError("auth.bat_max_mint: is more than limits.array_length, so nobody could mint that many")
        if self.liabilities_every_s < 1:
            raise ValueError("liabilities_every_s: must be at least 1")
        if self.pay_deadline_s <= 0 or self.reconcile_every_s <= 0:
            raise ValueError("pay_deadline_s and reconcile_every_s: must be positive")
