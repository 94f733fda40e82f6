"""Payments for resources within limits (NUT-24): counted durably, made once, taken back when refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from specie.ecash import PaymentRequest, decode_token, parse_secret
from specie.ecash.requests import LockOption
from specie.kernel import UnavailableError, UncertainError
from specie.kernel.hd import words_from_entropy
from specie.mint import MintSettings
from specie.wallet import Wallet
from specie.wallet.errors import (
    InsufficientFundsError,
    MintUntrustedError,
    OperationOpenError,
    PaymentUnfitError,
    SpendingLimitError,
)
from specie.wallet.paid import Toll, TollState
from tests.support.coins import public_key
from tests.support.wallets import MINT_URL, SETTINGS, Died, MortalStorage, memory_storage, virtually, world

REQUEST = PaymentRequest(amount=21, unit="sat", mints=(MINT_URL,))
HOST, PAGE = "shop.test", "GET /page"


async def pay(wallet: Wallet, request: PaymentRequest = REQUEST, **changes: Any) -> Toll:
    known: dict[str, Any] = {"host": HOST, "resource": PAGE, "max_amount": 50, "max_per_host": 100, "period_s": 86_400}
    return await wallet.allowance.pay(request, **(known | changes))


@virtually
async def test_a_payment_that_is_taken() -> None:
    """Its token is what was asked for, it is SENT until the host answers, SPENT afterwards."""
    async with world() as w:
        payer, shop = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        toll = await pay(payer)
        assert toll.text is not None
        assert (toll.state, toll.amount, decode_token(toll.text).amount) == (TollState.SENT, 21, 21)
        await shop.receive(toll.text)
        await payer.allowance.spent(toll)
        (listed,) = await payer.allowance.tolls(host=HOST)
        assert (listed.state, listed.text) == (TollState.SPENT, None)
        assert await payer.allowance.tolls(host="other.test") == []


@virtually
async def test_limits_are_kept_over_restarts() -> None:
    """Of each request and of each host within a period; another host has its own; what was spent counts after a restart."""
    async with world() as w:
        storage = await memory_storage()
        payer = await w.wallet(storage)
        await w.fund(payer, 1000)
        with pytest.raises(SpendingLimitError) as caught:
            await pay(payer, max_amount=20)
        assert (caught.value.asked, caught.value.allowed, caught.value.host) == (21, 20, HOST)
        for number in range(4):
            await payer.allowance.spent(await pay(payer, resource=f"GET /{number}"))
        again = await w.wallet(storage, words=words_from_entropy((1).to_bytes(16, "big")), trusted=False)
        with pytest.raises(SpendingLimitError) as caught:
            await pay(again, resource="GET /9")
        assert caught.value.allowed == 100 - 4 * 21
        await pay(again, host="other.test")
        w.clock.skip(86_401)
        await pay(again, resource="GET /10")
        assert len(await again.tokens()) == 6


@virtually
async def test_limits_hold_for_many_at_once() -> None:
    """Ten payments at the same moment spend no more than the limit."""
    async with world() as w:
        payer = await w.wallet()
        await w.fund(payer, 1000)
        done = await asyncio.gather(*(pay(payer, resource=f"GET /{n}") for n in range(10)), return_exceptions=True)
        assert sorted(type(one).__name__ for one in done) == ["SpendingLimitError"] * 6 + ["Toll"] * 4
        assert sum(toll.amount for toll in await payer.allowance.tolls()) == 84


@virtually
async def test_a_refused_token_comes_back() -> None:
    """The host says no: the mint is asked, the coins are taken back, and the limit is free again; only the fee counts."""
    async with world(settings=MintSettings(input_fee_ppk=1000)) as w:
        payer = await w.wallet()
        await w.fund(payer, 500)
        back = await payer.allowance.declined(await pay(payer))
        assert back.state is TollState.BACK
        assert 0 < back.amount < 10
        assert (await payer.tokens()) == []
        await w.books_hold(payer)


@virtually
async def test_a_refused_token_that_was_redeemed_is_spent() -> None:
    """A host that says no and takes the money has the money: it is not taken back, and counts."""
    async with world() as w:
        payer, thief = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        toll = await pay(payer)
        assert toll.text is not None
        await thief.receive(toll.text)
        assert (await payer.allowance.declined(toll)).state is TollState.SPENT
        assert (await payer.balance()).available == 79


@virtually
async def test_a_fate_that_nobody_tells() -> None:
    """Without an answer the token stays on record; the same resource gets it again, never a second one; then it is settled."""
    async with world() as w:
        payer, shop = await w.wallet(), await w.wallet()
        await w.fund(payer, 500)
        toll = await pay(payer)
        in_flight = await pay(payer)
        assert in_flight.text != toll.text  # the first may still be answered
        payer.allowance.unknown(toll)
        again = await pay(payer)
        assert (again.toll_id, again.text) == (toll.toll_id, toll.text)
        payer.allowance.unknown(again)
        assert (await pay(payer, resource="GET /other")).text != toll.text
        assert (await pay(payer, replace(REQUEST, amount=22))).text != toll.text
        assert await payer.allowance.settle() == []
        assert again.text is not None
        await shop.receive(again.text)
        (seen,) = await payer.allowance.settle()
        assert (seen.toll_id, seen.state) == (toll.toll_id, TollState.SPENT)
        payer.allowance.unknown(in_flight)
        w.clock.skip(3601)
        (old,) = await payer.allowance.settle()
        assert (old.toll_id, old.state, old.amount) == (in_flight.toll_id, TollState.BACK, 0)


@virtually
async def test_settling_without_the_mint_changes_nothing() -> None:
    """What cannot be asked about stays SENT."""
    async with world() as w:
        payer = await w.wallet()
        await w.fund(payer, 100)
        toll = await pay(payer)
        w.faults.plant("before", "check_state", *[UnavailableError("down")] * 20)
        assert (await payer.allowance.declined(toll)).state is TollState.SENT
        assert await payer.allowance.settle(patience_s=-1) == []
        w.faults.before.clear()
        await w.clock.sleep(200)  # the mint is let rest after so many failures
        (back,) = await payer.allowance.settle(patience_s=-1)
        assert back.state is TollState.BACK


@virtually
async def test_a_token_that_was_taken_back_by_hand() -> None:
    """`reclaim` behind our back is seen."""
    async with world() as w:
        payer = await w.wallet()
        await w.fund(payer, 100)
        toll = await pay(payer)
        payer.allowance.unknown(toll)
        await payer.reclaim(toll.token or "")
        (seen,) = await payer.allowance.settle()
        assert (seen.state, seen.amount) == (TollState.BACK, 0)


@virtually
async def test_requests_that_are_not_paid() -> None:
    """No amount, another unit, an unknown mint, too little money, a lock that cannot be made: nothing is counted or made."""
    async with world() as w:
        payer = await w.wallet()
        await w.fund(payer, 30)
        key = public_key("shop").hex()
        unfit = [
            replace(REQUEST, amount=None),
            replace(REQUEST, amount=0),
            replace(REQUEST, unit="usd"),
            replace(REQUEST, lock=LockOption("HTLC", "ab" * 32)),
            replace(REQUEST, lock=LockOption("P2PK", "02" + "00" * 32)),
            replace(REQUEST, lock=LockOption("P2PK", key, (("secret-handshake", "yes"),))),
            replace(REQUEST, lock=LockOption("DLC", key)),
        ]
        for request in unfit:
            with pytest.raises(PaymentUnfitError):
                await pay(payer, request)
        with pytest.raises(MintUntrustedError):
            await pay(payer, replace(REQUEST, mints=("http://other.test",)))
        with pytest.raises(InsufficientFundsError):
            await pay(payer, replace(REQUEST, amount=31))
        assert await payer.allowance.tolls() == []
        assert (await payer.balance()).available == 30


@virtually
async def test_locks_that_are_asked_for() -> None:
    """Keys, times and SIG_ALL of the request are in every coin; such a token is given again, but not taken back early."""
    async with world() as w:
        payer = await w.wallet()
        await w.fund(payer, 300)
        key, second = public_key("shop").hex(), public_key("till").hex()
        until = str(w.clock.now() + 1000)
        tags = (("pubkeys", second), ("n_sigs", "2"), ("locktime", until), ("refund", second), ("sigflag", "SIG_ALL"))
        locked = replace(REQUEST, lock=LockOption("P2PK", key, tags))
        toll = await pay(payer, locked)
        assert toll.text is not None
        for proof in decode_token(toll.text).proofs:
            condition = parse_secret(proof.secret)
            assert condition is not None
            assert (condition.n_sigs, condition.sigflag, str(condition.locktime)) == (2, "SIG_ALL", until)
        assert (await payer.allowance.declined(toll)).state is TollState.SENT
        assert (await pay(payer, locked)).text == toll.text
        assert (await pay(payer)).text != toll.text


@virtually
async def test_a_payment_that_could_not_be_made() -> None:
    """The mint is away before anything was sent: nothing counts. Its answer is lost: it counts until it is known."""
    async with world() as w:
        payer = await w.wallet()
        await w.fund(payer, 100)
        w.faults.plant("before", "swap", *[UnavailableError("down")] * SETTINGS.retry.attempts)
        with pytest.raises(UnavailableError):
            await pay(payer)
        assert [(one.state, one.amount) for one in await payer.allowance.tolls()] == [(TollState.BACK, 0)]
        w.faults.plant("after", "swap", *[UncertainError("lost")] * SETTINGS.retry.attempts)
        with pytest.raises(OperationOpenError):
            await pay(payer)
        assert [one.state for one in await payer.allowance.tolls()] == [TollState.BACK, TollState.SENT]
        with pytest.raises(SpendingLimitError):
            await pay(payer, max_per_host=41)
        w.faults.after.clear()
        await w.clock.sleep(200)  # the mint is let rest after so many failures
        await payer.resume()
        assert (await pay(payer)).amount == 21  # the token that the resumed swap made
        assert len(await payer.tokens()) == 1


@virtually
@pytest.mark.parametrize("before", [True, False])
async def test_dies_at_every_commit(before: bool) -> None:
    """Killed at any commit: no money is lost, and the limit counts at least what may have been sent."""
    for at in range(1, 40):
        async with world() as w:
            mortal = MortalStorage(await memory_storage())
            payer = await w.wallet(mortal)
            await w.fund(payer, 100)
            mortal.commits, mortal.at, mortal.before = 0, at, before
            try:
                await pay(payer)
                finished = True
            except Died:
                finished = False
            again = await w.wallet(mortal.inner, words=words_from_entropy((1).to_bytes(16, "big")), trusted=False)
            await again.resume()
            sent = sum(token.amount for token in await again.tokens())
            counted = sum(toll.amount for toll in await again.allowance.tolls())
            assert counted >= sent
            await again.allowance.settle(patience_s=-1)
            for token in await again.tokens():
                await again.reclaim(token.token_id)
            assert (await again.balance()).available == 100
            await w.books_hold(again)
        if finished:
            break
    else:
        pytest.fail("the payment never came to its end")
