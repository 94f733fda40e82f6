"""`CREQB1...`: a payment request as tagged fields in bech32m (NUT-26). Unknown fields are ignored.

A field is its type (1 byte), its length (2 bytes, big-endian) and its value; fields of a value have the same form.
A nostr transport holds the bare key, and relays as tags `r`. Numbers of kinds that have no name here are kept as texts
`tlv:N`, so that they can be written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from specie.ecash.mint_url import mint_url_checked
from specie.ecash.requests.nostr_profile import NostrProfile, decode_nostr_profile, encode_nostr_profile
from specie.ecash.requests.request import (
    LockOption,
    PaymentMethod,
    PaymentRequest,
    Transport,
    TransportKind,
    request_checked,
)
from specie.kernel.encoding import bech32_decode, bech32_encode, convert_bits, hex_checked
from specie.kernel.errors import MalformedError
from specie.kernel.limits import Limits
from specie.kernel.money import unit_checked

__all__ = ["CREQ_B", "decode_creq_b", "encode_creq_b"]

CREQ_B = "creqb"

_ID, _AMOUNT, _UNIT, _SINGLE_USE, _MINT, _DESCRIPTION, _TRANSPORT, _LOCK, _PREFERRED, _METHOD = range(1, 11)
_REPEATED = (_MINT, _TRANSPORT, _METHOD)
_KIND, _VALUE, _TAG = 1, 2, 3
_NAME, _FEE = 1, 2
_SAT = b"\0"
_RELAY_TAG = "r"
_TRANSPORTS = (TransportKind.NOSTR, TransportKind.POST)
_LOCKS = ("P2PK", "HTLC")
_UNNAMED = "tlv:"


def encode_creq_b(request: PaymentRequest) -> str:
    """Text of a request, upper case as QR codes like it.

    MalformedError for what this form cannot say: a tag's item above 255 bytes, a transport or lock without a number, a
    nostr target that is no npub or nprofile.
    """
    fields: list[tuple[int, bytes]] = []
    if request.id is not None:
        fields.append((_ID, request.id.encode()))
    if request.amount is not None:
        fields.append((_AMOUNT, request.amount.to_bytes(8, "big")))
    if request.unit is not None:
        fields.append((_UNIT, _SAT if request.unit == "sat" else request.unit.encode()))
    if request.single_use is not None:
        fields.append((_SINGLE_USE, bytes((request.single_use,))))
    fields += [(_MINT, mint.encode()) for mint in request.mints]
    if request.description is not None:
        fields.append((_DESCRIPTION, request.description.encode()))
    fields += [(_TRANSPORT, _transport_bytes(one)) for one in request.transports]
    if request.lock is not None:
        fields.append((_LOCK, _lock_bytes(request.lock)))
    if request.mints_preferred is not None:
        fields.append((_PREFERRED, bytes((request.mints_preferred,))))
    fields += [(_METHOD, _method_bytes(one)) for one in request.methods]
    return bech32_encode(CREQ_B, convert_bits(_write(fields), 8, 5, pad=True), variant="bech32m").upper()


def decode_creq_b(text: str, limits: Limits) -> PaymentRequest:
    """Read a request in upper or lower case, never mixed. MalformedError for anything else, and for a field twice."""
    prefix, words = bech32_decode(text, variant="bech32m", limit=limits.payment_request_chars)
    if prefix != CREQ_B:
        raise MalformedError("not a payment request: it does not start with creqb1")
    found: dict[int, list[bytes]] = {}
    for kind, value in _read(bytes(convert_bits(words, 5, 8, pad=False))):
        found.setdefault(kind, []).append(value)
    amount, unit, lock = _single(found, _AMOUNT), _single(found, _UNIT), _single(found, _LOCK)
    request_id, description = _single(found, _ID), _single(found, _DESCRIPTION)
    return request_checked(
        PaymentRequest(
            id=None if request_id is None else _text(request_id),
            amount=None if amount is None else _number(amount),
            unit=None if unit is None else _unit(unit),
            single_use=_flag(_single(found, _SINGLE_USE)),
            mints=tuple(dict.fromkeys(mint_url_checked(_text(value)) for value in found.get(_MINT, ()))),
            description=None if description is None else _text(description),
            transports=tuple(_transport(value) for value in found.get(_TRANSPORT, ())),
            lock=None if lock is None else _lock(lock),
            mints_preferred=_flag(_single(found, _PREFERRED)),
            methods=tuple(_method(value) for value in found.get(_METHOD, ())),
        ),
        limits,
    )


def _write(fields: Iterable[tuple[int, bytes]]) -> bytes:
    data = bytearray()
    for kind, value in fields:
        if len(value) > 0xFFFF:
            raise MalformedError("a field of this form has at most 65,535 bytes")
        data += bytes((kind,)) + len(value).to_bytes(2, "big") + value
    return bytes(data)


def _read(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        end = position + 3 + int.from_bytes(data[position + 1 : position + 3], "big")
        if position + 3 > len(data) or end > len(data):
            raise MalformedError("a payment request ends within a field")
        yield data[position], data[position + 3 : end]
        position = end


def _single(found: dict[int, list[bytes]], kind: int) -> bytes | None:
    values = found.get(kind, [])
    if len(values) > 1:
        raise MalformedError("a payment request has a field twice")
    return values[0] if values else None


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise MalformedError("a field of the payment request is not UTF-8") from None


def _number(value: bytes) -> int:
    if len(value) != 8:
        raise MalformedError("an amount has 8 bytes")
    return int.from_bytes(value, "big")


def _unit(value: bytes) -> str:
    return "sat" if value == _SAT else unit_checked(_text(value))


def _flag(value: bytes | None) -> bool | None:
    if value is None:
        return None
    if value not in (b"\0", b"\1"):
        raise MalformedError("a flag is one byte, 0 or 1")
    return value == b"\1"


def _parts(data: bytes) -> tuple[int, bytes, tuple[tuple[str, ...], ...]]:
    """Kind, target or data, and tags: the form that transports and locks share."""
    found: dict[int, list[bytes]] = {}
    for kind, value in _read(data):
        found.setdefault(kind, []).append(value)
    kinds, values = found.get(_KIND, []), found.get(_VALUE, [])
    if len(kinds) != 1 or len(kinds[0]) != 1 or len(values) != 1:
        raise MalformedError("a transport or lock has one kind and one value")
    return kinds[0][0], values[0], tuple(_tag(value) for value in found.get(_TAG, ()))


def _tag(data: bytes) -> tuple[str, ...]:
    items: list[str] = []
    position = 0
    while position < len(data):
        end = position + 1 + data[position]
        if end > len(data):
            raise MalformedError("a tag ends within an item")
        items.append(_text(data[position + 1 : end]))
        position = end
    if not items:
        raise MalformedError("a tag has a name")
    return tuple(items)


def _tag_bytes(tag: tuple[str, ...]) -> bytes:
    data = bytearray()
    for item in tag:
        value = item.encode()
        if len(value) > 255:
            raise MalformedError("an item of a tag has at most 255 bytes in this form")
        data += bytes((len(value),)) + value
    return bytes(data)


def _name(names: tuple[str, ...], number: int) -> str:
    return names[number] if number < len(names) else f"{_UNNAMED}{number}"


def _number_of(names: tuple[str, ...], name: str) -> int:
    if name in names:
        return names.index(name)
    digits = name.removeprefix(_UNNAMED)
    if name.startswith(_UNNAMED) and digits.isascii() and digits.isdigit() and len(names) <= int(digits[:4]) <= 255:
        return int(digits[:4])
    raise MalformedError("this kind of transport or lock has no number in this form")


def _transport(data: bytes) -> Transport:
    number, target, tags = _parts(data)
    kind = _name(_TRANSPORTS, number)
    if kind == TransportKind.POST:
        return Transport(kind, _text(target), tags)
    if kind != TransportKind.NOSTR:
        return Transport(kind, target.hex(), tags)
    relays = tuple(dict.fromkeys(relay for tag in tags if tag[0] == _RELAY_TAG for relay in tag[1:]))
    rest = tuple(tag for tag in tags if tag[0] != _RELAY_TAG)
    return Transport(kind, encode_nostr_profile(NostrProfile(target, relays)), rest)


def _transport_bytes(transport: Transport) -> bytes:
    number = _number_of(_TRANSPORTS, transport.kind)
    tags = list(transport.tags)
    if transport.kind == TransportKind.NOSTR:
        profile = decode_nostr_profile(transport.target)
        target = profile.public_key
        tags += [(_RELAY_TAG, relay) for relay in profile.relays]
    elif transport.kind == TransportKind.POST:
        target = transport.target.encode()
    else:
        target = hex_checked(transport.target)
    return _write([(_KIND, bytes((number,))), (_VALUE, target), *((_TAG, _tag_bytes(tag)) for tag in tags)])


def _lock(data: bytes) -> LockOption:
    number, value, tags = _parts(data)
    return LockOption(_name(_LOCKS, number), _text(value), tags)


def _lock_bytes(lock: LockOption) -> bytes:
    number = _number_of(_LOCKS, lock.kind)
    tags = ((_TAG, _tag_bytes(tag)) for tag in lock.tags)
    return _write([(_KIND, bytes((number,))), (_VALUE, lock.data.encode()), *tags])


def _method(data: bytes) -> PaymentMethod:
    found: dict[int, list[bytes]] = {}
    for kind, value in _read(data):
        found.setdefault(kind, []).append(value)
    name, fee = _single(found, _NAME), _single(found, _FEE)
    if name is None:
        raise MalformedError("a payment method has a name")
    return PaymentMethod(_text(name), 0 if fee is None else _number(fee))


def _method_bytes(method: PaymentMethod) -> bytes:
    fields = [(_NAME, method.name.encode())]
    if method.fee:
        fields.append((_FEE, method.fee.to_bytes(8, "big")))
    return _write(fields)
