"""Hears a browser come back from a login: `wallet.auth_ports.RedirectListener` on this machine's loopback (NUT-21).

Anything on this machine can speak to the port, web pages included: a request counts only with the FRESH state of this
login, everything else is answered and forgotten. Heads are bounded in size and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Mapping
from urllib.parse import parse_qsl, urlsplit

from specie.kernel.errors import UnavailableError

__all__ = ["LoopbackListener"]

_MAX_HEAD_BYTES = 16_384
_HEAD_S = 5.0
_PAGE = "<!doctype html><meta charset=utf-8><title>specie</title><p>{}</p>"
_DONE = "You are logged in, or the wallet says what went wrong. This page can be closed."


class LoopbackListener:
    """Listens on a port of 127.0.0.1 and, where there is one, of ::1."""

    def __init__(self, port: int = 33388) -> None:
        """Nothing is opened before `listening`."""
        self._port = port

    @contextlib.asynccontextmanager
    async def listening(self, state: str) -> AsyncIterator[Awaitable[Mapping[str, str]]]:
        """While inside, listen; the awaitable gives the query of the first request that brings `state`."""
        found: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(_HEAD_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    status, text = self._hear(head, state, found)
                    body = _PAGE.format(text).encode()
                    writer.write(
                        f"HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {len(body)}\r\n"
                        "cache-control: no-store\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n".encode()
                        + body
                    )
                    await writer.drain()
            writer.close()

        servers: list[asyncio.Server] = []
        try:
            for host in ("127.0.0.1", "::1"):
                try:
                    servers.append(await asyncio.start_server(serve, host, self._port, limit=_MAX_HEAD_BYTES))
                except OSError as error:
                    if host == "127.0.0.1":
                        reason = f"port {self._port} of this machine is not free for the login: {error.strerror}"
                        raise UnavailableError(reason) from error
            yield found
        finally:
            for server in servers:
                server.close()
            for server in servers:
                await server.wait_closed()

    @staticmethod
    def _hear(head: bytes, state: str, found: asyncio.Future[Mapping[str, str]]) -> tuple[str, str]:
        verb, _, rest = head.decode("latin-1").partition(" ")
        target = urlsplit(rest.partition(" ")[0])
        query = dict(parse_qsl(target.query, max_num_fields=50))
        if verb != "GET" or target.path != "/callback":
            return "404 Not Found", "Nothing is here."
        if not hmac.compare_digest(query.get("state", "").encode(), state.encode()):
            return "400 Bad Request", "This is not the login that the wallet began."
        if not found.done():
            found.set_result(query)
        return "200 OK", _DONE
