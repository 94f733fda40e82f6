"""The mistake: the sealing key lies in the directory of what it seals, so a copy of the directory is the money.

Whoever copies, backs up or steals the data directory of a bank or a wallet has ciphertext and nothing that opens it: not the
key, not the passphrase, not the seed, and no key derived from it, in any file and in no usual spelling.
"""

from __future__ import annotations

import base64
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from specie.kernel.hd import words_from_entropy
from specie.keys import SealSource
from specie.keys.adapters.seed_store import SeedStore
from specie.keys.adapters.software import SoftwareSigner
from specie.keys.errors import SealFileUnsafeError, SealKeyMissingError
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import Purse, house
from tests.support.virtual import SeededEntropy

SEED = bytes(range(100, 132))


def spellings(secret: bytes) -> Iterator[bytes]:
    """A secret as it might be written by mistake."""
    yield from (secret, secret[::-1], secret.hex().encode(), secret.hex().upper().encode())
    yield base64.b64encode(secret).rstrip(b"=")
    yield base64.urlsafe_b64encode(secret).rstrip(b"=")
    yield str(int.from_bytes(secret, "big")).encode()


def found_in(directory: Path, *secrets: bytes) -> list[str]:
    """Files below a directory that hold one of the secrets in some spelling."""
    needles = [needle for secret in secrets for needle in spellings(secret)]
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return [path.name for path in files if any(needle in path.read_bytes() for needle in needles)]


def stores(tmp_path: Path) -> tuple[SeedStore, Path, Path]:
    data, config = tmp_path / "data", tmp_path / "config"
    data.mkdir(mode=0o700)
    config.mkdir(mode=0o700)
    return SeedStore(data, entropy=SeededEntropy("seal"), config_home=config), data, config


def test_the_play_key_lies_elsewhere(tmp_path: Path) -> None:
    """The random key of a play bank is in the config home, 0600; the data directory alone opens nothing."""
    store, data, config = stores(tmp_path)
    store.create(SEED, SealSource(), all_play=True)
    (key_file,) = [path for path in config.rglob("*") if path.is_file()]
    key = bytes.fromhex(key_file.read_text().strip())
    assert len(key) == 32
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert found_in(data, key, SEED) == []
    assert found_in(config, SEED) == []
    key_file.unlink()
    with pytest.raises(SealKeyMissingError):
        store.open(SealSource(), all_play=True)


@pytest.mark.parametrize("place", ["data", "data/keys", "data/a/b", "."])
def test_a_key_is_not_put_beside_its_ciphertext_when_told_to(tmp_path: Path, place: str) -> None:
    """A config home inside, around or at the data directory is refused, and nothing is left behind."""
    data = tmp_path / "keys" / "data" if place == "." else tmp_path / "data"
    data.mkdir(mode=0o700, parents=True)
    store = SeedStore(data, entropy=SeededEntropy("seal"), config_home=tmp_path / place)
    with pytest.raises(SealFileUnsafeError):
        store.create(SEED, SealSource(), all_play=True)
    assert not store.exists()


def test_a_passphrase_file_is_not_taken_from_there_either(tmp_path: Path) -> None:
    """Not directly, and not through a link that leads there."""
    store, data, _ = stores(tmp_path)
    inside = data / "passphrase"
    inside.write_text("correct horse battery staple\n")
    inside.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(inside)
    for path in (inside, link):
        with pytest.raises(SealFileUnsafeError):
            store.create(SEED, SealSource(passphrase_file=str(path)), all_play=True)
    assert not store.exists()


def test_a_passphrase_leaves_no_trace(tmp_path: Path) -> None:
    """Sealed by a passphrase: neither it nor the seed is in the data directory, and no key is made anywhere."""
    store, data, config = stores(tmp_path)
    passphrase = "correct horse battery staple"
    store.create(SEED, SealSource(passphrase=passphrase), all_play=False)
    assert found_in(data, SEED, passphrase.encode()) == []
    assert list(config.rglob("*")) == []


async def test_a_banks_store_holds_no_private_key(tmp_path: Path) -> None:
    """After minting, swapping and paying, the store's files and a backup hold neither the seed nor a signing key."""
    data = tmp_path / "data"
    data.mkdir()
    from tests.support.house import SEED as BANK_SEED

    storage = SqliteStorage(data / "bank.sqlite")
    async with house(storage=storage) as bank:
        purse = Purse(bank)
        await purse.swap(await purse.mint(64), [32, 32])
        ref = bank.mint._context.catalogue.get(bank.keyset().id).ref
        private = [bank.signer._mint_key(ref, amount).secret for amount in (1, 32, 64)]
        private += [bank.signer._ref_key("node").secret, bank.signer._ref_key("mint").secret]
        await storage.backup(data / "copy.sqlite")
    await storage.close()
    assert all(len(secret) == 32 for secret in private)
    assert found_in(data, BANK_SEED, *private) == []


async def test_a_wallets_directory_holds_no_words(tmp_path: Path) -> None:
    """A wallet made and used: its words, their entropy and its keys are in no file of its directory, nor in a backup."""
    from specie import Wallet
    from specie.keys import SealSource

    directory, config = tmp_path / "wallet", tmp_path / "config"
    config.mkdir(mode=0o700)
    async with Wallet.open(directory, sealed=SealSource(play_key=True), config_home=config) as wallet:
        words = wallet.words()
        await wallet.p2pk_key()
        await wallet.backup(directory / "copy.db")
        signer = wallet._context.signer
        assert isinstance(signer, SoftwareSigner)
        private = signer._ref_key("p2pk/0").secret
    from specie.kernel.hd import entropy_from_words

    assert words_from_entropy(entropy_from_words(words)) == words
    assert found_in(directory, words.encode(), entropy_from_words(words), private) == []
    assert found_in(config, words.encode(), entropy_from_words(words), private) == []
