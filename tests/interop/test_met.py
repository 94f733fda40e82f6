"""The table of what is met (`met.py`) names tests that are there and that have the peer in them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop.met import CASHU_TS, MET, NUTSHELL_MINT, NUTSHELL_WALLET, PEERS, PROVIDER, UR_LIBRARY

pytestmark = pytest.mark.interop

LINES = [(nut, peer, test) for nut, peers in MET.items() for peer, test in peers.items()]
WALLET_ARGUMENTS = {"kind", "sender", "receiver"}
MINT_ARGUMENTS = {"mint", "slow_mint"}


def _cases(function: Any) -> Iterator[tuple[str, Any]]:
    """Every argument that the test is parametrized with, and each of its values."""
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "parametrize":
            names, rows = mark.args
            names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
            for row in rows:
                values = getattr(row, "values", row if len(names) > 1 else (row,))
                yield from zip(names, values, strict=True)


def _meets(function: Any, peer: str) -> bool:
    cases, arguments = set(_cases(function)), set(inspect.signature(function).parameters)
    wallets = {value for name, value in cases if name in WALLET_ARGUMENTS}
    mints = {value for name, value in cases if name in MINT_ARGUMENTS}
    return {
        CASHU_TS: "cashu-ts" in wallets or "cashu_ts" in arguments or '"cashu-ts"' in _source(function),
        NUTSHELL_WALLET: "nutshell" in wallets or "nutshell" in arguments,
        NUTSHELL_MINT: "nutshell" in mints or bool({"nutshell_mint", "nutshell_runs"} & arguments),
        UR_LIBRARY: "cashu_ts" in arguments and "ur_" in _source(function),
        PROVIDER: "openid_provider" in arguments,
    }[peer]


def _source(function: Any) -> str:
    source = inspect.getsource(function)
    return source + (inspect.getsource(inspect.getmodule(function)) if "_wallet(" in source else "")  # type: ignore[arg-type]


@pytest.mark.parametrize(("nut", "peer", "test"), LINES, ids=[f"{nut:02}-{peer}" for nut, peer, _ in LINES])
def test_a_line_is_true(nut: int, peer: str, test: str) -> None:
    """The test exists, and this peer is one of those it runs with."""
    assert peer in PEERS
    module, _, name = test.partition("::")
    assert _meets(getattr(importlib.import_module(f"tests.interop.{module}"), name), peer)


def test_a_false_line_is_found() -> None:
    """The check can fail: no wallet of Nutshell is in a test of cashu-ts alone."""
    module = importlib.import_module("tests.interop.test_methods")
    assert not _meets(module.test_an_offer_is_paid, NUTSHELL_WALLET)
    assert not _meets(module.test_an_offer_is_paid, NUTSHELL_MINT)
