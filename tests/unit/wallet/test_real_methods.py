"""Wallet and mint of this project together, without a network, by every method; no scripted mint stands between."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from specie.ecash import codes as refused
from specie.lightning.adapters.play import PlayNetwork
from specie.lightning.adapters.play_schema import MIGRATIONS as PLAY_MIGRATIONS
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.direct_client import DirectClient
from tests.support.house import House, house
from tests.support.methods import foreign_address, foreign_offer
from tests.support.virtual import VirtualClock
from tests.support.wallets import World, make_wallet, memory_storage, virtually, world

METHODS = ("bolt12", "onchain", "voucher")


@virtually
async def test_deposits_of_every_method_and_a_reorganisation() -> None:
    """Offers and addresses are paid twice each, claimed in parts; a block is undone, and what was minted stays."""
    async with world(methods=METHODS) as w:
        wallet = await w.wallet()
        for method in METHODS:
            quote = await wallet.mint_quote(method=method)
            rail = w.bank.requests[method]
            for _ in range(2):
                await rail.settle(quote.request, 20_000_000)
                if method == "onchain":
                    assert (await wallet.wait(quote, timeout_s=5)).claimable == 0
                    await w.bank.onchain.mine(rail.terms.confirmations or 1)
                seen = await wallet.wait(quote, timeout_s=60)
                assert seen.claimable == 20_000
                assert await wallet.claim(seen, amount=5_000) == 5_000
                assert await wallet.claim(seen) == 15_000
        assert (await wallet.balance()).available == 120_000
        await w.books_hold(wallet)


@virtually
async def test_everything_paid_is_minted_in_batches() -> None:
    """Invoices and offers that were paid meanwhile: one batch each, and the mint's books hold."""
    async with world(methods=METHODS) as w:
        wallet = await w.wallet()
        for amount in (3, 5, 9):
            quote = await wallet.mint_quote(amount)
            await w.pay(quote.request)
        for _ in range(2):
            offer = await wallet.mint_quote(method="bolt12")
            await w.bank.requests["bolt12"].settle(offer.request, 4_000)
        await w.clock.sleep(5)
        assert await wallet.claim_all() == {"sat": 25}
        assert [verb for verb, _ in w.faults.bodies] == ["issue_batch", "issue_batch"]
        await w.books_hold(wallet)


@virtually
async def test_payments_of_every_method() -> None:
    """An offer with and without amount, an address followed through its confirmations, its change given back."""
    async with world(methods=METHODS) as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100_000)
        assert (await wallet.pay(foreign_offer(21_000, description="x"))).state == "PAID"
        assert (await wallet.pay(foreign_offer(name=2), amount=30)).state == "PAID"
        quote = await wallet.melt_quote(foreign_address(), amount=20_000, blocks=1)
        paid = await wallet.pay(quote)
        assert paid.state == "PENDING"
        assert (await wallet.resume(wait_s=5)).open
        (stored,) = [one for one in await wallet.melt_quotes() if one.quote == quote.quote]
        assert stored.outpoint is not None
        await w.bank.onchain.mine(6)
        assert len((await wallet.resume(wait_s=60)).settled) == 1
        (line, *_) = [entry for entry in await wallet.history() if entry.kind == "pay"]
        assert (line.amount, line.fee <= quote.fee_reserve) == (20_000, True)
        await w.books_hold(wallet)


@contextlib.asynccontextmanager
async def _three() -> AsyncIterator[list[House]]:
    clock = VirtualClock()
    shared = SqliteStorage(":memory:", inline=True)
    await shared.migrate(PLAY_MIGRATIONS)
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                house(clock=clock, seed=number, keys=bytes([number + 1] * 32), network=PlayNetwork(shared, clock))
            )
            for number in range(3)
        ]
    await shared.close()


@pytest.mark.parametrize("whole", [True, False])
def test_three_mints_pay_one_invoice(whole: bool) -> None:
    """All parts arrive at once; where one mint does not send its part, the others' come back and all is free again."""

    @virtually
    async def run() -> None:
        async with _three() as banks:
            clients = {f"http://m{n}.test": DirectClient(bank.mint, f"http://m{n}.test") for n, bank in enumerate(banks)}
            wallet = make_wallet(await memory_storage(), dict(clients), banks[0].clock)
            for url, bank in zip(clients, banks, strict=True):
                await wallet.add_mint(url)
                quote = await wallet.mint_quote(400, mint=url)
                await World(bank).pay(quote.request)
                await wallet.claim(quote)
            invoice = await World(banks[0]).foreign_invoice(1_000_000)
            if whole:
                paid = await wallet.pay(invoice)
                assert (paid.state, len(paid.parts)) == ("PAID", 3)
                assert (await wallet.balance()).available == 200 - paid.fee
                with pytest.raises(refused.InvoicePaidError):
                    await wallet.pay(invoice, split=True)
            else:
                clients["http://m1.test"].faults.plant("before", "melt", refused.PaymentFailedError())
                with pytest.raises(refused.PaymentFailedError):
                    await wallet.pay(invoice)
                assert (await wallet.balance()).available == 1200
                assert (await wallet.pay(invoice)).state == "PAID"
            for url, bank in zip(clients, banks, strict=True):
                books = await bank.mint.audit()
                owed = sum(books.issued(one, "sat") - books.redeemed(one, "sat") for one in books.keysets("sat"))
                assert owed == (await wallet.balance(mint=url)).total

    run()
