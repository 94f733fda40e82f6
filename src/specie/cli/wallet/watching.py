"""The commands that look after mints: health, policy, watch; and the same beside commands that run for long."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.errors import UsageError
from specie.cli.screen import Screen, table
from specie.cli.wallet.moved import plain, report_facts, say_moved, stuck_lines
from specie.cli.wallet.opening import WalletChoice, opened

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from specie.app.wallet import Wallet
    from specie.wallet import WatchPolicy, WatchReport

__all__ = ["guarded", "health", "policy", "watch"]

Choice = WalletChoice | None
"""Which wallet; the default one if None."""
_BAD = Group("When a mint is called bad", sort_key=2)
_DONE = Group("What is done then", sort_key=3)
_HOUR_S = 3600
_DAY_S = 86_400


async def health(
    *,
    probe: Annotated[bool, Parameter(negative="", show_default=False, help="Ask the mints that may be asked now.")] = False,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """What was seen of each mint, what speaks against it, and what is there; works while a mint is gone."""
    async with opened(wallet or WalletChoice(), screen) as purse:
        with screen.progress("looking at the mints"):
            reports = await purse.exits.check() if probe else await purse.exits.health()
        left = {one.mint for one in await purse.exits.leaving()}
    for one in reports:
        say_moved(screen, one)
    lines: list[str] = []
    for one in reports:
        lines.append(f"[bold]{plain(one.health.mint)}[/bold]  {_state(one, left)}")
        lines += [f"  [yellow]![/yellow] {plain(advice.detail)}" for advice in one.advice]
        lines += stuck_lines(one.stuck)
    facts = [report_facts(one) | {"leaving": one.health.mint in left} for one in reports]
    screen.answer({"mints": facts}, *(lines or ["[dim]no mints yet[/dim]"]))


def _state(one: WatchReport, left: set[str]) -> str:
    well = f"{one.health.failures} calls without an answer" if one.health.failures else "answers"
    return f"{well}, is being left" if one.health.mint in left else well


async def policy(
    *,
    move: Annotated[
        bool | None,
        Parameter(group=_DONE, negative="--no-move", help="Move its money out by itself; without, there is only advice."),
    ] = None,
    to: Annotated[
        list[str] | None,
        Parameter(
            group=_DONE, negative="", help="URL of the mint to move to; may be repeated. Chosen by targets unless given."
        ),
    ] = None,
    anywhere: Annotated[
        bool, Parameter(group=_DONE, negative="", show_default=False, help="Forget --to: wherever targets say.")
    ] = False,
    max_cost: Annotated[float | None, Parameter(group=_DONE, help="Most that moving may cost, in percent; 5 at first.")] = None,
    keep: Annotated[
        list[str] | None,
        Parameter(group=_DONE, negative="", help="URL of a mint that is never left by itself; may be repeated."),
    ] = None,
    failures: Annotated[int | None, Parameter(group=_BAD, help="So many calls in a row unanswered; 10 at first.")] = None,
    silent_hours: Annotated[float | None, Parameter(group=_BAD, help="... over so many hours; 24 at first.")] = None,
    expiry_days: Annotated[
        float | None, Parameter(group=_BAD, help="All its coins of a unit expire within so many days; 14 at first.")
    ] = None,
    every: Annotated[int | None, Parameter(group=_DONE, help="Seconds between checks, at least; 3600 at first.")] = None,
    off: Annotated[
        bool, Parameter(group=_DONE, negative="", show_default=False, help="Forget the policy: advice only, nothing moves.")
    ] = False,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """What this wallet does about bad mints: shows it, or changes what is given. At first it moves nothing by itself."""
    from specie.wallet import WatchPolicy

    given: dict[str, object] = {
        "move": move,
        "destinations": () if anywhere else (None if to is None else tuple(to)),
        "cost_ppm": None if max_cost is None else round(max_cost * 10_000),
        "keep": None if keep is None else tuple(keep),
        "failures": failures,
        "silent_s": None if silent_hours is None else round(silent_hours * _HOUR_S),
        "horizon_s": None if expiry_days is None else round(expiry_days * _DAY_S),
        "every_s": every,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if off and changes:
        raise UsageError("--off forgets the policy; it goes with nothing else")
    if anywhere and to:
        raise UsageError("--anywhere or --to, not both")
    async with opened(wallet or WalletChoice(), screen) as purse:
        if off:
            await purse.exits.watch(None)
        elif changes:
            await purse.exits.watch(replace(await purse.exits.policy() or WatchPolicy(), **changes))  # type: ignore[arg-type]
        found = await purse.exits.policy()
    screen.answer({"policy": None if found is None else _policy_facts(found)}, *_policy_lines(found))


def _policy_facts(found: WatchPolicy) -> dict[str, object]:
    return {
        "move": found.move,
        "destinations": list(found.destinations),
        "cost_ppm": found.cost_ppm,
        "keep": list(found.keep),
        "failures": found.failures,
        "silent_s": found.silent_s,
        "horizon_s": found.horizon_s,
        "every_s": found.every_s,
    }


def _policy_lines(found: WatchPolicy | None) -> list[str]:
    """The policy in words."""
    from specie.wallet import WatchPolicy

    one = found or WatchPolicy()
    lines = ["[dim]no policy was set: these are the defaults[/dim]"] if found is None else []
    lines += [
        f"a mint is bad after {one.failures} calls without an answer over {one.silent_s / _HOUR_S:g} hours,",
        f"when it takes or pays no more, or when its coins of a unit expire within {one.horizon_s / _DAY_S:g} days",
    ]
    if not one.move:
        return [*lines, "then: [bold]advice only[/bold], nothing moves (--move changes that)"]
    places = ", ".join(plain(url) for url in one.destinations) or "where targets say"
    lines += [
        f"then: its money [bold]moves[/bold] as soon as it answers, to {places}, for at most {one.cost_ppm / 10_000:g} %",
        f"looked at by every command, at most once in {one.every_s:,} seconds; specie wallet mints watch does it all the time",
    ]
    return lines + ([f"never left by itself: {', '.join(plain(url) for url in one.keep)}"] if one.keep else [])


async def watch(
    *,
    every: Annotated[int | None, Parameter(help="Seconds between checks; those of the policy unless given.")] = None,
    wallet: Choice = None,
    screen: ScreenArgument,
) -> None:
    """Check the mints again and again, and move money out as the policy says. Ctrl-C ends it; --json prints a line a report."""
    if every is not None and every < 1:
        raise UsageError("--every is at least one second")
    async with opened(wallet or WalletChoice(), screen) as purse:
        seen = {one.health.mint: one for one in await purse.exits.health()}
        with _Live(screen, purse) as live:
            await live.show(seen)

            async def heard(one: WatchReport) -> None:
                seen[one.health.mint] = one
                await live.show(seen, one)

            await _until_told(purse.exits.guard(heard, every_s=every))
    screen.say("[dim]stopped[/dim]")


class _Live:
    """A table that is renewed in place at a terminal; one line a report for programs, and where nobody watches."""

    def __init__(self, screen: Screen, purse: Wallet) -> None:
        self._screen = screen
        self._purse = purse
        self._stack = contextlib.ExitStack()
        self._renew: Live | None = None

    def __enter__(self) -> _Live:
        if not self._screen.json and self._screen.out.is_terminal:
            from rich.live import Live

            self._renew = self._stack.enter_context(Live(console=self._screen.out, auto_refresh=False))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def show(self, seen: dict[str, WatchReport], news: WatchReport | None = None) -> None:
        """Show all, of which `news` is new."""
        left = {one.mint for one in await self._purse.exits.leaving()}
        if self._renew is not None:
            if news is not None:
                say_moved(self._screen, news)
            self._renew.update(_seen_table(seen, left), refresh=True)
        elif news is None:
            self._screen.say("[dim]watching; Ctrl-C ends it[/dim]")
        else:
            facts = report_facts(news) | {"leaving": news.health.mint in left}
            self._screen.answer(facts, f"{plain(news.health.mint)}  {_state(news, left)}")
            say_moved(self._screen, news)


def _seen_table(seen: dict[str, WatchReport], left: set[str]) -> Table:
    rows = []
    for url, one in seen.items():
        held = ", ".join(line.strip() for line in stuck_lines(one.stuck))
        rows.append((url, _state(one, left), "; ".join(advice.detail for advice in one.advice), held))
    return table(("mint", "seen", "what speaks against it", "holds"), rows)


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGINT or SIGTERM comes; what `work` raises is raised."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, told.set)
    running, waiting = asyncio.ensure_future(work), asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        for number in numbers:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def guarded(purse: Wallet, screen: Screen) -> AsyncIterator[None]:
    """While a command runs for long: mints are checked as the policy says, and what was moved is told."""

    async def heard(one: WatchReport) -> None:
        say_moved(screen, one)

    guard = asyncio.ensure_future(purse.exits.guard(heard, always=False))
    try:
        yield
    finally:
        guard.cancel()
        await asyncio.gather(guard, return_exceptions=True)
