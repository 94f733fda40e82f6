"""`CashuAuth`: pays HTTP 402 answers out of a wallet, within limits, as an `auth` of `httpx2.AsyncClient` (NUT-24).

    async with httpx2.AsyncClient(auth=CashuAuth(wallet, max_per_request=21, max_per_host=100)) as client:
        answer = await client.get("https://example.com/articles/7")

Each request is paid once at most. The token goes to the very origin that asked for it: it is put on the wire of one exchange
and is no part of the request that a redirect is made from. Not here: limits and what becomes of tokens (`Wallet.allowance`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncGenerator, Collection, Generator
from typing import TYPE_CHECKING

import httpx2

from specie.ecash.requests import decode_payment_request
from specie.kernel.errors import RefusedError
from specie.paywall.price import HEADER
from specie.wallet.errors import PaymentUnfitError
from specie.wallet.paid import Toll, resource_name

if TYPE_CHECKING:
    from specie.wallet import Wallet

__all__ = ["CashuAuth"]

_MOST_HEADER_CHARS = 16_384
_NO = (400, 402, 431)
"""Answers to a token that say the host does not want it."""


class CashuAuth(httpx2.Auth):
    """Pays what a server asks for with 402 and `X-Cashu`, if the limits allow it. For `AsyncClient` only.

    The answer to a token tells its fate: with a 2xx it is spent; after 400, 402 or 431 the mint is asked and the token is
    taken back if it is unspent; after anything else, or nothing, it stays on record, counts, and is given again for the
    same resource rather than another one (`Wallet.allowance.settle` clears it up). An answer without a readable request is
    returned as it is.
    """

    requires_request_body = True

    def __init__(
        self,
        wallet: Wallet,
        *,
        max_per_request: int,
        max_per_host: int | None = None,
        period_s: int = 86_400,
        unit: str = "sat",
        hosts: Collection[str] | None = None,
        plain_http: bool = False,
    ) -> None:
        """Limits are in the minor unit of `unit`, the only one that is paid in.

        `max_per_host`: within `period_s` seconds, counted in the wallet's store over restarts; ten requests' worth unless
        given. `hosts`: the only ones that are paid, as in URLs (`example.com`, `example.com:8080`). `plain_http`: pay
        without TLS other hosts than this machine, where everybody on the way can take the token.
        """
        self._wallet = wallet
        self._max_per_request = max_per_request
        self._max_per_host = 10 * max_per_request if max_per_host is None else max_per_host
        self._period_s = period_s
        self._unit = unit
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._plain_http = plain_http

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        """RuntimeError: wallets are asynchronous."""
        raise RuntimeError("CashuAuth pays for httpx2.AsyncClient")

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """The request, and after a 402 the same once more with a token.

        SpendingLimitError, PaymentUnfitError and the refusals of `Allowance.pay` where it is not to be paid.
        """
        await request.aread()
        response = yield request
        asked = response.headers.get_list(HEADER.decode())
        if response.status_code != 402 or len(asked) != 1 or len(asked[0]) > _MOST_HEADER_CHARS:
            return
        host = self._host(request, response)
        try:
            wanted = decode_payment_request(asked[0])
        except RefusedError:
            return
        await response.request.aread()
        method, target = response.request.method, response.request.url.raw_path.decode("ascii")
        allowance = self._wallet.allowance
        toll = await allowance.pay(
            wanted,
            host=host,
            resource=resource_name(f"{method} {target}"),
            max_amount=self._max_per_request,
            max_per_host=self._max_per_host,
            period_s=self._period_s,
            unit=self._unit,
        )
        known = False
        try:
            paid = yield _with_token(response.request, toll)
            known = True
            first = paid.history[1] if len(paid.history) > 1 else paid  # history[0] is the 402, redirects come after it
            if first.is_success:
                await allowance.spent(toll)
            elif first.status_code in _NO:
                await allowance.declined(toll)
            else:
                allowance.unknown(toll)
        finally:
            if not known:
                allowance.unknown(toll)

    def _host(self, request: httpx2.Request, response: httpx2.Response) -> str:
        url = response.request.url
        if url.origin != request.url.origin:
            raise PaymentUnfitError(f"{request.url.host} led to {url.host}, which asks for money: ask it directly")
        host = url.netloc.decode("ascii").lower()
        if self._hosts is not None and host not in self._hosts:
            raise PaymentUnfitError(f"{host} is not among the hosts that are paid")
        if url.scheme != "https" and not self._plain_http and not _is_here(url.host):
            raise PaymentUnfitError(f"{host} is asked without TLS, so everybody on the way could take the token")
        return host


class _OneExchange(httpx2.Headers):
    """Headers that show a token on the wire, and in no copy of theirs: what a redirect is made of does not have it."""

    token: str = ""

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """Names and values as they are sent."""
        return [*super().raw, (b"X-Cashu", self.token.encode("ascii"))]


def _with_token(request: httpx2.Request, toll: Toll) -> httpx2.Request:
    headers = _OneExchange(request.headers)
    headers.pop(HEADER.decode(), None)
    headers.token = toll.text or ""
    paid = httpx2.Request(request.method, request.url, content=request.content, extensions=dict(request.extensions))
    paid.headers = headers
    return paid


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
