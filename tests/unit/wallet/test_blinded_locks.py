"""Tokens locked to blinded keys (NUT-28): sent, redeemed, taken off-line, taken back; and what hostile ones can do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace as with_fields
from hashlib import sha256

import pytest
from msgspec.structs import replace

from specie.ecash import Proof, Token, decode_token, encode_token, parse_secret, resolve_token
from specie.ecash.p2bk import blind_key
from specie.kernel import MalformedError, UncertainError, curve
from specie.wallet import HTLC, P2PK, Wallet
from specie.wallet.errors import OperationOpenError, TokenLockedError
from tests.support.coins import public_key, secret_key
from tests.support.wallets import MINT_URL, SETTINGS, Died, MortalStorage, World, memory_storage, virtually, world

PREIMAGE = bytes(range(32))
DIGEST = sha256(PREIMAGE).hexdigest()


def nothing_reached_the_mint(w: World) -> None:
    """No request holds an ephemeral key."""
    assert w.faults.bodies
    for _, body in w.faults.bodies:
        assert b"p2pk_e" not in body


async def proofs_of(wallet: Wallet, text: str) -> tuple[Proof, ...]:
    keysets = [known.keyset for known in (await wallet.mints())[0].keysets]
    return resolve_token(decode_token(text), keysets).proofs


def as_token(proofs: Sequence[Proof]) -> str:
    return encode_token(Token(MINT_URL, "sat", tuple(proofs)))


@virtually
@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("sig_all", [False, True])
async def test_locked_to_a_blinded_key(sig_all: bool, offline: bool) -> None:
    """Only the key's holder redeems it, at once or after taking it off-line; the mint never sees his key or E."""
    async with world() as w:
        alice, bob, eve = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        key = await bob.p2pk_key()
        token = await alice.send(37, lock=P2PK((key,), sig_all=sig_all, blinded=True))
        assert token.locked
        coins = await proofs_of(alice, token.text)
        assert len({coin.p2pk_e for coin in coins}) == (1 if sig_all else len(coins))
        assert all(coin.p2pk_e is not None and key not in coin.secret for coin in coins)
        assert len({json.loads(coin.secret)[1]["data"] for coin in coins}) == (1 if sig_all else len(coins))
        assert len({json.loads(coin.secret)[1]["nonce"] for coin in coins}) == len(coins)
        for thief in (eve, alice):
            with pytest.raises(TokenLockedError):
                await thief.receive(token.text, offline=offline)
        await bob.receive(token.text, offline=offline)
        if offline:
            assert (await bob.balance()).unswapped == 37
            assert await bob.secure() == 37
        assert (await bob.balance()).available == 37
        assert not any(key.encode() in body for _, body in w.faults.bodies)
        nothing_reached_the_mint(w)
        await alice.check_pending()
        await w.books_hold(alice, bob, eve)


@virtually
@pytest.mark.parametrize("sig_all", [False, True])
async def test_refund_to_a_blinded_key(sig_all: bool) -> None:
    """The sender's refund key is blinded too, and takes the token back after the locktime, not before."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        back = await alice.p2pk_key()
        lock = P2PK((await bob.p2pk_key(),), locktime=w.clock.now() + 1000, refund=(back,), sig_all=sig_all, blinded=True)
        token = await alice.send(37, lock=lock)
        assert back not in token.text
        with pytest.raises(TokenLockedError):
            await alice.reclaim(token.text)
        w.clock.skip(1001)
        assert (await alice.reclaim(token.token_id)).amount == 37
        nothing_reached_the_mint(w)
        await w.books_hold(alice, bob)


@virtually
@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("sig_all", [False, True])
async def test_hash_lock_with_a_blinded_key(sig_all: bool, offline: bool) -> None:
    """The hash stays as it is, the key is blinded in slot 1; preimage and key together open it."""
    async with world() as w:
        alice, bob, eve = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        token = await alice.send(37, lock=HTLC(DIGEST, pubkeys=(await bob.p2pk_key(),), sig_all=sig_all, blinded=True))
        for coin in await proofs_of(alice, token.text):
            assert json.loads(coin.secret)[1]["data"] == DIGEST
        with pytest.raises(TokenLockedError):
            await eve.receive(token.text, preimage=PREIMAGE.hex())
        with pytest.raises(TokenLockedError):
            await bob.receive(token.text, offline=offline)
        await bob.receive(token.text, preimage=PREIMAGE.hex(), offline=offline)
        if offline:
            await bob.secure()
        assert (await bob.balance()).available == 37
        nothing_reached_the_mint(w)


@virtually
async def test_cosigner_who_is_also_the_refund_key() -> None:
    """One person in both pathways signs with the key of the right slot, before the locktime and after it."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        first, second = await bob.p2pk_key(), await bob.p2pk_key()
        until = w.clock.now() + 1000
        lock = P2PK((first, second), n_sigs=2, locktime=until, refund=(second, first), n_sigs_refund=2, blinded=True)
        early, late = await alice.send(5, lock=lock), await alice.send(9, lock=lock)
        assert (await bob.receive(early.text)).amount == 5
        w.clock.skip(1001)
        coins = await proofs_of(alice, late.text)
        assert all(coin.p2pk_e is not None for coin in coins)
        assert (await bob.receive(late.text)).amount == 9
        only_back = P2PK((public_key("nobody").hex(),), locktime=w.clock.now() - 1, refund=(second,), blinded=True)
        assert (await bob.receive((await alice.send(7, lock=only_back)).text)).amount == 7


@virtually
async def test_x_only_and_odd_keys() -> None:
    """A key given x-only, or with the other parity, is opened by its holder: the sign of his secret is turned (NUT-28)."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        for _ in range(4):
            key = bytes.fromhex(await bob.p2pk_key())
            for named in (curve.x_only(key), curve.negate(key)):
                token = await alice.send(3, lock=P2PK((named.hex(),), blinded=True))
                assert (await bob.receive(token.text)).amount == 3


@virtually
async def test_two_of_two_people() -> None:
    """Neither of two cosigners opens it alone, though each finds his own key in it."""
    async with world() as w:
        alice, bob, carol = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        lock = P2PK((await bob.p2pk_key(), await carol.p2pk_key()), n_sigs=2, blinded=True)
        token = await alice.send(4, lock=lock)
        for one in (bob, carol):
            with pytest.raises(TokenLockedError):
                await one.receive(token.text)


@virtually
async def test_locks_that_are_not_blinded() -> None:
    """Keys that stand twice, more keys than slots, or no key: refused before a coin is touched."""
    async with world() as w:
        alice = await w.wallet()
        await w.fund(alice, 100)
        key = await alice.p2pk_key()
        names = tuple(public_key(number).hex() for number in range(12))
        for lock in (
            P2PK((key, key), blinded=True),
            P2PK((key,), locktime=w.clock.now(), refund=(names[0], names[0]), blinded=True),
            P2PK((key, "02" + key[2:], "03" + key[2:]), blinded=True),
            P2PK(names, blinded=True),
            P2PK(names[:6], locktime=w.clock.now(), refund=names[6:12], blinded=True),
            P2PK((), blinded=True),
            P2PK(("02" + "05".rjust(64, "0"),), blinded=True),
            HTLC(DIGEST, blinded=True),
            HTLC(DIGEST, pubkeys=names[:11], blinded=True),
        ):
            with pytest.raises(MalformedError):
                await alice.send(37, lock=lock)
        assert (await alice.balance()).available == 100
        for lock in (P2PK(names[:11], blinded=True), HTLC(DIGEST, pubkeys=names[:10], blinded=True)):
            assert (await alice.send(1, lock=lock)).amount == 1


@virtually
async def test_hostile_ephemeral_keys() -> None:
    """Another's, a foreign or an own key as p2pk_e opens nothing and loses nothing; what is no point is no token."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        key = await bob.p2pk_key()
        token = await alice.send(8, lock=P2PK((key,), blinded=True))
        (coin,) = await proofs_of(alice, token.text)
        assert coin.p2pk_e is not None
        for wrong in (None, public_key("eve"), bytes.fromhex(key), coin.C):
            for offline in (False, True):
                with pytest.raises(TokenLockedError):
                    await bob.receive(as_token([replace(coin, p2pk_e=wrong)]), offline=offline)
        for nonsense in (b"", b"\x02", bytes(33), b"\x02" + (5).to_bytes(32, "big"), coin.p2pk_e + b"\x00"):
            with pytest.raises(MalformedError):
                await bob.receive(as_token([replace(coin, p2pk_e=nonsense)]))
        # E with the other parity shares the same x coordinate, so it opens the lock all the same
        assert (await bob.receive(as_token([replace(coin, p2pk_e=curve.negate(coin.p2pk_e))]))).amount == 8
        nothing_reached_the_mint(w)


@virtually
async def test_an_ephemeral_key_on_coins_that_need_none() -> None:
    """Whoever passes a token on may add one: ordinary coins and plain locks are redeemed, and it stays out of requests."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        for lock in (None, P2PK((await bob.p2pk_key(),))):
            coins = await proofs_of(alice, (await alice.send(5, lock=lock)).text)
            marked = [replace(coin, p2pk_e=public_key("eve")) for coin in coins]
            assert (await bob.receive(as_token(marked))).amount == 5
        nothing_reached_the_mint(w)


@virtually
async def test_coins_blinded_for_several_of_our_keys() -> None:
    """A token whose coins are for different keys of ours, some plain, is redeemed whole."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        coins: list[Proof] = []
        for number in range(6):
            lock = P2PK((await bob.p2pk_key(),), blinded=number % 2 == 0)
            coins += await proofs_of(alice, (await alice.send(4 + number, lock=lock)).text)
        got = await bob.receive(as_token(coins))
        assert got.amount == sum(range(4, 10))


@virtually
async def test_lock_with_more_slots_than_there_are() -> None:
    """A foreign lock with 12 keys is opened by a plain key of ours in the last place; a blinded one there is not looked for."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        names = tuple(public_key(number).hex() for number in range(11))
        token = await alice.send(4, lock=P2PK((*names, await bob.p2pk_key())))
        (coin,) = await proofs_of(alice, token.text)
        assert (await bob.receive(as_token([replace(coin, p2pk_e=public_key("e"))]))).amount == 4


@virtually
async def test_every_crash_of_a_blinded_send_keeps_the_ephemeral_key() -> None:
    """Killed at any commit of the send and resumed, the token on record can still be opened by its receiver."""
    for before in (True, False):
        for at in range(1, 40):
            async with world() as w:
                mortal = MortalStorage(await memory_storage())
                alice, bob = await w.wallet(mortal), await w.wallet()
                await w.fund(alice, 100)
                lock = P2PK((await bob.p2pk_key(),), blinded=True)
                mortal.commits, mortal.at, mortal.before = 0, at, before
                try:
                    await alice.send(37, lock=lock)
                    finished = True
                except Died:
                    finished = False
                again = await w.wallet(mortal.inner, words=words_of(1), trusted=False)
                await again.resume()
                for token in await again.tokens():
                    assert (await bob.receive(token.text)).amount == 37
                await again.check_pending()
                await w.books_hold(again, bob)
            if finished:
                break
        else:
            pytest.fail("the send never came to its end")


def words_of(number: int) -> str:
    from specie.kernel.hd import words_from_entropy

    return words_from_entropy(number.to_bytes(16, "big"))


@virtually
async def test_lost_answer_of_a_blinded_send() -> None:
    """The mint swapped and its answer was lost: what `resume` restores carries the ephemeral key."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        lock = P2PK((await bob.p2pk_key(),), blinded=True)
        w.faults.plant("after", "swap", *[UncertainError("lost")] * SETTINGS.retry.attempts)
        with pytest.raises(OperationOpenError):
            await alice.send(37, lock=lock)
        await alice.resume()
        (token,) = await alice.tokens()
        assert (await bob.receive(token.text)).amount == 37


@virtually
async def test_keys_beyond_the_known_ones_are_looked_for() -> None:
    """A wallet brought back from its words opens locks to keys it does not list, plain or blinded, within the gap."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet(words=words_of(77))
        await w.fund(alice, 100)
        keys = [await bob.p2pk_key() for _ in range(9)]
        plain = await alice.send(5, lock=P2PK((keys[8],)))
        hidden = await alice.send(6, lock=P2PK((keys[6],), blinded=True))
        far = await alice.send(7, lock=P2PK((await bob.p2pk_key(),), blinded=True))
        back = await w.wallet(words=words_of(77), settings=with_fields(SETTINGS, key_gap=7))
        with pytest.raises(TokenLockedError):
            await back.receive(plain.text)
        assert (await back.receive(hidden.text)).amount == 6
        assert (await back.receive(plain.text)).amount == 5
        assert (await back.receive(far.text)).amount == 7
        assert await back.p2pk_key() not in keys


def test_the_secret_of_a_foreign_lock() -> None:
    """What another wallet blinds for slot 0 reads as an ordinary lock."""
    blinded = blind_key(public_key("bob"), secret_key("e"), 0)
    condition = parse_secret(json.dumps(["P2PK", {"nonce": "00" * 16, "data": blinded.hex(), "tags": []}]))
    assert condition is not None
    assert condition.keys == (blinded,)
