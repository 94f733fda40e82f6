"""The wallet at a mint that asks who uses it: logins that last, and blind tokens that no error burns (NUT-21, NUT-22)."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import parse_qsl, urlsplit

import httpx2
import pytest
from msgspec.structs import replace
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from specie.ecash import MintInfo, blind_auth_setting, clear_auth_setting
from specie.ecash.codes import BlindAuthFailedError, ProofsSpentError
from specie.ecash.wire import auth_token_to_text
from specie.kernel.errors import InvariantError, PeerFaultError, RefusedError, SpecieError, UnavailableError, UncertainError
from specie.keys import KeysetRef
from specie.mint.engine.auth import LEASE_S
from specie.wallet import LoginOffer
from specie.wallet.adapters.auth_store import SqlBlindTokenStore
from specie.wallet.adapters.http import HttpMintClient
from specie.wallet.auth import BlindTokenState, Login, Provider, TokenAnswer, authorization_url, pkce_challenge, scopes_for
from specie.wallet.errors import LoginRefusedError, LoginRequiredError, OperationOpenError, UnsupportedError
from tests.support.guarded import guarded_world
from tests.support.openid import DISCOVERY, ISSUER
from tests.support.wallets import MINT_URL, Died, MortalStorage, memory_storage, virtually, world

POOL = SqlBlindTokenStore()


async def ready(wallet) -> int:
    """Blind tokens that can be used."""
    return sum(one.ready for one in await wallet.auth.status())


async def uncertain(wallet) -> int:
    return sum(one.uncertain for one in await wallet.auth.status())


def answered(request: httpx2.Request, status: int, body: object) -> httpx2.Response:
    return httpx2.Response(status, content=json.dumps(body).encode(), request=request)


# -- using a mint


@virtually
async def test_every_verb_with_blind_tokens():
    """Mint, send, receive and pay at a mint that asks for a blind token each time; the books agree and know none of them."""
    async with guarded_world() as w:
        alice, bob = await w.member(), await w.member()
        await w.fund(alice, 200)
        await bob.receive((await alice.send(37)).text)
        assert (await alice.pay(await w.foreign_invoice(21_000))).state == "PAID"
        await alice.check_pending()
        await w.books_hold(alice, bob)
        assert 0 < await ready(alice) < 20
        assert await uncertain(alice) == 0
        tokens = [one for one in w.line.sent("/v1/swap", "blind-auth") if one]
        assert len(tokens) == len(set(tokens)) >= 2
        assert all(token.startswith("authA") for token in tokens)
        assert w.line.sent("/v1/swap", "clear-auth") == [None] * len(tokens)


@virtually
async def test_a_login_alone_where_no_blind_tokens_are_asked_for():
    """NUT-21 alone: the clear token goes with protected requests and with no others."""
    async with guarded_world(blind_endpoints=(), clear_endpoints=("POST /v1/swap",)) as w:
        alice = await w.member()
        await w.fund(alice, 64)
        await alice.split([3, 4])
        assert all(w.line.sent("/v1/swap", "clear-auth"))
        assert not any(w.line.sent("/v1/mint/bolt11", "clear-auth"))
        assert not any(w.line.sent("/v1/info", "clear-auth"))
        (status,) = await alice.auth.status()
        assert (status.host, status.logged_in, status.renewable, status.ready) == ("login.example", True, True, 0)


@virtually
async def test_without_a_login_the_wallet_says_how_to_get_one():
    """Nothing is sent, nothing is lost, and the message is the command."""
    async with guarded_world() as w:
        alice = await w.user()
        await alice.add_mint(MINT_URL)
        with pytest.raises(LoginRequiredError, match=f"specie wallet login {MINT_URL}"):
            await w.fund(alice, 10)
        assert not w.line.sent("/v1/mint/quote/bolt11", "blind-auth")
        await alice.auth.login(await alice.auth.offer(MINT_URL), lambda url: None)
        await w.fund(alice, 10)
        assert await alice.operations() == []


@virtually
async def test_logging_out_forgets_login_and_tokens():
    """Money stays; the next protected request asks for a login."""
    async with guarded_world() as w:
        alice = await w.member()
        await w.fund(alice, 10)
        assert await alice.auth.logout(MINT_URL) is True
        assert await alice.auth.logout(MINT_URL) is False
        assert (await alice.balance()).available == 10
        with pytest.raises(LoginRequiredError):
            await alice.split([1])
        (status,) = await alice.auth.status()
        assert (status.logged_in, status.ready) == (False, 0)


# -- logging in


@virtually
async def test_the_code_flow_proves_itself_with_pkce():
    """RFC 7636: the challenge of the URL is that of the verifier; the state is fresh each time."""
    async with guarded_world() as w:
        alice = await w.user()
        seen: list[str] = []
        offer = await alice.auth.offer(MINT_URL)
        assert (offer.host, offer.client_id) == ("login.example", "cashu-client")
        for _ in range(2):
            await alice.auth.login(offer, seen.append)
        first, second = (dict(parse_qsl(urlsplit(url).query)) for url in seen)
        assert first["state"] != second["state"]
        assert first["redirect_uri"] == "http://localhost:33388/callback"
        assert first["code_challenge_method"] == "S256"
        assert first["code_challenge"] == pkce_challenge(w.desk.forms[0]["code_verifier"])
        assert w.desk.forms[0]["grant_type"] == "authorization_code"
        assert "client_secret" not in w.desk.forms[0]


@virtually
async def test_a_user_who_declines_or_stays_away_is_not_logged_in():
    """A refusal and silence are told apart, and another provider's answer is not taken (RFC 9207)."""
    async with guarded_world() as w:
        alice = await w.user()
        offer = await alice.auth.offer(MINT_URL)
        w.browser.says = lambda state: {"error": "access_denied\x1b", "state": state}
        with pytest.raises(LoginRefusedError) as refused:
            await alice.auth.login(offer, lambda url: None)
        assert refused.value.reason == "access_denied"
        w.browser.says = lambda state: {"code": "c", "iss": "https://evil.example"}
        with pytest.raises(PeerFaultError):
            await alice.auth.login(offer, lambda url: None)
        w.browser.says = None
        with pytest.raises(UnavailableError):
            await alice.auth.login(offer, lambda url: None, timeout_s=300)
        assert not w.desk.forms


@virtually
async def test_the_device_flow_waits_as_the_provider_asks():
    """RFC 8628: pending and slow_down are waited out, everything else ends it."""
    async with guarded_world() as w:
        alice = await w.user()
        offer = await alice.auth.offer(MINT_URL)
        pending, slow = (LoginRefusedError("x", reason=reason) for reason in ("authorization_pending", "slow_down"))
        w.desk.answers = [pending, slow, UnavailableError("x"), pending]
        start = w.clock.monotonic()
        shown: list[str] = []
        status = await alice.auth.login_with_device(offer, lambda code: shown.append(code.user_code))
        assert (shown, status.logged_in) == (["ABCD"], True)
        assert w.clock.monotonic() - start == pytest.approx(5 + 5 + 10 + 15 + 15)
        w.desk.answers = [LoginRefusedError("x", reason="access_denied")]
        with pytest.raises(LoginRefusedError):
            await alice.auth.login_with_device(offer, lambda code: None)
        w.desk.answers = [LoginRefusedError("x", reason="authorization_pending") for _ in range(500)]
        with pytest.raises(UnavailableError):
            await alice.auth.login_with_device(offer, lambda code: None)


@virtually
async def test_a_password_is_given_only_where_the_provider_takes_one():
    """NUT-21 advises against it; the wallet does it where it is announced, and keeps no password."""
    async with guarded_world() as w:
        storage = await memory_storage()
        alice = await w.user(storage)
        offer = await alice.auth.offer(MINT_URL)
        assert (await alice.auth.login_with_password(offer, "alice", "swordfish")).logged_in
        assert w.desk.forms[0]["password"] == "swordfish"
        w.desk.grants = ("authorization_code",)
        with pytest.raises(UnsupportedError):
            await alice.auth.login_with_password(offer, "alice", "swordfish")
        w.desk.described = Provider(issuer=ISSUER, token_endpoint=f"{ISSUER}/token")
        for way in (alice.auth.login(offer, lambda url: None), alice.auth.login_with_device(offer, lambda code: None)):
            with pytest.raises(UnsupportedError):
                await way


@virtually
async def test_a_mint_cannot_send_its_users_anywhere():
    """A provider without TLS is not offered, and a mint without NUT-21 offers none."""
    async with guarded_world() as w:
        alice = await w.user()

        def change(request, response):
            nuts = {"21": {"openid_discovery": "http://evil.example/.well-known/openid-configuration", "client_id": "c"}}
            return answered(request, 200, {"nuts": nuts})

        w.line.change = change
        with pytest.raises(PeerFaultError):
            await alice.auth.offer(MINT_URL)
        w.line.change = lambda request, response: answered(request, 200, {"nuts": {}})
        with pytest.raises(UnsupportedError):
            await alice.auth.offer(MINT_URL)


# -- staying logged in


@virtually
async def test_a_login_is_renewed_before_it_ends_and_once_for_all():
    """Concurrent requests renew it once; the refresh token is the newest each time."""
    async with guarded_world(blind_endpoints=(), clear_endpoints=("POST /v1/*",)) as w:
        alice = await w.member()
        await w.fund(alice, 64)
        for round_ in (1, 2):
            w.clock.skip(290)
            before = len(w.desk.forms)
            await asyncio.gather(*(alice.auth._logins.token(MINT_URL, _setting(alice)) for _ in range(5)))
            assert [form["grant_type"] for form in w.desk.forms[before:]] == ["refresh_token"], round_
            assert w.desk.forms[-1]["refresh_token"] == f"refresh-{len(w.desk.forms) - 1}"
        await alice.split([3])


def _setting(wallet):
    return clear_auth_setting(wallet.auth._infos[MINT_URL])


@virtually
async def test_a_login_that_cannot_be_renewed_is_asked_for_again():
    """Refused by the provider: log in again. Not reachable: try later, and the login is kept."""
    async with guarded_world() as w:
        alice = await w.member()
        w.clock.skip(400)
        w.desk.away = True
        with pytest.raises(UnavailableError):
            await w.fund(alice, 10)
        w.desk.away = False
        w.desk.answers = [LoginRefusedError("x", reason="invalid_grant")]
        with pytest.raises(LoginRequiredError):
            await w.fund(alice, 10)


@virtually
async def test_a_token_that_the_mint_refuses_is_renewed_once():
    """30002 in the middle of a session: a fresh token, and if that is refused too, a login."""
    async with guarded_world() as w:
        alice = await w.member()
        w.provider.rotate("two")
        w.clock.skip(31)
        await w.fund(alice, 10)
        grants = [form["grant_type"] for form in w.desk.forms]
        assert grants == ["authorization_code", "refresh_token"]
        w.provider.published = []
        w.clock.skip(4000)
        async with asyncio.timeout(60):
            with pytest.raises(LoginRequiredError):
                await _drain(alice, w)


async def _drain(wallet, w):
    """Use up the pool, so that more have to be minted."""
    for _ in range(50):
        await wallet.auth.run(wallet._context.client(MINT_URL)._client, "POST", "/v1/swap", _accepted)


async def _accepted(headers):
    return None


@virtually
async def test_a_mint_that_changes_its_provider_gets_no_old_token():
    """The login of one provider is never shown to a mint that names another."""
    async with guarded_world() as w:
        alice = await w.member()
        setting = _setting(alice)
        for changed in (
            replace(setting, openid_discovery="https://evil.example" + "/.well-known/openid-configuration"),
            replace(setting, client_id="other"),
        ):
            with pytest.raises(LoginRequiredError):
                await alice.auth._logins.token(MINT_URL, changed)


@virtually
async def test_a_login_lies_sealed_and_bound_to_its_name():
    """The store holds no token in plain text; what is moved to another name, or changed, is not opened."""
    async with guarded_world() as w:
        storage = await memory_storage()
        await w.member(storage)
        rows = await storage.read(lambda tx: tx.fetch("SELECT name, sealed FROM wallet_secret"))
        assert len(rows) == 1
        assert b"refresh" not in rows[0][1]
        await storage.transact(lambda tx: tx.execute("UPDATE wallet_secret SET name = 'login/x'"))
        alice = await w.user(storage, name=1)
        with pytest.raises(RefusedError):
            await alice.secrets.get("login/x")
        await alice.secrets.put("login/x", "junk")
        assert await alice.auth._logins.login("x") is None


def test_secrets_are_in_no_repr():
    """Logs and tracebacks show when, not what."""
    login = Login(discovery=DISCOVERY, client_id="c", token_endpoint="e", access_token="TOP", refresh_token="TOP")
    assert "TOP" not in repr(login) + repr(TokenAnswer("TOP", "TOP"))


def test_scopes_and_urls():
    """A lasting login is asked for where there is one; an endpoint with a query keeps it."""
    plain = Provider(issuer=ISSUER, token_endpoint="t", scopes=("openid",))
    assert scopes_for(plain) == "openid"
    url = authorization_url("https://a/x?y=1", plain, client_id="c", state="s", verifier="v")
    assert url.startswith("https://a/x?y=1&response_type=code")
    assert "prompt" not in url
    assert LoginOffer(MINT_URL, DISCOVERY, "c").host == "login.example"


# -- the pool


@virtually
async def test_an_error_of_the_mint_burns_no_token():
    """A refused request puts its token back; it serves the next one."""
    async with guarded_world() as w:
        alice, bob = await w.member(), await w.member()
        await w.fund(alice, 64)
        sent = await alice.send(8)
        await bob.receive(sent.text)
        before = await ready(bob)
        for _ in range(3):
            with pytest.raises(ProofsSpentError):
                await bob.receive(sent.text)
        used = 3 * 2  # each looks at what the mint has done after its refusal
        assert await ready(bob) >= before - used
        assert await uncertain(bob) == 0


@virtually
async def test_a_request_that_never_left_keeps_its_token():
    """No connection: the token is back at once."""
    async with guarded_world() as w:
        alice = await w.member()
        await w.fund(alice, 64)
        before = await ready(alice)
        w.line.lose["/v1/swap"] = ["before"] * 10
        with pytest.raises(UnavailableError):
            await alice.split([3])
        assert (await ready(alice), await uncertain(alice)) == (before, 0)


@virtually
async def test_a_lost_answer_costs_one_token_and_not_the_pool():
    """The swap is repeated on another token; the one in doubt is tried later, found spent, dropped, and nothing fails."""
    async with guarded_world() as w:
        alice = await w.member()
        await w.fund(alice, 64)
        w.line.lose["/v1/swap"] = ["after"]
        await alice.split([3])
        assert await uncertain(alice) == 1
        w.clock.skip(120)
        for _ in range(30):
            await alice.split([3])
            if not await uncertain(alice):
                break
        assert await uncertain(alice) == 0
        await w.books_hold(alice)


@virtually
async def test_a_token_in_doubt_that_was_not_spent_is_used_after_all():
    """The request was lost on its way, so the token is good."""
    async with guarded_world(bat_max_mint=1) as w:
        alice = await w.member()
        await w.fund(alice, 64)
        pool = alice.auth._pool
        client = alice._context.client(MINT_URL)._client
        token = await pool.take(client, _blind(alice))
        await pool.doubt(token)
        w.clock.skip(61)
        again = await pool.take(client, _blind(alice))
        assert again.secret == token.secret
        assert (await pool.take(client, _blind(alice), sure=True)).secret != token.secret


def _blind(wallet):
    return blind_auth_setting(wallet.auth._infos[MINT_URL])


@virtually
async def test_a_pool_full_of_spent_tokens_heals():
    """Another copy of the wallet spent them all: they are dropped one by one and new ones minted."""
    async with guarded_world() as w:
        alice = await w.member()
        await w.fund(alice, 64)
        client = alice._context.client(MINT_URL)._client
        tokens = [await alice.auth._pool.take(client, _blind(alice)) for _ in range(3)]
        for token in tokens:
            async with w.bank.mint.auth.spending(auth_token_to_text(token.proof)):
                pass
            await alice.auth._pool.put_back(token)
        await alice.split([3])
        assert len(w.line.sent("/v1/swap", "blind-auth")) == 4


@virtually
async def test_tokens_of_a_keyset_that_is_gone_are_dropped():
    """The operator counted `blind_keyset` up: the old pool is void, and the wallet gets a new one by itself."""
    async with guarded_world() as w:
        alice = await w.member()
        await w.fund(alice, 64)
        auth = w.bank.mint.auth
        auth._keysets.clear()
        auth._ref = KeysetRef("auth", 1)
        await auth.start()
        for _ in range(6):
            try:
                await alice.split([3])
                break
            except BlindAuthFailedError:
                continue
        else:
            raise AssertionError("the pool did not heal")


@virtually
async def test_many_requests_at_once_use_as_many_tokens():
    """No token goes with two requests."""
    async with guarded_world(bat_max_mint=5) as w:
        alice = await w.member()
        client = alice._context.client(MINT_URL)
        await asyncio.gather(*(client.check_state([b"\x02" * 33]) for _ in range(12)))
        tokens = w.line.sent("/v1/checkstate", "blind-auth")
        assert len(set(tokens)) == 12


# -- minting tokens


@virtually
async def test_a_lost_batch_is_asked_for_again_with_the_same_secrets():
    """The mint signed and the answer was lost: the same request again, and the tokens are there."""
    async with guarded_world() as w:
        alice = await w.member()
        w.line.lose["/v1/auth/blind/mint"] = ["after"] * 2
        with pytest.raises(UnavailableError):
            await w.fund(alice, 10)
        with pytest.raises(UnavailableError):
            await w.fund(alice, 10)
        await w.fund(alice, 10)
        bodies = {r.content for r in w.line.requests if r.url.path == "/v1/auth/blind/mint"}
        assert len(bodies) == 1


@pytest.mark.parametrize("wrong", ["dleq missing", "dleq wrong", "one too few", "amount", "C_"])
@virtually
async def test_tokens_that_are_not_proven_are_refused(wrong):
    """A missing DLEQ is refused like a wrong one: it could mark the user. Nothing of the batch is kept."""
    async with guarded_world() as w:
        alice = await w.member()

        def change(request, response):
            if request.url.path != "/v1/auth/blind/mint":
                return response
            return answered(request, 200, {"signatures": _spoilt(json.loads(_read(response))["signatures"], wrong)})

        w.line.change = change
        with pytest.raises(UnavailableError, match="authentication"):
            await w.fund(alice, 10)
        assert (await ready(alice), len(w.pages.pages)) == (0, 1)
        w.line.change = None
        await w.fund(alice, 10)


def _read(response) -> bytes:
    """The body of an answer on its way; what ASGITransport gives has it in one list."""
    return b"".join(response.stream._body)


def _spoilt(signatures, wrong):
    if wrong == "dleq missing":
        return [{**one, "dleq": None} for one in signatures]
    if wrong == "dleq wrong":
        return [{**one, "dleq": {"e": "11" * 32, "s": "22" * 32}} for one in signatures]
    if wrong == "one too few":
        return signatures[1:]
    if wrong == "amount":
        return [{**one, "amount": 2} for one in signatures]
    return [signatures[1], signatures[0], *signatures[2:]]


@pytest.mark.parametrize("wrong", ["unit", "id", "no active"])
@virtually
async def test_a_keyset_that_is_not_one_for_tokens_is_refused(wrong):
    """Another unit, keys that do not give the id, or none that signs."""
    async with guarded_world() as w:
        alice = await w.member()

        def change(request, response):
            body = json.loads(_read(response)) if request.url.path.startswith("/v1/auth/blind/key") else None
            if body is None:
                return response
            for keyset in body["keysets"]:
                if wrong == "no active":
                    keyset["active"] = False
                elif "keys" in keyset:
                    keyset |= {"unit": "sat"} if wrong == "unit" else {"keys": {"1": "02" + "79be667ef9dcbbac" * 4}}
            return answered(request, 200, body)

        w.line.change = change
        with pytest.raises(UnavailableError):
            await w.fund(alice, 10)


@virtually
async def test_a_mint_that_refuses_tokens_is_heard():
    """31004: the wallet says so, keeps no half batch, and works again later."""
    async with guarded_world(bats_per_hour=20, bat_burst=50) as w:
        alice, bob = await w.member(), await w.member()
        await w.fund(alice, 10)
        await w.fund(bob, 10)
        carol = await w.member()
        with pytest.raises(RefusedError) as refused:
            await w.fund(carol, 10)
        assert refused.value.code == 31004
        counts = await carol.auth._pool.counts()
        assert not counts
        w.clock.skip(7200)
        await w.fund(carol, 10)


# -- what a mint may ask


@virtually
async def test_news_of_what_is_protected_are_learnt_from_a_refusal():
    """The mint began to ask since the wallet last looked: 31001, a look at its info, and the request again."""
    async with guarded_world() as w:
        alice = await w.member()
        alice.auth._infos[MINT_URL] = MintInfo()
        await w.fund(alice, 10)


@virtually
async def test_a_mint_that_asks_and_never_says_so_is_refused():
    """31001 though its info protects nothing: the error as it is, after one more look."""
    async with guarded_world() as w:
        alice = await w.member()
        w.line.change = lambda request, response: (
            answered(request, 200, {"nuts": {}}) if request.url.path == "/v1/info" else response
        )
        alice.auth._infos.clear()
        await alice._context.client(MINT_URL).info()
        with pytest.raises(RefusedError) as refused:
            await w.fund(alice, 10)
        assert refused.value.code == 31001
        for code in (30002, 31002):
            w.line.change = lambda request, response, code=code: (
                answered(request, 200, {"nuts": {}})
                if request.url.path == "/v1/info"
                else answered(request, 400, {"code": code, "detail": "no"})
            )
            with pytest.raises(RefusedError) as refused:
                await alice._context.client(MINT_URL).check_state([b"\x02" * 33])
            assert refused.value.code == code


@virtually
async def test_a_mint_that_refuses_every_token_is_not_fed_for_ever():
    """31002 to everything: a bounded number of tries, then its error."""
    async with guarded_world() as w:
        alice = await w.member()
        await w.fund(alice, 10)
        w.line.change = lambda request, response: (
            answered(request, 400, {"code": 31002, "detail": "no"}) if request.url.path == "/v1/checkstate" else response
        )
        w.line.requests.clear()
        with pytest.raises(BlindAuthFailedError):
            await alice._context.client(MINT_URL).check_state([b"\x02" * 33])
        assert len(w.line.sent("/v1/checkstate", "blind-auth")) == 6


@virtually
async def test_asking_for_tokens_needs_no_token():
    """A hostile `/v1/*` in NUT-22 does not make the wallet chase its own tail."""
    async with guarded_world() as w:
        alice = await w.member()

        def change(request, response):
            if request.url.path != "/v1/info":
                return response
            info = json.loads(_read(response))
            info["nuts"]["22"]["protected_endpoints"] = [{"method": m, "path": "/v1/*"} for m in ("GET", "POST")]
            return answered(request, 200, info)

        w.line.change = change
        await alice._context.client(MINT_URL).info()
        await w.fund(alice, 10)
        assert not any(w.line.sent("/v1/auth/blind/mint", "blind-auth"))


# -- crashes


@pytest.mark.parametrize("before", [True, False])
@virtually
async def test_killed_at_any_commit_the_wallet_goes_on(before):
    """At every commit of a first swap, tokens included: the next start finishes, no coin and no pool is lost."""
    for at in range(1, 30):
        async with guarded_world() as w:
            inner = await memory_storage()
            mortal = MortalStorage(inner)
            alice = await w.member(mortal)
            await w.fund(alice, 64)
            await inner.transact(lambda tx: POOL.keep_keysets(tx, MINT_URL, ()))
            mortal.commits, mortal.at, mortal.before = 0, at, before
            try:
                await alice.split([3])
            except Died:
                pass
            else:
                assert at > 5
                return
            mortal.at = None
            w.clock.skip(LEASE_S * 3)
            again = await w.user(inner, name=1)
            await again.resume()
            await again.split([5])
            assert await again.operations() == []
            await w.books_hold(again)
            counts = (await again.auth._pool.counts())[MINT_URL]
            assert counts.get(BlindTokenState.READY, 0) > 5
    raise AssertionError("it never ended by itself")


@virtually
async def test_coins_of_an_open_operation_survive_a_login_that_ended():
    """A lost answer and then no login: the coins stay locked, and a login brings them home."""
    async with guarded_world() as w:
        alice = await w.member()
        await w.fund(alice, 64)
        w.line.lose["/v1/swap"] = ["after"] * 3
        with pytest.raises(OperationOpenError):
            await alice.split([3])
        await alice.auth.logout(MINT_URL)
        await alice.resume()
        assert len(await alice.operations()) == 1
        await alice.auth.login(await alice.auth.offer(MINT_URL), lambda url: None)
        await alice.resume()
        assert await alice.operations() == []
        await w.books_hold(alice)


@virtually
async def test_a_wallet_without_authentication_says_so():
    """Made by hand without it, the attribute is an error and not a None."""
    async with world() as w:
        alice = await w.wallet()
        with pytest.raises(InvariantError):
            _ = alice.auth
        await alice.close()
    async with guarded_world() as g:
        bob = await g.member()
        await bob.close()


# -- the WebSocket


class Doorman:
    """A `RequestAuth` that shows these tokens, one a try, and remembers how each try ended."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.ends: list[type[BaseException] | None] = []

    def learnt(self, mint, info) -> None:
        """Nothing is learnt."""

    async def run(self, client, verb, path, call):
        assert (verb, path) == ("GET", "/v1/ws")
        while True:
            try:
                result = await call({"blind-auth": self.tokens.pop(0)})
            except BlindAuthFailedError as error:
                self.ends.append(type(error))
            except BaseException as error:
                self.ends.append(type(error))
                raise
            else:
                self.ends.append(None)
                return result


async def heard(mint: HttpMintClient) -> tuple[int, type[Exception]]:
    """How much news came, and how the watch ended."""
    news = 0
    try:
        async for _ in mint.watch("bolt11_mint_quote", "q"):
            news += 1
    except SpecieError as error:
        return news, type(error)
    raise AssertionError("a watch never ends well")


@pytest.mark.network
async def test_a_socket_is_opened_with_the_headers_that_the_mint_asks_for():
    """Refused with 31002 it is tried on another token; any other refusal means that there is no WebSocket."""
    seen: list[str | None] = []

    def door(socket: ServerConnection, request: Request) -> Response | None:
        token = request.headers.get("blind-auth")
        seen.append(token)
        if token == "good":
            return None
        status, body = (404, b"") if token == "gone" else (400, b'{"code":31002,"detail":"no"}')
        if token == "odd":
            body = b'{"code":11001,"detail":"no"}'
        headers = Headers([("content-length", str(len(body))), ("connection", "close")])
        return Response(status, "No", headers, body)

    async def inside(socket: ServerConnection) -> None:
        await socket.recv()
        news = {"subId": "0", "payload": {"quote": "q"}}
        await socket.send(json.dumps({"jsonrpc": "2.0", "method": "subscribe", "params": news}))

    async with serve(inside, "127.0.0.1", 0, process_request=door) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for tokens, news, ends in (
            (["spent", "good"], 1, [BlindAuthFailedError, None]),
            (["gone"], 0, [UnavailableError]),
            (["odd"], 0, [UnavailableError]),
        ):
            doorman = Doorman(*tokens)
            mint = HttpMintClient(url, auth=doorman)
            assert await heard(mint) == (news, UnavailableError)
            assert doorman.ends == ends
            await mint.close()
    assert seen == ["spent", "good", "gone", "odd"]
    doorman = Doorman("good")
    assert await heard(HttpMintClient(url, auth=doorman)) == (0, UnavailableError)
    assert doorman.ends == [UncertainError]
