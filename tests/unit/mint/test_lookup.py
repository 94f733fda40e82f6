"""Mint quotes are found by the keys they are locked to, by those who hold the keys and by nobody else."""

from __future__ import annotations

import json
from hashlib import sha256

import msgspec
import pytest

from specie.ecash import MintQuoteRequest, QuoteLookup, QuotePage, quote_lookup_digest, wire
from specie.ecash.codes import BatchTooLargeError, QuoteSignatureInvalidError
from specie.kernel import MalformedError, RefusedError, curve
from specie.mint import MintSettings
from tests.support.house import House, house
from tests.support.virtual import START, run_virtual

ON = MintSettings(quote_lookup=True)


def secret(number: int) -> bytes:
    """A private key."""
    return number.to_bytes(32, "big")


def question(bank: House, *numbers: int, at: int | None = None, **changes: object) -> QuoteLookup:
    """A question of the owners of keys, signed by each."""
    now = bank.clock.now() if at is None else at
    mint = bytes.fromhex(bank.mint.info().pubkey or "")
    keys = [curve.public_key(secret(number)) for number in numbers]
    signatures = [
        curve.schnorr_sign(quote_lookup_digest(mint, key, now), secret(number), bytes(32))
        for number, key in zip(numbers, keys, strict=True)
    ]
    asked = QuoteLookup("bolt11", tuple(keys), tuple(signatures), now)
    return msgspec.structs.replace(asked, **changes)


async def locked(bank: House, number: int, amount: int = 8) -> str:
    """The id of a quote that is locked to a key."""
    key = curve.public_key(secret(number)).hex()
    return (await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", amount, pubkey=key))).quote


def test_owners_find_their_quotes() -> None:
    """Quotes of several keys, in any state, and no quote of other keys, of none, or of another method."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            assert bank.mint.info().nuts["XX"] == {
                "supported": True,
                "draft": True,
                "max_pubkeys": 50,
                "max_page_size": 100,
            }
            mine = [await locked(bank, 1), await locked(bank, 2), await locked(bank, 1, 16)]
            await locked(bank, 3)
            open_one = await bank.mint.request_mint_quote(MintQuoteRequest("bolt11", "sat", 8))
            await bank.pay(await bank.mint.mint_quote(mine[0], "bolt11"))
            bank.clock.skip(200_000)
            page = await bank.mint.find_mint_quotes(question(bank, 1, 2))
            assert [quote.quote for quote in page.quotes] == sorted(mine)
            assert page.next_cursor is None
            assert open_one.quote not in {quote.quote for quote in page.quotes}
            paid = next(quote for quote in page.quotes if quote.quote == mine[0])
            assert paid.amount_paid == 8
            other = await bank.mint.find_mint_quotes(question(bank, 1, method="onchain"))
            assert other == QuotePage(())

    run_virtual(body())


def test_others_are_told_nothing() -> None:
    """Signatures of other keys, other mints, other times and other texts are refused whole; so are too many or doubled keys."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            await locked(bank, 1)
            now, good = bank.clock.now(), question(bank, 1)
            key, mint = good.pubkeys[0], bytes.fromhex(bank.mint.info().pubkey or "")

            def sign(text: str) -> bytes:
                return curve.schnorr_sign(sha256(text.encode()).digest(), secret(1), bytes(32))

            for signature in (
                question(bank, 2).signatures[0],
                sign(f"Cashu_MintQuoteLookup_v1{mint.hex()}{key.hex()}"),
                sign(f"{key.hex()}{now}{mint.hex()}"),
                sign(f"Cashu_MintQuoteLookup_v1{key.hex()}{key.hex()}{now}"),
            ):
                with pytest.raises(QuoteSignatureInvalidError):
                    await bank.mint.find_mint_quotes(msgspec.structs.replace(good, signatures=(signature,)))
            both = question(bank, 1, 2)
            with pytest.raises(QuoteSignatureInvalidError):
                await bank.mint.find_mint_quotes(msgspec.structs.replace(both, signatures=both.signatures[:1] * 2))
            with pytest.raises(BatchTooLargeError):
                await bank.mint.find_mint_quotes(question(bank, *range(1, 52)))
            for wrong in (
                question(bank),
                question(bank, 1, 1),
                question(bank, 1, 2, signatures=()),
                question(bank, 1, limit=0),
            ):
                with pytest.raises(MalformedError):
                    await bank.mint.find_mint_quotes(wrong)

    run_virtual(body())


def test_a_question_that_was_overheard_grows_old() -> None:
    """A question is good for five minutes around its time, to the second, and its time cannot be changed."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            quote = await locked(bank, 1)
            asked = question(bank, 1)
            for skew in (-300, 300):
                early = question(bank, 1, at=START + skew)
                assert (await bank.mint.find_mint_quotes(early)).quotes[0].quote == quote
            for skew in (-301, 301):
                with pytest.raises(RefusedError, match="timestamp"):
                    await bank.mint.find_mint_quotes(question(bank, 1, at=START + skew))
            bank.clock.skip(301)
            with pytest.raises(RefusedError, match="timestamp"):
                await bank.mint.find_mint_quotes(asked)
            with pytest.raises(QuoteSignatureInvalidError):
                await bank.mint.find_mint_quotes(msgspec.structs.replace(asked, timestamp=asked.timestamp + 100))

    run_virtual(body())


def test_pages_give_every_quote_once() -> None:
    """Following the cursor gives all quotes in order, once each; a cursor of other keys or a made-up one is refused."""

    async def body() -> None:
        async with house(settings=ON) as bank:
            mine = sorted([await locked(bank, 1 + number % 2) for number in range(7)])
            found, cursor, pages = [], None, 0
            while True:
                page = await bank.mint.find_mint_quotes(question(bank, 2, 1, limit=3, cursor=cursor))
                found += [quote.quote for quote in page.quotes]
                pages += 1
                if page.next_cursor is None:
                    break
                cursor = page.next_cursor
                bank.clock.skip(1)
            assert found == mine
            assert pages == 3
            for wrong in (question(bank, 1, cursor=cursor), question(bank, 1, 2, cursor="x"), question(bank, 1, cursor="")):
                with pytest.raises(MalformedError):
                    await bank.mint.find_mint_quotes(wrong)

    run_virtual(body())


def test_off_means_off() -> None:
    """Unless it is switched on nothing is announced and nothing is told."""

    async def body() -> None:
        async with house() as bank:
            await locked(bank, 1)
            assert "XX" not in bank.mint.info().nuts
            with pytest.raises(RefusedError):
                await bank.mint.find_mint_quotes(question(bank, 1))

    run_virtual(body())


def test_the_signed_text_is_the_drafts() -> None:
    """Tag, mint's key, key and time, as text without anything between."""
    mint, key = curve.public_key(secret(1)), curve.public_key(secret(2))
    text = (
        "Cashu_MintQuoteLookup_v1"
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
        "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5"
        "1788825600"
    )
    assert quote_lookup_digest(mint, key, 1788825600) == sha256(text.encode()).digest()


def test_json_of_questions_is_bounded() -> None:
    """Long lists and cursors, numbers that are none and keys off the curve are malformed; a good one is read as written."""
    asked = QuoteLookup("bolt11", (curve.public_key(secret(1)),), (bytes(64),), 5, 7, "c")
    assert wire.quote_lookup_from_json(wire.quote_lookup_to_json(asked), method="bolt11") == asked
    body = json.loads(wire.quote_lookup_to_json(asked))
    for change in (
        {"pubkeys": body["pubkeys"] * 2000},
        {"pubkeys": ["02" + "00" * 32]},
        {"pubkey_signatures": ["00"]},
        {"timestamp": -1},
        {"timestamp": 1.5},
        {"timestamp": None},
        {"limit": -1},
        {"cursor": "c" * 513},
    ):
        with pytest.raises(MalformedError):
            wire.quote_lookup_from_json(json.dumps(body | change).encode(), method="bolt11")
