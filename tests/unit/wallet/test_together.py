"""Several things at once: tasks on one wallet, processes on one store, and the history that must add up afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from specie.ecash import MintInfo
from specie.ecash import codes as refused
from specie.kernel import RefusedError, SpecieError, UncertainError
from specie.lightning.adapters.play import Answer, Fault, PlayFaults
from specie.mint import MintSettings
from specie.wallet.errors import InsufficientFundsError, OperationBusyError, OperationOpenError, QuoteUnknownError
from specie.wallet.history import balance_effect
from tests.support.wallets import MINT_URL, SETTINGS, memory_storage, virtually, world

LOST = UncertainError("the answer was lost")


@virtually
async def test_parallel_sends_never_share_a_coin() -> None:
    """Twenty sends at once from one wallet: every token can be redeemed, and the books hold."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 1000)
        results = await asyncio.gather(*[alice.send(n + 3) for n in range(20)], return_exceptions=True)
        tokens = [one for one in results if not isinstance(one, BaseException)]
        for error in results:
            assert not isinstance(error, BaseException) or isinstance(error, (InsufficientFundsError, RefusedError))
        assert tokens
        for token in tokens:
            await bob.receive(token.text)
        assert (await bob.balance()).available == sum(token.amount for token in tokens)
        await alice.check_pending()
        await w.books_hold(alice, bob)


@virtually
async def test_one_claim_at_a_time() -> None:
    """Two tasks claim one quote: one gets the coins, the other is told that it is busy or done."""
    async with world() as w:
        wallet = await w.wallet()
        quote = await wallet.mint_quote(13)
        await w.pay(quote.request)
        results = await asyncio.gather(wallet.claim(quote), wallet.claim(quote), return_exceptions=True)
        assert sorted(isinstance(one, int) for one in results) in ([False, True], [True, True])
        for one in results:
            assert isinstance(one, (int, OperationBusyError, refused.QuoteUnpaidError)), one
        assert (await wallet.balance()).available == 13
        await w.books_hold(wallet)


@virtually
async def test_claim_carries_an_interrupted_claim_to_its_end() -> None:
    """After a claim whose answers were all lost, claiming again settles that one instead of saying `nothing to claim`."""
    async with world() as w:
        wallet = await w.wallet()
        quote = await wallet.mint_quote(13)
        await w.pay(quote.request)
        w.faults.plant("after", "issue", LOST, LOST, LOST)
        with pytest.raises(OperationOpenError):
            await wallet.claim(quote)
        assert await wallet.claim(quote) == 13
        bodies = {body for verb, body in w.faults.bodies if verb == "issue"}
        assert len(bodies) == 1
        await w.books_hold(wallet)


@virtually
async def test_two_processes_resume_one_operation() -> None:
    """Both find the same open operation and send the same bytes; it is settled once."""
    words = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    async with world() as w:
        storage = await memory_storage()
        one = await w.wallet(storage, words=words)
        two = await w.wallet(storage, words=words)
        await w.fund(one, 100)
        w.faults.plant("after", "swap", LOST, LOST, LOST)
        with pytest.raises(OperationOpenError):
            await one.send(37)
        reports = await asyncio.gather(one.resume(), two.resume())
        assert all(not report.open for report in reports)
        assert len(await one.tokens()) == 1
        assert [entry.kind for entry in await one.history()] == ["send", "mint"]
        await w.books_hold(one)


@virtually
async def test_operation_the_mint_never_saw_is_given_up_in_time() -> None:
    """Soon after it is sent again, long after it is only looked up, and its coins are freed; bytes never differ."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("before", "swap", *[LOST] * 5)
        with pytest.raises(OperationOpenError):
            await wallet.send(37)
        assert (await wallet.resume()).open
        sent = len(w.faults.bodies)
        w.clock.skip(SETTINGS.replay_window_s + 1)
        assert len((await wallet.resume()).failed) == 1
        assert len(w.faults.bodies) == sent
        assert (await wallet.balance()).available == 100
        await w.books_hold(wallet)


@virtually
async def test_operation_that_took_effect_is_settled_however_late() -> None:
    """Long after, the signatures are had by NUT-09, without sending the request again."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", LOST, LOST, LOST)
        with pytest.raises(OperationOpenError):
            await wallet.send(37)
        w.clock.skip(86_400)
        assert len((await wallet.resume()).settled) == 1
        assert (await wallet.balance()).sent == 37
        await w.books_hold(wallet)


@virtually
async def test_received_coins_are_never_given_up() -> None:
    """A receipt that never reached the mint is sent however late: its coins are nowhere but in the journal."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        token = await alice.send(36)
        w.faults.plant("before", "swap", LOST, LOST, LOST)
        with pytest.raises(OperationOpenError):
            await bob.receive(token.text)
        w.clock.skip(86_400)
        assert len((await bob.resume()).settled) == 1
        assert (await bob.balance()).available == 36
        await alice.check_pending()
        await w.books_hold(alice, bob)


@virtually
async def test_history_adds_up() -> None:
    """Summing the effect of every line gives what is free to spend, fees and all."""
    async with world(settings=MintSettings(input_fee_ppk=100)) as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 500)
        sent = [await alice.send(amount) for amount in (37, 5, 64)]
        await bob.receive(sent[0].text)
        await bob.receive(sent[2].text, offline=True)
        await bob.secure()
        await alice.reclaim(sent[1].text)
        await alice.pay(await w.foreign_invoice(21_000), memo="coffee")
        await alice.split([3, 3])
        await alice.consolidate()
        await w.bank.mint.rotate_keyset("sat", input_fee_ppk=100)
        w.clock.skip(SETTINGS.refresh_after_s + 1)
        await alice.rotate()
        await alice.check_pending()
        for wallet in (alice, bob):
            entries = await wallet.history(limit=100)
            assert sum(balance_effect(entry) for entry in entries) == (await wallet.balance()).available
            assert [entry.entry_id for entry in entries] == sorted((entry.entry_id for entry in entries), reverse=True)
        assert {entry.kind for entry in await alice.history()} >= {
            "mint",
            "send",
            "reclaim",
            "pay",
            "split",
            "rotate",
            "claimed",
        }
        paid = next(entry for entry in await alice.history() if entry.kind == "pay")
        assert (paid.amount, paid.memo) == (21, "coffee")
        await w.books_hold(alice, bob)


@virtually
async def test_waiting_is_cut_short_by_news() -> None:
    """A notification ends the pause between two looks; without a WebSocket polling finds it too."""
    async with world() as w:
        slow = replace(SETTINGS, poll_s=50.0, longest_poll_s=50.0)
        wallet = await w.wallet(settings=slow)
        quote = await wallet.mint_quote(13)

        async def payer() -> None:
            await asyncio.sleep(5)
            await w.pay(quote.request)

        before = w.clock.monotonic()
        seen, _ = await asyncio.gather(wallet.wait(quote), payer())
        assert seen.claimable == 13
        assert w.clock.monotonic() - before < 20

        other = await wallet.mint_quote(14)
        w.faults.plant("before", "watch", RefusedError("no WebSocket here"))

        async def second_payer() -> None:
            await asyncio.sleep(5)
            await w.pay(other.request)

        seen, _ = await asyncio.gather(wallet.wait(other), second_payer())
        assert seen.claimable == 14
        unpaid = await wallet.mint_quote(15)
        assert (await wallet.wait(unpaid, timeout_s=3)).claimable == 0


@virtually
async def test_mint_without_change_gets_the_exact_amount() -> None:
    """A mint that gives no change (no NUT-08) would keep what is too much: coins are made exact first."""
    async with world(settings=MintSettings(input_fee_ppk=100)) as w:

        def change(verb: str, answer: object) -> object:
            if isinstance(answer, MintInfo):
                return msgspec.structs.replace(answer, nuts={k: v for k, v in answer.nuts.items() if k != "8"})
            return answer

        w.faults.change = change
        wallet = await w.wallet()
        await w.fund(wallet, 500)
        quote = await wallet.melt_quote(await w.foreign_invoice(21_000))
        payment = await wallet.pay(quote)
        assert payment.state == "PAID"
        body = next(body for verb, body in w.faults.bodies if verb == "melt")
        sent = msgspec.json.decode(body)
        assert "outputs" not in sent
        inputs = sum(one["amount"] for one in sent["inputs"])
        assert inputs - (quote.amount + quote.fee_reserve) <= 1
        await w.bank.mint.audit()


@virtually
async def test_wrong_questions_are_refused() -> None:
    """Unknown quotes, quotes paid before, invoices without an amount, empty wallets."""
    async with world() as w:
        wallet, poor = await w.wallet(), await w.wallet()
        await w.fund(wallet, 100)
        with pytest.raises(InsufficientFundsError):
            await poor.pay(await w.foreign_invoice(21_000))
        quote = await wallet.melt_quote(await w.foreign_invoice(21_000))
        with pytest.raises(QuoteUnknownError):
            await poor.pay(quote)
        await wallet.pay(quote)
        with pytest.raises(refused.InvoicePaidError):
            await wallet.pay(quote)
        open_invoice = await w.foreign_invoice(None, "open")
        with pytest.raises(RefusedError):
            await wallet.melt_quote(open_invoice)
        assert (await wallet.melt_quote(open_invoice, amount_msat=5_500)).amount == 6
        with pytest.raises(RefusedError):
            await wallet.melt_quote(await w.foreign_invoice(21_000, "named"), amount_msat=5_000)
        with pytest.raises(QuoteUnknownError):
            await wallet.find_mint_quote("lnbc1")
        for wrong in ("", "ftp://mint.test", "http://user@mint.test", "not a url"):
            with pytest.raises(RefusedError):
                await wallet.add_mint(wrong)
        with pytest.raises(RefusedError):
            await wallet.mint_quote(0)
        with pytest.raises(SpecieError):
            await wallet.mint_quote(5, unit="usd", mint=MINT_URL)


@virtually
async def test_large_tokens_are_taken_in_parts() -> None:
    """A token with more coins than the mint takes at once is swapped in several requests."""
    async with world(settings=MintSettings()) as w:
        alice, bob = (
            await w.wallet(),
            await w.wallet(settings=replace(SETTINGS, limits=replace(SETTINGS.limits, array_length=3))),
        )
        await w.fund(alice, 127)
        token = await alice.send(127)
        assert (await bob.receive(token.text)).amount == 127
        assert w.faults.calls.count("swap") == 3
        await alice.check_pending()
        await w.books_hold(alice, bob)


@virtually
async def test_same_invoice_is_not_paid_twice() -> None:
    """A second quote for an invoice that is being paid is refused by the mint; its coins stay free or locked, never lost."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 200)
        w.bank.rail.set_faults(PlayFaults(always=Fault(after_s=300.0, answer=Answer.PENDING)))
        invoice = await w.foreign_invoice(21_000)
        assert (await wallet.pay(invoice, wait_s=1)).state == "PENDING"
        with pytest.raises(SpecieError):
            await wallet.pay(invoice, wait_s=1)
        await wallet.resume(wait_s=2000)
        await wallet.resume(wait_s=2000)
        balance = await wallet.balance()
        assert balance.reserved == 0
        assert balance.available >= 200 - 21 - 5
        await w.books_hold(wallet)
