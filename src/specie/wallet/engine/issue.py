"""Minting: ask for an invoice, see it paid, claim the coins (NUT-04, NUT-20, NUT-23).

Quotes are locked to a key of our own wherever the mint can do it, so that whoever learns the quote's id cannot claim it.
"""

from __future__ import annotations

from dataclasses import replace

from specie.ecash import wire
from specie.ecash.codes import QuoteSignatureInvalidError, QuoteUnpaidError
from specie.ecash.keyset import Keyset
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
from specie.storage.ports import Transaction
from specie.wallet.engine import journal
from specie.wallet.engine.context import Context
from specie.wallet.engine.mints import active_keyset
from specie.wallet.engine.outputs import derived_outputs, kept_amounts
from specie.wallet.engine.perform import RebuildError, as_mint_quote, perform, taken_up
from specie.wallet.engine.wait import wait_until
from specie.wallet.errors import OperationBusyError, QuoteUnknownError
from specie.wallet.holding import WalletMintQuote
from specie.wallet.operation import Kind, Operation, Output, Purpose, Role, blinded_messages
from specie.wallet.states import OperationState

__all__ = ["claim", "look_at_mint_quote", "request_mint_quote", "wait_for_payment"]

_BUILDS = 3


async def request_mint_quote(
    ctx: Context, mint: str, unit: str, amount: int, *, description: str | None, method: str
) -> WalletMintQuote:
    """Ask to be paid. The key's index is committed before the request; PeerFaultError if the invoice asks another amount."""
    if amount <= 0:
        raise MalformedError("an amount to mint must be positive")
    unit = unit_checked(unit)
    await active_keyset(ctx, mint, unit)
    index: int | None = None
    pubkey: str | None = None
    if (await ctx.info(mint)).supports(20):
        index = await ctx.storage.transact(lambda tx: ctx.store.take_key_index(tx, "quote"))
        pubkey = (await ctx.signer.public_key(f"quote/{index}")).hex()
    request = MintQuoteRequest(method=method, unit=unit, amount=amount, description=description, pubkey=pubkey)
    quote = await ctx.client(mint).request_mint_quote(request)
    _check_quote(quote, request, mint)
    locked = index if quote.pubkey is not None and quote.pubkey.lower() == pubkey else None
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
        key_index=locked,
        created_at=ctx.clock.now(),
    )
    await ctx.storage.transact(lambda tx: ctx.store.save_mint_quote(tx, stored))
    return stored


def _check_quote(quote: MintQuote, request: MintQuoteRequest, mint: str) -> None:
    if quote.unit != request.unit or (quote.amount is not None and quote.amount != request.amount):
        raise PeerFaultError("the mint quoted another amount or unit than asked", peer=mint)
    if quote.pubkey is not None and request.pubkey is not None and quote.pubkey.lower() != request.pubkey:
        raise PeerFaultError("the mint locked the quote to a key that is not ours", peer=mint)
    if request.method != "bolt11" or request.amount is None:
        return
    factor = {"sat": 1000, "msat": 1}.get(request.unit)
    try:
        asked = invoice_amount_msat(quote.request)
    except MalformedError:
        raise PeerFaultError("the mint's payment request is no invoice", peer=mint) from None
    if factor is not None and asked != request.amount * factor:
        raise PeerFaultError("the mint's invoice asks for another amount than the quote", peer=mint)


async def look_at_mint_quote(ctx: Context, quote: WalletMintQuote) -> WalletMintQuote:
    """Ask the mint about a quote, and store what is newer than what we know."""
    seen = await ctx.client(quote.mint).mint_quote(as_mint_quote(quote))
    if seen.quote != quote.quote:
        raise PeerFaultError("the mint answered about another quote", peer=quote.mint)
    updated = replace(quote, amount_paid=seen.amount_paid, amount_issued=seen.amount_issued, updated_at=seen.updated_at)

    async def body(tx: Transaction) -> WalletMintQuote | None:
        await ctx.store.save_mint_quote(tx, updated)
        return await ctx.store.mint_quote(tx, quote.mint, quote.quote)

    stored = await ctx.storage.transact(body)
    if stored is None:
        raise QuoteUnknownError("the wallet has no such quote")
    return stored


async def wait_for_payment(ctx: Context, quote: WalletMintQuote, *, timeout_s: float | None) -> WalletMintQuote:
    """Wait until something of the quote is paid; the quote as last seen, paid or not, after `timeout_s`."""
    seen = await wait_until(
        ctx,
        quote.mint,
        f"{quote.method}_mint_quote",
        quote.quote,
        lambda: look_at_mint_quote(ctx, quote),
        lambda one: one.amount_paid > 0,
        timeout_s=timeout_s,
    )
    return quote if seen is None else seen


async def claim(ctx: Context, quote: WalletMintQuote, *, memo: str | None = None) -> int:
    """Mint what a quote has been paid; the amount. QuoteUnpaidError if there is nothing to claim.

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
    if not quote.claimable:
        raise QuoteUnpaidError("nothing of this quote is paid and not yet issued")
    for build in range(_BUILDS):
        keyset = await active_keyset(ctx, quote.mint, quote.unit)
        operation = await _claim_operation(ctx, quote, keyset, memo)
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
        if operation.kind is Kind.MINT and (operation.mint, operation.quote) == (quote.mint, quote.quote):
            if operation.operation_id in ctx.busy:
                raise OperationBusyError("this quote is being claimed")
            return operation.operation_id
    return None


async def _claim_operation(ctx: Context, quote: WalletMintQuote, keyset: Keyset, memo: str | None) -> Operation:
    amounts = await kept_amounts(ctx, quote.mint, keyset, quote.claimable)
    if len(amounts) > await ctx.array_limit(quote.mint):
        amounts = split_amount(quote.claimable, keyset.keys)
    outputs = tuple(await derived_outputs(ctx, quote.mint, keyset, amounts, Role.KEEP))
    now = ctx.clock.now()
    return Operation(
        operation_id=ctx.new_id(),
        kind=Kind.MINT,
        purpose=Purpose.MINT,
        mint=quote.mint,
        unit=quote.unit,
        amount=quote.claimable,
        fee=0,
        request=await _request(ctx, quote, outputs, QUOTE_SIGNATURE_VERSION),
        inputs=(),
        outputs=outputs,
        method=quote.method,
        quote=quote.quote,
        memo=memo,
        created_at=now,
        updated_at=now,
    )


async def _request(ctx: Context, quote: WalletMintQuote, outputs: tuple[Output, ...], version: int) -> bytes:
    messages = blinded_messages(outputs)
    signature: str | None = None
    if quote.key_index is not None:
        digest = quote_signature_digest(quote.quote, messages, version=version)
        signature = (await ctx.signer.sign_schnorr(f"quote/{quote.key_index}", [digest]))[0].hex()
    return wire.mint_request_to_json(MintRequest(quote.method, quote.quote, messages, signature))


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
