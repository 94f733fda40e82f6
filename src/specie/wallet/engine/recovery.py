"""What a wallet brought back from its words does not remember and can take up again when somebody names it.

A mint does not say which quotes belong to a seed; but whoever knows a quote's id (it stands in a payer's or a server's log)
can have it back, since the key that locks it comes from the seed (NUT-20, derived keys).
"""

from __future__ import annotations

from specie.ecash.mint_url import mint_url_checked
from specie.ecash.quote import MintQuote
from specie.kernel.errors import PeerFaultError
from specie.kernel.money import unit_checked
from specie.wallet.engine.context import Context
from specie.wallet.engine.issue import look_at_mint_quote
from specie.wallet.engine.mints import known_mint
from specie.wallet.errors import MintUnknownError, QuoteUnknownError
from specie.wallet.holding import WalletMintQuote

__all__ = ["Recovery"]

_PURPOSE = "quote"


class Recovery:
    """Verbs for what was lost with a wallet's file; `Wallet.recovery`."""

    def __init__(self, ctx: Context) -> None:
        """Over a wallet's ports."""
        self._ctx = ctx

    async def mint_quote(self, quote: str, *, mint: str, unit: str = "sat", method: str = "bolt11") -> WalletMintQuote:
        """Take up a mint quote of this seed by its id; then `Wallet.wait` and `Wallet.claim` as usual.

        MintUnknownError; QuoteUnknownError where it is locked to a key that is not ours, as far as `settings.key_gap` behind
        the last known one; the mint's refusal where it has no such quote.
        """
        url = mint_url_checked(mint)
        if not await known_mint(self._ctx, url):
            raise MintUnknownError(url)
        return await _recover(self._ctx, url, quote, unit=unit_checked(unit), method=method)


async def _recover(ctx: Context, mint: str, quote_id: str, *, unit: str, method: str) -> WalletMintQuote:
    """The quote as the mint knows it, stored with the number of our key that locks it."""
    known = await ctx.storage.read(lambda tx: ctx.store.mint_quote(tx, mint, quote_id))
    if known is not None:
        return await look_at_mint_quote(ctx, known)
    asked = MintQuote(quote=quote_id, method=method, request="", unit=unit)
    seen = await ctx.client(mint).mint_quote(asked)
    if seen.quote != quote_id or seen.unit != unit:
        raise PeerFaultError("the mint answered about another quote or unit", peer=mint)
    index = None if seen.pubkey is None else await _key_index(ctx, seen.pubkey.lower())
    stored = WalletMintQuote(
        mint=mint,
        quote=quote_id,
        method=method,
        unit=unit,
        request=seen.request,
        amount=seen.amount,
        expiry=seen.expiry,
        amount_paid=seen.amount_paid,
        amount_issued=seen.amount_issued,
        updated_at=seen.updated_at,
        key_index=index,
        created_at=ctx.clock.now(),
    )
    await ctx.storage.transact(lambda tx: ctx.store.save_mint_quote(tx, stored))
    return stored


async def _key_index(ctx: Context, pubkey: str) -> int:
    """n of our key `quote/{n}` (hex, 33 bytes); it and those before it are in use from now on."""
    known = await ctx.storage.read(lambda tx: ctx.store.key_index(tx, _PURPOSE))
    for index in range(known + ctx.settings.key_gap):
        public = await ctx.signer.public_key(f"{_PURPOSE}/{index}")
        if public.hex() == pubkey:
            await ctx.storage.transact(lambda tx, n=index, key=public: ctx.store.save_key(tx, _PURPOSE, n, key))  # type: ignore[misc]
            return index
    raise QuoteUnknownError("the quote is locked to a key that is not this wallet's")
