"""`specie signer` and a bank that uses one: what is refused, and what the commands around such a bank say."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import threading
import time
from pathlib import Path

import pytest

from specie.app.bank import open_bank, reseal_bank
from specie.app.directory import owned_directory
from specie.ecash import MintQuoteRequest
from specie.kernel import NULL_TELEMETRY
from specie.kernel.errors import RefusedError, UnavailableError
from specie.keys import SealSource
from specie.keys.adapters.software import SoftwareSigner
from specie.ops.config import load_settings
from specie.ops.settings import BankSettings
from tests.support.entropy import CountingEntropy
from tests.support.signer_process import PEER_CREDENTIALS, SignerThread

needs_peers = pytest.mark.skipif(not PEER_CREDENTIALS, reason="this system has no SO_PEERCRED")


def settings_of(thread: SignerThread, data: Path, **more: object) -> BankSettings:
    given = {
        "data_dir": data,
        "keys.provider": "remote",
        "keys.remote.socket": thread.place,
        "keys.remote.identity": thread.bank.identity,
        "keys.remote.signer": thread.bank.peer,
        "keys.remote.wait_s": 0,
    }
    return load_settings(None, {}, given | more)


@pytest.fixture
def thread():  # type: ignore[no-untyped-def]
    served = SignerThread(SoftwareSigner(bytes(range(32)), threads=0, entropy=CountingEntropy()))
    yield served
    served.stop()


@needs_peers
def test_a_bank_with_a_signer_has_no_seed(thread: SignerThread, home: Path) -> None:
    """It starts, derives the signer's keys, and leaves no seed in its directory."""

    async def once() -> None:
        async with open_bank(settings_of(thread, home / "bank"), telemetry=NULL_TELEMETRY) as bank:
            assert bank.sealed is None
            assert bank.curve == "signer"
            await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 5))

    asyncio.run(once())
    assert not list((home / "bank").glob("*.seed"))


@needs_peers
def test_a_bank_whose_signer_is_away_or_another_does_not_start(thread: SignerThread, home: Path) -> None:
    """No signer: unavailable. A signer with another seed: refused, for its keys are not those of the store."""

    async def once() -> None:
        async with open_bank(settings_of(thread, home / "bank"), telemetry=NULL_TELEMETRY):
            pass

    asyncio.run(once())
    thread.stop(forget=False)
    with pytest.raises(UnavailableError):
        asyncio.run(once())
    other = SignerThread(SoftwareSigner(bytes(32), threads=0, entropy=CountingEntropy()), home=thread.home)
    with pytest.raises(RefusedError, match="does not belong to this store"):
        asyncio.run(once())
    other.stop(forget=False)


@needs_peers
def test_the_operators_commands_reach_such_a_bank(specie, thread: SignerThread, home: Path) -> None:  # type: ignore[no-untyped-def]
    """Where none runs the store is opened with the signer's help; a backup has no seed; resealing is the signer's."""
    data = home / "bank"
    settings = settings_of(thread, data)
    file = home / "bank.toml"
    file.write_text(
        f'[keys]\nprovider = "remote"\n[keys.remote]\nsocket = "{thread.place}"\n'
        f'identity = "{thread.bank.identity}"\nsigner = "{thread.bank.peer}"\n'
    )
    which = ("--data", data, "--config", file, "--json")
    assert "no bank" in specie("mint", "quotes", *which).error()["detail"]

    async def once() -> None:
        async with open_bank(settings, telemetry=NULL_TELEMETRY):
            pass

    asyncio.run(once())
    assert specie("mint", "quotes", *which).json() == {"quotes": []}
    checks = {check["name"]: check for check in specie("mint", "health", *which).json()["checks"]}
    assert checks["signer"]["ok"] is True
    assert checks["signer"]["facts"]["provider"] == "software"
    made = specie("mint", "backup", home / "copy", *which)
    assert made.json()["seed"] is None
    assert (home / "copy").exists()
    assert "seed, which is with the signer" in specie("mint", "backup", home / "copy2", *which[:-1]).out
    with pytest.raises(RefusedError, match="with its signer"):
        reseal_bank(settings, SealSource(play_key=True))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"keys.provider": "remote"}, "keys.remote.socket: is needed"),
        ({"keys.remote.socket": Path("/x")}, "yet keys.provider is software"),
        (
            {
                "keys.provider": "remote",
                "keys.remote.socket": Path("/x"),
                "keys.remote.identity": Path("/y"),
                "keys.remote.signer": Path("/z"),
                "keys.passphrase_file": Path("/p"),
            },
            "has no seed to seal",
        ),
        (
            {
                "keys.provider": "remote",
                "keys.remote.socket": Path("/x"),
                "keys.remote.identity": Path("/y"),
                "keys.remote.signer": Path("/z"),
                "keys.sealing": "keyring",
            },
            "has no seed to seal",
        ),
    ],
)
def test_settings_that_do_not_go_together(given: dict[str, object], reason: str) -> None:
    """Told when they are loaded, before anything is opened."""
    with pytest.raises(RefusedError, match=reason):
        load_settings(None, {}, given)


def test_pairing(specie, home: Path) -> None:  # type: ignore[no-untyped-def]
    """Makes the files of both sides, refuses a second time, renews when told."""
    made = specie("signer", "pair", "--data", home / "s", "--bank", home / "b", "--json").json()
    assert [Path(path).exists() for path in (*made["signer"], *made["bank"])] == [True] * 4
    assert stat.S_IMODE((home / "b" / "bank.pem").stat().st_mode) == 0o600
    again = specie("signer", "pair", "--data", home / "s", "--bank", home / "b", "--json")
    assert again.error()["error"] == "PairingError"
    shown = specie("signer", "pair", "--data", home / "s", "--bank", home / "b", "--renew", "--days", "3")
    assert shown.code == 0
    assert "good until" in shown.out
    assert specie("signer", "pair", "--data", home / "s", "--days", "0").code == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--allow-user", "nobody-of-this-name"), "there is no user"),
        (("--group", "nobody-of-this-name"), "there is no group"),
    ],
)
def test_users_and_groups_that_are_none(specie, home: Path, options: tuple[str, str], reason: str) -> None:  # type: ignore[no-untyped-def]
    """A name that the system does not know is a wrong command line."""
    ran = specie("signer", "run", "--data", home / "s", *options, "--json")
    assert ran.code == 2
    assert reason in ran.error()["detail"]


def test_a_signer_that_cannot_start_says_why(specie, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """Not paired; no way to seal real money's keys; two ways at once; a directory in use. No seed is made."""
    data = home / "s"
    run = ("signer", "run", "--data", data, "--json")
    assert "cannot be read" in specie(*run, "--play").error()["detail"]
    specie("signer", "pair", "--data", data)
    assert "must be sealed" in specie(*run).error()["detail"]
    with owned_directory(data):
        assert "runs the signer" in specie(*run, "--play").error()["detail"]
    monkeypatch.setenv("SPECIE_PASSPHRASE", "x")
    assert specie(*run, "--passphrase-file", home / "p").code == 2
    assert not (data / "mint.seed").exists()


@needs_peers
def test_a_signer_runs_until_it_is_told_to_stop(specie, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:  # type: ignore[no-untyped-def]
    """One JSON line when it is ready, exit code 0 after SIGTERM, its socket gone and its seed there."""
    import tempfile

    forbidden: list[bool] = []
    monkeypatch.setattr("specie.app.signer.forbid_memory_dumps", lambda: forbidden.append(True))
    short = Path(tempfile.mkdtemp(prefix="signer-"))
    data = short / "s"
    specie("signer", "pair", "--data", data)

    def stop() -> None:
        for _ in range(1000):
            if (data / "run" / "signer.sock").exists():
                break
            time.sleep(0.01)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    for shown in (False, True):
        stopping = threading.Thread(target=stop)
        stopping.start()
        options = ("--play", "--allow-user", str(os.geteuid()), "--group", str(os.getegid()))
        ran = specie("signer", "run", "--data", data, *options, *(() if shown else ("--json",)))
        stopping.join()
        assert ran.code == 0, ran.err
        if shown:
            assert "holds the keys" in ran.out
        else:
            assert ran.json()["users"] == [os.geteuid()]
            assert ran.json()["created"] is True
    assert forbidden == [True, True]
    assert (data / "mint.seed").exists()
    assert not (data / "run" / "signer.sock").exists()
    shutil.rmtree(short)
