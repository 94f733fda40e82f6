"""Which wallets meet at which mints.

Peers' wallets at a peer's mint are left out, unless SPECIE_TEST_CONTROLS=1: they prove nothing of ours, but they tell a
fault of ours from a quarrel between the peers, and they prove the drivers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

__all__ = [
    "EVERY_PAIR_AT_EVERY_MINT",
    "EVERY_PAIR_AT_OLD_IDS",
    "EVERY_PEER",
    "EVERY_PEER_AT_OUR_MINT",
    "EVERY_TWO_AT_EVERY_MINT",
    "EVERY_TWO_AT_OLD_IDS",
    "EVERY_WALLET_AT_EVERY_MINT",
    "EVERY_WALLET_AT_EVERY_SLOW_MINT",
    "FundedPair",
    "OpenWallet",
]

OpenWallet = Callable[..., Any]
FundedPair = Callable[..., Any]

_WALLETS = ("specie", "cashu-ts", "nutshell")
_MINTS = ("specie", "nutshell")
_OURS = "specie"
_CONTROLS = os.environ.get("SPECIE_TEST_CONTROLS") == "1"


def _cases(*rows: tuple[str, ...]) -> list[Any]:
    """The rows in which two implementations meet, ours among them; with controls, the others too. The last is the mint."""
    makers = [{name.removeprefix("old_ids_") for name in row} for row in rows]
    wanted = [row for row, maker in zip(rows, makers, strict=True) if maker != {_OURS} and (_CONTROLS or _OURS in maker)]
    return [pytest.param(*row, id="-".join(row[:-1]) + f"-at-{row[-1]}") for row in wanted]


def _alone(*mints: str) -> list[Any]:
    return _cases(*((kind, mint) for kind in _WALLETS for mint in mints))


def _pairs(*mints: str, different: bool = False) -> list[Any]:
    pairs = [(one, other) for one in _WALLETS for other in _WALLETS if not (different and one == other)]
    return _cases(*((*pair, mint) for pair in pairs for mint in mints))


EVERY_WALLET_AT_EVERY_MINT = pytest.mark.parametrize(("kind", "mint"), _alone(*_MINTS), indirect=["mint"])
EVERY_WALLET_AT_EVERY_SLOW_MINT = pytest.mark.parametrize(("kind", "slow_mint"), _alone(*_MINTS), indirect=["slow_mint"])
EVERY_PAIR_AT_EVERY_MINT = pytest.mark.parametrize(("sender", "receiver", "mint"), _pairs(*_MINTS), indirect=["mint"])
EVERY_TWO_AT_EVERY_MINT = pytest.mark.parametrize(
    ("sender", "receiver", "mint"), _pairs(*_MINTS, different=True), indirect=["mint"]
)
EVERY_TWO_AT_OLD_IDS = pytest.mark.parametrize(
    ("sender", "receiver", "mint"), _pairs("old_ids_specie", different=True), indirect=["mint"]
)
EVERY_PAIR_AT_OLD_IDS = pytest.mark.parametrize(("sender", "receiver", "mint"), _pairs("old_ids_specie"), indirect=["mint"])

# What only peers' wallets can ask for; with controls, of a peer's mint too.
_PEERS = ("cashu-ts", "nutshell")
EVERY_PEER = pytest.mark.parametrize("kind", _PEERS)
EVERY_PEER_AT_OUR_MINT = pytest.mark.parametrize(
    ("kind", "mint"), _cases(*((kind, mint) for kind in _PEERS for mint in _MINTS)), indirect=["mint"]
)
