"""What stands in front of every HTTP route: who asks, how often, how many at once, and what becomes of errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from specie.ops.reload import Swap
from specie.ops.settings import ServerSettings
from specie.server.errors import Answer, BusyError, NoMethodError, NoRouteError, RateLimitedError, answer_error
from specie.server.gate import Gate
from specie.server.http import SECURITY_HEADERS, Headers, PeerGoneError, Receive, Request, Scope, Send, send_answer
from specie.server.peers import Peer, PeerRule, RateLimiter
from specie.server.ports import ServerContext

__all__ = ["UNKNOWN", "Front", "Handler", "Route"]

Handler = Callable[[Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """What a path answers: `name` for metrics, handlers by HTTP method, and whether a POST asks a payment rail."""

    name: str
    handlers: Mapping[str, Handler]
    quote: bool = False

    @property
    def allowed(self) -> str:
        """Value of the Allow header."""
        methods = set(self.handlers) | {"OPTIONS"} | ({"HEAD"} if "GET" in self.handlers else set())
        return ", ".join(sorted(methods))


UNKNOWN = Route("unknown", {})
"""The route of a path that is none."""


class Front:
    """What stands in front of every HTTP route: who asks, how often, how many at once, and what becomes of errors."""

    def __init__(self, context: ServerContext, peers: PeerRule) -> None:
        rate = context.settings.rate
        self._context = context
        self._peers = peers
        self._requests = RateLimiter(rate.requests_per_minute, rate.burst, rate.peers)
        self._quotes = RateLimiter(rate.quotes_per_minute, rate.quote_burst, rate.peers)
        self._limit_local = rate.limit_loopback
        self._in_flight = 0
        self.gate = None if context.auth is None else Gate(context.auth, context.metrics)
        """What asks for authentication; None where everybody may use the mint."""

    def prepare(self, settings: ServerSettings) -> Swap:
        """Make everything that other settings need; the swap puts it in place. ValueError for proxies that are no networks."""
        before, after = (self._context.settings, self._peers), (settings, PeerRule(settings.trusted_proxies))
        return Swap(lambda: self._adopt(*after), lambda: self._adopt(*before))

    def _adopt(self, settings: ServerSettings, peers: PeerRule) -> None:
        rate = settings.rate
        self._context.settings = settings
        self._peers = peers
        self._requests.change(rate.requests_per_minute, rate.burst, rate.peers)
        self._quotes.change(rate.quotes_per_minute, rate.quote_burst, rate.peers)
        self._limit_local = rate.limit_loopback

    @property
    def in_flight(self) -> int:
        """Requests being worked on now."""
        return self._in_flight

    def peer(self, scope: Scope) -> Peer:
        """Who is behind an ASGI scope."""
        return self._peers.peer(scope)

    def may(self, scope: Scope) -> bool:
        """Count one request outside of HTTP (a WebSocket, or a message on it); False if its peer asks too often."""
        peer = self._peers.peer(scope)
        if peer.local and not self._limit_local:
            return True
        return not self._requests.take(peer.name, self._context.clock.monotonic())

    async def answer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        route: Route,
        parts: tuple[str, ...] = (),
        *,
        shared: Headers = SECURITY_HEADERS,
    ) -> None:
        """Answer one request, whatever happens; count and time it. `shared` headers go on every answer."""
        context = self._context
        monotonic = context.clock.monotonic
        start = monotonic()
        method: str = scope["method"]
        self._in_flight += 1
        try:
            peer = self._peers.peer(scope)
            request = Request(scope, receive, peer, context.limits.body_bytes, context.settings.body_timeout_s, parts)
            self._admit(request, route, method, start)
            handler = route.handlers.get("GET" if method == "HEAD" else method)
            if handler is None:
                raise NoRouteError("no such path") if not route.handlers else NoMethodError(route.allowed)
            if self.gate is None:
                result = await handler(request)
            else:
                async with self.gate.admitted(scope, method) as request.subject:
                    result = await handler(request)
        except PeerGoneError:
            context.metrics.count("http_gone", route=route.name)
            return
        except Exception as error:  # a face: every error becomes an answer here, and nowhere else
            result = answer_error(error, context.metrics, route.name, context.entropy.bytes(6).hex())
        finally:
            self._in_flight -= 1
        context.metrics.observe(
            "http_request", monotonic() - start, route=route.name, method=_known(method), status=str(result.status)
        )
        await send_answer(send, result, shared, head=method == "HEAD")

    def _admit(self, request: Request, route: Route, method: str, now: float) -> None:
        if self._in_flight > self._context.settings.in_flight:
            raise BusyError("too many requests are being worked on")
        if request.peer.local and not self._limit_local:
            return
        wait = self._requests.take(request.peer.name, now)
        if not wait and route.quote and method == "POST":
            wait = self._quotes.take(request.peer.name, now)
        if wait:
            self._context.metrics.count("http_rate_limited", route=route.name)
            raise RateLimitedError("too many requests", retry_after_s=wait)


def _known(method: str) -> str:
    return method if method in ("GET", "POST", "HEAD", "OPTIONS") else "other"
