"""What the guide to authentication prints is true: its settings load, and what it says cannot be protected cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from specie.ops.config import load_settings
from specie.ops.errors import SettingsError

PAGE = Path(__file__).resolve().parents[2] / "docs/guides/authentication.md"


def test_its_settings_load_and_mean_what_it_says(tmp_path: Path) -> None:
    """The TOML block is a settings file; minting blind tokens needs a login without being listed."""
    (block,) = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    file = tmp_path / "bank.toml"
    file.write_text(block)
    auth = load_settings(file, {}).mint.auth
    assert (auth.audience, len(auth.blind)) == ("corner-bank", 5)
    assert [endpoint.path for endpoint in auth.clear] == ["/v1/auth/blind/mint"]
    for endpoints in ('["GET /v1/*"]', '["POST /v1/auth/*"]', '["POST /v1/*/x"]'):
        file.write_text(re.sub(r"blind_endpoints = \[.*?\n\]", f"blind_endpoints = {endpoints}", block, flags=re.DOTALL))
        with pytest.raises(SettingsError):
            load_settings(file, {})
