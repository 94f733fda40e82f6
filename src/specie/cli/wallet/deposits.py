"""`specie wallet deposit-key`, `deposit-for` and `deposits`: money that others bring, without asking the owner each time."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.screen import table
from specie.cli.wallet.opening import MintArgument, UnitArgument, WalletChoice, opened, trusted

__all__ = ["deposit_for", "deposit_key", "deposits"]

Choice = WalletChoice | None
"""Which wallet; the default one if None."""


async def deposit_key(*, wallet: Choice = None, screen: ScreenArgument) -> None:
    """A fresh public key to publish: whoever has a mint quote locked to it and pays that, pays this wallet."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        key = await purse.deposits.key()
    screen.bare({"pubkey": key}, key)


async def deposit_for(
    amount: Annotated[int, Parameter(help="Amount in the minor unit: sat unless --unit says otherwise.")],
    pubkey: Annotated[str, Parameter(help="Public key of the receiver, from their deposit-key.")],
    *,
    mint: MintArgument = None,
    unit: UnitArgument = "sat",
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Print an invoice whose payment only the owner of a key can claim, at a mint they use."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        chosen = await trusted(purse, mint, screen) or (await purse.mints())[0].url
        request = await purse.deposits.request(amount, pubkey, mint=chosen, unit=unit)
    screen.bare({"invoice": request, "mint": chosen, "amount": amount, "unit": unit, "pubkey": pubkey}, request)


async def deposits(*, mint: MintArgument = None, wallet: Choice = None, screen: ScreenArgument) -> None:
    """Find what others have paid to our keys, and claim it. The mint learns that these keys are one wallet's."""
    from rich.text import Text

    from specie.kernel.money import format_amount
    from specie.wallet.errors import UnsupportedError

    async with opened(wallet or WalletChoice(), screen) as purse:
        chosen = await trusted(purse, mint, screen)
        urls = [chosen] if chosen is not None else [view.url for view in await purse.mints()]
        results, silent = [], []
        for url in urls:
            with screen.progress(f"asking {url}"):
                try:
                    results += await purse.deposits.claim(url)
                except UnsupportedError:
                    silent.append(url)
    if silent and len(silent) == len(urls):
        raise UnsupportedError("no mint of this wallet finds quotes by key", nut=341)
    totals: dict[str, int] = {}
    for one in results:
        totals[one.quote.unit] = totals.get(one.quote.unit, 0) + one.claimed
    facts = [
        {
            "mint": one.quote.mint,
            "unit": one.quote.unit,
            "claimed": one.claimed,
            "invoice": one.quote.request,
            "error": one.error,
        }
        for one in results
    ]
    rows = [
        (one.quote.mint, format_amount(one.claimed or one.quote.claimable, one.quote.unit), one.error or "✓ claimed")
        for one in results
    ]
    head = "  ".join(format_amount(amount, unit) for unit, amount in totals.items()) or "nothing"
    screen.answer(
        {"deposits": facts, "claimed": totals, "unsupported": silent},
        Text.assemble(("✓ ", "green"), (head, "bold"), " claimed"),
        *([table(("mint", ("amount", "right"), ""), rows)] if rows else []),
    )
