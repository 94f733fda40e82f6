"""Claiming everything that was paid, several quotes of one mint, unit and method at a time where it can (NUT-29).

A batch is one journalled operation with one answer: all of its quotes or none. Its bytes, once sent, are only ever sent again
as they are. A batch that the mint refuses had no effect, and its quotes are claimed one by one.

| a crash ...                       | the mint has           | `resume` finds                 | and                            |
|-----------------------------------|------------------------|--------------------------------|--------------------------------|
| after the journal, before sending | nothing                | an OPEN batch                  | sends the same bytes           |
| after the request was sent        | issued all, or nothing | the same                       | sends the same bytes, restores |
| after a refusal                   | nothing                | a FAILED batch, quotes as paid | claims them anew               |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from specie.ecash import wire
from specie.ecash.transaction import MintBatchRequest
from specie.kernel.errors import PeerFaultError, RefusedError, UnavailableError, UncertainError
from specie.wallet.engine import journal
from specie.wallet.engine.context import Context
from specie.wallet.engine.issue import (
    claim,
    claim_outputs,
    look_at_mint_quote,
    most_at_once,
    most_outputs,
    note_mint_quote,
    quote_signature,
)
from specie.wallet.engine.methods import batch_size, setting_of
from specie.wallet.engine.mints import active_keyset
from specie.wallet.engine.perform import as_mint_quote, perform
from specie.wallet.holding import WalletMintQuote
from specie.wallet.operation import Claimed, Kind, Operation, Purpose, blinded_messages
from specie.wallet.states import OperationState

__all__ = ["claim_all"]

_TROUBLE = (RefusedError, PeerFaultError, UnavailableError, UncertainError)


async def claim_all(ctx: Context, mint: str | None = None) -> dict[str, int]:
    """Look at every quote that may have been paid, and mint what can be claimed; what was minted, by unit.

    Never raises for a quote: what could not be claimed is told to telemetry and tried again next time. Quotes that an
    unfinished operation works on are left to `resume`.
    """
    places: dict[tuple[str, str, str], list[WalletMintQuote]] = defaultdict(list)
    busy = await _claimed_now(ctx)
    known = {record.url for record in await ctx.storage.read(ctx.store.mints)}
    for quote in await ctx.storage.read(ctx.store.mint_quotes):
        if quote.mint not in known or (mint is not None and quote.mint != mint):
            continue  # of a mint that was forgotten, or not asked for
        if (quote.mint, quote.quote) not in busy and not _given_up(ctx, quote):
            places[quote.mint, quote.unit, quote.method].append(quote)
    minted: dict[str, int] = defaultdict(int)
    for place in sorted(places):
        minted[place[1]] += await _claim_place(ctx, places[place])
    return {unit: amount for unit, amount in minted.items() if amount}


async def _claimed_now(ctx: Context) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for operation in await ctx.storage.read(lambda tx: ctx.store.operations(tx, (OperationState.OPEN,))):
        if operation.kind is Kind.MINT:
            found |= {(operation.mint, name) for name in (operation.quote, *(c.quote for c in operation.claims)) if name}
    return found


def _given_up(ctx: Context, quote: WalletMintQuote) -> bool:
    """Whether nothing can arrive any more. Quotes that ran out long ago are not asked about for ever."""
    stale = quote.expiry is not None and ctx.clock.now() > quote.expiry + ctx.settings.quote_patience_s
    return quote.finished or (stale and not quote.claimable)


async def _claim_place(ctx: Context, quotes: Sequence[WalletMintQuote]) -> int:
    """Quotes of one mint, unit and method."""
    mint, method = quotes[0].mint, quotes[0].method
    size = batch_size(await ctx.info(mint), method, ctx.settings.limits.batch_quotes)
    try:
        seen = [one for some in _chunks(quotes, size) for one in await _look(ctx, some)]
    except UnavailableError as error:
        ctx.telemetry.event("wallet_quote_not_claimed", mint=mint, reason=error.detail)
        return 0
    setting = setting_of(await ctx.info(mint), 4, method, quotes[0].unit)
    least = 1 if setting is None or method == "bolt11" else max(setting.min_amount or 1, 1)
    paid = sorted((quote for quote in seen if quote.claimable >= least), key=lambda quote: (quote.created_at, quote.quote))
    minted = 0
    for some in _chunks(paid, size):
        minted += await _claim_some(ctx, some)
    return minted


def _chunks(quotes: Sequence[WalletMintQuote], size: int) -> list[Sequence[WalletMintQuote]]:
    return [quotes[start : start + size] for start in range(0, len(quotes), size)]


async def _look(ctx: Context, quotes: Sequence[WalletMintQuote]) -> list[WalletMintQuote]:
    """The quotes as they are now: in one question where the mint takes it, else one by one. UnavailableError."""
    if len(quotes) > 1:
        try:
            answers = await ctx.client(quotes[0].mint).mint_quotes([as_mint_quote(quote) for quote in quotes])
            if [seen.quote for seen in answers] != [quote.quote for quote in quotes]:
                raise PeerFaultError("the mint answered about other quotes than asked", peer=quotes[0].mint)
            return [await note_mint_quote(ctx, quote, seen) for quote, seen in zip(quotes, answers, strict=True)]
        except (RefusedError, PeerFaultError) as error:  # one unknown quote spoils the whole answer
            ctx.telemetry.event("wallet_batch_not_seen", mint=quotes[0].mint, reason=error.detail)
    found: list[WalletMintQuote] = []
    for quote in quotes:
        try:
            found.append(await look_at_mint_quote(ctx, quote))
        except (RefusedError, PeerFaultError) as error:
            ctx.telemetry.event("wallet_quote_not_claimed", mint=quote.mint, reason=error.detail)
    return found


async def _claim_some(ctx: Context, quotes: Sequence[WalletMintQuote]) -> int:
    """Claim together; where that is refused, one by one. Not where the fate of the batch is open: it may have been signed."""
    if len(quotes) > 1:
        try:
            return await _claim_batch(ctx, quotes)
        except RefusedError as error:
            ctx.telemetry.event("wallet_batch_refused", mint=quotes[0].mint, reason=error.detail)
        except (PeerFaultError, UnavailableError, UncertainError) as error:
            ctx.telemetry.event("wallet_quote_not_claimed", mint=quotes[0].mint, reason=error.detail)
            return 0
    minted = 0
    for quote in quotes:
        try:
            minted += await claim(ctx, quote)
        except _TROUBLE as error:
            ctx.telemetry.event("wallet_quote_not_claimed", mint=quote.mint, reason=error.detail)
    return minted


async def _claim_batch(ctx: Context, quotes: Sequence[WalletMintQuote]) -> int:
    first = quotes[0]
    claims = tuple(
        [Claimed(quote.quote, min(quote.claimable, await most_at_once(ctx, quote)), quote.amount_issued) for quote in quotes]
    )
    total = sum(claimed.amount for claimed in claims)
    if total > await most_outputs(ctx, first.mint, first.unit):
        raise RefusedError("too much for one batch")
    keyset = await active_keyset(ctx, first.mint, first.unit)
    outputs = await claim_outputs(ctx, first.mint, keyset, total)
    messages = blinded_messages(outputs)
    signatures = tuple([await quote_signature(ctx, quote, messages) for quote in quotes])
    request = MintBatchRequest(
        method=first.method,
        quotes=tuple(claimed.quote for claimed in claims),
        outputs=messages,
        amounts=tuple(claimed.amount for claimed in claims),
        signatures=signatures if any(signature is not None for signature in signatures) else None,
    )
    now = ctx.clock.now()
    operation = Operation(
        operation_id=ctx.new_id(),
        kind=Kind.MINT,
        purpose=Purpose.MINT,
        mint=first.mint,
        unit=first.unit,
        amount=total,
        fee=0,
        request=wire.mint_batch_request_to_json(request),
        inputs=(),
        outputs=outputs,
        method=first.method,
        claims=claims,
        created_at=now,
        updated_at=now,
    )
    await journal.begin(ctx, operation)
    await perform(ctx, operation)
    return total
