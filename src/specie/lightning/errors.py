"""Leaves of the error tree for invoices and rails on Lightning. What has a NUT code is that code's one class, from `ecash`."""

from __future__ import annotations

from specie.ecash.codes import InvoicePaidError
from specie.kernel.errors import MalformedError, RefusedError

__all__ = [
    "InvoiceExpiredError",
    "InvoiceFeatureError",
    "InvoiceMalformedError",
    "InvoiceNetworkError",
    "InvoicePaidError",
    "InvoiceSignatureError",
    "OfferMalformedError",
]


class InvoiceMalformedError(MalformedError):
    """Text that is no BOLT 11 invoice, or one that breaks a bound."""


class InvoiceSignatureError(InvoiceMalformedError):
    """The invoice's signature is not its payee's, or has no public key."""


class InvoiceFeatureError(RefusedError):
    """The invoice demands a feature that nobody here knows (BOLT 11: such a payment must fail).

    Attributes:
        bit: the even feature bit.
    """

    def __init__(self, bit: int) -> None:
        super().__init__(f"the invoice demands feature {bit}, which is not known here")
        self.bit = bit


class InvoiceNetworkError(RefusedError):
    """The invoice is for another network than the rail's."""


class InvoiceExpiredError(RefusedError):
    """The invoice's time is over; its payee would refuse."""


class OfferMalformedError(MalformedError):
    """Text that is no BOLT 12 offer, or one that breaks a bound."""
