"""A wallet's files: how its seed is opened or made, and which key its database has.

    {directory}/wallet.seed     the words' entropy, sealed
    {directory}/wallet.db       coins, journal, history; encrypted if the owner wishes, by a key derived from the words
    {directory}/wallet.db.*.backup   copies made before a change of schema

Whether a database is encrypted is read from its first bytes, so that a conversion that was interrupted leaves nothing to guess.
Everything here blocks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from specie.kernel.entropy import Entropy
from specie.kernel.hd import entropy_from_words, seed_from_words, words_from_entropy
from specie.kernel.seal import derived_key
from specie.keys import OpenedSeed, SealSource, SealSourceError, SeedExistsError, SeedMissingError
from specie.keys.adapters.seed_store import SeedStore
from specie.keys.sealing import WALLET_PASSPHRASE_VARIABLE, SealForm
from specie.storage.adapters.sqlite_file import convert_file, is_encrypted

__all__ = [
    "backup_key",
    "convert_database",
    "database_key",
    "open_seed",
    "seed_store",
]

_ENTROPY_BYTES = 16
_USE = "wallet"
_WAYS = (
    "no keyring that is known to be safe works here, so say how the wallet's words are to be sealed: "
    f"by a passphrase (--passphrase-file or {WALLET_PASSPHRASE_VARIABLE}; SealSource(passphrase=...) in a program), "
    "or, for play money alone, by a key file (--key-file; SealSource(play_key=True))"
)


def seed_store(directory: Path, entropy: Entropy, config_home: Path | None = None) -> SeedStore:
    """The sealed seed of a wallet's directory."""
    return SeedStore(directory, entropy=entropy, use=_USE, config_home=config_home)


def open_seed(
    directory: Path, source: SealSource, words: str | None, create: bool, entropy: Entropy, config_home: Path | None
) -> OpenedSeed:
    """Open the sealed entropy, or seal that of `words` or FRESH one.

    Where `source` says nothing, an existing seed is opened as it is sealed, and a new one goes to a keyring that is known to
    be safe; where there is none, SealSourceError: nothing weaker is chosen here.
    """
    wanted = None if words is None else entropy_from_words(words)
    seeds = seed_store(directory, entropy, config_home)
    if seeds.exists():
        if not source.given and seeds.form() is SealForm.KEYRING:
            source = SealSource(keyring=True)
        opened = seeds.open(source, all_play=True)
        if wanted is not None and wanted != opened.seed:
            raise SeedExistsError(f"{seeds.path} belongs to other words; a seed is never overwritten")
        return opened
    if not create:
        raise SeedMissingError(f"there is no wallet in {directory}")
    if not source.given:
        if not seeds.keyring_works():
            raise SealSourceError(_WAYS)
        source = SealSource(keyring=True)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return seeds.create(wanted if wanted is not None else entropy.bytes(_ENTROPY_BYTES), source, all_play=True)


def _seed(entropy_bytes: bytes) -> bytes:
    return seed_from_words(words_from_entropy(entropy_bytes))


def database_key(entropy_bytes: bytes) -> bytes:
    """The key of the wallet's database (32 bytes), derived from its words."""
    return derived_key(_seed(entropy_bytes), "specie wallet database 1")


def backup_key(entropy_bytes: bytes) -> bytes:
    """The key that opens the wallet's backups by its words (32 bytes)."""
    return derived_key(_seed(entropy_bytes), "specie wallet backup 1")


def _databases(directory: Path) -> Iterator[Path]:
    """The database, and the copies made before changes of its schema; the database last."""
    yield from sorted(directory.glob("wallet.db.*.backup"))
    if os.path.lexists(directory / "wallet.db"):
        yield directory / "wallet.db"


def convert_database(directory: Path, key: bytes, *, encrypt: bool) -> int:
    """Encrypt or decrypt the database and its copies, each at once or not at all; how many files were changed.

    No process may have the wallet open. After an interruption the next call goes on: what is done already is left alone.
    """
    changed = 0
    for path in _databases(directory):
        if is_encrypted(path) is not encrypt:
            convert_file(path, old=None if encrypt else key, new=key if encrypt else None)
            changed += 1
    for left in directory.glob("*.converting"):
        with contextlib.suppress(OSError):
            left.unlink()
    return changed
