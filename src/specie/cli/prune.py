"""`specie mint prune`: the space of expired keysets is given back."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.bank_options import BankOptions
from specie.cli.screen import table

__all__ = ["prune"]

_DAY_S = 86_400


async def prune(
    *,
    grace_days: Annotated[int, Parameter(help="Days that must have passed since a keyset's final expiry; 1 at least.")] = 30,
    yes: Annotated[
        bool, Parameter(negative="", show_default=False, help="Drop the rows. Without it they are only counted.")
    ] = False,
    bank: BankOptions | None = None,
    screen: ScreenArgument,
) -> None:
    """Count, or drop, what was spent and signed under keysets that expired long ago.

    Their coins are refused before and after. Books, journal and logs of liabilities stay, and audits still hold. It may run
    while the bank serves, in small transactions, and may be interrupted at any moment.
    """
    from specie.cli.operator import reach, sentence
    from specie.kernel.money import format_amount

    rows: dict[tuple[str, str], dict[str, Any]] = {}
    cursor: str | None = None
    async with reach(bank) as client:
        units = {keyset["id"]: keyset["unit"] for keyset in await client.keysets()}
        with screen.progress("dropping rows" if yes else "counting rows") as progress:
            while True:
                step = await client.prune(grace_days * _DAY_S, act=yes, cursor=cursor)
                for row in step["rows"]:
                    found = rows.setdefault((row["keyset"], row["side"]), {**row, "count": 0, "total": 0})
                    found["count"] += row["count"]
                    found["total"] += row["total"]
                cursor = step["cursor"]
                progress.update(f"{sum(row['count'] for row in rows.values()):,} rows")
                if cursor is None:
                    break
    count = sum(row["count"] for row in rows.values())
    shown = [
        (
            f"{row['keyset'][:16]}…" if len(row["keyset"]) > 16 else row["keyset"],
            row["side"],
            f"{row['count']:,}",
            format_amount(row["total"], units[row["keyset"]]),
        )
        for row in rows.values()
    ]
    columns = ("keyset", "", ("rows", "right"), ("sum", "right"))
    verb = "dropped" if yes else "can be dropped with --yes:"
    screen.answer(
        {"dropped": yes, "expired": step["expired"], "rows": list(rows.values()), "count": count},
        table(columns, shown) if shown else "[dim]nothing is to be dropped[/dim]",
        sentence(verb, f"{count:,} rows of {len(step['expired'])} expired keysets") if count else "",
    )
