"""What the guides print can be pasted: programs run, command lines parse, settings load, backups come back."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from specie.cli.program import app, hoisted
from specie.ops.config import load_settings
from tests.support.postgres import PrivatePostgres
from tests.support.programs import SPECIE, RunningBank, home_environment, running_bank
from tests.support.rocks import needs_rocksdb
from tests.support.softhsm import token_store

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HERE = "http://127.0.0.1:3338"
THERE = "http://127.0.0.1:3339"
PORT = "8391"
"""Where programs of the guides listen."""
SDK = ["guides/sdk.md", *(f"guides/{path.name}" for path in sorted((DOCS / "guides").glob("sdk-*.md")))]
FUNCTION = f'specie() {{ {shlex.join(SPECIE)} "$@"; }}\n'


def _blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def _examples() -> list[tuple[str, str, str]]:
    """Each program of the SDK guides: its page, itself, and what it prints."""
    pattern = re.compile(r"^```python\n(.*?)^```\n(?:.*?\n)??```text\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(page, *found) for page in SDK for found in pattern.findall((DOCS / page).read_text())]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBank]:
    """One bank for all examples; its invoices pay themselves in a moment, but not at once."""
    with running_bank(tmp_path_factory.mktemp("bank"), "--autopay-delay", "1") as running:
        yield running


@pytest.fixture(scope="module")
def other_bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBank]:
    """A second one, for programs with money at several mints."""
    with running_bank(tmp_path_factory.mktemp("other"), "--autopay-delay", "1") as running:
        yield running


def test_every_program_of_the_sdk_guides_has_its_output() -> None:
    """No example escapes the test below."""
    assert len(SDK) == 5
    assert len(_examples()) == sum(len(_blocks(page, "python")) for page in SDK) > 10


@pytest.mark.e2e
@pytest.mark.parametrize("number", range(len(_examples())), ids=lambda number: f"{_examples()[number][0][7:-3]}-{number}")
def test_programs_of_the_sdk_guides_print_what_they_say(
    number: int, bank: RunningBank, other_bank: RunningBank, tmp_path: Path
) -> None:
    """Each example is a whole program that runs in a fresh home and prints the block below it."""
    _, program, printed = _examples()[number]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    program = program.replace(HERE, bank.url).replace(THERE, other_bank.url).replace(PORT, port)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=home_environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == (printed, "", 0)


@pytest.mark.e2e
def test_the_wallet_guide_works_as_pasted(tmp_path: Path) -> None:
    """Its commands, one after another in one shell; the bank elsewhere is left out, as there is none."""
    with running_bank(tmp_path, "--autopay-delay", "8") as bank:
        lines = "".join(_blocks("guides/wallet.md", "sh")).replace(HERE, bank.url)
        lines = re.sub(r"^.*mint\.example\.org.*\n", "", lines, flags=re.MULTILINE)
        lines = lines.replace("specie wallet restore", "specie wallet words > words.txt\nspecie wallet restore")
        # the guide's first token is received before it is told how to take one back: there, a fresh one
        lines = lines.replace('specie wallet reclaim "$token"', 'specie wallet reclaim "$(specie wallet send 1)"')
        lines = lines.replace("invoice 10 --name bob\n", "invoice 11 --name bob\n", 1)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", FUNCTION + lines],
            env=home_environment(tmp_path, SPECIE_WALLET_MINT_URL=bank.url),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "restored" in done.stdout
    assert (tmp_path / "wallet.backup").stat().st_mode & 0o077 == 0


@pytest.mark.e2e
def test_the_guide_to_a_safe_wallet_works_as_pasted(tmp_path: Path) -> None:
    """Its commands, one after another, on a wallet with money in it; and its program prints what it says."""
    ((program, printed),) = re.findall(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", (DOCS / "guides/wallet-safety.md").read_text(), re.DOTALL | re.MULTILINE
    )
    with running_bank(tmp_path, "--autopay-delay", "0.3") as bank:
        lines = "specie wallet mint 40\n" + "".join(_blocks("guides/wallet-safety.md", "sh"))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", FUNCTION + lines],
            env=home_environment(tmp_path, SPECIE_WALLET_MINT_URL=bank.url),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "backup taken up" in done.stdout
    assert "coins encrypted at rest" in done.stdout
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == (printed, "", 0)


@pytest.mark.e2e
def test_the_guide_to_drafts_works_as_pasted(tmp_path: Path) -> None:
    """Its commands for operator and holder, at a bank with both drafts switched on by the variables it names."""
    starting, *blocks = _blocks("guides/liabilities.md", "sh")
    variables, command = starting.strip().rsplit(" specie ", 1)
    assert command == "up"
    switches = dict(variable.split("=", 1) for variable in variables.split())
    (tmp_path / "evidence.json").write_text("{}")
    lines = "".join(blocks)
    asked = re.search(r"specie mint prove (\w+)", lines)
    assert asked is not None
    environment = home_environment(tmp_path, **switches)
    with running_bank(tmp_path, "--autopay-delay", "0.2", environment=environment) as bank:
        lines = lines.replace(asked[0], f"{asked[0]} || test $? = 3")  # no such coin is in this bank's log
        lines = re.sub(r"(\|\| test \$\? = 3) (> answer\.json)", r"\2 \1", lines)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", FUNCTION + "specie wallet mint 10\n" + lines],
            env=environment | {"SPECIE_WALLET_MINT_URL": bank.url},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agree with all leaves" in done.stdout
    assert "it holds" in done.stdout
    assert "it does not show what it says" in done.stdout


@pytest.mark.e2e
def test_the_guide_to_keys_in_an_hsm_works_as_pasted(tmp_path: Path) -> None:
    """SoftHSM2 from nothing to a trial of its token; only the installation is left out."""
    module, _ = token_store()
    blocks = [block.replace("/usr/lib/softhsm/libsofthsm2.so", str(module)) for block in _blocks("guides/hsm.md", "sh")]
    others = ("apt-get", "SPECIE_KEYS", "rotate")
    setting_up = "".join(block for block in blocks if not any(word in block for word in others))
    starting, rotating = (next(block for block in blocks if word in block) for word in ("SPECIE_KEYS", "rotate"))
    environment = home_environment(tmp_path)

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", FUNCTION + script],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "keys of a mint can live here" in run(setting_up)
    assert (tmp_path / "softhsm/pin").stat().st_mode & 0o077 == 0
    variables = starting.replace("~", str(tmp_path)).splitlines()[0].removeprefix("export ").split()
    environment |= dict(variable.split("=", 1) for variable in variables)
    environment["SOFTHSM2_CONF"] = str(tmp_path / "softhsm/softhsm2.conf")
    with running_bank(tmp_path, "--autopay-delay", "0.2", environment=environment) as bank:
        environment["SPECIE_WALLET_MINT_URL"] = bank.url
        run("specie wallet mint 20")
        assert "pkcs11" in run(rotating)
        run('specie wallet mint 30; specie wallet receive "$(specie wallet send 40)"')
        bank.stop()
    port = bank.url.rpartition(":")[2]
    with running_bank(tmp_path, "--autopay-delay", "0.2", environment=environment, port=port) as bank:
        told = run('specie wallet receive "$(specie wallet send 45)"; specie mint liabilities --verify')
        assert "agree with all history" in told


@pytest.mark.e2e
def test_a_backup_comes_back_as_the_operator_guide_says(tmp_path: Path) -> None:
    """Sealed by a passphrase made as told, copied while it runs, restored elsewhere, verified, started again."""
    blocks = _blocks("guides/operator.md", "sh")
    making = next(block for block in blocks if "head -c 32" in block).splitlines()[0]
    copying = next(block for block in blocks if "mint backup" in block)
    restoring = next(block for block in blocks if "/mnt/backup/bank.sqlite /srv" in block).splitlines()
    assert restoring[-1].startswith("specie up ")
    environment = home_environment(tmp_path, SPECIE_WALLET_PASSPHRASE="customer")

    def run(script: str, *more: str) -> str:
        for written, here in (("/mnt/backup", tmp_path / "backup"), ("/srv/bank", tmp_path / "new")):
            script = script.replace(written, str(here))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", FUNCTION + script + " ".join(more)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (tmp_path / "backup").mkdir()
    run(making)
    old = tmp_path / "old"
    sealed = ("--passphrase-file", str(tmp_path / "passphrase"))
    with running_bank(tmp_path, "--data", str(old), "--autopay-delay", "0.2", *sealed, environment=environment) as bank:
        run(f"specie wallet mint 100 --mint {bank.url}")
        run(copying.rstrip("\n"), f" --data {old}")
        keysets = bank.facts["keysets"]
        bank.stop()
    told = run("\n".join(restoring[:-1]))
    assert "100 sat" in told
    assert "agree with all history" in told
    arguments = ("--data", str(tmp_path / "new"), "--autopay-delay", "0.2", *sealed)
    with running_bank(tmp_path, *arguments, environment=environment) as bank:
        assert bank.facts["keysets"] == keysets
        run(f"specie wallet mint 5 --name other --mint {bank.url}")


@needs_rocksdb
@pytest.mark.e2e
def test_a_bank_on_rocksdb_comes_back_as_the_operator_guide_says(tmp_path: Path) -> None:
    """Copied while it runs, put back elsewhere, verified by its own tool."""
    block = next(block for block in _blocks("guides/operator.md", "sh") if "bank.rocksdb" in block)
    making = next(block for block in _blocks("guides/operator.md", "sh") if "head -c 32" in block).splitlines()[0]
    environment = home_environment(tmp_path, SPECIE_WALLET_PASSPHRASE="customer")
    (tmp_path / "backup").mkdir()

    def run(script: str) -> str:
        script = script.replace("/mnt/backup", str(tmp_path / "backup")).replace("/srv", str(tmp_path))
        command = ["bash", "-euo", "pipefail", "-c", FUNCTION + script]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(making)
    arguments = ("--data", str(tmp_path / "bank"), "--store", "rocksdb", "--autopay-delay", "0.2")
    sealed = ("--passphrase-file", str(tmp_path / "passphrase"))
    with running_bank(tmp_path, *arguments, *sealed, environment=environment) as bank:
        assert bank.facts["store"] == "RocksDB"
        run(f"specie wallet mint 100 --mint {bank.url}")
        told = run(block)
    assert "100 sat" in told
    assert "agree with all history" in told


@pytest.mark.e2e
@pytest.mark.postgres
def test_processes_share_a_postgresql_and_a_dump_comes_back(
    tmp_path: Path, postgres_server: PrivatePostgres, postgres_dsn: str
) -> None:
    """As the operator guide says: the second process gets the seed file of the first; a dump restored elsewhere verifies."""
    blocks = _blocks("guides/operator.md", "sh")
    copying = [line for block in blocks if "/srv/two" in block for line in block.splitlines() if line.startswith("install")]
    dumping = next(block for block in blocks if "pg_dump" in block)
    assert len(copying) == 2
    restored = postgres_dsn + "_restored"
    postgres_server.sql(f"CREATE DATABASE {restored.rpartition('/')[2]}")
    environment = home_environment(tmp_path, PATH=f"{postgres_server.binaries}:{os.environ['PATH']}")

    def run(script: str) -> str:
        script = script.replace("postgresql://db.example.org/restored", restored).replace("/srv", str(tmp_path))
        script = script.replace("postgresql://db.example.org/bank", postgres_dsn)
        command = ["bash", "-euo", "pipefail", "-c", FUNCTION + script]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def place(name: str) -> tuple[str, ...]:
        return ("--database", postgres_dsn, "--data", str(tmp_path / name), "--autopay-delay", "0.2")

    with running_bank(tmp_path, *place("one"), environment=environment) as one:
        run("\n".join(copying))
        with running_bank(tmp_path, *place("two"), environment=environment) as two:
            assert one.facts["keysets"] == two.facts["keysets"]
            run(f"specie wallet mint 100 --mint {two.url}")
            run(dumping)
            assert one.stop() == two.stop() == 0
    assert "100 sat" in run(f"specie mint liabilities --verify --data {tmp_path / 'two'} --database {restored}")


def _command_lines() -> list[tuple[str, str]]:
    """Every command of ours in a shell block of a page."""
    found = []
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        if page.name == "cli.md":
            continue
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            inner = re.findall(r"\$\(([^()]*)\)", block)
            lines = re.sub(r"\"?\$\([^()]*\)\"?", "VALUE", block).splitlines() + inner
            parts = [part.strip() for line in lines for part in line.split("|")]
            found += [(page.name, part) for part in parts if re.match(r"(\./)?specie ", part)]
    return found


@pytest.mark.parametrize(("page", "line"), _command_lines())
def test_command_lines_of_the_guides_parse(page: str, line: str) -> None:
    """Commands and options that a page prints are ones that exist."""
    words = shlex.split(line.split(">")[0], comments=True)[1:]
    app.parse_args(hoisted(words), exit_on_error=False, print_error=False)


def test_commands_in_prose_exist() -> None:
    """`specie x y` within a sentence names a command or a group of commands."""
    known = {
        match.strip() for match in re.findall(r"^#+ (specie[\w -]*)$", (DOCS / "reference/cli.md").read_text(), re.MULTILINE)
    }
    unknown = []
    for page in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]:
        for told in re.findall(r"`(specie (?:[a-z]+ ?)+)", page.read_text()):
            if not any(told.strip() == name or told.startswith(name + " ") for name in known if name.count(" ") > 0):
                unknown.append((page.name, told))
    assert len(known) > 25
    assert unknown == []


def test_settings_of_the_operator_guide_load(tmp_path: Path) -> None:
    """Its pieces of TOML are settings files."""
    block, rails = _blocks("guides/operator.md", "toml")
    file = tmp_path / "bank.toml"
    file.write_text(rails)
    assert [rail.full_name for rail in load_settings(file, {}).rails] == ["play", "play-onchain", "play-bank-wire"]
    file.write_text(block)
    settings = load_settings(file, {})
    assert settings.mint.contact == (("email", "bank@example.org"),)
    assert settings.mint.input_fee_ppk == 100
    assert tomllib.loads(block)["data_dir"] == str(settings.data_dir)


def test_the_unit_file_starts_what_exists() -> None:
    """The systemd unit's command line parses, and its variables are settings."""
    (block,) = _blocks("guides/operator.md", "ini")
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read_string(block)
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/.venv/bin/specie")
    app.parse_args(words, exit_on_error=False, print_error=False)
    variables = dict(re.findall(r"^Environment=(\w+)=(.*)$", block, re.MULTILINE))
    settings = load_settings(Path(os.devnull), variables)
    assert str(settings.data_dir) == "/var/lib/specie/bank"
    assert settings.keys.passphrase_file is not None
