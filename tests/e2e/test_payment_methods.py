"""Every payment method from the terminal, at real banks over loopback; one invoice paid by three of them together."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import coincurve
import pytest

from specie.kernel import curve
from specie.kernel.encoding import bech32_encode, convert_bits
from specie.lightning import InvoiceDraft, Network, encode_invoice, encode_offer
from tests.support.programs import SPECIE, RunningBank, home_environment, running_bank

pytestmark = pytest.mark.e2e

RAILS = """
[[rails]]
kind = "play"
autopay_delay_s = 0.2
{network}
[[rails]]
kind = "play"
method = "bolt12"
autopay_delay_s = 0.2
[[rails]]
kind = "play"
method = "onchain"
confirmations = 2
block_s = 0.2
autopay_delay_s = 0.2
[[rails]]
kind = "play"
method = "gift_card"
autopay_delay_s = 0.2
"""


@contextlib.contextmanager
def bank_with_all_rails(home: Path, name: str, network: Path | None = None) -> Iterator[RunningBank]:
    """A bank with every kind of rail; those of one `network` pay parts of one invoice."""
    settings = home / f"{name}.toml"
    settings.write_text(RAILS.format(network="" if network is None else f'network = "{network}"'))
    with running_bank(home, "--config", str(settings), "--data", str(home / name)) as running:
        yield running


class Terminal:
    """Somebody's terminal."""

    def __init__(self, home: Path, url: str) -> None:
        self.home = home
        self.environment = home_environment(home, SPECIE_WALLET_MINT_URL=url)

    def __call__(self, *words: str, code: int = 0) -> Any:
        done = subprocess.run(
            [*SPECIE, "wallet", *words, "--json"],
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBank]:
    """One bank with all kinds of rails."""
    with bank_with_all_rails(tmp_path_factory.mktemp("bank"), "one") as running:
        yield running


@pytest.fixture
def wallet(bank: RunningBank, tmp_path: Path) -> Terminal:
    """A fresh home."""
    return Terminal(tmp_path, bank.url)


def _address(name: int) -> str:
    return bech32_encode("bcrt", [0, *convert_bits(bytes([name]) * 20, 8, 5, pad=True)])


def foreign_invoice(amount_msat: int, name: str) -> str:
    """An invoice of a node that no bank here has."""
    key = coincurve.PrivateKey(b"\x09" * 32)

    def sign(digest: bytes) -> tuple[bytes, int]:
        signature = key.sign_recoverable(digest, hasher=None)
        return signature[:64], signature[64]

    import time

    draft = InvoiceDraft(
        network=Network.REGTEST,
        amount_msat=amount_msat,
        timestamp=int(time.time()),
        payment_hash=hashlib.sha256(name.encode()).digest(),
        payment_secret=hashlib.sha256(b"secret" + name.encode()).digest(),
        description=name,
    )
    return asyncio.run(encode_invoice(draft, sign))


@pytest.mark.parametrize("method", ["bolt12", "onchain", "gift_card"])
def test_money_comes_in_by_every_method(wallet: Terminal, method: str) -> None:
    """`mint --method`: shown, paid by the play network, confirmed where that has a meaning, claimed."""
    minted = wallet("mint", "10000", "--method", method)
    assert (minted["amount"], minted["method"], minted["play"]) == (10_000, method, True)
    assert wallet("balance")["balance"] == {"sat": 10_000}
    (quote,) = [one for one in wallet("quotes")["quotes"] if one["method"] == method]
    assert (quote["paid"], quote["claimed"]) == (10_000, 10_000)


def test_an_address_is_shown_with_its_amount(wallet: Terminal) -> None:
    """`invoice --method onchain` answers a BIP 21 URI; the next commands claim what arrives."""
    asked = wallet("invoice", "15000", "--method", "onchain")
    assert asked["uri"] == f"bitcoin:{asked['invoice']}?amount=0.00015"
    import time

    for _ in range(100):
        if wallet("balance")["balance"]:
            break
        time.sleep(0.2)
    assert wallet("balance")["balance"] == {"sat": 10_000}  # what the play network pays to an address


def test_payments_by_every_method(wallet: Terminal) -> None:
    """An offer, an address with its fee options followed to its confirmation, a URI, a method of the bank's own."""
    wallet("mint", "50000")
    offer = encode_offer(
        network=Network.REGTEST,
        issuer_id=curve.public_key(b"\x09" * 32),
        metadata=b"m" * 16,
        amount_msat=21_000,
        description="x",
    ).text
    assert wallet("pay", offer)["amount"] == 21
    paid = wallet("pay", _address(1), "--amount", "10000", "--blocks", "144")
    assert (paid["state"], paid["amount"]) == ("PENDING", 10_000)
    wallet("resume", "--wait", "20")
    (line, *_) = [one for one in wallet("history")["history"] if one["kind"] == "pay"]
    assert (line["amount"], line["fee"] <= paid["fee"]) == (10_000, True)
    assert wallet("pending")["operations"] == []
    wallet("pay", f"bitcoin:{_address(2)}?amount=0.0001&label=shop")
    wallet("resume", "--wait", "20")
    assert wallet("pay", "play:gift_card:" + "ab" * 20, "--method", "gift_card", "--amount", "7")["state"] == "PAID"
    assert "names no amount" in wallet("pay", _address(3), code=3)
    assert "fee option" in wallet("pay", _address(3), "--amount", "10000", "--fee-index", "9", code=3)


def test_three_banks_pay_one_invoice(tmp_path: Path) -> None:
    """No bank has enough alone: the wallet splits, all parts arrive or none, and the history shows one payment."""
    network = tmp_path / "network.sqlite"
    with contextlib.ExitStack() as stack:
        banks = [stack.enter_context(bank_with_all_rails(tmp_path, name, network)) for name in ("one", "two", "three")]
        wallet = Terminal(tmp_path, banks[0].url)
        for running in banks:
            wallet("mints", "add", running.url)
            wallet("mint", "400", "--mint", running.url)
        assert wallet("balance")["balance"] == {"sat": 1200}
        wallet("pay", foreign_invoice(1_300_000, "too much"), code=3)
        paid = wallet("pay", foreign_invoice(1_000_000, "rent"))
        assert (paid["state"], paid["amount"], len(paid["parts"])) == ("PAID", 1000, 3)
        assert sum(part["amount"] for part in paid["parts"]) == 1000
        assert paid["balance"] == 200 - paid["fee"]
        lines = [one for one in wallet("history")["history"] if one["kind"] == "pay"]
        assert {one["payment"] for one in lines} == {paid["operation"]}
        wallet("pay", foreign_invoice(1_000_000, "rent"), "--split", code=3)
        done = subprocess.run(
            [*SPECIE, "wallet", "history"], env=wallet.environment, capture_output=True, text=True, timeout=60, check=True
        )
        assert "by several mints" in done.stdout
