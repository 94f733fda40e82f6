"""How one wallet behaves; built by `app` from configuration, with defaults that suit a person's wallet."""

from __future__ import annotations

from dataclasses import dataclass, field

from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.wallet.retry import RetryPolicy

__all__ = ["WalletSettings"]


@dataclass(frozen=True, slots=True)
class WalletSettings:
    """Settings of a wallet. Times end in their unit.

    Attributes:
        change_pieces: coins of each denomination that change is split into, so that later sends need no swap.
        leaving_horizon_s: keysets that expire within this time are moved off; new coins avoid them.
        refresh_after_s: a mint's keysets are looked at again after this time.
        restore_batch: outputs of one restore request (NUT-13 says 100).
        restore_gap: empty batches that end the restore of a keyset.
        key_gap: how many keys behind the last known one still count as ours in a lock or on a quote.
        replay_window_s: a melt that the mint never saw is sent again only within this time; afterwards its coins are freed.
        payment_wait_s: how long `pay` waits for a payment that is on its way.
        quote_patience_s: unpaid quotes are asked about until this long after they ran out.
        poll_s, longest_poll_s: first and longest pause between two looks at a quote.
        confirm_blocks: a payment on chain takes the cheapest fee that confirms within so many blocks, unless told otherwise.
        split_mints: most mints that pay one invoice together.
        split_plans: how often such a payment is planned anew, after a mint refused or was too dear.
        reserve_ppm, reserve_floor: fee reserve that a plan reckons with before a mint has quoted, in millionths and at least.
        breaker_threshold, breaker_pause_s: see `breaker.Breaker`.
        request_payer_pays_fees: whether a payment of our request must leave its amount once its coins are swapped.
        retry: see `retry.RetryPolicy`.
        limits: bounds on everything from outside.
    """

    change_pieces: int = 2
    leaving_horizon_s: int = 30 * 86_400
    refresh_after_s: int = 600
    restore_batch: int = 100
    restore_gap: int = 3
    key_gap: int = 100
    replay_window_s: int = 600
    payment_wait_s: float = 120.0
    quote_patience_s: int = 7 * 86_400
    poll_s: float = 0.5
    longest_poll_s: float = 10.0
    confirm_blocks: int = 6
    split_mints: int = 8
    split_plans: int = 6
    reserve_ppm: int = 10_000
    reserve_floor: int = 2
    breaker_threshold: int = 5
    breaker_pause_s: float = 5.0
    request_payer_pays_fees: bool = True
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limits: Limits = DEFAULT_LIMITS
