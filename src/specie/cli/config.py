"""`specie config`: the settings of a bank, shown, checked, taken while it runs, and taken back. `ops.config` reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.bank_options import BankOptions, bank_settings
from specie.cli.screen import shown, table

if TYPE_CHECKING:
    from rich.table import Table

    from specie.ops.settings import BankSettings
    from specie.server.admin_client import AdminClient

__all__ = ["app"]

app = App(name="config", help="See, check and change a bank's settings.", help_epilogue="")

Bank = BankOptions | None
_File = Annotated[Path | None, Parameter(help="Settings file; the default one unless given.")]


@app.command
def example(*, screen: ScreenArgument) -> None:
    """Print a settings file with every setting, what it means and its default."""
    from specie.ops.config import default_config_file, example_toml

    text = example_toml()
    screen.bare({"toml": text, "default_file": str(default_config_file())}, text.rstrip("\n"))


@app.command
async def check(file: _File = None, *, bank: Bank = None, screen: ScreenArgument) -> None:
    """Read the settings file and the environment as `specie up` would, and tell what is wrong.

    Secrets written as references are looked for. Where the bank runs it is asked what it would take while it runs, and what
    needs a restart.
    """
    import os
    from dataclasses import replace

    from rich.text import Text

    from specie.cli.reloading import secret_problems
    from specie.ops.config import settings_file
    from specie.ops.errors import SettingsError

    options = bank or BankOptions()
    if file is not None:
        options = replace(options, config=file)
    settings = bank_settings(options)
    if problems := secret_problems(settings):
        raise SettingsError(problems)
    read = settings_file(options.config, os.environ)
    facts: dict[str, object] = {
        "file": None if read is None else str(read),
        "data_dir": str(settings.data_dir),
        "host": settings.server.host,
        "port": settings.server.port,
        "store": "postgresql" if settings.store.dsn is not None else str(settings.store_path),
        "rails": [{"kind": rail.kind.value, "play": rail.play} for rail in settings.rails],
        "sealing": settings.keys.sealing.value,
        "settings": _declared(settings),
        "running": await _asked(settings, None if read is None else read.absolute()),
    }
    rails = ", ".join(rail.kind.value + (" (PLAY)" if rail.play else "") for rail in settings.rails)
    rows = [
        ("file", facts["file"] or "none, all defaults"),
        ("data directory", facts["data_dir"]),
        ("listens on", f"{settings.server.host}:{settings.server.port}"),
        ("store", facts["store"]),
        ("rails", rails),
        ("keys sealed by", settings.keys.sealing.value),
    ]
    told: list[Any] = [Text("✓ these settings can be used", "green"), table(("setting", "value"), rows)]
    changed = [row for row in _declared(settings) if row["changed"]]
    if changed:
        cells = [(row["key"], shown(str(row["value"])), _when(bool(row["live"]))) for row in changed]
        told.append(table(("differs from its default", "value", "a change is taken"), cells))
    screen.answer(facts, *told, *_running_shown(facts["running"]))


def _declared(settings: BankSettings) -> list[dict[str, object]]:
    """Every setting with its value, whether it is the default, and whether a running bank takes another."""
    from specie.ops.config import leaves
    from specie.ops.revision import shown as told
    from specie.ops.settings import BankSettings

    values, defaults = told(settings), told(BankSettings())
    return [
        {"key": key, "value": values[key], "live": bool(spec.live), "changed": values[key] != defaults[key]}
        for key, spec in leaves()
    ]


async def _asked(settings: BankSettings, file: Path | None) -> dict[str, Any] | None:
    """What the running bank would make of the file; None if none runs, or none that takes settings while it does."""
    from specie.kernel.errors import RefusedError, UnavailableError
    from specie.server.admin_client import admin_client

    if not settings.admin_socket.exists():
        return None
    try:
        async with admin_client(settings.admin_socket) as client:
            return await client.check_config(file)
    except (UnavailableError, RefusedError):
        return None


def _running_shown(running: object) -> Sequence[Any]:
    from rich.text import Text

    if not isinstance(running, Mapping):
        return ()
    if running["problems"]:
        return [
            Text("the running bank would refuse this file:", "yellow"),
            *(Text(shown(item)) for item in running["problems"]),
        ]
    if running["restart"]:
        note = Text(f"the running bank would refuse this file: {', '.join(running['restart'])} needs a restart", "yellow")
    elif running["changes"]:
        note = Text("the running bank would take this file: specie config apply", "green")
    else:
        return [Text("the running bank has these settings", "green")]
    return [note, _changes(running["changes"])]


def _when(live: bool) -> str:
    return "live" if live else "at a restart"


def _changes(changes: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (shown(item["key"]), shown(item["before"]) or "–", shown(item["after"]) or "–", _when(bool(item["live"])))
        for item in changes
    ]
    return table(("setting", "before", "after", "taken"), rows)


@asynccontextmanager
async def _reached(options: Bank) -> AsyncIterator[AdminClient]:
    """The running bank, found even where its settings file cannot be used; or else its store."""
    import os

    from specie.cli.operator import reach
    from specie.kernel.errors import UnavailableError
    from specie.ops.config import data_dir_named
    from specie.ops.errors import SettingsError
    from specie.server.admin_client import admin_client

    given = options or BankOptions()
    try:
        bank_settings(given)
    except SettingsError as error:
        socket = data_dir_named(given.config, os.environ, given.data) / "admin.sock"
        if not socket.exists():
            raise
        async with admin_client(socket) as client:
            try:
                await client.config()
            except UnavailableError:
                raise error from None
            yield client
        return
    async with reach(options) as client:
        yield client


def _author() -> str:
    import getpass
    import os

    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "unknown"
    return f"{name} (uid {os.getuid()})"


@app.command
async def apply(*, bank: Bank = None, screen: ScreenArgument) -> None:
    """Have the running bank take its settings file now: all of it, or nothing and why.

    The file is the one the bank was started with. What needs a restart, and anything wrong, is refused with the whole file.
    """
    from rich.text import Text

    async with _reached(bank) as client:
        before = (await client.config())["revision"]
        made = await client.apply_config(_author())
    facts = made | {"changed": made["number"] != before}
    if made["number"] == before:
        screen.answer(facts, Text(f"✓ nothing differs: revision {before} runs", "green"))
    else:
        screen.answer(facts, Text(f"✓ revision {made['number']} runs", "green"), _changes(made["changes"]))


@app.command
async def rollback(
    number: Annotated[int, Parameter(help="Revision to go back to, as `specie config history` shows it.")],
    *,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """Have the running bank go back to an earlier revision: its settings file is written again and taken.

    A copy of the present file is kept beside it (`bank.toml.TIME.bak`). Comments of the earlier file are not kept.
    """
    from rich.text import Text

    async with _reached(bank) as client:
        made = await client.rollback_config(number, _author())
    screen.answer(made, Text(f"✓ revision {made['number']} runs, the file of {number}", "green"), _changes(made["changes"]))


@app.command
async def history(
    *,
    limit: Annotated[int, Parameter(help="How many, 1 to 1,000.")] = 20,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """Every set of settings that the bank was given: when, by whom, and what became of it."""
    from datetime import UTC, datetime

    async with _reached(bank) as client:
        found = await client.revisions(limit)
    rows = [
        (
            item["number"],
            datetime.fromtimestamp(item["at"], UTC).strftime("%Y-%m-%d %H:%M:%S"),
            shown(item["author"]),
            item["outcome"],
            shown("; ".join(item["reasons"]) or ", ".join(change["key"] for change in item["changes"]), 500),
        )
        for item in found
    ]
    columns = (("revision", "right"), "time (UTC)", "by", "outcome", "what changed, or why not")
    screen.answer({"revisions": found}, table(columns, rows))


@app.command
async def show(
    number: Annotated[int | None, Parameter(help="Revision; what runs unless given.")] = None,
    *,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """Print a revision as a settings file, or what the bank runs with as a table. Secrets are references or redacted."""
    from specie.kernel.errors import RefusedError
    from specie.ops.revision import document_text

    async with _reached(bank) as client:
        found = await (client.config() if number is None else client.revision(number))
    if number is None:
        screen.answer(found, table(("setting", "value"), [(key, shown(value)) for key, value in found["settings"].items()]))
        return
    if found["document"] is None and not screen.json:
        raise RefusedError(f"the file of revision {number} was not kept: it could not be read, or held a secret in the clear")
    text = "" if found["document"] is None else document_text(found["document"], f"Revision {number}.")
    screen.bare(found | {"toml": text or None}, text.rstrip("\n"))


@app.command
async def diff(
    first: Annotated[int | None, Parameter(help="Revision; without any, what runs is compared with the file.")] = None,
    second: Annotated[int | None, Parameter(help="Revision it is compared with; what runs unless given.")] = None,
    *,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """What differs between two revisions, a revision and what runs, or what runs and the settings file."""
    from dataclasses import asdict

    from rich.text import Text

    from specie.ops.revision import changes_between

    async with _reached(bank) as client:
        running = await client.config()
        if first is None:
            changes = await _unread(client, bank or BankOptions(), running)
        else:
            before = (await client.revision(first))["settings"]
            after = running["settings"] if second is None else (await client.revision(second))["settings"]
            changes = [asdict(change) for change in changes_between(before, after)]
    screen.answer({"changes": changes}, _changes(changes) if changes else Text("nothing differs", "green"))


async def _unread(client: AdminClient, options: BankOptions, running: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the settings file would change, by the bank's own reading of it where that can be asked."""
    from dataclasses import asdict

    from specie.ops.reload import SettingsRefusedError
    from specie.ops.revision import changes_between
    from specie.ops.revision import shown as told

    if not running["live"]:
        return [asdict(change) for change in changes_between(running["settings"], told(bank_settings(options)))]
    asked = await client.check_config()
    if asked["problems"]:
        raise SettingsRefusedError(asked["problems"])
    changes: list[dict[str, Any]] = asked["changes"]
    return changes
