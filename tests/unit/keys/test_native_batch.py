"""Native batches: the same answers as the binding, and never believed where they are not what they should be."""

from __future__ import annotations

import ctypes
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.ecash.bdhke import hash_to_curve
from specie.keys.adapters import native_batch as native
from specie.keys.adapters import software
from specie.keys.native import build as building
from tests.support.components import missing_component

OFF_CURVE = b"\x02" + (5).to_bytes(32, "big")

secrets_bytes = st.one_of(st.binary(max_size=80), st.binary(min_size=1000, max_size=1100), st.text(max_size=70).map(str.encode))
scalars = st.integers(1, 2**255).map(lambda number: number.to_bytes(32, "big"))
points = st.binary(min_size=1, max_size=8).map(hash_to_curve)
hostile_points = st.one_of(points, st.binary(max_size=66), st.just(OFF_CURVE), st.just(bytes(33)))


@pytest.fixture(scope="module")
def batch() -> native.NativeBatch:
    """The library of this machine."""
    opened = native.native_batch()
    if isinstance(opened, native.Unbuilt):
        missing_component("native-batches", opened.reason)
    return opened


@settings(max_examples=60, deadline=None)
@given(tasks=st.lists(st.tuples(scalars, secrets_bytes, hostile_points, st.booleans()), max_size=9))
def test_verifying_says_what_the_binding_says(batch: native.NativeBatch, tasks: list[tuple[bytes, bytes, bytes, bool]]) -> None:
    """Good coins and hostile ones, of any length: Y and the judgement are the binding's, or left to it."""
    asked = []
    for k, secret, c, good in tasks:
        right = software._signed(software._pair(k), hash_to_curve(secret))
        assert right is not None
        asked.append((k, secret, right.c_ if good else c))
    for task, answer in zip(asked, batch.verify(asked), strict=True):
        if answer is None:
            assert len(task[1]) > 1024
        else:
            assert (answer[0] if answer[1] else None) == software._verified(*task)
            assert answer[0] == hash_to_curve(task[1])


@settings(max_examples=60, deadline=None)
@given(tasks=st.lists(st.tuples(scalars, hostile_points), max_size=9))
def test_signing_says_what_the_binding_says(batch: native.NativeBatch, tasks: list[tuple[bytes, bytes]]) -> None:
    """Signature and proof are the binding's byte for byte; what is no point is not signed."""
    pairs = [(software._pair(k), b_) for k, b_ in tasks]
    for (pair, b_), answer in zip(pairs, batch.sign([(p.secret, p.public_uncompressed, b) for p, b in pairs]), strict=True):
        expected = software._signed(pair, b_)
        assert answer == (None if expected is None else (expected.c_, expected.dleq_e, expected.dleq_s))


@settings(max_examples=60, deadline=None)
@given(
    jobs=st.lists(
        st.tuples(st.lists(st.tuples(secrets_bytes, st.booleans()), max_size=4), st.lists(points, max_size=4)), max_size=5
    )
)
def test_only_jobs_whose_coins_hold_are_signed(
    batch: native.NativeBatch, jobs: list[tuple[list[tuple[bytes, bool]], list[bytes]]]
) -> None:
    """Jobs do not touch each other: each hears of its own coins, and has its outputs signed by itself or not at all."""
    pair = software._pair(bytes(31) + b"\x09")
    key = pair.public_uncompressed
    asked = []
    for coins, outputs in jobs:
        good = [software._signed(pair, hash_to_curve(secret)) for secret, _ in coins]
        proofs = [
            (pair.secret, secret, signed.c_ if holds else OFF_CURVE)
            for (secret, holds), signed in zip(coins, good, strict=True)
        ]
        asked.append((proofs, [(pair.secret, key, b_) for b_ in outputs]))
    verified, made = batch.exchange(asked)
    for (coins, outputs), (proofs, tasks) in zip(jobs, asked, strict=True):
        mine, verified = verified[: len(coins)], verified[len(coins) :]
        given_, made = made[: len(outputs)], made[len(outputs) :]
        assert mine == batch.verify(proofs)
        holds = all(len(secret) <= 1024 and right for secret, right in coins)
        assert given_ == (batch.sign(tasks) if holds else [None] * len(tasks))
        assert (None in given_) is (bool(outputs) and not holds)
    assert verified == made == []


@pytest.mark.parametrize("k", [bytes(32), b"\xff" * 32], ids=["zero", "beyond the order"])
def test_what_is_no_scalar_is_nobodys_key(batch: native.NativeBatch, k: bytes) -> None:
    """A key that is no scalar verifies and signs nothing."""
    y = hash_to_curve(b"coin")
    assert batch.verify([(k, b"coin", y)]) == [(y, False)]
    assert batch.sign([(k, software._pair(bytes(31) + b"\x01").public_uncompressed, y)]) == [None]


def test_what_was_not_built_is_not_there(tmp_path: Path) -> None:
    """No file: said, with what to do."""
    opened = native.opened(tmp_path / "batch.so", bytes(32))
    assert isinstance(opened, native.Unbuilt)
    assert "specie.keys.native.build" in opened.reason


def test_what_is_no_library_is_not_opened(tmp_path: Path) -> None:
    """A file that the loader cannot read."""
    path = tmp_path / "batch.so"
    path.write_bytes(b"no library")
    opened = native.opened(path, bytes(32))
    assert isinstance(opened, native.Unbuilt)
    assert "do not fit" in opened.reason


def _built(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build from another source."""
    monkeypatch.setattr(building, "SOURCE", source)
    monkeypatch.setattr(building.source_mark, "__defaults__", (source,))
    if failure := building.build(target):
        missing_component("native-batches", failure)


def test_another_source_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library built from anything but the source beside it is left alone."""
    source = tmp_path / "batch.c"
    source.write_text(building.SOURCE.read_text() + "\n/* changed */\n")
    _built(source, tmp_path / "batch.so", monkeypatch)
    opened = native.opened(tmp_path / "batch.so", bytes(32))
    assert isinstance(opened, native.Unbuilt)
    assert "another source" in opened.reason


def test_a_wrong_answer_is_found_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Built whole but miscalculating: the proof at the start refuses it."""
    source = tmp_path / "batch.c"
    text = building.SOURCE.read_text()
    right = "valid[at] = lib.compare(product, cs + 33 * at, 33) == 0"
    wrong = text.replace(right, right.replace("== 0", "!= 99"))
    assert wrong != text
    source.write_text(wrong)
    _built(source, tmp_path / "batch.so", monkeypatch)
    monkeypatch.setattr(native, "SOURCE", source)
    opened = native.opened(tmp_path / "batch.so", bytes(32))
    assert isinstance(opened, native.Unbuilt)
    assert "wrong answer" in opened.reason


def test_a_library_that_does_not_open(monkeypatch: pytest.MonkeyPatch, batch: native.NativeBatch) -> None:
    """It refuses a table of functions of another length."""
    monkeypatch.setattr(native, "_HASHES", ("SHA256",))
    opened = native.opened(building.LIBRARY, bytes(32))
    assert isinstance(opened, native.Unbuilt)
    assert "could not be opened" in opened.reason


def test_a_missing_function_is_said(monkeypatch: pytest.MonkeyPatch, batch: native.NativeBatch) -> None:
    """A cryptographic library without what is needed."""
    monkeypatch.setattr(native, "_HASHES", ("NO_SUCH_FUNCTION",))
    opened = native.opened(building.LIBRARY, bytes(32))
    assert isinstance(opened, native.Unbuilt)
    assert "do not fit" in opened.reason


def test_no_compiler_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The build says why and ends well; nothing is left behind."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert building.build(tmp_path / "batch.so") == "there is no C compiler"
    assert building.main() == 0
    assert "binding" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("compiler", "said"), [("false", "false failed: 1"), ("/no/such/compiler", "FileNotFoundError")])
def test_a_compiler_that_fails(tmp_path: Path, compiler: str, said: str) -> None:
    """Whatever is wrong with it, the library that was there stays."""
    target = tmp_path / "batch.so"
    target.write_bytes(b"before")
    assert said in building.build(target, compiler=compiler)
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_building_again_gives_the_same_source(tmp_path: Path, batch: native.NativeBatch) -> None:
    """A fresh build opens and proves right."""
    assert building.build(tmp_path / "batch.so") == ""
    assert isinstance(native.opened(tmp_path / "batch.so", bytes(32)), native.NativeBatch)
    assert ctypes.CDLL(str(tmp_path / "batch.so")) is not None
    assert building.main() == 0
