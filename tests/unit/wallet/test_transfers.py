"""Money from mint to mint: it arrives whole or stays, whoever lies and whenever the process dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from specie.ecash import MeltQuote, MintInfo, MintQuote
from specie.ecash import codes as refused
from specie.kernel import MalformedError, UnavailableError, UncertainError
from specie.lightning.adapters.play import Answer, Fault, PlayFaults
from specie.mint import MintSettings
from specie.wallet import TransferState
from specie.wallet.errors import (
    FeeExceedsLimitError,
    FeeExceedsValueError,
    InsufficientFundsError,
    MintUnknownError,
)
from tests.support.two_mints import OTHER_URL, Network, network
from tests.support.virtual import run_virtual
from tests.support.wallets import MINT_URL, Died, MortalStorage, memory_storage, virtually

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


@virtually
async def test_an_amount_arrives_exactly() -> None:
    """What was asked for is at the destination, the cost was told before, and both books hold."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        told = await wallet.transfers.quote(300, source=MINT_URL, destination=OTHER_URL)
        done = await wallet.transfers.move(300, source=MINT_URL, destination=OTHER_URL)
        assert done.state is TransferState.DONE
        assert (await wallet.balance(mint=OTHER_URL)).available == 300
        assert (await wallet.balance(mint=MINT_URL)).available == 1000 - 300 - done.fee
        assert 0 <= done.fee <= told.fee
        assert await wallet.transfers.entries() == []
        assert [one.transfer_id for one in await wallet.transfers.entries(pending=False)] == [done.transfer_id]
        await w.all_books_hold(wallet)


@virtually
@pytest.mark.parametrize("ppk", [0, 100, 1000])
async def test_everything_free_is_moved(ppk: int) -> None:
    """With no amount the quotes are asked for until amount, reserve and input fees fit; repeated, next to nothing is left."""
    async with network(settings=MintSettings(input_fee_ppk=ppk)) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 5000)
        done = await wallet.transfers.move(None, source=MINT_URL, destination=OTHER_URL)
        assert done.state is TransferState.DONE
        assert done.amount > 4800
        assert (await wallet.balance()).total == 5000 - done.fee
        for _ in range(6):
            try:
                await wallet.transfers.move(None, source=MINT_URL, destination=OTHER_URL)
            except FeeExceedsValueError:
                break
        assert (await wallet.balance(mint=MINT_URL)).available < 30
        await w.all_books_hold(wallet)


@virtually
async def test_bounds_are_kept_before_anything_is_paid() -> None:
    """A cost above the limit, an amount above the balance, one mint twice, an unknown mint: nothing was sent."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        with pytest.raises(FeeExceedsLimitError):
            await wallet.transfers.move(80, source=MINT_URL, destination=OTHER_URL, max_fee=0)
        with pytest.raises(FeeExceedsLimitError):
            await wallet.transfers.move(80, source=MINT_URL, destination=OTHER_URL, cost_ppm=1)
        with pytest.raises(InsufficientFundsError):
            await wallet.transfers.move(101, source=MINT_URL, destination=OTHER_URL)
        with pytest.raises(InsufficientFundsError):
            await wallet.transfers.move(100, source=MINT_URL, destination=OTHER_URL)
        with pytest.raises(MalformedError):
            await wallet.transfers.move(1, source=MINT_URL, destination=MINT_URL)
        with pytest.raises(MalformedError):
            await wallet.transfers.move(0, source=MINT_URL, destination=OTHER_URL)
        with pytest.raises(MintUnknownError):
            await wallet.transfers.move(1, source=MINT_URL, destination="http://nowhere.test")
        with pytest.raises(FeeExceedsValueError):
            await wallet.transfers.move(None, source=OTHER_URL, destination=MINT_URL)
        assert (await wallet.balance()).available == 100
        assert await wallet.transfers.entries(pending=False) == []


@virtually
async def test_source_that_says_paid_and_did_not() -> None:
    """No proof, nothing arrived: it stays PAID for all to see, somebody is called, and it is claimed when it does arrive."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        w.arrives = False

        def lie(verb: str, answer: object) -> object:
            return msgspec.structs.replace(answer, payment_preimage=None) if isinstance(answer, MeltQuote) else answer

        w.by_mint[MINT_URL].change = lie
        waiting = await wallet.transfers.move(300, source=MINT_URL, destination=OTHER_URL, wait_s=5)
        assert waiting.state is TransferState.PAID
        assert "no proof" in waiting.error
        assert w.pages.pages
        assert [one.state for one in await wallet.transfers.resume()] == [TransferState.PAID]
        quote = next(one for one in await wallet.mint_quotes() if one.quote == waiting.mint_quote)
        await w.arrive(quote.request, now=True)
        assert await wallet.transfers.resume() == []
        assert (await wallet.balance(mint=OTHER_URL)).available == 300
        await w.all_books_hold(wallet)


@virtually
async def test_proven_payment_that_the_destination_never_issues() -> None:
    """The preimage is there and the destination denies: PAID, without a word against the source; claimed once it gives in."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        w.by_mint[OTHER_URL].change = lambda verb, answer: (
            msgspec.structs.replace(answer, amount_paid=0) if isinstance(answer, MintQuote) else answer
        )
        preimages = w.banks[OTHER_URL]

        async def proof(known: MeltQuote, request: bytes) -> MeltQuote:
            answer = await real(known, request)
            row = await preimages.storage.read(
                lambda tx: tx.fetch_one("SELECT preimage FROM play_invoice ORDER BY created_ms DESC LIMIT 1")
            )
            return msgspec.structs.replace(answer, payment_preimage=str(row[0]) if row else None)

        client = w.clients[MINT_URL]
        real = client.melt
        client.melt = proof  # type: ignore[method-assign]
        waiting = await wallet.transfers.move(300, source=MINT_URL, destination=OTHER_URL, wait_s=5)
        assert waiting.state is TransferState.PAID
        assert waiting.error == "the destination has not seen the payment yet"
        assert not w.pages.pages
        w.by_mint[OTHER_URL].change = None
        await wallet.resume()
        assert await wallet.transfers.entries() == []
        await w.all_books_hold(wallet)


@virtually
async def test_destination_that_is_gone_while_coins_are_claimed() -> None:
    """Paid, and then no answer: the next resume claims; the source is never asked to pay again."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        w.by_mint[OTHER_URL].plant("before", "issue", *[UncertainError("lost")] * 3)
        w.by_mint[OTHER_URL].plant("before", "restore", *[UnavailableError("away")] * 3)
        waiting = await wallet.transfers.move(300, source=MINT_URL, destination=OTHER_URL)
        assert waiting.state is TransferState.PAID
        await wallet.resume()
        assert await wallet.transfers.entries() == []
        assert [verb for verb, _ in w.by_mint[MINT_URL].bodies].count("melt") == 1
        await w.all_books_hold(wallet)


@virtually
async def test_failed_payment_frees_everything() -> None:
    """The source refuses for good: FAILED, its coins free, nothing at the destination."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        w.fail_payments()
        with pytest.raises(refused.PaymentFailedError):
            await wallet.transfers.move(300, source=MINT_URL, destination=OTHER_URL)
        assert [one.state for one in await wallet.transfers.entries(pending=False)] == [TransferState.FAILED]
        assert (await wallet.balance()).available == 1000
        await wallet.resume()
        await w.all_books_hold(wallet)


@virtually
async def test_unknown_payment_stays_pending_and_is_never_made_twice() -> None:
    """The source works on it: PAYING with locked coins; carried on by resume; one request was ever sent."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        w.bank.rail.set_faults(PlayFaults(always=Fault(after_s=500.0, answer=Answer.PENDING)))
        waiting = await wallet.transfers.move(300, source=MINT_URL, destination=OTHER_URL, wait_s=1)
        assert waiting.state is TransferState.PAYING
        assert (await wallet.balance(mint=MINT_URL)).reserved > 300
        await wallet.resume()
        assert [one.state for one in await wallet.transfers.entries()] == [TransferState.PAYING]
        await wallet.resume(wait_s=600)
        assert await wallet.transfers.entries() == []
        assert (await wallet.balance(mint=OTHER_URL)).available == 300
        assert [verb for verb, _ in w.by_mint[MINT_URL].bodies].count("melt") == 1
        await w.all_books_hold(wallet)


@virtually
async def test_fees_that_grow_between_quotes() -> None:
    """A source that asks more each time it is asked gets nothing: the plan ends, and says that it would eat the money."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        asked = 0

        def greedy(verb: str, answer: object) -> object:
            nonlocal asked
            if verb == "request_melt_quote" and isinstance(answer, MeltQuote):
                asked += 1
                return msgspec.structs.replace(answer, fee_reserve=300 * asked)
            return answer

        w.by_mint[MINT_URL].change = greedy
        with pytest.raises(FeeExceedsValueError):
            await wallet.transfers.move(None, source=MINT_URL, destination=OTHER_URL)
        assert asked <= 6
        assert (await wallet.balance()).available == 1000
        assert await wallet.transfers.entries(pending=False) == []


@virtually
async def test_invoice_of_another_amount_is_refused() -> None:
    """A destination whose invoice asks for more than the quote is caught before the source is asked."""
    from specie.kernel import PeerFaultError

    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        dear = (await wallet.mint_quote(900, mint=OTHER_URL)).request
        w.by_mint[OTHER_URL].change = lambda verb, answer: (
            msgspec.structs.replace(answer, request=dear) if isinstance(answer, MintQuote) else answer
        )
        with pytest.raises(PeerFaultError):
            await wallet.transfers.move(300, source=MINT_URL, destination=OTHER_URL)
        assert "request_melt_quote" not in w.by_mint[MINT_URL].calls
        assert (await wallet.balance()).available == 1000


@virtually
async def test_two_transfers_at_once() -> None:
    """They share the coins or one is refused; no coin pays twice and all that was paid arrives."""
    async with network() as w:
        wallet = await w.wallet()
        for amount in (256, 256, 256, 256):
            await w.fund(wallet, amount)
        both = await asyncio.gather(
            wallet.transfers.move(400, source=MINT_URL, destination=OTHER_URL),
            wallet.transfers.move(400, source=MINT_URL, destination=OTHER_URL),
            return_exceptions=True,
        )
        done = [one for one in both if not isinstance(one, BaseException)]
        assert done
        assert (await wallet.balance(mint=OTHER_URL)).available == 400 * len(done)
        assert (await wallet.balance()).reserved == 0
        await w.all_books_hold(wallet)


async def _life(kill: Callable[[Network, MortalStorage], None], amount: int | None) -> bool:
    """A wallet that is killed during a transfer, and a second process on what it left; whether it died."""
    async with network() as w:
        storage = MortalStorage(await memory_storage())
        wallet = await w.wallet(storage, words=WORDS)
        await w.fund(wallet, 1000)
        kill(w, storage)
        died = False
        try:
            await wallet.transfers.move(amount, source=MINT_URL, destination=OTHER_URL)
        except Died:
            died = True
        storage.at = None
        for faults in w.by_mint.values():
            faults.before.clear()
            faults.after.clear()
        again = await w.wallet(storage.inner, words=WORDS, trusted=False)
        report = await again.resume(wait_s=60)
        assert not report.open, report.open
        assert await again.transfers.entries() == []
        assert (await again.balance()).reserved == 0
        assert [verb for verb, _ in w.by_mint[MINT_URL].bodies].count("melt") <= 2
        arrived = (await again.balance(mint=OTHER_URL)).available
        ended = [one for one in await again.transfers.entries(pending=False) if one.state is TransferState.DONE]
        assert arrived == sum(one.amount for one in ended)
        await w.all_books_hold(again)
        return died


@pytest.mark.parametrize("before", [True, False], ids=["lost", "durable"])
@pytest.mark.parametrize("amount", [300, None], ids=["some", "all"])
def test_dies_at_every_commit(amount: int | None, before: bool) -> None:
    """The store dies at commit 1, 2, 3 ... of a transfer: it is carried to its end, and both books hold to the unit."""
    deaths = 0
    for number in range(1, 60):

        def kill(w: Network, storage: MortalStorage, number: int = number) -> None:
            storage.at, storage.before = storage.commits + number, before

        if not run_virtual(_life(kill, amount)):
            break
        deaths += 1
    else:
        pytest.fail("the transfer never ended")
    assert deaths >= 8


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("url", "call"),
    [
        (OTHER_URL, "request_mint_quote"),
        (MINT_URL, "request_melt_quote"),
        (MINT_URL, "melt"),
        (OTHER_URL, "mint_quote"),
        (OTHER_URL, "issue"),
    ],
)
def test_dies_at_every_call(url: str, call: str, when: str) -> None:
    """The process dies at each call to either mint, before it is seen or before its answer is."""

    def kill(w: Network, storage: MortalStorage) -> None:
        w.by_mint[url].plant(when, call, Died())

    assert run_virtual(_life(kill, 300))


@virtually
async def test_payment_that_another_process_made_after_all() -> None:
    """A transfer that this process saw fail is taken up when its payment turns out to be made."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        w.by_mint[MINT_URL].plant("before", "melt", *[UnavailableError("away")] * 3)
        with pytest.raises(UnavailableError):
            await wallet.transfers.move(300, source=MINT_URL, destination=OTHER_URL)
        (failed,) = await wallet.transfers.entries(pending=False)
        assert failed.state is TransferState.FAILED
        quote = next(one for one in await wallet.melt_quotes() if one.quote == failed.melt_quote)
        await wallet.pay(quote)
        await wallet.resume()
        assert [one.state for one in await wallet.transfers.entries(pending=False)] == [TransferState.DONE]
        await w.all_books_hold(wallet)


@virtually
@pytest.mark.parametrize("moment", ["before the payment", "during the payment", "before the claim"])
async def test_two_processes_at_one_transfer(moment: str) -> None:
    """Another process resumes while this one is at it: one payment, one claim, and DONE in the end."""
    async with network() as w:
        storage = await memory_storage()
        wallet = await w.wallet(storage, words=WORDS)
        await w.fund(wallet, 1000)
        other = await w.wallet(storage, words=WORDS, trusted=False)
        part, name = {
            "before the payment": (wallet.transfers, "_run"),
            "during the payment": (w.clients[MINT_URL], "melt"),
            "before the claim": (wallet.transfers, "_claim"),
        }[moment]
        real = getattr(part, name)

        async def disturbed(*arguments: object) -> object:
            setattr(part, name, real)
            await other.resume()
            return await real(*arguments)

        setattr(part, name, disturbed)
        await wallet.transfers.move(300, source=MINT_URL, destination=OTHER_URL)
        await wallet.resume()
        await other.resume()
        (one,) = await wallet.transfers.entries(pending=False)
        assert one.state is TransferState.DONE
        assert (await wallet.balance(mint=OTHER_URL)).available == 300
        assert (await wallet.balance()).reserved == 0
        await w.all_books_hold(wallet)


@virtually
async def test_transfer_to_a_mint_that_was_removed_waits_for_its_return() -> None:
    """Paid, and the destination forgotten by force before it issued: nobody is asked; adding it again claims."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 1000)
        w.arrives = False
        waiting = await wallet.transfers.move(300, source=MINT_URL, destination=OTHER_URL, wait_s=1)
        assert waiting.state is TransferState.PAID
        await wallet.exits.remove(OTHER_URL, force=True)
        calls = len(w.by_mint[OTHER_URL].calls)
        await wallet.resume()
        assert len(w.by_mint[OTHER_URL].calls) == calls
        quote = next(one for one in await wallet.mint_quotes() if one.quote == waiting.mint_quote)
        await w.arrive(quote.request, now=True)
        await wallet.add_mint(OTHER_URL)
        await wallet.resume()
        assert await wallet.transfers.entries() == []
        await w.all_books_hold(wallet)


@virtually
async def test_bounds_of_the_mints_are_kept() -> None:
    """A destination that takes at most 100 gets 100 of all; one that takes at least more than there is gets nothing."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 500)

        def bounded(**bounds: int) -> Callable[[str, object], object]:
            def change(verb: str, answer: object) -> object:
                if not isinstance(answer, MintInfo):
                    return answer
                method = {"method": "bolt11", "unit": "sat", **bounds}
                return msgspec.structs.replace(answer, nuts={**answer.nuts, "4": {"methods": [method], "disabled": False}})

            return change

        w.by_mint[OTHER_URL].change = bounded(max_amount=100)
        await wallet.add_mint(OTHER_URL)
        assert (await wallet.transfers.move(None, source=MINT_URL, destination=OTHER_URL)).amount == 100
        w.by_mint[OTHER_URL].change = bounded(min_amount=1000)
        await wallet.add_mint(OTHER_URL)
        with pytest.raises(FeeExceedsValueError):
            await wallet.transfers.move(None, source=MINT_URL, destination=OTHER_URL)
        await w.all_books_hold(wallet)
