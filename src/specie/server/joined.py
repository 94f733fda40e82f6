"""HTTP/1.1 of uvicorn, with head and body of an answer written as one piece.

uvicorn writes them one after the other, which costs a system call and wakes the peer twice for each request.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["JoinedProtocol"]

_HEAD, _INTERIM, _END = b"HTTP/1.1 ", b"HTTP/1.1 1", b"\r\n\r\n"


class _JoinedTransport:
    """A transport that keeps the head of an answer back until what follows it: a body, or the end."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""

    def write(self, data: bytes) -> None:
        """Write; a final head waits for the next write, which uvicorn makes even for an empty body."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD) and data.endswith(_END) and not data.startswith(_INTERIM):
            self._head = data
            return
        if data:
            self._transport.write(data)

    def close(self) -> None:
        """Close, after what was kept back."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class JoinedProtocol(HttpToolsProtocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        super().connection_made(cast(asyncio.Transport, _JoinedTransport(cast(asyncio.Transport, transport))))
