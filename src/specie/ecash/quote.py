"""Mint and melt quotes as values, and the signature that unlocks a locked mint quote (NUT-04, 05, 20, 23, 25, 30).

Not here: when a quote may move on to its next state (`mint` has that table).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from hashlib import sha256

import msgspec

from specie.ecash.codes import QuotePubkeyRequiredError, QuoteSignatureInvalidError
from specie.ecash.proof import BlindedMessage, BlindSignature
from specie.kernel import curve
from specie.kernel.encoding import hex_checked
from specie.kernel.errors import MalformedError

__all__ = [
    "LEGACY_SIGNATURE_VERSION",
    "QUOTE_SIGNATURE_VERSION",
    "MeltFeeOption",
    "MeltQuote",
    "MeltQuoteRequest",
    "MeltState",
    "MintQuote",
    "MintQuoteRequest",
    "MintState",
    "quote_pubkey_checked",
    "quote_signature_digest",
    "quote_signature_digests",
    "quote_signature_message",
    "verify_quote_signature",
    "verify_quote_signatures",
]


class MintState(StrEnum):
    """State of a mint quote; deprecated upstream in favour of its two amounts, and still sent."""

    UNPAID = "UNPAID"
    PAID = "PAID"
    ISSUED = "ISSUED"


class MeltState(StrEnum):
    """State of a melt quote (NUT-05)."""

    UNPAID = "UNPAID"
    PENDING = "PENDING"
    PAID = "PAID"


class MintQuote(msgspec.Struct, frozen=True):
    """An offer to issue ecash for a payment (NUT-04). Amounts are in the minor unit, times Unix seconds.

    `quote` is SECRET between wallet and mint. `updated_at` never decreases for one quote: an answer with a lower one is old.
    """

    quote: str
    method: str
    request: str
    unit: str
    amount: int | None = None
    """What was asked for; None where the payer chooses."""
    expiry: int | None = None
    """When the payment request runs out; a payment that still arrives counts."""
    pubkey: str | None = None
    """The key that must sign to issue (NUT-20), 33 bytes in hex."""
    amount_paid: int = 0
    amount_issued: int = 0
    updated_at: int = 0

    @property
    def mintable(self) -> int:
        """What may be issued now."""
        return max(self.amount_paid - self.amount_issued, 0)

    @property
    def state(self) -> MintState:
        """UNPAID until something is paid, then PAID while something is mintable, else ISSUED."""
        if not self.amount_paid:
            return MintState.UNPAID
        return MintState.PAID if self.mintable else MintState.ISSUED


class MeltFeeOption(msgspec.Struct, frozen=True):
    """One of the prices at which an on-chain payment can be had (NUT-30); `fee_reserve` is in the quote's unit."""

    fee_index: int
    fee_reserve: int
    estimated_blocks: int


class MeltQuote(msgspec.Struct, frozen=True):
    """An offer to make a payment for ecash (NUT-05). Amounts are in the minor unit, times Unix seconds."""

    quote: str
    method: str
    request: str
    unit: str
    amount: int
    fee_reserve: int
    state: MeltState = MeltState.UNPAID
    expiry: int | None = None
    payment_preimage: str | None = None
    """Proof of payment once PAID, 32 bytes in hex on Lightning."""
    change: tuple[BlindSignature, ...] | None = None
    """Signatures on the first blank outputs (NUT-08), in order; None where there is none."""
    updated_at: int | None = None
    fee_options: tuple[MeltFeeOption, ...] = ()
    """The prices to choose from (NUT-30), at least one where the method has them; `fee_reserve` is then the largest or, once
    one is chosen, the chosen one's."""
    selected_fee_index: int | None = None
    """The option that was chosen; fixed from the first melt on."""
    outpoint: str | None = None
    """`txid:vout` of an on-chain payment once it was broadcast."""

    def reserve(self, fee_index: int | None) -> int:
        """Fee reserve with an option, or of a quote without options; MalformedError for an option that is not there."""
        if fee_index is None and not self.fee_options:
            return self.fee_reserve
        for option in self.fee_options:
            if option.fee_index == fee_index:
                return option.fee_reserve
        raise MalformedError("fee_index must name one of the quote's fee_options")


class MintQuoteRequest(msgspec.Struct, frozen=True):
    """What a wallet asks to mint (NUT-04, NUT-23)."""

    method: str
    unit: str
    amount: int | None = None
    description: str | None = None
    pubkey: str | None = None
    """Lower-case hex of a checked curve point."""


class MeltQuoteRequest(msgspec.Struct, frozen=True):
    """What a wallet asks to have paid (NUT-05, 15, 23, 25, 30). At most one of the three amounts is set."""

    method: str
    request: str
    unit: str
    amount_msat: int | None = None
    """For an invoice without an amount (`options.amountless`)."""
    mpp_msat: int | None = None
    """The part of the invoice to pay (NUT-15, `options.mpp`)."""
    amount: int | None = None
    """Amount in the unit's minor unit, for methods where the payer names it (NUT-30)."""


LEGACY_SIGNATURE_VERSION = 0
"""Quote id and hex of each B_ as one text, without amounts; still accepted."""
QUOTE_SIGNATURE_VERSION = 1
"""Domain tag and length framing, with amounts; what we sign."""

_TAG_V1 = b"Cashu_MintQuoteSig_v1"


def _head_legacy(quote_id: str) -> bytes:
    return quote_id.encode()


def _tail_legacy(outputs: Sequence[BlindedMessage]) -> bytes:
    return "".join(output.B_.hex() for output in outputs).encode()


def _head_v1(quote_id: str) -> bytes:
    return _TAG_V1 + _framed(quote_id.encode())


def _tail_v1(outputs: Sequence[BlindedMessage]) -> bytes:
    parts: list[bytes] = []
    for output in outputs:
        amount = output.amount
        parts += (_framed(amount.to_bytes((amount.bit_length() + 7) // 8, "big")), _framed(output.B_))
    return b"".join(parts)


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


_MESSAGES: dict[int, tuple[Callable[[str], bytes], Callable[[Sequence[BlindedMessage]], bytes]]] = {
    LEGACY_SIGNATURE_VERSION: (_head_legacy, _tail_legacy),
    QUOTE_SIGNATURE_VERSION: (_head_v1, _tail_v1),
}
"""What is of the quote, and what of the outputs: the quotes of a batch sign the same outputs."""


def quote_signature_message(
    quote_id: str, outputs: Sequence[BlindedMessage], *, version: int = QUOTE_SIGNATURE_VERSION
) -> bytes:
    """The message a locked quote's key signs (by SHA-256), over `outputs` in the order of the request (NUT-20).

    Version 1: tag, then each field behind its length (4 bytes big-endian), amounts as shortest big-endian bytes.
    """
    head, tail = _MESSAGES[version]
    return head(quote_id) + tail(outputs)


def quote_signature_digest(
    quote_id: str, outputs: Sequence[BlindedMessage], *, version: int = QUOTE_SIGNATURE_VERSION
) -> bytes:
    """The 32 bytes to sign by BIP 340."""
    return sha256(quote_signature_message(quote_id, outputs, version=version)).digest()


def quote_signature_digests(quote_id: str, outputs: Sequence[BlindedMessage]) -> tuple[bytes, bytes]:
    """The digests of version 1 and of the legacy version, in this order: those a mint accepts."""
    return (
        quote_signature_digest(quote_id, outputs, version=QUOTE_SIGNATURE_VERSION),
        quote_signature_digest(quote_id, outputs, version=LEGACY_SIGNATURE_VERSION),
    )


def verify_quote_signature(
    pubkey: str,
    signature: str | None,
    quote_id: str,
    outputs: Sequence[BlindedMessage],
    *,
    versions: Sequence[int] = (QUOTE_SIGNATURE_VERSION, LEGACY_SIGNATURE_VERSION),
) -> None:
    """Check a mint request for a locked quote (NUT-20): None if `signature` (hex) is valid for one of `versions`.

    QuoteSignatureInvalidError if it is missing, malformed or wrong; the quote stays mintable.
    """
    verify_quote_signatures([(pubkey, signature, quote_id)], outputs, versions=versions)


def verify_quote_signatures(
    locks: Iterable[tuple[str, str | None, str]],
    outputs: Sequence[BlindedMessage],
    *,
    versions: Sequence[int] = (QUOTE_SIGNATURE_VERSION, LEGACY_SIGNATURE_VERSION),
) -> None:
    """Check the public key, signature and id of each quote that one request mints (NUT-29); as `verify_quote_signature`.

    What the signatures have in common, the outputs, is written out once for all of them.
    """
    tails: dict[int, bytes] = {}
    for pubkey, signature, quote_id in locks:
        if signature is None:
            raise QuoteSignatureInvalidError("the quote is locked and the request carries no signature")
        try:
            raw = hex_checked(signature, 64)
            key = hex_checked(pubkey, 33)
        except MalformedError:
            raise QuoteSignatureInvalidError("the signature is not 64 bytes of hex") from None
        for version in versions:
            head, tail = _MESSAGES[version]
            if version not in tails:
                tails[version] = tail(outputs)
            if curve.schnorr_verify(raw, sha256(head(quote_id) + tails[version]).digest(), key):
                break
        else:
            raise QuoteSignatureInvalidError


def quote_pubkey_checked(text: str) -> str:
    """A key to lock a quote to, in lower case; QuotePubkeyRequiredError unless it is a compressed curve point in hex."""
    try:
        return curve.point_from_bytes_checked(hex_checked(text, 33)).hex()
    except MalformedError:
        raise QuotePubkeyRequiredError("pubkey is not a compressed secp256k1 point") from None
