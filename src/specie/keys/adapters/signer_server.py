"""Serves a `keys.ports.Signer` on a unix socket, to whoever has the pinned certificate and runs as an allowed user.

What a connection must pass before anything of it is read: the socket's mode, the user of the other process (SO_PEERCRED),
TLS 1.3 with the pinned certificate, and a `hello`. Whoever fails is cut off, and `tell` hears why; the other side hears a TLS
alert or a closed connection. A frame that cannot be read ends its connection; arguments that cannot are refused by their id.

Requests of one connection run side by side and are answered as they are done; answers of one moment leave in one write. Nothing
is remembered of a request: to ask again is to be answered again. Not here: what is said (`keys.wire`), the files (`pairing`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import stat
import struct
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from specie.kernel.clock import Clock
from specie.kernel.errors import MalformedError, RefusedError, SpecieError
from specie.keys import wire
from specie.keys.adapters.pairing import Pairing
from specie.keys.ports import Signer

__all__ = ["MAX_NAME_BYTES", "SignerServer", "Tell", "bind_signer_socket"]

MAX_NAME_BYTES = 103
"""Longest path of a unix socket that every system takes."""
_HANDSHAKE_S = 5.0
_CONNECTIONS = 64
"""Connections at once, those included that have not said who they are."""
_REQUESTS = 1024
"""Requests of one connection at work; no more is read from it meanwhile."""
_WORKING_BYTES = 4 * wire.MAX_FRAME_BYTES
"""Bytes of the requests of one connection at work; no more is read from it meanwhile."""
_SOON_DAYS = 30
"""Certificates that end before are told of at each connection."""
_UNSENT_BYTES = 4 * wire.MAX_FRAME_BYTES
_CREDENTIALS = struct.Struct("3i")
IDENTITY = "signer"
"""The ref whose public key tells this seed from others."""


class Tell(Protocol):
    """Hears what happened at the door, for a log."""

    def __call__(self, event: str, **facts: object) -> None: ...


def bind_signer_socket(path: Path, *, group: int | None = None) -> socket.socket:
    """A listening socket; whoever calls owns its place, so a file left there by a process that died is replaced.

    Its directory is made if need be, mode 0700, socket 0600; with `group` (a gid) 0750 and 0660 of that group. RefusedError if
    the directory can be written by others, something else stands under the name, or the path is too long.
    """
    if len(os.fsencode(path)) > MAX_NAME_BYTES:
        raise RefusedError(f"{path} is too long for a unix socket: at most {MAX_NAME_BYTES} bytes")
    directory = path.parent
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            if group is not None:
                os.chown(directory, -1, group)
                directory.chmod(0o750)
        status = directory.stat()
        if status.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(status.st_mode) & 0o022:
            raise RefusedError(f"{directory} belongs to another user, or others may write in it: not a place for the socket")
        if os.path.lexists(path):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise RefusedError(f"{path} is there and is no socket")
            path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
            if group is not None:
                os.chown(path, -1, group)
                path.chmod(0o660)
        except BaseException:
            listener.close()
            raise
        finally:
            os.umask(before)
    except OSError as error:
        raise RefusedError(f"{path} cannot be made: {error.strerror}") from None
    listener.listen(_CONNECTIONS)
    listener.setblocking(False)
    return listener


class SignerServer:
    """Answers the verbs of `signer` on `listener` until closed. `users`: uids let in. `tell` hears what is refused."""

    def __init__(
        self,
        signer: Signer,
        listener: socket.socket,
        pairing: Pairing,
        *,
        clock: Clock,
        users: Collection[int],
        tell: Tell,
    ) -> None:
        """Take the signer and the socket; nothing is accepted yet. RefusedError where a peer's user cannot be known."""
        if not hasattr(socket, "SO_PEERCRED"):
            raise RefusedError("this system does not tell who connects to a unix socket (SO_PEERCRED): a signer needs Linux")
        self.signer = signer
        self.welcome: wire.Welcome | None = None
        self.tell = tell
        self._listener = listener
        self._pairing = pairing
        self._clock = clock
        self._users = frozenset(users)
        self._connections: set[_Connection] = set()
        self._arriving: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take connections from now on."""
        identity = await self.signer.public_key(IDENTITY)
        self.welcome = wire.Welcome(wire.VERSION, identity, self.signer.capabilities())
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def close(self, *, grace_s: float = 10.0) -> None:
        """Take no more; requests at work get `grace_s` to be answered, then every connection is closed."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        for task in self._arriving:
            task.cancel()
        await asyncio.gather(*self._arriving, return_exceptions=True)
        running = [task for connection in self._connections for task in connection.running]
        if running:
            await asyncio.wait(running, timeout=grace_s)
        for connection in list(self._connections):
            connection.end()
        for _ in range(100):  # TLS says goodbye, for at most a second
            if not self._connections:
                break
            await self._clock.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:  # out of descriptors, say: those who are connected are served on
                self.tell("signer cannot accept", reason=str(error.strerror))
                await self._clock.sleep(0.2)
                continue
            if len(self._connections) + len(self._arriving) >= _CONNECTIONS:
                connection.close()
                self.tell("signer connection refused", reason="too many connections")
                continue
            task = loop.create_task(self._admit(connection))
            self._arriving.add(task)
            task.add_done_callback(self._arriving.discard)

    async def _admit(self, connection: socket.socket) -> None:
        """See who it is, shake hands, and let it in; or tell why not."""
        process, user, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)  # type: ignore[attr-defined,unused-ignore]
        )
        who: Mapping[str, object] = {"uid": user, "pid": process}
        if user not in self._users:
            connection.close()
            self.tell("signer connection refused", reason=f"user {user} is not allowed (--allow-user)", **who)
            return
        made: list[_Connection] = []

        def protocol() -> _Connection:
            made.append(_Connection(self, who))
            return made[-1]

        try:
            context = self._pairing.context(self._clock.now(), server=True)
            connection.setblocking(False)
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                protocol, connection, ssl=context, ssl_handshake_timeout=_HANDSHAKE_S, ssl_shutdown_timeout=1.0
            )
            tls = transport.get_extra_info("ssl_object")
            if not self._pairing.is_peer(tls.getpeercert(binary_form=True)):
                transport.abort()
                raise RefusedError("its certificate is not the pinned one")
        except (OSError, RefusedError) as error:  # ssl.SSLError and TimeoutError are OSErrors
            connection.close()
            self.tell("signer connection refused", reason=_reason(error), **who)
            return
        made[0].open()
        self.tell("signer connection", **who)
        self._tell_soon()

    def _tell_soon(self) -> None:
        """Tell of certificates that end soon."""
        now = self._clock.now()
        with contextlib.suppress(RefusedError):  # files that are replaced in this moment: the next connection tells
            days = (self._pairing.expires(now) - now) // 86_400
            if days < _SOON_DAYS:
                reason = f"they end in less than {days + 1} days; renew them with specie signer pair --renew"
                self.tell("signer certificates end soon", reason=reason)

    def entered(self, connection: _Connection) -> None:
        """A connection that lives."""
        self._connections.add(connection)

    def left(self, connection: _Connection) -> None:
        """It ended."""
        self._connections.discard(connection)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not the pinned one, or out of date ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'failed').replace('_', ' ').lower()}"
    if isinstance(error, SpecieError):
        return error.detail
    return "it did not shake hands in time, or left" if isinstance(error, (ConnectionError, TimeoutError)) else str(error)


class _Connection(asyncio.Protocol):
    """One bank that was let in. Until `open` is called what it sends is kept unread, within one frame."""

    def __init__(self, server: SignerServer, who: Mapping[str, object]) -> None:
        self._server = server
        self._who = who
        self._reader = wire.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._greeted = False
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._working_bytes = 0
        self._reading = True
        self._full = False
        self.running: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self._transport.pause_reading()
        self._server.entered(self)

    def open(self) -> None:
        """Begin to read: this is the pinned peer."""
        if self._transport is not None:
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for task in self.running:
            task.cancel()
        self._server.left(self)
        self._server.tell("signer connection ended", **self._who)

    def end(self) -> None:
        """Send what is ready and close."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._full = True
        self._pace()

    def resume_writing(self) -> None:
        self._full = False
        self._pace()

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                request = wire.request_from_bytes(frame)
                if self._greeted == (request.verb == wire.HELLO):
                    raise MalformedError("a connection says hello once, and first")
                self._greeted = True
                self._working_bytes += len(frame)
                task = self._loop.create_task(self._answer(request, len(frame)))
                self.running.add(task)
                task.add_done_callback(self._done)
        except MalformedError as error:
            self._server.tell("signer connection broken off", reason=error.detail, **self._who)
            if self._transport is not None:
                self._transport.abort()
        self._pace()

    def _done(self, task: asyncio.Task[None]) -> None:
        self.running.discard(task)
        self._pace()

    def _pace(self) -> None:
        """Read only while there is room for more work, and for its answers."""
        if self._transport is None or self._transport.is_closing():
            return
        wanted = not self._full and len(self.running) < _REQUESTS and self._working_bytes < _WORKING_BYTES
        if wanted != self._reading:
            self._reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    async def _answer(self, request: wire.Request, size: int) -> None:
        try:
            arguments = wire.arguments_from_raw(request.verb, request.arguments)
            answer = wire.answer_to_frame(request.id, await self._do(request.verb, arguments))
        except Exception as error:
            if not isinstance(error, SpecieError):
                self._server.tell("signer failed", verb=request.verb, error=type(error).__name__, **self._who)
            answer = wire.answer_to_frame(request.id, None, wire.failure_from_error(error))
        finally:
            self._working_bytes -= size
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(answer)

    async def _do(self, verb: str, arguments: tuple[Any, ...]) -> object:
        signer = self._server.signer
        match verb:
            case wire.HELLO:
                return self._welcome(arguments[0])
            case "verify_proofs":
                return [y is not None for y in await signer.verify_proofs(*arguments)]
            case "exchange":
                ys, signed = await signer.exchange(*arguments)
                return [y is not None for y in ys], signed
            case "wrap":
                return await signer.wrap(arguments[0], context=arguments[1])
            case "unwrap":
                return await signer.unwrap(arguments[0], context=arguments[1])
        call: Callable[..., Any] = getattr(signer, verb)  # one of wire.ARGUMENTS
        return await call(*arguments)

    def _welcome(self, hello: wire.Hello) -> wire.Welcome:
        if wire.VERSION not in hello.versions or self._server.welcome is None:
            spoken = ", ".join(str(version) for version in hello.versions)
            raise RefusedError(
                f"this signer speaks version {wire.VERSION}, the bank {spoken}: run the same specie on both sides"
            )
        return self._server.welcome

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        if data and self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(RuntimeError):  # closed by the other side in this moment
                self._transport.write(data)
