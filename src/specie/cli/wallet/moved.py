"""How what was moved, and what is where, is shown: for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.cli.screen import Screen, shown

if TYPE_CHECKING:
    from specie.wallet import Stuck, Transfer, WatchReport

__all__ = ["money", "plain", "report_facts", "say_moved", "stuck_facts", "stuck_lines", "transfer_facts", "transfer_line"]


def money(amount: int, unit: str) -> str:
    """An amount with its unit."""
    from specie.kernel.money import format_amount

    return format_amount(amount, unit)


def plain(text: str) -> str:
    """Text that may come from a mint, bounded, and without meaning as markup."""
    from rich.markup import escape

    return escape(shown(text, 200))


def transfer_facts(one: Transfer) -> dict[str, object]:
    """A transfer, for programs."""
    return {
        "id": one.transfer_id,
        "source": one.source,
        "destination": one.destination,
        "amount": one.amount,
        "fee": one.fee,
        "unit": one.unit,
        "state": str(one.state),
        "error": one.error,
    }


def transfer_line(one: Transfer) -> str:
    """A transfer, for people, as markup."""
    word = {"DONE": "[green]✓[/green]"}.get(str(one.state), "[yellow]…[/yellow]")
    why = f"  [dim]{plain(one.error)}[/dim]" if one.error else ""
    cost = f"cost {money(one.fee, one.unit)}"
    return f"{word} {money(one.amount, one.unit)} from {plain(one.source)} to {plain(one.destination)}, {cost}{why}"


def stuck_facts(one: Stuck) -> dict[str, object]:
    """What is at a mint, for programs."""
    return {
        "unit": one.unit,
        "available": one.available,
        "unswapped": one.unswapped,
        "reserved": one.reserved,
        "sent": one.sent,
    }


def stuck_lines(stuck: tuple[Stuck, ...]) -> list[str]:
    """What is at a mint, in words."""
    words = {"available": "free", "unswapped": "not swapped yet", "reserved": "on its way", "sent": "in tokens"}
    lines = []
    for one in stuck:
        sums = {name: getattr(one, name) for name in words}
        parts = [f"{money(amount, one.unit)} {words[name]}" for name, amount in sums.items() if amount]
        lines.append("  " + ", ".join(parts))
    return lines


def report_facts(one: WatchReport) -> dict[str, object]:
    """What a check found of a mint, for programs."""
    gone = one.departure
    return {
        "mint": one.health.mint,
        "failures": one.health.failures,
        "failing_since": one.health.failing_since,
        "answered_at": one.health.answered_at,
        "advice": [{"reason": str(advice.reason), "detail": advice.detail} for advice in one.advice],
        "held": [stuck_facts(stuck) for stuck in one.stuck],
        "departure": None
        if gone is None
        else {"transfers": [transfer_facts(each) for each in gone.transfers], "problems": gone.problems},
    }


def say_moved(screen: Screen, one: WatchReport) -> None:
    """Tell the person, beside the result, what a check moved out of a mint, and what it could not."""
    gone = one.departure
    if gone is None:
        return
    why = one.advice[0].detail if one.advice else "it is being left"
    screen.say(f"[yellow]![/yellow] {plain(one.health.mint)}: {plain(why)}")
    for each in gone.transfers:
        screen.say(transfer_line(each))
    for problem in gone.problems:
        screen.say(f"  [dim]{plain(problem)}[/dim]")
