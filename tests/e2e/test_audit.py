"""The audit log of real banks: written while they run and stop, verified, and caught out when it was changed by hand."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import SPECIE, home_environment, running_bank

pytestmark = pytest.mark.e2e


def _specie(home: Path, *arguments: str, code: int = 0) -> Any:
    done = subprocess.run(
        [*SPECIE, *arguments, "--json"], env=home_environment(home), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout or done.stderr.splitlines()[-1])


def test_a_changed_record_of_a_bank_is_named(tmp_path: Path) -> None:
    """Up, rotated, verified while it runs, stopped, verified again; one byte of the store later the record is told."""
    anchor = tmp_path / "elsewhere.jsonl"
    environment = home_environment(tmp_path, SPECIE_AUDIT_ANCHOR_FILE=str(anchor))
    with running_bank(tmp_path, environment=environment) as bank:
        _specie(tmp_path, "mint", "keysets", "rotate", "--fee", "100")
        _specie(tmp_path, "mint", "keysets", "rotate", "--unit", "eur", code=3)
        running = _specie(tmp_path, "audit", "verify", "--anchor", str(anchor))
        assert running["whole"] is True
        assert running["anchored"] == running["records"]
        records = _specie(tmp_path, "audit", "list")["records"]
        (rotated,) = (row for row in records if row["verb"] == "keyset.rotate" and row["outcome"] == "done")
        assert "uid " in rotated["actor"]
        assert rotated["detail"]["input_fee_ppk"] == 100
        assert bank.stop(signal.SIGTERM) == 0
        store = Path(bank.facts["data_dir"]) / "bank.sqlite"
    stopped = _specie(tmp_path, "audit", "verify", "--anchor", str(anchor))
    assert stopped["whole"] is True
    assert stopped["records"] == running["records"] + 1
    assert _specie(tmp_path, "audit", "list")["records"][-1]["verb"] == "bank.stop"
    with sqlite3.connect(store) as connection:
        statement = "UPDATE audit_record SET body = replace(body, ':100', ':900') WHERE sequence = ?"
        assert connection.execute(statement, (rotated["sequence"],)).rowcount == 1
    connection.close()
    found = _specie(tmp_path, "audit", "verify", "--anchor", str(anchor), code=1)["findings"]
    assert (found[0]["kind"], found[0]["record"]) == ("changed", rotated["sequence"])
    assert all(one["record"] == rotated["sequence"] for one in found if one["kind"] == "anchor")


def test_a_bank_that_is_killed_keeps_its_log_whole(tmp_path: Path) -> None:
    """SIGKILL leaves a start without its stop, which the next start shows; nothing else is missing."""
    for _ in range(2):
        with running_bank(tmp_path) as bank:
            bank.stop(signal.SIGKILL)
    verbs = [row["verb"] for row in _specie(tmp_path, "audit", "list")["records"]]
    assert verbs.count("bank.start") == 4
    assert "bank.stop" not in verbs
    assert _specie(tmp_path, "audit", "verify")["whole"] is True


@pytest.mark.postgres
@pytest.mark.network
def test_workers_of_one_bank_write_one_chain(tmp_path: Path, postgres_dsn: str) -> None:
    """Three processes start, are asked, and stop side by side: their records follow one another without a gap."""
    with running_bank(tmp_path, "--database", postgres_dsn, "--workers", "3") as bank:
        _specie(tmp_path, "mint", "keysets", "rotate", "--database", postgres_dsn)
        assert bank.stop(signal.SIGTERM) == 0
    found = _specie(tmp_path, "audit", "verify", "--database", postgres_dsn)
    assert found["whole"] is True
    records = _specie(tmp_path, "audit", "list", "--database", postgres_dsn, "--limit", "1000")["records"]
    assert [row["sequence"] for row in records] == list(range(1, found["records"] + 1))
    assert sum(row["verb"] == "bank.stop" for row in records) == 3
    assert len({row["actor"] for row in records if row["verb"] == "bank.start"}) == 3
