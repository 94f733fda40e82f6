"""JSON of quotes and of the requests on them (NUT-04, 05, 08, 15, 20, 23, 25, 30), both ways. Batches (NUT-29): `batch`."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from specie.ecash.quote import (
    MeltFeeOption,
    MeltQuote,
    MeltQuoteRequest,
    MeltState,
    MintQuote,
    MintQuoteRequest,
    quote_pubkey_checked,
)
from specie.ecash.transaction import MeltRequest, MintRequest
from specie.ecash.wire.codec import amount, bounded_text, count, decode, encode, quote_id, seconds
from specie.ecash.wire.coins import (
    InputWire,
    OutputWire,
    SignatureWire,
    inputs_from_wire,
    inputs_to_wire,
    outputs_from_wire,
    outputs_to_wire,
    signatures_from_wire,
    signatures_to_wire,
)
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.kernel.money import unit_checked

__all__ = [
    "melt_quote_from_json",
    "melt_quote_request_from_json",
    "melt_quote_request_to_json",
    "melt_quote_to_json",
    "melt_quote_to_wire",
    "melt_request_from_json",
    "melt_request_to_json",
    "method_checked",
    "mint_quote_from_json",
    "mint_quote_request_from_json",
    "mint_quote_request_to_json",
    "mint_quote_to_json",
    "mint_quote_to_wire",
    "mint_request_from_json",
    "mint_request_to_json",
]

_METHOD = re.compile(r"[a-z0-9_-]{1,64}")
_OUTPOINT_CHARS = 100
_SIGNATURE_CHARS = 128
_MAX_FEE_OPTIONS = 32
_MAX_FEE_INDEX = 2**32 - 1


class _MintQuoteRequestWire(msgspec.Struct, omit_defaults=True):
    unit: str
    amount: int | None = None
    description: str | None = None
    pubkey: str | None = None


class MintQuoteWire(msgspec.Struct):
    """A mint quote. Mints before the two amounts send `state` alone; some examples lack amount and unit."""

    quote: str
    request: str
    unit: str | None = None
    method: str | None = None
    amount: int | None = None
    state: str | None = None
    expiry: int | None = None
    pubkey: str | None = None
    amount_paid: int | None = None
    amount_issued: int | None = None
    updated_at: int | None = None


class _MintRequestWire(msgspec.Struct, omit_defaults=True):
    quote: str
    outputs: list[OutputWire]
    signature: str | None = None


class _AmountlessWire(msgspec.Struct):
    amount_msat: int


class _MppWire(msgspec.Struct):
    amount: int


class _MeltOptionsWire(msgspec.Struct, omit_defaults=True):
    amountless: _AmountlessWire | None = None
    mpp: _MppWire | None = None


class _MeltQuoteRequestWire(msgspec.Struct, omit_defaults=True):
    request: str
    unit: str
    options: _MeltOptionsWire | None = None
    amount: int | None = None


class FeeOptionWire(msgspec.Struct):
    """One of an on-chain melt quote's prices (NUT-30); an example of the text lacks the index."""

    fee_reserve: int
    estimated_blocks: int
    fee_index: int | None = None


class MeltQuoteWire(msgspec.Struct):
    """A melt quote; answers to a melt may leave out what the wallet knows (NUT-08)."""

    quote: str | None = None
    amount: int | None = None
    unit: str | None = None
    request: str | None = None
    method: str | None = None
    fee_reserve: int | None = None
    state: str | None = None
    paid: bool | None = None
    expiry: int | None = None
    payment_preimage: str | None = None
    change: list[SignatureWire] | None = None
    updated_at: int | None = None
    fee_options: list[FeeOptionWire] | None = None
    selected_fee_index: int | None = None
    outpoint: str | None = None


class _MeltRequestWire(msgspec.Struct, omit_defaults=True):
    quote: str
    inputs: list[InputWire]
    outputs: list[OutputWire] | None = None
    prefer_async: bool | None = None
    fee_index: int | None = None


_mint_quote_request = msgspec.json.Decoder(_MintQuoteRequestWire)
_mint_quote = msgspec.json.Decoder(MintQuoteWire)
_mint_request = msgspec.json.Decoder(_MintRequestWire)
_melt_quote_request = msgspec.json.Decoder(_MeltQuoteRequestWire)
_melt_quote = msgspec.json.Decoder(MeltQuoteWire)
_melt_request = msgspec.json.Decoder(_MeltRequestWire)


def method_checked(text: str) -> str:
    """A payment method as it stands in a path (NUT-04); MalformedError unless it is 1 to 64 of a-z, 0-9, '_', '-'."""
    if not _METHOD.fullmatch(text):
        raise MalformedError("payment method must be of a-z, 0-9, '_' and '-'")
    return text


def mint_quote_request_from_json(data: bytes, *, method: str = "bolt11", limits: Limits = DEFAULT_LIMITS) -> MintQuoteRequest:
    """Body of POST /v1/mint/quote/{method}. MalformedError; QuotePubkeyRequiredError for a pubkey that is no point."""
    wire = decode(data, _mint_quote_request, limits)
    return MintQuoteRequest(
        method=method_checked(method),
        unit=unit_checked(wire.unit),
        amount=None if wire.amount is None else amount(wire.amount),
        description=wire.description and bounded_text(wire.description, limits.description_chars, "description"),
        pubkey=None if wire.pubkey is None else quote_pubkey_checked(wire.pubkey),
    )


def mint_quote_request_to_json(request: MintQuoteRequest) -> bytes:
    """Body of POST /v1/mint/quote/{method}."""
    return encode(_MintQuoteRequestWire(request.unit, request.amount, request.description, request.pubkey))


def mint_quote_to_wire(quote: MintQuote) -> MintQuoteWire:
    """A mint quote for JSON, with the deprecated `state` for older wallets."""
    return MintQuoteWire(
        quote=quote.quote,
        request=quote.request,
        unit=quote.unit,
        method=quote.method,
        amount=quote.amount,
        state=quote.state.value,
        expiry=quote.expiry,
        pubkey=quote.pubkey,
        amount_paid=quote.amount_paid,
        amount_issued=quote.amount_issued,
        updated_at=quote.updated_at,
    )


def mint_quote_to_json(quote: MintQuote) -> bytes:
    """Answer to a mint quote request, and of GET /v1/mint/quote/{method}/{quote_id}."""
    return encode(mint_quote_to_wire(quote))


def mint_quote_from_json(
    data: bytes,
    *,
    method: str = "bolt11",
    unit: str | None = None,
    amount_asked: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> MintQuote:
    """A mint's answer about a mint quote. `unit` and `amount_asked` stand in where an old mint leaves them out.

    Without `amount_paid`, the two amounts follow from `state`. MalformedError for a bad field or an unknown state.
    """
    return mint_quote_from_wire(
        decode(data, _mint_quote, limits), method=method, unit=unit, amount_asked=amount_asked, limits=limits
    )


def mint_quote_from_wire(
    wire: MintQuoteWire, *, method: str, unit: str | None, amount_asked: int | None, limits: Limits
) -> MintQuote:
    """The same from a decoded body."""
    wanted = wire.amount if wire.amount is not None else amount_asked
    if wanted is not None:
        amount(wanted)
    if wire.amount_paid is None:
        paid, issued = _amounts_from_state(wire.state, wanted)
    else:
        paid, issued = amount(wire.amount_paid), count(wire.amount_issued)
    return MintQuote(
        quote=quote_id(wire.quote),
        method=method_checked(wire.method or method),
        request=bounded_text(wire.request, limits.request_chars, "payment request"),
        unit=_unit(wire.unit, unit),
        amount=wanted,
        expiry=seconds(wire.expiry),
        pubkey=wire.pubkey and bounded_text(wire.pubkey, 66, "pubkey"),
        amount_paid=paid,
        amount_issued=issued,
        updated_at=count(wire.updated_at),
    )


def _amounts_from_state(state: str | None, wanted: int | None) -> tuple[int, int]:
    match state:
        case "UNPAID" | "PENDING":
            return 0, 0
        case "PAID" if wanted is not None:
            return wanted, 0
        case "ISSUED" if wanted is not None:
            return wanted, wanted
    raise MalformedError("mint quote says neither what was paid nor in which state it is")


def _unit(given: str | None, fallback: str | None) -> str:
    unit = given or fallback
    if unit is None:
        raise MalformedError("quote has no unit")
    return unit_checked(unit)


def mint_request_from_json(data: bytes, *, method: str = "bolt11", limits: Limits = DEFAULT_LIMITS) -> MintRequest:
    """Body of POST /v1/mint/{method}. TooManyOutputsError, MalformedError. The signature is judged with the quote."""
    wire = decode(data, _mint_request, limits)
    return MintRequest(
        method=method_checked(method),
        quote=quote_id(wire.quote),
        outputs=outputs_from_wire(wire.outputs, limits, checked_later=True),
        signature=None if wire.signature is None else bounded_text(wire.signature, _SIGNATURE_CHARS, "signature"),
    )


def mint_request_to_json(request: MintRequest) -> bytes:
    """Body of POST /v1/mint/{method}."""
    return encode(_MintRequestWire(request.quote, outputs_to_wire(request.outputs), request.signature))


def melt_quote_request_from_json(data: bytes, *, method: str = "bolt11", limits: Limits = DEFAULT_LIMITS) -> MeltQuoteRequest:
    """Body of POST /v1/melt/quote/{method}. MalformedError, also for more than one amount of `amountless`, `mpp`, `amount`."""
    wire = decode(data, _melt_quote_request, limits)
    options = wire.options or _MeltOptionsWire()
    if options.amountless is not None and options.mpp is not None:
        raise MalformedError("options amountless and mpp exclude each other")
    if wire.amount is not None and (options.amountless or options.mpp):
        raise MalformedError("amount and an amount in the options exclude each other")
    return MeltQuoteRequest(
        method=method_checked(method),
        request=bounded_text(wire.request, limits.request_chars, "payment request"),
        unit=unit_checked(wire.unit),
        amount_msat=None if options.amountless is None else _positive(options.amountless.amount_msat),
        mpp_msat=None if options.mpp is None else _positive(options.mpp.amount),
        amount=None if wire.amount is None else _positive(wire.amount),
    )


def _positive(value: int) -> int:
    if not value:
        raise MalformedError("amount must not be zero")
    return amount(value)


def melt_quote_request_to_json(request: MeltQuoteRequest) -> bytes:
    """Body of POST /v1/melt/quote/{method}."""
    options = None
    if request.amount_msat is not None:
        options = _MeltOptionsWire(amountless=_AmountlessWire(request.amount_msat))
    elif request.mpp_msat is not None:
        options = _MeltOptionsWire(mpp=_MppWire(request.mpp_msat))
    return encode(_MeltQuoteRequestWire(request.request, request.unit, options, request.amount))


def melt_quote_to_wire(quote: MeltQuote) -> dict[str, Any]:
    """A melt quote for JSON; `change` and `updated_at` are left out where there are none.

    With fee options (NUT-30) it has those, the chosen one and the outpoint in place of one reserve and a preimage.
    """
    body: dict[str, Any] = {
        "quote": quote.quote,
        "request": quote.request,
        "method": quote.method,
        "amount": quote.amount,
        "unit": quote.unit,
        "state": quote.state.value,
        "expiry": quote.expiry,
    }
    if quote.fee_options:
        body["fee_options"] = [
            {"fee_index": o.fee_index, "fee_reserve": o.fee_reserve, "estimated_blocks": o.estimated_blocks}
            for o in quote.fee_options
        ]
        body["selected_fee_index"] = quote.selected_fee_index
        body["outpoint"] = quote.outpoint
    else:
        body["fee_reserve"] = quote.fee_reserve
        body["payment_preimage"] = quote.payment_preimage
    if quote.change is not None:
        body["change"] = signatures_to_wire(quote.change)
    if quote.updated_at is not None:
        body["updated_at"] = quote.updated_at
    return body


def melt_quote_to_json(quote: MeltQuote) -> bytes:
    """Answer to a melt quote request, to a melt, and of GET /v1/melt/quote/{method}/{quote_id}."""
    return encode(melt_quote_to_wire(quote))


def melt_quote_from_json(
    data: bytes,
    *,
    method: str = "bolt11",
    quote: MeltQuote | None = None,
    unit: str | None = None,
    request: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> MeltQuote:
    """A mint's answer about a melt quote. What an old mint leaves out is taken from `quote`, `unit` and `request`.

    MalformedError for a bad field or an unknown state; the old boolean `paid` is read where `state` is missing.
    """
    return melt_quote_from_wire(
        decode(data, _melt_quote, limits), method=method, quote=quote, unit=unit, request=request, limits=limits
    )


def melt_quote_from_wire(
    wire: MeltQuoteWire,
    *,
    method: str,
    quote: MeltQuote | None,
    unit: str | None,
    request: str | None,
    limits: Limits,
) -> MeltQuote:
    """The same from a decoded body."""
    name, value, reserve = wire.quote, wire.amount, wire.fee_reserve
    if quote is not None:
        name = quote.quote if name is None else name
        value = quote.amount if value is None else value
        reserve = quote.fee_reserve if reserve is None else reserve
    if value is None:
        raise MalformedError("melt quote has no amount")
    options = quote.fee_options if wire.fee_options is None and quote is not None else _fee_options(wire.fee_options)
    chosen = None if wire.selected_fee_index is None else count(wire.selected_fee_index)
    if options:
        reserves = {option.fee_index: option.fee_reserve for option in options}
        if chosen is not None and chosen not in reserves:
            raise MalformedError("selected_fee_index names none of the fee_options")
        reserve = max(reserves.values()) if chosen is None else reserves[chosen]
    text = wire.request or request or (quote.request if quote else "")
    return MeltQuote(
        quote=quote_id(name or ""),
        method=method_checked(wire.method or method),
        request=bounded_text(text, limits.request_chars, "payment request"),
        unit=_unit(wire.unit, unit or (quote.unit if quote else None)),
        amount=amount(value),
        fee_reserve=count(reserve),
        state=_melt_state(wire),
        expiry=seconds(wire.expiry),
        payment_preimage=wire.payment_preimage and bounded_text(wire.payment_preimage, 1024, "preimage"),
        change=None if wire.change is None else signatures_from_wire(wire.change, limits),
        updated_at=seconds(wire.updated_at),
        fee_options=options,
        selected_fee_index=chosen,
        outpoint=_outpoint(wire.outpoint),
    )


def _fee_options(options: list[FeeOptionWire] | None) -> tuple[MeltFeeOption, ...]:
    """Bounded, each index once; an option without an index is numbered by its place, as the text's example has it."""
    if options is None:
        return ()
    if len(options) > _MAX_FEE_OPTIONS:
        raise MalformedError(f"a melt quote has at most {_MAX_FEE_OPTIONS} fee_options")
    found = tuple(
        MeltFeeOption(
            fee_index=count(place if one.fee_index is None else one.fee_index),
            fee_reserve=count(one.fee_reserve),
            estimated_blocks=count(one.estimated_blocks),
        )
        for place, one in enumerate(options)
    )
    if any(one.fee_index > _MAX_FEE_INDEX for one in found):
        raise MalformedError("fee_index is out of range")
    if len({one.fee_index for one in found}) != len(found):
        raise MalformedError("two fee_options have one fee_index")
    return found


def _outpoint(text: str | None) -> str | None:
    """Shown to people and never acted on, so only bounded; empty is none."""
    if text and not (text.isascii() and text.isprintable()):
        raise MalformedError("outpoint is not printable")
    return bounded_text(text, _OUTPOINT_CHARS, "outpoint") if text else None


def _melt_state(wire: MeltQuoteWire) -> MeltState:
    if wire.state is None and wire.paid is not None:
        return MeltState.PAID if wire.paid else MeltState.UNPAID
    try:
        return MeltState(wire.state or "")
    except ValueError:
        raise MalformedError("unknown melt quote state") from None


def melt_request_from_json(data: bytes, *, method: str = "bolt11", limits: Limits = DEFAULT_LIMITS) -> MeltRequest:
    """Body of POST /v1/melt/{method}. TooManyInputsError, TooManyOutputsError, MalformedError."""
    wire = decode(data, _melt_request, limits)
    return MeltRequest(
        method=method_checked(method),
        quote=quote_id(wire.quote),
        inputs=inputs_from_wire(wire.inputs, limits),
        outputs=outputs_from_wire(wire.outputs or (), limits),
        prefer_async=bool(wire.prefer_async),
        fee_index=None if wire.fee_index is None else count(wire.fee_index),
    )


def melt_request_to_json(request: MeltRequest) -> bytes:
    """Body of POST /v1/melt/{method}; `outputs`, `prefer_async` and `fee_index` are left out where they say nothing."""
    return encode(
        _MeltRequestWire(
            request.quote,
            inputs_to_wire(request.inputs),
            outputs_to_wire(request.outputs) or None,
            request.prefer_async or None,
            request.fee_index,
        )
    )
