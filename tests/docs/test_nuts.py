"""docs/nuts.md counts vectors as run: no record is left out of the tests without being named there."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "vectors" / "cashu"


def _uses() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each vector file that a test reads, with the values by which it chooses records; none for all of them."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        text = path.read_text()
        if "tests.support.vectors" not in text and "vectors" not in path.parts and "VECTORS" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("each", "records"):
                wanted = {word.arg: ast.literal_eval(word.value) for word in node.keywords if word.arg}
                for argument in node.args:
                    if isinstance(argument, ast.Constant):
                        yield str(argument.value), wanted
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(".json"):
                yield node.value, {}


def test_every_vector_is_run_or_named() -> None:
    """Every record is chosen by a test, or stands on the page among those that are not run."""
    page = (ROOT / "docs/nuts.md").read_text().partition("## Vectors that are not run")[2]
    named = set(re.findall(r"`([^`]+)`", page))
    uses: dict[str, list[dict[str, Any]]] = {}
    for name, wanted in _uses():
        uses.setdefault(name, []).append(wanted)
    left = set()
    for path in FOLDER.glob("*.json"):
        for record in json.loads(path.read_text())["records"]:
            used = uses.get(path.stem) or uses.get(path.name, ())  # by its records, or else read whole
            chosen = (all(record.get(key) == value for key, value in wanted.items()) for wanted in used)
            if not any(chosen):
                left.add(record["id"])
    assert len(left) == 10
    assert left <= named


def test_interop_peers_are_installed_ones() -> None:
    """Each peer that the page names is one that tests/interop describes."""
    described = (ROOT / "tests/interop/README.md").read_text()
    lines = (ROOT / "docs/nuts.md").read_text().partition("## Evidence")[0].splitlines()
    peers = {
        peer.strip() for line in lines if re.match(r"\| (draft )?\d", line) for peer in line.strip("|").split("|")[5].split(",")
    } - {"–"}
    assert {"cashu-ts wallet", "Nutshell wallet", "Nutshell mint"} <= peers
    assert [peer for peer in peers if f"| {peer.split(' ')[0]} " not in described] == []
