"""The names of keys: which refs there are, whatever provider holds the keys. See the table of `adapters.software`."""

from __future__ import annotations

import re

from specie.keys.errors import KeyUnknownError
from specie.keys.ports import KeyRef, KeysetRef

__all__ = ["INDEXES", "amount_checked", "counter_checked", "mint_ref", "mint_ref_parsed", "word_ref_checked"]

INDEXES = 1 << 31
"""Indexes of keysets and counters are below this."""

_REF = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_COUNTER = re.compile(r"0|[1-9][0-9]{0,9}")
_AMOUNT = re.compile(r"[1-9][0-9]{0,18}")
_REF_CHARS = 200


def mint_ref(keyset: KeysetRef, amount: int) -> KeyRef:
    """The ref of a mint key: `mint/{unit}/{keyset index}/{amount}`. KeyUnknownError for what has no key."""
    return f"mint/{keyset.unit}/{keyset.index}/{amount_checked(keyset, amount)}"


def amount_checked(keyset: KeysetRef, amount: int) -> int:
    """`amount`, if a keyset may have a key for it: a power of two up to 2**63. KeyUnknownError otherwise."""
    if not 0 <= keyset.index < INDEXES:
        raise KeyUnknownError("a keyset index is from 0 to 2^31-1")
    if not 1 <= amount <= 2**63 or amount & (amount - 1):
        raise KeyUnknownError("there are keys for powers of two up to 2^63 only")
    return amount


def mint_ref_parsed(ref: KeyRef) -> tuple[KeysetRef, int]:
    """Keyset and amount of a mint key's ref. KeyUnknownError where it is none."""
    match ref.split("/"):
        case ["mint", unit, index, amount] if unit and _COUNTER.fullmatch(index) and _AMOUNT.fullmatch(amount):
            return KeysetRef(unit, int(index)), int(amount)
    raise KeyUnknownError("a mint key is named mint/unit/keyset index/amount")


def counter_checked(branch: str, text: str) -> int:
    """The counter of a ref `branch/counter`. KeyUnknownError where it is none."""
    if not _COUNTER.fullmatch(text) or int(text) >= INDEXES:
        raise KeyUnknownError(f"a key of this branch is named {branch}/counter, counter from 0 to 2^31-1")
    return int(text)


def word_ref_checked(ref: KeyRef) -> KeyRef:
    """`ref`, if it is made of words. KeyUnknownError otherwise."""
    if len(ref) > _REF_CHARS or not _REF.fullmatch(ref):
        raise KeyUnknownError("a key is named by words of a-z, 0-9, '.', '_' and '-' with '/' between them")
    return ref
