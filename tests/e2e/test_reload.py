"""A bank as a process takes other settings while it is asked: no request fails, and a bad file changes nothing."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import SPECIE, home_environment, running_bank

pytestmark = pytest.mark.e2e

BASE = '[mint]\nname = "one"\n[reload]\nwatch_s = 0\n'


def _specie(home: Path, *arguments: str, code: int = 0) -> Any:
    done = subprocess.run(
        [*SPECIE, *arguments, "--json"], env=home_environment(home), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout or done.stderr.splitlines()[-1])


def _post(url: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def _info(url: str) -> Any:
    with urllib.request.urlopen(f"{url}/v1/info", timeout=20) as answer:
        return json.loads(answer.read())


def _until(done: Any, what: str) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@dataclass
class Load:
    """What came of requests that were made all the while."""

    answers: int = 0
    failed: list[object] = field(default_factory=list)


@contextlib.contextmanager
def _load(url: str) -> Iterator[Load]:
    """Two threads that ask for quotes and info until the end of the block."""
    load, stop = Load(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                status, body = _post(f"{url}/v1/mint/quote/bolt11", {"amount": 8, "unit": "sat"})
                if status != 200 or "name" not in _info(url):
                    load.failed.append((status, body))
            except Exception as error:  # whatever it is, it is a request that failed
                load.failed.append(error)
            load.answers += 1

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_limits_and_fees_change_under_load_and_nothing_fails(tmp_path: Path) -> None:
    """By command, signal and watch: a rate limit and a fee bound, with requests all the while; a bad file changes nothing."""
    file = tmp_path / "bank.toml"
    file.write_text(BASE)
    with running_bank(tmp_path, "--config", str(file)) as bank:
        with _load(bank.url) as load:
            for number in range(2, 6):
                text = BASE + f"[server.rate]\nrequests_per_minute = {number}000\n"
                file.write_text(text.replace('"one"', f'"bank {number}"\nfee_limit_ppm = {number}\nmelt_max = 1000'))
                if number % 2:
                    made = _specie(tmp_path, "config", "apply", "--config", str(file))
                    assert (made["number"], made["outcome"]) == (number, "applied")
                else:
                    bank.process.send_signal(signal.SIGHUP)
                    _until(lambda n=number: _info(bank.url)["name"] == f"bank {n}", "the signal was not followed")  # type: ignore[misc]
            good = file.read_text()
            file.write_text(good.replace("1000", "oops"))
            error = _specie(tmp_path, "config", "apply", "--config", str(file), code=3)["error"]
            assert str(file) in error["detail"]
            file.write_text(good + "[store]\nwriters = 7\n")
            error = _specie(tmp_path, "config", "apply", "--config", str(file), code=3)["error"]
            assert "store.writers needs a restart" in error["detail"]
            assert _info(bank.url)["name"] == "bank 5"
            assert json.loads(urllib.request.urlopen(f"{bank.url}/healthz", timeout=10).read())["state"] == "degraded"
        assert load.failed == []
        assert load.answers > 20
        outcomes = [item["outcome"] for item in _specie(tmp_path, "config", "history", "--config", str(file))["revisions"]]
        assert outcomes == ["refused", "refused", *["applied"] * 5]
        assert _info(bank.url)["nuts"]["5"]["methods"][0]["max_amount"] == 1000


def test_a_rate_limit_is_felt_at_once_and_rolled_back(tmp_path: Path) -> None:
    """A limit for this machine too: the next requests are told to come back; a rollback lets them in, and the file says so."""
    file = tmp_path / "bank.toml"
    file.write_text(BASE)
    with running_bank(tmp_path, "--config", str(file)) as bank:
        quote = {"amount": 8, "unit": "sat"}
        url = f"{bank.url}/v1/mint/quote/bolt11"
        assert [_post(url, quote)[0] for _ in range(5)] == [200] * 5
        tight = "[server.rate]\nquotes_per_minute = 1\nquote_burst = 2\nlimit_loopback = true\n"
        file.write_text(BASE + tight)
        before = file.read_text()
        assert {item["key"] for item in _specie(tmp_path, "config", "diff", "--config", str(file))["changes"]} == {
            "server.rate.quotes_per_minute",
            "server.rate.quote_burst",
            "server.rate.limit_loopback",
        }
        told = _specie(tmp_path, "config", "check", str(file))
        assert told["running"]["restart"] == []
        _specie(tmp_path, "config", "apply", "--config", str(file))
        assert [_post(url, quote)[0] for _ in range(4)] == [200, 200, 429, 429]
        made = _specie(tmp_path, "config", "rollback", "1", "--config", str(file))
        assert made["number"] == 3
        assert [_post(url, quote)[0] for _ in range(4)] == [200] * 4
        assert [copy.read_text() for copy in tmp_path.glob("*.bak")] == [before]
        assert "quotes_per_minute" not in file.read_text()
        bank.stop(signal.SIGKILL)
    with running_bank(tmp_path, "--config", str(file)) as bank:
        revisions = _specie(tmp_path, "config", "history", "--config", str(file))["revisions"]
        assert [item["number"] for item in revisions] == [3, 2, 1]
        assert [_post(f"{bank.url}/v1/mint/quote/bolt11", quote)[0] for _ in range(4)] == [200] * 4


def test_a_watched_file_is_taken_and_a_broken_one_can_be_left(tmp_path: Path) -> None:
    """The watch takes a file that rests; where it is broken, history and rollback still find the bank."""
    file = tmp_path / "bank.toml"
    file.write_text(f'data_dir = "{tmp_path / "books"}"\n[mint]\nname = "one"\n[reload]\nwatch_s = 0.1\n')
    with running_bank(tmp_path, "--config", str(file)) as bank:
        file.write_text(file.read_text().replace('"one"', '"two"'))
        _until(lambda: _info(bank.url)["name"] == "two", "the file was not seen")
        file.write_text(file.read_text() + "[server]\nport = 'x'\n")

        def refused() -> bool:
            found = _specie(tmp_path, "config", "history", "--config", str(file))["revisions"]
            return bool(found[0]["outcome"] == "refused" and found[0]["author"] == "file watch")

        _until(refused, "the broken file was not told")
        _specie(tmp_path, "config", "rollback", "2", "--config", str(file))
        assert _specie(tmp_path, "config", "check", str(file))["running"]["changes"] == []
        assert _info(bank.url)["name"] == "two"
        shown = _specie(tmp_path, "config", "show", "1", "--config", str(file))
        assert 'name = "one"' in shown["toml"]


@pytest.mark.parametrize("pause_s", [0.0, 0.002, 0.005, 0.01, 0.02])
def test_killed_while_settings_are_taken_the_file_and_history_are_sound(tmp_path: Path, pause_s: float) -> None:
    """SIGKILL at some moment of a rollback: the file is one of the two, whole, and the next start runs it."""
    file = tmp_path / "bank.toml"
    file.write_text(BASE)
    two = BASE.replace('"one"', '"two"')
    with running_bank(tmp_path, "--config", str(file)) as bank:
        file.write_text(two)
        _specie(tmp_path, "config", "apply", "--config", str(file))
        asked = subprocess.Popen(
            [*SPECIE, "config", "rollback", "1", "--config", str(file)],
            env=home_environment(tmp_path),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _until(lambda: '"/config/rollback"' in bank.log.read_text() or asked.poll() is not None, "it was never asked")
        time.sleep(pause_s)
        bank.stop(signal.SIGKILL)
        asked.wait(30)
    name = "two" if file.read_text() == two else "one"
    with running_bank(tmp_path, "--config", str(file)) as bank:
        assert _info(bank.url)["name"] == name
        newest = _specie(tmp_path, "config", "history", "--config", str(file))["revisions"]
        assert [item["number"] for item in newest] == list(range(len(newest), 0, -1))
        assert {item["outcome"] for item in newest} == {"applied"}
        assert _specie(tmp_path, "config", "show", "--config", str(file))["settings"]["mint.name"] == f'"{name}"'


def test_a_secret_by_reference_is_nowhere_else(tmp_path: Path) -> None:
    """A passphrase in a file opens the keys at each start; store, logs, history and answers have the reference alone."""
    canary = "canary passphrase 5Rk2pW8v"
    secret = tmp_path / "passphrase"
    secret.write_text(canary + "\n")
    secret.chmod(0o600)
    file = tmp_path / "bank.toml"
    file.write_text(BASE + '[keys]\npassphrase = "file:passphrase"\n[log]\nlevel = "debug"\n')
    told = []
    for number in range(2):
        with running_bank(tmp_path, "--config", str(file)) as bank:
            assert (bank.facts["sealing"], bank.facts["created"]) == ("environment", not number)
            file.write_text(file.read_text().replace('"one"', '"two"'))
            told.append(_specie(tmp_path, "config", "apply", "--config", str(file)))
            for words in (("history",), ("diff", "1"), ("show",), ("show", "1"), ("check",)):
                told.append(_specie(tmp_path, "config", *words, "--config", str(file)))
            secret.chmod(0o644)
            assert "mode 644" in _specie(tmp_path, "config", "apply", "--config", str(file), code=3)["error"]["detail"]
            assert "mode 644" in _specie(tmp_path, "config", "check", str(file), code=3)["error"]["detail"]
            secret.chmod(0o600)
            assert bank.stop() == 0, number
    assert f"file:{secret}" in json.dumps(told)
    assert canary not in json.dumps(told)
    looked = [path for path in tmp_path.rglob("*") if path.is_file() and path != secret]
    assert any(path.name == "bank.sqlite" for path in looked)
    for path in looked:
        assert canary.encode() not in path.read_bytes(), path


@pytest.mark.postgres
def test_several_workers_are_replaced_and_take_no_file_while_they_run(tmp_path: Path, postgres_dsn: str) -> None:
    """Applying is refused with the way that there is; a restart takes the file, and the history has it."""
    secret = tmp_path / "dsn"
    secret.write_text(postgres_dsn)
    secret.chmod(0o600)
    file = tmp_path / "bank.toml"
    file.write_text(BASE + '[store]\ndsn = "file:dsn"\n[server]\nworkers = 2\n')
    with running_bank(tmp_path, "--config", str(file)) as bank:
        file.write_text(file.read_text().replace('"one"', '"two"'))
        error = _specie(tmp_path, "config", "apply", "--config", str(file), code=3)["error"]
        assert "specie mint restart" in error["detail"]
        assert {item["key"] for item in _specie(tmp_path, "config", "diff", "--config", str(file))["changes"]} >= {"mint.name"}
        _specie(tmp_path, "mint", "restart", "--config", str(file))
        assert _info(bank.url)["name"] == "two"
        revisions = _specie(tmp_path, "config", "history", "--config", str(file))["revisions"]
        assert [change["key"] for change in revisions[0]["changes"]] == ["mint.name"]
        assert {item["author"] for item in revisions} == {"start"}
        assert postgres_dsn not in json.dumps(_specie(tmp_path, "config", "show", "--config", str(file)))
