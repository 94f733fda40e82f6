"""The pages of docs/ say what the code says: settings, commands, routes, metrics, error codes, messages, evidence."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from specie.cli.errors import EXIT_CODES
from specie.ecash import codes
from specie.kernel.errors import RefusedError
from specie.server.pages.start import TOUR

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "specie"


def _rows(page: Path, heading: str) -> list[list[str]]:
    """Cells of the tables under a heading, without head and ruler."""
    text = page.read_text()
    part = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert part is not None, f"{page.name} has no heading {heading}"
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in part[1].splitlines() if line.startswith("|")]
    return [row for place, row in enumerate(rows) if not set("".join(row)) <= set("|-: ") and place > 0]


def _ticked(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@functools.cache
def _nodes() -> tuple[tuple[Path, ast.AST], ...]:
    """Every piece of syntax of the package."""
    return tuple((path, node) for path in sorted(SOURCE.rglob("*.py")) for node in ast.walk(ast.parse(path.read_text())))


def _calls(*names: str) -> Iterator[tuple[Path, ast.Call]]:
    """Every call `x.<name>(...)` in the package, but for what Metrics itself does."""
    for path, node in _nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names and node.args:
            yield path, node


def _constant(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


@pytest.mark.parametrize("script", ["write_reference.py", "write_nuts.py"])
def test_generated_pages_are_fresh(script: str) -> None:
    """settings.md, cli.md and nuts.md are what the scripts make today, and each test that nuts.md names is there."""
    done = subprocess.run(
        [sys.executable, f"scripts/{script}", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("heading", "methods"),
    [("Counters", ("count",)), ("Durations", ("observe",)), ("Figures", ("gauge", "replace_gauges"))],
)
def test_every_figure_is_described(heading: str, methods: tuple[str, ...]) -> None:
    """metrics.md names each figure that a bank reports, with its labels, and no other."""
    found: dict[str, set[str]] = {}
    for path, call in _calls(*methods):
        name = _constant(call.args[0])
        if name is None or not name.isidentifier() or path.is_relative_to(SOURCE / "wallet"):
            continue
        labels = {word.arg for word in call.keywords if word.arg and word.arg != "amount"}
        for inner in ast.walk(call) if call.func.attr == "replace_gauges" else ():  # type: ignore[attr-defined]
            if isinstance(inner, ast.Dict):
                labels |= {key.value for key in inner.keys if isinstance(key, ast.Constant)}  # type: ignore[misc]
        found[name] = labels
    described = {_ticked(row[0])[0]: set(_ticked(row[1])) for row in _rows(DOCS / "reference/metrics.md", heading)}
    assert described == found


def test_every_page_is_described() -> None:
    """metrics.md names each reason for which a bank pages someone, and no other."""
    found = set()
    for path, call in _calls("page"):
        if path.is_relative_to(SOURCE / "wallet"):
            continue
        reason = call.args[0]
        if isinstance(reason, ast.JoinedStr):
            tail = "".join(part.value for part in reason.values if isinstance(part, ast.Constant))
            found |= {verb + tail for verb in ("swap", "mint", "melt")}
        elif isinstance(reason, ast.Name):  # the two of server.errors
            found |= {"an invariant is broken", "unexpected error"}
        else:
            found.add(_constant(reason))
    described = {reason for row in _rows(DOCS / "reference/metrics.md", "Pages") for reason in _ticked(row[0])}
    assert described == found
    assert '"an invariant is broken"' in (SOURCE / "server/errors.py").read_text()


def test_every_log_line_is_described() -> None:
    """metrics.md names each event a bank writes (the play rail's own, with a dot, and the wallet's are not the bank's)."""
    found = {"page"}
    for path, call in _calls("event"):
        name = _constant(call.args[0])
        if name is not None and not path.is_relative_to(SOURCE / "wallet") and "." not in name:
            found.add(name)
    assert {_ticked(row[0])[0] for row in _rows(DOCS / "reference/metrics.md", "Log lines")} == found


def test_every_route_is_described() -> None:
    """http.md has the routes of the API, the site and the operator's socket, with their methods."""
    sources = "".join((SOURCE / "server" / name).read_text() for name in ("api.py", "liabilities.py"))
    api = dict(re.findall(r'Route\("(/v1/[^"]+)", \{"([A-Z]+)"', sources))
    api["/v1/ws"] = "WebSocket"
    assert len(api) > 20
    assert {
        _ticked(row[0])[0]: row[1] for row in _rows(DOCS / "reference/http.md", "Cashu API (any reader)") if row[0][:2] == "`/"
    } == api
    site = set(re.findall(r'^            "(/[^"]*)": self\.', (SOURCE / "server/site.py").read_text(), re.MULTILINE))
    assert {_ticked(row[0])[0] for row in _rows(DOCS / "reference/http.md", "Site")} == site
    admin = {
        (path, method) for method, path in re.findall(r'\("(GET|POST)", "(/[^"]+)"', (SOURCE / "server/admin.py").read_text())
    }
    assert {(_ticked(row[0])[0], row[1]) for row in _rows(DOCS / "reference/http.md", "Operator's socket")} == admin


def test_error_codes_are_described() -> None:
    """troubleshooting.md has every NUT code with its classes, but for authentication and batches; and every exit code."""
    described = {int(row[0]): set(_ticked(row[1])) for row in _rows(DOCS / "guides/troubleshooting.md", "By code of the mint")}
    known: dict[int, set[str]] = {}
    for name in codes.__all__:
        kind = getattr(codes, name)
        if isinstance(kind, type) and issubclass(kind, RefusedError) and kind.code < 30000 and kind.code not in (11016, 11017):
            known.setdefault(kind.code, set()).add(name)
    assert described == known
    exits = [int(row[0]) for row in _rows(DOCS / "guides/troubleshooting.md", "By exit code")]
    assert exits == [code for code, _ in EXIT_CODES]


def test_messages_are_real() -> None:
    """Every message that troubleshooting.md explains is one that the program can say."""
    said = {node.value for _, node in _nodes() if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    page = DOCS / "guides/troubleshooting.md"
    rows = _rows(page, "By message: a bank that does not start") + _rows(page, "By message: a wallet")
    assert len(rows) > 15
    parts = [part.strip() for row in rows for part in row[0].split("...") if part.strip()]
    assert [part for part in parts if not any(part in text for text in said)] == []


def test_evidence_exists() -> None:
    """Each test that THREATS.md names as evidence is there."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (DOCS / "THREATS.md").read_text())
    assert len(named) > 30
    missing = []
    for file, name in named:
        path = ROOT / file
        if not path.is_file() or (name and not re.search(rf"^(async )?def {name}\(", path.read_text(), re.MULTILINE)):
            missing.append((file, name))
    assert missing == []


def test_the_start_page_has_the_readmes_tour() -> None:
    """Who copies the commands from the page types what the README says, and the README's are run by the tests."""
    block = re.search(r"<!-- tour -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    assert block[1].splitlines() == [command for command, _ in TOUR]
