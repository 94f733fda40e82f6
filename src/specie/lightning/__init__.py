"""Lightning: invoices and offers as values. Rails to real or played nodes are plugs in `adapters`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.front_door import front_door

if TYPE_CHECKING:
    from specie.lightning.errors import (
        InvoiceExpiredError,
        InvoiceFeatureError,
        InvoiceMalformedError,
        InvoiceNetworkError,
        InvoicePaidError,
        InvoiceSignatureError,
        OfferMalformedError,
    )
    from specie.lightning.invoice import (
        Fallback,
        Hop,
        Invoice,
        InvoiceDraft,
        Network,
        bare_invoice,
        decode_invoice,
        encode_invoice,
        invoice_amount_msat,
    )
    from specie.lightning.offer import Offer, decode_offer, encode_offer
else:
    __getattr__ = front_door(
        __name__,
        {
            "errors": (
                "InvoiceExpiredError",
                "InvoiceFeatureError",
                "InvoiceMalformedError",
                "InvoiceNetworkError",
                "InvoicePaidError",
                "InvoiceSignatureError",
                "OfferMalformedError",
            ),
            "invoice": (
                "Fallback",
                "Hop",
                "Invoice",
                "InvoiceDraft",
                "Network",
                "bare_invoice",
                "decode_invoice",
                "encode_invoice",
                "invoice_amount_msat",
            ),
            "offer": ("Offer", "decode_offer", "encode_offer"),
        },
    )

__all__ = [
    "Fallback",
    "Hop",
    "Invoice",
    "InvoiceDraft",
    "InvoiceExpiredError",
    "InvoiceFeatureError",
    "InvoiceMalformedError",
    "InvoiceNetworkError",
    "InvoicePaidError",
    "InvoiceSignatureError",
    "Network",
    "Offer",
    "OfferMalformedError",
    "bare_invoice",
    "decode_invoice",
    "decode_offer",
    "encode_invoice",
    "encode_offer",
    "invoice_amount_msat",
]
