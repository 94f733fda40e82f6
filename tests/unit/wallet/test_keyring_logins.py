"""Logins of a wallet that the keyring seals: in the keyring, not in its files; moved, resealed, never lost or weaker."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from specie.app.vault import drill_backup
from specie.app.wallet import Wallet
from specie.app.wallet_sealing import reseal_wallet, wallet_seal
from specie.kernel import seal
from specie.kernel.errors import UnavailableError
from specie.keys import KeyringUnsafeError, PassphraseWrongError, SealForm, SealSource, SecretShelf, SecretStore
from specie.wallet.adapters.auth_store import SqlBlindTokenStore
from specie.wallet.auth import BlindToken, BlindTokenState, Login
from specie.wallet.engine.moved_secrets import MovedSecrets
from tests.support.keyrings import KilledError, MemoryKeyring
from tests.support.wallets import MINT_URL, SETTINGS

KEYRING, PASSPHRASE = SealSource(keyring=True), SealSource(passphrase="open sesame")
NAME = f"login/{MINT_URL}"
OTHER = "https://other.example"


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id at its least cost: its strength is not what is tested here."""
    monkeypatch.setattr(seal, "_ITERATIONS", 1)
    monkeypatch.setattr(seal, "_LANES", 1)
    monkeypatch.setattr(seal, "_MEMORY_KIB", 64)


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> MemoryKeyring:
    """The system's keyring."""
    made = MemoryKeyring()
    monkeypatch.setattr("keyring.get_keyring", lambda: made)
    return made


def login_of(access: str) -> Login:
    return Login(
        discovery="https://login.example/.well-known/openid-configuration",
        client_id="wallet",
        token_endpoint="https://login.example/token",
        access_token=f"access canary {access} " * 100,
        refresh_token=f"refresh canary {access} " * 50,
        expires_at=None,
    )


@asynccontextmanager
async def opened(place: Path, source: SealSource = KEYRING, name: str = "alice", **more: object) -> AsyncIterator[Wallet]:
    opening = Wallet.open(place / name, sealed=source, settings=SETTINGS, config_home=place / "config", **more)  # type: ignore[arg-type]
    async with opening as wallet:
        yield wallet


async def reseal(place: Path, old: SealSource, new: SealSource) -> SealForm:
    return await reseal_wallet(place / "alice", old, new, config_home=place / "config")


async def logged_in(wallet: Wallet, mint: str = MINT_URL) -> Login | None:
    return await wallet.auth._logins.login(mint)


async def rows(wallet: Wallet) -> set[str]:
    found = await wallet._context.storage.read(lambda tx: tx.fetch("SELECT name FROM wallet_secret"))
    return {str(name) for (name,) in found}


def tokens_in(ring: MemoryKeyring) -> int:
    return sum(service == "specie-secrets" for service, _ in ring.entries)


async def test_a_login_lies_in_the_keyring_alone(ring: MemoryKeyring, tmp_path: Path) -> None:
    """Kept, found by the next process, renewed, and gone after logging out; the wallet's files never know of it."""
    login = login_of("one")
    async with opened(tmp_path) as alice:
        await alice.auth._logins._keep(MINT_URL, login)
        assert await rows(alice) == set()
        assert tokens_in(ring) > 3
    for path in (tmp_path / "alice").iterdir():
        data = path.read_bytes()
        assert b"canary" not in data
        assert not any(text.encode() in data for (service, _), text in ring.entries.items() if service != "specie")
        assert b"login/" not in data
    async with opened(tmp_path) as alice:
        assert await logged_in(alice) == login
        await alice.auth._logins._keep(MINT_URL, login_of("two"))
        assert await logged_in(alice) == login_of("two")
        assert await alice.auth.logout(MINT_URL) is True
        assert await alice.auth.logout(MINT_URL) is False
        assert await logged_in(alice) is None
    assert tokens_in(ring) == 0
    assert len(ring.entries) == 1  # the seed's key


@pytest.mark.parametrize("source", [PASSPHRASE, SealSource(play_key=True)])
async def test_without_a_keyring_it_lies_sealed_in_the_table(ring: MemoryKeyring, tmp_path: Path, source: SealSource) -> None:
    """Sealed otherwise, the wallet asks no keyring, even where there is one."""
    async with opened(tmp_path, source) as alice:
        await alice.auth._logins._keep(MINT_URL, login_of("one"))
        assert await logged_in(alice) == login_of("one")
        assert await rows(alice) == {NAME}
    assert (ring.reads, ring.writes) == (0, 0)
    assert not any(b"canary" in path.read_bytes() for path in (tmp_path / "alice").iterdir())


async def test_wallets_of_one_name_in_two_homes(ring: MemoryKeyring, tmp_path: Path) -> None:
    """One keyring, two wallets called alice: each has its own login, and the logout of one is not the other's."""
    for place in (tmp_path / "home", tmp_path / "away"):
        async with opened(place) as alice:
            assert await logged_in(alice) is None
            await alice.auth._logins._keep(MINT_URL, login_of(place.name))
    async with opened(tmp_path / "home") as alice:
        assert await logged_in(alice) == login_of("home")
        await alice.auth.logout(MINT_URL)
    async with opened(tmp_path / "away") as alice:
        assert await logged_in(alice) == login_of("away")


async def test_a_login_of_before_moves_when_it_is_used(ring: MemoryKeyring, tmp_path: Path) -> None:
    """A row that an older version has written goes to the keyring at the first look; an app's own secrets stay in the table."""
    old = login_of("old")
    async with opened(tmp_path) as alice:
        await _old_row(alice, old)
        await alice.secrets.put("of the app", "x")
    async with opened(tmp_path) as alice:
        assert await rows(alice) == {NAME, "of the app"}
        ring.lock()
        with pytest.raises(UnavailableError):
            await logged_in(alice)
        ring.refusal = None
        assert await rows(alice) == {NAME, "of the app"}
        assert await logged_in(alice) == old
        assert await rows(alice) == {"of the app"}
        assert await logged_in(alice) == old
        assert await alice.secrets.get("of the app") == "x"
    assert tokens_in(ring) > 3


async def _old_row(wallet: Wallet, login: Login) -> None:
    """A login as a version before this one has kept it."""
    await wallet.secrets.put(NAME, msgspec.json.encode(login).decode())


async def test_killed_while_moving(ring: MemoryKeyring, tmp_path: Path) -> None:
    """At any write to the keyring, and before the row is deleted: the login is found all the same, and ends in one place."""
    login, step, died = login_of("old"), 0, True
    async with opened(tmp_path) as alice:
        await _old_row(alice, login)
    while died:
        died = False
        async with opened(tmp_path) as alice:
            await _old_row(alice, login)
            ring.lives = step
            try:
                await logged_in(alice)
            except KilledError:
                died = True
            ring.lives = None
            assert (await rows(alice) == {NAME}) is died
        async with opened(tmp_path) as alice:
            assert await logged_in(alice) == login
            assert await rows(alice) == set()
            await alice.auth.logout(MINT_URL)
        assert tokens_in(ring) == 0
        step += 1
    assert step > 3


@pytest.mark.parametrize("refusal", [OSError("no bus"), None])
async def test_a_keyring_that_refuses_changes_nothing(ring: MemoryKeyring, tmp_path: Path, refusal: Exception | None) -> None:
    """Locked or failing: an error to try again after, and nothing is written to the table in its stead."""
    async with opened(tmp_path) as alice:
        await alice.auth._logins._keep(MINT_URL, login_of("one"))
        ring.refusal = refusal
        if refusal is None:
            ring.lock()
        for work in (alice.auth._logins._keep(MINT_URL, login_of("two")), logged_in(alice), alice.auth.logout(MINT_URL)):
            with pytest.raises(UnavailableError):
                await work
        assert await rows(alice) == set()
        ring.refusal = None
        assert await logged_in(alice) == login_of("one")


async def test_a_keyring_that_is_safe_no_more(ring: MemoryKeyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swapped for a plain file while the wallet is open: refused at the next token."""

    class Plain(MemoryKeyring):
        pass

    Plain.__module__ = "keyrings.alt.file"
    plain = Plain()
    async with opened(tmp_path) as alice:
        monkeypatch.setattr("keyring.get_keyring", lambda: plain)
        with pytest.raises(KeyringUnsafeError):
            await alice.auth._logins._keep(MINT_URL, login_of("one"))
        assert await rows(alice) == set()
    assert plain.entries == {}


async def test_a_changed_entry_asks_for_another_login(ring: MemoryKeyring, tmp_path: Path) -> None:
    """Never a wrong token; and logging in again makes it good."""
    async with opened(tmp_path) as alice:
        await alice.auth._logins._keep(MINT_URL, login_of("one"))
    for (service, user), text in ring.entries.items():
        if service == "specie-secrets":
            ring.entries[service, user] = text[::-1]
    async with opened(tmp_path) as alice:
        assert await logged_in(alice) is None
        await alice.auth._logins._keep(MINT_URL, login_of("two"))
        assert await logged_in(alice) == login_of("two")


# -- sealed anew


async def test_logins_come_along_when_the_wallet_is_resealed(ring: MemoryKeyring, tmp_path: Path) -> None:
    """Keyring to keyring, to a passphrase, and back: both logins hold, and no seal leaves anything in the keyring."""
    async with opened(tmp_path) as alice:
        await alice.auth._logins._keep(MINT_URL, login_of("one"))
        await alice.auth._logins._keep(OTHER, login_of("two"))
    seals = [KEYRING, KEYRING, PASSPHRASE, KEYRING, SealSource(play_key=True)]
    for old, new in itertools.pairwise(seals):
        await reseal(tmp_path, old, new)
        assert tokens_in(ring) == 0
        async with opened(tmp_path, new) as alice:
            assert await logged_in(alice) == login_of("one")
            assert await logged_in(alice, OTHER) == login_of("two")
            assert await rows(alice) == (set() if new == KEYRING else {NAME, f"login/{OTHER}"})
        assert len({user.partition("/")[0] for _, user in ring.entries}) == (1 if new == KEYRING else 0)
    assert ring.entries == {}


async def test_a_reseal_that_fails_loses_no_login(ring: MemoryKeyring, tmp_path: Path) -> None:
    """Killed at any write to the keyring, or refused at the end: the wallet opens as it is sealed, and is logged in."""
    async with opened(tmp_path) as alice:
        await alice.auth._logins._keep(MINT_URL, login_of("one"))
        await alice.auth._logins._keep(OTHER, login_of("two"))
    with pytest.raises(Exception, match="empty"):
        await reseal(tmp_path, KEYRING, SealSource(passphrase=""))
    async with opened(tmp_path) as alice:
        assert await rows(alice) == {NAME, f"login/{OTHER}"}
        assert await logged_in(alice) == login_of("one")
        assert await logged_in(alice, OTHER) == login_of("two")
        assert await rows(alice) == set()
    step, died = 0, True
    while died:
        died = False
        ring.lives = step
        try:
            await reseal(tmp_path, KEYRING, PASSPHRASE)
        except KilledError:
            died = True
        ring.lives = None
        form = wallet_seal(tmp_path / "alice")
        assert died or form is SealForm.PASSPHRASE
        async with opened(tmp_path, KEYRING if form is SealForm.KEYRING else PASSPHRASE) as alice:
            assert await logged_in(alice) == login_of("one")
            assert await logged_in(alice, OTHER) == login_of("two")
        if died and form is SealForm.PASSPHRASE:  # at the very last: the old key is left, which opens nothing
            assert len(ring.entries) == 1
            break
        step += 1
    assert step > 6
    assert tokens_in(ring) == 0


async def test_a_wrong_passphrase_leaves_the_tokens(ring: MemoryKeyring, tmp_path: Path) -> None:
    """From a passphrase to the keyring with the wrong one: nothing changes, and the login stays in the table."""
    async with opened(tmp_path, PASSPHRASE) as alice:
        await alice.auth._logins._keep(MINT_URL, login_of("one"))
    with pytest.raises(PassphraseWrongError):
        await reseal(tmp_path, SealSource(passphrase="wrong"), KEYRING)
    async with opened(tmp_path, PASSPHRASE) as alice:
        assert await logged_in(alice) == login_of("one")


# -- backups


async def test_a_backup_has_the_blind_tokens_and_not_the_login(ring: MemoryKeyring, tmp_path: Path) -> None:
    """What the keyring has is not in the file, and a drill misses nothing; the pool, which no words bring back, is in it."""
    token = BlindToken("secret", MINT_URL, "00" + "11" * 7, b"\1" * 32, "batch", 0, b"\2" * 33, BlindTokenState.READY, 1)
    async with opened(tmp_path) as alice:
        await alice.auth._logins._keep(MINT_URL, login_of("one"))
        await alice._context.storage.transact(lambda tx: SqlBlindTokenStore().add(tx, [token]))
        await alice.backup(tmp_path / "backup")
        words = alice.words()
    report = await drill_backup(tmp_path / "backup", words=words, live=tmp_path / "alice")
    assert report.complete
    counts = {one.table: one.backup for one in report.tables}
    assert (counts["wallet_secret"], counts["wallet_blind_token"]) == (0, 1)
    async with opened(tmp_path, name="again", words=words) as again:
        await again.vault.restore(tmp_path / "backup")
        (status,) = await again.auth.status()
        assert (status.logged_in, status.ready, status.uncertain) == (False, 0, 1)
        await again.auth._logins._keep(MINT_URL, login_of("two"))
        assert (await again.auth.status())[0].logged_in
    async with opened(tmp_path) as alice:
        assert await logged_in(alice) == login_of("one")


async def test_an_old_backup_with_a_login_in_it(ring: MemoryKeyring, tmp_path: Path) -> None:
    """A backup made while the login lay in the table: its login moves where there is none, and never replaces a newer one."""
    async with opened(tmp_path) as alice:
        await _old_row(alice, login_of("old"))
        await alice.backup(tmp_path / "backup")
        words = alice.words()
        await alice.auth._logins._keep(MINT_URL, login_of("new"))
        await alice.vault.restore(tmp_path / "backup")
        assert await rows(alice) == {NAME}
        assert await logged_in(alice) == login_of("new")
        assert await rows(alice) == set()
    async with opened(tmp_path, name="again", words=words) as again:
        await again.vault.restore(tmp_path / "backup")
        assert await logged_in(again) == login_of("old")
        assert await rows(again) == set()


# -- moving, alone


class Memory:
    """Two stores that die together before a given write."""

    def __init__(self, lives: list[int], **entries: str) -> None:
        self.entries = entries
        self.lives = lives

    def _write(self) -> None:
        if not self.lives[0]:
            raise KilledError
        self.lives[0] -= 1

    async def put(self, name: str, secret: str) -> None:
        self._write()
        self.entries[name] = secret

    async def get(self, name: str) -> str | None:
        return self.entries.get(name)

    async def delete(self, name: str) -> None:
        self._write()
        self.entries.pop(name, None)

    async def names(self) -> frozenset[str]:
        return frozenset(self.entries) | {"of none"}


@pytest.mark.parametrize("verb", ["get", "put", "delete", "back"])
async def test_moving_dies_at_any_write(verb: str) -> None:
    """The old secret or, of a put, the new one; of a delete perhaps none: never lost, and never two in the end."""
    done = {"get": "1", "put": "2", "delete": None, "back": "1"}
    for lives in range(5):
        left = [lives]
        place, old = Memory(left), Memory(left, a="1")
        shelf: SecretShelf = place
        store: SecretStore = old
        moved = MovedSecrets(shelf, store)
        if verb == "back":
            place.entries, old.entries = {"a": "1"}, {"a": "0"}
        try:
            match verb:
                case "get":
                    assert await moved.get("a") == "1"
                case "put":
                    await moved.put("a", "2")
                case "delete":
                    await moved.delete("a")
                case _:
                    await moved.move_back()
            died = False
        except KilledError:
            died = True
        left[0] = 99
        wanted = {"1", done[verb]}
        if verb == "back" and not died:
            assert (place.entries, old.entries) == ({}, {"a": "1"})
        found = await moved.get("a")
        assert found in wanted if died else found == done[verb]
        assert old.entries == {}
    assert not died


async def test_two_tasks_move_one_secret() -> None:
    """A renewal that comes while the old login moves is not overwritten by it."""
    left = [99]
    place, old = Memory(left), Memory(left, a="old")
    moved = MovedSecrets(place, old)
    found = await asyncio.gather(moved.get("a"), moved.put("a", "new"), moved.get("a"))
    assert found == ["old", None, "new"]
    assert (place.entries, old.entries) == ({"a": "new"}, {})
