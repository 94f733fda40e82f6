"""The breaker and the retries: they open late, close on any answer, and repeat only what is harmless."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.ecash import codes as refused
from specie.kernel import InvariantError, PeerFaultError, UnavailableError, UncertainError
from specie.wallet.breaker import Breaker, BreakerState
from specie.wallet.errors import BreakerOpenError
from specie.wallet.retry import RetryPolicy
from specie.wallet.states import COIN, OPERATION, TOKEN, CoinState, OperationState, TokenState
from tests.support.wallets import MINT_URL, SETTINGS, virtually, world


def test_opens_only_after_so_many_in_a_row() -> None:
    """One fewer than the threshold keeps it closed for ever, as long as an answer comes in between."""
    breaker = Breaker(threshold=3)
    for _ in range(10):
        for _ in range(2):
            breaker.admit(0.0)
            breaker.unavailable(0.0)
        breaker.admit(0.0)
        breaker.answered()
    assert breaker.state(0.0) is BreakerState.CLOSED
    for _ in range(3):
        breaker.admit(0.0)
        breaker.unavailable(0.0)
    assert breaker.state(0.0) is BreakerState.OPEN
    with pytest.raises(BreakerOpenError) as caught:
        breaker.admit(1.0)
    assert caught.value.retry_after_s == pytest.approx(4.0)


def test_half_open_lets_one_probe_through() -> None:
    """After the pause one call is admitted; its failure doubles the pause, its answer closes the breaker."""
    breaker = Breaker(threshold=1, pause_s=10.0, longest_pause_s=15.0)
    breaker.admit(0.0)
    breaker.unavailable(0.0)
    assert breaker.state(10.0) is BreakerState.HALF_OPEN
    breaker.admit(10.0)
    with pytest.raises(BreakerOpenError):
        breaker.admit(10.0)
    breaker.unavailable(10.0)
    with pytest.raises(BreakerOpenError):
        breaker.admit(24.9)
    breaker.admit(25.0)
    breaker.abandoned()
    breaker.admit(25.0)
    breaker.answered()
    assert breaker.state(25.0) is BreakerState.CLOSED
    breaker.admit(25.0)


def test_late_failures_do_not_prolong_the_pause() -> None:
    """Calls that were under way when it opened fail one after the other; the pause still ends when it was to end."""
    breaker = Breaker(threshold=1, pause_s=10.0)
    for moment in (0.0, 3.0, 9.0):
        breaker.unavailable(moment)
    assert breaker.state(10.0) is BreakerState.HALF_OPEN


@given(st.lists(st.sampled_from(["answer", "silence"]), max_size=60))
def test_never_open_without_a_full_run_of_silence(events: list[str]) -> None:
    """Whatever the history, it is open only if its last events are a full run of unavailability."""
    breaker = Breaker(threshold=4)
    for event in events:
        (breaker.answered if event == "answer" else lambda: breaker.unavailable(0.0))()
    run = len(events) - max((i + 1 for i, event in enumerate(events) if event == "answer"), default=0)
    assert (breaker.state(0.0) is BreakerState.OPEN) == (run >= 4)


@given(st.integers(1, 100), st.binary(min_size=4, max_size=4), st.floats(0, 100))
def test_backoff_is_bounded_and_jittered(attempt: int, random: bytes, asked: float) -> None:
    """A wait is between nothing and its bound, and not shorter than what the mint asked for, within reason."""
    policy = RetryPolicy(attempts=4, base_s=0.2, longest_s=5.0)
    delay = policy.delay_s(attempt, random, at_least_s=asked)
    assert 0 <= delay <= 5.0
    assert delay >= min(asked, 5.0)
    assert policy.delay_s(attempt, b"\0\0\0\0") == 0


@virtually
async def test_refusals_never_open_it() -> None:
    """A hundred refusals and faults in a row leave the mint reachable."""
    async with world() as w:
        wallet = await w.wallet()
        w.faults.plant(
            "before", "request_mint_quote", *[refused.MintingDisabledError()] * 50, *[PeerFaultError("x", peer="m")] * 50
        )
        for _ in range(100):
            with pytest.raises((refused.MintingDisabledError, PeerFaultError)):
                await wallet.mint_quote(5)
        assert (await wallet.mint_quote(5)).amount == 5


@virtually
async def test_opens_after_the_threshold_and_recovers() -> None:
    """After enough silences the mint is not asked for a while; then one probe brings it back."""
    async with world() as w:
        wallet = await w.wallet()
        w.faults.plant("before", "request_mint_quote", *[UnavailableError("off")] * SETTINGS.breaker_threshold)
        for _ in range(SETTINGS.breaker_threshold):
            with pytest.raises(UnavailableError):
                await wallet.mint_quote(5)
        calls = len(w.faults.calls)
        with pytest.raises(BreakerOpenError):
            await wallet.mint_quote(5)
        assert len(w.faults.calls) == calls
        await asyncio.sleep(SETTINGS.breaker_pause_s)
        assert (await wallet.mint_quote(5)).amount == 5


@virtually
async def test_questions_are_retried_and_value_is_not() -> None:
    """A GET is asked again after silence; a new quote is not asked for twice."""
    async with world() as w:
        wallet = await w.wallet()
        w.faults.calls.clear()
        w.faults.plant("before", "keysets", UnavailableError("off"), UnavailableError("off"))
        await wallet.add_mint(MINT_URL)
        assert w.faults.calls.count("keysets") == 3
        w.faults.plant("before", "request_mint_quote", UnavailableError("off"))
        with pytest.raises(UnavailableError):
            await wallet.mint_quote(5)
        assert w.faults.calls.count("request_mint_quote") == 1


@virtually
async def test_uncertain_answers_count_as_silence() -> None:
    """Lost answers count too, or a mint that swallows everything would be hammered."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", *[UncertainError("lost")] * 9)
        for _ in range(2):
            with pytest.raises(UncertainError):
                await wallet.send(37 if not await wallet.operations() else 5)
        assert len([body for verb, body in w.faults.bodies if verb == "swap"]) == SETTINGS.breaker_threshold


def test_state_tables_are_closed() -> None:
    """Nothing leads out of SPENT, DONE, CLAIMED and RECLAIMED, and only being settled out of FAILED; tables are obeyed."""
    assert COIN.final() == [CoinState.SPENT]
    assert OPERATION.final() == [OperationState.DONE]
    assert OPERATION.next(OperationState.FAILED, "settle") is OperationState.DONE
    assert set(TOKEN.final()) == {TokenState.CLAIMED, TokenState.RECLAIMED}
    for state in CoinState:
        if state is not CoinState.SPENT:
            with pytest.raises(InvariantError):
                COIN.check_move(CoinState.SPENT, state)
    with pytest.raises(InvariantError):
        COIN.next(CoinState.PENDING, "reserve")
    COIN.check_move(CoinState.RESERVED, CoinState.PENDING)
    assert OPERATION.next(OperationState.OPEN, "settle") is OperationState.DONE
