"""`specie signer ...`: the process that holds a bank's keys, apart from the bank."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Group, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import UsageError
from specie.cli.screen import Screen

if TYPE_CHECKING:
    from specie.app.signer import SignerSettings

__all__ = ["app"]

app = App(name="signer", help="Keep a bank's keys in a process of their own.", help_epilogue="")

_SEAL = Group("What opens the keys", sort_key=2)
_DOOR = Group("Who may connect", sort_key=3)
_LOGS = Group("Logs", sort_key=6)

_Data = Annotated[
    Path | None, Parameter(help="Directory of the sealed seed and the certificates; in your data home unless given.")
]


@app.command
def run(
    *,
    data: _Data = None,
    passphrase_file: Annotated[
        Path | None, Parameter(group=_SEAL, help="File with the passphrase that seals the keys (or SPECIE_PASSPHRASE).")
    ] = None,
    keyring: Annotated[
        bool, Parameter(group=_SEAL, negative="", show_default=False, help="Seal the keys by the system's keyring.")
    ] = False,
    play: Annotated[
        bool,
        Parameter(group=_SEAL, negative="", show_default=False, help="Seal them by a key file: for play money only."),
    ] = False,
    socket: Annotated[
        Path | None, Parameter(group=_DOOR, help="Unix socket to serve; run/signer.sock in the data directory unless given.")
    ] = None,
    group: Annotated[
        str | None, Parameter(group=_DOOR, help="Group that may reach the socket; your own user alone unless given.")
    ] = None,
    allow_user: Annotated[
        list[str] | None,
        Parameter(group=_DOOR, negative="", help="User, by name or number, whose processes are let in; your own unless given."),
    ] = None,
    policy: Annotated[
        Path | None,
        Parameter(group=_DOOR, help="TOML file with rules for what the keys may be used for; everything unless given."),
    ] = None,
    log_format: Annotated[
        Literal["auto", "json", "console"], Parameter(group=_LOGS, help="auto: console on a terminal, else json.")
    ] = "auto",
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Parameter(group=_LOGS, help="Least that is logged.")
    ] = "info",
    screen: ScreenArgument,
) -> None:
    """Open the keys and serve them to the bank that `specie signer pair` made certificates for. Ctrl-C or SIGTERM stops it.

    The bank is told by its settings: keys.provider = "remote", and the section keys.remote.
    """
    import asyncio

    import uvloop

    from specie.app.signer import SignerSettings, default_signer_dir
    from specie.keys import PASSPHRASE_VARIABLE, SealSource

    directory = (data or default_signer_dir()).absolute()
    passphrase = os.environ.get(PASSPHRASE_VARIABLE)
    if passphrase is not None and passphrase_file is not None:
        raise UsageError(f"--passphrase-file is given beside {PASSPHRASE_VARIABLE}; which one is meant?")
    settings = SignerSettings(
        data_dir=directory,
        socket=(socket or directory / "run" / "signer.sock").absolute(),
        users=frozenset(_uid(name) for name in allow_user) if allow_user else frozenset({os.geteuid()}),
        source=SealSource(
            passphrase_file=None if passphrase_file is None else str(passphrase_file),
            passphrase=passphrase,
            keyring=keyring,
            play_key=play,
        ),
        play=play,
        group=None if group is None else _gid(group),
        policy=None if policy is None else policy.absolute(),
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, log_format, log_level, screen))


async def _serve(settings: SignerSettings, log_format: str, log_level: str, screen: Screen) -> None:
    import asyncio
    import signal

    from rich.table import Table
    from rich.text import Text

    from specie.app.signer import open_signer
    from specie.app.system import collect_seldom
    from specie.ops.logging import capture, make_logger
    from specie.ops.settings import LogFormat, LogLevel, LogSettings

    logger = make_logger(LogSettings(LogLevel(log_level), LogFormat(log_format)))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def tell(event: str, **facts: object) -> None:
        (logger.warning if "reason" in facts or "error" in facts else logger.info)(event, **facts)

    with capture(logger):
        async with open_signer(settings, tell=tell) as signer:
            facts = {
                "socket": str(settings.socket),
                "data_dir": str(settings.data_dir),
                "users": sorted(settings.users),
                "identity": signer.identity.hex(),
                "sealing": signer.sealed.kind.value,
                "sealing_key": signer.sealed.where,
                "created": signer.sealed.created,
                "curve": signer.curve,
                "certificates_end": signer.expires,
                "rules": signer.rules,
            }
            lines = Table.grid(padding=(0, 2))
            lines.add_column(style="dim")
            lines.add_column(overflow="fold")
            lines.add_row("  socket", Text(str(settings.socket)))
            lines.add_row("  keys", Text(signer.sealed.kind.label))
            lines.add_row("  let in", Text("user " + ", ".join(str(user) for user in sorted(settings.users))))
            if settings.policy is not None:
                lines.add_row("  policy", Text(f"{settings.policy} ({signer.rules} rule{'s' if signer.rules > 1 else ''})"))
            lines.add_row("  certificates", Text(f"until {_date(signer.expires)}"))
            lines.add_row("  stop", Text("Ctrl-C"))
            screen.answer(facts, Text.assemble(("● ", "bold green"), ("specie signer", "bold"), " holds the keys"), lines)
            screen.out.file.flush()
            collect_seldom()
            await stop.wait()
            screen.say("[dim]stopping: calls under way are answered[/dim]")
    screen.say("[dim]stopped; the keys are forgotten[/dim]")


@app.command
def pair(
    *,
    data: _Data = None,
    bank: Annotated[
        Path | None, Parameter(help="Directory for the bank's files; for-bank in the data directory unless given.")
    ] = None,
    days: Annotated[int, Parameter(help="Days that the certificates are good for, 1 to 3650.")] = 365,
    renew: Annotated[
        bool, Parameter(negative="", show_default=False, help="Replace certificates that are there already.")
    ] = False,
    screen: ScreenArgument,
) -> None:
    """Make one certificate for the signer and one for its bank, each of which trusts the other alone.

    Move the bank's two files (bank.pem, which holds a key, and signer.crt) to where the bank's user alone can read them, and
    name them in its settings.
    """
    from rich.text import Text

    from specie.app.signer import default_signer_dir, pair_signer

    if not 1 <= days <= 3650:
        raise UsageError("--days: expected from 1 to 3,650")
    directory = (data or default_signer_dir()).absolute()
    ours, theirs, ends = pair_signer(directory, (bank or directory / "for-bank").absolute(), days=days, renew=renew)
    screen.answer(
        {
            "signer": [str(ours.identity), str(ours.peer)],
            "bank": [str(theirs.identity), str(theirs.peer)],
            "certificates_end": ends,
        },
        Text.assemble(("the signer keeps  ", "dim"), f"{ours.identity}, {ours.peer}"),
        Text.assemble(("the bank gets     ", "dim"), f"{theirs.identity}, {theirs.peer}"),
        Text.assemble(("good until        ", "dim"), _date(ends)),
    )


def _date(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def _uid(name: str) -> int:
    import pwd

    if name.isdecimal():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UsageError(f"--allow-user: there is no user {name}") from None


def _gid(name: str) -> int:
    import grp

    if name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"--group: there is no group {name}") from None
