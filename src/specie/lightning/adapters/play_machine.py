"""What every play rail has: orders that are stored once and come to their end, faults, a driver, and streams that wait.

Not here: what a request of a method is, who is paid by it, and what that takes (`play`, `play_requests`, `play_onchain`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from specie.kernel.clock import Clock
from specie.kernel.entropy import Entropy
from specie.kernel.errors import InvariantError, MalformedError, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.kernel.rail import IncomingPayment, PaymentOrder, PaymentOutcome, PaymentState, RailHealth
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.lightning.adapters import play_store as rows
from specie.lightning.adapters.play_faults import Answer, Fault, PlayFaults
from specie.lightning.adapters.play_policy import PlaySettings
from specie.lightning.adapters.play_store import PaymentRow
from specie.storage import Body, Storage, Transaction

__all__ = ["PlayMachine"]

T = TypeVar("T")
Payee = TypeVar("Payee")
"""A request that was read: whatever a method knows of it before the store is asked."""

_TICK_S = 0.02
"""Pause between two looks at what is due: what comes due in it is done together, in one commit."""


class PlayMachine(Generic[Payee]):
    """The common half of a `kernel.Rail` in play money; the other half are the methods that say so."""

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        entropy: Entropy,
        settings: PlaySettings | None,
        *,
        name: str,
        book: str,
        autopay_delay_s: float | None,
        faults: PlayFaults | None,
        telemetry: Telemetry = NULL_TELEMETRY,
    ) -> None:
        """Keep the plugs; nothing runs before `start`. `book` names the rail's rows in the store."""
        self._storage = storage
        self._clock = clock
        self._entropy = entropy
        self._settings = settings or PlaySettings()
        self._autopay_ms = None if autopay_delay_s is None else int(autopay_delay_s * 1000)
        self._faults = faults or PlayFaults()
        self._telemetry = telemetry
        self._name = name
        self._book = book
        self._events: dict[asyncio.Event, None] = {}  # woken in order, so that a simulated world repeats itself
        self._driver = asyncio.Event()
        self._next_ms: int | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    # What a method fills in

    def _read(self, order: PaymentOrder) -> Payee:
        """The payee of an order; RefusedError where it can be no order at all, and it is then FAILED and not stored."""
        raise InvariantError("a play rail reads its orders")

    async def _plan(
        self, tx: Transaction, order: PaymentOrder, payee: Payee, fault: Fault | None, made_up: str, now_ms: int
    ) -> PaymentRow:
        """What will become of a new order. `made_up` is 32 FRESH bytes in hex."""
        raise InvariantError("a play rail plans its orders")

    async def _begin(self, tx: Transaction, row: PaymentRow, fault: Fault | None, now_ms: int) -> None:
        """What happens with the storing of an order that is PENDING."""

    async def _finish(self, tx: Transaction, row: PaymentRow, truth: PaymentState, now_ms: int) -> None:
        """The plan of a payment comes true, unless it has before."""
        await rows.resolve_payment(tx, row, truth, now_ms=now_ms)

    async def _work(self, now_ms: int) -> int | None:
        """Do what is due; when to look again (Unix milliseconds), None where nothing waits."""
        raise InvariantError("a play rail works")

    async def _page(self, tx: Transaction, cursor: int) -> list[IncomingPayment]:
        """The next news of arrivals behind a cursor."""
        raise InvariantError("a play rail has arrivals")

    # The port

    @property
    def name(self) -> str:
        """Its name in the books."""
        return self._name

    @property
    def play(self) -> bool:
        """True: its money is play money."""
        return True

    async def arrivals(self, after: str | None) -> AsyncIterator[IncomingPayment]:
        """News of arrivals behind the cursor `after` (a decimal number), each once, in order, until the rail closes."""
        if after is not None and not (after.isascii() and after.isdigit() and len(after) < 19):
            raise MalformedError("not a cursor of the play rail")
        cursor = int(after or 0)
        with self._watch() as event:
            while not self._closed:
                event.clear()
                self._check_available()
                page = await self._storage.read(self._paging(cursor))
                for payment in page:
                    cursor = int(payment.cursor)
                    yield payment
                if not page:
                    await self._wait(event, self._settings.poll_s)

    def _paging(self, cursor: int) -> Body[list[IncomingPayment]]:
        return lambda tx: self._page(tx, cursor)

    async def pay(self, order: PaymentOrder) -> PaymentOutcome:
        """Pay once. What cannot be an order at all is FAILED and not stored; every other FAILED is.

        UnavailableError: nothing was stored. UncertainError: the commit's fate is unknown, or a fault says so.
        """
        self._check_available()
        self._faults.point("pay:begin")
        try:
            if not order.attempt:
                raise RefusedError("the order names no attempt")
            payee = self._read(order)
        except RefusedError as error:
            return PaymentOutcome(PaymentState.FAILED, reason=error.detail)
        fault = self._faults.take(order.payment_id)
        if fault is not None and fault.answer is Answer.UNAVAILABLE:
            raise UnavailableError("play rail: told to be unavailable for this order")
        try:
            row, new = await self._storage.transact(self._ordering(order, payee, fault))
        except BaseException:
            self._faults.give_back(order.payment_id, fault)
            raise
        if not new:
            self._faults.give_back(order.payment_id, fault)
            return await self._await_end(row, order.deadline_s)
        self._faults.point("pay:stored")
        if row.state is not PaymentState.PENDING:
            self._wake()
            return row.outcome
        if row.due_ms is not None:
            self._expect(row.due_ms)
        return await self._carry_out(row, fault, order.deadline_s)

    async def outgoing(self, payment_id: str, attempt: str) -> PaymentOutcome:
        """What the store knows of one attempt; ABSENT if it was never ordered."""
        self._check_available()
        row = await self._storage.read(lambda tx: rows.payment_row(tx, payment_id, attempt))
        return PaymentOutcome(PaymentState.ABSENT) if row is None else row.outcome

    async def health(self) -> RailHealth:
        """What came in less what went out; below zero where more foreign requests were paid than arrived."""
        if self._faults.unavailable:
            return RailHealth(False, None, "play money; told to be unavailable")
        return RailHealth(True, await self._storage.read(self._balance), "play money")

    async def _balance(self, tx: Transaction) -> int:
        return await rows.balance_msat(tx, self._book)

    async def close(self) -> None:
        """End the tasks and the streams of arrivals. Again: does nothing."""
        self._closed = True
        self._wake()
        self._driver.set()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # For operators and tests

    async def start(self) -> None:
        """Run autopay and recovery, and listen to other processes. Again: does nothing."""
        if self._tasks or self._closed:
            return
        for name, work in (("play-listen", self._listen()), ("play-drive", self._drive())):
            task = asyncio.create_task(work, name=name)
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    def set_faults(self, faults: PlayFaults) -> None:
        """Behave by another policy from now on; what was stored keeps the plan it has."""
        self._faults = faults
        self._driver.set()

    @property
    def faults(self) -> PlayFaults:
        """The policy in force."""
        return self._faults

    async def resolve(self, payment_id: str, truth: PaymentState) -> PaymentOutcome:
        """End a payment that is PENDING by hand: PAID or FAILED. One that was PAID stays so. RefusedError if there is none."""
        if truth not in (PaymentState.PAID, PaymentState.FAILED):
            raise RefusedError("a payment ends PAID or FAILED")
        row = await self._storage.read(lambda tx: rows.living_payment(tx, payment_id))
        if row is None or row.rail != self._book:
            raise RefusedError("no payment of this id is on its way")
        return (await self._end(row, truth)).outcome

    async def tick(self) -> float | None:
        """Do everything that is due now; seconds until the next thing is due, None where nothing waits."""
        self._next_ms = None
        if self._faults.unavailable:
            return None
        next_ms = await self._work(self._now_ms())
        self._next_ms = next_ms
        return None if next_ms is None else max(0.0, (next_ms - self._now_ms()) / 1000)

    # Paying

    def _ordering(self, order: PaymentOrder, payee: Payee, fault: Fault | None) -> Body[tuple[PaymentRow, bool]]:
        """The body that stores an order, or finds the one that stands in its way. True: it is new."""
        now_ms, made_up = self._now_ms(), self._entropy.bytes(32).hex()

        async def body(tx: Transaction) -> tuple[PaymentRow, bool]:
            for _ in range(2):
                found = await rows.payment_row(tx, order.payment_id, order.attempt)
                found = found or await rows.living_payment(tx, order.payment_id)
                if found is not None:
                    return found, False
                row = await self._plan(tx, order, payee, fault, made_up, now_ms)
                if await rows.insert_payment(tx, row):
                    break
            else:
                raise UnavailableError("another attempt at this payment was stored and failed just now")
            if row.state is PaymentState.PENDING:
                await self._begin(tx, row, fault, now_ms)
                row = await rows.payment_row(tx, row.payment_id, row.attempt) or row
            return row, True

        return body

    async def _carry_out(self, row: PaymentRow, fault: Fault | None, deadline_s: float) -> PaymentOutcome:
        """The second half of `pay`: the order is stored, and from here it comes to its end with or without us."""
        answer, after_s = (fault.answer, fault.after_s) if fault else (Answer.TRUTH, 0.0)
        if answer in (Answer.PENDING, Answer.UNKNOWN):
            return row.outcome
        if row.plan is PaymentState.PENDING or after_s > deadline_s:
            return await self._await_end(row, deadline_s)
        if after_s:
            await self._clock.sleep(after_s)
        try:
            row = await self._end(row, row.plan)
        except (UnavailableError, UncertainError) as error:
            return PaymentOutcome(PaymentState.PENDING, reason=error.detail)
        if row.state is PaymentState.PENDING:  # it comes true with others, who are not here yet
            return await self._await_end(row, deadline_s)
        self._faults.point("pay:settled")
        if answer is Answer.LOST:
            raise UncertainError("play rail: told to lose the answer", reference=row.payment_id)
        return row.outcome

    async def _end(self, row: PaymentRow, truth: PaymentState) -> PaymentRow:
        """End a payment, unless it has ended; its row as it is then."""
        now_ms = self._now_ms()

        async def body(tx: Transaction) -> PaymentRow:
            await self._finish(tx, row, truth, now_ms)
            ended = await rows.payment_row(tx, row.payment_id, row.attempt)
            if ended is None:
                raise InvariantError("a payment of the play rail has disappeared")
            return ended

        ended = await self._storage.transact(body)
        self._wake()
        return ended

    async def _await_end(self, row: PaymentRow, deadline_s: float) -> PaymentOutcome:
        """Wait until a payment ends, at most `deadline_s`. Its order is durable, so a store out of reach means PENDING."""
        until = self._clock.monotonic() + deadline_s
        with self._watch() as event:
            while row.state is PaymentState.PENDING and row.answer is PaymentState.PENDING:
                left = until - self._clock.monotonic()
                if left <= 0:
                    break
                await self._wait(event, min(left, self._settings.poll_s))
                event.clear()
                try:
                    row = await self._storage.read(_again(row))
                except UnavailableError:
                    break
        return row.outcome

    # Machinery

    def _now_ms(self) -> int:
        return self._clock.now_ns() // 1_000_000

    def _check_available(self) -> None:
        if self._closed or self._faults.unavailable:
            raise UnavailableError("the play rail is closed" if self._closed else "play rail: told to be unavailable")

    async def _change(self, body: Body[T]) -> T:
        """A transaction without a payment in it: should its fate be unknown, it is as good as not done."""
        try:
            return await self._storage.transact(body)
        except UncertainError as error:
            raise UnavailableError(error.detail) from error

    @contextmanager
    def _watch(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever something may have changed."""
        event = asyncio.Event()
        self._events[event] = None
        try:
            yield event
        finally:
            self._events.pop(event, None)

    def _wake(self) -> None:
        for event in self._events:
            event.set()

    def _expect(self, due_ms: int) -> None:
        """Something comes due at `due_ms`; wake the driver if that is sooner than it knows."""
        if self._next_ms is None or due_ms < self._next_ms:
            self._next_ms = due_ms
            self._driver.set()

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        """Until the event is set or the time is over."""
        if event.is_set():
            return
        tasks = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._clock.sleep(seconds))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _drive(self) -> None:
        poll_s = self._settings.poll_s
        while not self._closed:
            self._driver.clear()
            try:
                next_s = await self.tick()
            except InvariantError:
                raise
            except SpecieError as error:
                self._telemetry.event("play.tick_failed", error=error.detail)
                next_s = None
            await self._clock.sleep(min(_TICK_S, poll_s))
            await self._wait(self._driver, poll_s if next_s is None else min(next_s, poll_s))

    async def _listen(self) -> None:
        while not self._closed:
            try:
                async for _ in self._storage.listen(rows.CHANNEL):
                    self._wake()
            except UnavailableError as error:
                self._telemetry.event("play.listen_failed", error=error.detail)
            await self._clock.sleep(self._settings.poll_s)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._telemetry.page("a task of the play rail has died", task=task.get_name(), error=repr(error))


def _again(row: PaymentRow) -> Body[PaymentRow]:
    async def body(tx: Transaction) -> PaymentRow:
        return await rows.payment_row(tx, row.payment_id, row.attempt) or row

    return body
