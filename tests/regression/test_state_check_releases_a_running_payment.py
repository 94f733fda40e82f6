"""The mistake: a look at a payment that is running releases its coins.

Somebody asks for the state of a quote, a coin or a payment, the backend says "failed" or "unknown" because the attempt is
still being made in another task or process, and the coins are given back: they are spent again while the payment arrives.
Here a look changes nothing, and only the holder of the lease orders, settles or releases.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from specie.ecash import MeltRequest, MeltState, Proof
from specie.ecash import codes as refused
from specie.kernel import PaymentOrder, PaymentOutcome, PaymentState
from specie.lightning.adapters.play import Answer, Fault, PlayFaults
from specie.mint import MintSettings
from specie.mint.engine import melt as saga
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, Purse, house
from tests.support.orders import foreign_invoice, watch_orders
from tests.support.virtual import run_virtual

IMPATIENT = MintSettings(reconcile_every_s=1)
STALLED = MintSettings(reconcile_every_s=1_000_000)


async def states(bank: House, coins: list[Proof]) -> set[str]:
    return {one.state.value for one in await bank.mint.check_state([coin.y for coin in coins])}


@contextlib.asynccontextmanager
async def two_processes(first: MintSettings = IMPATIENT) -> AsyncIterator[tuple[House, House]]:
    """Two mints on one store, each with its own view of the rail; the second looks around every second."""
    store = SqliteStorage(":memory:", inline=True)
    async with (
        house(storage=store, exclusive=False, settings=first) as one,
        house(storage=store, exclusive=False, settings=IMPATIENT, clock=one.clock, seed="two") as two,
    ):
        yield one, two
    await store.close()


def say(bank: House, state: PaymentState) -> None:
    """From now on this process hears `state` of every payment that it asks about."""

    async def outgoing(payment_id: str, attempt: str) -> PaymentOutcome:
        return PaymentOutcome(state, reason="a poll that does not see the running attempt")

    bank.rail.outgoing = outgoing  # type: ignore[method-assign]


@pytest.mark.parametrize("lie", [PaymentState.FAILED, PaymentState.ABSENT, PaymentState.UNKNOWN, PaymentState.PAID])
def test_another_process_looks_while_the_attempt_runs(lie: PaymentState) -> None:
    """For ten minutes another process polls, reconciles and is told a lie by the rail: coins stay PENDING until the end."""

    async def main() -> None:
        async with two_processes() as (bank, other):
            orders = watch_orders(bank.rail), watch_orders(other.rail)
            say(other, lie)
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            bank.rail.set_faults(PlayFaults(always=Fault.delay(600.0)))
            request = MeltRequest("bolt11", quote.quote, tuple(coins), purse.outputs([1] * 4).messages)
            slow = _patient(bank)
            running = asyncio.create_task(bank.mint.melt(request))
            for _ in range(60):
                await asyncio.sleep(10)
                if running.done():
                    break
                assert await other.mint.reconcile() == 0
                assert (await other.mint.melt_quote(quote.quote, "bolt11")).state is MeltState.PENDING
                assert await states(other, coins) == {"PENDING"}
                with pytest.raises(refused.ProofsPendingError):
                    await Purse(other, "thief").swap(coins, [64])
            assert (await running).state is MeltState.PAID
            assert slow.called == 1
            assert sum(map(len, orders)) == 1
            assert await states(other, coins) == {"SPENT"}
            await bank.mint.audit()

    run_virtual(main())


class _patient:
    """The rail's `pay` waits for the truth however long it takes, as a backend without deadline does."""

    def __init__(self, bank: House) -> None:
        self.called = 0
        self._pay = bank.rail.pay
        bank.rail.pay = self.pay  # type: ignore[method-assign]

    async def pay(self, order: PaymentOrder) -> PaymentOutcome:
        self.called += 1
        from dataclasses import replace

        return await self._pay(replace(order, deadline_s=10_000.0))


@pytest.mark.parametrize("lie", [PaymentState.FAILED, PaymentState.ABSENT])
def test_our_own_reconciler_leaves_a_running_attempt_alone(lie: PaymentState) -> None:
    """In the same process the schedule asks nothing about a payment that a task is making, whatever the rail would say."""

    async def main() -> None:
        async with house(settings=IMPATIENT) as bank:
            orders = watch_orders(bank.rail)
            _patient(bank)
            say(bank, lie)
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            bank.rail.set_faults(PlayFaults(always=Fault.delay(120.0)))
            running = asyncio.create_task(purse.melt(quote, coins, blanks=4))
            await asyncio.sleep(60)
            assert await bank.mint.reconcile() == 0
            assert await states(bank, coins) == {"PENDING"}
            assert (await running).state is MeltState.PAID
            assert len(orders) == 1

    run_virtual(main())


def test_looks_never_change_anything() -> None:
    """GET quote, check state and restore while a payment hangs: the store before and after is the same."""

    async def main() -> None:
        async with house(settings=MintSettings(reconcile_every_s=10_000)) as bank:
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            bank.rail.set_faults(PlayFaults(always=Fault(PaymentState.PENDING, answer=Answer.PENDING)))
            blanks = purse.outputs([1] * 4)
            await bank.mint.melt(MeltRequest("bolt11", quote.quote, tuple(coins), blanks.messages))
            before = await bank.mint.pending_melts()
            say(bank, PaymentState.FAILED)
            for _ in range(20):
                await bank.mint.melt_quote(quote.quote, "bolt11")
                await states(bank, coins)
                assert await bank.mint.restore(blanks.messages) == []
            assert await bank.mint.pending_melts() == before
            assert await states(bank, coins) == {"PENDING"}

    run_virtual(main())


def test_an_outage_at_the_restart_does_not_make_a_payment_unknown() -> None:
    """A crash before the order, then a rail that is away for a while: once it is back the payment is ordered, once, and made.

    A reconciler that takes "away" for "on its way" believes the order to be given, and locks the coins for ever.
    """

    async def main() -> None:
        async with house(settings=IMPATIENT) as bank:
            orders = watch_orders(bank.rail)
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            await saga.begin(bank.mint._context, MeltRequest("bolt11", quote.quote, tuple(coins)))
            bank.rail.set_faults(PlayFaults(unavailable=True))
            await asyncio.sleep(120)
            assert await states(bank, coins) == {"PENDING"}
            assert not bank.telemetry.pages
            bank.rail.set_faults(PlayFaults())
            await asyncio.sleep(120)
            assert (await bank.mint.melt_quote(quote.quote, "bolt11")).state is MeltState.PAID
            assert len(orders.attempts) == 1
            await bank.mint.audit()

    run_virtual(main())


def test_taking_over_from_a_silent_process_never_releases_on_an_outage() -> None:
    """A process stalls with its order on the way, another takes its lease and cannot reach the rail: the coins stay locked.

    "Not reachable" proves that nothing happened only to the one who made the call; the stalled order arrives later and pays.
    """

    async def main() -> None:
        async with two_processes(STALLED) as (bank, other):
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            stalled = await saga.begin(bank.mint._context, MeltRequest("bolt11", quote.quote, tuple(coins)))
            other.rail.set_faults(PlayFaults(always=Fault.unavailable()))
            await asyncio.sleep(saga.LEASE_S * 4)
            assert await states(other, coins) == {"PENDING"}
            outcome = await saga.order(bank.mint._context, stalled)  # it arrives after all
            assert outcome.state is PaymentState.PAID
            await asyncio.sleep(saga.LEASE_S * 4)
            assert (await other.mint.melt_quote(quote.quote, "bolt11")).state is MeltState.PAID
            assert await states(bank, coins) == {"SPENT"}
            await bank.mint.audit()

    run_virtual(main())


def test_a_failure_seen_by_a_stale_process_releases_nothing() -> None:
    """A process that lost its lease hears FAILED of its attempt: it may not release what the other is settling."""

    async def main() -> None:
        async with two_processes() as (bank, other):
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            stale = await saga.begin(bank.mint._context, MeltRequest("bolt11", quote.quote, tuple(coins)))
            other.rail.set_faults(PlayFaults(always=Fault(PaymentState.PENDING, answer=Answer.PENDING)))
            bank.clock.skip(saga.LEASE_S + 1)
            await other.mint.reconcile()
            left = await saga.settle(bank.mint._context, stale, PaymentOutcome(PaymentState.FAILED))
            assert left.state is MeltState.PENDING
            assert await states(bank, coins) == {"PENDING"}

    run_virtual(main())
