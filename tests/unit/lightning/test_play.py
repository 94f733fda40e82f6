"""Play rail: invoices, autopay, payments between its own users and to foreign ones, and several rails on one store."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from specie.kernel import IncomingPayment, PaymentOrder, PaymentState, RefusedError, UnavailableError, UncertainError
from specie.kernel.errors import InvariantError, MalformedError
from specie.lightning import InvoiceExpiredError, InvoiceNetworkError, InvoicePaidError, Network, decode_invoice
from specie.lightning.adapters import play_store
from specie.lightning.adapters.play import Fault, PlayRail, PlaySettings
from specie.storage import Transaction
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.play import PlayWorld, foreign_invoice, virtual
from tests.support.virtual import START


async def take(stream: AsyncIterator[IncomingPayment], count: int) -> list[IncomingPayment]:
    """The next arrivals of a stream."""
    return [await anext(stream) for _ in range(count)]


@virtual
async def test_requests_are_real_invoices_of_one_node() -> None:
    """A request decodes as a regtest invoice with what was asked for, each with its own hash, all by one payee."""
    world = await PlayWorld.make()
    rail = world.rail()
    first, second = [await rail.request(21_000, description="tea & ☕", expiry_s=600) for _ in range(2)]
    invoice = decode_invoice(first.request)
    assert first.request.startswith("lnbcrt210n1")
    assert (invoice.network, invoice.amount_msat, invoice.description) == (Network.REGTEST, 21_000, "tea & ☕")
    assert (invoice.payment_id, invoice.expiry, first.expiry) == (first.payment_id, START + 600, START + 600)
    assert invoice.features == {8, 14}
    assert first.payment_id != second.payment_id
    assert decode_invoice(second.request).payee == invoice.payee
    assert (rail.name, rail.method, rail.play) == ("play", "bolt11", True)
    await world.close()


@virtual
async def test_requests_that_cannot_be_made_are_refused() -> None:
    """No amount, too much, no time, too much time, a description beyond BOLT 11."""
    world = await PlayWorld.make()
    rail = world.rail(PlaySettings(max_amount_msat=1000))
    assert (await rail.request(1, description="", expiry_s=1)).amount_msat == 1
    for amount, text, expiry in [(0, "", 60), (-1, "", 60), (1001, "", 60), (1, "", 0), (1, "", 10**10), (1, "é" * 320, 60)]:
        with pytest.raises(RefusedError):
            await rail.request(amount, description=text, expiry_s=expiry)
    await world.close()


@virtual
async def test_invoices_are_paid_by_themselves_after_the_delay() -> None:
    """Autopay pays an invoice once, not before its delay, in order, and tells the stream."""
    world = await PlayWorld.make()
    rail = world.rail(autopay_delay_s=3.0)
    await rail.start()
    stream = rail.arrivals(None)
    first = await rail.request(1000, description="", expiry_s=60)
    await world.clock.sleep(2)
    second = await rail.request(2000, description="", expiry_s=60)
    await world.clock.sleep(0.9)
    assert await rail.incoming(first.payment_id) == []
    arrived = await take(stream, 1)
    assert 3.0 <= world.clock.monotonic() < 3.2
    assert [(payment.payment_id, payment.amount_msat) for payment in arrived] == [(first.payment_id, 1000)]
    assert await rail.incoming(first.payment_id) == arrived
    assert (await take(stream, 1))[0].payment_id == second.payment_id
    assert 5.0 <= world.clock.monotonic() < 5.2
    assert await world.books() == (3000, 0)
    await world.close()


@virtual
async def test_without_autopay_nothing_pays() -> None:
    """autopay_delay_s=None leaves invoices to operators; a later start with autopay finds them, but not the expired."""
    world = await PlayWorld.make()
    rail = world.rail()
    await rail.start()
    old = await rail.request(1000, description="", expiry_s=60)
    await world.clock.sleep(100)
    young = await rail.request(2000, description="", expiry_s=600)
    await world.clock.sleep(100)
    assert await world.books() == (0, 0)
    await rail.close()
    again = world.rail(autopay_delay_s=3.0)
    await again.start()
    await world.clock.sleep(1)
    assert await again.incoming(old.payment_id) == []
    assert [payment.amount_msat for payment in await again.incoming(young.payment_id)] == [2000]
    await world.close()


@virtual
async def test_a_quoted_invoice_is_left_to_its_payer() -> None:
    """Somebody who asks the price of an own invoice will pay it: autopay keeps away, even after a restart."""
    world = await PlayWorld.make()
    rail = world.rail(autopay_delay_s=3.0)
    await rail.start()
    wanted = await rail.request(50_000, description="", expiry_s=600)
    quote = await rail.quote(wanted.request.upper())
    assert (quote.own, quote.fee_reserve_msat, quote.amount_msat, quote.payment_id) == (True, 0, 50_000, wanted.payment_id)
    await world.clock.sleep(60)
    await rail.close()
    rail = world.rail(autopay_delay_s=3.0)
    await rail.start()
    await world.clock.sleep(60)
    assert await rail.incoming(wanted.payment_id) == []
    outcome = await rail.pay(await world.order(rail, wanted.request))
    assert outcome.state is PaymentState.PAID
    await world.close()


@virtual
async def test_own_invoice_moves_money_between_two_users() -> None:
    """Paying an own invoice settles it at once and free of charge, with the real preimage; the books stay level."""
    world = await PlayWorld.make()
    rail = world.rail()
    wanted = await rail.request(50_000, description="", expiry_s=600)
    order = await world.order(rail, wanted.request)
    outcome = await rail.pay(order)
    assert (outcome.state, outcome.fee_msat) == (PaymentState.PAID, 0)
    assert outcome.preimage is not None
    assert hashlib.sha256(bytes.fromhex(outcome.preimage)).hexdigest() == wanted.payment_id
    assert await rail.pay(order) == outcome
    assert await rail.outgoing(order.payment_id, order.attempt) == outcome
    assert [payment.amount_msat for payment in await rail.incoming(wanted.payment_id)] == [50_000]
    assert await world.books() == (50_000, 50_000)
    assert (await rail.health()).balance_msat == 0
    with pytest.raises(InvoicePaidError) as caught:
        await rail.quote(wanted.request)
    assert caught.value.code == 20006
    await world.close()


@virtual
async def test_foreign_invoice_is_paid_in_play_money() -> None:
    """A foreign payment has a reserve of one percent, costs less, and says that its preimage is made up."""
    world = await PlayWorld.make()
    rail = world.rail()
    request = await foreign_invoice(1_000_000)
    quote = await rail.quote(request)
    assert (quote.own, quote.fee_reserve_msat, quote.expiry) == (False, 10_000, START + 3600)
    order = await world.order(rail, request)
    outcome = await rail.pay(order)
    assert (outcome.state, outcome.fee_msat) == (PaymentState.PAID, 5_000)
    assert outcome.preimage is not None
    assert len(bytes.fromhex(outcome.preimage)) == 32
    assert "play money" in outcome.reason
    assert (await rail.health()).balance_msat == -1_005_000
    with pytest.raises(InvoicePaidError):
        await rail.quote(request)
    await world.close()


@pytest.mark.parametrize(
    ("amount_msat", "reserve"),
    [(1, 1000), (99_999, 1000), (100_000, 1000), (100_001, 2000), (10**9, 10**7), (10**9 + 1, 10**7 + 1000)],
)
@virtual
async def test_reserve_is_a_percent_in_whole_satoshi(amount_msat: int, reserve: int) -> None:
    """At least one satoshi, rounded up; the fee that is charged never exceeds it."""
    world = await PlayWorld.make()
    rail = world.rail()
    request = await foreign_invoice(amount_msat)
    assert (await rail.quote(request)).fee_reserve_msat == reserve
    outcome = await rail.pay(await world.order(rail, request))
    assert outcome.state is PaymentState.PAID
    assert 0 < outcome.fee_msat <= reserve
    await world.close()


@virtual
async def test_amountless_invoice_takes_the_payers_amount() -> None:
    """An invoice without amount needs one; an invoice with amount takes no other (error 11012)."""
    world = await PlayWorld.make()
    rail = world.rail(PlaySettings(max_amount_msat=10**6))
    open_request = await foreign_invoice(None)
    with pytest.raises(RefusedError):
        await rail.quote(open_request)
    for amount in (0, 10**6 + 1):
        with pytest.raises(RefusedError):
            await rail.quote(open_request, amount_msat=amount)
    order = await world.order(rail, open_request, amount_msat=7_000)
    assert (await rail.pay(order)).state is PaymentState.PAID
    fixed = await foreign_invoice(1000, name="fixed")
    assert (await rail.quote(fixed, amount_msat=1000)).amount_msat == 1000
    with pytest.raises(RefusedError) as caught:
        await rail.quote(fixed, amount_msat=1001)
    assert caught.value.code == 11012
    await world.close()


@virtual
async def test_quotes_of_what_can_never_be_paid_are_refused() -> None:
    """Not an invoice, another network, expired (own and foreign)."""
    world = await PlayWorld.make()
    rail = world.rail()
    with pytest.raises(MalformedError):
        await rail.quote("lnbcrt1")
    mainnet = await foreign_invoice(network=Network.BITCOIN)
    with pytest.raises(InvoiceNetworkError):
        await rail.quote(mainnet)
    assert (await world.rail(PlaySettings(networks=frozenset({Network.BITCOIN}))).quote(mainnet)).own is False
    own = await rail.request(1000, description="", expiry_s=60)
    request = await foreign_invoice(expiry_s=60)
    world.clock.skip(60)
    for late in (own.request, request):
        with pytest.raises(InvoiceExpiredError):
            await rail.quote(late)
    await world.close()


@virtual
async def test_a_stranger_cannot_settle_an_own_invoice_cheaply() -> None:
    """An invoice with the payment hash of ours but other terms, by another node, is neither quoted nor paid."""
    world = await PlayWorld.make()
    rail = world.rail()
    wanted = await rail.request(1_000_000, description="", expiry_s=600)
    forged = await foreign_invoice(1_000, payment_hash=bytes.fromhex(wanted.payment_id))
    with pytest.raises(RefusedError):
        await rail.quote(forged)
    order = PaymentOrder(wanted.payment_id, "forged", forged, 1_000, 10_000)
    assert (await rail.pay(order)).state is PaymentState.FAILED
    assert await rail.incoming(wanted.payment_id) == []
    assert await world.books() == (0, 0)
    await world.close()


@virtual
async def test_orders_that_do_not_fit_their_invoice_fail() -> None:
    """Wrong amount, expired, too low a limit, another network, settled before: FAILED for good, and stored."""
    world = await PlayWorld.make()
    rail = world.rail()
    own = await rail.request(1000, description="", expiry_s=60)
    settled = await rail.request(1000, description="", expiry_s=60)
    await rail.settle(settled.payment_id)
    request = await foreign_invoice(expiry_s=60)
    mainnet = await foreign_invoice(name="main", network=Network.BITCOIN)
    cases: list[tuple[str, dict[str, Any]]] = [
        (request, {"amount_msat": 99_999}),
        (request, {"max_fee_msat": 499}),
        (mainnet, {}),
        (settled.request, {"amount_msat": 1000}),
        (own.request, {"amount_msat": 999}),
    ]
    for number, (text, changes) in enumerate(cases):
        order = _order(text, attempt=f"case-{number}", **changes)
        outcome = await rail.pay(order)
        assert outcome.state is PaymentState.FAILED, text
        assert outcome.reason
        assert (await rail.outgoing(order.payment_id, order.attempt)).state is PaymentState.FAILED
    world.clock.skip(60)
    assert (await rail.pay(_order(own.request, attempt="late", amount_msat=1000))).state is PaymentState.FAILED
    assert await world.books() == (1000, 0)
    await world.close()


def _order(text: str, *, attempt: str, amount_msat: int = 100_000, max_fee_msat: int = 5000) -> PaymentOrder:
    return PaymentOrder(decode_invoice(text).payment_id, attempt, text, amount_msat, max_fee_msat)


@virtual
async def test_what_is_no_order_is_not_stored() -> None:
    """Garbage, an order that names another payment, an order without an attempt: FAILED, and never heard of."""
    world = await PlayWorld.make()
    rail = world.rail()
    request = await foreign_invoice()
    payment_id = decode_invoice(request).payment_id
    for order in (
        PaymentOrder(payment_id, "a", "garbage", 1, 1),
        PaymentOrder("00" * 32, "a", request, 100_000, 5000),
        PaymentOrder(payment_id, "", request, 100_000, 5000),
    ):
        assert (await rail.pay(order)).state is PaymentState.FAILED
        assert (await rail.outgoing(order.payment_id, order.attempt)).state is PaymentState.ABSENT
    await world.close()


@virtual
async def test_arrivals_replay_from_any_cursor() -> None:
    """The stream gives everything behind a cursor in order, in pages, and never ends while the rail runs."""
    world = await PlayWorld.make()
    rail = world.rail()
    ids = []
    for amount in range(1, play_store.BATCH + 4):
        made = await rail.request(amount, description="", expiry_s=60)
        ids.append(made.payment_id)
        await rail.settle(made.payment_id)
    everything = await take(rail.arrivals(None), len(ids))
    assert [payment.payment_id for payment in everything] == ids
    assert len({payment.receipt_id for payment in everything}) == len(ids)
    assert await take(rail.arrivals(everything[5].cursor), 3) == everything[6:9]
    stream = rail.arrivals(everything[-1].cursor)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert not waiting.done()
    await rail.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    for cursor in ("", "-1", "x", "9" * 30, "\u0661"):
        with pytest.raises(MalformedError):
            await anext(world.rail().arrivals(cursor))
    await world.close()


@virtual
async def test_several_rails_on_one_store_pay_once() -> None:
    """Rails of several processes race for the same invoices and the same payment: each happens once."""
    world = await PlayWorld.make()
    rails = [world.rail(autopay_delay_s=1.0) for _ in range(3)]
    for rail in rails:
        await rail.start()
    made = [await rails[0].request(1000, description="", expiry_s=60) for _ in range(5)]
    streams = [rail.arrivals(None) for rail in rails]
    seen = await asyncio.gather(*(take(stream, 5) for stream in streams))
    assert seen[0] == seen[1] == seen[2]
    assert {payment.payment_id for payment in seen[0]} == {request.payment_id for request in made}
    request = await foreign_invoice()
    orders = [await world.order(rail, request) for rail in rails]
    outcomes = await asyncio.gather(*(rail.pay(order) for rail, order in zip(rails, orders, strict=True)))
    assert {outcome.state for outcome in outcomes} == {PaymentState.PAID}
    assert len({outcome.preimage for outcome in outcomes}) == 1
    assert await world.books() == (5000, 100_500)
    await world.close()


async def test_rails_with_stores_of_their_own_share_a_file(tmp_path: Path) -> None:
    """Two stores on one file, no notices between them: the other rail's arrival is found by looking, and paid once."""
    first = await PlayWorld.make(SqliteStorage(tmp_path / "play.db", inline=True))
    other = SqliteStorage(tmp_path / "play.db", inline=True)
    one, two = first.rail(), first.rail(PlaySettings(poll_s=0.001), storage=other)
    stream = two.arrivals(None)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    made = await one.request(1000, description="", expiry_s=60)
    outcomes = await asyncio.gather(*(rail.pay(_order(made.request, attempt="a", amount_msat=1000)) for rail in (one, two)))
    assert [outcome.state for outcome in outcomes] == [PaymentState.PAID, PaymentState.PAID]
    assert (await waiting).payment_id == made.payment_id
    assert await first.books() == (1000, 1000)
    await stream.aclose()  # type: ignore[attr-defined]
    await first.close()
    await other.close()


@virtual
async def test_operators_pay_by_hand() -> None:
    """`settle` pays an invoice once, expired or not, and refuses what was never issued."""
    world = await PlayWorld.make()
    rail = world.rail()
    made = await rail.request(1000, description="", expiry_s=60)
    world.clock.skip(100)
    arrival = await rail.settle(made.payment_id)
    assert await rail.settle(made.payment_id) == arrival
    assert await rail.incoming(made.payment_id) == [arrival]
    with pytest.raises(RefusedError):
        await rail.settle("00" * 32)
    assert await world.books() == (1000, 0)
    assert (await rail.health()).balance_msat == 1000
    await world.close()


@virtual
async def test_a_payment_made_elsewhere_meanwhile_is_not_made_again() -> None:
    """An own invoice that is paid by hand while an order for it hangs makes that order FAIL, once it is let go."""
    world = await PlayWorld.make()
    rail = world.rail()
    made = await rail.request(1000, description="", expiry_s=60)
    rail.faults.for_next(Fault.hang())
    order = await world.order(rail, made.request, deadline_s=1)
    assert (await rail.pay(order)).state is PaymentState.PENDING
    await rail.settle(made.payment_id)
    outcome = await rail.resolve(made.payment_id, PaymentState.PAID)
    assert outcome.state is PaymentState.FAILED
    assert await world.books() == (1000, 0)
    await world.close()


@virtual
async def test_more_than_a_batch_comes_due() -> None:
    """Whatever the number of unpaid invoices, all are paid, a batch in each commit."""
    world = await PlayWorld.make()
    rail = world.rail(autopay_delay_s=1.0)
    for _ in range(play_store.BATCH + 5):
        await rail.request(1000, description="", expiry_s=60)
    assert await rail.tick() == 1.0
    world.clock.skip(1)
    before = world.storage.status().commits
    assert await rail.tick() == 0.0
    assert await rail.tick() is None
    assert world.storage.status().commits - before == 2
    assert await world.books() == (1000 * (play_store.BATCH + 5), 0)
    assert await rail.tick() is None
    await world.close()


@virtual
async def test_a_closed_rail_does_nothing() -> None:
    """Close twice, start never again; every call answers UnavailableError."""
    world = await PlayWorld.make()
    rail = world.rail(autopay_delay_s=1.0)
    await rail.start()
    await rail.start()
    assert len(asyncio.all_tasks()) == 3
    await rail.close()
    await rail.close()
    await rail.start()
    assert len(asyncio.all_tasks()) == 1
    with pytest.raises(UnavailableError):
        await rail.request(1000, description="", expiry_s=60)
    with pytest.raises(UnavailableError):
        await rail.outgoing("00" * 32, "a")
    await world.close()


class Watcher:
    """Telemetry that remembers pages and events."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.events: list[str] = []

    def count(self, name: str, /, amount: int = 1, **labels: str) -> None: ...

    def observe(self, name: str, seconds: float, /, **labels: str) -> None: ...

    def event(self, name: str, /, **facts: object) -> None:
        self.events.append(name)

    def page(self, reason: str, /, **facts: object) -> None:
        self.pages.append(reason)


@virtual
async def test_a_missing_book_pages_a_human() -> None:
    """An invariant that does not hold ends the driver and pages; it is not retried in silence."""
    world = await PlayWorld.make()
    watcher = Watcher()
    rail = world.rail(autopay_delay_s=1.0, telemetry=watcher)
    await rail.start()
    await rail.request(1000, description="", expiry_s=60)

    async def lose(tx: Any) -> None:
        await tx.execute("DELETE FROM play_book")

    await world.storage.transact(lose)
    await world.clock.sleep(2)
    assert watcher.pages == ["a task of the play rail has died"]
    with pytest.raises(InvariantError):
        await rail.health()
    await world.close()


class Moody:
    """A store that fails when told to."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.before: BaseException | None = None
        self.after: BaseException | None = None
        self.reading: BaseException | None = None
        self.listening: BaseException | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def transact(self, body: Any) -> Any:
        if self.before:
            raise self.before
        result = await self._inner.transact(body)
        if self.after:
            raise self.after
        return result

    async def read(self, body: Any) -> Any:
        if self.reading:
            raise self.reading
        return await self._inner.read(body)

    async def listen(self, channel: str) -> AsyncIterator[str]:
        if self.listening:
            raise self.listening
        async for notice in self._inner.listen(channel):
            yield notice


@virtual
async def test_a_store_out_of_reach_is_waited_for() -> None:
    """The tasks go on when the store comes back; callers hear UnavailableError."""
    world = await PlayWorld.make()
    moody, watcher = Moody(world.storage), Watcher()
    rail = world.rail(autopay_delay_s=1.0, storage=moody, telemetry=watcher)
    await rail.start()
    made = await rail.request(1000, description="", expiry_s=600)
    moody.reading = moody.listening = UnavailableError("gone")
    with pytest.raises(UnavailableError):
        await rail.incoming(made.payment_id)
    second = world.rail(autopay_delay_s=1.0, storage=moody, telemetry=watcher)
    await second.start()
    await world.clock.sleep(20)
    assert {"play.tick_failed", "play.listen_failed"} <= set(watcher.events)
    moody.reading = moody.listening = None
    await world.clock.sleep(6)
    assert len(await rail.incoming(made.payment_id)) == 1
    assert not watcher.pages
    await world.close()


@virtual
async def test_an_unknown_commit_is_uncertain_only_for_payments() -> None:
    """A request whose commit is unknown is as good as not made; an order's is UncertainError, and looked up later."""
    world = await PlayWorld.make()
    moody = Moody(world.storage)
    rail = world.rail(storage=moody)
    moody.after = UncertainError("who knows")
    with pytest.raises(UnavailableError):
        await rail.request(1000, description="", expiry_s=60)
    order = await world.order(rail, await foreign_invoice())
    with pytest.raises(UncertainError):
        await rail.pay(order)
    moody.after = None
    assert (await rail.outgoing(order.payment_id, order.attempt)).state is PaymentState.PENDING
    world.clock.skip(2)
    await rail.tick()
    assert (await rail.pay(order)).state is PaymentState.PAID
    assert await world.books() == (0, 100_500)
    await world.close()


@pytest.mark.parametrize("hang", [False, True])
@virtual
async def test_a_stored_order_is_pending_while_the_store_is_gone(hang: bool) -> None:
    """Once an order is stored, no failure of the store may look as if nothing had happened."""
    world = await PlayWorld.make()
    moody = Moody(world.storage)

    def fail(point: str) -> None:
        if point == "pay:stored":
            moody.before = moody.reading = UnavailableError("gone")

    rail: PlayRail = world.rail(storage=moody)
    rail.faults.on_point = fail
    if hang:
        rail.faults.for_next(Fault.delay(90))
    order = await world.order(rail, await foreign_invoice())
    assert (await rail.pay(order)).state is PaymentState.PENDING
    moody.before = moody.reading = None
    world.clock.skip(100)
    await rail.tick()
    assert (await rail.outgoing(order.payment_id, order.attempt)).state is PaymentState.PAID
    await world.close()


@virtual
async def test_a_claim_lost_to_another_process_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another attempt is stored between look and claim, its outcome is answered; where it is gone again, nobody paid."""
    world = await PlayWorld.make()
    rail = world.rail()
    order = await world.order(rail, await foreign_invoice())
    insert = play_store.insert_payment

    async def rival(tx: Transaction, row: play_store.PaymentRow) -> bool:
        await insert(tx, replace(row, attempt="rival", state=PaymentState.PAID))
        return False

    async def refused(tx: Transaction, row: play_store.PaymentRow) -> bool:
        return False

    monkeypatch.setattr(play_store, "insert_payment", refused)
    with pytest.raises(UnavailableError):
        await rail.pay(order)
    monkeypatch.setattr(play_store, "insert_payment", rival)
    assert (await rail.pay(order)).state is PaymentState.PAID
    assert (await rail.outgoing(order.payment_id, order.attempt)).state is PaymentState.ABSENT
    assert (await rail.outgoing(order.payment_id, "rival")).state is PaymentState.PAID
    await world.close()


@virtual
async def test_an_order_without_a_quote_keeps_autopay_away_too() -> None:
    """Whoever orders a payment of an own invoice has it to themselves, even while the order hangs."""
    world = await PlayWorld.make()
    rail = world.rail(autopay_delay_s=1.0)
    await rail.start()
    made = await rail.request(1000, description="", expiry_s=60)
    rail.faults.for_next(Fault.late(5))
    assert (await rail.pay(_order(made.request, attempt="a", amount_msat=1000))).state is PaymentState.PENDING
    await world.clock.sleep(10)
    assert (await rail.outgoing(made.payment_id, "a")).state is PaymentState.PAID
    assert await world.books() == (1000, 1000)
    await world.close()


@virtual
async def test_a_quote_in_the_last_moment_still_holds() -> None:
    """A quote between autopay's look and its payment wins."""
    world = await PlayWorld.make()
    other = world.rail()
    late: list[str] = []

    class Slow(Moody):
        async def read(self, body: Any) -> Any:
            found = await super().read(body)
            while late:
                await other.quote(late.pop())
            return found

    rail = world.rail(autopay_delay_s=1.0, storage=Slow(world.storage))
    made = await rail.request(1000, description="", expiry_s=60)
    world.clock.skip(2)
    late.append(made.request)
    await rail.tick()
    assert await rail.incoming(made.payment_id) == []
    await world.close()
