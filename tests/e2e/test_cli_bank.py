"""A bank as a process: started, asked, stopped and killed from outside."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
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


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        body: bytes = answer.read()
        return body


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_bank_starts_answers_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """Up on any free port, alive over HTTP, and exit code 0 after Ctrl-C or SIGTERM, with its socket taken away."""
    with running_bank(tmp_path) as bank:
        assert b"PLAY" in _get(bank.url)
        assert json.loads(_get(f"{bank.url}/healthz"))["state"] == "ok"
        assert "PLAY MONEY" in json.loads(_get(f"{bank.url}/v1/info"))["motd"]
        assert bank.facts["play"] is True
        assert bank.facts["created"] is True
        assert not Path(bank.facts["sealing_key"]).is_relative_to(bank.facts["data_dir"])
        assert bank.stop(number) == 0
        assert not Path(bank.facts["admin_socket"]).exists()
    assert "Traceback" not in bank.log.read_text()


def test_an_operator_speaks_with_the_running_bank(tmp_path: Path) -> None:
    """Through the private socket, not the store: quotes, a new keyset, health, books."""
    with running_bank(tmp_path, "--no-autopay") as bank:
        assert Path(bank.facts["admin_socket"]).stat().st_mode & 0o777 == 0o600
        assert len(_specie(tmp_path, "mint", "keysets", "list")["keysets"]) == 1
        made = _specie(tmp_path, "mint", "keysets", "rotate", "--fee", "100")
        assert made["input_fee_ppk"] == 100
        assert len(_specie(tmp_path, "mint", "keysets", "list")["keysets"]) == 2
        assert _specie(tmp_path, "mint", "liabilities", "--verify")["balanced"] is True
        assert _specie(tmp_path, "mint", "reconcile")["running"] is True
        assert _specie(tmp_path, "mint", "settle", "00" * 32, code=3)["error"]["kind"] == "refused"


def test_a_second_bank_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    """One data directory, one bank: exit code 3 and one line."""
    with running_bank(tmp_path):
        error = _specie(tmp_path, "up", "--port", "0", code=3)["error"]
        assert error["error"] == "DataDirectoryInUseError"


def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path) -> None:
    """The way on (--port) is in the line."""
    with running_bank(tmp_path) as bank:
        other = tmp_path / "other"
        error = _specie(tmp_path, "up", "--data", str(other), "--port", str(bank.facts["port"]), code=3)["error"]
        assert "--port" in error["detail"]


def test_a_killed_bank_starts_again_as_if_nothing_was(tmp_path: Path) -> None:
    """SIGKILL leaves a lock, a socket file and a log behind; none is in the way, and keys are the same."""
    with running_bank(tmp_path) as bank:
        keysets = bank.facts["keysets"]
        bank.stop(signal.SIGKILL)
    assert _specie(tmp_path, "mint", "liabilities", "--verify")["balanced"] is True  # by the store: none runs
    with running_bank(tmp_path) as bank:
        assert bank.facts["keysets"] == keysets
        assert bank.facts["created"] is False
        assert bank.stop() == 0


def test_a_passphrase_opens_what_it_sealed_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    """By file; the passphrase is on no command line and in no log."""
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for file, text in ((right, "correct horse\n"), (wrong, "battery staple\n")):
        file.write_text(text)
        file.chmod(0o600)
    with running_bank(tmp_path, "--passphrase-file", str(right)) as bank:
        assert bank.facts["sealing"] == "passphrase-file"
        assert bank.stop() == 0
    assert "correct horse" not in bank.log.read_text()
    error = _specie(tmp_path, "up", "--port", "0", "--passphrase-file", str(wrong), code=3)["error"]
    assert error["error"] == "PassphraseWrongError"
    error = _specie(tmp_path, "up", "--port", "0", code=3)["error"]
    assert error["error"] == "SealMismatchError"


def test_a_bank_is_resealed_when_it_does_not_run(tmp_path: Path) -> None:
    """From a key file to a passphrase: refused while the bank runs; then the new way opens it and the old does not."""
    passphrase = tmp_path / "passphrase"
    passphrase.write_text("correct horse\n")
    passphrase.chmod(0o600)
    with running_bank(tmp_path) as bank:
        busy = _specie(tmp_path, "mint", "reseal", "--new-passphrase-file", str(passphrase), code=3)["error"]
        assert busy["error"] == "DataDirectoryInUseError"
        assert bank.stop() == 0
    assert _specie(tmp_path, "mint", "reseal", "--new-passphrase-file", str(passphrase))["sealed"] == "passphrase-file"
    assert _specie(tmp_path, "mint", "keysets", "list", code=3)["error"]["error"] == "SealMismatchError"
    found = _specie(tmp_path, "mint", "keysets", "list", "--passphrase-file", str(passphrase))["keysets"]
    assert len(found) == 1
