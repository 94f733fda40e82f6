"""Blind tokens under any order of requests: one success at most for each, none burned by an error."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from specie.ecash import wire
from specie.ecash.codes import BlindAuthFailedError, ProofsSpentError
from specie.kernel import UncertainError
from specie.mint import MintSettings
from specie.mint.adapters.auth_sql import SqlAuthStore
from tests.support.house import House, house
from tests.support.openid import Provider, auth_settings, blind_tokens
from tests.support.virtual import VirtualClock, run_virtual

REQUEST = st.tuples(
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from([None, ProofsSpentError(), UncertainError("?"), RuntimeError("?")]),
    st.integers(0, 3),
)
"""Which token, whether an effect is committed, how it ends, and how long it takes."""


@settings(max_examples=60)
@given(st.lists(REQUEST, max_size=12))
def test_a_token_pays_for_one_effect_and_no_error_takes_it(requests):
    """Whatever runs at once: a token is SPENT if and only if exactly one request of it succeeded or left an effect."""

    async def story() -> None:
        clock = VirtualClock()
        async with house(clock=clock, settings=MintSettings(auth=auth_settings()), auth_source=Provider(clock)) as bank:
            tokens = await blind_tokens(bank, 3)
            paid: Counter[int] = Counter()
            await asyncio.gather(*(_request(bank, tokens, paid, *request) for request in requests))
            for number, token in enumerate(tokens):
                y = wire.auth_token_from_text(token).y
                state = await bank.storage.read(lambda tx, y=y: SqlAuthStore().state(tx, y))
                assert (state, paid[number]) in ((None, 0), ("SPENT", 1))

    run_virtual(story())


async def _request(
    bank: House, tokens: list[str], paid: Counter[int], number: int, effect: bool, end: Exception | None, pause: int
) -> None:
    auth = bank.mint.auth
    assert auth is not None
    try:
        async with auth.spending(tokens[number]):
            await asyncio.sleep(pause)
            if effect:
                await auth.storage.transact(lambda tx: tx.execute("DELETE FROM mint_cursor"))
            await asyncio.sleep(pause)
            # a refusal takes its effect back; what is unknown keeps it
            paid[number] += end is None or (effect and not isinstance(end, ProofsSpentError))
            if end is not None:
                raise end
    except (BlindAuthFailedError, ProofsSpentError, UncertainError, RuntimeError):
        return
