"""What the audit log refuses, and what it cannot go on from."""

from __future__ import annotations

from specie.kernel.errors import InvariantError, RefusedError

__all__ = ["AuditBrokenError", "AuditDetailError"]


class AuditDetailError(RefusedError):
    """A record has something in it that no record may have: a name that is not allowed, a value too long, a secret."""


class AuditBrokenError(InvariantError):
    """The log's head and its records disagree: somebody changed the tables, and nothing can be appended."""
