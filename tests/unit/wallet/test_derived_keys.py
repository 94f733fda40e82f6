"""Keys of the seed (NUT-11, NUT-20): the paths every wallet uses, and what comes back with the words."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from specie.ecash import MintQuote, p2pk_secret_key, quote_secret_key
from specie.ecash.codes import QuoteSignatureInvalidError
from specie.kernel import PeerFaultError, RefusedError, curve
from specie.kernel.hd import seed_from_words
from specie.storage.adapters.sqlite import SqliteStorage
from specie.wallet import P2PK
from specie.wallet.adapters.schema import MIGRATIONS
from specie.wallet.adapters.store_sql import SqlWalletStore
from specie.wallet.errors import MintUnknownError, QuoteUnknownError
from tests.support.wallets import MINT_URL, SETTINGS, virtually, world

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


@virtually
async def test_keys_follow_the_merged_paths_and_never_repeat() -> None:
    """p2pk_key n is m/129373'/10'/0'/0'/n, the lock of quote n is m/129373'/20'/0'/0'/n, counted in the store."""
    seed = seed_from_words(WORDS)
    async with world() as w:
        alice = await w.wallet(words=WORDS)
        for counter in range(5):
            assert await alice.p2pk_key() == curve.public_key(p2pk_secret_key(seed, counter)).hex()
            quote = await alice.mint_quote(5)
            assert quote.key_index == counter
            seen = await w.client.mint_quote(MintQuote(quote.quote, "bolt11", "", "sat"))
            assert seen.pubkey == curve.public_key(quote_secret_key(seed, counter)).hex()


@virtually
async def test_a_quote_paid_while_the_wallet_was_lost() -> None:
    """The words and the quote's id are enough: the lock's key is found again and the quote claimed, once."""
    async with world() as w:
        old, eve = await w.wallet(words=WORDS), await w.wallet()
        quotes = [await old.mint_quote(10 + number) for number in range(3)]
        for quote in quotes:
            await w.pay(quote.request)
        with pytest.raises(QuoteUnknownError):
            await eve.recovery.mint_quote(quotes[2].quote, mint=MINT_URL)
        new = await w.wallet(words=WORDS, trusted=False)
        await new.restore([MINT_URL])
        for quote in (quotes[2], quotes[0]):
            found = await new.recovery.mint_quote(quote.quote, mint=MINT_URL)
            assert (found.key_index, found.claimable, found.amount) == (quote.key_index, quote.amount, quote.amount)
            assert await new.claim(found) == quote.amount
        again = await new.recovery.mint_quote(quotes[0].quote, mint=MINT_URL)
        assert again.claimable == 0
        assert (await new.balance()).available == 22
        assert (await new.mint_quote(5)).key_index == SETTINGS.key_gap
        await w.books_hold(new)


@virtually
async def test_quote_keys_are_found_without_a_restore_and_only_within_the_gap() -> None:
    """Behind the last known key, `key_gap` more are tried; a key that was found moves the next fresh one behind it."""
    async with world() as w:
        old = await w.wallet(words=WORDS)
        quotes = [await old.mint_quote(10) for _ in range(7)]
        for quote in quotes:
            await w.pay(quote.request)
        new = await w.wallet(words=WORDS, settings=replace(SETTINGS, key_gap=4))
        with pytest.raises(QuoteUnknownError):
            await new.recovery.mint_quote(quotes[6].quote, mint=MINT_URL)
        assert (await new.recovery.mint_quote(quotes[3].quote, mint=MINT_URL)).key_index == 3
        assert (await new.recovery.mint_quote(quotes[6].quote, mint=MINT_URL)).key_index == 6
        assert (await new.mint_quote(1)).key_index == 7
        assert (await new.check_pending()).minted == {"sat": 20}


@virtually
async def test_unlocked_and_unknown_quotes() -> None:
    """A quote without a lock is claimed by its id alone; an unknown id is the mint's refusal; another answer its fault."""
    async with world() as w:
        alice = await w.wallet()

        def unlocked(verb: str, answer: object) -> object:
            if isinstance(answer, MintQuote):
                return msgspec.structs.replace(answer, pubkey=None)
            return answer

        quote = await alice.mint_quote(8)
        await w.pay(quote.request)
        bob = await w.wallet()
        w.faults.change = unlocked
        found = await bob.recovery.mint_quote(quote.quote, mint=MINT_URL)
        assert found.key_index is None
        with pytest.raises(QuoteSignatureInvalidError):
            await bob.claim(found)
        w.faults.change = lambda verb, answer: answer
        with pytest.raises(MintUnknownError):
            await bob.recovery.mint_quote(quote.quote, mint="http://other.test")
        with pytest.raises(RefusedError):
            await bob.recovery.mint_quote("no such quote", mint=MINT_URL)
        w.faults.change = lambda verb, answer: (
            msgspec.structs.replace(answer, quote="other") if isinstance(answer, MintQuote) else answer
        )
        with pytest.raises(PeerFaultError):
            await (await w.wallet()).recovery.mint_quote(quote.quote, mint=MINT_URL)


@virtually
async def test_restored_twice_the_keys_in_between_still_open() -> None:
    """Keys handed out after a first restore lie behind the known ones; after a second restore they are found all the same."""
    async with world() as w:
        alice = await w.wallet()
        await w.fund(alice, 100)
        first = await w.wallet(words=WORDS)
        await first.restore()
        key = await first.p2pk_key()
        token = await alice.send(9, lock=P2PK((key,)))
        second = await w.wallet(words=WORDS)
        await second.restore()
        assert (await second.receive(token.text)).amount == 9
        assert await second.p2pk_key() != key


@virtually
async def test_an_older_wallet_file_is_brought_up_to_date() -> None:
    """A store of the first version keeps its keys and quotes: the old lock opens, and the old quote is claimed."""
    older, store = SqliteStorage(":memory:", inline=True), SqlWalletStore()
    await older.migrate(MIGRATIONS[:1])
    async with world() as w:
        alice, bob = await w.wallet(words=WORDS), await w.wallet()
        await w.fund(bob, 50)
        key = await alice.p2pk_key()
        token, quote = await bob.send(5, lock=P2PK((key,))), await alice.mint_quote(8)
        await w.pay(quote.request)
        await older.transact(lambda tx: store.save_key(tx, "p2pk", 0, bytes.fromhex(key)))
        await older.transact(lambda tx: store.save_mint_quote(tx, quote))
        await older.migrate(MIGRATIONS)
        again = await w.wallet(older, words=WORDS, settings=replace(SETTINGS, key_gap=0))
        assert (await again.receive(token.text)).amount == 5
        assert (await again.check_pending()).minted == {"sat": 8}
        blinded = await again.send(3, lock=P2PK((await bob.p2pk_key(),), blinded=True))
        assert (await bob.receive(blinded.text)).amount == 3
