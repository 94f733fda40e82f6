"""Several paid quotes minted at once (NUT-29): split by size, all or nothing, replayed to the byte, never losing a quote."""

from __future__ import annotations

import asyncio

import pytest

from specie.ecash import BlindSignature, MintQuote, wire
from specie.ecash import codes as refused
from specie.kernel import RefusedError, UncertainError
from specie.wallet import Wallet, WalletMintQuote
from tests.support.method_mint import Mints, method_mints
from tests.support.wallets import memory_storage, virtually

LOST = UncertainError("the answer was lost")
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


async def _paid(m: Mints, wallet: Wallet, *amounts: int, method: str = "bolt12") -> list[WalletMintQuote]:
    quotes = []
    for amount in amounts:
        quote = await wallet.mint_quote(method=method)
        m.mints[0].deposit(quote.quote, amount)
        quotes.append(quote)
    return quotes


def _calls(m: Mints) -> list[str]:
    return [verb for verb, _ in m.mints[0].faults.bodies]


@virtually
async def test_paid_quotes_are_minted_together() -> None:
    """Seven quotes where three fit: two batches and one alone; each quote has its line in the history; unpaid ones wait."""
    async with method_mints() as m:
        wallet = await m.wallet()
        await wallet.mint_quote(method="bolt12")
        await _paid(m, wallet, 1, 2, 3, 4, 5, 6, 7)
        assert await wallet.claim_all() == {"sat": 28}
        assert _calls(m) == ["issue_batch", "issue_batch", "issue"]
        assert sorted(entry.amount for entry in await wallet.history()) == [1, 2, 3, 4, 5, 6, 7]
        assert all(entry.reference for entry in await wallet.history())
        assert await wallet.claim_all() == {}
        await m.books_hold(wallet)


@virtually
async def test_each_signature_covers_all_outputs() -> None:
    """The bytes hold one version 1 signature for each quote over all outputs, amounts and no quote twice."""
    async with method_mints() as m:
        wallet = await m.wallet()
        quotes = await _paid(m, wallet, 5, 6)
        await wallet.claim_all()
        ((verb, body),) = m.mints[0].faults.bodies
        asked = wire.mint_batch_request_from_json(body, method="bolt12")
        assert verb == "issue_batch"
        assert set(asked.quotes) == {quote.quote for quote in quotes}
        assert asked.amounts is not None
        assert sum(asked.amounts) == 11 == sum(output.amount for output in asked.outputs)
        assert asked.signatures is not None
        assert len(set(asked.signatures)) == 2


@virtually
async def test_methods_and_units_are_not_mixed() -> None:
    """Quotes of two methods are two batches; methods that the mint does not batch go one by one."""
    async with method_mints() as m:
        m.mints[0].batch = {"methods": ["onchain"]}
        wallet = await m.wallet()
        await _paid(m, wallet, 1, 2)
        await _paid(m, wallet, 4, 8, method="onchain")
        assert await wallet.claim_all() == {"sat": 15}
        assert sorted(_calls(m)) == ["issue", "issue", "issue_batch"]
        await m.books_hold(wallet)


@pytest.mark.parametrize(
    "error", [RefusedError("Not Found"), refused.BatchTooLargeError(), refused.QuoteSignatureInvalidError()]
)
def test_a_refused_batch_falls_back(error: RefusedError) -> None:
    """A mint without the route, with another bound, or with other signatures: the quotes are claimed one by one."""

    @virtually
    async def run() -> None:
        async with method_mints() as m:
            wallet = await m.wallet()
            await _paid(m, wallet, 3, 4)
            m.mints[0].faults.plant("before", "issue_batch", error)
            assert await wallet.claim_all() == {"sat": 7}
            assert _calls(m) == ["issue_batch", "issue", "issue"]
            assert await wallet.operations() == []
            await m.books_hold(wallet)

    run()


@virtually
async def test_a_lost_batch_is_sent_again_to_the_byte() -> None:
    """Every answer lost: its quotes are left alone until `resume`, which sends the same bytes; all are minted once."""
    async with method_mints() as m:
        storage = await memory_storage()
        wallet = await m.wallet(storage, words=WORDS)
        quotes = await _paid(m, wallet, 3, 4)
        m.mints[0].faults.plant("after", "issue_batch", LOST, LOST, LOST)
        assert await wallet.claim_all() == {}
        assert await wallet.claim_all() == {}
        (operation,) = await wallet.operations()
        assert len(operation.claims) == 2
        again = await m.wallet(storage, words=WORDS, trusted=False)
        assert await again.claim(quotes[0]) == 7  # what was interrupted is carried to its end first
        assert len({body for _, body in m.mints[0].faults.bodies}) == 1
        assert (await again.balance()).available == 7
        await m.books_hold(again)


@virtually
async def test_a_batch_that_never_arrived_is_sent_by_resume() -> None:
    """The mint saw nothing: the journalled bytes are sent, and a claim of one of its quotes meanwhile is busy."""
    async with method_mints() as m:
        storage = await memory_storage()
        wallet = await m.wallet(storage, words=WORDS)
        await _paid(m, wallet, 3, 4)
        m.mints[0].faults.plant("before", "issue_batch", LOST, LOST, LOST)
        assert await wallet.claim_all() == {}
        again = await m.wallet(storage, words=WORDS, trusted=False)
        assert len((await again.resume()).settled) == 1
        assert (await again.balance()).available == 7
        await m.books_hold(again)


@pytest.mark.parametrize("lie", ["fewer", "order", "amount"])
def test_a_wrong_answer_to_a_batch_loses_nothing(lie: str) -> None:
    """Too few signatures, in another order, on other amounts: nothing is stored, a human is told, NUT-09 brings the coins."""

    @virtually
    async def run() -> None:
        async with method_mints() as m:
            storage = await memory_storage()
            wallet = await m.wallet(storage, words=WORDS)
            await _paid(m, wallet, 5, 10)

            def change(verb: str, answer: object) -> object:
                if verb != "issue_batch" or not isinstance(answer, list):
                    return answer
                if lie == "fewer":
                    return answer[:-1]
                if lie == "order":
                    return answer[::-1]
                return [BlindSignature(2 * one.amount, one.id, one.C_, one.dleq) for one in answer]

            m.mints[0].faults.change = change
            assert await wallet.claim_all() == {}
            assert (await wallet.balance()).total == 0
            assert m.pages.pages
            m.mints[0].faults.change = None
            again = await m.wallet(storage, words=WORDS, trusted=False)
            assert len((await again.resume()).settled) == 1
            assert (await again.balance()).available == 15
            await m.books_hold(again)

    run()


@virtually
async def test_a_spoilt_look_is_done_one_by_one() -> None:
    """A mint that refuses to look at several quotes, or answers about others, is asked about each."""
    async with method_mints() as m:
        wallet = await m.wallet()
        await _paid(m, wallet, 3, 4)
        m.mints[0].faults.plant("before", "mint_quotes", RefusedError("unknown quote"))
        assert await wallet.claim_all() == {"sat": 7}
        await _paid(m, wallet, 5)

        def other(verb: str, answer: object) -> object:
            return [MintQuote("x", "bolt12", "lno", "sat")] * 3 if verb == "mint_quotes" else answer

        m.mints[0].faults.change = other
        assert await wallet.claim_all() == {"sat": 5}
        await m.books_hold(wallet)


@virtually
async def test_a_deposit_below_the_least_waits() -> None:
    """What the mint would refuse is not asked for; once there is enough it is claimed."""
    async with method_mints() as m:
        m.mints[0].bounds["onchain"] = (10, None)
        wallet = await m.wallet()
        (quote,) = await _paid(m, wallet, 9, method="onchain")
        assert await wallet.claim_all() == {}
        assert _calls(m) == []
        m.mints[0].deposit(quote.quote, 5)
        assert await wallet.claim_all() == {"sat": 14}


@virtually
async def test_two_processes_claim_everything_at_once() -> None:
    """Both look, both try: everything is minted once and nothing stays open."""
    async with method_mints() as m:
        storage = await memory_storage()
        one, two = await m.wallet(storage, words=WORDS), await m.wallet(storage, words=WORDS)
        await _paid(m, one, 3, 4, 5)
        await asyncio.gather(one.claim_all(), two.claim_all(), one.claim_all())
        await one.resume()
        await one.claim_all()
        assert (await one.balance()).available == 12
        assert await one.operations() == []
        await m.books_hold(one)


@virtually
async def test_a_mint_that_is_away_spoils_nothing() -> None:
    """Quotes of a mint that does not answer are kept for the next time; those of the others are claimed."""
    async with method_mints(2) as m:
        wallet = await m.wallet()
        first = await wallet.mint_quote(method="bolt12", mint=m.urls[0])
        second = await wallet.mint_quote(method="bolt12", mint=m.urls[1])
        m.mints[0].deposit(first.quote, 3)
        m.mints[1].deposit(second.quote, 4)
        from specie.kernel import UnavailableError

        m.mints[0].faults.plant("before", "mint_quote", *[UnavailableError("away")] * 5)
        assert await wallet.claim_all() == {"sat": 4}
        m.mints[0].faults.before.clear()
        m.clock.skip(60)
        assert await wallet.claim_all(mint=m.urls[0]) == {"sat": 3}
        await m.books_hold(wallet)
