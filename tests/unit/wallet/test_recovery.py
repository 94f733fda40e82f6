"""Lost answers, mints that are not idempotent, other devices on one seed, and payments whose end is not known."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from specie.ecash import MeltState, MintInfo, ProofState, State
from specie.ecash import codes as refused
from specie.kernel import PeerFaultError, RefusedError, UnavailableError, UncertainError
from specie.lightning.adapters.play import Answer, Fault, PlayFaults
from specie.wallet.errors import FeeExceedsLimitError, InsufficientFundsError, OperationOpenError
from tests.support.wallets import SETTINGS, World, memory_storage, virtually, world

LOST = UncertainError("the answer was lost")
AWAY = UnavailableError("no connection")


def _swaps(w: World) -> list[bytes]:
    return [body for verb, body in w.faults.bodies if verb == "swap"]


def _melts(w: World) -> list[bytes]:
    return [body for verb, body in w.faults.bodies if verb == "melt"]


@virtually
async def test_lost_answer_is_had_again_by_the_same_bytes() -> None:
    """A swap whose answer is lost is sent again to the byte, and the verb succeeds as if nothing had happened."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", LOST)
        token = await wallet.send(37)
        first, second = _swaps(w)
        assert first == second
        assert token.amount == 37
        await w.books_hold(wallet)


@virtually
async def test_all_answers_lost_keeps_coins_locked_until_resume() -> None:
    """When no answer can be had the operation stays open and its coins are not free; `resume` settles it."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", LOST, LOST, LOST)
        with pytest.raises(OperationOpenError) as caught:
            await wallet.send(37)
        balance = await wallet.balance()
        assert (balance.available, balance.reserved) == (36, 64)
        with pytest.raises(InsufficientFundsError):
            await wallet.send(37)
        report = await wallet.resume()
        assert report.settled == [caught.value.reference]
        (token,) = await wallet.tokens()
        assert token.amount == 37
        await w.books_hold(wallet)


@virtually
async def test_never_sent_frees_the_coins() -> None:
    """Where no connection was made the verb fails as unavailable and the coins are free at once."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("before", "swap", AWAY, AWAY, AWAY)
        with pytest.raises(UnavailableError):
            await wallet.send(37)
        assert (await wallet.balance()).available == 100
        assert not await wallet.operations()
        await w.books_hold(wallet)


@virtually
async def test_uncertain_once_is_never_taken_for_unsent() -> None:
    """A lost answer followed by no connection is still uncertain: coins stay locked."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", LOST)
        w.faults.plant("before", "swap", None, AWAY, AWAY)
        with pytest.raises(OperationOpenError):
            await wallet.send(37)
        assert (await wallet.balance()).reserved == 64
        await wallet.resume()
        await w.books_hold(wallet)


@virtually
@pytest.mark.parametrize("refusal", [refused.ProofsSpentError(), refused.OutputsSignedError()])
async def test_mint_that_is_not_idempotent_is_recovered_by_restore(refusal: RefusedError) -> None:
    """The replay is refused because the first request took effect: signatures come from NUT-09, states from NUT-07."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", LOST)
        w.faults.plant("before", "swap", None, refusal)
        token = await wallet.send(37)
        assert token.amount == 37
        assert "restore" in w.faults.calls
        await w.books_hold(wallet)


@virtually
async def test_issue_is_recovered_by_restore_and_quote() -> None:
    """A mint request whose replay says `already issued` is settled from restored signatures."""
    async with world() as w:
        wallet = await w.wallet()
        quote = await wallet.mint_quote(13)
        await w.pay(quote.request)
        w.faults.plant("after", "issue", LOST)
        w.faults.plant("before", "issue", None, refused.QuoteIssuedError())
        assert await wallet.claim(quote) == 13
        await w.books_hold(wallet)


@virtually
async def test_two_devices_on_one_seed() -> None:
    """The second device meets secrets the first one used (11003): its counter jumps and the verb still succeeds."""
    words = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    async with world() as w:
        first = await w.wallet(words=words)
        second = await w.wallet(words=words)
        await w.fund(first, 100)
        await w.fund(second, 100)
        assert (await second.balance()).available == 100
        await first.send(37)
        await second.send(37)
        await w.books_hold(first, second)


@virtually
async def test_melt_answer_lost_is_looked_up_not_sent_again() -> None:
    """A melt that was paid while its answer was lost is found by its quote; change comes with it; one request was sent."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "melt", LOST)
        payment = await wallet.pay(await w.foreign_invoice(21_000))
        assert payment.state == "PAID"
        assert len(_melts(w)) == 1
        assert (await wallet.balance()).available == 100 - 21 - payment.fee
        await w.books_hold(wallet)


@virtually
async def test_melt_the_mint_never_saw_is_replayed_to_the_byte_after_a_look() -> None:
    """Only after quote UNPAID and coins UNSPENT are the journalled bytes sent again, soon."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("before", "melt", LOST)
        w.faults.calls.clear()
        payment = await wallet.pay(await w.foreign_invoice(21_000))
        assert payment.state == "PAID"
        first, second = _melts(w)
        assert first == second
        between = w.faults.calls[w.faults.calls.index("melt") : len(w.faults.calls) - w.faults.calls[::-1].index("melt")]
        assert "melt_quote" in between
        assert "check_state" in between
        await w.books_hold(wallet)


@virtually
async def test_melt_not_seen_for_long_is_freed_not_paid() -> None:
    """Long after, a melt the mint never saw is not paid behind the owner's back: its coins are freed."""
    async with world() as w:
        storage = await memory_storage()
        wallet = await w.wallet(storage)
        await w.fund(wallet, 100)
        w.faults.plant("before", "melt", LOST)
        w.faults.plant("before", "melt_quote", AWAY, AWAY, AWAY)
        with pytest.raises(OperationOpenError):
            await wallet.pay(await w.foreign_invoice(21_000))
        w.clock.skip(SETTINGS.replay_window_s + 1)
        report = await wallet.resume()
        assert len(report.failed) == 1
        assert len(_melts(w)) == 1
        assert (await wallet.balance()).available == 100
        await w.books_hold(wallet)


@virtually
async def test_running_payment_keeps_its_coins() -> None:
    """While a payment hangs, neither resume nor check_pending frees its coins; once it ends, resume settles it."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.bank.rail.set_faults(PlayFaults(always=Fault(after_s=500.0, answer=Answer.PENDING)))
        payment = await wallet.pay(await w.foreign_invoice(21_000), wait_s=5)
        assert payment.state == "PENDING"
        for _ in range(3):
            assert (await wallet.resume()).open
            await wallet.check_pending()
            balance = await wallet.balance()
            assert balance.reserved > 0
            assert balance.available + balance.reserved == 100
        with pytest.raises(RefusedError):
            await wallet.pay((await wallet.melt_quotes())[0])
        report = await wallet.resume(wait_s=2000)
        assert len(report.settled) == 1
        assert (await wallet.balance()).reserved == 0
        (quote,) = await wallet.melt_quotes()
        assert quote.state == "PAID"
        assert quote.preimage
        await w.books_hold(wallet)


@virtually
async def test_failed_payment_frees_its_coins() -> None:
    """A payment that failed for good raises, and everything is spendable again."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.fail_payments()
        with pytest.raises(refused.PaymentFailedError):
            await wallet.pay(await w.foreign_invoice(21_000))
        assert (await wallet.balance()).available == 100
        assert len(_melts(w)) == 1
        w.bank.rail.set_faults(PlayFaults())
        assert (await wallet.pay(await w.foreign_invoice(21_000, "other"))).state == "PAID"
        await w.books_hold(wallet)


@virtually
async def test_payment_that_fails_later_frees_its_coins() -> None:
    """PENDING, then UNPAID with coins UNSPENT: the payment is over, and nothing is sent again."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.bank.rail.set_faults(PlayFaults(always=replace(Fault.fail(after_s=300.0), answer=Answer.PENDING)))
        assert (await wallet.pay(await w.foreign_invoice(21_000), wait_s=1)).state == "PENDING"
        report = await wallet.resume(wait_s=2000)
        assert len(report.failed) == 1
        assert len(_melts(w)) == 1
        assert (await wallet.balance()).available == 100


@virtually
@pytest.mark.parametrize("lie", ["states", "quote"])
async def test_look_that_would_free_a_running_payment_is_refused(lie: str) -> None:
    """Coins stay locked where only one of quote and states says that nothing runs: a mint in between, or a wrong one."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.bank.rail.set_faults(PlayFaults(always=Fault(after_s=500.0, answer=Answer.PENDING)))
        assert (await wallet.pay(await w.foreign_invoice(21_000), wait_s=1)).state == "PENDING"

        def change(verb: str, answer: object) -> object:
            if lie == "states" and verb == "check_state" and isinstance(answer, list):
                return [ProofState(one.Y, State.UNSPENT) for one in answer]
            if lie == "quote" and verb == "melt_quote":
                return msgspec.structs.replace(answer, state=MeltState.UNPAID)  # type: ignore[type-var]
            return answer

        w.faults.change = change
        assert (await wallet.resume()).open
        await wallet.check_pending()
        assert (await wallet.balance()).reserved > 0
        w.faults.change = None
        await wallet.resume(wait_s=2000)
        await w.books_hold(wallet)


@virtually
async def test_change_is_restored_where_the_quote_has_none() -> None:
    """A mint that forgets to send change is asked for it by the blank outputs (NUT-09)."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)

        def change(verb: str, answer: object) -> object:
            if verb in ("melt", "melt_quote"):
                return msgspec.structs.replace(answer, change=None)  # type: ignore[type-var]
            return answer

        w.faults.change = change
        payment = await wallet.pay(await w.foreign_invoice(21_000))
        assert (await wallet.balance()).available == 100 - 21 - payment.fee
        await w.books_hold(wallet)


@virtually
async def test_fee_limit_is_kept_before_anything_is_sent() -> None:
    """`max_fee` bounds reserve and input fee together; nothing is journalled beyond it."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        with pytest.raises(FeeExceedsLimitError):
            await wallet.pay(await w.foreign_invoice(21_000), max_fee=0)
        assert not await wallet.operations()
        assert not _melts(w)


@virtually
@pytest.mark.parametrize("fault", ["dleq", "missing", "amount", "keyset", "count"])
async def test_wrong_signatures_are_refused_and_nothing_is_given_up(fault: str) -> None:
    """Another DLEQ, none, another amount, an unknown keyset, too few: PeerFaultError, a page, and the operation stays open."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)

        def change(verb: str, answer: object) -> object:
            if verb != "swap" or not isinstance(answer, list):
                return answer
            one = answer[0]
            match fault:
                case "dleq":
                    return [msgspec.structs.replace(one, dleq=answer[1].dleq), *answer[1:]]
                case "missing":
                    return [msgspec.structs.replace(one, dleq=None), *answer[1:]]
                case "amount":
                    return [msgspec.structs.replace(one, amount=one.amount * 2), *answer[1:]]
                case "keyset":
                    return [msgspec.structs.replace(one, id="00" + "ab" * 7), *answer[1:]]
            return answer[1:]

        w.faults.change = change
        with pytest.raises(PeerFaultError):
            await wallet.send(37)
        assert w.pages.pages
        balance = await wallet.balance()
        assert (balance.available, balance.reserved) == (36, 64)
        w.faults.change = None
        await wallet.resume()
        await w.books_hold(wallet)


@virtually
async def test_missing_dleq_is_taken_from_a_mint_that_announces_none() -> None:
    """Without NUT-12 in its info a mint's signatures are taken as they are."""
    async with world() as w:

        def change(verb: str, answer: object) -> object:
            if isinstance(answer, MintInfo):
                return msgspec.structs.replace(answer, nuts={k: v for k, v in answer.nuts.items() if k != "12"})
            if verb in ("swap", "issue") and isinstance(answer, list):
                return [msgspec.structs.replace(one, dleq=None) for one in answer]
            return answer

        w.faults.change = change
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        await wallet.send(37, include_dleq=False)
        await w.books_hold(wallet)


@virtually
async def test_old_quote_signature_form_is_the_fall_back() -> None:
    """A mint that refuses the signature of version 1 (20008) gets the legacy one over the same outputs."""
    async with world() as w:
        wallet = await w.wallet()
        quote = await wallet.mint_quote(13)
        assert quote.key_index is not None
        await w.pay(quote.request)
        w.faults.plant("before", "issue", refused.QuoteSignatureInvalidError())
        assert await wallet.claim(quote) == 13
        first, second = [body for verb, body in w.faults.bodies if verb == "issue"]
        assert first != second
        assert msgspec.json.decode(first)["outputs"] == msgspec.json.decode(second)["outputs"]
        await w.books_hold(wallet)


@virtually
async def test_quote_of_another_amount_is_refused() -> None:
    """An invoice that asks for more than we wanted to mint, or a quote that asks for more than the invoice, is refused."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        dear = await w.foreign_invoice(99_000)

        def change(verb: str, answer: object) -> object:
            if verb == "request_mint_quote":
                return msgspec.structs.replace(answer, request=dear)  # type: ignore[type-var]
            if verb == "request_melt_quote":
                return msgspec.structs.replace(answer, amount=50)  # type: ignore[type-var]
            return answer

        w.faults.change = change
        with pytest.raises(PeerFaultError):
            await wallet.mint_quote(13)
        with pytest.raises(PeerFaultError):
            await wallet.melt_quote(await w.foreign_invoice(21_000))


@virtually
async def test_quote_is_claimed_behind_our_back() -> None:
    """A quote paid while nobody looked is claimed by check_pending, once."""
    async with world() as w:
        wallet = await w.wallet()
        quote = await wallet.mint_quote(13)
        assert (await wallet.check_pending()).minted == {}
        await w.pay(quote.request)
        assert (await wallet.check_pending()).minted == {"sat": 13}
        assert (await wallet.check_pending()).minted == {}
        with pytest.raises(refused.QuoteUnpaidError):
            await wallet.claim(quote)
        await w.books_hold(wallet)
