"""What may happen between any two awaits of a verb: another process, the same process, a store or a rail that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from specie.ecash import MeltRequest, MeltState, MintQuoteRequest
from specie.kernel import IncomingPayment, PaymentOrder, PaymentOutcome, UnavailableError, UncertainError
from specie.lightning import decode_invoice
from specie.lightning.adapters.play import Fault, PlayFaults, PlayRail
from specie.mint.engine import melt
from specie.mint.engine.recover import follow_arrivals
from specie.storage import Body, Row, Storage, Transaction, Value
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import MIGRATIONS, House, Purse, house
from tests.support.orders import foreign_invoice
from tests.support.virtual import run_virtual

T = TypeVar("T")


class Wayward:
    """A store or rail that does as it is told before it does as it should; everything else is the real one's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class SlowRail(Wayward):
    """Each call of `pay` waits for its own gate, and may then find that the connection never stood."""

    def __init__(self, inner: PlayRail) -> None:
        super().__init__(inner)
        self.gates: list[asyncio.Future[bool]] = []

    async def pay(self, order: PaymentOrder) -> PaymentOutcome:
        gate: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        if await gate:
            outcome: PaymentOutcome = await self._inner.pay(order)
            return outcome
        raise UnavailableError("no connection")


async def turns(count: int = 50) -> None:
    """Let every other task run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def states(bank: House, coins: Any) -> set[str]:
    return {state.state.value for state in await bank.mint.check_state([coin.y for coin in coins])}


def test_the_reconciler_leaves_a_payment_alone_that_this_process_is_about_to_order() -> None:
    """Between the commit of the intent and the order of it the lease is live, in this process as in any other."""

    async def main() -> None:
        async with house() as bank:
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            context = bank.mint._context
            record = await melt.begin(context, MeltRequest("bolt11", quote.quote, tuple(coins)))
            assert await bank.mint.reconcile() == 0
            assert (await melt.find_melt_quote(context, quote.quote)).owner == record.owner == context.owner

    run_virtual(main())


def test_a_holder_that_was_relieved_in_its_own_process_releases_nothing() -> None:
    """The process sleeps past its lease and takes its own payment over; the first order then fails, the second one pays.

    With one name for both, the first would free the inputs of a payment that is made.
    """

    async def main() -> None:
        async with house() as bank:
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            rail = SlowRail(bank.rail)
            context = replace(bank.mint._context, rails=(rail,))
            bank.mint._context = context
            record = await melt.begin(context, MeltRequest("bolt11", quote.quote, tuple(coins)))
            first = asyncio.ensure_future(bank.mint._pay(record))
            await turns()
            bank.clock.skip(melt.LEASE_S + 1)
            second = asyncio.ensure_future(bank.mint.reconcile())
            await turns()
            assert len(rail.gates) == 2
            rail.gates[0].set_result(False)
            await asyncio.wait([first])
            assert await states(bank, coins) == {"PENDING"}
            rail.gates[1].set_result(True)
            assert await second == 1
            assert await states(bank, coins) == {"SPENT"}
            await bank.mint.audit()

    run_virtual(main())


def test_a_lease_is_renewed_while_a_payment_taken_over_is_ordered() -> None:
    """Whoever takes over may wait for the rail longer than a lease lasts, through a moment without the store."""

    async def main() -> None:
        store = FailingStore(SqliteStorage(":memory:", inline=True))
        async with house(storage=store, exclusive=False) as bank:
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            await melt.begin(bank.mint._context, MeltRequest("bolt11", quote.quote, tuple(coins)))
            bank.clock.skip(melt.LEASE_S + 1)
            rail = SlowRail(bank.rail)
            bank.mint._context = replace(bank.mint._context, rails=(rail,))
            work = asyncio.ensure_future(bank.mint.reconcile())
            await turns()
            store.errors = [UnavailableError("away")]
            await asyncio.sleep(melt.LEASE_S * 2)
            record = await melt.find_melt_quote(bank.mint._context, quote.quote)
            assert record.lease_until > bank.clock.now()
            rail.gates[0].set_result(True)
            assert await work == 1
        await store.close()

    run_virtual(main())


class FailingStore(Wayward):
    """Raises what is queued in `errors` from `transact`, in place of doing anything; with `after`, once it is done."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.errors: list[Exception] = []
        self.after: Callable[[object], Exception | None] = lambda result: None

    async def transact(self, body: Body[T]) -> T:
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        result: T = await self._inner.transact(body)
        error = self.after(result)
        if error is not None:
            raise error
        return result

    async def read(self, body: Body[T]) -> T:
        result: T = await self._inner.read(body)
        return result

    async def listen(self, channel: str) -> AsyncIterator[str]:
        async for notice in self._inner.listen(channel):
            yield notice


def test_a_melt_that_was_ordered_never_says_that_nothing_happened() -> None:
    """The payment is made and the store is away: the caller hears that the outcome is open, and the reconciler settles."""

    async def main() -> None:
        store = FailingStore(SqliteStorage(":memory:", inline=True))
        async with house(storage=store) as bank:
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))

            class Paying(Wayward):
                async def pay(self, order: PaymentOrder) -> PaymentOutcome:
                    outcome: PaymentOutcome = await self._inner.pay(order)
                    store.errors = [UnavailableError("away")]
                    return outcome

            bank.mint._context = replace(bank.mint._context, rails=(Paying(bank.rail),))
            request = MeltRequest("bolt11", quote.quote, tuple(coins), purse.outputs([1] * 4).messages)
            with pytest.raises(UncertainError) as caught:
                await bank.mint.melt(request)
            assert caught.value.reference == quote.quote
            assert await states(bank, coins) == {"PENDING"}
            await asyncio.sleep(2 * melt.LEASE_S)
            done = await bank.mint.melt(request)
            assert done.state is MeltState.PAID
            assert done.change
            await bank.mint.audit()
        await store.close()

    run_virtual(main())


def test_a_payment_that_fails_and_is_tried_again_at_once_stays_known_as_running() -> None:
    """The end of an old attempt is told after the next one began: the next one is still waited for, here and at the close."""

    async def main() -> None:
        async with house() as bank:
            mint = bank.mint
            old, new = asyncio.get_running_loop().create_future(), asyncio.get_running_loop().create_future()
            old.set_result(None)
            new.set_result(None)
            mint._paying["quote"] = new  # type: ignore[assignment]
            mint._paid("quote", old)  # type: ignore[arg-type]
            assert mint._paying["quote"] is new
            mint._paid("quote", new)
            assert not mint._paying

    run_virtual(main())


def test_arrivals_are_followed_through_a_commit_of_unknown_fate() -> None:
    """The connection breaks while an arrival is committed: it is booked once, and so is the next one."""

    async def main() -> None:
        store = FailingStore(SqliteStorage(":memory:", inline=True))
        async with house(storage=store) as bank:
            await asyncio.sleep(1)
            quotes = [await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", n)) for n in (5, 6)]
            for quote in quotes:
                store.after = lambda result: UncertainError("the connection broke") if result is None else None
                await bank.storage._inner.transact(_settling(quote.request, bank))  # type: ignore[attr-defined]
                bank.rail._wake()
                await asyncio.sleep(0.5)
                store.after = lambda result: None
                await asyncio.sleep(60)
            found = {record.quote: record.amount_paid for record in await bank.mint.recent_mint_quotes()}
            assert [found[quote.quote] for quote in quotes] == [5, 6]
            assert not [page for page in bank.telemetry.pages if "background" in page[0]]
            await bank.mint.audit()
        await store.close()

    run_virtual(main())


def test_a_stream_of_arrivals_that_ends_is_begun_again_after_a_pause() -> None:
    """A rail that hangs up without an error is asked again, and not without end in one breath."""

    async def main() -> None:
        async with house() as bank:
            asked: list[str | None] = []

            class Curt(Wayward):
                async def arrivals(self, after: str | None) -> AsyncIterator[IncomingPayment]:
                    asked.append(after)
                    if len(asked) > 100:
                        await asyncio.Event().wait()
                    nothing: list[IncomingPayment] = []
                    for payment in nothing:
                        yield payment

            work = asyncio.ensure_future(follow_arrivals(bank.mint._context, Curt(bank.rail)))
            await asyncio.sleep(10)
            assert 2 <= len(asked) <= 20
            work.cancel()
            await asyncio.wait([work])

    run_virtual(main())


def _settling(request: str, bank: House) -> Body[object]:
    from specie.lightning.adapters import play_store as rows

    now_ms = bank.clock.now_ns() // 1_000_000
    return lambda tx: rows.settle_invoice(tx, decode_invoice(request).payment_id, source="operator", now_ms=now_ms)


def test_background_work_that_fails_is_begun_again() -> None:
    """Whatever ends it: a human is told, and after a pause it runs again."""

    async def main() -> None:
        async with house() as bank:
            runs: list[int] = []

            async def work() -> None:
                runs.append(len(runs))
                if len(runs) < 3:
                    raise ValueError("broken")
                await asyncio.Event().wait()

            bank.mint._spawn(work)
            await asyncio.sleep(120)
            assert runs == [0, 1, 2]
            assert len([page for page in bank.telemetry.pages if "background" in page[0]]) == 2

    run_virtual(main())


class Interleaved:
    """A transaction during which, right after one statement, another transaction is committed."""

    def __init__(self, inner: Transaction, after: str, other: Callable[[], Any]) -> None:
        self._inner = inner
        self._after = after
        self._other: Callable[[], Any] | None = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def execute(self, sql: str, *values: Value) -> int:
        changed = await self._inner.execute(sql, *values)
        if sql.startswith(self._after) and self._other is not None:
            other, self._other = self._other, None
            await other()
        return changed

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        return await self._inner.fetch_one(sql, *values)


async def test_a_payment_is_claimed_also_when_its_last_holder_lets_go_in_between(bank: House, purse: Purse) -> None:
    """Where others write at the same time: the claim found taken and then free again is made, not taken for granted."""
    invoice = await foreign_invoice(bank)
    first, second = await purse.melt_quote(invoice), await purse.melt_quote(invoice)
    context = bank.mint._context
    store = context.store
    bank.rail.set_faults(PlayFaults(always=Fault.hang()))
    held = await melt.begin(context, MeltRequest("bolt11", first.quote, tuple(await purse.mint(64))))
    waiting = await melt.find_melt_quote(context, second.quote)
    pending = replace(waiting, state=MeltState.PENDING, owner="b", attempts=1)

    async def body(tx: Transaction) -> list[Row]:
        async def let_go() -> None:
            await store.change_melt_quote(tx, held, replace(held, state=MeltState.UNPAID, owner=""))

        meanwhile = Interleaved(tx, "INSERT INTO melt_payment", let_go)
        assert await store.change_melt_quote(meanwhile, waiting, pending)
        return await tx.fetch("SELECT quote FROM melt_payment")

    assert await context.storage.transact(body) == [(second.quote,)]


def test_processes_that_start_together_make_one_keyset() -> None:
    """Each finds none and makes the first: the slower one takes what the faster one made, in place of rotating it away."""

    async def main() -> None:
        store = FailingStore(SqliteStorage(":memory:", inline=True))
        await store.migrate(MIGRATIONS)

        async def start(seed: int, done: asyncio.Event) -> list[tuple[str, bool]]:
            async with house(storage=store, seed=seed, exclusive=False) as bank:
                await done.wait()
                await bank.mint._context.catalogue.load()
                return [(keyset.id, keyset.active) for keyset in bank.mint.keysets()]

        done = asyncio.Event()
        starting = asyncio.gather(*(start(seed, done) for seed in range(3)))
        await asyncio.sleep(1)
        done.set()
        first, *others = await starting
        assert len(first) == 1
        assert others == [first, first]
        await store.close()

    run_virtual(main())
