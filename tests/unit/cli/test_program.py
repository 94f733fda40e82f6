"""The program's shape: help, options everywhere, exit codes, and what it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from specie.cli import errors, program
from specie.cli.program import hoisted
from specie.ecash.codes import ProofsSpentError
from specie.kernel.errors import (
    InvariantError,
    MalformedError,
    PeerFaultError,
    RefusedError,
    UnavailableError,
    UncertainError,
)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (RefusedError("no"), "refused", 3),
        (MalformedError("no"), "refused", 3),
        (PeerFaultError("no", peer="x"), "peer_fault", 4),
        (UnavailableError("no"), "unavailable", 5),
        (UncertainError("no"), "uncertain", 6),
        (InvariantError("no"), "invariant", 70),
        (ValueError("no"), "invariant", 70),
        (errors.UsageError("no"), "usage", 2),
    ],
)
def test_the_exit_code_tells_what_to_do_next(error: Exception, kind: str, code: int) -> None:
    """Each branch of the error tree has its own exit code; what nobody foresaw counts as our own fault."""
    assert (errors.kind_of(error), errors.exit_code(error)) == (kind, code)
    assert code in dict(errors.EXIT_CODES)


def test_facts_of_an_error_are_its_attributes() -> None:
    """Programs read attributes (code, peer, retry_after_s), never the sentence."""
    assert errors.error_facts(ProofsSpentError("spent"))["code"] == 11001
    assert errors.error_facts(UnavailableError("later", retry_after_s=7))["retry_after_s"] == 7
    assert errors.error_facts(PeerFaultError("bad", peer="http://m"))["peer"] == "http://m"


def test_an_unexpected_error_says_nothing_of_its_text() -> None:
    """The text of an exception nobody foresaw may hold anything, so it is not shown."""
    assert "hunter2" not in str(errors.error_facts(ValueError("hunter2")))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("wallet balance --name bob", "wallet balance --name bob"),
        ("wallet --name bob balance", "wallet balance --name bob"),
        ("wallet --name=bob --mint http://m send 21", "wallet send --name=bob --mint http://m 21"),
        ("wallet --help", "wallet --help"),
        ("wallet", "wallet"),
        ("up --port 0", "up --port 0"),
        ("mint --data /x quotes", "mint quotes --data /x"),
        ("wallet --keyring balance", "wallet balance --keyring"),
    ],
)
def test_options_of_a_group_may_stand_before_its_command(given: str, meant: str) -> None:
    """`specie wallet --name bob balance` is `specie wallet balance --name bob`."""
    assert hoisted(given.split()) == meant.split()


def test_help_reads_like_a_product(specie) -> None:  # type: ignore[no-untyped-def]
    """Every command with one line, grouped; examples and exit codes below."""
    ran = specie("--help")
    assert ran.code == 0
    for part in ("Run a bank", "Hold money", "Try it out", "specie wallet mint 100", "Exit codes", "uncertain"):
        assert part in ran.out
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "command", [["up"], ["mint"], ["mint", "keysets"], ["wallet"], ["demo"], ["demo", "crash"], ["config"]]
)
def test_every_command_has_help(specie, command) -> None:  # type: ignore[no-untyped-def]
    """`--help` works at each level and loads nothing that is missing."""
    ran = specie(*command, "--help")
    assert ran.code == 0
    assert "Usage: specie" in ran.out


def test_a_wrong_command_line_is_one_line_and_exit_code_2(specie) -> None:  # type: ignore[no-untyped-def]
    """A typing mistake is told with a way on, in text and as JSON."""
    ran = specie("wallt")
    assert ran.code == 2
    assert ran.out == ""
    assert "wallet" in ran.err
    assert "Traceback" not in ran.err
    ran = specie("up", "--json", "--nonsense")
    assert (ran.code, ran.error()["kind"]) == (2, "usage")


def test_an_unexpected_error_has_no_traceback_unless_asked_for(specie, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Bugs are told as bugs; --debug shows where."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("specie.cli.version.version_of", broken)
    ran = specie("version")
    assert ran.code == 70
    assert "Traceback" not in ran.err
    assert "ZeroDivisionError" in ran.err
    ran = specie("version", "--debug")
    assert ran.code == 70
    assert "Traceback" in ran.err


def test_of_tasks_side_by_side_the_first_error_is_told(specie, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A group of errors has the exit code of the first in it."""

    def broken(*_: object, **__: object) -> None:
        raise ExceptionGroup("tasks", [ExceptionGroup("inner", [UnavailableError("later")])])

    monkeypatch.setattr("specie.cli.version.version_of", broken)
    ran = specie("version", "--json")
    assert (ran.code, ran.error()["kind"]) == (5, "unavailable")


def test_version_is_told_to_people_and_programs(specie) -> None:  # type: ignore[no-untyped-def]
    """`specie version --json` is one JSON value."""
    assert specie("version", "--json").json()["specie"] == specie("--version").out.split()[1]


def test_interruption_has_its_own_exit_code(specie, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Ctrl-C ends with 130, as shells expect."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("specie.cli.version.version_of", interrupted)
    assert specie("version").code == program.INTERRUPTED == 130


def _loaded(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_help_loads_no_engine() -> None:
    """`specie --help` is fast because it knows nothing of servers, stores or networks."""
    loaded = _loaded("from specie.cli.program import run\nrun(['--help'])")
    for module in ("starlette", "uvicorn", "httpx2", "apsw", "asyncpg", "specie.mint", "specie.wallet", "cryptography"):
        assert module not in loaded


def test_the_wallet_command_loads_no_server() -> None:
    """A wallet is at hand without the web framework, the mint or the bank."""
    loaded = _loaded("from specie.cli.program import run\nrun(['wallet', '--help'])")
    for module in ("starlette", "uvicorn", "specie.server", "specie.mint", "specie.app.bank", "prometheus_client"):
        assert module not in loaded
