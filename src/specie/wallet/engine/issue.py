"""Minting: ask to be paid, see it paid, claim the coins (NUT-04, 20, 23, 25, 30). Several quotes at once: `batch`.

Quotes are locked to a FRESH key of our own wherever the mint can do it, so that whoever learns a quote's id cannot claim it
and no two quotes can be told to be of one wallet. What is not an invoice can be paid again and again: each claim journals
how much of the quote had been issued before, so that a lost answer is told from a later deposit. A mint that takes back what
was paid (a reorganisation) lessens what can be claimed, never what was claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from specie.ecash import wire
from specie.ecash.codes import AmountOutOfRangeError, QuoteSignatureInvalidError, QuoteUnpaidError
from specie.ecash.info import MethodSetting
from specie.ecash.keyset import Keyset
from specie.ecash.proof import BlindedMessage
from specie.ecash.quote import (
    LEGACY_SIGNATURE_VERSION,
    QUOTE_SIGNATURE_VERSION,
    MintQuote,
    MintQuoteRequest,
    quote_signature_digest,
)
from specie.ecash.transaction import MintRequest
from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError
from specie.kernel.money import split_amount, unit_checked
from specie.lightning.invoice import invoice_amount_msat
from specie.lightning.offer import decode_offer
from specie.storage.ports import Transaction
from specie.wallet.destination import is_address
from specie.wallet.engine import journal
from specie.wallet.engine.context import Context
from specie.wallet.engine.methods import required, setting_of
from specie.wallet.engine.mints import active_keyset
from specie.wallet.engine.outputs import derived_outputs, kept_amounts
from specie.wallet.engine.perform import RebuildError, as_mint_quote, perform, taken_up
from specie.wallet.engine.wait import wait_until
from specie.wallet.errors import OperationBusyError, QuoteUnknownError
from specie.wallet.holding import WalletMintQuote
from specie.wallet.operation import Claimed, Kind, Operation, Output, Purpose, Role, blinded_messages
from specie.wallet.states import OperationState

__all__ = [
    "claim",
    "claim_outputs",
    "look_at_mint_quote",
    "most_at_once",
    "most_outputs",
    "note_mint_quote",
    "quote_signature",
    "request_mint_quote",
    "save_seen",
    "wait_for_payment",
]

_BUILDS = 3
_MOST_CLAIMS = 16
"""Requests of one claim; what is left is claimed the next time."""
_OVERTAKEN_S = 300
"""Longer than any answer is on its way."""
_ALWAYS_LOCKED = ("bolt12", "onchain")
"""Methods whose quotes must be locked to a key (NUT-25, NUT-30)."""


async def request_mint_quote(
    ctx: Context, mint: str, unit: str, amount: int | None, *, description: str | None, method: str
) -> WalletMintQuote:
    """Ask to be paid. The key's index is committed before the request; PeerFaultError if the mint's answer does not fit it.

    `amount` may be None for all but invoices; on chain it is kept to show the payer, for the mint is not told. UnsupportedError
    for a method that the mint does not announce, AmountOutOfRangeError for an amount that it says it does not take.
    """
    if (amount is None and method == "bolt11") or (amount is not None and amount <= 0):
        raise MalformedError("an amount to mint must be positive")
    unit = unit_checked(unit)
    info = await ctx.info(mint)
    setting = required(info, 4, method, unit)
    if setting is not None and method != "bolt11" and amount is not None:
        _check_range(setting, amount)
    await active_keyset(ctx, mint, unit)
    index: int | None = None
    pubkey: str | None = None
    if method in _ALWAYS_LOCKED or info.supports(20):
        index = await ctx.storage.transact(lambda tx: ctx.store.take_key_index(tx, "quote"))
        pubkey = (await ctx.signer.public_key(f"quote/{index}")).hex()
    told = None if method == "onchain" else amount
    request = MintQuoteRequest(method=method, unit=unit, amount=told, description=description, pubkey=pubkey)
    quote = await ctx.client(mint).request_mint_quote(request)
    _check_quote(quote, request, mint)
    stored = WalletMintQuote(
        mint=mint,
        quote=quote.quote,
        method=method,
        unit=unit,
        request=quote.request,
        amount=amount,
        expiry=quote.expiry,
        amount_paid=quote.amount_paid,
        amount_issued=quote.amount_issued,
        updated_at=quote.updated_at,
        key_index=index,  # also where the answer names no key: a signature that nobody needs does no harm
        created_at=ctx.clock.now(),
    )
    await ctx.storage.transact(lambda tx: ctx.store.save_mint_quote(tx, stored))
    return stored


def _check_range(setting: MethodSetting, amount: int) -> None:
    """What is sent on chain below the minimum is lost, so the mint's bounds are kept before anybody pays."""
    if amount < (setting.min_amount or 0) or (setting.max_amount is not None and amount > setting.max_amount):
        least, most = setting.min_amount or 0, setting.max_amount
        bounds = f"from {least:,}" + (f" to {most:,}" if most is not None else "")
        raise AmountOutOfRangeError(f"the mint takes {bounds} {setting.unit} by {setting.display_name}")


def _check_quote(quote: MintQuote, request: MintQuoteRequest, mint: str) -> None:
    if quote.unit != request.unit or (quote.amount is not None and quote.amount != request.amount):
        raise PeerFaultError("the mint quoted another amount or unit than asked", peer=mint)
    if quote.pubkey is not None and request.pubkey is not None and quote.pubkey.lower() != request.pubkey:
        raise PeerFaultError("the mint locked the quote to a key that is not ours", peer=mint)
    if quote.pubkey is None and request.method in _ALWAYS_LOCKED:
        raise PeerFaultError("the mint did not lock the quote to our key", peer=mint)
    if request.method == "onchain" and not is_address(quote.request):
        raise PeerFaultError("the mint's payment request is no bitcoin address", peer=mint)
    if request.method == "bolt12":
        _check_offer(quote, request, mint)
    if request.method != "bolt11" or request.amount is None:
        return
    factor = {"sat": 1000, "msat": 1}.get(request.unit)
    try:
        asked = invoice_amount_msat(quote.request)
    except MalformedError:
        raise PeerFaultError("the mint's payment request is no invoice", peer=mint) from None
    if factor is not None and asked != request.amount * factor:
        raise PeerFaultError("the mint's invoice asks for another amount than the quote", peer=mint)


def _check_offer(quote: MintQuote, request: MintQuoteRequest, mint: str) -> None:
    """The payer pays what the offer says, so it has to be an offer, and of the amount that was asked for."""
    factor = {"sat": 1000, "msat": 1}.get(request.unit)
    try:
        asked = decode_offer(quote.request).amount_msat
    except RefusedError:
        raise PeerFaultError("the mint's payment request is no offer", peer=mint) from None
    if factor is not None and asked is not None and (request.amount is None or asked != request.amount * factor):
        raise PeerFaultError("the mint's offer asks for another amount than the quote", peer=mint)


async def look_at_mint_quote(ctx: Context, quote: WalletMintQuote) -> WalletMintQuote:
    """Ask the mint about a quote, and store what is newer than what we know."""
    return await note_mint_quote(ctx, quote, await ctx.client(quote.mint).mint_quote(as_mint_quote(quote)))


async def note_mint_quote(ctx: Context, quote: WalletMintQuote, seen: MintQuote) -> WalletMintQuote:
    """Store what a mint's answer says of a quote, unless we know newer; the quote as it is known then."""
    if seen.quote != quote.quote:
        raise PeerFaultError("the mint answered about another quote", peer=quote.mint)
    updated = replace(quote, amount_paid=seen.amount_paid, amount_issued=seen.amount_issued, updated_at=seen.updated_at)
    now = ctx.clock.now()

    async def body(tx: Transaction) -> tuple[WalletMintQuote | None, WalletMintQuote | None]:
        before = await ctx.store.mint_quote(tx, quote.mint, quote.quote)
        await save_seen(ctx, tx, updated, now)
        return before, await ctx.store.mint_quote(tx, quote.mint, quote.quote)

    before, stored = await ctx.storage.transact(body)
    if stored is None:
        raise QuoteUnknownError("the wallet has no such quote")
    if before is not None and stored.amount_paid < before.amount_paid:
        ctx.telemetry.event("wallet_deposit_withdrawn", mint=quote.mint, amount=before.amount_paid - stored.amount_paid)
    return stored


async def save_seen(ctx: Context, tx: Transaction, quote: WalletMintQuote, now: int) -> None:
    """Store a quote as a mint answered it `now`, unless a later answer may have overtaken this one (NUT-04).

    A time that is far from now proves no such thing: a mint that once told a wrong one would be believed never again, and
    what was paid could not be claimed.
    """
    before = await ctx.store.mint_quote(tx, quote.mint, quote.quote)
    far = before is not None and abs(now - before.updated_at) > _OVERTAKEN_S
    await ctx.store.save_mint_quote(tx, quote, older=far)


async def wait_for_payment(ctx: Context, quote: WalletMintQuote, *, timeout_s: float | None) -> WalletMintQuote:
    """Wait until something of the quote can be claimed, or an invoice was; the quote as last seen after `timeout_s`."""
    seen = await wait_until(
        ctx,
        quote.mint,
        f"{quote.method}_mint_quote",
        quote.quote,
        lambda: look_at_mint_quote(ctx, quote),
        lambda one: one.claimable > 0 or (one.amount_paid > 0 and not one.reusable),
        timeout_s=timeout_s,
    )
    return quote if seen is None else seen


async def claim(ctx: Context, quote: WalletMintQuote, *, amount: int | None = None, memo: str | None = None) -> int:
    """Mint what a quote has been paid; the amount. QuoteUnpaidError if there is nothing to claim, or less than `amount`.

    `amount` claims a part, of what can be paid more than once. More than the mint takes at once is claimed at several times.
    A claim that was interrupted before is carried to its end first. A secret that another device of the seed has used
    costs a new try with other counters. OperationBusyError while another task claims it.
    """
    found = await _open_claim(ctx, quote)
    if found is not None:
        async with taken_up(ctx, found) as open_one:
            if open_one is not None:
                await perform(ctx, open_one, resumed=True)
                return open_one.amount
    quote = await look_at_mint_quote(ctx, quote)
    if amount is not None and (amount <= 0 or not (quote.reusable or amount == quote.claimable)):
        raise MalformedError("a part to claim must be positive, and an invoice is claimed whole")
    if quote.claimable < (amount or 1):
        raise QuoteUnpaidError("nothing of this quote is paid and not yet issued, or less than is to be claimed")
    rest, minted = amount or quote.claimable, 0
    for _ in range(_MOST_CLAIMS):
        part = min(rest, await most_at_once(ctx, quote))
        minted += await _claim_part(ctx, quote, part, memo)
        rest -= part
        quote = replace(quote, amount_issued=quote.amount_issued + part)
        if rest <= 0:
            break
    return minted


async def most_at_once(ctx: Context, quote: WalletMintQuote) -> int:
    """The most that is asked for in one request: what the mint says it issues, and what fits into an array."""
    fits = await most_outputs(ctx, quote.mint, quote.unit)
    setting = setting_of(await ctx.info(quote.mint), 4, quote.method, quote.unit)
    if not quote.reusable or setting is None or setting.max_amount is None:
        return fits
    return max(min(setting.max_amount, fits), 1)


async def most_outputs(ctx: Context, mint: str, unit: str) -> int:
    """The largest amount whose outputs fit into a request. A mint that says more was paid must not have us make more."""
    keyset = await active_keyset(ctx, mint, unit)
    return max(keyset.keys) * max(await ctx.array_limit(mint) - len(keyset.keys), 1)


async def _claim_part(ctx: Context, quote: WalletMintQuote, amount: int, memo: str | None) -> int:
    for build in range(_BUILDS):
        keyset = await active_keyset(ctx, quote.mint, quote.unit)
        operation = await _claim_operation(ctx, quote, amount, keyset, memo)
        await journal.begin(ctx, operation)
        try:
            await _perform_signed(ctx, operation, quote)
        except RebuildError:
            if build == _BUILDS - 1:
                raise
        else:
            return operation.amount
    raise RefusedError("not reached")


async def _open_claim(ctx: Context, quote: WalletMintQuote) -> str | None:
    for operation in await ctx.storage.read(lambda tx: ctx.store.operations(tx, (OperationState.OPEN,))):
        claimed = {operation.quote, *(one.quote for one in operation.claims)}
        if operation.kind is Kind.MINT and operation.mint == quote.mint and quote.quote in claimed:
            if operation.operation_id in ctx.busy:
                raise OperationBusyError("this quote is being claimed")
            return operation.operation_id
    return None


async def claim_outputs(ctx: Context, mint: str, keyset: Keyset, amount: int) -> tuple[Output, ...]:
    """Outputs for what is claimed, no more of them than the mint takes."""
    amounts = await kept_amounts(ctx, mint, keyset, amount)
    if len(amounts) > await ctx.array_limit(mint):
        amounts = split_amount(amount, keyset.keys)
    return tuple(await derived_outputs(ctx, mint, keyset, amounts, Role.KEEP))


async def _claim_operation(ctx: Context, quote: WalletMintQuote, amount: int, keyset: Keyset, memo: str | None) -> Operation:
    outputs = await claim_outputs(ctx, quote.mint, keyset, amount)
    now = ctx.clock.now()
    return Operation(
        operation_id=ctx.new_id(),
        kind=Kind.MINT,
        purpose=Purpose.MINT,
        mint=quote.mint,
        unit=quote.unit,
        amount=amount,
        fee=0,
        request=await _request(ctx, quote, outputs, QUOTE_SIGNATURE_VERSION),
        inputs=(),
        outputs=outputs,
        method=quote.method,
        quote=quote.quote,
        claims=(Claimed(quote.quote, amount, quote.amount_issued),),
        memo=memo,
        created_at=now,
        updated_at=now,
    )


async def _request(ctx: Context, quote: WalletMintQuote, outputs: tuple[Output, ...], version: int) -> bytes:
    messages = blinded_messages(outputs)
    signature = await quote_signature(ctx, quote, messages, version=version)
    return wire.mint_request_to_json(MintRequest(quote.method, quote.quote, messages, signature))


async def quote_signature(
    ctx: Context, quote: WalletMintQuote, messages: Sequence[BlindedMessage], *, version: int = QUOTE_SIGNATURE_VERSION
) -> str | None:
    """What unlocks a quote for these outputs (NUT-20), in hex; None for one that is not locked."""
    if quote.key_index is None:
        return None
    digest = quote_signature_digest(quote.quote, messages, version=version)
    return (await ctx.signer.sign_schnorr(f"quote/{quote.key_index}", [digest]))[0].hex()


async def _perform_signed(ctx: Context, operation: Operation, quote: WalletMintQuote) -> None:
    """Perform; where the mint knows the old form of the quote signature only (20008), once more with that one."""
    try:
        await perform(ctx, operation)
    except QuoteSignatureInvalidError:
        if quote.key_index is None:
            raise
        now = ctx.clock.now()
        legacy = replace(
            operation,
            operation_id=ctx.new_id(),
            request=await _request(ctx, quote, operation.outputs, LEGACY_SIGNATURE_VERSION),
            created_at=now,
            updated_at=now,
        )
        await journal.begin(ctx, legacy)
        await perform(ctx, legacy)
