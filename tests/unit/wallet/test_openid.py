"""The login provider over HTTP, as a mint chose it: bounded, never followed elsewhere, and heard in its own words only."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket

import httpx2
import pytest

from specie.kernel.errors import PeerFaultError, RefusedError, UnavailableError
from specie.wallet.adapters.callback import LoopbackListener
from specie.wallet.adapters.openid import HttpOpenIdClient
from specie.wallet.errors import LoginRefusedError
from tests.support.openid import DISCOVERY, ISSUER

ABOUT = {"issuer": ISSUER, "token_endpoint": f"{ISSUER}/token", "authorization_endpoint": f"{ISSUER}/auth"}
TOKEN = f"{ISSUER}/token"
GOOD = {"access_token": "a.b.c", "token_type": "Bearer", "refresh_token": "r", "expires_in": 60}
DEVICE = {"device_code": "d", "user_code": "AB", "verification_uri": "https://x/device", "expires_in": 10**9, "interval": 0}


def client(body: object, status: int = 200, **headers: str) -> HttpOpenIdClient:
    """A client of a provider that always says the same."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpOpenIdClient(transport=httpx2.MockTransport(lambda r: httpx2.Response(status, content=content, headers=named)))


async def test_a_provider_describes_itself():
    """What is missing has the specification's default."""
    found = await client({**ABOUT, "scopes_supported": ["openid", 5]}).discover(DISCOVERY)
    assert (found.grants, found.scopes, found.device_endpoint) == (("authorization_code",), ("openid",), None)


@pytest.mark.parametrize(
    "about",
    [
        {**ABOUT, "issuer": "https://evil.example"},
        {**ABOUT, "issuer": None},
        {**ABOUT, "token_endpoint": None},
        {**ABOUT, "token_endpoint": "http://login.example/token"},
        {**ABOUT, "token_endpoint": "http://127.0.0.1/token"},
        {**ABOUT, "authorization_endpoint": "javascript:alert(1)"},
        {**ABOUT, "authorization_endpoint": 5},
        {**ABOUT, "device_authorization_endpoint": "https://x/" + "y" * 3000},
        [],
        b"no json",
        b"x" * 300_000,
    ],
)
async def test_a_description_that_is_odd_is_the_providers_fault(about):
    """Another issuer, no token endpoint, unsafe addresses, rubbish, or too much of it."""
    provider = client(about)
    with pytest.raises(PeerFaultError):
        await provider.discover(DISCOVERY)
    await provider.close()


async def test_secrets_go_nowhere_unsafe():
    """An address without TLS is not even asked; redirects and compressed bodies are faults; the rest is a matter of time."""
    with pytest.raises(RefusedError):
        await client(ABOUT).discover("http://login.example/.well-known/openid-configuration")
    for odd in (client(b"", 302, location="https://evil"), client(gzip.compress(b"{}"), content_encoding="gzip")):
        with pytest.raises(PeerFaultError):
            await odd.discover(DISCOVERY)
    for status in (404, 500):
        with pytest.raises(UnavailableError):
            await client(b"x", status).discover(DISCOVERY)

    def fail(request):
        raise httpx2.ReadTimeout("no")

    with pytest.raises(UnavailableError):
        await HttpOpenIdClient(transport=httpx2.MockTransport(fail)).tokens(TOKEN, {})


async def test_tokens_are_read():
    """A token that can stand in a header, of the kind that is a header's; a lifetime only if it is one."""
    answer = await client(GOOD).tokens(TOKEN, {"grant_type": "x"})
    assert (answer.access_token, answer.refresh_token, answer.expires_in_s) == ("a.b.c", "r", 60)
    for odd in (True, "60", -1, 2**40, None):
        assert (await client({**GOOD, "expires_in": odd}).tokens(TOKEN, {})).expires_in_s is None
    assert (await client({**GOOD, "refresh_token": None}).tokens(TOKEN, {})).refresh_token is None


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": "a\r\nx: y"},
        {"access_token": "é"},
        {"refresh_token": ""},
        {"token_type": "mac"},
    ],
)
async def test_tokens_that_cannot_be_used_are_the_providers_fault(changes):
    """Nothing of it can become a header of ours."""
    with pytest.raises(PeerFaultError):
        await client({**GOOD, **changes}).tokens(TOKEN, {})


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": "invalid_grant\x1b[2J"}, LoginRefusedError),
        (401, {"error": "invalid_client"}, LoginRefusedError),
        (429, {"error": "slow"}, UnavailableError),
        (400, {}, UnavailableError),
        (503, {"error": "x"}, UnavailableError),
    ],
)
async def test_a_refusal_is_told_from_an_outage(status, body, error):
    """RFC 6749 §5.2: an error code refuses; anything else may be otherwise tomorrow. The code is cleaned."""
    with pytest.raises(error) as raised:
        await client(body, status).tokens(TOKEN, {})
    assert "\x1b" not in str(raised.value)


async def test_device_codes_are_read_and_bounded():
    """Half an hour at most, and a pause of one to sixty seconds."""
    code = await client({**DEVICE, "verification_uri_complete": "https://x/device?AB"}).device(TOKEN, {})
    assert (code.expires_in_s, code.interval_s, code.verification_uri_complete) == (1800, 1, "https://x/device?AB")
    assert (await client({**DEVICE, "interval": "x"}).device(TOKEN, {})).interval_s == 5
    for odd in ({"user_code": "a\nb"}, {"device_code": ""}, {"expires_in": "x"}, {"verification_uri": "h" * 3000}):
        with pytest.raises(PeerFaultError):
            await client({**DEVICE, **odd}).device(TOKEN, {})


# -- the way back


@pytest.fixture
def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def say(port: int, head: bytes) -> bytes:
    """One request to the listener, and all of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    await writer.drain()
    answer = await reader.read(5000)
    writer.close()
    return answer


@pytest.mark.network
async def test_only_the_browser_of_this_login_is_heard(free_port):
    """Another state, path or method is answered and forgotten; the right one gives its query, and a repetition does no harm."""
    async with LoopbackListener(free_port).listening("s e&t") as returned:
        assert b"404" in await say(free_port, b"GET /other?state=s%20e%26t&code=x HTTP/1.1\r\n\r\n")
        assert b"404" in await say(free_port, b"POST /callback?state=s%20e%26t&code=x HTTP/1.1\r\n\r\n")
        assert b"400" in await say(free_port, b"GET /callback?state=other&code=x HTTP/1.1\r\n\r\n")
        assert b"400" in await say(free_port, b"GET /callback HTTP/1.1\r\n\r\n")
        assert await say(free_port, b"GET " + b"x" * 100_000 + b"\r\n\r\n") == b""
        assert not returned.done()
        for _ in range(2):
            assert b"200" in await say(free_port, b"GET /callback?state=s%20e%26t&code=yes HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await returned)["code"] == "yes"


@pytest.mark.network
async def test_a_port_that_is_taken_is_told(free_port):
    """Two logins at once cannot both listen: the second one says so."""
    async with LoopbackListener(free_port).listening("a"):
        with pytest.raises(UnavailableError, match="not free"):
            async with LoopbackListener(free_port).listening("b"):
                raise AssertionError("both listen")
