"""The commands that move ecash: balance, send, receive, lock, reclaim. Money in is `income`, payments are `payment`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Group, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import UsageError
from specie.cli.screen import Screen, shown, table
from specie.cli.wallet.frames import AnimationOptions, animate, animation_checked, token_given
from specie.cli.wallet.opening import (
    MintArgument,
    UnitArgument,
    WalletChoice,
    badge,
    default_mint,
    look,
    opened,
    play_mints,
    seal_facts,
    seal_line,
    trusted,
)

if TYPE_CHECKING:
    from rich.text import Text

    from specie.app.wallet import Wallet
    from specie.wallet import HTLC, P2PK, SentToken

__all__ = ["balance", "done", "draw_qr", "enough", "given", "lock", "money", "receive", "reclaim", "send"]

T = TypeVar("T")

_LOCK = Group("Lock it", sort_key=3)
_DURATIONS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

Choice = WalletChoice | None
"""Which wallet; the default one if None."""
Amount = Annotated[int, Parameter(help="Amount in the minor unit: sat unless --unit says otherwise.")]


def money(amount: int, unit: str) -> str:
    """An amount for people, with its unit."""
    from specie.kernel.money import format_amount

    return format_amount(amount, unit)


def done(*parts: str | Text | tuple[str, str]) -> Text:
    """A line that says that something worked."""
    from rich.text import Text

    return Text.assemble(("✓ ", "green"), *parts)


def given(argument: str, what: str, screen: Screen) -> str:
    """An argument, or a line of standard input where it is `-`."""
    return screen.read_word(what) if argument == "-" else argument.strip()


async def balance(*, wallet: Choice = None, screen: ScreenArgument) -> None:
    """What this wallet holds, at each mint."""
    from rich.text import Text

    choice = wallet or WalletChoice()
    async with opened(choice, screen) as purse:
        await look(purse, screen)
        held, play = await purse.balances(), await play_mints(purse)
        kept, line = seal_facts(purse), seal_line(purse)
    totals: dict[str, int] = {}
    rows = []
    for one in held:
        totals[one.unit] = totals.get(one.unit, 0) + one.available + one.unswapped
        if one.total:
            cells = (one.available + one.unswapped, one.sent, one.reserved)
            rows.append(
                (
                    Text.assemble(one.mint or "", badge(one.mint in play)),
                    *(money(cell, one.unit) if cell else "" for cell in cells),
                )
            )
    facts = {
        "wallet": choice.name,
        "balance": totals,
        "mints": [
            {
                "mint": one.mint,
                "unit": one.unit,
                "available": one.available,
                "sent": one.sent,
                "reserved": one.reserved,
                "unswapped": one.unswapped,
                "play": one.mint in play,
            }
            for one in held
        ],
        **kept,
    }
    head = "  ".join(money(amount, unit) for unit, amount in totals.items()) or "0 sat"
    title = Text.assemble((head, "bold"), (f"  in wallet {choice.name}", "dim"))
    columns = ("mint", ("free to spend", "right"), ("in tokens", "right"), ("on its way", "right"))
    if rows:
        screen.answer(facts, title, table(columns, rows), line)
    else:
        screen.answer(facts, title, Text(f"  specie wallet mint 100{choice.flag} puts something in it", "dim"), line)


def draw_qr(screen: Screen, data: str) -> None:
    """A QR code on the terminal, or a word on why there is none."""
    from specie.cli.qr import qr_text

    drawn = qr_text(data, screen.err.width)
    screen.say(drawn if drawn is not None else f"[dim]no QR code: too large for {screen.err.width} columns[/dim]")


@Parameter(name="*")
@dataclass(frozen=True)
class _LockOptions:
    lock: Annotated[
        list[str] | None,
        Parameter(
            name=("--lock", "--to"),
            group=_LOCK,
            negative="",
            help="Public key that alone can spend it (specie wallet lock); may be repeated.",
        ),
    ] = None
    signatures: Annotated[int, Parameter(group=_LOCK, help="How many of those keys must sign.")] = 1
    locktime: Annotated[
        str | None, Parameter(group=_LOCK, help="Until when it is locked: Unix time, or from now: 30m, 12h, 7d.")
    ] = None
    refund: Annotated[
        list[str] | None, Parameter(group=_LOCK, negative="", help="Public key that may spend it after the locktime.")
    ] = None
    htlc: Annotated[str | None, Parameter(group=_LOCK, help="SHA-256 hash (hex) whose preimage spends it.")] = None
    blind: Annotated[
        bool,
        Parameter(
            group=_LOCK,
            negative="",
            show_default=False,
            help="Hide the keys from the mint (NUT-28): it cannot tell that two tokens went to the same person.",
        ),
    ] = False


async def send(
    amount: Amount,
    /,
    *,
    memo: Annotated[str | None, Parameter(help="Travels with the token, for the receiver to read.")] = None,
    no_qr: Annotated[bool, Parameter(negative="", show_default=False, help="The token as text only.")] = False,
    offline: Annotated[
        bool, Parameter(negative="", show_default=False, help="Ask no mint: works where coins fit exactly.")
    ] = False,
    with_fee: Annotated[bool, Parameter(negative="", show_default=False, help="Put the receiver's swap fee on top.")] = False,
    locks: _LockOptions | None = None,
    animation: AnimationOptions | None = None,
    mint: MintArgument = None,
    unit: UnitArgument = "sat",
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Make a token: text that is money, with its QR code. Whoever redeems it first has it."""
    choice, moving = wallet or WalletChoice(), animation or AnimationOptions()
    animation_checked(moving, screen)
    async with opened(choice, screen) as purse:

        async def make() -> SentToken:
            return await purse.send(
                amount,
                mint=mint,
                unit=unit,
                lock=_lock(locks or _LockOptions()),
                memo=memo,
                include_fee=with_fee,
                offline=offline,
            )

        with screen.progress("making a token"):
            token = await (make() if offline else enough(purse, screen, make))
        play = token.mint in await play_mints(purse)
        drawn = "" if no_qr or screen.json or moving.animate else await _without_dleq(purse, token)
    if moving.animate:
        await animate(screen, token.text, moving)
    if drawn:
        draw_qr(screen, drawn)
    locked = ", locked" if token.locked else ""
    note = f"  until it is redeemed: specie wallet reclaim TOKEN{choice.flag}"
    screen.say(done((money(token.amount, unit), "bold"), f" in a token{locked}", badge(play), (note, "dim")))
    facts = {
        "token": token.text,
        "id": token.token_id,
        "amount": token.amount,
        "unit": unit,
        "mint": token.mint,
        "locked": token.locked,
        "play": play,
    }
    screen.bare(facts, token.text)


async def enough(purse: Wallet, screen: Screen, spend: Callable[[], Awaitable[T]]) -> T:
    """What `spend` gives; where money is missing, once more after claiming what was paid to us meanwhile."""
    from specie.wallet.errors import InsufficientFundsError

    try:
        return await spend()
    except InsufficientFundsError:
        await look(purse, screen)
        return await spend()


async def _without_dleq(purse: Wallet, token: SentToken) -> str:
    """The same coins in less text, for a QR code: without the proofs that only off-line receivers need."""
    import msgspec

    from specie.ecash import decode_token, encode_token, resolve_token

    keysets = [known.keyset for view in await purse.mints() if view.url == token.mint for known in view.keysets]
    full = resolve_token(decode_token(token.text), keysets)
    proofs = tuple(msgspec.structs.replace(proof, dleq=None) for proof in full.proofs)
    return encode_token(msgspec.structs.replace(full, proofs=proofs, memo=None))


def _lock(options: _LockOptions) -> P2PK | HTLC | None:
    """The lock that was asked for."""
    from specie.wallet import HTLC, P2PK

    until, keys, refund = _until(options.locktime), tuple(options.lock or ()), tuple(options.refund or ())
    if options.htlc is not None:
        return HTLC(options.htlc, keys, n_sigs=options.signatures, locktime=until, refund=refund, blinded=options.blind)
    if keys:
        return P2PK(keys, n_sigs=options.signatures, locktime=until, refund=refund, blinded=options.blind)
    if until is not None or refund or options.blind:
        raise UsageError("--locktime, --refund and --blind go with --lock or --htlc")
    return None


def _until(text: str | None) -> int | None:
    """Unix seconds of `1750000000`, or of `12h` from now."""
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in _DURATIONS else (text, "")
    if not (number.isascii() and number.isdigit()) or len(number) > 12:
        raise UsageError("--locktime: expected Unix time, or a duration such as 30m, 12h, 7d")
    return int(time.time()) + int(number) * _DURATIONS[unit] if unit else int(number)


async def receive(
    token: Annotated[
        str | None,
        Parameter(help="The token, or - to read it, or frames of it, from standard input.", allow_leading_hyphen=True),
    ] = None,
    /,
    *,
    frames: Annotated[
        list[Path] | None,
        Parameter(negative="", help="File with frames of an animated QR code, one a line, in any order; may be repeated."),
    ] = None,
    trust: Annotated[bool, Parameter(negative="", show_default=False, help="Trust the token's mint from now on.")] = False,
    offline: Annotated[
        bool, Parameter(negative="", show_default=False, help="Ask no mint: checks the mint's signatures, secures it later.")
    ] = False,
    preimage: Annotated[str | None, Parameter(help="Opens a token locked to a hash (hex).")] = None,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Redeem a token: its coins are swapped for new ones that only this wallet knows."""
    from rich.text import Text

    choice = wallet or WalletChoice()
    async with opened(choice, screen) as purse:
        text = token_given(token, frames, screen)
        if not offline:
            trust = await _trusts(purse, text, trust, screen)
        with screen.progress("swapping its coins for ours"):
            got = await purse.receive(text, preimage=preimage, offline=offline, trust=trust)
        play = got.mint in await play_mints(purse)
        free = await purse.balance(unit=got.unit)
    facts = {
        "amount": got.amount,
        "fee": got.fee,
        "unit": got.unit,
        "mint": got.mint,
        "memo": got.memo,
        "secured": got.secured,
        "play": play,
        "balance": free.available + free.unswapped,
    }
    fee = f", fee {money(got.fee, got.unit)}" if got.fee else ""
    head = done((money(got.amount, got.unit), "bold"), f" received{fee}", badge(play))
    head.append(f"  {money(free.available + free.unswapped, got.unit)} in wallet {choice.name}", "dim")
    lines = [head]
    if got.memo:
        lines.append(Text.assemble(("  memo ", "dim"), shown(got.memo)))
    if not got.secured:
        lines.append(
            Text(f"  its sender could still spend it: specie wallet tidy{choice.flag} when the mint is in reach", "yellow")
        )
    screen.answer(facts, *lines)


async def _trusts(purse: Wallet, text: str, trust: bool, screen: Screen) -> bool:
    """Whether the token's mint may be trusted now: said so, a mint on this machine for a wallet without any, or asked."""
    from specie.ecash import decode_token
    from specie.ecash.mint_url import mint_url_checked

    mint = mint_url_checked(decode_token(text).mint)
    known = [view.url for view in await purse.mints()]
    if trust or mint in known:
        return trust
    if not known and mint == mint_url_checked(default_mint()):
        await trusted(purse, None, screen)
        return False
    if screen.interactive:
        return screen.confirm(f"The token is of the mint {mint}, which this wallet does not know yet. Trust it?")
    return False


async def lock(*, wallet: Choice = None, screen: ScreenArgument) -> None:
    """A fresh public key of mine: `specie wallet send 21 --lock KEY` makes a token that only this wallet can redeem."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        key = await purse.p2pk_key()
    screen.bare({"pubkey": key}, key)


async def reclaim(
    token: Annotated[str, Parameter(help="The token, its id, or - to read it from standard input.", allow_leading_hyphen=True)],
    /,
    *,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Take back a token that nobody has redeemed yet."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        text = given(token, "token", screen)
        with screen.progress("taking it back"):
            got = await purse.reclaim(text)
        play = got.mint in await play_mints(purse)
    facts = {"amount": got.amount, "fee": got.fee, "unit": got.unit, "mint": got.mint, "play": play}
    screen.answer(facts, done((money(got.amount, got.unit), "bold"), " taken back", badge(play)))
