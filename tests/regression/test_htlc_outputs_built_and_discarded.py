"""The mistake: locked outputs are built, and then ordinary ones are sent; or the locked ones are forgotten after a crash.

Somebody who sends against a hash believes that only the preimage opens the token. If the outputs that were signed are others
than those that were built, the token is anyone's; if their secrets are only in memory, a crash burns the money, for no seed
gives a locked secret again.
"""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from specie.ecash import BlindedMessage, Token, decode_token
from specie.ecash.conditions import parse_secret
from specie.ecash.token import resolve_token
from specie.kernel import SpecieError, UncertainError
from specie.wallet import HTLC, P2PK
from specie.wallet.errors import OperationOpenError, TokenLockedError
from tests.support.virtual import run_virtual
from tests.support.wallets import Died, MortalStorage, World, memory_storage, virtually, world

PREIMAGE = b"\x42" * 32
HASH = sha256(PREIMAGE).hexdigest()
LOST = UncertainError("the answer was lost")
WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


def opened(w: World, text: str) -> Token:
    return resolve_token(decode_token(text), w.bank.mint.keysets())


def locked_amounts(w: World, text: str) -> list[int]:
    """Amounts of a token's coins; each of them must be locked to HASH."""
    token = opened(w, text)
    conditions = [parse_secret(proof.secret) for proof in token.proofs]
    assert all(condition is not None and condition.hash == bytes.fromhex(HASH) for condition in conditions)
    assert len({proof.secret for proof in token.proofs}) == len(token.proofs)
    return sorted(proof.amount for proof in token.proofs)


@virtually
async def test_what_was_built_is_what_was_signed_and_sent() -> None:
    """Every coin of the token is locked to the hash and was among the outputs of the one swap; the rest stays ours."""
    async with world() as w:
        wallet, other = await w.wallet(), await w.wallet()
        await w.fund(wallet, 100)
        token = await wallet.send(37, lock=HTLC(HASH))
        assert sum(locked_amounts(w, token.text)) == 37
        (body,) = [body for verb, body in w.faults.bodies if verb == "swap"]
        outputs = [BlindedMessage(1, one["id"], bytes.fromhex(one["B_"])) for one in json.loads(body)["outputs"]]
        signed = await w.bank.mint.restore(outputs)
        assert len(signed) == len(outputs)
        balance = await wallet.balance()
        assert (balance.available, balance.sent) == (63, 37)
        with pytest.raises(TokenLockedError):
            await other.receive(token.text)
        with pytest.raises(TokenLockedError):
            await other.receive(token.text, preimage="00" * 32)
        assert (await other.receive(token.text, preimage=PREIMAGE.hex())).amount == 37
        await wallet.check_pending()
        await w.books_hold(wallet, other)


@virtually
async def test_exact_coins_are_not_handed_out_in_place_of_locked_ones() -> None:
    """Coins that make the amount exactly lie ready: a locked send swaps all the same, and the mint enforces the lock."""
    async with world() as w:
        wallet, thief = await w.wallet(), await w.wallet()
        await w.fund(wallet, 64)
        for lock in (HTLC(HASH), P2PK((await wallet.p2pk_key(),))):
            token = await wallet.send(16, lock=lock)
            assert token.locked
            with pytest.raises(TokenLockedError):
                await thief.receive(token.text)
            with pytest.raises(SpecieError):
                await w.bank.mint.swap(_naked(w, token.text))


def _naked(w: World, text: str) -> object:
    """A thief's swap of the token's coins, without any witness."""
    from specie.ecash import SwapRequest
    from tests.support.house import Purse

    proofs = opened(w, text).proofs
    return SwapRequest(proofs, Purse(w.bank, "thief").outputs(sorted(one.amount for one in proofs)).messages)


@pytest.mark.parametrize("before", [True, False], ids=["lost", "durable"])
def test_a_crash_burns_no_locked_coin(before: bool) -> None:
    """The wallet dies at each commit; afterwards there is a token with locked coins that the preimage opens, or the money."""

    async def life(number: int) -> bool:
        async with world() as w:
            storage = MortalStorage(await memory_storage())
            wallet, other = await w.wallet(storage, words=WORDS), await w.wallet()
            await w.fund(wallet, 100)
            storage.at, storage.before = storage.commits + number, before
            died = False
            try:
                await wallet.send(37, lock=HTLC(HASH))
            except Died:
                died = True
            storage.at = None
            again = await w.wallet(storage.inner, words=WORDS, trusted=False)
            assert not (await again.resume(wait_s=10)).open
            tokens = await again.tokens()
            for token in tokens:
                assert sum(locked_amounts(w, token.text)) == 37
                await other.receive(token.text, preimage=PREIMAGE.hex())
            await again.check_pending()
            assert (await again.balance()).available == 100 - 37 * len(tokens)
            await w.books_hold(again, other)
            return died

    assert run_virtual(life(1))
    for number in range(2, 30):
        if not run_virtual(life(number)):
            return
    pytest.fail("sending never ended")


@virtually
async def test_a_lost_answer_gives_the_same_locked_coins() -> None:
    """All answers are lost: the journal has the locked secrets, and resume makes the token of the very outputs first sent."""
    async with world() as w:
        storage = await memory_storage()
        wallet, other = await w.wallet(storage, words=WORDS), await w.wallet()
        await w.fund(wallet, 100)
        w.faults.plant("after", "swap", LOST, LOST, LOST)
        with pytest.raises(OperationOpenError):
            await wallet.send(37, lock=HTLC(HASH))
        again = await w.wallet(storage, words=WORDS, trusted=False)
        assert (await again.resume()).settled
        (token,) = await again.tokens()
        assert sum(locked_amounts(w, token.text)) == 37
        assert len({body for verb, body in w.faults.bodies if verb == "swap"}) == 1
        await other.receive(token.text, preimage=PREIMAGE.hex())
        await again.check_pending()
        await w.books_hold(again, other)


@virtually
async def test_the_sender_has_it_back_after_the_locktime() -> None:
    """Nobody came with the preimage: past the locktime the sender's own key takes it back, and not before."""
    async with world() as w:
        wallet = await w.wallet()
        await w.fund(wallet, 100)
        refund = await wallet.p2pk_key()
        token = await wallet.send(37, lock=HTLC(HASH, locktime=w.clock.now() + 1000, refund=(refund,)))
        with pytest.raises(TokenLockedError):
            await wallet.reclaim(token.text)
        w.clock.skip(1001)
        assert (await wallet.reclaim(token.text)).amount == 37
        assert (await wallet.balance()).available == 100
        await w.books_hold(wallet)
