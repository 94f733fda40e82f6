"""Locks opened with what comes along: signatures of others, made-up ones, locks signed together; and what that may cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as with_fields
from hashlib import sha256

import pytest
from msgspec.structs import replace

from specie.ecash import Proof, Token, decode_token, encode_token, resolve_token
from specie.ecash.codes import ProofsSpentError
from specie.ecash.conditions import parse_secret, parse_witness, sig_inputs_digest, witness_text
from specie.ecash.p2bk import shared_x, unblinded_secret
from specie.kernel import curve
from specie.kernel.limits import Limits
from specie.keys.ports import BlindedKey
from specie.mint import MintSettings
from specie.wallet import HTLC, P2PK, Wallet
from specie.wallet.engine.locks import swappable
from specie.wallet.errors import FeeExceedsValueError, OfflineRefusedError, TokenLockedError
from specie.wallet.offline import OfflinePolicy, Risk
from tests.support.coins import public_key, secret_key, signature
from tests.support.wallets import MINT_URL, SETTINGS, Died, MortalStorage, memory_storage, virtually, world

PREIMAGE = bytes(range(32))
DIGEST = sha256(PREIMAGE).hexdigest()
FRIEND = public_key("friend").hex()
DAY = 86_400


async def proofs_of(wallet: Wallet, text: str) -> tuple[Proof, ...]:
    keysets = [known.keyset for known in (await wallet.mints())[0].keysets]
    return resolve_token(decode_token(text), keysets).proofs


def as_token(proofs: Sequence[Proof]) -> str:
    return encode_token(Token(MINT_URL, "sat", tuple(proofs)))


def signed_by_friend(coin: Proof) -> Proof:
    """The coin with the friend's signature, by his plain or blinded key in its lock."""
    secret = secret_key("friend")
    if coin.p2pk_e is not None:
        condition = parse_secret(coin.secret)
        assert condition is not None
        shared = shared_x(coin.p2pk_e, secret)
        slots = enumerate((*condition.keys, *condition.refund), 1 if condition.hash else 0)
        secret = next(k for slot, key in slots if (k := unblinded_secret(key, secret, shared, slot)) is not None)
    return replace(coin, witness=witness_text([curve.schnorr_sign(sig_inputs_digest(coin), secret, bytes(32))]))


class Counted:
    """A signer that counts how many blinded keys it was asked about."""

    def __init__(self, wallet: Wallet, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        signer = wallet._context.signer
        own = type(signer).own_blinded

        async def own_blinded(this: object, keys: Sequence[BlindedKey]) -> list[bool]:
            if this is signer:
                self.asked += len(keys)
            return await own(this, keys)  # type: ignore[arg-type]

        monkeypatch.setattr(type(signer), "own_blinded", own_blinded)


@virtually
@pytest.mark.parametrize("blinded", [False, True])
async def test_a_signature_that_came_along_is_kept_with_the_preimage(blinded: bool) -> None:
    """A hash lock of two keys, signed by the other holder and taken off-line: his signature is there when it is swapped."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        token = await alice.send(5, lock=HTLC(DIGEST, pubkeys=(FRIEND, await bob.p2pk_key()), n_sigs=2, blinded=blinded))
        coins = [signed_by_friend(coin) for coin in await proofs_of(alice, token.text)]
        await bob.receive(as_token(coins), preimage=PREIMAGE.hex(), offline=True)
        assert await bob.secure() == 5
        await alice.check_pending()
        await w.books_hold(alice, bob)


@virtually
@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("blinded", [False, True])
@pytest.mark.parametrize(
    "witness",
    [
        "zz",
        '{"signatures":["zz","00"]}',
        witness_text([bytes([n]) * 64 for n in range(9)]),
        witness_text([bytes([n]) * 64 for n in range(100)]),
    ],
)
async def test_made_up_signatures_do_not_keep_us_from_our_coins(witness: str, blinded: bool, offline: bool) -> None:
    """Nonsense in the witness of a coin that is locked to us is left out, and the mint gets what opens it, nothing else."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        token = await alice.send(5, lock=P2PK((await bob.p2pk_key(),), blinded=blinded))
        coins = [replace(coin, witness=witness) for coin in await proofs_of(alice, token.text)]
        await bob.receive(as_token(coins), offline=offline)
        if offline:
            await bob.secure()
        assert (await bob.balance()).available == 5
        sent = w.faults.bodies[-1][1]
        assert b"zz" not in sent
        assert (b"02" * 64) not in sent


@virtually
@pytest.mark.parametrize("witness", ["zz", '{"signatures":["zz","00"]}', witness_text([bytes(64)] * 20, bytes(32))])
async def test_made_up_witnesses_of_a_hash_lock_and_of_ordinary_coins(witness: str) -> None:
    """They are replaced by what opens the lock, also off-line, and are not shown to the mint where nothing is locked."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        lock = HTLC(DIGEST, pubkeys=(await bob.p2pk_key(),), blinded=True)
        for offline in (True, False):
            coins = [replace(c, witness=witness) for c in await proofs_of(alice, (await alice.send(5, lock=lock)).text)]
            await bob.receive(as_token(coins), preimage=PREIMAGE.hex(), offline=offline)
        assert await bob.secure() == 5
        plain = [replace(coin, witness=witness) for coin in await proofs_of(alice, (await alice.send(3)).text)]
        assert (await bob.receive(as_token(plain))).amount == 3
        assert b"witness" not in w.faults.bodies[-1][1]
        assert (await bob.balance()).available == 13


@virtually
@pytest.mark.parametrize("blinded", [False, True])
async def test_the_refund_is_taken_though_the_main_way_looks_half_signed(blinded: bool) -> None:
    """After the locktime a signature that is nobody's does not make the wallet try a way that it cannot go."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        key, back = await bob.p2pk_key(), await bob.p2pk_key()
        lock = P2PK((key, FRIEND), n_sigs=2, locktime=w.clock.now() + 10, refund=(back,), blinded=blinded)
        coins = await proofs_of(alice, (await alice.send(5, lock=lock)).text)
        wrong = [replace(coin, witness=witness_text([signature(bytes(32), "eve")])) for coin in coins]
        with pytest.raises(TokenLockedError):
            await bob.receive(as_token(wrong))
        w.clock.skip(11)
        assert (await bob.receive(as_token(wrong))).amount == 5


@virtually
async def test_one_signature_serves_one_of_two() -> None:
    """A cosigner's valid signature counts, his key once; we sign only for what misses, in the order of the keys."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        lock = P2PK((await bob.p2pk_key(), FRIEND, await bob.p2pk_key()), n_sigs=2, blinded=True)
        (coin,) = await proofs_of(alice, (await alice.send(4, lock=lock)).text)
        assert (await bob.receive(as_token([signed_by_friend(coin)]))).amount == 4
        (state,) = await bob._context.client(MINT_URL).check_state([coin.y])
        condition, witness = parse_secret(coin.secret), parse_witness(state.witness)
        assert condition is not None
        first, second = (bytes.fromhex(one) for one in witness.signatures)
        assert curve.schnorr_verify(first, sig_inputs_digest(coin), condition.keys[0])
        assert curve.schnorr_verify(second, sig_inputs_digest(coin), condition.keys[1])


@virtually
@pytest.mark.parametrize("witness", ["none", "made up", "valid"])
async def test_a_foreign_token_costs_one_search(witness: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many coins it has, and with whatever signatures: each of our keys is tried once on each key of one lock."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        for _ in range(20):
            await bob.p2pk_key()
        counted = Counted(bob, monkeypatch)
        coins: list[Proof] = []
        for _ in range(12):
            lock = P2PK((FRIEND, public_key("eve").hex()), blinded=True, n_sigs=2 if witness == "valid" else 1)
            (coin,) = await proofs_of(alice, (await alice.send(1, lock=lock)).text)
            if witness == "made up":
                coin = replace(coin, witness=witness_text([bytes([n]) * 64 for n in range(3)]))
            coins.append(signed_by_friend(coin) if witness == "valid" else coin)
        with pytest.raises(TokenLockedError):
            await bob.receive(as_token(coins))
        # twice: before the gap behind the known keys is looked at, and with it
        assert counted.asked <= 2 * 2 * (20 + SETTINGS.key_gap)


@virtually
@pytest.mark.parametrize("shape", ["ours and a cosigner's", "our refund"])
async def test_coins_that_open_do_not_hide_a_search_each(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign key beside ours, signed for or on the way that we do not go, is not looked for again with every coin."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        key = await bob.p2pk_key()
        for _ in range(30):
            await bob.p2pk_key()
        counted = Counted(bob, monkeypatch)
        lock = P2PK((key, FRIEND), n_sigs=2, blinded=True)
        if shape == "our refund":
            lock = P2PK((FRIEND,), locktime=w.clock.now() - 1, refund=(key,), blinded=True)
        coins: list[Proof] = []
        for _ in range(12):
            coins += await proofs_of(alice, (await alice.send(1, lock=lock)).text)
        if shape != "our refund":
            coins = [signed_by_friend(coin) for coin in coins]
        assert (await bob.receive(as_token(coins))).amount == 12
        searches = 6  # both ways, the first of them with and without the gap; before the outputs are made, and with them
        assert counted.asked <= searches * (31 + SETTINGS.key_gap) + 2 * 2 * len(coins)


@virtually
@pytest.mark.parametrize("offline", [False, True])
async def test_a_token_of_several_locks_is_swapped_lock_by_lock(offline: bool) -> None:
    """Coins that must be signed together with their like, and others, in one token: each lock gets its own swap."""
    async with world() as w:
        alice, bob, eve = await w.wallet(), await w.wallet(), await w.wallet()
        await w.fund(alice, 200)
        coins: list[Proof] = []
        for amount, sig_all, blinded in ((5, True, True), (6, True, False), (7, True, True), (3, False, True)):
            lock = P2PK((await bob.p2pk_key(),), sig_all=sig_all, blinded=blinded)
            coins += await proofs_of(alice, (await alice.send(amount, lock=lock)).text)
        coins += await proofs_of(alice, (await alice.send(9)).text)
        with pytest.raises(TokenLockedError):
            await eve.receive(as_token(coins), offline=offline)
        assert (await eve.balance()).total == 0
        await bob.receive(as_token(coins), offline=offline)
        if offline:
            assert await bob.secure() == 30
        assert (await bob.balance()).available == 30
        await alice.check_pending()
        await w.books_hold(alice, bob, eve)


def test_a_lock_of_more_coins_than_the_mint_takes_is_cut() -> None:
    """What is signed together is bounded, too: signatures are made for each part."""
    coins = [Proof(1, "00" * 8, f"plain {n}", public_key(n)) for n in range(5)]
    for n in range(7):
        text = f'["P2PK",{{"nonce":"{n:064x}","data":"{FRIEND}","tags":[["sigflag","SIG_ALL"]]}}]'
        coins.append(Proof(1, "00" * 8, text, public_key(n)))
    parts = swappable(coins, lambda coin: coin, 3)
    assert [len(part) for part in parts] == [3, 2, 3, 3, 1]
    assert sorted(coin.secret for part in parts for coin in part) == sorted(coin.secret for coin in coins)


@virtually
async def test_more_coins_of_one_lock_than_the_mint_takes() -> None:
    """Taken off-line in several tokens of one lock (SIG_ALL), they are secured in several swaps."""
    async with world() as w:
        bob = await w.wallet(settings=with_fields(SETTINGS, limits=Limits(array_length=4)))
        alice = await w.wallet()
        await w.fund(alice, 200)
        key = await bob.p2pk_key()
        for _ in range(3):
            await bob.receive((await alice.send(7, lock=P2PK((key,), sig_all=True))).text, offline=True)
        assert await bob.secure() == 21
        assert (await bob.balance()).available == 21


@virtually
async def test_forced_removal_of_locked_coins_can_be_taken_back() -> None:
    """Coins received off-line under several locks are handed out with all that opens them: E and preimage, too."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 200)
        await w.fund(bob, 50)
        for amount, sig_all in ((5, True), (6, True), (3, False)):
            lock = P2PK((await bob.p2pk_key(),), sig_all=sig_all, blinded=True)
            await bob.receive((await alice.send(amount, lock=lock)).text, offline=True)
        hashed = HTLC(DIGEST, pubkeys=(await bob.p2pk_key(),), blinded=True)
        await bob.receive((await alice.send(7, lock=hashed)).text, preimage=PREIMAGE.hex(), offline=True)
        (backup,) = await bob.exits.remove(MINT_URL, force=True)
        assert backup.amount == 71
        assert backup.locked
        await bob.add_mint(MINT_URL)
        assert (await bob.reclaim(backup.text)).amount == 71
        await alice.check_pending()
        await w.books_hold(alice, bob)


@virtually
@pytest.mark.parametrize("own_refund", [False, True])
async def test_off_line_policy_knows_our_blinded_keys(own_refund: bool) -> None:
    """A coin locked to a blinded key of ours counts as locked, until its refund opens; another's blinded key does not."""
    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 200)
        await bob.offline.use(OfflinePolicy(settle=False))
        key = await bob.p2pk_key()
        until = w.clock.now() + 3 * DAY
        back = key if own_refund else FRIEND
        token = await alice.send(7, lock=P2PK((key,), locktime=until, refund=(back,), blinded=True))
        assert not (await bob.receive(token.text, offline=True)).secured
        (seen,) = await bob.offline.status()
        assert (seen.amount, seen.risk, seen.until) == (7, Risk.LOCKED, None if own_refund else until)
        loose = await alice.send(5, lock=P2PK((key, FRIEND), blinded=True))
        with pytest.raises(OfflineRefusedError) as refusal:
            await bob.receive(loose.text, offline=True)
        assert refusal.value.rule == "unlocked_most"
        w.clock.skip(3 * DAY + 1)
        (seen,) = await bob.offline.status()
        assert seen.risk is (Risk.LOCKED if own_refund else Risk.EXPOSED)
        assert (await bob.offline.settle()).settled == 7
        await bob.receive(loose.text)
        await alice.check_pending()
        await w.books_hold(alice, bob)


@virtually
async def test_a_copy_of_the_wallet_can_still_open_what_was_taken_off_line() -> None:
    """Blinded coins that are not swapped yet, and sent ones, keep their ephemeral keys through a backup's tables."""
    from specie.wallet.engine.merging import merge

    async with world() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        lock = P2PK((await bob.p2pk_key(),), locktime=w.clock.now() + 10, refund=(await alice.p2pk_key(),), blinded=True)
        await bob.receive((await alice.send(7, lock=lock)).text, offline=True)
        sent = await alice.send(9, lock=lock)
        copies: list[Wallet] = []
        for one, words in ((bob, w.words[1]), (alice, w.words[0])):
            ctx = one._context
            copy = await w.wallet(await memory_storage(), words=words)
            await merge(copy._context, await ctx.storage.read(ctx.store.tables))
            await copy.check_pending()
            copies.append(copy)
        assert await copies[0].secure() == 7
        w.clock.skip(11)
        assert (await copies[1].reclaim(sent.token_id)).amount == 9


@virtually
@pytest.mark.parametrize("before", [False, True])
async def test_a_token_of_several_swaps_is_taken_whole_after_any_crash(before: bool) -> None:
    """Killed at any commit of a receipt that takes three swaps, and resumed: the same token again brings what is missing."""
    for at in range(1, 40):
        async with world() as w:
            alice = await w.wallet()
            await w.fund(alice, 100)
            mortal = MortalStorage(await memory_storage())
            bob = await w.wallet(mortal)
            coins: list[Proof] = []
            for amount, sig_all in ((5, True), (6, True), (7, False)):
                lock = P2PK((await bob.p2pk_key(),), sig_all=sig_all, blinded=True)
                coins += await proofs_of(alice, (await alice.send(amount, lock=lock)).text)
            mortal.commits, mortal.at, mortal.before = 0, at, before
            try:
                assert (await bob.receive(as_token(coins))).amount == 18
                finished = True
            except Died:
                finished = False
            again = await w.wallet(mortal.inner, words=w.words[1], trusted=False)
            await again.resume()
            try:
                await again.receive(as_token(coins))
            except ProofsSpentError:
                assert (await again.balance()).available == 18
            assert (await again.balance()).available == 18
            await alice.check_pending()
            await w.books_hold(alice, again)
        if finished:
            return
    pytest.fail("the receipt never came to its end")


@virtually
async def test_a_part_that_its_fee_eats_keeps_no_other_from_us() -> None:
    """One coin that costs more to swap than it is worth stays in the token; alone, it is refused by name."""
    async with world(settings=MintSettings(input_fee_ppk=1000)) as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        small = await proofs_of(alice, (await alice.send(1, lock=P2PK((await bob.p2pk_key(),), sig_all=True))).text)
        large = await proofs_of(alice, (await alice.send(16, lock=P2PK((await bob.p2pk_key(),), sig_all=True))).text)
        got = await bob.receive(as_token([*small, *large]))
        assert (got.amount, got.fee) == (15, 1)
        with pytest.raises(FeeExceedsValueError):
            await bob.receive(as_token([*small, *large]))
        await alice.check_pending()
        await w.books_hold(alice, bob)


@virtually
@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("kept", [0, 2])
async def test_one_ephemeral_key_opens_all_that_are_signed_together(kept: int, offline: bool) -> None:
    """Coins under SIG_ALL of which one alone still has its E, or others a foreign one behind it: none is ever stuck."""
    async with world() as w:
        alice = await w.wallet()
        bob = await w.wallet(settings=with_fields(SETTINGS, limits=Limits(array_length=2)))
        await w.fund(alice, 100)
        for others in (None, public_key("eve")):
            token = await alice.send(7, lock=P2PK((await bob.p2pk_key(),), sig_all=True, blinded=True))
            coins = list(await proofs_of(alice, token.text))
            assert len(coins) == 3
            coins = [coin if n == kept else replace(coin, p2pk_e=others if n > kept else None) for n, coin in enumerate(coins)]
            await bob.receive(encode_token(Token(MINT_URL, "sat", tuple(coins))), offline=offline)
        if offline:
            assert await bob.secure() == 14
        assert (await bob.balance()).available == 14
