"""`make up` on a machine that lacks something says what, in one line, and leaves nothing behind."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _bootstrap(directory: Path, python: str, path: str) -> subprocess.CompletedProcess[str]:
    (directory / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "bootstrap.sh", directory / "scripts")
    environment = {"PATH": path, "HOME": str(directory)} | ({"PYTHON": python} if python else {})
    command = ["/bin/sh", str(directory / "scripts" / "bootstrap.sh"), "run"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize(
    ("missing", "said"), [("venv", "venv module is missing"), ("python", "Python 3.11 or newer is needed")]
)
def test_what_is_missing_is_named(tmp_path: Path, missing: str, said: str) -> None:
    """No venv module, no Python that is new enough: exit 1, one clear line, no half-made .venv."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")  # neither imports venv nor is new enough
    python.chmod(0o755)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("dirname", "sh"):
        (tools / name).symlink_to(shutil.which(name) or "")
    for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        (tools / name).symlink_to(python)
    done = _bootstrap(tmp_path / "checkout", str(python) if missing == "venv" else "", str(tools))
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / "checkout" / ".venv").exists()
