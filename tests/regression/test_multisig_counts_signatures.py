"""The mistake: n-of-m is met by n signatures instead of n keys.

One key makes as many valid signatures as it likes, and one signature can be written in several ways, so a single holder
opened what needed two. Its relative: one key that stands in the list twice, in another case or parity.
"""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from specie.ecash import MeltRequest
from specie.ecash import codes as refused
from specie.ecash.conditions import SigFlag, htlc_secret, p2pk_secret, sig_all_digest, sig_inputs_digest
from specie.kernel import MalformedError
from tests.support.coins import public_key, signature
from tests.support.house import House, Purse
from tests.support.locked import lock, sign_inputs, spend, witnessed
from tests.support.orders import foreign_invoice

ALICE, BOB, CAROL = (public_key(name).hex() for name in ("alice", "bob", "carol"))


def two_of_three(flag: SigFlag = SigFlag.SIG_INPUTS, nonce: bytes = bytes(32)) -> str:
    return p2pk_secret(ALICE, nonce=nonce, pubkeys=[BOB, CAROL], n_sigs=2, sigflag=flag)


async def test_many_signatures_of_one_key_count_once(purse: Purse) -> None:
    """Ten different valid signatures by alice, or one given ten times in either case of hex, are one of two."""
    (coin,) = await lock(purse, two_of_three())
    digest = sig_inputs_digest(coin)
    different = [signature(digest, "alice", aux=bytes([n]) * 32) for n in range(10)]
    assert len(set(different)) == 10
    one = different[0].hex()
    mixed = json.dumps({"signatures": [one, one.upper(), one.capitalize()]})
    for shown in (witnessed(coin, different), witnessed(coin, different[:1] * 10), replace(coin, witness=mixed)):
        with pytest.raises(refused.ConditionUnmetError):
            await spend(purse, [shown])
    assert await spend(purse, [witnessed(coin, [*different, signature(digest, "carol")])])


async def test_one_key_in_two_places_is_refused(purse: Purse) -> None:
    """A key listed twice, in upper case or with the other parity, makes a secret that nobody builds and no mint opens."""
    other_parity = ("03" if ALICE[:2] == "02" else "02") + ALICE[2:]
    for twin in (ALICE, ALICE.upper(), other_parity, ALICE[2:]):
        with pytest.raises(MalformedError):
            p2pk_secret(ALICE, nonce=bytes(32), pubkeys=[twin], n_sigs=2)
        body = {"nonce": "00" * 16, "data": ALICE, "tags": [["pubkeys", twin], ["n_sigs", "2"]]}
        (coin,) = await lock(purse, json.dumps(["P2PK", body]))
        with pytest.raises(MalformedError):
            await spend(purse, [sign_inputs(coin, "alice", "alice")])


async def test_sig_all_and_melt_count_keys_too(bank: House, purse: Purse) -> None:
    """The same for SIG_ALL in a swap and for the inputs of a melt."""
    (coin,) = await lock(purse, two_of_three(SigFlag.SIG_ALL))
    outputs = purse.outputs([4])
    digest = sig_all_digest([coin], outputs.messages)
    twice = [signature(digest, "bob"), signature(digest, "bob", aux=b"\x01" * 32)]
    with pytest.raises(refused.ConditionUnmetError):
        await spend(purse, [witnessed(coin, twice)], outputs)
    assert await spend(purse, [witnessed(coin, [twice[0], signature(digest, "alice")])], outputs)

    coins = await lock(purse, *[two_of_three(nonce=bytes([n]) * 32) for n in range(1, 5)])
    quote = await purse.melt_quote(await foreign_invoice(bank))
    forged = [witnessed(c, [signature(sig_inputs_digest(c), "bob", aux=bytes([n]) * 32) for n in (0, 1)]) for c in coins]
    with pytest.raises(refused.ConditionUnmetError):
        await bank.mint.melt(MeltRequest("bolt11", quote.quote, tuple(forged)))
    assert {one.state for one in await bank.mint.check_state([c.y for c in coins])} == {"UNSPENT"}


async def test_keys_of_a_hash_lock_are_counted_too(purse: Purse) -> None:
    """HTLC with 2 of 2: the preimage and two signatures of one key are not enough."""
    from hashlib import sha256

    preimage = b"\x07" * 32
    (coin,) = await lock(purse, htlc_secret(sha256(preimage).hexdigest(), nonce=bytes(32), pubkeys=[ALICE, BOB], n_sigs=2))
    digest = sig_inputs_digest(coin)
    twice = [signature(digest, "alice"), signature(digest, "alice", aux=b"\x01" * 32)]
    with pytest.raises(refused.ConditionUnmetError):
        await spend(purse, [witnessed(coin, twice, preimage)])
    assert await spend(purse, [sign_inputs(coin, "alice", "bob", preimage=preimage)])
