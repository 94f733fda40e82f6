"""The status board: what a bank shows of itself to people and to Prometheus, read from the books at most once a second.

Quote ids never enter it: they are their wallets' secrets. Amounts leave as text, exact beyond what a browser can count.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from operator import attrgetter

import msgspec

from specie.kernel.errors import InvariantError
from specie.kernel.money import format_amount
from specie.ledger import Books
from specie.mint import MeltRecord, MintRecord
from specie.ops.health import HealthState
from specie.server.ports import ServerContext

__all__ = ["Board", "KeysetLine", "QuoteLine", "RailLine", "Status", "UnitLine", "age"]

_QUOTES = 8
_KEEP_S = 1.0


class UnitLine(msgspec.Struct, frozen=True):
    """The balance of one unit."""

    unit: str
    assets: str
    """What the rails owe the bank."""
    circulation: str
    """Ecash held by wallets."""
    deposits: str
    """Paid in, ecash not yet taken."""
    income: str
    covered: int
    """Assets in percent of liabilities, rounded down; 100 where nothing is owed."""
    shares: tuple[int, int, int]
    """Of what is held, in thousandths: circulation, deposits, income."""


class KeysetLine(msgspec.Struct, frozen=True):
    """One keyset and what is out under it."""

    id: str
    unit: str
    active: bool
    fee: str
    issued: str
    redeemed: str
    outstanding: str


class RailLine(msgspec.Struct, frozen=True):
    """One payment rail."""

    name: str
    method: str
    play: bool
    ok: bool
    balance: str


class QuoteLine(msgspec.Struct, frozen=True):
    """One recent quote, without its id."""

    direction: str
    """`in` for a mint quote, `out` for a melt quote."""
    method: str
    amount: str
    state: str
    age: str


class Status(msgspec.Struct, frozen=True):
    """Everything the start page shows that changes."""

    state: str
    """ok, degraded or down."""
    balanced: bool
    uptime: str
    units: tuple[UnitLine, ...]
    keysets: tuple[KeysetLine, ...]
    rails: tuple[RailLine, ...]
    quotes: tuple[QuoteLine, ...]


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    status: Status


def age(seconds: int) -> str:
    """A span for people: `12 s`, `3 min`, `5 h`, `2 d`."""
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name}"
    return f"{max(0, seconds)} s"


class Board:
    """Reads the bank for its pages; many readers at once cost one reading."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._lock = asyncio.Lock()
        self._reading: _Reading | None = None

    async def status(self) -> Status:
        """The status of now, or of less than a second ago. Errors of the mint's store pass through."""
        async with self._lock:
            now = self._context.clock.monotonic()
            if self._reading is None or now - self._reading.at >= _KEEP_S:
                self._reading = _Reading(now, await self._read())
            return self._reading.status

    async def _read(self) -> Status:
        context = self._context
        books = await context.mint.books()
        try:
            books.check()
            balanced = True
        except InvariantError as error:
            balanced = False
            context.metrics.count("unbalanced")
            context.metrics.event("books_do_not_balance", detail=error.detail)
        report = await context.health.report()
        self._publish(books)
        return Status(
            state=report.state.value if balanced else HealthState.DOWN.value,
            balanced=balanced,
            uptime=age(report.uptime_s),
            units=tuple(_unit_line(books, unit) for unit in books.units() or ["sat"]),
            keysets=self._keysets(books),
            rails=await self._rails(),
            quotes=await self._quotes(report.time),
        )

    def _keysets(self, books: Books) -> tuple[KeysetLine, ...]:
        keysets = sorted(self._context.mint.keysets(), key=attrgetter("active"), reverse=True)
        return tuple(
            KeysetLine(
                id=keyset.id,
                unit=keyset.unit,
                active=keyset.active,
                fee=f"{keyset.input_fee_ppk / 1000:g} {keyset.unit}" if keyset.input_fee_ppk else "none",
                issued=format_amount(books.issued(keyset.id, keyset.unit), keyset.unit),
                redeemed=format_amount(books.redeemed(keyset.id, keyset.unit), keyset.unit),
                outstanding=format_amount(books.outstanding(keyset.id, keyset.unit), keyset.unit),
            )
            for keyset in keysets
        )

    async def _rails(self) -> tuple[RailLine, ...]:
        health = await self._context.mint.rail_health()
        lines = []
        for rail in self._context.facts.rails:
            one = health.get(rail.name)
            balance = one.balance_msat if one is not None else None
            text = "" if balance is None else format_amount(balance // 1000, "sat")
            lines.append(RailLine(rail.name, rail.method, rail.play, one is not None and one.ok, text))
        return tuple(lines)

    async def _quotes(self, now: int) -> tuple[QuoteLine, ...]:
        minted = await self._context.mint.recent_mint_quotes(_QUOTES)
        melted = await self._context.mint.recent_melt_quotes(_QUOTES)
        records: list[MintRecord | MeltRecord] = [*minted, *melted]
        records.sort(key=attrgetter("created_at"), reverse=True)
        return tuple(
            QuoteLine(
                direction="in" if isinstance(record, MintRecord) else "out",
                method=record.method,
                amount=format_amount(_shown(record), record.unit),
                state=record.public().state.value,
                age=age(now - record.created_at),
            )
            for record in records[:_QUOTES]
        )

    def _publish(self, books: Books) -> None:
        metrics = self._context.metrics
        balances = books.balances.items()
        metrics.replace_gauges(
            "ledger_balance", [({"account": account, "unit": unit}, amount) for (account, unit), amount in balances]
        )
        metrics.replace_gauges(
            "ecash_outstanding",
            [
                ({"keyset": keyset.id, "unit": keyset.unit}, books.outstanding(keyset.id, keyset.unit))
                for keyset in self._context.mint.keysets()
            ],
        )


def _shown(record: MintRecord | MeltRecord) -> int:
    """What was asked for; where the payer chooses, what has arrived."""
    if isinstance(record, MintRecord) and record.amount is None:
        return record.amount_paid
    return record.amount or 0


def _unit_line(books: Books, unit: str) -> UnitLine:
    circulation = sum(books.outstanding(keyset_id, unit) for keyset_id in books.keysets(unit))
    liabilities = books.total("liability", unit)
    assets = books.total("asset", unit)
    income = books.total("income", unit) - books.total("expense", unit)
    deposits = liabilities - circulation
    whole = max(assets, liabilities, 1)
    return UnitLine(
        unit=unit,
        assets=format_amount(assets, unit),
        circulation=format_amount(circulation, unit),
        deposits=format_amount(deposits, unit),
        income=format_amount(income, unit),
        covered=100 if liabilities <= 0 else assets * 100 // liabilities,
        shares=(_share(circulation, whole), _share(deposits, whole), _share(income, whole)),
    )


def _share(part: int, whole: int) -> int:
    return max(0, part) * 1000 // whole
