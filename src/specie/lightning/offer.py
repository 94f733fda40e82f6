"""BOLT 12 offers as values: the text form and the fields that say who is paid, how much and until when.

Pure: no clock (callers ask `Offer.expired(now)`), no randomness, no key. An offer is not signed, so anybody can write one in
anybody's name. Not here: invoice requests, invoices, blinded paths (kept as bytes), quantities, recurrence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from specie.kernel import curve
from specie.kernel.encoding import convert_bits
from specie.kernel.errors import MalformedError, RefusedError
from specie.kernel.limits import DEFAULT_LIMITS
from specie.lightning.errors import OfferMalformedError
from specie.lightning.invoice import MAX_AMOUNT_MSAT, Network

__all__ = ["Offer", "decode_offer", "encode_offer"]

_PREFIX = "lno1"
_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CHAINS, _METADATA, _CURRENCY, _AMOUNT, _DESCRIPTION, _FEATURES, _EXPIRY = 2, 4, 6, 8, 10, 12, 14
_PATHS, _ISSUER, _ISSUER_ID = 16, 18, 22
_KNOWN = frozenset(range(_CHAINS, _ISSUER_ID + 1, 2))
_RANGES = (range(1, 80), range(1_000_000_000, 2_000_000_000))
"""Where fields of an offer may be (BOLT 12, "Offers")."""
_GENESIS = {
    Network.BITCOIN: bytes.fromhex("6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"),
    Network.TESTNET: bytes.fromhex("43497fd7f826957108f4a30fd9cec3aeba79972084e90ead01ea330900000000"),
    Network.REGTEST: bytes.fromhex("06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An offer. `amount_msat` is for one payment; None where the payer chooses."""

    chains: tuple[bytes, ...]
    """Genesis hashes (32 bytes) of the chains it can be paid on; empty means bitcoin's main chain."""
    issuer_id: bytes | None
    """Key of the payee (33 bytes); None where only `paths` leads to it."""
    amount_msat: int | None = None
    description: str = ""
    metadata: bytes = b""
    absolute_expiry: int | None = None
    """Unix seconds after which it is not to be paid."""
    issuer: str = ""
    paths: bytes = b""
    currency: str | None = None
    """Where the amount is in another currency than bitcoin's (ISO 4217)."""
    text: str = ""
    """As it was read or written."""
    digest: bytes = b""
    """SHA-256 of its fields: equal for equal offers, however their text was broken or capitalised."""

    def on(self, network: Network) -> bool:
        """Whether it can be paid on a network."""
        chain = _GENESIS.get(network)
        return chain in self.chains if self.chains else network is Network.BITCOIN

    def expired(self, now: int) -> bool:
        """Whether its time is over."""
        return self.absolute_expiry is not None and now > self.absolute_expiry


def _size(value: int) -> bytes:
    if value < 0xFD:
        return bytes([value])
    if value < 0x10000:
        return b"\xfd" + value.to_bytes(2, "big")
    return b"\xfe" + value.to_bytes(4, "big") if value < 0x100000000 else b"\xff" + value.to_bytes(8, "big")


def _short(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def encode_offer(
    *,
    network: Network,
    issuer_id: bytes,
    metadata: bytes,
    amount_msat: int | None = None,
    description: str = "",
    absolute_expiry: int | None = None,
) -> Offer:
    """An offer with its text. `metadata` (16 bytes or more, FRESH) makes it differ from every other."""
    fields: dict[int, bytes] = {_METADATA: metadata, _ISSUER_ID: issuer_id}
    if network is not Network.BITCOIN:
        fields[_CHAINS] = _GENESIS[network]
    if amount_msat is not None:
        fields[_AMOUNT] = _short(amount_msat)
    if description or amount_msat is not None:
        fields[_DESCRIPTION] = description.encode()
    if absolute_expiry is not None:
        fields[_EXPIRY] = _short(absolute_expiry)
    data = b"".join(_size(kind) + _size(len(fields[kind])) + fields[kind] for kind in sorted(fields))
    return decode_offer(_PREFIX + "".join(_CHARSET[word] for word in convert_bits(data, 8, 5, pad=True)))


def decode_offer(text: str, *, limit: int = DEFAULT_LIMITS.request_chars) -> Offer:
    """Read an offer (BOLT 12, "Encoding", "Offers").

    OfferMalformedError for anything that a reader must not answer; RefusedError for a field it must understand and does not.
    """
    if len(text) > limit:
        raise OfferMalformedError(f"an offer has at most {limit} characters")
    data = _bytes_of(text)
    fields: dict[int, bytes] = {}
    last = -1
    for kind, value in _stream(data):
        if kind <= last:
            raise OfferMalformedError("the fields of an offer are in order, each once")
        last = kind
        if not any(kind in allowed for allowed in _RANGES):
            raise OfferMalformedError(f"field {kind} has no place in an offer")
        if kind not in _KNOWN:
            if kind % 2 == 0:
                raise RefusedError(f"the offer demands field {kind}, which is not known here")
            continue
        fields[kind] = value
    return _offer(fields, text, data)


def _bytes_of(text: str) -> bytes:
    """The bytes of bech32 text without a checksum, which may be broken by `+` and white space between two characters."""
    pieces = text.split("+")
    stripped = [pieces[0], *(piece.lstrip(" \t\r\n") for piece in pieces[1:])]
    joined = "".join(stripped)
    if not all(stripped) or not joined.isascii() or joined not in (joined.lower(), joined.upper()):
        raise OfferMalformedError("not an offer")
    joined = joined.lower()
    if not joined.startswith(_PREFIX):
        raise OfferMalformedError("an offer begins with lno1")
    words = [_CHARSET.find(char) for char in joined[len(_PREFIX) :]]
    if not words or min(words) < 0:
        raise OfferMalformedError("an offer has a character outside its alphabet")
    try:
        return bytes(convert_bits(words, 5, 8, pad=False))
    except MalformedError as error:
        raise OfferMalformedError(error.detail) from None


def _stream(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        if position + count > len(data):
            raise OfferMalformedError("an offer ends in the middle of a field")
        position += count
        return data[position - count : position]

    def size() -> int:
        first = take(1)[0]
        if first < 0xFD:
            return first
        width = 2 << (first - 0xFD)
        value = int.from_bytes(take(width), "big")
        if value < (0xFD if width == 2 else 1 << 4 * width):
            raise OfferMalformedError("a number of an offer is longer than it must be")
        return value

    while position < len(data):
        kind = size()
        yield kind, take(size())


def _number(value: bytes | None, name: str) -> int | None:
    if value is None:
        return None
    if len(value) > 8 or (value and value[0] == 0):
        raise OfferMalformedError(f"{name} of an offer is no number of at most eight bytes")
    return int.from_bytes(value, "big")


def _words(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise OfferMalformedError(f"{name} of an offer is no text") from None


def _check_paths(data: bytes) -> None:
    """Blinded paths one after another, each with an entry, a key and at least one hop (BOLT 4, "Route Blinding")."""
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        position += count
        if position > len(data):
            raise OfferMalformedError("a path of an offer ends too early")
        return data[position - count : position]

    def point(first: bytes) -> None:
        if not curve.is_point(first + take(32)):
            raise OfferMalformedError("a path of an offer leads to what is no point")

    while position < len(data):
        first = take(1)
        if first in (b"\x00", b"\x01"):  # an end of a channel, by its short id
            take(8)
        else:
            point(first)
        point(take(1))
        hops = take(1)[0]
        if not hops:
            raise OfferMalformedError("a path of an offer has no hops")
        for _ in range(hops):
            point(take(1))
            take(int.from_bytes(take(2), "big"))


def _offer(fields: dict[int, bytes], text: str, data: bytes) -> Offer:
    chains = fields.get(_CHAINS, b"")
    if len(chains) % 32 or (_CHAINS in fields and not chains):
        raise OfferMalformedError("the chains of an offer have 32 bytes each")
    amount = _number(fields.get(_AMOUNT), "amount")
    if amount is not None and _DESCRIPTION not in fields:
        raise OfferMalformedError("an offer with an amount has a description")
    if amount is not None and _CURRENCY not in fields and not 1 <= amount <= MAX_AMOUNT_MSAT:
        raise OfferMalformedError("the amount of an offer is out of range")
    if _CURRENCY in fields and amount is None:
        raise OfferMalformedError("an offer with a currency has an amount")
    features = int.from_bytes(fields.get(_FEATURES, b""), "big")
    if features & sum(1 << bit for bit in range(0, features.bit_length(), 2)):
        raise RefusedError("the offer demands a feature that is not known here")
    _check_paths(fields.get(_PATHS, b""))
    issuer_id = fields.get(_ISSUER_ID)
    if issuer_id is None and not fields.get(_PATHS):
        raise OfferMalformedError("an offer names its issuer or a path to it")
    if issuer_id is not None and not curve.is_point(issuer_id):
        raise OfferMalformedError("the issuer of an offer is no public key")
    return Offer(
        chains=tuple(chains[start : start + 32] for start in range(0, len(chains), 32)),
        issuer_id=issuer_id,
        amount_msat=amount if _CURRENCY not in fields else None,
        description=_words(fields.get(_DESCRIPTION, b""), "description"),
        metadata=fields.get(_METADATA, b""),
        absolute_expiry=_number(fields.get(_EXPIRY), "expiry"),
        issuer=_words(fields.get(_ISSUER, b""), "issuer"),
        paths=fields.get(_PATHS, b""),
        currency=_words(fields[_CURRENCY], "currency") if _CURRENCY in fields else None,
        text=text,
        digest=hashlib.sha256(data).digest(),
    )
