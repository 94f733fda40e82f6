"""The mistake: the circuit breaker counts refusals, or failures that are not in a row, and shuts a healthy mint out.

A mint that says "spent" or "quote not paid" is there. Only silence counts, only in a row, and one answer of any kind forgives
all of it; once open, the breaker lets a probe through when its pause is over.
"""

from __future__ import annotations

import pytest

from specie.ecash import codes as refused
from specie.kernel import PeerFaultError, RefusedError, UnavailableError
from specie.wallet import RetryPolicy, WalletSettings
from specie.wallet.errors import BreakerOpenError
from tests.support.wallets import MINT_URL, World, virtually, world

AWAY = UnavailableError("no connection")
ONCE = WalletSettings(change_pieces=0, retry=RetryPolicy(attempts=1), breaker_threshold=5, breaker_pause_s=30.0)


async def ask(w: World, wallet: object) -> None:
    """One question to the mint through the wallet's guarded client."""
    await wallet._context.client(MINT_URL).check_state([])  # type: ignore[attr-defined]


@virtually
@pytest.mark.parametrize(
    "answer",
    [refused.ProofsSpentError(), refused.QuoteUnpaidError(), RefusedError("HTTP 404"), PeerFaultError("nonsense", peer="x")],
)
async def test_refusals_and_nonsense_never_open_it(answer: Exception) -> None:
    """Fifty of them in a row, and the next question is asked and answered."""
    async with world() as w:
        wallet = await w.wallet(settings=ONCE)
        w.faults.plant("before", "check_state", *[answer] * 50)
        for _ in range(50):
            with pytest.raises(type(answer)):
                await ask(w, wallet)
        await ask(w, wallet)
        await w.fund(wallet, 10)


@virtually
async def test_silence_that_is_not_in_a_row_never_opens_it() -> None:
    """Four silences and an answer, twenty times over; a refusal is an answer."""
    async with world() as w:
        wallet = await w.wallet(settings=ONCE)
        for turn in range(20):
            w.faults.plant("before", "check_state", AWAY, AWAY, AWAY, AWAY, None if turn % 2 else refused.ProofsSpentError())
            for _ in range(4):
                with pytest.raises(UnavailableError) as silence:
                    await ask(w, wallet)
                assert not isinstance(silence.value, BreakerOpenError)
            if turn % 2:
                await ask(w, wallet)
            else:
                with pytest.raises(refused.ProofsSpentError):
                    await ask(w, wallet)


@virtually
async def test_five_silences_in_a_row_open_it_for_a_while() -> None:
    """The sixth is not sent; after the pause one probe is, and closes it by being answered."""
    async with world() as w:
        wallet = await w.wallet(settings=ONCE)
        w.faults.plant("before", "check_state", *[AWAY] * 5)
        w.faults.calls.clear()
        for _ in range(5):
            with pytest.raises(UnavailableError):
                await ask(w, wallet)
        with pytest.raises(BreakerOpenError):
            await ask(w, wallet)
        assert w.faults.calls.count("check_state") == 5
        w.clock.skip(31)
        await ask(w, wallet)
        await ask(w, wallet)


@virtually
async def test_one_mints_silence_is_not_anothers() -> None:
    """Each mint has a breaker of its own."""
    async with world() as w:
        from tests.support.direct_client import DirectClient

        second = "http://second.test"
        w.clients[second] = DirectClient(w.bank.mint, second)
        wallet = await w.wallet(settings=ONCE)
        w.faults.plant("before", "check_state", *[AWAY] * 5)
        for _ in range(5):
            with pytest.raises(UnavailableError):
                await ask(w, wallet)
        await wallet._context.client(second).check_state([])
        with pytest.raises(BreakerOpenError):
            await ask(w, wallet)


@virtually
async def test_a_users_mistakes_do_not_shut_the_mint_out() -> None:
    """Through the verbs: unpaid claims, spent tokens and failing payments, again and again, and the wallet still works."""
    async with world() as w:
        wallet, other = await w.wallet(settings=ONCE), await w.wallet()
        await w.fund(wallet, 100)
        quote = await wallet.mint_quote(5)
        token = await wallet.send(4)
        await other.receive(token.text)
        w.fail_payments()
        for turn in range(10):
            with pytest.raises(refused.QuoteUnpaidError):
                await wallet.claim(quote)
            with pytest.raises(RefusedError):
                await wallet.reclaim(token.text)
            with pytest.raises(refused.PaymentFailedError):
                await wallet.pay(await w.foreign_invoice(21_000, f"turn {turn}"))
        await wallet.check_pending()
        assert (await wallet.balance()).available == 96
