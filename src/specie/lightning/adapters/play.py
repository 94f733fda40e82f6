"""`PlayRail`: a rail of play money. Real BOLT 11 regtest invoices, real states, durable in the store; no network, no bitcoin.

Invoices are signed by the node key behind the `Signer`. An order for an invoice of its own moves the money between its
two users in one transaction, free of charge. A foreign invoice is paid in play money: nobody receives anything and the
preimage is made up, which the outcome's `reason` says. Invoices that nobody announced to pay are paid by themselves.

A part of a foreign invoice (NUT-15) arrives with all others or not at all: `play_network` says which.

What a crash leaves behind, and what becomes of it:

| crash                                | in the store          | after the next start                                          |
|--------------------------------------|-----------------------|---------------------------------------------------------------|
| before an order is stored            | nothing               | ABSENT; the order may be given again                          |
| own invoice, no fault: in the order  | all or nothing        | PAID or ABSENT                                                |
| after a foreign order is stored      | PENDING and its plan  | PENDING, then the plan comes true when it is due              |
| after a part is stored               | PENDING               | it joins the others, once; they end together                  |
| after it ended, before the answer    | PAID or FAILED        | the same order again, and `outgoing`, say so                  |
| after a request is stored            | an unpaid invoice     | autopay finds it                                              |

Any number of processes may drive one store. `start` runs autopay and recovery; without it nothing happens by itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.errors import RefusedError
from specie.kernel.rail import (
    IncomingPayment,
    IncomingRequest,
    OutgoingQuote,
    PaymentOrder,
    PaymentOutcome,
    PaymentState,
    RailTerms,
)
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.keys.ports import KeyRef, Signer
from specie.lightning.adapters import play_store as rows
from specie.lightning.adapters.play_faults import CRASH_POINTS, Answer, Fault, PlayFaults
from specie.lightning.adapters.play_machine import PlayMachine
from specie.lightning.adapters.play_network import PlayNetwork
from specie.lightning.adapters.play_policy import PlaySettings, amount_of, part_of, plan_order, reserve_for
from specie.lightning.adapters.play_schema import MIGRATIONS
from specie.lightning.adapters.play_store import InvoiceRow, PaymentRow
from specie.lightning.errors import InvoiceExpiredError, InvoiceNetworkError, InvoicePaidError
from specie.lightning.invoice import (
    MAX_DESCRIPTION_BYTES,
    Invoice,
    InvoiceDraft,
    Network,
    decode_invoice,
    encode_invoice,
)
from specie.storage import Body, Storage, Transaction

__all__ = ["CRASH_POINTS", "MIGRATIONS", "Answer", "Fault", "PlayFaults", "PlayRail", "PlaySettings"]

_MAX_EXPIRY_S = 10 * 365 * 86_400
_PART_MS = 250
"""Pause between two looks at whether the other parts of an invoice have come."""


class PlayRail(PlayMachine[Invoice]):
    """A `kernel.Rail` in play money on `storage` (schema: MIGRATIONS, room `play`); `key` names the node key of `signer`.

    `network` is where parts of an invoice meet those of other banks; without one they meet in `storage`, that is, nobody.
    """

    def __init__(
        self,
        storage: Storage,
        signer: Signer,
        clock: Clock,
        entropy: Entropy,
        settings: PlaySettings | None = None,
        *,
        autopay_delay_s: float | None = 3.0,
        faults: PlayFaults | None = None,
        telemetry: Telemetry = NULL_TELEMETRY,
        key: KeyRef = "node",
        name: str = "play",
        network: PlayNetwork | None = None,
    ) -> None:
        """Keep the plugs; nothing runs before `start`. `autopay_delay_s`: how long an invoice stays unpaid; None: for good."""
        super().__init__(
            storage,
            clock,
            entropy,
            settings,
            name=name,
            book=rows.BOLT11,
            autopay_delay_s=autopay_delay_s,
            faults=faults,
            telemetry=telemetry,
        )
        self._signer = signer
        self._key = key
        self._network = network or PlayNetwork(storage, clock)

    # The port

    @property
    def method(self) -> str:
        """`bolt11`."""
        return "bolt11"

    @property
    def terms(self) -> RailTerms:
        """Those of BOLT 11, with partial payments."""
        return RailTerms(partial=True)

    async def request(self, amount_msat: int | None, *, description: str, expiry_s: int) -> IncomingRequest:
        """Issue a FRESH regtest invoice. RefusedError for an amount, expiry or description that cannot be asked for."""
        self._check_available()
        if self._faults.refuse_requests:
            raise RefusedError("play rail: told to refuse requests")
        if amount_msat is None:
            raise RefusedError("an invoice of the play rail names its amount")
        if not 1 <= amount_msat <= self._settings.max_amount_msat:
            raise RefusedError("the play rail does not ask for this amount")
        if not 1 <= expiry_s <= _MAX_EXPIRY_S:
            raise RefusedError("an invoice lives from a second to ten years")
        if len(description.encode()) > MAX_DESCRIPTION_BYTES:
            raise RefusedError(f"a description has at most {MAX_DESCRIPTION_BYTES} bytes")
        preimage = self._entropy.bytes(32)
        created_ms = self._now_ms()
        draft = InvoiceDraft(
            network=Network.REGTEST,
            amount_msat=amount_msat,
            timestamp=created_ms // 1000,
            payment_hash=hashlib.sha256(preimage).digest(),
            payment_secret=self._entropy.bytes(32),
            description=description,
            expiry_s=expiry_s,
            min_final_cltv_expiry_delta=80,
            features=frozenset({8, 14}),
        )
        text = await encode_invoice(draft, self._sign)
        self._faults.point("request:signed")
        row = InvoiceRow(draft.payment_id, text, preimage.hex(), amount_msat, created_ms, draft.expiry, False, None)
        await self._change(lambda tx: rows.insert_invoice(tx, row))
        self._faults.point("request:stored")
        if self._autopay_ms is not None:
            self._expect(created_ms + self._autopay_ms)
        return IncomingRequest(draft.payment_id, text, amount_msat, draft.expiry)

    async def incoming(self, payment_id: str) -> list[IncomingPayment]:
        """The one arrival for an invoice, or none while it is unpaid."""
        self._check_available()
        found = await self._storage.read(lambda tx: rows.arrival_of(tx, payment_id))
        return [] if found is None else [found]

    async def quote(self, request: str, *, amount_msat: int | None = None, partial: bool = False) -> OutgoingQuote:
        """Price a payment; autopay lets go of an own invoice that is quoted.

        RefusedError and its leaves: not an invoice, another network, expired, paid before, no or another amount, a part
        of an own invoice.
        """
        self._check_available()
        if self._faults.refuse_quotes:
            raise RefusedError("play rail: told to refuse quotes")
        invoice = decode_invoice(request)
        amount = part_of(invoice, amount_msat) if partial else amount_of(invoice, amount_msat, self._settings)
        own, paid = await self._storage.read(lambda tx: _known(tx, invoice.payment_id))
        if own is not None and own.request != invoice.text:
            raise RefusedError("the invoice has the payment hash of another that was issued here")
        if own is not None and partial:
            raise RefusedError("an invoice of this rail is paid whole")
        if paid or (own is not None and own.settled_ms is not None):
            raise InvoicePaidError("the invoice is paid")
        if invoice.expired(self._clock.now()):
            raise InvoiceExpiredError("the invoice has expired")
        if own is not None:
            await self._change(lambda tx: rows.hold_invoice(tx, invoice.payment_id))
            self._faults.point("quote:held")
            return OutgoingQuote(invoice.payment_id, amount, 0, invoice.expiry, True)
        if invoice.network not in self._settings.networks:
            raise InvoiceNetworkError("the invoice is for another network, and this rail has play money only")
        return OutgoingQuote(invoice.payment_id, amount, reserve_for(amount, self._settings), invoice.expiry, False)

    # For operators and tests

    async def settle(self, payment_id: str) -> IncomingPayment:
        """Pay an own invoice by hand, expired or not; the arrival, also if it was paid before. RefusedError if unknown."""
        now_ms = self._now_ms()

        async def body(tx: Transaction) -> IncomingPayment:
            await rows.settle_invoice(tx, payment_id, source="operator", now_ms=now_ms)
            arrival = await rows.arrival_of(tx, payment_id)
            if arrival is None:
                raise RefusedError("the play rail has issued no such invoice")
            return arrival

        arrival = await self._storage.transact(body)
        self._faults.point("settle:stored")
        self._wake()
        return arrival

    async def resolve(self, payment_id: str, truth: PaymentState) -> PaymentOutcome:
        """End a payment that is PENDING by hand: PAID or FAILED. A part joins the others by PAID, and its end is theirs."""
        row = await self._storage.read(lambda tx: rows.living_payment(tx, payment_id))
        if row is not None and row.partial and truth is PaymentState.FAILED and await self._network.joined(row.attempt):
            raise RefusedError("the part is with the others: they end together")
        return await super().resolve(payment_id, truth)

    # What the machine asks

    def _read(self, order: PaymentOrder) -> Invoice:
        invoice = decode_invoice(order.request)
        if invoice.payment_id != order.payment_id:
            raise RefusedError("the order does not name the payment of its invoice")
        return invoice

    async def _plan(
        self, tx: Transaction, order: PaymentOrder, payee: Invoice, fault: Fault | None, made_up: str, now_ms: int
    ) -> PaymentRow:
        own = await rows.invoice_row(tx, order.payment_id)
        row = plan_order(order, payee, own, fault, self._settings, now_ms=now_ms, made_up=made_up)
        if order.partial:  # every part of one invoice proves the same payment
            row = replace(row, preimage=hashlib.sha256(b"specie play part" + payee.payment_hash).hexdigest())
        return row

    async def _begin(self, tx: Transaction, row: PaymentRow, fault: Fault | None, now_ms: int) -> None:
        if row.own:
            await rows.hold_invoice(tx, row.payment_id)
            if fault is None:
                await rows.resolve_payment(tx, row, PaymentState.PAID, now_ms=now_ms)

    async def _end(self, row: PaymentRow, truth: PaymentState) -> PaymentRow:
        if row.partial and truth is PaymentState.PAID:
            whole = decode_invoice(row.request).amount_msat or 0
            truth = await self._network.join(row.payment_id, whole, row.attempt, row.amount_msat)
            if truth is PaymentState.PENDING:
                return row
        return await super()._end(row, truth)

    async def _work(self, now_ms: int) -> int | None:
        due = await self._storage.read(lambda tx: rows.due(tx, now_ms=now_ms, autopay_delay_ms=self._autopay_ms))
        parts: list[PaymentRow] = []
        if due.payments or due.invoices:
            parts = await self._storage.transact(_doing(due, now_ms))
            self._faults.point("due:stored")
            self._telemetry.event("play.due", payments=len(due.payments), autopaid=len(due.invoices))
            self._wake()
        waiting = [part for part in parts if (await self._end(part, part.plan)).state is PaymentState.PENDING]
        if rows.BATCH in (len(due.payments), len(due.invoices)):
            return now_ms
        if waiting:
            return now_ms + _PART_MS if due.next_ms is None else min(due.next_ms, now_ms + _PART_MS)
        return due.next_ms

    async def _page(self, tx: Transaction, cursor: int) -> list[IncomingPayment]:
        return await rows.arrivals_after(tx, cursor)

    async def _sign(self, digest: bytes) -> tuple[bytes, int]:
        return (await self._signer.sign_recoverable(self._key, [digest]))[0]


async def _known(tx: Transaction, payment_id: str) -> tuple[InvoiceRow | None, bool]:
    """The own invoice of a payment hash, and whether a payment for it was made."""
    living = await rows.living_payment(tx, payment_id)
    return await rows.invoice_row(tx, payment_id), living is not None and living.state is PaymentState.PAID


def _doing(due: rows.Due, now_ms: int) -> Body[list[PaymentRow]]:
    """Do what is due; the parts among it, which come true with others."""

    async def body(tx: Transaction) -> list[PaymentRow]:
        parts: list[PaymentRow] = []
        for payment_id, attempt in due.payments:
            row = await rows.payment_row(tx, payment_id, attempt)
            if row is not None and row.partial and row.plan is PaymentState.PAID:
                parts.append(row)
            elif row is not None:
                await rows.resolve_payment(tx, row, row.plan, now_ms=now_ms)
        for payment_id in due.invoices:
            await rows.settle_invoice(tx, payment_id, source="autopay", now_ms=now_ms)
        return parts

    return body
