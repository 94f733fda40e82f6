"""Text forms of bytes: hex, base64url and bech32, each strict about what it takes from outside."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence

from specie.kernel.errors import MalformedError

__all__ = [
    "base64url_decode",
    "base64url_encode",
    "bech32_decode",
    "bech32_encode",
    "convert_bits",
    "hex_checked",
]

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CHARSET_INDEX = {char: index for index, char in enumerate(_CHARSET)}
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CONSTANT = {"bech32": 1, "bech32m": 0x2BC830A3}
_HEX = frozenset("0123456789abcdefABCDEF")


def hex_checked(text: str, length: int | None = None) -> bytes:
    """Bytes of hex `text` in either case; MalformedError unless it is hex and, with `length`, that many bytes."""
    if len(text) % 2 or not _HEX.issuperset(text):
        raise MalformedError("not hex")
    data = bytes.fromhex(text)
    if length is not None and len(data) != length:
        raise MalformedError(f"expected {length} bytes of hex, not {len(data)}")
    return data


def base64url_encode(data: bytes, *, padding: bool = False) -> str:
    """RFC 4648 section 5 text, by default without padding."""
    text = base64.urlsafe_b64encode(data).decode()
    return text if padding else text.rstrip("=")


def base64url_decode(text: str) -> bytes:
    """Bytes of base64 in either alphabet, padded or not, as wallets send it; MalformedError for anything else."""
    body = text.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("not base64") from error


def _folded(tops: int) -> int:
    """What ten bits that leave the checksum come back as: two steps of BIP 173 at once."""
    check = tops << 20
    for _ in range(2):
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5
        for index in range(5):
            if top >> index & 1:
                check ^= _GENERATOR[index]
    return check


_FOLDED = tuple(map(_folded, range(1024)))


def _polymod(values: Sequence[int]) -> int:
    check = 1
    if len(values) % 2:  # a step with nothing to fold back, as no bits have left yet
        check = 1 << 5 ^ values[0]
    for position in range(len(values) % 2, len(values), 2):
        check = (check & 0xFFFFF) << 10 ^ values[position] << 5 ^ values[position + 1] ^ _FOLDED[check >> 20]
    return check


def _expand(prefix: str) -> list[int]:
    return [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]


def bech32_encode(prefix: str, words: Iterable[int], *, variant: str = "bech32") -> str:
    """Bech32 (BIP 173) or `bech32m` (BIP 350) text, lower case, of 5-bit `words`; no 90-character limit (BOLT 11)."""
    data = list(words)
    check = _polymod([*_expand(prefix), *data, 0, 0, 0, 0, 0, 0]) ^ _CONSTANT[variant]
    tail = [check >> 5 * (5 - index) & 31 for index in range(6)]
    return prefix + "1" + "".join(map(_CHARSET.__getitem__, [*data, *tail]))


def bech32_decode(text: str, *, variant: str = "bech32", limit: int = 8192) -> tuple[str, list[int]]:
    """Prefix (lower case) and 5-bit words without the checksum. MalformedError for mixed case, length or checksum."""
    if len(text) > limit:
        raise MalformedError("bech32 text is too long")
    if not text.isascii() or not text.isprintable() or " " in text:  # before the case, since some other letters fold into ASCII
        raise MalformedError("bech32 text has a character that is not printable ASCII")
    if text != text.lower() and text != text.upper():
        raise MalformedError("bech32 text has mixed case")
    text = text.lower()
    prefix, separator, body = text.rpartition("1")
    if not separator or not prefix or len(body) < 6:
        raise MalformedError("not bech32")
    try:
        words = [_CHARSET_INDEX[char] for char in body]
    except KeyError:
        raise MalformedError("bech32 text has a character outside its alphabet") from None
    if _polymod([*_expand(prefix), *words]) != _CONSTANT[variant]:
        raise MalformedError("bech32 checksum does not match")
    return prefix, words[:-6]


def convert_bits(data: Iterable[int], from_bits: int, to_bits: int, *, pad: bool) -> list[int]:
    """Regroup bits. With `pad` the last group is filled with zeros; without, left-over bits must be zero and few."""
    accumulator = bits = 0
    result: list[int] = []
    mask = (1 << to_bits) - 1
    for value in data:
        if value < 0 or value >> from_bits:
            raise MalformedError("value does not fit its bits")
        accumulator = accumulator << from_bits | value
        bits += from_bits
        while bits >= to_bits:
            bits -= to_bits
            result.append(accumulator >> bits & mask)
        accumulator &= (1 << bits) - 1
    if pad:
        if bits:
            result.append(accumulator << (to_bits - bits) & mask)
    elif bits >= from_bits or accumulator:
        raise MalformedError("bits are left over")
    return result
