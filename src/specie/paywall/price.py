"""What a resource costs, and which resources a price is for; pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from specie.kernel.errors import MalformedError
from specie.kernel.money import amount_checked, unit_checked
from specie.wallet.paid import Settle

__all__ = ["HEADER", "Price", "paths_of", "price_for", "price_from_text"]

HEADER = b"x-cashu"
"""Carries the request in a 402 answer, and the token in the request after it."""

_DECODINGS = 8
_METHOD = re.compile(r"\*|[A-Z]{1,20}")
_TEXT = re.compile(r"(\*|[A-Z]+) (/\S*)=([0-9]{1,19})(?: ([a-z0-9_-]{1,20}))?")


@dataclass(frozen=True, slots=True)
class Price:
    """The price of every request that fits; in a list the first that fits counts.

    Attributes:
        method: an HTTP method in capitals (`GET` is `HEAD` too), or `*` for all.
        path: exact, or a beginning with `*` behind it.
        amount: in the minor unit; 0 is free.
        unit: of the amount.
        mints: whose tokens are taken; none means every mint that the wallet trusts.
        locked: ask for coins locked to the wallet's key, which nobody who sees them on the way can spend.
        settle: `now` swaps a token before the resource is given; `later` checks it off-line, which needs `locked`.
        cap: the most that may be held unswapped of a mint and unit, with `later`.
        description: a sentence for the payer.
    """

    method: str
    path: str
    amount: int
    unit: str = "sat"
    mints: tuple[str, ...] = ()
    locked: bool = False
    settle: Settle = Settle.NOW
    cap: int = 10_000
    description: str | None = None

    def __post_init__(self) -> None:
        """MalformedError for a price that cannot be meant."""
        if not _METHOD.fullmatch(self.method):
            raise MalformedError("a price names a method in capitals, or *")
        if not self.path.startswith("/") or "*" in self.path[:-1]:
            raise MalformedError("a price's path starts with / and may end in *")
        amount_checked(self.amount)
        unit_checked(self.unit)
        if self.settle is Settle.LATER and not self.locked:
            raise MalformedError("tokens are settled later only if they are locked to the wallet's key")
        if self.cap < 0:
            raise MalformedError("a cap is not negative")

    def fits(self, method: str, path: str) -> bool:
        """Whether it is the price of this request; `path` is decoded."""
        if self.method not in ("*", method) and not (self.method == "GET" and method == "HEAD"):
            return False
        return path.startswith(self.path[:-1]) if self.path.endswith("*") else path == self.path


def price_from_text(text: str, *, locked: bool = False, settle: Settle = Settle.NOW, cap: int = 10_000) -> Price:
    """`GET /path*=21`, or `GET /path*=5 usd`. MalformedError for anything else."""
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise MalformedError("a price is written as METHOD /path=AMOUNT, with * behind the path for all below it")
    method, path, amount, unit = found.groups()
    return Price(method, path, int(amount), unit or "sat", locked=locked, settle=settle, cap=cap)


def paths_of(path: str) -> tuple[str, ...]:
    """A request's path in every form in which an application may read it: decoded again and again, without dots and `//`.

    A price that fits any of them is charged, so that no spelling gets around it.
    """
    decoded = [path]
    while len(decoded) < _DECODINGS and (further := unquote(decoded[-1])) != decoded[-1]:
        decoded.append(further)
    forms: dict[str, None] = {}
    for form in decoded:
        plain = form.replace("\\", "/")
        forms |= dict.fromkeys((form, plain, posixpath.normpath("/" + plain.lstrip("/"))))
        if plain.endswith("/"):
            forms[posixpath.normpath("/" + plain.lstrip("/")).rstrip("/") + "/"] = None
    return tuple(forms)


def price_for(prices: Sequence[Price], method: str, path: str) -> Price | None:
    """The price of a request, None if it has none: the dearest of what the forms of its path cost."""
    found: list[Price] = []
    for form in paths_of(path):
        first = next((price for price in prices if price.fits(method, form)), None)
        if first is not None:
            found.append(first)
    return max(found, key=lambda price: price.amount, default=None)
