"""One connection to a signer: the way there, what was asked on it and waits, and what is to be sent.

A connection that breaks the protocol, or does not answer in time, is ended; whoever waited on it hears why. Not here: when to
try again, and whether an answer is true (`remote`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import cast

from specie.kernel import curve
from specie.kernel.clock import Clock
from specie.kernel.errors import MalformedError, PeerFaultError, UnavailableError
from specie.keys import wire
from specie.keys.adapters.pairing import Pairing
from specie.keys.ports import KeysetRef

__all__ = ["AwayError", "Link", "connect", "refusal"]

_SOON_S = 0.05
"""When to ask again after a connection was lost."""
_AWAY_S = 0.2
"""When to ask again where nobody serves the socket."""
_PENDING = 4096
"""Calls under way at once; more are told to come back."""
_UNSENT_BYTES = 4 * wire.MAX_FRAME_BYTES
_SWEEP_S = 0.25
_LOST = "the connection to the signer was lost"
_HUNG_UP = "the signer hung up: it knows another certificate than the bank's, or not its user; its log says which"


class AwayError(UnavailableError):
    """Nobody serves the signer's socket."""


class Link(asyncio.Protocol):
    """One connection: what was asked on it and waits, and what is to be sent."""

    def __init__(self, peer: str, deadline_s: float) -> None:
        self.peer = peer
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.seen: set[tuple[KeysetRef, int]] = set()
        """Keys whose signatures were checked on this connection."""
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader = wire.FrameReader()
        self._pending: dict[int, tuple[float, asyncio.Future[wire.Answer]]] = {}
        self._number = 0
        self._out: list[bytes] = []
        self._full = False
        self._fault = ""
        self._sweeping: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_UNSENT_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._sweeping is not None:
            self._sweeping.cancel()
        reason = self._fault or refusal(exc)
        pending, self._pending = self._pending, {}
        for _, future in pending.values():
            if not future.done():
                future.set_exception(
                    PeerFaultError(reason, peer=self.peer) if self._fault else UnavailableError(reason, retry_after_s=_SOON_S)
                )
        if not self.lost.done():
            self.lost.set_result(reason)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False

    def certificate(self) -> bytes | None:
        """The other side's certificate, DER."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return None if tls is None else tls.getpeercert(binary_form=True)

    def ask(self, verb: str, arguments: tuple[object, ...]) -> asyncio.Future[wire.Answer]:
        """Send one request with all others of this moment; its answer."""
        if self._transport is None or self._transport.is_closing():
            raise UnavailableError(_LOST, retry_after_s=_SOON_S)
        if self._full or len(self._pending) >= _PENDING:
            raise UnavailableError("the signer has more to do than it can", retry_after_s=1.0)
        self._number += 1
        frame = wire.request_to_frame(self._number, verb, arguments)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)
        future: asyncio.Future[wire.Answer] = self._loop.create_future()
        self._pending[self._number] = (self._loop.time() + self._deadline_s, future)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)
        return future

    def end(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        if data and self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(RuntimeError):  # closed by the other side in this moment
                self._transport.write(data)

    def _sweep(self) -> None:
        """End a connection whose oldest request waits for too long: all of them get the same time, so it is the first."""
        self._sweeping = None
        if not self._pending:
            return
        until, _ = next(iter(self._pending.values()))
        if self._loop.time() < until:
            self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)
            return
        pending, self._pending = self._pending, {}
        for _, future in pending.values():
            if not future.done():
                reason = f"the signer did not answer within {self._deadline_s:g} s"
                future.set_exception(UnavailableError(reason, retry_after_s=1.0))
        self.end()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                answer = wire.answer_from_bytes(frame)
                found = self._pending.pop(answer.id, None)
                if found is None:
                    raise MalformedError("an answer to nothing that was asked")
                if not found[1].done():  # whoever asked may have given up
                    found[1].set_result(answer)
        except MalformedError as error:
            self._fault = f"the signer broke the protocol: {error.detail}"
            self.end()


def refusal(error: Exception | None) -> str:
    """Why a connection ended, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the signer's certificate is not the pinned one, or out of date ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").upper()
        if "ALERT" in reason:
            said = reason.partition("ALERT_")[2].replace("_", " ").lower()
            return f"the signer refuses the bank's certificate ({said}): pair them again"
        return f"TLS with the signer failed ({reason.replace('_', ' ').lower()})"
    return _LOST


async def connect(
    place: Path, pairing: Pairing, clock: Clock, connect_s: float, deadline_s: float
) -> tuple[Link, wire.Welcome]:
    """A connection on which both sides know each other. UnavailableError, PairingError, PeerFaultError."""
    loop = asyncio.get_running_loop()
    context = pairing.context(clock.now(), server=False)
    peer = str(place)
    link: Link | None = None
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        async with asyncio.timeout(connect_s):
            await loop.sock_connect(raw, peer)
            _, link = await loop.create_unix_connection(
                lambda: Link(peer, deadline_s),
                sock=raw,
                ssl=context,
                server_hostname="specie-signer",
                ssl_handshake_timeout=connect_s,
                ssl_shutdown_timeout=1.0,
            )
            if not pairing.is_peer(link.certificate()):
                raise UnavailableError("the signer's certificate is not the pinned one", retry_after_s=1.0)
            return link, await _greeted(link)
    except TimeoutError:
        await _ended(link, raw)
        raise UnavailableError(f"the signer at {place} does not answer", retry_after_s=1.0) from None
    except OSError as error:  # ssl.SSLError is one
        await _ended(link, raw)
        if isinstance(error, ssl.SSLError):
            raise UnavailableError(refusal(error), retry_after_s=1.0) from None
        if isinstance(error, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
            raise UnavailableError(_HUNG_UP, retry_after_s=1.0) from None
        raise AwayError(f"no signer at {place}: {error.strerror or error}", retry_after_s=_AWAY_S) from None
    except BaseException:
        await _ended(link, raw)
        raise


async def _greeted(link: Link) -> wire.Welcome:
    try:
        answer = await link.ask(wire.HELLO, (wire.Hello([wire.VERSION]),))
    except UnavailableError as error:
        if error.detail == _LOST:  # TLS 1.3: a certificate is refused after our side is done
            raise UnavailableError(_HUNG_UP, retry_after_s=1.0) from None
        raise
    if answer.error is not None:
        raise wire.error_from_failure(answer.error, link.peer)
    try:
        welcome: wire.Welcome = wire.value_from_raw(wire.HELLO, answer.value)
    except MalformedError as error:
        raise PeerFaultError(error.detail, peer=link.peer) from None
    if welcome.version != wire.VERSION or not curve.is_point(welcome.identity) or len(welcome.capabilities.provider) > 100:
        raise PeerFaultError("the signer's greeting makes no sense", peer=link.peer)
    return welcome


async def _ended(link: Link | None, raw: socket.socket) -> None:
    raw.close() if link is None else link.end()
