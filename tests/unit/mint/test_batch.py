"""Several mint quotes at once (NUT-29): every rule and code, all or nothing, and the same answer to the same request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from specie.ecash import MintBatchRequest, MintQuote, MintRequest, wire
from specie.ecash import codes as refused
from specie.ecash import quote as quote_module
from specie.kernel import Limits, MalformedError, RefusedError, UnavailableError, curve
from specie.mint import MintSettings
from tests.support.house import House, house
from tests.support.methods import Teller, sign_quote
from tests.support.play import virtual
from tests.support.vectors import each


@asynccontextmanager
async def banking(**plugs: Any) -> AsyncIterator[tuple[House, Teller]]:
    """A bank with every method, and a teller at it."""
    async with house(methods=("bolt12", "onchain"), **plugs) as bank:
        yield bank, Teller(bank)


async def paid(teller: Teller, method: str, *amounts: int, locked: bool = True) -> list[MintQuote]:
    """Quotes that were paid."""
    quotes = []
    for amount in amounts:
        quote = await teller.quote(method, amount if method == "bolt11" else None, locked=locked)
        await teller.deposit(quote, amount)
        quotes.append(quote)
    return quotes


async def untouched(bank: House, quotes: list[MintQuote]) -> None:
    """Nothing of them was issued."""
    for quote in await bank.mint.check_mint_quotes([one.quote for one in quotes], quotes[0].method):
        assert quote.amount_issued == 0
    assert (await bank.mint.audit()).issued(bank.keyset().id, "sat") == 0


@virtual
async def test_a_look_at_several_is_in_their_order_or_none() -> None:
    """In request order, looked up at the rail; one unknown id, or one of another method, refuses all."""
    async with banking() as (bank, teller):
        quotes = await paid(teller, "bolt11", 3, 5)
        other = await teller.quote("bolt12")
        ids = [one.quote for one in reversed(quotes)]
        found = await bank.mint.check_mint_quotes(ids, "bolt11")
        assert [(one.quote, one.amount_paid) for one in found] == [(ids[0], 5), (ids[1], 3)]
        for wrong in ([*ids, "nobody's"], [*ids, other.quote]):
            with pytest.raises(RefusedError, match="not found"):
                await bank.mint.check_mint_quotes(wrong, "bolt11")
        with pytest.raises(refused.DuplicateQuotesError):
            await bank.mint.check_mint_quotes([ids[0], ids[0]], "bolt11")
        with pytest.raises(MalformedError):
            await bank.mint.check_mint_quotes([], "bolt11")


@pytest.mark.parametrize("legacy", [False, True])
@virtual
async def test_locked_quotes_are_issued_together_and_answered_alike(legacy: bool) -> None:
    """Signatures of either form over all outputs; asked again, also after a restart, the same answer."""
    async with banking() as (bank, teller):
        quotes = await paid(teller, "bolt11", 3, 5, 8)
        request = teller.batch(quotes, 16, legacy=legacy)
        first = await bank.mint.issue_batch(request)
        assert sum(one.amount for one in first) == 16
        assert await bank.mint.issue_batch(request) == first
        with pytest.raises(refused.QuoteIssuedError):
            await bank.mint.issue_batch(teller.batch(quotes, 16))
        with pytest.raises(refused.QuoteSignatureInvalidError):  # a replay is for who holds the keys
            await bank.mint.issue_batch(msgspec.structs.replace(request, signatures=None))
        books = await bank.mint.audit()
        async with house(storage=bank.storage, clock=bank.clock, seed="again", methods=("bolt12", "onchain")) as again:
            assert await again.mint.issue_batch(request) == first
            assert (await again.mint.audit()).balances == books.balances


@virtual
async def test_signatures_stand_where_locks_are() -> None:
    """A locked quote needs one, an unlocked one takes none, each covers its own id."""
    async with banking() as (bank, teller):
        (locked,) = await paid(teller, "bolt11", 3)
        (open_one,) = await paid(teller, "bolt11", 5, locked=False)
        quotes = [locked, open_one]
        good = teller.batch(quotes, 8)
        assert good.signatures is not None
        right = good.signatures[0]
        for wrong in (None, (None, None), (right, right), (sign_quote(open_one.quote, good.outputs), None)):
            with pytest.raises(refused.QuoteSignatureInvalidError):
                await bank.mint.issue_batch(msgspec.structs.replace(good, signatures=wrong))
        with pytest.raises(MalformedError):
            await bank.mint.issue_batch(msgspec.structs.replace(good, signatures=(right,)))
        await untouched(bank, quotes)
        assert await bank.mint.issue_batch(good)


@virtual
async def test_invoices_are_issued_whole() -> None:
    """Outputs are the sum of the quotes; amounts that are named are those of the quotes."""
    async with banking() as (bank, teller):
        quotes = await paid(teller, "bolt11", 3, 5, locked=False)
        for total, amounts in ((7, None), (9, None), (8, (4, 4)), (7, (3, 5)), (8, (3, 0))):
            with pytest.raises((refused.UnbalancedError, MalformedError)):
                await bank.mint.issue_batch(teller.batch(quotes, total, amounts))
        await untouched(bank, quotes)
        assert await bank.mint.issue_batch(teller.batch(quotes, 8, (3, 5)))


@virtual
async def test_offers_need_amounts_and_give_at_most_those() -> None:
    """quote_amounts are required, none above what is mintable; with fewer outputs the first quotes give first."""
    async with banking() as (bank, teller):
        quotes = await paid(teller, "bolt12", 10, 20)
        with pytest.raises(MalformedError, match="needs quote_amounts"):
            await bank.mint.issue_batch(teller.batch(quotes, 30))
        for total, amounts in ((31, (10, 21)), (30, (11, 19)), (16, (10, 5))):
            with pytest.raises(refused.UnbalancedError):
                await bank.mint.issue_batch(teller.batch(quotes, total, amounts))
        await untouched(bank, quotes)
        assert await bank.mint.issue_batch(teller.batch(quotes, 12, (9, 5)))
        found = await bank.mint.check_mint_quotes([one.quote for one in quotes], "bolt12")
        assert [one.amount_issued for one in found] == [9, 3]
        assert await bank.mint.issue_batch(teller.batch(quotes, 18, (1, 17)))
        with pytest.raises(refused.QuoteIssuedError):
            await bank.mint.issue_batch(teller.batch(quotes, 1, (1, 1)))
        await bank.mint.audit()


@virtual
async def test_one_that_is_not_paid_refuses_all() -> None:
    """20001 for all of them, and what was paid stays mintable."""
    async with banking() as (bank, teller):
        quotes = [*await paid(teller, "bolt11", 3), await teller.quote("bolt11", 5)]
        with pytest.raises(refused.QuoteUnpaidError):
            await bank.mint.issue_batch(teller.batch(quotes, 8))
        await untouched(bank, quotes)
        await teller.issue(quotes[0], 3)


@virtual
async def test_bounds_and_units() -> None:
    """Too many (11017), repeated (11016), none, and quotes of another unit than the outputs (11010)."""
    limits = Limits(batch_quotes=2)
    async with banking(settings=MintSettings(limits=limits, units=("sat", "msat"))) as (bank, teller):
        assert bank.mint.info().nuts["29"] == {"max_batch_size": 2, "methods": ["bolt11", "bolt12", "onchain"]}
        quotes = await paid(teller, "bolt11", 1, 2, 4, locked=False)
        with pytest.raises(refused.BatchTooLargeError):
            await bank.mint.issue_batch(teller.batch(quotes, 7))
        with pytest.raises(refused.DuplicateQuotesError):
            await bank.mint.issue_batch(teller.batch([quotes[0], quotes[0]], 2))
        with pytest.raises(MalformedError):
            await bank.mint.issue_batch(MintBatchRequest("bolt11", (), teller.outputs_for(1).messages))
        outputs = teller.outputs([1, 2], bank.keyset("msat")).messages
        with pytest.raises(refused.UnitMismatchError):
            await bank.mint.issue_batch(MintBatchRequest("bolt11", (quotes[0].quote, quotes[1].quote), outputs))
        await untouched(bank, quotes[:2])


@virtual
async def test_outputs_signed_before_refuse_the_whole() -> None:
    """A batch over outputs that another request had signed changes no quote."""
    async with banking() as (bank, teller):
        quotes = await paid(teller, "bolt11", 8, 3, 5, locked=False)
        outputs = teller.outputs_for(8).messages
        await bank.mint.issue(MintRequest("bolt11", quotes[0].quote, outputs))
        with pytest.raises(refused.OutputsSignedError):
            await bank.mint.issue_batch(MintBatchRequest("bolt11", (quotes[1].quote, quotes[2].quote), outputs))
        found = await bank.mint.check_mint_quotes([one.quote for one in quotes[1:]], "bolt11")
        assert [one.amount_issued for one in found] == [0, 0]


@virtual
async def test_overlapping_batches_and_single_issues_at_once() -> None:
    """In opposite orders, beside single issues: each quote is issued once, nothing hangs, and the books hold."""
    async with banking() as (bank, teller):
        for _ in range(5):
            quotes = await paid(teller, "bolt11", 1, 2, 4, locked=False)
            work = [
                bank.mint.issue_batch(teller.batch(quotes, 7)),
                bank.mint.issue_batch(teller.batch(quotes[::-1], 7)),
                bank.mint.issue_batch(teller.batch(quotes[:2], 3)),
                bank.mint.issue(MintRequest("bolt11", quotes[2].quote, teller.outputs_for(4).messages)),
            ]
            results = await asyncio.gather(*work, return_exceptions=True)
            for result in results:
                assert not isinstance(result, BaseException) or isinstance(result, refused.QuoteIssuedError | UnavailableError)
            found = await bank.mint.check_mint_quotes([one.quote for one in quotes], "bolt11")
            given = sum(sum(one.amount for one in result) for result in results if not isinstance(result, BaseException))
            assert given == sum(one.amount_issued for one in found)
            assert all(one.amount_issued in (0, one.amount) for one in found)
        await bank.mint.audit()


@each("nut29-batch-mint", kind="validation")
@virtual
async def test_the_cases_of_the_specification(record: dict[str, Any]) -> None:
    """Each case of NUT-29 with real quotes and outputs in place of its placeholders: accepted, or refused with its code."""
    async with banking() as (bank, teller):
        amounts = record["request"].get("quote_amounts") or [1] * len(record["request"]["quotes"])
        names: dict[str, str] = {}
        for position, (name, amount) in enumerate(zip(record["request"]["quotes"], amounts, strict=True)):
            if name in ("bogus", "unknown-2"):
                continue
            method = "bolt12" if "mixed" in record["id"] and position else "bolt11"
            (quote,) = await paid(teller, method, amount, locked=method == "bolt12")
            names[name] = quote.quote
        body = dict(record["request"])
        body["quotes"] = [names.get(name, name) for name in body["quotes"]]
        if "outputs" in body:
            outputs = teller.outputs([one["amount"] for one in body["outputs"]]).messages
            body["outputs"] = [{"amount": one.amount, "id": one.id, "B_": one.B_.hex()} for one in outputs]

        async def ask() -> object:
            text = json.dumps(body).encode()
            if record["endpoint"].endswith("check"):
                return await bank.mint.check_mint_quotes(wire.quote_check_request_from_json(text), "bolt11")
            return await bank.mint.issue_batch(wire.mint_batch_request_from_json(text, method="bolt11"))

        if record["expected_accept"]:
            assert await ask()
            return
        with pytest.raises(RefusedError) as wrong:
            await ask()
        if record["error_code"] is not None:
            assert wrong.value.code == record["error_code"]


@virtual
async def test_a_refused_batch_costs_each_signature_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most a stranger can ask for is checked once, and the outputs are written out once, not once for each quote."""
    verified, written = [], []
    verify, tail = curve.schnorr_verify, quote_module._MESSAGES[1][1]

    def counted(*arguments: Any) -> bool:
        verified.append(arguments)
        return verify(*arguments)

    def noted(outputs: Any) -> bytes:
        written.append(outputs)
        return tail(outputs)

    async with banking() as (bank, teller):
        quotes = [await teller.quote("bolt11", 4) for _ in range(5)]
        request = teller.batch(quotes, 20)
        monkeypatch.setattr(curve, "schnorr_verify", counted)
        monkeypatch.setitem(quote_module._MESSAGES, 1, (quote_module._MESSAGES[1][0], noted))
        with pytest.raises(refused.QuoteUnpaidError):
            await bank.mint.issue_batch(request)
        assert (len(verified), len(written)) == (5, 1)
