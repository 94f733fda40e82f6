"""WebSockets of NUT-17: wallets are told when a quote or a coin changes.

One `ChangeHub` a process follows the mint's changes (which cross processes) and reads each changed thing once, however
many sockets watch it. The answer to a request always leaves before its first notification; then comes the present state,
then news. A thing is looked at again every half minute, so that a lost notice costs time and nothing else. One socket watches
no more things than one request may name (`limits.array_length`): each costs memory, and that look. Where /v1/ws is protected
(NUT-21, NUT-22) the connection is authenticated like a GET, and its clear token is looked at again for each subscription.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from specie.ecash.subscription import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    Payload,
    RpcError,
    RpcResult,
    SubscribeRequest,
    SubscriptionKind,
    UnsubscribeRequest,
)
from specie.ecash.wire import notifications
from specie.kernel.errors import RefusedError, SpecieError, UnavailableError
from specie.server.errors import answer_error
from specie.server.front import Front
from specie.server.http import Receive, Scope, Send
from specie.server.ports import ServerContext

__all__ = ["ChangeHub", "Subscriptions"]

_RESYNC_S = 30.0
_RETRY_S = 1.0
_CLOSE_S = 2.0
_QUEUE = 1000
_TOO_MANY = -32000
"""JSON-RPC code (of the range for servers) for limits of this socket."""
_MAX_TEXT = 65_536

_GOING_AWAY, _POLICY, _TOO_BIG, _TRY_LATER = 1001, 1008, 1009, 1013

Topic = tuple[str, str]


class _Watch:
    """One subscription of one socket, and the last state it was told of each thing."""

    __slots__ = ("filters", "kind", "seen", "session", "sub_id")

    def __init__(self, session: _Session, request: SubscribeRequest) -> None:
        self.session = session
        self.sub_id = request.sub_id
        self.kind = request.kind
        self.filters = tuple(dict.fromkeys(request.filters))
        self.seen: dict[str, Payload] = {}

    def topics(self) -> Iterable[Topic]:
        return ((self.kind.topic, key) for key in self.filters)

    def tell(self, key: str, payload: Payload) -> None:
        """Queue the news, unless it is what was told last."""
        if self.seen.get(key) != payload:
            self.seen[key] = payload
            self.session.send(notifications.notification_to_json(self.sub_id, payload))


class ChangeHub:
    """Follows the mint's changes for all sockets of a process. Starts with the first watch; `close` ends it."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._watches: dict[Topic, set[_Watch]] = {}
        self._dirty: dict[Topic, None] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def __len__(self) -> int:
        return len({watch for watches in self._watches.values() for watch in watches})

    def add(self, watch: _Watch) -> None:
        """Tell this watch from now on; its things are looked at once more, for what changed meanwhile."""
        if not self._tasks:
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(work()) for work in (self._follow, self._tell, self._resync)]
        for topic in watch.topics():
            self._watches.setdefault(topic, set()).add(watch)
            self._dirty[topic] = None
        self._wake.set()

    def remove(self, watch: _Watch) -> None:
        """Tell it no more."""
        for topic in watch.topics():
            watches = self._watches.get(topic)
            if watches is not None:
                watches.discard(watch)
                if not watches:
                    del self._watches[topic]

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def read(self, kind: SubscriptionKind, keys: Sequence[str]) -> dict[str, Payload]:
        """The present state of things. RefusedError for a quote that is not there."""
        mint = self._context.mint
        if kind.topic == "proof_state":
            states = await mint.check_state([bytes.fromhex(key) for key in keys])
            return dict(zip(keys, states, strict=True))
        one = mint.mint_quote if kind.topic == "mint_quote" else mint.melt_quote
        return {key: await one(key, kind.method or "") for key in keys}

    async def _follow(self) -> None:
        while True:
            try:
                async for change in self._context.mint.changes():
                    topic = (change.kind, change.key)
                    if topic in self._watches:
                        self._dirty[topic] = None
                        self._wake.set()
            except SpecieError as error:
                self._context.metrics.event("changes_interrupted", detail=error.detail)
            await self._context.clock.sleep(_RETRY_S)
            self._look_at_all()

    async def _resync(self) -> None:
        while True:
            await self._context.clock.sleep(_RESYNC_S)
            self._look_at_all()

    def _look_at_all(self) -> None:
        self._dirty.update(dict.fromkeys(self._watches))
        self._wake.set()

    async def _tell(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, {}
            kinds: dict[SubscriptionKind, list[str]] = {}
            for topic in dirty:
                for kind in {watch.kind for watch in self._watches.get(topic, ())}:
                    kinds.setdefault(kind, []).append(topic[1])
            for kind, keys in kinds.items():
                size = self._context.limits.array_length
                for start in range(0, len(keys), size):
                    await self._tell_kind(kind, keys[start : start + size])

    async def _tell_kind(self, kind: SubscriptionKind, keys: list[str]) -> None:
        try:
            states = await self.read(kind, keys)
        except Exception as error:  # a supervisor: the hub must outlive one bad read; the next look repeats it
            self._context.metrics.event("subscription_read_failed", kind=str(kind), error=type(error).__name__)
            return
        for key, payload in states.items():
            for watch in tuple(self._watches.get((kind.topic, key), ())):
                if watch.kind == kind:
                    watch.tell(key, payload)


class _Session:
    """One socket: its subscriptions, and what waits to be sent."""

    def __init__(self, context: ServerContext, hub: ChangeHub, front: Front, socket: WebSocket) -> None:
        self._context = context
        self._hub = hub
        self._front = front
        self._socket = socket
        self._watches: dict[str, _Watch] = {}
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._code = 1000
        self._active = context.clock.monotonic()

    def send(self, message: bytes) -> None:
        """Queue a message. A peer that does not read is let go: what it misses it can ask for again."""
        if self._queue.qsize() >= _QUEUE:
            self._end(_TRY_LATER)
        else:
            self._queue.put_nowait(message)

    def _end(self, code: int) -> None:
        if not self._ended.is_set():
            self._code = code
            self._ended.set()

    async def run(self) -> None:
        """Until either side closes."""
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(work()) for work in (self._write, self._read, self._idle, self._closed)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for watch in self._watches.values():
                self._hub.remove(watch)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._ended.is_set():
            with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await self._socket.close(self._code)
        for task in done:
            error = task.exception()
            if error is not None and not isinstance(error, WebSocketDisconnect):
                self._context.metrics.page("a WebSocket session failed", error=repr(error))

    async def _closed(self) -> None:
        await self._ended.wait()

    async def _write(self) -> None:
        while True:
            await self._socket.send_text((await self._queue.get()).decode())
            self._active = self._context.clock.monotonic()

    async def _idle(self) -> None:
        limit = self._context.settings.socket_idle_s
        while (rest := self._active + limit - self._context.clock.monotonic()) > 0:
            await self._context.clock.sleep(max(rest, 0.001))
        self._end(_GOING_AWAY)

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text: str | bytes = message.get("text") or message.get("bytes") or ""
            self._active = self._context.clock.monotonic()
            if len(text) > _MAX_TEXT:
                self._end(_TOO_BIG)
                return
            try:
                await self._take(text)
            except RpcError as error:
                self.send(notifications.rpc_error_to_json(error))

    async def _take(self, text: str | bytes) -> None:
        request = notifications.rpc_request_from_json(text, limits=self._context.limits)
        if not self._front.may(self._socket.scope):
            raise RpcError("too many requests", rpc_code=_TOO_MANY, request_id=request.id)
        if isinstance(request, UnsubscribeRequest):
            watch = self._watches.pop(request.sub_id, None)
            if watch is None:
                raise RpcError("no subscription with this subId", rpc_code=INVALID_PARAMS, request_id=request.id)
            self._hub.remove(watch)
            self.send(notifications.rpc_result_to_json(RpcResult(request.id, request.sub_id)))
            return
        await self._subscribe(request)

    async def _subscribe(self, request: SubscribeRequest) -> None:
        if request.sub_id in self._watches:
            raise RpcError("this subId is in use", rpc_code=INVALID_PARAMS, request_id=request.id)
        if len(self._watches) >= self._context.limits.subscriptions:
            raise RpcError("too many subscriptions on this socket", rpc_code=_TOO_MANY, request_id=request.id)
        if self._front.gate is not None:
            try:
                await self._front.gate.known(self._socket.scope, "GET")
            except (RefusedError, UnavailableError) as error:  # the token that opened the socket counts no more
                code = error.code if isinstance(error, RefusedError) else None
                raise RpcError(error.detail, rpc_code=code or INTERNAL_ERROR, request_id=request.id) from None
        watch = _Watch(self, request)
        watched = len(watch.filters) + sum(len(other.filters) for other in self._watches.values())
        if watched > self._context.limits.array_length:
            raise RpcError("too many filters on this socket", rpc_code=_TOO_MANY, request_id=request.id)
        try:
            states = await self._hub.read(watch.kind, watch.filters)
        except RefusedError as error:
            raise RpcError(error.detail, rpc_code=INVALID_PARAMS, request_id=request.id) from None
        except SpecieError as error:
            self._context.metrics.event("subscription_read_failed", kind=str(watch.kind), error=type(error).__name__)
            raise RpcError("not possible now", rpc_code=INTERNAL_ERROR, request_id=request.id) from None
        self.send(notifications.rpc_result_to_json(RpcResult(request.id, request.sub_id)))
        for key, payload in states.items():
            watch.tell(key, payload)
        self._watches[request.sub_id] = watch
        self._hub.add(watch)


class Subscriptions:
    """ASGI application for the WebSocket at /v1/ws."""

    def __init__(self, context: ServerContext, front: Front, hub: ChangeHub) -> None:
        self._context = context
        self._front = front
        self._hub = hub
        self._open = 0
        self._by_peer: Counter[str] = Counter()

    @property
    def open(self) -> int:
        """Sockets open now."""
        return self._open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        peer = self._front.peer(scope)
        counted: Any = None if peer.local and not self._context.settings.rate.limit_loopback else peer.name
        settings = self._context.settings
        full = self._open >= settings.sockets or (counted and self._by_peer[counted] >= settings.sockets_per_peer)
        if scope["path"] != "/v1/ws" or full or not self._front.may(scope):
            self._context.metrics.count("socket_refused")
            await socket.close(_TRY_LATER)
            return
        self._open += 1
        self._by_peer[counted] += 1
        self._context.metrics.count("socket_opened")
        try:
            if self._front.gate is None:
                await socket.accept()
            else:
                try:
                    async with self._front.gate.admitted(scope, "GET"):  # a blind token is spent on the connection
                        await socket.accept()
                except SpecieError as error:
                    await self._deny(socket, error)
                    return
            await _Session(self._context, self._hub, self._front, socket).run()
        except WebSocketDisconnect:
            return
        finally:
            self._open -= 1
            self._by_peer[counted] -= 1
            if not self._by_peer[counted]:
                del self._by_peer[counted]

    async def _deny(self, socket: WebSocket, error: SpecieError) -> None:
        """Refuse a connection with an HTTP answer where the server can, so that the wallet reads the code; else close."""
        self._context.metrics.count("socket_refused")
        if "websocket.http.response" not in socket.scope.get("extensions", {}):
            await socket.close(_POLICY)
            return
        answer = answer_error(error, self._context.metrics, "/v1/ws", self._context.entropy.bytes(6).hex())
        await socket.send_denial_response(
            Response(answer.body, answer.status, {name.decode(): value.decode() for name, value in answer.headers})
        )
