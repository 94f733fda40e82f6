"""Payment requests (NUT-18, NUT-26): reading, writing, and judging what was paid for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.front_door import front_door

if TYPE_CHECKING:
    from specie.ecash.requests.lock import lock_condition, locked_secret, same_lock
    from specie.ecash.requests.nostr_profile import NostrProfile, decode_nostr_profile, encode_nostr_profile
    from specie.ecash.requests.request import LockOption, PaymentMethod, PaymentRequest, Transport, TransportKind
    from specie.ecash.requests.text import (
        RequestForm,
        decode_payment_request,
        encode_payment_request,
        payment_request_uri,
    )
    from specie.ecash.requests.verify import Mismatch, PaymentMismatchError, verify_payment
else:
    __getattr__ = front_door(
        __name__,
        {
            "lock": ("lock_condition", "locked_secret", "same_lock"),
            "nostr_profile": ("NostrProfile", "decode_nostr_profile", "encode_nostr_profile"),
            "request": ("LockOption", "PaymentMethod", "PaymentRequest", "Transport", "TransportKind"),
            "text": ("RequestForm", "decode_payment_request", "encode_payment_request", "payment_request_uri"),
            "verify": ("Mismatch", "PaymentMismatchError", "verify_payment"),
        },
    )

__all__ = [
    "LockOption",
    "Mismatch",
    "NostrProfile",
    "PaymentMethod",
    "PaymentMismatchError",
    "PaymentRequest",
    "RequestForm",
    "Transport",
    "TransportKind",
    "decode_nostr_profile",
    "decode_payment_request",
    "encode_nostr_profile",
    "encode_payment_request",
    "lock_condition",
    "locked_secret",
    "payment_request_uri",
    "same_lock",
    "verify_payment",
]
