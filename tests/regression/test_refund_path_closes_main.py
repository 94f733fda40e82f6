"""The mistake: once the locktime has passed only the refund keys may spend.

NUT-11: the main pathway stays open for ever; the locktime adds a way and takes none. A receiver who redeems late, or a
SIG_ALL spender, must not find the door shut. Its relatives: refund before the time, and signatures mixed across pathways.
"""

from __future__ import annotations

from hashlib import sha256

import pytest

from specie.ecash import codes as refused
from specie.ecash.conditions import SigFlag, htlc_secret, p2pk_secret
from specie.kernel import MalformedError
from tests.support.coins import public_key
from tests.support.house import House, Purse
from tests.support.locked import lock, sign_all, sign_inputs, spend, witnessed

ALICE, BOB, CAROL, DAVE = (public_key(name).hex() for name in ("alice", "bob", "carol", "dave"))
PREIMAGE = b"\x05" * 32


def nonce(number: int) -> bytes:
    return bytes([number]) * 32


@pytest.mark.parametrize("after", [0, 1, 10_000_000])
async def test_main_and_refund_are_both_open_after_the_locktime(bank: House, purse: Purse, after: int) -> None:
    """At the very locktime and before only alice may spend; a second later and for ever alice or bob may."""
    locktime = bank.clock.now() + 100
    secrets = [p2pk_secret(ALICE, nonce=nonce(n), locktime=locktime, refund=[BOB]) for n in range(3)]
    mains, refund, stranger = await lock(purse, *secrets)
    bank.clock.skip(100 + after)
    if after:
        assert await spend(purse, [sign_inputs(refund, "bob")])
    else:
        with pytest.raises(refused.ConditionUnmetError):
            await spend(purse, [sign_inputs(refund, "bob")])
    assert await spend(purse, [sign_inputs(mains, "alice")])
    with pytest.raises(refused.ConditionUnmetError):
        await spend(purse, [sign_inputs(stranger, "mallory")])


async def test_sig_all_main_stays_open_after_the_locktime(bank: House, purse: Purse) -> None:
    """The same under SIG_ALL, for both pathways."""
    locktime = bank.clock.now() + 100
    secrets = [p2pk_secret(ALICE, nonce=nonce(n), locktime=locktime, refund=[BOB], sigflag=SigFlag.SIG_ALL) for n in range(4)]
    coins = await lock(purse, *secrets)
    bank.clock.skip(101)
    for pair, name in ((coins[:2], "alice"), (coins[2:], "bob")):
        outputs = purse.outputs([4, 4])
        with pytest.raises(refused.ConditionUnmetError):
            await spend(purse, sign_all(pair, outputs, "mallory"), outputs)
        assert await spend(purse, sign_all(pair, outputs, name), outputs)


async def test_a_hash_lock_is_opened_by_its_preimage_after_the_locktime(bank: House, purse: Purse) -> None:
    """HTLC: the receiver with preimage and key may still take it, the sender with the refund key too, a thief never."""
    locktime = bank.clock.now() + 100
    digest = sha256(PREIMAGE).hexdigest()
    secrets = [htlc_secret(digest, nonce=nonce(n), pubkeys=[ALICE], locktime=locktime, refund=[BOB]) for n in range(3)]
    receiver, sender, thief = await lock(purse, *secrets)
    with pytest.raises(refused.ConditionUnmetError):
        await spend(purse, [sign_inputs(sender, "bob")])
    bank.clock.skip(101)
    assert await spend(purse, [sign_inputs(receiver, "alice", preimage=PREIMAGE)])
    assert await spend(purse, [sign_inputs(sender, "bob")])
    for wrong in (sign_inputs(thief, "alice"), witnessed(thief, [], PREIMAGE), sign_inputs(thief, "alice", preimage=bytes(32))):
        with pytest.raises(refused.ConditionUnmetError):
            await spend(purse, [wrong])


async def test_without_refund_keys_anyone_may_spend_after_the_locktime(bank: House, purse: Purse) -> None:
    """No refund keys: open to all once the time has passed, without any witness; before, to alice alone."""
    locktime = bank.clock.now() + 100
    early, late = await lock(purse, *[p2pk_secret(ALICE, nonce=nonce(n), locktime=locktime) for n in range(2)])
    for shown in (early, sign_inputs(early, "mallory")):
        with pytest.raises(refused.ConditionUnmetError):
            await spend(purse, [shown])
    assert await spend(purse, [sign_inputs(early, "alice")])
    bank.clock.skip(101)
    assert await spend(purse, [late])


async def test_pathways_are_not_mixed(bank: House, purse: Purse) -> None:
    """2-of-2 main and 2-of-2 refund: one signature of each is neither."""
    secret = p2pk_secret(
        ALICE,
        nonce=nonce(1),
        pubkeys=[BOB],
        n_sigs=2,
        locktime=bank.clock.now() + 100,
        refund=[CAROL, DAVE],
        n_sigs_refund=2,
    )
    (coin,) = await lock(purse, secret)
    bank.clock.skip(101)
    with pytest.raises(refused.ConditionUnmetError):
        await spend(purse, [sign_inputs(coin, "alice", "carol")])
    assert await spend(purse, [sign_inputs(coin, "carol", "dave")])


def test_refund_keys_without_a_locktime_are_not_built() -> None:
    """They would never open, and their owner would wait for nothing."""
    with pytest.raises(MalformedError):
        p2pk_secret(ALICE, nonce=nonce(1), refund=[BOB])
