"""A paywall's settings as a TOML file: where it listens, what stands behind it, and what its routes cost."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from specie.kernel.errors import MalformedError, RefusedError
from specie.paywall.price import Price
from specie.wallet.paid import Settle

__all__ = ["PaywallSettings", "load_paywall"]

_BYTES = 1_000_000


class _PriceTable(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    amount: int
    method: str = "GET"
    unit: str = "sat"
    mints: tuple[str, ...] = ()
    locked: bool = False
    settle: Settle = Settle.NOW
    cap: int = 10_000
    description: str | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    listen: str | None = None
    upstream: str | None = None
    honour_s: int = 600
    deliveries: int = 5
    price: tuple[_PriceTable, ...] = ()


class PaywallSettings(msgspec.Struct, frozen=True):
    """What a paywall's file says; `listen` and `upstream` may be left to the command line."""

    prices: tuple[Price, ...] = ()
    listen: str | None = None
    upstream: str | None = None
    honour_s: int = 600
    """How long a token is honoured again once it has been answered for."""
    deliveries: int = 5
    """How often one token is answered for at most."""


def load_paywall(path: Path) -> PaywallSettings:
    """Read a file; RefusedError where it cannot be read, MalformedError (naming the place) where it does not fit."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RefusedError(f"{path}: cannot be read ({type(error).__name__})") from None
    try:
        if len(data) > _BYTES:
            raise MalformedError("the file is too large")
        values: dict[str, Any] = tomllib.loads(data.decode())
        file = msgspec.convert(values, _File)
        prices = tuple(Price(**{name: getattr(one, name) for name in one.__struct_fields__}) for one in file.price)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise MalformedError(f"{path}: {error}"[:300]) from None
    except MalformedError as error:
        raise MalformedError(f"{path}: {error.detail}") from None
    if file.honour_s < 0 or file.deliveries < 1:
        raise MalformedError(f"{path}: honour_s is not negative, deliveries is at least 1")
    return PaywallSettings(prices, file.listen, file.upstream, file.honour_s, file.deliveries)
