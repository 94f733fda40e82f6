"""What a mint says of payment methods (NUT-04, 05, 15, 17, 29): read leniently, believed only as far as it costs nothing.

Every text and number here is the mint's own. A limit that is announced spares a request or, on chain, a deposit that would
be lost; one that is not announced is found by asking.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specie.ecash.info import MethodSetting, MintInfo, method_name
from specie.wallet.errors import UnsupportedError

__all__ = ["batch_size", "display_name", "offers_news", "required", "setting_of", "splits"]

_NUTS = {"bolt12": 25, "onchain": 30}
_MOST_IN_A_BATCH = 100
"""Quotes of one batch where the mint names no bound."""


def setting_of(info: MintInfo, nut: int, method: str, unit: str) -> MethodSetting | None:
    """What the mint announces for minting (`nut` 4) or melting (5) by a method in a unit; None if it does not."""
    if not info.supports(nut):
        return None
    return next((one for one in info.methods(nut) if (one.method, one.unit) == (method, unit)), None)


def required(info: MintInfo, nut: int, method: str, unit: str) -> MethodSetting | None:
    """The same; UnsupportedError for a method that is not announced. BOLT 11 is asked for anyway: old mints say nothing."""
    found = setting_of(info, nut, method, unit)
    if found is None and method != "bolt11":
        verb = "mint" if nut == 4 else "pay"
        raise UnsupportedError(f"the mint does not {verb} {unit} by {display_name(info, method)}", nut=_NUTS.get(method, nut))
    return found


def display_name(info: MintInfo, method: str) -> str:
    """What people call a method: the mint's name for it, or one made from it (NUT-04)."""
    for one in (*info.methods(4), *info.methods(5)):
        if one.method == method:
            return one.display_name
    return method_name(method)


def _setting(info: MintInfo, nut: int) -> Mapping[str, Any] | None:
    found = info.nuts.get(str(nut))
    return found if isinstance(found, Mapping) else None


def batch_size(info: MintInfo, method: str, most: int) -> int:
    """How many quotes of a method may be minted at once (NUT-29), at most `most`; 1 where batches are not announced."""
    setting = _setting(info, 29)
    if setting is None:
        return 1
    methods, size = setting.get("methods"), setting.get("max_batch_size")
    if isinstance(methods, list | tuple) and method not in methods:
        return 1
    if isinstance(size, int) and not isinstance(size, bool):
        return max(1, min(size, most))
    return min(_MOST_IN_A_BATCH, most)


def splits(info: MintInfo, method: str, unit: str) -> bool:
    """Whether the mint pays a part of an invoice while others pay the rest (NUT-15)."""
    return any((one.method, one.unit) == (method, unit) for one in info.methods(15))


def offers_news(info: MintInfo, kind: str) -> bool:
    """Whether the mint tells news of this kind over its WebSocket (NUT-17); one that lists no commands is asked."""
    setting = _setting(info, 17)
    entries = setting.get("supported") if setting is not None else None
    if not isinstance(entries, list | tuple):
        return bool(entries)
    listed = [entry.get("commands") for entry in entries if isinstance(entry, Mapping)]
    return any(not isinstance(commands, list | tuple) or kind in commands for commands in listed)
