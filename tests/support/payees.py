"""Ways for payments of requests to travel in a test: posts straight into receivers, and relays that are a list in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from specie.ecash.requests import NostrProfile
from specie.kernel.errors import RefusedError, SpecieError, UnavailableError
from specie.keys.ports import Signer
from specie.wallet import PaymentReceiver, Transports
from specie.wallet.ports import NostrMessage, NostrRecord

__all__ = ["MemoryNostr", "MemoryPost", "MemoryRelays", "ask"]


async def ask(
    app: PaymentReceiver, body: bytes = b"", *, method: str = "POST", path: str = "/", root: str = "", chunks: int = 1
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """What an ASGI application answers: status, headers, JSON."""
    size = -(-len(body) // chunks) or 1
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    queue = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]
    sent: list[Any] = []

    async def receive() -> Any:
        return queue.pop(0) if queue else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path, "root_path": root, "headers": []}, receive, send)
    start, *rest = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    data = b"".join(message["body"] for message in rest)
    return start["status"], headers, json.loads(data) if data else {}


class MemoryPost:
    """`ports.PaymentPost` that posts into receivers by their address; `fail` is raised instead, `lose` after delivery."""

    def __init__(self, receivers: dict[str, PaymentReceiver] | None = None) -> None:
        self.receivers = receivers if receivers is not None else {}
        self.fail: list[SpecieError] = []
        self.lose: list[SpecieError] = []
        self.bodies: list[bytes] = []
        self.closed = False

    async def post(self, url: str, body: bytes) -> None:
        if self.fail:
            raise self.fail.pop(0)
        self.bodies.append(body)
        status, _, answer = await ask(self.receivers[url], body)
        if self.lose:
            raise self.lose.pop(0)
        if status != 200:
            raise RefusedError(answer["detail"])

    async def close(self) -> None:
        self.closed = True


class MemoryRelays:
    """What relays hold, shared by all clients of a test."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, str]] = []
        self.records: dict[tuple[str, bytes, int, str], tuple[int, str]] = {}
        self.dead: set[str] = set()
        self.news = asyncio.Event()


class MemoryNostr:
    """`ports.NostrRelays` on `MemoryRelays`; nothing is encrypted."""

    def __init__(self, relays: MemoryRelays, signer: Signer) -> None:
        self.relays = relays
        self._signer = signer
        self.closed = False

    async def _public(self, ref: str) -> bytes:
        return (await self._signer.public_key(ref))[1:]

    def _alive(self, relays: Sequence[str]) -> list[str]:
        alive = [relay for relay in relays if relay not in self.relays.dead]
        if not alive:
            raise UnavailableError("no relay answered")
        return alive

    async def send(self, to: NostrProfile, text: str) -> int:
        alive = self._alive(to.relays)
        self.relays.messages.append((to.public_key, text))
        self.relays.news.set()
        return len(alive)

    async def messages(
        self, refs: Sequence[str], relays: Sequence[str], *, since: int, follow: bool
    ) -> AsyncGenerator[NostrMessage, None]:
        self._alive(relays)
        keys = {await self._public(ref): ref for ref in refs}
        position = 0
        while True:
            while position < len(self.relays.messages):
                key, text = self.relays.messages[position]
                position += 1
                if key in keys:
                    yield NostrMessage(str(position), keys[key], text)
            if not follow:
                return
            self.relays.news.clear()
            await self.relays.news.wait()

    async def read_record(self, ref: str, relays: Sequence[str], *, kind: int, name: str) -> NostrRecord:
        alive = self._alive(relays)
        public = await self._public(ref)
        found = [self.relays.records[key] for relay in alive if (key := (relay, public, kind, name)) in self.relays.records]
        if not found:
            return NostrRecord(None, 0, tuple(alive), 0)
        at, text = max(found)
        return NostrRecord(text, at, tuple(alive), found.count((at, text)))

    async def write_record(self, ref: str, relays: Sequence[str], text: str, *, kind: int, name: str, at: int) -> int:
        alive = self._alive(relays)
        public = await self._public(ref)
        for relay in alive:
            self.relays.records[relay, public, kind, name] = (at, text)
        return len(alive)

    async def close(self) -> None:
        self.closed = True


def transports(relays: MemoryRelays, signer: Signer, post: MemoryPost | None = None) -> Transports:
    """Both ways."""
    return Transports(post=post, nostr=lambda: MemoryNostr(relays, signer))
