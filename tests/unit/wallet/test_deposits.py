"""Deposits that others make: found by our keys, claimed by us alone, and found again from the words."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from specie.ecash import wire
from specie.ecash.codes import QuotePubkeyRequiredError, QuoteSignatureInvalidError
from specie.kernel.errors import MalformedError, PeerFaultError, UnavailableError, UncertainError
from specie.mint import MintSettings
from specie.wallet import Wallet
from specie.wallet.errors import MintUnknownError, UnsupportedError
from tests.support.wallets import MINT_URL, WORDS, Died, MortalStorage, World, memory_storage, virtually, world

ON = MintSettings(quote_lookup=True)


async def deposit(w: World, pool: Wallet, key: str, amount: int) -> None:
    """Somebody else asks for an invoice for a key, and pays it."""
    await w.pay(await pool.deposits.request(amount, key, mint=MINT_URL))
    await asyncio.sleep(1)  # for the mint to hear of it


@virtually
async def test_a_pool_pays_and_the_owner_claims() -> None:
    """Keys that were published are paid by others; the owner finds exactly those quotes, claims them once, the pool none."""
    async with world(settings=ON) as w:
        pool, alice = await w.wallet(), await w.wallet()
        keys = [await alice.deposits.key() for _ in range(3)]
        assert len(set(keys)) == 3
        await deposit(w, pool, keys[0], 21)
        await deposit(w, pool, keys[2], 42)
        await pool.deposits.request(7, keys[1], mint=MINT_URL)
        found = await alice.deposits.find(MINT_URL)
        assert sorted(quote.claimable for quote in found) == [0, 21, 42]
        assert await pool.deposits.find(MINT_URL) == []
        claimed = await alice.deposits.claim(MINT_URL)
        assert sorted(one.claimed for one in claimed) == [21, 42]
        assert await alice.deposits.claim(MINT_URL) == []
        assert (await alice.balance()).available == 63
        await w.books_hold(alice, pool)


@virtually
async def test_only_the_owner_can_claim() -> None:
    """Whoever learns the quote's id, as the pool does, cannot mint it: the signature must be the owner's (NUT-20)."""
    async with world(settings=ON) as w:
        pool, alice = await w.wallet(), await w.wallet()
        await deposit(w, pool, await alice.deposits.key(), 21)
        (quote,) = await alice.deposits.find(MINT_URL)
        await pool._context.storage.transact(lambda tx: pool._context.store.save_mint_quote(tx, quote))
        with pytest.raises(QuoteSignatureInvalidError):
            await pool.claim(quote)
        assert await alice.claim(quote) == 21


@virtually
async def test_words_bring_deposits_back() -> None:
    """A wallet restored from words finds quotes paid meanwhile, far beyond the first keys, and never uses their keys again."""
    async with world(settings=ON) as w:
        pool, old = await w.wallet(), await w.wallet(words=WORDS)
        keys = [await old.deposits.key() for _ in range(90)]
        await deposit(w, pool, keys[3], 21)
        await deposit(w, pool, keys[45], 42)
        await deposit(w, pool, keys[89], 84)
        new = await w.wallet(words=WORDS)
        await new.restore([MINT_URL])
        report = await new.check_pending()
        assert report.minted == {"sat": 147}
        assert (await new.balance()).available == 147
        assert await new.deposits.key() not in keys
        late = await new.mint_quote(5)
        assert late.key_index is not None
        assert late.key_index > 90  # a restore leaves a gap of keys behind, whether the mint told of quotes or not
        assert len(await new.deposits.find(MINT_URL)) == 4


@virtually
async def test_coins_come_back_whatever_becomes_of_deposits() -> None:
    """A mint that fails the question about deposits does not fail the restore of coins; it is noted."""
    async with world(settings=ON) as w:
        old = await w.wallet(words=WORDS)
        await w.fund(old, 100)
        new = await w.wallet(words=WORDS)
        w.faults.plant("before", "ask", *[UnavailableError("gone", retry_after_s=0.01)] * 9)
        (restored,) = await new.restore([MINT_URL])
        assert restored.amount == 100
        assert any(name == "wallet_deposits_not_found" for name, _ in w.pages.events)


@virtually
async def test_unknown_mints_are_not_trusted_by_the_way() -> None:
    """Looking for deposits, or checking what is owed, adds no mint to those the owner trusts."""
    async with world(settings=ON) as w:
        alice = await w.wallet(trusted=False)
        for work in (alice.deposits.find(MINT_URL), alice.deposits.request(1, "02" + "11" * 32, mint=MINT_URL)):
            with pytest.raises((MintUnknownError, QuotePubkeyRequiredError)):
                await work
        with pytest.raises(MintUnknownError):
            await alice.liabilities.verify(MINT_URL)
        assert await alice.mints() == []


@virtually
async def test_mints_that_do_not_tell() -> None:
    """A mint without the draft, or with an older text of it, is told apart; restoring from it works all the same."""
    async with world() as w:
        alice = await w.wallet()
        with pytest.raises(UnsupportedError):
            await alice.deposits.find(MINT_URL)
        assert await alice.restore([MINT_URL])
        for old in ({"supported": True}, {"supported": True, "max_pubkeys": 50}, {"supported": False}, "yes"):
            w.faults.change = _announcing(old)
            with pytest.raises(UnsupportedError):
                await alice.deposits.find(MINT_URL)


def _announcing(setting: object) -> Any:
    def change(verb: str, answer: Any) -> Any:
        if verb == "info":
            return msgspec.structs.replace(answer, nuts=dict(answer.nuts) | {"XX": setting, "20": {"supported": False}})
        return answer

    return change


@virtually
async def test_asking_for_others_is_checked() -> None:
    """Wrong keys and amounts are refused before anything is asked, and a mint that locks to another key is at fault."""
    async with world(settings=ON) as w:
        pool, alice = await w.wallet(), await w.wallet()
        key = await alice.deposits.key()
        with pytest.raises(MalformedError):
            await pool.deposits.request(0, key, mint=MINT_URL)
        with pytest.raises(Exception, match="point"):
            await pool.deposits.request(1, "02" + "00" * 32, mint=MINT_URL)
        other = await pool.deposits.key()

        def swapped(verb: str, answer: Any) -> Any:
            return msgspec.structs.replace(answer, pubkey=other) if verb == "request_mint_quote" else answer

        w.faults.change = swapped
        with pytest.raises(PeerFaultError):
            await pool.deposits.request(1, key, mint=MINT_URL)
        w.faults.change = _announcing({"supported": True, "max_pubkeys": 1, "max_page_size": 1})
        await pool.add_mint(MINT_URL)
        with pytest.raises(UnsupportedError):
            await pool.deposits.request(1, key, mint=MINT_URL)


@virtually
async def test_hostile_answers() -> None:
    """Quotes of other keys, other methods, lists without an end, cursors that go in a ring, and no JSON: the mint's fault."""
    async with world(settings=ON) as w:
        pool, alice = await w.wallet(), await w.wallet()
        await deposit(w, pool, await alice.deposits.key(), 21)
        truth: list[bytes] = []
        w.faults.change = lambda verb, answer: truth.append(answer) or answer if verb == "ask" else answer
        await alice.deposits.find(MINT_URL)
        page = wire.quote_page_from_json(truth[0], method="bolt11")
        body = json.loads(truth[0])
        quote = body["quotes"][0]
        assert page.quotes[0].quote == quote["quote"]
        for lie in (
            {"quotes": [quote | {"pubkey": await pool.deposits.key()}]},
            {"quotes": [quote | {"pubkey": "zz"}]},
            {"quotes": [quote | {"pubkey": None}]},
            {"quotes": [quote | {"method": "bolt12"}]},
            {"quotes": [], "next_cursor": "more"},
            {"quotes": [quote], "next_cursor": "ring"},
            {"quotes": [{"quote": "q"}]},
            [],
        ):

            async def ask(*path: str, lie: Any = lie, **rest: Any) -> bytes:
                return json.dumps(lie).encode()

            w.client.ask = ask  # type: ignore[method-assign,assignment]
            with pytest.raises(PeerFaultError):
                await alice.deposits.find(MINT_URL)
        w.faults.change = _no_key
        with pytest.raises(PeerFaultError):
            await alice.deposits.find(MINT_URL)


def _no_key(verb: str, answer: Any) -> Any:
    return msgspec.structs.replace(answer, pubkey=None) if verb == "info" else answer


@virtually
async def test_one_claim_that_fails_keeps_no_other_back() -> None:
    """A claim whose answer was lost is reported and resumed; the other deposit is claimed at once."""
    async with world(settings=ON) as w:
        pool, alice = await w.wallet(), await w.wallet()
        for amount in (21, 42):
            await deposit(w, pool, await alice.deposits.key(), amount)
        w.faults.plant("after", "issue", *[UncertainError("lost")] * 3)
        results = await alice.deposits.claim(MINT_URL)
        assert sorted(bool(one.error) for one in results) == [False, True]
        await alice.resume()
        assert (await alice.balance()).available == 63


@virtually
async def test_a_crash_while_finding() -> None:
    """Killed before the quotes are stored or after, the next look and claim have them all, once."""
    for before in (True, False):
        async with world(settings=ON) as w:
            pool, inner = await w.wallet(), await memory_storage()
            alice = await w.wallet(inner)
            await deposit(w, pool, await alice.deposits.key(), 21)
            mortal = MortalStorage(inner)
            alice._context.storage = mortal
            mortal.at, mortal.before = 2, before
            with pytest.raises(Died):
                await alice.deposits.find(MINT_URL)
            alice._context.storage = inner
            assert len(await alice.mint_quotes()) == (0 if before else 1)
            assert [one.claimed for one in await alice.deposits.claim(MINT_URL)] == [21]
            assert (await alice.balance()).available == 21
