"""JSON of the question after mint quotes by key, and of its answer (draft: pull request 341 of the NUTs)."""

from __future__ import annotations

import msgspec

from specie.ecash.quote import MintQuote
from specie.ecash.quote_lookup import QuoteLookup, QuotePage
from specie.ecash.wire.codec import amount, bounded_text, decode, encode, point
from specie.ecash.wire.quotes import MintQuoteWire, mint_quote_from_json, mint_quote_to_wire
from specie.kernel.encoding import hex_checked
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS, Limits

__all__ = [
    "quote_lookup_from_json",
    "quote_lookup_to_json",
    "quote_page_from_json",
    "quote_page_to_json",
]

_CURSOR_CHARS = 512


class _LookupWire(msgspec.Struct, omit_defaults=True):
    pubkeys: list[str]
    pubkey_signatures: list[str]
    timestamp: int
    limit: int | None = None
    cursor: str | None = None


class _PageWire(msgspec.Struct):
    quotes: list[msgspec.Raw]
    next_cursor: str | None = None


class _PageOutWire(msgspec.Struct):
    quotes: list[MintQuoteWire]
    next_cursor: str | None


_lookup = msgspec.json.Decoder(_LookupWire)
_page = msgspec.json.Decoder(_PageWire)


def quote_lookup_to_json(request: QuoteLookup) -> bytes:
    """A question."""
    return encode(
        _LookupWire(
            [key.hex() for key in request.pubkeys],
            [signature.hex() for signature in request.signatures],
            request.timestamp,
            request.limit,
            request.cursor,
        )
    )


def quote_lookup_from_json(data: bytes, *, method: str, limits: Limits = DEFAULT_LIMITS) -> QuoteLookup:
    """A question about quotes of `method`; MalformedError. Signatures are not verified yet."""
    wire = decode(data, _lookup, limits)
    if max(len(wire.pubkeys), len(wire.pubkey_signatures)) > limits.array_length:
        raise MalformedError("too many keys")
    return QuoteLookup(
        method=method,
        pubkeys=tuple(point(key) for key in wire.pubkeys),
        signatures=tuple(hex_checked(signature, 64) for signature in wire.pubkey_signatures),
        timestamp=amount(wire.timestamp),
        limit=None if wire.limit is None else amount(wire.limit),
        cursor=None if wire.cursor is None else bounded_text(wire.cursor, _CURSOR_CHARS, "cursor"),
    )


def quote_page_to_json(page: QuotePage) -> bytes:
    """An answer."""
    return encode(_PageOutWire(list(map(mint_quote_to_wire, page.quotes)), page.next_cursor))


def quote_page_from_json(data: bytes, *, method: str, limits: Limits = DEFAULT_LIMITS) -> QuotePage:
    """An answer to a question about `method`; MalformedError, also where one of the quotes does not fit."""
    wire = decode(data, _page, limits)
    quotes: list[MintQuote] = [mint_quote_from_json(bytes(raw), method=method, limits=limits) for raw in wire.quotes]
    cursor = None if wire.next_cursor is None else bounded_text(wire.next_cursor, _CURSOR_CHARS, "cursor")
    return QuotePage(tuple(quotes), cursor)
