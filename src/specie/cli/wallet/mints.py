"""`specie wallet mints`: whom this wallet trusts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyclopts import App

from specie.cli.arguments import ScreenArgument
from specie.cli.screen import shown, table
from specie.cli.wallet.mint_backup import backup, restore
from specie.cli.wallet.opening import WalletChoice, badge, opened, play_mints

if TYPE_CHECKING:
    from specie.wallet import MintView

__all__ = ["app"]

app = App(
    name="mints",
    help="The mints this wallet trusts, how they do, and what is done about it.",
    help_epilogue="",
)
app.command(backup)
app.command(restore)


@app.default
@app.command(name="list")
async def mints_list(*, wallet: WalletChoice | None = None, screen: ScreenArgument) -> None:
    """The mints this wallet trusts, as last seen."""
    from rich.text import Text

    async with opened(wallet or WalletChoice(), screen) as purse:
        views, play = await purse.mints(), await play_mints(purse)
    facts = [
        {
            "url": view.url,
            "name": view.info.name,
            "units": view.units,
            "mints_by": _methods(view, 4),
            "pays_by": _methods(view, 5),
            "pays_parts": bool(view.info.methods(15)),
            "keysets": len(view.keysets),
            "play": view.url in play,
            "added_at": view.added_at,
        }
        for view in views
    ]
    rows = [
        (
            Text.assemble(view.url, badge(view.url in play)),
            shown(view.info.name or "", 40),
            ", ".join(view.units),
            shown(", ".join(_methods(view, 4)), 60),
            shown(", ".join(_methods(view, 5)), 60),
            len(view.keysets),
        )
        for view in views
    ]
    screen.answer(
        {"mints": facts},
        table(("mint", "name", "units", "takes", "pays", ("keysets", "right")), rows)
        if rows
        else "[dim]none yet: specie wallet mints add URL[/dim]",
    )


def _methods(view: MintView, nut: int) -> list[str]:
    """Methods that a mint announces for taking (4) or making (5) payments."""
    return sorted({one.method for one in view.info.methods(nut)}) if view.info.supports(nut) else []


@app.command
async def add(url: str, /, *, wallet: WalletChoice | None = None, screen: ScreenArgument) -> None:
    """Trust a mint from now on: it keeps the money behind its coins."""
    from rich.text import Text

    async with opened(wallet or WalletChoice(), screen, mint=url) as purse:
        with screen.progress("meeting the mint"):
            view = await purse.add_mint(url)
        play = view.url in await play_mints(purse)
    name = shown(view.info.name or "", 40)
    screen.answer(
        {"url": view.url, "name": view.info.name, "units": view.units, "play": play},
        Text.assemble(("✓ ", "green"), "trusts ", (view.url, "bold"), f" {name}", badge(play)),
    )
