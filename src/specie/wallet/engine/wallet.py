"""`Wallet`: the one entry to holding and spending ecash."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from specie.ecash.mint_url import mint_url_checked
from specie.kernel.errors import InvariantError, MalformedError, SpecieError, UnavailableError
from specie.kernel.money import unit_checked
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.wallet.engine import verbs
from specie.wallet.engine.parts import WalletParts
from specie.wallet.errors import InsufficientFundsError, MintUnknownError, QuoteUnknownError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from specie.kernel.clock import Clock
    from specie.kernel.entropy import Entropy
    from specie.keys.ports import Signer
    from specie.storage.ports import Storage
    from specie.wallet.engine.auth import WalletAuth
    from specie.wallet.engine.context import AdmitMint
    from specie.wallet.engine.pay import Payment
    from specie.wallet.engine.receive import Receipt
    from specie.wallet.engine.recover import CheckReport, ResumeReport
    from specie.wallet.engine.restore import Progress, Restored
    from specie.wallet.engine.split import SplitPlan
    from specie.wallet.history import HistoryEntry
    from specie.wallet.holding import (
        Balance,
        MintView,
        SentToken,
        SplitPayment,
        StoredProof,
        WalletMeltQuote,
        WalletMintQuote,
    )
    from specie.wallet.lock import HTLC, P2PK
    from specie.wallet.offline import OfflinePolicy
    from specie.wallet.operation import Operation
    from specie.wallet.ports import MintClients, Transports, WalletStore
    from specie.wallet.settings import WalletSettings

__all__ = ["Wallet"]

DEFAULT_UNIT = "sat"
_METHOD = "bolt11"


class Wallet(WalletParts):
    """A wallet over its ports: several mints, several units. Amounts are in the unit's minor unit.

    Verbs may run at the same time. Where `mint` is not given, the mint that fits is taken: of those with enough money the
    fullest, and for invoices the one added first. After a start, `resume` carries what a crash interrupted to its end.
    """

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
        transports: Transports | None = None,
        admit: AdmitMint | None = None,
        auth: WalletAuth | None = None,
    ) -> None:
        """Take the ports; the store's schema must be up to date.

        `transports`: how payments of requests travel. `admit` judges each mint before it is trusted. `auth` is that of the
        clients, if they have one.
        """
        from specie.wallet.engine.context import Context
        from specie.wallet.ports import Transports
        from specie.wallet.settings import WalletSettings

        self._auth = auth
        self._transports = transports or Transports()
        self._context = Context(
            storage=storage,
            store=store,
            signer=signer,
            clients=clients,
            clock=clock,
            entropy=entropy,
            telemetry=telemetry,
            settings=settings or WalletSettings(),
            admit=admit,
        )

    @property
    def auth(self) -> WalletAuth:
        """Logins and blind tokens for mints that ask who uses them (NUT-21, NUT-22)."""
        if self._auth is None:
            raise InvariantError("this wallet was made without authentication")
        return self._auth

    # mints

    async def add_mint(self, url: str) -> MintView:
        """Trust a mint: its keysets are fetched and verified. Adding it again refreshes them.

        MalformedError for what is no mint URL; KeysetCollisionError for a mint that announces another mint's keyset.
        """
        mint = mint_url_checked(url)
        await verbs.mints.add_mint(self._context, mint)
        return await self._view(mint)

    async def mints(self) -> list[MintView]:
        """The trusted mints, in the order they were added, as last seen; asks nobody."""
        records = await self._context.storage.read(self._context.store.mints)
        return [await self._view(record.url) for record in records]

    async def _view(self, mint: str) -> MintView:
        from specie.wallet.holding import MintView

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
        if not await verbs.mints.known_mint(self._context, mint):
            raise MintUnknownError(mint)
        return mint

    async def _mint_for_income(self, url: str | None, unit: str, method: str = _METHOD) -> str:
        """The named mint, else the first one with a keyset for the unit that announces the method.

        Where there are targets, those come first whose share lacks most; mints that are left are not taken.
        """
        if url is not None:
            known = await self._known(url)
            await verbs.seen.check_income(self._context, known)
            return known
        records = await self._context.storage.read(self._context.store.mints)
        gone = {one.mint for one in await self.exits.leaving()}
        urls = [record.url for record in records if record.url not in gone]
        if any(one.unit == unit for one in await self.targets.all()):
            urls = [*(one for one in await self.targets.preferred(unit=unit) if one in urls), *urls]
        for one in urls:
            if self._context.choose_keyset(await self._context.keysets(one), unit) is None:
                continue
            if method == _METHOD or verbs.methods.setting_of(await self._context.info(one), 4, method, unit) is not None:
                return one
        if method != _METHOD and records:
            verbs.methods.required(await self._context.info(records[0].url), 4, method, unit)
        raise MintUnknownError("(none)") if not records else MintUnknownError(f"(none for {unit})")

    async def _mint_for_spending(self, url: str | None, unit: str, amount: int) -> str:
        """The named mint, else the one with the most free money of the unit; InsufficientFundsError if that is too little."""
        return (await self._mints_for_spending(url, unit, amount))[0]

    async def _mints_for_spending(self, url: str | None, unit: str, amount: int) -> list[str]:
        """The named mint, else all that have `amount` of the unit free: those that are left, then the fullest, first."""
        from specie.wallet.selection import spendable

        if url is not None:
            return [await self._known(url)]
        free: dict[str, int] = defaultdict(int)
        known = await verbs.mints.known_mints(self._context)
        for stored in spendable(await self._proofs(unit=unit)):
            if stored.mint in known:
                free[stored.mint] += stored.proof.amount
        gone = {one.mint for one in await self.exits.leaving()}
        enough = sorted((mint for mint in free if free[mint] >= amount), key=lambda mint: (mint not in gone, -free[mint], mint))
        if not enough:
            raise InsufficientFundsError(amount, max(free.values(), default=0), unit)
        return enough

    async def _proofs(self, *, unit: str | None = None, mint: str | None = None) -> list[StoredProof]:
        return await self._context.storage.read(lambda tx: self._context.store.proofs(tx, mint=mint, unit=unit))

    # balance

    async def balances(self) -> list[Balance]:
        """What is held, one line for each mint and unit that has any."""
        return await self._context.storage.read(self._context.store.balances)

    async def balance(self, *, unit: str = DEFAULT_UNIT, mint: str | None = None) -> Balance:
        """What is held of a unit, at one mint or at all of them."""
        from specie.wallet.holding import Balance

        url = None if mint is None else mint_url_checked(mint)
        found = await self._context.storage.read(lambda tx: self._context.store.balances(tx, mint=url, unit=unit_checked(unit)))
        total = Balance(unit_checked(unit), url)
        for one in found:
            total = total.plus(one)
        return total

    # minting

    async def mint_quote(
        self,
        amount: int | None = None,
        *,
        mint: str | None = None,
        unit: str = DEFAULT_UNIT,
        description: str | None = None,
        method: str = _METHOD,
    ) -> WalletMintQuote:
        """Ask to be paid `amount`: show `request` to the payer, then `wait` and `claim`.

        `method` is `bolt11` (an invoice), `bolt12` (an offer, whose amount may be left open), `onchain` (an address; the amount
        is for the payer to see) or another that the mint announces. All but invoices can be paid many times: `wait` sees each
        deposit, and `claim_all` looks at all of them. The quote is locked to a FRESH key of ours where the mint can do that
        (NUT-20). UnsupportedError, AmountOutOfRangeError.
        """
        unit = unit_checked(unit)
        chosen = await self._mint_for_income(mint, unit, method)
        return await verbs.issue.request_mint_quote(self._context, chosen, unit, amount, description=description, method=method)

    async def mint_quotes(self) -> list[WalletMintQuote]:
        """All mint quotes, newest first, as last seen."""
        return await self._context.storage.read(self._context.store.mint_quotes)

    async def wait(self, quote: WalletMintQuote, *, timeout_s: float | None = None) -> WalletMintQuote:
        """Wait until something can be claimed; the quote as last seen, `claimable` 0 if nothing can after `timeout_s`."""
        return await verbs.issue.wait_for_payment(self._context, quote, timeout_s=timeout_s)

    async def claim(self, quote: WalletMintQuote, *, amount: int | None = None, memo: str | None = None) -> int:
        """Mint what the quote was paid, or `amount` of it; the amount. QuoteUnpaidError (20001) if there is not so much."""
        return await verbs.issue.claim(self._context, quote, amount=amount, memo=memo)

    async def claim_all(self, *, mint: str | None = None) -> dict[str, int]:
        """Mint all that was paid, at one mint or all, in batches where a mint takes them (NUT-29); the amounts by unit.

        Never raises for one quote or mint: what could not be had now is had the next time.
        """
        return await verbs.batch.claim_all(self._context, None if mint is None else mint_url_checked(mint))

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
        order = verbs.send.SendOrder(
            mint=await self._mint_for_spending(mint, unit, amount),
            unit=unit,
            amount=amount,
            lock=lock,
            memo=memo,
            include_dleq=include_dleq,
            include_fee=include_fee,
            offline=offline,
        )
        return await verbs.send.send(self._context, order)

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
        return await verbs.receive.receive(self._context, token, preimage=preimage, trust=trust)

    async def secure(self) -> int:
        """Swap everything that was received off-line; what has become ours for good, summed over units."""
        from specie.wallet.states import CoinState

        places = {(p.mint, p.unit) for p in await self._proofs() if p.unswapped and p.state is CoinState.UNSPENT}
        return sum([await verbs.receive.secure(self._context, mint, unit) for mint, unit in sorted(places)])

    async def tokens(self, *, pending: bool = True) -> list[SentToken]:
        """Tokens that were sent, oldest first: those not known to be redeemed, or all."""
        from specie.wallet.states import TokenState

        states = (TokenState.PENDING,) if pending else tuple(TokenState)
        return await self._context.storage.read(lambda tx: self._context.store.tokens(tx, states))

    async def reclaim(self, token: str) -> Receipt:
        """Take back a sent token, given by text or id. ProofsSpentError where it was redeemed."""
        return await verbs.receive.reclaim(self._context, token)

    async def p2pk_key(self) -> str:
        """A fresh public key (hex, 33 bytes) to which others may lock coins for this wallet."""
        return await verbs.locks.fresh_key(self._context)

    # paying

    async def melt_quote(
        self,
        request: str,
        *,
        mint: str | None = None,
        unit: str = DEFAULT_UNIT,
        amount_msat: int | None = None,
        amount: int | None = None,
        method: str | None = None,
        fee_index: int | None = None,
        blocks: int | None = None,
    ) -> WalletMeltQuote:
        """Ask what paying costs: a BOLT 11 invoice, a BOLT 12 offer, a bitcoin address, or a `bitcoin:` URI that names some.

        Of several ways the first that a mint of ours announces is taken, Lightning before on-chain, unless `method` says which;
        a method of no NUT has to be named. `amount` (in the unit) or `amount_msat` for what names no amount. On chain
        `fee_options` are what can be chosen from: `fee_index` or `blocks` (the cheapest that confirms within so many) choose,
        else the settings do.
        """
        unit = unit_checked(unit)
        ways = verbs.prices.asked_of(request, method=method, unit=unit, amount=amount, amount_msat=amount_msat)
        chosen, asked = await verbs.prices.choose_way(self._context, await self._mints_for_spending(mint, unit, 1), ways)
        return await verbs.prices.request_melt_quote(self._context, chosen, asked, fee_index=fee_index, blocks=blocks)

    async def melt_quotes(self) -> list[WalletMeltQuote]:
        """All melt quotes, newest first, as last seen."""
        return await self._context.storage.read(self._context.store.melt_quotes)

    async def plan(
        self, invoice: str, *, mints: Sequence[str] = (), unit: str = DEFAULT_UNIT, max_fee: int | None = None
    ) -> SplitPlan:
        """How several mints (of `mints`, or all) would pay an invoice together (NUT-15), priced by each; give it to `pay`.

        As few mints as possible. InsufficientFundsError where even all of them cannot, InvoicePaidError, OperationBusyError.
        """
        (asked,) = verbs.prices.asked_of(invoice, method=_METHOD, unit=unit_checked(unit))
        chosen = [await self._known(url) for url in mints]
        return await verbs.split.plan(self._context, asked.request, asked.unit, mints=chosen, max_fee=max_fee)

    async def pay(
        self,
        request: str | WalletMeltQuote | SplitPlan,
        *,
        mint: str | None = None,
        unit: str = DEFAULT_UNIT,
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
        """Pay what `melt_quote` takes, or a quote or plan that was asked for before, once.

        A `Payment` that is PAID, or PENDING after `wait_s`: its coins stay locked until `resume` knows the end, on chain for as
        long as confirmations take. `max_fee` bounds all that it may cost on top. `fee_index` or `blocks` (at most so many
        until it confirms) choose among the fees of a payment on chain. `split`: by several mints together if it must be
        (True), never (False), or (None) if no mint has enough alone. FeeExceedsLimitError, InsufficientFundsError before
        anything is sent; PaymentFailedError (20004) once it failed for good; OperationOpenError where the mint cannot be asked.
        """
        from specie.wallet.engine.split import SplitPlan
        from specie.wallet.holding import WalletMeltQuote

        wait = self._context.settings.payment_wait_s if wait_s is None else wait_s
        if isinstance(request, str) and split is not True:
            try:
                quote = await self.melt_quote(
                    request,
                    mint=mint,
                    unit=unit,
                    amount=amount,
                    amount_msat=amount_msat,
                    method=method,
                    fee_index=fee_index,
                    blocks=blocks,
                )
                return await self._pay_quote(quote, max_fee, memo, wait_s, None, None)
            except InsufficientFundsError as error:
                if split is False or mint is not None:
                    raise
                made = await self._plan_instead(request, unit, max_fee, error)
        elif isinstance(request, str):
            made = await self.plan(request, mints=() if mint is None else (mint,), unit=unit, max_fee=max_fee)
        elif isinstance(request, WalletMeltQuote):
            return await self._pay_quote(request, max_fee, memo, wait_s, fee_index, blocks)
        else:
            made = request
        if len(made.quotes) == 1:
            return await self._pay_quote(made.quotes[0], max_fee, memo, wait_s, fee_index, blocks)
        bound = made.most_fee if max_fee is None and isinstance(request, SplitPlan) else max_fee
        return await verbs.split.pay_plan(self._context, made, memo=memo, wait_s=wait, max_fee=max_fee, fee_bound=bound)

    async def _plan_instead(self, request: str, unit: str, max_fee: int | None, error: InsufficientFundsError) -> SplitPlan:
        """A plan for several mints where one alone has not enough; `error` where they cannot either."""
        try:
            return await self.plan(request, unit=unit, max_fee=max_fee)
        except (InsufficientFundsError, UnsupportedError, MalformedError):
            raise error from None

    async def _pay_quote(
        self,
        quote: WalletMeltQuote,
        max_fee: int | None,
        memo: str | None,
        wait_s: float | None,
        fee_index: int | None,
        blocks: int | None,
    ) -> Payment:
        """On chain nobody waits for confirmations unless told to."""
        patience = 0.0 if quote.fee_options else self._context.settings.payment_wait_s
        return await verbs.pay.pay(
            self._context,
            quote,
            max_fee=max_fee,
            memo=memo,
            wait_s=patience if wait_s is None else wait_s,
            fee_index=fee_index,
            blocks=blocks,
        )

    async def split_payments(self) -> list[SplitPayment]:
        """Payments by several mints, newest first: which part is where, and how it stands."""
        return await self._context.storage.read(self._context.store.split_payments)

    # housekeeping

    async def split(self, amounts: Sequence[int], *, mint: str | None = None, unit: str = DEFAULT_UNIT) -> int:
        """Swap for coins that make each of `amounts`; the fee paid."""
        unit = unit_checked(unit)
        chosen = await self._mint_for_spending(mint, unit, sum(amounts))
        return await verbs.reshape.split(self._context, chosen, unit, amounts)

    async def consolidate(self, *, mint: str | None = None, unit: str = DEFAULT_UNIT) -> int:
        """Swap all free coins of a mint for as few as possible; the fee paid."""
        unit = unit_checked(unit)
        return await verbs.reshape.consolidate(self._context, await self._mint_for_spending(mint, unit, 1), unit)

    async def rotate(self) -> int:
        """Move coins off keysets that are inactive or about to expire, at every mint that answers; how much was moved."""
        from specie.wallet.selection import spendable

        moved, known = 0, await verbs.mints.known_mints(self._context)
        for mint, unit in sorted({(p.mint, p.unit) for p in spendable(await self._proofs()) if p.mint in known}):
            try:
                moved += await verbs.reshape.rotate(self._context, mint, unit)
            except UnavailableError as error:
                self._context.telemetry.event("wallet_rotation_put_off", mint=mint, reason=error.detail)
        return moved

    async def restore(
        self, mints: Sequence[str] = (), *, p2pk_keys: int = 100, progress: Progress | None = None
    ) -> list[Restored]:
        """Bring back what the wallet's seed has at these mints (none given: at all known ones), which are added.

        The first `p2pk_keys` keys for locks are known again too, and quotes locked to our keys where a mint tells of them;
        `check_pending` claims what was paid of those, and `recovery` takes up others by their ids. Can be repeated at any
        time without harm.
        """
        urls = [mint_url_checked(url) for url in mints] or [view.url for view in await self.mints()]
        await verbs.restore.restore_keys(self._context, "p2pk", p2pk_keys)
        await verbs.restore.restore_keys(self._context, "quote", self._context.settings.key_gap)
        restored = [one for url in urls for one in await verbs.restore.restore_mint(self._context, url, progress)]
        for url in urls:
            try:
                await self.deposits.find(url)
            except UnsupportedError:
                continue
            except SpecieError as error:  # the coins are back; the next `deposits.find` looks again
                self._context.telemetry.event("wallet_deposits_not_found", mint=url, reason=error.detail)
        return restored

    async def resume(self, *, wait_s: float = 0.0) -> ResumeReport:
        """Carry interrupted operations to their end; call it after every start. Raises for none of them: read the report."""
        report = await verbs.recover.resume(self._context, wait_s=wait_s)
        await self.transfers.resume(wait_s=wait_s)
        await self.offline.settle_due()
        return report

    async def unfinished(self) -> bool:
        """Whether `resume` has something to do: open operations, transfers, or receipts to settle. Asks nobody."""
        if await verbs.due.is_unfinished(self._context):
            return True
        return await verbs.due.receives_offline(self._context) and await self.offline.is_due()

    async def check_pending(self, *, claim_paid: bool = True) -> CheckReport:
        """See which sent tokens were redeemed and which quotes were paid (and claim those)."""
        return await verbs.recover.check_pending(self._context, claim_paid=claim_paid)

    async def operations(self) -> list[Operation]:
        """Operations whose end is not known yet, oldest first."""
        from specie.wallet.states import OperationState

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
            if self._context.tallies:
                await verbs.seen.note_seen(self._context)
        finally:
            if "requests" in vars(self):
                await self.requests.close()
            await self._context.close()
            if self._auth is not None:
                await self._auth.close()
