"""`specie mint ...`: the operator's commands.

They ask the running bank through its unix socket (0600, in the data directory). Where none runs they open the store
themselves, under its exclusive lock, and answer through the very same API.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.bank_options import BankOptions, bank_settings
from specie.cli.screen import table

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from specie.app.bank import Bank as OpenedBank
    from specie.ops.settings import BankSettings
    from specie.server.admin_client import AdminClient

__all__ = ["Bank", "app", "reach", "sentence"]

app = App(name="mint", help="Look after a bank, running or not: keysets, quotes, books, backup.", help_epilogue="")
_keysets = App(name="keysets", help="See keysets and start new ones.", help_epilogue="")
app.command(_keysets)
app.command("specie.cli.restart:restart", name="restart")
app.command("specie.cli.prune:prune", name="prune")
app.command("specie.cli.play:app", name="play", help="Move play money, and the blocks it is in, by hand.")
app.command("specie.cli.play:settle", name="settle")

Bank = BankOptions | None
"""Which bank; the default one if None."""


@asynccontextmanager
async def reach(options: Bank) -> AsyncIterator[AdminClient]:
    """The running bank, or else its store."""
    async with _bank(bank_settings(options or BankOptions())) as (_, client):
        yield client


@asynccontextmanager
async def _bank(settings: BankSettings, *, serve: bool = False) -> AsyncIterator[tuple[OpenedBank | None, AdminClient]]:
    """A client of the bank, and the bank itself where none was running and it was opened here (to look, or to `serve`)."""
    from specie.kernel.errors import UnavailableError
    from specie.server.admin_client import admin_client

    if settings.admin_socket.exists():
        async with admin_client(settings.admin_socket) as client:
            try:
                await client.health()
            except UnavailableError:
                pass  # the file was left by a bank that died
            else:
                yield None, client
                return
    async with _opened(settings, serve) as found:
        yield found


@asynccontextmanager
async def _opened(settings: BankSettings, serve: bool) -> AsyncIterator[tuple[OpenedBank, AdminClient]]:
    import httpx2

    from specie._version import __version__
    from specie.app.bank import open_bank
    from specie.app.system import SystemClock
    from specie.cli.serving import server_context
    from specie.kernel.errors import RefusedError
    from specie.ops.logging import make_logger
    from specie.ops.metrics import Metrics
    from specie.ops.settings import KeysProvider, LogLevel, LogSettings
    from specie.server.admin import build_admin
    from specie.server.admin_client import AdminClient
    from specie.server.operator_peer import this_user

    remote = settings.keys.provider is KeysProvider.REMOTE  # there is no seed; a store on PostgreSQL is asked itself
    made = settings.data_dir / "mint.seed"
    if remote:
        made = settings.store_path if settings.store.dsn is None else settings.data_dir
    if not made.exists():
        raise RefusedError(f"there is no bank in {settings.data_dir}; specie up starts one")
    metrics = Metrics(make_logger(LogSettings(level=LogLevel.WARNING)), SystemClock().now, version=__version__)
    async with open_bank(settings, telemetry=metrics, serve=serve) as bank:
        transport = httpx2.ASGITransport(app=build_admin(server_context(bank, metrics)), client=this_user())
        async with httpx2.AsyncClient(transport=transport, base_url="http://bank") as client:
            yield bank, AdminClient(client)


@_keysets.command(name="list")
async def keysets_list(*, bank: Bank = None, screen: ScreenArgument) -> None:
    """Every keyset: what was issued and redeemed under it."""
    async with reach(bank) as client:
        found = await client.keysets()
    screen.answer({"keysets": found}, _keyset_table(found))


@_keysets.command(name="rotate")
async def keysets_rotate(
    *,
    unit: Annotated[str, Parameter(help="Unit of the new keyset.")] = "sat",
    fee: Annotated[
        int | None, Parameter(help="Input fee in thousandths of the unit; that of the settings unless given.")
    ] = None,
    final_expiry: Annotated[
        int | None, Parameter(help="Unix time after which its coins are worthless; never unless given.")
    ] = None,
    keys: Annotated[
        Literal["software", "pkcs11"] | None,
        Parameter(help="Where its keys live: derived from the seed, or made in the token of keys.pkcs11; as now unless given."),
    ] = None,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """Start a new keyset; coins of the old one stay good and are moved over by wallets."""
    async with reach(bank) as client:
        made = await client.rotate(unit, input_fee_ppk=fee, final_expiry=final_expiry, home=keys)
    screen.answer(made, sentence("new keyset", made["id"]), _keyset_table([made]))


@app.command
async def quotes(
    *,
    limit: Annotated[int, Parameter(help="How many, 1 to 1,000.")] = 20,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """The newest quotes, in and out; their ids are shortened, for they are secrets of their wallets."""
    async with reach(bank) as client:
        found = await client.quotes(limit)
    rows = [
        (
            _when(quote["created_at"]),
            "→ in" if quote["direction"] == "in" else "← out",
            _money(quote["amount"], quote["unit"]),
            quote["state"],
            quote["rail"],
            quote["quote"],
        )
        for quote in found
    ]
    columns = ("when", "direction", ("amount", "right"), "state", "rail", "quote")
    screen.answer({"quotes": found}, table(columns, rows) if rows else "[dim]no quotes yet[/dim]")


@app.command
async def liabilities(
    *,
    verify: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="Check the books against all history first (exit code 70 if they differ)."
        ),
    ] = False,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """The books: what the rails hold, what is issued and redeemed, what is still owed."""
    async with reach(bank) as client:
        with screen.progress("reading all history" if verify else "reading the books"):
            books = await (client.audit() if verify else client.books())
            found = await client.keysets()
        play = any(check["facts"].get("play") for check in (await client.health())["checks"])
    rows = []
    for unit in books["units"]:
        name = unit["unit"]
        rows += [
            ("assets", "on rails", _money(unit["assets"], name)),
            ("owed", "ecash outstanding", _money(unit["outstanding"], name)),
            ("owed", "paid in, not yet issued", _money(unit["liabilities"] - unit["outstanding"], name)),
            ("earned", "fees", _money(unit["income"] - unit["expense"], name)),
        ]
    screen.answer(
        books | {"keysets": found, "play": play},
        _keyset_table(found),
        table(("books", "", ("amount", "right")), rows) if rows else "[dim]nothing was posted yet[/dim]",
        _verdict(verify, play),
    )


@app.command
async def epochs(
    *,
    close: Annotated[
        bool, Parameter(negative="", show_default=False, help="Close the epoch that runs first; a bank does so by itself.")
    ] = False,
    verify: Annotated[
        bool,
        Parameter(negative="", show_default=False, help="Check every epoch, leaf and sum first (exit code 70 if they differ)."),
    ] = False,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """What the bank has proved it owes, epoch by epoch (draft NUT-388). The digest is what one would have timestamped."""
    async with reach(bank) as client:
        if close:
            await client.close_epoch()
        with screen.progress("reading all history" if verify else "reading the epochs"):
            checked = await client.audit_epochs() if verify else None
            found = await client.epochs()
    rows = [
        (
            epoch["number"],
            _when(epoch["at"]),
            "  ".join(_money(amount, unit) for unit, amount in epoch["outstanding"].items()),
            f"{epoch['issued']:,}",
            f"{epoch['spent']:,}",
            f"{epoch['digest'][:16]}…",
        )
        for epoch in found["epochs"]
    ]
    columns = (("epoch", "right"), "closed", ("owed", "right"), ("issued", "right"), ("spent", "right"), "digest")
    screen.answer(
        found if checked is None else found | {"verified": checked["epochs"]},
        table(columns, rows) if rows else "[dim]no epoch was closed yet[/dim]",
        "" if checked is None else sentence("✓", f"{checked['epochs']:,} epochs agree with all leaves, coins and books"),
    )


@app.command
async def prove(
    item: Annotated[str, Parameter(help="B_ of an output or Y of a coin, 33 bytes in hex.")],
    *,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """Print the signed manifest and the inclusion proof of one item, as JSON: what answers a holder who misses a coin."""
    import json

    async with reach(bank) as client:
        found = await client.prove(item)
    screen.bare(found, json.dumps(found, indent=2))


@app.command
async def backup(
    target: Annotated[Path, Parameter(help="File to make (of a RocksDB store: directory); it must not exist.")],
    *,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """Write a consistent copy of the store while the bank runs. The sealed seed is copied beside it, unless a signer has it."""
    from specie.kernel.errors import RefusedError
    from specie.ops.settings import KeysProvider

    path = target.absolute()
    seed = path.with_name(f"{path.name}.seed")
    settings = bank_settings(bank or BankOptions())
    if seed.exists():
        raise RefusedError(f"{seed} exists")
    async with reach(bank) as client:
        with screen.progress("copying the store"):
            written = await client.backup(path)
    remote = settings.keys.provider is KeysProvider.REMOTE
    if not remote:
        _copy_seed(settings.data_dir / "mint.seed", seed)
    size = sum(path.stat().st_size for path in (written.rglob("*") if written.is_dir() else (written,)))
    screen.answer(
        {"path": str(written), "seed": None if remote else str(seed), "bytes": size},
        sentence("written", f"{written} ({size:,} bytes)"),
        sentence("not here", "the seed, which is with the signer: keep a copy of its mint.seed, too")
        if remote
        else sentence("written", f"{seed} (sealed: keep what opens it in another place)"),
    )


def _copy_seed(own: Path, copy: Path) -> None:
    """A durable copy of the sealed seed, mode 0600; never over another file."""
    import os

    handle = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "wb") as file:
        file.write(own.read_bytes())
        file.flush()
        os.fsync(handle)


@app.command
async def reconcile(*, bank: Bank = None, screen: ScreenArgument) -> None:
    """Look at every payment whose end is not known. A running bank does so by itself, every few seconds."""
    settings = bank_settings(bank or BankOptions())
    async with _bank(settings, serve=True) as (opened, _):
        if opened is None:
            every = settings.mint.reconcile_every_s
            screen.answer({"running": True, "every_s": every}, f"a bank is running: it looks by itself every {every:g} s")
            return
        await opened.mint.reconcile()
        pending = await opened.mint.pending_melts()
    rows = [(_when(melt.created_at), _money(melt.amount, melt.unit), melt.rail) for melt in pending]
    shown = table(("since", ("amount", "right"), "rail"), rows) if rows else "no payment is in flight"
    screen.answer({"running": False, "pending": len(pending)}, shown)


@app.command
async def reseal(
    *,
    new_passphrase_file: Annotated[
        Path | None, Parameter(help="File with the passphrase that seals the keys from now on.")
    ] = None,
    new_keyring: Annotated[
        bool, Parameter(negative="", show_default=False, help="From now on a key in the system's keyring seals them.")
    ] = False,
    bank: Bank = None,
    screen: ScreenArgument,
) -> None:
    """Seal the bank's keys in another way. The bank must not run; give as usual how they are sealed now.

    With neither option a random key file seals them, which is for play money only.
    """
    from specie.app.audit_opening import reseal_recorded
    from specie.keys.sealing import SealSource

    new = SealSource(passphrase_file=None if new_passphrase_file is None else str(new_passphrase_file), keyring=new_keyring)
    sealed = await reseal_recorded(bank_settings(bank or BankOptions()), new)
    screen.answer({"sealed": str(sealed.kind), "where": sealed.where}, sentence(sealed.kind.label, sealed.where))


@app.command
async def health(*, bank: Bank = None, screen: ScreenArgument) -> int:
    """State, uptime and what each dependency says. Exit code 5 unless all is well."""
    async with reach(bank) as client:
        report = await client.health()
    rows = [
        (
            check["name"],
            "ok" if check["ok"] else "not well",
            f"{check['elapsed_ms']:.1f} ms",
            check["detail"] or _facts(check["facts"]),
        )
        for check in report["checks"]
    ]
    head = sentence(report["state"], f"up for {report['uptime_s']:,} s, {report['pages']} pages")
    screen.answer(report, head, table(("part", "state", ("took", "right"), "says"), rows))
    return 0 if report["state"] == "ok" else 5


def _facts(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items() if value not in (None, ""))


def _keyset_table(keysets: list[dict[str, Any]]) -> Table:
    rows = [
        (
            _short(keyset["id"]),
            "active" if keyset["active"] else "old",
            keyset["home"],
            f"{keyset['input_fee_ppk'] / 1000:g}" if keyset["input_fee_ppk"] else "none",
            _money(keyset["issued"], keyset["unit"]),
            _money(keyset["redeemed"], keyset["unit"]),
            _money(keyset["outstanding"], keyset["unit"]),
        )
        for keyset in keysets
    ]
    columns = (
        "keyset",
        "state",
        "keys",
        ("fee", "right"),
        ("issued", "right"),
        ("redeemed", "right"),
        ("outstanding", "right"),
    )
    return table(columns, rows)


def _short(keyset_id: str) -> str:
    """The beginning of a long keyset id, which is its short form in tokens; --json tells it whole."""
    return keyset_id if len(keyset_id) <= 16 else f"{keyset_id[:16]}…"


def _verdict(verified: bool, play: bool) -> Text:
    from rich.text import Text

    text = Text("✓ the books agree with all history  " if verified else "", "green")
    return text.append_text(Text(" PLAY MONEY ", "bold black on yellow")) if play else text


def sentence(head: str, rest: str) -> Text:
    """What was done, and the rest of it."""
    from rich.text import Text

    return Text.assemble((f"{head} ", "bold green" if head != "down" else "bold red"), rest)


def _money(amount: int, unit: str) -> str:
    from specie.kernel.money import format_amount

    return format_amount(amount, unit)


def _when(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
