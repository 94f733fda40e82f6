"""Several mint quotes at once (NUT-29): looked at together, and issued in one transaction, all or none.

What a crash leaves behind:

    before the transaction   nothing
    in the transaction       nothing: it is undone
    after the transaction    all of it; the same request again is answered from the store

Inside the transaction quotes are read and changed in the order of their ids, whatever the order of the request, so that two
batches which overlap never wait for each other in a ring; and each change is a compare and swap, so that none is issued twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from specie.ecash import BlindSignature, MintBatchRequest, MintQuote, verify_quote_signatures
from specie.ecash.codes import (
    BatchTooLargeError,
    DuplicateQuotesError,
    QuoteSignatureInvalidError,
    TooManyOutputsError,
    UnbalancedError,
    UnitMismatchError,
)
from specie.kernel import InvariantError, MalformedError, RefusedError
from specie.ledger import Posting
from specie.mint.engine import checks
from specie.mint.engine.context import Context
from specie.mint.engine.deposit import change_quote, transact_moving
from specie.mint.engine.issue import check_mintable, find_mint_quote, look_up
from specie.mint.engine.swap import refuse_outputs, replay
from specie.mint.quotes import MintRecord
from specie.storage import Transaction

__all__ = ["check_mint_quotes", "issue_batch"]


def _check_size(context: Context, quotes: Sequence[str]) -> None:
    if not quotes:
        raise MalformedError("a batch names at least one quote")
    if len(quotes) > context.settings.limits.batch_quotes:
        raise BatchTooLargeError
    if len(set(quotes)) != len(quotes):
        raise DuplicateQuotesError


async def check_mint_quotes(context: Context, quotes: Sequence[str], method: str) -> list[MintQuote]:
    """Quotes as they stand, in request order. RefusedError if one is not known, or of another method: then none is shown."""
    _check_size(context, quotes)
    records = [await find_mint_quote(context, quote, method) for quote in quotes]
    return [(await look_up(context, record)).public() for record in records]


async def issue_batch(context: Context, request: MintBatchRequest) -> list[BlindSignature]:
    """Sign outputs for several paid quotes; signatures in order. The same request again gets the same answer.

    Where the outputs are fewer than the amounts named (which quotes that are issued in parts allow), the quotes are drawn on
    in request order, and what is not drawn stays mintable. RefusedError with the NUT-29, NUT-04 or NUT-20 code; then nothing
    has changed.
    """
    _check_size(context, request.quotes)
    if len(request.outputs) > context.settings.limits.array_length:
        raise TooManyOutputsError
    records = [await find_mint_quote(context, quote, request.method) for quote in request.quotes]
    named = json.dumps([request.quotes, request.amounts])
    operation = checks.operation_hash("mint batch", named, (), request.outputs)
    _check_signatures(records, request)  # once, for they cost the most: a replay is for who holds the keys, too
    try:
        return await _issue_once(context, records, request, operation)
    except RefusedError:
        done = await replay(context, request.outputs, operation)
        if done is None:
            raise
        context.telemetry.count("replayed", verb="mint")
        return done


def _check_signatures(records: Sequence[MintRecord], request: MintBatchRequest) -> None:
    """Each locked quote has a signature over its id and all outputs, and no other quote has one (NUT-20, NUT-29)."""
    signatures = request.signatures or (None,) * len(records)
    if len(signatures) != len(records):
        raise MalformedError("signatures has one entry for each quote")
    locks: list[tuple[str, str | None, str]] = []
    for record, signature in zip(records, signatures, strict=True):
        if record.pubkey is not None:
            locks.append((record.pubkey, signature, record.quote))
        elif signature is not None:
            raise QuoteSignatureInvalidError("a quote that is not locked takes no signature")
    verify_quote_signatures(locks, request.outputs)


def _shares(records: Sequence[MintRecord], request: MintBatchRequest, total: int) -> list[int]:
    """What each quote gives of `total`, the sum of the outputs, in request order."""
    if request.amounts is None:
        if any(record.reusable for record in records):
            raise MalformedError(f"method {request.method} needs quote_amounts")
        wanted = [record.amount or 0 for record in records]
    else:
        wanted = list(request.amounts)
    if len(wanted) != len(records) or not all(wanted):
        raise MalformedError("quote_amounts has one entry for each quote, and none is zero")
    left = total
    shares: list[int] = []
    for record, amount in zip(records, wanted, strict=True):
        if not record.reusable and amount != record.amount:
            raise UnbalancedError(f"a quote over {record.amount} is issued whole, not {amount}")
        share = min(amount, left)
        if share < amount and not record.reusable:
            raise UnbalancedError(f"outputs {total} < quotes {sum(wanted)}")
        shares.append(share)
        left -= share
    if left:
        raise UnbalancedError(f"outputs {total} > quotes {sum(wanted)}")
    return shares


async def _issue_once(
    context: Context, records: Sequence[MintRecord], request: MintBatchRequest, operation: bytes
) -> list[BlindSignature]:
    now = context.clock.now()
    unit, total = checks.check_outputs(request.outputs, context.catalogue, now, context.settings.limits.array_length)
    if any(record.unit != unit for record in records):
        raise UnitMismatchError
    shares = _shares(records, request, total)
    for record, share, wanted in zip(records, shares, request.amounts or shares, strict=True):
        check_mintable(await look_up(context, record), max(share, wanted), now)
    signatures = await checks.blind_sign(context, request.outputs)
    signed = [(output.B_, signature) for output, signature in zip(request.outputs, signatures, strict=True)]
    postings = [
        *(Posting(f"liability:deposit/{request.method}", unit, share) for share in shares),
        *(
            Posting(f"liability:keyset/{keyset}/issued", unit, -value)
            for keyset, value in checks.by_keyset(request.outputs).items()
        ),
    ]
    drawn = sorted((record.quote, share) for record, share in zip(records, shares, strict=True) if share)

    async def body(tx: Transaction) -> None:
        for quote, share in drawn:
            current = await context.store.mint_quote(tx, quote)
            if current is None:
                raise InvariantError("a mint quote vanished")
            check_mintable(current, share, now)
            issued = replace(current, amount_issued=current.amount_issued + share, updated_at=max(now, current.updated_at))
            await change_quote(context, tx, current, issued)
        if not await context.store.add_signatures(tx, signed, operation=operation, quote=None, at=now):
            await refuse_outputs(context, tx, request.outputs)
        await context.ledger.post(tx, at=now, kind="mint", reference=operation.hex()[:32], postings=postings)

    await transact_moving(context, body)
    return signatures
