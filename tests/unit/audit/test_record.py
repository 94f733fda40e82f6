"""Records: one encoding, bounded, without secrets; the tree over them is that of RFC 6962."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.audit import AuditDetailError, Draft, Outcome
from specie.audit.record import (
    MAX_TEXT_BYTES,
    NO_RECORD,
    Checkpoint,
    Tree,
    checkpoint_from_text,
    checkpoint_text,
    record_from_text,
    record_hash,
    record_text,
)
from specie.kernel import MalformedError

VALUES = st.one_of(st.text(max_size=300), st.integers(), st.booleans(), st.none())


@given(
    actor=st.text(max_size=200),
    subject=st.text(max_size=200),
    detail=st.dictionaries(st.from_regex(r"[a-b][a-b0-9_]{0,5}", fullmatch=True), VALUES, max_size=16),
    sequence=st.integers(1, 2**53 - 1),
)
def test_a_record_comes_back_and_is_written_in_one_way(actor, subject, detail, sequence) -> None:
    """Whatever is recorded is read again as the same record, bounded, in UTF-8, with members in order."""
    draft = Draft(5, actor, "test.verb", subject, Outcome.BEGUN, detail)
    text = record_text(draft, sequence, b"\x07" * 32)
    assert len(text.encode()) <= MAX_TEXT_BYTES * 4
    record = record_from_text(text)
    assert (record.sequence, record.previous, record.at, record.outcome) == (sequence, b"\x07" * 32, 5, "begun")
    assert (record.actor, record.subject, record.detail) == (draft.actor, draft.subject, dict(draft.detail))
    assert len(record.actor) <= 128
    assert text.splitlines() == [text]
    assert json.loads(text)["verb"] == "test.verb"


def test_the_encoding_is_fixed() -> None:
    """A change of the encoding or of a hash would void every log there is."""
    draft = Draft(1, "operator uid=0", "keyset.rotate", "sat", Outcome.DONE, {"b": 'ü"\n', "a": 2**60})
    text = record_text(draft, 1, NO_RECORD)
    assert text == (
        '{"actor":"operator uid=0","at":1,"detail":{"a":"1152921504606846976","b":"ü\\"\N{REPLACEMENT CHARACTER}"},'
        '"outcome":"done","previous":"' + "00" * 32 + '","sequence":1,"subject":"sat","tenant":"","verb":"keyset.rotate"}'
    )
    assert record_hash(text) == sha256(b"specie audit record 1\n" + text.encode()).digest()


@pytest.mark.parametrize("char", ["\x00", "\n", "\x85", "\u2028", "\u2029", "\ud800", "\x7f"])
def test_what_is_no_text_is_replaced(char) -> None:
    """Controls, ends of lines and halves of characters."""
    assert Draft(1, f"a{char}b", "v", detail={"n": char}).actor == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(
    ("verb", "at", "detail"),
    [
        ("Shout", 1, {}),
        ("v", -1, {}),
        ("v", 1, {f"a{number}": 1 for number in range(17)}),
        ("v", 1, {"Name": 1}),
        ("v", 1, {"passphrase": "x"}),
        ("v", 1, {"seed_hex": "x"}),
        ("v", 1, {"a": 1.5}),
        ("v", 1, {"a": [1]}),
    ],
)
def test_what_no_record_may_hold(verb, at, detail) -> None:
    """Names are checked, values are plain, and what is called a secret is refused."""
    with pytest.raises(AuditDetailError):
        Draft(at, "a", verb, detail=detail)


GOOD = record_text(Draft(1, "a", "v", detail={"n": 1}), 1, NO_RECORD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 10_000,
        "x" * 20_000,
        GOOD + " ",
        GOOD.replace('"at":1', '"at":1.0'),
        GOOD.replace('"at":1', '"at":true'),
        GOOD.replace('"at":1', '"at":-1'),
        GOOD.replace('"at":1', '"at":NaN'),
        GOOD.replace('"sequence":1', '"sequence":0'),
        GOOD.replace('"sequence":1', '"sequence":"1"'),
        GOOD.replace("00" * 32, "00" * 31),
        GOOD.replace("00" * 32, "0A" * 32),
        GOOD.replace('"actor":"a"', '"actor":7'),
        GOOD.replace('{"n":1}', "[]"),
        GOOD.replace('{"n":1}', '{"n":{}}'),
        GOOD.replace('"verb"', '"werb"'),
    ],
)
def test_what_is_no_record(text) -> None:
    """Anything but the one encoding of a record is refused."""
    assert record_from_text(GOOD).detail == {"n": 1}
    with pytest.raises(MalformedError):
        record_from_text(text)


def test_a_checkpoint_comes_back() -> None:
    """Its text has one form, too."""
    made = Checkpoint(3, 2, b"h" * 32, b"r" * 32)
    text = checkpoint_text(made)
    assert checkpoint_from_text(text) == made
    for wrong in (text.replace('"count":2', '"count":0'), text.replace('"at":3', '"at":-3'), text[:-1], GOOD):
        with pytest.raises(MalformedError):
            checkpoint_from_text(wrong)


def _rfc6962(leaves: list[bytes]) -> bytes:
    """The definition of section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + _rfc6962(leaves[:split]) + _rfc6962(leaves[split:])).digest()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 100])
def test_the_tree_is_that_of_rfc_6962(count) -> None:
    """Grown leaf by leaf, and taken up again from its peaks at every size."""
    tree = Tree()
    for number in range(count):
        tree = Tree(tree.size, tree.peaks)
        tree.append(str(number))
    assert tree.root == _rfc6962([str(number).encode() for number in range(count)])
    with pytest.raises(MalformedError):
        Tree(count, tree.peaks + bytes(32))
