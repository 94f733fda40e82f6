"""Settings come from four places in a fixed order, and everything wrong is told with its place."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from specie.ops import config
from specie.ops.config import example_toml, load_settings
from specie.ops.errors import SettingsError
from specie.ops.secret import Secret
from specie.ops.settings import BankSettings, LogFormat, RailKind, SealingSource, is_loopback


@pytest.fixture(autouse=True)
def _no_user_file(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "default_config_file", lambda: tmp_path / "absent.toml")


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "bank.toml"
    file.write_text(text)
    return file


def problems(tmp_path: Path, text: str = "", environ=None, overrides=None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, text), environ, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_defaults_are_a_play_bank_on_loopback():
    """Nothing given: port 3338 on loopback, a play rail for each method, SQLite in the data directory."""
    settings = load_settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 3338)
    assert [rail.full_name for rail in settings.rails] == ["play", "play-bolt12", "play-onchain"]
    assert {rail.kind for rail in settings.rails} == {RailKind.PLAY}
    assert settings.play
    assert settings.store_path == settings.data_dir / "bank.sqlite"
    assert settings.admin_socket.parent == settings.data_dir
    assert settings.data_dir.name == "bank"
    assert settings.limits is settings.mint.limits


def test_a_file_is_read_and_its_paths_are_relative_to_it(tmp_path):
    """Every kind of value: text, number, list, pairs, path, array of tables."""
    text = """
    data_dir = "books"
    [server]
    port = 4000
    trusted_proxies = ["10.0.0.0/8"]
    [server.rate]
    burst = 7
    [mint]
    name = "Corner bank"
    contact = [["email", "bank@example.org"]]
    mint_max = 18446744073709551615
    [mint.limits]
    array_length = 64
    [log]
    format = "json"
    [[rails]]
    kind = "play"
    autopay_delay_s = 2
    """
    settings = load_settings(write(tmp_path, text))
    assert settings.data_dir == tmp_path / "books"
    assert settings.server.port == 4000
    assert settings.server.rate.burst == 7
    assert settings.server.trusted_proxies == ("10.0.0.0/8",)
    assert settings.mint.name == "Corner bank"
    assert settings.mint.contact == (("email", "bank@example.org"),)
    assert settings.mint.mint_max == 2**64 - 1
    assert settings.limits.array_length == 64
    assert settings.log.format is LogFormat.JSON
    assert settings.rails[0].autopay_delay_s == 2.0


def test_environment_wins_over_file_and_command_line_over_both(tmp_path):
    """Order of the sources; None on the command line means not given."""
    file = write(tmp_path, "[server]\nport = 1\nhost = '127.0.0.2'\n[log]\nlevel = 'debug'")
    environ = {"SPECIE_SERVER_PORT": "2", "SPECIE_SERVER_HOST": "127.0.0.3", "HOME": "/x"}
    settings = load_settings(file, environ, {"server.port": 3, "server.host": None})
    assert settings.server.port == 3
    assert settings.server.host == "127.0.0.3"
    assert settings.log.level.value == "debug"


def test_environment_text_becomes_every_type(tmp_path):
    """Booleans, lists, nested names, optional paths and secrets from text."""
    environ = {
        "SPECIE_CONFIG": str(write(tmp_path, "")),
        "SPECIE_MINT_UNITS": "sat, msat",
        "SPECIE_MINT_URLS": '["https://a.example", "https://b.example"]',
        "SPECIE_MINT_MINTING": "off",
        "SPECIE_MINT_LIMITS_BODY_BYTES": "1_000",
        "SPECIE_MINT_PAY_DEADLINE_S": "1.5",
        "SPECIE_STORE_PATH": "",
        "SPECIE_RAILS": '[{kind = "play", autopay = false}]',
        "SPECIE_STORE_DSN": "postgresql://u:hunter2@h/d",
        "SPECIE_PASSPHRASE": "hunter3",
        "SPECIE_WALLET_NAME": "belongs to the wallet",
    }
    settings = load_settings(environ=environ)
    assert settings.mint.units == ("sat", "msat")
    assert settings.mint.urls == ("https://a.example", "https://b.example")
    assert settings.mint.minting is False
    assert settings.limits.body_bytes == 1000
    assert settings.mint.pay_deadline_s == 1.5
    assert settings.store.path is None
    assert settings.rails[0].autopay is False
    assert settings.store.dsn is not None
    assert settings.store.dsn.reveal().endswith("@h/d")
    assert settings.keys.passphrase is not None
    assert "hunter" not in repr(settings)


def test_unknown_keys_are_refused_with_the_nearest_name(tmp_path):
    """A misspelt key, section and variable each name what was probably meant."""
    found = problems(tmp_path, "[server]\nprot = 1\n[mnt]\nname = 'x'", {"SPECIE_SERVER_PROT": "1", "SPECIE_ZZZZZZZZ": "1"})
    assert any("server.prot: unknown key" in line and '"port"' in line and "bank.toml" in line for line in found)
    assert any("mnt: unknown key" in line and '"mint"' in line for line in found)
    assert any(line.startswith("SPECIE_SERVER_PROT") and '"SPECIE_SERVER_PORT"' in line for line in found)
    assert any("SPECIE_ZZZZZZZZ" in line for line in found)
    assert len(found) == 4


def test_unknown_keys_in_a_rail_are_refused(tmp_path):
    """Tables in a list are checked as deeply as sections."""
    assert '"autopay"' in problems(tmp_path, "[[rails]]\nautopya = true")[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[server]\nport = 70000", "server.port: expected an integer from 0 to 65,535, not 70000"),
        ("[server]\nport = '80'", "server.port: expected an integer"),
        ("[server]\nport = true", "server.port: expected an integer"),
        ("[server]\nport = 80.5", "server.port: expected an integer"),
        ("[server]\ndrain_s = nan", "server.drain_s: expected a number"),
        ("[server]\nhost = 7", "server.host: expected text"),
        ("[server]\nallow_play_on_network = 1", "expected true or false"),
        ("[server]\ntrusted_proxies = 'x'", "expected a list"),
        ("[server]\ntrusted_proxies = ['nonsense']", "is no address or network"),
        ("[server]\npublic_url = 'ftp://x'", "must begin with http"),
        ("server = 7", "is a section"),
        ("data_dir = ''", "expected a path"),
        ("[mint]\ncontact = [['email']]", "expected 2 values"),
        ("[mint]\nunits = ['eur']", "is not issued here"),
        ("[mint]\nmint_min = 5\nmint_max = 4", "mint: mint_min and mint_max"),
        ("[log]\nlevel = 'loud'", "expected one of debug, info, warning, error"),
        ("[[rails]]\nkind = 'gold'", "kind: expected one of play"),
        ("rails = ['play']", "expected a table"),
        ("rails = []", "at least one rail"),
        ("[[rails]]\nkind='play'\n[[rails]]\nkind='play'", "names must differ"),
        ("[[rails]]\nkind='play'\n[[rails]]\nname='other'", "each serves another method"),
        ("[[rails]]\nmethod='quote'", "cannot be a payment method"),
        ("[[rails]]\nmethod='Bank Wire'", "cannot be a payment method"),
        ("[keys]\npassphrase = 'x'", "does not belong in a file"),
        ("[keys]\nsealing = 'passphrase'", "needs keys.passphrase_file"),
        ("[keys]\nsealing = 'keyring'\npassphrase_file = 'x'", "which one is meant"),
        ("[store]\ndsn = 'mysql://x'", "must begin with postgresql"),
        ("[store]\ndsn = 5", "expected text"),
        ("[store]\ndsn = 'postgresql://x'\npath = 'y'", "one store"),
        ("[server\nport = 1", "Expected ']'"),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path, text, reason):
    """Each bad value is told with file and key, and what would be right."""
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert reason in found[0]
    assert found[0].startswith(str(tmp_path / "bank.toml")) or "defaults" in found[0]


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        (
            {"SPECIE_SERVER_PORT": "eighty"},
            "SPECIE_SERVER_PORT: server.port: expected an integer from 0 to 65,535, not 'eighty'",
        ),
        ({"SPECIE_MINT_MINTING": "maybe"}, "expected true or false, not 'maybe'"),
        ({"SPECIE_RAILS": "[{"}, "is no TOML list"),
        ({"SPECIE_PASSPHRASE": "a", "SPECIE_PASSPHRASE_FILE": "b"}, "which one is meant"),
    ],
)
def test_bad_variables_are_named(tmp_path, environ, reason):
    """The variable's name stands where the file's would."""
    assert reason in problems(tmp_path, "", environ)[0]


def test_all_problems_are_told_at_once(tmp_path):
    """Three mistakes, one start."""
    assert len(problems(tmp_path, "[server]\nport = -1\nhost = 1\n[mint]\nname = 1")) == 3


def test_an_unreadable_or_missing_file_is_told(tmp_path):
    """A file that was named must be there, be text, and be small; a pipe is not waited for."""
    os.mkfifo(tmp_path / "pipe")
    for strange in (tmp_path / "pipe", tmp_path):
        with pytest.raises(SettingsError, match="cannot be read: it is no regular file"):
            load_settings(strange)
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / "nothing.toml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="utf-8"):
        load_settings(tmp_path / "binary")
    (tmp_path / "large").write_bytes(b"#" * 1_000_001)
    with pytest.raises(SettingsError, match="larger"):
        load_settings(tmp_path / "large")


def test_play_money_is_not_shown_to_the_network_by_accident(tmp_path):
    """A host that others can reach needs the flag while a rail is play money."""
    found = problems(tmp_path, "", None, {"server.host": "0.0.0.0"})
    assert found[0].startswith("--host: server.host: 0.0.0.0 can be reached")
    assert "--allow-play-on-network" in found[0]
    settings = load_settings(None, {}, {"server.host": "0.0.0.0", "server.allow_play_on_network": True})
    assert settings.server.host == "0.0.0.0"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "::", "192.168.1.2", "example.org", ""]
)
def test_what_loopback_is(host):
    """Names other than localhost may resolve to anything."""
    assert is_loopback(host) is (host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))


def test_an_empty_passphrase_is_refused():
    """A passphrase that seals nothing; an empty variable is as if it were not there."""
    with pytest.raises(SettingsError, match="is empty"):
        load_settings(None, {}, {"keys.passphrase": Secret("")})
    assert load_settings(None, {"SPECIE_PASSPHRASE": ""}).keys.passphrase is None


def test_no_problem_shows_a_secret(tmp_path):
    """A dsn in the wrong form is not printed: it may hold a password."""
    assert "hunter2" not in "".join(problems(tmp_path, "[store]\ndsn = 'mysql://u:hunter2@h'"))


def test_the_example_file_loads_as_it_stands_and_names_every_setting(tmp_path):
    """It changes nothing, and with every # before a key removed it still loads (the empty optionals are none)."""
    text = example_toml()
    tomllib.loads(text)
    assert load_settings(write(tmp_path, text)) == BankSettings()
    lines = [line[2:] if line.startswith("# ") and (" = " in line or "[[" in line) and not line.endswith(".") else line
             for line in text.splitlines()]  # fmt: skip
    settings = load_settings(write(tmp_path, "\n".join(lines)))
    assert settings == BankSettings(data_dir=Path("~/.local/share/specie/bank").expanduser()) or settings.server.port == 3338
    for name in ("array_length", "autopay_delay_s", "quotes_per_minute", "sealing", "dsn", "input_fee_ppk"):
        assert f"# {name} = " in text
    assert "passphrase =" not in text


def test_a_setting_that_does_not_exist_is_our_own_mistake():
    """The command line cannot name a wrong setting unless the program is wrong."""
    with pytest.raises(KeyError):
        load_settings(None, {}, {"server.prot": 1})


def test_the_default_config_file_is_read_if_there(tmp_path, monkeypatch):
    """Without a named file the one in the config home counts."""
    monkeypatch.setattr(config, "default_config_file", lambda: write(tmp_path, "[server]\nport = 9"))
    assert load_settings().server.port == 9


def test_sealing_sources():
    """auto is the default."""
    assert load_settings().keys.sealing is SealingSource.AUTO


def test_the_null_device_is_an_empty_file() -> None:
    """`--config /dev/null` means: no settings file at all, whatever is in the config home."""
    assert load_settings(Path("/dev/null"), {}) == load_settings(Path("/dev/null"), {}, content=b"")
    with pytest.raises(SettingsError, match="no regular file"):
        load_settings(Path("/dev/zero"), {})
