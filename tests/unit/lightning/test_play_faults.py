"""Play rail told to misbehave: every fault, every crash point, and random histories that must keep the books."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

import pytest

from specie.kernel import PaymentOrder, PaymentOutcome, PaymentState, RefusedError, UnavailableError, UncertainError
from specie.lightning import InvoicePaidError, decode_invoice
from specie.lightning.adapters.play import CRASH_POINTS, Answer, Fault, PlayFaults, PlayRail, PlaySettings
from tests.support.play import PlayWorld, foreign_invoice, virtual

PAID, FAILED, PENDING, UNKNOWN = PaymentState.PAID, PaymentState.FAILED, PaymentState.PENDING, PaymentState.UNKNOWN


class Crash(BaseException):
    """Stands for SIGKILL: nothing in the rail may catch it."""


def crash_at(name: str) -> Callable[[str], None]:
    """A hook that crashes at one point."""

    def point(passed: str) -> None:
        assert passed in CRASH_POINTS
        if passed == name:
            raise Crash(name)

    return point


async def started(world: PlayWorld, faults: PlayFaults | None = None, *, autopay_delay_s: float | None = None) -> PlayRail:
    """A started rail."""
    rail = world.rail(faults=faults, autopay_delay_s=autopay_delay_s)
    await rail.start()
    return rail


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("fault", "answered", "after_s", "at_last"),
    [
        (Fault.delay(5), PAID, 5, PAID),
        (Fault.delay(50), PENDING, 10, PAID),
        (Fault.fail(), FAILED, 0, FAILED),
        (Fault.fail(3), FAILED, 3, FAILED),
        (Fault.fail(30), PENDING, 10, FAILED),
        (Fault.hang(), PENDING, 10, PENDING),
        (Fault.late(30), PENDING, 0, PAID),
        (Fault.late(30, FAILED), PENDING, 0, FAILED),
        (Fault.unknown(30), UNKNOWN, 0, PAID),
        (Fault.unknown(30, FAILED), UNKNOWN, 0, FAILED),
        (Fault.unknown(0, PENDING), UNKNOWN, 0, UNKNOWN),
    ],
)
@virtual
async def test_each_fault(own: bool, fault: Fault, answered: PaymentState, after_s: float, at_last: PaymentState) -> None:
    """A fault decides what `pay` answers and when, and what is true in the end; the same order again changes nothing."""
    world = await PlayWorld.make()
    rail = await started(world)
    request = (await rail.request(100_000, description="", expiry_s=600)).request if own else await foreign_invoice()
    order = await world.order(rail, request, deadline_s=10)
    rail.faults.for_next(fault)
    begin = world.clock.monotonic()
    outcome = await rail.pay(order)
    assert outcome.state is answered
    assert after_s <= world.clock.monotonic() - begin < after_s + 0.1
    assert (outcome.preimage is not None) is (answered is PAID)
    assert (await rail.outgoing(order.payment_id, order.attempt)).state is answered
    await world.clock.sleep(60)
    final = await rail.outgoing(order.payment_id, order.attempt)
    assert final.state is at_last
    assert await rail.pay(order) == final
    assert len(await rail.incoming(order.payment_id)) == int(own and at_last is PAID)
    paid = 0 if at_last is not PAID else 100_000 if own else 100_500
    assert await world.books() == (paid if own else 0, paid)
    await world.close()


@pytest.mark.parametrize("truth", [PAID, FAILED])
@virtual
async def test_a_lost_answer_is_uncertain_and_can_be_looked_up(truth: PaymentState) -> None:
    """The payment happens (or fails), `pay` raises UncertainError, `outgoing` knows."""
    world = await PlayWorld.make()
    rail = world.rail()
    order = await world.order(rail, await foreign_invoice())
    rail.faults.for_payment(order.payment_id, Fault.lost(truth))
    with pytest.raises(UncertainError) as caught:
        await rail.pay(order)
    assert caught.value.reference == order.payment_id
    assert (await rail.outgoing(order.payment_id, order.attempt)).state is truth
    assert (await rail.pay(order)).state is truth
    await world.close()


@virtual
async def test_unavailable_orders_leave_nothing() -> None:
    """A refused order is ABSENT, and the same attempt may be given again."""
    world = await PlayWorld.make()
    rail = world.rail()
    order = await world.order(rail, await foreign_invoice())
    rail.faults.for_next(Fault.unavailable())
    with pytest.raises(UnavailableError):
        await rail.pay(order)
    assert (await rail.outgoing(order.payment_id, order.attempt)).state is PaymentState.ABSENT
    assert (await rail.pay(order)).state is PAID
    await world.close()


@virtual
async def test_a_whole_rail_can_be_out_of_reach() -> None:
    """While unavailable nothing answers and nothing happens by itself; afterwards everything goes on."""
    world = await PlayWorld.make()
    faults = PlayFaults()
    rail = await started(world, faults, autopay_delay_s=1.0)
    made = await rail.request(1000, description="", expiry_s=600)
    order = await world.order(rail, await foreign_invoice())
    faults.unavailable = True
    for call in (
        rail.request(1, description="", expiry_s=60),
        rail.incoming(made.payment_id),
        rail.quote(made.request),
        rail.pay(order),
        rail.outgoing(order.payment_id, order.attempt),
        anext(rail.arrivals(None)),
    ):
        with pytest.raises(UnavailableError):
            await call
    health = await rail.health()
    assert (health.ok, health.balance_msat) == (False, None)
    await world.clock.sleep(30)
    rail.set_faults(PlayFaults())
    await world.clock.sleep(0.1)
    assert len(await rail.incoming(made.payment_id)) == 1
    assert (await rail.health()).ok
    await world.close()


@virtual
async def test_quotes_and_requests_can_be_refused() -> None:
    """Refusals are RefusedError; `clear` ends them and every other fault."""
    world = await PlayWorld.make()
    rail = world.rail()
    rail.faults.refuse_quotes = rail.faults.refuse_requests = True
    rail.faults.always = Fault.fail()
    rail.faults.for_next(Fault.hang(), 3)
    request = await foreign_invoice()
    with pytest.raises(RefusedError):
        await rail.quote(request)
    with pytest.raises(RefusedError):
        await rail.request(1000, description="", expiry_s=60)
    rail.faults.clear()
    assert (await rail.pay(await world.order(rail, request))).state is PAID
    await world.close()


@virtual
async def test_faults_are_used_up_in_order() -> None:
    """By payment before by turn before always; looking up an order that exists uses nothing up."""
    world = await PlayWorld.make()
    rail = world.rail()
    faults = rail.faults
    faults.always = Fault.fail()
    faults.for_next(Fault(fee_msat=123))
    orders = [await world.order(rail, await foreign_invoice(name=f"{n}"), deadline_s=0) for n in range(4)]
    faults.for_payment(orders[0].payment_id, Fault.hang())
    assert (await rail.pay(orders[0])).state is PENDING
    faults.for_payment(orders[0].payment_id, None)
    assert (await rail.pay(orders[0])).state is PENDING
    assert (await rail.pay(orders[1])).fee_msat == 123
    assert (await rail.pay(orders[2])).state is FAILED
    faults.always = None
    faults.for_next(Fault(fee_msat=1001))
    assert (await rail.pay(orders[3])).state is FAILED, "a fee above the limit fails"
    await world.close()


def test_faults_must_make_sense() -> None:
    """A truth that is none, or in the past, is a mistake of the test."""
    for truth, after_s in ((PaymentState.ABSENT, 0.0), (PAID, -1.0)):
        with pytest.raises(ValueError):
            Fault(truth, after_s)


@virtual
async def test_a_failed_payment_may_be_attempted_anew_and_only_then() -> None:
    """A new attempt is taken where every earlier one FAILED; otherwise the earlier one's outcome is answered."""
    world = await PlayWorld.make()
    rail = world.rail()
    request = await foreign_invoice()
    first, second, third = [await world.order(rail, request, deadline_s=1) for _ in range(3)]
    rail.faults.for_next(Fault.fail())
    assert (await rail.pay(first)).state is FAILED
    rail.faults.for_next(Fault.hang())
    assert (await rail.pay(second)).state is PENDING
    assert (await rail.pay(third)).state is PENDING
    assert (await rail.outgoing(third.payment_id, third.attempt)).state is PaymentState.ABSENT
    assert (await rail.resolve(second.payment_id, PAID)).state is PAID
    assert (await rail.pay(third)).state is PAID
    assert (await rail.pay(first)).state is FAILED, "a stale caller gets the answer of its own attempt"
    assert await world.books() == (0, 100_500)
    with pytest.raises(InvoicePaidError):
        await rail.quote(request)
    await world.close()


@virtual
async def test_operators_end_what_hangs() -> None:
    """`resolve` wakes the caller that waits; it cannot turn an end into another, nor end what never began."""
    world = await PlayWorld.make()
    rail = await started(world)
    order = await world.order(rail, await foreign_invoice())
    rail.faults.for_next(Fault.hang())
    waiting = asyncio.ensure_future(rail.pay(order))
    await world.clock.sleep(7)
    assert not waiting.done()
    assert (await rail.resolve(order.payment_id, PAID)).state is PAID
    assert (await waiting).state is PAID
    assert world.clock.monotonic() < 8
    assert (await rail.resolve(order.payment_id, FAILED)).state is PAID
    for payment_id, truth in (("00" * 32, PAID), (order.payment_id, PENDING)):
        with pytest.raises(RefusedError):
            await rail.resolve(payment_id, truth)
    await world.close()


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("point", ["pay:begin", "pay:stored", "pay:settled"])
@virtual
async def test_a_crash_in_pay_never_pays_twice(point: str, own: bool) -> None:
    """Wherever `pay` dies, the next start knows the truth, a foreign order in flight is PENDING first and then PAID."""
    world = await PlayWorld.make()
    rail = world.rail(faults=PlayFaults(on_point=crash_at(point)))
    request = (await rail.request(100_000, description="", expiry_s=600)).request if own else await foreign_invoice()
    order = await world.order(rail, request)
    if point == "pay:settled" and own:
        rail.faults.for_next(Fault.delay(0.1))
    with pytest.raises(Crash):
        await rail.pay(order)
    await rail.close()
    rail = await started(world)
    state = (await rail.outgoing(order.payment_id, order.attempt)).state
    if point == "pay:begin":
        assert state is PaymentState.ABSENT
    elif point == "pay:stored" and not own:
        assert state is PENDING
    else:
        assert state is PAID
    if point != "pay:begin":
        await world.clock.sleep(3)
        assert (await rail.outgoing(order.payment_id, order.attempt)).state is PAID
    assert (await rail.pay(order)).state is PAID
    assert await world.books() == ((100_000, 100_000) if own else (0, 100_500))
    await world.close()


@virtual
async def test_faults_survive_a_crash_because_the_plan_is_stored() -> None:
    """What was decided for an order comes true after a restart, under a rail that knows nothing of the fault."""
    world = await PlayWorld.make()
    rail = world.rail()
    orders = [await world.order(rail, await foreign_invoice(name=f"{n}")) for n in range(3)]
    for order, fault in zip(orders, (Fault.late(20), Fault.late(20, FAILED), Fault.unknown(20)), strict=True):
        rail.faults.for_next(fault)
        await rail.pay(order)
    await rail.close()
    rail = await started(world)

    async def states() -> list[PaymentState]:
        return [(await rail.outgoing(order.payment_id, order.attempt)).state for order in orders]

    await world.clock.sleep(19)
    assert await states() == [PENDING, PENDING, UNKNOWN]
    await world.clock.sleep(2)
    assert await states() == [PAID, FAILED, PAID]
    await world.close()


@pytest.mark.parametrize("point", ["request:signed", "request:stored", "quote:held", "settle:stored", "due:stored"])
@virtual
async def test_a_crash_elsewhere_leaves_whole_steps(point: str) -> None:
    """Requests, holds, settlements and autopay are each there or not; nothing is half done."""
    world = await PlayWorld.make()
    rail = world.rail(autopay_delay_s=1.0)
    made = await rail.request(1000, description="", expiry_s=600)
    rail.faults.on_point = crash_at(point)
    world.clock.skip(2)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "request": lambda: rail.request(2000, description="", expiry_s=600),
        "quote": lambda: rail.quote(made.request),
        "settle": lambda: rail.settle(made.payment_id),
        "due": rail.tick,
    }
    with pytest.raises(Crash):
        await calls[point.split(":")[0]]()
    await rail.close()
    rail = world.rail(autopay_delay_s=1.0)
    world.clock.skip(2)
    await rail.tick()
    arrived = (await world.books())[0]
    assert (
        arrived
        == {"request:signed": 1000, "request:stored": 3000, "quote:held": 0, "settle:stored": 1000, "due:stored": 1000}[point]
    )
    await world.close()


@pytest.mark.parametrize("seed", range(40))
@virtual
async def test_random_histories_keep_the_books(seed: int) -> None:
    """Whatever two rails are told to do, killed anywhere: each payment happens once, ends never change, the books agree."""
    source = random.Random(seed)
    world = await PlayWorld.make(seed=seed)
    settings = PlaySettings(poll_s=2.0)
    ends: dict[tuple[str, str], PaymentOutcome] = {}
    requests: list[str] = []
    orders: list[PaymentOrder] = []

    def point(name: str) -> None:
        if source.random() < 0.05:
            raise Crash(name)

    def open_rail() -> PlayRail:
        faults = PlayFaults(on_point=point)
        return world.rail(settings, autopay_delay_s=source.choice((None, 1.0)), faults=faults)

    async def look(order: PaymentOrder, outcome: PaymentOutcome) -> None:
        if outcome.state in (PAID, FAILED):
            assert ends.setdefault((order.payment_id, order.attempt), outcome) == outcome, "an end has changed"

    def random_fault() -> Fault:
        truth, answer = source.choice((PAID, FAILED, PENDING)), source.choice(list(Answer))
        return Fault(truth, source.choice((0.0, 0.5, 3.0)), answer)

    async def step(rail: PlayRail) -> None:
        match source.randrange(8):
            case 0:
                requests.append(
                    (await rail.request(source.randint(1, 10**6), description="", expiry_s=source.choice((5, 600)))).request
                )
            case 1:
                requests.append(await foreign_invoice(source.randint(1, 10**6), name=str(source.randrange(4)), expiry_s=10**6))
            case 2 | 3 if requests:
                orders.append(await world.order(rail, source.choice(requests), deadline_s=source.choice((0, 2.0))))
            case 4 | 5 if orders:
                if source.random() < 0.6:
                    rail.faults.for_next(random_fault())
                order = source.choice(orders)
                await rail.pay(order)
                await look(order, await rail.outgoing(order.payment_id, order.attempt))
            case 6 if orders:
                await rail.resolve(source.choice(orders).payment_id, source.choice((PAID, FAILED)))
            case _:
                await world.clock.sleep(source.random() * 2)
                await rail.tick()

    rails = [open_rail(), open_rail()]
    for _ in range(60):
        place = source.randrange(2)
        try:
            with contextlib.suppress(RefusedError, UnavailableError, UncertainError):
                await step(rails[place])
        except Crash:
            await rails[place].close()
            rails[place] = open_rail()
        for order in orders:
            await look(order, await rails[1 - place].outgoing(order.payment_id, order.attempt))
        await world.books()
    arrived, paid = await world.books()
    assert (await rails[0].health()).balance_msat == arrived - paid
    for text in requests:
        assert len(await rails[0].incoming(decode_invoice(text).payment_id)) <= 1
    await world.close()
