"""Sends a journalled mint or swap request, and finds out what became of it. Melts are in `pay`: they are never simply re-sent.

Only the identical bytes are ever sent again (the mint is asked to be idempotent, NUT-19). Where the mint is not, the
signatures are asked for by the outputs (NUT-09) and believed only if the mint also says that the inputs are gone (NUT-07)
or the quote was issued. An operation whose fate cannot be learnt stays OPEN with its coins locked.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

from specie.ecash.codes import (
    KeysetExpiredError,
    KeysetInactiveError,
    KeysetUnknownError,
    OutputsPendingError,
    OutputsSignedError,
    ProofsPendingError,
    ProofsSpentError,
    QuoteIssuedError,
    QuotePendingError,
)
from specie.ecash.proof import BlindedMessage, BlindSignature, State
from specie.ecash.quote import MintQuote
from specie.kernel.errors import InvariantError, PeerFaultError, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.wallet.engine import journal
from specie.wallet.engine.context import Context
from specie.wallet.engine.mints import fresh_keysets
from specie.wallet.engine.outputs import coins_from, probe_outputs
from specie.wallet.errors import OperationFailedError, OperationOpenError
from specie.wallet.holding import KnownKeyset, WalletMintQuote
from specie.wallet.operation import Claimed, Kind, Operation, Output, Purpose, Role
from specie.wallet.states import OperationState

__all__ = [
    "KEYSET_LEFT",
    "CounterMetError",
    "KeysetLeftError",
    "RebuildError",
    "as_mint_quote",
    "check_unspent",
    "perform",
    "restored_pairs",
    "spent_of",
    "states_of",
    "taken_up",
]

KEYSET_LEFT = (KeysetInactiveError, KeysetExpiredError, KeysetUnknownError)
"""What a mint says to outputs of a keyset that it no longer signs with."""

_MAYBE_DONE = (ProofsSpentError, OutputsSignedError, QuoteIssuedError)
_BUSY = (ProofsPendingError, OutputsPendingError, QuotePendingError)
_JUMP_BATCHES = 1000


class RebuildError(RefusedError):
    """The request failed because what it was built on has changed; that is mended, so build it again."""


class CounterMetError(RebuildError):
    """Another device of this seed used these secrets; the counters have been moved on."""


class KeysetLeftError(RebuildError):
    """The mint no longer signs with the keyset of our outputs (it was rotated); the mint's keysets were looked at again."""


async def perform(ctx: Context, operation: Operation, *, resumed: bool = False) -> None:
    """Carry an OPEN mint or swap operation to its end: DONE on return.

    One that is `resumed` long after is only looked up: if it took no effect its coins are free again. What others gave us
    (`RECEIVE`) is still sent, for its coins are nowhere else.

    RefusedError (the mint's) or OperationFailedError where it FAILED, RebuildError where it failed and may be built
    again, UnavailableError where it was never sent (FAILED too, unless `resumed`), OperationOpenError where nobody knows
    yet, PeerFaultError (still OPEN) where the mint's answer is wrong.
    """
    ctx.busy.add(operation.operation_id)
    old = ctx.clock.now() - operation.created_at > ctx.settings.replay_window_s
    try:
        if resumed and old and operation.purpose is not Purpose.RECEIVE:
            late = OperationFailedError(
                "it had not reached the mint, and is not sent so long after", operation=operation.operation_id
            )
            await _reconcile(ctx, operation, late)
        else:
            await _perform(ctx, operation, resumed)
    finally:
        ctx.busy.discard(operation.operation_id)


@contextlib.asynccontextmanager
async def taken_up(ctx: Context, operation_id: str) -> AsyncIterator[Operation | None]:
    """An interrupted operation to carry on, as it is now; None if a task of this process is at it or it is OPEN no more.

    What is OPEN no more may have given its counters back: sent now, it would make coins whose secrets others use.
    """
    if operation_id in ctx.busy:
        yield None
        return
    ctx.busy.add(operation_id)
    try:
        operation = await ctx.storage.read(lambda tx: ctx.store.operation(tx, operation_id))
        yield operation if operation is not None and operation.state is OperationState.OPEN else None
    finally:
        ctx.busy.discard(operation_id)


async def _perform(ctx: Context, operation: Operation, uncertain: bool) -> None:
    attempt = 0
    while True:
        attempt += 1
        try:
            signatures = await _send(ctx, operation)
        except UnavailableError as error:
            trouble: SpecieError = error
        except UncertainError as error:
            uncertain, trouble = True, error
        except PeerFaultError as error:
            await journal.note(ctx, operation, error.detail)
            await _reconcile(ctx, operation, error)
            return
        except _MAYBE_DONE as error:
            await _reconcile(ctx, operation, error)
            return
        except _BUSY as error:
            if not uncertain:
                await journal.fail(ctx, operation, error.detail)
                raise
            trouble = error
        except RefusedError as error:
            if not uncertain:
                await journal.fail(ctx, operation, error.detail)
                await _follow_rotation(ctx, operation, error)
                raise
            await _reconcile(ctx, operation, error)
            return
        else:
            await _settle(ctx, operation, signatures)
            return
        if attempt >= ctx.settings.retry.attempts:
            break
        await ctx.pause(attempt)
    if not uncertain:
        await journal.fail(ctx, operation, trouble.detail, never_sent=True)
        raise trouble
    await journal.note(ctx, operation, trouble.detail)
    raise OperationOpenError(
        "the mint did not say what became of the request; its coins stay locked", reference=operation.operation_id
    ) from trouble


async def _send(ctx: Context, operation: Operation) -> Sequence[BlindSignature]:
    client = ctx.client(operation.mint)
    match operation.kind:
        case Kind.MINT if operation.quote is None:
            return await client.issue_batch(operation.method, operation.request)
        case Kind.MINT:
            return await client.issue(operation.method, operation.request)
        case Kind.SWAP:
            return await client.swap(operation.request)
        case Kind.MELT:
            raise InvariantError("a melt is not performed like a swap")


async def _settle(ctx: Context, operation: Operation, signatures: Sequence[BlindSignature]) -> None:
    if len(signatures) != len(operation.outputs):
        fault = PeerFaultError("the mint signed another number of outputs than asked", peer=operation.mint)
        await _wrong(ctx, operation, fault)
        raise fault
    await _settle_pairs(ctx, operation, list(zip(operation.outputs, signatures, strict=True)), restored=False)


async def _settle_pairs(
    ctx: Context, operation: Operation, pairs: Sequence[tuple[Output, BlindSignature]], *, restored: bool
) -> None:
    keysets = await ctx.keysets(operation.mint)
    require = (await ctx.info(operation.mint)).supports(12) and not restored
    try:
        coins = coins_from(operation, pairs, keysets, require_dleq=require)
    except PeerFaultError as error:
        await _wrong(ctx, operation, error)
        raise
    await journal.settle(ctx, operation, coins)


async def _wrong(ctx: Context, operation: Operation, error: PeerFaultError) -> None:
    """The mint took our request and answered with something worthless: keep everything, and tell a human."""
    await journal.note(ctx, operation, error.detail)
    ctx.telemetry.page("wallet: a mint's signatures are wrong", mint=operation.mint, operation=operation.operation_id)


async def restored_pairs(ctx: Context, mint: str, outputs: Sequence[Output]) -> list[tuple[Output, BlindSignature]]:
    """Those of the outputs that the mint has signed, matched by B_ (NUT-09); each once."""
    by_b = {output.b_: output for output in outputs}
    answers = await ctx.client(mint).restore([BlindedMessage(output.amount, output.keyset_id, output.b_) for output in outputs])
    return [(by_b.pop(message.B_), signature) for message, signature in answers if message.B_ in by_b]


async def states_of(ctx: Context, mint: str, ys: Sequence[bytes]) -> dict[bytes, State]:
    """What the mint says of coins, in batches it takes (NUT-07). PeerFaultError unless every one is answered."""
    limit = await ctx.array_limit(mint)
    states: dict[bytes, State] = {}
    for start in range(0, len(ys), limit):
        batch = list(ys[start : start + limit])
        for one in await ctx.client(mint).check_state(batch):
            states[one.Y] = one.state
    if any(y not in states for y in ys):
        raise PeerFaultError("the mint left a coin out of its answer", peer=mint)
    return states


async def check_unspent(ctx: Context, mint: str, ys: Sequence[bytes]) -> None:
    """Ask before a swap of coins that strangers gave us (NUT-07). ProofsSpentError, ProofsPendingError.

    A swap that fails uses up secrets of the seed, and strangers must not make gaps in them: `restore` would stop there.
    """
    states = await states_of(ctx, mint, ys)
    if State.SPENT in states.values():
        raise ProofsSpentError
    if State.PENDING in states.values():
        raise ProofsPendingError


def spent_of(states: dict[bytes, State]) -> list[bytes]:
    """The coins that are SPENT."""
    return [y for y, state in states.items() if state is State.SPENT]


async def _reconcile(ctx: Context, operation: Operation, cause: SpecieError) -> None:
    """Learn by NUT-09 and NUT-07 whether the request took effect; settle, or fail and raise."""
    try:
        pairs = await restored_pairs(ctx, operation.mint, operation.outputs)
        effect, spent, pending = await _effect(ctx, operation)
    except (UnavailableError, RefusedError) as error:
        await journal.note(ctx, operation, error.detail)
        raise OperationOpenError(
            "the mint does not say what became of the request; its coins stay locked", reference=operation.operation_id
        ) from error
    same = len(pairs) == len(operation.outputs) and all(o.amount == s.amount and o.keyset_id == s.id for o, s in pairs)
    foreign = any(o.role is not Role.CHANGE and (o.amount, o.keyset_id) != (s.amount, s.id) for o, s in pairs)
    if effect and pairs and not (foreign and _hold_otherwise(operation, pairs, await ctx.keysets(operation.mint))):
        if not same:
            ctx.telemetry.page("wallet: a mint signed part of a request", mint=operation.mint, operation=operation.operation_id)
        await _settle_pairs(ctx, operation, pairs, restored=True)
        return
    if pending or (effect and isinstance(cause, PeerFaultError)):
        await journal.note(ctx, operation, cause.detail)
        raise OperationOpenError(
            "the mint is still working on the coins; they stay locked", reference=operation.operation_id
        ) from cause
    if isinstance(cause, PeerFaultError):
        await journal.fail(ctx, operation, cause.detail)
        raise cause
    if pairs or isinstance(cause, OutputsSignedError):
        await _move_counters(ctx, operation)
        await journal.fail(ctx, operation, "secrets were used by another device", spent=spent)
        raise CounterMetError("these secrets were used by another device of this seed; the counter was moved on")
    await journal.fail(ctx, operation, cause.detail, spent=spent)
    await _follow_rotation(ctx, operation, cause)
    if isinstance(cause, RefusedError):
        raise cause
    raise OperationFailedError(cause.detail, operation=operation.operation_id)


def _hold_otherwise(
    operation: Operation, pairs: Sequence[tuple[Output, BlindSignature]], keysets: Sequence[KnownKeyset]
) -> bool:
    """Whether the signatures are good for the amounts that they name, though these are not what was asked for.

    They are then another request's, made by another device of this seed with the same secrets; `restore` finds its coins.
    """
    try:
        coins_from(operation, pairs, keysets, require_dleq=True, restored=True)
    except PeerFaultError:
        return False
    return True


async def _follow_rotation(ctx: Context, operation: Operation, cause: SpecieError) -> None:
    """KeysetLeftError if the mint refused for a keyset that it has rotated away and others could be learnt."""
    if isinstance(cause, KEYSET_LEFT):
        await fresh_keysets(ctx, operation.mint, force=True)
        raise KeysetLeftError(cause.detail, code=cause.code) from cause


async def _effect(ctx: Context, operation: Operation) -> tuple[bool, list[bytes], bool]:
    """Whether all inputs are gone or the quotes were issued; which inputs are SPENT; whether the mint works on any."""
    if operation.kind is Kind.MINT:
        return await _issued(ctx, operation), [], False
    states = await states_of(ctx, operation.mint, operation.inputs)
    spent = spent_of(states)
    return len(spent) == len(states), spent, State.PENDING in states.values()


async def _issued(ctx: Context, operation: Operation) -> bool:
    """Whether the mint says that what is claimed was issued: of each quote as much as was issued before, and the claim."""
    for claimed in operation.claims or (Claimed(operation.quote or "", operation.amount, 0),):
        quote = await ctx.storage.read(lambda tx, name=claimed.quote: ctx.store.mint_quote(tx, operation.mint, name))  # type: ignore[misc]
        if quote is None:
            raise InvariantError("an operation names a quote that is not stored")
        seen = await ctx.client(operation.mint).mint_quote(as_mint_quote(quote))
        if seen.amount_issued < claimed.issued + claimed.amount:
            return False
    return True


def as_mint_quote(quote: WalletMintQuote) -> MintQuote:
    """The stored quote as the mint's value; only an invoice's amount tells an old mint's amounts from its state."""
    return MintQuote(
        quote=quote.quote,
        method=quote.method,
        request=quote.request,
        unit=quote.unit,
        amount=None if quote.reusable else quote.amount,
        expiry=quote.expiry,
        amount_paid=quote.amount_paid,
        amount_issued=quote.amount_issued,
        updated_at=quote.updated_at,
    )


async def _move_counters(ctx: Context, operation: Operation) -> None:
    """Put the counter of each keyset of the operation behind the last secret that the mint has signed (NUT-13)."""
    for keyset_id in sorted({output.keyset_id for output in operation.outputs if output.counter is not None}):
        start = await ctx.storage.read(lambda tx, k=keyset_id: ctx.store.counter(tx, operation.mint, k))  # type: ignore[misc]
        for _ in range(_JUMP_BATCHES):
            used = await _last_used(ctx, operation.mint, keyset_id, start)
            if used is None:
                break
            start = used + 1
        await ctx.storage.transact(
            lambda tx, k=keyset_id, n=start: ctx.store.raise_counter(tx, operation.mint, k, n)  # type: ignore[misc]
        )


async def _last_used(ctx: Context, mint: str, keyset_id: str, start: int) -> int | None:
    """The last counter from `start` on, within one batch, whose output the mint has signed."""
    outputs = await probe_outputs(ctx, keyset_id, start, min(ctx.settings.restore_batch, await ctx.array_limit(mint)))
    hits = [output.counter for output, _ in await restored_pairs(ctx, mint, outputs) if output.counter is not None]
    return max(hits, default=None)
