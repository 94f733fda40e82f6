"""Mints looked after by themselves, against two real banks of which one is killed: by a program that stays, and by commands."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import SPECIE, RunningBank, home_environment, running_bank

pytestmark = pytest.mark.e2e
PATIENCE_S = 60
POLICY = ("--move", "--failures", "2", "--silent-hours", "0", "--every", "1")


class Mortal:
    """A bank that can be killed, and started again at the same address with the same books."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stack: Any = running_bank(home, "--autopay-delay", "0.3")
        self.bank: RunningBank = self._stack.__enter__()

    def kill(self) -> None:
        self.bank.stop(signal.SIGKILL)
        self._stack.__exit__(None, None, None)

    def start(self) -> None:
        port = str(self.bank.facts["port"])
        self._stack = running_bank(self._home, "--autopay-delay", "0.3", port=port)
        self.bank = self._stack.__enter__()

    def end(self) -> None:
        self._stack.__exit__(None, None, None)


@pytest.fixture
def banks(tmp_path: Path) -> Iterator[tuple[Mortal, Mortal]]:
    """Two banks; their invoices pay themselves after 0.3 s."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = Mortal(tmp_path / "one")
    try:
        two = Mortal(tmp_path / "two")
        try:
            yield one, two
        finally:
            two.end()
    finally:
        one.end()


Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ask(banks: tuple[Mortal, Mortal], tmp_path: Path) -> Ask:
    """Runs `specie wallet` in a process of its own; its wallet trusts both banks and has 1000 sat at the first."""
    environment = home_environment(tmp_path, SPECIE_WALLET_MINT_URL=banks[0].bank.url, COLUMNS="200")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*SPECIE, "wallet", *arguments], env=environment, capture_output=True, text=True, timeout=120, check=True
        )

    call("mint", "1000")
    call("mints", "add", banks[1].bank.url)
    return call


def _held(ask: Ask, url: str) -> int:
    told = json.loads(ask("mints", "health", "--json").stdout)["mints"]
    return sum(held["available"] for one in told if one["mint"] == url for held in one["held"])


def test_a_program_that_watches_empties_a_mint_that_was_gone(banks: tuple[Mortal, Mortal], ask: Ask, tmp_path: Path) -> None:
    """Killed: the mint is given up, its money still there. Back: its money moves at once. SIGTERM: exit code 0."""
    here, there = banks[0].bank.url, banks[1].bank.url
    ask("mints", "policy", *POLICY)
    watching = subprocess.Popen(
        [*SPECIE, "wallet", "mints", "watch", "--json"],
        env=home_environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        assert watching.stdout is not None
        for line in watching.stdout:
            lines.put(json.loads(line))

    reader = threading.Thread(target=read)
    reader.start()

    def wait_for(seen: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE_S
        while True:
            found = lines.get(timeout=max(until - time.monotonic(), 0.01))
            if found["mint"] == here and seen(found):
                return found

    try:
        assert not wait_for(lambda one: not one["failures"])["leaving"]
        banks[0].kill()
        given_up = wait_for(lambda one: one["departure"])
        assert given_up["leaving"]
        assert given_up["failures"] >= 2
        assert given_up["departure"]["transfers"] == []
        assert [one["available"] for one in given_up["held"]] == [1000]
        banks[0].start()
        left = wait_for(lambda one: one["departure"] and one["departure"]["transfers"])
        assert {one["state"] for one in left["departure"]["transfers"]} <= {"DONE", "PAYING", "PAID"}
        watching.send_signal(signal.SIGTERM)
        assert watching.wait(30) == 0
    finally:
        if watching.poll() is None:
            os.kill(watching.pid, signal.SIGKILL)
            watching.wait(10)
        reader.join(10)
        for pipe in (watching.stdout, watching.stderr):
            if pipe is not None:
                pipe.close()
    ask("resume")
    assert _held(ask, there) > 950
    assert _held(ask, here) < 50


def test_any_command_empties_a_mint_that_is_back(banks: tuple[Mortal, Mortal], ask: Ask) -> None:
    """A command answers what it was asked, and then looks after the mints: it says what it gave up, and what it moved."""
    here, there = banks[0].bank.url, banks[1].bank.url
    shown = json.loads(ask("mints", "policy", "--json").stdout)
    assert shown == {"policy": None}
    assert "advice only" in ask("mints", "policy").stdout
    shown = json.loads(ask("mints", "policy", *POLICY, "--to", there, "--max-cost", "10", "--json").stdout)["policy"]
    assert (shown["move"], shown["destinations"], shown["cost_ppm"], shown["every_s"]) == (True, [there], 100_000, 1)
    assert "moves" in ask("mints", "policy").stdout

    def until(word: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            told = ask("balance")
            assert "sat" in told.stdout
            if word in told.stderr:
                return
        pytest.fail(f"no command said: {word}")

    banks[0].kill()
    until("its money moves once it does")
    assert _held(ask, here) == 1000
    banks[0].start()
    until("✓")
    ask("resume")
    assert _held(ask, there) > 950
    assert "is being left" in ask("mints", "health").stdout
    assert json.loads(ask("mints", "policy", "--off", "--json").stdout) == {"policy": None}
