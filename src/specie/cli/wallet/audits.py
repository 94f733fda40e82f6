"""`specie wallet verify-mint` and `verify-evidence`: does a mint owe what it says, and does it say what it owes us?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import UsageError
from specie.cli.screen import shown, table
from specie.cli.wallet.opening import WalletChoice, opened

if TYPE_CHECKING:
    from specie.wallet import KeptEvidence, LiabilityReport

__all__ = ["verify_evidence", "verify_mint"]

Choice = WalletChoice | None
"""Which wallet; the default one if None."""
_BROKEN, _AWAY = 4, 5
_MAX_FILE_BYTES = 1_000_000


async def verify_mint(
    mint: Annotated[str | None, Parameter(help="URL of the mint; all known ones unless given.")] = None,
    *,
    ask: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="Where a log is too long to read whole, ask about our coins by name: the mint then learns which are ours.",
        ),
    ] = False,
    save: Annotated[Path | None, Parameter(help="Directory for evidence, one file each; made if need be.")] = None,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> int:
    """Check what a mint proves it owes against our own coins (draft NUT-388). Exit code 4 if it does not hold.

    It is about what a mint owes, never about what it has.
    """
    from specie.ecash.mint_url import mint_url_checked
    from specie.kernel.errors import UnavailableError
    from specie.wallet.errors import MintUnknownError, UnsupportedError

    reports: list[LiabilityReport] = []
    silent: dict[str, str] = {}
    away = False
    async with opened(wallet or WalletChoice(), screen, create=False) as purse:
        known = [view.url for view in await purse.mints()]
        urls = known if mint is None else [mint_url_checked(mint)]
        if mint is not None and urls[0] not in known:
            raise MintUnknownError(urls[0])
        for url in urls:
            with screen.progress(f"reading what {url} proves"):
                try:
                    reports.append(await purse.liabilities.verify(url, ask=ask))
                except UnsupportedError as error:
                    silent[url] = error.detail
                except UnavailableError as error:
                    silent[url], away = error.detail, True
        kept = [one for one in await purse.liabilities.evidence() if one.mint in urls]
    written = [] if save is None else [str(_write(save, one)) for one in kept]
    rows = [row for report in reports for row in _rows(report)]
    screen.answer(
        {
            "mints": [_facts(report) for report in reports],
            "unverified": silent,
            "evidence": [one.evidence_id for one in kept],
            "saved": written,
        },
        table(("mint", "checked", "found"), [*rows, *((url, "not checked", why) for url, why in silent.items())]),
        *(f"evidence: {path}" for path in written),
    )
    if any(report.faults for report in reports):
        return _BROKEN
    return _AWAY if away else 0


def _facts(report: LiabilityReport) -> dict[str, object]:
    return {
        "mint": report.mint,
        "epoch": report.epoch,
        "at": report.at,
        "stale": report.stale,
        "new_epochs": report.epochs,
        "owed": report.owed,
        "issued": report.issued,
        "spent": report.spent,
        "waiting": report.waiting,
        "unproven": report.unproven,
        "leaves": report.leaves,
        "unread": report.unread,
        "faults": [
            {
                "detail": fault.detail,
                "evidence": None if fault.evidence is None else fault.evidence.kind.value,
                "conclusive": fault.conclusive,
            }
            for fault in report.faults
        ],
    }


def _rows(report: LiabilityReport) -> list[tuple[str, str, str]]:
    from specie.kernel.money import format_amount

    if report.epoch is None and not report.faults:
        return [(report.mint, "epochs", "none closed yet")]
    when = "" if report.at is None else datetime.fromtimestamp(report.at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    owed = "  ".join(format_amount(amount, unit) for unit, amount in report.owed.items()) or "nothing"
    rows = [
        (report.mint, "newest epoch", f"{report.epoch}, closed {when}{', long ago' if report.stale else ''}"),
        ("", "new epochs that hold", f"{report.epochs:,}, with {report.leaves:,} leaves"),
        ("", "the mint says it owes", owed),
        ("", "our coins in its log of issued", f"{report.issued:,}"),
        ("", "our coins in its log of spent", f"{report.spent:,}"),
    ]
    if report.waiting:
        rows.append(("", "our coins that no epoch must hold yet", f"{report.waiting:,}"))
    if report.unproven:
        rows.append(("", "our coins without a receipt", f"{report.unproven:,}"))
    if report.unread:
        rows.append(("", "logs too long to read", f"{len(report.unread):,}: ask by name with --ask"))
    for fault in report.faults:
        weight = "conclusive" if fault.conclusive else "no evidence" if fault.evidence is None else "the mint must answer"
        rows.append(("", f"✗ FAULT ({weight})", shown(fault.detail, 200)))
    if not report.faults:
        rows.append(("", "✓ it holds", "as far as our coins can tell"))
    return rows


def _write(directory: Path, kept: KeptEvidence) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{kept.kind}-{kept.evidence_id}.json"
    path.write_bytes(kept.body)
    return path


def verify_evidence(
    file: Annotated[Path, Parameter(help="File that verify-mint --save wrote, of this wallet or of anybody.")],
    *,
    screen: ScreenArgument,
) -> None:
    """Check evidence against a mint without a wallet. Exit code 3 if it does not show what it says.

    Compare the key it names with the one in the mint's /v1/info, or with what others remember of it.
    """
    from specie.ecash import liabilities, wire

    try:
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise UsageError(f"{file}: too large for evidence")
        body = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({type(error).__name__})") from None
    evidence = wire.evidence_from_json(body)
    liabilities.verify_evidence(evidence)
    facts = {
        "kind": evidence.kind.value,
        "mint": evidence.mint,
        "pubkey": evidence.pubkey.hex(),
        "keyset": evidence.first.keyset.keyset_id,
        "epoch": evidence.first.number,
        "conclusive": evidence.conclusive,
    }
    rows = [(name, shown(str(value), 100)) for name, value in facts.items()]
    said = "it stands by itself" if evidence.conclusive else "the mint can refute it by an inclusion proof, and must"
    screen.answer(facts, table(("evidence", ""), rows), f"✓ it shows what it says; {said}")
