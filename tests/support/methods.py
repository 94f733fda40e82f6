"""Locked quotes of any method in a test: asked for, paid, issued in parts and in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specie.ecash import (
    BlindedMessage,
    MeltQuote,
    MeltQuoteRequest,
    MeltRequest,
    MintBatchRequest,
    MintQuote,
    MintQuoteRequest,
    MintRequest,
    Proof,
)
from specie.ecash.quote import LEGACY_SIGNATURE_VERSION, QUOTE_SIGNATURE_VERSION, quote_signature_digest
from specie.kernel import curve, split_amount
from specie.kernel.encoding import bech32_encode, convert_bits
from specie.lightning import Network, encode_offer
from tests.support.house import Outputs, Purse

KEY = b"\x05" * 32
PUBKEY = curve.public_key(KEY).hex()


def sign_quote(quote: str, outputs: Sequence[BlindedMessage], *, legacy: bool = False) -> str:
    """The signature that unlocks a quote of `PUBKEY`."""
    version = LEGACY_SIGNATURE_VERSION if legacy else QUOTE_SIGNATURE_VERSION
    return curve.schnorr_sign(quote_signature_digest(quote, outputs, version=version), KEY, bytes(32)).hex()


def foreign_address(name: int = 1) -> str:
    """A regtest address of somebody else."""
    return bech32_encode("bcrt", [0, *convert_bits(bytes([name]) * 20, 8, 5, pad=True)])


def foreign_offer(amount_msat: int | None = None, *, name: int = 1, network: Network = Network.REGTEST, **fields: Any) -> str:
    """An offer of somebody else."""
    issuer = curve.public_key(b"\x09" * 32)
    metadata = bytes([name]) * 16
    return encode_offer(network=network, issuer_id=issuer, metadata=metadata, amount_msat=amount_msat, **fields).text


class Teller(Purse):
    """A purse that knows every method."""

    async def quote(self, method: str, amount: int | None = None, *, locked: bool = True) -> MintQuote:
        """A mint quote, locked to `PUBKEY`."""
        asked = MintQuoteRequest(method, "sat", amount, pubkey=PUBKEY if locked else None)
        return await self.house.mint.request_mint_quote(asked)

    async def deposit(self, quote: MintQuote, amount: int | None = None, *, confirm: bool = True) -> str:
        """Somebody pays a quote; the receipt, or on-chain the txid."""
        if quote.method == "bolt11":
            await self.house.pay(quote)
            return ""
        rail = self.house.requests[quote.method]
        paid = await rail.settle(quote.request, None if amount is None else amount * 1000)
        if quote.method == "onchain" and confirm:
            await self.house.onchain.mine(rail.terms.confirmations or 1)
        return paid.receipt_id.partition(":")[0] if quote.method == "onchain" else paid.receipt_id

    def outputs_for(self, amount: int) -> Outputs:
        """FRESH outputs of an amount."""
        return self.outputs(split_amount(amount, self.house.keyset().keys))

    async def issue(self, quote: MintQuote, amount: int) -> list[Proof]:
        """Coins for a part of a quote."""
        outputs = self.outputs_for(amount)
        signature = sign_quote(quote.quote, outputs.messages) if quote.pubkey else None
        asked = MintRequest(quote.method, quote.quote, outputs.messages, signature)
        return outputs.proofs(await self.house.mint.issue(asked))

    def part(self, quote: MintQuote, amount: int) -> MintRequest:
        """A request for a part of a quote over FRESH outputs, signed where it is locked."""
        messages = self.outputs_for(amount).messages
        return MintRequest(quote.method, quote.quote, messages, sign_quote(quote.quote, messages) if quote.pubkey else None)

    def batch(
        self,
        quotes: Sequence[MintQuote],
        total: int,
        amounts: Sequence[int] | None = None,
        *,
        legacy: bool = False,
        outputs: Outputs | None = None,
    ) -> MintBatchRequest:
        """A request for several quotes over outputs of `total` (FRESH unless given), signed where they are locked."""
        messages = (outputs or self.outputs_for(total)).messages
        signatures = tuple(sign_quote(one.quote, messages, legacy=legacy) if one.pubkey else None for one in quotes)
        return MintBatchRequest(
            quotes[0].method,
            tuple(one.quote for one in quotes),
            messages,
            None if amounts is None else tuple(amounts),
            signatures if any(signatures) else None,
        )

    async def price(self, method: str, request: str, **options: Any) -> MeltQuote:
        """A melt quote."""
        return await self.house.mint.request_melt_quote(MeltQuoteRequest(method, request, "sat", **options))

    async def pay(self, quote: MeltQuote, coins: Sequence[Proof], *, blanks: int = 0, **options: Any) -> MeltQuote:
        """A melt by coins."""
        outputs = self.outputs([1] * blanks).messages
        return await self.house.mint.melt(MeltRequest(quote.method, quote.quote, tuple(coins), outputs, **options))
