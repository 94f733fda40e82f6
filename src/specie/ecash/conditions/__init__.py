"""Spending conditions of NUT-10, 11 and 14: reading, writing, signing and judging them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.front_door import front_door

if TYPE_CHECKING:
    from specie.ecash.conditions.build import htlc_secret, lock_key_checked, p2pk_secret
    from specie.ecash.conditions.message import (
        Witness,
        add_signatures,
        parse_witness,
        sig_all_digest,
        sig_all_message,
        sig_inputs_digest,
        sig_inputs_message,
        witness_text,
    )
    from specie.ecash.conditions.secret import (
        SigFlag,
        SpendingCondition,
        WellKnownSecret,
        parse_secret,
        parse_well_known_secret,
    )
    from specie.ecash.conditions.verify import (
        Pathway,
        SignatureChecks,
        is_preimage,
        open_pathways,
        signatures_by_key,
        verify_spend,
    )
else:
    __getattr__ = front_door(
        __name__,
        {
            "build": ("htlc_secret", "lock_key_checked", "p2pk_secret"),
            "message": (
                "Witness",
                "add_signatures",
                "parse_witness",
                "sig_all_digest",
                "sig_all_message",
                "sig_inputs_digest",
                "sig_inputs_message",
                "witness_text",
            ),
            "secret": ("SigFlag", "SpendingCondition", "WellKnownSecret", "parse_secret", "parse_well_known_secret"),
            "verify": ("Pathway", "SignatureChecks", "is_preimage", "open_pathways", "signatures_by_key", "verify_spend"),
        },
    )

__all__ = [
    "Pathway",
    "SigFlag",
    "SignatureChecks",
    "SpendingCondition",
    "WellKnownSecret",
    "Witness",
    "add_signatures",
    "htlc_secret",
    "is_preimage",
    "lock_key_checked",
    "open_pathways",
    "p2pk_secret",
    "parse_secret",
    "parse_well_known_secret",
    "parse_witness",
    "sig_all_digest",
    "sig_all_message",
    "sig_inputs_digest",
    "sig_inputs_message",
    "signatures_by_key",
    "verify_spend",
    "witness_text",
]
