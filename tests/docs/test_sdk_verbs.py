"""The SDK guide names the wallet's whole surface, and nothing that is not there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import specie

PAGE = Path(__file__).resolve().parents[2] / "docs/guides/sdk.md"
MACHINERY = {
    ("auth", "close"),
    ("auth", "learnt"),
    ("auth", "run"),
    ("exits", "note"),
    ("requests", "close"),
    ("requests", "nostr"),
    ("vault", "forget"),
}
"""Public for the wallet's own rooms, not for programs: it is not in the tables."""


def _public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def _named(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


def _tables() -> tuple[set[str], dict[str, set[str]]]:
    """Names in the first column of the tables of verbs, and the verbs of each part."""
    text = PAGE.read_text().partition("\n## Every verb\n")[2]
    verbs: set[str] = set()
    parts: dict[str, set[str]] = {}
    for line in re.findall(r"^\| `.*\|$", text, re.MULTILINE):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3:
            (part,) = _named(cells[0])
            parts[part] = _named(cells[1])
        else:
            verbs |= _named(cells[0])
    return verbs, parts


async def test_every_verb_and_part_is_named(tmp_path: Path) -> None:
    """What an open wallet has in public, and each of its parts, is what the tables name: no more, no less."""
    verbs, parts = _tables()
    play = specie.SealSource(play_key=True)
    async with specie.Wallet.open(tmp_path / "wallet", sealed=play, config_home=tmp_path / "config") as wallet:
        found = {name: getattr(wallet, name) for name in _public(wallet)}
        known = {name for name in found if name in parts}
        assert set(found) - known == verbs
        assert known == set(parts)
        for name, part in found.items():
            own = type(part).__module__.startswith("specie.") and not inspect.ismethod(part)
            assert (name in parts) == (own and name != "sealed")
        has = {(name, verb) for name in parts for verb in _public(found[name])}
    assert has >= MACHINERY
    assert has - MACHINERY == {(name, verb) for name, named in parts.items() for verb in named}
    assert len(verbs) > 35


@pytest.mark.parametrize("name", ["Wallet", "SyncWallet"])
def test_every_verb_is_documented(name: str) -> None:
    """Both wallets have every verb of the tables, with a docstring."""
    verbs, _ = _tables()
    wallet = getattr(specie, name)
    for verb in verbs - {"directory", "created", "sealed", "encrypted", "watched"}:
        assert inspect.getdoc(getattr(wallet, verb)), verb
