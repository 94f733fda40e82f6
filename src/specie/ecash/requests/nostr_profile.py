"""`npub` and `nprofile` (NIP-19): whom a Nostr transport pays, and on which relays to find them."""

from __future__ import annotations

import msgspec

from specie.kernel.encoding import bech32_decode, bech32_encode, convert_bits
from specie.kernel.errors import MalformedError

__all__ = ["NostrProfile", "decode_nostr_profile", "encode_nostr_profile"]

_KEY_BYTES = 32
_RELAYS = 50
_PUBLIC_KEY, _RELAY = 0, 1


class NostrProfile(msgspec.Struct, frozen=True):
    """A public key (x-only, 32 bytes; whether it is on the curve was not looked at) and relays, in order, once each."""

    public_key: bytes
    relays: tuple[str, ...] = ()


def encode_nostr_profile(profile: NostrProfile) -> str:
    """`npub` of a profile without relays, else `nprofile`. MalformedError for a key or relay of a wrong length."""
    if len(profile.public_key) != _KEY_BYTES:
        raise MalformedError("a Nostr key has 32 bytes")
    if not profile.relays:
        return bech32_encode("npub", convert_bits(profile.public_key, 8, 5, pad=True))
    data = bytes((_PUBLIC_KEY, _KEY_BYTES)) + profile.public_key
    for relay in profile.relays:
        value = relay.encode()
        if not 0 < len(value) <= 255:
            raise MalformedError("a relay's address has 1 to 255 bytes")
        data += bytes((_RELAY, len(value))) + value
    return bech32_encode("nprofile", convert_bits(data, 8, 5, pad=True))


def decode_nostr_profile(text: str) -> NostrProfile:
    """Read `npub` or `nprofile`, also behind `nostr:`; unknown parts are ignored. MalformedError for anything else."""
    prefix, words = bech32_decode(text.removeprefix("nostr:"))
    data = bytes(convert_bits(words, 5, 8, pad=False))
    if prefix == "npub" and len(data) == _KEY_BYTES:
        return NostrProfile(data)
    if prefix != "nprofile":
        raise MalformedError("not an npub or nprofile")
    keys: list[bytes] = []
    relays: list[str] = []
    while data:
        if len(data) < 2 or len(data) < 2 + data[1]:
            raise MalformedError("an nprofile ends within a part")
        kind, value, data = data[0], data[2 : 2 + data[1]], data[2 + data[1] :]
        if kind == _PUBLIC_KEY:
            keys.append(value)
        elif kind == _RELAY:
            relays.append(_relay(value))
    if len(keys) != 1 or len(keys[0]) != _KEY_BYTES or len(relays) > _RELAYS:
        raise MalformedError("an nprofile has one key of 32 bytes and a few relays")
    return NostrProfile(keys[0], tuple(dict.fromkeys(relays)))


def _relay(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise MalformedError("a relay's address is not text") from None
    if not text or not text.isprintable() or " " in text:
        raise MalformedError("a relay's address is empty or has a space in it")
    return text
