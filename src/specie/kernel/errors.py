"""The error tree: every error is sorted by what its catcher must do next.

Facts are attributes, not sentences: a caller reads `retry_after_s` or `peer`, never the text. A room's own leaves derive
from one of the five branches; none derives from `SpecieError` directly. Secrets never enter an error.
"""

from __future__ import annotations

__all__ = [
    "InvariantError",
    "MalformedError",
    "PeerFaultError",
    "RefusedError",
    "SpecieError",
    "UnavailableError",
    "UncertainError",
]


class SpecieError(Exception):
    """Root of the tree; never raised itself.

    Attributes:
        detail: one sentence for a human, free of secrets.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class RefusedError(SpecieError):
    """The rules forbid it: do not retry. `code` is the NUT error code where the specification has one."""

    code: int | None = None

    def __init__(self, detail: str, *, code: int | None = None) -> None:
        super().__init__(detail)
        if code is not None:
            self.code = code


class MalformedError(RefusedError):
    """Bytes or text from outside that do not parse, or break a bound."""


class PeerFaultError(SpecieError):
    """The other side misbehaved (a wrong signature, an answer that breaks its specification): do not retry.

    Attributes:
        peer: who, as the caller knows it (a URL or a rail's name).
    """

    def __init__(self, detail: str, *, peer: str) -> None:
        super().__init__(detail)
        self.peer = peer


class UnavailableError(SpecieError):
    """Not reachable now, and certain to have had no effect: retry after `retry_after_s` seconds."""

    def __init__(self, detail: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class UncertainError(SpecieError):
    """Money may have moved: neither retry nor undo; reconcile.

    Attributes:
        reference: what to reconcile (a quote id or an operation id).
    """

    def __init__(self, detail: str, *, reference: str = "") -> None:
        super().__init__(detail)
        self.reference = reference


class InvariantError(SpecieError):
    """We are wrong: stop this operation and page someone."""
