"""`specie wallet claim`: a quote that was paid while the wallet was lost, taken up by its id."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.screen import Screen
from specie.cli.wallet.opening import MintArgument, UnitArgument, WalletChoice, opened, trusted

__all__ = ["claim"]


async def claim(
    quote: Annotated[str, Parameter(help="The quote's id, as the mint gave it, or - to read it from standard input.")],
    /,
    *,
    mint: MintArgument = None,
    unit: UnitArgument = "sat",
    wallet: WalletChoice | None = None,
    screen: ScreenArgument,
) -> None:
    """Claim a paid quote of a wallet that was brought back from its words; it is locked to a key that the words give."""
    from rich.text import Text

    from specie.ecash.codes import QuoteIssuedError
    from specie.kernel.errors import UnavailableError
    from specie.kernel.money import format_amount

    async with opened(wallet or WalletChoice(), screen, create=False) as purse:
        name = _given(quote, screen)
        url = await trusted(purse, mint, screen) or (await purse.mints())[0].url
        with screen.progress("asking the mint about the quote"):
            found = await purse.recovery.mint_quote(name, mint=url, unit=unit)
        if found.amount_paid and not found.claimable:
            raise QuoteIssuedError("what this quote was paid has been claimed before")
        if not found.claimable:
            raise UnavailableError("the quote is not paid yet; once it is, the next command of this wallet claims it")
        with screen.progress("signing coins"):
            minted = await purse.claim(found)
        free = (await purse.balance(unit=unit)).available
    screen.answer(
        {"amount": minted, "unit": unit, "mint": found.mint, "balance": free},
        Text.assemble(
            ("✓ ", "green"),
            (format_amount(minted, unit), "bold"),
            " claimed",
            (f"  {format_amount(free, unit)} free to spend", "dim"),
        ),
    )


def _given(argument: str, screen: Screen) -> str:
    return screen.read_word("quote") if argument == "-" else argument.strip()
