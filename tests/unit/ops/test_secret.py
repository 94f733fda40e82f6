"""A Secret is seen only by those who ask for it by name."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest

from specie.ops.secret import Secret

CANARY = "correct horse battery staple"


@pytest.mark.parametrize(
    "show", [repr, str, "{}".format, "%s".__mod__, lambda s: f"{s!r:>60}", lambda s: f"{[s]} { ({'a': s}) }"]
)
def test_no_way_of_making_text_shows_it(show):
    """repr, str, format and containers all show a placeholder."""
    assert CANARY not in show(Secret(CANARY))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_cannot_be_pickled(protocol):
    """A pickle of a secret would be a copy on disk."""
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(Secret(CANARY), protocol)


def test_it_cannot_become_json():
    """The JSON encoder does not know it."""
    with pytest.raises(TypeError):
        json.dumps({"a": Secret(CANARY)})


def test_it_has_no_attributes_to_walk():
    """vars() and __dict__ find nothing, and it is no dictionary key."""
    assert not hasattr(Secret(CANARY), "__dict__")
    with pytest.raises(TypeError):
        hash(Secret(CANARY))


def test_revealing_gives_text_and_bytes():
    """What went in comes out."""
    assert Secret(CANARY).reveal() == CANARY
    assert Secret(b"\x00\xff").reveal_bytes() == b"\x00\xff"


def test_equality_and_truth():
    """Compared by value, never equal to plain text; empty is false."""
    assert Secret("a") == Secret(b"a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert not Secret("")


def test_copies_and_asdict_keep_it_wrapped():
    """dataclasses.asdict copies deeply; the secret stays a secret."""

    @dataclasses.dataclass
    class Box:
        secret: Secret

    box = dataclasses.asdict(Box(Secret(CANARY)))
    assert box["secret"].reveal() == CANARY
    assert CANARY not in str(box)
    assert copy.copy(box["secret"]) is box["secret"]
