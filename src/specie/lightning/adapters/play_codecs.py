"""What a request of each play method looks like, written and read: offers, regtest addresses, and plain text for any other.

Pure but for the bytes they are given. A codec says of a text who is meant (`Payee`); whether that is one of ours only the
store knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from specie.kernel.encoding import bech32_decode, bech32_encode, convert_bits
from specie.kernel.errors import MalformedError, RefusedError
from specie.kernel.rail import RailTerms
from specie.lightning.errors import InvoiceExpiredError, InvoiceNetworkError
from specie.lightning.invoice import Network
from specie.lightning.offer import decode_offer, encode_offer

__all__ = ["AddressCodec", "OfferCodec", "Payee", "PlainCodec", "RequestCodec"]


@dataclass(frozen=True, slots=True)
class Payee:
    """A request that was read. `request` is its one form, however it was written."""

    request: str
    amount_msat: int | None
    expiry: int | None


class RequestCodec(Protocol):
    """The requests of one method."""

    terms: RailTerms

    def write(self, seed: bytes, issuer: bytes, *, amount_msat: int | None, description: str, expiry: int) -> str:
        """A request made of 20 FRESH bytes, in the name of a public key (33 bytes)."""
        ...

    def read(self, text: str, now: int) -> Payee:
        """RefusedError and its leaves: no such request, another network, expired."""
        ...


class OfferCodec:
    """BOLT 12 (NUT-25): regtest offers."""

    terms = RailTerms(incoming_amount="optional", reusable=True, pubkey_required=True, outgoing_amount="either")

    def write(self, seed: bytes, issuer: bytes, *, amount_msat: int | None, description: str, expiry: int) -> str:
        """An offer of the key."""
        return encode_offer(
            network=Network.REGTEST,
            issuer_id=issuer,
            metadata=seed,
            amount_msat=amount_msat,
            description=description,
            absolute_expiry=expiry,
        ).text

    def read(self, text: str, now: int) -> Payee:
        """An offer for regtest, in bitcoin."""
        offer = decode_offer(text)
        if not offer.on(Network.REGTEST):
            raise InvoiceNetworkError("the offer is for another network, and this rail has play money only")
        if offer.currency is not None:
            raise RefusedError("the offer names its amount in another currency")
        if offer.expired(now):
            raise InvoiceExpiredError("the offer has expired")
        return Payee("".join(offer.text.lower().split()).replace("+", ""), offer.amount_msat, offer.absolute_expiry)


class AddressCodec:
    """On-chain (NUT-30): segwit addresses of regtest, whose coins nobody has a key to."""

    def __init__(self, confirmations: int, dust_msat: int) -> None:
        self.terms = RailTerms(
            incoming_amount="never",
            reusable=True,
            description=False,
            pubkey_required=True,
            outgoing_amount="payer",
            asynchronous=True,
            confirmations=confirmations,
            expiry_cuts=True,
            minimum_in_msat=dust_msat,
            minimum_out_msat=dust_msat,
            method_name="On-chain",
        )

    def write(self, seed: bytes, issuer: bytes, *, amount_msat: int | None, description: str, expiry: int) -> str:
        """A version 0 address of 20 bytes (BIP 173)."""
        return bech32_encode(Network.REGTEST, [0, *convert_bits(seed[:20], 8, 5, pad=True)])

    def read(self, text: str, now: int) -> Payee:
        """A segwit address (BIP 173, BIP 350) of regtest."""
        address = text.strip().removeprefix("bitcoin:").removeprefix("BITCOIN:").lower()
        if len(address) > 90 or (text != text.lower() and text != text.upper() and ":" not in text):
            raise MalformedError("not a segwit address")
        taproot = address.partition("1")[2][:1] not in ("", "q")
        prefix, words = bech32_decode(address, variant="bech32m" if taproot else "bech32", limit=90)
        if prefix != Network.REGTEST:
            raise InvoiceNetworkError("the address is of another network, and this rail has play money only")
        if not words or words[0] > 16:
            raise MalformedError("not a segwit address")
        program = convert_bits(words[1:], 5, 8, pad=False)
        if not 2 <= len(program) <= 40 or (words[0] == 0 and len(program) not in (20, 32)):
            raise MalformedError("not a segwit address")
        return Payee(address, None, None)


class PlainCodec:
    """Any other method: `play:<method>:<40 hex characters>`, with `:<millisatoshi>` where the request names an amount."""

    def __init__(self, method: str) -> None:
        self.terms = RailTerms(incoming_amount="optional", reusable=True, outgoing_amount="either")
        self._method = method
        self._shape = re.compile(f"play:{re.escape(method)}:([0-9a-f]{{40}})(?::([1-9][0-9]{{0,19}}))?")

    def write(self, seed: bytes, issuer: bytes, *, amount_msat: int | None, description: str, expiry: int) -> str:
        """A request of this method."""
        return f"play:{self._method}:{seed[:20].hex()}" + ("" if amount_msat is None else f":{amount_msat}")

    def read(self, text: str, now: int) -> Payee:
        """A request of this method, ours or not."""
        match = self._shape.fullmatch(text.strip())
        if match is None:
            raise MalformedError(f"not a request of method {self._method}: play:{self._method}:...")
        return Payee(match[0], None if match[2] is None else int(match[2]), None)
