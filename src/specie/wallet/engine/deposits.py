"""Deposits that others make: a mint quote locked to a key of ours, made and paid by somebody else, found by the key.

Publish a key (`key`); a mining pool or a Lightning address asks the mint for a quote locked to it and pays that. The quote's
id never reaches us, so the mint is asked for quotes by our keys (draft, pull request 341 of the NUTs), each question
signed by each key. It tells the mint that these keys are one wallet's; the coins it then issues stay blind.

| a crash ...                  | leaves behind                                                          |
|------------------------------|------------------------------------------------------------------------|
| after a key was taken        | a key that is skipped, and found by its number all the same            |
| before the quotes are stored | nothing; they are found again                                          |
| after they are stored        | quotes like those we asked for ourselves: `claim` and `resume` do the rest |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from specie.ecash import wire
from specie.ecash.mint_url import mint_url_checked
from specie.ecash.quote import MintQuote, MintQuoteRequest, quote_pubkey_checked
from specie.ecash.quote_lookup import QuoteLookup, QuotePage, quote_lookup_digest
from specie.kernel import curve
from specie.kernel.errors import MalformedError, PeerFaultError, RefusedError, SpecieError
from specie.kernel.money import unit_checked
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context
from specie.wallet.engine.issue import claim, save_seen
from specie.wallet.engine.mints import fresh_keysets
from specie.wallet.errors import UnsupportedError
from specie.wallet.holding import WalletMintQuote

__all__ = ["DepositClaim", "Deposits"]

_DRAFT_KEY = "XX"
_NUT = 341
_METHOD = "bolt11"
_PURPOSE = "quote"
_MAX_KEYS = 50
_MAX_PAGES = 1000
_GAP = 50
"""Keys in a row without a quote, behind the last one we know of, after which no more are asked about."""


@dataclass(frozen=True, slots=True)
class DepositClaim:
    """What became of one deposit: the quote as last seen, what was `claimed` now, and why not where it failed."""

    quote: WalletMintQuote
    claimed: int = 0
    error: str = ""


class Deposits:
    """The wallet's `deposits`: keys to publish, and the quotes that others had locked to them."""

    def __init__(self, context: Context) -> None:
        """Take what the wallet's verbs share."""
        self._ctx = context

    async def key(self) -> str:
        """A fresh public key (33 bytes in hex) to which others may have mint quotes locked for this wallet (NUT-20)."""
        ctx = self._ctx
        index = await ctx.storage.transact(lambda tx: ctx.store.take_key_index(tx, _PURPOSE))
        return (await ctx.signer.public_key(f"{_PURPOSE}/{index}")).hex()

    async def request(self, amount: int, pubkey: str, *, mint: str, unit: str = "sat", description: str | None = None) -> str:
        """An invoice whose payment only the owner of `pubkey` can claim: to deposit for somebody else. Nothing is kept.

        MintUnknownError; UnsupportedError where the mint has no locked quotes; PeerFaultError if it locked the quote to
        another key.
        """
        ctx, mint = self._ctx, mint_url_checked(mint)
        owner = quote_pubkey_checked(pubkey)
        if amount <= 0:
            raise MalformedError("an amount to deposit must be positive")
        await fresh_keysets(ctx, mint)
        if not (await ctx.info(mint)).supports(20):
            raise UnsupportedError("the mint has no locked quotes", nut=20)
        asked = MintQuoteRequest(method=_METHOD, unit=unit_checked(unit), amount=amount, description=description, pubkey=owner)
        quote = await ctx.client(mint).request_mint_quote(asked)
        if (quote.pubkey or "").lower() != owner or quote.unit != unit or quote.amount not in (None, amount):
            raise PeerFaultError("the mint quoted something else than asked", peer=mint)
        return quote.request

    async def find(self, mint: str, *, gap: int = _GAP) -> list[WalletMintQuote]:
        """Quotes locked to our keys at a mint, as it has them now, those we asked for ourselves among them; all are stored.

        Looks `gap` keys beyond the last one known, which a wallet restored from words needs. MintUnknownError,
        UnsupportedError where the mint does not tell, PeerFaultError for answers about keys or methods that were not asked
        about, UnavailableError.
        """
        ctx, mint = self._ctx, mint_url_checked(mint)
        await fresh_keysets(ctx, mint, force=True)
        info = await ctx.info(mint)
        most = _limit(info.nuts.get(_DRAFT_KEY))
        if most is None:
            raise UnsupportedError("the mint does not find quotes by key", nut=_NUT)
        try:
            mint_pubkey = curve.point_from_bytes_checked(bytes.fromhex(info.pubkey or ""))
        except (ValueError, MalformedError):
            raise PeerFaultError("the mint announces no key of its own", peer=mint) from None
        known = await ctx.storage.read(lambda tx: ctx.store.key_index(tx, _PURPOSE))
        units = {one.keyset.unit for one in await ctx.keysets(mint)}
        found: dict[str, WalletMintQuote] = {}
        start, end = 0, known + gap
        while start < end:
            indices = range(start, min(start + most, end))
            keys = {await ctx.signer.public_key(f"{_PURPOSE}/{index}"): index for index in indices}
            for quote, index in await self._ask(mint, mint_pubkey, keys):
                if quote.unit not in units:  # stored so it could never be claimed
                    raise PeerFaultError("the mint told of a quote in a unit that it has no keys for", peer=mint)
                end = max(end, index + 1 + gap)
                found[quote.quote] = self._as_stored(mint, quote, index)
            start = indices.stop
        return await self._store(mint, list(found.values()))

    async def claim(self, mint: str, *, gap: int = _GAP) -> list[DepositClaim]:
        """`find`, and claim everything that was paid; one result for each quote that had something to claim."""
        results: list[DepositClaim] = []
        for quote in await self.find(mint, gap=gap):
            if not quote.claimable:
                continue
            try:
                results.append(DepositClaim(quote, await claim(self._ctx, quote)))
            except SpecieError as error:  # one that cannot be claimed now keeps no other from it
                results.append(DepositClaim(quote, error=error.detail))
        return results

    async def _ask(self, mint: str, mint_pubkey: bytes, keys: Mapping[bytes, int]) -> list[tuple[MintQuote, int]]:
        """All quotes of some keys, page by page; each with the number of its key."""
        ctx = self._ctx
        now = ctx.clock.now()
        signatures = [
            (await ctx.signer.sign_schnorr(f"{_PURPOSE}/{index}", [quote_lookup_digest(mint_pubkey, key, now)]))[0]
            for key, index in keys.items()
        ]
        found: list[tuple[MintQuote, int]] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            asked = QuoteLookup(_METHOD, tuple(keys), tuple(signatures), now, cursor=cursor)
            content = wire.quote_lookup_to_json(asked)
            page = self._page(mint, await ctx.client(mint).ask("POST", "mint", "quote", _METHOD, "pubkey", content=content))
            for quote in page.quotes:
                index = keys.get(_key_of(quote))
                if index is None or quote.method != _METHOD:
                    raise PeerFaultError("the mint told of a quote that was not asked about", peer=mint)
                found.append((quote, index))
            if page.next_cursor is None:
                return found
            if page.next_cursor == cursor or not page.quotes:
                break
            cursor = page.next_cursor
        raise PeerFaultError("the mint's list of quotes does not end", peer=mint)

    def _page(self, mint: str, body: bytes) -> QuotePage:
        try:
            return wire.quote_page_from_json(body, method=_METHOD, limits=self._ctx.settings.limits)
        except RefusedError as error:
            raise PeerFaultError(f"the mint's answer does not fit: {error.detail}", peer=mint) from error

    def _as_stored(self, mint: str, quote: MintQuote, index: int) -> WalletMintQuote:
        return WalletMintQuote(
            mint=mint,
            quote=quote.quote,
            method=quote.method,
            unit=quote.unit,
            request=quote.request,
            amount=quote.amount,
            expiry=quote.expiry,
            amount_paid=quote.amount_paid,
            amount_issued=quote.amount_issued,
            updated_at=quote.updated_at,
            key_index=index,
            created_at=self._ctx.clock.now(),
        )

    async def _store(self, mint: str, quotes: Sequence[WalletMintQuote]) -> list[WalletMintQuote]:
        """Store quotes, and never take a key again that has one; the quotes as they are stored then."""
        ctx = self._ctx
        last = max((quote.key_index for quote in quotes if quote.key_index is not None), default=None)
        public = None if last is None else await ctx.signer.public_key(f"{_PURPOSE}/{last}")
        now = ctx.clock.now()

        async def body(tx: Transaction) -> list[WalletMintQuote]:
            if last is not None and public is not None:
                await ctx.store.save_key(tx, _PURPOSE, last, public)
            stored: list[WalletMintQuote] = []
            for quote in quotes:
                await save_seen(ctx, tx, quote, now)
                kept = await ctx.store.mint_quote(tx, mint, quote.quote)
                stored += [] if kept is None else [kept]
            return stored

        return await ctx.storage.transact(body)


def _limit(setting: object) -> int | None:
    """How many keys a mint takes at once; None unless it announces the text of the draft that is implemented here."""
    if not isinstance(setting, Mapping) or setting.get("supported") is not True:
        return None
    most, page = setting.get("max_pubkeys"), setting.get("max_page_size")
    if not isinstance(most, int) or not isinstance(page, int) or most < 1 or page < 1:
        return None
    return min(most, _MAX_KEYS)


def _key_of(quote: MintQuote) -> bytes:
    try:
        return bytes.fromhex(quote.pubkey or "")
    except ValueError:
        return b""
