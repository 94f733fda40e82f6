"""`specie version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from specie._version import __version__
from specie.cli.arguments import ScreenArgument
from specie.cli.screen import table

__all__ = ["version"]

_SHOWN = ("btclib-secp256k1", "apsw-sqlite3mc", "asyncpg", "uvicorn", "httpx2")


def version(*, screen: ScreenArgument) -> None:
    """Versions of specie and of what it runs on."""
    parts = {"specie": __version__, "python": platform.python_version()}
    for name in _SHOWN:
        try:
            parts[name] = version_of(name)
        except PackageNotFoundError:
            continue
    screen.answer(parts, table(("part", "version"), list(parts.items())))
