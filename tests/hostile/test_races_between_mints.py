"""Races of two copies of a wallet over one payment in parts (NUT-15), and over one transfer between mints.

The copies are two processes on one store, or two devices of one seed on stores of their own. Afterwards nothing is lost and
nothing is created at any mint, an invoice was paid at most once, and both copies say the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specie.kernel import SpecieError, UnavailableError
from specie.storage import Storage
from specie.wallet import TransferState, Wallet
from tests.support.method_mint import Mints, Receiver, method_mints
from tests.support.orders import Orders, watch_orders
from tests.support.races import Contestant, Race, check, late, nothing
from tests.support.slow import Slow
from tests.support.two_mints import OTHER_URL, THIRD_URL, Network, network
from tests.support.virtual import run_virtual
from tests.support.wallets import MINT_URL, Died, MortalStorage, memory_storage

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
PAUSES = st.lists(st.integers(0, 9), min_size=3, max_size=17)
DELAYS = st.lists(st.integers(0, 9), min_size=4, max_size=4)
DEATH = st.integers(12, 23)
"""Twice the commit at which the process before both copies died, just before it was durable; odd: just after."""


class Copies:
    """Two copies of one wallet, and one that died before them."""

    def __init__(self, open_wallet: Callable[..., Awaitable[Wallet]], pauses: Sequence[int]) -> None:
        self._open = open_wallet
        self._pauses = pauses
        self.stores: list[Slow] = []
        self.all: list[Wallet] = []

    async def store(self) -> Slow:
        """An empty store, at which transactions wait their turn once the race is on."""
        self.stores.append(Slow(await memory_storage(), self._pauses))
        return self.stores[-1]

    async def open(self, storage: Storage, *, trusted: bool = True) -> Wallet:
        """A copy on a store."""
        self.all.append(await self._open(storage, words=WORDS, trusted=trusted))
        return self.all[-1]

    async def of_one_store(self) -> tuple[Wallet, Wallet]:
        """Two processes."""
        store = await self.store()
        return await self.open(store), await self.open(store, trusted=False)

    async def of_one_seed(self) -> tuple[Wallet, Wallet]:
        """Two devices."""
        return await self.open(await self.store()), await self.open(await self.store())


async def _dies(wallet: Wallet, at: int, work: Callable[[], Awaitable[object]]) -> None:
    """Have the wallet begin the work and die at a commit (see `DEATH`); or end it, if there are not so many."""
    storage = wallet._context.storage
    mortal = MortalStorage(storage)
    wallet._context.storage = mortal
    mortal.at, mortal.before = at // 2, at % 2 == 0
    with contextlib.suppress(Died, SpecieError):
        await work()
    wallet._context.storage = storage
    wallet._context.busy.clear()


async def _run(race: Race, copies: Copies, clients: Sequence[Any], pauses: Sequence[int], delays: Sequence[int]) -> list[Any]:
    for client in clients:
        client.pauses = pauses
    for store in copies.stores:
        store.awake = True
    results = await asyncio.gather(
        *(late(delay, run) for delay, run in zip(delays, race.contestants, strict=False)), return_exceptions=True
    )
    for client in clients:
        client.pauses = ()
    for store in copies.stores:
        store.awake = False
    check(race, results)
    await race.judge(results)
    return results


# Payments in parts


@dataclass
class Parts:
    """Three mints, one invoice, and who is paid it."""

    mints: Mints
    copies: Copies
    death: int
    invoice: str
    receiver: Receiver
    wallets: list[Wallet] = field(default_factory=list)
    """One of each store."""


async def _shared(p: Parts, *amounts: int) -> tuple[Wallet, Wallet]:
    one, two = await p.copies.of_one_store()
    await p.mints.fund(one, *(amounts or (400, 400, 400)))
    p.wallets = [one]
    return one, two


async def two_copies_resume_one_split(p: Parts) -> Race:
    """Its process died at some commit; both copies carry it on."""
    one, two = await _shared(p)
    await _dies(one, p.death, lambda: one.pay(p.invoice, split=True, wait_s=100))
    return Race([lambda: one.resume(wait_s=100), lambda: two.resume(wait_s=100)], 2, nothing, least=2)


async def a_copy_resumes_while_the_other_pays(p: Parts) -> Race:
    """Some parts are settled, some on their way, some not sent yet: the other copy looks at all of them, again and again."""
    one, two = await _shared(p)

    async def look() -> None:
        for _ in range(5):
            await two.resume(wait_s=0.1)
            await asyncio.sleep(0.07)

    return Race([lambda: one.pay(p.invoice, split=True, wait_s=100), look], 2, nothing, least=1)


async def one_part_is_late_while_both_resume(p: Parts) -> Race:
    """A mint has settled its part and another is not asked for a while: one copy settles, the other resumes, then both."""
    one, two = await _shared(p)
    await _dies(one, p.death, lambda: one.pay(p.invoice, split=True, wait_s=100))

    async def again(wallet: Wallet) -> None:
        for _ in range(3):
            await wallet.resume(wait_s=1)
            await asyncio.sleep(0.5)

    p.mints.mints[1].pauses = (80,)
    return Race([lambda: again(one), lambda: again(two)], 2, nothing, least=2)


async def one_invoice_split_twice(p: Parts) -> Race:
    """Both copies pay it, and there is money enough for both: one begins."""
    one, two = await _shared(p, 850, 850, 850)
    pays: list[Contestant] = [lambda w=w: w.pay(p.invoice, split=True, wait_s=100) for w in (one, two)]  # type: ignore[misc]

    async def judge(results: list[Any]) -> None:
        assert len(await one.split_payments()) == 1

    return Race(pays, 1, judge, least=1)


async def one_plan_paid_twice(p: Parts) -> Race:
    """The same quotes of the same plan, by both copies: once."""
    one, two = await _shared(p)
    made = await one.plan(p.invoice)
    return Race([lambda: one.pay(made, wait_s=100), lambda: two.pay(made, wait_s=100)], 1, nothing)


async def split_and_paid_whole(p: Parts) -> Race:
    """One copy pays it at two mints, the other at a third, and there is money enough for both: one does."""
    one, two = await _shared(p, 1200, 600, 600)
    made = await one.plan(p.invoice, mints=p.mints.urls[1:])
    assert len(made.quotes) == 2
    pays: list[Contestant] = [
        lambda: one.pay(made, wait_s=100),
        lambda: two.pay(p.invoice, split=False, mint=p.mints.urls[0], wait_s=100),
    ]
    return Race(pays, 1, nothing, least=1)


IN_PARTS = [
    two_copies_resume_one_split,
    a_copy_resumes_while_the_other_pays,
    one_part_is_late_while_both_resume,
    one_invoice_split_twice,
    one_plan_paid_twice,
    split_and_paid_whole,
]


@pytest.mark.parametrize("make", IN_PARTS, ids=lambda make: make.__name__)
@settings(max_examples=8)
@given(pauses=PAUSES, delays=DELAYS, death=DEATH)
def test_a_race_of_parts(
    make: Callable[[Parts], Coroutine[Any, Any, Race]], pauses: list[int], delays: list[int], death: int
) -> None:
    """The payee is paid once or not at all, no payment is torn, and every mint owes what the wallet holds there."""

    async def main() -> None:
        async with method_mints(3) as m:
            copies = Copies(m.wallet, pauses)
            p = Parts(m, copies, death, *await m.invoice(1000))
            orders = [watch_orders(bank.rail) for bank in m.banks]
            race = await make(p)
            results = await _run(race, copies, m.mints, pauses, delays)
            await asyncio.sleep(200)
            for wallet in copies.all:
                await wallet.resume(wait_s=100)
            for wallet in p.wallets:
                await wallet.check_pending()
            await _the_same_in_both(copies.all)
            await _paid_at_most_once(p, orders, results)
            if len(p.wallets) == 1:
                await m.books_hold(*p.wallets)
            else:
                await _words_bring_all_back(m.wallet, p.wallets, m.books_hold)

    run_virtual(main())


async def _paid_at_most_once(p: Parts, orders: Sequence[Orders], results: Sequence[Any]) -> None:
    """One payment of the invoice is PAID or none is, and the payee says the same."""
    states: list[str] = []
    for wallet in p.wallets:
        states += [one.state for one in await wallet.split_payments()]
        whole = [one for one in await wallet.melt_quotes() if one.request == p.invoice and one.part_msat is None]
        states += [one.state for one in whole if one.state != "UNPAID"]
    assert set(states) <= {"PAID", "FAILED"}, states
    by_parts = sum(p.receiver.held.values())
    at_once = [one for some in orders for one in some if one.request == p.invoice]
    assert by_parts in (0, p.receiver.total_msat)
    assert states.count("PAID") == bool(by_parts) + bool(at_once), (states, by_parts)
    assert states.count("PAID") <= 1
    assert len({one.attempt for one in at_once}) <= 1
    assert not any(getattr(one, "state", "") == "PAID" for one in results) or "PAID" in states


async def _the_same_in_both(copies: Sequence[Wallet]) -> None:
    """Copies on one store say the same of everything; and nothing is open any more."""
    by_store: dict[int, list[Wallet]] = {}
    for wallet in copies:
        by_store.setdefault(id(wallet._context.storage), []).append(wallet)
    for some in by_store.values():
        said = [
            (
                await one.balance(),
                await one.history(),
                await one.split_payments(),
                await one.transfers.entries(pending=False),
                await one.operations(),
            )
            for one in some
        ]
        assert all(one == said[0] for one in said)
        assert said[0][-1] == []


async def _words_bring_all_back(
    open_wallet: Callable[..., Awaitable[Wallet]], devices: Sequence[Wallet], books_hold: Callable[..., Awaitable[None]]
) -> None:
    """A third device finds all that the mints owe, and so do both, once they have restored."""
    third = await open_wallet(await memory_storage(), words=WORDS)
    await third.restore()
    await books_hold(third)
    for device in devices:
        await device.restore()
        await books_hold(device)


# Transfers


@dataclass
class Moves:
    """Three mints, and money at the first of them."""

    net: Network
    copies: Copies
    death: int
    wallets: list[Wallet] = field(default_factory=list)


async def _moving(m: Moves) -> tuple[Wallet, Wallet]:
    one, two = await m.copies.of_one_store()
    await m.net.fund(one, 1000)
    m.wallets = [one]
    return one, two


def _move(wallet: Wallet, amount: int | None = 300, *, to: str = OTHER_URL) -> Contestant:
    return lambda: wallet.transfers.move(amount, source=MINT_URL, destination=to, wait_s=100)


async def two_copies_resume_one_transfer(m: Moves) -> Race:
    """Its process died at some commit; both copies carry it on."""
    one, two = await _moving(m)
    await _dies(one, m.death, _move(one))
    return Race([lambda: one.resume(wait_s=100), lambda: two.resume(wait_s=100)], 2, nothing, least=2)


async def a_copy_resumes_while_the_other_moves(m: Moves) -> Race:
    """The transfer is just being made, paid or claimed: the other copy looks at it, again and again."""
    one, two = await _moving(m)

    async def look() -> None:
        for _ in range(8):
            await two.resume()
            await asyncio.sleep(0.05)

    return Race([_move(one), look], 2, nothing, least=1)


async def a_copy_resumes_what_the_other_could_not_send(m: Moves) -> Race:
    """To one copy the source seems to be away, while the other, which looks at the same payment, reaches it."""
    one, two = await _moving(m)
    away = [UnavailableError("no connection") if n % 3 else None for n in range(m.death, m.death + 5)]
    m.net.by_mint[MINT_URL].plant("before", "melt", *away)

    async def look() -> None:
        for _ in range(8):
            await two.resume()
            await asyncio.sleep(0.05)

    return Race([_move(one), look], 2, nothing, least=1)


async def two_transfers_of_all(m: Moves) -> Race:
    """Both copies move everything, to different mints: each coin goes one way."""
    one, two = await _moving(m)
    return Race([_move(one, None), _move(two, None, to=THIRD_URL)], 2, nothing)


async def a_mint_is_left_during_a_transfer(m: Moves) -> Race:
    """One copy leaves the mint that the other moves money from."""
    one, two = await _moving(m)
    return Race([_move(one), lambda: two.exits.leave(MINT_URL, to=[THIRD_URL], wait_s=100)], 2, nothing, least=1)


async def a_destination_is_left_during_a_transfer(m: Moves) -> Race:
    """One copy leaves the mint that the other moves money to."""
    one, two = await _moving(m)
    return Race([_move(one), lambda: two.exits.leave(OTHER_URL, to=[THIRD_URL], wait_s=100)], 2, nothing, least=1)


def _forgotten(m: Moves, wallet: Wallet, url: str, *, force: bool) -> Contestant:
    """Forget a mint somewhere on the way of a transfer, and trust it again a while later."""

    async def forget() -> object:
        await asyncio.sleep((m.death - 12) / 5)
        tokens = await wallet.exits.remove(url, force=force)
        await asyncio.sleep(10)
        await wallet.add_mint(url)
        return tokens

    return forget


async def a_source_is_removed_during_a_transfer(m: Moves) -> Race:
    """By force, while its money is on its way: what is free becomes tokens, the rest arrives once the mint is known again."""
    one, two = await _moving(m)

    async def judge(results: list[Any]) -> None:
        if isinstance(results[1], list):
            assert sum(token.amount for token in results[1]) == (await one.balance()).sent

    return Race([_move(one), _forgotten(m, two, MINT_URL, force=True)], 2, judge, least=1)


async def a_destination_is_removed_during_a_transfer(m: Moves) -> Race:
    """By force, while money is on its way to it."""
    one, two = await _moving(m)
    return Race([_move(one), _forgotten(m, two, OTHER_URL, force=True)], 2, nothing, least=1)


async def a_removal_is_refused_during_a_transfer(m: Moves) -> Race:
    """Without force a mint that money is at, or on its way to, is not forgotten."""
    one, two = await _moving(m)

    async def judge(results: list[Any]) -> None:
        assert isinstance(results[1], SpecieError)

    return Race([_move(one), _forgotten(m, two, MINT_URL, force=False)], 1, judge)


IN_TRANSFERS = [
    two_copies_resume_one_transfer,
    a_copy_resumes_while_the_other_moves,
    a_copy_resumes_what_the_other_could_not_send,
    two_transfers_of_all,
    a_mint_is_left_during_a_transfer,
    a_destination_is_left_during_a_transfer,
    a_source_is_removed_during_a_transfer,
    a_destination_is_removed_during_a_transfer,
    a_removal_is_refused_during_a_transfer,
]


@pytest.mark.parametrize("make", IN_TRANSFERS, ids=lambda make: make.__name__)
@settings(max_examples=8)
@given(pauses=PAUSES, delays=DELAYS, death=DEATH)
def test_a_race_of_transfers(
    make: Callable[[Moves], Coroutine[Any, Any, Race]], pauses: list[int], delays: list[int], death: int
) -> None:
    """Money is at one mint or at the other, no invoice between them is paid twice, and every transfer is at its end."""

    async def main() -> None:
        async with network((MINT_URL, OTHER_URL, THIRD_URL)) as w:
            copies = Copies(w.wallet, pauses)
            m = Moves(w, copies, death)
            orders = {url: watch_orders(bank.rail) for url, bank in w.banks.items()}
            race = await make(m)
            await _run(race, copies, list(w.clients.values()), pauses, delays)
            await asyncio.sleep(200)
            for _ in range(2):
                for wallet in copies.all:
                    await wallet.resume(wait_s=100)
            for wallet in m.wallets:
                await wallet.check_pending()
            await _the_same_in_both(copies.all)
            for some in orders.values():
                assert len({one.payment_id for one in some}) == len(some.attempts)
            for wallet in m.wallets:
                await _every_transfer_ended(w, wallet, orders)
            if len(m.wallets) == 1:
                await w.all_books_hold(*m.wallets)
            else:
                await _words_bring_all_back(w.wallet, m.wallets, w.all_books_hold)

    run_virtual(main())


async def _every_transfer_ended(w: Network, wallet: Wallet, orders: dict[str, Orders]) -> None:
    """DONE where the source paid, FAILED where it did not."""
    requests = {(one.mint, one.quote): one.request for one in await wallet.mint_quotes()}
    for transfer in await wallet.transfers.entries(pending=False):
        paid = {one.request for one in orders[transfer.source]}
        request = requests[transfer.destination, transfer.mint_quote]
        seen = await w.banks[transfer.destination].mint.mint_quote(transfer.mint_quote, "bolt11")
        assert transfer.state is (TransferState.DONE if request in paid else TransferState.FAILED), transfer
        assert (seen.amount_paid, seen.amount_issued) in ((0, 0), (transfer.amount, transfer.amount))
