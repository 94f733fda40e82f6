"""`Mint`: the one entry to issuing, swapping, melting and restoring ecash."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, fields
from typing import Any

from specie.audit import AuditLog
from specie.ecash import (
    BlindedMessage,
    BlindSignature,
    Contact,
    Keyset,
    MeltQuote,
    MeltQuoteRequest,
    MeltRequest,
    MeltState,
    MintBatchRequest,
    MintInfo,
    MintQuote,
    MintQuoteRequest,
    MintRequest,
    ProofState,
    QuoteLookup,
    QuotePage,
    SwapRequest,
)
from specie.ecash.codes import (
    PaymentFailedError,
)
from specie.kernel import (
    NULL_TELEMETRY,
    Clock,
    Entropy,
    InvariantError,
    Rail,
    RailHealth,
    SpecieError,
    Telemetry,
    UnavailableError,
    UncertainError,
)
from specie.kernel.money import sat_ceil_from_msat
from specie.keys import SOFTWARE, Signer
from specie.ledger import Books, Ledger
from specie.mint.engine import batch, issue, lookup, melt, recover, restore, swap
from specie.mint.engine.auth import Auth
from specie.mint.engine.catalogue import Catalogue, MakeKeys
from specie.mint.engine.context import CHANGES, Context
from specie.mint.engine.large_reads import LargeReads
from specie.mint.engine.liabilities import Liabilities
from specie.mint.engine.prune import Pruning
from specie.mint.ports import LiabilityStore, MintStore
from specie.mint.prune_ports import PruneStore
from specie.mint.quotes import MeltRecord, MintRecord
from specie.mint.settings import MintSettings
from specie.storage import Storage, Transaction

__all__ = ["Change", "Mint"]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
"""Before background work that failed is begun again."""
_BOOKS_EVERY_S = 60.0
"""Between two looks at whether the books balance."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something subscribers may wait for: `kind` is mint_quote, melt_quote or proof_state, `key` its id or Y in hex."""

    kind: str
    key: str


class Mint:
    """A Cashu mint over its ports. `start` before use, `close` after; any number of processes may share one store.

    `exclusive` says that no other process runs on this store, so that payments a crash left behind are taken up at once.
    With `auth`, `storage` must be `auth.storage`. With `audit`, new keysets are recorded as they are made.
    """

    def __init__(
        self,
        *,
        settings: MintSettings,
        storage: Storage,
        store: MintStore,
        ledger: Ledger,
        signer: Signer,
        rails: Sequence[Rail],
        clock: Clock,
        entropy: Entropy,
        telemetry: Telemetry = NULL_TELEMETRY,
        version: str = "specie",
        exclusive: bool = True,
        liability_store: LiabilityStore | None = None,
        prune_store: PruneStore | None = None,
        auth: Auth | None = None,
        make_keys: MakeKeys | None = None,
        audit: AuditLog | None = None,
    ) -> None:
        self.auth = auth
        """Who may use the mint; None where everybody may."""
        self._context = Context(
            settings=settings,
            storage=storage,
            store=store,
            ledger=ledger,
            signer=signer,
            rails=tuple(rails),
            clock=clock,
            entropy=entropy,
            telemetry=telemetry,
            catalogue=Catalogue(storage, store, signer, clock, telemetry, audit, make_keys),
            large_reads=LargeReads(storage, clock),
            owner=entropy.bytes(8).hex(),
            paged=set(),
            exclusive=exclusive,
        )
        self._version = version
        self._pubkey = b""
        self._liability_store = liability_store
        self.liabilities: Liabilities | None = None
        """Epochs and proofs of what is owed, once started; None unless that is switched on."""
        self.pruning = None if prune_store is None else Pruning(self._context, prune_store)
        """Space of expired keysets; None without a store that can drop rows."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._paying: dict[str, asyncio.Task[MeltRecord]] = {}
        self._stopped: dict[str, str] = {}

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self, *, serve: bool = True) -> None:
        """Load or make keysets, check the books, take up what a crash left behind, and start the background work.

        Without `serve` nothing moves: for an operator who looks at a bank that does not run.
        """
        context = self._context
        if not context.signer.capabilities().bdhke:
            raise InvariantError("the signer cannot sign ecash")
        self._pubkey = await context.signer.public_key("mint")
        if context.settings.liabilities:
            if self._liability_store is None:
                raise InvariantError("liabilities are to be proved, and there is no store for them")
            self.liabilities = Liabilities(context, self._liability_store, self._pubkey)
        if self.auth is not None:
            await self.auth.start(serve=serve)
        await self._check_books()
        if not serve:
            await context.catalogue.load()
            return
        for unit in context.settings.units:
            await context.catalogue.ensure(
                unit, version=context.settings.keyset_version, input_fee_ppk=context.settings.input_fee_ppk
            )
        await recover.reconcile_all(context)
        self._spawn(self._reconcile_forever)
        self._spawn(functools.partial(recover.follow_keysets, context))
        for rail in context.rails:
            self._spawn(functools.partial(recover.follow_arrivals, context, rail))
        if self.liabilities is not None:
            self._spawn(self.liabilities.follow)

    async def close(self) -> None:
        """Stop the background work and wait for payments being ordered; those without an end stay PENDING."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        paying = list(self._paying.values())
        if paying:
            await asyncio.wait(paying, timeout=self._context.settings.pay_deadline_s)
        for payment in paying:
            payment.cancel()
        await asyncio.gather(*paying, return_exceptions=True)

    def _spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(self._supervised(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _supervised(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Background work that ends by an error is reported, and begun again after a pause that grows."""
        clock, pause_s = self._context.clock, _FIRST_PAUSE_S
        while True:
            begun = clock.monotonic()
            try:
                await work()
                return
            except (UnavailableError, UncertainError) as error:
                self._context.telemetry.event("background_interrupted", reason=error.detail)
            except Exception as error:
                self._context.telemetry.page("background work of the mint ended", error=repr(error))
            if clock.monotonic() - begun > _LONGEST_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            await clock.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _check_books(self) -> None:
        """Books that do not balance stop every verb that moves money; a look at the running balances only."""
        books = await self.books()
        try:
            books.check()
        except InvariantError as error:
            for verb in ("swap", "mint", "melt"):
                self.stop_verb(verb, error.detail)

    async def _reconcile_forever(self) -> None:
        looked = self._context.clock.monotonic()
        while True:
            await self._context.clock.sleep(self._context.settings.reconcile_every_s)
            try:
                await self.reconcile()
                if self._context.clock.monotonic() - looked >= _BOOKS_EVERY_S:
                    looked = self._context.clock.monotonic()
                    await self._check_books()
                if not self._context.exclusive:  # a notice of a rotation can be missed while a connection is renewed
                    await self._context.catalogue.load()
            except SpecieError as error:
                self._context.telemetry.event("reconcile_failed", reason=error.detail)

    # -- what anyone may ask ------------------------------------------------------------------------------------------

    def info(self) -> MintInfo:
        """NUT-06: what is announced is what is on."""
        settings = self._context.settings
        pairs = [(rail, unit) for rail in self._context.rails for unit in settings.units]
        methods = sorted({rail.method for rail, _ in pairs})
        parts = [{"method": rail.method, "unit": unit} for rail, unit in pairs if rail.terms.partial]
        paths = ["/v1/swap", *(path.format(method) for method in methods for path in ("/v1/mint/{}", "/v1/mint/{}/batch"))]
        at_once = sorted({rail.method for rail in self._context.rails if not rail.terms.asynchronous})
        paths += [f"/v1/melt/{method}" for method in at_once]  # a slow payment is answered as it stands, so not the same again
        cached = [{"method": "POST", "path": path} for path in paths]
        drafts: dict[str, object] = {}
        if settings.liabilities:
            drafts["388"] = {"supported": True, "draft": True, "epoch_s": settings.liabilities_every_s}
        if settings.quote_lookup:
            drafts[lookup.DRAFT_KEY] = lookup.announced(settings.limits)
        supported = {"supported": True}
        without = [keyset.id for keyset in self.keysets() if self.keyset_home(keyset.id) != SOFTWARE]
        proven = self._context.signer.capabilities().dleq and not any(self._shows_active(keyset_id) for keyset_id in without)
        return MintInfo(
            name=settings.name,
            pubkey=self._pubkey.hex() or None,
            version=self._version,
            description=settings.description or None,
            description_long=settings.description_long or None,
            contact=tuple(Contact(method=method, info=info) for method, info in settings.contact),
            motd=settings.motd or None,
            icon_url=settings.icon_url or None,
            urls=settings.urls,
            time=self._context.clock.now(),
            tos_url=settings.tos_url or None,
            max_array_length=settings.limits.array_length,
            nuts={
                "4": {"methods": [_incoming(settings, rail, unit) for rail, unit in pairs], "disabled": not settings.minting},
                "5": {"methods": [_outgoing(settings, rail, unit) for rail, unit in pairs], "disabled": not settings.melting},
                "7": supported,
                **({"8": supported} if settings.melting else {}),
                "9": supported,
                "10": supported,
                "11": supported,
                "12": {"supported": proven, **({"keysets_without": without} if without else {})},
                "14": supported,
                **({"15": {"methods": parts}} if parts and settings.melting else {}),
                "17": {"supported": [_news(rail, unit) for rail, unit in pairs]},
                "19": {"ttl": None, "cached_endpoints": cached},
                "20": supported,
                "29": {"max_batch_size": settings.limits.batch_quotes, "methods": methods},
                **({} if self.auth is None else self.auth.nuts()),
            }
            | drafts,
        )

    def _shows_active(self, keyset_id: str) -> bool:
        return self._context.catalogue.shown(keyset_id).active

    def keysets(self) -> list[Keyset]:
        """Every keyset with its keys, oldest first within its unit (NUT-01, NUT-02)."""
        return self._context.catalogue.all()

    def keyset(self, keyset_id: str) -> Keyset:
        """One keyset by its full id, active or not; KeysetUnknownError."""
        return self._context.catalogue.shown(keyset_id)

    async def check_state(self, ys: Sequence[bytes]) -> list[ProofState]:
        """State of coins by their Y, in request order (NUT-07)."""
        return await restore.check_state(self._context, ys)

    async def restore(self, outputs: Sequence[BlindedMessage]) -> list[tuple[BlindedMessage, BlindSignature]]:
        """The outputs that were ever signed, with their signatures (NUT-09)."""
        return await restore.restore(self._context, outputs)

    async def changes(self) -> AsyncIterator[Change]:
        """What changes from now on, in this and every other process on the store (NUT-17)."""
        async for line in self._context.storage.listen(CHANGES):
            kind, _, keys = line.partition(":")
            for key in keys.split(","):
                yield Change(kind, key)

    # -- verbs --------------------------------------------------------------------------------------------------------

    async def request_mint_quote(self, request: MintQuoteRequest) -> MintQuote:
        """An invoice for ecash (NUT-04, NUT-23)."""
        self._running("mint")
        return await issue.request_mint_quote(self._context, request)

    async def mint_quote(self, quote_id: str, method: str) -> MintQuote:
        """A mint quote as it stands now."""
        return await issue.mint_quote(self._context, quote_id, method)

    async def find_mint_quotes(self, request: QuoteLookup) -> QuotePage:
        """Quotes locked to keys whose owner signs (draft); RefusedError where that is not switched on."""
        return await lookup.find_mint_quotes(self._context, request, self._pubkey)

    async def issue(self, request: MintRequest) -> list[BlindSignature]:
        """Ecash for a paid quote (NUT-04, NUT-20); the same request again gets the same answer."""
        self._running("mint")
        with self._watched("mint"):
            return await issue.issue(self._context, request)

    async def check_mint_quotes(self, quotes: Sequence[str], method: str) -> list[MintQuote]:
        """Several mint quotes as they stand now, in request order; all, or RefusedError (NUT-29)."""
        return await batch.check_mint_quotes(self._context, quotes, method)

    async def issue_batch(self, request: MintBatchRequest) -> list[BlindSignature]:
        """Ecash for several paid quotes, all or nothing (NUT-29); the same request again gets the same answer."""
        self._running("mint")
        with self._watched("mint"):
            return await batch.issue_batch(self._context, request)

    async def swap(self, request: SwapRequest) -> list[BlindSignature]:
        """Coins for coins (NUT-03); the same request again gets the same answer."""
        self._running("swap")
        with self._watched("swap"):
            return await swap.swap(self._context, request)

    async def request_melt_quote(self, request: MeltQuoteRequest) -> MeltQuote:
        """What a payment would cost (NUT-05, NUT-23)."""
        self._running("melt")
        return await melt.request_melt_quote(self._context, request)

    async def melt_quote(self, quote_id: str, method: str) -> MeltQuote:
        """A melt quote as it stands now, with its change once paid (NUT-08)."""
        return await melt.melt_quote(self._context, quote_id, method)

    async def melt(self, request: MeltRequest) -> MeltQuote:
        """Have an invoice, offer or address paid for coins (NUT-05, NUT-08, NUT-25, NUT-30).

        Waits for the payment, or answers PENDING at once with `prefer_async` and where the method is always so.
        PaymentFailedError once it failed for good and the coins are free again. The same request again gets the same
        answer and never a second payment. UncertainError where the payment is in flight and its end cannot be told now; any
        other error: nothing happened.
        """
        self._running("melt")
        with self._watched("melt"):
            record = await melt.begin(self._context, request)
            task = self._paying.get(record.quote)
            if record.state is MeltState.PENDING and record.owner == self._context.owner:
                task = asyncio.get_running_loop().create_task(self._pay(record))
                self._paying[record.quote] = task
                task.add_done_callback(functools.partial(self._paid, record.quote))
            try:
                if task is not None and not (request.prefer_async or self._context.rail(record.rail).terms.asynchronous):
                    await asyncio.shield(task)
                return await melt.public_quote(self._context, record.quote)
            except (PaymentFailedError, InvariantError):
                raise
            except SpecieError as error:  # "unavailable" would say that nothing happened
                raise UncertainError(error.detail, reference=record.quote) from error

    async def _pay(self, record: MeltRecord) -> MeltRecord:
        """Order and settle, renewing the lease while the rail takes its time."""
        async with melt.held(self._context, record):
            outcome = await melt.order(self._context, record)
        return await melt.settle(self._context, record, outcome)

    def _paid(self, quote: str, task: asyncio.Task[MeltRecord]) -> None:
        """A payment ended: its error is the caller's, if one waits; what is not a plain failure is told."""
        if self._paying.get(quote) is task:  # the next attempt may have begun before this one's end was told
            del self._paying[quote]
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, PaymentFailedError):
            self._context.telemetry.page("settling a payment failed; it stays PENDING", quote=quote, error=repr(error))

    def _running(self, verb: str) -> None:
        """A verb that broke an invariant stays stopped until an operator has looked."""
        if verb in self._stopped:
            raise InvariantError(f"{verb} is stopped: {self._stopped[verb]}")

    def _watched(self, verb: str) -> _Watch:
        return _Watch(self, verb)

    def stop_verb(self, verb: str, reason: str) -> None:
        """Refuse a verb (swap, mint, melt) from now on and page someone: the books do not balance."""
        self._stopped[verb] = reason
        self._context.telemetry.page(f"{verb} is stopped", reason=reason)

    # -- settings -----------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> MintSettings:
        """What holds for the next quote."""
        return self._context.settings

    def adopt(self, settings: MintSettings) -> None:
        """Go on under other settings; quotes that were made keep their terms.

        InvariantError for a change of what is taken at the start alone (units, keysets, liabilities, limits, auth).
        """
        for item in fields(MintSettings):
            if not item.metadata.get("live") and getattr(settings, item.name) != getattr(self._context.settings, item.name):
                raise InvariantError(f"mint.{item.name} cannot change while the mint runs")
        self._context.settings = settings

    # -- operator -----------------------------------------------------------------------------------------------------

    async def rotate_keyset(
        self, unit: str, *, input_fee_ppk: int | None = None, final_expiry: int | None = None, home: str | None = None
    ) -> Keyset:
        """A new active keyset for a unit; the old ones stay spendable. Fee: that of the settings unless given.

        Its keys live in `home`, a provider's name; where those of the active one do, unless given.
        """
        settings = self._context.settings
        self._context.rail_for(self._context.rails[0].method, unit)
        fee = settings.input_fee_ppk if input_fee_ppk is None else input_fee_ppk
        return await self._context.catalogue.rotate(
            unit,
            version=settings.keyset_version,
            input_fee_ppk=fee,
            final_expiry=final_expiry,
            configured_fee_ppk=settings.input_fee_ppk,
            home=home,
        )

    def keyset_home(self, keyset_id: str) -> str:
        """Where the keys of a keyset live, as `KeysetRef.home` says it; KeysetUnknownError."""
        return self._context.catalogue.get(keyset_id).ref.home

    async def recent_mint_quotes(self, limit: int = 20) -> list[MintRecord]:
        """Newest mint quotes first; their ids are secrets of their wallets."""
        return await self._context.storage.read(lambda tx: self._context.store.recent_mint_quotes(tx, limit))

    async def recent_melt_quotes(self, limit: int = 20) -> list[MeltRecord]:
        """Newest melt quotes first."""
        return await self._context.storage.read(lambda tx: self._context.store.recent_melt_quotes(tx, limit))

    async def pending_melts(self) -> list[MeltRecord]:
        """Payments in flight, oldest first."""
        return await self._context.storage.read(self._context.store.pending_melts)

    async def reconcile(self) -> int:
        """Look once at every payment in flight; how many came to an end."""
        return await recover.reconcile_all(self._context, busy=frozenset(self._paying))

    async def rail_health(self) -> dict[str, RailHealth]:
        """One look at each rail, by name; a rail that does not answer is not ok."""
        found: dict[str, RailHealth] = {}
        for rail in self._context.rails:
            try:
                found[rail.name] = await rail.health()
            except SpecieError as error:
                found[rail.name] = RailHealth(ok=False, balance_msat=None, detail=error.detail)
        return found

    @property
    def rails(self) -> Sequence[Rail]:
        """The rails plugged in."""
        return self._context.rails

    async def books(self) -> Books:
        """The trial balance now."""
        return await self._context.storage.read(self._context.ledger.books)

    async def audit(self) -> Books:
        """Check the books against themselves, the journal and the tables of coins; reads all history.

        InvariantError where they differ; the verbs that move money are then stopped.
        """

        async def body(tx: Transaction) -> tuple[Books, dict[str, tuple[int, int, int]]]:
            return await self._context.ledger.audit(tx), await self._context.store.totals(tx)

        try:
            books, totals = await self._context.storage.read(body)
            for keyset in self._context.catalogue.all():
                signed, spent, _ = totals.get(keyset.id, (0, 0, 0))
                if (signed, spent) != (books.issued(keyset.id, keyset.unit), books.redeemed(keyset.id, keyset.unit)):
                    raise InvariantError(f"the books of keyset {keyset.id} differ from its coins")
        except InvariantError as error:
            for verb in ("swap", "mint", "melt"):
                self.stop_verb(verb, error.detail)
            raise
        return books


def _incoming(settings: MintSettings, rail: Rail, unit: str) -> dict[str, Any]:
    """A method of NUT-04 as its rail's terms have it."""
    terms = rail.terms
    options: dict[str, Any] = {}
    if terms.description or terms.incoming_amount != "never":
        options["description"] = terms.description
    if terms.confirmations is not None:
        options["confirmations"] = terms.confirmations
    return _method(rail, unit, settings.mint_min, settings.mint_max, terms.minimum_in_msat, options)


def _outgoing(settings: MintSettings, rail: Rail, unit: str) -> dict[str, Any]:
    """A method of NUT-05 as its rail's terms have it."""
    terms = rail.terms
    options = {} if terms.outgoing_amount == "payer" else {"amountless": terms.outgoing_amount == "either"}
    return _method(rail, unit, settings.melt_min, settings.melt_max, terms.minimum_out_msat, options)


def _method(rail: Rail, unit: str, least: int, most: int, minimum_msat: int, options: dict[str, Any]) -> dict[str, Any]:
    least = max(least, minimum_msat if unit == "msat" else sat_ceil_from_msat(minimum_msat))
    setting = {"method": rail.method, "unit": unit, "min_amount": least, "max_amount": most}
    if rail.terms.method_name is not None:
        setting["method_name"] = rail.terms.method_name
    return setting | ({"options": options} if options else {})


def _news(rail: Rail, unit: str) -> dict[str, Any]:
    """What may be watched of a method (NUT-17)."""
    commands = [f"{rail.method}_melt_quote", f"{rail.method}_mint_quote", "proof_state"]
    return {"method": rail.method, "unit": unit, "commands": commands}


class _Watch:
    """Counts and times a verb, and stops it when it breaks an invariant."""

    def __init__(self, mint: Mint, verb: str) -> None:
        self._mint = mint
        self._verb = verb
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = self._mint._context.clock.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        context = self._mint._context
        result = "ok" if error is None else "refused" if isinstance(error, SpecieError) else "error"
        context.telemetry.observe("verb", context.clock.monotonic() - self._started, verb=self._verb, result=result)
        if isinstance(error, InvariantError):
            self._mint.stop_verb(self._verb, error.detail)
