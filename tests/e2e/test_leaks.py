"""Canary secrets: known words, a passphrase, coins, quote ids and a preimage go through a bank and a wallet that fail in every
way, and are then looked for wherever they must not be: logs, errors, tracebacks, metrics, pages, crash dumps, process lists.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from specie.ecash import decode_token
from specie.kernel.hd import entropy_from_words, seed_from_words
from tests.support.programs import SPECIE, RunningBank, home_environment, running_bank

pytestmark = pytest.mark.e2e

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
PASSPHRASE = "canary passphrase 7Qd9mZ2x"
PREIMAGE = hashlib.sha256(b"canary preimage").digest()


class Canaries:
    """Texts that must not be seen, and the places that were looked at."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {
            "words": WORDS,
            "some words": "sausage worth useful",
            "entropy": entropy_from_words(WORDS).hex(),
            "seed": seed_from_words(WORDS).hex(),
            "passphrase": PASSPHRASE,
            "preimage": PREIMAGE.hex(),
        }
        self.looked = 0

    def add(self, name: str, texts: Iterable[str]) -> None:
        """Secrets learnt on the way: each at least 16 characters, so that nothing is found by chance."""
        for number, text in enumerate(texts):
            assert len(text) >= 16
            self.secrets[f"{name} {number}"] = text

    def absent(self, place: str, text: str) -> None:
        """None of them stands in `text`, whole or in capitals."""
        self.looked += 1
        lowered = text.lower()
        found = [name for name, secret in self.secrets.items() if secret.lower() in lowered]
        assert not found, f"{place} shows {found}"


class Person:
    """Somebody at a terminal: every command's line, errors and, where it is no answer, output are looked at."""

    def __init__(self, home: Path, bank: RunningBank, canaries: Canaries) -> None:
        self.environment = home_environment(home, SPECIE_WALLET_MINT_URL=bank.url, COLUMNS="200", NO_COLOR="1")
        self.canaries = canaries
        self.home = home

    def run(self, *arguments: str, stdin: str = "") -> tuple[int, str]:
        process = subprocess.Popen(
            [*SPECIE, *arguments, "--debug"],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
        )
        out, err = process.communicate(stdin, timeout=120)
        self.canaries.absent(f"stderr of {arguments[:3]}", err)
        return process.returncode, out

    def coins(self) -> list[str]:
        """Secrets of every coin the wallet ever had, and the ids of its quotes."""
        return [text for path in self.home.rglob("wallet.db") for text in self._secrets(path)]

    def _secrets(self, path: Path) -> list[str]:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as base:
            names = [row[0] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found: list[str] = []
            for table in names:
                columns = [row[1] for row in base.execute(f"PRAGMA table_info({table})")]
                for column in set(columns) & {"secret", "quote"}:
                    found += [row[0] for row in base.execute(f"SELECT {column} FROM {table}") if row[0]]
        base.close()
        return [text for text in found if isinstance(text, str) and len(text) >= 16]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBank]:
    """A bank sealed with a passphrase from a file, telling everything it ever tells."""
    home = tmp_path_factory.mktemp("bank")
    (home / "passphrase").write_text(PASSPHRASE + "\n")
    (home / "passphrase").chmod(0o600)
    (home / "bank.toml").write_text(
        f'[keys]\nsealing = "passphrase"\npassphrase_file = "{home}/passphrase"\n[log]\nlevel = "debug"\nformat = "json"\n'
    )
    environment = home_environment(home, PYTHONFAULTHANDLER="1")
    with running_bank(home, "--config", str(home / "bank.toml"), "--autopay-delay", "0.1", environment=environment) as running:
        yield running


def _get(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def _post(url: str, body: object) -> str:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def _process_lists() -> str:
    """What every user of the machine may read of our processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if "specie" in text:
            found.append(text)
    return "\n".join(found)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_secrets_stay_where_they_belong(bank: RunningBank, tmp_path: Path) -> None:
    """A life with money and mistakes; then everything anybody could read is read."""
    canaries = Canaries()
    alice = Person(tmp_path, bank, canaries)
    assert alice.run("wallet", "restore", stdin=WORDS + "\n")[0] == 0
    assert alice.run("wallet", "mint", "200")[0] == 0
    token = alice.run("wallet", "send", "21", "--json")[1]
    text = json.loads(token)["token"]
    hash_ = hashlib.sha256(PREIMAGE).hexdigest()
    locked = json.loads(alice.run("wallet", "send", "5", "--htlc", hash_, "--json")[1])["token"]
    canaries.add("token", [text, locked])
    canaries.add("coin", [proof.secret for proof in decode_token(text).proofs])

    listed = _process_lists()
    assert "specie" in listed
    canaries.absent("the process list", listed)

    # mistakes: twice, tampered with, wrong words, wrong preimage, a bank that is away, an invoice that is none
    assert alice.run("wallet", "receive", "-", "--name", "bob", stdin=text)[0] == 0
    assert alice.run("wallet", "receive", "-", "--name", "bob", stdin=text)[0] != 0
    assert alice.run("wallet", "receive", "-", "--name", "bob", stdin=text[:-9] + "AAAAAAAAA")[0] != 0
    assert alice.run("wallet", "receive", "-", "--name", "bob", stdin=locked)[0] != 0
    assert alice.run("wallet", "restore", "--name", "carol", stdin=WORDS + " zoo\n")[0] != 0
    assert alice.run("wallet", "restore", "--name", "carol", stdin=WORDS.replace("yellow", "zoo") + "\n")[0] != 0
    assert alice.run("wallet", "receive", "-", "--name", "bob", "--preimage", PREIMAGE.hex(), stdin=locked)[0] == 0
    assert alice.run("wallet", "pay", "-", stdin=text)[0] != 0

    coins = alice.coins()
    assert len(coins) > 5
    canaries.add("kept", coins)
    proofs = [{"amount": 1, "id": "00ad268c4d1f5826", "secret": coins[0], "C": "02" + "11" * 32}]
    for path, body in (
        ("/v1/swap", {"inputs": proofs, "outputs": []}),
        ("/v1/swap", {"inputs": proofs * 2, "outputs": "x"}),
        ("/v1/mint/bolt11", {"quote": coins[-1], "outputs": []}),
        ("/v1/mint/bolt11", {"quote": coins[-1], "outputs": [], "signature": 7}),
        ("/v1/checkstate", {"Ys": [coins[0]]}),
        ("/v1/melt/quote/bolt11", {"unit": "sat", "request": text}),
    ):
        canaries.absent(f"the answer of {path}", _post(bank.url + path, body))
    for path in ("/", "/status.json", "/healthz", "/metrics", "/v1/info", "/nothing", f"/v1/keys/{coins[0]}"):
        canaries.absent(path[:10], _get(bank.url + path))

    # a crash: the fault handler writes the stacks of all threads, the kernel no core
    limits = Path(f"/proc/{bank.process.pid}/limits").read_text()
    assert [line.split()[-3:-1] for line in limits.splitlines() if line.startswith("Max core file size")] == [["0", "0"]]
    before = set(Path(bank.log.parent).rglob("core*"))
    bank.process.send_signal(signal.SIGABRT)
    assert bank.process.wait(20) == -signal.SIGABRT
    time.sleep(0.1)
    assert set(Path(bank.log.parent).rglob("core*")) == before
    log = bank.log.read_text()
    assert "Fatal Python error" in log
    canaries.absent("the bank's log and crash report", log)
    assert alice.run("wallet", "send", "63")[0] != 0
    assert alice.run("wallet", "pending")[0] == 0
    assert canaries.looked > 25


def test_no_picture_of_memory_is_written(tmp_path: Path) -> None:
    """A process that forbade dumps has no core file, and says so to the kernel."""
    program = (
        "from specie.app.system import forbid_memory_dumps; forbid_memory_dumps()\n"
        "import ctypes, resource, os, sys\n"
        "dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) if sys.platform == 'linux' else 0\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), dumpable)\n"
        "os.abort()"
    )
    resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=60, env=os.environ
    )
    assert done.returncode == -signal.SIGABRT
    assert done.stdout.split() == ["(0,", "0)", "0"]
    assert list(tmp_path.iterdir()) == []
