"""The documents tell the truth: drawings are fresh, links lead somewhere, dependencies are explained."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def _texts() -> Iterator[tuple[str, str]]:
    for path in _tracked():
        try:
            yield str(path.relative_to(ROOT)), path.read_text()
        except UnicodeDecodeError:
            continue


def test_states_are_drawn_as_they_are() -> None:
    """Every drawing in docs/states is what the tables say today."""
    done = subprocess.run(
        [sys.executable, "scripts/draw_states.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_synchronous_wallet_is_written_from_the_other() -> None:
    """`SyncWallet` and its parts are what scripts/write_sync.py makes of `Wallet` today."""
    done = subprocess.run(
        [sys.executable, "scripts/write_sync.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_dependency_is_explained() -> None:
    """Each package that pyproject asks for stands in the decision record on dependencies."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.match(r"[A-Za-z0-9_.-]+", line) for line in asked]
    record = (ROOT / "docs" / "adr" / "0001-dependencies.md").read_text()
    table = {cell.strip() for line in record.splitlines() if line.startswith("|") for cell in line.split("|")[1].split(",")}
    assert [name.group() for name in names if name and name.group() not in table] == []
    assert len(asked) > 10


def test_every_decision_record_is_listed() -> None:
    """docs/adr/README.md names each record."""
    records = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    index = (ROOT / "docs" / "adr" / "README.md").read_text()
    assert [name for name in records if name not in index] == []


def test_links_of_documents_lead_somewhere() -> None:
    """Every relative link and picture of every page is a file here, and every anchor a heading of its page."""
    broken = []
    for path in _tracked():
        if path.suffix != ".md":
            continue
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        links = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r"(?:src|href|srcset)=\"([^\"]+)\"", text)
        for link in links:
            if re.match(r"[a-z][a-z0-9+.-]*:", link):
                continue
            target, _, anchor = link.partition("#")
            page = (path.parent / unquote(target)).resolve() if target else path
            if not page.exists() or (anchor and page.suffix == ".md" and anchor not in _anchors(page)):
                broken.append(f"{path.relative_to(ROOT)}: {link}")
    assert broken == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+\s+(.+?)\s*$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the machine's own affair; no file sends it anywhere."""
    hosts = [
        "pypi" + ".org",
        "python" + "hosted",
        "npm" + "js.",
        "registry" + ".yarnpkg",
        "--index" + "-url",
        "proxy.golang" + ".org",
    ]
    assert [(name, host) for name, text in _texts() for host in hosts if host in text.lower()] == []


DEVELOPER = re.compile(
    r"(?<![\w./~-])/(?:home|Users)/(?!(?:u|x|operator|alice|bob|user)\b)[\w.-]+|(?<![\w./~-])/(?:root|work)/[\w.-]+"
)


def test_no_file_names_a_developers_machine() -> None:
    """No absolute path of the machine a file was written on; made-up homes of examples are named so that it shows."""
    assert [(name, found.group()) for name, text in _texts() if (found := DEVELOPER.search(text))] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("see /work" + "/main", True),
        ("/root" + "/.ssh", True),
        ("/home" + "/jane/x", True),
        ("/home/operator/x", False),
        ("a/work/b", False),
    ],
)
def test_the_search_for_paths_finds_them(text: str, found: bool) -> None:
    """The pattern above catches what it must and lets prose pass."""
    assert bool(DEVELOPER.search(text)) is found


def test_make_targets_that_documents_name_exist() -> None:
    """`make x` in a document is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        (name, target)
        for name, text in _texts()
        if name.endswith(".md")
        for target in re.findall(r"`make ([a-z][\w-]*)[^`]*`", text)
    }
    assert [pair for pair in sorted(named) if pair[1] not in targets] == []
