"""`specie up`: a bank from its settings to its last drained request."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.bank_options import BankOptions, bank_settings
from specie.cli.screen import Screen

if TYPE_CHECKING:
    from specie.app.bank import Bank
    from specie.ops.settings import BankSettings
    from specie.server.run import Listening

__all__ = ["up"]

_SERVING = Group("Serving", sort_key=1)
_PLAY = Group("Play money", sort_key=2)
_LOGS = Group("Logs", sort_key=6)


@Parameter(name="*")
@dataclass(frozen=True)
class _Serving:
    host: Annotated[str | None, Parameter(group=_SERVING, help="Address to listen on; 127.0.0.1 unless given.")] = None
    port: Annotated[int | None, Parameter(group=_SERVING, help="Port to listen on; 3338 unless given, 0 for any.")] = None
    allow_play_on_network: Annotated[
        bool,
        Parameter(group=_PLAY, negative="", show_default=False, help="Let other machines reach a bank in play money."),
    ] = False
    no_autopay: Annotated[
        bool,
        Parameter(group=_PLAY, negative="", show_default=False, help="Leave invoices unpaid until `specie mint settle`."),
    ] = False
    autopay_delay: Annotated[
        float | None, Parameter(group=_PLAY, help="Seconds until an invoice pays itself; 3 unless given.")
    ] = None
    log_format: Annotated[
        Literal["auto", "json", "console"] | None, Parameter(group=_LOGS, help="auto: console on a terminal, else json.")
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, Parameter(group=_LOGS, help="Least that is logged.")
    ] = None


def up(*, serving: _Serving | None = None, bank: BankOptions | None = None, screen: ScreenArgument) -> None:
    """Start a bank: mint, API, books and start page. Ctrl-C drains and stops it."""
    import uvloop

    settings = _settings(serving or _Serving(), bank or BankOptions())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, screen))


def _settings(serving: _Serving, bank: BankOptions) -> BankSettings:
    settings = bank_settings(
        bank,
        **{
            "server.host": serving.host,
            "server.port": serving.port,
            "server.allow_play_on_network": serving.allow_play_on_network or None,
            "log.format": serving.log_format,
            "log.level": serving.log_level,
        },
    )
    rails = settings.rails
    if serving.no_autopay:
        rails = tuple(replace(rail, autopay=False) for rail in rails)
    if serving.autopay_delay is not None:
        from specie.cli.errors import UsageError

        if not 0 <= serving.autopay_delay <= 86_400:
            raise UsageError("--autopay-delay: expected from 0 to 86,400 seconds")
        rails = tuple(replace(rail, autopay_delay_s=serving.autopay_delay) for rail in rails)
    return replace(settings, rails=rails)


async def _serve(settings: BankSettings, screen: Screen) -> None:
    from specie._version import __version__
    from specie.app.bank import open_bank
    from specie.app.system import SystemClock, collect_seldom
    from specie.cli.serving import server_context
    from specie.ops.logging import capture, make_logger
    from specie.ops.metrics import Metrics
    from specie.server.admin import build_admin
    from specie.server.app import build_app
    from specie.server.run import serve

    logger = make_logger(settings.log)
    metrics = Metrics(logger, SystemClock().now, version=__version__)
    stop = asyncio.Event()
    with capture(logger):
        async with open_bank(settings, telemetry=metrics) as bank:
            context = server_context(bank, metrics, stop.set)

            def draining() -> None:
                context.health.drain()
                screen.say("[dim]stopping: running requests may finish, Ctrl-C again does not wait for them[/dim]")

            def announce(listening: Listening) -> None:
                _announce(screen, bank, listening)
                collect_seldom()

            app = build_app(context)
            try:
                await serve(
                    app,
                    settings.server,
                    admin=build_admin(context),
                    admin_socket=settings.admin_socket,
                    stop=stop,
                    announce=announce,
                    draining=draining,
                )
            finally:
                await app.aclose()
    screen.say("[dim]stopped; the books are closed[/dim]")


def _program() -> str:
    """How this program is called from here: by the launcher of a checkout, or by its name."""
    launcher = Path.cwd() / "specie"
    return "./specie" if launcher.is_file() and os.access(launcher, os.X_OK) else "specie"


def _announce(screen: Screen, bank: Bank, listening: Listening) -> None:
    from rich.table import Table
    from rich.text import Text

    settings = bank.settings
    play = settings.play
    url = settings.server.public_url or listening.url
    facts = {
        "url": url,
        "host": listening.host,
        "port": listening.port,
        "data_dir": str(settings.data_dir),
        "admin_socket": str(listening.admin_socket) if listening.admin_socket else None,
        "store": settings.store.label,
        "play": play,
        "sealing": bank.sealed.kind.value,
        "sealing_key": bank.sealed.where,
        "created": bank.sealed.created,
        "curve": bank.curve,
        "keysets": [keyset.id for keyset in bank.mint.keysets() if keyset.active],
    }
    title = Text.assemble(("● ", "bold green"), ("specie", "bold"), " is up ")
    if play:
        title.append(" PLAY MONEY ", "bold black on yellow")
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim")
    lines.add_column(overflow="fold")
    lines.add_row("  open", Text(url, "bold cyan"))
    lines.add_row("  data", Text(str(settings.data_dir)))
    if settings.store.label != "SQLite":
        lines.add_row("  store", Text(settings.store.label))
    lines.add_row("  keys", Text(bank.sealed.kind.label))
    if bank.sealed.kind.value == "play-key":
        lines.add_row("", Text(bank.sealed.where, "dim"))
    lines.add_row("  curve", Text("native batches" if bank.curve == "native" else f"Python, slower ({bank.curve})"))
    lines.add_row("  try", Text.assemble((f"{_program()} wallet mint 100", "green"), " in another terminal"))
    lines.add_row("  stop", Text("Ctrl-C"))
    screen.answer(facts, Text(), title, lines, Text())
    screen.out.file.flush()
