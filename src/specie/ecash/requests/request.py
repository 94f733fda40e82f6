"""The payment request as a value (NUT-18), and what it asks of the payer. Texts in it were written by a stranger.

Not here: its two texts (`creq_a`, `creq_b`), and the judgement of a payment (`verify`).
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from specie.kernel.errors import MalformedError
from specie.kernel.limits import Limits
from specie.kernel.money import amount_checked, unit_checked

__all__ = ["LockOption", "PaymentMethod", "PaymentRequest", "Transport", "TransportKind", "request_checked"]

_ITEMS = 100
"""Most mints, transports, methods or tags of one request."""


class TransportKind:
    """Types of transport that NUT-18 names. Others may stand in a request; a payer passes over them."""

    NOSTR = "nostr"
    POST = "post"


class Transport(msgspec.Struct, frozen=True):
    """How the payment is to be delivered. `target`: npub or nprofile (`nostr`), URL (`post`). `tags`: name and values."""

    kind: str
    target: str
    tags: tuple[tuple[str, ...], ...] = ()


class LockOption(msgspec.Struct, frozen=True):
    """The spending condition that every coin must carry: kind, data and tags of a NUT-10 secret."""

    kind: str
    data: str
    tags: tuple[tuple[str, ...], ...] = ()


class PaymentMethod(msgspec.Struct, frozen=True):
    """A method by which the payee melts coins of other mints (`sm`), and what that costs the payer on top."""

    name: str
    fee: int = 0
    """In the minor unit of the request's unit; owed from mints that the request does not list."""


class PaymentRequest(msgspec.Struct, frozen=True):
    """A request for ecash (NUT-18). `mints` are in normal form; none means any mint. No `transports` means in-band."""

    id: str | None = None
    amount: int | None = None
    """What the payee wants to be left with once the coins are swapped, in the minor unit; None leaves it to the payer."""
    unit: str | None = None
    single_use: bool | None = None
    mints: tuple[str, ...] = ()
    description: str | None = None
    transports: tuple[Transport, ...] = ()
    lock: LockOption | None = None
    mints_preferred: bool | None = None
    """Whether coins of other mints than `mints` are taken, too (`mp`)."""
    methods: tuple[PaymentMethod, ...] = ()

    def takes(self, mint: str) -> bool:
        """Whether coins of this mint (in normal form) are among those asked for, as far as `mints` tells."""
        return not self.mints or mint in self.mints or self.mints_preferred is True

    def fee_for(self, mint: str, melt_methods: Collection[str]) -> int | None:
        """What is owed on top for coins of `mint`, which melts by `melt_methods`; None where it has none of the `methods`.

        Nothing for a mint of the list. Otherwise the least fee of the methods in common.
        """
        if not self.methods or mint in self.mints:
            return 0
        return min((method.fee for method in self.methods if method.name in melt_methods), default=None)


def request_checked(request: PaymentRequest, limits: Limits) -> PaymentRequest:
    """The request, if it keeps the rules that both texts share; MalformedError otherwise.

    A unit stands wherever an amount or a method does, amounts are unsigned 64 bit, and nothing is beyond its bound.
    """
    if request.unit is None and (request.amount is not None or request.methods):
        raise MalformedError("a payment request with an amount or methods names a unit")
    if request.unit is not None and unit_checked(request.unit) != request.unit:
        raise MalformedError("the unit is written in lower case")
    for number in (request.amount, *(method.fee for method in request.methods)):
        if number is not None:
            amount_checked(number)
    tags = [tag for transport in request.transports for tag in transport.tags]
    tags += request.lock.tags if request.lock is not None else ()
    if any(not tag for tag in tags):
        raise MalformedError("a tag has a name")
    if max(len(request.mints), len(request.transports), len(request.methods), len(tags)) > _ITEMS:
        raise MalformedError("a payment request has too many parts")
    for text, bound in ((request.id, limits.description_chars), (request.description, limits.payment_request_chars)):
        if text is not None and len(text) > bound:
            raise MalformedError("a text of the payment request is too long")
    return request
