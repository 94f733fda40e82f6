"""Which wallets meet at which mints.

Peers' wallets at a peer's mint are left out, unless SPECIE_INTEROP_CONTROLS=1: they prove nothing of ours, but they tell a
fault of ours from a quarrel between the peers, and they prove the drivers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["EVERY_PAIR_AT_EVERY_MINT", "EVERY_WALLET_AT_EVERY_MINT", "EVERY_WALLET_AT_EVERY_SLOW_MINT", "OpenWallet"]

OpenWallet = Callable[..., Any]

_WALLETS = ("specie", "cashu-ts", "nutshell")
_MINTS = ("specie", "nutshell")
_OURS = "specie"
_CONTROLS = os.environ.get("SPECIE_INTEROP_CONTROLS") == "1"


def _cases(*rows: tuple[str, ...]) -> list[Any]:
    """The rows in which two implementations meet, ours among them; with controls, the others too. The last is the mint."""
    wanted = [row for row in rows if len(set(row)) > 1 and (_CONTROLS or _OURS in row)]
    if _CONTROLS:
        wanted = [row for row in rows if set(row) != {_OURS}]
    return [pytest.param(*row, id="-".join(row[:-1]) + f"-at-{row[-1]}") for row in wanted]


EVERY_WALLET_AT_EVERY_MINT = pytest.mark.parametrize(
    ("kind", "mint"), _cases(*((kind, mint) for kind in _WALLETS for mint in _MINTS)), indirect=["mint"]
)
EVERY_WALLET_AT_EVERY_SLOW_MINT = pytest.mark.parametrize(
    ("kind", "slow_mint"), _cases(*((kind, mint) for kind in _WALLETS for mint in _MINTS)), indirect=["slow_mint"]
)
EVERY_PAIR_AT_EVERY_MINT = pytest.mark.parametrize(
    ("sender", "receiver", "mint"),
    _cases(*((sender, receiver, mint) for sender in _WALLETS for receiver in _WALLETS for mint in _MINTS)),
    indirect=["mint"],
)
