"""The documents can be built from the checkout alone, and the pages ask no other server for anything."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=\"(?:https?:)?//[^\"]*\""
    r"|<link\b[^>]*\bhref=\"(?:https?:)?//[^\"]*\"|url\((?:https?:)?//[^)]*\)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make docs` builds, elsewhere, with a network that does not work."""
    place = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "docs", place / "docs")
    for path in [ROOT / "zensical.toml", *ROOT.glob("*.md")]:
        shutil.copy(path, place)
    builder = Path(sys.executable).with_name("zensical")
    done = subprocess.run(
        [builder, "build", "--clean"],
        cwd=place,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(place),
            "https_proxy": "http://127.0.0.1:9",
            "http_proxy": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "site"


def test_every_page_is_built(site: Path) -> None:
    """Each page of docs/ has its page in the site, and the root's documents are among them."""
    missing = []
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs")
        built = site / (name.with_name("index.html") if name.name == "README.md" else name.with_suffix(".html"))
        if not built.is_file():
            missing.append(str(name))
    assert missing == []
    assert "Money rules" in (site / "ARCHITECTURE.html").read_text()


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """No script, style, font or picture of another server; no drawing that would fetch its program."""
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 20
    assert [(page.name, found.group()) for page in pages if (found := LOADED.search(page.read_text()))] == []
    assert [page.name for page in pages if 'class="mermaid"' in page.read_text()] == []


def test_links_between_pages_lead_somewhere(site: Path) -> None:
    """Also those of the root's documents, whose text the builder takes in from outside docs/."""
    broken = []
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue
        for link in re.findall(r"<a\b[^>]*\bhref=\"([^\"#:]+)(?:#[^\"]*)?\"", page.read_text()):
            if not (page.parent / link).resolve().exists():
                broken.append((page.name, link))
    assert broken == []
