"""Sealed seeds on a real disk: first start, restart, what is refused, and that no mishap loses a seed."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keyring
import platformdirs
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.chainer import ChainerBackend
from keyring.errors import KeyringLocked, PasswordDeleteError

from specie.kernel import seal
from specie.kernel.errors import InvariantError, RefusedError, UnavailableError
from specie.keys import (
    KeyringUnsafeError,
    OpenedSeed,
    PassphraseWrongError,
    SealFileUnsafeError,
    SealKeyMissingError,
    SealKind,
    SealMismatchError,
    SealSource,
    SealSourceError,
    SeedExistsError,
    SeedMalformedError,
    SeedMissingError,
)
from specie.keys.adapters import seed_store
from specie.keys.adapters.seed_store import SeedStore, open_seed
from tests.support.entropy import CountingEntropy

NOTHING, PASSPHRASE, KEYRING = SealSource(), SealSource(passphrase="hunter2"), SealSource(keyring=True)
SEED = bytes(range(32))


class FakeKeyring(KeyringBackend):
    """A keyring in memory; `__module__` below makes it pass for one of the safe ones."""

    priority = -1  # type: ignore[assignment]
    """Below every other: merely importing this must not make it the keyring of the process."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise KeyringLocked("locked")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.locked:
            raise KeyringLocked("locked")
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if (service, username) not in self.entries:
            raise PasswordDeleteError("absent")
        del self.entries[service, username]


FakeKeyring.__module__ = "keyring.backends.SecretService"


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id at its least cost: its strength is not what is tested here."""
    monkeypatch.setattr(seal, "_ITERATIONS", 1)
    monkeypatch.setattr(seal, "_LANES", 1)
    monkeypatch.setattr(seal, "_MEMORY_KIB", 64)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config" / "specie"


@pytest.fixture
def ring() -> FakeKeyring:
    return FakeKeyring()


@pytest.fixture
def store(data: Path, config: Path, ring: FakeKeyring) -> SeedStore:
    return SeedStore(data, entropy=CountingEntropy(), config_home=config, backend=ring)


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text("hunter2\n")
    path.chmod(0o600)
    return path


def source_of(kind: SealKind, passphrase_file: Path) -> SealSource:
    match kind:
        case SealKind.PASSPHRASE_FILE:
            return SealSource(passphrase_file=str(passphrase_file))
        case SealKind.ENVIRONMENT:
            return PASSPHRASE
        case SealKind.KEYRING:
            return KEYRING
    return NOTHING


def files(*roots: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("kind", SealKind)
def test_first_start_and_restart(store: SeedStore, passphrase_file: Path, kind: SealKind) -> None:
    """Each way creates 32 random bytes once, and opens the same ones from then on; the caller is told which way it was."""
    source = source_of(kind, passphrase_file)
    first = store.open_or_create(source, all_play=True)
    again = store.open_or_create(source, all_play=True)
    assert len(first.seed) == 32
    assert (first.kind, first.created, again.created) == (kind, True, False)
    assert again == OpenedSeed(first.seed, kind, False, first.where, first.key_name)
    assert first.seed.hex() not in repr(first)


@pytest.mark.parametrize("kind", [kind for kind in SealKind if kind is not SealKind.PLAY_KEY])
def test_real_money(store: SeedStore, passphrase_file: Path, kind: SealKind) -> None:
    """The three ways serve real money."""
    source = source_of(kind, passphrase_file)
    assert store.open_or_create(source, all_play=False).seed == store.open(source, all_play=False).seed


def test_real_money_without_a_way_touches_nothing(store: SeedStore, tmp_path: Path) -> None:
    """Start with a real rail and no way to seal is refused before anything is written."""
    with pytest.raises(SealSourceError, match="--passphrase-file"):
        store.open_or_create(NOTHING, all_play=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", SealKind)
def test_no_key_stands_beside_its_ciphertext(
    store: SeedStore, data: Path, config: Path, ring: FakeKeyring, passphrase_file: Path, kind: SealKind
) -> None:
    """The data directory holds one sealed file, which neither contains nor names anything that opens it."""
    opened = store.open_or_create(source_of(kind, passphrase_file), all_play=True)
    (sealed,) = files(data).values()
    openers = [opened.seed, b"hunter2", *files(config).values()]
    openers += [bytes.fromhex(content.decode()) for content in files(config).values()]
    openers += [form for text in ring.entries.values() for form in (text.encode(), bytes.fromhex(text))]
    assert len(openers) == {SealKind.PLAY_KEY: 4, SealKind.KEYRING: 4}.get(kind, 2)
    assert not any(opener.strip() in sealed or opener.strip().hex().encode() in sealed for opener in openers)
    assert data not in Path(opened.where).parents


def test_a_copy_of_the_data_directory_is_worthless(store: SeedStore, data: Path, tmp_path: Path) -> None:
    """Whoever takes the data directory alone, under another user's config home, opens nothing."""
    store.open_or_create(NOTHING, all_play=True)
    data.rename(tmp_path / "stolen")
    thief = SeedStore(tmp_path / "stolen", entropy=CountingEntropy("thief"), config_home=tmp_path / "thief")
    with pytest.raises(SealKeyMissingError):
        thief.open_or_create(NOTHING, all_play=True)


def test_key_place_in_the_data_directory_is_refused(tmp_path: Path) -> None:
    """A config home inside the data directory, also by way of a symlink, is refused and nothing is written."""
    data = tmp_path / "data"
    (data / "config").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(data / "config")
    for config in (data / "config", tmp_path / "alias", data):
        store = SeedStore(data, entropy=CountingEntropy(), config_home=config)
        with pytest.raises(SealFileUnsafeError, match="beside"):
            store.open_or_create(NOTHING, all_play=True)
    assert files(tmp_path) == {}


def test_key_that_came_to_stand_beside_is_refused(store: SeedStore, data: Path, config: Path) -> None:
    """A config home moved into the data directory later is noticed at the next start."""
    store.open_or_create(NOTHING, all_play=True)
    config.rename(data / "config")
    with pytest.raises(SealFileUnsafeError, match="beside"):
        SeedStore(data, entropy=CountingEntropy(), config_home=data / "config").open(NOTHING, all_play=True)


def test_passphrase_file_in_the_data_directory_is_refused(store: SeedStore, data: Path, passphrase_file: Path) -> None:
    """Nor may the passphrase lie with what it opens, also not by way of a symlink."""
    data.mkdir()
    inside = passphrase_file.rename(data / "passphrase")
    passphrase_file.symlink_to(inside)
    for path in (inside, passphrase_file):
        with pytest.raises(SealFileUnsafeError, match="beside"):
            store.open_or_create(SealSource(passphrase_file=str(path)), all_play=False)
    assert not store.exists()


def test_modes(store: SeedStore, data: Path, config: Path) -> None:
    """Files are 0600 and directories 0700, whatever the umask."""
    before = os.umask(0)
    try:
        opened = store.open_or_create(NOTHING, all_play=True)
    finally:
        os.umask(before)
    assert [mode(path) for path in (data, store.path, config / "keys", Path(opened.where))] == [0o700, 0o600, 0o700, 0o600]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o666, 0o644])
@pytest.mark.parametrize("which", ["seed", "key", "passphrase"])
def test_files_open_to_others_are_refused(store: SeedStore, passphrase_file: Path, which: str, bits: int) -> None:
    """A seed, key or passphrase file that others may read is refused, with the command that mends it."""
    source = SealSource(passphrase_file=str(passphrase_file)) if which == "passphrase" else NOTHING
    opened = store.open_or_create(source, all_play=True)
    path = {"seed": store.path, "key": Path(opened.where), "passphrase": passphrase_file}[which]
    path.chmod(bits)
    with pytest.raises(SealFileUnsafeError, match="chmod 600") as caught:
        store.open(source, all_play=True)
    assert caught.value.path == str(path)
    path.chmod(0o600)
    assert store.open(source, all_play=True).seed == opened.seed


def test_key_directory_open_to_others_is_refused(store: SeedStore, config: Path) -> None:
    """So is a directory of keys that others may enter, before a key is put there and after."""
    (config / "keys").mkdir(parents=True, mode=0o755)
    with pytest.raises(SealFileUnsafeError, match="chmod 700"):
        store.open_or_create(NOTHING, all_play=True)
    assert not store.exists()
    (config / "keys").chmod(0o700)
    store.open_or_create(NOTHING, all_play=True)
    (config / "keys").chmod(0o755)
    with pytest.raises(SealFileUnsafeError, match="chmod 700"):
        store.open(NOTHING, all_play=True)


@pytest.mark.parametrize("which", ["seed", "key"])
def test_symlinks_are_not_followed(store: SeedStore, tmp_path: Path, which: str) -> None:
    """A seed or key file replaced by a symlink is refused."""
    opened = store.open_or_create(NOTHING, all_play=True)
    path = store.path if which == "seed" else Path(opened.where)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SealFileUnsafeError, match="cannot be opened"):
        store.open(NOTHING, all_play=True)


def test_a_key_directory_that_is_a_symlink_is_refused(store: SeedStore, config: Path, tmp_path: Path) -> None:
    """Keys are not put through a symlink."""
    config.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (config / "keys").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SealFileUnsafeError, match="not a directory"):
        store.open_or_create(NOTHING, all_play=True)
    assert files(tmp_path) == {}


def test_dangling_symlink_is_no_free_place(store: SeedStore, data: Path, tmp_path: Path) -> None:
    """A symlink to nowhere in the seed's place is refused, not written through."""
    data.mkdir()
    store.path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(SealFileUnsafeError):
        store.open_or_create(PASSPHRASE, all_play=False)
    assert not (tmp_path / "nowhere").exists()


def test_passphrase_through_a_symlink(store: SeedStore, passphrase_file: Path, tmp_path: Path) -> None:
    """The operator's own symlink to the passphrase is followed, as container secrets need; its target is what is judged."""
    link = tmp_path / "link"
    link.symlink_to(passphrase_file)
    source = SealSource(passphrase_file=str(link))
    store.open_or_create(source, all_play=False)
    passphrase_file.chmod(0o644)
    with pytest.raises(SealFileUnsafeError):
        store.open(source, all_play=False)


def test_passphrase_from_a_pipe(store: SeedStore) -> None:
    """`--passphrase-file <(pass show bank)` works, on first start too: the pipe is read once."""

    def piped() -> tuple[SealSource, int]:
        reading, writing = os.pipe()
        os.write(writing, b"hunter2\n")
        os.close(writing)
        return SealSource(passphrase_file=f"/dev/fd/{reading}"), reading

    for _ in range(2):
        source, reading = piped()
        seed = store.open_or_create(source, all_play=False).seed
        os.close(reading)
    assert store.open(PASSPHRASE, all_play=False).seed == seed


def test_pipe_nobody_writes_to_does_not_hang(store: SeedStore, tmp_path: Path) -> None:
    """A named pipe without a writer is an empty passphrase, at once."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(SealSourceError, match="empty"):
        store.open_or_create(SealSource(passphrase_file=str(tmp_path / "pipe")), all_play=False)


@pytest.mark.parametrize("what", ["missing", "directory", "empty", "device"])
def test_passphrase_files_that_are_none(store: SeedStore, tmp_path: Path, what: str) -> None:
    """A missing, empty or irregular passphrase file is refused, and no seed is made."""
    path = tmp_path / "pass"
    if what == "directory":
        path.mkdir(0o700)
    elif what == "empty":
        path.touch(0o600)
    elif what == "device":
        path = Path("/dev/zero")
    with pytest.raises(RefusedError):
        store.open_or_create(SealSource(passphrase_file=str(path)), all_play=False)
    assert not store.exists()


def test_file_and_environment_are_one_passphrase(store: SeedStore, passphrase_file: Path) -> None:
    """A passphrase opens what it sealed however it is given."""
    made = store.open_or_create(SealSource(passphrase_file=str(passphrase_file)), all_play=False)
    opened = store.open(PASSPHRASE, all_play=False)
    assert (opened.seed, opened.kind, opened.where) == (made.seed, SealKind.ENVIRONMENT, "SPECIE_PASSPHRASE")


def test_wrong_passphrase(store: SeedStore, data: Path) -> None:
    """A wrong passphrase is said to be one, is not repeated, and changes nothing."""
    store.open_or_create(PASSPHRASE, all_play=False)
    before = files(data)
    with pytest.raises(PassphraseWrongError, match="wrong passphrase") as caught:
        store.open_or_create(SealSource(passphrase="*******"), all_play=False)
    assert "*******" not in str(caught.value)
    assert files(data) == before


def test_missing_key_loses_nothing(store: SeedStore, data: Path) -> None:
    """With the sealing key gone the error names its place, no new seed is made, and putting the key back opens the old."""
    made = store.open_or_create(NOTHING, all_play=True)
    key, before = Path(made.where), files(data)
    content = key.read_bytes()
    key.unlink()
    with pytest.raises(SealKeyMissingError) as caught:
        store.open_or_create(NOTHING, all_play=True)
    assert caught.value.where == str(key)
    assert str(key) in caught.value.detail
    assert files(data) == before
    key.parent.rmdir()
    with pytest.raises(SealKeyMissingError):
        store.open_or_create(NOTHING, all_play=True)
    assert not key.parent.exists()
    key.parent.mkdir(0o700)
    key.write_bytes(content)
    key.chmod(0o600)
    assert store.open(NOTHING, all_play=True).seed == made.seed


def test_missing_keyring_entry_loses_nothing(store: SeedStore, ring: FakeKeyring, data: Path) -> None:
    """The same for an entry of the keyring."""
    store.open_or_create(KEYRING, all_play=False)
    before = files(data)
    ring.entries.clear()
    with pytest.raises(SealKeyMissingError, match="keyring entry specie/mint-"):
        store.open_or_create(KEYRING, all_play=False)
    assert files(data) == before
    assert ring.entries == {}


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"zz" * 32, b"\xff" * 32, b"11" * 32])
def test_changed_key_is_damage(store: SeedStore, content: bytes) -> None:
    """A key file with other content is damage, told apart from a missing one."""
    made = store.open_or_create(NOTHING, all_play=True)
    Path(made.where).write_bytes(content)
    with pytest.raises(SeedMalformedError):
        store.open(NOTHING, all_play=True)


@pytest.mark.parametrize("source", [NOTHING, PASSPHRASE], ids=["key", "passphrase"])
def test_any_change_of_the_seed_file_is_noticed(store: SeedStore, source: SealSource) -> None:
    """Each byte of the file is guarded: a change refuses to open, and never opens as another seed."""
    store.create(SEED, source, all_play=True)
    whole = store.path.read_bytes()
    for position in range(len(whole)):
        store.path.write_bytes(whole[:position] + bytes((whole[position] ^ 1,)) + whole[position + 1 :])
        with pytest.raises(RefusedError):
            store.open(source, all_play=True)
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        store.path.write_bytes(whole[:length])
        with pytest.raises(RefusedError):
            store.open_or_create(source, all_play=True)


def test_a_seed_is_never_overwritten(store: SeedStore, data: Path) -> None:
    """Creating where a seed stands is refused, in any way, and leaves it as it was."""
    store.create(SEED, PASSPHRASE, all_play=True)
    before = files(data)
    for source in (PASSPHRASE, NOTHING, KEYRING):
        with pytest.raises(SeedExistsError):
            store.create(bytes(32), source, all_play=True)
    assert files(data) == before


def test_a_seed_that_appears_meanwhile_is_not_overwritten(
    store: SeedStore, data: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process wins the race between look and write: its seed stays, and is what both open."""
    other = SeedStore(data, entropy=CountingEntropy("other"), config_home=config)
    write_new = seed_store._write_new
    raced: list[OpenedSeed] = []

    def slow(path: Path, content: bytes) -> None:
        write_new(path, content)
        if path.suffix == ".tmp" and not raced:
            raced.append(None)  # type: ignore[arg-type]
            raced[0] = other.create(SEED, NOTHING, all_play=True)

    monkeypatch.setattr(seed_store, "_write_new", slow)
    opened = store.open_or_create(NOTHING, all_play=True)
    assert (opened.seed, opened.created) == (SEED, False)
    assert [path.name for path in data.iterdir()] == ["mint.seed"]


def test_many_starts_at_once_agree(data: Path, config: Path) -> None:
    """Eight starts at once create one seed, and all open it."""
    gate = threading.Barrier(8)

    def start(index: int) -> OpenedSeed:
        store = SeedStore(data, entropy=CountingEntropy(str(index)), config_home=config)
        gate.wait(10)
        return store.open_or_create(NOTHING, all_play=True)

    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(start, range(8)))
    assert len({one.seed for one in opened}) == 1
    assert sum(one.created for one in opened) == 1


class CrashError(BaseException):
    """The process dies here."""


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int, *, before: bool) -> Callable[[], int]:
    """Die at the step-th effect on the disk, before or after it happened; the answer counts the effects."""
    count = 0

    def wrap(owner: object, name: str) -> None:
        effect = getattr(owner, name)

        def counted(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            mine = count
            if mine > step or (mine == step and before):
                raise CrashError
            result = effect(*arguments, **options)
            if mine == step:
                raise CrashError
            return result

        monkeypatch.setattr(owner, name, counted)

    for name in ("link", "replace", "unlink", "fsync"):
        wrap(os, name)
    return lambda: count


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(1, 12))
def test_a_crash_while_creating(data: Path, config: Path, monkeypatch: pytest.MonkeyPatch, step: int, before: bool) -> None:
    """Dying at any effect leaves no seed, or the whole one; the next start works."""
    store = SeedStore(data, entropy=CountingEntropy(), config_home=config)
    with monkeypatch.context() as patched:
        crash_at(patched, step, before=before)
        with contextlib.suppress(CrashError):
            store.create(SEED, NOTHING, all_play=True)
    survived = store.exists()
    opened = SeedStore(data, entropy=CountingEntropy("restart"), config_home=config).open_or_create(NOTHING, all_play=True)
    assert opened.created is not survived
    assert (opened.seed == SEED) is survived


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(1, 12))
@pytest.mark.parametrize("way", ["to passphrase", "to key", "to keyring"])
def test_a_crash_while_resealing(
    store: SeedStore,
    data: Path,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    ring: FakeKeyring,
    way: str,
    step: int,
    before: bool,
) -> None:
    """Dying at any effect leaves the old seal or the new one, each of which opens the same seed."""
    old, new = {"to passphrase": (NOTHING, PASSPHRASE), "to key": (PASSPHRASE, NOTHING), "to keyring": (NOTHING, KEYRING)}[way]
    store.create(SEED, old, all_play=True)
    with monkeypatch.context() as patched:
        crash_at(patched, step, before=before)
        with contextlib.suppress(CrashError):
            store.reseal(old, new, all_play=True)
    restarted = SeedStore(data, entropy=CountingEntropy("restart"), config_home=config, backend=ring)
    opened = []
    for source in (old, new):
        try:
            opened.append(restarted.open(source, all_play=True).seed)
        except SealMismatchError:
            continue
    assert opened == [SEED]


def test_effects_are_really_counted(store: SeedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The crash tests above reach past the last effect: an uncrashed creation and resealing have at most 11."""
    counted = crash_at(monkeypatch, 1000, before=True)
    store.create(SEED, NOTHING, all_play=True)
    created = counted()
    store.reseal(NOTHING, PASSPHRASE, all_play=True)
    assert 5 <= created <= 11
    assert 3 <= counted() - created <= 11


@pytest.mark.parametrize(
    ("old", "new"), [(NOTHING, PASSPHRASE), (PASSPHRASE, KEYRING), (KEYRING, NOTHING), (PASSPHRASE, SealSource(passphrase="x"))]
)
def test_reseal(store: SeedStore, config: Path, ring: FakeKeyring, data: Path, old: SealSource, new: SealSource) -> None:
    """The same seed opens the new way only, and the old sealing key is gone."""
    store.create(SEED, old, all_play=True)
    assert store.reseal(old, new, all_play=True).seed == SEED
    assert store.open(new, all_play=True).seed == SEED
    with pytest.raises(RefusedError):
        store.open(old, all_play=True)
    assert len(files(config)) + len(ring.entries) == (new in (NOTHING, KEYRING))
    assert [path.name for path in data.iterdir()] == ["mint.seed"]


def test_play_money_becomes_real(store: SeedStore) -> None:
    """A play-sealed seed is resealed for real money, and cannot be resealed back to a play key then."""
    store.create(SEED, NOTHING, all_play=True)
    with pytest.raises(SealMismatchError, match="reseal"):
        store.open(PASSPHRASE, all_play=False)
    assert store.reseal(NOTHING, PASSPHRASE, all_play=False).seed == SEED
    with pytest.raises(SealSourceError):
        store.reseal(PASSPHRASE, NOTHING, all_play=False)
    assert store.open(PASSPHRASE, all_play=False).seed == SEED


def test_reseal_with_a_wrong_passphrase_changes_nothing(store: SeedStore, data: Path) -> None:
    """Who does not know the old passphrase sets no new one."""
    store.create(SEED, PASSPHRASE, all_play=False)
    before = files(data)
    with pytest.raises(PassphraseWrongError):
        store.reseal(SealSource(passphrase="guess"), SealSource(passphrase="new"), all_play=False)
    assert files(data) == before


def test_old_key_that_cannot_be_removed_undoes_nothing(store: SeedStore, ring: FakeKeyring) -> None:
    """Resealing has succeeded once the file is in place, also where the old key has vanished or stays."""
    store.create(SEED, KEYRING, all_play=False)
    entries = dict(ring.entries)
    ring.delete_password = lambda *_: (_ for _ in ()).throw(PasswordDeleteError("no"))  # type: ignore[method-assign]
    assert store.reseal(KEYRING, PASSPHRASE, all_play=False).seed == SEED
    assert ring.entries == entries


def test_missing_seed(store: SeedStore) -> None:
    """Opening and resealing what is not there says so, and makes nothing."""
    with pytest.raises(SeedMissingError):
        store.open(PASSPHRASE, all_play=False)
    with pytest.raises(SeedMissingError):
        store.reseal(PASSPHRASE, NOTHING, all_play=True)
    assert not store.exists()


@pytest.mark.parametrize("size", [0, 15, 65])
def test_seed_sizes(store: SeedStore, size: int) -> None:
    """16 to 64 bytes can be a seed."""
    with pytest.raises(ValueError):
        store.create(bytes(size), PASSPHRASE, all_play=True)


def test_wallets_and_mint_share_a_directory_and_nothing_else(data: Path, config: Path) -> None:
    """Several names of one use stand side by side; a mint's seed does not open as a wallet's in the same place."""
    seeds = {
        (use, name): SeedStore(
            data, entropy=CountingEntropy(f"{use}{name}"), use=use, name=name, config_home=config
        ).open_or_create(NOTHING, all_play=True, size=16 if use == "wallet" else 32)
        for use, name in (("mint", None), ("wallet", "alice"), ("wallet", "bob"))
    }
    assert len({opened.seed for opened in seeds.values()}) == 3
    assert sorted(path.name for path in data.iterdir()) == ["alice.seed", "bob.seed", "mint.seed"]
    with pytest.raises(SeedMalformedError, match="for a mint"):
        SeedStore(data, entropy=CountingEntropy(), use="wallet", name="mint", config_home=config).open(NOTHING, all_play=True)
    (data / "bob.seed").rename(data / "robert.seed")
    renamed = SeedStore(data, entropy=CountingEntropy(), use="wallet", name="robert", config_home=config)
    assert renamed.open(NOTHING, all_play=True).seed == seeds["wallet", "bob"].seed


@pytest.mark.parametrize("name", ["../mint", "a/b", ""])
def test_names_stay_in_their_directory(data: Path, name: str) -> None:
    """A name from the command line cannot leave the data directory."""
    if name:
        with pytest.raises(RefusedError):
            SeedStore(data, entropy=CountingEntropy(), name=name)
    else:
        assert SeedStore(data, entropy=CountingEntropy(), name=name).path == data / "mint.seed"


def test_one_call(data: Path, config: Path) -> None:
    """`open_seed` is create on the first start and open on the second."""
    first = open_seed(data, NOTHING, all_play=True, entropy=CountingEntropy(), config_home=config)
    again = open_seed(data, NOTHING, all_play=True, entropy=CountingEntropy("other"), config_home=config)
    assert (first.created, again.created, again.seed) == (True, False, first.seed)


def test_default_place_of_play_keys(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a config home given it is the user's, for this program."""
    monkeypatch.setattr(platformdirs, "user_config_path", lambda name, appauthor: tmp_path / "home" / name)
    opened = open_seed(data, NOTHING, all_play=True, entropy=CountingEntropy())
    assert Path(opened.where).parent == tmp_path / "home/specie/keys"


class PlainKeyring(FakeKeyring):
    """Stands for a keyring that this version does not know."""


PlainKeyring.__module__ = "keyrings.alt.file"


@pytest.mark.parametrize("module", ["fail", "null"])
def test_keyrings_that_keep_nothing_are_refused(data: Path, config: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's keyring may be one that fails or forgets: refused by name, and no seed is made."""
    backend = __import__(f"keyring.backends.{module}", fromlist=["Keyring"]).Keyring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)
    store = SeedStore(data, entropy=CountingEntropy(), config_home=config)
    with pytest.raises(KeyringUnsafeError, match=f"keyring.backends.{module}"):
        store.open_or_create(KEYRING, all_play=True)
    assert not data.exists()


def test_plaintext_keyring_is_refused(data: Path) -> None:
    """A plaintext keyring is refused, alone and when it is all that a chain offers."""
    plain = PlainKeyring()

    class Chain(ChainerBackend):
        backends = [plain]  # type: ignore[assignment]  # noqa: RUF012

    class EmptyChain(ChainerBackend):
        backends = []  # type: ignore[assignment]  # noqa: RUF012

    for backend, found in ((plain, "keyrings.alt.file"), (Chain(), "keyrings.alt.file"), (EmptyChain(), "none")):
        with pytest.raises(KeyringUnsafeError, match=found):
            SeedStore(data, entropy=CountingEntropy(), backend=backend).open_or_create(KEYRING, all_play=False)
    assert plain.entries == {}


def test_a_chain_is_used_for_its_safe_part_only(data: Path, ring: FakeKeyring) -> None:
    """Of several keyrings the safe one is asked directly, so nothing falls through to a plain one."""
    plain = PlainKeyring()

    class Chain(ChainerBackend):
        backends = [plain, ring]  # type: ignore[assignment]  # noqa: RUF012

    store = SeedStore(data, entropy=CountingEntropy(), backend=Chain())
    seed = store.open_or_create(KEYRING, all_play=False).seed
    assert len(ring.entries) == 1
    assert plain.entries == {}
    assert store.open(KEYRING, all_play=False).seed == seed


def test_locked_keyring_is_a_matter_of_time(store: SeedStore, ring: FakeKeyring) -> None:
    """A keyring that is locked can be tried again; no seed is made meanwhile."""
    ring.locked = True
    with pytest.raises(UnavailableError, match="KeyringLocked"):
        store.open_or_create(KEYRING, all_play=False)
    assert not store.exists()
    ring.locked = False
    store.open_or_create(KEYRING, all_play=False)
    ring.locked = True
    with pytest.raises(UnavailableError):
        store.open(KEYRING, all_play=False)


def test_keyring_that_forgets_at_once_is_noticed(store: SeedStore, ring: FakeKeyring) -> None:
    """An entry that cannot be read back is noticed before a seed depends on it."""
    ring.set_password = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(SealKeyMissingError):
        store.open_or_create(KEYRING, all_play=False)
    assert not store.exists()


def test_a_seal_that_does_not_open_is_our_fault(store: SeedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every seal is opened once before it is kept."""
    monkeypatch.setattr(seal, "unseal", lambda *_, **__: bytes(32))
    with pytest.raises(InvariantError):
        store.create(SEED, NOTHING, all_play=True)
    assert not store.exists()


@pytest.mark.parametrize("where", ["data", "config"])
def test_disks_that_cannot_be_written(store: SeedStore, data: Path, config: Path, where: str) -> None:
    """A file in a directory's place is reported as such, for data and for keys."""
    blocked = data if where == "data" else config / "keys"
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.touch()
    with pytest.raises(UnavailableError, match="Not a directory"):
        store.open_or_create(NOTHING, all_play=True)


def test_full_disk_leaves_no_rubbish(store: SeedStore, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails removes its temporary file and can be tried again."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(UnavailableError, match="No space left"):
            store.create(SEED, PASSPHRASE, all_play=True)
    assert list(data.iterdir()) == []
    assert store.create(SEED, PASSPHRASE, all_play=True).created


@pytest.mark.parametrize("kind", SealKind)
def test_the_file_says_how_it_is_sealed(store: SeedStore, kind: SealKind, passphrase_file: Path) -> None:
    """Without opening it; nothing where there is no seed. Every way has words for people."""
    assert store.form() is None
    store.create(SEED, source_of(kind, passphrase_file), all_play=True)
    assert store.form() is kind.form
    assert kind.form.label.startswith("sealed by")


def test_whether_a_keyring_works(store: SeedStore, ring: FakeKeyring, data: Path, config: Path) -> None:
    """A safe one that answers; not a locked one, nor one that protects nothing."""
    assert store.keyring_works()
    ring.locked = True
    assert not store.keyring_works()

    class Plain(FakeKeyring):
        pass

    Plain.__module__ = "keyrings.alt.file"
    assert not SeedStore(data, entropy=CountingEntropy(), config_home=config, backend=Plain()).keyring_works()


def test_a_key_file_asked_for_by_name(store: SeedStore) -> None:
    """It is one way among the others: alone, and for play money only."""
    named = SealSource(play_key=True)
    assert named.given
    assert not NOTHING.given
    with pytest.raises(SealSourceError, match="several"):
        store.create(SEED, SealSource(play_key=True, keyring=True), all_play=True)
    with pytest.raises(SealSourceError, match="real money"):
        store.create(SEED, named, all_play=False)
    assert store.create(SEED, named, all_play=True).kind is SealKind.PLAY_KEY
    assert store.open(NOTHING, all_play=True).seed == SEED
