"""Minting and paying by methods beyond BOLT 11: offers, addresses, methods of no NUT (NUT-04, 05, 20, 25, 30)."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from specie.ecash import MeltFeeOption, MintQuote, wire
from specie.ecash import codes as refused
from specie.ecash.quote import MeltState
from specie.kernel import MalformedError, PeerFaultError, RefusedError, UncertainError
from specie.wallet.errors import FeeExceedsLimitError, OperationBusyError, OperationOpenError, UnsupportedError
from tests.support.method_mint import Mints, address_of, method_mints, offer_of
from tests.support.wallets import memory_storage, virtually

LOST = UncertainError("the answer was lost")
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


@pytest.mark.parametrize("method", ["bolt12", "onchain", "voucher"])
def test_every_deposit_is_seen_and_claimed(method: str) -> None:
    """A quote that is paid again and again: `wait` sees each deposit, `claim` mints it, and the books hold."""

    @virtually
    async def run() -> None:
        async with method_mints() as m:
            (mint,) = m.mints
            wallet = await m.wallet()
            quote = await wallet.mint_quote(method=method)
            assert (await wallet.wait(quote, timeout_s=5)).claimable == 0
            for amount in (21, 13):
                mint.deposit(quote.quote, amount)
                seen = await wallet.wait(quote, timeout_s=60)
                assert seen.claimable == amount
                assert await wallet.claim(seen) == amount
            assert (await wallet.balance()).available == 34
            with pytest.raises(refused.QuoteUnpaidError):
                await wallet.claim(quote)
            assert mint.quotes[quote.quote].pubkey is not None
            await m.books_hold(wallet)

    run()


@virtually
async def test_no_two_quotes_share_a_key() -> None:
    """Each quote is locked to a key of its own (NUT-25: they cannot be linked)."""
    async with method_mints() as m:
        wallet = await m.wallet()
        for _ in range(3):
            await wallet.mint_quote(method="onchain")
        keys = {quote.pubkey for quote in m.mints[0].quotes.values()}
        assert len(keys) == 3
        assert None not in keys


@virtually
async def test_a_part_can_be_claimed() -> None:
    """Less than is mintable, then the rest; more than there is, nothing or less is refused."""
    async with method_mints() as m:
        wallet = await m.wallet()
        quote = await wallet.mint_quote(method="bolt12")
        m.mints[0].deposit(quote.quote, 100)
        assert await wallet.claim(quote, amount=30) == 30
        with pytest.raises(refused.QuoteUnpaidError):
            await wallet.claim(quote, amount=71)
        for amount in (0, -1):
            with pytest.raises(MalformedError):
                await wallet.claim(quote, amount=amount)
        assert await wallet.claim(quote) == 70
        await m.books_hold(wallet)


@virtually
async def test_an_invoice_is_claimed_whole() -> None:
    """BOLT 11 knows no parts."""
    async with method_mints() as m:
        wallet = await m.wallet()
        quote = await wallet.mint_quote(21)
        await m.worlds[0].pay(quote.request)
        with pytest.raises(MalformedError):
            await wallet.claim(quote, amount=20)
        assert await wallet.claim(quote) == 21


@virtually
async def test_what_is_too_much_at_once_is_claimed_at_several_times() -> None:
    """A mint that issues at most 40 at once is asked for 40, 40 and 20."""
    async with method_mints() as m:
        m.mints[0].bounds["onchain"] = (10, 40)
        wallet = await m.wallet()
        quote = await wallet.mint_quote(method="onchain")
        m.mints[0].deposit(quote.quote, 100)
        assert await wallet.claim(quote) == 100
        assert [verb for verb, _ in m.mints[0].faults.bodies].count("issue") == 3
        await m.books_hold(wallet)


@virtually
async def test_what_would_be_lost_is_not_asked_for() -> None:
    """On chain a deposit below the minimum is not credited, so it is refused before anybody pays."""
    async with method_mints() as m:
        m.mints[0].bounds["onchain"] = (1000, 5000)
        wallet = await m.wallet()
        for amount in (999, 5001):
            with pytest.raises(refused.AmountOutOfRangeError):
                await wallet.mint_quote(amount, method="onchain")
        quote = await wallet.mint_quote(1000, method="onchain")
        assert quote.amount == 1000
        assert m.mints[0].quotes[quote.quote].amount is None


@virtually
async def test_a_method_that_is_not_announced_is_not_asked_for() -> None:
    """UnsupportedError names the specification; an invoice needs an amount, other methods none."""
    async with method_mints() as m:
        m.mints[0].methods = ("bolt12",)
        wallet = await m.wallet()
        for method, nut in (("onchain", 30), ("barter", 4)):
            with pytest.raises(UnsupportedError) as error:
                await wallet.mint_quote(5, method=method)
            assert error.value.nut == nut
        for amount, method in ((None, "bolt11"), (0, "bolt12"), (-5, "bolt12")):
            with pytest.raises(MalformedError):
                await wallet.mint_quote(amount, method=method)


@virtually
async def test_a_reorganisation_takes_back_what_was_not_claimed() -> None:
    """`amount_paid` goes down: it is shown, what was minted stays, and a later deposit counts from there."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        quote = await wallet.mint_quote(method="onchain")
        mint.deposit(quote.quote, 50)
        assert await wallet.claim(quote) == 50
        mint.deposit(quote.quote, -50)
        assert await wallet.claim_all() == {}
        (seen,) = await wallet.mint_quotes()
        assert (seen.amount_paid, seen.amount_issued, seen.claimable) == (0, 50, 0)
        assert (await wallet.balance()).available == 50
        assert "wallet_deposit_withdrawn" in [name for name, _ in m.pages.events]
        mint.deposit(quote.quote, 80)
        assert await wallet.claim_all() == {"sat": 30}
        await m.books_hold(wallet)


@virtually
async def test_an_old_answer_is_ignored() -> None:
    """An answer with a lower `updated_at` changes nothing of what is known."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        quote = await wallet.mint_quote(method="bolt12")
        mint.deposit(quote.quote, 50)
        now = m.clock.now()
        old = mint.quotes[quote.quote] = msgspec.structs.replace(mint.quotes[quote.quote], updated_at=now)
        await wallet.wait(quote, timeout_s=5)
        mint.quotes[quote.quote] = msgspec.structs.replace(old, amount_paid=7, updated_at=now - 1)
        await wallet.wait(quote, timeout_s=0)
        assert (await wallet.mint_quotes())[0].amount_paid == 50


@virtually
@pytest.mark.parametrize("ahead", [1, 2**40])
async def test_a_mint_that_told_a_wrong_time_is_believed_again(ahead: int) -> None:
    """A time that lies far ahead, or some minutes back, proves no answer to be old: what is paid is claimed all the same."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        quote = await wallet.mint_quote(method="bolt12")
        honest = mint.quotes[quote.quote]
        mint.quotes[quote.quote] = msgspec.structs.replace(honest, updated_at=m.clock.now() + ahead)
        await wallet.wait(quote, timeout_s=0)
        mint.quotes[quote.quote] = msgspec.structs.replace(honest, amount_paid=50, updated_at=m.clock.now())
        await m.clock.sleep(400)
        assert await wallet.claim_all() == {"sat": 50}
        await m.books_hold(wallet)


@virtually
async def test_a_lost_claim_is_told_from_a_later_deposit() -> None:
    """The answer to a claim is lost and another deposit arrives meanwhile: the coins are found all the same, once."""
    async with method_mints() as m:
        (mint,) = m.mints
        storage = await memory_storage()
        wallet = await m.wallet(storage, words=WORDS)
        quote = await wallet.mint_quote(method="onchain")
        mint.deposit(quote.quote, 40)
        mint.faults.plant("after", "issue", LOST, LOST, LOST)
        with pytest.raises(OperationOpenError):
            await wallet.claim(quote)
        mint.deposit(quote.quote, 100)
        mint.faults.plant("before", "issue", refused.OutputsSignedError())
        again = await m.wallet(storage, words=WORDS, trusted=False)
        report = await again.resume()
        assert len(report.settled) == 1
        assert (await again.balance()).available == 40
        assert await again.claim_all() == {"sat": 100}
        await m.books_hold(again)


@virtually
async def test_a_mint_that_says_absurdly_much_was_paid() -> None:
    """2^64-1 was paid, it says: no more outputs are made than fit into a request, and what it signs is ours."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        quote = await wallet.mint_quote(method="bolt12")
        mint.deposit(quote.quote, 2**64 - 1)
        mint.faults.plant("before", "issue", refused.MintingDisabledError())
        with pytest.raises(refused.MintingDisabledError):
            await wallet.claim(quote)
        ((_, body),) = mint.faults.bodies
        assert len(wire.mint_request_from_json(body, method="bolt12").outputs) <= 1000


@virtually
async def test_a_claim_of_an_older_version_is_carried_on() -> None:
    """Journalled before claims were: its lost answer is found all the same."""
    async with method_mints() as m:
        storage = await memory_storage()
        wallet = await m.wallet(storage, words=WORDS)
        quote = await wallet.mint_quote(21)
        await m.worlds[0].pay(quote.request)
        m.mints[0].faults.plant("after", "issue", LOST, LOST, LOST)
        with pytest.raises(OperationOpenError):
            await wallet.claim(quote)
        await storage.transact(lambda tx: tx.execute("DELETE FROM wallet_claim"))
        m.mints[0].faults.plant("before", "issue", refused.QuoteIssuedError())
        again = await m.wallet(storage, words=WORDS, trusted=False)
        assert len((await again.resume()).settled) == 1
        assert (await again.balance()).available == 21
        (entry,) = await again.history()
        assert (entry.amount, entry.reference) == (21, quote.request)


@virtually
async def test_two_claim_one_quote_at_once() -> None:
    """Two tasks, and two processes on one store: every sat is minted once."""
    async with method_mints() as m:
        storage = await memory_storage()
        one, two = await m.wallet(storage, words=WORDS), await m.wallet(storage, words=WORDS)
        quote = await one.mint_quote(method="bolt12")
        m.mints[0].deposit(quote.quote, 50)
        results = await asyncio.gather(one.claim(quote), one.claim(quote), two.claim(quote), return_exceptions=True)
        assert any(isinstance(result, int) for result in results)
        for result in results:
            assert isinstance(result, (int, OperationBusyError, refused.QuoteUnpaidError)), result
        await two.claim_all()
        assert (await one.balance()).available == 50
        await m.books_hold(one)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("bolt12", {"pubkey": None}),
        ("bolt12", {"pubkey": "02" + "11" * 32}),
        ("bolt12", {"request": "lnbc1nothing"}),
        ("bolt12", {"request": offer_of(5_000)}),
        ("onchain", {"pubkey": None}),
        ("onchain", {"request": "bcrt1qwrong"}),
        ("voucher", {"unit": "usd"}),
        ("bolt12", {"amount": 6}),
    ],
)
def test_a_hostile_mint_quote_is_refused(method: str, change: dict[str, object]) -> None:
    """Not locked, locked to another's key, no offer, another amount, no address, another unit."""

    @virtually
    async def run() -> None:
        async with method_mints() as m:
            wallet = await m.wallet()

            def lie(verb: str, answer: object) -> object:
                return msgspec.structs.replace(answer, **change) if isinstance(answer, MintQuote) else answer

            m.mints[0].faults.change = lie
            with pytest.raises(PeerFaultError):
                await wallet.mint_quote(None if "request" in change and method == "bolt12" else 7, method=method)
            assert await wallet.mint_quotes() == []

    run()


# paying


async def _rich(m: Mints, amount: int = 1000) -> object:
    wallet = await m.wallet()
    await m.fund(wallet, amount)
    return wallet


@virtually
async def test_an_onchain_payment_is_followed_to_its_end() -> None:
    """PENDING with its coins locked, then its outpoint, then PAID with the change; the fee is what was not given back."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        await m.fund(wallet, 1000)
        address = address_of("shop")
        quote = await wallet.melt_quote(address, amount=300)
        assert (quote.method, quote.amount, quote.fee_index, quote.fee_reserve) == ("onchain", 300, 1, 20)
        paid = await wallet.pay(quote)
        assert (paid.state, paid.outpoint) == ("PENDING", None)
        assert (await wallet.balance()).reserved >= 320
        name = next(iter(mint.melts))
        mint.broadcast(name, "ab" * 32 + ":1")
        assert (await wallet.resume()).open
        assert (await wallet.melt_quotes())[0].outpoint == "ab" * 32 + ":1"
        await mint.confirm(name)
        assert len((await wallet.resume()).settled) == 1
        (entry, *_) = await wallet.history()
        assert (entry.kind, entry.amount) == ("pay", 300)
        assert (await wallet.balance()).available == 1000 - 300 - entry.fee
        assert (await wallet.balance()).reserved == 0
        await m.books_hold(wallet)


@virtually
async def test_fees_are_chosen() -> None:
    """By index, by blocks, or the cheapest within the target; what is not offered is refused before anything is sent."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        await m.fund(wallet, 1000)
        quote = await wallet.melt_quote(address_of("shop"), amount=100)
        for choice in ({"fee_index": 3}, {"blocks": 0}, {"fee_index": 0, "blocks": 6}):
            with pytest.raises(RefusedError):
                await wallet.pay(quote, **choice)
        with pytest.raises(FeeExceedsLimitError):
            await wallet.pay(quote, fee_index=0, max_fee=49)
        assert not mint.faults.bodies or mint.faults.bodies[-1][0] != "melt"
        await wallet.pay(quote, blocks=200)
        assert mint.melts[quote.quote].quote.selected_fee_index == 7
        assert (await wallet.melt_quotes())[0].fee_reserve == 12
        with pytest.raises(RefusedError):
            await wallet.pay(quote, fee_index=0)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 301},
        {"fee_options": (MeltFeeOption(0, 50, 1), MeltFeeOption(1, 900, 6))},
        {"selected_fee_index": 0},
        {"state": MeltState.PAID},
    ],
)
def test_a_mint_that_changes_its_mind_before_it_has_coins_is_caught(change: dict[str, object]) -> None:
    """Another amount, other fees, an option that is not ours, paid already: nothing is sent and no coin is locked."""

    @virtually
    async def run() -> None:
        async with method_mints() as m:
            (mint,) = m.mints
            wallet = await m.wallet()
            await m.fund(wallet, 1000)
            quote = await wallet.melt_quote(address_of("shop"), amount=300)
            mint.change_melt = change
            with pytest.raises((PeerFaultError, refused.QuotePendingError)):
                await wallet.pay(quote)
            assert "melt" not in [verb for verb, _ in mint.faults.bodies]
            assert (await wallet.balance()).available == 1000

    run()


@virtually
async def test_a_mint_that_takes_another_option_is_told_on_and_followed() -> None:
    """With our coins in its hands it says that it chose another option: a human is told, and nothing is lost."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        await m.fund(wallet, 1000)
        quote = await wallet.melt_quote(address_of("shop"), amount=300)
        real = mint.melt

        async def lying(known: object, request: bytes) -> object:
            answer = await real(known, request)  # type: ignore[arg-type]
            mint.change_melt = {"selected_fee_index": 0}
            return msgspec.structs.replace(answer, selected_fee_index=0)

        mint.melt = lying  # type: ignore[method-assign, assignment]
        paid = await wallet.pay(quote)
        assert paid.state == "PENDING"
        assert any("another fee option" in str(facts) for _, facts in m.pages.pages)
        await mint.confirm(quote.quote)
        assert len((await wallet.resume()).settled) == 1
        await m.books_hold(wallet)


@virtually
async def test_paid_and_then_unpaid_moves_nothing_back() -> None:
    """Once settled, what a mint says later about the quote changes nothing."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        await m.fund(wallet, 1000)
        quote = await wallet.melt_quote(address_of("shop"), amount=300)
        await wallet.pay(quote)
        await mint.confirm(quote.quote)
        await wallet.resume()
        before = await wallet.balance()
        mint.fail(quote.quote)
        await wallet.resume()
        await wallet.check_pending()
        assert await wallet.balance() == before
        with pytest.raises(refused.InvoicePaidError):
            await wallet.pay(quote)


@virtually
async def test_a_failed_onchain_payment_frees_its_coins() -> None:
    """PENDING, then UNPAID with the coins UNSPENT."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        await m.fund(wallet, 1000)
        quote = await wallet.melt_quote(address_of("shop"), amount=300)
        await wallet.pay(quote)
        mint.fail(quote.quote)
        assert len((await wallet.resume()).failed) == 1
        assert (await wallet.balance()).available == 1000
        await m.books_hold(wallet)


@virtually
async def test_offers_and_other_methods_are_paid() -> None:
    """An offer with an amount, one without, and a request of a method of no NUT."""
    async with method_mints() as m:
        wallet = await m.wallet()
        await m.fund(wallet, 1000)
        assert (await wallet.pay(offer_of(21_000))).amount == 21
        assert (await wallet.pay(offer_of(None), amount=30)).amount == 30
        assert (await wallet.pay("pay me", method="voucher", amount=5)).state == "PAID"
        for request, options in ((offer_of(None), {}), (offer_of(21_000), {"amount": 20}), (address_of("x"), {})):
            with pytest.raises(MalformedError):
                await wallet.melt_quote(request, **options)
        await m.books_hold(wallet)


@virtually
async def test_a_uri_is_paid_by_what_the_mint_can() -> None:
    """Lightning first; where a mint has no offers, on chain; the URI's amount is exact."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        await m.fund(wallet, 1000)
        address, offer = address_of("shop"), offer_of(100_000)
        uri = f"bitcoin:{address}?amount=0.000001&lno={offer}&label=Shop"
        assert (await wallet.melt_quote(uri)).method == "bolt12"
        mint.methods = ("onchain",)
        await wallet.add_mint(m.urls[0])
        quote = await wallet.melt_quote(uri)
        assert (quote.method, quote.amount) == ("onchain", 100)
        invoice = await m.worlds[0].foreign_invoice(100_000)
        assert (await wallet.melt_quote(f"bitcoin:{address}?lightning={invoice}")).method == "bolt11"
        assert (await wallet.melt_quote(f"bitcoin:?lightning={invoice}&amount=0.000001")).amount == 100
        for wrong in (f"bitcoin:{address}?amount=0.000002&lightning={invoice}", f"bitcoin:{address}?amount=0.000001&req-x=1"):
            with pytest.raises(MalformedError):
                await wallet.melt_quote(wrong)
        with pytest.raises(MalformedError):
            await wallet.melt_quote(uri, amount=99)
        with pytest.raises(UnsupportedError):
            await wallet.melt_quote(uri, method="bolt12")


@virtually
async def test_an_invoice_is_never_paid_twice() -> None:
    """Not by another quote for it once it was paid; not while the first is on its way."""
    async with method_mints() as m:
        wallet = await m.wallet()
        await m.fund(wallet, 1000)
        invoice = await m.worlds[0].foreign_invoice(21_000)
        first, second = await wallet.melt_quote(invoice), await wallet.melt_quote(invoice.upper())
        assert (await wallet.pay(first)).state == "PAID"
        with pytest.raises(refused.InvoicePaidError):
            await wallet.pay(second)
        other = await m.worlds[0].foreign_invoice(22_000, "other")
        third, fourth = await wallet.melt_quote(other), await wallet.melt_quote(other)
        m.mints[0].faults.plant("before", "melt", LOST)
        m.mints[0].faults.plant("before", "melt_quote", *[UncertainError("lost")] * 20)
        with pytest.raises((OperationOpenError, UncertainError)):
            await wallet.pay(third)
        m.mints[0].faults.before.clear()
        with pytest.raises(OperationBusyError):
            await wallet.pay(fourth)


@virtually
async def test_a_melt_quote_for_something_else_is_refused() -> None:
    """Another amount, another address, no fee options: PeerFaultError, and the quote is not stored."""
    async with method_mints() as m:
        (mint,) = m.mints
        wallet = await m.wallet()
        await m.fund(wallet, 1000)
        for change in ({"amount": 301}, {"request": address_of("thief")}, {"fee_options": ()}, {"unit": "usd"}):
            mint.change_melt = change
            with pytest.raises(PeerFaultError):
                await wallet.melt_quote(address_of("shop"), amount=300)
        assert await wallet.melt_quotes() == []
