"""Front doors that open late: a package's names, each imported with its module when it is first asked for (PEP 562)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

__all__ = ["front_door"]


def front_door(door: str, rooms: Mapping[str, Sequence[str]], *, package: str | None = None) -> Callable[[str], object]:
    """The `__getattr__` of a package's front door. `rooms`: each module of the package with the names that it gives.

    Under "" stand modules that are themselves such names. `package` is the `door` itself unless given. What was asked for once
    is an attribute from then on. The door imports the same names under TYPE_CHECKING, for type checkers; a house test compares
    both.
    """
    homes = {name: room for room, names in rooms.items() for name in names}

    def opened(name: str) -> object:
        room = homes.get(name)
        if room is None:
            raise AttributeError(f"module {door!r} has no attribute {name!r}")
        module = import_module(f"{package or door}.{room or name}")
        value: object = getattr(module, name) if room else module
        setattr(sys.modules[door], name, value)
        return value

    return opened
