"""The commands that say where money lies, against two real banks: transfer, targets, rebalance, leave, off-line policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from specie.cli.program import run
from tests.support.programs import RunningBank, home_environment, running_bank

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as JSON, of a command that worked."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    def text(self) -> str:
        """Standard output, of a command that worked."""
        assert self.code == 0, self.err
        return self.out


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def banks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningBank, RunningBank]]:
    """Two banks; their invoices pay themselves after 0.3 s."""
    with (
        running_bank(tmp_path_factory.mktemp("one"), "--autopay-delay", "0.3") as one,
        running_bank(tmp_path_factory.mktemp("two"), "--autopay-delay", "0.3") as two,
    ):
        yield one, two


@pytest.fixture
def specie(
    banks: tuple[RunningBank, RunningBank], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Runs `specie` in this process, in a home of its own, with a wallet that trusts both banks."""
    for name, value in home_environment(tmp_path, SPECIE_WALLET_MINT_URL=banks[0].url, COLUMNS="200").items():
        monkeypatch.setenv(name, value)

    def call(*arguments: object) -> Ran:
        capfd.readouterr()
        code = run(["wallet", *(str(argument) for argument in arguments)])
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    assert call("mint", 2000).code == 0
    assert call("mints", "add", banks[1].url).code == 0
    return call


def _held(specie: Run, url: str) -> int:
    return sum(one["available"] for one in specie("balance", "--json").json()["mints"] if one["mint"] == url)


def test_transfer_moves_money_and_tells_its_cost_first(specie: Run, banks: tuple[RunningBank, RunningBank]) -> None:
    """A dry run moves nothing; the real one arrives; what makes no sense is a usage error."""
    there = ("--from", banks[0].url, "--to", banks[1].url)
    told = specie("transfer", 500, *there, "--dry-run", "--json").json()
    assert told["amount"] == 500
    assert "would arrive" in specie("transfer", "all", *there, "--dry-run").text()
    assert _held(specie, banks[0].url) == 2000
    done = specie("transfer", 500, *there, "--max-fee", told["fee"], "--json").json()
    assert done["state"] == "DONE"
    assert _held(specie, banks[0].url) == 1500 - done["fee"]
    assert "100 sat from" in specie("transfer", 100, *there).text()
    assert specie("transfer", "some", *there).code == 2


def test_targets_are_set_shown_met_and_forgotten(specie: Run, banks: tuple[RunningBank, RunningBank]) -> None:
    """Shares in percent; the table says what is and what should be; a rebalance meets it, a second has nothing to do."""
    assert specie("targets", "set", banks[0].url, "--share", "60", "--json").json()["share_ppm"] == 600_000
    assert "40 % of all sat, at most 900 sat" in specie("targets", "set", banks[1].url, "--share", "40", "--max", 900).text()
    assert "60 %" in specie("targets", "show").text()
    plan = specie("rebalance", "--dry-run", "--json").json()
    assert [one["amount"] for one in plan["moves"]] == [800]
    assert "800 sat" in specie("rebalance", "--dry-run").text()
    assert "✓" in specie("rebalance").text()
    assert _held(specie, banks[1].url) == 800
    assert "nothing to move" in specie("rebalance").text()
    assert specie("rebalance", "--max-cost", "101").code == 2
    assert {one["mint"] for one in specie("targets", "--json").json()["mints"]} == {bank.url for bank in banks}
    assert specie("targets", "clear", "--json").json() == {"cleared": 2}
    assert "0 targets" in specie("targets", "clear", banks[0].url).text()


def test_a_mint_is_left_and_forgotten(specie: Run, banks: tuple[RunningBank, RunningBank]) -> None:
    """Its money moves; it takes nothing new until `stay`; it is forgotten when empty, or with its money as a token."""
    left = specie("leave", banks[0].url, "--to", banks[1].url, "--json").json()
    assert {one["state"] for one in left["transfers"]} == {"DONE"}
    assert _held(specie, banks[1].url) > 1900
    assert specie("mint", 5, "--mint", banks[0].url).code != 0
    assert "free" in specie("mints", "health").text() or left["empty"]
    reports = specie("mints", "health", "--probe", "--json").json()["mints"]
    assert [one["failures"] for one in reports] == [0, 0]
    assert specie("mints", "stay", banks[0].url, "--json").json()["was_leaving"] is True
    assert "not being left" in specie("mints", "stay", banks[0].url).text()
    assert specie("mints", "remove", banks[1].url).code != 0
    gone = specie("mints", "remove", banks[1].url, "--force", "--json").json()
    assert sum(one["amount"] for one in gone["tokens"]) > 1900
    (token,) = (one["token"] for one in gone["tokens"])
    assert specie("receive", token, "--name", "friend", "--trust", "--json").json()["amount"] > 1900
    assert "nothing is left" in specie("leave", banks[0].url, "--dust-token").text() or left["dust"]
    assert specie("leave", banks[0].url, "--max-cost", "101").code == 2


def test_an_off_line_policy_is_set_kept_and_settled(specie: Run, banks: tuple[RunningBank, RunningBank]) -> None:
    """What the policy does not take is refused; what it takes is shown with its risk until it is settled."""
    assert "no policy" in specie("offline", "policy").text()
    assert specie("mints", "add", banks[0].url, "--name", "bob").code == 0
    shown = specie("offline", "policy", "--unlocked-most", 10, "--no-settle", "--name", "bob", "--json").json()
    assert shown["policy"]["unlocked_most"] == 10
    assert "24 hours" in specie("offline", "policy", "--name", "bob").text()
    large, small = (specie("send", amount, "--json").json()["token"] for amount in (64, 8))
    refused = specie("receive", large, "--offline", "--name", "bob")
    assert refused.code != 0
    assert "not locked to this wallet" in refused.err
    assert specie("receive", small, "--offline", "--name", "bob").code == 0
    assert "the sender can spend it" in specie("offline", "status", "--name", "bob").text()
    (one,) = specie("offline", "--name", "bob", "--json").json()["unsettled"]
    assert (one["amount"], one["risk"]) == (8, "EXPOSED")
    assert "8 settled" in specie("offline", "settle", "--name", "bob").text()
    assert "everything is settled" in specie("offline", "status", "--name", "bob").text()
    assert specie("offline", "policy", "--off", "--name", "bob", "--json").json() == {"policy": None}
