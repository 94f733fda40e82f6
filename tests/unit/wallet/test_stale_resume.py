"""`resume` acts on what an operation is now, not on what it was when it was listed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from specie.kernel import UnavailableError
from specie.wallet.states import OperationState
from tests.support.wallets import virtually, world


@virtually
async def test_an_operation_that_failed_meanwhile_is_not_sent() -> None:
    """Listed as OPEN, then closed as never sent by its maker, its counters given back: it must not reach the mint."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("before", "swap", *[UnavailableError("away") for _ in range(10)])
        with pytest.raises(UnavailableError):
            await wallet.send(37)
        context = wallet._context
        (failed,) = await context.storage.read(lambda tx: context.store.operations(tx, (OperationState.FAILED,)))
        w.faults.before.clear()
        sent = w.faults.calls.count("swap")

        async def stale(tx: object, states: object) -> list[object]:
            return [replace(failed, state=OperationState.OPEN)]

        context.store.operations = stale  # type: ignore[method-assign, assignment]
        report = await wallet.resume()
        assert w.faults.calls.count("swap") == sent
        assert not report.settled
        assert not context.busy
        del context.store.operations
        assert (await wallet.balance()).available == 100
        await w.books_hold(wallet)


@virtually
async def test_an_operation_that_a_task_is_about_to_send_is_left_to_it() -> None:
    """From the moment it is journalled an operation is its maker's: a resume that runs beside a send takes none up."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        context = wallet._context
        looked: list[int] = []
        swap = w.client.swap

        async def swap_beside_a_resume(request: bytes) -> object:
            report = await wallet.resume()
            looked.append(len(report.settled) + len(report.failed) + len(report.open))
            return await swap(request)

        w.client.swap = swap_beside_a_resume  # type: ignore[method-assign, assignment]
        await wallet.send(37)
        assert looked == [0]
        assert not context.busy
