"""The mint: issue, swap, melt and restore ecash. Entry: `Mint`; nobody else writes the spent set."""

from specie.mint.engine import Change, Mint
from specie.mint.ports import MintStore
from specie.mint.quotes import MeltRecord, MintRecord
from specie.mint.settings import MintSettings

__all__ = ["Change", "MeltRecord", "Mint", "MintRecord", "MintSettings", "MintStore"]
