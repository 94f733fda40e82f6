"""Receiving: trust, fees, off-line receipt, and every way a coin can be locked and opened."""

from __future__ import annotations

from hashlib import sha256

import pytest

from specie.ecash import codes as refused
from specie.ecash.token import decode_token
from specie.kernel import MalformedError, UnavailableError
from specie.mint import MintSettings
from specie.wallet import HTLC, P2PK, Wallet
from specie.wallet.errors import (
    DleqMissingError,
    FeeExceedsValueError,
    InsufficientFundsError,
    MintUnknownError,
    MintUntrustedError,
    TokenLockedError,
    TokenUnknownError,
    UnsupportedError,
)
from tests.support.wallets import MINT_URL, virtually, world

PREIMAGE = bytes(range(32))
DIGEST = sha256(PREIMAGE).hexdigest()


@virtually
async def test_unknown_mint_needs_trust() -> None:
    """A token of a mint that was not added is refused before anything is sent; `trust` adds the mint."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet(trusted=False)
        await w.fund(alice, 10)
        token = await alice.send(5)
        calls = len(w.faults.calls)
        with pytest.raises(MintUntrustedError) as caught:
            await bob.receive(token.text)
        assert caught.value.mint == MINT_URL
        assert len(w.faults.calls) == calls
        assert (await bob.receive(token.text, trust=True)).amount == 5
        assert [view.url for view in await bob.mints()] == [MINT_URL]
        with pytest.raises(MintUnknownError):
            await bob.mint_quote(5, mint="http://other.test")


@virtually
async def test_fee_that_eats_the_value_is_named() -> None:
    """One coin of 1 with a fee of 1 brings nothing: the error says fee and value, and the coin is not spent."""
    async with world(settings=MintSettings(input_fee_ppk=1000)) as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        token = await alice.send(1)
        with pytest.raises(FeeExceedsValueError) as caught:
            await bob.receive(token.text)
        assert (caught.value.fee, caught.value.value) == (1, 1)
        await alice.check_pending()
        assert (await alice.balance()).sent == 1
        await w.books_hold(alice, bob)


@virtually
@pytest.mark.parametrize("ppk", [1, 100, 999, 1000, 2500])
async def test_fees_are_exact(ppk: int) -> None:
    """With `include_fee` the receiver gets exactly the amount, whatever the fee; books hold with fees as income."""
    async with world(settings=MintSettings(input_fee_ppk=ppk)) as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 1000)
        for amount in (1, 37, 200):
            token = await alice.send(amount, include_fee=True)
            receipt = await bob.receive(token.text)
            assert receipt.amount >= amount
            assert receipt.amount + receipt.fee == token.amount
            assert receipt.amount - amount <= 3 * (ppk // 1000) + 1  # one coin more or less changes the fee in steps
        await alice.check_pending()
        await w.books_hold(alice, bob)
        history = await alice.history()
        assert {entry.kind for entry in history} == {"mint", "send", "claimed"}


@virtually
async def test_insufficient_funds_counts_the_fee() -> None:
    """All money cannot be sent by a swap that costs a fee; the error says what would be needed."""
    async with world(settings=MintSettings(input_fee_ppk=1000)) as w:
        alice = await w.wallet()
        await w.fund(alice, 96)
        with pytest.raises(InsufficientFundsError) as caught:
            await alice.send(95)
        assert caught.value.needed > 96
        assert caught.value.available == 96
        with pytest.raises(MalformedError):
            await alice.send(0)


@virtually
async def test_offline_receipt_and_its_swap() -> None:
    """Coins with DLEQ are kept without asking anybody, count apart, are not spendable, and are swapped later."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        token = await alice.send(37)
        calls = len(w.faults.calls)
        receipt = await bob.receive(token.text, offline=True)
        assert len(w.faults.calls) == calls
        assert not receipt.secured
        balance = await bob.balance()
        assert (balance.available, balance.unswapped) == (0, 37)
        with pytest.raises(InsufficientFundsError):
            await bob.send(4)
        with pytest.raises(refused.ProofsSpentError):
            await bob.receive(token.text, offline=True)
        assert await bob.secure() == 37
        assert (await bob.balance()).available == 37
        await alice.check_pending()
        await w.books_hold(alice, bob)


@virtually
async def test_offline_receipt_insists_on_dleq_and_known_live_keysets() -> None:
    """No DLEQ, a wrong one, an unknown mint, an inactive or expired keyset: each is refused off-line."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        bare = await alice.send(37, include_dleq=False)
        with pytest.raises(DleqMissingError):
            await bob.receive(bare.text, offline=True)
        good = await alice.send(32)
        with pytest.raises(MintUntrustedError):
            await (await w.wallet(trusted=False)).receive(good.text, offline=True, trust=True)

        await w.bank.mint.rotate_keyset("sat", final_expiry=w.clock.now() + 1000)
        await alice.add_mint(MINT_URL)
        await w.fund(alice, 64)
        newer = await alice.send(64)
        with pytest.raises(refused.KeysetUnknownError):
            await bob.receive(newer.text, offline=True)
        await bob.add_mint(MINT_URL)
        with pytest.raises(refused.KeysetInactiveError):
            await bob.receive(good.text, offline=True)
        w.clock.skip(2000)
        with pytest.raises(refused.KeysetExpiredError):
            await bob.receive(newer.text, offline=True)


@virtually
async def test_forged_dleq_is_refused_online_and_offline() -> None:
    """A token whose DLEQ does not verify never gets as far as the mint."""
    import msgspec

    from specie.ecash.token import Token, encode_token

    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        draft = decode_token((await alice.send(37)).text)
        first, second, *rest = draft.proofs
        forged = msgspec.structs.replace(first, dleq=second.dleq)
        keysets = (await bob.mints())[0].keysets
        full = keysets[0].keyset.id
        proofs = tuple(msgspec.structs.replace(p, id=full) for p in (forged, second, *rest))
        text = encode_token(Token(draft.mint, "sat", proofs))
        swaps = w.faults.calls.count("swap")
        for offline in (True, False):
            with pytest.raises(refused.ProofInvalidError):
                await bob.receive(text, offline=offline)
        assert w.faults.calls.count("swap") == swaps


@virtually
async def test_offline_coins_that_were_spent_meanwhile() -> None:
    """The sender spends a coin that was taken off-line: `secure` saves the others and gives that one up."""
    async with world() as w:
        alice, bob, carol = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        kept, spent = await alice.send(4), await alice.send(32)
        await bob.receive(kept.text, offline=True)
        await bob.receive(spent.text, offline=True)
        await carol.receive(spent.text)
        assert await bob.secure() == 4
        balance = await bob.balance()
        assert (balance.available, balance.unswapped, balance.reserved) == (4, 0, 0)
        await alice.check_pending()
        await w.books_hold(alice, bob, carol)


async def _locked(alice: Wallet, lock: P2PK | HTLC) -> str:
    return (await alice.send(37, lock=lock)).text


@virtually
@pytest.mark.parametrize("sig_all", [False, True])
async def test_locked_to_a_key(sig_all: bool) -> None:
    """Only the holder of the key redeems it, with one signature for all coins or one for each."""
    async with world() as w:
        alice, bob, eve = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        text = await _locked(alice, P2PK((await bob.p2pk_key(),), sig_all=sig_all))
        for thief in (eve, alice):
            with pytest.raises(TokenLockedError):
                await thief.receive(text)
        assert (await bob.receive(text)).amount == 37
        await alice.check_pending()
        await w.books_hold(alice, bob, eve)


@virtually
@pytest.mark.parametrize("sig_all", [False, True])
async def test_locked_coins_taken_offline(sig_all: bool) -> None:
    """Coins locked to our key are taken off-line and opened when they are swapped; others' are not taken."""
    async with world() as w:
        alice, bob, eve = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        text = await _locked(alice, P2PK((await bob.p2pk_key(),), sig_all=sig_all))
        with pytest.raises(TokenLockedError):
            await eve.receive(text, offline=True)
        await bob.receive(text, offline=True)
        assert await bob.secure() == 37
        await alice.check_pending()
        await w.books_hold(alice, bob, eve)


@virtually
@pytest.mark.parametrize("sig_all", [False, True])
async def test_refund_after_the_locktime(sig_all: bool) -> None:
    """Before the locktime the sender cannot take it back, afterwards his refund key can; the receiver still could."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        until = w.clock.now() + 1000
        lock = P2PK((await bob.p2pk_key(),), locktime=until, refund=(await alice.p2pk_key(),), sig_all=sig_all)
        text = await _locked(alice, lock)
        with pytest.raises(TokenLockedError):
            await alice.reclaim(text)
        w.clock.skip(1001)
        assert (await alice.reclaim(text)).amount == 37
        (token,) = await alice.tokens(pending=False)
        assert token.state == "RECLAIMED"
        await w.books_hold(alice, bob)


@virtually
async def test_lock_without_refund_opens_to_anyone_after_the_locktime() -> None:
    """NUT-11: past the locktime and without refund keys nobody's signature is needed."""
    async with world() as w:
        alice, eve = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        key = await (await w.wallet()).p2pk_key()
        text = await _locked(alice, P2PK((key,), locktime=w.clock.now() + 10))
        with pytest.raises(TokenLockedError):
            await eve.receive(text)
        w.clock.skip(11)
        assert (await eve.receive(text)).amount == 37


@virtually
async def test_two_of_two_is_not_opened_by_one() -> None:
    """Two signatures are needed: one wallet with both keys opens it, one with a single key does not."""
    async with world() as w:
        alice, bob, carol = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        ours = (await bob.p2pk_key(), await bob.p2pk_key())
        mixed = (await bob.p2pk_key(), await carol.p2pk_key())
        shared = await _locked(alice, P2PK(mixed, n_sigs=2))
        with pytest.raises(TokenLockedError):
            await bob.receive(shared)
        text = (await alice.send(5, lock=P2PK(ours, n_sigs=2))).text
        assert (await bob.receive(text)).amount == 5


@virtually
@pytest.mark.parametrize("sig_all", [False, True])
@pytest.mark.parametrize("offline", [False, True])
async def test_hash_lock(offline: bool, sig_all: bool) -> None:
    """The preimage (with the key) opens it, another or none does not; off-line the preimage is kept for the swap."""
    async with world() as w:
        alice, bob, eve = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        text = await _locked(alice, HTLC(DIGEST, pubkeys=(await bob.p2pk_key(),), sig_all=sig_all))
        with pytest.raises(TokenLockedError):
            await eve.receive(text, preimage=PREIMAGE.hex())
        for wrong in (None, "00" * 32):
            with pytest.raises(TokenLockedError):
                await bob.receive(text, preimage=wrong, offline=offline)
        await bob.receive(text, preimage=PREIMAGE.hex(), offline=offline)
        if offline:
            await bob.secure()
        assert (await bob.balance()).available == 37
        await alice.check_pending()
        await w.books_hold(alice, bob, eve)


@virtually
async def test_unspendable_locks_are_not_built() -> None:
    """The same key twice, refund keys without a time, no keys at all: refused before any coin is touched."""
    async with world() as w:
        alice = await w.wallet()
        await w.fund(alice, 100)
        key = await alice.p2pk_key()
        for lock in (P2PK((key, key)), P2PK((key,), refund=(key,)), P2PK(()), P2PK((key,), n_sigs=2), HTLC("00")):
            with pytest.raises(MalformedError):
                await alice.send(37, lock=lock)
        assert (await alice.balance()).available == 100


@virtually
async def test_no_lock_at_a_mint_that_does_not_enforce_it() -> None:
    """A mint without NUT-11 would let anybody spend the coin, so nothing is locked there."""
    import msgspec

    from specie.ecash import MintInfo

    async with world() as w:

        def change(verb: str, answer: object) -> object:
            if isinstance(answer, MintInfo):
                return msgspec.structs.replace(answer, nuts={k: v for k, v in answer.nuts.items() if k != "11"})
            return answer

        w.faults.change = change
        alice = await w.wallet()
        await w.fund(alice, 100)
        with pytest.raises(UnsupportedError) as caught:
            await alice.send(37, lock=P2PK((await alice.p2pk_key(),)))
        assert caught.value.nut == 11


@virtually
async def test_reclaim() -> None:
    """An unredeemed token comes back by text or by id; a redeemed or foreign one does not."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        first, second = await alice.send(37), await alice.send(8)
        assert (await alice.reclaim(first.token_id)).amount == 37
        assert [token.token_id for token in await alice.tokens()] == [second.token_id]
        await bob.receive(second.text)
        with pytest.raises(refused.ProofsSpentError):
            await alice.reclaim(second.text)
        with pytest.raises(TokenUnknownError):
            await bob.reclaim(second.text)
        await alice.check_pending()
        await w.books_hold(alice, bob)


@virtually
async def test_offline_send_is_exact_or_refused() -> None:
    """Without the mint only sums of existing coins can be sent, and the mint is not asked."""
    async with world() as w:
        alice = await w.wallet()
        await w.fund(alice, 100)
        w.faults.plant("before", "swap", *[UnavailableError("off-line")] * 9)
        with pytest.raises(refused.RefusedError):
            await alice.send(37, offline=True)
        with pytest.raises(InsufficientFundsError):
            await alice.send(101, offline=True)
        calls = len(w.faults.calls)
        assert (await alice.send(96, offline=True)).amount == 96
        assert len(w.faults.calls) == calls
