"""Every setting declares whether a running bank takes a new value, and what is declared live is swapped by a part."""

from __future__ import annotations

import pytest

from specie.ops.config import leaves
from specie.ops.schema import FieldSpec

LEAVES = list(leaves())
SWAPPED = ("log.", "server.", "mint.", "reload.")
"""Sections whose live settings a part of `cli.reloading`, or the reloader itself, puts in place."""


@pytest.mark.parametrize(("key", "spec"), LEAVES, ids=[key for key, _ in LEAVES])
def test_a_setting_says_whether_it_changes_live(key: str, spec: FieldSpec) -> None:
    """LIVE or RESTART stands in the metadata of its field; nothing is live that no part takes."""
    assert spec.live is not None, f"{key}: say metadata=LIVE or RESTART beside the field"
    if spec.live:
        assert key.startswith(SWAPPED)


def test_what_binds_sockets_stores_keys_and_books_is_not_live() -> None:
    """Settings whose change under a running bank would make it another bank."""
    still = [key for key, spec in LEAVES if not spec.live]
    assert {"data_dir", "rails", "server.host", "server.port", "server.workers", "mint.units", "mint.keyset_version"} <= set(
        still
    )
    assert not [key for key, spec in LEAVES if spec.live and key.startswith(("store.", "keys.", "mint.auth.", "mint.limits."))]
