"""The mistake: a melt that got no answer is sent again as a new request, so that an invoice is paid twice.

Melting is the one verb that cannot be undone. Here the judge is the rail: however often a melt is asked for, lost, repeated
or resumed, by one wallet or many, the rail is ordered one attempt, and what left the bank is one payment.
"""

from __future__ import annotations

import asyncio

import pytest

from specie.ecash import MeltQuote, MeltRequest, MeltState
from specie.ecash import codes as refused
from specie.kernel import PaymentState, SpecieError, UnavailableError, UncertainError
from specie.lightning.adapters.play import Fault, PlayFaults
from specie.mint import MintSettings
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet.errors import OperationOpenError
from specie.wallet.holding import WalletMeltQuote
from tests.support.house import Purse, house
from tests.support.orders import foreign_invoice, watch_orders
from tests.support.virtual import run_virtual
from tests.support.wallets import Died, MortalStorage, World, memory_storage, virtually, world

LOST = UncertainError("the answer was lost")
AWAY = UnavailableError("no connection")


def melts(w: World) -> list[bytes]:
    """Every body of a melt request that was sent."""
    return [body for verb, body in w.faults.bodies if verb == "melt"]


@virtually
@pytest.mark.parametrize("losses", [1, 2, 5])
async def test_lost_answers_are_looked_up(losses: int) -> None:
    """Answers are lost again and again: one order at the rail, the same bytes each time, one payment."""
    async with world() as w:
        orders = watch_orders(w.bank.rail)
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "melt", *[LOST] * losses)
        w.faults.plant("after", "melt_quote", *[AWAY] * losses)
        invoice = await w.foreign_invoice(21_000)
        try:
            await wallet.pay(invoice)
        except OperationOpenError:
            while not (await wallet.resume(wait_s=60)).settled:
                w.clock.skip(60)
        assert len(orders) == 1
        assert len(set(melts(w))) == 1
        await w.books_hold(wallet)


@virtually
async def test_a_request_that_never_arrived_is_sent_again_to_the_byte() -> None:
    """No answer and no trace at the mint: the journalled bytes are sent again, so that even a late twin is the same request."""
    async with world() as w:
        orders = watch_orders(w.bank.rail)
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("before", "melt", LOST)
        await wallet.pay(await w.foreign_invoice(21_000))
        first, second = melts(w)
        assert first == second
        late = await w.client.melt(_known(await wallet.melt_quotes()), first)  # the first one arrives after all
        assert late.state is MeltState.PAID
        assert len(orders) == 1
        await w.books_hold(wallet)


def _known(quotes: list[WalletMeltQuote]) -> MeltQuote:
    (one,) = quotes
    return MeltQuote(one.quote, one.method, one.request, one.unit, one.amount, one.fee_reserve)


@virtually
async def test_the_owner_asks_again_and_is_told_not_paid_twice() -> None:
    """The owner, impatient, pays the same invoice again: the second payment is refused whether the first runs or is done."""
    async with world() as w:
        orders = watch_orders(w.bank.rail)
        wallet = await w.wallet()
        await w.fund(wallet, 200)
        invoice = await w.foreign_invoice(21_000)
        w.bank.rail.set_faults(PlayFaults(always=Fault.late(300.0)))
        assert (await wallet.pay(invoice, wait_s=1)).state == "PENDING"
        with pytest.raises(SpecieError):
            await wallet.pay(invoice, wait_s=1)
        assert (await wallet.resume(wait_s=1000)).settled
        with pytest.raises(SpecieError):
            await wallet.pay(invoice)
        await wallet.resume(wait_s=1000)
        assert len(orders.attempts) == 1
        assert not await wallet.operations()
        await w.books_hold(wallet)


@pytest.mark.parametrize("before", [True, False], ids=["lost", "durable"])
def test_a_wallet_that_dies_anywhere_pays_once(before: bool) -> None:
    """The wallet dies at each of its commits in turn; after its restart the invoice is paid once or not at all."""

    async def life(number: int) -> bool:
        async with world() as w:
            orders = watch_orders(w.bank.rail)
            storage = MortalStorage(await memory_storage())
            words = "legal winner thank year wave sausage worth useful legal winner thank yellow"
            wallet = await w.wallet(storage, words=words)
            await w.fund(wallet, 100)
            invoice = await w.foreign_invoice(21_000)
            storage.at, storage.before = storage.commits + number, before
            died = False
            try:
                await wallet.pay(invoice)
            except Died:
                died = True
            storage.at = None
            again = await w.wallet(storage.inner, words=words, trusted=False)
            assert not (await again.resume(wait_s=60)).open
            assert len(orders) <= 1
            assert len(set(melts(w))) <= 1
            await w.books_hold(again)
            return died

    assert run_virtual(life(1))
    for number in range(2, 30):
        if not run_virtual(life(number)):
            return
    pytest.fail("paying never ended")


async def test_one_request_at_once_from_many_is_one_payment(tmp_path: object) -> None:
    """Twenty equal requests at the same moment on a threaded store: one order, and every answer is the same."""
    async with house(storage=SqliteStorage(f"{tmp_path}/bank.sqlite")) as bank:
        orders = watch_orders(bank.rail)
        purse = Purse(bank)
        coins = await purse.mint(64)
        quote = await purse.melt_quote(await foreign_invoice(bank))
        request = MeltRequest("bolt11", quote.quote, tuple(coins), purse.outputs([1] * 4).messages)
        answers = await asyncio.gather(*(bank.mint.melt(request) for _ in range(20)))
        assert {answer.state for answer in answers} <= {MeltState.PAID, MeltState.PENDING}
        final = await bank.mint.melt_quote(quote.quote, "bolt11")
        assert final.state is MeltState.PAID
        assert all(answer == final for answer in answers if answer.state is MeltState.PAID)
        assert len(orders) == 1
        await bank.mint.audit()
        await bank.storage.close()


def test_a_failed_payment_is_a_new_attempt_only_when_asked_again() -> None:
    """A payment that failed for good is not tried again by itself; asked again it is attempt two, paid once."""

    async def main() -> None:
        async with house(settings=MintSettings(reconcile_every_s=1)) as bank:
            orders = watch_orders(bank.rail)
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            request = MeltRequest("bolt11", quote.quote, tuple(coins), purse.outputs([1] * 4).messages)
            bank.rail.set_faults(PlayFaults(always=Fault.fail()))
            with pytest.raises(refused.PaymentFailedError):
                await bank.mint.melt(request)
            bank.rail.set_faults(PlayFaults())
            await asyncio.sleep(60)
            assert len(orders) == 1
            assert (await bank.mint.melt(request)).state is MeltState.PAID
            await asyncio.sleep(60)
            assert [order.attempt.rpartition("/")[2] for order in orders] == ["1", "2"]
            assert (await bank.rail.outgoing(orders[0].payment_id, orders[0].attempt)).state is PaymentState.FAILED
            await bank.mint.audit()

    run_virtual(main())


def test_a_mint_that_lost_the_rails_answer_asks_instead_of_ordering_again() -> None:
    """The rail paid and its answer was lost: the mint asks what became of it, and never orders a second time."""

    async def main() -> None:
        async with house(settings=MintSettings(reconcile_every_s=1)) as bank:
            orders = watch_orders(bank.rail)
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            bank.rail.set_faults(PlayFaults(always=Fault.lost()))
            assert (await purse.melt(quote, coins, blanks=4)).state is MeltState.PENDING
            await asyncio.sleep(30)
            assert (await bank.mint.melt_quote(quote.quote, "bolt11")).state is MeltState.PAID
            assert len(orders) == 1
            await bank.mint.audit()

    run_virtual(main())
