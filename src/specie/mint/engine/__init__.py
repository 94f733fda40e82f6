"""The verbs of the mint, one module each, behind `Mint`."""

from specie.mint.engine.auth import Auth
from specie.mint.engine.mint import Change, Mint

__all__ = ["Auth", "Change", "Mint"]
