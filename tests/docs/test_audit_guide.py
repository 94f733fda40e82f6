"""The guide to the audit log: its commands run in order, its settings load, and its hashes are the ones computed."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from specie.ops.config import load_settings
from tests.support.programs import SPECIE, home_environment, running_bank

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guides" / "audit.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_its_settings_load(tmp_path: Path) -> None:
    """The piece of TOML is a settings file."""
    (block,) = _blocks("toml")
    file = tmp_path / "bank.toml"
    file.write_text(block)
    assert load_settings(file, {}).audit.anchor_file == Path("/mnt/elsewhere/bank-audit.jsonl")


@pytest.mark.e2e
def test_its_commands_run_and_its_hashes_hold(tmp_path: Path) -> None:
    """At a running bank with an anchor; then the export is checked by nothing but what the page says."""
    (settings,) = _blocks("toml")
    (tmp_path / "elsewhere").mkdir()
    config = tmp_path / "config" / "specie"
    config.mkdir(parents=True)
    (config / "bank.toml").write_text(settings.replace("/mnt/elsewhere", f"{tmp_path}/elsewhere"))
    script = f'specie() {{ {shlex.join(SPECIE)} "$@"; }}\n' + "".join(_blocks("sh"))
    with running_bank(tmp_path):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace("/mnt/elsewhere", f"{tmp_path}/elsewhere")],
            env=home_environment(tmp_path),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the anchor has seen all of it" in done.stdout
    before, count = "0" * 64, 0
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        found = re.fullmatch(r'\{"hash":"(.*?)","record":(.*)\}', line)
        if found is None:
            continue
        assert sha256(b"specie audit record 1\n" + found[2].encode()).hexdigest() == found[1]
        assert json.loads(found[2])["previous"] == before
        before, count = found[1], count + 1
    assert count >= 4
