"""Payment requests between wallets: made, paid, delivered, redeemed once, refused with nothing lost, over every transport."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from hashlib import sha256
from typing import Any

import pytest

from specie.ecash import wire
from specie.ecash.codes import ConditionMalformedError, ProofsSpentError
from specie.ecash.conditions import parse_secret
from specie.ecash.payload import PaymentPayload
from specie.ecash.requests import (
    LockOption,
    Mismatch,
    PaymentMethod,
    PaymentMismatchError,
    PaymentRequest,
    Transport,
    decode_payment_request,
    encode_payment_request,
)
from specie.ecash.token import decode_token, resolve_token
from specie.kernel.errors import MalformedError, RefusedError, UnavailableError, UncertainError
from specie.kernel.limits import Limits
from specie.mint import MintSettings
from specie.wallet import PaymentReceiver, PaymentState, RequestState, Transports, Wallet
from specie.wallet.errors import (
    DeliveryFailedError,
    FeeExceedsValueError,
    InsufficientFundsError,
    MintUnknownError,
    MintUntrustedError,
    OperationBusyError,
    OperationOpenError,
    RequestClosedError,
    RequestPaidError,
    RequestUnknownError,
    TokenLockedError,
    TransportUnsupportedError,
)
from tests.support.payees import MemoryNostr, MemoryPost, MemoryRelays
from tests.support.wallets import MINT_URL, SETTINGS, Died, MortalStorage, World, memory_storage, virtually, world

POST = "https://shop.test/pay"
RELAY = "wss://relay.test"


class Plugs:
    """Transports whose Nostr signs with the wallet's own signer, which exists only once the wallet does."""

    def __init__(self, relays: MemoryRelays | None = None) -> None:
        self.relays = relays or MemoryRelays()
        self.post = MemoryPost()
        self.wallet: Wallet | None = None
        self.nostr: MemoryNostr | None = None

    def transports(self) -> Transports:
        def nostr() -> MemoryNostr:
            assert self.wallet is not None
            self.nostr = MemoryNostr(self.relays, self.wallet._context.signer)
            return self.nostr

        return Transports(post=self.post, nostr=nostr)


async def connected(w: World, plugs: Plugs | None = None, **options: Any) -> tuple[Wallet, Plugs]:
    """A wallet with transports."""
    plugs = plugs or Plugs()
    plugs.wallet = await w.wallet(transports=plugs.transports(), **options)
    return plugs.wallet, plugs


def slow_swaps(w: World) -> None:
    """From now on the mint takes a second for a swap, so that what happens at once overlaps."""
    at_once = w.client.swap

    async def swap(request: bytes) -> Any:
        await asyncio.sleep(1)
        return await at_once(request)

    w.client.swap = swap  # type: ignore[method-assign]


@virtually
async def test_request_is_paid_in_band_and_redeemed() -> None:
    """The payer's token is worth the amount after the swap; the payee gets a receipt, and the request is paid."""
    async with world(settings=MintSettings(input_fee_ppk=1000)) as w:
        payer, payee = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        own = await payee.requests.create(21, description="coffee")
        assert own.state is RequestState.OPEN
        assert decode_payment_request(own.text) == decode_payment_request(own.short) == own.request
        assert own.request.mints == (MINT_URL,)
        plan = await payer.requests.plan(own.short)
        assert (plan.amount, plan.extra, plan.transport, plan.locked, plan.paid_before) == (21, 0, "in-band", False, 0)
        paid = await payer.requests.pay(own.text, memo="thanks")
        assert (paid.state, paid.delivered_by) == (PaymentState.DELIVERED, "in-band")
        receipt = await payee.requests.accept(str(paid.token), request_id=own.request_id)
        assert receipt.amount >= 21
        assert receipt.memo == "thanks"
        seen = await payee.requests.show(own.request_id)
        assert (seen.state, seen.received) == (RequestState.PAID, receipt.amount)
        assert await payee.requests.list(only_open=True) == []
        await payer.check_pending()
        (mine,) = await payer.requests.payments()
        assert mine.state is PaymentState.CLAIMED
        assert await payer.requests.deliver(mine.payment_id) == mine
        await w.books_hold(payer, payee)


@virtually
async def test_the_same_payment_again_is_answered_with_its_receipt() -> None:
    """A payer that lost the answer asks again: one receipt, no second swap; also when both arrive at once."""
    async with world() as w:
        payer, payee = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        own = await payee.requests.create(21)
        paid = await payer.requests.pay(own.text)
        body = await payer.requests.payload(paid.payment_id)
        slow_swaps(w)
        first, second = await asyncio.gather(payee.requests.accept(body), payee.requests.accept(body), return_exceptions=True)
        assert sum(isinstance(one, OperationBusyError) for one in (first, second)) == 1
        receipt = await payee.requests.accept(body)
        assert receipt in (first, second)
        assert w.faults.calls.count("swap") == 2  # one to make the coins, one to redeem them
        assert len((await payee.requests.show(own.request_id)).receipts) == 1


@virtually
async def test_single_use_request_takes_one_of_two_payments_at_once() -> None:
    """Two payers at the same moment: one is redeemed; the other is refused and can take its coins back."""
    async with world() as w:
        payers = [await w.wallet(), await w.wallet()]
        payee = await w.wallet()
        own = await payee.requests.create(21)
        bodies, tokens = [], []
        for payer in payers:
            await w.fund(payer, 50)
            paid = await payer.requests.pay(own.text)
            bodies.append(await payer.requests.payload(paid.payment_id))
            tokens.append(str(paid.token))
        slow_swaps(w)
        results = await asyncio.gather(*(payee.requests.accept(body) for body in bodies), return_exceptions=True)
        refused = [isinstance(result, RequestClosedError) for result in results]
        assert sorted(refused) == [False, True]
        loser = refused.index(True)
        with pytest.raises(RequestClosedError, match="PAID"):
            await payee.requests.accept(bodies[loser])
        assert (await payers[loser].reclaim(tokens[loser])).amount == 21
        assert (await payers[loser].requests.payments())[0].state is PaymentState.RECLAIMED
        await payers[1 - loser].check_pending()
        await w.books_hold(*payers, payee)


@virtually
async def test_request_for_many_takes_many() -> None:
    """Not for single use: every payment counts, amounts are the payers' to choose where none is asked."""
    async with world() as w:
        payer, payee = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        own = await payee.requests.create(single_use=False, description="tips")
        for amount in (5, 7):
            paid = await payer.requests.pay(own.text, amount=amount)
            await payee.requests.accept(await payer.requests.payload(paid.payment_id))
        seen = await payee.requests.show(own.request_id)
        assert (seen.state, seen.received, len(seen.receipts)) == (RequestState.OPEN, 12, 2)
        assert (await payer.requests.plan(own.text, amount=1)).paid_before == 2
        with pytest.raises(MalformedError):
            await payer.requests.pay(own.text)
        assert (await payee.requests.cancel(own.request_id)).state is RequestState.CANCELLED
        paid = await payer.requests.pay(own.text, amount=3)
        with pytest.raises(RequestClosedError, match="CANCELLED"):
            await payee.requests.accept(await payer.requests.payload(paid.payment_id))


@virtually
async def test_single_use_request_is_not_paid_twice() -> None:
    """A second payment is refused before coins are chosen, in any text of the request; `again` and a reclaim free it."""
    async with world() as w:
        payer, payee = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        own = await payee.requests.create(21)
        paid = await payer.requests.pay(own.text)
        with pytest.raises(RequestPaidError) as caught:
            await payer.requests.pay(own.short)
        assert caught.value.payment == paid.payment_id
        assert len(await payer.tokens()) == 1
        again = await payer.requests.pay(own.text, again=True)
        assert len(await payer.tokens()) == 2
        for one in (paid, again):
            await payer.reclaim(str(one.token))
        assert (await payer.requests.pay(own.text)).state is PaymentState.DELIVERED
        others = [(await payee.requests.create(9)).text for _ in range(2)]
        both = await asyncio.gather(*map(payer.requests.pay, others))
        assert len({one.payment_id for one in both}) == 2


@virtually
async def test_single_use_request_is_paid_once_by_two_tasks() -> None:
    """Two tasks pay one request at the same moment: the unique claim lets one of them make coins."""
    async with world() as w:
        payer, payee = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        own = await payee.requests.create(21)
        slow_swaps(w)
        both = await asyncio.gather(payer.requests.pay(own.text), payer.requests.pay(own.text), return_exceptions=True)
        assert sum(isinstance(one, RequestPaidError) for one in both) == 1
        assert len(await payer.tokens()) == 1
        assert (await payer.balance()).available == 79


@virtually
async def test_failed_payment_frees_its_claim() -> None:
    """A mint that cannot be reached leaves a FAILED payment, and the request can be paid later."""
    async with world() as w:
        payer, payee = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        own = await payee.requests.create(21)
        w.faults.plant("before", "swap", *[UnavailableError("off")] * 3)
        with pytest.raises(UnavailableError):
            await payer.requests.pay(own.text)
        (failed,) = await payer.requests.payments()
        assert failed.state is PaymentState.FAILED
        with pytest.raises(RefusedError, match="FAILED"):
            await payer.requests.deliver(failed.payment_id)
        with pytest.raises(RefusedError, match="no coins"):
            await payer.requests.payload(failed.payment_id)
        assert (await payer.requests.pay(own.text)).state is PaymentState.DELIVERED


@virtually
async def test_open_payment_holds_its_claim() -> None:
    """Where the mint's answer was lost the payment is OPEN, is not made again, and is there to deliver once resumed."""
    async with world() as w:
        payer, payee = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        own = await payee.requests.create(21)
        w.faults.plant("after", "swap", *[UncertainError("lost")] * 3)
        with pytest.raises(OperationOpenError):
            await payer.requests.pay(own.text)
        (payment,) = await payer.requests.payments()
        assert payment.state is PaymentState.OPEN
        with pytest.raises(RequestPaidError):
            await payer.requests.pay(own.text)
        await payer.resume()
        (payment,) = await payer.requests.payments()
        assert payment.state is PaymentState.UNDELIVERED
        done = await payer.requests.deliver(payment.payment_id)
        assert (await payee.requests.accept(str(done.token), request_id=own.request_id)).amount == 21


@virtually
async def test_posted_payment() -> None:
    """Over HTTP POST: the payee's receiver redeems before it answers, and the payer's payment is delivered."""
    async with world() as w:
        payer, plugs = await connected(w)
        payee = await w.wallet()
        await w.fund(payer, 100)
        heard = []

        async def received(receipt: object) -> None:
            heard.append(receipt)

        plugs.post.receivers[POST] = PaymentReceiver(payee.requests, received=received)
        own = await payee.requests.create(21, post=POST)
        assert (await payer.requests.plan(own.text)).target == POST
        paid = await payer.requests.pay(own.text)
        assert (paid.state, paid.delivered_by) == (PaymentState.DELIVERED, "post")
        assert [(await payee.requests.show(own.request_id)).receipts[0]] == heard
        await payer.close()
        assert plugs.post.closed


@virtually
async def test_failed_delivery_is_retried_and_never_pays_twice() -> None:
    """The coins stay on record; delivering again hands the same ones over, and an answer that was lost counts once."""
    async with world() as w:
        payer, plugs = await connected(w)
        payee = await w.wallet()
        await w.fund(payer, 100)
        plugs.post.receivers[POST] = PaymentReceiver(payee.requests)
        own = await payee.requests.create(21, post=POST)
        plugs.post.fail.append(UnavailableError("the payee was not reached"))
        with pytest.raises(DeliveryFailedError, match="not reached") as caught:
            await payer.requests.pay(own.text)
        (payment,) = await payer.requests.payments()
        assert payment.payment_id == caught.value.reference
        assert (payment.state, payment.error) == (PaymentState.UNDELIVERED, "the payee was not reached")
        with pytest.raises(RequestPaidError):
            await payer.requests.pay(own.text)
        plugs.post.lose.append(UncertainError("the payee did not answer"))
        with pytest.raises(DeliveryFailedError):
            await payer.requests.deliver(payment.payment_id)
        done = await payer.requests.deliver(payment.payment_id)
        assert done.state is PaymentState.DELIVERED
        assert len(set(plugs.post.bodies)) == 1
        assert (await payee.balance()).available == 21
        with pytest.raises(RequestUnknownError):
            await payer.requests.deliver("nothing")


@virtually
async def test_undelivered_payment_can_be_taken_back() -> None:
    """Its token is a sent one like any other."""
    async with world() as w:
        payer, plugs = await connected(w)
        payee = await w.wallet()
        await w.fund(payer, 100)
        own = await payee.requests.create(21, post=POST)
        plugs.post.fail.append(RefusedError("no"))
        with pytest.raises(DeliveryFailedError):
            await payer.requests.pay(own.text)
        (payment,) = await payer.requests.payments()
        await payer.reclaim(payment.operation)
        with pytest.raises(RefusedError, match="RECLAIMED"):
            await payer.requests.deliver(payment.payment_id)
        assert (await payer.balance()).available == 100


@virtually
async def test_nostr_payment() -> None:
    """Over Nostr: each request has a key of its own; what is held is taken, what comes later too, wrong messages are named."""
    async with world() as w:
        relays = MemoryRelays()
        payer, payer_plugs = await connected(w, Plugs(relays))
        payee, _ = await connected(w, Plugs(relays))
        await w.fund(payer, 100)
        with pytest.raises(RefusedError, match="no open payment request"):
            await anext(payee.requests.watch())
        first = await payee.requests.create(21, relays=[RELAY])
        second = await payee.requests.create(5, relays=[RELAY])
        assert first.request.transports[0].target != second.request.transports[0].target
        paid = await payer.requests.pay(first.text)
        assert paid.delivered_by == "nostr"
        (arrival,) = [one async for one in payee.requests.watch(follow=False)]
        assert arrival.receipt is not None
        assert (arrival.request_id, arrival.receipt.amount) == (first.request_id, 21)
        stream = payee.requests.watch()
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(1)
        await payer.requests.pay(second.text)
        late = await waiting
        assert late.request_id == second.request_id
        third = await payee.requests.create(3, relays=[RELAY])
        key = await payee._context.signer.public_key(f"nostr/{third.key_number}")
        relays.messages += [(key[1:], "hello"), (key[1:], json.dumps({**json.loads(relays.messages[0][1])}))]
        refused = [one.error async for one in payee.requests.watch(follow=False)]
        assert [type(error) for error in refused] == [MalformedError, RequestUnknownError]
        await stream.aclose()
        await payer.close()
        assert payer_plugs.nostr is not None
        assert payer_plugs.nostr.closed


@virtually
async def test_requests_made_meanwhile_are_listened_for() -> None:
    """One who listens hears of a request that was made after, and nothing is told twice when it begins to listen anew."""
    async with world() as w:
        relays = MemoryRelays()
        payer, _ = await connected(w, Plugs(relays))
        payee, _ = await connected(w, Plugs(relays))
        await w.fund(payer, 100)
        first = await payee.requests.create(21, relays=[RELAY], single_use=False)
        await payer.requests.pay(first.text)
        stream = payee.requests.watch()
        assert (await anext(stream)).request_id == first.request_id
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(1)
        second = await payee.requests.create(5, relays=["wss://other.test"])
        await payer.requests.pay(second.text)
        arrival = await waiting
        assert arrival.request_id == second.request_id
        assert arrival.receipt is not None
        await payer.requests.pay(first.text)
        assert (await anext(stream)).request_id == first.request_id
        await stream.aclose()


@virtually
async def test_transports_are_tried_in_order() -> None:
    """The first that works is used; what this wallet has not, or cannot read, is passed over; none at all is said at once."""
    async with world() as w:
        payer, plugs = await connected(w)
        payee, _ = await connected(w, Plugs(plugs.relays))
        plain = await w.wallet()
        await w.fund(payer, 100)
        await w.fund(plain, 100)
        own = await payee.requests.create(2, post=POST, relays=[RELAY])
        plugs.post.fail.append(UnavailableError("off"))
        assert (await payer.requests.pay(own.text)).delivered_by == "nostr"
        with pytest.raises(TransportUnsupportedError):
            await plain.requests.plan(own.text)
        with pytest.raises(TransportUnsupportedError):
            await plain.requests.create(2, relays=[RELAY])
        with pytest.raises(TransportUnsupportedError):
            plain.requests.nostr()
        key = own.request.transports[1]
        for transports in (
            (Transport("pigeon", "coop"),),
            (Transport("nostr", key.target, (("n", "4"),)),),
            (Transport("nostr", "nonsense"),),
            (Transport("nostr", "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6"),),
        ):
            request = PaymentRequest(amount=2, unit="sat", transports=transports)
            with pytest.raises(TransportUnsupportedError):
                await payer.requests.pay(request)
        assert (await payer.requests.plan(request, relays=[RELAY])).transport == "nostr"
        assert (await payer.requests.pay(request, relays=[RELAY])).delivered_by == "nostr"


@virtually
async def test_locked_request_gets_locked_coins() -> None:
    """With `lock` the coins open to the payee's key alone: the payer cannot take them back, a thief cannot redeem them."""
    async with world() as w:
        payer, payee, thief = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        own = await payee.requests.create(21, lock=True)
        assert (await payer.requests.plan(own.text)).locked
        paid = await payer.requests.pay(own.text)
        for proof in decode_token(str(paid.token)).proofs:
            condition = parse_secret(proof.secret)
            assert condition is not None
            assert own.request.lock is not None
            assert condition.secret.data == own.request.lock.data
        for wallet in (payer, thief):
            with pytest.raises(TokenLockedError):
                await wallet.receive(str(paid.token))
        assert (await payee.requests.accept(str(paid.token), request_id=own.request_id)).amount == 21
        plain = await payer.send(30)
        other = await payee.requests.create(21, lock=True)
        with pytest.raises(PaymentMismatchError) as caught:
            await payee.requests.accept(plain.text, request_id=other.request_id)
        assert caught.value.reason is Mismatch.LOCK


@virtually
async def test_hash_locked_request() -> None:
    """A lock of the caller's own, to a preimage: exactly it is written, unknown tags too, and opens with the preimage."""
    preimage = bytes(range(32))
    async with world() as w:
        payer, payee = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        lock = LockOption("HTLC", sha256(preimage).hexdigest(), (("purpose", "delivery"),))
        own = await payee.requests.create(21, lock=lock)
        paid = await payer.requests.pay(own.text)
        with pytest.raises(TokenLockedError):
            await payee.requests.accept(str(paid.token), request_id=own.request_id)
        receipt = await payee.requests.accept(str(paid.token), request_id=own.request_id, preimage=preimage.hex())
        assert receipt.amount == 21


@virtually
async def test_locks_that_nobody_should_pay_to() -> None:
    """A kind no mint enforces, a key that is none, a time that is over: refused before any coin is made."""
    async with world() as w:
        payer, payee = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        key = await payee.p2pk_key()
        for lock in (
            LockOption("MAGIC", key),
            LockOption("P2PK", "02" + "ff" * 32),
            LockOption("P2PK", key, (("locktime", "1000"),)),
        ):
            with pytest.raises(ConditionMalformedError):
                await payer.requests.pay(PaymentRequest(amount=2, unit="sat", lock=lock))
        with pytest.raises(ConditionMalformedError):
            await payee.requests.create(2, lock=LockOption("MAGIC", key))
        assert (await payer.balance()).available == 100


@virtually
async def test_wrong_payments_are_refused_and_lose_nothing() -> None:
    """Too little, of another request, another unit, a mint that is not ours, forged, spent: each with its reason."""
    async with world() as w:
        payer, payee = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        own = await payee.requests.create(21)
        token = await payer.send(20)
        with pytest.raises(PaymentMismatchError) as caught:
            await payee.requests.accept(token.text, request_id=own.request_id)
        assert caught.value.reason is Mismatch.AMOUNT
        paid = await payer.requests.pay(own.text)
        good = json.loads(await payer.requests.payload(paid.payment_id))

        async def refused(expected: type[Exception], **change: Any) -> Exception:
            with pytest.raises(expected) as found:
                await payee.requests.accept(json.dumps({**good, **change}))
            return found.value

        await refused(RequestUnknownError, id="other")
        await refused(RequestUnknownError, id=None)
        await refused(MalformedError, proofs=[])
        await refused(MalformedError, proofs=good["proofs"] * 2)
        await refused(MalformedError, unit="sat!")
        proof = good["proofs"][0]
        for change, reason in (
            ({"unit": "usd"}, Mismatch.UNIT),
            ({"mint": "https://other.test"}, Mismatch.MINT),
            ({"proofs": [{**proof, "id": "00" + "aa" * 7}, *good["proofs"][1:]]}, Mismatch.KEYSET),
            ({"proofs": [{**one, "dleq": None} for one in good["proofs"]]}, Mismatch.DLEQ),
            ({"proofs": [{**one, "secret": one["secret"] + "x"} for one in good["proofs"]]}, Mismatch.DLEQ),
        ):
            error = await refused(PaymentMismatchError, **change)
            assert isinstance(error, PaymentMismatchError)
            assert error.reason is reason
        with pytest.raises(RequestUnknownError):
            await payee.requests.accept(json.dumps(good), request_id="other")
        with pytest.raises(RequestUnknownError):
            await payee.requests.show("other")
        with pytest.raises(RequestUnknownError):
            await payee.requests.cancel("other")
        await payer.reclaim(str(paid.token))
        with pytest.raises(ProofsSpentError):
            await payee.requests.accept(json.dumps(good))
        assert (await payee.requests.show(own.request_id)).state is RequestState.OPEN
        again = await payer.requests.pay(own.text)
        assert (await payee.requests.accept(await payer.requests.payload(again.payment_id))).amount == 21


@virtually
async def test_coins_of_our_own_are_no_payment() -> None:
    """A coin that this wallet has spent, or is using, pays nothing to it."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        token = await wallet.send(21)
        await wallet.reclaim(token.text)
        own = await wallet.requests.create(21)
        with pytest.raises(ProofsSpentError):
            await wallet.requests.accept(token.text, request_id=own.request_id)


@virtually
async def test_preferred_mints_and_methods() -> None:
    """A list that is a preference takes other mints that we trust, at the price of the method they melt by."""
    other = "http://other.test"
    async with world() as w, world(settings=MintSettings(input_fee_ppk=1)) as w2:
        payer, payee, stranger = await w.wallet(), await w.wallet(), await w.wallet(trusted=False)
        w.clients[other] = w2.client
        w2.client._url = other
        for wallet in (payer, payee):
            await wallet.add_mint(other)
        quote = await payer.mint_quote(100, mint=other)
        await w2.pay(quote.request)
        await payer.claim(quote)
        own = await payee.requests.create(
            21, mints=[MINT_URL], mints_preferred=True, methods=[PaymentMethod("bolt11", 3), PaymentMethod("bolt12", 1)]
        )
        plan = await payer.requests.plan(own.text)
        assert (plan.mint, plan.amount, plan.extra) == (other, 21, 3)
        paid = await payer.requests.pay(own.text)
        assert paid.amount == 24
        assert (await payee.requests.accept(await payer.requests.payload(paid.payment_id))).amount >= 24
        strict = await payee.requests.create(21, mints=[MINT_URL])
        with pytest.raises(InsufficientFundsError):
            await payer.requests.plan(strict.text)
        await w.fund(payer, 30)
        assert (await payer.requests.plan(own.text)).mint == MINT_URL
        with pytest.raises(InsufficientFundsError):
            await payer.requests.plan(own.text, amount=99)
        with pytest.raises(MintUnknownError):
            await payee.requests.create(2, mints=["http://unknown.test"])
        with pytest.raises(MintUnknownError):
            await payee.requests.create(2, unit="usd")
        nowhere = PaymentRequest(amount=2, unit="sat", methods=(PaymentMethod("onchain"),))
        with pytest.raises(InsufficientFundsError):
            await payer.requests.plan(nowhere)
        token = (await payer.send(30, mint=other)).text
        await stranger.add_mint(MINT_URL)
        open_to_all = await stranger.requests.create(21, mints=[MINT_URL], mints_preferred=True)
        with pytest.raises(MintUntrustedError):
            await stranger.requests.accept(token, request_id=open_to_all.request_id)
        body = json.dumps({"id": open_to_all.request_id, "mint": other, "unit": "sat", "proofs": []}).encode()
        with pytest.raises(MalformedError):
            await stranger.requests.accept(body)


@virtually
async def test_coins_of_a_new_keyset_are_learnt_of() -> None:
    """A mint that rotated since we looked is asked once more, though not again and again; `trust` adds a mint, too."""
    async with world() as w:
        payer, payee, newcomer = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(payer, 20)
        await w.bank.mint.rotate_keyset("sat")
        await payer.add_mint(MINT_URL)
        await w.fund(payer, 40)
        token = await payer.send(40)
        own = await payee.requests.create(40)
        with pytest.raises(RefusedError):
            await payee.requests.accept(token.text.replace("cashuB", "cashuX"), request_id=own.request_id)
        payload = wire.payment_payload_to_json(
            PaymentPayload(MINT_URL, "sat", (await payee_coins(payer, token.text)), own.request_id)
        )
        with pytest.raises(PaymentMismatchError) as caught:
            await payee.requests.accept(payload)
        assert caught.value.reason is Mismatch.KEYSET
        w.clock.skip(60)
        assert (await payee.requests.accept(payload)).amount == 40
        assert newcomer is not payee


async def payee_coins(wallet: Wallet, text: str) -> Any:
    """Coins of a token, with full ids, as its sender knows them."""
    keysets = [known.keyset for view in await wallet.mints() for known in view.keysets]
    return resolve_token(decode_token(text), keysets).proofs


@virtually
async def test_mint_is_added_only_where_the_caller_says_so() -> None:
    """A request without a list of mints may be paid from one we do not trust: refused, unless `trust`."""
    other = "http://other.test"
    async with world() as w, world(settings=MintSettings(input_fee_ppk=1)) as w2:
        payer, payee = await w.wallet(), await w.wallet()
        w.clients[other] = w2.client
        await payer.add_mint(other)
        quote = await payer.mint_quote(64, mint=other)
        await w2.pay(quote.request)
        await payer.claim(quote)
        own = await payee.requests.create(20, mints_preferred=True)
        paid = await payer.requests.pay(own.text, mint=other)
        body = await payer.requests.payload(paid.payment_id)
        with pytest.raises(MintUntrustedError):
            await payee.requests.accept(body)
        assert (await payee.requests.accept(body, trust=True)).amount >= 20
        assert {view.url for view in await payee.mints()} == {MINT_URL, other}


@virtually
async def test_payments_that_cannot_be_swapped() -> None:
    """More coins than the mint takes at once, and coins that the fee eats, are refused before anything is sent."""
    async with world(settings=MintSettings(input_fee_ppk=1000)) as w:
        payer = await w.wallet()
        await w.fund(payer, 100)
        lenient = dataclasses.replace(SETTINGS, request_payer_pays_fees=False)
        payee = await w.wallet(settings=lenient)
        own = await payee.requests.create(1)
        token = await payer.send(1)
        with pytest.raises(FeeExceedsValueError):
            await payee.requests.accept(token.text, request_id=own.request_id)
        narrow = await w.wallet(settings=dataclasses.replace(SETTINGS, limits=Limits(array_length=2)))
        many = await narrow.requests.create(7)
        coins = await payee_coins(payer, (await payer.send(21)).text)
        with pytest.raises(MalformedError, match="more coins"):
            await narrow.requests.accept(PaymentPayload(MINT_URL, "sat", coins, many.request_id))


@virtually
async def test_coin_in_use_by_ourselves_is_no_payment() -> None:
    """A coin that an open operation of this wallet holds."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 64)
        token = await wallet.send(64)
        w.faults.plant("after", "swap", *[UncertainError("lost")] * 3)
        with pytest.raises(OperationOpenError):
            await wallet.reclaim(token.text)
        own = await wallet.requests.create(10)
        body = PaymentPayload(MINT_URL, "sat", await payee_coins(wallet, token.text), own.request_id)
        with pytest.raises(ProofsSpentError):
            await wallet.requests.accept(body)
        await wallet.resume()
        assert (await wallet.balance()).available == 64


@virtually
async def test_fee_policy() -> None:
    """By default the amount is what is left after the swap; a payee may settle for less by its settings."""
    async with world(settings=MintSettings(input_fee_ppk=1000)) as w:
        payer = await w.wallet()
        await w.fund(payer, 200)
        for lenient in (False, True):
            settings = dataclasses.replace(SETTINGS, request_payer_pays_fees=not lenient)
            payee = await w.wallet(settings=settings)
            own = await payee.requests.create(32)
            token = await payer.send(32)
            if lenient:
                assert (await payee.requests.accept(token.text, request_id=own.request_id)).amount < 32
            else:
                with pytest.raises(PaymentMismatchError):
                    await payee.requests.accept(token.text, request_id=own.request_id)


@virtually
async def test_requests_that_cannot_be_made_or_read() -> None:
    """Amounts, addresses and texts that are none."""
    async with world() as w:
        wallet, _ = await connected(w)
        for bad in (
            {"amount": 0},
            {"amount": 2**64},
            {"amount": 1, "post": "ftp://shop.test"},
            {"amount": 1, "relays": ["https://relay.test"]},
            {"amount": 1, "mints": []},
            {"amount": 1, "description": "x" * 20_000},
        ):
            with pytest.raises(MalformedError):
                await wallet.requests.create(**bad)  # type: ignore[arg-type]
        with pytest.raises(MalformedError):
            await wallet.requests.pay("creqA")
        await w.fund(wallet, 10)
        request = PaymentRequest(amount=5, unit="sat")
        with pytest.raises(MalformedError):
            await wallet.requests.plan(request, amount=4)
        assert (await wallet.requests.plan(encode_payment_request(request), amount=6)).amount == 6
        with pytest.raises(InsufficientFundsError):
            await wallet.requests.plan(request, mint="http://unknown.test")
        assert len(await wallet.requests.list()) == 0


@virtually
async def test_payee_that_dies_at_every_commit_redeems_once() -> None:
    """Killed anywhere, started again, given the same payment again: one receipt, the whole amount, books that hold."""
    for before in (True, False):
        at = 0
        while True:
            at += 1
            async with world() as w:
                payer = await w.wallet()
                await w.fund(payer, 50)
                inner = await memory_storage()
                mortal = MortalStorage(inner)
                words = "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong"
                payee = await w.wallet(mortal, words=words)
                own = await payee.requests.create(21)
                paid = await payer.requests.pay(own.text)
                body = await payer.requests.payload(paid.payment_id)
                mortal.at, mortal.before = mortal.commits + at, before
                died = True
                try:
                    await payee.requests.accept(body)
                    died = False
                except Died:
                    pass
                again = await w.wallet(inner, words=words, trusted=False)
                await again.resume()
                receipt = await again.requests.accept(body)
                assert receipt.amount == 21
                seen = await again.requests.show(own.request_id)
                assert (seen.state, seen.received, len(seen.receipts)) == (RequestState.PAID, 21, 1)
                await payer.check_pending()
                await w.books_hold(payer, again)
            if not died:
                break
        assert at > 2


@virtually
async def test_payer_that_dies_at_every_commit_pays_once() -> None:
    """Killed anywhere and started again: the coins are delivered once, or the request can be paid as if nothing had been."""
    for before in (True, False):
        at = 0
        while True:
            at += 1
            async with world() as w:
                payee = await w.wallet()
                inner = await memory_storage()
                mortal = MortalStorage(inner)
                words = "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo wrong"
                plugs = Plugs()
                plugs.post.receivers[POST] = PaymentReceiver(payee.requests)
                payer, _ = await connected(w, plugs, storage=mortal, words=words)
                await w.fund(payer, 50)
                own = await payee.requests.create(21, post=POST)
                mortal.at, mortal.before = mortal.commits + at, before
                died = True
                try:
                    await payer.requests.pay(own.text)
                    died = False
                except Died:
                    pass
                again, _ = await connected(w, plugs, storage=inner, words=words, trusted=False)
                await again.resume()
                for payment in await again.requests.payments():
                    if payment.state is PaymentState.UNDELIVERED:
                        await again.requests.deliver(payment.payment_id)
                with contextlib.suppress(RequestPaidError):
                    await again.requests.pay(own.text)
                assert (await payee.balance()).available == 21
                await again.check_pending()
                assert (await again.balance()).total == 29
                await w.books_hold(again, payee)
            if not died:
                break
        assert at > 2
