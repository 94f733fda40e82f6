"""The mint: issue, swap, melt and restore ecash. Entry: `Mint`; nobody else writes the spent set."""

from specie.mint.auth import AuthSettings, JwtAlgorithm
from specie.mint.auth_ports import AuthStore, KeySource
from specie.mint.engine import Auth, Change, Mint
from specie.mint.ports import MintStore
from specie.mint.quotes import MeltRecord, MintRecord
from specie.mint.settings import MintSettings

__all__ = [
    "Auth",
    "AuthSettings",
    "AuthStore",
    "Change",
    "JwtAlgorithm",
    "KeySource",
    "MeltRecord",
    "Mint",
    "MintRecord",
    "MintSettings",
    "MintStore",
]
