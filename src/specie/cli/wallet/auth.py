"""`specie wallet login`, `logout` and `auth`: mints that serve users who have logged in (NUT-21, NUT-22)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Group, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import DeclinedError, UsageError
from specie.cli.screen import Screen, shown, table
from specie.cli.wallet.opening import WalletChoice, opened

if TYPE_CHECKING:
    from specie.wallet import AuthStatus, DeviceCode, LoginOffer

__all__ = ["app", "login", "logout"]

_HOW = Group("How to log in", sort_key=1)

app = App(name="auth", help="Logins and blind tokens for mints that ask who uses them.", help_epilogue="")


async def login(
    mint: str,
    /,
    *,
    device: Annotated[
        bool, Parameter(group=_HOW, negative="", show_default=False, help="Type a code on any device, if the provider can.")
    ] = False,
    user: Annotated[
        str | None,
        Parameter(group=_HOW, help="Log in with this user's password, if the provider takes one; it is asked for unseen."),
    ] = None,
    password_file: Annotated[Path | None, Parameter(group=_HOW, help="Read the password from a file instead.")] = None,
    browser: Annotated[bool, Parameter(group=_HOW, help="Open the address in a browser; it is printed in any case.")] = True,
    wait_s: Annotated[float, Parameter(group=_HOW, help="Seconds to wait for you to come back.")] = 300.0,
    yes: Annotated[
        bool, Parameter(group=_HOW, negative="", show_default=False, help="Do not ask before the provider is contacted.")
    ] = False,
    wallet: WalletChoice | None = None,
    screen: ScreenArgument,
) -> None:
    """Log in at the provider that a mint names; the login is kept sealed and renewed by itself."""
    if device and user is not None:
        raise UsageError("--device and --user are two ways to log in; choose one")
    if password_file is not None and user is None:
        raise UsageError("--password-file needs --user")
    async with opened(wallet or WalletChoice(), screen) as purse:
        with screen.progress("asking the mint where to log in"):
            offer = await purse.auth.offer(mint)
        if not yes:
            _consent(offer, screen)
        if device:
            status = await purse.auth.login_with_device(offer, lambda code: _show_code(code, screen))
        elif user is not None:
            password = _password(password_file, screen)
            status = await purse.auth.login_with_password(offer, user, password)
        else:
            status = await purse.auth.login(offer, lambda url: _visit(url, screen, browser=browser), timeout_s=wait_s)
    from rich.text import Text

    screen.answer(
        _facts(status), Text.assemble(("✓ ", "green"), "logged in at ", (shown(offer.host), "bold"), f" for {status.mint}")
    )


def _consent(offer: LoginOffer, screen: Screen) -> None:
    """The mint chose whom we are about to contact: the user decides."""
    from rich.text import Text

    screen.say(Text(f"{offer.mint} sends its users to log in at {shown(offer.host)}"))
    if not screen.confirm(f"[bold]contact {_plain(offer.host)}?[/bold]"):
        raise DeclinedError(f"{shown(offer.host)} was not contacted; say --yes if you trust it")


def _plain(text: str) -> str:
    return shown(text).replace("[", "\\[")


def _password(file: Path | None, screen: Screen) -> str:
    if file is None:
        return screen.read_line("password", hidden=True)
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{file}: cannot be read ({type(error).__name__})") from None


def _visit(url: str, screen: Screen, *, browser: bool) -> None:
    """Send the user's browser to the provider. The address is printed bare, so that it can be copied or piped."""
    import sys
    import webbrowser

    sys.stderr.write(f"log in here, on this machine:\n{shown(url, 4000)}\n")
    sys.stderr.flush()
    if browser and screen.interactive:
        webbrowser.open(url)


def _show_code(code: DeviceCode, screen: Screen) -> None:
    """Tell where the code is typed."""
    import sys

    sys.stderr.write(f"open {shown(code.verification_uri, 2000)} on any device and type {shown(code.user_code)}\n")
    if code.verification_uri_complete is not None:
        sys.stderr.write(f"or open {shown(code.verification_uri_complete, 2000)}\n")
    sys.stderr.flush()


async def logout(mint: str, /, *, wallet: WalletChoice | None = None, screen: ScreenArgument) -> None:
    """Forget the login at a mint and its blind tokens. Money stays."""
    from specie.ecash.mint_url import mint_url_checked

    async with opened(wallet or WalletChoice(), screen) as purse:
        known = await purse.auth.logout(mint)
    url = mint_url_checked(mint)
    screen.answer(
        {"mint": url, "logged_out": known},
        f"[green]✓[/green] logged out of {url}" if known else f"[dim]there was no login at {url}[/dim]",
    )


@app.default
@app.command
async def status(*, wallet: WalletChoice | None = None, screen: ScreenArgument) -> None:
    """Logins and blind tokens, mint by mint; asks nobody."""
    from datetime import UTC, datetime

    async with opened(wallet or WalletChoice(), screen) as purse:
        found = await purse.auth.status()

    def until(one: AuthStatus) -> str:
        if not one.logged_in:
            return "no: specie wallet login " + one.mint
        if one.renewable:
            return "yes, renewed by itself"
        return "yes" if one.expires_at is None else f"until {datetime.fromtimestamp(one.expires_at, UTC):%Y-%m-%d %H:%M} UTC"

    rows = [(one.mint, shown(one.host), until(one), one.ready, one.uncertain) for one in found]
    screen.answer(
        {"mints": [_facts(one) for one in found]},
        table(("mint", "provider", "logged in", ("tokens", "right"), ("uncertain", "right")), rows)
        if rows
        else "[dim]no mint of this wallet asks for a login[/dim]",
    )


def _facts(one: AuthStatus) -> dict[str, object]:
    return asdict(one)
