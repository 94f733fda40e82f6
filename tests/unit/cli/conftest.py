"""Runs command lines in this process, in a home of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from specie.cli.program import run


@dataclass(frozen=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON value on standard output."""
        return json.loads(self.out)

    def error(self) -> dict[str, Any]:
        """The error told as JSON on standard error."""
        found: dict[str, Any] = json.loads(self.err.strip().splitlines()[-1])["error"]
        return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any settings in it or in the environment."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


@pytest.fixture
def specie(home: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs `specie` with these arguments; each test sees a fresh home."""

    def call(*arguments: str) -> Ran:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return call
