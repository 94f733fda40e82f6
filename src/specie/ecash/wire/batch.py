"""JSON of batches of mint quotes (NUT-29), both ways: looking at several, and minting several at once."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from specie.ecash.codes import BatchTooLargeError, DuplicateQuotesError
from specie.ecash.quote import MintQuote
from specie.ecash.transaction import MintBatchRequest
from specie.ecash.wire.codec import amount, bounded_text, decode, encode, quote_id
from specie.ecash.wire.coins import OutputWire, outputs_from_wire, outputs_to_wire
from specie.ecash.wire.quotes import MintQuoteWire, method_checked, mint_quote_from_wire, mint_quote_to_wire
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "mint_batch_request_from_json",
    "mint_batch_request_to_json",
    "mint_quotes_from_json",
    "mint_quotes_to_json",
    "quote_check_request_from_json",
    "quote_check_request_to_json",
]

_SIGNATURE_CHARS = 128


class _QuoteCheckWire(msgspec.Struct):
    quotes: list[str]


class _MintBatchWire(msgspec.Struct, omit_defaults=True):
    quotes: list[str]
    outputs: list[OutputWire]
    quote_amounts: list[int] | None = None
    signatures: list[str | None] | None = None


_quote_check = msgspec.json.Decoder(_QuoteCheckWire)
_mint_batch = msgspec.json.Decoder(_MintBatchWire)
_mint_quotes = msgspec.json.Decoder(list[MintQuoteWire])


def _quotes(ids: Sequence[str], most: int) -> tuple[str, ...]:
    """Ids of a batch: at least one, each once, no more than the mint takes."""
    if not ids:
        raise MalformedError("a batch names at least one quote")
    if len(ids) > most:
        raise BatchTooLargeError
    found = tuple(quote_id(one) for one in ids)
    if len(set(found)) != len(found):
        raise DuplicateQuotesError
    return found


def quote_check_request_from_json(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> tuple[str, ...]:
    """Body of POST /v1/mint/quote/{method}/check: quote ids. DuplicateQuotesError, BatchTooLargeError, MalformedError."""
    return _quotes(decode(data, _quote_check, limits).quotes, limits.batch_quotes)


def quote_check_request_to_json(quotes: Sequence[str]) -> bytes:
    """Body of POST /v1/mint/quote/{method}/check."""
    return encode(_QuoteCheckWire(list(quotes)))


def mint_quotes_to_json(quotes: Sequence[MintQuote]) -> bytes:
    """Answer to a check of several quotes, in the order of the request."""
    return encode([mint_quote_to_wire(quote) for quote in quotes])


def mint_quotes_from_json(
    data: bytes, asked: Sequence[str], *, method: str, unit: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> list[MintQuote]:
    """A mint's answer about the quotes `asked` for; MalformedError unless it names just those, in their order."""
    quotes = [
        mint_quote_from_wire(wire, method=method, unit=unit, amount_asked=None, limits=limits)
        for wire in decode(data, _mint_quotes, limits)
    ]
    if [quote.quote for quote in quotes] != list(asked):
        raise MalformedError("the answer names other quotes than were asked for, or in another order")
    return quotes


def mint_batch_request_from_json(data: bytes, *, method: str, limits: Limits = DEFAULT_LIMITS) -> MintBatchRequest:
    """Body of POST /v1/mint/{method}/batch. MalformedError, also where an array has another length than `quotes`.

    DuplicateQuotesError (11016), BatchTooLargeError (11017), TooManyOutputsError. Signatures are judged with the quotes.
    """
    wire = decode(data, _mint_batch, limits)
    quotes = _quotes(wire.quotes, limits.batch_quotes)
    for array in (wire.quote_amounts, wire.signatures):
        if array is not None and len(array) != len(quotes):
            raise MalformedError("quote_amounts and signatures have one entry for each quote")
    return MintBatchRequest(
        method=method_checked(method),
        quotes=quotes,
        outputs=outputs_from_wire(wire.outputs, limits, checked_later=True),
        amounts=None if wire.quote_amounts is None else tuple(amount(one) for one in wire.quote_amounts),
        signatures=None
        if wire.signatures is None
        else tuple(None if one is None else bounded_text(one, _SIGNATURE_CHARS, "signature") for one in wire.signatures),
    )


def mint_batch_request_to_json(request: MintBatchRequest) -> bytes:
    """Body of POST /v1/mint/{method}/batch; `quote_amounts` and `signatures` are left out where there are none."""
    return encode(
        _MintBatchWire(
            list(request.quotes),
            outputs_to_wire(request.outputs),
            None if request.amounts is None else list(request.amounts),
            None if request.signatures is None else list(request.signatures),
        )
    )
