"""Sealed seeds on disk, and the keys that open them: passphrase, OS keyring, or a key file for play money.

    {data directory}/{name}.seed                      the sealed seed, 0600
    {config home}/keys/{use}-{seal id}.key            a play-money sealing key, 0600 in 0700
    keyring: service `specie`, user {use}-{seal id}   a sealing key in the OS keyring

What a crash leaves behind:

| after                        | create                               | reseal                                        |
|------------------------------|--------------------------------------|-----------------------------------------------|
| sealing key stored           | a key that opens nothing; start over | the old seed file, which its old key opens    |
| temporary file written       | that, and a `.tmp` of ciphertext     | that, and a `.tmp` of ciphertext              |
| seed file in place           | done                                 | done, but the old key, which opens nothing    |

Everything here blocks (a passphrase costs a quarter of a second and 64 MiB); call it on a thread where that matters.
Not here: the decisions (`keys.sealing`), and what the seed is used for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from specie.kernel import seal
from specie.kernel.encoding import hex_checked
from specie.kernel.entropy import Entropy
from specie.kernel.errors import InvariantError, MalformedError, UnavailableError
from specie.keys.errors import (
    KeyringUnsafeError,
    PassphraseWrongError,
    SealFileUnsafeError,
    SealKeyMissingError,
    SeedExistsError,
    SeedMalformedError,
    SeedMissingError,
)
from specie.keys.ports import Signer
from specie.keys.sealing import (
    PASSPHRASE_VARIABLE,
    OpenedSeed,
    SealedSeed,
    SealForm,
    SealKind,
    SealSource,
    file_checked,
    key_place_checked,
    passphrase_from_bytes,
    seal_choice,
    seal_choice_for,
    sealed_seed_from_bytes,
    sealed_seed_to_bytes,
    word_checked,
)

if TYPE_CHECKING:
    from specie.keys.adapters.keyring_secrets import KeyringSecrets
    from specie.keys.adapters.system_keyring import Keyring

__all__ = ["SeedStore", "open_seed", "read_guarded"]

_SERVICE = "specie"
_KEY_BYTES = 32
_READ_BYTES = 8192


class SeedStore:
    """One sealed seed of a data directory. `use` (`mint`, `wallet`) is bound into the seal, `name` is the file's.

    `config_home`: where a play-money key goes, by default the user's config home for specie. `backend`: a keyring in
    place of the system's. Every method may raise SealSourceError, SealFileUnsafeError, KeyringUnsafeError, and
    UnavailableError if the keyring does not answer.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        entropy: Entropy,
        use: str = "mint",
        name: str | None = None,
        config_home: Path | None = None,
        backend: Keyring | None = None,
    ) -> None:
        """Name a seed; nothing is touched. RefusedError if `use` or `name` (default: `use`) cannot be in a file name."""
        self._use = word_checked(use)
        self._data_dir = data_dir
        self._path = data_dir / f"{word_checked(name or use)}.seed"
        self._entropy = entropy
        self._key_dir = (config_home or platformdirs.user_config_path("specie", appauthor=False)) / "keys"
        self._backend = backend

    @property
    def path(self) -> Path:
        """The sealed seed's file."""
        return self._path

    def exists(self) -> bool:
        """Whether something stands where the seed belongs."""
        return os.path.lexists(self._path)

    def form(self) -> SealForm | None:
        """How the seed is sealed, as its file says; None where there is none. SeedMalformedError."""
        return self._read_sealed().form if self.exists() else None

    def keyring_works(self) -> bool:
        """Whether a keyring known to be safe answers now."""
        try:
            self._keyring().get_password(_SERVICE, "probe")
        except (KeyringUnsafeError, UnavailableError):
            return False
        return True

    def open(self, source: SealSource, *, all_play: bool) -> OpenedSeed:
        """Unseal. SeedMissingError, SealMismatchError, SealKeyMissingError, PassphraseWrongError, SeedMalformedError."""
        sealed = self._read_sealed()
        kind = seal_choice_for(sealed, source, all_play=all_play)
        seed, where = self._unseal(sealed, kind, source)
        return OpenedSeed(seed, kind, False, where, sealed.key_name)

    def create(self, seed: bytes, source: SealSource, *, all_play: bool) -> OpenedSeed:
        """Seal `seed` (16 to 64 bytes) durably before this returns. SeedExistsError, and no change, if there is one."""
        if not 16 <= len(seed) <= 64:
            raise ValueError("a seed has 16 to 64 bytes")
        kind = seal_choice(source, all_play=all_play)
        if self.exists():
            raise SeedExistsError(f"{self._path} exists; a seed is never overwritten")
        sealed, where = self._seal(seed, kind, source)
        try:
            with self._temporary(sealed_seed_to_bytes(sealed)) as temporary:
                os.link(temporary, self._path)  # unlike a rename, never replaces
        except FileExistsError:
            # The new sealing key stays behind: to remove one on a file system's word alone could lose a seed.
            raise SeedExistsError(f"{self._path} exists; a seed is never overwritten") from None
        return OpenedSeed(seed, kind, True, where, sealed.key_name)

    def open_or_create(self, source: SealSource, *, all_play: bool, size: int = 32) -> OpenedSeed:
        """Unseal, or on first use seal `size` FRESH random bytes. Of two processes that start at once one creates."""
        if not self.exists():
            with contextlib.suppress(SeedExistsError):
                return self.create(self._entropy.bytes(size), source, all_play=all_play)
        return self.open(source, all_play=all_play)

    def reseal(self, old: SealSource, new: SealSource, *, all_play: bool) -> OpenedSeed:
        """Seal the same seed in another way, or under another passphrase, at once or not at all; errors as `open`.

        `all_play` speaks of the new way: a play-money key can be left behind when money becomes real. The old sealing
        key is removed at the end.
        """
        before = self._read_sealed()
        seed, _ = self._unseal(before, seal_choice_for(before, old, all_play=True), old)
        kind = seal_choice(new, all_play=all_play)
        after, where = self._seal(seed, kind, new)
        with self._temporary(sealed_seed_to_bytes(after)) as temporary:
            os.replace(temporary, self._path)
        self._forget_key(before)
        return OpenedSeed(seed, kind, False, where, after.key_name)

    def secrets(self, opened: OpenedSeed, signer: Signer) -> KeyringSecrets | None:
        """Where secrets beside this seed belong if the keyring seals it; None if it is sealed in another way."""
        if opened.kind is not SealKind.KEYRING:
            return None
        from specie.keys.adapters.keyring_secrets import KeyringSecrets

        return KeyringSecrets(opened.key_name, signer, self._keyring)

    def _read_sealed(self) -> SealedSeed:
        try:
            data = read_guarded(self._path, kind="the sealed seed")
        except FileNotFoundError:
            raise SeedMissingError(f"there is no sealed seed at {self._path}") from None
        return sealed_seed_from_bytes(data, use=self._use)

    def _seal(self, seed: bytes, kind: SealKind, source: SealSource) -> tuple[SealedSeed, str]:
        """Seal under a new seal id, storing a new sealing key where the kind has one, and prove that it opens."""
        empty = SealedSeed(self._use, kind.form, self._entropy.bytes(16).hex(), b"")
        context, nonce = empty.header, self._entropy.bytes(seal.NONCE_BYTES)
        if kind.form is SealForm.PASSPHRASE:
            passphrase, where = self._passphrase(kind, source)  # read once: it may come from a pipe
            salt = self._entropy.bytes(seal.SALT_BYTES)
            blob = seal.seal_with_passphrase(seed, passphrase, salt=salt, nonce=nonce, context=context)
            opened = seal.unseal_with_passphrase(blob, passphrase, context=context)
        else:
            key = self._entropy.bytes(_KEY_BYTES)
            self._store_key(empty, key)
            stored, where = self._load_key(empty)
            blob = seal.seal(seed, key, nonce=nonce, context=context)
            opened = seal.unseal(blob, stored, context=context)
        if opened != seed:
            raise InvariantError("a seed just sealed does not open; nothing was changed")
        return SealedSeed(empty.use, empty.form, empty.seal_id, blob), where

    def _unseal(self, sealed: SealedSeed, kind: SealKind, source: SealSource) -> tuple[bytes, str]:
        try:
            if kind.form is SealForm.PASSPHRASE:
                passphrase, where = self._passphrase(kind, source)
                return seal.unseal_with_passphrase(sealed.blob, passphrase, context=sealed.header), where
            key, where = self._load_key(sealed)
            return seal.unseal(sealed.blob, key, context=sealed.header), where
        except seal.SealBrokenError:
            if kind.form is SealForm.PASSPHRASE:
                raise PassphraseWrongError(f"wrong passphrase for {self._path}, or the file was changed") from None
            raise SeedMalformedError(f"{self._path} does not open with its own key: one of the two was changed") from None
        except MalformedError as error:
            raise SeedMalformedError(f"{self._path} is damaged: {error.detail}") from None

    def _passphrase(self, kind: SealKind, source: SealSource) -> tuple[bytes, str]:
        if kind is SealKind.ENVIRONMENT:
            return passphrase_from_bytes((source.passphrase or "").encode()), PASSPHRASE_VARIABLE
        path = Path(source.passphrase_file or "")
        real, data_dir = path.resolve(), self._data_dir.resolve()
        if data_dir in real.parents:
            raise SealFileUnsafeError(f"the passphrase file {path} stands beside what it opens; move it", path=str(path))
        try:
            data = read_guarded(path, kind="the passphrase file", follow=True)
        except FileNotFoundError:
            raise SealKeyMissingError(f"there is no passphrase file {path}", where=str(path)) from None
        return passphrase_from_bytes(data), str(path)

    def _key_path(self, sealed: SealedSeed) -> Path:
        return self._key_dir / f"{sealed.key_name}.key"

    def _store_key(self, sealed: SealedSeed, key: bytes) -> None:
        if sealed.form is SealForm.KEYRING:
            self._keyring().set_password(_SERVICE, sealed.key_name, key.hex())
            return
        key_place_checked(self._key_dir.resolve(), self._data_dir.resolve())
        with _disk_errors(self._key_dir):
            _make_directory(self._key_dir)
            self._key_dir_checked()
            _write_new(self._key_path(sealed), key.hex().encode() + b"\n")
            _sync_directory(self._key_dir)

    def _load_key(self, sealed: SealedSeed) -> tuple[bytes, str]:
        if sealed.form is SealForm.KEYRING:
            where = f"keyring entry {_SERVICE}/{sealed.key_name}"
            text = self._keyring().get_password(_SERVICE, sealed.key_name)
        else:
            where = str(self._key_path(sealed))
            key_place_checked(self._key_dir.resolve(), self._data_dir.resolve())
            text = self._read_key_file(sealed)
        if text is None:
            raise SealKeyMissingError(
                f"the key that opens {self._path} is missing: {where}. The sealed seed is untouched; put the key back",
                where=where,
            )
        return hex_checked(text.strip(), _KEY_BYTES), where

    def _read_key_file(self, sealed: SealedSeed) -> str | None:
        try:
            self._key_dir_checked()
            return read_guarded(self._key_path(sealed), kind="the sealing key").decode("ascii", "replace")
        except FileNotFoundError:
            return None

    def _key_dir_checked(self) -> None:
        status = os.lstat(self._key_dir)
        if not stat.S_ISDIR(status.st_mode):
            raise SealFileUnsafeError(f"{self._key_dir} is not a directory", path=str(self._key_dir))
        _status_checked(status, self._key_dir, kind="the directory of sealing keys")

    def _forget_key(self, sealed: SealedSeed) -> None:
        """Remove a sealing key that opens nothing any more. That it cannot be removed undoes nothing."""
        if sealed.form is SealForm.PLAY_KEY:
            with contextlib.suppress(OSError):
                os.unlink(self._key_path(sealed))
                _sync_directory(self._key_dir)
        elif sealed.form is SealForm.KEYRING:
            with contextlib.suppress(UnavailableError):
                self._keyring().delete_password(_SERVICE, sealed.key_name)

    def _keyring(self) -> Keyring:
        from specie.keys.adapters.system_keyring import safe_keyring

        return safe_keyring(self._backend)

    @contextlib.contextmanager
    def _temporary(self, data: bytes) -> Iterator[Path]:
        """A durable file beside the seed, gone at the end; the directory is made durable after the body succeeded."""
        temporary = self._data_dir / f".{self._path.name}.{self._entropy.bytes(8).hex()}.tmp"
        with _disk_errors(self._data_dir):
            _make_directory(self._data_dir)
            try:
                _write_new(temporary, data)
                yield temporary
                _sync_directory(self._data_dir)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)


def open_seed(
    data_dir: Path,
    source: SealSource,
    *,
    all_play: bool,
    entropy: Entropy,
    use: str = "mint",
    name: str | None = None,
    config_home: Path | None = None,
) -> OpenedSeed:
    """`SeedStore.open_or_create` in one call: what a bank does at each start."""
    store = SeedStore(data_dir, entropy=entropy, use=use, name=name, config_home=config_home)
    return store.open_or_create(source, all_play=all_play)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise UnavailableError(f"cannot write in {path}: {error.strerror}", retry_after_s=5.0) from error


def _status_checked(status: os.stat_result, path: Path, *, kind: str) -> None:
    file_checked((status.st_mode, status.st_uid, status.st_gid), user=os.geteuid(), path=str(path), kind=kind)


def read_guarded(path: Path, *, kind: str, follow: bool = False) -> bytes:
    """Read a small file that nobody else may read. Only with `follow` through a symlink, or from a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SealFileUnsafeError(f"{kind} {path} cannot be opened: {error.strerror}", path=str(path)) from None
    try:
        status = os.fstat(descriptor)
        if not (stat.S_ISREG(status.st_mode) or (follow and stat.S_ISFIFO(status.st_mode))):
            raise SealFileUnsafeError(f"{kind} {path} is not a regular file", path=str(path))
        _status_checked(status, path, kind=kind)
        os.set_blocking(descriptor, True)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(_READ_BYTES)
    finally:
        os.close(descriptor)


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist, mode 0600, down to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
