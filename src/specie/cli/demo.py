"""`specie demo ...`: what a bank must survive, shown on a throw-away one in play money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import UsageError
from specie.cli.screen import Screen, table

if TYPE_CHECKING:
    from rich.text import Text

    from specie.cli.crash import CrashReport

__all__ = ["app"]

app = App(name="demo", help="See a bank survive what banks should survive.", help_epilogue="")

_MOST_KILLS = 1000


@app.command
async def crash(
    *,
    kills: Annotated[int, Parameter(help="How often the bank is killed with SIGKILL.")] = 20,
    seed: Annotated[
        int | None, Parameter(help="Number that the moments of the kills are drawn from; a fresh one unless given.")
    ] = None,
    screen: ScreenArgument,
) -> int:
    """Kill a bank with SIGKILL while wallets mint, pay and swap, then count its money to the last coin.

    Starts a throw-away bank, kills and restarts it, lets the wallets resume, audits the books, and compares what they say
    is outstanding with what the wallets hold. Exit code 0 only if nothing was lost and nothing was created.
    """
    import secrets

    from specie.cli.crash import crash_bank

    if not 0 <= kills <= _MOST_KILLS:
        raise UsageError(f"--kills: expected from 0 to {_MOST_KILLS:,}")
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    with screen.progress("starting a throw-away bank") as progress:
        report = await crash_bank(kills, chosen, progress.update)
    _show(screen, report)
    return 0 if report.sound else 70


def _show(screen: Screen, report: CrashReport) -> None:
    from rich.text import Text

    from specie.kernel.money import format_amount

    def money(amount: int) -> str:
        return format_amount(amount, "sat")

    def verdict(amount: int) -> Text:
        return Text(money(amount), "bold green" if amount == 0 else "bold red")

    rows: list[tuple[object, object, str]] = [
        ("kills", f"{report.kills:,}", f"SIGKILL, in {report.seconds:.0f} s; {report.interrupted:,} tries met a dead bank"),
        ("done meanwhile", f"{report.mints + report.payments + report.tokens:,}", _verbs(report)),
        ("issued", money(report.issued), "ecash ever signed"),
        ("redeemed", money(report.redeemed), "ecash ever spent"),
        ("outstanding", money(report.outstanding), "what the bank owes, by its books"),
        ("in wallets", money(report.held), "what the wallets hold, coin by coin"),
        (Text("lost", "bold"), verdict(report.lost), ""),
        (Text("created", "bold"), verdict(report.created), ""),
        (Text("books", "bold"), _audit(report), report.audit),
    ]
    head = Text("✓ nothing lost, nothing created" if report.sound else "✗ the money is not right")
    head.stylize("bold green" if report.sound else "bold red")
    head.append(f"   seed {report.seed}", "dim")
    head.append("  ").append(" PLAY ", "bold black on yellow")
    screen.answer(report.facts(), table(("crash", ("count", "right"), "which is"), rows), head)


def _verbs(report: CrashReport) -> str:
    return f"{report.mints:,} mints, {report.payments:,} payments, {report.tokens:,} tokens"


def _audit(report: CrashReport) -> Text:
    from rich.text import Text

    return Text("balance", "bold green") if not report.audit else Text("do not balance", "bold red")
