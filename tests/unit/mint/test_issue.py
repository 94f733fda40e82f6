"""Mint quotes and issuing (NUT-04, NUT-20, NUT-23): paid once, issued once, whatever arrives when."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

import pytest

from specie.ecash import MintQuoteRequest, MintRequest, MintState
from specie.ecash import codes as refused
from specie.ecash.quote import quote_signature_digest
from specie.kernel import IncomingPayment, IncomingRequest, MalformedError, RefusedError, curve, split_amount
from specie.lightning.adapters.play import PlayFaults
from specie.mint import MintSettings
from specie.mint.engine import deposit as verbs
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import House, Purse, house
from tests.support.virtual import run_virtual

SECRET = b"\x05" * 32
PUBKEY = curve.public_key(SECRET).hex()


async def ask(bank: House, amount: int = 8, **options: str) -> str:
    return (await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", amount, **options))).quote


async def test_a_quote_moves_from_unpaid_to_issued(bank: House, purse: Purse) -> None:
    """Each state is what the two amounts say; before payment nothing is issued (20001), after issue nothing more (20002)."""
    quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8, description="tea"))
    outputs = purse.outputs([8])
    assert quote.state is MintState.UNPAID
    with pytest.raises(refused.QuoteUnpaidError):
        await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages))
    paid = await bank.pay(quote)
    assert (paid.state, paid.amount_paid, paid.amount_issued) == (MintState.PAID, 8, 0)
    first = await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages))
    assert await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages)) == first
    assert (await bank.mint.mint_quote(quote.quote, "bolt11")).state is MintState.ISSUED
    with pytest.raises(refused.QuoteIssuedError):
        await bank.mint.issue(MintRequest("bolt11", quote.quote, purse.outputs([8]).messages))
    books = await bank.mint.audit()
    assert books.of("asset:rail/play", "sat") == books.outstanding(bank.keyset().id, "sat") == 8


async def test_quote_ids_are_version_7_and_never_repeat(bank: House) -> None:
    """NUT-04: UUIDv7 whose variable bits are random, so equal requests give different ids."""
    ids = {await ask(bank) for _ in range(20)}
    assert len(ids) == 20
    assert {quote[14] for quote in ids} == {"7"}


async def test_issues_only_the_whole_amount(bank: House, purse: Purse) -> None:
    """11005 for less and for more than was paid; the quote stays mintable."""
    quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
    await bank.pay(quote)
    for amounts in ([4], [8, 1]):
        with pytest.raises(refused.UnbalancedError):
            await bank.mint.issue(MintRequest("bolt11", quote.quote, purse.outputs(amounts).messages))
    assert len(await bank.mint.issue(MintRequest("bolt11", quote.quote, purse.outputs([8]).messages))) == 1


async def test_a_locked_quote_needs_its_signature(bank: House, purse: Purse) -> None:
    """20008 without, with a wrong and with another's signature; both message versions unlock; a refusal costs nothing."""
    for version in (1, 0):
        quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8, pubkey=PUBKEY))
        assert quote.pubkey == PUBKEY
        await bank.pay(quote)
        outputs = purse.outputs([8])
        digest = quote_signature_digest(quote.quote, outputs.messages, version=version)
        good = curve.schnorr_sign(digest, SECRET, b"\x00" * 32).hex()
        wrong = curve.schnorr_sign(hashlib.sha256(b"other").digest(), SECRET, b"\x00" * 32).hex()
        for signature in (None, wrong, "zz"):
            with pytest.raises(refused.QuoteSignatureInvalidError):
                await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages, signature))
        assert await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages, good))
        with pytest.raises(refused.QuoteSignatureInvalidError):
            await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages))
    with pytest.raises(RefusedError):
        await ask(bank, pubkey="02" + "ff" * 32)


async def test_quote_refusals(bank: House) -> None:
    """Amount bounds, units, methods, description length and unknown ids, each with its code."""
    async with house(settings=MintSettings(mint_min=2, mint_max=10)) as small:
        for amount in (1, 11):
            with pytest.raises(refused.AmountOutOfRangeError):
                await ask(small, amount)
    with pytest.raises(refused.UnitUnsupportedError):
        await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "usd", 8))
    with pytest.raises(refused.UnitUnsupportedError):
        await bank.mint.request_mint_quote(MintQuoteRequest("pigeon", "sat", 8))
    with pytest.raises(MalformedError):
        await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat"))
    with pytest.raises(MalformedError):
        await ask(bank, description="x" * 641)
    for method, quote in (("bolt11", "nobody"), ("bolt12", await ask(bank))):
        with pytest.raises(RefusedError):
            await bank.mint.mint_quote(quote, method)
    async with house(settings=MintSettings(minting=False)) as closed:
        with pytest.raises(refused.MintingDisabledError):
            await ask(closed)
        assert closed.mint.info().nuts["4"]["disabled"] is True


async def test_money_already_paid_in_is_issued_though_minting_is_off() -> None:
    """Switching minting off stops new quotes; what was paid is owed."""
    store = SqliteStorage(":memory:", inline=True)
    async with house(storage=store) as bank:
        quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
        await bank.pay(quote)
    async with house(storage=store, settings=MintSettings(minting=False)) as closed:
        request = MintRequest("bolt11", quote.quote, Purse(closed).outputs([8]).messages)
        assert len(await closed.mint.issue(request)) == 1
    await store.close()


async def test_a_late_payment_still_counts(bank: House, purse: Purse) -> None:
    """Unpaid after its expiry a quote is 20007; paid after its expiry it is honoured."""
    quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
    bank.clock.skip(100_000)
    with pytest.raises(refused.QuoteExpiredError):
        await bank.mint.issue(MintRequest("bolt11", quote.quote, purse.outputs([8]).messages))
    asked = await bank.storage.read(lambda tx: bank.mint._context.store.mint_quote(tx, quote.quote))
    assert asked is not None
    late = IncomingPayment(asked.payment_id, "receipt", 8000, "1")
    await verbs.credit(bank.mint._context, "play", late, cursor=True)
    assert await bank.mint.issue(MintRequest("bolt11", quote.quote, purse.outputs([8]).messages))


async def test_an_arrival_is_booked_once(bank: House) -> None:
    """A rail that repeats itself credits nothing twice; a payment nobody asked for is booked, not lost."""
    quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
    asked = await bank.storage.read(lambda tx: bank.mint._context.store.mint_quote(tx, quote.quote))
    assert asked is not None
    arrival = IncomingPayment(asked.payment_id, "receipt", 8000, "1")
    stray = IncomingPayment("ff" * 32, "stray", 5500, "2")
    for payment in (arrival, arrival, stray, stray):
        await verbs.credit(bank.mint._context, "play", payment, cursor=True)
    assert (await bank.mint.mint_quote(quote.quote, "bolt11")).amount_paid == 8
    books = await bank.mint.books()
    assert books.of("asset:rail/play", "sat") == 13
    assert books.of("liability:deposit/unassigned", "sat") == -5


@pytest.mark.parametrize("unit", ["sat", "msat"])
async def test_a_payment_quicker_than_its_quote_is_not_lost(unit: str) -> None:
    """An arrival told before the quote was stored is booked for none, and moved to the quote, once, when it is looked up."""
    async with house(settings=MintSettings(units=("sat", "msat"))) as bank:
        asked = await bank.rail.request(8_000, description="", expiry_s=600)
        arrival = await bank.rail.settle(asked.payment_id)
        await verbs.credit(bank.mint._context, "play", arrival, cursor=True)
        assert (await bank.mint.books()).of("liability:deposit/unassigned", "sat") == -8
        amount = 8 if unit == "sat" else 8_000
        bank.rail.request = _answering(asked)  # type: ignore[method-assign]
        quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", unit, amount))
        assert quote.amount_paid == 0
        for _ in range(2):
            assert (await bank.mint.mint_quote(quote.quote, "bolt11")).amount_paid == amount
            await verbs.credit(bank.mint._context, "play", arrival, cursor=True)
        outputs = Purse(bank).outputs(
            [amount] if unit == "sat" else split_amount(amount, bank.keyset(unit).keys), bank.keyset(unit)
        )
        await bank.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages))
        books = await bank.mint.audit()
        assert books.of("liability:deposit/unassigned", "sat") == 0
        assert books.of("asset:rail/play", unit) == books.outstanding(bank.keyset(unit).id, unit) == amount


def _answering(asked: IncomingRequest) -> Callable[..., Awaitable[IncomingRequest]]:
    async def request(amount_msat: int, *, description: str, expiry_s: int) -> IncomingRequest:
        return asked

    return request


async def test_a_silent_rail_leaves_the_quote_readable(bank: House) -> None:
    """A quote can be looked at while its rail does not answer."""
    quote = await ask(bank)
    bank.rail.set_faults(PlayFaults(unavailable=True))
    assert (await bank.mint.mint_quote(quote, "bolt11")).state is MintState.UNPAID


async def test_concurrent_issues_of_one_quote_have_one_winner(tmp_path: object) -> None:
    """Twenty different requests for one paid quote: one is answered, all others are told it is issued."""
    async with house(storage=SqliteStorage(f"{tmp_path}/bank.sqlite")) as bank:
        purse = Purse(bank)
        quote = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
        await bank.pay(quote)
        tries = [MintRequest("bolt11", quote.quote, purse.outputs([8]).messages) for _ in range(20)]
        results = await asyncio.gather(*(bank.mint.issue(request) for request in tries), return_exceptions=True)
        assert sum(not isinstance(result, BaseException) for result in results) == 1
        assert all(isinstance(r, refused.QuoteIssuedError) for r in results if isinstance(r, BaseException))
        await bank.mint.audit()
        await bank.storage.close()


def test_payments_are_booked_without_anybody_asking() -> None:
    """The arrivals stream credits a quote that no wallet looks at, and says so to subscribers."""

    async def main() -> None:
        async with house(autopay_delay_s=2.0) as bank:
            seen = []

            async def watch() -> None:
                async for change in bank.mint.changes():
                    seen.append(change)

            watcher = asyncio.create_task(watch())
            await asyncio.sleep(0)
            quote = await ask(bank)
            await asyncio.sleep(10)
            books = await bank.mint.books()
            assert books.of("liability:deposit/bolt11", "sat") == -8
            assert ("mint_quote", quote) in {(change.kind, change.key) for change in seen}
            watcher.cancel()

    run_virtual(main())


def test_a_rail_that_comes_back_is_followed_again() -> None:
    """Arrivals during an outage are told after it, from the remembered cursor on."""

    async def main() -> None:
        async with house(autopay_delay_s=1.0) as bank:
            bank.rail.set_faults(PlayFaults(unavailable=True))
            await asyncio.sleep(10)
            bank.rail.set_faults(PlayFaults())
            await ask(bank)
            await asyncio.sleep(60)
            assert (await bank.mint.books()).of("asset:rail/play", "sat") == 8

    run_virtual(main())
