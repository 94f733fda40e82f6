"""`specie demo crash`: its table is true, its exit code too, and it leaves nothing behind."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from specie.cli.crash import CrashReport
from specie.cli.program import run
from tests.support.programs import SPECIE, home_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def _banks_under(place: Path) -> list[str]:
    """Command lines of processes that work in `place`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(place) in line:
            found.append(line)
    return found


def test_a_killed_bank_loses_and_creates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Four kills: wallets hold what the books say is outstanding, the audit passes, no process and no file stays."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert run(["demo", "crash", "--kills", "4", "--seed", "11", "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert (facts["kills"], facts["lost"], facts["created"], facts["audit"], facts["sound"]) == (4, 0, 0, "", True)
    assert facts["issued"] > facts["outstanding"] > 0
    assert facts["issued"] - facts["redeemed"] == facts["outstanding"] == facts["held"]
    assert list(tmp_path.iterdir()) == []
    assert _banks_under(tmp_path) == []


def test_the_table_is_for_people(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without kills it is quick; lost and created are lines of their own, and the money is called PLAY."""
    assert run(["demo", "crash", "--kills", "0"]) == 0
    out = capfd.readouterr().out
    for word in ("issued", "redeemed", "outstanding", "lost", "created", "PLAY"):
        assert word in out


def test_a_demonstration_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM in the middle: the bank and the directory go with it."""
    environment = home_environment(tmp_path, TMPDIR=str(tmp_path))
    with subprocess.Popen(
        [*SPECIE, "demo", "crash", "--kills", "50"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        for _ in range(300):
            if list(tmp_path.glob("specie-demo-*/bank/admin.sock")):
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    assert list(tmp_path.glob("specie-demo-*")) == []
    assert _banks_under(tmp_path) == []


@pytest.mark.parametrize(
    ("issued", "outstanding", "held", "audit", "sound"),
    [
        (100, 60, 60, "", True),
        (100, 60, 59, "", False),
        (100, 60, 61, "", False),
        (100, 60, 60, "do not balance", False),
        (0, 0, 0, "", False),
    ],
)
def test_the_verdict_tells_the_truth(issued: int, outstanding: int, held: int, audit: str, sound: bool) -> None:
    """A coin too few, a coin too many, books that differ, or nothing to lose: none passes."""
    report = CrashReport(1, issued=issued, outstanding=outstanding, held=held, audit=audit)
    assert report.sound is sound
    assert report.lost - report.created == outstanding - held


def test_nonsense_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 for a number of kills that cannot be."""
    assert run(["demo", "crash", "--kills", "-1"]) == 2
