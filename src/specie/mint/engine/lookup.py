"""Mint quotes by the keys they are locked to (draft: pull request 341 of the NUTs), for those who hold the keys.

Nothing is written and no rail is asked: a quote is shown as the store has it, and `mint_quote` looks closer. Minting a
quote needs its own signature over the outputs (NUT-20), so a question that was overheard moves no money.
"""

from __future__ import annotations

from hashlib import sha256

from specie.ecash import QuoteLookup, QuotePage, verify_quote_lookup
from specie.kernel import Limits, MalformedError, RefusedError
from specie.mint.engine.context import Context

__all__ = ["DRAFT_KEY", "announced", "find_mint_quotes"]

DRAFT_KEY = "XX"
"""Under which the draft, which has no number yet, is announced."""
_MAX_PUBKEYS = 50
_MAX_PAGE = 100


def announced(limits: Limits) -> dict[str, object]:
    """What `/v1/info` says of it."""
    return {"supported": True, "draft": True, "max_pubkeys": _max_pubkeys(limits), "max_page_size": _MAX_PAGE}


def _max_pubkeys(limits: Limits) -> int:
    return min(_MAX_PUBKEYS, limits.array_length)


async def find_mint_quotes(context: Context, request: QuoteLookup, mint_pubkey: bytes) -> QuotePage:
    """A page of the quotes of a method that are locked to the keys, in any state, in the order of their ids.

    RefusedError where this is switched off, or as `verify_quote_lookup`; MalformedError for a cursor of other keys.
    """
    if not context.settings.quote_lookup:
        raise RefusedError("quotes are not found by key here")
    verify_quote_lookup(request, mint_pubkey, context.clock.now(), most=_max_pubkeys(context.settings.limits))
    scope = sha256(b"".join([request.method.encode(), b"\0", *sorted(request.pubkeys)])).hexdigest()[:32]
    after = _after(request.cursor, scope)
    limit = min(request.limit or _MAX_PAGE, _MAX_PAGE)
    keys = [pubkey.hex() for pubkey in request.pubkeys]
    found = await context.storage.read(
        lambda tx: context.store.mint_quotes_by_pubkey(tx, request.method, keys, after, limit + 1)
    )
    page = found[:limit]
    cursor = f"{scope}.{page[-1].quote}" if len(found) > limit else None
    context.telemetry.count("quote_lookups")
    return QuotePage(tuple(record.public() for record in page), cursor)


def _after(cursor: str | None, scope: str) -> str:
    """The quote id behind which to go on. A cursor authorises nothing, so that it is bound to its keys is all it must be."""
    if cursor is None:
        return ""
    head, _, quote = cursor.partition(".")
    if head != scope or not quote:
        raise MalformedError("the cursor belongs to another question")
    return quote
