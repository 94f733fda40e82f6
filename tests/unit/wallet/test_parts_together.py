"""Parts of the wallet that were made apart, used together, against mints and payers that mean harm."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from specie.ecash import MeltQuote, MintInfo
from specie.ecash.codes import ProofsSpentError
from specie.kernel import PeerFaultError, RefusedError
from specie.storage import Storage
from specie.wallet import P2PK, TransferState
from specie.wallet.errors import MintLeavingError
from tests.support.two_mints import OTHER_URL, network
from tests.support.wallets import MINT_URL, memory_storage, virtually, world


async def _counters(storage: Storage) -> list[object]:
    return [row[0] for row in await storage.read(lambda tx: tx.fetch("SELECT next FROM wallet_counter ORDER BY keyset"))]


@virtually
async def test_spent_payments_of_strangers_use_up_no_secrets() -> None:
    """Else anybody could make a gap behind which the words find nothing: a payment is looked at before it is swapped."""
    async with world() as w:
        storage = await memory_storage()
        payer, payee = await w.wallet(), await w.wallet(storage)
        await w.fund(payer, 100)
        own = await payee.requests.create(21, single_use=False)
        paid = await payer.requests.pay(own.text)
        payload = await payer.requests.payload(paid.payment_id)
        await payer.reclaim(str(paid.token))
        before = await _counters(storage)
        for _ in range(3):
            with pytest.raises(ProofsSpentError):
                await payee.requests.accept(payload)
        assert await _counters(storage) == before


@virtually
async def test_more_offline_coins_than_a_request_holds() -> None:
    """They are swapped in several requests; in one the mint would refuse them for ever."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        for amount in (7, 7, 7):
            await bob.receive((await alice.send(amount)).text, offline=True)

        def shorter(verb: str, answer: object) -> object:
            return msgspec.structs.replace(answer, max_array_length=8) if isinstance(answer, MintInfo) else answer

        w.faults.change = shorter
        await bob.add_mint(MINT_URL)
        calls = w.faults.calls.count("swap")
        assert await bob.secure() == 21
        assert w.faults.calls.count("swap") == calls + 2
        assert (await bob.balance()).available == 21
        await alice.check_pending()
        await w.books_hold(alice, bob)


@virtually
async def test_one_offline_coin_that_is_refused_keeps_no_other() -> None:
    """Whoever gives one bad coin would else keep a shop from all it took off-line, until the other senders spend theirs."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        key = await bob.p2pk_key()
        for amount in (4, 8):
            await bob.receive((await alice.send(amount)).text, offline=True)
        await bob.receive((await alice.send(2, lock=P2PK((key,)))).text, offline=True)
        storage = bob._context.storage
        await storage.transact(
            lambda tx: tx.execute(
                "UPDATE wallet_proof SET c = (SELECT c FROM wallet_proof WHERE amount = '4') WHERE amount = '8'"
            )
        )
        assert await bob.secure() == 6
        balance = await bob.balance()
        assert (balance.available, balance.unswapped) == (6, 8)
        with pytest.raises(RefusedError):
            await bob.secure()
        report = await bob.offline.settle()
        assert (report.settled, report.short) == (0, 0)
        assert report.problems


@virtually
async def test_requests_name_no_mint_that_is_left() -> None:
    """What would be paid there is refused: neither requests nor the till ask for it, and a request for it alone is not made."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        await wallet.exits.leave(MINT_URL)
        assert (await wallet.requests.create(5)).request.mints == (OTHER_URL,)
        assert (await wallet.till.request(5)).mints == (OTHER_URL,)
        with pytest.raises(MintLeavingError):
            await wallet.requests.create(5, mints=[MINT_URL])
        with pytest.raises(RefusedError):
            await wallet.till.request(5, mints=[MINT_URL])


@virtually
async def test_coins_at_a_mint_that_was_forgotten_are_in_nobodys_way() -> None:
    """A swap fails after its mint was removed by force: its coins are free there, and everything else works elsewhere."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 500)
        await w.fund(wallet, 60, mint=OTHER_URL)
        w.by_mint[MINT_URL].plant("before", "swap", RefusedError("no", code=0))
        w.clients[MINT_URL].pauses = [100]
        swapping = asyncio.ensure_future(wallet.split([3, 5], mint=MINT_URL))
        for _ in range(500):
            if await wallet.operations():
                break
            await asyncio.sleep(0.01)
        await wallet.exits.remove(MINT_URL, force=True)
        with pytest.raises(RefusedError):
            await swapping
        w.clients[MINT_URL].pauses = []
        assert (await wallet.balance(mint=MINT_URL)).available > 0
        token = await wallet.send(10)
        assert token.mint == OTHER_URL
        await wallet.rotate()
        own = await wallet.requests.create(5)
        assert (await wallet.requests.pay(own.text)).mint == OTHER_URL
        await wallet.add_mint(MINT_URL)
        assert (await wallet.balance(mint=MINT_URL)).available > 0


@virtually
async def test_a_mint_that_gives_the_id_of_another_quote() -> None:
    """Else it could have one invoice paid for another, or have the wallet forget what it paid."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 200)
        first = await wallet.melt_quote(await w.foreign_invoice(20_000, "first"))

        def same(verb: str, answer: object) -> object:
            return msgspec.structs.replace(answer, quote=first.quote) if isinstance(answer, MeltQuote) else answer

        w.faults.change = same
        with pytest.raises(PeerFaultError):
            await wallet.melt_quote(await w.foreign_invoice(30_000, "second"))
        w.faults.change = None
        assert (await wallet.pay(first)).state == "PAID"
        ready = await wallet.melt_quote(await w.foreign_invoice(30_000, "third"))

        def once_more(verb: str, answer: object) -> object:
            return (
                msgspec.structs.replace(answer, quote=first.quote, request=first.request, amount=20)
                if isinstance(answer, MeltQuote)
                else answer
            )

        w.faults.change = once_more
        with pytest.raises(PeerFaultError):
            await wallet.melt_quote(ready.request)
        w.faults.change = None
        with pytest.raises(RefusedError):
            await wallet.pay(first)
        await w.books_hold(wallet)


@virtually
async def test_a_transfer_whose_quotes_are_known_already() -> None:
    """Two mints that answer with the quotes of the last transfer get an error, and no second payment."""
    async with network() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 300)
        done = await wallet.transfers.move(20, source=MINT_URL, destination=OTHER_URL)
        assert done.state is TransferState.DONE
        stored = {one.quote: one for one in await wallet.mint_quotes()}[done.mint_quote]

        def old(verb: str, answer: object) -> object:
            if verb == "request_mint_quote":
                return msgspec.structs.replace(answer, quote=done.mint_quote, request=stored.request, pubkey=None)  # type: ignore[type-var]
            if verb == "request_melt_quote":
                return msgspec.structs.replace(answer, quote=done.melt_quote)  # type: ignore[type-var]
            return answer

        for faults in w.by_mint.values():
            faults.change = old
        with pytest.raises((PeerFaultError, RefusedError)):
            await wallet.transfers.move(20, source=MINT_URL, destination=OTHER_URL)
        for faults in w.by_mint.values():
            faults.change = None
        assert [one.transfer_id for one in await wallet.transfers.entries(pending=False)] == [done.transfer_id]
        await w.all_books_hold(wallet)
