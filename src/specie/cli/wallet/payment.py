"""The command that pays: an invoice, an offer, an address or a URI, by one mint or by several together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import DeclinedError
from specie.cli.screen import Screen, shown, table
from specie.cli.wallet.money import done, enough, given, money
from specie.cli.wallet.opening import MintArgument, UnitArgument, WalletChoice, badge, is_play, opened, play_mints

if TYPE_CHECKING:
    from specie.app.wallet import Wallet
    from specie.wallet import Payment, SplitPlan, WalletMeltQuote

__all__ = ["pay"]

_ASK_ABOVE = 1000
"""Payments above this many of the minor unit are confirmed at a terminal."""
_FEES = Group("On chain", sort_key=3)


async def pay(
    invoice: Annotated[
        str,
        Parameter(
            help="An invoice, an offer, an address or a bitcoin: URI, or - to read it from standard input.",
            allow_leading_hyphen=True,
        ),
    ],
    *,
    amount: Annotated[int | None, Parameter(help="What to pay, in the minor unit, for what names no amount.")] = None,
    amount_msat: Annotated[int | None, Parameter(help="The same in millisatoshi, for an invoice or offer.")] = None,
    max_fee: Annotated[int | None, Parameter(help="Most it may cost on top.")] = None,
    method: Annotated[
        str | None, Parameter(help="Pay by this method: bolt11, bolt12, onchain or one of the mint's own; else what it can.")
    ] = None,
    split: Annotated[
        bool | None,
        Parameter(show_default=False, help="By several mints together, or never; if no mint has enough alone unless given."),
    ] = None,
    fee_index: Annotated[int | None, Parameter(group=_FEES, help="The fee option to take.")] = None,
    blocks: Annotated[int | None, Parameter(group=_FEES, help="The cheapest fee that confirms within so many blocks.")] = None,
    yes: Annotated[bool, Parameter(negative="", show_default=False, help="Do not ask.")] = False,
    mint: MintArgument = None,
    unit: UnitArgument = "sat",
    wallet: WalletChoice | None = None,
    screen: ScreenArgument,
) -> None:
    """Pay out of the wallet's ecash; tells amount and fee first."""
    from specie.wallet import SplitPlan
    from specie.wallet.errors import PaymentPendingError

    choice = wallet or WalletChoice()
    async with opened(choice, screen) as purse:  # before the invoice is read: a pipe's other end may still be making it
        text = given(invoice, "invoice", screen)

        async def price() -> WalletMeltQuote | SplitPlan:
            if split:
                return await purse.plan(text, mints=() if mint is None else (mint,), unit=unit, max_fee=max_fee)
            quote = await purse.melt_quote(
                text,
                mint=mint,
                unit=unit,
                amount_msat=amount_msat,
                amount=amount,
                method=method,
                fee_index=fee_index,
                blocks=blocks,
            )
            return quote if split is False or mint is not None else await _plan_if_needed(purse, quote, max_fee)

        with screen.progress("asking for the price"):
            quote = await enough(purse, screen, price)
        play = await _is_play(purse, quote)
        _agree(screen, quote, play, yes)
        with screen.progress("paying"):
            paid = await enough(purse, screen, lambda: purse.pay(quote, max_fee=max_fee))
        free = (await purse.balance(unit=unit)).available
    if paid.state != "PAID" and not paid.outpoint and not (isinstance(quote, SplitPlan) or quote.fee_options):
        raise PaymentPendingError(
            f"the payment is on its way; its coins stay locked: specie wallet resume{choice.flag}", reference=paid.operation
        )
    _tell(screen, paid, play, free, choice)


async def _plan_if_needed(purse: Wallet, quote: WalletMeltQuote, max_fee: int | None) -> WalletMeltQuote | SplitPlan:
    """A plan for several mints where the quote's mint has not enough and they have; else the quote, which will say so."""
    from specie.kernel.errors import RefusedError

    free = (await purse.balance(unit=quote.unit, mint=quote.mint)).available
    if quote.method != "bolt11" or free >= quote.amount + quote.fee_reserve:
        return quote
    try:
        return await purse.plan(quote.request, unit=quote.unit, max_fee=max_fee)
    except RefusedError:
        return quote


async def _is_play(purse: Wallet, quote: WalletMeltQuote | SplitPlan) -> bool:
    return is_play(quote.request) or bool(_mints(quote) & await play_mints(purse))


def _mints(quote: WalletMeltQuote | SplitPlan) -> set[str]:
    from specie.wallet import SplitPlan

    return {one.mint for one in quote.quotes} if isinstance(quote, SplitPlan) else {quote.mint}


def _agree(screen: Screen, quote: WalletMeltQuote | SplitPlan, play: bool, yes: bool) -> None:
    """Tell the price, and ask at a terminal where it is much or several mints pay. DeclinedError."""
    from rich.text import Text

    from specie.wallet import SplitPlan

    together = isinstance(quote, SplitPlan) and len(quote.quotes) > 1
    most = quote.most_fee if isinstance(quote, SplitPlan) else quote.fee_reserve
    price = f"{money(quote.amount, quote.unit)}, and at most {money(most, quote.unit)} of fees"
    screen.say(Text.assemble(("to pay ", "dim"), price, badge(play)))
    if isinstance(quote, SplitPlan):
        if together:
            rows = [
                (one.mint, money(one.amount, one.unit), money(one.fee_reserve, one.unit), money(fee, one.unit))
                for one, fee in zip(quote.quotes, quote.fees, strict=True)
            ]
            screen.say(table(("mint", ("part", "right"), ("reserve", "right"), ("input fee", "right")), rows))
    elif quote.fee_options:
        options = [
            (
                "→" if one.fee_index == quote.fee_index else "",
                str(one.fee_index),
                money(one.fee_reserve, quote.unit),
                f"{one.estimated_blocks:,}",
            )
            for one in quote.fee_options
        ]
        screen.say(table(("", ("--fee-index", "right"), ("at most", "right"), ("blocks", "right")), options))
    much = quote.amount + most > _ASK_ABOVE or together
    if much and not yes and screen.interactive and not screen.confirm("Pay it?"):
        raise DeclinedError("not paid")


def _tell(screen: Screen, paid: Payment, play: bool, free: int, choice: WalletChoice) -> None:
    """What came of it: paid, or on its way for as long as confirmations or other mints take."""
    from rich.text import Text

    facts = {
        "amount": paid.amount,
        "fee": paid.fee,
        "unit": paid.unit,
        "mint": paid.mint,
        "state": paid.state,
        "preimage": paid.preimage,
        "outpoint": paid.outpoint,
        "parts": [
            {"mint": one.mint, "amount": one.amount, "fee": one.fee, "state": one.state, "operation": one.operation}
            for one in paid.parts
        ],
        "operation": paid.operation,
        "play": play,
        "balance": free,
    }
    lines: list[object] = []
    if paid.state == "PAID":
        lines.append(
            done(
                (money(paid.amount, paid.unit), "bold"),
                f" paid, fee {money(paid.fee, paid.unit)}",
                badge(play),
                (f"  {money(free, paid.unit)} free to spend", "dim"),
            )
        )
    else:
        resume = f"  its coins stay locked: specie wallet resume{choice.flag}"
        amount = (money(paid.amount, paid.unit), "bold")
        lines.append(Text.assemble(("… ", "yellow"), amount, " on its way", badge(play), (resume, "dim")))
    if paid.outpoint:
        lines.append(Text.assemble(("  outpoint ", "dim"), shown(paid.outpoint, 100)))
    if paid.parts:
        rows = [(one.mint, money(one.amount, paid.unit), money(one.fee, paid.unit), one.state) for one in paid.parts]
        lines.append(table(("mint", ("part", "right"), ("fee", "right"), "state"), rows))
    screen.answer(facts, *lines)  # type: ignore[arg-type]
