"""`Wallet`: the one entry to holding and spending ecash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from specie.ecash.mint_url import mint_url_checked
from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.errors import MalformedError, UnavailableError
from specie.kernel.money import unit_checked
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys.ports import Signer
from specie.storage.ports import Storage
from specie.wallet.engine import issue, locks, mints, pay, receive, recover, reshape, restore, send
from specie.wallet.engine.context import Context
from specie.wallet.engine.exits import Exits, check_income
from specie.wallet.engine.offline import Offline
from specie.wallet.engine.pay import Payment
from specie.wallet.engine.receive import Receipt
from specie.wallet.engine.recover import CheckReport, ResumeReport
from specie.wallet.engine.restore import Progress, Restored
from specie.wallet.engine.targets import Targets
from specie.wallet.engine.transfer import Transfers
from specie.wallet.errors import InsufficientFundsError, MintUnknownError, QuoteUnknownError
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import (
    Balance,
    MintView,
    SentToken,
    StoredProof,
    WalletMeltQuote,
    WalletMintQuote,
)
from specie.wallet.lock import HTLC, P2PK
from specie.wallet.offline import OfflinePolicy
from specie.wallet.operation import Operation
from specie.wallet.ports import MintClients, WalletStore
from specie.wallet.selection import spendable
from specie.wallet.settings import WalletSettings
from specie.wallet.states import CoinState, OperationState, TokenState

__all__ = ["Wallet"]

DEFAULT_UNIT = "sat"
_METHOD = "bolt11"


class Wallet:
    """A wallet over its ports: several mints, several units. Amounts are in the unit's minor unit.

    Verbs may run at the same time. Where `mint` is not given, the mint that fits is taken: of those with enough money the
    fullest, and for invoices the one added first. After a start, `resume` carries what a crash interrupted to its end.

    Attributes:
        transfers: money from mint to mint.
        targets: what each mint should hold.
        exits: mints that are left, and their health.
        offline: what is taken without asking a mint.
    """

    transfers: Transfers
    targets: Targets
    exits: Exits
    offline: Offline

    def __init__(
        self,
        *,
        storage: Storage,
        store: WalletStore,
        signer: Signer,
        clients: MintClients,
        clock: Clock,
        entropy: Entropy,
        telemetry: Telemetry = NULL_TELEMETRY,
        settings: WalletSettings | None = None,
    ) -> None:
        """Take the ports; the store's schema must be up to date."""
        self._context = Context(
            storage=storage,
            store=store,
            signer=signer,
            clients=clients,
            clock=clock,
            entropy=entropy,
            telemetry=telemetry,
            settings=settings or WalletSettings(),
        )
        self.transfers = Transfers(self._context)
        self.targets = Targets(self._context, self.transfers)
        self.exits = Exits(self._context, self.transfers, self.targets)
        self.offline = Offline(self._context)

    # mints

    async def add_mint(self, url: str) -> MintView:
        """Trust a mint: its keysets are fetched and verified. Adding it again refreshes them.

        MalformedError for what is no mint URL; KeysetCollisionError for a mint that announces another mint's keyset.
        """
        mint = mint_url_checked(url)
        await mints.add_mint(self._context, mint)
        return await self._view(mint)

    async def mints(self) -> list[MintView]:
        """The trusted mints, in the order they were added, as last seen; asks nobody."""
        records = await self._context.storage.read(self._context.store.mints)
        return [await self._view(record.url) for record in records]

    async def _view(self, mint: str) -> MintView:
        record = await self._context.mint_record(mint)
        return MintView(
            url=mint,
            info=await self._context.info(mint),
            keysets=tuple(await self._context.keysets(mint)),
            added_at=record.added_at,
            refreshed_at=record.refreshed_at,
        )

    async def _known(self, url: str) -> str:
        mint = mint_url_checked(url)
        if not await mints.known_mint(self._context, mint):
            raise MintUnknownError(mint)
        return mint

    async def _mint_for_income(self, url: str | None, unit: str) -> str:
        """The named mint, else the first one with a keyset for the unit, or where there are targets whose share lacks most."""
        if url is not None:
            known = await self._known(url)
            await check_income(self._context, known)
            return known
        records = await self._context.storage.read(self._context.store.mints)
        gone = {one.mint for one in await self.exits.leaving()}
        urls = [record.url for record in records if record.url not in gone]
        if any(one.unit == unit for one in await self.targets.all()):
            urls = [*(one for one in await self.targets.preferred(unit=unit) if one in urls), *urls]
        for one in urls:
            if self._context.choose_keyset(await self._context.keysets(one), unit) is not None:
                return one
        raise MintUnknownError("(none)") if not records else MintUnknownError(f"(none for {unit})")

    async def _mint_for_spending(self, url: str | None, unit: str, amount: int) -> str:
        """The named mint, else the one with the most free money of the unit; InsufficientFundsError if that is too little."""
        if url is not None:
            return await self._known(url)
        free: dict[str, int] = defaultdict(int)
        for stored in spendable(await self._proofs(unit=unit)):
            free[stored.mint] += stored.proof.amount
        if not free:
            raise InsufficientFundsError(amount, 0, unit)
        gone = {one.mint for one in await self.exits.leaving()}
        best = max(sorted(free), key=lambda mint: (mint in gone and free[mint] >= amount, free[mint]))
        if free[best] < amount:
            raise InsufficientFundsError(amount, free[best], unit)
        return best

    async def _proofs(self, *, unit: str | None = None, mint: str | None = None) -> list[StoredProof]:
        return await self._context.storage.read(lambda tx: self._context.store.proofs(tx, mint=mint, unit=unit))

    # balance

    async def balances(self) -> list[Balance]:
        """What is held, one line for each mint and unit that has any."""
        found: dict[tuple[str, str], Balance] = {}
        for stored in await self._proofs():
            key = (stored.mint, stored.unit)
            found[key] = _with(found.get(key, Balance(stored.unit, stored.mint)), stored)
        return [found[key] for key in sorted(found)]

    async def balance(self, *, unit: str = DEFAULT_UNIT, mint: str | None = None) -> Balance:
        """What is held of a unit, at one mint or at all of them."""
        url = None if mint is None else mint_url_checked(mint)
        total = Balance(unit_checked(unit), url)
        for stored in await self._proofs(unit=total.unit, mint=url):
            total = _with(total, stored)
        return total

    # minting

    async def mint_quote(
        self, amount: int, *, mint: str | None = None, unit: str = DEFAULT_UNIT, description: str | None = None
    ) -> WalletMintQuote:
        """Ask to be paid `amount`: show `request` (a BOLT 11 invoice) to the payer, then `wait` and `claim`.

        The quote is locked to a key of ours where the mint can do that (NUT-20).
        """
        unit = unit_checked(unit)
        chosen = await self._mint_for_income(mint, unit)
        return await issue.request_mint_quote(self._context, chosen, unit, amount, description=description, method=_METHOD)

    async def mint_quotes(self) -> list[WalletMintQuote]:
        """All mint quotes, newest first, as last seen."""
        return await self._context.storage.read(self._context.store.mint_quotes)

    async def wait(self, quote: WalletMintQuote, *, timeout_s: float | None = None) -> WalletMintQuote:
        """Wait until the quote is paid; the quote as last seen, `claimable` 0 if it is not paid after `timeout_s`."""
        return await issue.wait_for_payment(self._context, quote, timeout_s=timeout_s)

    async def claim(self, quote: WalletMintQuote, *, memo: str | None = None) -> int:
        """Mint what the quote was paid; the amount. QuoteUnpaidError (20001) if nothing is to be claimed."""
        return await issue.claim(self._context, quote, memo=memo)

    async def mint(
        self, amount: int, *, mint: str | None = None, unit: str = DEFAULT_UNIT, timeout_s: float | None = None
    ) -> int:
        """`mint_quote`, `wait` and `claim` in one, for payers that pay by themselves. QuoteUnpaidError after `timeout_s`."""
        quote = await self.mint_quote(amount, mint=mint, unit=unit)
        return await self.claim(await self.wait(quote, timeout_s=timeout_s))

    # sending and receiving

    async def send(
        self,
        amount: int,
        *,
        mint: str | None = None,
        unit: str = DEFAULT_UNIT,
        lock: P2PK | HTLC | None = None,
        memo: str | None = None,
        include_dleq: bool = True,
        include_fee: bool = False,
        offline: bool = False,
    ) -> SentToken:
        """Make a token of `amount`; its `text` is money. It is on record as sent and can be reclaimed until redeemed.

        `lock` restricts who can spend it; `include_fee` adds what the receiver's swap will cost; `offline` asks nobody and
        works only where coins make the amount exactly. InsufficientFundsError, UnsupportedError for locks the mint does
        not enforce; OperationOpenError where the mint's answer was lost and could not be had again yet.
        """
        unit = unit_checked(unit)
        if amount <= 0:
            raise MalformedError("an amount to send must be positive")
        order = send.SendOrder(
            mint=await self._mint_for_spending(mint, unit, amount),
            unit=unit,
            amount=amount,
            lock=lock,
            memo=memo,
            include_dleq=include_dleq,
            include_fee=include_fee,
            offline=offline,
        )
        return await send.send(self._context, order)

    async def receive(
        self,
        token: str,
        *,
        preimage: str | None = None,
        offline: bool = False,
        trust: bool = False,
        policy: OfflinePolicy | None = None,
    ) -> Receipt:
        """Redeem a token: swap its coins for our own, opening locks with our keys and `preimage` (hex).

        MintUntrustedError for a mint that was not added, unless `trust` adds it now. `offline` keeps the coins unswapped
        and insists on a DLEQ proof on each; so does a `policy`, which also bounds what is taken (OfflineRefusedError), and
        without one that which `offline.use` has set. ProofsSpentError (11001) where it was redeemed before;
        FeeExceedsValueError, TokenLockedError; MintLeavingError where the token's mint is being left.
        """
        if offline or policy is not None:
            return await self.offline.receive(token, preimage=preimage, policy=policy)
        return await receive.receive(self._context, token, preimage=preimage, trust=trust)

    async def secure(self) -> int:
        """Swap everything that was received off-line; what has become ours for good, summed over units."""
        places = {(p.mint, p.unit) for p in await self._proofs() if p.unswapped and p.state is CoinState.UNSPENT}
        return sum([await receive.secure(self._context, mint, unit) for mint, unit in sorted(places)])

    async def tokens(self, *, pending: bool = True) -> list[SentToken]:
        """Tokens that were sent, oldest first: those not known to be redeemed, or all."""
        states = (TokenState.PENDING,) if pending else tuple(TokenState)
        return await self._context.storage.read(lambda tx: self._context.store.tokens(tx, states))

    async def reclaim(self, token: str) -> Receipt:
        """Take back a sent token, given by text or id. ProofsSpentError where it was redeemed."""
        return await receive.reclaim(self._context, token)

    async def p2pk_key(self) -> str:
        """A fresh public key (hex, 33 bytes) to which others may lock coins for this wallet."""
        return await locks.fresh_key(self._context)

    # paying

    async def melt_quote(
        self, invoice: str, *, mint: str | None = None, unit: str = DEFAULT_UNIT, amount_msat: int | None = None
    ) -> WalletMeltQuote:
        """Ask what paying a BOLT 11 invoice costs; `amount_msat` for an invoice that names no amount."""
        unit = unit_checked(unit)
        chosen = await self._mint_for_spending(mint, unit, 1)
        return await pay.request_melt_quote(self._context, chosen, unit, invoice, amount_msat=amount_msat, method=_METHOD)

    async def melt_quotes(self) -> list[WalletMeltQuote]:
        """All melt quotes, newest first, as last seen."""
        return await self._context.storage.read(self._context.store.melt_quotes)

    async def pay(
        self,
        invoice: str | WalletMeltQuote,
        *,
        mint: str | None = None,
        unit: str = DEFAULT_UNIT,
        max_fee: int | None = None,
        amount_msat: int | None = None,
        memo: str | None = None,
        wait_s: float | None = None,
    ) -> Payment:
        """Pay an invoice, or a quote that was asked for before, once.

        A `Payment` that is PAID, or PENDING after `wait_s`: its coins stay locked until `resume` knows the end. `max_fee`
        bounds all that it may cost on top. FeeExceedsLimitError, InsufficientFundsError before anything is sent;
        PaymentFailedError (20004) once it failed for good; OperationOpenError where the mint cannot be asked.
        """
        quote = (
            invoice
            if isinstance(invoice, WalletMeltQuote)
            else await self.melt_quote(invoice, mint=mint, unit=unit, amount_msat=amount_msat)
        )
        wait = self._context.settings.payment_wait_s if wait_s is None else wait_s
        return await pay.pay(self._context, quote, max_fee=max_fee, memo=memo, wait_s=wait)

    # housekeeping

    async def split(self, amounts: Sequence[int], *, mint: str | None = None, unit: str = DEFAULT_UNIT) -> int:
        """Swap for coins that make each of `amounts`; the fee paid."""
        unit = unit_checked(unit)
        chosen = await self._mint_for_spending(mint, unit, sum(amounts))
        return await reshape.split(self._context, chosen, unit, amounts)

    async def consolidate(self, *, mint: str | None = None, unit: str = DEFAULT_UNIT) -> int:
        """Swap all free coins of a mint for as few as possible; the fee paid."""
        unit = unit_checked(unit)
        return await reshape.consolidate(self._context, await self._mint_for_spending(mint, unit, 1), unit)

    async def rotate(self) -> int:
        """Move coins off keysets that are inactive or about to expire, at every mint that answers; how much was moved."""
        moved = 0
        for mint, unit in sorted({(p.mint, p.unit) for p in spendable(await self._proofs())}):
            try:
                moved += await reshape.rotate(self._context, mint, unit)
            except UnavailableError as error:
                self._context.telemetry.event("wallet_rotation_put_off", mint=mint, reason=error.detail)
        return moved

    async def restore(
        self, mints: Sequence[str] = (), *, p2pk_keys: int = 100, progress: Progress | None = None
    ) -> list[Restored]:
        """Bring back what the wallet's seed has at these mints (none given: at all known ones), which are added.

        The first `p2pk_keys` keys for locks are known again too. Can be repeated at any time without harm.
        """
        urls = [mint_url_checked(url) for url in mints] or [view.url for view in await self.mints()]
        await restore.restore_p2pk_keys(self._context, p2pk_keys)
        return [one for url in urls for one in await restore.restore_mint(self._context, url, progress)]

    async def resume(self, *, wait_s: float = 0.0) -> ResumeReport:
        """Carry interrupted operations to their end; call it after every start. Raises for none of them: read the report."""
        report = await recover.resume(self._context, wait_s=wait_s)
        await self.transfers.resume(wait_s=wait_s)
        await self.offline.settle_due()
        return report

    async def unfinished(self) -> bool:
        """Whether `resume` has something to do: open operations, transfers, or receipts to settle. Asks nobody."""
        return bool(await self.operations() or await self.transfers.entries() or await self.offline.is_due())

    async def check_pending(self, *, claim_paid: bool = True) -> CheckReport:
        """See which sent tokens were redeemed and which quotes were paid (and claim those)."""
        return await recover.check_pending(self._context, claim_paid=claim_paid)

    async def operations(self) -> list[Operation]:
        """Operations whose end is not known yet, oldest first."""
        return await self._context.storage.read(lambda tx: self._context.store.operations(tx, (OperationState.OPEN,)))

    async def history(self, *, limit: int = 50, before: str | None = None) -> list[HistoryEntry]:
        """What happened, newest first; `before` is the id of the last entry of the page before."""
        return await self._context.storage.read(lambda tx: self._context.store.history(tx, before=before, limit=limit))

    async def find_mint_quote(self, invoice: str) -> WalletMintQuote:
        """The quote of an invoice we showed; QuoteUnknownError."""
        wanted = invoice.strip().lower()
        for quote in await self.mint_quotes():
            if quote.request.lower() == wanted:
                return quote
        raise QuoteUnknownError("the wallet has no quote of this invoice")

    async def close(self) -> None:
        """Let go of the mints' clients; storage and signer belong to whoever made them."""
        try:
            await self.exits.note()
        finally:
            await self._context.close()


def _with(balance: Balance, stored: StoredProof) -> Balance:
    amount = stored.proof.amount
    match stored.state:
        case CoinState.UNSPENT if stored.unswapped:
            return replace(balance, unswapped=balance.unswapped + amount)
        case CoinState.UNSPENT:
            return replace(balance, available=balance.available + amount)
        case CoinState.PENDING if stored.token is not None:
            return replace(balance, sent=balance.sent + amount)
        case CoinState.RESERVED | CoinState.PENDING:
            return replace(balance, reserved=balance.reserved + amount)
        case CoinState.SPENT:
            return balance
