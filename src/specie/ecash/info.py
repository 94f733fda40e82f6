"""What a mint says of itself (NUT-06), read leniently: old mints write some fields in other shapes.

Every text in it is hostile: shown only after the reader has bounded and cleaned it, which `wire` does. `urls` proves
nothing, and an icon fetched tells the mint the reader's address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Contact", "MethodSetting", "MintInfo", "method_name"]


class Contact(msgspec.Struct, frozen=True):
    """A way to reach the operator: `method` such as "email" or "nostr"."""

    method: str
    info: str


class MethodSetting(msgspec.Struct, frozen=True):
    """One payment method in one unit (NUT-04, NUT-05). Amounts in the minor unit; None for no bound."""

    method: str
    unit: str
    method_name: str | None = None
    min_amount: int | None = None
    max_amount: int | None = None
    options: dict[str, Any] | None = None

    @property
    def display_name(self) -> str:
        """The name for people: the mint's, or one made from the method."""
        return self.method_name or method_name(self.method)


class MintInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A mint's information; everything in it is optional. `nuts` maps a NUT number (as text) to its settings."""

    name: str | None = None
    pubkey: str | None = None
    version: str | None = None
    """`Name/x.y.z` of the software."""
    description: str | None = None
    description_long: str | None = None
    contact: tuple[Contact, ...] = ()
    motd: str | None = None
    icon_url: str | None = None
    urls: tuple[str, ...] = ()
    time: int | None = None
    tos_url: str | None = None
    max_array_length: int | None = None
    """Largest array the mint takes in any request."""
    nuts: Mapping[str, Any] = {}

    def supports(self, nut: int) -> bool:
        """Whether a NUT is announced as on: `supported` true or, as in 17, not empty; for 4 and 5, not disabled."""
        setting = self.nuts.get(str(nut))
        if not isinstance(setting, Mapping):
            return False
        if "supported" in setting:
            return bool(setting["supported"])
        if nut in (4, 5):
            return bool(setting.get("methods")) and not setting.get("disabled", False)
        return True

    def methods(self, nut: int) -> tuple[MethodSetting, ...]:
        """Payment methods announced under NUT 4 or 5 (15: without bounds); entries that do not parse are left out."""
        setting = self.nuts.get(str(nut))
        entries = setting.get("methods") if isinstance(setting, Mapping) else None
        found: list[MethodSetting] = []
        for entry in entries if isinstance(entries, list | tuple) else ():
            try:
                found.append(msgspec.convert(entry, MethodSetting))
            except msgspec.ValidationError:
                continue
        return tuple(found)


def method_name(method: str) -> str:
    """Name for people of a payment method that has none: `_` and `-` as spaces, in title case (NUT-04)."""
    return method.replace("_", " ").replace("-", " ").title()
