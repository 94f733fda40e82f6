"""Races: two things at once over one coin, one output, one quote, one payment, one token, at two processes.

Each race is run under generated orders of its transactions. It names what at most one contestant may get, and the referee
asks the store afterwards: what was won, and whether the books of both processes balance. Contestants that lose are told so
by an error of the house's tree and keep what they had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.ecash import MeltRequest, MeltState, MintQuote, MintQuoteRequest, MintRequest, Proof, State, SwapRequest
from specie.ecash.codes import BlindAuthFailedError
from specie.kernel import SpecieError
from specie.lightning import decode_invoice
from tests.support.house import House
from tests.support.methods import Teller, foreign_address
from tests.support.openid import blind_tokens
from tests.support.orders import foreign_invoice, watch_orders
from tests.support.races import Contestant, Race, check, late, nothing
from tests.support.slow import Slow, two_banks
from tests.support.virtual import run_virtual
from tests.support.wallets import MINT_URL, World, memory_storage, world


@dataclass
class Track:
    """Two processes of one bank, a purse with coins, and the store that orders the race."""

    store: Slow
    banks: list[House]
    purse: Teller
    coins: list[Proof] = field(default_factory=list)

    def swap(self, coins: Sequence[Proof], at: int, messages: Any = None) -> Contestant:
        request = SwapRequest(tuple(coins), messages or self.purse.outputs([coin.amount for coin in coins]).messages)
        return lambda: self.banks[at].mint.swap(request)

    async def melt(self, coins: Sequence[Proof], at: int, invoice: str, messages: Any = ()) -> Contestant:
        quote = await self.purse.melt_quote(invoice)
        request = MeltRequest("bolt11", quote.quote, tuple(coins), tuple(messages))

        async def run() -> object:
            answer = await self.banks[at].mint.melt(request)
            assert answer.state in (MeltState.PAID, MeltState.PENDING)
            return answer

        return run

    def invoice(self, name: str) -> Coroutine[Any, Any, str]:
        return foreign_invoice(self.banks[0], 10_000, name)

    async def states(self) -> list[State]:
        return [one.state for one in await self.banks[1].mint.check_state([coin.y for coin in self.coins])]


# At the mint


async def one_coin_two_swaps(t: Track) -> Race:
    """One is signed."""
    return Race([t.swap(t.coins[:1], 0), t.swap(t.coins[:1], 1)], 1, nothing)


async def overlapping_swaps(t: Track) -> Race:
    """A chain of swaps, each sharing a coin with the next, in opposite orders: no two neighbours, and no deadlock."""
    pairs = [[t.coins[0], t.coins[1]], [t.coins[2], t.coins[1]], [t.coins[2], t.coins[3]], [t.coins[0], t.coins[3]]]
    return Race([t.swap(pair, n % 2) for n, pair in enumerate(pairs)], 2, nothing)


async def a_swap_and_a_payment(t: Track) -> Race:
    """The coin is swapped or pays."""
    paying = await t.melt(t.coins[:1], 1, await t.invoice("a"))
    return Race([t.swap(t.coins[:1], 0), paying], 1, nothing)


async def two_payments_of_one_coin(t: Track) -> Race:
    """One of two invoices is paid."""
    orders = [watch_orders(bank.rail) for bank in t.banks]
    racers = [await t.melt(t.coins[:1], n, await t.invoice(f"payee {n}")) for n in range(2)]

    async def judge(results: list[Any]) -> None:
        assert len({order.payment_id for one in orders for order in one}) <= 1

    return Race(racers, 1, judge)


async def two_quotes_for_one_invoice(t: Track) -> Race:
    """It is paid once, with one of the two coins."""
    orders = [watch_orders(bank.rail) for bank in t.banks]
    invoice = await t.invoice("one")
    racers = [await t.melt([t.coins[n]], n, invoice) for n in range(2)]

    async def judge(results: list[Any]) -> None:
        assert len({order.attempt for one in orders for order in one}) <= 1
        assert (await t.states())[:2].count(State.SPENT) <= 1

    return Race(racers, 1, judge)


async def one_output_two_swaps(t: Track) -> Race:
    """One blinded message is signed once, for one of two coins; the other coin is kept."""
    messages = t.purse.outputs([16]).messages

    async def judge(results: list[Any]) -> None:
        assert (await t.states())[:2].count(State.SPENT) == sum(not isinstance(one, BaseException) for one in results)

    return Race([t.swap([t.coins[n]], n, messages) for n in range(2)], 1, judge)


async def an_output_and_a_blank(t: Track) -> Race:
    """One blinded message asked for by a swap and promised as change."""
    messages = t.purse.outputs([16]).messages
    paying = await t.melt(t.coins[1:2], 1, await t.invoice("b"), messages)
    return Race([t.swap(t.coins[:1], 0, messages), paying], 1, nothing)


async def one_quote_two_issues(t: Track) -> Race:
    """A paid quote is issued once."""
    quote = await t.banks[0].mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 16))
    await t.banks[0].pay(quote)
    asked = [MintRequest("bolt11", quote.quote, t.purse.outputs([16]).messages) for _ in range(3)]
    return Race([lambda r=r, n=n: t.banks[n % 2].mint.issue(r) for n, r in enumerate(asked)], 1, nothing)  # type: ignore[misc]


async def one_output_swap_and_issue(t: Track) -> Race:
    """One blinded message asked for by a swap and by a paid quote; what lost can be had with another."""
    messages = t.purse.outputs([16]).messages
    quote = await t.banks[0].mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 16))
    await t.banks[0].pay(quote)
    issuing = MintRequest("bolt11", quote.quote, messages)

    async def judge(results: list[Any]) -> None:
        if isinstance(results[1], BaseException):
            assert await t.banks[0].mint.issue(MintRequest("bolt11", quote.quote, t.purse.outputs([16]).messages))

    return Race([t.swap(t.coins[:1], 0, messages), lambda: t.banks[1].mint.issue(issuing)], 1, judge)


async def an_own_invoice_paid_twice(t: Track) -> Race:
    """An invoice of the mint itself is paid inside while the network pays it: owed once by the quote, no coin for nothing."""
    quote = await t.banks[0].mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 10))
    inside = await t.melt(t.coins[:1], 1, quote.request)
    payment = decode_invoice(quote.request).payment_id

    async def judge(results: list[Any]) -> None:
        seen = await t.banks[1].mint.mint_quote(quote.quote, "bolt11")
        assert seen.amount_paid >= 10
        assert await t.banks[0].mint.issue(MintRequest("bolt11", quote.quote, t.purse.outputs([2, 8]).messages))

    return Race([inside, lambda: t.banks[0].rail.settle(payment)], 2, judge, least=1)


async def a_deposit_told_twice(t: Track) -> Race:
    """The stream of arrivals and a look at the quote, at both processes: credited once."""
    quote = await t.banks[0].mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 10))
    payment = decode_invoice(quote.request).payment_id
    looks: list[Contestant] = [lambda n=n: t.banks[n].mint.mint_quote(quote.quote, "bolt11") for n in (0, 1)]  # type: ignore[misc]

    async def judge(results: list[Any]) -> None:
        assert (await t.banks[1].mint.mint_quote(quote.quote, "bolt11")).amount_paid == 10

    return Race([lambda: t.banks[0].rail.settle(payment), *looks, *looks], 5, judge)


async def a_rotation_under_swaps(t: Track) -> Race:
    """The keyset is retired while swaps ask for it: each is signed whole or refused whole."""

    async def judge(results: list[Any]) -> None:
        won = sum(not isinstance(one, BaseException) for one in results[:4])
        assert (await t.states()).count(State.SPENT) == won

    swaps = [t.swap([t.coins[n]], n % 2) for n in range(4)]
    return Race([*swaps, lambda: t.banks[0].mint.rotate_keyset("sat")], 5, judge)


async def states_seen_during_a_swap(t: Track) -> Race:
    """Who is told SPENT is never told UNSPENT afterwards."""
    seen: list[list[State]] = []

    async def look(at: int) -> None:
        told = []
        for _ in range(6):
            told.append((await t.banks[at].mint.check_state([t.coins[0].y]))[0].state)
            await asyncio.sleep(0.03)
        seen.append(told)

    async def judge(results: list[Any]) -> None:
        for told in seen:
            assert told == sorted(told, key=lambda state: state is State.SPENT)

    return Race([t.swap(t.coins[:1], 0), lambda: look(0), lambda: look(1)], 3, judge)


async def a_restore_during_a_swap(t: Track) -> Race:
    """Restored outputs are those of coins that are spent: all of a swap or nothing."""
    outputs = t.purse.outputs([8, 8])
    found: list[int] = []

    async def look() -> None:
        for _ in range(4):
            found.append(len(await t.banks[1].mint.restore(outputs.messages)))
            await asyncio.sleep(0.03)

    async def judge(results: list[Any]) -> None:
        assert set(found) <= {0, 2}

    return Race([t.swap(t.coins[:1], 0, outputs.messages), look], 2, judge)


async def two_processes_take_up_one_payment(t: Track) -> Race:
    """A payment that a dead process left: both reconcile, it is ordered once."""
    orders = [watch_orders(bank.rail) for bank in t.banks]
    from specie.mint.engine import melt

    quote = await t.purse.melt_quote(await t.invoice("left"))
    await melt.begin(t.banks[0].mint._context, MeltRequest("bolt11", quote.quote, (t.coins[0],)))
    t.banks[0].clock.skip(melt.LEASE_S + 1)

    async def judge(results: list[Any]) -> None:
        await asyncio.sleep(200)
        assert len({order.attempt for one in orders for order in one}) <= 1
        seen = await t.banks[1].mint.melt_quote(quote.quote, "bolt11")
        assert (seen.state is MeltState.PAID) == ((await t.states())[0] is State.SPENT)

    return Race([bank.mint.reconcile for bank in t.banks] * 2, 4, judge)


async def _paid(t: Track, method: str, *amounts: int) -> list[MintQuote]:
    """Quotes of a method that were paid, and are known to be."""
    quotes = []
    for amount in amounts:
        quote = await t.purse.quote(method, amount if method == "bolt11" else None)
        await t.purse.deposit(quote, amount)
        quotes.append(await t.banks[0].mint.mint_quote(quote.quote, method))
        assert quotes[-1].amount_paid == amount
    return quotes


def _won(results: Sequence[Any]) -> list[Any]:
    return [one for one in results if not isinstance(one, BaseException)]


async def a_batch_and_a_single_issue(t: Track) -> Race:
    """Two batches in opposite orders and one of their quotes alone, each for other outputs: one is signed, whole (NUT-29)."""
    quotes = await _paid(t, "bolt11", 4, 8)
    batches = [t.purse.batch(order, 12) for order in (quotes, quotes[::-1])]

    async def judge(results: list[Any]) -> None:
        looks = await t.banks[1].mint.check_mint_quotes([one.quote for one in quotes], "bolt11")
        signed = sum(signature.amount for answer in _won(results) for signature in answer)
        assert sum(look.amount_issued for look in looks) == signed
        assert [look.amount_issued for look in looks] in ([4, 8], [4, 0])

    racers: list[Contestant] = [lambda r=r, n=n: t.banks[n].mint.issue_batch(r) for n, r in enumerate(batches)]  # type: ignore[misc]
    return Race([*racers, lambda: t.purse.issue(quotes[0], 4)], 1, judge, least=1)


async def batches_in_a_ring(t: Track) -> Race:
    """Each shares a quote with the next: no two neighbours, and nobody waits for ever."""
    quotes = await _paid(t, "bolt11", 1, 2, 4, 8)
    pairs = [[quotes[n], quotes[(n + 1) % 4]] for n in range(4)]
    asked = [t.purse.batch(pair, sum(one.amount_paid for one in pair)) for pair in pairs]

    async def judge(results: list[Any]) -> None:
        looks = await t.banks[1].mint.check_mint_quotes([one.quote for one in quotes], "bolt11")
        signed = sum(signature.amount for answer in _won(results) for signature in answer)
        assert sum(look.amount_issued for look in looks) == signed

    return Race([lambda r=r, n=n: t.banks[n % 2].mint.issue_batch(r) for n, r in enumerate(asked)], 2, judge, least=1)  # type: ignore[misc]


async def one_batch_sent_twice(t: Track) -> Race:
    """The same request at both processes: one answer, given to whoever asks again."""
    quotes = await _paid(t, "bolt12", 10, 6)
    request = t.purse.batch(quotes, 16, [10, 6])

    async def judge(results: list[Any]) -> None:
        again = await t.banks[0].mint.issue_batch(request)
        assert all(answer == again for answer in _won(results))

    return Race([lambda n=n: t.banks[n % 2].mint.issue_batch(request) for n in range(4)], 4, judge, least=1)  # type: ignore[misc]


async def parts_of_one_offer(t: Track) -> Race:
    """What arrived is issued in parts, alone and in a batch, never more than is there (NUT-25)."""
    offer, other = await _paid(t, "bolt12", 10, 3)
    single = [t.purse.part(offer, amount) for amount in (6, 6, 4)]
    batch = t.purse.batch([other, offer], 7, [3, 4])

    async def judge(results: list[Any]) -> None:
        looks = await t.banks[1].mint.check_mint_quotes([offer.quote, other.quote], "bolt12")
        signed = sum(signature.amount for answer in _won(results) for signature in answer)
        assert sum(look.amount_issued for look in looks) == signed
        assert all(look.amount_issued <= look.amount_paid for look in looks)

    racers: list[Contestant] = [lambda r=r, n=n: t.banks[n % 2].mint.issue(r) for n, r in enumerate(single)]  # type: ignore[misc]
    return Race([*racers, lambda: t.banks[0].mint.issue_batch(batch)], 2, judge, least=1)


async def a_reorganisation_while_issuing(t: Track) -> Race:
    """What a block gave and no block has any more: not issued, or the mint's loss, which the next deposit makes up for."""
    quote = await t.purse.quote("onchain")
    sent = await t.banks[0].onchain.settle(quote.request, 1_000_000)
    await t.banks[0].onchain.mine(3)
    asked = [t.purse.part(quote, 1000) for _ in range(2)]

    async def gone() -> None:
        await t.banks[0].onchain.reorganise(3, drop=sent.receipt_id.partition(":")[0])

    async def judge(results: list[Any]) -> None:
        issued = 1000 * len(_won(results[1:3]))
        after = await t.banks[1].mint.mint_quote(quote.quote, "onchain")
        assert (after.amount_paid, after.amount_issued) == (issued, issued)
        books = await t.banks[1].mint.audit()
        assert books.of("expense:withdrawn_deposits", "sat") == issued
        await t.banks[1].onchain.settle(quote.request, 1_500_000)
        await t.banks[1].onchain.mine(3)
        await asyncio.sleep(10)
        later = await t.banks[0].mint.mint_quote(quote.quote, "onchain")
        assert later.amount_paid - later.amount_issued == 1500 - issued

    issues: list[Contestant] = [lambda r=r, n=n: t.banks[n].mint.issue(r) for n, r in enumerate(asked)]  # type: ignore[misc]
    return Race([gone, *issues, lambda: t.banks[1].mint.mint_quote(quote.quote, "onchain")], 3, judge, least=1)


async def a_deposit_that_comes_and_goes(t: Track) -> Race:
    """Told by the streams of both processes and by looks, around its withdrawals: counted once in the end."""
    quote = await t.purse.quote("onchain")
    await t.banks[0].onchain.settle(quote.request, 1_000_000)

    async def blocks() -> None:
        for _ in range(2):
            await t.banks[0].onchain.mine(3)
            await asyncio.sleep(0.02)
            await t.banks[1].onchain.reorganise(3)
        await t.banks[1].onchain.mine(3)

    async def look(at: int) -> None:
        for _ in range(4):
            await t.banks[at].mint.mint_quote(quote.quote, "onchain")
            await asyncio.sleep(0.02)

    async def judge(results: list[Any]) -> None:
        after = await t.banks[1].mint.mint_quote(quote.quote, "onchain")
        assert (after.amount_paid, after.amount_issued) == (1000, 0)
        assert await t.purse.issue(quote, 1000)

    return Race([blocks, lambda: look(0), lambda: look(1), lambda: look(0)], 4, judge, least=1)


async def two_prices_of_one_payment(t: Track) -> Race:
    """One quote, two fee options, two coins, two processes: it is executed with one of them, ever (NUT-30)."""
    coins = [await t.purse.mint(8192) for _ in range(2)]
    quote = await t.purse.price("onchain", foreign_address(), amount=1000)
    asked = [MeltRequest("onchain", quote.quote, tuple(coins[n]), fee_index=n) for n in range(2)]

    async def judge(results: list[Any]) -> None:
        chosen = {one.selected_fee_index for one in _won(results)}
        after = await t.banks[1].mint.melt_quote(quote.quote, "onchain")
        assert chosen == {after.selected_fee_index}

    return Race([lambda r=r, n=n: t.banks[n].mint.melt(r) for n, r in enumerate(asked)], 1, judge, least=1)  # type: ignore[misc]


async def two_parts_at_one_bank(t: Track) -> Race:
    """Two parts of one invoice at two processes of one bank: one at a time, which alone is none, and its coins come back."""
    invoice = await t.invoice("in parts")
    quotes = [await t.purse.price("bolt11", invoice, mpp_msat=5000) for _ in range(2)]
    asked = [MeltRequest("bolt11", quote.quote, (t.coins[n],)) for n, quote in enumerate(quotes)]

    async def judge(results: list[Any]) -> None:
        await asyncio.sleep(200)
        assert set(await t.states()) == {State.UNSPENT}

    return Race([lambda r=r, n=n: t.banks[n].mint.melt(r) for n, r in enumerate(asked)], 1, judge)  # type: ignore[misc]


async def one_blind_token_two_requests(t: Track) -> Race:
    """A blind token runs one of the requests it comes with, is spent with its effect, and buys no second one (NUT-22)."""
    (token,) = await blind_tokens(t.banks[0], 1)

    def run(swap: Contestant, at: int) -> Contestant:
        async def guarded() -> Any:
            auth = t.banks[at].mint.auth
            assert auth is not None
            async with auth.spending(token):
                return await swap()

        return guarded

    async def judge(results: list[Any]) -> None:
        assert (await t.states()).count(State.SPENT) == len(_won(results)) == 1
        with pytest.raises(BlindAuthFailedError, match="used before"):
            await run(t.swap([t.coins[3]], 1), 1)()

    return Race([run(t.swap([t.coins[n]], n % 2), n % 2) for n in range(3)], 1, judge, least=1)


async def one_blind_token_and_one_coin(t: Track) -> Race:
    """Two tokens, one coin: the request that is refused keeps its token, the other's is spent."""
    tokens = await blind_tokens(t.banks[0], 2)

    def run(n: int) -> Contestant:
        async def guarded() -> Any:
            auth = t.banks[n].mint.auth
            assert auth is not None
            async with auth.spending(tokens[n]):
                return await t.swap(t.coins[:1], n)()

        return guarded

    async def judge(results: list[Any]) -> None:
        for n, result in enumerate(results):
            auth = t.banks[1 - n].mint.auth
            assert auth is not None
            if isinstance(result, BaseException):
                async with auth.spending(tokens[n]):
                    await t.swap([t.coins[2]], 1 - n)()
            else:
                with pytest.raises(BlindAuthFailedError, match="used before"):
                    async with auth.spending(tokens[n]):
                        pass

    return Race([run(0), run(1)], 1, judge, least=1)


AT_THE_MINT = [
    one_coin_two_swaps, overlapping_swaps, a_swap_and_a_payment, two_payments_of_one_coin, two_quotes_for_one_invoice,
    one_output_two_swaps, an_output_and_a_blank, one_quote_two_issues, one_output_swap_and_issue, an_own_invoice_paid_twice,
    a_deposit_told_twice, a_rotation_under_swaps, states_seen_during_a_swap, a_restore_during_a_swap,
    two_processes_take_up_one_payment, a_batch_and_a_single_issue, batches_in_a_ring, one_batch_sent_twice,
    parts_of_one_offer, a_reorganisation_while_issuing, a_deposit_that_comes_and_goes, two_prices_of_one_payment,
    two_parts_at_one_bank, one_blind_token_two_requests, one_blind_token_and_one_coin,
]  # fmt: skip
_TOLD = "a deposit was withdrawn after ecash was issued for it"
"""What a human must hear of, and the only thing that may be paged."""


@pytest.mark.parametrize("make", AT_THE_MINT, ids=lambda make: make.__name__)
@settings(max_examples=15)
@given(pauses=st.lists(st.integers(0, 9), min_size=3, max_size=17), delays=st.lists(st.integers(0, 9), min_size=5, max_size=5))
def test_a_race_at_the_mint(make: Callable[[Track], Coroutine[Any, Any, Race]], pauses: list[int], delays: list[int]) -> None:
    """No more contestants win than may, whatever the order, and the books of both processes balance."""

    async def main() -> None:
        async with two_banks(pauses, methods=("bolt12", "onchain"), guarded=True) as (store, banks):
            purse = Teller(banks[0])
            track = Track(store, banks, purse, [coin for _ in range(4) for coin in await purse.mint(16)])
            race = await make(track)
            store.awake = True
            results = await asyncio.gather(
                *(late(delay, run) for delay, run in zip(delays, race.contestants, strict=False)), return_exceptions=True
            )
            store.awake = False
            await asyncio.sleep(100)
            check(race, results)
            await race.judge(results)
            for bank in banks:
                await bank.mint.audit()
                assert [page for page in bank.telemetry.pages if page[0] != _TOLD] == []

    run_virtual(main())


# In wallets


async def _two_of_one(w: World, amount: int) -> list[Any]:
    """One wallet, opened twice on one store, with money."""
    storage = await memory_storage()
    one = await w.wallet(storage)
    two = await w.wallet(storage, words=w.words[-1], trusted=False)
    await w.fund(one, amount)
    return [one, two]


async def one_token_two_receivers(w: World) -> tuple[list[Any], list[Contestant], int]:
    """A token is redeemed by one of two people."""
    sender, bob, carol = await w.wallet(), await w.wallet(), await w.wallet()
    await w.fund(sender, 100)
    token = (await sender.send(37)).text
    return [sender, bob, carol], [lambda: bob.receive(token), lambda: carol.receive(token)], 1


async def a_receiver_and_a_reclaim(w: World) -> tuple[list[Any], list[Contestant], int]:
    """A token is redeemed, or taken back."""
    sender, bob = await w.wallet(), await w.wallet()
    await w.fund(sender, 100)
    token = (await sender.send(37)).text
    return [sender, bob], [lambda: bob.receive(token), lambda: sender.reclaim(token)], 1


async def one_token_received_twice_by_one(w: World) -> tuple[list[Any], list[Contestant], int]:
    """Two processes of one wallet redeem one token: once."""
    sender = await w.wallet()
    await w.fund(sender, 100)
    token = (await sender.send(37)).text
    one, two = await _two_of_one(w, 5)
    return [sender, one], [lambda: one.receive(token), lambda: two.receive(token)], 1


async def two_sends_of_all(w: World) -> tuple[list[Any], list[Contestant], int]:
    """Two processes of one wallet send all it has: one token."""
    one, two = await _two_of_one(w, 64)
    return [one], [lambda: one.send(64), lambda: two.send(64)], 1


async def two_claims_of_one_quote(w: World) -> tuple[list[Any], list[Contestant], int]:
    """Two processes of one wallet claim one quote: the money is there once."""
    one, two = await _two_of_one(w, 5)
    quote = await one.mint_quote(40)
    await w.pay(quote.request)
    return [one], [lambda: one.claim(quote), lambda: two.claim(quote)], 2


async def a_payment_and_a_send_of_all(w: World) -> tuple[list[Any], list[Contestant], int]:
    """All the money pays an invoice or becomes a token."""
    one, two = await _two_of_one(w, 64)
    invoice = await w.foreign_invoice(60_000)
    return [one], [lambda: one.pay(invoice), lambda: two.send(64)], 1


async def two_processes_resume(w: World) -> tuple[list[Any], list[Contestant], int]:
    """An interrupted send is carried to its end by both: one token."""
    from specie.kernel import UncertainError

    one, two = await _two_of_one(w, 64)
    w.faults.plant("after", "swap", *[UncertainError("lost")] * 3)
    with pytest.raises(SpecieError):
        await one.send(21)
    return [one], [one.resume, two.resume], 2


async def a_restore_beside_a_send(w: World) -> tuple[list[Any], list[Contestant], int]:
    """Words are restored into a wallet that is sending: no coin is held twice."""
    one, two = await _two_of_one(w, 64)
    return [one], [lambda: one.send(21), lambda: two.restore([MINT_URL]), lambda: one.consolidate()], 3


async def one_payment_of_a_request_accepted_twice(w: World) -> tuple[list[Any], list[Contestant], int]:
    """Two processes of a payee redeem the payment of one request: one receipt."""
    payer = await w.wallet()
    await w.fund(payer, 100)
    one, two = await _two_of_one(w, 5)
    own = await one.requests.create(21)
    paid = await payer.requests.pay(own.text)
    payload = await payer.requests.payload(paid.payment_id)
    return [payer, one], [lambda: one.requests.accept(payload), lambda: two.requests.accept(payload)], 2


async def two_payments_of_one_request(w: World) -> tuple[list[Any], list[Contestant], int]:
    """A request that is good for one payment is paid by two people at once: one is refused, and keeps the coins."""
    bob, carol = await w.wallet(), await w.wallet()
    await w.fund(bob, 100)
    await w.fund(carol, 100)
    one, two = await _two_of_one(w, 5)
    own = await one.requests.create(21)
    first = await bob.requests.payload((await bob.requests.pay(own.text)).payment_id)
    second = await carol.requests.payload((await carol.requests.pay(own.text)).payment_id)
    return [bob, carol, one], [lambda: one.requests.accept(first), lambda: two.requests.accept(second)], 1


async def a_request_paid_twice(w: World) -> tuple[list[Any], list[Contestant], int]:
    """Two processes of a payer pay one request: once."""
    payee = await w.wallet()
    one, two = await _two_of_one(w, 64)
    text = (await payee.requests.create(21)).text
    return [payee, one], [lambda: one.requests.pay(text), lambda: two.requests.pay(text)], 1


async def one_token_in_two_tills(w: World) -> tuple[list[Any], list[Contestant], int]:
    """Two processes of a shop take one token for two things: for one of them."""
    payer = await w.wallet()
    await w.fund(payer, 100)
    one, two = await _two_of_one(w, 5)
    request = await one.till.request(21)
    token = (await payer.send(21)).text
    return [payer, one], [lambda: one.till.take(token, request, "GET /a"), lambda: two.till.take(token, request, "GET /b")], 1


async def two_claims_of_all(w: World) -> tuple[list[Any], list[Contestant], int]:
    """Two processes claim all quotes in batches, and a third claims one: the money is there once."""
    one, two = await _two_of_one(w, 5)
    quotes = [await one.mint_quote(amount) for amount in (10, 11, 12)]
    for quote in quotes:
        await w.pay(quote.request)
    return [one], [lambda: one.claim_all(), lambda: two.claim_all(), lambda: two.claim(quotes[1])], 3


async def two_removals_beside_a_send(w: World) -> tuple[list[Any], list[Contestant], int]:
    """A mint is forgotten by force while its coins are sent: each coin is in one token."""
    one, two = await _two_of_one(w, 64)

    async def forget() -> object:
        tokens = await one.exits.remove(MINT_URL, force=True)
        await asyncio.sleep(10)
        await one.add_mint(MINT_URL)
        return tokens

    return [one], [lambda: two.send(21), forget], 2


IN_WALLETS = [
    one_payment_of_a_request_accepted_twice, two_payments_of_one_request, a_request_paid_twice, one_token_in_two_tills,
    two_claims_of_all, two_removals_beside_a_send,
    one_token_two_receivers, a_receiver_and_a_reclaim, one_token_received_twice_by_one, two_sends_of_all,
    two_claims_of_one_quote, a_payment_and_a_send_of_all, two_processes_resume, a_restore_beside_a_send,
]  # fmt: skip


@pytest.mark.parametrize("make", IN_WALLETS, ids=lambda make: make.__name__)
@settings(max_examples=12)
@given(pauses=st.lists(st.integers(0, 9), min_size=3, max_size=17), delays=st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_a_race_in_wallets(make: Callable[[World], Coroutine[Any, Any, Any]], pauses: list[int], delays: list[int]) -> None:
    """No money is there twice, none is lost, and after a look at what is open the mint owes what the wallets hold."""

    async def main() -> None:
        async with world() as w:
            wallets, contestants, most = await make(w)
            w.client.pauses = pauses
            results = await asyncio.gather(
                *(late(delay, run) for delay, run in zip(delays, contestants, strict=False)), return_exceptions=True
            )
            w.client.pauses = []
            check(Race(contestants, most, nothing), results)
            await asyncio.sleep(100)
            for one in wallets:
                await one.resume()
                await one.check_pending()
            await w.books_hold(*wallets)

    run_virtual(main())
