"""Lightning: invoices as values. Rails to real or played nodes are plugs in `adapters`."""

from specie.lightning.errors import (
    InvoiceExpiredError,
    InvoiceFeatureError,
    InvoiceMalformedError,
    InvoiceNetworkError,
    InvoicePaidError,
    InvoiceSignatureError,
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
    "bare_invoice",
    "decode_invoice",
    "encode_invoice",
    "invoice_amount_msat",
]
