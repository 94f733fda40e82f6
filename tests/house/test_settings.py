"""Every setting declares whether a running bank takes a new value, and what is declared live is swapped by a part."""

from __future__ import annotations

from typing import get_args

import pytest

from specie.ops.config import leaves
from specie.ops.schema import FieldSpec
from specie.ops.secret import Secret
from specie.ops.secret_reference import SecretReference
from specie.ops.settings import BankSettings, RailSettings

LEAVES = list(leaves())
SWAPPED = ("log.", "server.", "mint.", "reload.")
"""Sections whose live settings a part of `cli.reloading`, or the reloader itself, puts in place."""


@pytest.mark.parametrize(("key", "spec"), LEAVES, ids=[key for key, _ in LEAVES])
def test_a_setting_says_whether_it_changes_live(key: str, spec: FieldSpec) -> None:
    """LIVE or RESTART stands in the metadata of its field; nothing is live that no part takes."""
    assert spec.live is not None, f"{key}: say metadata=LIVE or RESTART beside the field"
    if spec.live:
        assert key.startswith(SWAPPED)


@pytest.mark.parametrize("section", [BankSettings, RailSettings], ids=lambda section: section.__name__)
def test_every_secret_may_be_a_reference(section: type) -> None:
    """A field for a `Secret` takes a `SecretReference` too; whoever uses it reveals it by `app.secret_sources`."""
    kinds = [(key, get_args(spec.hint) or (spec.hint,)) for key, spec in leaves(section)]
    assert [key for key, hints in kinds if Secret in hints and SecretReference not in hints] == []


def test_what_binds_sockets_stores_keys_and_books_is_not_live() -> None:
    """Settings whose change under a running bank would make it another bank."""
    still = [key for key, spec in LEAVES if not spec.live]
    assert {"data_dir", "rails", "server.host", "server.port", "server.workers", "mint.units", "mint.keyset_version"} <= set(
        still
    )
    assert not [key for key, spec in LEAVES if spec.live and key.startswith(("store.", "keys.", "mint.auth.", "mint.limits."))]
