"""Which curve a keyset lives on, chosen by the version of its id; so a second curve is one entry in a table.

A `Scheme` is the blind Diffie-Hellman exchange of NUT-00 on one curve. Callers that hold a keyset id ask `scheme_for(id)`;
the module functions of `bdhke` and `dleq` are those of secp256k1, the curve of keyset versions 00 and 01.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from specie.ecash import bdhke
from specie.ecash.codes import KeysetUnknownError
from specie.kernel import curve

__all__ = ["SECP256K1", "Scheme", "scheme_for"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """The operations of NUT-00 on one curve. Points are `point_bytes` long, scalars 32 bytes big-endian."""

    name: str
    point_bytes: int
    is_point: Callable[[bytes], bool]
    hash_to_curve: Callable[[bytes], bytes]
    blind: Callable[[str, bytes], bytes]
    unblind: Callable[[bytes, bytes, bytes], bytes]


SECP256K1 = Scheme("secp256k1", 33, curve.is_point, bdhke.hash_to_curve, bdhke.blind, bdhke.unblind)
"""Keyset versions 00 and 01, and the base64 ids from before versions."""

_BY_VERSION = {"00": SECP256K1, "01": SECP256K1}
_LEGACY_ID_CHARS = 12


def scheme_for(keyset_id: str) -> Scheme:
    """The scheme of a keyset, by the version byte of its id; KeysetUnknownError for a version unknown here."""
    if len(keyset_id) == _LEGACY_ID_CHARS:
        return SECP256K1
    try:
        return _BY_VERSION[keyset_id[:2]]
    except KeyError:
        raise KeysetUnknownError("keyset id has an unknown version") from None
