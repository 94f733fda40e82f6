"""`specie up`: a bank from its settings to its last drained request."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.bank_options import BankOptions, bank_settings
from specie.cli.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from specie.app.bank import Bank
    from specie.ops.settings import BankSettings
    from specie.server.run import Listening
    from specie.server.workers import Seat

__all__ = ["up"]

_SERVING = Group("Serving", sort_key=1)
_PLAY = Group("Play money", sort_key=2)
_LOGS = Group("Logs", sort_key=6)


@Parameter(name="*")
@dataclass(frozen=True)
class _Serving:
    host: Annotated[str | None, Parameter(group=_SERVING, help="Address to listen on; 127.0.0.1 unless given.")] = None
    port: Annotated[int | None, Parameter(group=_SERVING, help="Port to listen on; 3338 unless given, 0 for any.")] = None
    workers: Annotated[
        int | None, Parameter(group=_SERVING, help="Processes that serve the port, on PostgreSQL only; 1 unless given.")
    ] = None
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


def up(*, serving: _Serving | None = None, bank: BankOptions | None = None, screen: ScreenArgument) -> int:
    """Start a bank: mint, API, books and start page. Ctrl-C drains and stops it."""
    from specie.server.workers import Seat

    seat = Seat.taken(os.environ)
    serving, bank = serving or _Serving(), bank or BankOptions()
    file, content = _file_read(bank.config)
    settings = _settings(serving, bank, content, file)
    if seat is None and settings.server.workers > 1:
        with asyncio.Runner() as runner:
            return runner.run(_supervise(settings, screen))
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, screen, seat, bank.config, content, partial(_settings, serving, bank)))
    return 0


def _file_read(config: Path | None) -> tuple[Path | None, bytes | None]:
    """The settings file and what it holds, read once: whoever compares it later must see what the bank was started with.

    None twice where there is none, and no content where it cannot be read, which is told with whatever else is wrong.
    """
    from specie.ops.config import read_content, settings_file

    file = settings_file(config, os.environ)
    if file is None:
        return None, None
    try:
        return file, read_content(file)
    except OSError:
        return file, None


def _settings(serving: _Serving, bank: BankOptions, content: bytes | None = None, file: Path | None = None) -> BankSettings:
    """Settings as the command line has them; `content` stands for what the settings `file` holds."""
    settings = bank_settings(
        bank,
        file=file,
        content=content,
        **{
            "server.host": serving.host,
            "server.port": serving.port,
            "server.workers": serving.workers,
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


async def _supervise(settings: BankSettings, screen: Screen) -> int:
    """Run several workers: the same command line, each with a seat in its environment."""
    import signal
    import sys

    from specie._version import __version__
    from specie.app.system import SystemClock
    from specie.ops.logging import make_logger
    from specie.ops.metrics import Metrics
    from specie.server.run import bind_tcp_socket
    from specie.server.unix_socket import bind_unix_socket, remove_unix_socket
    from specie.server.workers import Supervisor

    metrics = Metrics(make_logger(settings.log), SystemClock().now, version=__version__)
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = settings.server
    with bind_tcp_socket(server.host, server.port) as alone:  # taken by nobody, not even by sockets that would share it
        port = int(alone.getsockname()[1])
    with bind_unix_socket(settings.admin_socket) as admin:
        supervisor = Supervisor(
            (sys.executable, "-m", "specie", *sys.argv[1:]),
            server.workers,
            bind=lambda: bind_tcp_socket(server.host, port, shared=True),
            admin=admin,
            telemetry=metrics,
            drain_s=server.accept_s + server.drain_s + settings.mint.pay_deadline_s + 30.0,
        )

        def stop() -> None:
            screen.say("[dim]stopping: running requests may finish, Ctrl-C again does not wait for them[/dim]")
            supervisor.stop()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, supervisor.restart)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        try:
            code = await supervisor.run(lambda facts: _announce(screen, settings, facts))
        finally:
            remove_unix_socket(settings.admin_socket)
    if not code:
        screen.say("[dim]stopped; the books are closed[/dim]")
    return code


async def _serve(
    settings: BankSettings,
    screen: Screen,
    seat: Seat | None,
    config: Path | None,
    content: bytes | None,
    load: Callable[[bytes, Path], BankSettings],
) -> None:
    """Serve until told to stop: a whole bank, or one worker of it.

    `settings` were built of `content`, what the settings file held; `load` builds settings of the content of a file.
    """
    import signal
    import socket

    from specie._version import __version__
    from specie.app.bank import open_bank
    from specie.app.system import SystemClock, collect_seldom, take_short_turns
    from specie.cli.reloading import followed, reloading
    from specie.cli.serving import server_context
    from specie.ops.logging import capture, make_logger
    from specie.ops.metrics import Metrics
    from specie.server.admin import build_admin
    from specie.server.app import build_app
    from specie.server.ports import WorkerActions
    from specie.server.run import serve

    def make(settings: BankSettings) -> FilteringBoundLogger:
        made = make_logger(settings.log)
        return made if seat is None else made.bind(seat=seat.number)

    logger = make(settings)
    metrics = Metrics(logger, SystemClock().now, version=__version__)
    stop, replaced = asyncio.Event(), asyncio.Event()
    following: list[asyncio.Task[None]] = []
    with capture(logger) as captured:
        async with open_bank(settings, telemetry=metrics, seat=seat.number if seat else 0) as bank:
            if seat is None:
                context = server_context(bank, metrics, stop.set)
            else:
                actions = WorkerActions(seat.count, seat.generation, lambda: seat.ask(signal.SIGHUP))
                context = server_context(bank, metrics, lambda: seat.ask(signal.SIGTERM), actions)

            def announce(listening: Listening) -> None:
                facts = _facts(bank, listening)
                if seat is None:
                    _announce(screen, settings, facts)
                else:
                    following.append(asyncio.get_running_loop().create_task(seat.follow(facts, retire)))
                collect_seldom()
                take_short_turns()

            def retire(others: bool) -> None:
                if others:
                    replaced.set()
                stop.set()

            def draining() -> None:
                if not replaced.is_set():
                    context.health.drain()
                if seat is None:
                    screen.say("[dim]stopping: running requests may finish, Ctrl-C again does not wait for them[/dim]")

            app = build_app(context)
            with_admin = seat is None or seat.admin is not None
            reloader = reloading(
                bank,
                context,
                app,
                config=config,
                content=content,
                load=load,
                logger=make,
                loggers=(metrics.log_to, captured),
                alone=seat is None,
            )
            if with_admin:
                await reloader.start()
            reloads = followed(reloader) if seat is None else contextlib.nullcontext()
            try:
                with reloads:
                    await serve(
                        app,
                        settings.server,
                        admin=build_admin(context) if with_admin else None,
                        admin_socket=settings.admin_socket if with_admin else None,
                        stop=stop,
                        announce=announce,
                        draining=draining,
                        listener=None if seat is None else socket.socket(fileno=seat.listener),
                        admin_listener=None if seat is None or seat.admin is None else socket.socket(fileno=seat.admin),
                        lingering=lambda: not replaced.is_set(),
                    )
            finally:
                for task in following:
                    task.cancel()
                await app.aclose()
    if seat is None:
        screen.say("[dim]stopped; the books are closed[/dim]")


def _program() -> str:
    """How this program is called from here: by the launcher of a checkout, or by its name."""
    launcher = Path.cwd() / "specie"
    return "./specie" if launcher.is_file() and os.access(launcher, os.X_OK) else "specie"


def _facts(bank: Bank, listening: Listening) -> dict[str, Any]:
    """What a program is told of a bank that takes connections."""
    settings = bank.settings
    return {
        "url": settings.server.public_url or listening.url,
        "host": listening.host,
        "port": listening.port,
        "data_dir": str(settings.data_dir),
        "admin_socket": str(listening.admin_socket) if listening.admin_socket else None,
        "store": settings.store.label,
        "play": settings.play,
        "provider": bank.signer.capabilities().provider,
        "sealing": bank.sealed.kind.value if bank.sealed else "signer",
        "sealing_key": bank.sealed.where if bank.sealed else str(settings.keys.remote.socket),
        "created": bank.sealed.created if bank.sealed else False,
        "curve": bank.curve,
        "keysets": [keyset.id for keyset in bank.mint.keysets() if keyset.active],
    }


def _announce(screen: Screen, settings: BankSettings, facts: dict[str, Any]) -> None:
    """Tell where the bank is: `facts` as `_facts`, and those of the supervisor where there are several workers."""
    from rich.table import Table
    from rich.text import Text

    from specie.keys import SealKind
    from specie.ops.secret_reference import SecretReference

    sealing = None if facts["sealing"] == "signer" else SealKind(facts["sealing"])
    title = Text.assemble(("● ", "bold green"), ("specie", "bold"), " is up ")
    if facts["play"]:
        title.append(" PLAY MONEY ", "bold black on yellow")
    lines = Table.grid(padding=(0, 2))
    lines.add_column(style="dim")
    lines.add_column(overflow="fold")
    lines.add_row("  open", Text(facts["url"], "bold cyan"))
    lines.add_row("  data", Text(str(settings.data_dir)))
    if settings.store.label != "SQLite":
        lines.add_row("  store", Text(settings.store.label))
    if "workers" in facts:
        lines.add_row("  workers", Text(f"{len(facts['workers'])} processes"))
    place = settings.keys.passphrase
    if sealing is None:
        told = f"with the signer at {facts['sealing_key']}"
    else:
        told = f"sealed by the passphrase at {place}" if isinstance(place, SecretReference) else sealing.label
    lines.add_row("  keys", Text(told))
    if sealing is SealKind.PLAY_KEY:
        lines.add_row("", Text(facts["sealing_key"], "dim"))
    curve = facts["curve"]
    if sealing:
        lines.add_row("  curve", Text("native batches" if curve == "native" else f"Python, slower ({curve})"))
    lines.add_row("  try", Text.assemble((f"{_program()} wallet mint 100", "green"), " in another terminal"))
    lines.add_row("  stop", Text("Ctrl-C"))
    screen.answer(facts, Text(), title, lines, Text())
    screen.out.file.flush()
