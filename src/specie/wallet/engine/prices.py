"""What a payment costs: melt quotes of every method, and the choice among their prices (NUT-05, 15, 23, 25, 30).

A mint's answer is compared with what was asked before it is stored, and with what is stored before coins are sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from specie.ecash.info import MethodSetting
from specie.ecash.quote import MeltFeeOption, MeltQuote, MeltQuoteRequest, MeltState
from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError
from specie.kernel.money import sat_ceil_from_msat, unit_checked
from specie.lightning.invoice import bare_invoice, invoice_amount_msat
from specie.lightning.offer import decode_offer
from specie.storage.ports import Transaction
from specie.wallet.destination import Destination, is_address, parse_destination
from specie.wallet.engine.context import Context
from specie.wallet.engine.methods import required, setting_of
from specie.wallet.holding import WalletMeltQuote

__all__ = [
    "Asked",
    "as_melt_quote",
    "asked_of",
    "check_unchanged",
    "choose_fee",
    "choose_way",
    "request_melt_quote",
    "with_fee",
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be paid: a `request` of a `method`, and how much where the payer says it, in one of three ways.

    `amount` is in the unit; `amount_msat` is for invoices and offers without an amount; `part_msat` is the part of an invoice
    to pay while other mints pay the rest (NUT-15).
    """

    method: str
    request: str
    unit: str
    amount: int | None = None
    amount_msat: int | None = None
    part_msat: int | None = None


def asked_of(
    text: str, *, method: str | None, unit: str, amount: int | None = None, amount_msat: int | None = None
) -> list[Asked]:
    """The ways in which a pasted text can be paid, the best first; with a `method` that is named, that one alone.

    A method of no NUT takes the text as it is. MalformedError for what is nothing, and for amounts that contradict.
    """
    if method not in (None, "bolt11", "bolt12", "onchain"):
        return [Asked(method, text, unit, amount, amount_msat)]
    try:
        found = parse_destination(text)
    except MalformedError:
        if method != "bolt11":
            raise
        return [Asked("bolt11", text, unit, amount, amount_msat)]  # the mint may know invoices that this wallet does not
    ways = [way for way in found.ways if method in (None, way[0])]
    if not ways:
        raise MalformedError(f"this names nothing to be paid by {method}")
    if found.amount_sat is not None:
        _check_uri_amount(found, unit, amount, amount_msat)
        if amount is None and amount_msat is None and unit in ("sat", "msat"):
            amount = found.amount_sat * (1 if unit == "sat" else 1000)
    return [_way(kind, request, unit, amount, amount_msat) for kind, request in ways]


def _check_uri_amount(found: Destination, unit: str, amount: int | None, amount_msat: int | None) -> None:
    asked_msat = (found.amount_sat or 0) * 1000
    named = [invoice_amount_msat(found.bolt11)] if found.bolt11 is not None else []
    named += [decode_offer(found.bolt12).amount_msat] if found.bolt12 is not None else []
    given = amount_msat if amount is None or unit not in _MSAT else amount * _MSAT[unit]
    if any(one is not None and one != asked_msat for one in (*named, given)):
        raise MalformedError("the URI names another amount")


def _way(method: str, request: str, unit: str, amount: int | None, amount_msat: int | None) -> Asked:
    return Asked(method, request, unit, amount, None if method == "onchain" else amount_msat)


async def choose_way(ctx: Context, mints: Sequence[str], ways: Sequence[Asked]) -> tuple[str, Asked]:
    """The first way that one of the mints announces, at the first mint that does; invoices are tried anywhere."""
    for asked in ways:
        for mint in mints:
            if asked.method == "bolt11" or setting_of(await ctx.info(mint), 5, asked.method, asked.unit) is not None:
                return mint, asked
    required(await ctx.info(mints[0]), 5, ways[0].method, ways[0].unit)
    return mints[0], ways[0]


async def request_melt_quote(
    ctx: Context, mint: str, asked: Asked, *, fee_index: int | None = None, blocks: int | None = None
) -> WalletMeltQuote:
    """Ask what paying costs. PeerFaultError if the quote is for something else, or for more, than was asked.

    Of several prices one is chosen, by `fee_index` or `blocks` or as the settings say; RefusedError if there is none such.

    UnsupportedError for a method that the mint does not announce; MalformedError for an amount that is missing or one too many.
    """
    unit = unit_checked(asked.unit)
    text = bare_invoice(asked.request) if asked.method == "bolt11" else asked.request.strip()
    setting = required(await ctx.info(mint), 5, asked.method, unit)
    request, wanted = _request(replace(asked, unit=unit, request=text), setting)
    quote = await ctx.client(mint).request_melt_quote(request)
    same = quote.request.lower() == text.lower() or (not quote.request)
    if quote.unit != unit or not same:
        raise PeerFaultError("the mint quoted another unit or request than asked", peer=mint)
    if wanted is not None and quote.amount != wanted:
        raise PeerFaultError("the mint quoted another amount than is to be paid", peer=mint)
    if asked.method == "onchain" and not quote.fee_options:
        raise PeerFaultError("the mint quoted no fee for a payment on chain", peer=mint)
    stored = WalletMeltQuote(
        mint=mint,
        quote=quote.quote,
        method=asked.method,
        unit=unit,
        request=text,
        amount=quote.amount,
        fee_reserve=quote.fee_reserve,
        state=quote.state.value,
        expiry=quote.expiry,
        preimage=quote.payment_preimage,
        created_at=ctx.clock.now(),
        fee_options=quote.fee_options,
        part_msat=asked.part_msat,
    )
    if stored.fee_options:
        option = choose_fee(stored.fee_options, fee_index=fee_index, blocks=blocks, default_blocks=ctx.settings.confirm_blocks)
        stored = with_fee(stored, option)
    elif fee_index is not None or blocks is not None:
        raise MalformedError("this payment has no fee options to choose from")

    async def body(tx: Transaction) -> bool:
        before = await ctx.store.melt_quote(tx, mint, stored.quote)
        if before is not None and (before.request.lower(), before.amount, before.part_msat) != wanted_of:
            return False
        if before is None or before.state == MeltState.UNPAID:  # what is known of a payment is not forgotten for a new price
            await ctx.store.save_melt_quote(tx, stored)
        return True

    wanted_of = (text.lower(), stored.amount, stored.part_msat)

    if not await ctx.storage.transact(body):
        raise PeerFaultError("the mint gave the id of another quote", peer=mint)
    return stored


def _request(asked: Asked, setting: MethodSetting | None) -> tuple[MeltQuoteRequest, int | None]:
    """The request to the mint, and what the quote must then be for in the unit; None where only the mint knows."""
    method, text, unit = asked.method, asked.request, asked.unit
    if asked.amount is not None and (asked.amount <= 0 or asked.amount_msat is not None):
        raise MalformedError("an amount to pay is positive and given once")
    if method not in ("bolt11", "bolt12"):
        if method == "onchain":
            _check_onchain(asked)
        elif asked.amount is not None and unit in _MSAT and setting is not None and (setting.options or {}).get("amountless"):
            asked = replace(asked, amount=None, amount_msat=asked.amount * _MSAT[unit])  # where the mint says it goes
        request = MeltQuoteRequest(method=method, request=text, unit=unit, amount=asked.amount, amount_msat=asked.amount_msat)
        return request, asked.amount if asked.amount is not None else _in(unit, asked.amount_msat)
    named = invoice_amount_msat(text) if method == "bolt11" else decode_offer(text).amount_msat
    given = asked.amount_msat
    if asked.amount is not None:
        if unit not in _MSAT:
            raise MalformedError("say the amount in millisatoshi: only the mint knows the rate of this unit")
        given = asked.amount * _MSAT[unit]
    if asked.part_msat is not None:
        if named is None or not 0 < asked.part_msat <= named or given is not None:
            raise MalformedError("a part is of an invoice that names its amount, and no more than that")
        return MeltQuoteRequest(method=method, request=text, unit=unit, mpp_msat=asked.part_msat), _in(unit, asked.part_msat)
    if method == "bolt12" and decode_offer(text).currency is not None:
        return MeltQuoteRequest(method=method, request=text, unit=unit, amount_msat=given), _in(unit, given)
    if named is None and given is None:
        raise MalformedError(f"the {_NOUNS[method]} names no amount; say how much to pay")
    if named is not None and given is not None and named != given:
        raise MalformedError(f"the {_NOUNS[method]} names another amount")
    return MeltQuoteRequest(
        method=method, request=text, unit=unit, amount_msat=given if named is None or asked.amount_msat is not None else None
    ), _in(unit, named if named is not None else given)


def _check_onchain(asked: Asked) -> None:
    if not is_address(asked.request):
        raise MalformedError("not a bitcoin address")
    if asked.amount_msat is not None:
        raise MalformedError("millisatoshi are for Lightning; give the amount in the wallet's unit")
    if asked.amount is None:
        raise MalformedError("an address names no amount; say how much to pay")


_MSAT = {"sat": 1000, "msat": 1}
_NOUNS = {"bolt11": "invoice", "bolt12": "offer"}


def _in(unit: str, amount_msat: int | None) -> int | None:
    if amount_msat is None or unit not in ("sat", "msat"):
        return None
    return sat_ceil_from_msat(amount_msat) if unit == "sat" else amount_msat


def choose_fee(
    options: Sequence[MeltFeeOption], *, fee_index: int | None = None, blocks: int | None = None, default_blocks: int = 6
) -> MeltFeeOption:
    """The option of `fee_index`, or the cheapest that confirms within `blocks`; RefusedError if there is none.

    With neither, the cheapest within `default_blocks`, or the quickest where none is so quick. Of equal prices the quicker.
    """
    if fee_index is not None and blocks is not None:
        raise MalformedError("choose a fee by its index or by blocks, not by both")
    if fee_index is not None:
        found = [one for one in options if one.fee_index == fee_index]
        if not found:
            raise RefusedError(f"the quote has no fee option {fee_index}")
        return found[0]
    within = [one for one in options if one.estimated_blocks <= (default_blocks if blocks is None else blocks)]
    if within:
        return min(within, key=lambda one: (one.fee_reserve, one.estimated_blocks, one.fee_index))
    if blocks is not None:
        quickest = min(one.estimated_blocks for one in options)
        raise RefusedError(f"no fee option confirms within {blocks} blocks; the quickest takes {quickest}")
    return min(options, key=lambda one: (one.estimated_blocks, one.fee_reserve, one.fee_index))


def with_fee(quote: WalletMeltQuote, option: MeltFeeOption) -> WalletMeltQuote:
    """The quote with this option chosen."""
    return replace(quote, fee_index=option.fee_index, fee_reserve=option.fee_reserve)


def as_melt_quote(quote: WalletMeltQuote) -> MeltQuote:
    """The stored quote as the mint's value."""
    return MeltQuote(
        quote=quote.quote,
        method=quote.method,
        request=quote.request,
        unit=quote.unit,
        amount=quote.amount,
        fee_reserve=quote.fee_reserve,
        state=MeltState(quote.state),
        expiry=quote.expiry,
        fee_options=quote.fee_options,
    )


def check_unchanged(quote: WalletMeltQuote, seen: MeltQuote) -> None:
    """PeerFaultError where the mint's answer is about another price or payee than was agreed, or another option was chosen."""
    if seen.quote != quote.quote:
        raise PeerFaultError("the mint answered about another quote", peer=quote.mint)
    if (seen.amount, seen.unit) != (quote.amount, quote.unit) or seen.request.lower() not in ("", quote.request.lower()):
        raise PeerFaultError("the mint changed what a quote is for", peer=quote.mint)
    if seen.fee_options != quote.fee_options:
        raise PeerFaultError("the mint changed the fees of a quote", peer=quote.mint)
    if quote.fee_options and seen.selected_fee_index not in (None, quote.fee_index):
        raise PeerFaultError("the mint chose another fee option than we did", peer=quote.mint)
    if not quote.fee_options and seen.fee_reserve > quote.fee_reserve:
        raise PeerFaultError("the mint raised the fee of a quote", peer=quote.mint)
