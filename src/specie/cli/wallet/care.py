"""The commands that look after a wallet and tell what it did: init, words, restore, pending, resume, tidy, history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import DeclinedError, UsageError
from specie.cli.screen import Screen, shown, table
from specie.cli.wallet.opening import (
    MintArgument,
    WalletChoice,
    badge,
    default_mint,
    look,
    opened,
    play_mints,
    seal_facts,
    seal_line,
    trusted,
    words_from,
)
from specie.cli.wallet.safety import backup_passphrase, taken_facts, taken_lines

if TYPE_CHECKING:
    from rich.console import RenderableType

    from specie.app.vault import Taken
    from specie.wallet import Balance, HistoryEntry, Operation, Restored, WalletMeltQuote
    from specie.wallet.backup import Snapshot

__all__ = ["history", "init", "names", "pending", "restore", "resume", "tidy", "words"]

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
    encrypt: Annotated[
        bool, Parameter(negative="", show_default=False, help="Encrypt coins, journal and history at rest, too.")
    ] = False,
    mint: MintArgument = None,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Make a wallet and show its words; any other command makes one, too, without showing them."""
    from rich.text import Text

    from specie.app.wallet_places import wallet_names
    from specie.kernel.errors import RefusedError, UnavailableError
    from specie.keys.errors import SeedExistsError

    choice = wallet or WalletChoice()
    if choice.name in wallet_names():
        raise SeedExistsError(f"there is a wallet {choice.name} already; its words: specie wallet words{choice.flag}")
    given = None if words_file is None else words_from(words_file, screen)
    async with opened(choice, screen, words=given, quiet=True, mint=mint, encrypt=encrypt or None) as purse:
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
        kept, line = seal_facts(purse), seal_line(purse)
    lines = [Text.assemble(("✓ ", "green"), "made wallet ", (choice.name, "bold"), (f"  {where}", "dim"))]
    if fresh is not None:
        _show_words(screen, fresh)
    screen.answer({"wallet": choice.name, "directory": where, "mints": urls, "words": fresh, **kept}, *lines, line)


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
    backup: Annotated[
        Path | None, Parameter(name="--from", help="A backup to take up, too: locked coins, history and all else it has.")
    ] = None,
    backup_passphrase_file: Annotated[
        Path | None, Parameter(name="--backup-passphrase-file", help="File with the passphrase of the backup.")
    ] = None,
    mint: Annotated[
        list[str] | None,
        Parameter(negative="", help="Mint to restore from; may be repeated. The bank on this machine unless given."),
    ] = None,
    gap: Annotated[int, Parameter(help="Empty batches of 100 coins that end the search in a keyset.")] = 3,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Bring a wallet back from its words, from a backup, or from both: merged with what is here, losing nothing.

    Its mints are asked for every coin its keys could have. A backup opens with its passphrase, with the words, or by itself
    where the wallet is here already.
    """
    from rich.text import Text

    from specie.kernel.errors import UnavailableError

    choice = wallet or WalletChoice()
    if not 1 <= gap <= 1000:
        raise UsageError("--gap: expected from 1 to 1,000")
    text, snapshot, play = _sources(words_file, backup, backup_passphrase_file, choice, screen)
    taken = None
    first = mint[0] if mint else None
    async with opened(choice, screen, words=text, quiet=True, mint=first, play=play, restore_gap=gap) as purse:
        if snapshot is not None:
            with screen.progress("taking the backup up"):
                taken = await purse.vault.take_up(snapshot)
        elif backup is not None:
            with screen.progress("taking the backup up"):
                taken = await purse.vault.restore(backup)
        known = [view.url for view in await purse.mints()]
        urls = list(mint or known or ([default_mint()] if backup is None else []))
        results: list[Restored] = []
        with screen.progress("asking the mint") as progress:

            def heard(keyset: str, asked: int, found: int) -> None:
                progress.update(f"keyset {keyset[:16]}: asked for {asked:,} coins, {found:,} found")

            for url in urls:
                try:
                    results += await purse.restore([url], progress=heard)
                except UnavailableError as error:
                    if taken is None:
                        raise
                    screen.say(Text.assemble(("! ", "yellow"), f"{url} is not reachable now: {error.detail}"))
        play_urls = await play_mints(purse)
        held = await purse.balances()
    _show_restored(screen, choice, results, held, play_urls, taken)


def _sources(
    words_file: Path | None, backup: Path | None, phrase_file: Path | None, choice: WalletChoice, screen: Screen
) -> tuple[str | None, Snapshot | None, bool | None]:
    """The words, the backup where it could be opened without the wallet, and whether all its money is play money."""
    from specie.app.vault import mints_of, read_backup, ways_of_backup
    from specie.app.wallet_places import wallet_names
    from specie.kernel.hd import words_from_entropy
    from specie.wallet.play import announces_play_money

    if backup is None:
        return words_from(words_file, screen), None, None
    given = None if words_file is None else words_from(words_file, screen)
    here = choice.name in wallet_names()
    ask = given is None and not here and "passphrase" in ways_of_backup(backup) and screen.interactive
    phrase = backup_passphrase(phrase_file, ask, screen, twice=False)
    if phrase is None and given is None:
        if here:
            return None, None, None
        given = words_from(None, screen)
    snapshot = read_backup(backup, words=given if phrase is None else None, passphrase=phrase)
    play = all(announces_play_money(info) for info in mints_of(snapshot.tables).values())
    return given or words_from_entropy(snapshot.entropy), snapshot, play


def _show_restored(
    screen: Screen, choice: WalletChoice, results: list[Restored], held: list[Balance], play: set[str], taken: Taken | None
) -> None:
    from rich.text import Text

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
    answer: dict[str, object] = {"wallet": choice.name, "restored": facts, "balance": totals}
    shown_lines: list[RenderableType] = [
        Text.assemble(("✓ ", "green"), (head, "bold"), " restored", (f"  into wallet {choice.name}", "dim")),
        table(columns, rows),
    ]
    if taken is not None:
        free: dict[str, int] = {}
        for balance in held:
            free[balance.unit] = free.get(balance.unit, 0) + balance.available + balance.unswapped
        answer |= {"backup": taken_facts(taken), "free": free}
        sums = "  ".join(_money(amount, unit) for unit, amount in free.items()) or "nothing"
        shown_lines = [
            Text.assemble(
                ("✓ ", "green"), "backup taken up; ", (sums, "bold"), " free to spend", (f"  in wallet {choice.name}", "dim")
            ),
            *taken_lines(taken),
        ]
    screen.answer(answer, *shown_lines)


async def pending(*, wallet: Choice = None, screen: ScreenArgument) -> None:
    """What is not over yet: operations, transfers, invoices to be paid, tokens to be redeemed."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        await look(purse, screen)
        transfers = await purse.transfers.entries()
        operations, tokens = await purse.operations(), await purse.tokens()
        quotes = [quote for quote in await purse.mint_quotes() if not quote.finished]
        melts = {quote.quote: quote for quote in await purse.melt_quotes()}
    facts = {
        "operations": [
            {
                "id": one.operation_id,
                "purpose": str(one.purpose),
                "amount": one.amount,
                "unit": one.unit,
                "error": one.error,
                "outpoint": melts[one.quote].outpoint if one.quote in melts else None,
            }
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
        "invoices": [
            {"invoice": one.request, "method": one.method, "amount": one.amount, "unit": one.unit, "expiry": one.expiry}
            for one in quotes
        ],
        "tokens": [{"id": one.token_id, "amount": one.amount, "unit": one.unit, "locked": one.locked} for one in tokens],
    }
    rows = [
        (_when(one.created_at), str(one.purpose), _money(one.amount, one.unit), _standing(one, melts)) for one in operations
    ]
    rows += [
        (
            _when(one.created_at),
            _NOUNS.get(one.method, one.method),
            "" if one.amount is None else _money(one.amount, one.unit),
            shown(one.request, 40),
        )
        for one in quotes
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
    rows += [(_when(one.created_at), "token", _money(one.amount, one.unit), f"not redeemed · {one.token_id}") for one in tokens]
    columns = ("since", "what", ("amount", "right"), "state")
    screen.answer(facts, table(columns, rows) if rows else "[dim]nothing is pending[/dim]")


_NOUNS = {"bolt11": "invoice", "bolt12": "offer", "onchain": "address"}


def _standing(operation: Operation, melts: dict[str, WalletMeltQuote]) -> str:
    """How an operation stands: why it is open, or where its transaction is."""
    quote = melts.get(operation.quote or "")
    if quote is not None and quote.outpoint:
        return f"waits for confirmations of {shown(quote.outpoint, 100)}"
    return operation.error or "not over yet"


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
            "payment": one.payment,
            "play": one.mint in play,
        }
        for one in entries
    ]
    rows = []
    for one in _grouped(entries):
        effect = balance_effect(one)
        sign = Text(
            f"{'+' if effect > 0 else ''}{_money(effect or one.amount, one.unit)}", _COLOURS[(effect > 0) - (effect < 0)]
        )
        fee = _money(one.fee, one.unit) if one.fee else ""
        kind = one.kind
        if one.payment is not None:
            kind = f"  part at {shown(one.mint, 60)}" if one.mint else "pay, by several mints"
        rows.append((_when(one.at), kind, sign, fee, shown(one.memo or "", 40), badge(one.mint in play)))
    columns = ("when", "what", ("amount", "right"), ("fee", "right"), "memo", "")
    screen.answer({"history": facts}, table(columns, rows) if rows else "[dim]nothing yet[/dim]")


def _grouped(entries: Sequence[HistoryEntry]) -> list[HistoryEntry]:
    """The lines with those of one payment by several mints under a line for the whole of it, where its latest part is."""
    found: list[HistoryEntry] = []
    seen: set[str] = set()
    for one in entries:
        if one.payment is None:
            found.append(one)
        elif one.payment not in seen:
            seen.add(one.payment)
            parts = [part for part in entries if part.payment == one.payment]
            total, fee = sum(part.amount for part in parts), sum(part.fee for part in parts)
            found.append(replace(one, mint="", amount=total, fee=fee))
            found += [replace(part, memo=None) for part in parts]
    return found


def names(*, screen: ScreenArgument) -> None:
    """The wallets on this machine."""
    from specie.app.wallet_places import wallet_names

    found = wallet_names()
    screen.answer({"wallets": found}, "\n".join(found) if found else "[dim]none yet: specie wallet mint 100 makes one[/dim]")
