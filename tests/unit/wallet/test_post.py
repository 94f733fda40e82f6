"""Posting a payment: where it does not go, and what the answers mean."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from specie.kernel.errors import RefusedError, SpecieError, UnavailableError, UncertainError
from specie.wallet.adapters.post import HttpPaymentPost, _is_public
from tests.support.virtual import run_virtual

PUBLIC = "93.184.215.14"
Handler = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names and their addresses, without a name server."""
    table: dict[str, list[str]] = {"shop.test": [PUBLIC]}

    async def getaddrinfo(self: object, host: str, port: int, **_: object) -> list[Any]:
        if host not in table:
            raise socket.gaierror("unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in table[host]]

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return table


def post(url: str, handler: Handler, **options: Any) -> None:
    """Deliver once."""

    async def run() -> None:
        plug = HttpPaymentPost(transport=httpx2.MockTransport(handler), **options)
        try:
            await plug.post(url, b"money")
        finally:
            await plug.close()
            await plug.close()

    run_virtual(run())


def ok(request: httpx2.Request) -> httpx2.Response:
    """The payee took it."""
    return httpx2.Response(200, json={"amount": 21})


def never(request: httpx2.Request) -> httpx2.Response:
    """Must not be asked."""
    raise AssertionError(request.url)


def test_connects_to_the_address_it_looked_at(names: dict[str, list[str]]) -> None:
    """The name is resolved once: the connection goes to that address, under the name for TLS and the server."""
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return ok(request)

    post("https://shop.test:8443/pay?x=1#part", handler)
    (request,) = seen
    assert str(request.url) == f"https://{PUBLIC}:8443/pay?x=1"
    assert request.headers["host"] == "shop.test:8443"
    assert request.extensions["sni_hostname"] == "shop.test"
    assert (request.method, request.content, request.headers["content-type"]) == ("POST", b"money", "application/json")


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "::1", "fe80::1%eth0",
                "fc00::1", "::ffff:127.0.0.1", "2002:7f00:1::", "224.0.0.1", "::"],
)  # fmt: skip
def test_private_addresses_are_refused(address: str, names: dict[str, list[str]]) -> None:
    """This machine, private networks, cloud metadata, also behind other spellings, and if only one of the addresses is."""
    assert not _is_public(address)
    names["inside.test"] = [PUBLIC, address]
    with pytest.raises(RefusedError, match="private network"):
        post("https://inside.test/pay", never)


def test_public_addresses() -> None:
    """The others are gone to."""
    assert all(map(_is_public, [PUBLIC, "2606:4700:4700::1111", "::ffff:8.8.8.8"]))


@pytest.mark.parametrize(
    "url",
    ["http://shop.test/pay", "ftp://shop.test", "https://", "https://user:word@shop.test/", "https://shop.test:port/",
     "https://shop.test/" + "x" * 3000, "shop.test", "https://[::1"],
)  # fmt: skip
def test_addresses_that_are_refused(url: str, names: dict[str, list[str]]) -> None:
    """Plain http, other schemes, users, and what is no URL."""
    with pytest.raises(RefusedError):
        post(url, never)


def test_private_payees_are_a_choice(names: dict[str, list[str]]) -> None:
    """Allowed, a shop on this machine is posted to, by plain http too."""
    names["localhost"] = ["127.0.0.1"]
    seen: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        return ok(request)

    post("http://localhost:3000/pay", handler, allow_private=True)
    post("http://localhost/pay", handler, allow_private=True)
    assert seen == ["http://127.0.0.1:3000/pay", "http://127.0.0.1/pay"]


@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        (httpx2.Response(409, json={"detail": "paid\nalready"}), RefusedError, "(HTTP 409): paid already"),
        (httpx2.Response(400, text="<html>"), RefusedError, "(HTTP 400)"),
        (httpx2.Response(400, headers={"content-encoding": "gzip"}), RefusedError, "(HTTP 400)"),
        (httpx2.Response(404, json=[]), RefusedError, "(HTTP 404)"),
        (httpx2.Response(404, json={"detail": 5}), RefusedError, "(HTTP 404)"),
        (httpx2.Response(302, headers={"location": "https://elsewhere.test"}), RefusedError, "leads elsewhere"),
        (httpx2.Response(503, json={"detail": "busy"}), UnavailableError, "busy"),
        (httpx2.Response(429), UnavailableError, "429"),
        (httpx2.Response(500), UncertainError, "500"),
        (httpx2.Response(408), UncertainError, "408"),
    ],
)
def test_answers(response: httpx2.Response, error: type[SpecieError], words: str, names: dict[str, list[str]]) -> None:
    """A refusal brings the payee's words on one line; a redirect is not followed; what is unknown may have arrived."""
    with pytest.raises(error) as caught:
        post("https://shop.test/pay", lambda request: response)
    assert words in caught.value.detail
    assert len(caught.value.detail) < 300


def test_endless_answer_is_not_read(names: dict[str, list[str]]) -> None:
    """A payee that took the payment and never ends its answer has taken it."""

    class Endless(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            while True:
                yield b"x" * 10_000

    post("https://shop.test/pay", lambda request: httpx2.Response(200, stream=Endless()))


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (httpx2.ConnectError("no"), UnavailableError),
        (httpx2.ConnectTimeout("no"), UnavailableError),
        (httpx2.ReadTimeout("no"), UncertainError),
        (httpx2.RemoteProtocolError("no"), UncertainError),
    ],
)
def test_lost_connections(raised: Exception, error: type[SpecieError], names: dict[str, list[str]]) -> None:
    """What was never reached had no effect; after that nobody knows."""

    def handler(request: httpx2.Request) -> httpx2.Response:
        raise raised

    with pytest.raises(error):
        post("https://shop.test/pay", handler)


def test_name_without_an_address(names: dict[str, list[str]]) -> None:
    """Unknown names, and those that have none."""
    names["empty.test"] = []
    for url in ("https://unknown.test/", "https://empty.test/"):
        with pytest.raises(UnavailableError):
            post(url, never)


def test_whole_delivery_is_bounded_in_time(names: dict[str, list[str]]) -> None:
    """A payee that answers a byte now and then does not hold the payer."""

    class Slow(httpx2.AsyncByteStream):
        async def __aiter__(self) -> Any:
            while True:
                await asyncio.sleep(5)
                yield b"x"

    with pytest.raises(UncertainError):
        post("https://shop.test/pay", lambda request: httpx2.Response(200, stream=Slow()), timeout_s=20)


def test_next_address_is_tried(names: dict[str, list[str]]) -> None:
    """Where one address of a name is not reached the next is, IPv6 among them; after a few it is given up."""
    names["many.test"] = ["2606:4700:4700::1111", PUBLIC]
    seen: list[str] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(str(request.url))
        if len(seen) == 1:
            raise httpx2.ConnectError("no route")
        return ok(request)

    post("https://many.test/pay", handler)
    assert seen == ["https://[2606:4700:4700::1111]/pay", f"https://{PUBLIC}/pay"]
