"""Whatever a host asks for, in whatever order, with restarts and refusals between: no more than the limits leave the wallet."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specie.ecash import PaymentRequest
from specie.kernel import RefusedError
from specie.kernel.hd import words_from_entropy
from specie.wallet import Wallet
from specie.wallet.paid import Toll, TollState
from tests.support.virtual import run_virtual
from tests.support.wallets import MINT_URL, memory_storage, world

PERIOD_S = 1000

asks = st.tuples(
    st.sampled_from(["a.test", "b.test"]),
    st.integers(1, 40),
    st.sampled_from(["spent", "declined", "stolen", "unknown", "restart"]),
    st.sampled_from([0, 0, 100, 600]),
)


async def _after(wallet: Wallet, thief: Wallet, toll: Toll, fate: str) -> None:
    if fate in ("spent", "stolen"):
        await thief.receive(toll.text or "")
    if fate == "spent":
        await wallet.allowance.spent(toll)
    elif fate in ("declined", "stolen"):
        await wallet.allowance.declined(toll)
    else:
        wallet.allowance.unknown(toll)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(asked=st.lists(asks, min_size=1, max_size=12), per_host=st.integers(20, 100), per_request=st.integers(5, 40))
def test_limits_hold(asked: list[tuple[str, int, str, int]], per_host: int, per_request: int) -> None:
    """In each period a host gets at most its limit, in payments of at most the other; what came back is free again."""

    async def scenario() -> None:
        async with world() as w:
            storage = await memory_storage()
            words = words_from_entropy((1).to_bytes(16, "big"))
            wallet, thief = await w.wallet(storage, words=words), await w.wallet()
            await w.fund(wallet, 1000)
            made: list[tuple[int, Toll]] = []
            for number, (host, amount, fate, later) in enumerate(asked):
                w.clock.skip(later)
                if fate == "restart":
                    wallet = await w.wallet(storage, words=words, trusted=False)
                try:
                    toll = await wallet.allowance.pay(
                        PaymentRequest(amount=amount, unit="sat", mints=(MINT_URL,)),
                        host=host,
                        resource=f"GET /{number}",
                        max_amount=per_request,
                        max_per_host=per_host,
                        period_s=PERIOD_S,
                    )
                except RefusedError:
                    continue
                assert toll.amount == amount <= per_request
                made.append((w.clock.now(), toll))
                await _after(wallet, thief, toll, fate)
            states = {toll.toll_id: toll for toll in await wallet.allowance.tolls()}
            for now, one in made:
                within = [
                    states[toll.toll_id].amount
                    for at, toll in made
                    if toll.host == one.host
                    and now - PERIOD_S <= at <= now
                    and states[toll.toll_id].state is not TollState.BACK
                ]
                assert sum(within) <= per_host
            gone = sum(toll.amount for toll in states.values() if toll.state is TollState.SPENT)
            await wallet.check_pending()
            balance = await wallet.balance()
            assert balance.available + balance.sent + gone == 1000
            await w.books_hold(wallet, thief)

    run_virtual(scenario())
