"""`specie audit` at a bank that does not run, and what the bank's own life leaves in its log."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from specie.app.audit_opening import open_log
from specie.app.bank import open_bank, owned_directory
from specie.kernel import NULL_TELEMETRY, InvariantError, NullTelemetry, UnavailableError
from specie.ops.config import load_settings


class Pages(NullTelemetry):
    """Telemetry that remembers why it paged."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def page(self, reason: str, /, **facts: object) -> None:
        """Remember it."""
        self.reasons.append(reason)


def settings_of(data: Path, **more: Any) -> Any:
    return load_settings(None, {}, {"data_dir": data, **more})


def live(data: Path, work: Any = None, telemetry: Any = NULL_TELEMETRY, **more: Any) -> None:
    async def once() -> None:
        async with open_bank(settings_of(data, **more), telemetry=telemetry) as opened:
            if work is not None:
                await work(opened)

    asyncio.run(once())


@pytest.fixture
def bank(home: Path) -> Path:
    """The data directory of a bank that was started once, with a rotated keyset."""
    data = home / "bank"
    live(data, lambda opened: opened.mint.rotate_keyset("sat", input_fee_ppk=100))
    return data


def change(data: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(data / "bank.sqlite") as connection:
        assert connection.execute(statement, values).rowcount
    connection.close()


def listed(specie: Any, data: Path) -> list[tuple[str, str]]:
    rows = specie("audit", "list", "--data", str(data), "--json").json()["records"]
    return [(row["verb"], row["outcome"]) for row in rows]


def test_the_life_of_a_bank_is_in_its_log(specie, bank) -> None:  # type: ignore[no-untyped-def]
    """Seed, start, keysets as they are made, stop; each in its place, by a process that is named."""
    assert listed(specie, bank) == [
        ("seed.create", "done"),
        ("bank.start", "begun"),
        ("keyset.create", "done"),
        ("bank.start", "done"),
        ("keyset.create", "done"),
        ("bank.stop", "done"),
    ]
    shown = specie("audit", "list", "--data", str(bank), "--limit", "2")
    assert "bank.stop" in shown.out
    assert "seed.create" not in shown.out
    assert "bank seat 0" in shown.out
    assert listed(specie, bank)[0] == ("seed.create", "done"), "reading a log opens no seed"
    later = specie("audit", "list", "--data", str(bank), "--after", "4", "--json").json()["records"]
    assert [row["sequence"] for row in later] == [5, 6]
    assert specie("audit", "list", "--data", str(bank), "--limit", "0").code == 2


def test_a_whole_log_is_verified_and_a_changed_one_names_its_record(specie, bank) -> None:  # type: ignore[no-untyped-def]
    """Exit code 0, then 1."""
    ran = specie("audit", "verify", "--data", str(bank))
    assert ran.code == 0
    assert "6 records follow" in ran.out
    assert "no anchor was given" in ran.out
    change(bank, 'UPDATE audit_record SET body = replace(body, \'"outcome":"done"\', \'"outcome":"gone"\') WHERE sequence = 5')
    ran = specie("audit", "verify", "--data", str(bank), "--json")
    assert ran.code == 1
    assert ran.json()["whole"] is False
    assert (ran.json()["findings"][0]["kind"], ran.json()["findings"][0]["record"]) == ("changed", 5)
    assert "the log is not whole" in specie("audit", "verify", "--data", str(bank)).out


def test_a_cut_with_its_checkpoints_is_found_by_the_anchor_alone(specie, home) -> None:  # type: ignore[no-untyped-def]
    """Whoever sets head and checkpoints back, too, is believed by the store and not by the anchor; the next start pages."""
    data, anchor = home / "bank", home / "anchor.jsonl"
    live(data, **{"audit.anchor_file": anchor})
    assert specie("audit", "verify", "--data", str(data), "--anchor", str(anchor)).code == 0
    with sqlite3.connect(data / "bank.sqlite") as connection:
        body = str(connection.execute("SELECT hash FROM audit_record WHERE sequence = 4").fetchone()[0])
        assert body
    connection.close()
    _set_back(data, 4)
    assert specie("audit", "verify", "--data", str(data)).code == 0
    ran = specie("audit", "verify", "--data", str(data), "--anchor", str(anchor), "--json")
    assert ran.code == 1
    assert [(one["kind"], one["record"]) for one in ran.json()["findings"]] == [("truncated", 5)]
    telemetry = Pages()
    live(data, telemetry=telemetry, **{"audit.anchor_file": anchor})
    assert any("anchor" in reason for reason in telemetry.reasons)
    assert ("audit.anchor", "failed") in listed(specie, data)


def _set_back(data: Path, count: int) -> None:
    """What somebody does who may write to every table: the log as it was after `count` records."""
    from specie.audit.record import Tree

    with sqlite3.connect(data / "bank.sqlite") as connection:
        tree = Tree()
        for (text,) in connection.execute("SELECT body FROM audit_record WHERE sequence <= ? ORDER BY sequence", (count,)):
            tree.append(text)
        (head,) = connection.execute("SELECT hash FROM audit_record WHERE sequence = ?", (count,)).fetchone()
        connection.execute("UPDATE audit_head SET count = ?, hash = ?, peaks = ?", (count, head, tree.peaks))
        connection.execute("DELETE FROM audit_record WHERE sequence > ?", (count,))
        connection.execute("DELETE FROM audit_checkpoint WHERE count > ?", (count,))
    connection.close()


def test_an_exported_log_is_verified_without_a_bank(specie, bank, home) -> None:  # type: ignore[no-untyped-def]
    """JSON lines with their checkpoints, private and never over another file; a line that was changed is named."""
    file = home / "log.jsonl"
    assert specie("audit", "export", "--data", str(bank), "--out", str(file), "--json").json()["records"] == 6
    assert file.stat().st_mode & 0o777 == 0o600
    assert specie("audit", "export", "--data", str(bank), "--out", str(file)).code == 3
    assert specie("audit", "verify", "--file", str(file)).code == 0
    assert specie("audit", "export", "--data", str(bank)).out == file.read_text()
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:2], *lines[3:]]))
    ran = specie("audit", "verify", "--file", str(file), "--json")
    assert ran.code == 1
    assert ran.json()["findings"][0]["kind"] == "removed"
    file.write_text("".join(lines[:6]) + '{"checkpoint":{"nonsense":1}}\n' + "a piece")
    assert specie("audit", "verify", "--file", str(file), "--json").json()["findings"][0]["kind"] == "checkpoint"
    rows = specie("audit", "export", "--data", str(bank), "--format", "csv").out.splitlines()
    assert len(rows) == 7
    assert rows[0].startswith("sequence,at,time")
    assert specie("audit", "export", "--data", str(bank), "--json").code == 2


def test_files_that_are_no_log_are_refused(specie, home) -> None:  # type: ignore[no-untyped-def]
    """Missing, too long a line, no text, another file."""
    file = home / "log"
    assert specie("audit", "verify", "--file", str(file)).code == 3
    for content in (b"x" * 40_000, b"\xff\xff\n", b"{}\n"):
        file.write_bytes(content)
        assert specie("audit", "verify", "--file", str(file)).code == 3


def test_a_checkpoint_is_printed(specie, bank) -> None:  # type: ignore[no-untyped-def]
    """One line, to be kept elsewhere; with --json its digest, too."""
    line = specie("audit", "checkpoint", "--data", str(bank)).out.strip()
    file = bank.parent / "anchor"
    file.write_text(line + "\n")
    assert specie("audit", "verify", "--data", str(bank), "--anchor", str(file)).code == 0
    found = specie("audit", "checkpoint", "--data", str(bank), "--json").json()
    assert found["count"] == 6
    assert len(found["digest"]) == 64


def test_where_there_is_no_bank_none_is_made(specie, home, bank) -> None:  # type: ignore[no-untyped-def]
    """And a bank that is being run without its socket is left alone."""
    for verb in ("list", "verify", "checkpoint"):
        assert specie("audit", verb, "--data", str(home / "none")).code == 3
    assert not (home / "none").exists()
    out = home / "out"
    assert specie("audit", "export", "--data", str(home / "none"), "--out", str(out)).code == 3
    assert not out.exists()
    with owned_directory(bank):
        assert specie("audit", "list", "--data", str(bank), "--json").error()["error"] == "DataDirectoryInUseError"


def test_an_unreadable_record_is_listed_and_exported_as_such(specie, bank) -> None:  # type: ignore[no-untyped-def]
    """Garbage in the table stops nobody from reading the rest."""
    change(bank, "UPDATE audit_record SET body = 'nonsense' WHERE sequence = 2")
    assert listed(specie, bank)[1] == ("unreadable", "")
    assert "unreadable" in specie("audit", "export", "--data", str(bank)).out


def test_resealing_is_recorded_whether_it_succeeds_or_not(specie, bank, home) -> None:  # type: ignore[no-untyped-def]
    """Begun before the seed is touched; how it is sealed afterwards, or the error's name."""
    phrase = home / "phrase"
    phrase.write_text("correct horse\n")
    phrase.chmod(0o600)
    assert specie("mint", "reseal", "--data", str(bank), "--new-passphrase-file", str(phrase)).code == 0
    assert listed(specie, bank)[-2:] == [("seed.reseal", "begun"), ("seed.reseal", "done")]
    assert specie("mint", "reseal", "--data", str(bank)).code == 3
    assert listed(specie, bank)[-2:] == [("seed.reseal", "begun"), ("seed.reseal", "refused")]
    assert specie("mint", "reseal", "--data", str(home / "none")).code == 3


def test_a_seed_is_not_resealed_where_that_cannot_be_recorded(specie, bank, home) -> None:  # type: ignore[no-untyped-def]
    """The log cannot go on, so the seed stays as it is."""
    before = (bank / "mint.seed").read_bytes()
    change(bank, "UPDATE audit_head SET peaks = x'00'")
    assert specie("mint", "reseal", "--data", str(bank)).code == 70
    assert (bank / "mint.seed").read_bytes() == before


def test_a_seed_that_does_not_open_is_recorded(specie, bank, home) -> None:  # type: ignore[no-untyped-def]
    """A wrong way to open it leaves the bank closed and a record; without a store there is nothing to record it in."""
    phrase = home / "phrase"
    phrase.write_text("wrong\n")
    phrase.chmod(0o600)
    assert specie("mint", "quotes", "--data", str(bank), "--passphrase-file", str(phrase)).code == 3
    assert listed(specie, bank)[-1] == ("seed.open", "refused")
    broken = home / "broken"
    broken.mkdir(mode=0o700)
    (broken / "mint.seed").write_bytes(b"nonsense")
    (broken / "mint.seed").chmod(0o600)
    assert specie("mint", "quotes", "--data", str(broken)).code == 3
    assert not (broken / "bank.sqlite").exists()
    change(bank, "UPDATE audit_head SET peaks = x'00'")
    assert specie("mint", "quotes", "--data", str(bank), "--passphrase-file", str(phrase)).code == 3


def test_looking_at_a_bank_that_does_not_run_is_recorded(specie, bank) -> None:  # type: ignore[no-untyped-def]
    """Its seed is opened for that, by the user at the terminal."""
    assert specie("mint", "keysets", "rotate", "--data", str(bank)).code == 0
    rows = specie("audit", "list", "--data", str(bank), "--json").json()["records"][6:]
    assert [(row["verb"], row["outcome"]) for row in rows] == [
        ("seed.open", "done"),
        ("keyset.rotate", "begun"),
        ("keyset.create", "done"),
        ("keyset.rotate", "done"),
    ]
    assert all(row["actor"].startswith("operator") for row in rows)


def test_a_bank_whose_log_cannot_go_on_does_not_start(bank) -> None:  # type: ignore[no-untyped-def]
    """Neither with tables that were changed, nor with an anchor that cannot be used."""
    with pytest.raises(UnavailableError, match="anchor"):
        live(bank, **{"audit.anchor_file": bank.parent / "nowhere" / "anchor"})
    change(bank, "UPDATE audit_head SET peaks = x'00'")
    with pytest.raises(InvariantError, match="head was changed"):
        live(bank)


def test_a_keyset_is_not_made_without_its_record(bank) -> None:  # type: ignore[no-untyped-def]
    """Both are one transaction: the log fails, and there is no keyset."""

    async def work(opened: Any) -> None:
        await opened.storage.transact(lambda tx: tx.execute("UPDATE audit_head SET peaks = $1", b"short"))
        with pytest.raises(InvariantError):
            await opened.mint.rotate_keyset("sat")
        assert len(opened.mint.keysets()) == 2
        row = await opened.storage.read(lambda tx: tx.fetch_one("SELECT COUNT(*) FROM mint_keyset"))
        assert row == (2,)

    telemetry = Pages()
    live(bank, work, telemetry)
    assert any("stop of the bank" in reason for reason in telemetry.reasons)


def test_a_bank_that_fails_says_why_it_stopped(specie, bank) -> None:  # type: ignore[no-untyped-def]
    """The name of the error, in the record of its stop."""

    async def work(opened: Any) -> None:
        raise ValueError("secret")

    with pytest.raises(ValueError, match="secret"):
        live(bank, work)
    last = specie("audit", "list", "--data", str(bank), "--json").json()["records"][-1]
    assert (last["verb"], last["outcome"], last["detail"]) == ("bank.stop", "failed", {"error": "ValueError"})


def test_an_anchor_in_the_data_directory_is_refused(specie, home) -> None:  # type: ignore[no-untyped-def]
    """It would be changed along with the log."""
    file = home / "bank.toml"
    file.write_text(f"data_dir = '{home}/b'\n[audit]\nanchor_file = '{home}/b/anchor'\n")
    ran = specie("config", "check", str(file))
    assert ran.code == 3
    assert "audit.anchor_file" in ran.err


def test_the_log_is_opened_without_keys(bank) -> None:  # type: ignore[no-untyped-def]
    """Whoever checks it needs no passphrase."""
    (bank / "mint.seed").unlink()

    async def look() -> int:
        async with open_log(settings_of(bank)) as log:
            return len(await log.records())

    assert asyncio.run(look()) == 6


def test_an_anchor_given_later_gets_all_that_was(specie, bank, home) -> None:  # type: ignore[no-untyped-def]
    """Every checkpoint so far, and a record that says that nothing was anchored there before."""
    anchor = home / "anchor.jsonl"
    live(bank, **{"audit.anchor_file": anchor})
    assert ("audit.anchor", "begun") in listed(specie, bank)
    found = specie("audit", "verify", "--data", str(bank), "--anchor", str(anchor), "--json").json()
    assert (found["whole"], found["anchored"], found["anchors"]) == (True, found["records"], found["records"])
    live(bank, **{"audit.anchor_file": anchor})
    assert listed(specie, bank).count(("audit.anchor", "begun")) == 1
