"""The commands around a bank that does not run: settings, the operator at the store itself, and starts that are refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from specie.app.bank import open_bank, owned_directory
from specie.cli.serving import payment_id_of
from specie.ecash import MintQuoteRequest
from specie.kernel import NULL_TELEMETRY
from specie.kernel.errors import RefusedError
from specie.ops.config import load_settings
from tests.support.methods import PUBKEY


@pytest.fixture
def bank(home: Path) -> Path:
    """The data directory of a bank that was started once, with one unpaid quote."""
    data = home / "bank"

    async def once() -> None:
        settings = load_settings(None, {}, {"data_dir": data})
        async with open_bank(settings, telemetry=NULL_TELEMETRY) as opened:
            await opened.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 77))

    asyncio.run(once())
    return data


def test_the_example_file_is_one_that_can_be_used(specie, home) -> None:  # type: ignore[no-untyped-def]
    """What `config example` prints, `config check` takes."""
    file = home / "bank.toml"
    file.write_text(specie("config", "example").out)
    ran = specie("config", "check", str(file), "--json")
    assert ran.code == 0
    assert ran.json()["file"] == str(file)


def test_all_that_is_wrong_with_settings_is_told_at_once(specie, home) -> None:  # type: ignore[no-untyped-def]
    """Two mistakes, two lines, exit code 3."""
    file = home / "bank.toml"
    file.write_text("[server]\nport = 99999\nhots = 'x'\n")
    ran = specie("config", "check", str(file))
    assert ran.code == 3
    assert "server.port" in ran.err
    assert "host" in ran.err


def test_an_operator_without_a_bank_is_told_so_and_none_is_made(specie, home) -> None:  # type: ignore[no-untyped-def]
    """Asking never creates a bank."""
    ran = specie("mint", "quotes", "--data", str(home / "none"), "--json")
    assert ran.code == 3
    assert "no bank" in ran.error()["detail"]
    assert not (home / "none").exists()


def test_the_operator_reads_the_store_where_no_bank_runs(specie, bank) -> None:  # type: ignore[no-untyped-def]
    """Quotes, keysets, books and health come from the store under its lock, as they would from a running bank."""
    quotes = specie("mint", "quotes", "--data", str(bank), "--json").json()["quotes"]
    assert [quote["amount"] for quote in quotes] == [77]
    assert len(specie("mint", "keysets", "list", "--data", str(bank), "--json").json()["keysets"]) == 1
    books = specie("mint", "liabilities", "--verify", "--data", str(bank), "--json")
    assert books.code == 0
    assert books.json()["balanced"] is True
    assert books.json()["play"] is True
    assert specie("mint", "health", "--data", str(bank), "--json").json()["state"] == "ok"
    assert specie("mint", "reconcile", "--data", str(bank), "--json").json() == {"running": False, "pending": 0}


def test_play_money_is_called_so_beside_the_books(specie, bank) -> None:  # type: ignore[no-untyped-def]
    """Nobody mistakes the table for real money."""
    assert "PLAY MONEY" in specie("mint", "liabilities", "--data", str(bank)).out


def test_a_bank_that_is_being_run_by_another_is_left_alone(specie, bank) -> None:  # type: ignore[no-untyped-def]
    """Without its socket a locked store cannot be asked: refused, not waited for."""
    with owned_directory(bank):
        ran = specie("mint", "quotes", "--data", str(bank), "--json")
    assert ran.code == 3
    assert ran.error()["error"] == "DataDirectoryInUseError"


def test_a_backup_is_complete_and_never_overwrites(specie, bank, home) -> None:  # type: ignore[no-untyped-def]
    """Store and sealed seed, both private; a second backup to the same place is refused."""
    target = home / "copy.sqlite"
    ran = specie("mint", "backup", str(target), "--data", str(bank), "--json")
    assert ran.code == 0
    seed = Path(ran.json()["seed"])
    assert seed.read_bytes() == (bank / "mint.seed").read_bytes()
    assert {path.stat().st_mode & 0o777 for path in (target, seed)} == {0o600}
    assert specie("mint", "backup", str(target), "--data", str(bank)).code == 3


def test_a_backup_can_be_opened_as_a_bank(specie, bank, home) -> None:  # type: ignore[no-untyped-def]
    """Put back under their names, the two files are the bank."""
    target = home / "copy.sqlite"
    specie("mint", "backup", str(target), "--data", str(bank))
    other = home / "other"
    other.mkdir(mode=0o700)
    target.rename(other / "bank.sqlite")
    Path(f"{target}.seed").rename(other / "mint.seed")
    assert len(specie("mint", "quotes", "--data", str(other), "--json").json()["quotes"]) == 1


def test_settling_pays_one_of_the_banks_own_invoices(specie, home, bank) -> None:  # type: ignore[no-untyped-def]
    """With automatic payment off this is how play money comes in."""
    invoice = asyncio.run(_invoice(bank))
    assert specie("mint", "settle", invoice, "--data", str(bank), "--json").json() == {"settled": True}
    assert specie("mint", "settle", "ff" * 32, "--data", str(bank)).code == 3


async def _invoice(data: Path) -> str:
    settings = load_settings(None, {}, {"data_dir": data})
    async with open_bank(settings, telemetry=NULL_TELEMETRY) as opened:
        return (await opened.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 5))).request


def test_what_is_neither_invoice_nor_hash_is_refused() -> None:
    """A hash is taken as it is, an invoice by its payment hash."""
    assert payment_id_of("AB" * 32) == "ab" * 32
    with pytest.raises(RefusedError):
        payment_id_of("lnbcrt1nonsense")


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--host", "0.0.0.0"], 3, "allow-play-on-network"),
        (["--port", "70000"], 3, "server.port"),
        (["--autopay-delay", "-1"], 2, "autopay-delay"),
        (["--database", "postgresql://me:hunter2@h/x"], 2, "SPECIE_STORE_DSN"),
        (["--database", "mysql://h/x"], 3, "postgresql://"),
        (["--config", "/does/not/exist"], 3, "cannot be read"),
        (["--passphrase-file", "/does/not/exist"], 3, "/does/not/exist"),
    ],
)
def test_a_start_that_must_not_be_is_one_clear_line(specie, home, arguments, code, word) -> None:  # type: ignore[no-untyped-def]
    """Each refusal names what to do, leaves no traceback and never shows a password."""
    ran = specie("up", "--data", str(home / "bank"), *arguments)
    assert ran.code == code
    assert word in ran.err
    assert "Traceback" not in ran.err
    assert "hunter2" not in ran.err


def test_the_chain_is_moved_by_hand(specie, home, bank) -> None:  # type: ignore[no-untyped-def]
    """Blocks, a deposit, its reorganisation and its replacement, from the terminal, on a bank that does not run."""
    address, offer = asyncio.run(_requests(bank))
    data = ("--data", str(bank), "--json")
    assert specie("mint", "play", "mine", "--blocks", "2", *data).json() == {"height": 2}
    assert specie("mint", "settle", address, "--amount", "5000", *data).json() == {"settled": True}
    assert specie("mint", "settle", offer, *data).json() == {"settled": True}
    assert specie("mint", "play", "mine", "--blocks", "3", *data).json() == {"height": 5}
    assert specie("mint", "play", "reorganise", "--depth", "3", *data).json() == {"withdrawn": 1}
    assert specie("mint", "play", "reorganise", "--depth", "30", *data).code == 3
    assert specie("mint", "play", "replace", "ff" * 32, "--elsewhere", *data).code == 3
    assert specie("mint", "settle", "bcrt1qqqqqq", *data).code == 3


async def _requests(data: Path) -> tuple[str, str]:
    settings = load_settings(None, {}, {"data_dir": data})
    async with open_bank(settings, telemetry=NULL_TELEMETRY, serve=False) as opened:
        asked = [MintQuoteRequest(method, "sat", pubkey=PUBKEY) for method in ("onchain", "bolt12")]
        quotes = [await opened.mint.request_mint_quote(one) for one in asked]
        return quotes[0].request, quotes[1].request
