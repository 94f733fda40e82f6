"""Deposits, reorganisations, partial claims, lost answers, restarts, in any order: what is held is what was issued."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from specie.kernel import RefusedError, UncertainError
from tests.support.method_mint import method_mints
from tests.support.virtual import run_virtual
from tests.support.wallets import memory_storage

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deposit"), st.integers(0, 2), st.integers(1, 90)),
        st.tuples(st.just("withdraw"), st.integers(0, 2), st.integers(1, 60)),
        st.tuples(st.just("claim"), st.integers(0, 2), st.integers(1, 120)),
        st.tuples(st.just("lose"), st.sampled_from([0, 1, 2, 3]), st.sampled_from([0, 1])),
        st.tuples(st.just("all"), st.just(0), st.just(0)),
        st.tuples(st.just("restart"), st.just(0), st.just(0)),
    ),
    max_size=14,
)


async def _life(steps: list[tuple[str, int, int]]) -> None:
    async with method_mints() as m:
        (mint,) = m.mints
        storage = await memory_storage()
        wallet = await m.wallet(storage, words=WORDS)
        quotes = [await wallet.mint_quote(method=method) for method in ("bolt12", "bolt12", "onchain")]
        for kind, number, amount in steps:
            name = quotes[number % 3].quote
            if kind == "deposit":
                mint.deposit(name, amount)
            elif kind == "withdraw":
                mint.deposit(name, -min(amount, mint.quotes[name].amount_paid))
            elif kind == "claim":
                with contextlib.suppress(RefusedError, UncertainError):
                    await wallet.claim(quotes[number], amount=amount)
            elif kind == "lose":
                for verb in ("issue", "issue_batch"):
                    mint.faults.plant("after" if amount else "before", verb, *[UncertainError("lost")] * number)
            elif kind == "all":
                await wallet.claim_all()
            else:
                wallet = await m.wallet(storage, words=WORDS, trusted=False)
                await wallet.resume()
        mint.faults.before.clear()
        mint.faults.after.clear()
        assert not (await wallet.resume()).open
        await wallet.claim_all()
        issued = {one.quote: one.amount_issued for one in mint.quotes.values()}
        assert (await wallet.balance()).total == sum(issued.values())
        assert all(one.amount_paid <= one.amount_issued for one in mint.quotes.values())
        assert {one.quote: one.amount_issued for one in await wallet.mint_quotes()} == issued
        entries = [entry.amount for entry in await wallet.history(limit=500) if entry.kind == "mint"]
        assert sum(entries) == sum(issued.values())
        await m.books_hold(wallet)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_nothing_is_lost_or_made(steps: list[tuple[str, int, int]]) -> None:
    """The mint's books, the quotes as the wallet knows them, its coins and its history all say the same in the end."""
    run_virtual(_life(steps))
