"""`specie config` beside a running bank, beside none, and with a file that is broken."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from specie.cli.reloading import _log_part, secret_problems
from specie.ops.config import load_settings
from specie.ops.logging import capture, make_logger
from specie.ops.metrics import Metrics
from tests.support.programs import RunningBank, running_bank

pytestmark = pytest.mark.network


@pytest.fixture
def bank(home: Path) -> Iterator[RunningBank]:
    """A bank that runs beside the test, in its home, from `bank.toml`."""
    (home / "bank.toml").write_text(f'data_dir = "{home / "books"}"\n[mint]\nname = "one"\n[reload]\nwatch_s = 0\n')
    with running_bank(home, "--config", str(home / "bank.toml"), environment=os.environ) as running:
        yield running


def test_a_bank_is_changed_by_hand(specie, bank, home) -> None:  # type: ignore[no-untyped-def]
    """Checked, applied, compared, listed, shown and taken back, each in words for people."""
    up = home / "bank.toml"
    config = ("--config", str(up))
    assert "the running bank has these settings" in specie("config", "check", str(up)).out
    assert "nothing differs" in specie("config", "apply", *config).out
    good = up.read_text().replace("[reload]", "mint_max = 99\n[reload]")
    up.write_text(good)
    ran = specie("config", "check", str(up))
    assert "would take this file" in ran.out
    assert "live" in ran.out
    assert "mint.mint_max" in specie("config", "diff", *config).out
    assert "revision 2 runs" in specie("config", "apply", *config).out
    up.write_text(good.replace("[reload]", "units = ['msat']\n[reload]"))
    ran = specie("config", "check", str(up))
    assert "would refuse this file: mint.units needs a restart" in ran.out
    ran = specie("config", "apply", *config)
    assert ran.code == 3
    assert "mint.units needs a restart" in ran.err
    up.write_text(good + "nonsense\n")
    assert specie("config", "history", *config).code == 3  # what names the data directory cannot be read
    config = (*config, "--data", str(home / "books"))
    ran = specie("config", "history", *config)
    assert "refused" in ran.out
    assert "mint.mint_max" in ran.out
    assert "mint_max = 99" in specie("config", "show", "2", *config).out
    assert '"one"' in specie("config", "show", *config).out
    assert "mint.mint_max" in specie("config", "diff", "1", *config).out
    assert "nothing differs" in specie("config", "diff", "2", "2", *config).out
    ran = specie("config", "diff", *config)
    assert ran.code == 3
    assert "bank.toml" in ran.err
    assert "revision 4 runs, the file of 1" in specie("config", "rollback", "1", *config).out
    assert "mint_max" not in up.read_text()
    assert specie("config", "rollback", "77", *config).code == 3
    other = up.with_name("other.toml")
    other.write_text(up.read_text().replace("[mint]", "[mint]\nmint_max = 5"))
    told = specie("config", "check", str(other), "--json").json()
    assert [item["key"] for item in told["running"]["changes"]] == ["mint.mint_max"]
    assert {row["key"] for row in told["settings"] if row["changed"]} >= {"mint.mint_max", "data_dir"}


def test_history_is_there_where_no_bank_runs(specie, bank, home) -> None:  # type: ignore[no-untyped-def]
    """From the store; taking a file is refused, for a start will; a broken file without a bank is told as it is."""
    up = home / "bank.toml"
    config = ("--config", str(up))
    assert bank.stop() == 0
    ran = specie("config", "history", *config, "--json")
    assert [item["author"] for item in ran.json()["revisions"]] == ["start"]
    ran = specie("config", "apply", *config)
    assert ran.code == 3
    assert "no bank runs here" in ran.err
    up.write_text(up.read_text().replace("[mint]", "[mint]\nmotd = 'x'"))
    assert "mint.motd" in specie("config", "diff", *config).out
    assert specie("config", "check", str(up), "--json").json()["running"] is None
    up.write_text("nonsense")
    ran = specie("config", "history", *config)
    assert ran.code == 3
    assert "bank.toml" in ran.err


def test_loggers_are_swapped_and_put_back() -> None:
    """Events and captured lines follow the new level and form, and the old ones again."""
    import logging

    stream = io.StringIO()
    quiet = load_settings(None, {"SPECIE_LOG_LEVEL": "error", "SPECIE_LOG_FORMAT": "json"})
    loud = load_settings(None, {"SPECIE_LOG_LEVEL": "info", "SPECIE_LOG_FORMAT": "json"})
    first = make_logger(quiet.log, stream)
    metrics = Metrics(first, lambda: 0)
    with capture(first) as captured:
        prepare = _log_part(quiet, lambda settings: make_logger(settings.log, stream), (metrics.log_to, captured))
        swap = prepare(loud)
        metrics.event("a")
        swap.do()
        metrics.event("b")
        logging.getLogger("uvicorn").warning("c")
        swap.undo()
        metrics.event("d")
        logging.getLogger("uvicorn").warning("e")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["b", "c"]


def test_references_that_lead_nowhere_are_told_all_at_once(tmp_path: Path) -> None:
    """With the setting's name; one that leads to no database says so and does not show what is there."""
    (tmp_path / "dsn").write_text("mysql://canary")
    (tmp_path / "dsn").chmod(0o600)
    file = tmp_path / "bank.toml"
    file.write_text('[store]\ndsn = "file:dsn"\n[keys]\npassphrase = "env:SURELY_NOT_SET"\n')
    told = [str(problem) for problem in secret_problems(load_settings(file))]
    assert len(told) == 2
    assert told[0].startswith("store.dsn: file:")
    assert "must begin with postgresql://" in told[0]
    assert "canary" not in told[0]
    assert told[1] == "keys.passphrase: env:SURELY_NOT_SET: this variable is not set in the bank's environment"
    assert secret_problems(load_settings(None, {"SPECIE_STORE_DSN": "postgresql://x"})) == []
