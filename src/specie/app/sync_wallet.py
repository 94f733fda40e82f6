"""`SyncWallet`: the wallet without a loop.

Written by scripts/write_sync.py from `Wallet`: change that, and run it again.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from specie.app.loop_thread import LoopThread
from specie.app.wallet import Wallet
from specie.kernel.telemetry import NULL_TELEMETRY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from specie.app.sync_parts import (
        SyncAllowance,
        SyncDeposits,
        SyncExits,
        SyncKeptSecrets,
        SyncMintLiabilities,
        SyncMintList,
        SyncOffline,
        SyncRecovery,
        SyncRequests,
        SyncTargets,
        SyncTill,
        SyncTransfers,
    )
    from specie.app.vault import Vault
    from specie.app.wallet import Opening
    from specie.kernel.clock import Clock
    from specie.kernel.entropy import Entropy
    from specie.kernel.telemetry import Telemetry
    from specie.keys import SealSource
    from specie.keys.sealing import OpenedSeed
    from specie.wallet import MintClient, WatchReport
    from specie.wallet.engine.auth import WalletAuth
    from specie.wallet.engine.pay import Payment
    from specie.wallet.engine.receive import Receipt
    from specie.wallet.engine.recover import CheckReport, ResumeReport
    from specie.wallet.engine.restore import Progress, Restored
    from specie.wallet.engine.split import SplitPlan
    from specie.wallet.history import HistoryEntry
    from specie.wallet.holding import Balance, MintView, SentToken, SplitPayment, WalletMeltQuote, WalletMintQuote
    from specie.wallet.lock import HTLC, P2PK
    from specie.wallet.offline import OfflinePolicy
    from specie.wallet.operation import Operation
    from specie.wallet.settings import WalletSettings

__all__ = ["SyncWallet"]

T = TypeVar("T")


class SyncWallet:
    """`Wallet` without `await`: the same verbs, run on a loop of its own in a thread of its own.

        with SyncWallet.open("alice") as wallet:
            wallet.send(21)

    Any thread may call it, several at once too. A call that is interrupted (Ctrl-C) is cancelled; `resume` settles it.

    Attributes:
        requests: as `Wallet.requests`.
        mint_list: as `Wallet.mint_list`.
        transfers: as `Wallet.transfers`.
        targets: as `Wallet.targets`.
        exits: as `Wallet.exits`.
        offline: as `Wallet.offline`.
        till: as `Wallet.till`.
        allowance: as `Wallet.allowance`.
        recovery: as `Wallet.recovery`.
        secrets: as `Wallet.secrets`.
        deposits: as `Wallet.deposits`.
        liabilities: as `Wallet.liabilities`.
    """

    def __init__(self, opening: Opening) -> None:
        """Start the loop and open; use `SyncWallet.open`."""
        self._thread = LoopThread("specie-wallet")
        self._run = self._thread.run
        try:
            self._wallet = self._thread.run(_opened(opening))
        except BaseException:
            self._thread.stop()
            raise

    @cached_property
    def requests(self) -> SyncRequests:
        """As `Wallet.requests`, without `await`."""
        from specie.app.sync_parts import SyncRequests

        return SyncRequests(self._run(_made(lambda: self._wallet.requests)), self._thread)

    @cached_property
    def mint_list(self) -> SyncMintList:
        """As `Wallet.mint_list`, without `await`."""
        from specie.app.sync_parts import SyncMintList

        return SyncMintList(self._run(_made(lambda: self._wallet.mint_list)), self._thread)

    @cached_property
    def transfers(self) -> SyncTransfers:
        """As `Wallet.transfers`, without `await`."""
        from specie.app.sync_parts import SyncTransfers

        return SyncTransfers(self._run(_made(lambda: self._wallet.transfers)), self._thread)

    @cached_property
    def targets(self) -> SyncTargets:
        """As `Wallet.targets`, without `await`."""
        from specie.app.sync_parts import SyncTargets

        return SyncTargets(self._run(_made(lambda: self._wallet.targets)), self._thread)

    @cached_property
    def exits(self) -> SyncExits:
        """As `Wallet.exits`, without `await`."""
        from specie.app.sync_parts import SyncExits

        return SyncExits(self._run(_made(lambda: self._wallet.exits)), self._thread)

    @cached_property
    def offline(self) -> SyncOffline:
        """As `Wallet.offline`, without `await`."""
        from specie.app.sync_parts import SyncOffline

        return SyncOffline(self._run(_made(lambda: self._wallet.offline)), self._thread)

    @cached_property
    def till(self) -> SyncTill:
        """As `Wallet.till`, without `await`."""
        from specie.app.sync_parts import SyncTill

        return SyncTill(self._run(_made(lambda: self._wallet.till)), self._thread)

    @cached_property
    def allowance(self) -> SyncAllowance:
        """As `Wallet.allowance`, without `await`."""
        from specie.app.sync_parts import SyncAllowance

        return SyncAllowance(self._run(_made(lambda: self._wallet.allowance)), self._thread)

    @cached_property
    def recovery(self) -> SyncRecovery:
        """As `Wallet.recovery`, without `await`."""
        from specie.app.sync_parts import SyncRecovery

        return SyncRecovery(self._run(_made(lambda: self._wallet.recovery)), self._thread)

    @cached_property
    def secrets(self) -> SyncKeptSecrets:
        """As `Wallet.secrets`, without `await`."""
        from specie.app.sync_parts import SyncKeptSecrets

        return SyncKeptSecrets(self._run(_made(lambda: self._wallet.secrets)), self._thread)

    @cached_property
    def deposits(self) -> SyncDeposits:
        """As `Wallet.deposits`, without `await`."""
        from specie.app.sync_parts import SyncDeposits

        return SyncDeposits(self._run(_made(lambda: self._wallet.deposits)), self._thread)

    @cached_property
    def liabilities(self) -> SyncMintLiabilities:
        """As `Wallet.liabilities`, without `await`."""
        from specie.app.sync_parts import SyncMintLiabilities

        return SyncMintLiabilities(self._run(_made(lambda: self._wallet.liabilities)), self._thread)

    @classmethod
    def open(
        cls,
        name: str | Path = "default",
        *,
        words: str | None = None,
        sealed: SealSource | None = None,
        mint: str | None = None,
        create: bool = True,
        resume: bool = True,
        watch: bool = True,
        encrypt: bool | None = None,
        settings: WalletSettings | None = None,
        telemetry: Telemetry = NULL_TELEMETRY,
        clients: Callable[[str], MintClient] | None = None,
        clock: Clock | None = None,
        entropy: Entropy | None = None,
        home: Path | None = None,
        config_home: Path | None = None,
        private_payees: bool = False,
    ) -> SyncWallet:
        """As `Wallet.open`, at once. Close it, or use it in a `with`."""
        return cls(
            Wallet.open(
                name,
                words=words,
                sealed=sealed,
                mint=mint,
                create=create,
                resume=resume,
                watch=watch,
                encrypt=encrypt,
                settings=settings,
                telemetry=telemetry,
                clients=clients,
                clock=clock,
                entropy=entropy,
                home=home,
                config_home=config_home,
                private_payees=private_payees,
            )
        )

    def close(self) -> None:
        """As `Wallet.close`; ends the thread."""
        if self._thread.closed:
            return
        self._thread.run(self._wallet.close())
        self._thread.stop()

    def __enter__(self) -> SyncWallet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        """As `Wallet.directory`."""
        return self._wallet.directory

    @property
    def created(self) -> bool:
        """As `Wallet.created`."""
        return self._wallet.created

    @property
    def sealed(self) -> OpenedSeed:
        """As `Wallet.sealed`."""
        return self._wallet.sealed

    @property
    def encrypted(self) -> bool:
        """As `Wallet.encrypted`."""
        return self._wallet.encrypted

    @property
    def watched(self) -> tuple[WatchReport, ...]:
        """As `Wallet.watched`."""
        return self._wallet.watched

    @property
    def auth(self) -> WalletAuth:
        """As `Wallet.auth`."""
        return self._wallet.auth

    @property
    def vault(self) -> Vault:
        """As `Wallet.vault`."""
        return self._wallet.vault

    def words(self) -> str:
        """As `Wallet.words`."""
        return self._wallet.words()

    def backup(self, target: Path, *, passphrase: str | None = None) -> None:
        """As `Wallet.backup`."""
        self._thread.run(self._wallet.backup(target, passphrase=passphrase))

    def add_mint(self, url: str) -> MintView:
        """As `Wallet.add_mint`."""
        return self._thread.run(self._wallet.add_mint(url))

    def mints(self) -> list[MintView]:
        """As `Wallet.mints`."""
        return self._thread.run(self._wallet.mints())

    def balances(self) -> list[Balance]:
        """As `Wallet.balances`."""
        return self._thread.run(self._wallet.balances())

    def balance(self, *, unit: str = "sat", mint: str | None = None) -> Balance:
        """As `Wallet.balance`."""
        return self._thread.run(self._wallet.balance(unit=unit, mint=mint))

    def mint_quote(
        self,
        amount: int | None = None,
        *,
        mint: str | None = None,
        unit: str = "sat",
        description: str | None = None,
        method: str = "bolt11",
    ) -> WalletMintQuote:
        """As `Wallet.mint_quote`."""
        return self._thread.run(self._wallet.mint_quote(amount, mint=mint, unit=unit, description=description, method=method))

    def mint_quotes(self) -> list[WalletMintQuote]:
        """As `Wallet.mint_quotes`."""
        return self._thread.run(self._wallet.mint_quotes())

    def wait(self, quote: WalletMintQuote, *, timeout_s: float | None = None) -> WalletMintQuote:
        """As `Wallet.wait`."""
        return self._thread.run(self._wallet.wait(quote, timeout_s=timeout_s))

    def claim(self, quote: WalletMintQuote, *, amount: int | None = None, memo: str | None = None) -> int:
        """As `Wallet.claim`."""
        return self._thread.run(self._wallet.claim(quote, amount=amount, memo=memo))

    def claim_all(self, *, mint: str | None = None) -> dict[str, int]:
        """As `Wallet.claim_all`."""
        return self._thread.run(self._wallet.claim_all(mint=mint))

    def mint(self, amount: int, *, mint: str | None = None, unit: str = "sat", timeout_s: float | None = None) -> int:
        """As `Wallet.mint`."""
        return self._thread.run(self._wallet.mint(amount, mint=mint, unit=unit, timeout_s=timeout_s))

    def send(
        self,
        amount: int,
        *,
        mint: str | None = None,
        unit: str = "sat",
        lock: P2PK | HTLC | None = None,
        memo: str | None = None,
        include_dleq: bool = True,
        include_fee: bool = False,
        offline: bool = False,
    ) -> SentToken:
        """As `Wallet.send`."""
        return self._thread.run(
            self._wallet.send(
                amount,
                mint=mint,
                unit=unit,
                lock=lock,
                memo=memo,
                include_dleq=include_dleq,
                include_fee=include_fee,
                offline=offline,
            )
        )

    def receive(
        self,
        token: str,
        *,
        preimage: str | None = None,
        offline: bool = False,
        trust: bool = False,
        policy: OfflinePolicy | None = None,
    ) -> Receipt:
        """As `Wallet.receive`."""
        return self._thread.run(self._wallet.receive(token, preimage=preimage, offline=offline, trust=trust, policy=policy))

    def secure(self) -> int:
        """As `Wallet.secure`."""
        return self._thread.run(self._wallet.secure())

    def tokens(self, *, pending: bool = True) -> list[SentToken]:
        """As `Wallet.tokens`."""
        return self._thread.run(self._wallet.tokens(pending=pending))

    def reclaim(self, token: str) -> Receipt:
        """As `Wallet.reclaim`."""
        return self._thread.run(self._wallet.reclaim(token))

    def p2pk_key(self) -> str:
        """As `Wallet.p2pk_key`."""
        return self._thread.run(self._wallet.p2pk_key())

    def melt_quote(
        self,
        request: str,
        *,
        mint: str | None = None,
        unit: str = "sat",
        amount_msat: int | None = None,
        amount: int | None = None,
        method: str | None = None,
        fee_index: int | None = None,
        blocks: int | None = None,
    ) -> WalletMeltQuote:
        """As `Wallet.melt_quote`."""
        return self._thread.run(
            self._wallet.melt_quote(
                request,
                mint=mint,
                unit=unit,
                amount_msat=amount_msat,
                amount=amount,
                method=method,
                fee_index=fee_index,
                blocks=blocks,
            )
        )

    def melt_quotes(self) -> list[WalletMeltQuote]:
        """As `Wallet.melt_quotes`."""
        return self._thread.run(self._wallet.melt_quotes())

    def plan(self, invoice: str, *, mints: Sequence[str] = (), unit: str = "sat", max_fee: int | None = None) -> SplitPlan:
        """As `Wallet.plan`."""
        return self._thread.run(self._wallet.plan(invoice, mints=mints, unit=unit, max_fee=max_fee))

    def pay(
        self,
        request: str | WalletMeltQuote | SplitPlan,
        *,
        mint: str | None = None,
        unit: str = "sat",
        max_fee: int | None = None,
        amount_msat: int | None = None,
        amount: int | None = None,
        method: str | None = None,
        fee_index: int | None = None,
        blocks: int | None = None,
        split: bool | None = None,
        memo: str | None = None,
        wait_s: float | None = None,
    ) -> Payment:
        """As `Wallet.pay`."""
        return self._thread.run(
            self._wallet.pay(
                request,
                mint=mint,
                unit=unit,
                max_fee=max_fee,
                amount_msat=amount_msat,
                amount=amount,
                method=method,
                fee_index=fee_index,
                blocks=blocks,
                split=split,
                memo=memo,
                wait_s=wait_s,
            )
        )

    def split_payments(self) -> list[SplitPayment]:
        """As `Wallet.split_payments`."""
        return self._thread.run(self._wallet.split_payments())

    def split(self, amounts: Sequence[int], *, mint: str | None = None, unit: str = "sat") -> int:
        """As `Wallet.split`."""
        return self._thread.run(self._wallet.split(amounts, mint=mint, unit=unit))

    def consolidate(self, *, mint: str | None = None, unit: str = "sat") -> int:
        """As `Wallet.consolidate`."""
        return self._thread.run(self._wallet.consolidate(mint=mint, unit=unit))

    def rotate(self) -> int:
        """As `Wallet.rotate`."""
        return self._thread.run(self._wallet.rotate())

    def restore(self, mints: Sequence[str] = (), *, p2pk_keys: int = 100, progress: Progress | None = None) -> list[Restored]:
        """As `Wallet.restore`."""
        return self._thread.run(self._wallet.restore(mints, p2pk_keys=p2pk_keys, progress=progress))

    def resume(self, *, wait_s: float = 0.0) -> ResumeReport:
        """As `Wallet.resume`."""
        return self._thread.run(self._wallet.resume(wait_s=wait_s))

    def unfinished(self) -> bool:
        """As `Wallet.unfinished`."""
        return self._thread.run(self._wallet.unfinished())

    def check_pending(self, *, claim_paid: bool = True) -> CheckReport:
        """As `Wallet.check_pending`."""
        return self._thread.run(self._wallet.check_pending(claim_paid=claim_paid))

    def operations(self) -> list[Operation]:
        """As `Wallet.operations`."""
        return self._thread.run(self._wallet.operations())

    def history(self, *, limit: int = 50, before: str | None = None) -> list[HistoryEntry]:
        """As `Wallet.history`."""
        return self._thread.run(self._wallet.history(limit=limit, before=before))

    def find_mint_quote(self, invoice: str) -> WalletMintQuote:
        """As `Wallet.find_mint_quote`."""
        return self._thread.run(self._wallet.find_mint_quote(invoice))


async def _opened(opening: Opening) -> Wallet:
    return await opening


async def _made(make: Callable[[], T]) -> T:
    """A part of the wallet, made on its loop: two threads that ask for it at once get the same."""
    return make()
