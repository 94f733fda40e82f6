"""A backup's file: what opens it, what is refused, and that a damaged or strange one is never taken for whole."""

from __future__ import annotations

import os
import random
from pathlib import Path

import cbor2
import pytest

from specie.kernel import seal
from specie.kernel.errors import RefusedError
from specie.wallet import backup as module
from specie.wallet.backup import Snapshot, backup_ways, open_backup, seal_backup
from specie.wallet.errors import BackupLockedError, BackupMalformedError
from tests.support.entropy import CountingEntropy

KEY, OTHER = bytes(range(32)), bytes(32)
ROUNDS = int(os.environ.get("SPECIE_FUZZ_ROUNDS", "400"))
SNAPSHOT = Snapshot(
    1_700_000_000,
    b"e" * 16,
    {"wallet": 2},
    {
        "wallet_proof": [{"y": b"\x02" * 33, "secret": "canary of a coin", "witness": None, "created_at": 2**63 - 1}],
        "wallet_token": [],
    },
)


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id at its least cost: its strength is not what is tested here."""
    monkeypatch.setattr(seal, "_ITERATIONS", 1)
    monkeypatch.setattr(seal, "_LANES", 1)
    monkeypatch.setattr(seal, "_MEMORY_KIB", 64)


def sealed(passphrase: bytes | None = None) -> bytes:
    return seal_backup(SNAPSHOT, words_key=KEY, passphrase=passphrase, entropy=CountingEntropy())


def test_opened_by_words_or_passphrase() -> None:
    """Each alone opens it; the other, wrong, does no harm."""
    data = sealed(b"open sesame")
    assert backup_ways(data) == {"words", "passphrase"}
    assert open_backup(data, words_key=KEY) == SNAPSHOT
    assert open_backup(data, passphrase=b"open sesame") == SNAPSHOT
    assert open_backup(data, words_key=OTHER, passphrase=b"open sesame") == SNAPSHOT
    assert open_backup(data, words_key=KEY, passphrase=b"wrong") == SNAPSHOT
    assert backup_ways(sealed()) == {"words"}
    assert "canary" not in repr(SNAPSHOT)


def test_nothing_else_opens_it() -> None:
    """What is missing or wrong is said, without what was given."""
    for data, given, why in (
        (sealed(), {}, "opens with words"),
        (sealed(b"open sesame"), {}, "opens with passphrase or words"),
        (sealed(), {"passphrase": b"open sesame"}, "opens with words"),
        (sealed(), {"words_key": OTHER}, "does not open with this words"),
        (sealed(b"open sesame"), {"passphrase": b"open barley"}, "does not open with this passphrase"),
    ):
        with pytest.raises(BackupLockedError, match=why) as caught:
            open_backup(data, **given)
        assert caught.value.ways == backup_ways(data)
        assert "barley" not in str(caught.value)


def test_nothing_of_it_can_be_read() -> None:
    """Neither coins nor the words' entropy stand in the file; two backups of one wallet share nothing."""
    data = sealed(b"open sesame")
    assert b"canary" not in data
    assert SNAPSHOT.entropy not in data
    other = seal_backup(SNAPSHOT, words_key=KEY, passphrase=None, entropy=CountingEntropy("other"))
    assert data[-60:] != other[-60:]


def test_an_empty_passphrase_is_refused() -> None:
    """It would protect nothing."""
    with pytest.raises(RefusedError, match="empty"):
        sealed(b"")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no backup"),
        (b"specie-wallet-backup 2\n....", "later version"),
        (b"specie-wallet-backup 1\n", "damaged"),
        (b"specie-wallet-backup 1\n" + (9999).to_bytes(4, "big") + bytes(9999), "damaged"),
        (b"specie-wallet-backup 1\n" + (1).to_bytes(4, "big") + b"\x01", "damaged"),
        (b"specie-wallet-backup 1\n" + (1).to_bytes(4, "big") + b"\xa0", "damaged"),
        (b"specie-wallet-backup 1\n" + (1).to_bytes(4, "big") + b"\xff", "damaged"),
    ],
)
def test_what_is_no_backup(data: bytes, why: str) -> None:
    """Told as such."""
    with pytest.raises(BackupMalformedError, match=why):
        open_backup(data, words_key=KEY)


def test_no_byte_can_be_changed() -> None:
    """Every mutant of a backup is refused, or is the same wallet."""
    data, rng = sealed(b"open sesame"), random.Random("backup")
    for _ in range(ROUNDS):
        mutant = bytearray(data)
        match rng.randrange(3):
            case 0:
                mutant[rng.randrange(len(mutant))] ^= 1 << rng.randrange(8)
            case 1:
                del mutant[rng.randrange(len(mutant)) :]
            case _:
                mutant[rng.randrange(len(mutant)) : 0] = rng.randbytes(3)
        with pytest.raises((BackupMalformedError, BackupLockedError)):
            open_backup(bytes(mutant), words_key=KEY)


@pytest.mark.parametrize(
    "whole",
    [
        [],
        {},
        {"made_at": 1, "entropy": b"", "schema": {}, "tables": 5},
        {"made_at": 1, "entropy": b"", "schema": {1: 1}, "tables": {}},
        {"made_at": 1, "entropy": 1, "schema": [], "tables": {}},
        {"made_at": 1, "entropy": b"", "schema": {}, "tables": {"t": {"columns": ["a"], "rows": [[1, 2]]}}},
        {"made_at": 1, "entropy": b"", "schema": {}, "tables": {"t": {"columns": ["a"], "rows": [[1.5]]}}},
        {"made_at": 1, "entropy": b"", "schema": {}, "tables": {"t": {"columns": [3], "rows": [[1]]}}},
        {"made_at": 1, "entropy": b"", "schema": {}, "tables": {"t": {"columns": ["a"], "rows": [[True]]}}},
    ],
)
def test_contents_of_another_shape(whole: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even under the right key the contents are judged before they are used."""
    monkeypatch.setattr(module, "_payload", lambda _: cbor2.dumps(whole))
    with pytest.raises(BackupMalformedError):
        open_backup(sealed(), words_key=KEY)


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither made nor read beyond the bound."""
    data = sealed()
    monkeypatch.setattr(module, "MOST_BYTES", len(data) - 1)
    with pytest.raises(BackupMalformedError, match="too large"):
        sealed()
    with pytest.raises(BackupMalformedError, match="too large"):
        open_backup(data, words_key=KEY)


def test_slots_of_another_make_are_damage() -> None:
    """A slot that is no sealed key is named as damage, not as a wrong passphrase."""
    header = cbor2.dumps({"slots": [{"way": "words", "key": b"short"}]})
    data = b"specie-wallet-backup 1\n" + len(header).to_bytes(4, "big") + header + bytes(100)
    with pytest.raises(BackupMalformedError, match="header is damaged"):
        open_backup(data, words_key=KEY)


def test_the_guide_names_the_format(tmp_path: Path) -> None:
    """The first line of a backup says what it is."""
    assert sealed().startswith(b"specie-wallet-backup 1\n")
