"""What a `kernel.Rail` must do whose requests are paid any number of times: offers, addresses, methods of their own.

The promises of `test_rail` that hold for every rail, as its terms change them: amounts that the payer names, ids that are FRESH
for each quote, payments that take blocks, arrivals that are withdrawn.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from specie.app.system import SystemClock, SystemEntropy
from specie.kernel import IncomingPayment, OutgoingQuote, PaymentOrder, PaymentOutcome, PaymentState, RefusedError
from specie.keys.adapters.software import SoftwareSigner
from specie.lightning.adapters.play import MIGRATIONS, Fault, PlaySettings
from specie.lightning.adapters.play_methods import play_rail
from specie.lightning.adapters.play_onchain import PlayOnchainRail
from specie.lightning.adapters.play_requests import PlayRequestRail
from specie.storage import Storage
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.methods import foreign_address, foreign_offer
from tests.support.play import SEED
from tests.support.rocks import needs_rocksdb, rocks_store

AMOUNT = 2_000_000
"""Millisatoshi: no dust, and whole satoshi."""
UNSURE = {PaymentState.PENDING, PaymentState.UNKNOWN}


class MethodBench:
    """The play rail of a method on a store, and the world around it."""

    def __init__(self, method: str, open_store: Callable[[], Awaitable[Storage]]) -> None:
        self.method = method
        self._open_store = open_store
        self._opened: list[tuple[PlayRequestRail, Storage]] = []
        self.rail: PlayRequestRail

    async def open(self) -> PlayRequestRail:
        """Another process's rail on the same account."""
        storage = await self._open_store()
        await storage.migrate(MIGRATIONS)
        settings = PlaySettings(poll_s=0.05, grace_s=0.05, block_s=None)
        signer = SoftwareSigner(SEED, threads=0, entropy=SystemEntropy())
        rail = play_rail(self.method, storage, signer, SystemClock(), SystemEntropy(), settings, autopay_delay_s=None)
        assert isinstance(rail, PlayRequestRail)
        await rail.start()
        self._opened.append((rail, storage))
        return rail

    async def reopen(self) -> None:
        """Close the rail and open it again, as after a restart."""
        rail, storage = self._opened.pop(0)
        await rail.close()
        await storage.close()
        self.rail = await self.open()

    async def close(self) -> None:
        """Let go of everything."""
        for rail, storage in self._opened:
            await rail.close()
            await storage.close()

    def foreign(self) -> str:
        """A request of somebody outside, without an amount."""
        return {"onchain": foreign_address(), "bolt12": foreign_offer()}.get(self.method, f"play:{self.method}:{'cd' * 20}")

    async def fund(self, request: str, amount_msat: int) -> None:
        """Somebody outside pays a request of the rail, for good."""
        await self.rail.settle(request, amount_msat)
        await self.confirm()

    async def confirm(self) -> None:
        """Let as much time pass as it takes to be sure."""
        if isinstance(self.rail, PlayOnchainRail):
            await self.rail.mine(6)

    async def done(self, order: PaymentOrder) -> PaymentOutcome:
        """Pay, and what became of it when there was time enough."""
        outcome = await self.rail.pay(order)
        if outcome.state is PaymentState.PENDING:
            assert self.rail.terms.asynchronous
            await self.confirm()
            outcome = await self.rail.outgoing(order.payment_id, order.attempt)
        return outcome


@pytest.fixture(params=["bolt12", "onchain", "barter"])
def method(request: pytest.FixtureRequest) -> str:
    """Each kind of method."""
    found: str = request.param
    return found


@pytest.fixture(
    params=["SQLite", pytest.param("RocksDB", marks=needs_rocksdb), pytest.param("PostgreSQL", marks=pytest.mark.postgres)]
)
async def bench(request: pytest.FixtureRequest, method: str, tmp_path: Path) -> AsyncIterator[MethodBench]:
    if request.param == "SQLite":

        async def open_store() -> Storage:
            return SqliteStorage(tmp_path / "rail.db")
    elif request.param == "RocksDB":

        async def open_store() -> Storage:
            return rocks_store(tmp_path / "rail.rocksdb")
    else:
        dsn: str = request.getfixturevalue("postgres_dsn")

        async def open_store() -> Storage:
            return await PostgresStorage.connect(dsn, writers=2, readers=2)

    made = MethodBench(method, open_store)
    made.rail = await made.open()
    yield made
    await made.close()


def order_for(quote: OutgoingQuote, request: str, attempt: str = "first", *, deadline_s: float = 20.0) -> PaymentOrder:
    """The order that a mint would give, by the quickest option."""
    return PaymentOrder(
        quote.payment_id,
        attempt,
        request,
        quote.amount_msat,
        quote.fee_options[0].fee_reserve_msat if quote.fee_options else quote.fee_reserve_msat,
        deadline_s,
        quote.fee_options[0].fee_index if quote.fee_options else None,
    )


async def heard(stream: AsyncIterator[IncomingPayment], count: int) -> list[IncomingPayment]:
    """The next news of a stream."""
    return [await asyncio.wait_for(anext(stream), 20) for _ in range(count)]


async def test_a_request_is_paid_any_number_of_times(bench: MethodBench) -> None:
    """Each payment is an arrival of its own, told once, and alike after a restart and to every process."""
    asked = await bench.rail.request(None, description="", expiry_s=600)
    assert asked.amount_msat is None
    assert await bench.rail.incoming(asked.payment_id) == []
    for amount in (AMOUNT, AMOUNT, AMOUNT + 1000):
        await bench.fund(asked.request, amount)
    news = await heard(bench.rail.arrivals(None), 3)
    assert [one.amount_msat for one in news] == [AMOUNT, AMOUNT, AMOUNT + 1000]
    assert len({one.receipt_id for one in news}) == 3
    assert {one.payment_id for one in news} == {asked.payment_id}
    other = await bench.open()
    await bench.reopen()
    for rail in (bench.rail, other):
        assert await heard(rail.arrivals(None), 3) == news
        assert await heard(rail.arrivals(news[0].cursor), 2) == news[1:]
        assert await rail.incoming(asked.payment_id) == news
    assert (await bench.rail.health()).balance_msat == 3 * AMOUNT + 1000


async def test_a_quote_is_fresh_and_within_its_terms(bench: MethodBench) -> None:
    """Equal requests have unequal ids; where there is a choice of fees, each is there once and the reserve is the largest."""
    request = bench.foreign()
    quotes = [await bench.rail.quote(request, amount_msat=AMOUNT) for _ in range(2)]
    assert quotes[0].payment_id != quotes[1].payment_id
    for quote in quotes:
        assert (quote.amount_msat, quote.own) == (AMOUNT, False)
        options = quote.fee_options
        assert bool(options) is bench.rail.terms.asynchronous
        if options:
            assert len({one.fee_index for one in options}) == len(options)
            assert quote.fee_reserve_msat == max(one.fee_reserve_msat for one in options)
    for text, amount in (("nonsense", AMOUNT), (request, None), (request, 0)):
        with pytest.raises(RefusedError):
            await bench.rail.quote(text, amount_msat=amount)
    with pytest.raises(RefusedError):
        await bench.rail.quote(request, amount_msat=AMOUNT, partial=True)
    own = await bench.rail.request(None, description="", expiry_s=600)
    assert (await bench.rail.quote(own.request, amount_msat=AMOUNT)).own is True


async def test_a_payment_is_made_once(bench: MethodBench) -> None:
    """However often, at once, at two processes, under whatever attempt, after a restart: one payment, answered alike."""
    request = bench.foreign()
    quote = await bench.rail.quote(request, amount_msat=AMOUNT)
    order = order_for(quote, request)
    other = await bench.open()
    await asyncio.gather(*(rail.pay(order) for rail in (bench.rail, other) for _ in range(3)))
    paid = await bench.done(order)
    assert paid.state is PaymentState.PAID
    assert bool(paid.outpoint) is bench.rail.terms.asynchronous
    assert 0 <= paid.fee_msat <= order.max_fee_msat
    assert await bench.rail.pay(order_for(quote, request, "second")) == paid
    assert (await bench.rail.outgoing(quote.payment_id, "second")).state is PaymentState.ABSENT
    await bench.reopen()
    assert await bench.rail.pay(order) == paid
    assert await bench.rail.outgoing(order.payment_id, order.attempt) == paid
    assert (await bench.rail.health()).balance_msat == -(AMOUNT + paid.fee_msat)


async def test_an_own_request_pays_its_own_user(bench: MethodBench) -> None:
    """It arrives once for each payment, and the rail holds as much as before, but for fees that miners took."""
    asked = await bench.rail.request(None, description="", expiry_s=600)
    fees = 0
    for number in range(2):
        quote = await bench.rail.quote(asked.request, amount_msat=AMOUNT)
        outcome = await bench.done(order_for(quote, asked.request, f"attempt {number}"))
        assert outcome.state is PaymentState.PAID
        fees += outcome.fee_msat
    assert [one.amount_msat for one in await bench.rail.incoming(asked.payment_id)] == [AMOUNT] * 2
    assert (await bench.rail.health()).balance_msat == -fees
    assert bool(fees) is bench.rail.terms.asynchronous


async def test_failure_is_final_for_its_attempt_alone(bench: MethodBench) -> None:
    """A failed attempt stays FAILED; a new attempt may succeed, and does not change the first."""
    request = bench.foreign()
    quote = await bench.rail.quote(request, amount_msat=AMOUNT)
    bench.rail.faults.for_next(Fault.fail())
    first, second = order_for(quote, request), order_for(quote, request, "second")
    for _ in range(2):
        assert (await bench.rail.pay(first)).state is PaymentState.FAILED
    assert (await bench.rail.outgoing(second.payment_id, second.attempt)).state is PaymentState.ABSENT
    assert (await bench.done(second)).state is PaymentState.PAID
    await bench.reopen()
    assert (await bench.rail.outgoing(first.payment_id, first.attempt)).state is PaymentState.FAILED
    assert (await bench.rail.outgoing(second.payment_id, second.attempt)).state is PaymentState.PAID


async def test_a_payment_on_its_way_outlives_deadline_and_restart(bench: MethodBench) -> None:
    """PENDING after the deadline, after a restart, for a second attempt too; and PAID when it is let go."""
    request = bench.foreign()
    quote = await bench.rail.quote(request, amount_msat=AMOUNT)
    bench.rail.faults.for_next(Fault.hang())
    order = order_for(quote, request, deadline_s=0.05)
    assert (await bench.rail.pay(order)).state in UNSURE
    assert (await bench.rail.pay(order_for(quote, request, "second", deadline_s=0.05))).state in UNSURE
    await bench.reopen()
    assert (await bench.rail.outgoing(order.payment_id, order.attempt)).state in UNSURE
    await bench.rail.resolve(order.payment_id, PaymentState.PAID)
    assert (await bench.done(order)).state is PaymentState.PAID


async def test_an_order_that_does_not_fit_fails(bench: MethodBench) -> None:
    """No room for the fee, a part, nonsense, an option that is not there: FAILED, and nothing is paid."""
    request = bench.foreign()
    good = order_for(await bench.rail.quote(request, amount_msat=AMOUNT), request)
    wrong = [
        PaymentOrder("1", "a", request, AMOUNT, 0, fee_index=good.fee_index),
        PaymentOrder("2", "a", request, AMOUNT, good.max_fee_msat, fee_index=good.fee_index, partial=True),
        PaymentOrder("3", "a", "nonsense", AMOUNT, good.max_fee_msat, fee_index=good.fee_index),
        PaymentOrder("4", "a", request, 0, good.max_fee_msat, fee_index=good.fee_index),
        PaymentOrder("5", "", request, AMOUNT, good.max_fee_msat, fee_index=good.fee_index),
    ]
    if good.fee_index is not None:
        wrong.append(PaymentOrder("6", "a", request, AMOUNT, good.max_fee_msat, fee_index=99))
        wrong.append(PaymentOrder("7", "a", request, 545_000, good.max_fee_msat, fee_index=good.fee_index))
    for order in wrong:
        assert (await bench.rail.pay(order)).state is PaymentState.FAILED, order
    assert (await bench.rail.health()).balance_msat == 0


@pytest.mark.parametrize("method", ["onchain"])
async def test_what_was_told_is_withdrawn_and_told_anew(bench: MethodBench, method: str) -> None:
    """A reorganisation withdraws an arrival under its own id; confirmed again it is another receipt, seen when it was."""
    rail = bench.rail
    assert isinstance(rail, PlayOnchainRail)
    asked = await rail.request(None, description="", expiry_s=600)
    await bench.fund(asked.request, AMOUNT)
    await rail.reorganise(6)
    assert await rail.incoming(asked.payment_id) == []
    assert (await rail.health()).balance_msat == 0
    await rail.mine(6)
    await rail.mine(6)
    told, gone, again = await heard(rail.arrivals(None), 3)
    assert (told.withdrawn, gone.withdrawn, again.withdrawn) == (False, True, False)
    assert told.receipt_id == gone.receipt_id != again.receipt_id
    assert {one.reference for one in (told, gone, again)} == {told.reference}
    assert {one.first_seen for one in (told, gone, again)} == {told.first_seen}
    assert await rail.incoming(asked.payment_id) == [again]


@pytest.mark.parametrize("method", ["onchain"])
async def test_two_processes_move_one_chain(bench: MethodBench, method: str) -> None:
    """Blocks and deposits of both at once: every block has its place, every deposit is told once."""
    one, two = bench.rail, await bench.open()
    assert isinstance(one, PlayOnchainRail)
    assert isinstance(two, PlayOnchainRail)
    asked = await one.request(None, description="", expiry_s=600)
    work = [rail.settle(asked.request, AMOUNT) for rail in (one, two) for _ in range(3)]
    await asyncio.gather(*work, *(rail.mine(2) for rail in (one, two)))
    assert await one.mine(6) == 10
    assert len(await two.incoming(asked.payment_id)) == 6
    assert (await two.health()).balance_msat == 6 * AMOUNT
