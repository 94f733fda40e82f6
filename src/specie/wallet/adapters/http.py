"""A mint over HTTP and WebSocket: `wallet.ports.MintClient`, suspicious of everything that comes back.

| what happens                                        | a question is        | a request that moves value is |
|-----------------------------------------------------|----------------------|-------------------------------|
| no connection, so nothing was sent                  | UnavailableError     | UnavailableError              |
| connection lost, no answer in time, HTTP 5xx or 408 | UnavailableError     | UncertainError                |
| HTTP 429                                            | UnavailableError     | UnavailableError              |
| HTTP 4xx                                            | RefusedError         | RefusedError                  |
| redirect, another status, a body that does not fit  | PeerFaultError       | PeerFaultError                |

No redirect is followed: a mint that moves has to be added under its new URL. Bodies are bounded while they are read, and
compressed ones are refused. Nothing is retried here; the journal decides what may be sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote as quoted
from urllib.parse import urlencode

import httpx2

from specie._version import __version__
from specie.ecash import wire
from specie.ecash.codes import (
    BlindAuthFailedError,
    BlindAuthRequiredError,
    ClearAuthFailedError,
    ClearAuthRequiredError,
)
from specie.ecash.info import MintInfo
from specie.ecash.keyset import Keyset, KeysetInfo
from specie.ecash.mint_url import join_url
from specie.ecash.proof import BlindedMessage, BlindSignature, ProofState
from specie.ecash.quote import MeltQuote, MeltQuoteRequest, MintQuote, MintQuoteRequest
from specie.ecash.subscription import Notification, RpcError, SubscribeRequest, SubscriptionKind
from specie.kernel.errors import (
    MalformedError,
    PeerFaultError,
    RefusedError,
    SpecieError,
    UnavailableError,
    UncertainError,
)
from specie.kernel.limits import DEFAULT_LIMITS, Limits
from specie.wallet.auth_ports import RequestAuth
from specie.wallet.errors import UnsupportedError

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection
    from websockets.exceptions import InvalidStatus

__all__ = ["HttpMintClient", "HttpTimeouts"]

T = TypeVar("T")

_NEVER_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.LocalProtocolError,
)
_AUTH_REFUSALS = (ClearAuthRequiredError, ClearAuthFailedError, BlindAuthRequiredError, BlindAuthFailedError)
_LONGEST_RETRY_AFTER_S = 600.0


@dataclass(frozen=True, slots=True)
class HttpTimeouts:
    """Seconds: to connect, for a whole answer, and for the answer to a melt, which may take as long as the payment."""

    connect_s: float = 10.0
    answer_s: float = 30.0
    melt_s: float = 180.0


class HttpMintClient:
    """One mint's API over HTTP. `transport` and `verify` are for tests and for mints with certificates of their own."""

    def __init__(
        self,
        url: str,
        *,
        limits: Limits = DEFAULT_LIMITS,
        timeouts: HttpTimeouts | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        verify: ssl.SSLContext | None = None,
        auth: RequestAuth | None = None,
    ) -> None:
        """Name a mint by its normalised URL; nothing is opened before the first call. `auth` adds headers (NUT-21, 22)."""
        self._auth = auth
        self._url = url
        self._limits = limits
        self._timeouts = timeouts or HttpTimeouts()
        self._transport = transport
        self._verify = verify
        self._client: httpx2.AsyncClient | None = None

    @property
    def url(self) -> str:
        """Normalised URL of the mint."""
        return self._url

    async def info(self) -> MintInfo:
        """GET /v1/info."""
        info = self._read(wire.info_from_json, await self._question("GET", "v1", "info"))
        if self._auth is not None:
            self._auth.learnt(self._url, info)
        return info

    async def keysets(self) -> list[KeysetInfo]:
        """GET /v1/keysets."""
        return self._read(wire.keysets_from_json, await self._question("GET", "v1", "keysets"))

    async def keys(self, keyset_id: str) -> Keyset:
        """GET /v1/keys/{id}; PeerFaultError unless exactly that keyset is answered."""
        keysets = self._read(wire.keys_from_json, await self._question("GET", "v1", "keys", keyset_id))
        found = [keyset for keyset in keysets if keyset.id == keyset_id]
        if len(found) != 1:
            raise self._fault("the mint answered about another keyset")
        return found[0]

    async def request_mint_quote(self, request: MintQuoteRequest) -> MintQuote:
        """POST /v1/mint/quote/{method}."""
        body = await self._question(
            "POST", "v1", "mint", "quote", request.method, content=wire.mint_quote_request_to_json(request)
        )
        return self._read(
            lambda data, limits: wire.mint_quote_from_json(
                data, method=request.method, unit=request.unit, amount_asked=request.amount, limits=limits
            ),
            body,
        )

    async def mint_quote(self, known: MintQuote) -> MintQuote:
        """GET /v1/mint/quote/{method}/{id}."""
        body = await self._question("GET", "v1", "mint", "quote", known.method, known.quote)
        return self._read(
            lambda data, limits: wire.mint_quote_from_json(
                data, method=known.method, unit=known.unit, amount_asked=known.amount, limits=limits
            ),
            body,
        )

    async def issue(self, method: str, request: bytes) -> list[BlindSignature]:
        """POST /v1/mint/{method}."""
        return list(self._read(wire.signatures_from_json, await self._order(request, "v1", "mint", method)))

    async def mint_quotes(self, known: Sequence[MintQuote]) -> list[MintQuote]:
        """POST /v1/mint/quote/{method}/check; PeerFaultError unless just those quotes are answered, in their order."""
        method, names = known[0].method, [quote.quote for quote in known]
        content = wire.quote_check_request_to_json(names)
        body = await self._question("POST", "v1", "mint", "quote", method, "check", content=content)
        return self._read(
            lambda data, limits: wire.mint_quotes_from_json(data, names, method=method, unit=known[0].unit, limits=limits), body
        )

    async def issue_batch(self, method: str, request: bytes) -> list[BlindSignature]:
        """POST /v1/mint/{method}/batch."""
        return list(self._read(wire.signatures_from_json, await self._order(request, "v1", "mint", method, "batch")))

    async def swap(self, request: bytes) -> list[BlindSignature]:
        """POST /v1/swap."""
        return list(self._read(wire.signatures_from_json, await self._order(request, "v1", "swap")))

    async def request_melt_quote(self, request: MeltQuoteRequest) -> MeltQuote:
        """POST /v1/melt/quote/{method}."""
        body = await self._question(
            "POST", "v1", "melt", "quote", request.method, content=wire.melt_quote_request_to_json(request)
        )
        return self._read(
            lambda data, limits: wire.melt_quote_from_json(
                data, method=request.method, unit=request.unit, request=request.request, limits=limits
            ),
            body,
        )

    async def melt_quote(self, known: MeltQuote) -> MeltQuote:
        """GET /v1/melt/quote/{method}/{id}."""
        return self._melt(known, await self._question("GET", "v1", "melt", "quote", known.method, known.quote))

    async def melt(self, known: MeltQuote, request: bytes) -> MeltQuote:
        """POST /v1/melt/{method}, with patience."""
        body = await self._order(request, "v1", "melt", known.method, timeout_s=self._timeouts.melt_s)
        return self._melt(known, body)

    def _melt(self, known: MeltQuote, body: bytes) -> MeltQuote:
        return self._read(
            lambda data, limits: wire.melt_quote_from_json(data, method=known.method, quote=known, limits=limits), body
        )

    async def check_state(self, ys: Sequence[bytes]) -> list[ProofState]:
        """POST /v1/checkstate; PeerFaultError unless the Ys are answered in order."""
        body = await self._question("POST", "v1", "checkstate", content=wire.check_state_request_to_json(ys))
        states = self._read(wire.states_from_json, body)
        if [state.Y for state in states] != list(ys):
            raise self._fault("the mint answered about other coins than asked")
        return states

    async def restore(self, outputs: Sequence[BlindedMessage]) -> list[tuple[BlindedMessage, BlindSignature]]:
        """POST /v1/restore."""
        body = await self._question("POST", "v1", "restore", content=wire.restore_request_to_json(outputs))
        return self._read(wire.restore_from_json, body)

    async def auth_keysets(self) -> list[KeysetInfo]:
        """GET /v1/auth/blind/keysets."""
        return self._read(wire.keysets_from_json, await self._question("GET", "v1", "auth", "blind", "keysets"))

    async def auth_keys(self, keyset_id: str) -> Keyset:
        """GET /v1/auth/blind/keys/{id}; PeerFaultError unless exactly that keyset is answered."""
        keysets = self._read(wire.keys_from_json, await self._question("GET", "v1", "auth", "blind", "keys", keyset_id))
        found = [keyset for keyset in keysets if keyset.id == keyset_id]
        if len(found) != 1:
            raise self._fault("the mint answered about another keyset")
        return found[0]

    async def mint_auth(self, outputs: Sequence[BlindedMessage]) -> list[BlindSignature]:
        """POST /v1/auth/blind/mint."""
        body = await self._question("POST", "v1", "auth", "blind", "mint", content=wire.auth_mint_request_to_json(outputs))
        return list(self._read(wire.signatures_from_json, body))

    async def watch(self, kind: str, name: str) -> AsyncIterator[None]:
        """Subscribe over /v1/ws and yield at each notification. No redirect is followed here either."""
        from websockets.exceptions import WebSocketException

        request = SubscribeRequest(0, "0", SubscriptionKind.parse(kind), (name,))
        address = "ws" + join_url(self._url, "v1", "ws").removeprefix("http")
        try:
            async with await self._connected(address) as socket:
                await socket.send(wire.rpc_request_to_json(request).decode())
                async for text in socket:
                    message = wire.rpc_message_from_json(text, limits=self._limits)
                    if isinstance(message, RpcError):
                        raise UnsupportedError(f"the mint refused the subscription: {message.detail}", nut=17)
                    if isinstance(message, Notification):
                        yield
        except MalformedError as error:
            raise self._fault(f"a notification does not fit: {error.detail}") from error
        except (OSError, TimeoutError, WebSocketException) as error:
            raise UnavailableError(f"no WebSocket: {type(error).__name__}") from error
        raise UnavailableError("the mint closed the WebSocket")

    async def ask(self, verb: str, *path: str, content: bytes | None = None, query: Mapping[str, int] | None = None) -> bytes:
        """A question below /v1."""
        return await self._question(verb, "v1", *path, content=content, query=query)

    async def _connected(self, address: str) -> ClientConnection:
        """An open WebSocket, authenticated if need be; UnavailableError where it cannot be had."""
        from websockets.exceptions import InvalidStatus, WebSocketException

        from specie.wallet.adapters.mint_socket import MintSocket

        async def connect_with(headers: Mapping[str, str]) -> ClientConnection:
            try:
                return await MintSocket(
                    address,
                    additional_headers=dict(headers),
                    max_size=self._limits.body_bytes,
                    open_timeout=self._timeouts.connect_s,
                )
            except InvalidStatus as error:
                raise self._denied(error) from error
            except (OSError, TimeoutError, WebSocketException) as error:
                raise UncertainError(f"no WebSocket: {type(error).__name__}") from error

        try:
            return await self._authenticated("GET", "/v1/ws", connect_with)
        except (RefusedError, UncertainError) as error:
            raise UnavailableError(error.detail) from error

    def _denied(self, error: InvalidStatus) -> SpecieError:
        """What a refused handshake means: the refusal of authentication if it is one, else that there is no WebSocket."""
        with contextlib.suppress(MalformedError):
            refusal = wire.error_from_json(bytes(error.response.body or b""), limits=self._limits)
            if isinstance(refusal, _AUTH_REFUSALS):
                return refusal
        return UnavailableError(f"no WebSocket: HTTP {error.response.status_code}")

    async def close(self) -> None:
        """Close connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    # one exchange

    async def _question(
        self, verb: str, *path: str, content: bytes | None = None, query: Mapping[str, int] | None = None
    ) -> bytes:
        """A request that moves nothing, so that not knowing its fate is the same as being unavailable."""
        try:
            return await self._exchange(verb, path, content, self._timeouts.answer_s, query)
        except UncertainError as error:
            raise UnavailableError(error.detail) from error

    async def _order(self, content: bytes, *path: str, timeout_s: float | None = None) -> bytes:
        """A request that moves value."""
        return await self._exchange("POST", path, content, timeout_s or self._timeouts.answer_s)

    async def _exchange(
        self,
        verb: str,
        path: Sequence[str],
        content: bytes | None,
        timeout_s: float,
        query: Mapping[str, int] | None = None,
    ) -> bytes:
        url = join_url(self._url, *(quoted(part, safe="") for part in path))
        if query:
            url += "?" + urlencode(query)

        async def attempt(headers: Mapping[str, str]) -> bytes:
            return await self._attempt(verb, url, content, timeout_s, headers)

        return await self._authenticated(verb, "/" + "/".join(path), attempt)

    async def _authenticated(self, verb: str, path: str, call: Callable[[Mapping[str, str]], Awaitable[T]]) -> T:
        """With the headers that the mint asks for (NUT-21, NUT-22)."""
        return await (call({}) if self._auth is None else self._auth.run(self, verb, path, call))

    async def _attempt(self, verb: str, url: str, content: bytes | None, timeout_s: float, headers: Mapping[str, str]) -> bytes:
        try:
            async with asyncio.timeout(timeout_s + self._timeouts.connect_s):
                return await self._stream(verb, url, content, timeout_s, headers)
        except _NEVER_SENT as error:
            raise UnavailableError(f"the mint is not reachable: {type(error).__name__}") from error
        except (httpx2.TransportError, TimeoutError) as error:
            raise UncertainError(f"the mint did not answer: {type(error).__name__}") from error
        except (httpx2.InvalidURL, httpx2.RequestError) as error:
            raise self._fault(f"the mint's answer cannot be read: {type(error).__name__}") from error

    async def _stream(self, verb: str, url: str, content: bytes | None, timeout_s: float, extra: Mapping[str, str]) -> bytes:
        headers = dict(extra) if content is None else {"content-type": "application/json", **extra}
        timeout = httpx2.Timeout(timeout_s, connect=self._timeouts.connect_s)
        async with self._http().stream(verb, url, content=content, headers=headers, timeout=timeout) as response:
            encoding = response.headers.get("content-encoding", "identity")
            if encoding.strip().lower() != "identity":
                raise self._fault("the mint sent a compressed body, which was not asked for")
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self._limits.body_bytes:
                    raise self._fault("the mint's answer is too large")
            return self._judge(response, bytes(body))

    def _judge(self, response: httpx2.Response, body: bytes) -> bytes:
        status = response.status_code
        if status == 200:
            return body
        if status == 429:
            raise UnavailableError("the mint asks for patience", retry_after_s=_retry_after(response))
        if status == 408 or status >= 500:
            raise UncertainError(f"the mint answered HTTP {status}")
        if 400 <= status < 500:
            try:
                error = wire.error_from_json(body, limits=self._limits)
            except MalformedError:
                raise RefusedError(f"the mint answered HTTP {status}") from None
            raise error
        raise self._fault(f"the mint answered HTTP {status}")

    def _read(self, decode: Callable[..., T], body: bytes) -> T:
        """What the body says. A refusal by our own decoder is the mint's fault, not a refusal by the mint."""
        try:
            return decode(body, limits=self._limits)
        except RefusedError as error:
            raise self._fault(f"the mint's answer does not fit: {error.detail}") from error

    def _fault(self, detail: str) -> PeerFaultError:
        return PeerFaultError(detail, peer=self._url)

    def _http(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = httpx2.AsyncClient(
                follow_redirects=False,
                headers={"user-agent": f"specie/{__version__}", "accept": "application/json", "accept-encoding": "identity"},
                limits=httpx2.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=20.0),
                transport=self._transport,
                verify=True if self._verify is None else self._verify,
            )
        return self._client


def _retry_after(response: httpx2.Response) -> float:
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_RETRY_AFTER_S) if text.isascii() and text.isdigit() else 1.0
