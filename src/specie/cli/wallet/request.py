"""`specie wallet request`: ask for ecash, and pay those who ask for it (NUT-18, NUT-26)."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import DeclinedError, UsageError
from specie.cli.screen import Screen, shown, table
from specie.cli.wallet.opening import MintArgument, UnitArgument, WalletChoice, look, opened, trusted
from specie.cli.wallet.watching import guarded

if TYPE_CHECKING:
    from rich.text import Text

    from specie.app.wallet import Wallet
    from specie.wallet import Arrival, OwnRequest, PaymentPlan, RequestPayment, RequestReceipt

__all__ = ["app"]

app = App(
    name="request",
    help="Payment requests: ask for ecash, watch for it, and pay those who ask.",
    help_epilogue="""\
[bold]Examples[/bold]
  specie wallet request create 21 --description coffee
  specie wallet request create 21 --relay wss://relay.example.org --lock
  specie wallet request watch
  specie wallet request pay CREQB1...
""",
)

Choice = WalletChoice | None
"""Which wallet; the default one if None."""
RelayArgument = Annotated[
    list[str] | None, Parameter(name="--relay", negative="", help="Address of a Nostr relay (wss://...); may be repeated.")
]
PrivateArgument = Annotated[
    bool,
    Parameter(
        name="--private",
        negative="",
        show_default=False,
        help="Let the payee's addresses be on this machine or a private network, and plain http.",
    ),
]
IdArgument = Annotated[str, Parameter(help="The request: its text, or its id as list shows it.")]


def _money(amount: int, unit: str) -> str:
    from specie.kernel.money import format_amount

    return format_amount(amount, unit)


def _when(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _done(*parts: str | Text | tuple[str, str]) -> Text:
    from rich.text import Text

    return Text.assemble(("✓ ", "green"), *parts)


def _id(request: str) -> str:
    """The id of a request that is named by its text or its id."""
    from specie.ecash import decode_payment_request

    if ":" not in request and request[:4].lower() != "creq":
        return request
    return decode_payment_request(request).id or request


def _receipt_facts(receipt: RequestReceipt) -> dict[str, object]:
    return {
        "id": receipt.receipt_id,
        "request": receipt.request_id,
        "amount": receipt.amount,
        "fee": receipt.fee,
        "unit": receipt.unit,
        "mint": receipt.mint,
        "memo": receipt.memo,
        "at": receipt.created_at,
        "settled": receipt.settled,
    }


def _request_facts(own: OwnRequest) -> dict[str, object]:
    return {
        "id": own.request_id,
        "request": own.text,
        "short": own.short,
        "state": str(own.state),
        "amount": own.request.amount,
        "unit": own.request.unit,
        "description": own.request.description,
        "single_use": own.request.single_use,
        "mints": list(own.request.mints),
        "transports": [one.kind for one in own.request.transports] or ["in-band"],
        "locked": own.request.lock is not None,
        "received": own.received,
        "created_at": own.created_at,
        "receipts": [_receipt_facts(receipt) for receipt in own.receipts],
    }


def _payment_facts(payment: RequestPayment) -> dict[str, object]:
    return {
        "id": payment.payment_id,
        "request": payment.request,
        "state": str(payment.state),
        "amount": payment.amount,
        "unit": payment.unit,
        "mint": payment.mint,
        "delivered_by": payment.delivered_by,
        "token_id": payment.operation,
        "error": payment.error,
        "at": payment.created_at,
    }


def _qr(screen: Screen, data: str) -> None:
    from specie.cli.qr import qr_text

    drawn = qr_text(data, screen.err.width)
    screen.say(drawn if drawn is not None else f"[dim]no QR code: too large for {screen.err.width} columns[/dim]")


@app.command
async def create(
    amount: Annotated[int | None, Parameter(help="Amount in the minor unit; left to the payer unless given.")] = None,
    /,
    *,
    description: Annotated[str | None, Parameter(help="Shown to whoever pays.")] = None,
    post: Annotated[str | None, Parameter(help="https address to which the payment is posted (watch --listen).")] = None,
    relay: RelayArgument = None,
    lock: Annotated[
        bool, Parameter(negative="", show_default=False, help="Coins must be locked to a fresh key of this wallet.")
    ] = False,
    many: Annotated[bool, Parameter(negative="", show_default=False, help="May be paid any number of times.")] = False,
    form: Annotated[Literal["creqA", "creqB"], Parameter(help="creqA is read by every wallet, creqB is shorter.")] = "creqA",
    no_qr: Annotated[bool, Parameter(negative="", show_default=False, help="The request as text only.")] = False,
    mint: MintArgument = None,
    unit: UnitArgument = "sat",
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Ask for ecash: a text, with its QR code, for the payer. Without --post or --relay they hand you a token themselves."""
    choice = wallet or WalletChoice()
    async with opened(choice, screen) as purse:
        url = await trusted(purse, mint, screen)
        own = await purse.requests.create(
            amount,
            unit=unit,
            description=description,
            single_use=not many,
            mints=None if url is None else [url],
            post=post,
            relays=relay or (),
            lock=lock,
        )
    if screen.out.is_terminal and not no_qr:
        _qr(screen, own.short)
    how = f"specie wallet request accept {own.request_id} TOKEN{choice.flag}"
    if relay:
        how = f"specie wallet request watch{choice.flag}"
    elif post:
        how = f"specie wallet request watch --listen HOST:PORT{choice.flag}"
    screen.say(_done("request ", (own.request_id, "bold"), (f"  to take its payment: {how}", "dim")))
    screen.bare(_request_facts(own), own.text if form == "creqA" else own.short)


@app.default
@app.command(name="list")
async def list_(
    *,
    paid: Annotated[bool, Parameter(negative="", show_default=False, help="The payments I made of others' requests.")] = False,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """My requests and what was paid for them, newest first; or, with --paid, what I paid."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        if paid:
            await look(purse, screen)
        own, payments = await purse.requests.list(), await purse.requests.payments()
    if paid:
        _list_paid(screen, payments)
        return
    rows = [
        (
            _when(one.created_at),
            one.request_id,
            "any" if one.request.amount is None else _money(one.request.amount, one.request.unit or ""),
            _money(one.received, one.request.unit or "") if one.receipts else "",
            str(one.state),
            shown(one.request.description or "", 40),
        )
        for one in own
    ]
    columns = ("when", "id", ("amount", "right"), ("received", "right"), "state", "description")
    screen.answer(
        {"requests": [_request_facts(one) for one in own]},
        table(columns, rows) if rows else "[dim]none yet: specie wallet request create 21[/dim]",
    )


def _list_paid(screen: Screen, payments: Sequence[RequestPayment]) -> None:
    rows = [
        (_when(one.created_at), _money(one.amount, one.unit), str(one.state), one.payment_id, shown(one.error, 60))
        for one in payments
    ]
    columns = ("when", ("amount", "right"), "state", "id", "")
    screen.answer(
        {"payments": [_payment_facts(one) for one in payments]},
        table(columns, rows) if rows else "[dim]nothing paid yet[/dim]",
    )


@app.command
async def show(request: IdArgument, /, *, wallet: Choice = None, screen: ScreenArgument) -> None:
    """One of my requests, its QR code, and its payments."""
    async with opened(wallet or WalletChoice(), screen, create=False) as purse:
        own = await purse.requests.show(_id(request))
    _describe(screen, own)


def _describe(screen: Screen, own: OwnRequest) -> None:
    from rich.text import Text

    if screen.out.is_terminal:
        _qr(screen, own.short)
    amount = "any amount" if own.request.amount is None else _money(own.request.amount, own.request.unit or "")
    rows = [
        (_when(one.created_at), _money(one.amount, one.unit), one.mint, shown(one.memo or "", 40), "" if one.settled else "…")
        for one in own.receipts
    ]
    columns = ("when", ("amount", "right"), "mint", "memo", "")
    screen.answer(
        _request_facts(own),
        Text.assemble((amount, "bold"), f"  {own.state}  ", shown(own.request.description or "", 80)),
        Text(own.text, "dim", overflow="fold"),
        *([table(columns, rows)] if rows else []),
    )


@app.command
async def cancel(request: IdArgument, /, *, wallet: Choice = None, screen: ScreenArgument) -> None:
    """Take no more payments for a request."""
    async with opened(wallet or WalletChoice(), screen, create=False) as purse:
        own = await purse.requests.cancel(_id(request))
    screen.answer(_request_facts(own), _done(f"{own.request_id} is {own.state}"))


@app.command
async def accept(
    request: IdArgument,
    payment: Annotated[
        str, Parameter(help="The token or payment (JSON), or - to read it from standard input.", allow_leading_hyphen=True)
    ],
    /,
    *,
    preimage: Annotated[str | None, Parameter(help="Opens coins that are locked to a hash (hex).")] = None,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Take what was handed to you for a request: judged first, refused with the reason if it is not what was asked."""
    async with opened(wallet or WalletChoice(), screen, create=False) as purse:
        text = screen.read_word("payment") if payment == "-" else payment.strip()
        with screen.progress("swapping its coins for ours"):
            receipt = await purse.requests.accept(text, request_id=_id(request), preimage=preimage)
    screen.answer(_receipt_facts(receipt), _arrived(receipt))


def _arrived(receipt: RequestReceipt) -> Text:
    memo = f"  {shown(receipt.memo)}" if receipt.memo else ""
    fee = f", fee {_money(receipt.fee, receipt.unit)}" if receipt.fee else ""
    return _done((_money(receipt.amount, receipt.unit), "bold"), f" for {receipt.request_id}{fee}", (memo, "dim"))


@app.command
async def pay(
    request: Annotated[
        str,
        Parameter(help="creqA..., CREQB1..., bitcoin:?creq=..., or - for standard input.", allow_leading_hyphen=True),
    ],
    /,
    *,
    amount: Annotated[int | None, Parameter(help="What to pay, where the request names no amount.")] = None,
    memo: Annotated[str | None, Parameter(help="Travels with the payment.")] = None,
    again: Annotated[
        bool, Parameter(negative="", show_default=False, help="Pay a single-use request that was paid before.")
    ] = False,
    yes: Annotated[bool, Parameter(negative="", show_default=False, help="Do not ask.")] = False,
    relay: RelayArgument = None,
    private: PrivateArgument = False,
    mint: MintArgument = None,
    unit: UnitArgument = "sat",
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Pay a request: tells what it would do, makes the coins it asks for, and delivers them. In-band the token is printed."""
    choice = wallet or WalletChoice()
    async with opened(choice, screen, private_payees=private) as purse:
        text = screen.read_word("request") if request == "-" else request.strip()
        await look(purse, screen)
        relays = relay or ()
        plan = await purse.requests.plan(text, amount=amount, unit=unit, mint=mint, relays=relays)
        _agree(screen, plan, yes)
        with screen.progress("paying"):
            paid = await purse.requests.pay(text, amount=amount, unit=unit, mint=mint, memo=memo, again=again, relays=relays)
    _show_payment(screen, paid)


def _agree(screen: Screen, plan: PaymentPlan, yes: bool) -> None:
    """Tell what would be done, and ask at a terminal. DeclinedError."""
    from rich.text import Text

    about = shown(plan.request.description or "", 80)
    screen.say(Text.assemble(("to pay ", "dim"), (_money(plan.amount + plan.extra, plan.unit), "bold"), f"  {about}"))
    notes = [f"from {plan.mint}", f"{plan.transport} {shown(plan.target, 60)}".strip()]
    if plan.extra:
        notes.append(f"{_money(plan.extra, plan.unit)} of it for a mint the payee does not list")
    if plan.locked:
        notes.append("locked to the payee: it cannot be taken back")
    if plan.paid_before:
        notes.append(f"paid {plan.paid_before} times before")
    for note in notes:
        screen.say(Text(f"  {note}", "dim"))
    if not yes and screen.interactive and not screen.confirm("Pay it?"):
        raise DeclinedError("not paid")


def _show_payment(screen: Screen, paid: RequestPayment) -> None:
    facts = {**_payment_facts(paid), "token": paid.token if paid.delivered_by == "in-band" else None}
    if paid.delivered_by == "in-band" and paid.token is not None:
        screen.say(_done((_money(paid.amount, paid.unit), "bold"), ("  hand this token to the payee", "dim")))
        screen.bare(facts, paid.token)
        return
    screen.answer(facts, _done((_money(paid.amount, paid.unit), "bold"), f" delivered by {paid.delivered_by}"))


@app.command
async def deliver(
    payment: Annotated[str, Parameter(help="Id of the payment, as list --paid shows it.")],
    /,
    *,
    relay: RelayArgument = None,
    private: PrivateArgument = False,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Hand the coins of a payment over once more, where that failed: the same coins, so nothing is paid twice."""
    async with opened(wallet or WalletChoice(), screen, create=False, private_payees=private) as purse:
        with screen.progress("delivering"):
            paid = await purse.requests.deliver(payment, relays=relay or ())
    _show_payment(screen, paid)


@app.command
async def watch(
    *,
    once: Annotated[bool, Parameter(negative="", show_default=False, help="Take what relays hold now, and end.")] = False,
    count: Annotated[int | None, Parameter(help="End after so many payments were taken.")] = None,
    listen: Annotated[
        str | None, Parameter(help="HOST:PORT to take posted payments at, in place of Nostr; put TLS in front of it.")
    ] = None,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Take payments of my requests as they come, over Nostr or posted; refused ones are told, too. Ctrl-C ends it."""
    seen: list[dict[str, object]] = []
    taken = 0
    async with opened(wallet or WalletChoice(), screen, create=False) as purse:
        arrivals = purse.requests.watch(follow=not once) if listen is None else _posted(purse, *_address(listen))
        screen.say("[dim]waiting for payments[/dim]")
        beside = contextlib.nullcontext() if once else guarded(purse, screen)
        async with beside, contextlib.aclosing(arrivals) as stream:
            async for arrival in stream:
                facts = _arrival_facts(arrival)
                seen.append(facts)
                if not once:
                    screen.answer(facts, _arrival_text(arrival))
                if arrival.receipt is not None:
                    taken += 1
                    if count is not None and taken >= count:
                        break
                if once and not screen.json:
                    screen.answer({}, _arrival_text(arrival))
    if once and screen.json:
        screen.answer({"arrivals": seen})


def _arrival_facts(arrival: Arrival) -> dict[str, object]:
    if arrival.receipt is not None:
        return _receipt_facts(arrival.receipt)
    return {"request": arrival.request_id, "refused": str(arrival.error), "error": type(arrival.error).__name__}


def _arrival_text(arrival: Arrival) -> Text:
    from rich.text import Text

    if arrival.receipt is not None:
        return _arrived(arrival.receipt)
    return Text.assemble(("✗ ", "red"), f"{arrival.request_id}: ", shown(str(arrival.error)))


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise UsageError("--listen: expected HOST:PORT, such as 127.0.0.1:8080")
    return host.strip("[]"), int(port)


async def _posted(purse: Wallet, host: str, port: int) -> AsyncGenerator[Arrival, None]:
    """What is posted to a receiver at an address of this machine."""
    import asyncio

    import uvicorn

    from specie.wallet import Arrival, PaymentReceiver

    queue: asyncio.Queue[RequestReceipt] = asyncio.Queue()
    receiver = PaymentReceiver(purse.requests, received=queue.put)
    config = uvicorn.Config(receiver, host=host, port=port, log_level="warning", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    try:
        while True:
            arrived = asyncio.ensure_future(queue.get())
            await asyncio.wait({arrived, serving}, return_when=asyncio.FIRST_COMPLETED)
            if not arrived.done():
                arrived.cancel()
                return
            receipt = arrived.result()
            yield Arrival(receipt.request_id, receipt)
    finally:
        server.should_exit = True
        await serving
