"""BOLT 11 invoices as values: decoding with every check a reader owes, and encoding with a signer that keeps its key.

Pure: no clock (callers ask `Invoice.expired(now)`), no randomness (payment hash and secret are given), no key (encoding
awaits a callable). Not here: BOLT 12, routing, on-chain addresses as text (a fallback is its version and program).

Where specification and its examples disagree the text is followed: since 2025 a `p`, `h`, `s` or `n` field of a wrong
length fails the invoice, though one example still skips such fields.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from specie.kernel import curve, encoding
from specie.kernel.errors import MalformedError
from specie.kernel.limits import DEFAULT_LIMITS
from specie.lightning.errors import InvoiceFeatureError, InvoiceMalformedError, InvoiceSignatureError

__all__ = [
    "DEFAULT_EXPIRY_S",
    "DEFAULT_FINAL_CLTV_DELTA",
    "KNOWN_FEATURES",
    "MAX_AMOUNT_MSAT",
    "MAX_DESCRIPTION_BYTES",
    "Fallback",
    "Hop",
    "Invoice",
    "InvoiceDraft",
    "Network",
    "RecoverableSign",
    "bare_invoice",
    "decode_invoice",
    "encode_invoice",
    "invoice_amount_msat",
]

MAX_AMOUNT_MSAT = 21_000_000 * 100_000_000 * 1000
"""All bitcoin there will be, in millisatoshi; an invoice that asks for more is malformed."""

MAX_DESCRIPTION_BYTES = 639
"""Largest description or metadata: 1,023 groups of 5 bits."""

DEFAULT_EXPIRY_S = 3600
DEFAULT_FINAL_CLTV_DELTA = 18

KNOWN_FEATURES = frozenset({8, 14, 16, 24, 36, 48})
"""Even bits that BOLT 9 allows in an invoice: onion, payment secret, basic MPP, blinding, attribution, metadata."""

_MAX_EXPIRY_S = 2**53
_MAX_CLTV_DELTA = 2**32 - 1
_MAX_FEATURE_GROUPS = 256
_SIGNATURE_GROUPS = 104
_TIMESTAMP_GROUPS = 7
_HOP_BYTES = 51
_HALF_ORDER = curve.ORDER // 2

_HUMAN = re.compile(r"ln(bc|tb|tbs|bcrt)(?:([1-9][0-9]{0,18})([munp]?))?")
_PICOBITCOIN = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}
_TAG = {"p": 1, "s": 16, "d": 13, "m": 27, "n": 19, "h": 23, "x": 6, "c": 24, "f": 9, "r": 3, "9": 5}
_LETTER = {number: letter for letter, number in _TAG.items()}

RecoverableSign = Callable[[bytes], "tuple[bytes, int] | Awaitable[tuple[bytes, int]]"]
"""Compact ECDSA signature (64 bytes) and recovery id of a 32-byte digest, now or awaited."""


class Network(StrEnum):
    """Chain of an invoice, by its BIP 173 prefix."""

    BITCOIN = "bc"
    TESTNET = "tb"
    SIGNET = "tbs"
    REGTEST = "bcrt"


@dataclass(frozen=True, slots=True)
class Fallback:
    """Where to pay on chain instead: `version` 0 to 16 with a witness program, 17 with a key hash, 18 with a script hash."""

    version: int
    program: bytes


@dataclass(frozen=True, slots=True)
class Hop:
    """One private channel on the way to the payee."""

    node: bytes
    """33-byte key of the node at the channel's start."""
    short_channel_id: int
    """64 bits: block height, transaction index, output index (24, 24 and 16 bits)."""
    fee_base_msat: int
    fee_ppm: int
    cltv_expiry_delta: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceDraft:
    """What a payee says in an invoice. Exactly one of `description` and `description_hash`."""

    network: Network
    amount_msat: int | None
    """1 to 2.1e18, or None where the payer chooses."""
    timestamp: int
    """Unix seconds, 35 bits."""
    payment_hash: bytes
    """32 bytes, SHA-256 of the preimage."""
    payment_secret: bytes
    """32 bytes."""
    description: str | None = None
    """At most 639 bytes of UTF-8; hostile text until escaped."""
    description_hash: bytes | None = None
    """32 bytes."""
    metadata: bytes | None = None
    named_payee: bytes | None = None
    """The `n` field: 33-byte key of the payee, where the invoice names it itself."""
    expiry_s: int = DEFAULT_EXPIRY_S
    min_final_cltv_expiry_delta: int = DEFAULT_FINAL_CLTV_DELTA
    fallbacks: tuple[Fallback, ...] = ()
    routes: tuple[tuple[Hop, ...], ...] = ()
    features: frozenset[int] = frozenset()
    """Bits that are set."""

    @property
    def expiry(self) -> int:
        """Unix seconds from which the payee refuses."""
        return self.timestamp + self.expiry_s

    @property
    def payment_id(self) -> str:
        """Payment hash in hex, as rails name payments."""
        return self.payment_hash.hex()

    def expired(self, now: int) -> bool:
        """Whether the time is over at Unix second `now`."""
        return now >= self.expiry


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice(InvoiceDraft):
    """A decoded invoice whose signature was checked."""

    payee: bytes
    """33-byte key of the payee: named by the invoice, or recovered from its signature."""
    text: str
    """The invoice in lower case; equal invoices have equal text."""


def bare_invoice(text: str) -> str:
    """The invoice in a pasted text: white space around it and a `lightning:` in front are dropped."""
    text = text.strip()
    return text[10:] if text[:10].lower() == "lightning:" else text


def invoice_amount_msat(text: str) -> int | None:
    """Millisatoshi that the human-readable part of an invoice asks for; None where it names no amount.

    Nothing else is checked, no checksum and no signature: for showing, never for paying. InvoiceMalformedError.
    """
    if len(text) > DEFAULT_LIMITS.request_chars:
        raise InvoiceMalformedError("invoice is too long")
    prefix, separator, body = text.lower().rpartition("1")
    if not separator or not body:
        raise InvoiceMalformedError("not an invoice")
    return _human_part(prefix)[1]


def decode_invoice(
    text: str, *, known_features: frozenset[int] = KNOWN_FEATURES, limit: int = DEFAULT_LIMITS.request_chars
) -> Invoice:
    """Read a BOLT 11 invoice (either case, no URI scheme, at most `limit` characters) and check its signature.

    Raises InvoiceMalformedError or its leaf InvoiceSignatureError, MalformedError where it is not bech32, and
    InvoiceFeatureError for an unknown even feature bit. Of a field that is there twice the first counts.
    """
    human, words = encoding.bech32_decode(text, limit=limit)
    network, amount_msat = _human_part(human)
    if len(words) < _TIMESTAMP_GROUPS + _SIGNATURE_GROUPS:
        raise InvoiceMalformedError("invoice is too short")
    signed, tail = words[:-_SIGNATURE_GROUPS], words[-_SIGNATURE_GROUPS:]
    fields = _fields(signed[_TIMESTAMP_GROUPS:])
    draft = _draft(network, amount_msat, _integer(signed[:_TIMESTAMP_GROUPS]), fields)
    unknown = sorted(bit for bit in draft.features if not bit % 2 and bit not in known_features)
    if unknown:
        raise InvoiceFeatureError(unknown[0])
    payee = _payee(_digest(human, signed), bytes(encoding.convert_bits(tail, 5, 8, pad=False)), draft.named_payee)
    values = {name: getattr(draft, name) for name in InvoiceDraft.__dataclass_fields__}
    return Invoice(**values, payee=payee, text=text.lower())


async def encode_invoice(draft: InvoiceDraft, sign: RecoverableSign) -> str:
    """Invoice text in lower case. `sign` gets the 32-byte digest and may be async (`keys.Signer.sign_recoverable`).

    Fields stand in the order s, p, d or h, m, n, x, c, f, r, 9; `x` and `c` are left out where they are the default.
    Raises InvoiceMalformedError where the draft breaks BOLT 11, InvoiceSignatureError where `named_payee` did not sign.
    """
    human = f"ln{draft.network}{_amount_text(draft.amount_msat)}"
    signed = _data_part(draft)
    digest = _digest(human, signed)
    made = sign(digest)
    signature, recovery_id = await made if inspect.isawaitable(made) else made
    compact = signature + bytes((recovery_id,))
    _payee(digest, compact, draft.named_payee)
    text = encoding.bech32_encode(human, signed + encoding.convert_bits(compact, 8, 5, pad=True))
    if len(text) > DEFAULT_LIMITS.request_chars:
        raise InvoiceMalformedError("invoice is too long")
    return text


# Human-readable part


def _human_part(human: str) -> tuple[Network, int | None]:
    match = _HUMAN.fullmatch(human)
    if match is None:
        raise InvoiceMalformedError("not an invoice, or an amount or network that BOLT 11 does not know")
    network, digits, multiplier = match.groups()
    if digits is None:
        return Network(network), None
    tenths, rest = divmod(int(digits) * _PICOBITCOIN[multiplier], 10)
    if rest:
        raise InvoiceMalformedError("amount is finer than a millisatoshi")
    if tenths > MAX_AMOUNT_MSAT:
        raise InvoiceMalformedError("amount is more than all bitcoin")
    return Network(network), tenths


def _amount_text(amount_msat: int | None) -> str:
    if amount_msat is None:
        return ""
    if not 1 <= amount_msat <= MAX_AMOUNT_MSAT:
        raise InvoiceMalformedError("amount must be from 1 millisatoshi to all bitcoin")
    pico = amount_msat * 10
    for letter, factor in _PICOBITCOIN.items():
        if pico % factor == 0:
            return f"{pico // factor}{letter}"
    raise AssertionError("every amount divides by one")  # pragma: no cover


# Reading the data part


def _integer(groups: Sequence[int]) -> int:
    value = 0
    for group in groups:
        value = value << 5 | group
    return value


def _fields(groups: list[int]) -> Iterator[tuple[str, list[int]]]:
    position = 0
    while position < len(groups):
        if position + 3 > len(groups):
            raise InvoiceMalformedError("a field is cut off")
        length = groups[position + 1] << 5 | groups[position + 2]
        start, end = position + 3, position + 3 + length
        if end > len(groups):
            raise InvoiceMalformedError("a field is longer than the invoice")
        letter = _LETTER.get(groups[position])
        if letter is not None:
            yield letter, groups[start:end]
        position = end


def _octets(letter: str, groups: list[int], size: int | None = None) -> bytes:
    if size is not None and len(groups) != -(-size * 8 // 5):
        raise InvoiceMalformedError(f"field {letter} does not have {size} bytes")
    return bytes(encoding.convert_bits(groups, 5, 8, pad=False))


def _number(letter: str, groups: list[int], maximum: int) -> int:
    if groups and not groups[0]:
        raise InvoiceMalformedError(f"field {letter} begins with zeros")
    if len(groups) > 13 or (value := _integer(groups)) > maximum:
        raise InvoiceMalformedError(f"field {letter} is out of range")
    return value


def _features(groups: list[int]) -> frozenset[int]:
    if groups and not groups[0]:
        raise InvoiceMalformedError("field 9 begins with zeros")
    if len(groups) > _MAX_FEATURE_GROUPS:
        raise InvoiceMalformedError("field 9 is too long")
    bits = _integer(groups)
    return frozenset(bit for bit in range(bits.bit_length()) if bits >> bit & 1)


def _fallback(groups: list[int]) -> Fallback | None:
    if not groups:
        raise InvoiceMalformedError("field f is empty")
    version = groups[0]
    if version > 18:
        return None
    program = _octets("f", groups[1:])
    _check_fallback(Fallback(version, program))
    return Fallback(version, program)


def _check_fallback(fallback: Fallback) -> None:
    size = len(fallback.program)
    if fallback.version == 0:
        right = size in (20, 32)
    elif 1 <= fallback.version <= 16:
        right = 2 <= size <= 40
    else:
        right = fallback.version in (17, 18) and size == 20
    if not right:
        raise InvoiceMalformedError("fallback address has a wrong version or length")


def _route(groups: list[int]) -> tuple[Hop, ...]:
    data = _octets("r", groups)
    if not data or len(data) % _HOP_BYTES:
        raise InvoiceMalformedError("field r is not made of whole hops")
    hops = []
    for start in range(0, len(data), _HOP_BYTES):
        part = data[start : start + _HOP_BYTES]
        if not curve.is_point(part[:33]):
            raise InvoiceMalformedError("field r names a node that is not a public key")
        scid, base, ppm, delta = (int.from_bytes(part[a:b], "big") for a, b in ((33, 41), (41, 45), (45, 49), (49, 51)))
        hops.append(Hop(part[:33], scid, base, ppm, delta))
    return tuple(hops)


def _node(groups: list[int]) -> bytes:
    key = _octets("n", groups, 33)
    if not curve.is_point(key):
        raise InvoiceMalformedError("field n is not a public key")
    return key


def _text(groups: list[int]) -> str:
    try:
        return _octets("d", groups).decode("utf-8")
    except UnicodeDecodeError:
        raise InvoiceMalformedError("description is not UTF-8") from None


def _draft(network: Network, amount_msat: int | None, timestamp: int, fields: Iterator[tuple[str, list[int]]]) -> InvoiceDraft:
    octets: dict[str, bytes] = {}
    numbers: dict[str, int] = {}
    texts: list[str] = []
    features: list[frozenset[int]] = []
    fallbacks: list[Fallback | None] = []
    routes: list[tuple[Hop, ...]] = []
    for letter, groups in fields:
        match letter:
            case "p" | "s" | "h":
                octets.setdefault(letter, _octets(letter, groups, 32))
            case "n":
                octets.setdefault(letter, _node(groups))
            case "m":
                octets.setdefault(letter, _octets(letter, groups))
            case "d":
                texts.append(_text(groups))
            case "x":
                numbers.setdefault(letter, _number(letter, groups, _MAX_EXPIRY_S))
            case "c":
                numbers.setdefault(letter, _number(letter, groups, _MAX_CLTV_DELTA))
            case "9":
                features.append(_features(groups))
            case "r":
                routes.append(_route(groups))
            case _:
                fallbacks.append(_fallback(groups))
    if missing := {"p", "s"} - octets.keys():
        raise InvoiceMalformedError(f"invoice has no field {min(missing)}")
    if bool(texts) == ("h" in octets):
        raise InvoiceMalformedError("invoice needs either a description or its hash")
    return InvoiceDraft(
        network=network,
        amount_msat=amount_msat,
        timestamp=timestamp,
        payment_hash=octets["p"],
        payment_secret=octets["s"],
        description=texts[0] if texts else None,
        description_hash=octets.get("h"),
        metadata=octets.get("m"),
        named_payee=octets.get("n"),
        expiry_s=numbers.get("x", DEFAULT_EXPIRY_S),
        min_final_cltv_expiry_delta=numbers.get("c", DEFAULT_FINAL_CLTV_DELTA),
        fallbacks=tuple(fallback for fallback in fallbacks if fallback is not None),
        routes=tuple(routes),
        features=features[0] if features else frozenset(),
    )


# Writing the data part


def _field(letter: str, groups: list[int]) -> list[int]:
    if len(groups) > 1023:
        raise InvoiceMalformedError(f"field {letter} is too long")
    return [_TAG[letter], len(groups) >> 5, len(groups) & 31, *groups]


def _octet_field(letter: str, data: bytes, size: int | None = None) -> list[int]:
    if size is not None and len(data) != size:
        raise InvoiceMalformedError(f"field {letter} takes {size} bytes")
    return _field(letter, encoding.convert_bits(data, 8, 5, pad=True))


def _groups(value: int) -> list[int]:
    groups: list[int] = []
    while value:
        groups.append(value & 31)
        value >>= 5
    return groups[::-1]


def _number_field(letter: str, value: int, default: int, maximum: int) -> list[int]:
    if not 0 <= value <= maximum:
        raise InvoiceMalformedError(f"field {letter} is out of range")
    return [] if value == default else _field(letter, _groups(value))


def _hop_bytes(hop: Hop) -> bytes:
    if not curve.is_point(hop.node):
        raise InvoiceMalformedError("a hop's node is not a public key")
    parts = ((hop.short_channel_id, 8), (hop.fee_base_msat, 4), (hop.fee_ppm, 4), (hop.cltv_expiry_delta, 2))
    try:
        return hop.node + b"".join(value.to_bytes(size, "big") for value, size in parts)
    except OverflowError:
        raise InvoiceMalformedError("a hop's figure is out of range") from None


def _data_part(draft: InvoiceDraft) -> list[int]:
    if not 0 <= draft.timestamp < 2**35:
        raise InvoiceMalformedError("timestamp does not fit 35 bits")
    groups = [draft.timestamp >> 5 * (6 - index) & 31 for index in range(_TIMESTAMP_GROUPS)]
    groups += _octet_field("s", draft.payment_secret, 32)
    groups += _octet_field("p", draft.payment_hash, 32)
    if (draft.description is None) == (draft.description_hash is None):
        raise InvoiceMalformedError("invoice needs either a description or its hash")
    if draft.description is not None:
        groups += _octet_field("d", draft.description.encode())
    if draft.description_hash is not None:
        groups += _octet_field("h", draft.description_hash, 32)
    if draft.metadata is not None:
        groups += _octet_field("m", draft.metadata)
    if draft.named_payee is not None:
        groups += _octet_field("n", draft.named_payee, 33)
    groups += _number_field("x", draft.expiry_s, DEFAULT_EXPIRY_S, _MAX_EXPIRY_S)
    groups += _number_field("c", draft.min_final_cltv_expiry_delta, DEFAULT_FINAL_CLTV_DELTA, _MAX_CLTV_DELTA)
    for fallback in draft.fallbacks:
        _check_fallback(fallback)
        groups += _field("f", [fallback.version, *encoding.convert_bits(fallback.program, 8, 5, pad=True)])
    for route in draft.routes:
        if not route:
            raise InvoiceMalformedError("a route has no hop")
        groups += _octet_field("r", b"".join(map(_hop_bytes, route)))
    if draft.features:
        if not 0 <= min(draft.features) <= max(draft.features) < 5 * _MAX_FEATURE_GROUPS:
            raise InvoiceMalformedError("a feature bit is out of range")
        groups += _field("9", _groups(sum(1 << bit for bit in draft.features)))
    return groups


# Signature


def _digest(human: str, signed: list[int]) -> bytes:
    return hashlib.sha256(human.encode() + bytes(encoding.convert_bits(signed, 5, 8, pad=True))).digest()


def _payee(digest: bytes, compact: bytes, named: bytes | None) -> bytes:
    signature, recovery_id = compact[:64], compact[64]
    if recovery_id > 3:
        raise InvoiceSignatureError("recovery id is not 0 to 3")
    if named is not None:
        if int.from_bytes(signature[32:], "big") > _HALF_ORDER:
            raise InvoiceSignatureError("signature of a named payee has a high S")
        if not curve.ecdsa_verify(digest, signature, named):
            raise InvoiceSignatureError("signature is not the named payee's")
        return named
    try:
        return curve.ecdsa_recover(digest, signature, recovery_id)
    except MalformedError:
        raise InvoiceSignatureError("signature has no public key") from None
