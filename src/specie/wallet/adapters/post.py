"""`PaymentPost` over HTTPS. Its addresses come out of payment requests, so out of strangers' hands.

A name is resolved once and every address it has must be public; the connection then goes to one of those, so that
a second answer of the name's server leads nowhere else. Redirects are not followed, proxies of the environment are not
asked, and of the answer little is read. `allow_private` lifts the rule for shops on one's own machine or network, where plain
HTTP is allowed, too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from specie._version import __version__
from specie.kernel.errors import RefusedError, UnavailableError, UncertainError

if TYPE_CHECKING:
    import httpx2

__all__ = ["HttpPaymentPost"]

_ANSWER_BYTES = 65_536
_ADDRESSES = 4
"""Most addresses of a name that are tried."""
_DETAIL_CHARS = 200
_URL_CHARS = 2048


class HttpPaymentPost:
    """Implements `wallet.ports.PaymentPost` by httpx2."""

    def __init__(
        self,
        *,
        allow_private: bool = False,
        timeout_s: float = 20.0,
        verify: ssl.SSLContext | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is opened. `timeout_s` bounds the whole delivery; `verify` and `transport` are the library's unless given."""
        self._allow_private = allow_private
        self._timeout_s = timeout_s
        self._verify = verify
        self._transport = transport
        self._client: httpx2.AsyncClient | None = None

    async def post(self, url: str, body: bytes) -> None:
        """Deliver; errors as the port says."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._post(url, body)
        except TimeoutError:
            raise UncertainError("the payee did not answer in time") from None

    async def _post(self, url: str, body: bytes) -> None:
        import httpx2

        addresses, host, netloc = await self._addresses(url)
        for address in addresses[:_ADDRESSES]:
            request = self._http().build_request(
                "POST",
                httpx2.URL(url).copy_with(host=address, fragment=None),
                content=body,
                headers={"host": netloc, "content-type": "application/json"},
                extensions={"sni_hostname": host},
            )
            try:
                response = await self._http().send(request, stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout):
                continue
            except httpx2.HTTPError:
                raise UncertainError("the payee did not answer") from None
            await _finish(response)
            return
        raise UnavailableError("the payee was not reached")

    async def _addresses(self, url: str) -> tuple[list[str], str, str]:
        """Addresses to connect to, name for TLS, and the Host header. RefusedError for what is not gone to."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise RefusedError("the payee's address is no URL") from None
        host = parts.hostname or ""
        plain = parts.scheme == "http"
        if len(url) > _URL_CHARS or not host or parts.scheme not in ("http", "https") or "@" in parts.netloc:
            raise RefusedError("payments are posted to an https address without a user in it")
        if plain and not self._allow_private:
            raise RefusedError("coins are not posted over plain http, where anybody on the way could take them")
        port = port or (80 if plain else 443)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise UnavailableError("the payee's name was not found") from None
        addresses = [str(entry[4][0]) for entry in found]
        if not addresses:
            raise UnavailableError("the payee's name has no address")
        if not self._allow_private and not all(map(_is_public, addresses)):
            raise RefusedError("the payee's address is on this machine or on a private network")
        return addresses, host, parts.netloc

    def _http(self) -> httpx2.AsyncClient:
        if self._client is None:
            import httpx2

            self._client = httpx2.AsyncClient(
                follow_redirects=False,
                trust_env=False,
                headers={"user-agent": f"specie/{__version__}", "accept": "application/json", "accept-encoding": "identity"},
                timeout=self._timeout_s,
                limits=httpx2.Limits(max_connections=4, max_keepalive_connections=0),
                transport=self._transport,
                verify=True if self._verify is None else self._verify,
            )
        return self._client

    async def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(parsed, "ipv4_mapped", None) or getattr(parsed, "sixtofour", None)
    return parsed.is_global and not parsed.is_multicast and (inner is None or inner.is_global)


async def _finish(response: httpx2.Response) -> None:
    """Read the answer and say what it means."""
    import httpx2

    try:
        answer = await _start_of(response)
    except httpx2.HTTPError:
        answer = b""
    finally:
        await response.aclose()
    _judge(response.status_code, answer)


async def _start_of(response: httpx2.Response) -> bytes:
    """What is read of an answer; nothing of a compressed one, which was not asked for."""
    body = bytearray()
    if "content-encoding" in response.headers:
        return b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) >= _ANSWER_BYTES:
            break
    return bytes(body[:_ANSWER_BYTES])


def _judge(status: int, answer: bytes) -> None:
    if 200 <= status < 300:
        return
    if status in (429, 503):
        raise UnavailableError(f"the payee asks for patience (HTTP {status}){_words(answer)}")
    if status >= 500 or status == 408:
        raise UncertainError(f"the payee has not finished (HTTP {status}){_words(answer)}")
    if 300 <= status < 400:
        raise RefusedError("the payee's address leads elsewhere, where coins are not sent")
    raise RefusedError(f"the payee refused the payment (HTTP {status}){_words(answer)}")


def _words(answer: bytes) -> str:
    """What a payee says of a refusal, cut and on one line."""
    try:
        body = json.loads(answer)
        detail = body["detail"] if isinstance(body, dict) else ""
    except (ValueError, KeyError, RecursionError):
        return ""
    if not isinstance(detail, str) or not detail:
        return ""
    return ": " + "".join(char if char.isprintable() else " " for char in detail[:_DETAIL_CHARS])
