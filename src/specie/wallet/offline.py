"""What may be taken off-line, and at what risk: coins that are not swapped yet can perhaps be spent by their sender; pure.

A coin locked to keys of ours is safe from its sender until the lock's refund opens; any other is not safe for a moment. A
policy bounds how much of either is held unsettled, and `check_receipt` is the one judge of it. DLEQ proofs are not a matter of
policy: they are always required (`engine.receive`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from specie.ecash.conditions import Pathway, SpendingCondition, open_pathways
from specie.kernel.errors import MalformedError
from specie.wallet.errors import OfflineRefusedError

__all__ = ["OfflineCoin", "OfflinePolicy", "Risk", "Unsettled", "check_policy", "check_receipt", "risk_of", "safe_until"]

EXPOSED = 0
"""`until` of a coin that its sender can spend now."""


@dataclass(frozen=True, slots=True)
class OfflinePolicy:
    """What is taken off-line. Amounts are in the minor unit of a token's unit, and bound each unit by itself.

    Attributes:
        lock_s: a lock counts if it keeps the sender away for at least so many seconds from now.
        unlocked_most: most of coins without such a lock, all mints together; 0 takes none.
        token_most, mint_most, total_most: most in one token, unsettled at one mint, and unsettled at all.
        mints: only tokens of these mints; none given, of every mint of the wallet.
        knowledge_s: how long ago the mint's keysets may have been looked at.
        settle: whether receipts are swapped by themselves when the wallet resumes.
        warn_s: a refund that opens within so many seconds is shown as a risk.
    """

    lock_s: int = 24 * 3600
    unlocked_most: int = 0
    token_most: int = 10_000
    mint_most: int = 50_000
    total_most: int = 100_000
    mints: tuple[str, ...] = ()
    knowledge_s: int = 30 * 86_400
    settle: bool = True
    warn_s: int = 6 * 3600


@dataclass(frozen=True, slots=True)
class OfflineCoin:
    """A coin as the policy sees it. `until`: Unix second up to which only we can spend it; 0: never, None: for good."""

    mint: str
    unit: str
    amount: int
    until: int | None
    since: int = 0


class Risk(StrEnum):
    """Whether somebody else can spend a coin."""

    EXPOSED = "EXPOSED"
    """Whoever sent it can, now."""
    NEAR = "NEAR"
    """The sender's refund opens soon."""
    LOCKED = "LOCKED"
    """Only this wallet can."""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Coins of one mint and unit that are open to somebody else at the same time; `since` is when the oldest came."""

    mint: str
    unit: str
    amount: int
    coins: int
    since: int
    until: int | None
    risk: Risk


def check_policy(policy: OfflinePolicy) -> None:
    """MalformedError where a bound is negative."""
    bounds = (policy.lock_s, policy.unlocked_most, policy.token_most, policy.mint_most, policy.total_most, policy.warn_s)
    if min(*bounds, policy.knowledge_s) < 0:
        raise MalformedError("bounds of an off-line policy are not negative")


def safe_until(condition: SpendingCondition | None, ours: Collection[bytes], now: int) -> int | None:
    """Up to when only we can spend a coin: 0 for not at all, None for ever. `ours`: our keys, x-only (32 bytes)."""
    if condition is None or not all(_is_ours(way, ours) for way in open_pathways(condition, now)):
        return EXPOSED
    if condition.locktime is None or all(_is_ours(way, ours) for way in open_pathways(condition, condition.locktime + 1)):
        return None
    return condition.locktime


def _is_ours(way: Pathway, ours: Collection[bytes]) -> bool:
    """Whether nobody can go this way without a signature of ours."""
    return sum(key[1:] not in ours for key in way.keys) < way.n_sigs


def risk_of(until: int | None, now: int, warn_s: int) -> Risk:
    """How a coin that is safe up to `until` stands at `now`."""
    if until is None:
        return Risk.LOCKED
    if until < now:
        return Risk.EXPOSED
    return Risk.NEAR if until - now <= warn_s else Risk.LOCKED


def check_receipt(
    policy: OfflinePolicy, token: Sequence[OfflineCoin], held: Sequence[OfflineCoin], *, looked_at: int, now: int
) -> None:
    """OfflineRefusedError unless the policy takes a token's coins while `held` are unsettled already.

    `looked_at`: when the mint's keysets were seen last. The token's coins are of one mint and unit.
    """
    if not token:
        raise OfflineRefusedError("empty", "the token holds no coins")
    mint, unit = token[0].mint, token[0].unit
    amount = sum(coin.amount for coin in token)
    ours = [coin for coin in held if coin.unit == unit]
    if policy.mints and mint not in policy.mints:
        raise OfflineRefusedError("mints", f"tokens of {mint} are not taken off-line")
    if now - looked_at > policy.knowledge_s:
        raise OfflineRefusedError("knowledge_s", "the mint's keysets were looked at too long ago to trust them off-line")
    _bound("token_most", "a token", amount, policy.token_most, unit)
    _bound("mint_most", "this mint", amount + sum(coin.amount for coin in ours if coin.mint == mint), policy.mint_most, unit)
    _bound("total_most", "all mints", amount + sum(coin.amount for coin in ours), policy.total_most, unit)
    weak = sum(coin.amount for coin in token if _is_weak(coin, policy, now))
    if weak:
        weak += sum(coin.amount for coin in ours if _is_weak(coin, policy, now))
        if weak > policy.unlocked_most:
            hours = policy.lock_s // 3600
            raise OfflineRefusedError(
                "unlocked_most",
                f"coins that are not locked to this wallet for {hours} hours would be {weak} {unit}, more than the "
                f"{policy.unlocked_most} {unit} that are taken off-line",
            )


def _is_weak(coin: OfflineCoin, policy: OfflinePolicy, now: int) -> bool:
    return coin.until is not None and coin.until < now + policy.lock_s


def _bound(rule: str, where: str, amount: int, most: int, unit: str) -> None:
    if amount > most:
        raise OfflineRefusedError(rule, f"unsettled money of {where} would be {amount} {unit}, more than {most} {unit}")
