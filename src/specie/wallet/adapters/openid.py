"""Login providers over HTTPS: `wallet.auth_ports.OpenIdClient`. A mint names them, so they are as hostile as it may be.

Answers are bounded in size and time, redirects are not followed, compressed bodies are refused. Secrets go over https, or
to this machine if the provider itself is on it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2

from specie._version import __version__
from specie.ecash.openid import issuer_of, may_be_asked
from specie.kernel.errors import PeerFaultError, RefusedError, UnavailableError
from specie.wallet.auth import DeviceCode, Provider, TokenAnswer
from specie.wallet.errors import LoginRefusedError

__all__ = ["HttpOpenIdClient"]

_MAX_BYTES = 262_144
_TIMEOUT_S = 15.0
_MAX_TOKEN_CHARS = 16_384
_MAX_TEXT_CHARS = 2_048
_MAX_DEVICE_S = 1_800


class HttpOpenIdClient:
    """One client for all providers; it keeps no cookies. `transport` and `verify` are for tests and own certificates."""

    def __init__(self, *, transport: httpx2.AsyncBaseTransport | None = None, verify: ssl.SSLContext | None = None) -> None:
        """Nothing is opened before the first call."""
        self._transport = transport
        self._verify = verify
        self._client: httpx2.AsyncClient | None = None

    async def discover(self, url: str) -> Provider:
        """GET a discovery document; PeerFaultError unless its issuer is that of the URL and its addresses are safe."""
        if not may_be_asked(url):
            raise RefusedError("the login provider's address is neither https nor on this machine")
        status, about = await self._ask("GET", url)
        if status != 200:
            raise UnavailableError(f"the login provider answered HTTP {status}")
        issuer = about.get("issuer")
        if not isinstance(issuer, str) or issuer.rstrip("/") != issuer_of(url):
            raise self._fault(url, "the login provider calls itself otherwise than its address")
        token_endpoint = self._address(about, "token_endpoint", url)
        if token_endpoint is None:
            raise self._fault(url, "the login provider has no token endpoint")
        return Provider(
            issuer=issuer,
            token_endpoint=token_endpoint,
            authorization_endpoint=self._address(about, "authorization_endpoint", url),
            device_endpoint=self._address(about, "device_authorization_endpoint", url),
            grants=_texts(about.get("grant_types_supported")) or ("authorization_code",),
            scopes=_texts(about.get("scopes_supported")),
        )

    def _address(self, about: Mapping[str, Any], name: str, discovery: str) -> str | None:
        value = about.get(name)
        if value is None:
            return None
        plain = isinstance(value, str) and value.startswith("http:")
        if not isinstance(value, str) or len(value) > _MAX_TEXT_CHARS or not may_be_asked(value):
            raise self._fault(discovery, "the login provider names an address that is not safe to ask")
        if plain and discovery.startswith("https:"):
            raise self._fault(discovery, "the login provider would have secrets sent to this machine")
        return value

    async def tokens(self, endpoint: str, form: Mapping[str, str]) -> TokenAnswer:
        """POST to a token endpoint (RFC 6749 §3.2)."""
        answer = await self._post(endpoint, form)
        access, refresh, lifetime = (answer.get(name) for name in ("access_token", "refresh_token", "expires_in"))
        if not _is_token(access) or not (refresh is None or _is_token(refresh)):
            raise self._fault(endpoint, "the login provider's tokens cannot be used")
        if str(answer.get("token_type", "")).lower() != "bearer":
            raise self._fault(endpoint, "the login provider gave a token of another kind")
        seconds = lifetime if isinstance(lifetime, int) and not isinstance(lifetime, bool) and 0 < lifetime < 2**31 else None
        return TokenAnswer(str(access), None if refresh is None else str(refresh), seconds)

    async def device(self, endpoint: str, form: Mapping[str, str]) -> DeviceCode:
        """POST to a device authorization endpoint (RFC 8628 §3.1)."""
        answer = await self._post(endpoint, form)
        match answer:
            case {"device_code": str(code), "user_code": str(user), "verification_uri": str(address), "expires_in": int(life)}:
                pass
            case _:
                raise self._fault(endpoint, "the login provider's device code cannot be read")
        whole, interval = answer.get("verification_uri_complete"), answer.get("interval", 5)
        shown = [user, address, *([whole] if isinstance(whole, str) else [])]
        if not _is_token(code) or any(len(text) > _MAX_TEXT_CHARS or not text.isprintable() for text in shown):
            raise self._fault(endpoint, "the login provider's device code cannot be read")
        return DeviceCode(
            device_code=code,
            user_code=user,
            verification_uri=address,
            verification_uri_complete=whole if isinstance(whole, str) else None,
            expires_in_s=max(1, min(life, _MAX_DEVICE_S)),
            interval_s=max(1, min(interval, 60)) if isinstance(interval, int) else 5,
        )

    async def _post(self, endpoint: str, form: Mapping[str, str]) -> dict[str, Any]:
        status, answer = await self._ask("POST", endpoint, form)
        if status == 200:
            return answer
        reason = answer.get("error")
        if 400 <= status < 500 and status not in (408, 429) and isinstance(reason, str):
            code = "".join(char for char in reason[:60] if char.isalnum() or char in "_-")
            raise LoginRefusedError(f"the login provider refused: {code}", reason=code)
        raise UnavailableError(f"the login provider answered HTTP {status}")

    async def _ask(self, verb: str, url: str, form: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._http().stream(verb, url, data=form) as response:
                if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
                    raise self._fault(url, "the login provider sent a compressed body, which was not asked for")
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _MAX_BYTES:
                        raise self._fault(url, "the login provider's answer is too large")
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError) as error:
            raise UnavailableError(f"the login provider cannot be reached: {type(error).__name__}") from error
        if 300 <= response.status_code < 400:
            raise self._fault(url, "the login provider sends us elsewhere")
        try:
            document = json.loads(bytes(body))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            if response.status_code != 200:
                return response.status_code, {}
            raise self._fault(url, "the login provider's answer is no JSON object")
        return response.status_code, document

    def _fault(self, url: str, detail: str) -> PeerFaultError:
        return PeerFaultError(detail, peer=urlsplit(url).netloc)

    def _http(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = httpx2.AsyncClient(
                follow_redirects=False,
                headers={"user-agent": f"specie/{__version__}", "accept": "application/json", "accept-encoding": "identity"},
                limits=httpx2.Limits(max_connections=2, max_keepalive_connections=0),
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


def _texts(value: object) -> tuple[str, ...] | None:
    return tuple(text for text in value[:100] if isinstance(text, str)) if isinstance(value, list) else None


def _is_token(value: object) -> bool:
    """Text that can stand in a header as it is."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TOKEN_CHARS:
        return False
    return all("!" <= char <= "~" for char in value)
