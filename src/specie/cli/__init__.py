"""The terminal face: the program `specie`. Everything it can do is a command; nothing here decides about money."""

from __future__ import annotations

from specie.cli.program import main

__all__ = ["main"]
