"""Backups of a living wallet: made, proved and taken up, with a real mint behind it; and nothing leaks on the way."""

from __future__ import annotations

import io
import logging
import os
import shutil
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from specie.app import vault as module
from specie.app.vault import drill_backup, read_backup, words_of_backup
from specie.app.wallet import Wallet
from specie.app.wallet_sealing import live_words, reseal_wallet, wallet_seal
from specie.kernel import seal
from specie.kernel.errors import InvariantError, RefusedError, UnavailableError, UncertainError
from specie.keys import (
    PassphraseWrongError,
    SealForm,
    SealMismatchError,
    SealSource,
    SealSourceError,
    SealTooWeakError,
    SecretStore,
)
from specie.storage.adapters.sqlite import SqliteStorage
from specie.storage.errors import SchemaError
from specie.storage.ports import Migration
from specie.wallet import P2PK
from specie.wallet.adapters.schema import MIGRATIONS
from specie.wallet.errors import BackupForeignError, BackupLockedError, BackupMalformedError
from tests.support.wallets import MINT_URL, SETTINGS, World, world

SEALED, KEY_FILE = SealSource(passphrase="canary passphrase"), SealSource(play_key=True)
OTHER_WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2id at its least cost: its strength is not what is tested here."""
    monkeypatch.setattr(seal, "_ITERATIONS", 1)
    monkeypatch.setattr(seal, "_LANES", 1)
    monkeypatch.setattr(seal, "_MEMORY_KIB", 64)


class Place:
    """A mint, and wallets in directories at it."""

    def __init__(self, w: World, home: Path) -> None:
        self.w = w
        self.home = home

    @asynccontextmanager
    async def wallet(
        self, name: str, *, mint: bool = True, sealed: SealSource = SEALED, **more: object
    ) -> AsyncIterator[Wallet]:
        """An open wallet in a directory; it trusts the mint."""
        opening = Wallet.open(
            self.home / name,
            sealed=sealed,
            settings=SETTINGS,
            clients=lambda url: self.w.clients[url],
            clock=self.w.clock,
            config_home=self.home / "config",
            **more,  # type: ignore[arg-type]
        )
        async with opening as wallet:
            if mint:
                await wallet.add_mint(MINT_URL)
            yield wallet

    async def drill(self, file: Path, **more: object) -> module.DrillReport:
        return await drill_backup(file, clients=lambda url: self.w.clients[url], **more)  # type: ignore[arg-type]


@asynccontextmanager
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with world() as w:
        yield Place(w, tmp_path)


def _bytes(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}


async def test_what_words_cannot_bring_back_comes_from_a_backup(tmp_path: Path) -> None:
    """Locked coins, an off-line receipt, a secret, keys and history, in a new wallet, by the passphrase alone."""
    async with place(tmp_path) as p:
        async with p.wallet("alice") as alice, p.wallet("bob") as bob:
            await p.w.fund(alice, 100)
            await p.w.fund(bob, 16)
            locked = await alice.send(8, lock=P2PK((await bob.p2pk_key(),)))
            await alice.receive((await bob.send(5)).text, offline=True)
            key = await alice.p2pk_key()
            await alice.secrets.put("access token", "canary of a token")
            before = await alice.balance()
            await alice.backup(tmp_path / "backup", passphrase="open sesame")
            words = alice.words()
            lines = await alice.history()
        assert (tmp_path / "backup").stat().st_mode & 0o777 == 0o600
        assert words_of_backup(tmp_path / "backup", "open sesame") == words
        shutil.rmtree(tmp_path / "alice")
        async with p.wallet("again", mint=False, words=words) as again:
            taken = await again.vault.restore(tmp_path / "backup", passphrase="open sesame")
            assert (taken.open, taken.unreachable) == ({}, [])
            assert {one.state for one in taken.looks} == {"UNSPENT"}
            assert await again.balance() == before
            assert await again.history() == lines
            assert await again.secrets.get("access token") == "canary of a token"
            assert [view.url for view in await again.mints()] == [MINT_URL]
            assert await again.p2pk_key() != key
            assert await again.secure() > 0
            async with p.wallet("bob") as bob:
                assert (await bob.receive(locked.text)).amount == 8
                await again.check_pending()
                await bob.check_pending()
                await p.w.books_hold(again, bob)


async def test_an_old_backup_shows_nothing_that_was_spent(tmp_path: Path) -> None:
    """What was spent since is known to be spent, in the wallet itself and in a new one; nothing older wins."""
    async with place(tmp_path) as p, p.wallet("alice") as alice, p.wallet("bob") as bob:
        await p.w.fund(alice, 64)
        await alice.backup(tmp_path / "old")
        await bob.receive((await alice.send(20)).text)
        await alice.check_pending()
        words, before, lines = alice.words(), await alice.balance(), await alice.history()
        taken = await alice.vault.restore(tmp_path / "old")
        assert await alice.balance() == before
        assert await alice.history() == lines
        assert sum(one.added + one.changed for one in taken.merged.tables) == 0
        async with p.wallet("again", mint=False, words=words) as again:
            await again.vault.restore(tmp_path / "old")
            assert (await again.balance()).available == 0  # the rest came by a swap that the backup does not know
            await again.restore()
            assert (await again.balance()).available == before.available
            await p.w.books_hold(again, bob)


async def test_a_mint_out_of_reach_leaves_coins_to_be_asked_about(tmp_path: Path) -> None:
    """Restored without a network nothing is shown as free; the next look frees it."""
    async with place(tmp_path) as p:
        async with p.wallet("alice") as alice:
            await p.w.fund(alice, 64)
            await alice.backup(tmp_path / "backup")
            words = alice.words()
        async with p.wallet("again", mint=False, words=words) as again:
            p.w.faults.plant("before", "check_state", *[UnavailableError("no network")] * 50)
            taken = await again.vault.restore(tmp_path / "backup")
            assert taken.unreachable == [MINT_URL]
            balance = await again.balance()
            assert (balance.available, balance.reserved) == (0, 64)
            p.w.faults.before.clear()
            p.w.clock.skip(60)
            await again.check_pending()
            assert (await again.balance()).available == 64


async def test_two_copies_that_went_their_own_ways_are_one_again(tmp_path: Path) -> None:
    """The same wallet on two devices, each with its own payments, tokens and interruptions: together they hold what is owed."""
    async with place(tmp_path) as p:
        async with p.wallet("one") as one:
            await p.w.fund(one, 64)
            await p.w.fund(one, 32)
            words = one.words()
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        async with p.wallet("one") as one, p.wallet("two") as two, p.wallet("bob") as bob:
            await bob.receive((await one.send(64)).text)
            await p.w.fund(one, 8)
            await p.w.fund(bob, 16)
            await two.receive((await bob.send(16)).text)
            token = await two.send(32)
            await two.backup(tmp_path / "two.backup")
            taken = await one.vault.restore(tmp_path / "two.backup")
            assert taken.open == {}
            await one.restore()
            await one.check_pending()
            await bob.check_pending()
            await p.w.books_hold(one, bob)
            assert token.token_id in {sent.token_id for sent in await one.tokens()}
            await one.reclaim(token.text)
            await p.w.books_hold(one, bob)
            before = await one.balance()
            await one.vault.restore(tmp_path / "two.backup")
            assert await one.balance() == before
        assert words


async def test_open_operations_are_taken_up(tmp_path: Path) -> None:
    """A swap whose answer was lost when the backup was made is carried to its end by the wallet made from it."""
    async with place(tmp_path) as p:
        async with p.wallet("alice") as alice:
            await p.w.fund(alice, 64)
            p.w.faults.plant("after", "swap", *[UncertainError("lost")] * 50)
            with pytest.raises(UncertainError):
                await alice.send(20)
            p.w.faults.after.clear()
            if not await alice.operations():
                pytest.fail("the operation was to stay open")
            await alice.backup(tmp_path / "backup")
            words = alice.words()
        async with p.wallet("again", mint=False, words=words) as again:
            p.w.clock.skip(60)
            taken = await again.vault.restore(tmp_path / "backup")
            assert taken.open == {}
            balance = await again.balance()
            assert balance.total == 64
            await p.w.books_hold(again)


async def test_backups_of_others_and_bad_files_change_nothing(tmp_path: Path) -> None:
    """Other words, no backup, a wrong passphrase, a file that exists: refused, and the wallet is as before."""
    async with place(tmp_path) as p, p.wallet("alice") as alice, p.wallet("bob") as bob:
        await p.w.fund(alice, 10)
        await bob.backup(tmp_path / "bobs", passphrase="open sesame")
        (tmp_path / "junk").write_bytes(b"junk")
        before = await alice.history()
        with pytest.raises(BackupForeignError):
            await alice.vault.restore(tmp_path / "bobs", passphrase="open sesame")
        with pytest.raises(BackupLockedError):
            await alice.vault.restore(tmp_path / "bobs")
        with pytest.raises(BackupLockedError):
            await alice.vault.restore(tmp_path / "bobs", passphrase="barley")
        for name in ("junk", "missing"):
            with pytest.raises(BackupMalformedError):
                await alice.vault.restore(tmp_path / name)
        with pytest.raises(RefusedError, match="exists"):
            await alice.backup(tmp_path / "junk")
        assert (tmp_path / "junk").read_bytes() == b"junk"
        with pytest.raises(UnavailableError):
            await alice.backup(tmp_path / "nowhere" / "backup")
        with pytest.raises(BackupForeignError):
            await p.drill(tmp_path / "bobs", words=OTHER_WORDS, passphrase="open sesame")
        assert await alice.history() == before


@pytest.mark.parametrize("step", ["fsync", "link", "_flush"])
async def test_a_backup_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Whichever step fails: an error of ours, and no file that looks like a backup without being one; the next try succeeds."""
    async with place(tmp_path) as p, p.wallet("alice") as alice:
        with monkeypatch.context() as patched:

            def failing(*_: object) -> None:
                raise OSError(28, "No space left on device")

            patched.setattr(module if step == "_flush" else os, step, failing)
            with pytest.raises(UnavailableError):
                await alice.backup(tmp_path / "backup")
        assert not (tmp_path / "backup.partial").exists()
        if (tmp_path / "backup").exists():
            assert step == "_flush"  # the name may not last, what it names is whole
            assert read_backup(tmp_path / "backup", words=alice.words()).tables
        else:
            await alice.backup(tmp_path / "backup")


async def test_a_drill_proves_a_backup_and_touches_nothing(tmp_path: Path) -> None:
    """Byte for byte the live wallet is what it was, also while it is open; what is missing from the backup is counted."""
    async with place(tmp_path) as p:
        async with p.wallet("alice") as alice, p.wallet("bob") as bob:
            await p.w.fund(alice, 64)
            words = alice.words()
            await alice.backup(tmp_path / "backup", passphrase="open sesame")
            before = _bytes(tmp_path / "alice")
            report = await p.drill(tmp_path / "backup", words=words, live=tmp_path / "alice", ask_mints=True)
            assert _bytes(tmp_path / "alice") == before
            assert report.complete
            assert report.ways == {"words", "passphrase"}
            assert [(one.backup, one.live) for one in report.held] == [(64, 64)]
            assert [(one.state, one.amount) for one in report.looks] == [("UNSPENT", 64)]
            assert {one.table for one in report.tables} >= {"wallet_proof", "wallet_history", "wallet_secret"}
            await bob.receive((await alice.send(20)).text)
            stale = await p.drill(tmp_path / "backup", passphrase="open sesame", live=tmp_path / "alice", ask_mints=True)
            assert not stale.complete
            assert {one.table for one in stale.tables if one.missing} >= {"wallet_history", "wallet_proof"}
            assert {one.state for one in stale.looks} == {"SPENT"}
        alone = await p.drill(tmp_path / "backup", words=words)
        assert (alone.complete, alone.compared) == (True, False)
        nobody = await p.drill(tmp_path / "backup", words=words, live=tmp_path / "no wallet")
        assert nobody.complete


async def test_a_drill_of_an_encrypted_wallet(tmp_path: Path) -> None:
    """The copy it compares with is opened by the same words."""
    async with place(tmp_path) as p:
        async with p.wallet("alice", encrypt=True) as alice:
            assert alice.encrypted
            await p.w.fund(alice, 8)
            await alice.backup(tmp_path / "backup")
            words = alice.words()
        report = await p.drill(tmp_path / "backup", words=words, live=tmp_path / "alice")
        assert report.complete
        assert [(one.backup, one.live) for one in report.held] == [(8, 8)]


async def test_a_wallet_that_keeps_changing_is_not_compared_by_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the files change while they are copied the drill says so."""
    async with place(tmp_path) as p:
        async with p.wallet("alice") as alice:
            await alice.backup(tmp_path / "backup")
            words = alice.words()
        path, real = tmp_path / "alice" / "wallet.db", shutil.copyfile

        def busy(source: Path, target: Path) -> None:
            real(source, target)
            os.utime(path, ns=(1, os.stat(path).st_mtime_ns + 1))

        monkeypatch.setattr(module.shutil, "copyfile", busy)
        with pytest.raises(UnavailableError, match="being used"):
            await p.drill(tmp_path / "backup", words=words, live=tmp_path / "alice")


async def test_backups_of_other_schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One made before a migration is brought up to date; one of a newer program is refused in plain words."""
    async with place(tmp_path) as p:
        async with p.wallet("alice") as alice:
            await p.w.fund(alice, 8)
            await alice.backup(tmp_path / "old")
            words = alice.words()
        more = (*MIGRATIONS, Migration("wallet", len(MIGRATIONS) + 1, "ALTER TABLE wallet_history ADD COLUMN note TEXT;", ""))
        with monkeypatch.context() as later:
            later.setattr(module, "MIGRATIONS", more)
            later.setattr("specie.app.wallet_plugs.MIGRATIONS", more)
            assert (await p.drill(tmp_path / "old", words=words, live=tmp_path / "alice")).complete
            async with p.wallet("alice") as alice:
                await alice.vault.restore(tmp_path / "old")
                await alice.backup(tmp_path / "new")
        copies = list((tmp_path / "alice").glob("wallet.db.wallet*.backup"))
        assert len(copies) == 1  # the file as it was before the migration
        assert copies[0].stat().st_mode & 0o077 == 0
        for attempt in (
            lambda: p.drill(tmp_path / "new", words=words),
            lambda: p.wallet("alice").__aenter__(),
        ):
            with pytest.raises(SchemaError, match="newer than this program"):
                await attempt()
        old = SqliteStorage(copies[0])
        assert await old.read(lambda tx: tx.fetch("SELECT COUNT(*) FROM wallet_proof WHERE state = 'UNSPENT'")) == [(1,)]
        await old.close()


async def test_a_table_that_nobody_could_take_up_stops_the_backup(tmp_path: Path) -> None:
    """A backup that could not come back is not made."""
    async with place(tmp_path) as p, p.wallet("alice") as alice:
        stray = Migration("stray", 1, "CREATE TABLE stray_thing (x TEXT) STRICT;", "")
        await alice._context.storage.migrate([stray])
        with pytest.raises(InvariantError, match="stray_thing"):
            await alice.backup(tmp_path / "backup")
        assert not (tmp_path / "backup").exists()


async def test_coins_are_encrypted_at_rest(tmp_path: Path) -> None:
    """Secrets of coins are found by grep in a plain wallet and in no file of an encrypted one; the words alone open it."""
    async with place(tmp_path) as p:
        async with p.wallet("alice") as alice:
            await p.w.fund(alice, 8)
            proofs = await alice._proofs()
            words = alice.words()
            (tmp_path / "alice" / "wallet.db.wallet1.x.backup").touch()
            await alice._context.storage.backup(tmp_path / "alice" / "wallet.db.wallet1.y.backup")
        secrets = [stored.proof.secret.encode() for stored in proofs]

        def found() -> list[str]:
            return [name for name, data in _bytes(tmp_path / "alice").items() if any(secret in data for secret in secrets)]

        assert set(found()) == {"wallet.db", "wallet.db.wallet1.y.backup"}
        async with p.wallet("alice", encrypt=True) as alice:
            assert found() == []
            assert (await alice.balance()).available == 8
            await p.w.fund(alice, 4)
            assert found() == []
        async with p.wallet("alice") as alice:  # stays as it is
            assert alice.encrypted
            assert (await alice.balance()).available == 12
        (tmp_path / "alice" / "wallet.seed").unlink()
        async with p.wallet("alice", words=words) as alice:
            assert (await alice.balance()).available == 12
        (tmp_path / "alice" / "wallet.seed").unlink()
        with pytest.raises(RefusedError, match="does not open with this key"):
            async with p.wallet("alice", words=OTHER_WORDS):
                pass
        (tmp_path / "alice" / "wallet.seed").unlink()
        async with p.wallet("alice", words=words, encrypt=False) as alice:
            assert not alice.encrypted
            assert (await alice.balance()).available == 12


async def test_never_weaker_by_itself(tmp_path: Path) -> None:
    """Without a keyring nothing is chosen silently; a wallet sealed by a passphrase is opened by nothing less."""
    async with place(tmp_path) as p:
        with pytest.raises(SealSourceError, match="--key-file"):
            async with p.wallet("alice", sealed=SealSource()):
                pass
        assert not (tmp_path / "alice").exists()
        async with p.wallet("alice", mint=False):
            pass
        for less in (SealSource(), KEY_FILE):
            with pytest.raises(SealMismatchError):
                async with p.wallet("alice", sealed=less):
                    pass
        assert wallet_seal(tmp_path / "alice") is SealForm.PASSPHRASE
        assert wallet_seal(tmp_path / "nobody") is None


async def test_a_key_file_takes_play_money_only(tmp_path: Path) -> None:
    """A mint that does not announce play money is refused, however it comes; once the wallet is resealed it is taken."""
    async with place(tmp_path) as p:
        async with p.wallet("rich") as rich:
            await p.w.fund(rich, 8)
            await rich.backup(tmp_path / "backup")
            words = rich.words()
            async with p.wallet("giver") as giver:
                await p.w.fund(giver, 8)
                token = (await giver.send(4)).text
        async with p.wallet("poor", mint=False, sealed=KEY_FILE, words=words) as poor:
            for attempt in (
                lambda: poor.add_mint(MINT_URL),
                lambda: poor.receive(token, trust=True),
                lambda: poor.restore([MINT_URL]),
                lambda: poor.vault.restore(tmp_path / "backup"),
            ):
                with pytest.raises(SealTooWeakError, match="specie wallet reseal"):
                    await attempt()
            assert await poor.mints() == []
        where = {"config_home": tmp_path / "config"}
        assert await reseal_wallet(tmp_path / "poor", KEY_FILE, SEALED, **where) is SealForm.PASSPHRASE
        assert list((tmp_path / "config" / "keys").iterdir()) == []
        async with p.wallet("poor") as poor:
            await poor.vault.restore(tmp_path / "backup")
            assert (await poor.balance()).available == 8
        with pytest.raises(SealTooWeakError):
            await reseal_wallet(tmp_path / "poor", SEALED, KEY_FILE, **where)
        assert live_words(tmp_path / "poor", SEALED) == words
        with pytest.raises(PassphraseWrongError):
            await reseal_wallet(tmp_path / "poor", SealSource(passphrase="wrong"), SEALED, **where)


async def test_secrets_are_kept_sealed(tmp_path: Path) -> None:
    """Put, got, replaced and deleted; never plaintext on disk, not even of an unencrypted wallet."""
    async with place(tmp_path) as p, p.wallet("alice") as alice:
        store: SecretStore = alice.secrets
        await store.put("token at mint", "canary of a token")
        assert await store.get("token at mint") == "canary of a token"
        await store.put("token at mint", "canary of another")
        assert await store.get("token at mint") == "canary of another"
        assert not any(b"canary" in data for data in _bytes(tmp_path / "alice").values())
        await store.delete("token at mint")
        await store.delete("token at mint")
        assert await store.get("token at mint") is None
        for name, secret in (("", "x"), ("n" * 513, "x"), ("n", "x" * 70_000)):
            with pytest.raises(RefusedError):
                await store.put(name, secret)


async def test_nothing_leaks(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """Words, entropy, passphrases, tokens and keys: in no log, error, traceback, repr or file of the wallet."""
    caplog.set_level(logging.DEBUG)
    told = io.StringIO()
    async with place(tmp_path) as p:
        async with p.wallet("alice", encrypt=True) as alice:
            words, entropy = alice.words(), alice._entropy_bytes
            await alice.secrets.put("access", "canary of a token")
            await alice.backup(tmp_path / "backup", passphrase="canary of the backup")
            told.write(repr((alice, alice.vault, alice.sealed, vars(alice.vault).keys())))
        attempts = (
            lambda: p.wallet("alice", sealed=SealSource(passphrase="canary of a guess")).__aenter__(),
            lambda: p.wallet("alice", words=OTHER_WORDS).__aenter__(),
            lambda: p.drill(tmp_path / "backup", passphrase="canary of a guess"),
            lambda: p.drill(tmp_path / "backup", words=OTHER_WORDS),
        )
        for attempt in attempts:
            try:
                await attempt()
            except RefusedError as error:
                told.write("".join(traceback.format_exception(error)))
            else:
                pytest.fail("it was to be refused")
    out = capfd.readouterr()
    said = told.getvalue() + caplog.text + out.out + out.err
    for secret in ("canary", words, OTHER_WORDS, entropy.hex(), repr(entropy)):
        assert secret not in said, secret
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.is_dir(), path
        if path.is_file():
            data = path.read_bytes()
            assert not any(one in data for one in (b"canary", words.encode(), entropy, entropy.hex().encode())), path
    assert (tmp_path / "alice").stat().st_mode & 0o777 == 0o700
