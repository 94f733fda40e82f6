"""The commands of paid HTTP: paywall, takings, fetch."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import UsageError
from specie.cli.screen import Screen, shown, table
from specie.cli.wallet.opening import UnitArgument, WalletChoice, opened, trusted
from specie.cli.wallet.watching import guarded

if TYPE_CHECKING:
    import httpx2

    from specie.app.wallet import Wallet
    from specie.paywall.config import PaywallSettings
    from specie.paywall.price import Price

__all__ = ["fetch", "paywall", "takings"]

_PRICES = Group("What it costs", sort_key=2)
_LISTEN = "127.0.0.1:8402"
_REMEMBER_S = 90 * 86_400
_BODY_BYTES = 100_000_000


async def paywall(
    *,
    upstream: Annotated[str | None, Parameter(help="URL of the server that has what is sold.")] = None,
    listen: Annotated[
        str | None, Parameter(help=f"HOST:PORT to take requests on; {_LISTEN} unless given, port 0 for any.")
    ] = None,
    price: Annotated[
        list[str] | None,
        Parameter(
            group=_PRICES,
            negative="",
            help='"METHOD /path=AMOUNT", * behind the path for all below it, "=5 usd" for a unit; the first that fits counts.',
        ),
    ] = None,
    lock: Annotated[
        bool,
        Parameter(
            group=_PRICES,
            negative="",
            show_default=False,
            help="Ask for tokens locked to this wallet's key, for all of --price.",
        ),
    ] = False,
    later: Annotated[
        int | None,
        Parameter(
            group=_PRICES,
            help="With --lock: check tokens off-line and swap them later, up to this amount. Fast, and works without the mint.",
        ),
    ] = None,
    config: Annotated[Path | None, Parameter(help="TOML file with listen, upstream and [[price]] tables.")] = None,
    mint: Annotated[
        str | None, Parameter(help="Mint to trust first; the bank on this machine unless the wallet knows one.")
    ] = None,
    wallet: WalletChoice | None = None,
    screen: ScreenArgument,
) -> None:
    """Sell what a web server has: a proxy in front of it that asks for ecash (HTTP 402). Ctrl-C stops it."""
    from specie.paywall.config import PaywallSettings, load_paywall
    from specie.paywall.run import address_from_text

    settings = PaywallSettings() if config is None else load_paywall(config)
    target, prices = upstream or settings.upstream, _prices(price, lock, later, settings)
    if target is None:
        raise UsageError("--upstream: the server that has what is sold")
    if not prices:
        raise UsageError('--price: at least one, such as "GET /*=21"')
    host, port = address_from_text(listen or settings.listen or _LISTEN)
    choice = wallet or WalletChoice()
    async with opened(choice, screen) as purse:
        await trusted(purse, mint, screen)
        async with guarded(purse, screen):
            await _serve(screen, purse, choice, settings, target, prices, host, port)
    screen.say("[dim]stopped[/dim]")


def _prices(texts: list[str] | None, lock: bool, later: int | None, settings: PaywallSettings) -> tuple[Price, ...]:
    from specie.kernel.errors import MalformedError
    from specie.paywall.price import price_from_text
    from specie.wallet.paid import Settle

    if later is not None and not lock:
        raise UsageError("--later goes with --lock")
    settle = Settle.NOW if later is None else Settle.LATER
    try:
        given = [price_from_text(text, locked=lock, settle=settle, cap=later or 0) for text in texts or ()]
    except MalformedError as error:
        raise UsageError(f"--price: {error.detail}") from None
    return (*given, *settings.prices)


async def _serve(
    screen: Screen,
    purse: Wallet,
    choice: WalletChoice,
    settings: PaywallSettings,
    target: str,
    prices: tuple[Price, ...],
    host: str,
    port: int,
) -> None:
    from rich.text import Text

    from specie.paywall import Paywall, Proxy
    from specie.paywall.run import serve

    await purse.till.forget(_REMEMBER_S)
    for one in prices:
        if one.amount:  # says now what would be said to every payer
            await purse.till.request(one.amount, unit=one.unit, mints=one.mints, locked=one.locked)
    proxy = Proxy(target)
    wall = Paywall(proxy, purse, prices, honour_s=settings.honour_s, deliveries=settings.deliveries, telemetry=_Log(screen))

    def announce(address: str, bound: int) -> None:
        url = f"http://{f'[{address}]' if ':' in address else address}:{bound}"
        facts = {
            "url": url,
            "upstream": target,
            "wallet": choice.name,
            "prices": [{"method": p.method, "path": p.path, "amount": p.amount, "unit": p.unit} for p in prices],
        }
        rows = [(p.method, p.path, f"{p.amount:,} {p.unit}", "locked" if p.locked else "") for p in prices]
        screen.answer(
            facts,
            Text.assemble(("● ", "bold green"), (url, "bold cyan"), (f"  sells what {target} has", "dim")),
            table(("method", "path", ("price", "right"), ""), rows),
        )
        sys.stdout.flush()

    try:
        await serve(wall, host, port, announce=announce, stop=asyncio.Event())
    finally:
        await wall.aclose()
        await proxy.aclose()


class _Log:
    """One line on standard error for each taking and each trouble."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def count(self, name: str, /, amount: int = 1, **labels: str) -> None:
        if name == "paywall_taken":
            self._line("✓ ", "green", f"paid  {labels.get('resource', '')}")

    def observe(self, name: str, seconds: float, /, **labels: str) -> None:
        """Nothing is measured here."""

    def event(self, name: str, /, **facts: object) -> None:
        self._line("! ", "yellow", f"{name.replace('_', ' ')}: {facts.get('reason', '')}")

    def page(self, reason: str, /, **facts: object) -> None:
        self._line("! ", "bold red", reason)

    def _line(self, sign: str, colour: str, text: str) -> None:
        from rich.text import Text

        self._screen.say(Text.assemble((sign, colour), shown(text, 100)))


async def takings(
    *,
    days: Annotated[int, Parameter(help="How many days back.")] = 30,
    wallet: WalletChoice | None = None,
    screen: ScreenArgument,
) -> None:
    """What this wallet's paywall took, by resource."""
    import time

    from rich.text import Text

    from specie.kernel.money import format_amount

    async with opened(wallet or WalletChoice(), screen, create=False) as purse:
        found = await purse.till.takings(since=int(time.time()) - days * 86_400, limit=100_000)
    sums: dict[tuple[str, str], list[int]] = {}
    for one in found:
        if one.state == "TAKEN":
            line = sums.setdefault((one.resource, one.unit), [0, 0, 0])
            line[0], line[1], line[2] = line[0] + 1, line[1] + one.amount, max(line[2], one.created_at)
    ordered = sorted(sums.items(), key=lambda item: (-item[1][1], item[0]))
    facts = [
        {"resource": resource, "unit": unit, "payments": count, "amount": amount, "last_at": last}
        for (resource, unit), (count, amount, last) in ordered
    ]
    rows = [
        (
            shown(resource, 60),
            f"{count:,}",
            format_amount(amount, unit),
            datetime.fromtimestamp(last, UTC).astimezone().strftime("%Y-%m-%d %H:%M"),
        )
        for (resource, unit), (count, amount, last) in ordered
    ]
    open_ones = sum(1 for one in found if one.state != "TAKEN")
    columns = ("resource", ("payments", "right"), ("taken", "right"), "last")
    lines = [table(columns, rows) if rows else Text("nothing was taken yet", "dim")]
    if open_ones:
        lines.append(Text(f"  {open_ones} not known yet: the same token, shown again, settles it", "yellow"))
    screen.answer({"takings": facts, "open": open_ones}, *lines)


async def fetch(
    url: Annotated[str, Parameter(help="What to get.")],
    /,
    *,
    max: Annotated[int, Parameter(name="--max", help="Most to pay for it, in the minor unit.")],
    max_host: Annotated[int | None, Parameter(help="Most to pay that host within a day; ten times --max unless given.")] = None,
    method: Annotated[str, Parameter(name=("--method", "-X"), help="HTTP method.")] = "GET",
    data: Annotated[
        str | None, Parameter(name=("--data", "-d"), help="Body of the request; @FILE reads it from a file.")
    ] = None,
    header: Annotated[
        list[str] | None, Parameter(name=("--header", "-H"), negative="", help='A header, "Name: value".')
    ] = None,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"), help="File to write the body to.")] = None,
    location: Annotated[
        bool,
        Parameter(name=("--location", "-L"), negative="", show_default=False, help="Follow redirects; no token follows them."),
    ] = False,
    plain_http: Annotated[
        bool, Parameter(negative="", show_default=False, help="Pay without TLS, where others on the way can take the token.")
    ] = False,
    unit: UnitArgument = "sat",
    wallet: WalletChoice | None = None,
    screen: ScreenArgument,
) -> None:
    """Get a URL, paying for it out of this wallet where it asks for ecash (HTTP 402). The body goes to standard output."""
    import httpx2

    from specie._version import __version__
    from specie.kernel.errors import RefusedError, UnavailableError
    from specie.kernel.money import format_amount
    from specie.paywall import CashuAuth

    body = _data(data)
    headers = [("user-agent", f"specie/{__version__}"), *(_header(line) for line in header or ())]
    async with opened(wallet or WalletChoice(), screen) as purse:
        await trusted(purse, None, screen)
        await purse.allowance.settle()
        before = {one.toll_id for one in await purse.allowance.tolls()}
        auth = CashuAuth(purse, max_per_request=max, max_per_host=max_host, unit=unit, plain_http=plain_http)
        try:
            async with (
                httpx2.AsyncClient(auth=auth, follow_redirects=location, timeout=60.0) as client,
                client.stream(method.upper(), url, content=body, headers=headers) as response,
            ):
                content = await _content(response)
        except httpx2.TransportError as error:
            raise UnavailableError(f"{url}: {type(error).__name__}; a token that was sent stays on record") from error
        except (httpx2.InvalidURL, httpx2.RequestError, ValueError) as error:
            raise RefusedError(f"{url}: {type(error).__name__}") from error
        paid = [one for one in await purse.allowance.tolls() if one.toll_id not in before]
    for one in paid:
        screen.say(f"[green]✓[/green] {one.host}: {format_amount(one.amount, one.unit)} [dim]{one.state.lower()}[/dim]")
    if response.status_code >= 400:
        reason = content[:300].decode("utf-8", "replace")
        raise RefusedError(f"HTTP {response.status_code}: {shown(reason, 200)}")
    if output is not None:
        output.write_bytes(content)
    if screen.json:
        facts = {
            "status": response.status_code,
            "bytes": len(content),
            "body": None if output is not None else content.decode("utf-8", "replace"),
            "paid": [{"host": one.host, "amount": one.amount, "unit": one.unit, "state": str(one.state)} for one in paid],
        }
        screen.answer(facts)
    elif output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


async def _content(response: httpx2.Response) -> bytes:
    """The body, bounded."""
    from specie.kernel.errors import PeerFaultError

    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _BODY_BYTES:
            raise PeerFaultError("the answer is too large", peer=str(response.url))
    return bytes(body)


def _data(text: str | None) -> bytes | None:
    if text is None or not text.startswith("@"):
        return None if text is None else text.encode()
    try:
        return Path(text[1:]).read_bytes()
    except OSError as error:
        raise UsageError(f"--data: {text[1:]} cannot be read ({type(error).__name__})") from None


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise UsageError('--header: expected "Name: value"')
    return name.strip(), value.strip()
