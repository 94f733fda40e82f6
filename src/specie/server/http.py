"""The thin layer over ASGI that the hot paths use: one request, one answer, nothing allocated that is not sent.

Not here: routes and what they mean (`api`, `status`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from specie.server.direct import answered_at_once, body_at_hand
from specie.server.errors import Answer, BodyTooLargeError, BodyTooSlowError
from specie.server.peers import Peer, header

__all__ = [
    "SECURITY_HEADERS",
    "ASGIApp",
    "Headers",
    "PeerGoneError",
    "Receive",
    "Request",
    "Scope",
    "Send",
    "send_answer",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Headers = tuple[tuple[bytes, bytes], ...]

SECURITY_HEADERS: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
"""On every answer."""


class PeerGoneError(Exception):
    """The peer hung up before its request was complete; nobody is there to answer."""


@dataclass(slots=True)
class Request:
    """One HTTP request: its scope, its peer, the parts of its path, and its body when asked for."""

    scope: Scope
    receive: Receive
    peer: Peer
    limit_bytes: int
    timeout_s: float
    parts: tuple[str, ...] = ()
    subject: str = ""
    """The user that a clear token named (NUT-21); "" where none was asked for."""

    async def body(self) -> bytes:
        """The whole body. BodyTooLargeError as soon as it is known to be too long, BodyTooSlowError, PeerGoneError."""
        declared = header(self.scope, b"content-length")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > self.limit_bytes:
            raise BodyTooLargeError(f"the body is longer than {self.limit_bytes} bytes")
        whole = body_at_hand(self.receive)
        if whole is not None:
            self._bounded(len(whole))
            return whole
        try:
            async with asyncio.timeout(self.timeout_s):
                message = await self._more()
                body: bytes = message.get("body", b"")
                if not message.get("more_body"):
                    self._bounded(len(body))
                    return body
                chunks, length = [body], len(body)
                while message.get("more_body"):
                    self._bounded(length)
                    message = await self._more()
                    chunk: bytes = message.get("body", b"")
                    chunks.append(chunk)
                    length += len(chunk)
                self._bounded(length)
                return b"".join(chunks)
        except TimeoutError:
            raise BodyTooSlowError(f"the body did not arrive within {self.timeout_s:g} s") from None

    async def _more(self) -> MutableMapping[str, Any]:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise PeerGoneError
        return message

    def _bounded(self, length: int) -> None:
        if length > self.limit_bytes:
            raise BodyTooLargeError(f"the body is longer than {self.limit_bytes} bytes")


async def send_answer(send: Send, answer: Answer, shared: Headers, *, head: bool = False) -> None:
    """Send an answer with its own and the `shared` headers; `head` leaves the body out and its length in."""
    if answered_at_once(send, answer, shared, head=head):
        return
    body = answer.body
    headers = [*shared, *answer.headers]
    if answer.status not in (204, 304):
        headers += ((b"content-type", answer.content_type), (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})
