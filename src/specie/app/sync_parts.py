"""What hangs on a `SyncWallet`: the parts of `Wallet` without `await`.

Written by scripts/write_sync.py from `Wallet`: change that, and run it again.
"""

from __future__ import annotations

from collections.abc import Sequence

from specie.app.loop_thread import LoopThread
from specie.wallet.engine.exits import Departure, Exits, Stuck, WatchReport
from specie.wallet.engine.offline import Offline, Settlement
from specie.wallet.engine.receive import Receipt
from specie.wallet.engine.targets import Rebalance, Targets
from specie.wallet.engine.transfer import Transfers
from specie.wallet.holding import SentToken
from specie.wallet.offline import OfflinePolicy, Unsettled
from specie.wallet.placement import Leaving, WatchPolicy
from specie.wallet.target import Holding, Target
from specie.wallet.transfer import Transfer, TransferQuote

__all__ = ["SyncExits", "SyncOffline", "SyncTargets", "SyncTransfers"]


class SyncTransfers:
    """As `Transfers`, without `await`."""

    def __init__(self, inner: Transfers, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def quote(
        self, amount: int | None, *, source: str, destination: str, unit: str = "sat", at_most: int | None = None
    ) -> TransferQuote:
        """As `Transfers.quote`."""
        return self._thread.run(self._inner.quote(amount, source=source, destination=destination, unit=unit, at_most=at_most))

    def move(
        self,
        amount: int | None,
        *,
        source: str,
        destination: str,
        unit: str = "sat",
        max_fee: int | None = None,
        cost_ppm: int | None = None,
        at_most: int | None = None,
        wait_s: float | None = None,
    ) -> Transfer:
        """As `Transfers.move`."""
        return self._thread.run(
            self._inner.move(
                amount,
                source=source,
                destination=destination,
                unit=unit,
                max_fee=max_fee,
                cost_ppm=cost_ppm,
                at_most=at_most,
                wait_s=wait_s,
            )
        )

    def entries(self, *, pending: bool = True) -> list[Transfer]:
        """As `Transfers.entries`."""
        return self._thread.run(self._inner.entries(pending=pending))

    def resume(self, *, wait_s: float = 0.0) -> list[Transfer]:
        """As `Transfers.resume`."""
        return self._thread.run(self._inner.resume(wait_s=wait_s))


class SyncTargets:
    """As `Targets`, without `await`."""

    def __init__(self, inner: Targets, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def set(self, mint: str, *, unit: str = "sat", share_ppm: int | None = None, maximum: int | None = None) -> Target:
        """As `Targets.set`."""
        return self._thread.run(self._inner.set(mint, unit=unit, share_ppm=share_ppm, maximum=maximum))

    def clear(self, *, mint: str | None = None, unit: str | None = None) -> int:
        """As `Targets.clear`."""
        return self._thread.run(self._inner.clear(mint=mint, unit=unit))

    def all(self) -> Sequence[Target]:
        """As `Targets.all`."""
        return self._thread.run(self._inner.all())

    def holdings(self, *, unit: str = "sat") -> Sequence[Holding]:
        """As `Targets.holdings`."""
        return self._thread.run(self._inner.holdings(unit=unit))

    def plan(self, *, unit: str = "sat", min_move: int = 10, cost_ppm: int = 20000) -> Rebalance:
        """As `Targets.plan`."""
        return self._thread.run(self._inner.plan(unit=unit, min_move=min_move, cost_ppm=cost_ppm))

    def rebalance(
        self,
        *,
        unit: str = "sat",
        dry_run: bool = False,
        min_move: int = 10,
        cost_ppm: int = 20000,
        wait_s: float | None = None,
    ) -> Rebalance:
        """As `Targets.rebalance`."""
        return self._thread.run(
            self._inner.rebalance(unit=unit, dry_run=dry_run, min_move=min_move, cost_ppm=cost_ppm, wait_s=wait_s)
        )

    def preferred(self, *, unit: str = "sat") -> Sequence[str]:
        """As `Targets.preferred`."""
        return self._thread.run(self._inner.preferred(unit=unit))


class SyncExits:
    """As `Exits`, without `await`."""

    def __init__(self, inner: Exits, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def leave(
        self,
        mint: str,
        *,
        to: Sequence[str] = (),
        cost_ppm: int = 200000,
        dust_as_token: bool = False,
        wait_s: float | None = None,
    ) -> Departure:
        """As `Exits.leave`."""
        return self._thread.run(self._inner.leave(mint, to=to, cost_ppm=cost_ppm, dust_as_token=dust_as_token, wait_s=wait_s))

    def stay(self, mint: str) -> bool:
        """As `Exits.stay`."""
        return self._thread.run(self._inner.stay(mint))

    def leaving(self) -> list[Leaving]:
        """As `Exits.leaving`."""
        return self._thread.run(self._inner.leaving())

    def stuck(self, *, mint: str | None = None) -> list[Stuck]:
        """As `Exits.stuck`."""
        return self._thread.run(self._inner.stuck(mint=mint))

    def remove(self, mint: str, *, force: bool = False) -> list[SentToken]:
        """As `Exits.remove`."""
        return self._thread.run(self._inner.remove(mint, force=force))

    def health(self) -> list[WatchReport]:
        """As `Exits.health`."""
        return self._thread.run(self._inner.health())

    def watch(self, policy: WatchPolicy | None) -> None:
        """As `Exits.watch`."""
        self._thread.run(self._inner.watch(policy))

    def policy(self) -> WatchPolicy | None:
        """As `Exits.policy`."""
        return self._thread.run(self._inner.policy())

    def check(self, *, force: bool = False) -> list[WatchReport]:
        """As `Exits.check`."""
        return self._thread.run(self._inner.check(force=force))

    def note(self) -> None:
        """As `Exits.note`."""
        self._thread.run(self._inner.note())


class SyncOffline:
    """As `Offline`, without `await`."""

    def __init__(self, inner: Offline, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def use(self, policy: OfflinePolicy | None) -> None:
        """As `Offline.use`."""
        self._thread.run(self._inner.use(policy))

    def policy(self) -> OfflinePolicy | None:
        """As `Offline.policy`."""
        return self._thread.run(self._inner.policy())

    def receive(self, token: str, *, preimage: str | None = None, policy: OfflinePolicy | None = None) -> Receipt:
        """As `Offline.receive`."""
        return self._thread.run(self._inner.receive(token, preimage=preimage, policy=policy))

    def status(self) -> list[Unsettled]:
        """As `Offline.status`."""
        return self._thread.run(self._inner.status())

    def settle(self) -> Settlement:
        """As `Offline.settle`."""
        return self._thread.run(self._inner.settle())

    def settle_due(self) -> Settlement | None:
        """As `Offline.settle_due`."""
        return self._thread.run(self._inner.settle_due())

    def is_due(self) -> bool:
        """As `Offline.is_due`."""
        return self._thread.run(self._inner.is_due())
