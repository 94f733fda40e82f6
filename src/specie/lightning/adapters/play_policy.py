"""What the play rail decides: prices, and what becomes of an order. Pure: the moment and the random bytes are given."""

from __future__ import annotations

from dataclasses import dataclass, replace

from specie.kernel.errors import RefusedError
from specie.kernel.rail import PaymentOrder, PaymentState
from specie.lightning.adapters.play_faults import Answer, Fault
from specie.lightning.adapters.play_store import InvoiceRow, PaymentRow
from specie.lightning.invoice import Invoice, Network

__all__ = ["PlaySettings", "amount_of", "fee_of", "part_of", "plan_order", "plan_payment", "refused", "reserve_for"]

_MADE_UP = "play money: a foreign payee receives nothing, and this preimage is made up"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaySettings:
    """Policy of a play rail. Amounts in millisatoshi, shares in parts per million."""

    networks: frozenset[Network] = frozenset({Network.REGTEST})
    """Whose foreign invoices are paid in play money. Its own are always for regtest."""
    max_amount_msat: int = 10_000 * 100_000_000 * 1000
    reserve_ppm: int = 10_000
    reserve_min_msat: int = 1000
    """Fee reserve of a foreign payment: this share, at least the minimum, rounded up to whole satoshi; none for its own."""
    fee_ppm: int = 5_000
    """What a foreign payment really costs, rounded up to a millisatoshi; less than the reserve, so that change is returned."""
    grace_s: float = 1.0
    """A foreign order that was cut off after it was stored is carried out this long after it was given."""
    poll_s: float = 5.0
    """Looks at the store at least this often, should a notice have been lost."""
    gift_msat: int = 10_000_000
    """What autopay sends to a request that names no amount."""
    confirmations: int = 3
    """On-chain: depth at which a transaction counts; 1 is the block that has it."""
    block_s: float | None = 2.0
    """On-chain: time between two blocks while a transaction waits for some; None: blocks by hand alone."""
    dust_msat: int = 546_000
    """On-chain: the least that is paid, and that counts as paid."""
    feerates: tuple[tuple[int, int], ...] = ((1, 20), (3, 8), (6, 2))
    """On-chain: prices to choose from, as (blocks until it is mined, satoshi for each virtual byte)."""


def amount_of(invoice: Invoice, amount_msat: int | None, settings: PlaySettings) -> int:
    """Millisatoshi to pay: the invoice's, or the payer's where it names none. RefusedError where they do not fit."""
    if invoice.amount_msat is None:
        if amount_msat is None:
            raise RefusedError("the invoice names no amount")
        if not 1 <= amount_msat <= settings.max_amount_msat:
            raise RefusedError("the play rail does not pay this amount")
        return amount_msat
    if amount_msat is not None and amount_msat != invoice.amount_msat:
        raise RefusedError("the amount is not the invoice's", code=11012)
    return invoice.amount_msat


def part_of(invoice: Invoice, amount_msat: int | None) -> int:
    """Millisatoshi of a part of an invoice (NUT-15). RefusedError unless the invoice names an amount and it is within."""
    if invoice.amount_msat is None or amount_msat is None:
        raise RefusedError("an invoice without an amount is not paid in parts")
    if not 1 <= amount_msat <= invoice.amount_msat:
        raise RefusedError("a part is larger than the invoice", code=11012)
    return amount_msat


def reserve_for(amount_msat: int, settings: PlaySettings) -> int:
    """Fee reserve of a foreign payment, in whole satoshi."""
    share = -(-amount_msat * settings.reserve_ppm // 1_000_000)
    return -(-max(share, settings.reserve_min_msat) // 1000) * 1000


def plan_order(
    order: PaymentOrder,
    invoice: Invoice,
    own: InvoiceRow | None,
    fault: Fault | None,
    settings: PlaySettings,
    *,
    now_ms: int,
    made_up: str,
) -> PaymentRow:
    """What will become of a new order: FAILED at once, or PENDING with the plan that comes true when it is due.

    `own` is the invoice of ours with this payment hash; `made_up` the preimage (hex, FRESH) of a foreign payment.
    """
    fee = fee_of(order.amount_msat, own is not None, fault, settings)
    row = plan_payment(
        order,
        fault,
        settings,
        now_ms=now_ms,
        fee_msat=fee,
        preimage=made_up if own is None else own.preimage,
        own=own is not None,
    )
    wrong = _objection(order, invoice, own, fee, now_ms // 1000, settings)
    return refused(replace(row, request=invoice.text), wrong) if wrong else replace(row, request=invoice.text)


def refused(row: PaymentRow, reason: str) -> PaymentRow:
    """The same order, FAILED at once."""
    return replace(row, state=PaymentState.FAILED, plan=PaymentState.FAILED, due_ms=None, reason=reason)


def plan_payment(
    order: PaymentOrder,
    fault: Fault | None,
    settings: PlaySettings,
    *,
    now_ms: int,
    fee_msat: int,
    preimage: str,
    own: bool,
) -> PaymentRow:
    """A new order, PENDING with the plan that comes true when it is due. `own`: the payee is a user of the same rail."""
    truth, after_s, answer = (fault.truth, fault.after_s, fault.answer) if fault else (PaymentState.PAID, 0.0, Answer.TRUTH)
    row = PaymentRow(
        payment_id=order.payment_id,
        attempt=order.attempt,
        request=order.request,
        amount_msat=order.amount_msat,
        max_fee_msat=order.max_fee_msat,
        own=own,
        state=PaymentState.PENDING,
        answer=PaymentState.UNKNOWN if answer is Answer.UNKNOWN else PaymentState.PENDING,
        plan=truth,
        due_ms=None if truth is PaymentState.PENDING else now_ms + int(1000 * (after_s or settings.grace_s)),
        preimage=preimage,
        fee_msat=fee_msat,
        reason="" if own else _MADE_UP,
        ordered_ms=now_ms,
        updated_ms=now_ms,
        partial=order.partial,
    )
    return replace(row, reason=fault.reason) if fault and truth is not PaymentState.PAID else row


def fee_of(amount_msat: int, own: bool, fault: Fault | None, settings: PlaySettings) -> int:
    """What a payment over Lightning costs; nothing where the payee is a user of the same rail."""
    if own:
        return 0
    if fault is not None and fault.fee_msat is not None:
        return fault.fee_msat
    return min(-(-amount_msat * settings.fee_ppm // 1_000_000), reserve_for(amount_msat, settings))


def _objection(
    order: PaymentOrder, invoice: Invoice, own: InvoiceRow | None, fee: int, now: int, settings: PlaySettings
) -> str:
    """Why an order fails at once, or nothing."""
    try:
        if order.partial:
            part_of(invoice, order.amount_msat)
            if own is not None:
                return "an invoice of this rail is paid whole"
        else:
            amount_of(invoice, order.amount_msat, settings)
    except RefusedError as error:
        return error.detail
    if invoice.expired(now):
        return "the invoice has expired"
    if own is None:
        if invoice.network not in settings.networks:
            return "the invoice is for another network"
        return "no way to the payee within the fee limit" if fee > order.max_fee_msat else ""
    if own.request != invoice.text:
        return "the invoice has the payment hash of another that was issued here"
    return "the invoice is paid" if own.settled_ms is not None else ""
