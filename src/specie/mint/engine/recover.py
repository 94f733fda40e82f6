"""What runs beside the verbs: arrivals are booked, payments without a known end are followed, keysets are refreshed.

Each is safe to run in every process at once: arrivals are booked by unique insert, payments are taken by lease.
"""

from __future__ import annotations

from dataclasses import replace

from specie.ecash.codes import (
    PaymentFailedError,
)
from specie.kernel import IncomingPayment, Rail, SpecieError, UnavailableError, UncertainError
from specie.mint.engine import deposit, melt
from specie.mint.engine.catalogue import KEYSETS_CHANNEL
from specie.mint.engine.context import Context
from specie.mint.quotes import MeltRecord

__all__ = ["follow_arrivals", "follow_keysets", "reconcile", "reconcile_all"]

_PAUSE_S = 1.0
_DAY_S = 86_400


async def reconcile(context: Context, record: MeltRecord) -> MeltRecord | None:
    """Take the lease of a payment nobody holds and bring it as far as the rail knows; None if somebody holds it.

    Each time under a new name: whoever held the lease before, be it this very process, is then relieved, and what it
    still hears from the rail releases nothing. A quote whose inputs were released comes back UNPAID. UnavailableError,
    with the lease given back, if nothing was learnt. Where settling fails and waiting alone will not mend it, someone is paged:
    once in a run and day.
    """
    now = context.clock.now()
    dead = context.exclusive and record.owner.partition("/")[0] != context.owner
    if record.owner and now < record.lease_until and not dead:
        return None
    holder = f"{context.owner}/{context.entropy.bytes(4).hex()}"
    ours = replace(record, owner=holder, lease_until=now + melt.LEASE_S)
    if not await context.storage.transact(lambda tx: context.store.change_melt_quote(tx, record, ours)):
        return None
    try:
        async with melt.held(context, ours):
            outcome = await melt.resolve(context, ours)
    except UnavailableError:
        free = replace(ours, owner="", lease_until=0)
        await context.storage.transact(lambda tx: context.store.change_melt_quote(tx, ours, free))
        raise
    try:
        return await melt.settle(context, ours, outcome)
    except PaymentFailedError:
        return await melt.find_melt_quote(context, record.quote)
    except (UnavailableError, UncertainError):
        raise
    except Exception as error:
        told = f"{record.quote} {now // _DAY_S}"
        if told not in context.paged:
            context.paged.add(told)
            context.telemetry.page("settling a payment failed; it stays PENDING", quote=record.quote, error=repr(error))
        raise


async def reconcile_all(context: Context, *, busy: frozenset[str] = frozenset()) -> int:
    """One look at every payment in flight that is not `busy` in this process; how many came to an end."""
    ended = 0
    for record in await context.storage.read(context.store.pending_melts):
        if record.quote in busy:
            continue
        try:
            result = await reconcile(context, record)
        except SpecieError as error:
            context.telemetry.event("reconcile_failed", quote=record.quote, rail=record.rail, reason=error.detail)
            continue
        if result is not None and result.state != record.state:
            ended += 1
    return ended


async def follow_arrivals(context: Context, rail: Rail) -> None:
    """Book everything that arrives on a rail, from the remembered cursor on, until cancelled."""
    while True:
        try:
            cursor = await context.storage.read(lambda tx: context.store.cursor(tx, rail.name))
            async for payment in rail.arrivals(cursor):
                await _book(context, rail, payment)
        except (UnavailableError, UncertainError) as error:  # what was booked without our knowing is booked once
            context.telemetry.event("arrivals_interrupted", rail=rail.name, reason=error.detail)
        await context.clock.sleep(_PAUSE_S)


async def _book(context: Context, rail: Rail, payment: IncomingPayment) -> None:
    """Book one arrival; a quote that moves at the same moment is tried again, for it is only contention."""
    for attempt in range(20):
        try:
            await deposit.credit(context, rail.name, payment, cursor=True)
            return
        except UnavailableError as error:
            if attempt == 19:
                raise
            await context.clock.sleep(error.retry_after_s)


async def follow_keysets(context: Context) -> None:
    """Refresh the catalogue whenever any process rotates a keyset, until cancelled."""
    async for _ in context.storage.listen(KEYSETS_CHANNEL):
        await context.catalogue.load()
