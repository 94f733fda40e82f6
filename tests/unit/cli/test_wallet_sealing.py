"""How a wallet is sealed from the terminal: by the keyring where one is safe, else as the money asks for, else by asking."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path

import pytest

from specie.app import wallet as app_wallet
from specie.app import wallet_sealing
from specie.cli.errors import UsageError
from specie.cli.screen import Screen
from specie.cli.wallet import opening
from specie.cli.wallet.care import restore
from specie.cli.wallet.opening import WalletChoice, existing_source, opened, passphrase_asked, passphrase_in_file, seal_facts
from specie.cli.wallet.safety import backup, drill, reseal
from specie.kernel import seal
from specie.kernel.errors import RefusedError, UnavailableError
from specie.keys import KeyringUnsafeError, SealFileUnsafeError, SealForm, SealSource, SealSourceError
from specie.keys.adapters import seed_store
from specie.keys.adapters.seed_store import SeedStore
from specie.wallet.errors import BackupLockedError


class _Ring:
    """A keyring in memory that passes for a safe one."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


class _Typed(io.StringIO):
    """Standard input of a person at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def no_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No passphrase and no mint from outside; Argon2id at its least cost."""
    for name in ("SPECIE_WALLET_PASSPHRASE", "SPECIE_WALLET_MINT_URL", "SPECIE_WALLET_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(seal, "_ITERATIONS", 1)
    monkeypatch.setattr(seal, "_LANES", 1)
    monkeypatch.setattr(seal, "_MEMORY_KIB", 64)


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> _Ring | None:
    """The system's keyring."""
    made = _Ring()
    monkeypatch.setattr(SeedStore, "_keyring", lambda _: made)
    return made


@pytest.fixture
def no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a keyring."""

    def missing(_: SeedStore) -> _Ring:
        raise KeyringUnsafeError("there is none")

    monkeypatch.setattr(SeedStore, "_keyring", missing)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> list[bool | Exception]:
    """What the mint says of its money, or why it does not."""
    answers: list[bool | Exception] = [True]

    async def announces(_: str) -> bool:
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    monkeypatch.setattr(wallet_sealing, "announces_play", announces)
    return answers


def _screen(*typed: str) -> Screen:
    stdin = _Typed("".join(f"{line}\n" for line in typed)) if typed else io.StringIO()
    return Screen(out=io.StringIO(), err=io.StringIO(), stdin=stdin)


def _made(screen: Screen, **more: object) -> dict[str, object]:
    async def work() -> dict[str, object]:
        async with opened(WalletChoice(), screen, quiet=True, **more) as wallet:  # type: ignore[arg-type]
            return seal_facts(wallet)

    return asyncio.run(work())


def _said(screen: Screen) -> str:
    return " ".join(screen.err.file.getvalue().split())  # type: ignore[attr-defined]


def test_a_safe_keyring_is_the_default(ring: _Ring, play: list[bool | Exception]) -> None:
    """Without a word, also for play money; and the wallet opens again without a word."""
    assert _made(_screen())["sealing"] == "keyring"
    assert len(ring.entries) == 1
    assert _made(_screen())["sealing"] == "keyring"
    assert wallet_sealing.keyring_works()


def test_play_money_may_have_a_key_file_and_it_is_said(no_ring: None, play: list[bool | Exception]) -> None:
    """Aloud, with the command that mends it."""
    screen = _screen()
    assert _made(screen)["sealing"] == "play-key"
    assert "weakest way" in _said(screen)
    assert "specie wallet reseal" in _said(screen)
    assert not wallet_sealing.keyring_works()


def test_other_money_is_asked_a_passphrase_for(no_ring: None, play: list[bool | Exception]) -> None:
    """Twice when it is new, once afterwards; a program is told what to give instead."""
    play[0] = False
    with pytest.raises(SealSourceError, match="--passphrase-file"):
        _made(_screen())
    with pytest.raises(UsageError, match="differ"):
        _made(_screen("one", "other"))
    assert app_wallet.wallet_names() == []
    assert _made(_screen("open sesame", "open sesame"))["sealing"] == "passphrase"
    assert _made(_screen("open sesame"))["sealing"] == "passphrase"
    with pytest.raises(RefusedError, match="SPECIE_WALLET_PASSPHRASE"):
        _made(_screen())


def test_a_mint_out_of_reach(no_ring: None, play: list[bool | Exception]) -> None:
    """Named or needed it must answer before a key file is chosen; else the money counts as real."""
    play[0] = UnavailableError("nobody there")
    screen = _screen()
    with pytest.raises(UnavailableError):
        _made(screen, mint="http://127.0.0.1:3338")
    assert "specie up" in _said(screen)
    with pytest.raises(UnavailableError):
        _made(_screen(), mint="https://mint.example.org")
    with pytest.raises(SealSourceError):
        _made(_screen())
    assert app_wallet.wallet_names() == []
    assert _made(_screen("open sesame", "open sesame"), mint="http://127.0.0.1:3338")["sealing"] == "passphrase"


def test_what_is_known_of_the_money_is_not_asked(no_ring: None, play: list[bool | Exception]) -> None:
    """A backup says which mints it has: real money among them gets no key file, whatever the mint here says."""
    with pytest.raises(SealSourceError):
        _made(_screen(), play=False)
    assert _made(_screen(), play=True)["sealing"] == "play-key"


def test_resealed_by_hand(ring: _Ring, play: list[bool | Exception]) -> None:
    """From the keyring to a typed passphrase, and back; the old key is forgotten."""
    _made(_screen())
    asyncio.run(reseal(screen=_screen("open sesame", "open sesame")))
    assert wallet_sealing.wallet_seal() is SealForm.PASSPHRASE
    assert ring.entries == {}
    asyncio.run(reseal(new_keyring=True, screen=_screen("open sesame")))
    assert wallet_sealing.wallet_seal() is SealForm.KEYRING
    assert len(ring.entries) == 1
    asyncio.run(reseal(new_key_file=True, screen=_screen()))
    assert wallet_sealing.wallet_seal() is SealForm.PLAY_KEY  # it has no mint whose money could be real


@pytest.mark.parametrize("step", ["_write_new", "replace", "_sync_directory"])
def test_resealing_dies_at_any_step(
    ring: _Ring, play: list[bool | Exception], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The wallet opens in the old way or in the new one, and never in none."""
    _made(_screen())
    with monkeypatch.context() as patched:

        def dies(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patched.setattr(os if step == "replace" else seed_store, step, dies)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(reseal(screen=_screen("open sesame", "open sesame")))
    form = wallet_sealing.wallet_seal()
    assert form in (SealForm.KEYRING, SealForm.PASSPHRASE)
    assert _made(_screen("open sesame"))["sealing"] == str(form)


def test_passphrases_are_typed_or_read_from_a_private_file(tmp_path: Path) -> None:
    """Never empty, never from a file that others read, never asked of nobody."""
    with pytest.raises(UsageError, match="at a terminal"):
        passphrase_asked(_screen(), "passphrase", twice=False)
    with pytest.raises(UsageError, match="empty"):
        passphrase_asked(_screen(""), "passphrase", twice=False)
    file = tmp_path / "phrase"
    file.write_text("open sesame\n")
    file.chmod(0o600)
    assert passphrase_in_file(file) == "open sesame"
    file.chmod(0o644)
    with pytest.raises(SealFileUnsafeError):
        passphrase_in_file(file)
    with pytest.raises(UsageError):
        passphrase_in_file(tmp_path / "missing")


def test_what_was_given_is_used(no_ring: None) -> None:
    """Options and the environment come before every default."""
    choice = WalletChoice(key_file=True)
    assert existing_source(choice, _screen()) == SealSource(play_key=True)
    assert opening.seal_source(WalletChoice(keyring=True)) == SealSource(keyring=True)


def test_a_backup_with_a_typed_passphrase(ring: _Ring, tmp_path: Path) -> None:
    """Typed twice; then proved where the wallet is not, and taken up into a new wallet, by the same passphrase alone."""
    target = tmp_path / "backup"

    async def made() -> str:
        async with opened(WalletChoice(), _screen(), quiet=True) as wallet:
            await wallet.p2pk_key()
            return wallet.words()

    words = asyncio.run(made())
    asyncio.run(backup(target, with_passphrase=True, screen=_screen("open sesame", "open sesame")))
    with pytest.raises(UsageError, match="differ"):
        asyncio.run(backup(tmp_path / "other", with_passphrase=True, screen=_screen("open sesame", "open barley")))
    assert not (tmp_path / "other").exists()
    elsewhere = WalletChoice(name="elsewhere")
    assert asyncio.run(drill(target, wallet=elsewhere, screen=_screen("open sesame"))) == 0
    with pytest.raises(BackupLockedError):
        asyncio.run(drill(target, wallet=elsewhere, screen=_screen("open barley")))
    assert asyncio.run(drill(target, screen=_screen())) == 0  # the wallet here opens it by itself
    screen = _screen("open sesame")
    asyncio.run(restore(backup=target, wallet=elsewhere, screen=screen))
    assert "backup taken up" in screen.out.file.getvalue()  # type: ignore[attr-defined]
    assert wallet_sealing.live_words("elsewhere") == words
    asyncio.run(restore(backup=target, wallet=elsewhere, screen=_screen()))


def test_a_backup_that_words_alone_open(ring: _Ring, tmp_path: Path) -> None:
    """Typed, from a file, or those of the wallet that is here; other words do not open it."""
    target, file = tmp_path / "backup", tmp_path / "words"

    async def made() -> str:
        async with opened(WalletChoice(), _screen(), quiet=True) as wallet:
            await wallet.backup(target)
            return wallet.words()

    words = asyncio.run(made())
    file.write_text(words)
    new = WalletChoice(name="new")
    assert asyncio.run(drill(target, wallet=new, screen=_screen(words))) == 0
    assert asyncio.run(drill(target, words_file=file, wallet=new, screen=_screen())) == 0
    with pytest.raises(BackupLockedError):
        asyncio.run(restore(backup=target, wallet=new, screen=_screen("zoo " * 11 + "wrong")))
    assert app_wallet.wallet_names() == ["default"]
    asyncio.run(restore(backup=target, words_file=file, wallet=new, screen=_screen()))
    assert wallet_sealing.live_words("new") == words
    with pytest.raises(UsageError, match="--gap"):
        asyncio.run(restore(backup=target, gap=0, wallet=new, screen=_screen()))
