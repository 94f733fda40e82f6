"""Which wallet is meant, how it is opened, and which mint it trusts from the start."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from cyclopts import Group, Parameter

from specie.cli.errors import UsageError
from specie.cli.screen import Screen

if TYPE_CHECKING:
    from rich.text import Text

    from specie.app.wallet import Wallet
    from specie.keys import SealSource

__all__ = [
    "MintArgument",
    "UnitArgument",
    "WalletChoice",
    "badge",
    "default_mint",
    "existing_source",
    "is_play",
    "look",
    "opened",
    "passphrase_asked",
    "passphrase_in_file",
    "play_mints",
    "seal_facts",
    "seal_line",
    "seal_source",
    "trusted",
    "words_from",
]

MINT_VARIABLE = "SPECIE_WALLET_MINT_URL"
PASSPHRASE_VARIABLE = "SPECIE_WALLET_PASSPHRASE"  # noqa: S105 - the name of a variable
_TIP = "[dim]is the bank on this machine running? specie up starts it[/dim]"
_HERE = "http://127.0.0.1:3338"
_WHICH = Group("Which wallet", sort_key=5)

MintArgument = Annotated[
    str | None, Parameter(name="--mint", group=_WHICH, help="URL of the mint; the one that fits unless given.")
]
UnitArgument = Annotated[str, Parameter(name="--unit", group=_WHICH, help="Unit of the amount.")]


@Parameter(name="*")
@dataclass(frozen=True)
class WalletChoice:
    """Which wallet, and what opens its seed."""

    name: Annotated[str, Parameter(group=_WHICH, env_var="SPECIE_WALLET_NAME", help="Name of the wallet.")] = "default"
    passphrase_file: Annotated[
        Path | None,
        Parameter(group=_WHICH, help=f"File with the passphrase that seals the words (or {PASSPHRASE_VARIABLE})."),
    ] = None
    keyring: Annotated[
        bool, Parameter(group=_WHICH, negative="", show_default=False, help="Seal the words by the system's keyring.")
    ] = False
    key_file: Annotated[
        bool,
        Parameter(
            group=_WHICH,
            negative="",
            show_default=False,
            help="Seal the words by a key file in your config home: the weakest way, for play money only.",
        ),
    ] = False

    @property
    def flag(self) -> str:
        """What to add to a command to mean this wallet: ` --name bob`, or nothing for the default one."""
        return "" if self.name == "default" else f" --name {self.name}"


def seal_source(choice: WalletChoice) -> SealSource:
    """What was given to open or seal the wallet's words, if anything."""
    from specie.keys import SealSource

    file = choice.passphrase_file
    return SealSource(
        passphrase_file=None if file is None else str(file),
        passphrase=os.environ.get(PASSPHRASE_VARIABLE),
        keyring=choice.keyring,
        play_key=choice.key_file,
    )


def passphrase_in_file(file: Path) -> str:
    """The passphrase in a file that nobody else can read. UsageError, SealFileUnsafeError, SealSourceError."""
    from specie.keys.sealing import file_checked, passphrase_from_bytes

    try:
        with file.open("rb") as opened_file:
            status = os.fstat(opened_file.fileno())
            file_checked(
                (status.st_mode, status.st_uid, status.st_gid), user=os.geteuid(), path=str(file), kind="the passphrase file"
            )
            return passphrase_from_bytes(opened_file.read(8192)).decode()
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{file}: cannot be read ({type(error).__name__})") from None


def passphrase_asked(screen: Screen, what: str, *, twice: bool) -> str:
    """A passphrase typed unseen at the terminal, twice where it is new. UsageError where nobody can type, or they differ."""
    if not screen.interactive:
        raise UsageError(f"the {what} is asked for at a terminal; elsewhere give it in a file")
    first = screen.read_line(what, hidden=True)
    if not first:
        raise UsageError(f"the {what} is empty")
    if twice and screen.read_line(f"{what}, again", hidden=True) != first:
        raise UsageError("the two differ; nothing was changed")
    return first


def existing_source(choice: WalletChoice, screen: Screen) -> SealSource:
    """What opens an existing wallet's words: what was given, or a passphrase asked for where that is what seals them."""
    from specie.app.wallet_sealing import wallet_seal
    from specie.keys import SealForm, SealSource

    source = seal_source(choice)
    if not source.given and wallet_seal(choice.name) is SealForm.PASSPHRASE and screen.interactive:
        return SealSource(passphrase=passphrase_asked(screen, f"passphrase of wallet {choice.name}", twice=False))
    return source


async def _new_source(choice: WalletChoice, screen: Screen, mint: str | None, play: bool | None) -> SealSource:
    """How a wallet about to be made is sealed where nothing was given: a safe keyring, else as the money asks for.

    The key file only where the mint says that its money is play money (or `play` does), and then aloud. Such a wallet takes no
    mint of other money.
    """
    from specie.app.wallet_sealing import announces_play, keyring_works
    from specie.kernel.errors import UnavailableError
    from specie.keys import SealSource

    if keyring_works(choice.name):
        return SealSource(keyring=True)
    if play is None:
        try:
            play = await announces_play(mint or default_mint())
        except UnavailableError:
            if mint is not None and not screen.interactive:
                if _is_here(mint):
                    screen.say(_TIP)
                raise
            play = False
    if play:
        screen.say(
            "[yellow]![/yellow] no keyring here, and this is play money: the words are sealed by a [bold]key file[/bold], the "
            f"weakest way. Before a mint of real money: specie wallet reseal{choice.flag}"
        )
        return SealSource(play_key=True)
    if screen.interactive:
        screen.say("[dim]no keyring here that is known to be safe: a passphrase will seal the wallet's words[/dim]")
        return SealSource(passphrase=passphrase_asked(screen, f"new passphrase of wallet {choice.name}", twice=True))
    return SealSource()


def default_mint() -> str:
    """The mint a newcomer begins with: that of the environment, or the bank on this machine."""
    return os.environ.get(MINT_VARIABLE) or _HERE


def _is_here(url: str) -> bool:
    from specie.ops.settings import is_loopback

    return is_loopback(urlsplit(url).hostname or "")


@asynccontextmanager
async def opened(
    choice: WalletChoice,
    screen: Screen,
    *,
    words: str | None = None,
    create: bool = True,
    quiet: bool = False,
    private_payees: bool = False,
    mint: str | None = None,
    play: bool | None = None,
    encrypt: bool | None = None,
    restore_gap: int | None = None,
) -> AsyncIterator[Wallet]:
    """The wallet, made if there is none yet (a notice says so); what a crash interrupted is taken up on the way.

    Once the command is done, also if a mint was unavailable, mints are checked if that is due: money moves after the command,
    never under it.

    `mint`: the one that a new wallet begins with; `play`: whether all its money will be play money, where that is known.
    """
    from specie.app.wallet import Wallet
    from specie.app.wallet_places import wallet_names
    from specie.kernel.errors import SpecieError, UnavailableError
    from specie.wallet import WalletSettings

    source = existing_source(choice, screen)
    if create and not source.given and choice.name not in wallet_names():
        source = await _new_source(choice, screen, mint, play)
    settings = None if restore_gap is None else WalletSettings(restore_gap=restore_gap)
    async with Wallet.open(
        choice.name,
        words=words,
        sealed=source,
        create=create,
        encrypt=encrypt,
        settings=settings,
        private_payees=private_payees,
        watch=False,
    ) as wallet:
        await _warn(wallet, screen, choice)
        if wallet.created and not quiet:
            screen.say(
                f"[green]✓[/green] made wallet [bold]{choice.name}[/bold] [dim]· its words are its only copy, see them with"
                f" specie wallet words{choice.flag}[/dim]"
            )
        try:
            yield wallet
        except SpecieError as error:
            if isinstance(error, UnavailableError):
                if any(_is_here(view.url) for view in await wallet.mints()) or _is_here(default_mint()):
                    screen.say(_TIP)
                await _checked(wallet, screen)
            raise
        await _checked(wallet, screen)


async def _checked(wallet: Wallet, screen: Screen) -> None:
    """Check the mints if that is due, and say what was moved."""
    if await wallet.exits.is_due():
        from specie.cli.wallet.moved import say_moved

        sys.stdout.flush()  # the command is done: who reads its answer does not wait
        with screen.progress("looking after the mints"):
            found = await wallet.exits.check_due()
        for one in found:
            say_moved(screen, one)


async def _warn(wallet: Wallet, screen: Screen, choice: WalletChoice) -> None:
    """Say it where the weakest sealing guards what may be real money."""
    from specie.keys import SealKind

    if wallet.sealed.kind is SealKind.PLAY_KEY and {view.url for view in await wallet.mints()} - await play_mints(wallet):
        screen.say(
            "[yellow]![/yellow] a key file, which is for play money only, seals this wallet, and not all its mints say that "
            f"theirs is: specie wallet reseal{choice.flag}"
        )


def seal_facts(wallet: Wallet) -> dict[str, object]:
    """How the wallet is kept, for programs."""
    return {"sealing": str(wallet.sealed.kind.form), "encrypted": wallet.encrypted}


def seal_line(wallet: Wallet) -> Text:
    """How the wallet is kept, for people; the weakest way in yellow."""
    from rich.text import Text

    from specie.keys import SealForm

    form = wallet.sealed.kind.form
    told = f"  words {form.label}; coins {'encrypted' if wallet.encrypted else 'not encrypted'} at rest"
    return Text(told, "yellow" if form is SealForm.PLAY_KEY else "dim")


async def trusted(wallet: Wallet, url: str | None, screen: Screen) -> str | None:
    """The mint to use: `url` if given. A mint on this machine is trusted on first use, any other has to be added.

    None where the wallet may choose among those it knows. MintUnknownError, UnavailableError.
    """
    from specie.ecash.mint_url import mint_url_checked

    known = [view.url for view in await wallet.mints()]
    if url is None and known:
        return None
    mint = mint_url_checked(url or default_mint())
    if mint in known:
        return mint
    if not _is_here(mint):
        from specie.kernel.errors import RefusedError

        raise RefusedError(f"this wallet does not trust {mint} yet: specie wallet mints add {mint}")
    with screen.progress("meeting the mint"):
        await wallet.add_mint(mint)
    return mint


async def play_mints(wallet: Wallet) -> set[str]:
    """URLs of the known mints whose money is play money: they say so, or their invoices are of a test network."""
    found = {view.url for view in await wallet.mints() if is_play(view.info.motd or "")}
    found |= {quote.mint for quote in await wallet.mint_quotes() if is_play(quote.request)}
    return found | {quote.mint for quote in await wallet.melt_quotes() if is_play(quote.request)}


def is_play(text: str) -> bool:
    """Whether a mint's message of the day, an invoice or an address speaks of play money."""
    from specie.wallet.play import speaks_of_play

    return speaks_of_play(text)


def badge(play: bool) -> Text:
    """The PLAY badge, or nothing."""
    from rich.text import Text

    return Text.assemble(" ", (" PLAY ", "bold black on yellow")) if play else Text()


async def look(wallet: Wallet, screen: Screen) -> None:
    """Claim invoices that were paid meanwhile, and see which tokens were redeemed; mints that do not answer are left."""
    from specie.kernel.money import format_amount

    waiting = [quote for quote in await wallet.mint_quotes() if not quote.finished]
    if not waiting and not await wallet.tokens():
        return
    with screen.progress("looking at invoices and tokens"):
        report = await wallet.check_pending()
    if report.minted:
        sums = ", ".join(format_amount(amount, unit) for unit, amount in sorted(report.minted.items()))
        screen.say(f"[green]✓[/green] claimed {sums} of what was paid")
    if report.unreachable:
        screen.say(f"[yellow]![/yellow] not reachable now: {', '.join(report.unreachable)}")


def words_from(file: Path | None, screen: Screen) -> str:
    """Words of a file (`-` is standard input), of a pipe, or typed unseen; single spaces between them."""
    if file is not None and str(file) != "-":
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise UsageError(f"{file}: cannot be read ({type(error).__name__})") from None
    elif screen.interactive:
        text = screen.read_line("the words, with spaces between them", hidden=True)
    else:
        text = screen.read_stdin("words")
    return " ".join(text.split())
