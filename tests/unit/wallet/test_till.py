"""Tokens taken for resources (NUT-24): once, for one resource, honoured again, and safe at every crash."""

from __future__ import annotations

import asyncio
from dataclasses import replace as with_fields

import pytest
from msgspec.structs import replace

from specie.ecash import (
    PaymentMismatchError,
    PaymentRequest,
    ProofState,
    State,
    Token,
    decode_token,
    encode_token,
    resolve_token,
)
from specie.ecash.requests import Mismatch
from specie.kernel import MalformedError, PeerFaultError, RefusedError, UnavailableError, UncertainError
from specie.kernel.hd import words_from_entropy
from specie.mint import MintSettings
from specie.wallet import P2PK, Wallet
from specie.wallet.errors import TokenUsedError
from specie.wallet.paid import Settle, TakingState, resource_name
from tests.support.coins import public_key
from tests.support.wallets import MINT_URL, SETTINGS, Died, MortalStorage, memory_storage, virtually, world

PAGE, OTHER = "GET /page", "GET /other"


async def text_of(payer: Wallet, amount: int, request: PaymentRequest | None = None) -> str:
    """A token of the payer's, locked as the request asks."""
    lock = None if request is None or request.lock is None else P2PK((request.lock.data,))
    return (await payer.send(amount, lock=lock)).text


@virtually
async def test_one_payment_one_resource() -> None:
    """A token pays for its resource and for no other; again it gives the same one, without a second payment, a few times."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request = await shop.till.request(21)
        assert (request.amount, request.unit, request.mints, request.lock) == (21, "sat", (MINT_URL,), None)
        text = await text_of(payer, 21)
        first = await shop.till.take(text, request, PAGE)
        assert (first.state, first.amount, first.deliveries, first.answered_at) == (TakingState.TAKEN, 21, 1, None)
        await shop.till.answered(first.name)
        swaps = w.faults.calls.count("swap")
        again = await shop.till.take(encode_token(resolved(await keysets(shop), text), version=3), request, PAGE)
        assert (again.name, again.deliveries) == (first.name, 2)
        with pytest.raises(TokenUsedError):
            await shop.till.take(text, request, OTHER)
        for _ in range(3):
            await shop.till.take(text, request, PAGE)
        with pytest.raises(TokenUsedError):
            await shop.till.take(text, request, PAGE)
        assert w.faults.calls.count("swap") == swaps
        assert (await shop.balance()).available == 21
        (listed,) = await shop.till.takings()
        assert (listed.resource, listed.deliveries) == (PAGE, 5)
        await payer.check_pending()
        await w.books_hold(shop, payer)


async def keysets(wallet: Wallet) -> list[object]:
    return [known.keyset for known in (await wallet.mints())[0].keysets]


def resolved(known: list[object], text: str) -> Token:
    return resolve_token(decode_token(text), known)  # type: ignore[arg-type]


@virtually
async def test_the_time_of_honouring_begins_with_the_answer() -> None:
    """Unanswered, a token is honoured for as long as it takes; answered, for `honour_s` seconds and no longer."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request, text = await shop.till.request(5), await text_of(payer, 5)
        taking = await shop.till.take(text, request, PAGE)
        await shop.till.released(taking.name)
        w.clock.skip(100_000)
        taking = await shop.till.take(text, request, PAGE)
        assert taking.deliveries == 1
        await shop.till.answered(taking.name)
        w.clock.skip(600)
        await shop.till.answered(taking.name)  # a second answer does not begin the time anew
        assert (await shop.till.take(text, request, PAGE)).deliveries == 2
        w.clock.skip(1)
        with pytest.raises(TokenUsedError):
            await shop.till.take(text, request, PAGE)


@virtually
async def test_what_does_not_fit_stays_the_payers() -> None:
    """Too little, another unit, mint or lock, a wrong proof, nonsense: refused before the mint is asked, no trace is left."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        plain, locked = await shop.till.request(21), await shop.till.request(21, locked=True)
        good = resolved(await keysets(payer), await text_of(payer, 21))
        forged = replace(good.proofs[0], dleq=good.proofs[1].dleq)
        calls = len(w.faults.calls)
        cases: list[tuple[str, PaymentRequest, Mismatch]] = [
            (encode_token(replace(good, proofs=good.proofs[:1])), plain, Mismatch.AMOUNT),
            (encode_token(good), replace(plain, amount=22), Mismatch.AMOUNT),
            (encode_token(good), replace(plain, unit="usd"), Mismatch.UNIT),
            (encode_token(replace(good, mint="http://other.test")), plain, Mismatch.MINT),
            (encode_token(good), replace(plain, mints=("http://other.test",)), Mismatch.MINT),
            (encode_token(good), locked, Mismatch.LOCK),
        ]
        for text, request, reason in cases:
            with pytest.raises(PaymentMismatchError) as caught:
                await shop.till.take(text, request, PAGE)
            assert caught.value.reason is reason
        for nonsense in ("", "cashuB", "cashuAe30", "creqA", "x" * 100, encode_token(good) + "AAAA"):
            with pytest.raises(MalformedError):
                await shop.till.take(nonsense, plain, PAGE)
        with pytest.raises(RefusedError):
            await shop.till.take(encode_token(replace(good, proofs=(forged, *good.proofs[1:]))), plain, PAGE)
        bare = replace(good, proofs=tuple(replace(proof, dleq=None) for proof in good.proofs))
        with pytest.raises(PaymentMismatchError) as caught:
            await shop.till.take(encode_token(bare), plain, PAGE)
        assert caught.value.reason is Mismatch.DLEQ
        assert len(w.faults.calls) == calls
        assert await shop.till.takings() == []
        assert (await shop.till.take(encode_token(good), plain, PAGE)).amount == 21


@virtually
async def test_locks_of_others_are_refused() -> None:
    """A token that is locked though no lock was asked for, or to another key, is not taken; one to our key is."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        plain, locked = await shop.till.request(4), await shop.till.request(4, locked=True)
        assert locked.lock is not None
        assert locked.lock.data == await shop.till.key() == (await shop.till.request(9, locked=True)).lock.data  # type: ignore[union-attr]
        foreign = (await payer.send(4, lock=P2PK((public_key("eve").hex(),)))).text
        ours = await text_of(payer, 4, locked)
        for text, request in ((foreign, locked), (foreign, plain), (ours, plain)):
            with pytest.raises(PaymentMismatchError) as caught:
                await shop.till.take(text, request, PAGE)
            assert caught.value.reason is Mismatch.LOCK
        assert (await shop.till.take(ours, locked, PAGE)).amount == 4


@virtually
async def test_two_at_once_are_one_payment() -> None:
    """The same token ten times at the same moment: one swap, one amount; beyond the deliveries the others are refused."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request, text = await shop.till.request(8), await text_of(payer, 8)
        done = await asyncio.gather(*(shop.till.take(text, request, PAGE) for _ in range(10)), return_exceptions=True)
        assert sorted(type(one).__name__ for one in done) == ["Taking"] * 5 + ["TokenUsedError"] * 5
        assert w.faults.calls.count("swap") == 2  # the payer's own and ours
        assert (await shop.balance()).available == 8
        assert shop.till._locks == {}


@virtually
async def test_spent_elsewhere() -> None:
    """A token that somebody else redeemed is refused and leaves no trace."""
    async with world() as w:
        shop, payer, other = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request = await shop.till.request(5)
        text = await text_of(payer, 5)
        await other.receive(text)
        for _ in range(2):
            with pytest.raises(TokenUsedError):
                await shop.till.take(text, request, PAGE)
        assert await shop.till.takings() == []


@virtually
async def test_strangers_use_up_no_secrets_of_the_seed() -> None:
    """Made-up, spent and busy coins are refused before a swap is tried, so that no gap of counters ends a later restore."""
    async with world() as w:
        shop, payer, other = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request, known = await shop.till.request(5), await keysets(shop)
        good = resolved(known, await text_of(payer, 5))
        made_up = replace(good, proofs=tuple(replace(p, secret=f"{n}", dleq=None) for n, p in enumerate(good.proofs)))
        await other.receive(encode_token(good))
        keyset = good.proofs[0].id
        for token in (good, made_up):
            for _ in range(5):
                with pytest.raises(RefusedError):
                    await shop.till.take(encode_token(token), request, PAGE)
        fresh = resolved(known, await text_of(payer, 6))

        def busy(verb: str, answer: object) -> object:
            return [ProofState(one.Y, State.PENDING) for one in answer] if verb == "check_state" else answer  # type: ignore[attr-defined]

        w.faults.change = busy
        with pytest.raises(UnavailableError):
            await shop.till.take(encode_token(fresh), request, PAGE)
        store, storage = shop._context.store, shop._context.storage
        assert await storage.read(lambda tx: store.counter(tx, MINT_URL, keyset)) == 0
        assert await shop.till.takings() == []


@virtually
async def test_tokens_that_share_a_coin() -> None:
    """A second token made of a taken coin and a fresh one is refused whole; the fresh coin stays the payer's."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request = await shop.till.request(4)
        known = await keysets(payer)
        first, second = resolved(known, await text_of(payer, 4)), resolved(known, await text_of(payer, 16))
        await shop.till.take(encode_token(first), request, PAGE)
        mixed = replace(second, proofs=(*first.proofs, *second.proofs))
        with pytest.raises(TokenUsedError):
            await shop.till.take(encode_token(mixed), request, OTHER)
        assert (await payer.receive(encode_token(second))).amount == 16


@virtually
async def test_a_forgotten_token_is_spent_all_the_same() -> None:
    """What the wallet redeemed earlier, for a resource or not, does not pay again once its taking is forgotten."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request, text, given = await shop.till.request(5), await text_of(payer, 5), await text_of(payer, 6)
        await shop.receive(given)
        await shop.till.take(text, request, PAGE)
        w.clock.skip(1000)
        assert await shop.till.forget(999) == 1
        for used in (text, given):
            for _ in range(2):
                with pytest.raises(TokenUsedError):
                    await shop.till.take(used, request, PAGE)
        assert await shop.till.takings() == []


@virtually
async def test_a_mint_that_cannot_be_reached() -> None:
    """Nothing happened: nothing is written, and the same token is taken once the mint is back."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request, text = await shop.till.request(5), await text_of(payer, 5)
        w.faults.plant("before", "swap", *[UnavailableError("down")] * SETTINGS.retry.attempts)
        with pytest.raises(UnavailableError):
            await shop.till.take(text, request, PAGE)
        assert await shop.till.takings() == []
        assert (await shop.till.take(text, request, PAGE)).state is TakingState.TAKEN


@virtually
@pytest.mark.parametrize("fault", [UncertainError("lost"), PeerFaultError("nonsense", peer=MINT_URL)])
async def test_an_answer_that_was_lost(fault: Exception) -> None:
    """The mint swapped and its answer never came: the payer is told to come again, and then has paid once."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request, text = await shop.till.request(5), await text_of(payer, 5)
        w.faults.plant("after", "swap", *[fault] * SETTINGS.retry.attempts)
        w.faults.plant("before", "restore", *[UnavailableError("down")] * SETTINGS.retry.attempts)
        with pytest.raises(UnavailableError):
            await shop.till.take(text, request, PAGE)
        (begun,) = await shop.till.takings()
        assert begun.state is TakingState.BEGUN
        with pytest.raises(TokenUsedError):
            await shop.till.take(text, request, OTHER)
        assert (await shop.till.take(text, request, PAGE)).state is TakingState.TAKEN
        assert (await shop.balance()).available == 5
        await payer.check_pending()
        await w.books_hold(shop, payer)


def words_of(number: int) -> str:
    return words_from_entropy(number.to_bytes(16, "big"))


@virtually
@pytest.mark.parametrize("settle", list(Settle))
@pytest.mark.parametrize("before", [True, False])
async def test_dies_at_every_commit(before: bool, settle: Settle) -> None:
    """Killed at any commit of a taking: after the restart the same token gets the resource, and is paid for once."""
    for at in range(1, 60):
        async with world() as w:
            mortal = MortalStorage(await memory_storage())
            shop, payer = await w.wallet(mortal), await w.wallet()
            await w.fund(payer, 100)
            request = await shop.till.request(21, locked=settle is Settle.LATER)
            text = await text_of(payer, 21, request)
            mortal.commits, mortal.at, mortal.before = 0, at, before
            try:
                await shop.till.take(text, request, PAGE, settle=settle, cap=100)
                finished = True
            except Died:
                finished = False
            again = await w.wallet(mortal.inner, words=words_of(1), trusted=False)
            if at % 2:
                await again.resume()
            taking = await again.till.take(text, request, PAGE, settle=settle, cap=100)
            assert taking.state is TakingState.TAKEN
            assert (await again.balance()).total == 21
            await again.secure()
            assert (await again.balance()).available == 21
            await payer.check_pending()
            await w.books_hold(again, payer)
        if finished:
            break
    else:
        pytest.fail("the taking never came to its end")


@virtually
async def test_taken_later_without_the_mint() -> None:
    """Locked to our key and proven by DLEQ, a token is taken while the mint is away; beyond the cap it is swapped at once."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request = await shop.till.request(8, locked=True)
        texts = [await text_of(payer, 8, request) for _ in range(3)]
        calls = len(w.faults.calls)
        for number, text in enumerate(texts[:2]):
            taking = await shop.till.take(text, request, f"GET /{number}", settle=Settle.LATER, cap=16)
            assert taking.settle is Settle.LATER
        assert len(w.faults.calls) == calls
        assert (await shop.balance()).unswapped == 16
        await shop.till.take(texts[2], request, "GET /2", settle=Settle.LATER, cap=16)
        balance = await shop.balance()
        assert (balance.unswapped, balance.available) == (16, 8)
        with pytest.raises(TokenUsedError):
            await shop.till.take(texts[0], request, "GET /9", settle=Settle.LATER, cap=100)
        assert await shop.secure() == 16
        await payer.check_pending()
        await w.books_hold(shop, payer)


@virtually
async def test_later_insists_on_proofs() -> None:
    """Without the mint only DLEQ says that a coin is real: one that carries none is refused."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request = await shop.till.request(8, locked=True)
        token = resolved(await keysets(payer), await text_of(payer, 8, request))
        bare = encode_token(replace(token, proofs=tuple(replace(proof, dleq=None) for proof in token.proofs)))
        with pytest.raises(PaymentMismatchError) as caught:
            await shop.till.take(bare, request, PAGE, settle=Settle.LATER, cap=100)
        assert caught.value.reason is Mismatch.DLEQ


@virtually
async def test_prices_that_cannot_be_asked() -> None:
    """No mint, an unknown one, a unit that no mint has, nothing at all: there is no request."""
    async with world() as w:
        shop, stranger = await w.wallet(), await w.wallet(trusted=False)
        for asked in (
            stranger.till.request(5),
            shop.till.request(5, unit="usd"),
            shop.till.request(5, mints=["http://x.test"]),
        ):
            with pytest.raises(RefusedError):
                await asked
        for amount in (0, -1, 2**64):
            with pytest.raises(MalformedError):
                await shop.till.request(amount)


@virtually
async def test_a_fee_that_eats_the_price_is_refused() -> None:
    """The payee bears the input fee; where it is as much as the coins, the token is not taken and stays the payer's."""
    async with world(settings=MintSettings(input_fee_ppk=1000)) as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request, text = await shop.till.request(1), await text_of(payer, 1)
        with pytest.raises(RefusedError):
            await shop.till.take(text, request, PAGE)
        taken = await shop.till.take(await text_of(payer, 16), replace(request, amount=16), PAGE)
        assert taken.amount == 16
        assert (await shop.balance()).available == 15


@virtually
async def test_unknown_keysets_do_not_make_us_ask_the_mint_again_and_again() -> None:
    """A token of a keyset that nobody has is refused; the mint is asked about it once in a while, not for every token."""
    async with world() as w:
        shop, payer = await w.wallet(), await w.wallet()
        await w.fund(payer, 100)
        request = await shop.till.request(4)
        token = resolved(await keysets(payer), await text_of(payer, 4))
        alien = encode_token(replace(token, proofs=tuple(replace(proof, id="00" + "ab" * 7) for proof in token.proofs)))
        w.clock.skip(60)
        calls = len(w.faults.calls)
        for _ in range(5):
            with pytest.raises(RefusedError):
                await shop.till.take(alien, request, PAGE)
        assert len(w.faults.calls) - calls == 2
        await w.bank.mint.rotate_keyset("sat")
        await payer.add_mint(MINT_URL)
        await w.fund(payer, 64)
        fresh = await text_of(payer, 64)
        w.clock.skip(60)
        assert (await shop.till.take(fresh, request, PAGE)).amount == 64


@virtually
async def test_many_coins_are_refused() -> None:
    """A header full of small coins is bounded by their number, too."""
    async with world() as w:
        shop = await w.wallet()
        payer = await w.wallet(settings=with_fields(SETTINGS, change_pieces=200))
        await w.fund(payer, 200)
        request = await shop.till.request(1)
        token = resolved(await keysets(payer), (await payer.send(150)).text)
        coin = token.proofs[0]
        swollen = replace(token, proofs=tuple(replace(coin, secret=f"{n}") for n in range(101)))
        with pytest.raises(MalformedError):
            await shop.till.take(encode_token(swollen), request, PAGE)


def test_long_resources_keep_their_difference() -> None:
    """Names are bounded, and two long ones that differ at their end differ."""
    one, other = resource_name("GET /" + "x" * 1000), resource_name("GET /" + "x" * 999 + "y")
    assert one != other
    assert len(one) == 565
    assert resource_name("GET /x") == "GET /x"
