"""No double spend under any interleaving, and one answer for one request, however often and wherever it is asked.

Requests over overlapping coins run at once, in one or two processes, on a store that makes each of them wait a generated time
at each of its transactions: the order in which they meet is the test's input, and a failure repeats itself.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from specie.ecash import MeltQuote, MeltRequest, MeltState, MintQuoteRequest, MintRequest, Proof, SwapRequest
from specie.ecash import codes as refused
from specie.kernel import RefusedError, UnavailableError, split_amount
from specie.lightning.adapters.play import Fault, PlayFaults
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, Purse, house
from tests.support.orders import foreign_invoice, watch_orders
from tests.support.slow import Slow, two_banks
from tests.support.virtual import run_virtual

T = TypeVar("T")

few = settings(max_examples=40)


@dataclass(frozen=True)
class Job:
    """Spend these coins, at this process, so much later, that many times at once."""

    coins: tuple[int, ...]
    pays: bool
    process: int
    delay: int
    times: int


jobs = st.lists(
    st.builds(
        Job,
        coins=st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True).map(tuple),
        pays=st.booleans(),
        process=st.integers(0, 1),
        delay=st.integers(0, 6),
        times=st.integers(1, 2),
    ),
    min_size=2,
    max_size=6,
)
pauses = st.lists(st.integers(0, 9), min_size=3, max_size=17)
faults = st.sampled_from([None, Fault.delay(2.0), Fault.late(7.0), Fault.fail(), Fault.lost(), Fault.delay(60.0)])

TOLD = (
    refused.ProofsSpentError,
    refused.ProofsPendingError,
    refused.PaymentFailedError,
    refused.QuotePendingError,
    refused.UnbalancedError,
    UnavailableError,
)
"""What a request that took no effect may be told."""


async def _ask(bank: House, request: SwapRequest | MeltRequest, delay: int) -> object:
    await asyncio.sleep(delay / 100)
    try:
        return await (bank.mint.swap(request) if isinstance(request, SwapRequest) else bank.mint.melt(request))
    except (RefusedError, UnavailableError) as error:
        return error


@few
@given(jobs=jobs, pauses=pauses, fault=faults)
def test_each_coin_is_spent_at_most_once_in_any_order(jobs: list[Job], pauses: list[int], fault: Fault | None) -> None:
    """At most one request over a coin takes effect, equal ones get one answer, and the rest keeps its coins."""

    async def main() -> None:
        async with two_banks(pauses) as (store, banks):
            orders = [watch_orders(bank.rail) for bank in banks]
            purse = Purse(banks[0])
            coins = [coin for _ in range(6) for coin in await purse.mint(16)]
            requests: list[SwapRequest | MeltRequest] = []
            for number, job in enumerate(jobs):
                chosen = tuple(coins[index] for index in job.coins)
                if job.pays:
                    quote = await purse.melt_quote(await foreign_invoice(banks[0], 10_000, f"job {number}"))
                    requests.append(MeltRequest("bolt11", quote.quote, chosen, purse.outputs([1] * 3).messages))
                else:
                    requests.append(SwapRequest(chosen, purse.outputs([16] * len(chosen)).messages))
            for bank in banks:
                bank.rail.set_faults(PlayFaults(always=fault))
            store.awake = True
            asked = [
                _ask(banks[(job.process + turn) % 2], request, job.delay)
                for job, request in zip(jobs, requests, strict=True)
                for turn in range(job.times)
            ]
            answers = await asyncio.gather(*asked)
            await asyncio.sleep(300)  # everything under way comes to its end
            store.awake = False
            for bank in banks:
                bank.rail.set_faults(PlayFaults())
            await asyncio.sleep(300)
            await _judge(banks, coins, jobs, requests, answers)
            paid = {order.payment_id for one in orders for order in one}
            for payment in paid:
                attempts = {order.attempt for one in orders for order in one if order.payment_id == payment}
                outcomes = [(await banks[0].rail.outgoing(payment, attempt)).state for attempt in attempts]
                assert outcomes.count(outcomes[0].__class__.PAID) <= 1

    run_virtual(main())


async def _judge(
    banks: list[House],
    coins: list[Proof],
    jobs: list[Job],
    requests: list[SwapRequest | MeltRequest],
    answers: list[object],
) -> None:
    """Count what took effect, by the store and not by the answers alone."""
    took: list[Job] = []
    position = 0
    for job, request in zip(jobs, requests, strict=True):
        mine, position = answers[position : position + job.times], position + job.times
        if isinstance(request, SwapRequest):
            good = [one for one in mine if not isinstance(one, BaseException)]
            effect = bool(good)
            assert all(one == good[0] for one in good)
        else:
            seen = await banks[1].mint.melt_quote(request.quote, "bolt11")
            assert seen.state in (MeltState.PAID, MeltState.UNPAID)
            effect = seen.state is MeltState.PAID
            told = {one.state for one in mine if isinstance(one, MeltQuote)}
            assert MeltState.PAID not in told or effect
        if effect:
            took.append(job)
        assert all(isinstance(one, TOLD) for one in mine if isinstance(one, BaseException)), mine
    spent = [index for job in took for index in job.coins]
    assert len(spent) == len(set(spent)), "a coin was spent twice"
    states = await banks[0].mint.check_state([coin.y for coin in coins])
    assert [one.state.value for one in states] == ["SPENT" if index in spent else "UNSPENT" for index in range(len(coins))]
    for bank in banks:
        await bank.mint.audit()


@few
@given(amount=st.integers(1, 300), times=st.integers(2, 5), different=st.integers(0, 3), pauses=pauses)
def test_a_deposit_is_issued_once_in_any_order(amount: int, times: int, different: int, pauses: list[int]) -> None:
    """Equal and different requests for one paid quote, at two processes at once: one answer, issued once."""

    async def main() -> None:
        async with two_banks(pauses) as (store, banks):
            purse = Purse(banks[0])
            parts = split_amount(amount, banks[0].keyset().keys)
            quote = await banks[0].mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", amount))
            await banks[0].pay(quote)
            same = MintRequest("bolt11", quote.quote, purse.outputs(parts).messages)
            others = [MintRequest("bolt11", quote.quote, purse.outputs(parts).messages) for _ in range(different)]
            store.awake = True
            asked = [banks[turn % 2].mint.issue(request) for turn, request in enumerate([same] * times + others)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            store.awake = False
            good = [one for one in answers if not isinstance(one, BaseException)]
            assert all(one == good[0] for one in good)
            failed = [one for one in answers if isinstance(one, BaseException)]
            assert all(isinstance(one, (refused.QuoteIssuedError, UnavailableError)) for one in failed)
            books = await banks[1].mint.audit()
            assert sum(books.issued(one, "sat") for one in books.keysets("sat")) == (amount if good else 0)
            if not good:  # all met at the same moment: nothing happened, and asking again succeeds
                assert await banks[0].mint.issue(same)

    run_virtual(main())


@few
@given(verb=st.sampled_from(["swap", "mint", "melt"]), times=st.integers(2, 6), pauses=pauses, rotated=st.booleans())
def test_every_verb_is_idempotent(verb: str, times: int, pauses: list[int], rotated: bool) -> None:
    """One request many times at once, after a rotation and after a restart: one answer, one entry in the books."""

    async def main() -> None:
        store = Slow(SqliteStorage(":memory:", inline=True), pauses)
        async with house(storage=store) as bank:
            orders = watch_orders(bank.rail)
            purse = Purse(bank)
            coins = tuple(await purse.mint(64))
            asked = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 5))
            await bank.pay(asked)
            price = await purse.melt_quote(await foreign_invoice(bank))
            minting = MintRequest("bolt11", asked.quote, purse.outputs([1, 4]).messages)
            swapping = SwapRequest(coins, purse.outputs([32, 32]).messages)
            melting = MeltRequest("bolt11", price.quote, coins, purse.outputs([1] * 6).messages)

            async def do(at: House) -> object:
                for _ in range(100):
                    try:
                        if verb == "mint":
                            return await at.mint.issue(minting)
                        return await (at.mint.swap(swapping) if verb == "swap" else at.mint.melt(melting))
                    except UnavailableError:
                        await asyncio.sleep(0.1)
                raise AssertionError("never answered")

            store.awake = True
            answers = await asyncio.gather(*(do(bank) for _ in range(times)))
            store.awake = False
            first = await do(bank)
            assert all(one == first for one in answers if not isinstance(one, MeltQuote) or one.state is MeltState.PAID)
            books = await bank.mint.audit()
            if rotated:
                await bank.mint.rotate_keyset("sat")
            assert await do(bank) == first
            clock = bank.clock
        async with house(storage=store, clock=clock, seed="again") as again:
            orders += watch_orders(again.rail)
            assert await do(again) == first
            assert (await again.mint.audit()).balances == books.balances
            assert len(orders) == (verb == "melt")
        await store.close()

    run_virtual(main())
