"""The commands that keep a wallet's secrets: backup, drill, reseal, encrypt, decrypt; and how passphrases are asked for.

A passphrase is typed unseen, or read from a file or the environment; never an argument, which every process could read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import UsageError
from specie.cli.screen import Screen, table
from specie.cli.wallet.opening import WalletChoice, opened, passphrase_asked, passphrase_in_file

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from specie.app.vault import DrillReport, Taken

__all__ = ["backup", "backup_passphrase", "decrypt", "drill", "encrypt", "reseal", "taken_facts", "taken_lines"]

Choice = WalletChoice | None
"""Which wallet; the default one if None."""
BackupPassphrase = Annotated[
    Path | None, Parameter(name="--backup-passphrase-file", help="File with the passphrase of the backup.")
]


def _money(amount: int, unit: str) -> str:
    from specie.kernel.money import format_amount

    return format_amount(amount, unit)


def _done(*parts: str | Text | tuple[str, str]) -> Text:
    from rich.text import Text

    return Text.assemble(("✓ ", "green"), *parts)


def backup_passphrase(file: Path | None, ask: bool, screen: Screen, *, twice: bool) -> str | None:
    """The backup's passphrase, of a file or typed; None where neither is wanted. UsageError where nobody can type."""
    if file is not None:
        return passphrase_in_file(file)
    return passphrase_asked(screen, "passphrase of the backup", twice=twice) if ask else None


async def backup(
    target: Annotated[Path, Parameter(help="File to make; it must not exist.")],
    *,
    with_passphrase: Annotated[
        bool, Parameter(negative="", show_default=False, help="Ask for a passphrase that opens it, too, without the words.")
    ] = False,
    backup_passphrase_file: BackupPassphrase = None,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Write everything that the words cannot bring back to one encrypted file, which the words open."""
    from rich.text import Text

    path = target.absolute()
    phrase = backup_passphrase(backup_passphrase_file, with_passphrase, screen, twice=True)
    async with opened(wallet or WalletChoice(), screen, create=False) as purse:
        with screen.progress("copying"):
            await purse.backup(path, passphrase=phrase)
    ways = ["words"] if phrase is None else ["passphrase", "words"]
    told = "the wallet's words" if phrase is None else "the wallet's words, and its passphrase alone"
    screen.answer(
        {"path": str(path), "opens_with": ways},
        _done(str(path)),
        Text(f"  encrypted; {told} can open it. Prove it: specie wallet drill {target}", "dim"),
    )


def _at(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


async def drill(
    file: Annotated[Path, Parameter(help="The backup.")],
    *,
    words_file: Annotated[
        Path | None, Parameter(help="File with the words, to prove that they open it; - is standard input.")
    ] = None,
    backup_passphrase_file: BackupPassphrase = None,
    ask_mints: Annotated[
        bool, Parameter(negative="", show_default=False, help="Ask the mints which of its coins are still good.")
    ] = False,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> int:
    """Prove a backup: open it in memory, count, and compare with the wallet, which is not touched.

    Exit code 3 if the wallet has anything that the backup lacks.
    """
    from specie.app.vault import drill_backup, ways_of_backup
    from specie.app.wallet_places import wallet_directory, wallet_names
    from specie.app.wallet_sealing import live_words
    from specie.cli.wallet.opening import existing_source, words_from

    choice = wallet or WalletChoice()
    here = choice.name in wallet_names()
    words = None if words_file is None else words_from(words_file, screen)
    phrase = backup_passphrase(backup_passphrase_file, False, screen, twice=False)
    if words is None and phrase is None:
        if here:
            words = live_words(choice.name, existing_source(choice, screen))
        elif "passphrase" in ways_of_backup(file):
            phrase = backup_passphrase(None, True, screen, twice=False)
        else:
            words = words_from(None, screen)
    with screen.progress("opening the backup"):
        report = await drill_backup(
            file,
            words=words if phrase is None else None,
            passphrase=phrase,
            live=wallet_directory(choice.name) if here else None,
            ask_mints=ask_mints,
        )
    _show_drill(screen, report, choice)
    return 0 if report.complete else 3


def _show_drill(screen: Screen, report: DrillReport, choice: WalletChoice) -> None:
    from rich.text import Text

    facts = {
        "made_at": report.made_at,
        "opens_with": sorted(report.ways),
        "complete": report.complete,
        "compared": report.compared,
        "tables": [
            {"table": one.table, "backup": one.backup, "live": one.live, "missing": one.missing} for one in report.tables
        ],
        "held": [{"mint": one.mint, "unit": one.unit, "backup": one.backup, "live": one.live} for one in report.held],
        "mints": [
            {"mint": one.mint, "unit": one.unit, "state": one.state, "coins": one.coins, "amount": one.amount}
            for one in report.looks
        ],
    }
    rows = [
        (one.table.removeprefix("wallet_"), f"{one.backup:,}", f"{one.live:,}" if report.compared else "", one.missing or "")
        for one in report.tables
    ]
    lines: list[Text] = []
    if not report.compared:
        lines.append(_done("opens, and is whole", (f"   made {_at(report.made_at)}", "dim")))
    elif report.complete:
        lines.append(_done("has everything that the wallet has", (f"   made {_at(report.made_at)}", "dim")))
    else:
        text = f"opens, but wallet {choice.name} has more since {_at(report.made_at)}: make a new backup"
        lines.append(Text.assemble(("! ", "yellow"), text))
    columns = ("table", ("in the backup", "right"), ("in the wallet", "right"), ("missing", "right"))
    shown = [table(columns, rows)]
    if report.held:
        money = [(one.mint, _money(one.backup, one.unit), _money(one.live, one.unit)) for one in report.held]
        shown.append(table(("coins not spent at", ("in the backup", "right"), ("in the wallet", "right")), money))
    if report.looks:
        said = [(one.mint, one.state.lower(), f"{one.coins:,}", _money(one.amount, one.unit)) for one in report.looks]
        shown.append(table(("mint", "says", ("coins", "right"), ("amount", "right")), said))
    screen.answer(facts, *lines, *shown)


async def reseal(
    *,
    new_passphrase_file: Annotated[Path | None, Parameter(help="File with the new passphrase.")] = None,
    new_keyring: Annotated[
        bool, Parameter(negative="", show_default=False, help="Seal the words by the system's keyring from now on.")
    ] = False,
    new_key_file: Annotated[
        bool, Parameter(negative="", show_default=False, help="By a key file: the weakest way, for play money only.")
    ] = False,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Seal the wallet's words in another way, at once or not at all; asks for a new passphrase unless told otherwise."""
    from specie.app.wallet_sealing import reseal_wallet
    from specie.cli.wallet.opening import existing_source
    from specie.keys import SealSource

    choice = wallet or WalletChoice()
    old = existing_source(choice, screen)
    ways = (new_passphrase_file is not None) + new_keyring + new_key_file
    if ways > 1:
        raise UsageError("give one of --new-passphrase-file, --new-keyring and --new-key-file")
    new = SealSource(
        passphrase_file=None if new_passphrase_file is None else str(new_passphrase_file),
        passphrase=None if ways else passphrase_asked(screen, "new passphrase", twice=True),
        keyring=new_keyring,
        play_key=new_key_file,
    )
    form = await reseal_wallet(choice.name, old, new)
    screen.answer({"wallet": choice.name, "sealing": str(form)}, _done(f"wallet {choice.name} is {form.label}"))


async def encrypt(*, wallet: Choice = None, screen: ScreenArgument) -> None:
    """Encrypt coins, journal and history at rest, by a key that the words give; no other command may be running."""
    await _convert(wallet or WalletChoice(), screen, True)


async def decrypt(*, wallet: Choice = None, screen: ScreenArgument) -> None:
    """Undo `encrypt`: coins, journal and history lie in the open again, for whoever can read your files."""
    await _convert(wallet or WalletChoice(), screen, False)


async def _convert(choice: WalletChoice, screen: Screen, encrypt: bool) -> None:
    async with opened(choice, screen, create=False, encrypt=encrypt) as purse:
        facts = {"wallet": choice.name, "encrypted": purse.encrypted}
        where = purse.directory / "wallet.db"
    screen.answer(facts, _done(f"{where} is {'encrypted' if encrypt else 'not encrypted'}"))


def taken_facts(taken: Taken) -> dict[str, object]:
    """What taking a backup up came to, for programs."""
    return {
        "tables": [
            {"table": one.table, "backup": one.theirs, "added": one.added, "changed": one.changed}
            for one in taken.merged.tables
        ],
        "notes": taken.merged.notes,
        "open": taken.open,
        "unreachable": taken.unreachable,
        "mints": [
            {"mint": one.mint, "unit": one.unit, "state": one.state, "coins": one.coins, "amount": one.amount}
            for one in taken.looks
        ],
    }


def taken_lines(taken: Taken) -> list[RenderableType]:
    """The same, for people."""
    from rich.text import Text

    rows = [
        (one.table.removeprefix("wallet_"), f"{one.theirs:,}", f"{one.added:,}", f"{one.changed:,}")
        for one in taken.merged.tables
        if one.theirs
    ]
    columns = ("table", ("in the backup", "right"), ("new here", "right"), ("changed", "right"))
    lines: list[RenderableType] = [table(columns, rows)] if rows else []
    lines += [Text.assemble(("! ", "yellow"), note) for note in taken.merged.notes]
    lines += [Text.assemble(("! ", "yellow"), f"operation {name} is not over yet: {why}") for name, why in taken.open.items()]
    return lines
