"""Options that say which bank is meant and how it is opened, shared by `specie up` and `specie mint ...`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import parse_qs, urlsplit

from cyclopts import Group, Parameter

from specie.cli.errors import UsageError

if TYPE_CHECKING:
    from specie.ops.settings import BankSettings

__all__ = ["BankOptions", "bank_settings"]

_WHICH = Group("Which bank", sort_key=5)


@Parameter(name="*")
@dataclass(frozen=True)
class BankOptions:
    """Which bank, and what opens its keys."""

    config: Annotated[
        Path | None, Parameter(group=_WHICH, help="Settings file; bank.toml in your config home if it exists.")
    ] = None
    data: Annotated[Path | None, Parameter(group=_WHICH, help="Data directory; in your data home unless given.")] = None
    database: Annotated[
        str | None,
        Parameter(
            name=("--database", "--store.dsn"),
            group=_WHICH,
            help="PostgreSQL instead of the embedded store: postgresql://host/name. A password goes into SPECIE_STORE_DSN.",
        ),
    ] = None
    store: Annotated[
        Literal["sqlite", "rocksdb"] | None,
        Parameter(
            name=("--store", "--store.engine"),
            group=_WHICH,
            help="What the embedded store is made of; sqlite unless given. Chosen before the first start.",
        ),
    ] = None
    passphrase_file: Annotated[
        Path | None, Parameter(group=_WHICH, help="File with the passphrase that seals the keys (or SPECIE_PASSPHRASE).")
    ] = None
    keyring: Annotated[
        bool, Parameter(group=_WHICH, negative="", show_default=False, help="Seal the keys by the system's keyring.")
    ] = False


def bank_settings(
    options: BankOptions, *, file: Path | None = None, content: bytes | None = None, **overrides: object
) -> BankSettings:
    """The settings of file, environment and command line. SettingsError tells all that is wrong with them.

    `content` stands for what `file` holds (the options' unless given).
    """
    from specie.ops.config import load_settings

    if options.database is not None:
        parts = urlsplit(options.database)
        if parts.password is not None or "password" in parse_qs(parts.query):
            raise UsageError("a command line is seen by other users: put the database with its password into SPECIE_STORE_DSN")
    given = {
        "data_dir": options.data,
        "store.dsn": options.database,
        "store.engine": options.store,
        "keys.passphrase_file": options.passphrase_file,
        "keys.sealing": "keyring" if options.keyring else None,
    }
    settings = load_settings(file or options.config, os.environ, given | overrides, content=content)
    if settings.play and not settings.mint.motd:
        settings = replace(settings, mint=replace(settings.mint, motd=PLAY_NOTICE))
    return settings


PLAY_NOTICE = "PLAY MONEY: the coins of this mint are worth nothing."
"""Message of the day of a bank in play money, where its operator has not written one."""
