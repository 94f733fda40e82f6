"""Drafts end to end: a real bank with both switched on, wallets in the terminal, deposits by others, proofs and their check."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import SPECIE, RunningBank, home_environment, running_bank

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of everybody here."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def bank(home: Path) -> Iterator[RunningBank]:
    """A bank with proved liabilities and quotes that are found by key."""
    switches = home_environment(home, SPECIE_MINT_LIABILITIES="true", SPECIE_MINT_QUOTE_LOOKUP="true")
    with running_bank(home, "--autopay-delay", "0.2", environment=switches) as running:
        yield running


def specie(home: Path, bank: RunningBank, *arguments: str, code: int = 0, stdin: str = "") -> Any:
    """One command; its JSON."""
    done = subprocess.run(
        [*SPECIE, *arguments, "--json"],
        env=home_environment(home, SPECIE_WALLET_MINT_URL=bank.url, SPECIE_MINT_LIABILITIES="true"),
        cwd=home,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else None


def test_a_pool_deposits_and_words_find_it(home: Path, bank: RunningBank) -> None:
    """A pool has quotes locked to a published key paid; the owner claims one; the words find the other."""
    key = specie(home, bank, "wallet", "deposit-key", "--name", "owner", "--key-file")["pubkey"]
    invoice = specie(home, bank, "wallet", "deposit-for", "21", key, "--name", "pool")["invoice"]
    specie(home, bank, "mint", "settle", invoice)
    found = specie(home, bank, "wallet", "deposits", "--name", "owner")
    assert found["claimed"] == {"sat": 21}
    assert specie(home, bank, "wallet", "deposits", "--name", "owner")["claimed"] == {}
    words = specie(home, bank, "wallet", "words", "--yes", "--name", "owner")["words"]
    second = specie(home, bank, "wallet", "deposit-key", "--name", "owner")["pubkey"]
    invoice = specie(home, bank, "wallet", "deposit-for", "34", second, "--name", "pool")["invoice"]
    specie(home, bank, "mint", "settle", invoice)
    specie(home, bank, "wallet", "restore", "--name", "heir", "--mint", bank.url, stdin=words)
    assert specie(home, bank, "wallet", "deposits", "--name", "heir")["claimed"] == {"sat": 34}
    assert specie(home, bank, "wallet", "balance", "--name", "heir")["balance"]["sat"] == 55
    assert specie(home, bank, "wallet", "deposits", "--name", "pool")["deposits"] == []


def test_what_a_bank_owes_is_proved_and_checked(home: Path, bank: RunningBank) -> None:
    """Epochs close, the operator verifies and proves one item, a wallet finds its coins, and evidence is judged."""
    specie(home, bank, "wallet", "mint", "100", "--name", "alice")
    token = specie(home, bank, "wallet", "send", "21", "--name", "alice")["token"]
    specie(home, bank, "wallet", "receive", token, "--name", "bob")
    specie(home, bank, "wallet", "pending", "--name", "alice")
    epochs = specie(home, bank, "mint", "epochs", "--close", "--verify")
    assert epochs["verified"] == epochs["epochs"][0]["number"]
    books = specie(home, bank, "mint", "liabilities", "--verify")
    owed = sum(keyset["outstanding"] for keyset in books["keysets"])
    assert epochs["epochs"][0]["outstanding"] == {"sat": owed}
    checked = specie(home, bank, "wallet", "verify-mint", "--name", "alice", "--save", str(home / "evidence"))
    (report,) = checked["mints"]
    assert report["faults"] == []
    assert report["owed"] == {"sat": owed}
    assert report["issued"] > 0
    assert report["waiting"] == 0
    assert checked["saved"] == []
    (home / "none.json").write_text("{}")
    specie(home, bank, "wallet", "verify-evidence", str(home / "none.json"), code=3)
    specie(home, bank, "wallet", "verify-evidence", str(home / "absent.json"), code=2)
    specie(home, bank, "wallet", "verify-mint", "http://127.0.0.1:9", "--name", "alice", code=3)
    specie(home, bank, "mint", "prove", "02" * 33, code=3)


def test_a_bank_that_stopped_still_answers_its_operator(tmp_path: Path) -> None:
    """Killed and opened at its store, the chain of epochs holds. A bank of its own: the others' must go on."""
    with running_bank(tmp_path, environment=home_environment(tmp_path, SPECIE_MINT_LIABILITIES="true")) as bank:
        before = specie(tmp_path, bank, "mint", "epochs", "--close")["epochs"][0]["number"]
        bank.process.kill()
        bank.process.wait(10)
        after = specie(tmp_path, bank, "mint", "epochs", "--close", "--verify")
        assert after["verified"] > before
