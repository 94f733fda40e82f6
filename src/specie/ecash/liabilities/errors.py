"""What a check of a mint's liabilities raises."""

from __future__ import annotations

from specie.kernel.errors import RefusedError

__all__ = ["CommitmentBrokenError"]


class CommitmentBrokenError(RefusedError):
    """A proof, a signature, a sum or a chain of epochs does not hold."""
