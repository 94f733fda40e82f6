"""One invoice paid by several mints (NUT-15): planned, priced, written down, paid together, and never paid twice."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from specie.ecash import MeltQuote
from specie.ecash import codes as refused
from specie.ecash.quote import MeltState
from specie.kernel import MalformedError, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.wallet import Wallet
from specie.wallet.errors import (
    FeeExceedsLimitError,
    InsufficientFundsError,
    OperationBusyError,
    PaymentTornError,
    UnsupportedError,
)
from tests.support.method_mint import Mints, method_mints
from tests.support.virtual import run_virtual
from tests.support.wallets import Died, MortalStorage, memory_storage, virtually

LOST = UncertainError("the answer was lost")
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


async def _total(wallet: Wallet) -> int:
    return (await wallet.balance()).available


@virtually
async def test_three_mints_pay_together_what_none_can_alone() -> None:
    """`pay` splits by itself; the history shows its parts; every mint's books hold and the receiver has it all."""
    async with method_mints(3) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 400, 400, 400)
        invoice, receiver = await m.invoice(1000)
        paid = await wallet.pay(invoice, memo="rent")
        assert (paid.state, paid.amount, len(paid.parts)) == ("PAID", 1000, 3)
        assert receiver.taken
        assert sum(receiver.held.values()) == 1_000_000
        assert sum(part.amount for part in paid.parts) == 1000
        assert await _total(wallet) == 1200 - 1000 - paid.fee
        entries = [entry for entry in await wallet.history() if entry.kind == "pay"]
        assert {entry.payment for entry in entries} == {paid.operation}
        assert sum(entry.amount + entry.fee for entry in entries) == 1000 + paid.fee
        assert {entry.memo for entry in entries} == {"rent"}
        (stored,) = await wallet.split_payments()
        assert (stored.state, stored.payment_id, stored.amount) == ("PAID", paid.operation, 1000)
        await m.books_hold(wallet)
        with pytest.raises(refused.InvoicePaidError):
            await wallet.pay(invoice, split=True)


@virtually
async def test_a_fraction_of_a_sat_is_in_one_part() -> None:
    """An invoice of 999,001 msat: the parts make it exactly, in sats it is 1,000."""
    async with method_mints(2) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 600, 600)
        invoice, receiver = await m.invoice(0, msat=999_001)
        paid = await wallet.pay(invoice, split=True)
        assert paid.amount == 1000
        assert sum(receiver.held.values()) == 999_001
        await m.books_hold(wallet)


@virtually
async def test_one_mint_is_enough() -> None:
    """As few parts as can be: a plan of one part is an ordinary payment."""
    async with method_mints(2) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 600, 100)
        invoice, _ = await m.invoice(300)
        plan = await wallet.plan(invoice)
        assert [quote.part_msat for quote in plan.quotes] == [None]
        paid = await wallet.pay(plan)
        assert (paid.state, paid.parts, paid.mint) == ("PAID", (), m.urls[0])
        assert await wallet.split_payments() == []


@virtually
async def test_what_cannot_be_split_is_refused() -> None:
    """Too little money, mints that do not do it, no amount, a fee limit, `split=False`: nothing is sent or locked."""
    async with method_mints(2) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 300, 300)
        invoice, _ = await m.invoice(590)
        with pytest.raises(InsufficientFundsError):
            await wallet.pay(invoice)
        smaller, _ = await m.invoice(500, "smaller")
        with pytest.raises(InsufficientFundsError):
            await wallet.pay(smaller, split=False)
        with pytest.raises(FeeExceedsLimitError):
            await wallet.pay(smaller, max_fee=3)
        with pytest.raises(MalformedError):
            await wallet.plan(await m.worlds[0].foreign_invoice(None))
        with pytest.raises(UnsupportedError):
            await wallet.plan(smaller, unit="usd")
        m.mints[1].splits = False
        await wallet.add_mint(m.urls[1])
        with pytest.raises(InsufficientFundsError):
            await wallet.pay(smaller)
        assert await _total(wallet) == 600
        assert all("melt" not in [verb for verb, _ in mint.faults.bodies] for mint in m.mints)


@virtually
async def test_a_mint_that_refuses_or_is_dear_is_planned_around() -> None:
    """One refuses its part, one wants a large reserve: the plan is made again until it fits."""
    async with method_mints(4) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 500, 500, 500, 500)
        invoice, _ = await m.invoice(900)
        m.mints[0].refuse_parts = RefusedError("no route")
        m.mints[1].reserve = 200
        plan = await wallet.plan(invoice)
        assert m.urls[0] not in {quote.mint for quote in plan.quotes}
        assert sum(quote.amount for quote in plan.quotes) == 900
        paid = await wallet.pay(plan)
        assert paid.state == "PAID"
        assert paid.fee <= plan.most_fee
        await m.books_hold(wallet)


@virtually
async def test_a_plan_of_named_mints() -> None:
    """Only the mints that are named take part."""
    async with method_mints(3) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 900, 500, 500)
        invoice, _ = await m.invoice(800)
        plan = await wallet.plan(invoice, mints=m.urls[1:])
        assert {quote.mint for quote in plan.quotes} == set(m.urls[1:])


@virtually
async def test_a_part_that_fails_for_good_is_tried_another_way() -> None:
    """One mint refuses to pay after all; when every part is back, the others and a fourth pay it."""
    async with method_mints(4) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 400, 400, 400, 400)
        invoice, receiver = await m.invoice(1000)
        m.mints[0].faults.plant("before", "melt", refused.PaymentFailedError())
        paid = await wallet.pay(invoice)
        assert paid.state == "PAID"
        assert m.urls[0] not in {part.mint for part in paid.parts}
        assert sum(receiver.held.values()) == 1_000_000
        states = sorted(payment.state for payment in await wallet.split_payments())
        assert states == ["FAILED", "PAID"]
        assert (await wallet.balance()).reserved == 0
        await m.books_hold(wallet)


@virtually
async def test_all_parts_fail_and_nothing_is_left_locked() -> None:
    """Nobody receives it: everything is free again, and the payer is told why."""
    async with method_mints(2) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 600, 600)
        invoice, receiver = await m.invoice(1000)
        receiver.total_msat += 1
        with pytest.raises(refused.PaymentFailedError):
            await wallet.pay(invoice)
        assert await _total(wallet) == 1200
        assert [payment.state for payment in await wallet.split_payments()] == ["FAILED"]
        await m.books_hold(wallet)


@virtually
async def test_a_part_that_was_never_sent_fails_the_others() -> None:
    """A mint is away when it should pay: the others time out, and all is free again."""
    async with method_mints(2) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 600, 600)
        invoice, _ = await m.invoice(1000)
        m.mints[1].faults.plant("before", "melt", *[UnavailableError("away")] * 3)
        with pytest.raises(refused.PaymentFailedError):
            await wallet.pay(invoice)
        assert await _total(wallet) == 1200
        await m.books_hold(wallet)


@virtually
async def test_a_part_that_hangs_keeps_the_payment_open() -> None:
    """One mint holds its part for ever: PENDING, its coins locked; no second set of parts, by any verb; a report says where."""
    async with method_mints(3) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 600, 600, 1500)
        invoice, receiver = await m.invoice(1000)
        plan = await wallet.plan(invoice, mints=m.urls[:2])
        m.mints[1].faults.plant("after", "melt", LOST)
        m.mints[1].hang = True
        paying = asyncio.ensure_future(wallet.pay(plan, wait_s=5))
        await m.clock.sleep(100)
        m.mints[1].faults.plant("before", "melt_quote", *[UnavailableError("away")] * 50)
        held = next(iter(m.mints[1].melts.values()))
        assert held.running is not None
        paying.cancel()
        await asyncio.gather(paying, return_exceptions=True)
        (payment,) = await wallet.split_payments()
        assert payment.state == "PENDING"
        for options in ({}, {"split": True}, {"mint": m.urls[2]}):
            with pytest.raises(OperationBusyError):
                await wallet.pay(invoice, **options)
        m.mints[1].faults.before.clear()
        m.clock.skip(60)
        report = await wallet.resume()
        assert report.open
        states = {part.mint: str(part.state) for part in (await wallet.split_payments())[0].parts}
        assert states == {m.urls[0]: "FAILED", m.urls[1]: "OPEN"}
        assert not receiver.taken
        held.running.cancel()
        m.mints[1].fail(held.quote.quote)
        assert len((await wallet.resume()).failed) == 1
        assert await _total(wallet) == 2700
        await m.books_hold(wallet)
        assert (await wallet.pay(invoice, mint=m.urls[2])).state == "PAID"


@virtually
async def test_a_lost_answer_is_followed() -> None:
    """The answers of both mints are lost while the payment goes through: it is found PAID, and nothing is sent twice."""
    async with method_mints(2) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 600, 600)
        invoice, receiver = await m.invoice(1000)
        for mint in m.mints:
            mint.faults.plant("after", "melt", LOST)
        paid = await wallet.pay(invoice)
        assert paid.state == "PAID"
        assert sum(receiver.held.values()) == 1_000_000
        for mint in m.mints:
            assert [verb for verb, _ in mint.faults.bodies].count("melt") == 1
        await m.books_hold(wallet)


@virtually
async def test_a_torn_payment_is_told_and_not_tried_again() -> None:
    """One mint says PAID where nobody received anything: a human is told, and no other set of parts is sent."""
    async with method_mints(3) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 600, 600, 600)
        invoice, receiver = await m.invoice(1000)
        receiver.total_msat += 1
        thief = m.mints[0]
        real = thief.melt

        async def stealing(known: MeltQuote, request: bytes) -> MeltQuote:
            answer = asyncio.ensure_future(real(known, request))
            await m.clock.sleep(1)
            held = thief.melts[known.quote]
            await thief.confirm(known.quote)
            assert held.running is not None
            held.running.cancel()
            answer.cancel()
            await asyncio.gather(answer, held.running, return_exceptions=True)
            return msgspec.structs.replace(held.quote, state=MeltState.PAID)

        thief.melt = stealing  # type: ignore[method-assign]
        with pytest.raises(PaymentTornError) as error:
            await wallet.pay(invoice)
        (payment,) = await wallet.split_payments()
        assert (payment.state, payment.payment_id) == ("TORN", error.value.reference)
        assert any("some parts" in reason for reason, _ in m.pages.pages)
        with pytest.raises(refused.InvoicePaidError):
            await wallet.pay(invoice)
        assert (await wallet.balance()).reserved == 0
        await m.books_hold(wallet)


@virtually
async def test_two_processes_pay_one_invoice_once() -> None:
    """Both plan, both try to write their parts down: one pays, the other is told."""
    async with method_mints(2) as m:
        storage = await memory_storage()
        one, two = await m.wallet(storage, words=WORDS), await m.wallet(storage, words=WORDS)
        await m.fund(one, 2000, 2000)
        invoice, receiver = await m.invoice(3000)
        results = await asyncio.gather(one.pay(invoice), two.pay(invoice), one.pay(invoice), return_exceptions=True)
        paid = [result for result in results if not isinstance(result, BaseException)]
        assert len(paid) == 1
        for result in results:
            assert not isinstance(result, BaseException) or isinstance(result, RefusedError), result
        assert sum(receiver.held.values()) == 3_000_000
        await m.books_hold(one)


@virtually
async def test_a_part_is_not_sent_again_once_another_failed() -> None:
    """Killed before anything was sent; one part then fails: `resume` sends no other, and frees it when it is old."""
    async with method_mints(2) as m:
        inner = await memory_storage()
        storage = MortalStorage(inner)
        wallet = await m.wallet(storage, words=WORDS)
        await m.fund(wallet, 600, 600)
        invoice, _ = await m.invoice(1000)
        for mint in m.mints:
            mint.faults.plant("before", "melt", Died())
        with pytest.raises(Died):
            await wallet.pay(invoice)
        for mint in m.mints:
            mint.faults.before.clear()
        m.mints[0].faults.plant("before", "melt", refused.PaymentFailedError())
        m.mints[1].faults.plant("before", "melt_quote", *[UnavailableError("away")] * 20)
        again = await m.wallet(inner, words=WORDS, trusted=False)
        report = await again.resume()
        assert (len(report.failed), len(report.open)) == (1, 1)
        m.mints[1].faults.before.clear()
        m.clock.skip(60)
        assert (await again.resume()).open
        assert [verb for verb, _ in m.mints[1].faults.bodies].count("melt") == 1  # the one that died on its way
        m.clock.skip(1000)
        assert len((await again.resume()).failed) == 1
        assert await _total(again) == 1200
        await m.books_hold(again)


# crashes


async def _split_life(number: int | None, before: bool, fails: bool, verb: str | None, when: str) -> bool:
    """One life of a wallet that is killed while several mints pay; False where it ended before the fatal moment."""
    async with method_mints(3) as m:
        inner = await memory_storage()
        storage = MortalStorage(inner)
        wallet = await m.wallet(storage, words=WORDS)
        await m.fund(wallet, 400, 400, 400)
        invoice, receiver = await m.invoice(1000)
        if fails:
            receiver.total_msat += 1
        if number is not None:
            storage.at, storage.before = storage.commits + number, before
        if verb is not None:
            m.mints[1].faults.plant(when, verb, Died())
        died = False
        try:
            await wallet.pay(invoice)
        except Died:
            died = True
        except SpecieError:
            assert fails
        await m.clock.sleep(0)
        for mint in m.mints:
            mint.faults.before.clear()
            mint.faults.after.clear()
        again = await m.wallet(inner, words=WORDS, trusted=False)
        for _ in range(3):
            report = await again.resume(wait_s=100)
            m.clock.skip(700)
        assert not report.open, report.open
        await m.books_hold(again)
        assert (await again.balance()).reserved == 0
        for payment in await again.split_payments():
            assert payment.state in ("PAID", "FAILED")
        total = await _total(again)
        assert receiver.taken == (total < 1200)
        if receiver.taken:
            assert sum(receiver.held.values()) == 1_000_000
            with pytest.raises(RefusedError):
                await again.pay(invoice)
        elif not fails:
            receiver.held.clear()
            assert (await again.pay(invoice)).state == "PAID"
        await m.books_hold(again)
        return died


@pytest.mark.parametrize("fails", [False, True], ids=["received", "refused"])
@pytest.mark.parametrize("before", [True, False], ids=["lost", "durable"])
def test_dies_at_every_commit(before: bool, fails: bool) -> None:
    """The store dies at commit 1, 2, 3 ...: all is paid or all is free, once, and what is free can be paid again."""
    for number in range(1, 60):
        if not run_virtual(_split_life(number, before, fails, None, "before")):
            break
    else:
        pytest.fail("the payment never ended")
    assert number > 5


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("verb", ["request_melt_quote", "melt"])
def test_dies_at_every_call(verb: str, when: str) -> None:
    """The process dies at a call to one of the mints, before it sees the request or before we see the answer."""
    assert run_virtual(_split_life(None, True, False, verb, when))


async def _batch_life(m: Mints, number: int, before: bool) -> bool:
    inner = await memory_storage()
    storage = MortalStorage(inner)
    wallet = await m.wallet(storage, words=WORDS)
    total = 0
    for amount in (1, 2, 3, 4):
        quote = await wallet.mint_quote(method="bolt12")
        m.mints[0].deposit(quote.quote, amount)
        total += amount
    storage.at, storage.before = storage.commits + number, before
    died = False
    try:
        await wallet.claim_all()
    except Died:
        died = True
    again = await m.wallet(inner, words=WORDS, trusted=False)
    assert not (await again.resume()).open
    await again.claim_all()
    assert await _total(again) == total
    await m.books_hold(again)
    return died


@pytest.mark.parametrize("before", [True, False], ids=["lost", "durable"])
def test_batches_die_at_every_commit(before: bool) -> None:
    """Whatever moment it is, every deposit is minted once."""

    async def life(number: int) -> bool:
        async with method_mints() as m:
            return await _batch_life(m, number, before)

    for number in range(1, 60):
        if not run_virtual(life(number)):
            break
    else:
        pytest.fail("the claim never ended")
    assert number > 4


async def _onchain_life(number: int, before: bool) -> bool:
    async with method_mints() as m:
        inner = await memory_storage()
        storage = MortalStorage(inner)
        wallet = await m.wallet(storage, words=WORDS)
        await m.fund(wallet, 1000)
        from tests.support.method_mint import address_of

        storage.at, storage.before = storage.commits + number, before
        died = False
        try:
            await wallet.pay(address_of("shop"), amount=300)
        except Died:
            died = True
        again = await m.wallet(inner, words=WORDS, trusted=False)
        await again.resume()
        for name, held in m.mints[0].melts.items():
            if held.request is not None:
                await m.mints[0].confirm(name)
        report = await again.resume()
        assert not report.open
        assert (await again.balance()).reserved == 0
        await m.books_hold(again)
        return died


@pytest.mark.parametrize("before", [True, False], ids=["lost", "durable"])
def test_onchain_payments_die_at_every_commit(before: bool) -> None:
    """Quoted, journalled, marked as on its way: the payment is made once or never, and its change comes back."""
    for number in range(1, 40):
        if not run_virtual(_onchain_life(number, before)):
            break
    else:
        pytest.fail("the payment never ended")
    assert number > 3


@virtually
async def test_an_open_part_raises_nothing() -> None:
    """The mints cannot be asked what became of the parts: the payment is PENDING with its parts named, and no error."""
    async with method_mints(2) as m:
        wallet = await m.wallet()
        await m.fund(wallet, 600, 600)
        invoice, _ = await m.invoice(1000)
        for mint in m.mints:
            mint.faults.plant("after", "melt", LOST)
            mint.faults.plant("before", "melt_quote", *[UnavailableError("away")] * 20)
        paid = await wallet.pay(invoice)
        assert paid.state == "PENDING"
        assert {part.state for part in paid.parts} == {"PENDING"}
        for mint in m.mints:
            mint.faults.before.clear()
        m.clock.skip(100)
        assert len((await wallet.resume()).settled) == 2
        assert (await wallet.split_payments())[0].state == "PAID"
        await m.books_hold(wallet)
