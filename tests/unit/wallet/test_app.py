"""The wallet as a directory: made once, opened by its owner alone, without a server in sight; and without a loop."""

from __future__ import annotations

import inspect
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import specie
from specie.app import sync_parts
from specie.app.sync_wallet import SyncWallet
from specie.app.wallet import Opening, Wallet, wallet_directory, wallet_names
from specie.kernel import MalformedError, UnavailableError
from specie.keys import SealSource
from specie.keys.errors import PassphraseWrongError, SeedExistsError, SeedMissingError
from specie.wallet import Wallet as Engine
from specie.wallet.engine import wallet as engine
from tests.support.direct_client import DirectClient
from tests.support.house import House, house
from tests.support.two_mints import OTHER_URL, network
from tests.support.wallets import MINT_URL, SETTINGS

KEY_FILE, PASSPHRASE = SealSource(play_key=True), SealSource(passphrase="correct horse")
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
OTHER_WORDS = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"
FOREIGN = (
    "starlette",
    "uvicorn",
    "specie.server",
    "specie.mint",
    "specie.cli",
    "specie.ops",
    "asyncpg",
    "prometheus_client",
    "nostr_sdk",
)


def test_import_loads_no_server() -> None:
    """`specie.Wallet` pulls in no web framework, no mint, no database server's driver and no Nostr library."""
    code = "import sys, specie; specie.Wallet; specie.SyncWallet; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60).stdout.split()
    assert not [name for name in loaded if name.startswith(FOREIGN)]
    assert "specie.wallet" in loaded


async def test_made_once_and_opened_again(tmp_path: Path) -> None:
    """Fresh words are made once, kept sealed, and given to the owner; files are nobody else's to read."""
    home, config = tmp_path / "data", tmp_path / "config"
    async with Wallet.open("alice", sealed=KEY_FILE, home=home, config_home=config) as wallet:
        assert wallet.created
        words = wallet.words()
        assert len(words.split()) == 12
        key = await wallet.p2pk_key()
        assert wallet.directory == home / "wallets" / "alice"
    for path in wallet.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert words.encode() not in path.read_bytes()
    again = await Wallet.open("alice", sealed=KEY_FILE, home=home, config_home=config, words=words)
    try:
        assert not again.created
        assert again.words() == words
        assert await again.p2pk_key() != key
    finally:
        await again.close()
        await again.close()
    assert wallet_names(home=home) == ["alice"]


async def test_words_of_another_wallet_are_refused(tmp_path: Path) -> None:
    """An existing wallet is never overwritten, and a missing one is made only where that is wanted."""
    async with Wallet.open(tmp_path / "w", sealed=KEY_FILE, words=WORDS, config_home=tmp_path / "c") as wallet:
        assert wallet.words() == WORDS
    with pytest.raises(SeedExistsError):
        await Wallet.open(tmp_path / "w", sealed=KEY_FILE, words=OTHER_WORDS, config_home=tmp_path / "c")
    with pytest.raises(MalformedError):
        await Wallet.open(tmp_path / "v", sealed=KEY_FILE, words="zoo " * 12, config_home=tmp_path / "c")
    with pytest.raises(SeedMissingError):
        await Wallet.open(tmp_path / "v", create=False, config_home=tmp_path / "c")
    assert not (tmp_path / "v").exists()


async def test_sealed_by_a_passphrase(tmp_path: Path) -> None:
    """With a passphrase nothing else opens it."""
    async with Wallet.open(tmp_path / "w", sealed=SealSource(passphrase="correct horse")) as wallet:
        words = wallet.words()
    with pytest.raises(PassphraseWrongError):
        await Wallet.open(tmp_path / "w", sealed=SealSource(passphrase="wrong horse!"))
    async with Wallet.open(tmp_path / "w", sealed=SealSource(passphrase="correct horse")) as wallet:
        assert wallet.words() == words


LEFT_OUT = {"Exits.guard", "Requests.watch", "Requests.close"}
"""What never ends, and what closing the wallet does."""


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a" * 65, "a b", "é"])
def test_names_stay_in_the_data_home(name: str) -> None:
    """A name is one plain path segment."""
    with pytest.raises(MalformedError):
        wallet_directory(name)
    assert wallet_directory(Path(name)) == Path(name)


def test_synchronous_face_has_every_verb() -> None:
    """What `Wallet` can do `SyncWallet` can, with the same parameters."""
    for name, member in inspect.getmembers(Wallet, inspect.isfunction):
        if name.startswith("_"):
            continue
        twin = getattr(SyncWallet, name, None)
        assert twin is not None, name
        assert list(inspect.signature(twin).parameters) == list(inspect.signature(member).parameters), name
    for part, kind in inspect.get_annotations(Engine).items():
        there, here = vars(engine)[kind], vars(sync_parts)[inspect.get_annotations(SyncWallet)[part]]
        for name, member in inspect.getmembers(there, inspect.isfunction):
            if not name.startswith("_") and f"{kind}.{name}" not in LEFT_OUT:
                twin = getattr(here, name)
                assert inspect.signature(twin) == inspect.signature(member), (part, name)
    assert specie.Wallet is Wallet
    assert specie.SyncWallet is SyncWallet
    with pytest.raises(AttributeError):
        specie.Nothing  # noqa: B018


def test_synchronous_wallet_end_to_end(tmp_path: Path) -> None:
    """Two wallets without a loop move money; a backup opens; closing twice is fine."""
    banks: dict[str, House] = {}
    clients = {}

    with SyncWallet.open(tmp_path / "alice", sealed=PASSPHRASE, clients=lambda url: clients[url], settings=SETTINGS) as alice:
        running = house()
        bank = banks["bank"] = alice._run(running.__aenter__())
        clients[MINT_URL] = DirectClient(bank.mint, MINT_URL)
        alice.add_mint(MINT_URL)
        assert [view.url for view in alice.mints()] == [MINT_URL]
        quote = alice.mint_quote(100)
        assert alice.mint_quotes() == [quote]
        assert alice.find_mint_quote(quote.request.upper()) == quote
        alice._run(bank.pay(alice._run(bank.mint.mint_quote(quote.quote, "bolt11"))))
        assert alice.claim(alice.wait(quote, timeout_s=5)) == 100
        token = alice.send(37)
        assert alice.reclaim(alice.tokens()[0].text).amount == token.amount
        token = alice.send(4, offline=True)
        alice.split([7, 9])
        alice.consolidate()
        assert alice.rotate() == 0
        assert alice.operations() == []
        assert alice.resume().open == {}
        assert alice.check_pending().claimed == []
        assert alice.transfers.entries() == []
        assert alice.targets.set(MINT_URL, maximum=1000).maximum == 1000
        assert alice.targets.clear() == 1
        assert [one.available for one in alice.exits.stuck()] == [sum(b.available for b in alice.balances())]
        assert alice.offline.status() == []
        assert alice.secure() == 0
        assert [b.total for b in alice.balances()] == [100]
        assert alice.melt_quotes() == []
        assert len(alice.p2pk_key()) == 66
        alice.restore(p2pk_keys=2)
        assert alice.history(limit=1)[0].kind in {"consolidate", "split"}
        alice.backup(tmp_path / "copy.db")
        alice._run(running.__aexit__(None, None, None))
    alice.close()
    assert (tmp_path / "copy.db").stat().st_size > 0
    assert alice.balance is not None


async def test_opening_looks_after_the_mints(tmp_path: Path) -> None:
    """With a policy that moves money an opening checks when it is due and has the reports; `watch=False` asks nobody."""
    async with network() as w:

        def opened(**options: Any) -> Opening:
            options |= {"clients": w.clients.__getitem__, "clock": w.clock, "settings": SETTINGS}
            return Wallet.open(tmp_path / "alice", sealed=PASSPHRASE, **options)

        async with opened() as wallet:
            for url in (MINT_URL, OTHER_URL):
                await wallet.add_mint(url)
            await w.fund(wallet, 500)
            w.by_mint[MINT_URL].plant("before", "request_melt_quote", UnavailableError("no connection"))
            assert (await wallet.exits.leave(MINT_URL)).transfers == []
            assert wallet.watched == ()
        w.clock.skip(3700)
        async with opened(watch=False) as wallet:
            assert wallet.watched == ()
            assert (await wallet.balance(mint=MINT_URL)).available == 500
        async with opened() as wallet:
            assert [one.health.mint for one in wallet.watched if one.departure is not None] == [MINT_URL]
            assert (await wallet.balance(mint=OTHER_URL)).available > 450
        async with opened() as wallet:
            assert wallet.watched == ()
