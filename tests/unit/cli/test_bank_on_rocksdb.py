"""A bank with its books in RocksDB, from the command line: chosen once, copied in use, never beside a second store."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from specie.app.bank import open_bank
from specie.ecash import MintQuoteRequest
from specie.kernel import NULL_TELEMETRY
from specie.kernel.errors import RefusedError
from specie.ops.config import load_settings
from tests.support.rocks import needs_rocksdb

pytestmark = needs_rocksdb


@pytest.fixture
def bank(home: Path) -> Path:
    """The data directory of a bank on RocksDB that was started once, with one unpaid quote."""
    data = home / "bank"

    async def once() -> None:
        settings = load_settings(None, {"SPECIE_STORE_ENGINE": "rocksdb"}, {"data_dir": data})
        async with open_bank(settings, telemetry=NULL_TELEMETRY) as opened:
            await opened.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 77))
            assert opened.storage.status().engine == "rocksdb"

    asyncio.run(once())
    return data


def test_the_operator_reads_it(specie, bank) -> None:  # type: ignore[no-untyped-def]
    """With the engine said, quotes, books and health come as from any store; `config check` says where they are."""
    quotes = specie("mint", "quotes", "--data", str(bank), "--store", "rocksdb", "--json").json()["quotes"]
    assert [quote["amount"] for quote in quotes] == [77]
    assert specie("mint", "liabilities", "--verify", "--data", str(bank), "--store", "rocksdb", "--json").json()["balanced"]
    health = specie("mint", "health", "--data", str(bank), "--store", "rocksdb", "--json").json()
    assert next(check for check in health["checks"] if check["name"] == "store")["facts"]["engine"] == "rocksdb"


@pytest.mark.parametrize("first", ["rocksdb", "sqlite"])
def test_a_second_store_beside_the_first_is_refused(specie, home, first) -> None:  # type: ignore[no-untyped-def]
    """An empty store would take spent coins again: a bank started with the other engine says where its books are, and stops."""
    other = {"rocksdb": "sqlite", "sqlite": "rocksdb"}[first]
    data = home / "bank"

    async def start(engine: str) -> None:
        settings = load_settings(None, {}, {"data_dir": data, "store.engine": engine})
        async with open_bank(settings, telemetry=NULL_TELEMETRY):
            pass

    asyncio.run(start(first))
    with pytest.raises(RefusedError, match=rf"bank\.{first}.*--store {first}"):
        asyncio.run(start(other))
    assert not (data / f"bank.{other}").exists()
    ran = specie("mint", "quotes", "--data", str(data), "--store", other, "--json")
    assert ran.code == 3
    asyncio.run(start(first))


def test_a_backup_can_be_opened_as_a_bank(specie, bank, home) -> None:  # type: ignore[no-untyped-def]
    """A directory and the sealed seed, both private; never over another; put back under their names they are the bank."""
    target = home / "copy.rocksdb"
    ran = specie("mint", "backup", str(target), "--data", str(bank), "--store", "rocksdb", "--json")
    assert ran.code == 0
    assert ran.json()["bytes"] > 1000
    assert target.stat().st_mode & 0o777 == 0o700
    assert specie("mint", "backup", str(target), "--data", str(bank), "--store", "rocksdb").code == 3
    other = home / "other"
    other.mkdir(mode=0o700)
    target.rename(other / "bank.rocksdb")
    Path(f"{target}.seed").rename(other / "mint.seed")
    assert len(specie("mint", "quotes", "--data", str(other), "--store", "rocksdb", "--json").json()["quotes"]) == 1


def test_a_bank_has_one_store(home: Path) -> None:
    """RocksDB beside PostgreSQL is a mistake in the settings, and is told with them."""
    with pytest.raises(RefusedError, match=r"store\.engine"):
        load_settings(None, {}, {"data_dir": home, "store.engine": "rocksdb", "store.dsn": "postgresql://h/d"})


def test_without_its_library_the_reason_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install, and no store of another kind instead."""
    for name in [one for one in sys.modules if one.startswith("specie.storage.adapters.rocks")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rocksdict", None)
    settings = load_settings(None, {}, {"data_dir": home / "bank", "store.engine": "rocksdb"})

    async def start() -> None:
        async with open_bank(settings, telemetry=NULL_TELEMETRY):
            pass

    with pytest.raises(RefusedError, match="rocksdict"):
        asyncio.run(start())
    assert not list((home / "bank").glob("bank.*"))
