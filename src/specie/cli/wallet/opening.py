"""Which wallet is meant, how it is opened, and which mint it trusts from the start."""

from __future__ import annotations

import os
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
    "is_play",
    "look",
    "opened",
    "play_mints",
    "seal_source",
    "trusted",
    "words_from",
]

MINT_VARIABLE = "SPECIE_WALLET_MINT_URL"
PASSPHRASE_VARIABLE = "SPECIE_WALLET_PASSPHRASE"  # noqa: S105 - the name of a variable
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

    @property
    def flag(self) -> str:
        """What to add to a command to mean this wallet: ` --name bob`, or nothing for the default one."""
        return "" if self.name == "default" else f" --name {self.name}"


def seal_source(choice: WalletChoice) -> SealSource:
    """What opens the wallet's seed; a key file in the user's config home unless something else is given."""
    from specie.keys import SealSource

    file = choice.passphrase_file
    return SealSource(
        passphrase_file=None if file is None else str(file),
        passphrase=os.environ.get(PASSPHRASE_VARIABLE),
        keyring=choice.keyring,
    )


def default_mint() -> str:
    """The mint a newcomer begins with: that of the environment, or the bank on this machine."""
    return os.environ.get(MINT_VARIABLE) or _HERE


def _is_here(url: str) -> bool:
    from specie.ops.settings import is_loopback

    return is_loopback(urlsplit(url).hostname or "")


@asynccontextmanager
async def opened(
    choice: WalletChoice, screen: Screen, *, words: str | None = None, create: bool = True, quiet: bool = False
) -> AsyncIterator[Wallet]:
    """The wallet, made if there is none yet (a notice says so); what a crash interrupted is taken up on the way."""
    from specie.app.wallet import Wallet
    from specie.kernel.errors import UnavailableError

    async with Wallet.open(choice.name, words=words, sealed=seal_source(choice), create=create) as wallet:
        if wallet.created and not quiet:
            screen.say(
                f"[green]✓[/green] made wallet [bold]{choice.name}[/bold] [dim]· its words are its only copy, see them with"
                f" specie wallet words{choice.flag}[/dim]"
            )
        try:
            yield wallet
        except UnavailableError:
            if any(_is_here(view.url) for view in await wallet.mints()) or _is_here(default_mint()):
                screen.say("[dim]is the bank on this machine running? specie up starts it[/dim]")
            raise


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
    lower = text.lower()
    return lower.startswith(("lnbcrt", "bcrt1")) or "play money" in lower


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
        screen.say(f"[green]✓[/green] claimed {format_amount(report.minted, 'sat')} of what was paid")
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
