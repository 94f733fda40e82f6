"""The wallet's commands against a real bank: every verb, as text and as JSON, with its errors and exit codes."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coincurve
import pytest

from specie.cli.program import run
from specie.lightning import InvoiceDraft, Network, encode_invoice
from tests.support.programs import SPECIE, RunningBank, home_environment, running_bank

pytestmark = pytest.mark.e2e

DEAD = "http://127.0.0.1:1"


@dataclass(frozen=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Standard output as JSON, of a command that worked."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    def error(self) -> dict[str, Any]:
        """Standard error as JSON."""
        found: dict[str, Any] = json.loads(self.err.strip().splitlines()[-1])["error"]
        return found


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBank]:
    """One bank for all tests here; its invoices pay themselves after 0.3 s."""
    with running_bank(tmp_path_factory.mktemp("bank"), "--autopay-delay", "0.3") as running:
        yield running


@pytest.fixture
def specie(bank: RunningBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `specie` in this process, in a home of its own; `stdin` is what is piped in."""
    for name, value in home_environment(tmp_path, SPECIE_WALLET_MINT_URL=bank.url, COLUMNS="100").items():
        monkeypatch.setenv(name, value)

    def call(*arguments: object, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


def _balance(specie: Run, name: str = "default") -> int:
    found: int = specie("wallet", "balance", "--name", name, "--json").json()["balance"].get("sat", 0)
    return found


def test_the_first_command_makes_the_wallet_and_trusts_the_bank_here(specie: Run) -> None:
    """No init, no mint to add: `mint 100` is enough, and says that the words want to be seen."""
    ran = specie("wallet", "mint", "100")
    assert ran.code == 0
    assert "100 sat minted" in ran.out
    assert "PLAY" in ran.out
    assert "specie wallet words" in ran.err
    found = specie("wallet", "balance", "--json").json()
    assert found["balance"] == {"sat": 100}
    assert found["mints"][0]["play"] is True
    assert "PLAY" in specie("wallet", "balance").out


def test_a_token_travels_from_one_wallet_to_another(specie: Run) -> None:
    """Standard output is the token alone; the QR code is beside it; a second time it is refused as spent."""
    specie("wallet", "mint", "64")
    sent = specie("wallet", "send", "21", "--memo", "for tea")
    token = sent.out.strip()
    assert token.startswith("cashuB")
    assert "\n" not in token
    assert "█▀▀▀▀▀▀▀█" in sent.err
    got = specie("wallet", "receive", token, "--name", "bob")
    assert "21 sat received" in got.out
    assert "for tea" in got.out
    assert _balance(specie, "bob") == 21
    again = specie("wallet", "receive", "-", "--name", "carol", "--json", stdin=token + "\n")
    assert again.code == 3
    assert again.error()["code"] == 11001
    assert _balance(specie) == 43


def test_options_may_stand_before_the_command(specie: Run) -> None:
    """`specie wallet --name bob mint 5` is bob's."""
    assert specie("wallet", "--name", "bob", "mint", "5").code == 0
    assert _balance(specie, "bob") == 5
    assert specie("wallet", "list", "--json").json() == {"wallets": ["bob"]}


def test_an_invoice_is_paid_by_another_wallet_and_claimed_later(specie: Run) -> None:
    """`invoice | pay -`: the payer pays, and the payee's next command has the money."""
    specie("wallet", "mint", "50")
    specie("wallet", "balance", "--name", "bob")  # so that bob's wallet is there
    invoice = specie("wallet", "invoice", "10", "--name", "bob", "--memo", "tea").out.strip()
    assert invoice.startswith("lnbcrt")
    paid = specie("wallet", "pay", "-", "--json", stdin=invoice)
    if paid.code == 0:  # it may have paid itself first: then bob has the money all the same
        assert (paid.json()["amount"], paid.json()["fee"], paid.json()["play"]) == (10, 0, True)
        assert _balance(specie) == 40
    for _ in range(50):
        if _balance(specie, "bob"):
            break
        time.sleep(0.1)
    seen = specie("wallet", "history", "--name", "bob", "--json")
    assert [(entry["kind"], entry["amount"]) for entry in seen.json()["history"]] == [("mint", 10)]
    assert specie("wallet", "pay", invoice, "--json").code == 3


def test_a_price_is_told_before_it_is_paid(specie: Run) -> None:
    """Amount and fee are on standard error; a fee above --max-fee is refused and nothing is paid."""
    specie("wallet", "mint", "50")
    foreign = _foreign_invoice()
    ran = specie("wallet", "pay", foreign, "--max-fee", "0", "--json")
    assert ran.code == 3
    assert ran.error()["error"] == "FeeExceedsLimitError"
    ran = specie("wallet", "pay", foreign)
    assert ran.code == 0
    assert "at most" in ran.err
    assert "10 sat paid" in ran.out
    assert 35 <= _balance(specie) <= 40


def _foreign_invoice() -> str:
    """A regtest invoice of somebody else, of 10 sat."""
    key = coincurve.PrivateKey(b"\x07" * 32)

    def sign(digest: bytes) -> tuple[bytes, int]:
        signed = key.sign_recoverable(digest, hasher=None)
        return signed[:64], signed[64]

    draft = InvoiceDraft(
        network=Network.REGTEST,
        amount_msat=10_000,
        timestamp=int(time.time()),
        payment_hash=hashlib.sha256(os.urandom(32)).digest(),
        payment_secret=os.urandom(32),
        description="elsewhere",
        features=frozenset({8, 14}),
    )
    return asyncio.run(encode_invoice(draft, sign))


def test_too_little_money_is_refused_with_its_facts(specie: Run) -> None:
    """Needed and available are attributes for programs, a sentence for people."""
    specie("wallet", "mint", "5")
    error = specie("wallet", "send", "21", "--json").error()
    assert (error["kind"], error["needed"], error["available"], error["unit"]) == ("refused", 21, 5, "sat")
    assert specie("wallet", "send", "21").code == 3


def test_a_locked_token_opens_for_its_key_alone(specie: Run) -> None:
    """`lock` names a key, `send --lock` locks to it; another wallet is refused, the right one receives."""
    specie("wallet", "mint", "32")
    key = specie("wallet", "lock", "--name", "bob").out.strip()
    token = specie("wallet", "send", "8", "--lock", key, "--locktime", "1h", "--no-qr").out.strip()
    wrong = specie("wallet", "receive", token, "--name", "carol", "--json")
    assert wrong.code == 3
    assert specie("wallet", "receive", token, "--name", "bob").code == 0
    assert _balance(specie, "bob") == 8


def test_a_blinded_lock_hides_the_key_and_opens_for_it(specie: Run) -> None:
    """`send --to KEY --blind`: the key is not in the token, and only its wallet redeems it."""
    from specie.ecash import decode_token

    specie("wallet", "mint", "32")
    key = specie("wallet", "lock", "--name", "bob").out.strip()
    token = specie("wallet", "send", "8", "--to", key, "--blind", "--no-qr").out.strip()
    assert all(coin.p2pk_e is not None and key not in coin.secret for coin in decode_token(token).proofs)
    assert specie("wallet", "receive", token, "--name", "carol").code == 3
    assert specie("wallet", "receive", token, "--name", "bob").code == 0
    assert _balance(specie, "bob") == 8


def test_a_quote_is_claimed_by_its_id_after_a_restore(specie: Run, tmp_path: Path) -> None:
    """The words and the quote's id bring back what was paid while the wallet was lost."""
    from specie import SyncWallet
    from specie.keys import SealSource

    specie("wallet", "mint", "8")
    words = specie("wallet", "words").out.strip()
    mint = specie("wallet", "mints", "--json").json()["mints"][0]["url"]
    with SyncWallet.open(tmp_path / "lost", words=words, mint=mint, sealed=SealSource(play_key=True)) as shadow:
        quote = shadow.mint_quote(21)
        shadow.wait(quote, timeout_s=20)
    claimed = specie("wallet", "claim", quote.quote, "--json").json()
    assert claimed["amount"] == 21
    assert specie("wallet", "claim", quote.quote).code == 3


def test_a_hash_locked_token_opens_with_its_preimage(specie: Run) -> None:
    """HTLC by `--htlc` and `--preimage`."""
    specie("wallet", "mint", "32")
    preimage = bytes(range(32))
    token = specie("wallet", "send", "4", "--htlc", hashlib.sha256(preimage).hexdigest(), "--no-qr").out.strip()
    assert specie("wallet", "receive", token, "--name", "bob").code == 3
    assert specie("wallet", "receive", token, "--name", "bob", "--preimage", preimage.hex()).code == 0


@pytest.mark.parametrize("arguments", [["--locktime", "1h"], ["--blind"], ["--lock", "02" * 33, "--locktime", "soon"]])
def test_a_lock_that_makes_no_sense_is_a_usage_error(specie: Run, arguments: list[str]) -> None:
    """Exit code 2, and nothing is sent."""
    specie("wallet", "mint", "8")
    assert specie("wallet", "send", "4", *arguments).code == 2
    assert _balance(specie) == 8


def test_a_token_can_be_taken_back_until_it_is_redeemed(specie: Run) -> None:
    """`reclaim` by text; `pending` lists it before and not after."""
    specie("wallet", "mint", "16")
    token = specie("wallet", "send", "6", "--no-qr").out.strip()
    waiting = specie("wallet", "pending", "--json").json()
    assert [one["amount"] for one in waiting["tokens"]] == [6]
    assert "token" in specie("wallet", "pending").out
    assert specie("wallet", "reclaim", token, "--json").json()["amount"] == 6
    assert specie("wallet", "pending", "--json").json()["tokens"] == []
    assert _balance(specie) == 16


def test_off_line_receipt_is_secured_later(specie: Run) -> None:
    """--offline asks nobody and says what is left to do; `tidy` does it."""
    specie("wallet", "mint", "16")
    specie("wallet", "mints", "add", os.environ["SPECIE_WALLET_MINT_URL"], "--name", "bob")
    token = specie("wallet", "send", "6", "--no-qr").out.strip()
    got = specie("wallet", "receive", token, "--offline", "--name", "bob")
    assert got.code == 0
    assert "tidy" in got.out
    assert specie("wallet", "tidy", "--name", "bob", "--json").json()["secured"] == 6
    assert specie("wallet", "reclaim", token).code == 3


def test_a_wallet_comes_back_from_its_words(specie: Run, tmp_path: Path) -> None:
    """Words by pipe and by file, never on the command line; other words do not fit an existing wallet."""
    specie("wallet", "mint", "100")
    specie("wallet", "send", "21", "--no-qr")
    words = specie("wallet", "words").out.strip()
    assert len(words.split()) == 12
    restored = specie("wallet", "restore", "--name", "copy", "--json", stdin=words + "\n").json()
    assert restored["balance"] == {"sat": 100}  # the token was not redeemed: its coins are still there
    file = tmp_path / "words"
    file.write_text("\n".join(words.split()))
    assert specie("wallet", "restore", "--name", "other", "--words-file", str(file)).code == 0
    wrong = specie("wallet", "restore", "--name", "copy", "--json", stdin="abandon " * 11 + "about")
    assert (wrong.code, wrong.error()["error"]) == (3, "SeedExistsError")
    assert specie("wallet", "restore", "--name", "none", stdin="no such words").code == 3
    assert specie("wallet", "restore", "--name", "none", "--words-file", str(tmp_path / "absent")).code == 2
    assert specie("wallet", "restore", "--name", "none", stdin="").code == 2


def test_init_shows_the_words_once_and_never_overwrites(specie: Run) -> None:
    """The words are on standard error, with a warning; a second init is refused; given words are not shown."""
    made = specie("wallet", "init")
    assert made.code == 0
    assert "weakest" in made.out + made.err
    words = specie("wallet", "words").out.split()
    assert all(word in made.err for word in words)
    assert not any(word in made.out.split() for word in words)
    assert "Whoever reads" in made.err
    assert specie("wallet", "init").code == 3
    known = "abandon " * 11 + "about"
    given = specie("wallet", "init", "--name", "given", "--words-file", "-", "--json", stdin=known).json()
    assert given["words"] is None
    assert specie("wallet", "words", "--name", "given", "--json").json()["words"] == known
    fresh = specie("wallet", "init", "--name", "fresh", "--json").json()
    assert len(fresh["words"].split()) == 12


def test_a_wallet_can_be_made_before_there_is_a_mint(specie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bank here may not run yet; a mint that is named must answer."""
    monkeypatch.setenv("SPECIE_WALLET_MINT_URL", DEAD)
    bare = specie("wallet", "init")
    assert bare.code == 3
    assert "--passphrase-file" in bare.err
    made = specie("wallet", "init", "--key-file")
    assert made.code == 0
    assert "play money only" in made.out
    assert "no mint yet" in made.err
    assert specie("wallet", "init", "--name", "bob", "--mint", DEAD, "--json").code == 5


def test_words_of_no_wallet_are_refused_and_none_is_made(specie: Run) -> None:
    """Looking never creates."""
    assert specie("wallet", "words", "--name", "ghost").code == 3
    assert specie("wallet", "list", "--json").json() == {"wallets": []}


def test_a_passphrase_seals_a_wallet(specie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By file or environment; without it the wallet stays shut."""
    file = tmp_path / "passphrase"
    file.write_text("open sesame\n")
    file.chmod(0o600)
    assert specie("wallet", "init", "--passphrase-file", str(file)).code == 0
    assert specie("wallet", "balance").code == 3
    monkeypatch.setenv("SPECIE_WALLET_PASSPHRASE", "open sesame")
    assert specie("wallet", "balance").code == 0
    monkeypatch.setenv("SPECIE_WALLET_PASSPHRASE", "open barley")
    assert specie("wallet", "balance", "--json").error()["error"] == "PassphraseWrongError"


def test_a_backup_is_private_and_does_not_overwrite(specie: Run, tmp_path: Path) -> None:
    """A copy of coins and journal for its owner's eyes."""
    specie("wallet", "mint", "4")
    target = tmp_path / "wallet.copy"
    assert specie("wallet", "backup", str(target)).code == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert specie("wallet", "backup", str(target)).code == 3


def test_a_backup_is_drilled_and_comes_back(specie: Run, tmp_path: Path) -> None:
    """Proved against the live wallet, found stale after the next payment, and taken up into a new wallet by passphrase."""
    specie("wallet", "mint", "40")
    key = specie("wallet", "lock", "--name", "bob").out.strip()
    token = specie("wallet", "send", "8", "--lock", key, "--no-qr").out.strip()
    phrase = tmp_path / "phrase"
    phrase.write_text("open sesame\n")
    phrase.chmod(0o600)
    target = tmp_path / "backup"
    made = specie("wallet", "backup", str(target), "--backup-passphrase-file", str(phrase), "--json")
    assert made.json()["opens_with"] == ["passphrase", "words"]
    proved = specie("wallet", "drill", str(target), "--ask-mints", "--json")
    assert proved.code == 0, proved.err
    facts = proved.json()
    assert facts["complete"]
    assert facts["held"][0]["backup"] == facts["held"][0]["live"] == 40
    assert [(one["state"], one["amount"]) for one in facts["mints"]] == [("UNSPENT", 32)]
    told = specie("wallet", "drill", str(target))
    assert "has everything" in told.out
    assert specie("wallet", "send", "1", "--no-qr").code == 0
    stale = specie("wallet", "drill", str(target))
    assert stale.code == 3
    assert "make a new backup" in stale.out
    back = specie(
        "wallet", "restore", "--name", "new", "--from", str(target), "--backup-passphrase-file", str(phrase), "--json"
    )
    assert back.code == 0, back.err
    assert back.json()["free"] == {"sat": 32}  # a coin sent since counts until it is redeemed
    assert [one["id"] for one in specie("wallet", "pending", "--name", "new", "--json").json()["tokens"]]
    assert specie("wallet", "receive", token, "--name", "bob").code == 0
    again = specie("wallet", "restore", "--from", str(target))
    assert again.code == 0, again.err
    assert "backup taken up" in again.out
    assert _balance(specie) == 31


def test_a_wallet_is_resealed_and_encrypted(specie: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the key file that play money allows to a passphrase; coins encrypted, and decrypted again."""
    made = specie("wallet", "mint", "4")
    assert "key file" in made.err
    assert "weakest" in specie("wallet", "balance").out
    phrase = tmp_path / "phrase"
    phrase.write_text("open sesame\n")
    phrase.chmod(0o600)
    assert specie("wallet", "reseal").code == 2  # nobody is there to type
    assert specie("wallet", "reseal", "--new-passphrase-file", str(phrase), "--new-keyring").code == 2
    resealed = specie("wallet", "reseal", "--new-passphrase-file", str(phrase), "--json")
    assert resealed.json() == {"wallet": "default", "sealing": "passphrase"}
    assert specie("wallet", "balance").code == 3
    assert specie("wallet", "balance", "--key-file").code == 3  # never weaker by itself
    monkeypatch.setenv("SPECIE_WALLET_PASSPHRASE", "open sesame")
    assert specie("wallet", "encrypt", "--json").json() == {"wallet": "default", "encrypted": True}
    assert specie("wallet", "balance", "--json").json()["encrypted"]
    assert specie("wallet", "decrypt", "--json").json()["encrypted"] is False
    assert _balance(specie) == 4


def test_a_mint_elsewhere_is_never_trusted_by_itself(specie: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a mint on this machine is trusted on first use; another has to be added by name."""
    monkeypatch.setenv("SPECIE_WALLET_MINT_URL", "https://mint.example.org")
    ran = specie("wallet", "mint", "5", "--key-file")
    assert ran.code == 3
    assert "mints add https://mint.example.org" in ran.err


def test_a_token_of_an_unknown_mint_is_not_taken_without_a_word(specie: Run, bank: RunningBank) -> None:
    """--trust says that word; nothing is sent anywhere before."""
    specie("wallet", "mint", "8")
    token = specie("wallet", "send", "3", "--no-qr").out.strip()
    other = "localhost".join(bank.url.split("127.0.0.1"))
    specie("wallet", "mints", "add", other, "--name", "bob")
    ran = specie("wallet", "receive", token, "--name", "bob", "--json")
    assert (ran.code, ran.error()["error"]) == (3, "MintUntrustedError")
    assert _balance(specie, "bob") == 0


def test_a_mint_out_of_reach_is_told_as_such(specie: Run) -> None:
    """Exit code 5: try again later. Nothing to undo."""
    ran = specie("wallet", "mint", "5", "--mint", DEAD, "--json")
    assert (ran.code, ran.error()["kind"]) == (5, "unavailable")
    assert "specie up" in specie("wallet", "mint", "5", "--mint", DEAD).err


def test_an_invoice_nobody_pays_in_time_is_left_to_later(specie: Run) -> None:
    """--timeout ends the wait with exit code 5; the next command claims it."""
    ran = specie("wallet", "mint", "7", "--timeout", "0.01", "--json")
    assert ran.code == 5
    assert "claims it" in ran.error()["detail"]


def test_mints_are_listed_with_what_they_say_of_themselves(specie: Run) -> None:
    """URL, units, keysets and the PLAY badge."""
    assert "none yet" in specie("wallet", "mints").out
    specie("wallet", "mint", "3")
    (mint,) = specie("wallet", "mints", "list", "--json").json()["mints"]
    assert (mint["units"], mint["play"]) == (["sat"], True)
    assert "PLAY" in specie("wallet", "mints").out


def test_resume_says_that_nothing_is_open(specie: Run) -> None:
    """After a quiet life there is nothing to settle."""
    specie("wallet", "mint", "3")
    assert specie("wallet", "resume", "--json").json()["settled"] == []
    assert "nothing is pending" in specie("wallet", "pending").out
    assert specie("wallet", "history").code == 0


def test_the_operator_sees_what_the_wallets_did(specie: Run, bank: RunningBank) -> None:
    """Through the running bank's socket: quotes, books and health as tables; new keysets are followed by wallets."""
    data = bank.facts["data_dir"]
    specie("wallet", "mint", "100")
    assert "100 sat" in specie("mint", "quotes", "--data", data).out
    books = specie("mint", "liabilities", "--verify", "--data", data)
    assert "agree with all history" in books.out
    assert "ecash outstanding" in books.out
    assert "rail play" in specie("mint", "health", "--data", data).out
    assert "looks by itself" in specie("mint", "reconcile", "--data", data).out
    assert "new keyset" in specie("mint", "keysets", "rotate", "--data", data).out
    assert "old" in specie("mint", "keysets", "list", "--data", data).out
    assert specie("wallet", "tidy", "--json").json()["moved"] in (0, 100)
    assert _balance(specie) == 100


def test_no_secret_of_the_wallet_is_in_the_process_list() -> None:
    """Words and passphrases have no option that takes their text."""
    for command in ("init", "restore", "words", "balance"):
        done = subprocess.run([*SPECIE, "wallet", command, "--help"], capture_output=True, text=True, check=True)
        assert "--words " not in done.stdout
        assert "--passphrase " not in done.stdout
