"""State machines: the table is all that can happen, and the drawing shows all of the table."""

from __future__ import annotations

import pytest

from specie.kernel.errors import InvariantError
from specie.kernel.machine import Machine

DOOR: Machine[str] = Machine(
    "door",
    "open",
    {("open", "close"): "shut", ("shut", "open"): "open", ("shut", "lock"): "locked", ("open", "remove"): "gone"},
)


def test_only_the_table_can_happen() -> None:
    """A listed event leads to its state; any other is our mistake, named with machine, event and state."""
    assert DOOR.next("open", "close") == "shut"
    with pytest.raises(InvariantError, match="door: lock cannot happen in state open"):
        DOOR.next("open", "lock")
    with pytest.raises(InvariantError):
        DOOR.next("locked", "open")


def test_states() -> None:
    """Every state once, the initial one first; final are those that nothing leaves."""
    assert DOOR.states() == ["open", "shut", "locked", "gone"]
    assert DOOR.final() == ["locked", "gone"]


def test_drawing_has_every_edge() -> None:
    """The diagram has the start, each transition with its event, and the ends."""
    drawing = DOOR.mermaid()
    assert drawing.startswith("stateDiagram-v2\n    [*] --> open\n")
    for (before, event), after in DOOR.table.items():
        assert f"    {before} --> {after}: {event}\n" in drawing
    assert "    locked --> [*]\n" in drawing
    assert "    open --> [*]" not in drawing
