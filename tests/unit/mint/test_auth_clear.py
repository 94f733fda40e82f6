"""Clear tokens (NUT-21): what a provider's signature proves, and what a hostile token or provider cannot make us take."""

from __future__ import annotations

import asyncio

import pytest

from specie.ecash.codes import ClearAuthFailedError
from specie.kernel import UnavailableError
from specie.mint.auth import JwtAlgorithm
from specie.mint.engine.auth_clear import ClearAuth
from specie.mint.jwt import verification_keys
from tests.support.house import Pages
from tests.support.openid import CLIENT, DISCOVERY, ISSUER, Provider, auth_settings, confused, public, sign, unsigned
from tests.support.virtual import VirtualClock


class Desk:
    """A verifier and its provider on one clock."""

    def __init__(self, algorithm: str = "ES256", **changes) -> None:
        self.clock = VirtualClock()
        self.provider = Provider(self.clock, algorithm)
        self.pages = Pages()
        self.verifier = ClearAuth(auth_settings(**changes), self.provider, self.clock, self.pages)

    async def subject(self, token: str) -> str:
        return await self.verifier.verify(token)

    async def refuses(self, token: str, words: str = ".") -> None:
        with pytest.raises(ClearAuthFailedError, match=words):
            await self.verifier.verify(token)

    async def pass_time(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
def test_a_token_of_each_algorithm_names_its_user(algorithm, virtual):
    """The three signatures that NUT-21 and we speak of are taken, and `sub` is who it is."""

    async def story():
        assert await Desk(algorithm).subject(Desk(algorithm).provider.token()) == "alice"

    virtual(story)


def test_neither_none_nor_a_symmetric_key_nor_a_foreign_signature_passes(virtual):
    """RFC 8725: the token does not choose how it is verified."""

    async def story():
        desk = Desk("RS256")
        claims = desk.provider.claims()
        await desk.refuses(unsigned(claims), "algorithm")
        await desk.refuses(confused(claims, "RS256", "one"), "algorithm")
        await desk.refuses(sign(claims, "RS256", "two"), "does not publish")
        forged = sign(claims, "RS256", "two", {"kid": "one"})
        await desk.refuses(forged, "not signed")
        await desk.refuses(sign(claims, "ES256", "one"), "not signed")
        head, body, tail = desk.provider.token().split(".")
        other = sign({**claims, "sub": "mallory"}, "RS256", "one").split(".")[1]
        await desk.refuses(f"{head}.{other}.{tail}", "not signed")
        await desk.refuses(f"{head}.{body}.", "not signed")

    virtual(story)


def test_an_algorithm_that_the_operator_left_out_is_not_taken(virtual):
    """`algorithms` narrows what is taken, whatever the provider publishes."""

    async def story():
        desk = Desk("EdDSA", algorithms=(JwtAlgorithm.ES256,))
        await desk.refuses(desk.provider.token(), "algorithm")

    virtual(story)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"iss": ISSUER + "/"},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": 10**400},
        {"exp": 1},
        {"nbf": 2**40},
        {"iat": 2**40},
        {"sub": None},
        {"sub": 7},
        {"sub": ""},
        {"sub": "x" * 256},
        {"azp": "another-client"},
        {"azp": None, "aud": "another-service"},
        {"azp": None, "aud": None},
        {"azp": None, "client_id": "another-client"},
        {"client_id": ["cashu-client"]},
    ],
    ids=lambda changes: "-".join(f"{name}_{str(value)[:20]}" for name, value in changes.items()),
)
def test_a_claim_that_is_wrong_is_refused(changes, virtual):
    """Issuer, times, user and addressee are each looked at, though the signature is the provider's."""

    async def story():
        desk = Desk()
        await desk.refuses(desk.provider.token(**changes))

    virtual(story)


def test_an_audience_that_is_configured_must_be_named(virtual):
    """With `audience` set a token for the client alone does not do; lists are read too."""

    async def story():
        desk = Desk(audience="mint-key")
        await desk.refuses(desk.provider.token(), "somebody else")
        assert await desk.subject(desk.provider.token(aud=["other", "mint-key"], azp=None)) == "alice"
        assert await Desk().subject(desk.provider.token(azp=None, aud=[CLIENT])) == "alice"
        assert await Desk().subject(desk.provider.token(azp=None, client_id=CLIENT)) == "alice"

    virtual(story)


def test_the_clocks_may_differ_by_the_skew_and_not_more(virtual):
    """exp, nbf and iat are taken within `clock_skew_s` of the present."""

    async def story():
        desk = Desk(clock_skew_s=10)
        now = desk.clock.now()
        assert await desk.subject(desk.provider.token(exp=now - 9, nbf=now + 10, iat=now + 10)) == "alice"
        await desk.refuses(desk.provider.token(exp=now - 10), "expired")
        await desk.refuses(desk.provider.token(nbf=now + 11), "not valid yet")
        await desk.refuses(desk.provider.token(iat=now + 11), "not valid yet")

    virtual(story)


@pytest.mark.parametrize(
    "text", ["", "a.b", "a.b.c.d", "é.b.c", "e30.e30.e30", "W10.e30.e30", "x" * 20_000, "e30.e30." + "A" * 20_000]
)
def test_what_is_no_token_is_refused(text, virtual):
    """Rubbish is 30002, asks nobody and crashes nothing."""

    async def story():
        desk = Desk()
        await desk.refuses(text)
        assert desk.provider.asked == 0

    virtual(story)


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"typ": "logout+jwt"}, {"typ": 1}, {"kid": 1}])
def test_a_header_that_is_not_understood_is_refused(header, virtual):
    """RFC 7515 §4.1.11: what must be understood and is not; and tokens made for another use (RFC 8725 §3.11)."""

    async def story():
        desk = Desk()
        import json

        from specie.kernel.encoding import base64url_encode

        head = {"alg": "ES256", "kid": "one", "typ": "JWT", **header}
        _, body, tail = desk.provider.token().split(".")
        await desk.refuses(f"{base64url_encode(json.dumps(head).encode())}.{body}.{tail}", "header")

    virtual(story)


def test_a_payload_that_is_no_object_is_refused(virtual):
    """Signed by the provider, yet no claims."""

    async def story():
        desk = Desk()
        await desk.refuses(sign([1], "ES256", "one"), "not signed")

    virtual(story)


def test_a_rotated_key_is_found_without_a_restart(virtual):
    """An unknown key id has the provider asked again."""

    async def story():
        desk = Desk()
        await desk.subject(desk.provider.token())
        desk.provider.rotate("two", "EdDSA")
        await desk.pass_time(31)
        assert await desk.subject(desk.provider.token()) == "alice"
        assert desk.provider.asked == 2

    virtual(story)


def test_a_storm_of_unknown_keys_reaches_the_provider_six_times_a_minute(virtual):
    """Made-up key ids, many at once and for long, cost the provider next to nothing."""

    async def story():
        desk = Desk()
        claims = desk.provider.claims()
        for _ in range(10):
            storm = [desk.refuses(sign(claims, "ES256", "one", {"kid": f"made up {n}"})) for n in range(20)]
            await asyncio.gather(*storm)
            await desk.pass_time(6)
        assert desk.provider.asked <= 7

    virtual(story)


def test_a_provider_that_is_away_is_no_refusal_and_no_pass(virtual):
    """503: nobody can be told apart. Its absence is not hammered on either."""

    async def story():
        desk = Desk()
        desk.provider.away = True
        for _ in range(5):
            with pytest.raises(UnavailableError):
                await desk.subject(desk.provider.token())
        assert desk.provider.asked == 1
        desk.provider.away = False
        await desk.pass_time(6)
        assert await desk.subject(desk.provider.token()) == "alice"

    virtual(story)


def test_a_provider_that_hangs_holds_up_one_request_and_not_everybody(virtual):
    """While one waits twenty seconds for the provider, all others go on with the keys that are known; without any keys
    they wait for that one look, not for one each."""

    async def story():
        for known in (True, False):
            desk = Desk()
            if known:
                await desk.subject(desk.provider.token())
                await desk.pass_time(7200)
            fetch = desk.provider.fetch

            async def hanging(desk=desk, fetch=fetch):
                await desk.clock.sleep(20)
                desk.provider.away = True
                return await fetch()

            desk.provider.fetch = hanging
            begun = desk.clock.monotonic()
            took = []

            async def ask(desk=desk, begun=begun, took=took):
                try:
                    return await desk.subject(desk.provider.token())
                except UnavailableError:
                    return None
                finally:
                    took.append(desk.clock.monotonic() - begun)

            answers = await asyncio.gather(*(ask() for _ in range(8)))
            assert answers == ["alice" if known else None] * 8
            assert max(took) < 21
            assert sorted(took)[6] < 1 or not known

    virtual(story)


def test_known_keys_outlive_a_provider_that_is_away_by_a_day(virtual):
    """An outage of hours stops nobody whose key is known; after a day it does, and an unknown key is never believed."""

    async def story():
        desk = Desk()
        await desk.subject(desk.provider.token())
        desk.provider.away = True
        await desk.pass_time(7200)
        assert await desk.subject(desk.provider.token()) == "alice"
        await desk.pass_time(31)
        with pytest.raises(UnavailableError):
            await desk.subject(sign(desk.provider.claims(), "ES256", "two"))
        await desk.pass_time(86_400)
        with pytest.raises(UnavailableError):
            await desk.subject(desk.provider.token())

    virtual(story)


def test_waiting_requests_share_one_question(virtual):
    """Ten requests at a cold start ask the provider once."""

    async def story():
        desk = Desk()
        slow = desk.provider.fetch

        async def fetch():
            await desk.clock.sleep(1)
            return await slow()

        desk.provider.fetch = fetch
        assert await asyncio.gather(*(desk.subject(desk.provider.token()) for _ in range(10))) == ["alice"] * 10
        assert desk.provider.asked == 1

    virtual(story)


def test_waiting_requests_share_one_failure(virtual):
    """Those who waited for a question that failed do not ask it again one by one."""

    async def story():
        desk = Desk()

        async def fetch():
            desk.provider.asked += 1
            await desk.clock.sleep(1)
            raise UnavailableError("away")

        desk.provider.fetch = fetch
        results = await asyncio.gather(*(desk.subject(desk.provider.token()) for _ in range(5)), return_exceptions=True)
        assert {type(result) for result in results} == {UnavailableError}
        assert desk.provider.asked == 1

    virtual(story)


def test_a_provider_under_another_name_is_not_believed(virtual):
    """The issuer is pinned to the discovery URL (OpenID Connect Discovery §4.3), and somebody is told."""

    async def story():
        desk = Desk()
        desk.provider.issuer = "https://evil.example"
        with pytest.raises(UnavailableError):
            await desk.subject(desk.provider.token())
        assert desk.pages.pages

    virtual(story)


def test_keys_that_verify_nothing_here_are_left_out():
    """Symmetric, private-use, short, malformed and oversized keys, and keys of other curves, are no keys."""
    good = public("ES256", "one")
    junk = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "one"},
        {**good, "use": "enc"},
        {**good, "alg": "HS256"},
        {**good, "crv": "P-384"},
        {**good, "x": "A" * 2000},
        {**good, "x": 1},
        {**good, "x": "AA"},
        {**good, "kid": 5},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {**public("RS256", "one"), "e": "_" * 43},
        {},
    ]
    keys = verification_keys([*junk, good, public("RS256", "one"), {**public("EdDSA", "one"), "alg": "Ed25519"}])
    assert [key.algorithm for key in keys] == [JwtAlgorithm.ES256, JwtAlgorithm.RS256, JwtAlgorithm.EDDSA]
    assert len(verification_keys([good] * 500)) == 100
    assert DISCOVERY.startswith(ISSUER)
