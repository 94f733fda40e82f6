"""The small nouns: identifiers, errors, limits, and the reporter to nobody; and that the kernel is pure."""

from __future__ import annotations

import ast
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import specie.kernel
from specie.kernel import errors, rail
from specie.kernel.entropy import uuid7
from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry

SOURCES = sorted(Path(specie.kernel.__file__).parent.glob("*.py"))
BRANCHES = {
    errors.RefusedError("x"): errors.RefusedError,
    errors.PeerFaultError("x", peer="p"): errors.PeerFaultError,
    errors.UnavailableError("x"): errors.UnavailableError,
    errors.UncertainError("x"): errors.UncertainError,
    errors.InvariantError("x"): errors.InvariantError,
}


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_uuid7_is_one(now_ms: int, random: bytes) -> None:
    """Version, variant and time of RFC 9562, and every random bit unchanged and in order."""
    value = uuid.UUID(uuid7(now_ms, random))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == now_ms
    rand_a, rand_b = (value.int >> 64) & 0xFFF, value.int & (2**62 - 1)
    assert rand_a << 62 | rand_b == int.from_bytes(random, "big") & (2**74 - 1)


def test_uuid7_sorts_by_time() -> None:
    """Later ids are greater as text."""
    assert uuid7(1, b"\xff" * 10) < uuid7(2, bytes(10))


@pytest.mark.parametrize(("now_ms", "count"), [(0, 9), (0, 11), (-1, 10), (2**48, 10)])
def test_uuid7_refuses(now_ms: int, count: int) -> None:
    """Too little randomness, or a time that does not fit, is an error of the caller."""
    with pytest.raises(ValueError):
        uuid7(now_ms, bytes(count))


def test_branches_of_the_error_tree_exclude_each_other() -> None:
    """What to do next is never ambiguous: no error is of two branches, all are of the root."""
    for error, branch in BRANCHES.items():
        assert isinstance(error, errors.SpecieError)
        assert [other for other in BRANCHES.values() if isinstance(error, other)] == [branch]
        assert error.detail == str(error) == "x"


def test_facts_of_errors() -> None:
    """Codes, peers, waits and references are attributes."""
    assert errors.RefusedError("x").code is None
    assert errors.RefusedError("x", code=11001).code == 11001
    assert errors.RefusedError.code is None
    assert errors.PeerFaultError("x", peer="https://mint").peer == "https://mint"
    assert errors.UnavailableError("x", retry_after_s=3.0).retry_after_s == 3.0
    assert errors.UncertainError("x", reference="q").reference == "q"
    assert isinstance(errors.MalformedError("x"), errors.RefusedError)


def test_limits_are_frozen_and_positive() -> None:
    """A bound cannot be changed in passing, and none is zero."""
    with pytest.raises(AttributeError):
        DEFAULT_LIMITS.array_length = 5  # type: ignore[misc]
    assert all(getattr(DEFAULT_LIMITS, name) > 0 for name in Limits.__slots__)


def test_unknown_payments_are_neither_paid_nor_failed() -> None:
    """The states of a payment are distinct texts; nothing but FAILED and ABSENT says that no money moved."""
    assert len(set(rail.PaymentState)) == 5
    assert rail.PaymentOutcome(rail.PaymentState.UNKNOWN).preimage is None


def test_null_telemetry_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    """The default reporter takes every report and writes nothing."""
    telemetry: Telemetry = NULL_TELEMETRY
    telemetry.count("a", 2, kind="x")
    telemetry.observe("a", 0.5)
    telemetry.event("a", fact=1)
    telemetry.page("a", fact=1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_public_names_are_declared_and_documented(source: Path) -> None:
    """Every module and public definition of the kernel has a docstring, and `__all__` names what it defines."""
    tree = ast.parse(source.read_text())
    assert ast.get_docstring(tree)
    public = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    declared = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    )
    assert {node.name for node in public} <= set(declared)
    assert all(ast.get_docstring(node) for node in public)
