"""The commands that ask to be paid, by any method: mint, invoice, quotes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import UsageError
from specie.cli.screen import Screen, shown, table
from specie.cli.wallet.money import done, draw_qr, money
from specie.cli.wallet.opening import (
    MintArgument,
    UnitArgument,
    WalletChoice,
    badge,
    default_mint,
    is_play,
    look,
    opened,
    play_mints,
    trusted,
)

if TYPE_CHECKING:
    from specie.app.wallet import Wallet
    from specie.wallet import WalletMintQuote

__all__ = ["MethodArgument", "invoice", "mint", "quotes", "uri_of"]

Choice = WalletChoice | None
"""Which wallet; the default one if None."""
MethodArgument = Annotated[
    str,
    Parameter(name="--method", help="bolt11 (an invoice), bolt12 (an offer), onchain (an address), or one of the mint's own."),
]
Amount = Annotated[
    int | None, Parameter(help="Amount in the minor unit: sat unless --unit says otherwise. Only an invoice needs one.")
]


def _check_amount(amount: int | None, method: str) -> None:
    if amount is None and method == "bolt11":
        raise UsageError("an invoice needs an amount: specie wallet mint 100")


def uri_of(quote: WalletMintQuote) -> str:
    """What a payer's wallet reads best: a bitcoin: URI for an address, anything else as it is."""
    from specie.wallet.destination import bitcoin_uri

    if quote.method != "onchain":
        return quote.request
    return bitcoin_uri(quote.request, amount_sat=quote.amount if quote.unit == "sat" else None)


async def _ask(
    purse: Wallet, screen: Screen, amount: int | None, method: str, mint: str | None, unit: str, memo: str | None = None
) -> WalletMintQuote:
    url = await trusted(purse, mint, screen)
    noun = "an invoice" if method == "bolt11" else "something to be paid by"
    with screen.progress(f"asking the mint for {noun}"):
        return await purse.mint_quote(amount, mint=url, unit=unit, method=method, description=memo)


async def mint(
    amount: Amount = None,
    /,
    *,
    method: MethodArgument = "bolt11",
    timeout: Annotated[
        float | None, Parameter(help="Seconds to wait for the payment; until the invoice expires unless given.")
    ] = None,
    mint: MintArgument = None,
    unit: UnitArgument = "sat",
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Put money in: an invoice, offer or address to be paid from outside, and ecash once it is."""
    from specie.kernel.errors import UnavailableError

    _check_amount(amount, method)
    choice = wallet or WalletChoice()
    async with opened(choice, screen, mint=mint or default_mint()) as purse:
        quote = await _ask(purse, screen, amount, method, mint, unit)
        play = is_play(quote.request) or quote.mint in await play_mints(purse)
        _show(screen, quote, play)
        with screen.progress(await _waiting(purse, quote, play)):
            paid = await purse.wait(quote, timeout_s=timeout)
        if not paid.claimable:
            raise UnavailableError("it is not paid yet; once it is, the next command of this wallet claims it")
        with screen.progress("signing coins"):
            minted = await purse.claim(paid)
        free = (await purse.balance(unit=unit)).available
    facts = {
        "amount": minted,
        "unit": unit,
        "mint": quote.mint,
        "method": method,
        "play": play,
        "invoice": quote.request,
        "balance": free,
    }
    screen.answer(
        facts, done((money(minted, unit), "bold"), " minted", badge(play), (f"  {money(free, unit)} free to spend", "dim"))
    )


async def _waiting(purse: Wallet, quote: WalletMintQuote, play: bool) -> str:
    """What is being waited for: of a deposit on chain nothing is known before it has its confirmations."""
    if quote.method == "onchain":
        for view in await purse.mints():
            for one in view.info.methods(4) if view.url == quote.mint else ():
                depth = (one.options or {}).get("confirmations") if one.method == "onchain" else None
                if isinstance(depth, int):
                    return f"waiting for the deposit and its {depth} confirmation{'' if depth == 1 else 's'}"
    return "play money pays itself in a moment" if play and quote.method == "bolt11" else "waiting for the payment"


def _show(screen: Screen, quote: WalletMintQuote, play: bool) -> None:
    """What is to be paid, for people; with a QR code where somebody outside has to pay it."""
    from rich.text import Text

    if play and quote.method == "bolt11":
        screen.say(Text.assemble(("invoice ", "dim"), (shown(quote.request, 48), "dim"), badge(True)))
    elif not screen.json:
        _draw(screen, quote)
        screen.err.print(Text.assemble(uri_of(quote), badge(play)), soft_wrap=True)


def _draw(screen: Screen, quote: WalletMintQuote) -> None:
    """Bech32 is drawn in upper case, which makes the code smaller."""
    text = uri_of(quote)
    draw_qr(screen, text.upper() if quote.method in ("bolt11", "bolt12") else text)


async def invoice(
    amount: Amount = None,
    /,
    *,
    method: MethodArgument = "bolt11",
    memo: Annotated[str | None, Parameter(help="Shown to whoever pays.")] = None,
    no_qr: Annotated[bool, Parameter(negative="", show_default=False, help="The invoice as text only.")] = False,
    mint: MintArgument = None,
    unit: UnitArgument = "sat",
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """An invoice, offer or address for somebody else to pay; the next command after that claims the ecash."""
    _check_amount(amount, method)
    async with opened(wallet or WalletChoice(), screen, mint=mint or default_mint()) as purse:
        quote = await _ask(purse, screen, amount, method, mint, unit, memo)
        play = is_play(quote.request) or quote.mint in await play_mints(purse)
    if screen.out.is_terminal and not no_qr:
        _draw(screen, quote)
    facts = {
        "invoice": quote.request,
        "uri": uri_of(quote),
        "amount": amount,
        "unit": unit,
        "mint": quote.mint,
        "method": method,
        "expiry": quote.expiry,
        "play": play,
    }
    screen.bare(facts, uri_of(quote))


async def quotes(
    *,
    all: Annotated[bool, Parameter(negative="", show_default=False, help="Also invoices that were claimed.")] = False,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """What this wallet asked to be paid: how much arrived, and how much of it was claimed."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        await look(purse, screen)
        found = [quote for quote in await purse.mint_quotes() if all or not quote.finished]
        play = await play_mints(purse)
        names = {view.url: view.info for view in await purse.mints()}
    facts = [
        {
            "request": one.request,
            "uri": uri_of(one),
            "method": one.method,
            "mint": one.mint,
            "unit": one.unit,
            "asked": one.amount,
            "paid": one.amount_paid,
            "claimed": one.amount_issued,
            "expiry": one.expiry,
            "play": one.mint in play,
        }
        for one in found
    ]
    rows = [
        (
            datetime.fromtimestamp(one.created_at, UTC).astimezone().strftime("%Y-%m-%d %H:%M"),
            shown(_method_name(names.get(one.mint), one.method), 24),
            "" if one.amount is None else money(one.amount, one.unit),
            money(one.amount_paid, one.unit) if one.amount_paid else "",
            money(one.amount_issued, one.unit) if one.amount_issued else "",
            shown(one.request, 48),
            badge(one.mint in play),
        )
        for one in found
    ]
    columns = ("since", "by", ("asked", "right"), ("arrived", "right"), ("claimed", "right"), "to be paid", "")
    screen.answer({"quotes": facts}, table(columns, rows) if rows else "[dim]nothing is to be paid[/dim]")


def _method_name(info: object, method: str) -> str:
    from specie.ecash.info import MintInfo, method_name

    for one in info.methods(4) if isinstance(info, MintInfo) else ():
        if one.method == method:
            return one.display_name
    return method_name(method)
