"""`specie keys`: the table of providers, and the trial of a real token."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from specie.app.keys import TokenProbe
from specie.kernel.errors import MalformedError
from specie.keys import Capabilities
from specie.keys.adapters.token import TokenTrial, pin_checked, pin_from_file
from specie.keys.adapters.token_session import TokenFacts
from specie.keys.errors import ProviderMissingError
from specie.keys.profiles import PROFILES, UNTESTED
from specie.keys.sealing import SealFileUnsafeError
from tests.support.softhsm import PIN, SoftToken, new_token
from tests.unit.cli.conftest import Ran

Specie = Callable[..., Ran]


@pytest.fixture(scope="module")
def token() -> SoftToken:
    """A fresh token."""
    return new_token()


def arguments(token: SoftToken) -> tuple[str, ...]:
    return ("keys", "probe", "--module", str(token.module), "--token", token.label, "--rounds", "3")


def test_every_device_says_whether_it_was_run(specie: Specie) -> None:
    """Only what the tests run on is not called untested, for people and for programs."""
    ran = specie("keys", "providers")
    assert ran.code == 0
    assert "untested" in ran.out
    told = specie("keys", "providers", "--json").json()["providers"]
    assert [one["name"] for one in told] == [one.name for one in PROFILES]
    assert {one["name"] for one in told if one["evidence"] != UNTESTED} == {"software", "SoftHSM2"}


def test_a_token_is_tried_out(specie: Specie, token: SoftToken) -> None:
    """Capabilities, latency and verdict; the PIN is nowhere, and no key is left."""
    before = sorted(token.directory.glob("*/*.object"))
    ran = specie(*arguments(token), "--pin-file", str(token.pin_file))
    assert ran.code == 0, ran.err
    assert "keys of a mint can live here" in ran.out
    assert PIN not in ran.out + ran.err
    facts = specie(*arguments(token), "--pin-file", str(token.pin_file), "--json").json()
    assert facts["capabilities"] == {
        "bdhke": True,
        "ecdsa": True,
        "wrapping": True,
        "dleq": False,
        "bip340": False,
        "derivation": False,
    }
    assert "ECDH1_DERIVE" in facts["mechanisms"]
    assert set(facts["latency_us"]) == {"ECDSA", "blind signature"}
    assert sorted(token.directory.glob("*/*.object")) == before


def test_the_pin_comes_from_the_environment_or_settings(
    specie: Specie, token: SoftToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable, or a settings file with everything in it; both at once are a question back."""
    settings = tmp_path / "bank.toml"
    settings.write_text(f'[keys.pkcs11]\nmodule = "{token.module}"\ntoken = "{token.label}"\npin_file = "{token.pin_file}"\n')
    assert specie("keys", "probe", "--rounds", "1", "--config", str(settings)).code == 0
    monkeypatch.setenv("SPECIE_KEYS_PKCS11_PIN", PIN)
    assert specie(*arguments(token)).code == 0
    both = specie("keys", "probe", "--config", str(settings))
    assert both.code != 0
    assert "which one is meant" in both.err
    settings.write_text(f'[keys.pkcs11]\npin = "{PIN}"\n')
    monkeypatch.delenv("SPECIE_KEYS_PKCS11_PIN")
    inside = specie("keys", "probe", "--config", str(settings))
    assert inside.code != 0
    assert "does not belong in a file" in inside.err
    assert PIN not in inside.err
    settings.write_text(f'[keys.pkcs11]\nmodule = "{token.module}"\ntoken = "{token.label}"\npin = "env:TOKEN_PIN"\n')
    monkeypatch.setenv("TOKEN_PIN", PIN)
    referred = specie("keys", "probe", "--rounds", "1", "--config", str(settings))
    assert referred.code == 0, referred.err


def test_what_is_not_said_is_asked_for(specie: Specie, token: SoftToken, tmp_path: Path) -> None:
    """No token, no PIN, no such file, a file for all to read, no module, a wrong PIN: each is named."""
    assert "which token" in specie("keys", "probe").err
    assert "no PIN" in specie(*arguments(token)).err
    assert "no PIN file" in specie(*arguments(token), "--pin-file", str(tmp_path / "none")).err
    open_file = tmp_path / "pin"
    open_file.write_text(PIN)
    open_file.chmod(0o644)
    assert "open to other users" in specie(*arguments(token), "--pin-file", str(open_file)).err
    none = specie("keys", "probe", "--module", str(tmp_path / "x.so"), "--token", "x", "--pin-file", str(token.pin_file))
    assert "cannot be loaded" in none.err
    assert specie(*arguments(token)[:-1], "0", "--pin-file", str(token.pin_file)).code == 2


def test_a_wrong_pin_is_refused(specie: Specie, tmp_path: Path) -> None:
    """Exit code 3, and neither the wrong PIN nor anything like it in what is said."""
    token = new_token()
    file = tmp_path / "pin"
    file.touch(0o600)
    file.write_text("999111999\n")
    ran = specie(*arguments(token), "--pin-file", str(file), "--debug")
    assert ran.code == 3
    assert "refuses the PIN" in ran.err
    assert "999111999" not in ran.out + ran.err


def test_a_token_that_lacks_the_curve(specie: Specie, token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that no key of a mint can live there, and claims no latency; ECDSA alone is shown as such."""
    for curves, trial, kinds in ((False, None, set()), (True, TokenTrial((500.0,), None, b"\x02" * 33), {"ECDSA"})):
        facts = TokenFacts("maker", "model\x1b[2J", frozenset({"RSA_PKCS"}), curves, False, False)
        can = Capabilities("pkcs11", frozenset(), False, False, False, curves, False, False)

        async def probed(*given: object, facts: Any = facts, can: Any = can, trial: Any = trial, **named: object) -> TokenProbe:
            return TokenProbe(facts, can, trial)

        monkeypatch.setattr("specie.app.keys.probe_token", probed)
        ran = specie(*arguments(token))
        assert ran.code == 0
        assert "keys of a mint cannot live here" in ran.out
        assert "\x1b[2J" not in ran.out
        assert set(specie(*arguments(token), "--json").json()["latency_us"]) == kinds


@pytest.mark.parametrize("data", [b"", b"\n", b"two\nlines", b"nul\0", b"\xff\xfe", b"x" * 256])
def test_what_is_no_pin(data: bytes) -> None:
    """One line of text of 1 to 255 bytes; what it was is not said."""
    with pytest.raises(MalformedError) as refused:
        pin_checked(data)
    assert "lines" not in refused.value.detail


def test_a_pin_file(tmp_path: Path) -> None:
    """Its last line end is dropped; it must be there, and ours alone."""
    file = tmp_path / "pin"
    with pytest.raises(ProviderMissingError):
        pin_from_file(file)
    file.touch(0o600)
    file.write_bytes(b"user:pass word\r\n")
    assert pin_from_file(file) == "user:pass word"
    os.chmod(file, 0o604)
    with pytest.raises(SealFileUnsafeError):
        pin_from_file(file)
