"""An OpenID provider's keys over HTTPS: `mint.auth_ports.KeySource`, suspicious of everything that comes back.

Answers are bounded in size and time, nothing is followed elsewhere, compressed bodies are refused, and a key set behind
plain http is asked for on this machine only.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

import httpx2

from specie._version import __version__
from specie.ecash.openid import may_be_asked
from specie.kernel.errors import UnavailableError
from specie.mint.auth import ProviderKeys

__all__ = ["OpenIdKeySource"]

_MAX_BYTES = 262_144
_MAX_KEYS = 100
_TIMEOUT_S = 10.0


class OpenIdKeySource:
    """Keys of the provider behind a discovery URL. `transport` and `verify` are for tests and own certificates."""

    def __init__(
        self,
        discovery: str,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        verify: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is opened before the first call."""
        self._discovery = discovery
        self._transport = transport
        self._verify = verify
        self._client: httpx2.AsyncClient | None = None

    async def fetch(self) -> ProviderKeys:
        """GET the discovery document, then the key set it names. UnavailableError where either cannot be had or read."""
        about = await self._get(self._discovery)
        issuer, address = about.get("issuer"), about.get("jwks_uri")
        if not isinstance(issuer, str) or not isinstance(address, str):
            raise UnavailableError("the login provider's discovery document names no issuer or no keys")
        if not may_be_asked(address) or (address.startswith("http:") and self._discovery.startswith("https:")):
            raise UnavailableError("the login provider names keys at an address that is not safe to ask")
        keys = (await self._get(address)).get("keys")
        if not isinstance(keys, list):
            raise UnavailableError("the login provider's keys cannot be read")
        return ProviderKeys(issuer, tuple(key for key in keys[:_MAX_KEYS] if isinstance(key, dict)))

    async def _get(self, url: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._http().stream("GET", url) as response:
                if response.status_code != 200:
                    raise UnavailableError(f"the login provider answered HTTP {response.status_code}")
                if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
                    raise UnavailableError("the login provider sent a compressed body, which was not asked for")
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise UnavailableError("the login provider's answer is too large")
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError) as error:
            raise UnavailableError(f"the login provider cannot be reached: {type(error).__name__}") from error
        try:
            document = json.loads(bytes(body))
        except (ValueError, RecursionError):
            raise UnavailableError("the login provider's answer is not JSON") from None
        if not isinstance(document, dict):
            raise UnavailableError("the login provider's answer is no JSON object")
        return document

    def _http(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = httpx2.AsyncClient(
                follow_redirects=False,
                headers={"user-agent": f"specie/{__version__}", "accept": "application/json", "accept-encoding": "identity"},
                limits=httpx2.Limits(max_connections=2, max_keepalive_connections=1),
                timeout=_TIMEOUT_S,
                transport=self._transport,
                verify=True if self._verify is None else self._verify,
            )
        return self._client

    async def close(self) -> None:
        """Close connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
