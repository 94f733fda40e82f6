"""Off-line receipt by policy: what is taken, what is refused and why, and that it is settled before its sender can undo it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specie.ecash.conditions import SpendingCondition, htlc_secret, p2pk_secret, parse_secret
from specie.kernel import MalformedError, UnavailableError
from specie.wallet import HTLC, P2PK, OfflinePolicy, Risk
from specie.wallet.errors import DleqMissingError, OfflineRefusedError
from specie.wallet.offline import OfflineCoin, check_policy, check_receipt, risk_of, safe_until
from tests.support.coins import public_key
from tests.support.two_mints import OTHER_URL, network
from tests.support.wallets import MINT_URL, virtually

NOW = 1_800_000_000
DAY = 86_400
OURS, THEIRS = public_key("ours"), public_key("theirs")
KEYS = {OURS[1:]}
POLICY = OfflinePolicy(lock_s=DAY, unlocked_most=50, token_most=1000, mint_most=2000, total_most=3000)


def condition(**terms: object) -> SpendingCondition:
    found = parse_secret(p2pk_secret(OURS.hex(), nonce=bytes(32), **terms))  # type: ignore[arg-type]
    assert found is not None
    return found


def coin(amount: int, until: int | None, mint: str = "http://a.test", unit: str = "sat") -> OfflineCoin:
    return OfflineCoin(mint, unit, amount, until)


def test_until_when_a_coin_is_ours_alone() -> None:
    """By the lock: no lock, keys of others that suffice, a refund of others, a refund of ours, a preimage alone."""
    assert safe_until(None, KEYS, NOW) == 0
    assert safe_until(condition(), KEYS, NOW) is None
    assert safe_until(condition(), set(), NOW) == 0
    assert safe_until(condition(pubkeys=[THEIRS.hex()]), KEYS, NOW) == 0
    assert safe_until(condition(pubkeys=[THEIRS.hex()], n_sigs=2), KEYS, NOW) is None
    assert safe_until(condition(locktime=NOW + 10), KEYS, NOW) == NOW + 10
    assert safe_until(condition(locktime=NOW - 10), KEYS, NOW) == 0
    assert safe_until(condition(locktime=NOW + 10, refund=[THEIRS.hex()]), KEYS, NOW) == NOW + 10
    assert safe_until(condition(locktime=NOW + 10, refund=[OURS.hex()]), KEYS, NOW) is None
    bare = parse_secret(htlc_secret("ab" * 32, nonce=bytes(32)))
    assert safe_until(bare, KEYS, NOW) == 0
    keyed = parse_secret(htlc_secret("ab" * 32, nonce=bytes(32), pubkeys=[OURS.hex()]))
    assert safe_until(keyed, KEYS, NOW) is None


def test_each_rule_refuses_by_its_name() -> None:
    """A token beyond one bound is refused for that bound, and said so."""
    locked = coin(100, None)

    def rule(policy: OfflinePolicy, token: list[OfflineCoin], *held: OfflineCoin, looked_at: int = NOW) -> str:
        with pytest.raises(OfflineRefusedError) as refusal:
            check_receipt(policy, token, held, looked_at=looked_at, now=NOW)
        return refusal.value.rule

    check_receipt(POLICY, [locked], [], looked_at=NOW, now=NOW)
    assert rule(POLICY, []) == "empty"
    assert rule(replace(POLICY, mints=("http://b.test",)), [locked]) == "mints"
    assert rule(POLICY, [locked], looked_at=NOW - 31 * DAY) == "knowledge_s"
    assert rule(POLICY, [coin(1001, None)]) == "token_most"
    assert rule(POLICY, [locked], coin(1901, None)) == "mint_most"
    assert rule(POLICY, [locked], coin(2901, None, "http://b.test")) == "total_most"
    assert rule(POLICY, [coin(51, 0)]) == "unlocked_most"
    assert rule(POLICY, [coin(51, NOW + DAY - 1)]) == "unlocked_most"
    assert rule(POLICY, [coin(1, 0)], coin(50, 0, "http://b.test")) == "unlocked_most"
    check_receipt(POLICY, [coin(51, NOW + DAY)], [], looked_at=NOW, now=NOW)
    check_receipt(POLICY, [locked], [coin(2901, None, unit="usd")], looked_at=NOW, now=NOW)
    with pytest.raises(MalformedError):
        check_policy(replace(POLICY, token_most=-1))


_coins = st.builds(
    coin,
    st.integers(1, 700),
    st.one_of(st.none(), st.just(0), st.integers(NOW - DAY, NOW + 3 * DAY)),
    st.sampled_from(["http://a.test", "http://b.test"]),
    st.sampled_from(["sat", "usd"]),
)


@given(st.lists(st.lists(_coins, min_size=1, max_size=4), max_size=12), st.integers(0, 200))
def test_no_row_of_receipts_exceeds_a_bound(tokens: list[list[OfflineCoin]], unlocked_most: int) -> None:
    """Whatever comes in whatever order: what was taken stays within every bound, each unit by itself."""
    policy = replace(POLICY, unlocked_most=unlocked_most)
    held: list[OfflineCoin] = []
    for token in tokens:
        one = [replace(coin, mint=token[0].mint, unit=token[0].unit) for coin in token]
        try:
            check_receipt(policy, one, held, looked_at=NOW, now=NOW)
        except OfflineRefusedError:
            continue
        held += one
    for unit in ("sat", "usd"):
        ours = [coin for coin in held if coin.unit == unit]
        assert sum(coin.amount for coin in ours) <= policy.total_most
        for mint in ("http://a.test", "http://b.test"):
            assert sum(coin.amount for coin in ours if coin.mint == mint) <= policy.mint_most
        weak = [coin for coin in ours if coin.until is not None and coin.until < NOW + policy.lock_s]
        assert sum(coin.amount for coin in weak) <= unlocked_most


@given(st.lists(_coins, min_size=1, max_size=4), st.lists(_coins, max_size=6), st.data())
def test_less_is_never_refused_where_more_is_taken(
    token: list[OfflineCoin], held: list[OfflineCoin], data: st.DataObject
) -> None:
    """Taking a coin out of what is held, or out of a token, turns no acceptance into a refusal."""
    one = [replace(coin, mint=token[0].mint, unit=token[0].unit) for coin in token]
    try:
        check_receipt(POLICY, one, held, looked_at=NOW, now=NOW)
    except OfflineRefusedError:
        return
    check_receipt(POLICY, one, held[1:], looked_at=NOW, now=NOW)
    if len(one) > 1:
        gone = data.draw(st.integers(0, len(one) - 1))
        check_receipt(POLICY, one[:gone] + one[gone + 1 :], held, looked_at=NOW, now=NOW)


def test_risk_by_time() -> None:
    """Locked for good, locked long enough, near its refund, and open."""
    assert risk_of(None, NOW, 100) is Risk.LOCKED
    assert risk_of(NOW + 101, NOW, 100) is Risk.LOCKED
    assert risk_of(NOW + 100, NOW, 100) is Risk.NEAR
    assert risk_of(NOW - 1, NOW, 100) is Risk.EXPOSED
    assert risk_of(0, NOW, 100) is Risk.EXPOSED


@virtually
async def test_wallet_keeps_to_the_policy_in_use() -> None:
    """Set once, it judges every off-line receipt; a refused token leaves nothing behind and can still be swapped."""
    async with network() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 1000)
        await bob.offline.use(replace(POLICY, unlocked_most=10))
        assert (await bob.offline.policy()) == replace(POLICY, unlocked_most=10)
        plain = await alice.send(11, mint=MINT_URL)
        with pytest.raises(OfflineRefusedError) as refusal:
            await bob.receive(plain.text, offline=True)
        assert refusal.value.rule == "unlocked_most"
        assert (await bob.balance()).total == 0
        locked = await alice.send(200, lock=P2PK((await bob.p2pk_key(),), locktime=w.clock.now() + 3 * DAY), mint=MINT_URL)
        assert (await bob.receive(locked.text, offline=True)).secured is False
        with pytest.raises(OfflineRefusedError):
            await bob.receive((await alice.send(5, mint=MINT_URL)).text, policy=replace(POLICY, mints=(OTHER_URL,)))
        without = await alice.send(3, mint=MINT_URL, include_dleq=False)
        with pytest.raises(DleqMissingError):
            await bob.receive(without.text, offline=True)
        assert (await bob.receive(plain.text)).amount == 11
        with pytest.raises(MalformedError):
            await bob.offline.use(replace(POLICY, total_most=-1))
        await bob.offline.use(None)
        assert await bob.offline.policy() is None


@virtually
async def test_refund_of_the_sender_is_shown_as_risk() -> None:
    """A lock far from its end, then near it, then past it: LOCKED, NEAR, EXPOSED; and past it the sender does take it back."""
    async with network() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 1000)
        await bob.offline.use(replace(POLICY, warn_s=DAY, settle=False))
        until = w.clock.now() + 3 * DAY
        lock = P2PK((await bob.p2pk_key(),), locktime=until, refund=(await alice.p2pk_key(),))
        token = await alice.send(64, lock=lock, mint=MINT_URL)
        await bob.receive(token.text, offline=True)
        (one,) = await bob.offline.status()
        assert (one.amount, one.until, one.risk) == (64, until, Risk.LOCKED)
        w.clock.skip(2 * DAY + 10)
        assert [one.risk for one in await bob.offline.status()] == [Risk.NEAR]
        w.clock.skip(DAY)
        assert [(one.until, one.risk) for one in await bob.offline.status()] == [(0, Risk.EXPOSED)]
        assert (await alice.receive(token.text)).amount == 64
        lost = await bob.offline.settle()
        assert (lost.settled, lost.short) == (0, 64)
        assert await bob.offline.status() == []
        await alice.check_pending()
        await w.all_books_hold(alice, bob)


@virtually
async def test_resume_settles_what_is_urgent_first() -> None:
    """On resume receipts are swapped by themselves: those the sender can spend now, then by their deadline."""
    async with network() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 1000)
        await bob.offline.use(replace(POLICY, unlocked_most=1000))
        key = await bob.p2pk_key()
        for amount, lock in (
            (64, P2PK((key,))),
            (32, P2PK((key,), locktime=w.clock.now() + 2 * DAY)),
            (16, None),
            (8, P2PK((key,), locktime=w.clock.now() + DAY)),
        ):
            await bob.receive((await alice.send(amount, lock=lock, mint=MINT_URL)).text, offline=True)
        assert [one.amount for one in await bob.offline.status()] == [16, 8, 32, 64]
        w.by_mint[MINT_URL].plant("before", "swap", *[UnavailableError("away")] * 12)
        assert await bob.unfinished()
        await bob.resume()
        assert (await bob.balance()).unswapped == 120
        w.by_mint[MINT_URL].before.clear()
        w.clock.skip(600)
        await bob.resume()
        assert (await bob.balance()).unswapped == 0
        assert (await bob.balance()).available == 120
        swaps = [json.loads(body)["inputs"] for verb, body in w.by_mint[MINT_URL].bodies if verb == "swap"][-4:]
        assert [sum(coin["amount"] for coin in inputs) for inputs in swaps] == [16, 8, 32, 64]
        assert not await bob.unfinished()
        await alice.check_pending()
        await w.all_books_hold(alice, bob)


@virtually
async def test_a_hash_lock_alone_protects_nobody() -> None:
    """Whoever knows the preimage can spend it, so it counts as unlocked."""
    import hashlib

    async with network() as w:
        alice, bob = await w.wallet(), await w.wallet()
        await w.fund(alice, 100)
        preimage = b"\x07" * 32
        token = await alice.send(64, lock=HTLC(hashlib.sha256(preimage).hexdigest()), mint=MINT_URL)
        with pytest.raises(OfflineRefusedError):
            await bob.receive(token.text, preimage=preimage.hex(), policy=POLICY)
