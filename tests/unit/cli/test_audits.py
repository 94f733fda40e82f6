"""The terminal tells what a check of a mint found, keeps evidence as files, and judges such files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from specie.app.wallet import Wallet
from specie.ecash import wire
from specie.ecash.liabilities import Evidence, EvidenceKind, Signed
from specie.kernel.errors import UnavailableError
from specie.keys import SealSource
from specie.mint import MintSettings
from specie.wallet.engine.liabilities import MintLiabilities
from specie.wallet.errors import UnsupportedError
from specie.wallet.liabilities import KeptEvidence, LiabilityFault, LiabilityReport
from tests.support.house import House, house
from tests.vectors.test_liabilities import key, manifest

MINT = "http://127.0.0.1:9"


def overrun() -> Evidence:
    """Evidence that stands by itself, of the draft's own vectors."""
    epoch, record = manifest("overrun-12")
    return Evidence(EvidenceKind.OVERRUN, MINT, key(record), Signed.of(epoch, epoch.keysets[0].keyset_id))


@pytest.fixture
def known(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default wallet knows a mint that nobody answers for."""

    async def make() -> None:
        sealed = SealSource(play_key=True)
        play = MintSettings(motd="play money")
        async with house(settings=play) as bank, Wallet.open(sealed=sealed, clients=lambda url: _client(bank, url)) as wallet:
            await wallet.add_mint(MINT)

    asyncio.run(make())


def _client(bank: House, url: str) -> Any:
    from tests.support.direct_client import DirectClient

    return DirectClient(bank.mint, url)


def found(monkeypatch: pytest.MonkeyPatch, answer: LiabilityReport | Exception, *kept: KeptEvidence) -> None:
    """Every check from now on finds this."""

    async def verify(self: MintLiabilities, mint: str, *, ask: bool = False) -> LiabilityReport:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def evidence(self: MintLiabilities) -> list[KeptEvidence]:
        return list(kept)

    monkeypatch.setattr(MintLiabilities, "verify", verify)
    monkeypatch.setattr(MintLiabilities, "evidence", evidence)


@pytest.mark.usefixtures("known")
def test_a_mint_that_was_caught(specie: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4; each fault with its weight; the evidence is written, and can be judged by whoever gets the file."""
    evidence = overrun()
    kept = KeptEvidence("ab" * 16, MINT, "overrun", wire.evidence_to_json(evidence), 1)
    report = LiabilityReport(MINT, epoch=12, at=1_782_000_000, stale=True, owed={"sat": 850}, waiting=2, unproven=1)
    report.unread.append("00aa/issued")
    report.faults += [LiabilityFault("active beyond its end", evidence), LiabilityFault("a leaf is not shown")]
    found(monkeypatch, report, kept)
    shown = specie("wallet", "verify-mint", "--save", str(home / "proofs"))
    assert shown.code == 4
    for part in ("FAULT", "conclusive", "no evidence", "active beyond its end", "long ago", "--ask", "850"):
        assert part in shown.out
    ran = specie("wallet", "verify-mint", MINT, "--json")
    assert ran.code == 4
    (file,) = (home / "proofs").iterdir()
    judged = specie("wallet", "verify-evidence", str(file), "--json").json()
    assert (judged["kind"], judged["conclusive"], judged["epoch"]) == ("overrun", True, 12)
    assert "stands by itself" in specie("wallet", "verify-evidence", str(file)).out


@pytest.mark.usefixtures("known")
def test_mints_that_cannot_be_checked(specie: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that proves nothing is no fault; one that is away is exit code 5; one without an epoch says so."""
    found(monkeypatch, UnsupportedError("the mint does not prove what it owes", nut=388))
    ran = specie("wallet", "verify-mint")
    assert ran.code == 0
    assert "not checked" in ran.out
    found(monkeypatch, UnavailableError("gone"))
    assert specie("wallet", "verify-mint").code == 5
    found(monkeypatch, LiabilityReport(MINT))
    assert "none closed yet" in specie("wallet", "verify-mint").out


def test_files_that_are_no_evidence(specie: Any, home: Path) -> None:
    """Too large, absent, another format, or not showing what it says: refused, each in its way."""
    file = home / "evidence.json"
    file.write_bytes(b" " * 1_000_001)
    assert specie("wallet", "verify-evidence", str(file)).code == 2
    assert specie("wallet", "verify-evidence", str(home / "none")).code == 2
    file.write_bytes(b"{}")
    assert specie("wallet", "verify-evidence", str(file)).code == 3
    epoch, record = manifest("manifest-1")
    honest = Evidence(EvidenceKind.OVERRUN, MINT, key(record), Signed.of(epoch, epoch.keysets[0].keyset_id))
    file.write_bytes(wire.evidence_to_json(honest))
    ran = specie("wallet", "verify-evidence", str(file), "--json")
    assert ran.code == 3
    assert "end" in ran.error()["detail"]
