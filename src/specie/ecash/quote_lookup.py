"""Finding mint quotes by the keys they are locked to (draft: cashubtc/nuts pull request 341, text of September 2026).

The owner of each key signs that it asks, at which mint and when. Other texts of the draft signed less (no time) or in
another order; none of them is accepted here.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from specie.ecash.codes import BatchTooLargeError, QuoteSignatureInvalidError
from specie.ecash.quote import MintQuote
from specie.kernel import curve
from specie.kernel.errors import MalformedError, RefusedError

__all__ = ["LOOKUP_WINDOW_S", "QuoteLookup", "QuotePage", "quote_lookup_digest", "verify_quote_lookup"]

LOOKUP_WINDOW_S = 300
"""How far the clocks of wallet and mint may be apart; for so long can a question that was overheard be asked again."""

_TAG = "Cashu_MintQuoteLookup_v1"


class QuoteLookup(msgspec.Struct, frozen=True):
    """A question after the quotes of one method that are locked to any of `pubkeys` (33 bytes each, distinct).

    `signatures` (64 bytes) are in the order of the keys; `timestamp` is Unix time; `cursor` continues an earlier answer.
    """

    method: str
    pubkeys: tuple[bytes, ...]
    signatures: tuple[bytes, ...]
    timestamp: int
    limit: int | None = None
    cursor: str | None = None


class QuotePage(msgspec.Struct, frozen=True):
    """Quotes in the order of their ids, and where to go on; no cursor at the end."""

    quotes: tuple[MintQuote, ...]
    next_cursor: str | None = None


def quote_lookup_digest(mint_pubkey: bytes, pubkey: bytes, timestamp: int) -> bytes:
    """The 32 bytes that the owner of `pubkey` signs by BIP 340, for the mint of `mint_pubkey` (NUT-06), at `timestamp`."""
    return sha256(f"{_TAG}{mint_pubkey.hex()}{pubkey.hex()}{timestamp}".encode()).digest()


def verify_quote_lookup(request: QuoteLookup, mint_pubkey: bytes, now: int, *, most: int) -> None:
    """Check a question at Unix time `now`: at most `most` keys, each once, the time near, every signature right.

    None if all holds. MalformedError, BatchTooLargeError (11017), RefusedError for a time out of the window,
    QuoteSignatureInvalidError (20008): then nothing may be told.
    """
    if not request.pubkeys or len(request.pubkeys) != len(request.signatures):
        raise MalformedError("each key needs its signature")
    if len(request.pubkeys) > most:
        raise BatchTooLargeError(f"at most {most} keys at once")
    if len(set(request.pubkeys)) != len(request.pubkeys):
        raise MalformedError("a key is asked about twice")
    if request.limit is not None and request.limit < 1:
        raise MalformedError("limit must be at least 1")
    if abs(now - request.timestamp) > LOOKUP_WINDOW_S:
        raise RefusedError(f"timestamp is more than {LOOKUP_WINDOW_S} s away from the mint's clock")
    for pubkey, signature in zip(request.pubkeys, request.signatures, strict=True):
        if not curve.schnorr_verify(signature, quote_lookup_digest(mint_pubkey, pubkey, request.timestamp), pubkey):
            raise QuoteSignatureInvalidError("a key's signature is wrong")
