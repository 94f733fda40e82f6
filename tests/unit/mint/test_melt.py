"""Melt (NUT-05, NUT-08): the saga's every end, and that no end is guessed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from specie.ecash import MeltQuoteRequest, MeltRequest, MeltState, MintQuoteRequest, MintRequest, Proof, SwapRequest
from specie.ecash import codes as refused
from specie.kernel import (
    MalformedError,
    PaymentOrder,
    PaymentOutcome,
    PaymentState,
    RefusedError,
    SpecieError,
    UnavailableError,
    UncertainError,
)
from specie.keys.adapters.software import SoftwareSigner
from specie.lightning.adapters.play import Answer, Fault, PlayFaults, PlayRail
from specie.mint import MintSettings
from specie.mint.engine import melt as saga
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, Purse, SeededEntropy, house
from tests.support.virtual import run_virtual


async def foreign_invoice(bank: House, amount_msat: int = 10_000, seed: str = "elsewhere") -> str:
    """An invoice of another node on the play network."""
    from specie.lightning.adapters.play import MIGRATIONS

    store = SqliteStorage(":memory:", inline=True)
    await store.migrate(MIGRATIONS)
    signer = SoftwareSigner(b"\x09" * 32, threads=0, entropy=SeededEntropy(seed))
    rail = PlayRail(storage=store, signer=signer, clock=bank.clock, entropy=SeededEntropy(seed), autopay_delay_s=None)
    asked = await rail.request(amount_msat, description="", expiry_s=3600)
    await store.close()
    return asked.request


async def states(bank: House, coins: list[Proof]) -> set[str]:
    return {state.state.value for state in await bank.mint.check_state([coin.y for coin in coins])}


def refusing(monkeypatch: pytest.MonkeyPatch, error: SpecieError | None = None) -> None:
    """The signer signs nothing blindly, for a rule of its policy say."""

    async def refuse(self: SoftwareSigner, messages: object) -> None:
        raise error or RefusedError("the day's amount is used up")

    monkeypatch.setattr(SoftwareSigner, "blind_sign", refuse)


async def test_pays_a_foreign_invoice_and_gives_change(bank: House, purse: Purse) -> None:
    """PAID with a preimage, inputs spent, change for what was overpaid, books balanced to the unit."""
    coins = await purse.mint(64)
    quote = await purse.melt_quote(await foreign_invoice(bank))
    outputs = purse.outputs([1] * 8)
    done = await bank.mint.melt(MeltRequest("bolt11", quote.quote, tuple(coins), outputs.messages))
    assert done.state is MeltState.PAID
    assert done.payment_preimage is not None
    assert len(done.payment_preimage) == 64
    assert done.change is not None
    change = outputs.proofs(done.change, blank=True)
    paid_fee = (await bank.mint.recent_melt_quotes(1))[0].fee_paid
    assert paid_fee is not None
    assert sum(coin.amount for coin in change) == 64 - 10 - paid_fee
    assert await states(bank, coins) == {"SPENT"}
    assert await bank.mint.melt_quote(quote.quote, "bolt11") == done
    books = await bank.mint.audit()
    assert books.outstanding(bank.keyset().id, "sat") == sum(coin.amount for coin in change)
    assert sum(coin.amount for coin in await purse.swap(change, [c.amount for c in change])) == 64 - 10 - paid_fee


async def test_same_request_again_is_answered_from_the_store(bank: House, purse: Purse) -> None:
    """The same melt twice is one payment with one answer; another request for the quote is told it is paid."""
    coins = await purse.mint(64)
    quote = await purse.melt_quote(await foreign_invoice(bank))
    request = MeltRequest("bolt11", quote.quote, tuple(coins), purse.outputs([1] * 4).messages)
    first = await bank.mint.melt(request)
    assert await bank.mint.melt(request) == first
    with pytest.raises(refused.InvoicePaidError):
        await purse.melt(quote, await purse.mint(64))


async def test_an_invoice_of_this_mint_is_settled_inside(bank: House, purse: Purse) -> None:
    """Both quotes move in one transaction, without fee reserve, and the payee can mint at once."""
    payee = Purse(bank, "bob")
    asked = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 10))
    coins = await purse.mint(16)
    quote = await purse.melt_quote(asked.request)
    assert quote.fee_reserve == 0
    outputs = purse.outputs([1] * 4)
    done = await bank.mint.melt(MeltRequest("bolt11", quote.quote, tuple(coins), outputs.messages))
    assert done.state is MeltState.PAID
    assert done.change is not None
    assert sum(s.amount for s in done.change) == 6
    received = payee.outputs([8, 2])
    await bank.mint.issue(MintRequest("bolt11", asked.quote, received.messages))
    books = await bank.mint.audit()
    assert books.outstanding(bank.keyset().id, "sat") == 16
    with pytest.raises(refused.InvoicePaidError):
        await purse.melt(await purse.melt_quote(asked.request), await purse.mint(16))


async def test_a_payment_inside_that_must_fail_costs_no_signature(
    bank: House, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spent or locked inputs, outputs that were signed or promised, an invoice paid before: refused, the signer not asked."""
    spent, locked, promised = await purse.mint(16), await purse.mint(64), purse.outputs([1] * 4)
    await purse.swap(spent, [16])
    bank.rail.set_faults(PlayFaults(always=Fault(PaymentState.PENDING, answer=Answer.UNKNOWN)))
    away = await purse.melt_quote(await foreign_invoice(bank))
    await bank.mint.melt(MeltRequest("bolt11", away.quote, tuple(locked), promised.messages))
    fresh, used = await purse.mint(16), purse.outputs([16])
    await bank.mint.swap(SwapRequest(tuple(await purse.mint(16)), used.messages))
    asked = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 10))
    quote, late = await purse.melt_quote(asked.request), await purse.melt_quote(asked.request)
    with monkeypatch.context() as signer:
        refusing(signer)
        for inputs, messages, error in [
            (spent, purse.outputs([1] * 4).messages, refused.ProofsSpentError),
            (locked, purse.outputs([1] * 4).messages, refused.ProofsPendingError),
            (fresh, used.messages, refused.OutputsSignedError),
            (fresh, promised.messages, refused.OutputsPendingError),
        ]:
            with pytest.raises(error):
                await bank.mint.melt(MeltRequest("bolt11", quote.quote, tuple(inputs), messages))
    await bank.pay(asked)
    with monkeypatch.context() as signer:
        refusing(signer)
        with pytest.raises(refused.InvoicePaidError):
            await bank.mint.melt(MeltRequest("bolt11", late.quote, tuple(fresh), purse.outputs([1] * 4).messages))
    assert await states(bank, fresh) == {"UNSPENT"}


async def test_a_failed_payment_gives_everything_back(bank: House, purse: Purse) -> None:
    """20004; inputs and blank outputs are free again, the quote can be tried again and then succeeds."""
    coins = await purse.mint(64)
    quote = await purse.melt_quote(await foreign_invoice(bank))
    request = MeltRequest("bolt11", quote.quote, tuple(coins), purse.outputs([1] * 4).messages)
    bank.rail.set_faults(PlayFaults(always=Fault.fail()))
    with pytest.raises(refused.PaymentFailedError):
        await bank.mint.melt(request)
    assert await states(bank, coins) == {"UNSPENT"}
    assert (await bank.mint.melt_quote(quote.quote, "bolt11")).state is MeltState.UNPAID
    bank.rail.set_faults(PlayFaults())
    assert (await bank.mint.melt(request)).state is MeltState.PAID
    await bank.mint.audit()


async def test_an_unknown_payment_keeps_its_inputs_and_pages(bank: House, purse: Purse) -> None:
    """UNKNOWN is neither paid nor failed: PENDING, inputs locked against swap and melt, a human is told."""
    coins = await purse.mint(64)
    quote = await purse.melt_quote(await foreign_invoice(bank))
    bank.rail.set_faults(PlayFaults(always=Fault(PaymentState.PENDING, answer=Answer.UNKNOWN)))
    done = await purse.melt(quote, coins, blanks=4)
    assert done.state is MeltState.PENDING
    assert await states(bank, coins) == {"PENDING"}
    assert bank.telemetry.pages
    with pytest.raises(refused.ProofsPendingError):
        await purse.swap(coins, [64])
    with pytest.raises(refused.QuotePendingError):
        await purse.melt(quote, await purse.mint(64))
    await bank.mint.audit()


async def test_a_paid_payment_is_not_ordered_again_though_its_change_cannot_be_signed_and_its_rail_forgets(
    bank: House, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While PENDING it is neither paid twice nor given back; once the signer signs, it is settled with its change."""
    coins = await purse.mint(64)
    quote = await purse.melt_quote(await foreign_invoice(bank))
    outputs = purse.outputs([1] * 8)
    with monkeypatch.context() as signer:
        refusing(signer)
        with pytest.raises(UncertainError):
            await bank.mint.melt(MeltRequest("bolt11", quote.quote, tuple(coins), outputs.messages))
    (left,) = await bank.mint.pending_melts()
    assert (left.ordered, left.owner) == (True, "")
    with monkeypatch.context() as rail:
        ordered: list[PaymentOrder] = []

        async def forgotten(self: PlayRail, payment_id: str, attempt: str) -> PaymentOutcome:
            return PaymentOutcome(PaymentState.ABSENT)

        async def pay(self: PlayRail, order: PaymentOrder) -> PaymentOutcome:
            ordered.append(order)
            return PaymentOutcome(PaymentState.FAILED)

        rail.setattr(PlayRail, "outgoing", forgotten)
        rail.setattr(PlayRail, "pay", pay)
        assert await bank.mint.reconcile() == 0
        assert not ordered
    assert await states(bank, coins) == {"PENDING"}
    assert await bank.mint.reconcile() == 1
    settled = await bank.mint.melt_quote(quote.quote, "bolt11")
    assert settled.state is MeltState.PAID
    assert settled.change is not None
    assert outputs.proofs(settled.change, blank=True)
    assert await states(bank, coins) == {"SPENT"}
    await bank.mint.audit()


async def test_a_paid_payment_that_cannot_be_settled_pages_each_day_and_at_each_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once and never again, nor at each look; never where the signer is merely away."""

    def told(bank: House) -> list[object]:
        return [facts["quote"] for reason, facts in bank.telemetry.pages if reason.startswith("settling a payment failed")]

    store = SqliteStorage(":memory:", inline=True)
    with monkeypatch.context() as signer:
        async with house(storage=store) as bank:
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            refusing(signer)
            with pytest.raises(UncertainError):
                await purse.melt(quote, coins, blanks=8)
            bank.telemetry.pages.clear()
            for day in range(1, 4):
                for _ in range(3):
                    await bank.mint.reconcile()
                assert told(bank) == [quote.quote] * day
                bank.clock.skip(86_400)
        async with house(storage=store, clock=bank.clock, seed=1) as again:
            await again.mint.reconcile()
            assert told(again) == [quote.quote]
            again.clock.skip(86_400)
            refusing(signer, UnavailableError("the signer is away"))
            await again.mint.reconcile()
            assert told(again) == [quote.quote]
    async with house(storage=store, clock=bank.clock, seed=2) as last:
        assert (await last.mint.melt_quote(quote.quote, "bolt11")).state is MeltState.PAID
        assert not told(last)
        await last.mint.audit()
    await store.close()


async def test_what_cannot_be_settled_is_raised_though_nothing_can_be_remembered(
    bank: House, purse: Purse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signer refuses and the storage fails: the signer's word is told, and the payment is looked at again."""
    quote = await purse.melt_quote(await foreign_invoice(bank))
    request = MeltRequest("bolt11", quote.quote, tuple(await purse.mint(64)), purse.outputs([1] * 8).messages)
    record = await saga.begin(bank.mint._context, request)
    outcome = await saga.order(bank.mint._context, record)
    with monkeypatch.context() as broken:
        refusing(broken)

        async def full(*_: object) -> None:
            raise UnavailableError("the disk is full")

        broken.setattr(SqliteStorage, "transact", full)
        with pytest.raises(RefusedError, match="used up"):
            await saga.settle(bank.mint._context, record, outcome)
    assert (await saga.settle(bank.mint._context, record, outcome)).state is MeltState.PAID


async def test_one_payment_at_a_time_for_an_invoice(bank: House, purse: Purse) -> None:
    """Two quotes for one invoice: while one is in flight the other is 20005, once it is paid 20006."""
    invoice = await foreign_invoice(bank)
    first, second = await purse.melt_quote(invoice), await purse.melt_quote(invoice)
    bank.rail.set_faults(PlayFaults(always=Fault(PaymentState.PENDING, answer=Answer.UNKNOWN)))
    await purse.melt(first, await purse.mint(64))
    with pytest.raises(refused.QuotePendingError):
        await purse.melt(second, await purse.mint(64))


async def test_refusals_before_anything_is_locked(bank: House, purse: Purse) -> None:
    """Too little, wrong quote, blank outputs signed before: refused, and the inputs stay free."""
    coins = await purse.mint(8)
    quote = await purse.melt_quote(await foreign_invoice(bank))
    with pytest.raises(refused.UnbalancedError):
        await purse.melt(quote, coins)
    with pytest.raises(RefusedError):
        await bank.mint.melt(MeltRequest("bolt11", "nobody", tuple(coins)))
    rich = await purse.mint(64)
    used = purse.outputs([8])
    await bank.mint.swap(SwapRequest(tuple(coins), used.messages))
    with pytest.raises(refused.OutputsSignedError):
        await bank.mint.melt(MeltRequest("bolt11", quote.quote, tuple(rich), used.messages))
    assert await states(bank, rich) == {"UNSPENT"}
    bank.clock.skip(100_000)
    with pytest.raises(refused.QuoteExpiredError):
        await purse.melt(quote, rich)


async def test_quote_refusals(bank: House, purse: Purse) -> None:
    """Unknown unit, partial payment, wrong amount, bounds and long requests are refused with their codes."""
    invoice = await foreign_invoice(bank)
    with pytest.raises(refused.UnitUnsupportedError):
        await bank.mint.request_melt_quote(MeltQuoteRequest("bolt11", invoice, "usd"))
    with pytest.raises(refused.UnitUnsupportedError):
        await bank.mint.request_melt_quote(MeltQuoteRequest("carrier", invoice, "sat"))
    with pytest.raises(RefusedError):
        await purse.melt_quote(invoice, mpp_msat=10_001)
    with pytest.raises(RefusedError):
        await purse.melt_quote(invoice, amount_msat=9999)
    with pytest.raises(MalformedError):
        await purse.melt_quote("lnbcrt" + "1" * 5000)
    with pytest.raises(RefusedError):
        await bank.mint.melt_quote("nobody", "bolt11")
    async with house(settings=MintSettings(melt_max=9)) as small:
        with pytest.raises(refused.AmountOutOfRangeError):
            await Purse(small).melt_quote(invoice)
    async with house(settings=MintSettings(fee_limit_min_msat=0, fee_limit_ppm=0)) as thrifty:
        with pytest.raises(RefusedError):
            await Purse(thrifty).melt_quote(invoice)
    async with house(settings=MintSettings(melting=False)) as closed:
        with pytest.raises(refused.MintingDisabledError):
            await Purse(closed).melt_quote(invoice)


def test_asynchronous_melt_answers_pending_and_pays_in_the_background() -> None:
    """`prefer_async`: PENDING is committed before the answer; the payment settles by itself."""

    async def main() -> None:
        async with house() as bank:
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            bank.rail.set_faults(PlayFaults(always=Fault.delay(5.0)))
            done = await purse.melt(quote, coins, blanks=4, prefer_async=True)
            assert done.state is MeltState.PENDING
            assert await states(bank, coins) == {"PENDING"}
            await asyncio.sleep(30)
            settled = await bank.mint.melt_quote(quote.quote, "bolt11")
            assert settled.state is MeltState.PAID
            assert settled.change
            await bank.mint.audit()

    run_virtual(main())


def test_a_late_payment_is_settled_by_the_reconciler() -> None:
    """A payment that outlives the deadline stays PENDING and is settled, with change, once the rail knows."""

    async def main() -> None:
        async with house(settings=MintSettings(pay_deadline_s=5)) as bank:
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            bank.rail.set_faults(PlayFaults(always=Fault.delay(60.0)))
            done = await purse.melt(quote, coins, blanks=4)
            assert done.state is MeltState.PENDING
            await asyncio.sleep(200)
            settled = await bank.mint.melt_quote(quote.quote, "bolt11")
            assert settled.state is MeltState.PAID
            assert settled.change
            await bank.mint.audit()

    run_virtual(main())


def test_a_payment_left_by_a_crash_is_taken_up_at_start() -> None:
    """A quote PENDING that was never ordered is ordered after the restart, once, and settled."""

    async def main() -> None:
        store = SqliteStorage(":memory:", inline=True)
        async with house(storage=store) as bank:
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            outputs = purse.outputs([1] * 4)
            record = await saga.begin(bank.mint._context, MeltRequest("bolt11", quote.quote, tuple(coins), outputs.messages))
            assert record.state is MeltState.PENDING
            clock = bank.clock
        async with house(storage=store, clock=clock, seed=1) as again:
            settled = await again.mint.melt_quote(quote.quote, "bolt11")
            assert settled.state is MeltState.PAID
            assert (await again.rail.outgoing(record.payment_id, record.attempt)).state is PaymentState.PAID
            await again.mint.audit()
        await store.close()

    run_virtual(main())


def test_a_lease_of_a_living_process_is_respected() -> None:
    """On a shared store another process leaves a payment alone until its lease has run out, and then finishes it."""

    async def main() -> None:
        store = SqliteStorage(":memory:", inline=True)
        async with house(storage=store, exclusive=False) as bank:
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            stale = await saga.begin(bank.mint._context, MeltRequest("bolt11", quote.quote, tuple(coins)))
            async with house(storage=store, clock=bank.clock, seed=2, exclusive=False) as other:
                assert await other.mint.reconcile() == 0
                assert await saga.renew(bank.mint._context, stale)
                bank.clock.skip(saga.LEASE_S + 1)
                assert await other.mint.reconcile() == 1
            assert not await saga.renew(bank.mint._context, stale)
            outcome = await saga.order(bank.mint._context, stale)
            assert outcome.state is PaymentState.PAID
            assert (await saga.settle(bank.mint._context, stale, outcome)).state is MeltState.PAID
            books = await bank.mint.audit()
            assert books.of("asset:rail/play", "sat") == 64 - 10 - (await bank.mint.recent_melt_quotes(1))[0].fee_paid
        await store.close()

    run_virtual(main())


def test_a_stale_holder_cannot_release_what_another_settles() -> None:
    """A process that lost its lease sees its release refused: inputs of a payment are never freed by a stale view."""

    async def main() -> None:
        async with house() as bank:
            purse = Purse(bank)
            coins = await purse.mint(64)
            quote = await purse.melt_quote(await foreign_invoice(bank))
            record = await saga.begin(bank.mint._context, MeltRequest("bolt11", quote.quote, tuple(coins)))
            taken = replace(record, owner="another")
            await bank.storage.transact(lambda tx: bank.mint._context.store.change_melt_quote(tx, record, taken))
            left = await saga.settle(bank.mint._context, record, PaymentOutcome(PaymentState.FAILED))
            assert left.state is MeltState.PENDING
            assert await states(bank, coins) == {"PENDING"}

    run_virtual(main())
