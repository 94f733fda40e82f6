"""The mint: issue, swap, melt and restore ecash. Entry: `Mint`; nobody else writes the spent set."""

from specie.mint.auth import AuthSettings, JwtAlgorithm
from specie.mint.auth_ports import AuthStore, KeySource
from specie.mint.engine import Auth, Change, Mint
from specie.mint.engine.liabilities import ITEMS_A_QUESTION, Liabilities
from specie.mint.engine.prune import Pruning
from specie.mint.ports import LiabilityStore, MintStore
from specie.mint.prune_ports import PruneStore
from specie.mint.quotes import MeltRecord, MintRecord
from specie.mint.settings import MintSettings

__all__ = [
    "ITEMS_A_QUESTION",
    "Auth",
    "AuthSettings",
    "AuthStore",
    "Change",
    "JwtAlgorithm",
    "KeySource",
    "Liabilities",
    "LiabilityStore",
    "MeltRecord",
    "Mint",
    "MintRecord",
    "MintSettings",
    "MintStore",
    "PruneStore",
    "Pruning",
]
