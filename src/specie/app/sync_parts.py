"""What hangs on a `SyncWallet`: the parts of `Wallet` without `await`.

Written by scripts/write_sync.py from `Wallet`: change that, and run it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.wallet.paid import Settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from specie.app.loop_thread import LoopThread
    from specie.ecash.payload import PaymentPayload
    from specie.ecash.requests import LockOption, PaymentMethod, PaymentRequest
    from specie.wallet.engine.allowance import Allowance
    from specie.wallet.engine.departure import Departure, Stuck
    from specie.wallet.engine.deposits import DepositClaim, Deposits
    from specie.wallet.engine.exits import Exits, WatchReport
    from specie.wallet.engine.kept_secrets import KeptSecrets
    from specie.wallet.engine.liabilities import MintLiabilities
    from specie.wallet.engine.mint_list import MintBackup, MintList
    from specie.wallet.engine.offline import Offline, Settlement
    from specie.wallet.engine.receive import Receipt
    from specie.wallet.engine.recovery import Recovery
    from specie.wallet.engine.requests import Requests
    from specie.wallet.engine.targets import Rebalance, Targets
    from specie.wallet.engine.till import Till
    from specie.wallet.engine.transfer import Transfers
    from specie.wallet.holding import SentToken, WalletMintQuote
    from specie.wallet.liabilities import KeptEvidence, LiabilityReport
    from specie.wallet.offline import OfflinePolicy, Unsettled
    from specie.wallet.paid import Taking, Toll, TollState
    from specie.wallet.placement import Leaving, WatchPolicy
    from specie.wallet.ports import NostrRelays
    from specie.wallet.request import OwnRequest, PaymentPlan, RequestPayment, RequestReceipt
    from specie.wallet.target import Holding, Target
    from specie.wallet.transfer import Transfer, TransferQuote

__all__ = [
    "SyncAllowance",
    "SyncDeposits",
    "SyncExits",
    "SyncKeptSecrets",
    "SyncMintLiabilities",
    "SyncMintList",
    "SyncOffline",
    "SyncRecovery",
    "SyncRequests",
    "SyncTargets",
    "SyncTill",
    "SyncTransfers",
]


class SyncRequests:
    """As `Requests`, without `await`."""

    def __init__(self, inner: Requests, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def create(
        self,
        amount: int | None = None,
        *,
        unit: str = "sat",
        description: str | None = None,
        single_use: bool = True,
        mints: Sequence[str] | None = None,
        mints_preferred: bool = False,
        methods: Sequence[PaymentMethod] = (),
        post: str | None = None,
        relays: Sequence[str] = (),
        lock: bool | LockOption = False,
    ) -> OwnRequest:
        """As `Requests.create`."""
        return self._thread.run(
            self._inner.create(
                amount,
                unit=unit,
                description=description,
                single_use=single_use,
                mints=mints,
                mints_preferred=mints_preferred,
                methods=methods,
                post=post,
                relays=relays,
                lock=lock,
            )
        )

    def list(self, *, only_open: bool = False) -> Sequence[OwnRequest]:
        """As `Requests.list`."""
        return self._thread.run(self._inner.list(only_open=only_open))

    def show(self, request_id: str) -> OwnRequest:
        """As `Requests.show`."""
        return self._thread.run(self._inner.show(request_id))

    def cancel(self, request_id: str) -> OwnRequest:
        """As `Requests.cancel`."""
        return self._thread.run(self._inner.cancel(request_id))

    def accept(
        self,
        payment: PaymentPayload | str | bytes,
        *,
        request_id: str | None = None,
        preimage: str | None = None,
        locktime_at_least: int | None = None,
        trust: bool = False,
    ) -> RequestReceipt:
        """As `Requests.accept`."""
        return self._thread.run(
            self._inner.accept(
                payment, request_id=request_id, preimage=preimage, locktime_at_least=locktime_at_least, trust=trust
            )
        )

    def plan(
        self,
        request: str | PaymentRequest,
        *,
        amount: int | None = None,
        unit: str = "sat",
        mint: str | None = None,
        relays: Sequence[str] = (),
    ) -> PaymentPlan:
        """As `Requests.plan`."""
        return self._thread.run(self._inner.plan(request, amount=amount, unit=unit, mint=mint, relays=relays))

    def pay(
        self,
        request: str | PaymentRequest,
        *,
        amount: int | None = None,
        unit: str = "sat",
        mint: str | None = None,
        memo: str | None = None,
        again: bool = False,
        relays: Sequence[str] = (),
    ) -> RequestPayment:
        """As `Requests.pay`."""
        return self._thread.run(
            self._inner.pay(request, amount=amount, unit=unit, mint=mint, memo=memo, again=again, relays=relays)
        )

    def deliver(self, payment_id: str, *, relays: Sequence[str] = ()) -> RequestPayment:
        """As `Requests.deliver`."""
        return self._thread.run(self._inner.deliver(payment_id, relays=relays))

    def payments(self) -> Sequence[RequestPayment]:
        """As `Requests.payments`."""
        return self._thread.run(self._inner.payments())

    def payload(self, payment_id: str) -> bytes:
        """As `Requests.payload`."""
        return self._thread.run(self._inner.payload(payment_id))

    def nostr(self) -> NostrRelays:
        """As `Requests.nostr`."""
        return self._inner.nostr()


class SyncMintList:
    """As `MintList`, without `await`."""

    def __init__(self, inner: MintList, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def backup(self, relays: Sequence[str]) -> MintBackup:
        """As `MintList.backup`."""
        return self._thread.run(self._inner.backup(relays))

    def restore(self, relays: Sequence[str]) -> MintBackup:
        """As `MintList.restore`."""
        return self._thread.run(self._inner.restore(relays))


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

    def check(self, *, force: bool = False, wait_s: float | None = None) -> list[WatchReport]:
        """As `Exits.check`."""
        return self._thread.run(self._inner.check(force=force, wait_s=wait_s))

    def is_due(self) -> bool:
        """As `Exits.is_due`."""
        return self._thread.run(self._inner.is_due())

    def check_due(self, *, within_s: float = 20.0) -> list[WatchReport]:
        """As `Exits.check_due`."""
        return self._thread.run(self._inner.check_due(within_s=within_s))

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


class SyncTill:
    """As `Till`, without `await`."""

    def __init__(self, inner: Till, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def key(self) -> str:
        """As `Till.key`."""
        return self._thread.run(self._inner.key())

    def request(
        self, amount: int, *, unit: str = "sat", mints: Sequence[str] = (), locked: bool = False, description: str | None = None
    ) -> PaymentRequest:
        """As `Till.request`."""
        return self._thread.run(self._inner.request(amount, unit=unit, mints=mints, locked=locked, description=description))

    def take(
        self,
        text: str,
        request: PaymentRequest,
        resource: str,
        *,
        settle: Settle = Settle.NOW,
        cap: int = 0,
        honour_s: int = 600,
        deliveries: int = 5,
    ) -> Taking:
        """As `Till.take`."""
        return self._thread.run(
            self._inner.take(text, request, resource, settle=settle, cap=cap, honour_s=honour_s, deliveries=deliveries)
        )

    def answered(self, name: str) -> None:
        """As `Till.answered`."""
        self._thread.run(self._inner.answered(name))

    def released(self, name: str) -> None:
        """As `Till.released`."""
        self._thread.run(self._inner.released(name))

    def takings(self, *, since: int = 0, limit: int = 1000) -> list[Taking]:
        """As `Till.takings`."""
        return self._thread.run(self._inner.takings(since=since, limit=limit))

    def forget(self, older_than_s: int) -> int:
        """As `Till.forget`."""
        return self._thread.run(self._inner.forget(older_than_s))


class SyncAllowance:
    """As `Allowance`, without `await`."""

    def __init__(self, inner: Allowance, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def pay(
        self,
        request: PaymentRequest,
        *,
        host: str,
        resource: str,
        max_amount: int,
        max_per_host: int,
        period_s: int,
        unit: str = "sat",
    ) -> Toll:
        """As `Allowance.pay`."""
        return self._thread.run(
            self._inner.pay(
                request,
                host=host,
                resource=resource,
                max_amount=max_amount,
                max_per_host=max_per_host,
                period_s=period_s,
                unit=unit,
            )
        )

    def spent(self, toll: Toll) -> None:
        """As `Allowance.spent`."""
        self._thread.run(self._inner.spent(toll))

    def unknown(self, toll: Toll) -> None:
        """As `Allowance.unknown`."""
        self._inner.unknown(toll)

    def declined(self, toll: Toll) -> Toll:
        """As `Allowance.declined`."""
        return self._thread.run(self._inner.declined(toll))

    def settle(self, *, patience_s: int = 3600) -> list[Toll]:
        """As `Allowance.settle`."""
        return self._thread.run(self._inner.settle(patience_s=patience_s))

    def tolls(self, *, host: str | None = None, since: int = 0, states: Sequence[TollState] = ()) -> list[Toll]:
        """As `Allowance.tolls`."""
        return self._thread.run(self._inner.tolls(host=host, since=since, states=states))


class SyncRecovery:
    """As `Recovery`, without `await`."""

    def __init__(self, inner: Recovery, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def mint_quote(self, quote: str, *, mint: str, unit: str = "sat", method: str = "bolt11") -> WalletMintQuote:
        """As `Recovery.mint_quote`."""
        return self._thread.run(self._inner.mint_quote(quote, mint=mint, unit=unit, method=method))


class SyncKeptSecrets:
    """As `KeptSecrets`, without `await`."""

    def __init__(self, inner: KeptSecrets, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def put(self, name: str, secret: str) -> None:
        """As `KeptSecrets.put`."""
        self._thread.run(self._inner.put(name, secret))

    def get(self, name: str) -> str | None:
        """As `KeptSecrets.get`."""
        return self._thread.run(self._inner.get(name))

    def delete(self, name: str) -> None:
        """As `KeptSecrets.delete`."""
        self._thread.run(self._inner.delete(name))


class SyncDeposits:
    """As `Deposits`, without `await`."""

    def __init__(self, inner: Deposits, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def key(self) -> str:
        """As `Deposits.key`."""
        return self._thread.run(self._inner.key())

    def request(self, amount: int, pubkey: str, *, mint: str, unit: str = "sat", description: str | None = None) -> str:
        """As `Deposits.request`."""
        return self._thread.run(self._inner.request(amount, pubkey, mint=mint, unit=unit, description=description))

    def find(self, mint: str, *, gap: int = 50) -> list[WalletMintQuote]:
        """As `Deposits.find`."""
        return self._thread.run(self._inner.find(mint, gap=gap))

    def claim(self, mint: str, *, gap: int = 50) -> list[DepositClaim]:
        """As `Deposits.claim`."""
        return self._thread.run(self._inner.claim(mint, gap=gap))


class SyncMintLiabilities:
    """As `MintLiabilities`, without `await`."""

    def __init__(self, inner: MintLiabilities, thread: LoopThread) -> None:
        """Run the verbs of `inner` on `thread`."""
        self._inner = inner
        self._thread = thread

    def verify(self, mint: str, *, ask: bool = False, max_leaves: int = 200000) -> LiabilityReport:
        """As `MintLiabilities.verify`."""
        return self._thread.run(self._inner.verify(mint, ask=ask, max_leaves=max_leaves))

    def evidence(self) -> list[KeptEvidence]:
        """As `MintLiabilities.evidence`."""
        return self._thread.run(self._inner.evidence())
