"""The commands that keep a wallet safe and tell what it did: init, words, restore, backup, pending, resume, tidy, history."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import DeclinedError
from specie.cli.screen import Screen, shown, table
from specie.cli.wallet.opening import (
    MintArgument,
    WalletChoice,
    badge,
    default_mint,
    look,
    opened,
    play_mints,
    trusted,
    words_from,
)

__all__ = ["backup", "history", "init", "names", "pending", "restore", "resume", "tidy", "words"]

Choice = WalletChoice | None
"""Which wallet; the default one if None."""
_COLOURS = {1: "green", 0: "dim", -1: ""}
"""Of a line of history, by whether it brought money, moved none, or took some."""
_WARNING = "Whoever reads these words has the money. Write them on paper; they are the only copy."


def _money(amount: int, unit: str) -> str:
    from specie.kernel.money import format_amount

    return format_amount(amount, unit)


def _when(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


async def init(
    *,
    words_file: Annotated[
        Path | None, Parameter(help="Make it from the words in this file; - is standard input.", allow_leading_hyphen=True)
    ] = None,
    mint: MintArgument = None,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Make a wallet and show its words; any other command makes one, too, without showing them."""
    from rich.text import Text

    from specie.app.wallet import wallet_names
    from specie.kernel.errors import RefusedError, UnavailableError
    from specie.keys.errors import SeedExistsError

    choice = wallet or WalletChoice()
    if choice.name in wallet_names():
        raise SeedExistsError(f"there is a wallet {choice.name} already; its words: specie wallet words{choice.flag}")
    given = None if words_file is None else words_from(words_file, screen)
    async with opened(choice, screen, words=given, quiet=True) as purse:
        fresh = None if given is not None else purse.words()
        where = str(purse.directory)
        if mint is not None:
            await purse.add_mint(mint)
        else:
            try:
                await trusted(purse, None, screen)
            except (RefusedError, UnavailableError) as error:
                screen.say(Text(f"no mint yet: {error.detail}", "dim"))
        urls = [view.url for view in await purse.mints()]
    lines = [Text.assemble(("✓ ", "green"), "made wallet ", (choice.name, "bold"), (f"  {where}", "dim"))]
    if fresh is not None:
        _show_words(screen, fresh)
    screen.answer({"wallet": choice.name, "directory": where, "mints": urls, "words": fresh}, *lines)


def _show_words(screen: Screen, text: str) -> None:
    """Words for paper: numbered, in columns; not part of the result."""
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    if screen.json:
        return
    cells = [Text.assemble((f"{place:>2} ", "dim"), (word, "bold")) for place, word in enumerate(text.split(), 1)]
    screen.say(
        Panel(Columns(cells, width=16, column_first=False), title="the words of this wallet", border_style="yellow", width=72)
    )
    screen.say(f"[yellow]{_WARNING}[/yellow]")


async def words(
    *,
    yes: Annotated[bool, Parameter(negative="", show_default=False, help="Do not ask first.")] = False,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """The words that restore this wallet. Asks first at a terminal; into a pipe they go as one line."""
    choice = wallet or WalletChoice()
    seen = screen.out.is_terminal and not screen.json
    if seen and not yes and not screen.confirm("Whoever sees the words has the money. Show them on this screen?"):
        raise DeclinedError("not shown")
    async with opened(choice, screen, create=False) as purse:
        text = purse.words()
    if seen:
        _show_words(screen, text)
    else:
        screen.bare({"wallet": choice.name, "words": text}, text)


async def restore(
    *,
    words_file: Annotated[
        Path | None,
        Parameter(help="File with the words; - is standard input. Asked for at a terminal.", allow_leading_hyphen=True),
    ] = None,
    mint: Annotated[
        list[str] | None,
        Parameter(negative="", help="Mint to restore from; may be repeated. The bank on this machine unless given."),
    ] = None,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Bring a wallet back from its words: its mints are asked for every coin its keys could have."""
    from rich.text import Text

    choice = wallet or WalletChoice()
    text = words_from(words_file, screen)
    async with opened(choice, screen, words=text, quiet=True) as purse:
        known = [view.url for view in await purse.mints()]
        urls = list(mint or known or [default_mint()])
        with screen.progress("asking the mint") as progress:

            def heard(keyset: str, asked: int, found: int) -> None:
                progress.update(f"keyset {keyset[:16]}: asked for {asked:,} coins, {found:,} found")

            results = await purse.restore(urls, progress=heard)
        play = await play_mints(purse)
    facts = [
        {
            "mint": one.mint,
            "unit": one.unit,
            "amount": one.amount,
            "pending": one.pending,
            "coins": one.coins,
            "spent": one.spent,
            "play": one.mint in play,
        }
        for one in results
    ]
    rows = [
        (
            Text.assemble(one.mint, badge(one.mint in play)),
            _money(one.amount, one.unit),
            _money(one.pending, one.unit) if one.pending else "",
            f"{one.coins:,}",
            f"{one.spent:,}",
        )
        for one in results
    ]
    totals: dict[str, int] = {}
    for one in results:
        totals[one.unit] = totals.get(one.unit, 0) + one.amount
    head = "  ".join(_money(amount, unit) for unit, amount in totals.items()) or "nothing"
    columns = ("mint", ("restored", "right"), ("on its way", "right"), ("coins", "right"), ("spent before", "right"))
    screen.answer(
        {"wallet": choice.name, "restored": facts, "balance": totals},
        Text.assemble(("✓ ", "green"), (head, "bold"), " restored", (f"  into wallet {choice.name}", "dim")),
        table(columns, rows),
    )


async def backup(
    target: Annotated[Path, Parameter(help="File to make; it must not exist.")],
    *,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Copy coins, journal and history to a file. The words alone cannot bring back locked tokens and off-line receipts."""
    from rich.text import Text

    path = target.absolute()
    async with opened(wallet or WalletChoice(), screen, create=False) as purse:
        with screen.progress("copying"):
            await purse.backup(path)
    os.chmod(path, 0o600)
    screen.answer(
        {"path": str(path)},
        Text.assemble(("✓ ", "green"), str(path)),
        Text("  It holds coins: whoever reads it can spend them. It goes with the words, not in place of them.", "dim"),
    )


async def pending(*, wallet: Choice = None, screen: ScreenArgument) -> None:
    """What is not over yet: operations, transfers, invoices to be paid, tokens to be redeemed."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        await look(purse, screen)
        transfers = await purse.transfers.entries()
        operations, tokens = await purse.operations(), await purse.tokens()
        quotes = [quote for quote in await purse.mint_quotes() if quote.amount is None or quote.amount_issued < quote.amount]
    facts = {
        "operations": [
            {"id": one.operation_id, "purpose": str(one.purpose), "amount": one.amount, "unit": one.unit, "error": one.error}
            for one in operations
        ],
        "transfers": [
            {
                "id": one.transfer_id,
                "from": one.source,
                "to": one.destination,
                "amount": one.amount,
                "unit": one.unit,
                "state": str(one.state),
                "error": one.error,
            }
            for one in transfers
        ],
        "invoices": [{"invoice": one.request, "amount": one.amount, "unit": one.unit, "expiry": one.expiry} for one in quotes],
        "tokens": [{"id": one.token_id, "amount": one.amount, "unit": one.unit, "locked": one.locked} for one in tokens],
    }
    rows = [
        (_when(one.created_at), str(one.purpose), _money(one.amount, one.unit), one.error or "not over yet")
        for one in operations
    ]
    rows += [
        (
            _when(one.created_at),
            "transfer",
            _money(one.amount, one.unit),
            shown(one.error or f"on its way to {one.destination}"),
        )
        for one in transfers
    ]
    rows += [(_when(one.created_at), "invoice", _money(one.amount or 0, one.unit), shown(one.request, 40)) for one in quotes]
    rows += [(_when(one.created_at), "token", _money(one.amount, one.unit), f"not redeemed · {one.token_id}") for one in tokens]
    columns = ("since", "what", ("amount", "right"), "state")
    screen.answer(facts, table(columns, rows) if rows else "[dim]nothing is pending[/dim]")


async def resume(
    *,
    wait: Annotated[float, Parameter(help="Seconds to wait for payments on their way.")] = 10.0,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Carry on what was interrupted: each operation to its end, as far as the mints can tell. Exit code 6 if any is open."""
    from rich.text import Text

    from specie.wallet.errors import OperationOpenError

    choice = wallet or WalletChoice()
    async with opened(choice, screen) as purse:
        with screen.progress("asking the mints"):
            report = await purse.resume(wait_s=wait)
            seen = await purse.check_pending()
    if report.open:
        reasons = "; ".join(sorted(set(report.open.values())))
        raise OperationOpenError(f"{len(report.open)} not over yet: {reasons}", reference=next(iter(report.open)))
    facts = {
        "settled": report.settled,
        "failed": report.failed,
        "minted": seen.minted,
        "redeemed": seen.claimed,
        "unreachable": seen.unreachable,
    }
    sentence = f"{len(report.settled)} settled, {len(report.failed)} undone, {len(seen.claimed)} tokens redeemed by others"
    screen.answer(facts, Text.assemble(("✓ ", "green"), sentence))


async def tidy(*, wallet: Choice = None, screen: ScreenArgument) -> None:
    """Make off-line receipts ours, and leave keysets that the mint has retired."""
    from rich.text import Text

    async with opened(wallet or WalletChoice(), screen) as purse:
        with screen.progress("swapping"):
            secured, moved = await purse.secure(), await purse.rotate()
    screen.answer(
        {"secured": secured, "moved": moved},
        Text.assemble(("✓ ", "green"), f"{secured:,} made ours, {moved:,} moved to new keysets"),
    )


async def history(
    *,
    limit: Annotated[int, Parameter(help="How many lines.")] = 20,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """What happened in this wallet, newest first."""
    from rich.text import Text

    from specie.wallet.history import balance_effect

    async with opened(wallet or WalletChoice(), screen) as purse:
        await look(purse, screen)
        entries, play = await purse.history(limit=limit), await play_mints(purse)
    facts = [
        {
            "id": one.entry_id,
            "at": one.at,
            "kind": one.kind,
            "amount": one.amount,
            "fee": one.fee,
            "unit": one.unit,
            "mint": one.mint,
            "memo": one.memo,
            "play": one.mint in play,
        }
        for one in entries
    ]
    rows = []
    for one in entries:
        effect = balance_effect(one)
        sign = Text(
            f"{'+' if effect > 0 else ''}{_money(effect or one.amount, one.unit)}", _COLOURS[(effect > 0) - (effect < 0)]
        )
        fee = _money(one.fee, one.unit) if one.fee else ""
        rows.append((_when(one.at), one.kind, sign, fee, shown(one.memo or "", 40), badge(one.mint in play)))
    columns = ("when", "what", ("amount", "right"), ("fee", "right"), "memo", "")
    screen.answer({"history": facts}, table(columns, rows) if rows else "[dim]nothing yet[/dim]")


def names(*, screen: ScreenArgument) -> None:
    """The wallets on this machine."""
    from specie.app.wallet import wallet_names

    found = wallet_names()
    screen.answer({"wallets": found}, "\n".join(found) if found else "[dim]none yet: specie wallet mint 100 makes one[/dim]")
