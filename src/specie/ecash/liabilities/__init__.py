"""Proof of liabilities (draft: cashubtc/nuts pull request 388, text of September 2026): logs, epochs and proofs; pure.

A mint keeps two append-only logs a keyset, of what it issued (B_, amount) and of what was spent (Y, amount). At the end of
each epoch it signs their roots and sums, and each epoch names the digest of the one before it. Reserves are no part of
this: it says what a mint owes, never that it can pay.

Of the draft are here: the sum trees, inclusion and consistency proofs, keyset commitments, the digest of an epoch and the
signed manifests. Not here: receipts signed by the keys of amounts, and OpenTimestamps (the digest is what one would stamp).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.front_door import front_door

if TYPE_CHECKING:
    from specie.ecash.liabilities.epoch import (
        NO_DIGEST,
        UNSCHEDULED,
        Epoch,
        KeysetCommitment,
        Root,
        Side,
        manifest_digest,
        manifest_message,
        timestamp_read,
        timestamp_text,
        verify_epoch,
        verify_life,
        verify_manifest,
        verify_successor,
    )
    from specie.ecash.liabilities.errors import CommitmentBrokenError
    from specie.ecash.liabilities.evidence import Evidence, EvidenceKind, Signed, verify_evidence
    from specie.ecash.liabilities.tree import (
        EMPTY,
        ConsistencyProof,
        Forest,
        InclusionProof,
        Span,
        Step,
        SumNode,
        bag,
        leaf,
        parent,
        path_spans,
        spans,
        verify_consistency,
        verify_inclusion,
    )
else:
    __getattr__ = front_door(
        __name__,
        {
            "epoch": (
                "NO_DIGEST",
                "UNSCHEDULED",
                "Epoch",
                "KeysetCommitment",
                "Root",
                "Side",
                "manifest_digest",
                "manifest_message",
                "timestamp_read",
                "timestamp_text",
                "verify_epoch",
                "verify_life",
                "verify_manifest",
                "verify_successor",
            ),
            "errors": ("CommitmentBrokenError",),
            "evidence": ("Evidence", "EvidenceKind", "Signed", "verify_evidence"),
            "tree": (
                "EMPTY",
                "ConsistencyProof",
                "Forest",
                "InclusionProof",
                "Span",
                "Step",
                "SumNode",
                "bag",
                "leaf",
                "parent",
                "path_spans",
                "spans",
                "verify_consistency",
                "verify_inclusion",
            ),
        },
    )

__all__ = [
    "EMPTY",
    "NO_DIGEST",
    "UNSCHEDULED",
    "CommitmentBrokenError",
    "ConsistencyProof",
    "Epoch",
    "Evidence",
    "EvidenceKind",
    "Forest",
    "InclusionProof",
    "KeysetCommitment",
    "Root",
    "Side",
    "Signed",
    "Span",
    "Step",
    "SumNode",
    "bag",
    "leaf",
    "manifest_digest",
    "manifest_message",
    "parent",
    "path_spans",
    "spans",
    "timestamp_read",
    "timestamp_text",
    "verify_consistency",
    "verify_epoch",
    "verify_evidence",
    "verify_inclusion",
    "verify_life",
    "verify_manifest",
    "verify_successor",
]
