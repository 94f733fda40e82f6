"""Blind tokens at the mint (NUT-22): minted for a user, spent with the effect they paid for, burned by no error."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from specie.ecash import BlindedMessage, Proof, SwapRequest, wire
from specie.ecash.codes import (
    AmountOutOfRangeError,
    BlindAuthFailedError,
    BlindAuthRateLimitedError,
    BlindAuthTooManyError,
    DuplicateOutputsError,
    KeysetInactiveError,
    KeysetUnknownError,
    OutputsSignedError,
    PaymentFailedError,
    ProofsSpentError,
    UnbalancedError,
)
from specie.ecash.openid import issuer_of, may_be_asked
from specie.kernel import InvariantError, Limits, MalformedError, RefusedError, UnavailableError, UncertainError
from specie.mint import AuthSettings, MintSettings
from specie.mint.adapters.auth_sql import SqlAuthStore
from specie.mint.engine.auth import LEASE_S
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.house import MIGRATIONS, House, Purse, house
from tests.support.openid import DISCOVERY, Provider, auth_keyset, auth_settings, blind_tokens, outputs_of
from tests.support.virtual import VirtualClock
from tests.support.wallets import Died, MortalStorage, World

STORE = SqlAuthStore()


@contextlib.asynccontextmanager
async def guarded(storage=None, *, clock=None, exclusive=True, seed=0, **changes):
    """A mint that asks for blind tokens."""
    clock = clock or VirtualClock()
    settings = MintSettings(auth=auth_settings(**changes))
    async with house(
        storage=storage, clock=clock, settings=settings, auth_source=Provider(clock), exclusive=exclusive, seed=seed
    ) as bank:
        yield bank


@pytest.fixture
async def bank():
    async with guarded() as running:
        yield running


async def state(bank: House, token: str):
    """What the mint remembers of a token."""
    y = wire.auth_token_from_text(token).y
    return await bank.storage.read(lambda tx: STORE.state(tx, y))


async def swap(bank: House, token: str, coins, amounts=None):
    """A swap on a blind token."""
    purse = Purse(bank, token)
    outputs = purse.outputs(amounts or [coin.amount for coin in coins])
    async with bank.mint.auth.spending(token):
        return outputs.proofs(await bank.mint.swap(SwapRequest(tuple(coins), outputs.messages)))


# -- minting


async def test_tokens_are_minted_with_proofs_and_told_apart_by_their_keyset(bank):
    """Every signature carries a DLEQ proof that verifies, and the keyset's id is the one its key gives."""
    tokens = await blind_tokens(bank, 5)
    assert len(set(tokens)) == 5
    keyset = auth_keyset(bank.mint.auth)
    assert (keyset.unit, list(keyset.keys)) == ("auth", [1])
    assert bank.mint.auth.keyset(keyset.id) == keyset
    assert keyset.id not in {other.id for other in bank.mint.keysets()}
    assert "auth" not in {other.unit for other in bank.mint.keysets()}


async def test_the_same_request_gets_the_same_signatures_and_is_counted_once(bank):
    """A lost answer costs nothing: not a token of the user's pace, and nothing signed twice."""
    outputs = outputs_of(bank, 50)
    first = await bank.mint.auth.mint(outputs.messages, "alice")
    for _ in range(10):
        assert await bank.mint.auth.mint(outputs.messages, "alice") == first


async def test_the_same_request_twice_at_once_is_one(bank):
    """Two that race get one answer."""
    outputs = outputs_of(bank, 3)
    both = await asyncio.gather(*(bank.mint.auth.mint(outputs.messages, "alice") for _ in range(2)))
    assert both[0] == both[1]


async def test_an_output_is_signed_for_one_request_only(bank):
    """Another request with a known output is refused whole."""
    outputs = outputs_of(bank, 3)
    await bank.mint.auth.mint(outputs.messages[:2], "alice")
    with pytest.raises(OutputsSignedError):
        await bank.mint.auth.mint(outputs.messages[1:], "alice")
    assert len(await bank.mint.auth.mint(outputs.messages[2:], "alice")) == 1


async def test_more_than_a_batch_is_refused(bank):
    """31003 above `bat_max_mint`."""
    with pytest.raises(BlindAuthTooManyError):
        await bank.mint.auth.mint(outputs_of(bank, 51).messages, "alice")


async def test_a_user_mints_at_a_pace():
    """31004 beyond burst and hour, for each user alone; time gives it back."""
    async with guarded(bats_per_hour=60, bat_burst=50) as bank:
        await blind_tokens(bank, 50, seed="a")
        with pytest.raises(BlindAuthRateLimitedError):
            await blind_tokens(bank, 1, seed="b")
        assert len(await blind_tokens(bank, 1, subject="bob", seed="c")) == 1
        bank.clock.skip(60)
        assert len(await blind_tokens(bank, 1, seed="b")) == 1
        with pytest.raises(BlindAuthRateLimitedError):
            await blind_tokens(bank, 1, seed="d")


async def test_no_pace_is_no_limit():
    """0 switches it off."""
    async with guarded(bats_per_hour=0) as bank:
        for seed in range(6):
            assert len(await blind_tokens(bank, 50, seed=seed)) == 50


async def test_what_is_no_order_for_tokens_is_refused(bank):
    """Empty, of another amount, keyset or twice the same: nothing is signed."""
    auth, keyset = bank.mint.auth, auth_keyset(bank.mint.auth)
    output = outputs_of(bank, 1).messages[0]
    old = next(other for other in auth.keysets() if not other.active)
    for outputs, error in (
        ((), MalformedError),
        ((BlindedMessage(2, keyset.id, output.B_),), AmountOutOfRangeError),
        ((BlindedMessage(1, bank.keyset().id, output.B_),), KeysetUnknownError),
        ((BlindedMessage(1, old.id, output.B_),), KeysetInactiveError),
        ((output, output), DuplicateOutputsError),
        ((BlindedMessage(1, keyset.id, b"\x02" + b"\xff" * 32),), MalformedError),
    ):
        with pytest.raises(error):
            await auth.mint(outputs, "alice")


async def test_a_signer_that_proves_nothing_cannot_serve(bank, monkeypatch):
    """DLEQ is a must (NUT-22): refused at start, and stopped if the signer leaves one out after all."""
    auth = bank.mint.auth
    capabilities = replace(bank.signer.capabilities(), dleq=False)
    signed = bank.signer.blind_sign

    class Mute:
        def __getattr__(self, name):
            return getattr(bank.signer, name)

        def capabilities(self):
            return capabilities

        async def blind_sign(self, tasks):
            return [each._replace(dleq_e=None) for each in await signed(tasks)]

    monkeypatch.setattr(auth, "_signer", Mute())
    with pytest.raises(RefusedError):
        await auth.start()
    with pytest.raises(InvariantError):
        await auth.mint(outputs_of(bank, 1).messages, "alice")


# -- spending


async def test_a_token_is_good_for_one_request(bank):
    """After a success it is spent: 31002."""
    coins = await Purse(bank).mint(8)
    token, other = await blind_tokens(bank, 2)
    coins = await swap(bank, token, coins)
    assert await state(bank, token) == "SPENT"
    with pytest.raises(BlindAuthFailedError, match="used before"):
        await swap(bank, token, coins)
    assert await swap(bank, other, coins)


async def test_a_request_that_changes_nothing_spends_it_too(bank):
    """A look at states succeeds, so its token is spent."""
    (token,) = await blind_tokens(bank, 1)
    async with bank.mint.auth.spending(token):
        await bank.mint.check_state([b"\x02" * 33])
    assert await state(bank, token) == "SPENT"


async def test_an_error_does_not_burn_it(bank):
    """A refused swap gives the token back, and it serves the next one."""
    coins = await Purse(bank).mint(8)
    (token,) = await blind_tokens(bank, 1)
    with pytest.raises(UnbalancedError):
        await swap(bank, token, coins, [1])
    assert await state(bank, token) is None
    await swap(bank, token, coins)
    assert await state(bank, token) == "SPENT"


async def test_one_token_in_two_requests_at_once_runs_one(bank):
    """The claim is a unique insert; the loser has no effect."""
    (token,) = await blind_tokens(bank, 1)
    purses = [await Purse(bank, n).mint(8) for n in range(5)]
    results = await asyncio.gather(*(swap(bank, token, coins) for coins in purses), return_exceptions=True)
    done = [result for result in results if not isinstance(result, BaseException)]
    assert len(done) == 1
    assert {type(result) for result in results if isinstance(result, BaseException)} == {BlindAuthFailedError}
    spent = [await bank.mint.check_state([coin.y for coin in coins]) for coins in purses]
    assert sum(all(one.state == "SPENT" for one in states) for states in spent) == 1


@pytest.mark.parametrize("wrong", ["C", "secret", "id"])
async def test_a_token_that_this_mint_did_not_sign_is_refused(bank, wrong):
    """31002, before anything is claimed."""
    (token,) = await blind_tokens(bank, 1)
    proof = wire.auth_token_from_text(token)
    changed = {"C": bank.keyset().keys[1]} if wrong == "C" else {wrong: "00" * 8 if wrong == "id" else "other"}
    fields = {"id": proof.id, "secret": proof.secret, "C": proof.C, **changed}
    forged = wire.auth_token_to_text(Proof(1, fields["id"], fields["secret"], fields["C"]))
    with pytest.raises(BlindAuthFailedError):
        async with bank.mint.auth.spending(forged):
            raise AssertionError("it ran")
    assert await state(bank, forged) is None


async def test_tokens_are_no_money(bank):
    """To swap, an auth keyset is unknown, as input and as output; and money is no token."""
    coins = await Purse(bank).mint(1)
    (token,) = await blind_tokens(bank, 1)
    proof = wire.auth_token_from_text(token)
    purse = Purse(bank, "x")
    with pytest.raises(KeysetUnknownError):
        await bank.mint.swap(SwapRequest((proof,), purse.outputs([1]).messages))
    with pytest.raises(KeysetUnknownError):
        await bank.mint.swap(SwapRequest(tuple(coins), outputs_of(bank, 1, "y").messages))
    with pytest.raises(BlindAuthFailedError):
        async with bank.mint.auth.spending(wire.auth_token_to_text(coins[0])):
            raise AssertionError("it ran")


async def test_the_books_know_nothing_of_tokens(bank):
    """Nothing is owed for them: minted, spent and released, books and coins still agree."""
    coins = await Purse(bank).mint(8)
    tokens = await blind_tokens(bank, 10)
    coins = await swap(bank, tokens[0], coins)
    with pytest.raises(UnbalancedError):
        await swap(bank, tokens[1], coins, [1])
    books = await bank.mint.audit()
    assert {unit for _, unit in books.balances} == {"sat"}
    assert auth_keyset(bank.mint.auth).id not in str(books.balances)


async def test_counting_up_the_keyset_makes_old_tokens_worthless():
    """`blind_keyset`: an operator takes back all that was handed out."""
    storage = SqliteStorage(":memory:", inline=True)
    await storage.migrate(MIGRATIONS)
    async with guarded(storage) as bank:
        (token,) = await blind_tokens(bank, 1)
    async with guarded(storage, blind_keyset=1) as bank:
        with pytest.raises(BlindAuthFailedError, match="keyset"):
            async with bank.mint.auth.spending(token):
                raise AssertionError("it ran")
    await storage.close()


@pytest.mark.parametrize("error", [UncertainError("?"), InvariantError("!"), RuntimeError("?"), asyncio.CancelledError()])
async def test_an_end_that_is_not_known_follows_the_effect(bank, error):
    """Without a committed effect the token is free again; with one it is spent, whatever the answer was."""
    coins = await Purse(bank).mint(8)
    idle, used = await blind_tokens(bank, 2)
    with pytest.raises(type(error)):
        async with bank.mint.auth.spending(idle):
            raise error
    assert await state(bank, idle) is None
    outputs = Purse(bank, "z").outputs([coin.amount for coin in coins])
    with pytest.raises(type(error)):  # noqa: PT012
        async with bank.mint.auth.spending(used):
            await bank.mint.swap(SwapRequest(tuple(coins), outputs.messages))
            raise error
    assert await state(bank, used) == "SPENT"


async def test_a_replayed_answer_spends_the_token_of_the_replay(bank):
    """NUT-19 by another token: the stored answer, and that token is spent as for any success."""
    coins = await Purse(bank).mint(8)
    first, second = await blind_tokens(bank, 2)
    request = SwapRequest(tuple(coins), Purse(bank, "r").outputs([8]).messages)
    async with bank.mint.auth.spending(first):
        answer = await bank.mint.swap(request)
    async with bank.mint.auth.spending(second):
        assert await bank.mint.swap(request) == answer
    assert await state(bank, second) == "SPENT"


async def test_work_that_outlives_its_request_leaves_the_token_alone(bank):
    """A task that the request began commits after its end without asking for the token again."""
    (token,) = await blind_tokens(bank, 1)
    go = asyncio.Event()

    async def later():
        await go.wait()
        return await bank.mint.auth.storage.transact(lambda tx: tx.fetch("SELECT 1"))

    with pytest.raises(ProofsSpentError):  # noqa: PT012
        async with bank.mint.auth.spending(token):
            task = asyncio.create_task(later())
            raise ProofsSpentError
    go.set()
    assert await task == [(1,)]
    assert await state(bank, token) is None


# -- crashes


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("commit", [1, 2])
async def test_a_crash_spends_the_token_exactly_with_the_effect(commit, before):
    """Killed at each commit of a swap: the token is SPENT if and only if the coins are."""
    inner = SqliteStorage(":memory:", inline=True)
    await inner.migrate(MIGRATIONS)
    mortal = MortalStorage(inner)
    async with guarded(mortal) as bank:
        coins = await Purse(bank).mint(8)
        (token,) = await blind_tokens(bank, 1)
        mortal.at, mortal.before = mortal.commits + commit, before
        with pytest.raises(Died):
            await swap(bank, token, coins)
        mortal.at = None
    async with guarded(inner, seed=1) as bank:
        swapped = (await bank.mint.check_state([coins[0].y]))[0].state == "SPENT"
        assert swapped is (commit == 2 and not before)
        assert await state(bank, token) == ("SPENT" if swapped else None)
        await bank.mint.audit()
    await inner.close()


async def test_on_a_shared_store_a_dead_claim_is_freed_by_its_lease(bank):
    """Another process may still work on it, so only time tells; then it is taken over, and the late one is stopped."""
    (token,) = await blind_tokens(bank, 1)
    async with guarded(bank.storage, clock=bank.clock, exclusive=False, seed=1) as other:
        with pytest.raises(BlindAuthFailedError, match="took too long"):  # noqa: PT012
            async with bank.mint.auth.spending(token):
                with pytest.raises(BlindAuthFailedError, match="in use"):
                    async with other.mint.auth.spending(token):
                        raise AssertionError("it ran")
                bank.clock.skip(LEASE_S + 1)
                async with other.mint.auth.spending(token):
                    pass
        assert await state(bank, token) == "SPENT"


async def test_a_late_request_has_no_effect_without_its_token(bank):
    """Its commit is refused whole: the coins stay unspent."""
    coins = await Purse(bank).mint(8)
    (token,) = await blind_tokens(bank, 1)
    outputs = Purse(bank, "late").outputs([8])
    with pytest.raises(BlindAuthFailedError, match="took too long"):  # noqa: PT012
        async with bank.mint.auth.spending(token):
            await bank.storage.transact(lambda tx: STORE.release_all(tx))
            await bank.mint.swap(SwapRequest(tuple(coins), outputs.messages))
    assert (await bank.mint.check_state([coins[0].y]))[0].state == "UNSPENT"


async def test_a_store_that_is_away_burns_nothing_for_good(bank, monkeypatch):
    """A release that cannot be written is made up for by the lease."""
    (token,) = await blind_tokens(bank, 1)

    async def away(tx, y, holder, *, spent_too):
        raise UnavailableError("away")

    monkeypatch.setattr(bank.mint.auth._store, "release", away)
    with pytest.raises(ProofsSpentError):
        async with bank.mint.auth.spending(token):
            raise ProofsSpentError
    assert await state(bank, token) == "RESERVED"
    bank.clock.skip(LEASE_S + 1)
    async with bank.mint.auth.spending(token):
        pass
    assert await state(bank, token) == "SPENT"


# -- what is announced, and settings


async def test_what_is_on_is_announced(bank):
    """NUT-06: 21 and 22 with what is protected; minting blind tokens always needs a login."""
    nuts = bank.mint.info().nuts
    assert nuts["21"]["openid_discovery"] == DISCOVERY
    assert nuts["21"]["protected_endpoints"] == [{"method": "POST", "path": "/v1/auth/blind/mint"}]
    assert nuts["22"]["bat_max_mint"] == 50
    assert {"method": "POST", "path": "/v1/mint/*"} in nuts["22"]["protected_endpoints"]


async def test_clear_alone_announces_no_22():
    """Without blind endpoints there are no blind keysets and no 22; without settings neither."""
    async with guarded(blind_endpoints=(), clear_endpoints=("POST /v1/swap",)) as bank:
        assert {"21", "22"} & bank.mint.info().nuts.keys() == {"21"}
        assert bank.mint.auth.keysets() == []
        assert bank.mint.auth.storage is bank.storage
    async with house() as bank:
        assert not {"21", "22"} & bank.mint.info().nuts.keys()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"openid_discovery": "", "blind_endpoints": ("POST /v1/swap",)}, "openid_discovery"),
        ({"openid_discovery": "http://login.example/.well-known/openid-configuration"}, "https"),
        ({"openid_discovery": "https://login.example/"}, "end in"),
        ({"client_id": ""}, "client_id"),
        ({"algorithms": ()}, "algorithms"),
        ({"blind_endpoints": ()}, "nothing is protected"),
        ({"bat_burst": 10}, "bat_burst"),
        ({"clear_endpoints": ("POST swap",)}, "clear_endpoints"),
        ({"clear_endpoints": ("GET /v1/*",)}, "/v1/info"),
        ({"blind_endpoints": ("POST /v1/*",)}, "/v1/auth/blind/"),
        ({"blind_endpoints": ("POST /v1/auth/blind/mint",)}, "/v1/auth/blind/"),
        ({"blind_endpoints": ("POST /v1/mint/bolt11",)}, "leaves /v1/mint/bolt11/batch open"),
        ({"clear_endpoints": ("POST /v1/mint/bolt12",)}, "leaves /v1/mint/bolt12/batch open"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, words):
    """Each is told by its name."""
    with pytest.raises(ValueError, match=words):
        auth_settings(**changes)


def test_tokens_of_one_request_fit_into_an_array():
    """What is announced as `bat_max_mint` can be sent; it does not matter where no blind tokens are asked for."""
    short = Limits(array_length=10)
    with pytest.raises(ValueError, match="bat_max_mint"):
        MintSettings(auth=auth_settings(), limits=short)
    MintSettings(auth=auth_settings(bat_max_mint=10), limits=short)
    MintSettings(auth=auth_settings(clear_endpoints=("POST /v1/swap",), blind_endpoints=()), limits=short)


def test_settings_that_can_work():
    """A clear pattern that covers the mint of blind tokens is not repeated; nothing at all is off."""
    assert len(auth_settings(clear_endpoints=("POST /v1/auth/*",)).clear) == 1
    both = ("POST /v1/mint/bolt11", "POST /v1/mint/bolt11/batch")
    assert len(auth_settings(blind_endpoints=both).blind) == 2
    assert auth_settings(blind_endpoints=("POST /v1/mint/bolt11*",)).blind
    assert not AuthSettings().clear
    assert issuer_of(DISCOVERY) == "https://login.example/realms/bank"


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://login.example/x", True),
        ("http://127.0.0.1:9000/x", True),
        ("http://[::1]/x", True),
        ("http://localhost/x", True),
        ("http://login.example", False),
        ("https://user@login.example", False),
        ("https://", False),
        ("https://a b", False),
        ("ftp://login.example", False),
        ("https://[", False),
        ("https://login.example:x", False),
        ("https://login.example/#x", False),
    ],
)
def test_secrets_go_over_tls_or_stay_on_this_machine(url, allowed):
    """https, or http to loopback."""
    assert may_be_asked(url) is allowed


# -- payments


@contextlib.asynccontextmanager
async def paying():
    """A guarded mint with an invoice of elsewhere, its price, coins for it, and a token."""
    async with guarded() as bank:
        w = World(bank)
        purse = Purse(bank, "payer")
        quote = await purse.melt_quote(await w.foreign_invoice(21_000))
        coins = await purse.mint(quote.amount + quote.fee_reserve)
        yield w, quote, coins, (await blind_tokens(bank, 1))[0]


async def test_a_payment_that_failed_gives_the_token_back():
    """20004 is an error like any other, though the payment's intent was committed on the way."""
    async with paying() as (w, quote, coins, token):
        w.fail_payments()
        with pytest.raises(PaymentFailedError):
            async with w.bank.mint.auth.spending(token):
                await Purse(w.bank).melt(quote, coins)
        assert await state(w.bank, token) is None


async def test_a_payment_that_goes_on_has_spent_its_token():
    """PENDING is a success: the intent and the token are one commit, and the settling later asks for none."""
    async with paying() as (w, quote, coins, token):
        async with w.bank.mint.auth.spending(token):
            await Purse(w.bank).melt(quote, coins, prefer_async=True)
        assert await state(w.bank, token) == "SPENT"
        for _ in range(200):
            if (await w.bank.mint.melt_quote(quote.quote, "bolt11")).state == "PAID":
                break
            await asyncio.sleep(0)
        assert (await w.bank.mint.melt_quote(quote.quote, "bolt11")).state == "PAID"
        assert await state(w.bank, token) == "SPENT"
        await w.bank.mint.audit()


async def test_the_store_behind_the_claim_is_the_store(bank, tmp_path):
    """What is no commit passes through to the store as it is."""
    wrapped = bank.mint.auth.storage
    assert wrapped.status().engine == bank.storage.status().engine
    assert await wrapped.migrate(MIGRATIONS) == []
    await wrapped.backup(tmp_path / "copy")
    assert (tmp_path / "copy").exists()
    assert await wrapped.read(lambda tx: tx.fetch("SELECT 1")) == [(1,)]
    await wrapped.close()


async def test_closing_lets_go_of_the_provider(bank):
    """The source is closed with it."""
    await bank.mint.auth.close()


async def test_users_are_remembered_within_bounds(monkeypatch):
    """The user who was silent longest is forgotten first, which can only favour them."""
    monkeypatch.setattr("specie.mint.engine.auth._SUBJECTS", 2)
    async with guarded(bats_per_hour=1, bat_burst=50) as bank:
        for name in "abc":
            await blind_tokens(bank, 50, subject=name, seed=name)
        await blind_tokens(bank, 50, subject="a", seed="again")
        with pytest.raises(BlindAuthRateLimitedError):
            await blind_tokens(bank, 1, subject="c", seed="c2")
