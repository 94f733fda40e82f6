"""Receiving: coins of others become coins of ours, by a swap at their mint, or for a while without one.

A token is money only once it is swapped: until then whoever sent it can spend it too. Off-line receipt therefore insists
on a DLEQ proof on every coin, against keys that were known before, and keeps the coins apart until they are swapped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

import msgspec

from specie.ecash import wire
from specie.ecash.codes import KeysetExpiredError, KeysetInactiveError, ProofsSpentError
from specie.ecash.conditions import is_preimage, parse_secret, witness_text
from specie.ecash.keyset import is_expired
from specie.ecash.proof import Proof
from specie.ecash.token import Token, decode_token
from specie.ecash.transaction import SwapRequest
from specie.kernel.encoding import hex_checked
from specie.kernel.errors import MalformedError, RefusedError
from specie.storage.ports import Transaction
from specie.wallet.engine import journal
from specie.wallet.engine.context import Context
from specie.wallet.engine.locks import swappable, unlocked, with_one_ephemeral, witness_along
from specie.wallet.engine.mints import active_keyset, add_mint, fresh_keysets, known_mint
from specie.wallet.engine.outputs import derived_outputs, kept_amounts
from specie.wallet.engine.own_keys import own_keys
from specie.wallet.engine.perform import RebuildError, perform, spent_of, states_of
from specie.wallet.engine.tokens import check_dleq, resolved
from specie.wallet.errors import FeeExceedsValueError, MintLeavingError, MintUntrustedError, TokenUnknownError
from specie.wallet.history import HistoryEntry
from specie.wallet.holding import KnownKeyset, StoredProof
from specie.wallet.operation import Kind, Operation, Purpose, Role, blinded_messages
from specie.wallet.selection import fee_of
from specie.wallet.states import CoinState, OperationState, TokenState

__all__ = ["Receipt", "receive", "receive_offline", "reclaim", "secure", "swap_in"]

_BUILDS = 3


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a token brought: `amount` is ours now, `fee` went to the mint. `secured` is False after off-line receipt."""

    mint: str
    unit: str
    amount: int
    fee: int
    memo: str | None
    secured: bool = True


async def _token(ctx: Context, text: str, *, trust: bool, offline: bool) -> Token:
    draft = decode_token(text, limits=ctx.settings.limits)
    if not await known_mint(ctx, draft.mint):
        if not trust or offline:
            raise MintUntrustedError(draft.mint)
        await add_mint(ctx, draft.mint)
    token = await resolved(ctx, draft, offline=offline)
    return msgspec.structs.replace(token, proofs=with_one_ephemeral(token.proofs))


async def receive(ctx: Context, text: str, *, preimage: str | None, trust: bool) -> Receipt:
    """Swap a token's coins for our own.

    MintUntrustedError unless its mint was added or `trust`; FeeExceedsValueError where nothing would be left;
    TokenLockedError; ProofsSpentError where somebody was faster.
    """
    token = await _token(ctx, text, trust=trust, offline=False)
    check_dleq(token.proofs, await fresh_keysets(ctx, token.mint), required=False)
    ours = await ctx.storage.read(lambda tx: ctx.store.proofs_by_y(tx, [proof.y for proof in token.proofs]))
    if any(stored.state is CoinState.SPENT for stored in ours):
        raise ProofsSpentError("this wallet has taken this token before")
    if any(stored.state is CoinState.RESERVED for stored in ours):
        raise RefusedError("a coin of this token is being used by another operation of this wallet")
    if not ours:
        await _check_taking(ctx, token.mint)
    purpose = Purpose.RECLAIM if ours else Purpose.RECEIVE
    return await _swap_all(ctx, token, purpose, preimage)


async def _check_taking(ctx: Context, mint: str) -> None:
    if any(one.mint == mint for one in await ctx.storage.read(ctx.store.leaving)):
        raise MintLeavingError(mint)


async def _swap_all(ctx: Context, token: Token, purpose: Purpose, preimage: str | None) -> Receipt:
    """Swap a token in as many requests as its locks (SIG_ALL) and the mint's bound on arrays ask for; normally one."""
    parts = swappable(token.proofs, lambda proof: proof, await ctx.array_limit(token.mint))
    for part in parts if len(parts) > 1 else ():  # all can be opened, or none is touched
        await unlocked(ctx, part, (), preimage)
    amount = fee = 0
    refusal: FeeExceedsValueError | None = None
    for part in parts:
        if len(parts) > 1 and await _swapped_before(ctx, part):
            continue
        try:
            operation = await swap_in(ctx, msgspec.structs.replace(token, proofs=tuple(part)), purpose, preimage=preimage)
        except FeeExceedsValueError as error:  # it stays in the token, and keeps no other part from being ours
            refusal = error
            continue
        amount, fee = amount + operation.amount, fee + operation.fee
    if not amount:
        raise refusal or ProofsSpentError("this wallet has taken this token before")
    return Receipt(token.mint, token.unit, amount, fee, token.memo)


async def _swapped_before(ctx: Context, proofs: Sequence[Proof]) -> bool:
    """Whether this wallet has swapped these very coins, before it was kept from the rest of their token."""
    inputs = b"".join(proof.y for proof in proofs)
    swaps = await ctx.storage.read(lambda tx: ctx.store.swaps_of(tx, inputs, 0))
    return any(state is OperationState.DONE for _, state in swaps)


async def reclaim(ctx: Context, text_or_id: str) -> Receipt:
    """Take back a token that this wallet sent and nobody has redeemed, given by its text or its id."""
    tokens = await ctx.storage.read(lambda tx: ctx.store.tokens(tx, tuple(TokenState)))
    sent = next((token for token in tokens if text_or_id.strip() in (token.token_id, token.text)), None)
    if sent is None:
        raise TokenUnknownError("no such token was sent from this wallet")
    token = await resolved(ctx, decode_token(sent.text, limits=ctx.settings.limits))
    proofs = await ctx.storage.read(lambda tx: ctx.store.proofs_by_y(tx, [proof.y for proof in token.proofs]))
    live = tuple(stored.proof for stored in proofs if stored.state is CoinState.PENDING)
    if not live:
        raise ProofsSpentError("every coin of this token has been redeemed")
    return await _swap_all(ctx, msgspec.structs.replace(token, proofs=live), Purpose.RECLAIM, None)


async def swap_in(
    ctx: Context,
    token: Token,
    purpose: Purpose,
    *,
    preimage: str | None,
    reserve: bool = False,
    also: journal.Also | None = None,
) -> Operation:
    """Swap coins of a token to outputs of ours; the operation once it is DONE. `reserve` for coins in our own store."""
    for build in range(_BUILDS):
        operation = await _swap_operation(ctx, token, purpose, preimage)
        if not await journal.begin(ctx, operation, operation.inputs if reserve else (), also):
            raise RefusedError("the coins are being used by another operation")
        try:
            await perform(ctx, operation)
        except RebuildError:
            if build == _BUILDS - 1:
                raise
        else:
            return operation
    raise RefusedError("not reached")


async def _swap_operation(ctx: Context, token: Token, purpose: Purpose, preimage: str | None) -> Operation:
    keyset = await active_keyset(ctx, token.mint, token.unit)
    ppk = {known.keyset.id: known.keyset.input_fee_ppk for known in await ctx.keysets(token.mint)}
    fee = fee_of(ppk[proof.id] for proof in token.proofs)
    if fee >= token.amount:
        raise FeeExceedsValueError(fee, token.amount, token.unit)
    await unlocked(ctx, token.proofs, (), preimage)  # a lock that does not open costs no counters
    amounts = await kept_amounts(ctx, token.mint, keyset, token.amount - fee)
    outputs = tuple(await derived_outputs(ctx, token.mint, keyset, amounts, Role.KEEP))
    messages = blinded_messages(outputs)
    inputs = await unlocked(ctx, token.proofs, messages, preimage)
    now = ctx.clock.now()
    return Operation(
        operation_id=ctx.new_id(),
        kind=Kind.SWAP,
        purpose=purpose,
        mint=token.mint,
        unit=token.unit,
        amount=token.amount - fee,
        fee=fee,
        request=wire.swap_request_to_json(SwapRequest(inputs, messages)),
        inputs=tuple(proof.y for proof in token.proofs),
        outputs=outputs,
        memo=token.memo,
        created_at=now,
        updated_at=now,
    )


async def receive_offline(
    ctx: Context,
    text: str,
    *,
    preimage: str | None,
    judge: Callable[[Transaction, Token, Collection[bytes]], Awaitable[None]] | None = None,
) -> Receipt:
    """Keep a token's coins without asking anybody. They count as `unswapped` until `secure` has swapped them.

    MintUntrustedError and KeysetUnknownError for what we did not know before; KeysetInactiveError, KeysetExpiredError;
    DleqMissingError, ProofInvalidError; TokenLockedError for locks not ours; ProofsSpentError for a coin seen before.
    `judge` may refuse it by raising, within the transaction that would keep it; it is given the keys of its locks, and
    others, that are ours (x-only).
    """
    token = await _token(ctx, text, trust=False, offline=True)
    await _check_taking(ctx, token.mint)
    keysets = await ctx.keysets(token.mint)
    _check_keysets(ctx, token, keysets)
    check_dleq(token.proofs, keysets, required=True)
    proofs = tuple(_with_preimage(proof, preimage) for proof in token.proofs)
    await _check_openable(ctx, proofs, preimage)
    ours = await (await own_keys(ctx)).guarding(proofs) if judge is not None else ()
    now, entry_id = ctx.clock.now(), ctx.new_id()
    coins = [StoredProof(p, p.y, token.mint, token.unit, CoinState.UNSPENT, unswapped=True) for p in proofs]
    entry = HistoryEntry(entry_id, now, "receive offline", token.mint, token.unit, token.amount, 0, token.memo)

    async def body(tx: Transaction) -> bool:
        if await ctx.store.proofs_by_y(tx, [stored.y for stored in coins]):
            return False
        if judge is not None:
            await judge(tx, token, ours)
        await ctx.store.add_proofs(tx, coins, now)
        await ctx.store.add_history(tx, entry)
        return True

    if not await ctx.storage.transact(body):
        raise ProofsSpentError("this wallet has seen a coin of this token before")
    return Receipt(token.mint, token.unit, token.amount, 0, token.memo, secured=False)


def _check_keysets(ctx: Context, token: Token, keysets: Sequence[KnownKeyset]) -> None:
    known = {entry.keyset.id: entry for entry in keysets}
    now = ctx.clock.now()
    for keyset_id in {proof.id for proof in token.proofs}:
        entry = known[keyset_id]
        if is_expired(entry.keyset, now):
            raise KeysetExpiredError("coins of an expired keyset are worth nothing off-line")
        if not entry.keyset.active:
            raise KeysetInactiveError("coins of an inactive keyset are not taken off-line")


def _with_preimage(proof: Proof, preimage: str | None) -> Proof:
    """An HTLC coin with its preimage kept in the witness, beside signatures that came along, for `secure` to use later."""
    condition = parse_secret(proof.secret)
    if preimage is None or condition is None or not is_preimage(preimage, condition.hash):
        return proof
    signatures: list[bytes] = []
    for text in witness_along(proof).signatures:
        with contextlib.suppress(MalformedError):
            signatures.append(hex_checked(text, 64))
    return msgspec.structs.replace(proof, witness=witness_text(signatures, hex_checked(preimage, 32)))


async def _check_openable(ctx: Context, proofs: Sequence[Proof], preimage: str | None) -> None:
    """That our keys open the locks now, those that are signed together (SIG_ALL) each by itself."""
    for part in swappable(proofs, lambda proof: proof, len(proofs)):
        await unlocked(ctx, part, (), preimage)


async def secure(ctx: Context, mint: str, unit: str, *, only: Collection[bytes] | None = None) -> int:
    """Swap the coins of one mint and unit that were received off-line; what is ours now. Those the mint calls SPENT are lost.

    `only`: those of these Ys.

    Coins are swapped one lock at a time where they must be signed together.
    """
    stored = [
        p
        for p in await ctx.storage.read(lambda tx: ctx.store.proofs(tx, mint=mint, unit=unit, states=(CoinState.UNSPENT,)))
        if p.unswapped and (only is None or p.y in only)
    ]
    total, refusal = 0, None
    for group in swappable(await _live(ctx, mint, stored), lambda p: p.proof, await ctx.array_limit(mint)):
        try:
            total += await _secured(ctx, mint, unit, group)
        except RefusedError as error:
            refusal = error
            for alone in group if len(group) > 1 else ():  # one bad coin must not keep the others
                with contextlib.suppress(RefusedError):
                    total += await _secured(ctx, mint, unit, [alone])
    if refusal is not None and not total:
        raise refusal
    return total


async def _live(ctx: Context, mint: str, stored: Sequence[StoredProof]) -> list[StoredProof]:
    """Those that the mint does not call SPENT; the others are SPENT here, too. A swap that fails would use up secrets."""
    spent = spent_of(await states_of(ctx, mint, [p.y for p in stored]))
    if spent:
        now = ctx.clock.now()
        await ctx.storage.transact(lambda tx: ctx.store.move_proofs(tx, spent, (CoinState.UNSPENT,), CoinState.SPENT, now))
        ctx.telemetry.event("wallet_offline_coins_spent", mint=mint, coins=len(spent))
    return [p for p in stored if p.y not in spent]


async def _secured(ctx: Context, mint: str, unit: str, group: Sequence[StoredProof]) -> int:
    """Swap some in one request; those that were spent just now are left out."""
    token = Token(mint, unit, tuple(p.proof for p in group))
    try:
        return (await swap_in(ctx, token, Purpose.SECURE, preimage=None, reserve=True)).amount
    except ProofsSpentError:
        rest = await _live(ctx, mint, group)
        if not rest:
            return 0
        token = Token(mint, unit, tuple(p.proof for p in rest))
        return (await swap_in(ctx, token, Purpose.SECURE, preimage=None, reserve=True)).amount
