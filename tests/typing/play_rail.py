"""The play rail is a rail, as the type checker sees it."""

from __future__ import annotations

from specie.kernel import Rail
from specie.lightning.adapters.play import PlayRail


def as_rail(rail: PlayRail) -> Rail:
    """Checks the port."""
    return rail
