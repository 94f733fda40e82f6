"""Joins a running bank with `ops.reload`: which parts take new settings, and what an operator may ask of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from specie.app.secret_sources import revealed, system_sources
from specie.kernel.errors import SpecieError
from specie.ops.config import is_dsn
from specie.ops.errors import SettingsProblem
from specie.ops.reload import Reloader, Swap
from specie.ops.revision import secrets_of, shown
from specie.ops.secret import Secret
from specie.ops.secret_reference import SecretReference
from specie.server.ports import ConfigActions, ServerContext

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from specie.app.bank import Bank
    from specie.ops.settings import BankSettings
    from specie.server.app import BankApp

__all__ = ["bank_place", "followed", "reloading", "remembered", "secret_problems"]

_KEYRING_S = 10.0
"""For a keyring to answer while a bank runs: nobody may be there to unlock it."""


def bank_place(settings: BankSettings) -> str:
    """Which bank of a shared store this is; empty where a store has one."""
    return "" if settings.store.dsn is None else f"{socket.gethostname()}:{settings.data_dir}"


def secret_problems(settings: BankSettings) -> list[SettingsProblem]:
    """Which secrets cannot be read, and why. Blocks, as a keyring may."""
    sources, problems = system_sources(keyring_s=_KEYRING_S), []
    for key, value in secrets_of(settings):
        if not isinstance(value, SecretReference):
            continue
        try:
            text = revealed(value, sources)
        except SpecieError as error:
            problems.append(SettingsProblem(key, "", error.detail))
        else:
            if key == "store.dsn" and not is_dsn(Secret(text)):
                problems.append(SettingsProblem(key, "", f"{value}: what stands there must begin with postgresql://"))
    return problems


def _log_part(
    settings: BankSettings, made: Callable[[BankSettings], FilteringBoundLogger], takers: Sequence[Callable[..., None]]
) -> Callable[[BankSettings], Swap]:
    """Loggers: `made` builds one, `takers` write to it from then on."""
    now = [made(settings)]

    def prepare(new: BankSettings) -> Swap:
        before, after = now[0], made(new)

        def give(logger: FilteringBoundLogger) -> None:
            now[0] = logger
            for taker in takers:
                taker(logger)

        return Swap(lambda: give(after), lambda: give(before))

    return prepare


def _server_part(app: BankApp) -> Callable[[BankSettings], Swap]:
    """The HTTP face."""
    return lambda new: app.prepare(new.server)


def _mint_part(bank: Bank) -> Callable[[BankSettings], Swap]:
    """Prices and bounds of new quotes."""
    return lambda new: _mint_swap(bank, new)


def _mint_swap(bank: Bank, new: BankSettings) -> Swap:
    before = bank.mint.settings
    return Swap(lambda: bank.mint.adopt(new.mint), lambda: bank.mint.adopt(before))


def remembered(bank: Bank) -> ConfigActions:
    """What can be seen of a bank's settings where none can be taken: it does not run, or is several processes."""
    place = bank_place(bank.settings)

    async def running() -> tuple[int | None, Mapping[str, str]]:
        newest = await bank.revisions.newest(place, 1, applied=True)
        return (newest[0].number, newest[0].settings) if newest else (None, shown(bank.settings))

    return ConfigActions(
        history=lambda limit: bank.revisions.newest(place, limit),
        find=bank.revisions.find,
        running=running,
    )


def _config_actions(bank: Bank, reloader: Reloader) -> ConfigActions:
    """What an operator may ask of a running bank."""

    async def running() -> tuple[int | None, Mapping[str, str]]:
        return reloader.revision.number if reloader.revision else None, shown(reloader.settings)

    return replace(
        remembered(bank),
        running=running,
        check=reloader.check,
        apply=reloader.apply,
        rollback=reloader.rollback,
    )


def reloading(
    bank: Bank,
    context: ServerContext,
    app: BankApp,
    *,
    config: Path | None,
    content: bytes | None,
    load: Callable[[bytes, Path], BankSettings],
    logger: Callable[[BankSettings], FilteringBoundLogger],
    loggers: Sequence[Callable[[FilteringBoundLogger], None]],
    alone: bool,
) -> Reloader:
    """The way of a running bank to other settings; its operator's socket and health page know of it from now on.

    `config` is the file that was named, `content` what it held when the bank's settings were built, `load` builds others;
    `logger` makes what `loggers` write to. Only a process that serves the bank `alone` takes others while it runs.
    """
    reloader = Reloader(
        bank.settings,
        file=_file_of(config),
        content=content,
        load=load,
        secrets=secret_problems,
        parts=(_log_part(bank.settings, logger, loggers), _server_part(app), _mint_part(bank)),
        store=bank.revisions,
        clock=context.clock,
        telemetry=context.metrics,
        place=bank_place(bank.settings),
    )
    if alone:
        context.operator = replace(context.operator, config=_config_actions(bank, reloader))
        context.health.add("settings", reloader.health, required=False)
    return reloader


@contextlib.contextmanager
def followed(reloader: Reloader) -> Iterator[None]:
    """While inside, SIGHUP has the settings file taken, and it is watched if the settings say so.

    At a terminal SIGHUP means that it is gone, and ends the bank as ever.
    """
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(reloader.follow()), loop.create_task(reloader.watch())]
    before = signal.getsignal(signal.SIGHUP)
    handled = False
    if not (sys.stdin and sys.stdin.isatty()):
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread, where signals are somebody else's
            loop.add_signal_handler(signal.SIGHUP, reloader.ask)
            handled = True
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if handled:
            loop.remove_signal_handler(signal.SIGHUP)
            if before is not None:
                signal.signal(signal.SIGHUP, before)


def _file_of(config: Path | None) -> Path:
    """The settings file that the next start will read, whether it is there or not."""
    from specie.ops.config import default_config_file, settings_file

    return (settings_file(config, os.environ) or default_config_file()).absolute()
