"""What a pasted text asks to have paid: a BOLT 11 invoice, a BOLT 12 offer, a bitcoin address, or a URI that names several.

Pure, and for recognising only: offers and the checksums of addresses are checked, signatures of invoices are the mint's to
judge, who pays. A URI is BIP 21 with `lightning=` (an invoice) and `lno=` (an offer, BIP 321);
its amounts are exact decimals of bitcoin. Not here: which of several ways is taken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from urllib.parse import quote, unquote

from specie.kernel.encoding import bech32_decode, convert_bits
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS
from specie.lightning.invoice import bare_invoice, invoice_amount_msat
from specie.lightning.offer import decode_offer

__all__ = ["Destination", "bitcoin_uri", "is_address", "parse_destination", "sat_from_bitcoin"]

_SAT_PER_BITCOIN = 100_000_000
_MOST_SAT = 21_000_000 * _SAT_PER_BITCOIN
_DECIMAL = re.compile(r"(\d{1,8})(?:\.(\d{1,8}))?")
_SEGWIT_PREFIXES = ("bc", "tb", "bcrt")
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_VERSIONS = frozenset({0x00, 0x05, 0x6F, 0xC4})
"""Pay-to-public-key-hash and pay-to-script-hash, of the main network and of the test networks."""
_MOST_PARAMETERS = 32


@dataclass(frozen=True, slots=True)
class Destination:
    """Ways to pay one and the same thing; at least one is set. `amount_sat` is what a URI asks for."""

    bolt11: str | None = None
    bolt12: str | None = None
    onchain: str | None = None
    amount_sat: int | None = None
    message: str | None = None
    """What a URI says it is for; text from outside."""

    @property
    def ways(self) -> tuple[tuple[str, str], ...]:
        """Method and request of each way, the quickest and cheapest kind first."""
        found = (("bolt11", self.bolt11), ("bolt12", self.bolt12), ("onchain", self.onchain))
        return tuple((method, request) for method, request in found if request is not None)


def sat_from_bitcoin(text: str) -> int:
    """Satoshi of a decimal number of bitcoin (BIP 21). MalformedError unless it is exact, positive and not too large."""
    match = _DECIMAL.fullmatch(text) if text.isascii() else None
    if match is None:
        raise MalformedError("an amount of bitcoin is a decimal number with at most 8 decimal places")
    amount_sat = int(match[1]) * _SAT_PER_BITCOIN + int((match[2] or "").ljust(8, "0"))
    if not 0 < amount_sat <= _MOST_SAT:
        raise MalformedError("an amount of bitcoin is positive and at most all there is")
    return amount_sat


def is_address(text: str) -> bool:
    """Whether a text is a bitcoin address of any network, with a right checksum (BIP 173, BIP 350, base58)."""
    if len(text) > 100 or not text.isascii():
        return False
    if text.lower().startswith(tuple(prefix + "1" for prefix in _SEGWIT_PREFIXES)):
        return _is_segwit(text)
    return _is_base58(text)


def _is_segwit(text: str) -> bool:
    for variant in ("bech32", "bech32m"):
        try:
            prefix, words = bech32_decode(text, variant=variant, limit=90)
            program = convert_bits(words[1:], 5, 8, pad=False)
        except MalformedError:
            continue
        if prefix not in _SEGWIT_PREFIXES or not words or words[0] > 16 or not 2 <= len(program) <= 40:
            continue
        if words[0] == 0:
            return variant == "bech32" and len(program) in (20, 32)
        return variant == "bech32m"
    return False


def _is_base58(text: str) -> bool:
    value = 0
    for char in text:
        digit = _BASE58.find(char)
        if digit < 0:
            return False
        value = value * 58 + digit
    if not 26 <= len(text) <= 35 or value >> 200:
        return False
    raw = value.to_bytes(25, "big")
    return raw[0] in _BASE58_VERSIONS and sha256(sha256(raw[:21]).digest()).digest()[:4] == raw[21:]


def parse_destination(text: str) -> Destination:
    """Read what was pasted; white space around it and a `lightning:` in front are dropped. MalformedError if it is nothing.

    In a URI an unknown parameter that begins with `req-` is refused (BIP 21), as is a parameter given twice. RefusedError for
    an offer that demands what is not known here.
    """
    text = bare_invoice(text)
    if len(text) > DEFAULT_LIMITS.request_chars:
        raise MalformedError("payment request is too long")
    if text[:8].lower() == "bitcoin:":
        return _uri(text[8:])
    if text.lower().startswith("lno1"):
        decode_offer(text)
        return Destination(bolt12=text)
    if is_address(text):
        return Destination(onchain=text)
    if text[:4].lower() in ("lnbc", "lntb"):
        invoice_amount_msat(text)
        return Destination(bolt11=text)
    raise MalformedError("neither an invoice, an offer, a bitcoin address nor a bitcoin: URI")


def _uri(rest: str) -> Destination:
    address, _, query = rest.removeprefix("//").partition("?")
    given: dict[str, str] = {}
    pairs = query.split("&") if query else []
    if len(pairs) > _MOST_PARAMETERS:
        raise MalformedError("bitcoin URI has too many parameters")
    for pair in pairs:
        name, _, value = pair.partition("=")
        name = name.lower()
        if name in given:
            raise MalformedError("bitcoin URI has a parameter twice")
        try:
            given[name] = unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise MalformedError("bitcoin URI has text that is not UTF-8") from None
    if any(name.startswith("req-") for name in given):
        raise MalformedError("bitcoin URI requires something that is not known here")
    if address and not is_address(address):
        raise MalformedError("bitcoin URI has a wrong address")
    invoice, offer = given.get("lightning") or None, given.get("lno") or None
    if invoice is not None:
        invoice_amount_msat(invoice)
    if offer is not None:
        decode_offer(offer)
    if not (address or invoice or offer):
        raise MalformedError("bitcoin URI names nothing to pay")
    return Destination(
        bolt11=invoice,
        bolt12=offer,
        onchain=address or None,
        amount_sat=sat_from_bitcoin(given["amount"]) if "amount" in given else None,
        message=given.get("message") or given.get("label"),
    )


def bitcoin_uri(address: str, *, amount_sat: int | None = None, message: str | None = None) -> str:
    """A BIP 21 URI for an address, its amount an exact decimal of bitcoin."""
    parameters = []
    if amount_sat is not None:
        whole, rest = divmod(amount_sat, _SAT_PER_BITCOIN)
        parameters.append(f"amount={whole}.{rest:08d}".rstrip("0").rstrip("."))
    if message:
        parameters.append(f"message={quote(message, safe='')}")
    return f"bitcoin:{address}" + ("?" + "&".join(parameters) if parameters else "")
