"""The provider's keys over HTTP: everything that comes back is bounded, and what is odd is no key set."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import httpx2
import pytest

from specie.kernel import UnavailableError
from specie.mint.adapters.openid import OpenIdKeySource
from tests.support.openid import DISCOVERY, ISSUER, public

JWKS = f"{ISSUER}/jwks"
Handler = Callable[[httpx2.Request], httpx2.Response]


def source(handler: Handler, discovery: str = DISCOVERY) -> OpenIdKeySource:
    return OpenIdKeySource(discovery, transport=httpx2.MockTransport(handler))


def provider(about: object = None, keys: object = None, **more: object) -> Handler:
    """A provider that says this of itself and of its keys."""
    described = {"issuer": ISSUER, "jwks_uri": JWKS, **more} if about is None else about
    published = {"keys": [public("ES256", "one")]} if keys is None else keys

    def answer(request: httpx2.Request) -> httpx2.Response:
        body = described if str(request.url).endswith("openid-configuration") else published
        return httpx2.Response(200, content=body if isinstance(body, bytes) else json.dumps(body).encode())

    return answer


async def test_issuer_and_keys_are_read():
    """Discovery first, then the keys it names; nothing else is asked."""
    asked = []

    def answer(request):
        asked.append(str(request.url))
        return provider()(request)

    keys = source(answer)
    found = await keys.fetch()
    assert (found.issuer, len(found.keys)) == (ISSUER, 1)
    assert asked == [DISCOVERY, JWKS]
    await keys.close()
    await keys.close()


@pytest.mark.parametrize(
    "handler",
    [
        provider(b"no json"),
        provider(b"[" * 100_000),
        provider([1]),
        provider({}),
        provider({"issuer": ISSUER, "jwks_uri": 5}),
        provider(jwks_uri="http://login.example/jwks"),
        provider(jwks_uri="http://127.0.0.1/jwks"),
        provider(jwks_uri="file:///etc/passwd"),
        provider(keys=b"x" * 300_000),
        provider(keys={"keys": {}}),
        provider(keys=b'"keys"'),
        lambda request: httpx2.Response(302, headers={"location": "https://evil.example/"}),
        lambda request: httpx2.Response(500),
        lambda request: httpx2.Response(200, content=gzip.compress(b"{}"), headers={"content-encoding": "gzip"}),
    ],
)
async def test_whatever_is_odd_makes_the_provider_unavailable(handler):
    """Redirects, rubbish, huge or compressed bodies, and keys at unsafe addresses: 503, never a key."""
    keys = source(handler)
    with pytest.raises(UnavailableError):
        await keys.fetch()
    await keys.close()


async def test_a_provider_that_cannot_be_reached_is_unavailable():
    """No connection, whatever the reason."""

    def fail(request):
        raise httpx2.ConnectError("no")

    with pytest.raises(UnavailableError):
        await source(fail).fetch()


async def test_a_key_set_is_cut_and_what_is_no_key_left_out():
    """A hundred at most; those that are no objects are nothing."""
    found = await source(provider(keys={"keys": ["x", 1, *([public("ES256", "one")] * 500)]})).fetch()
    assert len(found.keys) == 98


async def test_a_provider_on_this_machine_may_do_without_tls():
    """Loopback to loopback, for trying things out."""
    local = "http://127.0.0.1:9/.well-known/openid-configuration"
    found = await source(provider(jwks_uri="http://127.0.0.1:9/jwks"), local).fetch()
    assert found.keys
