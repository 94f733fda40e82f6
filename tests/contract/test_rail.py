"""What any `kernel.Rail` must do; one suite for every rail, the play rail first. A new rail is one more `RailBench`."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

import pytest

from specie.app.system import SystemClock, SystemEntropy
from specie.kernel import IncomingPayment, OutgoingQuote, PaymentOrder, PaymentState, Rail, RefusedError, UnavailableError
from specie.keys.adapters.software import SoftwareSigner
from specie.lightning import decode_invoice
from specie.lightning.adapters.play import MIGRATIONS, Fault, PlayRail, PlaySettings
from specie.storage import Storage
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.play import SEED, foreign_invoice
from tests.support.rocks import needs_rocksdb, rocks_store


class RailBench(Protocol):
    """A rail and the world around it."""

    rail: Rail

    async def fund(self, request: str) -> None:
        """Somebody outside pays a request of the rail."""

    async def foreign(self, amount_msat: int | None, *, expiry_s: int = 3600) -> str:
        """FRESH request of somebody outside whom the rail can reach."""

    async def fail_next(self) -> None:
        """The next payment ordered fails for good."""

    async def stall_next(self) -> None:
        """The next payment ordered stays on its way until `release`."""

    async def release(self, payment_id: str) -> None:
        """Let a stalled payment arrive."""

    async def reopen(self) -> None:
        """Close the rail and open it again, as after a restart."""

    async def neighbour(self) -> Rail:
        """Another process's rail on the same account."""

    async def close(self) -> None:
        """Let go of everything."""


class PlayBench:
    """The play rail on a store."""

    def __init__(self, open_store: Callable[[], Awaitable[Storage]]) -> None:
        self._open_store = open_store
        self._opened: list[tuple[PlayRail, Storage]] = []
        self._count = 0
        self.rail: PlayRail

    async def _open(self) -> PlayRail:
        storage = await self._open_store()
        await storage.migrate(MIGRATIONS)
        signer = SoftwareSigner(SEED, threads=0, entropy=SystemEntropy())
        settings = PlaySettings(poll_s=0.05, grace_s=0.05)
        rail = PlayRail(storage, signer, SystemClock(), SystemEntropy(), settings, autopay_delay_s=None)
        await rail.start()
        self._opened.append((rail, storage))
        return rail

    async def start(self) -> None:
        self.rail = await self._open()

    async def fund(self, request: str) -> None:
        await self.rail.settle(decode_invoice(request).payment_id)

    async def foreign(self, amount_msat: int | None, *, expiry_s: int = 3600) -> str:
        self._count += 1
        return await foreign_invoice(
            amount_msat, name=f"contract {self._count}", timestamp=SystemClock().now(), expiry_s=expiry_s
        )

    async def fail_next(self) -> None:
        self.rail.faults.for_next(Fault.fail())

    async def stall_next(self) -> None:
        self.rail.faults.for_next(Fault.hang())

    async def release(self, payment_id: str) -> None:
        await self.rail.resolve(payment_id, PaymentState.PAID)

    async def reopen(self) -> None:
        rail, storage = self._opened.pop(0)
        await rail.close()
        await storage.close()
        self.rail = await self._open()

    async def neighbour(self) -> Rail:
        return await self._open()

    async def close(self) -> None:
        for rail, storage in self._opened:
            await rail.close()
            await storage.close()


@pytest.fixture(
    params=[
        "play on SQLite",
        pytest.param("play on RocksDB", marks=needs_rocksdb),
        pytest.param("play on PostgreSQL", marks=pytest.mark.postgres),
    ]
)
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RailBench]:
    if request.param == "play on SQLite":

        async def open_store() -> Storage:
            return SqliteStorage(tmp_path / "rail.db")
    elif request.param == "play on RocksDB":

        async def open_store() -> Storage:
            return rocks_store(tmp_path / "rail.rocksdb")
    else:
        dsn: str = request.getfixturevalue("postgres_dsn")

        async def open_store() -> Storage:
            return await PostgresStorage.connect(dsn, writers=2, readers=2)

    made = PlayBench(open_store)
    await made.start()
    yield made
    await made.close()


def order_for(quote: OutgoingQuote, request: str, attempt: str = "first", *, deadline_s: float = 20.0) -> PaymentOrder:
    return PaymentOrder(quote.payment_id, attempt, request, quote.amount_msat, quote.fee_reserve_msat, deadline_s)


async def next_arrival(stream: AsyncIterator[IncomingPayment]) -> IncomingPayment:
    return await asyncio.wait_for(anext(stream), 20)


async def test_requests_are_fresh_and_say_what_was_asked(bench: RailBench) -> None:
    """Each request has its own id and carries amount, description and expiry."""
    assert bench.rail.name
    assert bench.rail.method == "bolt11"
    made = [await bench.rail.request(21_000, description="for tea", expiry_s=600) for _ in range(3)]
    assert len({request.payment_id for request in made}) == 3
    for request in made:
        invoice = decode_invoice(request.request)
        assert (invoice.payment_id, invoice.amount_msat, invoice.description) == (request.payment_id, 21_000, "for tea")
        assert request.amount_msat == 21_000
        assert request.expiry == invoice.expiry
        assert invoice.expiry_s == 600
        assert await bench.rail.incoming(request.payment_id) == []
    for amount in (0, -1):
        with pytest.raises(RefusedError):
            await bench.rail.request(amount, description="", expiry_s=600)


async def test_arrivals_are_seen_replayed_and_never_renamed(bench: RailBench) -> None:
    """The stream tells of a payment as it arrives, again from any cursor, after a restart, with equal ids."""
    first, second = [await bench.rail.request(amount, description="", expiry_s=600) for amount in (1000, 2000)]
    live = bench.rail.arrivals(None)
    waiting = asyncio.ensure_future(next_arrival(live))
    await asyncio.sleep(0)
    await bench.fund(first.request)
    one = await waiting
    assert (one.payment_id, one.amount_msat) == (first.payment_id, 1000)
    assert await bench.rail.incoming(first.payment_id) == [one]
    await bench.fund(second.request)
    two = await next_arrival(live)
    await bench.reopen()
    replay = bench.rail.arrivals(None)
    assert [await next_arrival(replay), await next_arrival(replay)] == [one, two]
    assert await next_arrival(bench.rail.arrivals(one.cursor)) == two
    assert one.receipt_id != two.receipt_id
    assert await bench.rail.incoming(second.payment_id) == [two]


async def test_arrivals_cross_to_other_processes(bench: RailBench) -> None:
    """A rail hears of what arrived at another."""
    other = await bench.neighbour()
    request = await bench.rail.request(1000, description="", expiry_s=600)
    waiting = asyncio.ensure_future(next_arrival(other.arrivals(None)))
    await bench.fund(request.request)
    assert (await waiting).payment_id == request.payment_id
    assert len(await other.incoming(request.payment_id)) == 1


async def test_quotes_price_what_can_be_paid(bench: RailBench) -> None:
    """Equal invoices have equal payment ids; amounts must fit; what can never be paid is refused."""
    request = await bench.foreign(50_000)
    quote = await bench.rail.quote(request)
    assert quote == await bench.rail.quote(request.upper())
    assert (quote.payment_id, quote.amount_msat, quote.own) == (decode_invoice(request).payment_id, 50_000, False)
    assert quote.fee_reserve_msat >= 0
    assert quote.expiry == decode_invoice(request).expiry
    assert (await bench.rail.quote(await bench.foreign(None), amount_msat=7_000)).amount_msat == 7_000
    refused = [
        ("nonsense", None),
        (await bench.foreign(None), None),
        (request, 50_001),
        (await bench.foreign(1000, expiry_s=0), None),
    ]
    for text, amount in refused:
        with pytest.raises(RefusedError):
            await bench.rail.quote(text, amount_msat=amount)
    own = await bench.rail.request(1000, description="", expiry_s=600)
    assert (await bench.rail.quote(own.request)).own is True


async def test_a_payment_is_made_once(bench: RailBench) -> None:
    """However often, at once or after a restart, under whatever attempt: paid once, and answered alike."""
    before = (await bench.rail.health()).balance_msat
    request = await bench.foreign(50_000)
    quote = await bench.rail.quote(request)
    order = order_for(quote, request)
    outcomes = await asyncio.gather(*(bench.rail.pay(order) for _ in range(5)))
    assert {outcome.state for outcome in outcomes} == {PaymentState.PAID}
    assert len(set(outcomes)) == 1
    paid = outcomes[0]
    assert paid.preimage is not None
    assert len(bytes.fromhex(paid.preimage)) == 32
    assert 0 <= paid.fee_msat <= quote.fee_reserve_msat
    assert (await bench.rail.pay(order_for(quote, request, "second"))).preimage == paid.preimage
    await bench.reopen()
    assert await bench.rail.pay(order) == paid
    assert await bench.rail.outgoing(order.payment_id, order.attempt) == paid
    after = (await bench.rail.health()).balance_msat
    if before is not None and after is not None:
        assert before - after == 50_000 + paid.fee_msat


async def test_attempts_from_two_processes_pay_once(bench: RailBench) -> None:
    """Two processes that order the same payment at once make one of it."""
    other = await bench.neighbour()
    request = await bench.foreign(50_000)
    quote = await bench.rail.quote(request)
    before = (await bench.rail.health()).balance_msat
    orders = [order_for(quote, request, f"attempt {n}") for n in range(6)]
    rails = [bench.rail, other] * 3
    outcomes = await asyncio.gather(
        *(rail.pay(order) for rail, order in zip(rails, orders, strict=True)), return_exceptions=True
    )
    done = [outcome for outcome in outcomes if not isinstance(outcome, UnavailableError)]
    assert done
    assert len({(outcome.state, outcome.preimage) for outcome in done if not isinstance(outcome, BaseException)}) == 1
    states = [(await bench.rail.outgoing(order.payment_id, order.attempt)).state for order in orders]
    assert sorted(states) == [PaymentState.ABSENT] * 5 + [PaymentState.PAID]
    after = (await other.health()).balance_msat
    if before is not None and after is not None:
        assert 50_000 <= before - after <= 50_000 + quote.fee_reserve_msat


async def test_an_own_request_pays_its_own_user(bench: RailBench) -> None:
    """Paying a request of the same rail lets it arrive once, with a preimage that fits."""
    request = await bench.rail.request(50_000, description="", expiry_s=600)
    quote = await bench.rail.quote(request.request)
    outcomes = await asyncio.gather(*(bench.rail.pay(order_for(quote, request.request)) for _ in range(3)))
    assert {outcome.state for outcome in outcomes} == {PaymentState.PAID}
    assert outcomes[0].preimage is not None
    assert hashlib.sha256(bytes.fromhex(outcomes[0].preimage)).hexdigest() == request.payment_id
    arrived = await next_arrival(bench.rail.arrivals(None))
    assert await bench.rail.incoming(request.payment_id) == [arrived]
    assert arrived.amount_msat == 50_000
    with pytest.raises(RefusedError):
        await bench.rail.quote(request.request)


async def test_failure_is_final_for_its_attempt_alone(bench: RailBench) -> None:
    """A failed attempt stays FAILED; a new attempt may succeed, and does not change the first."""
    request = await bench.foreign(50_000)
    quote = await bench.rail.quote(request)
    await bench.fail_next()
    first = order_for(quote, request)
    assert (await bench.rail.pay(first)).state is PaymentState.FAILED
    assert (await bench.rail.pay(first)).state is PaymentState.FAILED
    assert (await bench.rail.outgoing(first.payment_id, first.attempt)).state is PaymentState.FAILED
    second = order_for(quote, request, "second")
    assert (await bench.rail.outgoing(second.payment_id, second.attempt)).state is PaymentState.ABSENT
    assert (await bench.rail.pay(second)).state is PaymentState.PAID
    await bench.reopen()
    assert (await bench.rail.outgoing(first.payment_id, first.attempt)).state is PaymentState.FAILED
    assert (await bench.rail.outgoing(second.payment_id, second.attempt)).state is PaymentState.PAID


async def test_a_payment_on_its_way_outlives_deadline_and_restart(bench: RailBench) -> None:
    """PENDING after the deadline, after a restart, for a second attempt too; and then PAID."""
    request = await bench.foreign(50_000)
    quote = await bench.rail.quote(request)
    await bench.stall_next()
    order = order_for(quote, request, deadline_s=0.05)
    unsure = {PaymentState.PENDING, PaymentState.UNKNOWN}
    assert (await bench.rail.pay(order)).state in unsure
    assert (await bench.rail.pay(order_for(quote, request, "second", deadline_s=0.05))).state in unsure
    await bench.reopen()
    assert (await bench.rail.outgoing(order.payment_id, order.attempt)).state in unsure
    waiting = asyncio.ensure_future(bench.rail.pay(order_for(quote, request)))
    await asyncio.sleep(0)
    await bench.release(order.payment_id)
    assert (await waiting).state is PaymentState.PAID
    assert (await bench.rail.outgoing(order.payment_id, order.attempt)).state is PaymentState.PAID


async def test_the_fee_never_exceeds_the_limit(bench: RailBench) -> None:
    """An order with no room for a fee is paid without one, or FAILED."""
    request = await bench.foreign(50_000)
    quote = await bench.rail.quote(request)
    outcome = await bench.rail.pay(PaymentOrder(quote.payment_id, "tight", request, 50_000, 0))
    assert outcome.state in (PaymentState.PAID, PaymentState.FAILED)
    assert outcome.fee_msat == 0


async def test_health_and_close(bench: RailBench) -> None:
    """A running rail is well; a closed one is closed once, and not reachable."""
    health = await bench.rail.health()
    assert health.ok
    await bench.rail.close()
    await bench.rail.close()
    with pytest.raises(UnavailableError):
        await bench.rail.request(1000, description="", expiry_s=600)
