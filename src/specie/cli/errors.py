"""What the terminal itself refuses, and the exit code of every kind of error."""

from __future__ import annotations

from specie.kernel.errors import (
    InvariantError,
    PeerFaultError,
    RefusedError,
    SpecieError,
    UnavailableError,
    UncertainError,
)

__all__ = [
    "CHECK_FAILED",
    "EXIT_CODES",
    "INTERRUPTED",
    "USAGE",
    "DeclinedError",
    "UsageError",
    "error_facts",
    "exit_code",
    "kind_of",
]

CHECK_FAILED = 1
USAGE = 2
INTERRUPTED = 130

EXIT_CODES: tuple[tuple[int, str], ...] = (
    (0, "done"),
    (CHECK_FAILED, "what was checked is not whole: specie audit verify"),
    (USAGE, "the command line is wrong"),
    (3, "refused: the rules forbid it"),
    (4, "the other side misbehaved"),
    (5, "not reachable now: try again later"),
    (6, "uncertain: money may have moved, see specie wallet pending"),
    (70, "something is wrong with specie or with the books"),
    (INTERRUPTED, "interrupted"),
)
"""Every exit code with what it means, as the help shows them."""

_KINDS: tuple[tuple[type[BaseException], str, int], ...] = (
    (RefusedError, "refused", 3),
    (PeerFaultError, "peer_fault", 4),
    (UnavailableError, "unavailable", 5),
    (UncertainError, "uncertain", 6),
    (InvariantError, "invariant", 70),
)
_FACT_TYPES = (str, int, float, bool, type(None))


class UsageError(RefusedError):
    """The command line asks for something that cannot be; exit code 2."""


class DeclinedError(RefusedError):
    """The person at the terminal said no."""


def kind_of(error: BaseException) -> str:
    """`usage`, `refused`, `peer_fault`, `unavailable`, `uncertain` or `invariant` (everything unexpected)."""
    if isinstance(error, UsageError):
        return "usage"
    return next((kind for branch, kind, _ in _KINDS if isinstance(error, branch)), "invariant")


def exit_code(error: BaseException) -> int:
    """The exit code of an error: by what the caller must do next."""
    if isinstance(error, UsageError):
        return USAGE
    return next((code for branch, _, code in _KINDS if isinstance(error, branch)), 70)


def error_facts(error: BaseException) -> dict[str, object]:
    """An error as facts for machines: kind, class, detail, exit code and its public attributes."""
    known = isinstance(error, SpecieError)
    facts: dict[str, object] = {
        "kind": kind_of(error),
        "error": type(error).__name__,
        "detail": error.detail if isinstance(error, SpecieError) else "unexpected error",
        "exit_code": exit_code(error),
    }
    if known:
        for name, value in vars(error).items():
            if not name.startswith("_") and isinstance(value, _FACT_TYPES):
                facts.setdefault(name, value)
        if isinstance(error, RefusedError):
            facts["code"] = error.code
    return facts
