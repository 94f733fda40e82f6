"""Arguments that several commands take, as annotated types."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from specie.cli.screen import Screen

__all__ = ["ScreenArgument"]

ScreenArgument = Annotated[Screen, Parameter(parse=False)]
"""Given by the program to every command; never on the command line."""
