"""The commands that say where money lies: transfer, targets, rebalance, and leaving a mint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import DeclinedError, UsageError
from specie.cli.screen import Screen, table
from specie.cli.wallet.moved import money, plain, stuck_facts, stuck_lines, transfer_facts, transfer_line
from specie.cli.wallet.opening import UnitArgument, WalletChoice, opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from specie.wallet import Move, SentToken

__all__ = ["leave", "rebalance", "remove", "stay", "targets", "transfer"]

Choice = WalletChoice | None
"""Which wallet; the default one if None."""
_PPM = 1_000_000

targets = App(name="targets", help="How money should lie over the mints: set, show, clear.", help_epilogue="")


async def transfer(
    amount: Annotated[str, Parameter(help="What shall arrive, in the minor unit; `all` moves everything that is free.")],
    /,
    *,
    source: Annotated[str, Parameter(name="--from", help="URL of the mint that pays.")],
    to: Annotated[str, Parameter(help="URL of the mint where it arrives.")],
    max_fee: Annotated[int | None, Parameter(help="Most that it may cost.")] = None,
    dry_run: Annotated[bool, Parameter(negative="", show_default=False, help="Ask what it would cost; move nothing.")] = False,
    unit: UnitArgument = "sat",
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Move money from one mint to another, over Lightning."""
    if amount != "all" and not (amount.isascii() and amount.isdigit()):
        raise UsageError("expected an amount, or all")
    wanted = None if amount == "all" else int(amount)
    async with opened(wallet or WalletChoice(), screen) as purse:
        if dry_run:
            with screen.progress("asking both mints"):
                told = await purse.transfers.quote(wanted, source=source, destination=to, unit=unit)
            facts = {"amount": told.amount, "fee": told.fee, "unit": told.unit, "dry_run": True}
            screen.answer(facts, f"{money(told.amount, unit)} would arrive, at most {money(told.fee, unit)} would be its cost")
            return
        with screen.progress("moving money"):
            done = await purse.transfers.move(wanted, source=source, destination=to, unit=unit, max_fee=max_fee)
    screen.answer(transfer_facts(done), transfer_line(done))


@targets.command(name="set")
async def targets_set(
    mint: Annotated[str, Parameter(help="URL of the mint.")],
    /,
    *,
    share: Annotated[float | None, Parameter(help="Percent of all money of the unit that should be there.")] = None,
    maximum: Annotated[int | None, Parameter(name="--max", help="Most that may be there, in the minor unit.")] = None,
    unit: UnitArgument = "sat",
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Give a mint a share, a maximum, or both; replaces what it had."""
    ppm = None if share is None else round(share * 10_000)
    async with opened(wallet or WalletChoice(), screen) as purse:
        target = await purse.targets.set(mint, unit=unit, share_ppm=ppm, maximum=maximum)
    facts = {"mint": target.mint, "unit": target.unit, "share_ppm": target.share_ppm, "maximum": target.maximum}
    parts = [f"{_percent(target.share_ppm)} of all {unit}"] if target.share_ppm is not None else []
    parts += [f"at most {money(target.maximum, unit)}"] if target.maximum is not None else []
    screen.answer(facts, f"[green]✓[/green] {plain(target.mint)}: {', '.join(parts)}")


def _percent(ppm: int) -> str:
    return f"{ppm / 10_000:g} %"


@targets.default
@targets.command(name="show")
async def targets_show(*, unit: UnitArgument = "sat", wallet: Choice = None, screen: ScreenArgument) -> None:
    """What each mint holds of a unit, and what it should."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        wanted = {one.mint: one for one in await purse.targets.all() if one.unit == unit}
        held = await purse.targets.holdings(unit=unit)
    whole = sum(one.held for one in held)
    facts, rows = [], []
    for one in held:
        target = wanted.get(one.mint)
        share = None if target is None else target.share_ppm
        maximum = None if target is None else target.maximum
        facts.append({"mint": one.mint, "held": one.held, "share_ppm": share, "maximum": maximum, "leaving": one.leaving})
        rows.append(
            (
                one.mint,
                money(one.held, unit),
                f"{100 * one.held / whole:.1f} %" if whole else "",
                "leaving" if one.leaving else ("" if share is None else _percent(share)),
                "" if maximum is None else money(maximum, unit),
            )
        )
    columns = ("mint", ("holds", "right"), ("share", "right"), ("target", "right"), ("at most", "right"))
    screen.answer({"unit": unit, "whole": whole, "mints": facts}, table(columns, rows) if rows else "[dim]no mints yet[/dim]")


@targets.command(name="clear")
async def targets_clear(
    mint: Annotated[str | None, Parameter(help="URL of the mint; all mints unless given.")] = None,
    /,
    *,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Forget the targets of a mint, or all."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        count = await purse.targets.clear(mint=mint)
    screen.answer({"cleared": count}, f"[green]✓[/green] {count} targets forgotten")


def _move_facts(one: Move) -> dict[str, object]:
    return {"source": one.source, "destination": one.destination, "amount": one.amount, "max_fee": one.max_fee}


async def rebalance(
    *,
    dry_run: Annotated[bool, Parameter(negative="", show_default=False, help="Show the plan; move nothing.")] = False,
    max_cost: Annotated[float, Parameter(help="Most that a move may cost, in percent of it.")] = 2.0,
    min_move: Annotated[int, Parameter(help="Smaller moves are not made.")] = 10,
    unit: UnitArgument = "sat",
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Move money so that the mints' targets are met, with the fewest transfers."""
    if not 0 <= max_cost <= 100:
        raise UsageError("--max-cost is from 0 to 100 percent")
    ppm = round(max_cost * 10_000)
    async with opened(wallet or WalletChoice(), screen) as purse:
        with screen.progress("moving money"):
            done = await purse.targets.rebalance(unit=unit, dry_run=dry_run, min_move=min_move, cost_ppm=ppm)
    facts = {
        "unit": done.unit,
        "dry_run": dry_run,
        "moves": [_move_facts(one) for one in done.moves],
        "transfers": [transfer_facts(one) for one in done.transfers],
        "refused": [{**_move_facts(one), "reason": reason} for one, reason in done.refused],
    }
    if not done.moves:
        screen.answer(facts, "[dim]nothing to move[/dim]")
    elif dry_run:
        rows = [(one.source, one.destination, money(one.amount, unit), money(one.max_fee, unit)) for one in done.moves]
        screen.answer(facts, table(("from", "to", ("amount", "right"), ("costs at most", "right")), rows))
    else:
        lines = [transfer_line(one) for one in done.transfers]
        lines += [f"[yellow]![/yellow] not moved to {plain(one.destination)}: {plain(reason)}" for one, reason in done.refused]
        screen.answer(facts, *lines)


async def leave(
    mint: Annotated[str, Parameter(help="URL of the mint to leave.")],
    /,
    *,
    to: Annotated[
        list[str] | None,
        Parameter(negative="", help="URL of the mint to move to; may be repeated. Chosen by targets and limits unless given."),
    ] = None,
    max_cost: Annotated[float, Parameter(help="Most that moving may cost, in percent; what costs more is left there.")] = 20.0,
    dust_token: Annotated[
        bool, Parameter(negative="", show_default=False, help="Make what is not worth moving a token, and print it.")
    ] = False,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Take nothing new at a mint and move its money to others; may be repeated until nothing is left."""
    if not 0 <= max_cost <= 100:
        raise UsageError("--max-cost is from 0 to 100 percent")
    async with opened(wallet or WalletChoice(), screen) as purse:
        with screen.progress("moving money"):
            left = await purse.exits.leave(
                mint, to=tuple(to or ()), cost_ppm=round(max_cost * 10_000), dust_as_token=dust_token
            )
    facts = {
        "mint": left.mint,
        "empty": left.empty,
        "transfers": [transfer_facts(one) for one in left.transfers],
        "dust": [
            {
                "unit": one.unit,
                "amount": one.amount,
                "reason": one.reason,
                "token": None if one.token is None else one.token.text,
            }
            for one in left.dust
        ],
        "stuck": [stuck_facts(one) for one in left.stuck],
        "problems": left.problems,
    }
    lines = [transfer_line(one) for one in left.transfers]
    lines += [f"[yellow]![/yellow] {plain(problem)}" for problem in left.problems]
    for one in left.dust:
        lines.append(f"{money(one.amount, one.unit)} is left: {plain(one.reason)}")
    if left.empty:
        lines.append(f"[green]✓[/green] nothing is left at {left.mint}; specie wallet mints remove {left.mint} forgets it")
    elif left.stuck:
        lines += [f"still at {left.mint}:", *stuck_lines(tuple(left.stuck))]
    screen.answer(facts, *lines)
    _tokens(screen, [one.token for one in left.dust if one.token is not None])


def _tokens(screen: Screen, tokens: Sequence[SentToken]) -> None:
    """Tokens as they are, a line each, for people: JSON has them in its facts."""
    if not screen.json:
        for one in tokens:
            screen.bare({}, one.text)


async def stay(url: str, /, *, wallet: Choice = None, screen: ScreenArgument) -> None:
    """Leave a mint no more: it takes money again."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        was = await purse.exits.stay(url)
    screen.answer(
        {"mint": url, "was_leaving": was}, "[green]✓[/green] it takes money again" if was else "it was not being left"
    )


async def remove(
    url: str,
    /,
    *,
    force: Annotated[
        bool, Parameter(negative="", show_default=False, help="Even if money is there: it is printed as tokens first.")
    ] = False,
    yes: Annotated[bool, Parameter(negative="", show_default=False, help="Do not ask first.")] = False,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Forget a mint where nothing is held any more."""
    if force and not yes and screen.interactive and not screen.confirm(f"Forget {url} even if money is there?"):
        raise DeclinedError("not removed")
    async with opened(wallet or WalletChoice(), screen) as purse:
        tokens = await purse.exits.remove(url, force=force)
    facts = {"mint": url, "tokens": [{"unit": one.unit, "amount": one.amount, "token": one.text} for one in tokens]}
    lines = [f"[green]✓[/green] {url} is forgotten"]
    for one in tokens:
        lines.append(f"{money(one.amount, one.unit)} was there; here it is as a token, keep it:")
    screen.answer(facts, *lines)
    _tokens(screen, tokens)
