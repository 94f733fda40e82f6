"""`specie wallet offline`: what is taken without asking a mint, what of it is not settled, and settling it."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import App, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.screen import shown, table
from specie.cli.wallet.opening import WalletChoice, opened

__all__ = ["app"]

Choice = WalletChoice | None
"""Which wallet; the default one if None."""

app = App(name="offline", help="Receipts without a mint: status, policy, settle.", help_epilogue="")


def _money(amount: int, unit: str) -> str:
    from specie.kernel.money import format_amount

    return format_amount(amount, unit)


def _when(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


@app.default
@app.command
async def status(*, wallet: Choice = None, screen: ScreenArgument) -> None:
    """What was received off-line and is not settled, with its risk and until when only this wallet can spend it."""
    from rich.text import Text

    async with opened(wallet or WalletChoice(), screen) as purse:
        unsettled, policy = await purse.offline.status(), await purse.offline.policy()
    words = {"EXPOSED": Text("the sender can spend it", "red"), "NEAR": Text("the sender's refund opens soon", "yellow")}
    rows = [
        (
            one.mint,
            _money(one.amount, one.unit),
            _when(one.since),
            "for good" if one.until is None else (_when(one.until) if one.until else "not at all"),
            words.get(str(one.risk), Text("locked to this wallet")),
        )
        for one in unsettled
    ]
    facts = {
        "unsettled": [{**asdict(one), "risk": str(one.risk)} for one in unsettled],
        "policy": None if policy is None else asdict(policy),
    }
    columns = ("mint", ("amount", "right"), "since", "only ours until", "risk")
    screen.answer(facts, table(columns, rows) if rows else "[dim]everything is settled[/dim]")


@app.command
async def policy(
    *,
    lock_hours: Annotated[int | None, Parameter(help="A lock counts if it lasts at least so long.")] = None,
    unlocked_most: Annotated[int | None, Parameter(help="Most of coins without such a lock; 0 takes none.")] = None,
    token_most: Annotated[int | None, Parameter(help="Most in one token.")] = None,
    mint_most: Annotated[int | None, Parameter(help="Most that is unsettled at one mint.")] = None,
    total_most: Annotated[int | None, Parameter(help="Most that is unsettled at all.")] = None,
    mint: Annotated[list[str] | None, Parameter(negative="", help="Take tokens of this mint only; may be repeated.")] = None,
    settle: Annotated[bool | None, Parameter(help="Swap receipts by themselves whenever a mint answers.")] = None,
    off: Annotated[bool, Parameter(negative="", show_default=False, help="Have no policy any more.")] = False,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Set what is taken off-line; what is not given stays as it is. Without options it shows the policy."""
    from specie.wallet import OfflinePolicy

    given = {
        "lock_s": None if lock_hours is None else lock_hours * 3600,
        "unlocked_most": unlocked_most,
        "token_most": token_most,
        "mint_most": mint_most,
        "total_most": total_most,
        "mints": None if mint is None else tuple(mint),
        "settle": settle,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    async with opened(wallet or WalletChoice(), screen) as purse:
        if off:
            await purse.offline.use(None)
        elif changes:
            known = await purse.offline.policy() or OfflinePolicy()
            await purse.offline.use(replace(known, **changes))  # type: ignore[arg-type]
        now = await purse.offline.policy()
    if now is None:
        screen.answer({"policy": None}, "[dim]no policy: --offline takes any token with DLEQ proofs of a known mint[/dim]")
        return
    rows = [
        ("locked to this wallet for at least", f"{now.lock_s // 3600} hours"),
        ("without such a lock, at most", f"{now.unlocked_most:,}"),
        ("in one token, at most", f"{now.token_most:,}"),
        ("unsettled at one mint, at most", f"{now.mint_most:,}"),
        ("unsettled at all, at most", f"{now.total_most:,}"),
        ("mints", ", ".join(now.mints) or "all of this wallet"),
        ("settled by itself", "yes" if now.settle else "no"),
    ]
    screen.answer({"policy": asdict(now)}, table(("off-line tokens", ("", "right")), rows))


@app.command
async def settle(*, wallet: Choice = None, screen: ScreenArgument) -> None:
    """Swap what was received off-line, the most urgent first."""
    from rich.markup import escape

    async with opened(wallet or WalletChoice(), screen) as purse:
        with screen.progress("swapping"):
            done = await purse.offline.settle()
    facts = {
        "settled": done.settled,
        "short": done.short,
        "problems": done.problems,
        "left": [{**asdict(one), "risk": str(one.risk)} for one in done.left],
    }
    lines = [f"[green]✓[/green] {done.settled:,} settled" + (f", {done.short:,} lost to fees or senders" if done.short else "")]
    lines += [f"[yellow]![/yellow] {escape(shown(problem, 200))}" for problem in done.problems]
    screen.answer(facts, *lines)
