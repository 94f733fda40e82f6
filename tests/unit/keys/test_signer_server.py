"""The signer's side: who gets in, what a bank that misbehaves can do, and how it stops. Unix sockets in a directory only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from specie.app.system import SystemClock
from specie.kernel.errors import MalformedError, RefusedError, UnavailableError
from specie.keys import KeysetRef, ProofToVerify, ToBlindSign, wire
from specie.keys.adapters import signer_server
from specie.keys.adapters.remote import RemoteSigner
from specie.keys.adapters.signer_server import SignerServer, bind_signer_socket
from specie.keys.adapters.software import SoftwareSigner
from tests.support.entropy import CountingEntropy
from tests.support.signer_process import PEER_CREDENTIALS, SignerThread

pytestmark = pytest.mark.skipif(not PEER_CREDENTIALS, reason="this system has no SO_PEERCRED")

CLOCK = SystemClock()
SAT = KeysetRef("sat", 0)


def true_signer() -> SoftwareSigner:
    return SoftwareSigner(bytes(range(64)), threads=0, entropy=CountingEntropy())


@pytest.fixture
def thread() -> Iterator[SignerThread]:
    served = SignerThread(true_signer())
    yield served
    served.stop()


class Bank:
    """The pinned bank, with its hands on the bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._frames = wire.FrameReader()
        self._answers: list[wire.Answer] = []

    async def hello(self, versions: list[int] | None = None) -> wire.Answer:
        return await self.ask(0, wire.HELLO, (wire.Hello(versions or [wire.VERSION]),))

    async def ask(self, number: int, verb: str, arguments: object) -> wire.Answer:
        self.send(msgspec.msgpack.encode((number, verb, arguments)))
        return await self.answer()

    def send(self, body: bytes) -> None:
        self.writer.write(len(body).to_bytes(4, "big") + body)

    async def answer(self) -> wire.Answer:
        while not self._answers:
            data = await asyncio.wait_for(self.reader.read(65536), 10)
            if not data:
                raise EOFError
            self._answers += [wire.answer_from_bytes(frame) for frame in self._frames.feed(data)]
        return self._answers.pop(0)

    async def ended(self) -> bool:
        """Whether the signer hangs up."""
        try:
            return not await asyncio.wait_for(self.reader.read(65536), 10)
        except ConnectionError:
            return True


@asynccontextmanager
async def bank(thread: SignerThread) -> AsyncIterator[Bank]:
    """A connection of the pinned bank."""
    context = thread.bank.context(CLOCK.now(), server=False)
    reader, writer = await asyncio.open_unix_connection(str(thread.place), ssl=context, server_hostname="specie-signer")
    try:
        yield Bank(reader, writer)
    finally:
        writer.transport.abort()
        for _ in range(20):
            await asyncio.sleep(0.001)


async def test_a_bank_gets_answers_after_it_said_hello(thread: SignerThread) -> None:
    """The greeting names version, seed and capabilities; then requests in one write are answered by their ids."""
    async with bank(thread) as peer:
        welcome = wire.value_from_raw(wire.HELLO, (await peer.hello()).value)
        assert (welcome.version, welcome.identity) == (1, await true_signer().public_key("signer"))
        for number in (9, 2**53):
            peer.send(msgspec.msgpack.encode((number, "public_key", ("node",))))
        assert {(await peer.answer()).id, (await peer.answer()).id} == {9, 2**53}


FIRST = {
    "no hello": msgspec.msgpack.encode((1, "public_key", ("node",))),
    "garbage": b"\xc1\xc1",
    "no request": msgspec.msgpack.encode({"id": 1}),
    "a negative id": msgspec.msgpack.encode((-1, "hello", ())),
    "an endless verb": msgspec.msgpack.encode((1, "x" * 100_000, ())),
    "nesting": b"\x91" * 100_000,
}


@pytest.mark.parametrize("body", FIRST.values(), ids=FIRST.keys())
async def test_what_is_no_request_ends_the_connection(thread: SignerThread, body: bytes) -> None:
    """Before a hello nothing is answered, and what cannot be read is not either."""
    async with bank(thread) as peer:
        peer.send(body)
        assert await peer.ended()
    await thread.tells("broken off")


@pytest.mark.parametrize("raw", [bytes(4), b"\xff\xff\xff\xff", (wire.MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"x" * 100])
async def test_lengths_that_cannot_be_end_the_connection(thread: SignerThread, raw: bytes) -> None:
    """A frame of nothing or of too much is refused at its length."""
    async with bank(thread) as peer:
        await peer.hello()
        peer.writer.write(raw)
        assert await peer.ended()
    await thread.tells("a frame of")


async def test_a_second_hello_ends_the_connection(thread: SignerThread) -> None:
    """One greeting a connection."""
    async with bank(thread) as peer:
        await peer.hello()
        peer.send(msgspec.msgpack.encode((1, wire.HELLO, (wire.Hello([1]),))))
        assert await peer.ended()


async def test_a_bank_of_another_version_is_told_what_is_spoken(thread: SignerThread) -> None:
    """No version in common: refused with both named."""
    async with bank(thread) as peer:
        error = (await peer.hello([7, 8])).error
        assert error is not None
        assert error.name == "RefusedError"
        assert "version 1, the bank 7, 8" in error.detail


POINT = b"\x02" + bytes(31) + b"\x01"
WRONG: list[tuple[str, object, str]] = [
    ("export_seed", (), "RefusedError"),
    ("close", (), "RefusedError"),
    ("capabilities", (), "RefusedError"),
    ("_open", (), "RefusedError"),
    ("public_key", (1,), "MalformedError"),
    ("public_key", ("node", "node"), "MalformedError"),
    ("public_key", {"ref": "node"}, "MalformedError"),
    ("public_key", ("no de",), "KeyUnknownError"),
    ("sign_schnorr", ("node", [b"short"]), "MalformedError"),
    ("sign_schnorr", ("mint/sat/0/1", [bytes(32)]), "KeyUnknownError"),
    ("blind_sign", ([ToBlindSign(SAT, 1, POINT[:32])],), "MalformedError"),
    ("blind_sign", ([ToBlindSign(SAT, 1, bytes(65))],), "MalformedError"),
    ("blind_sign", ([ToBlindSign(SAT, 3, POINT)],), "KeyUnknownError"),
    ("verify_proofs", ([ProofToVerify(SAT, -1, b"", b"")],), "KeyUnknownError"),
    ("keyset_public_keys", (SAT, [1] * (wire.MAX_ITEMS + 1)), "MalformedError"),
    ("unwrap", (bytes(100), b""), "MalformedError"),
]


@pytest.mark.parametrize(("verb", "arguments", "name"), WRONG, ids=[f"{index}-{one[0]}" for index, one in enumerate(WRONG)])
async def test_wrong_requests_are_refused_and_the_connection_goes_on(
    thread: SignerThread, verb: str, arguments: object, name: str
) -> None:
    """Unknown verbs, wrong arguments, keys that do not exist: an error by name under the request's id."""
    async with bank(thread) as peer:
        await peer.hello()
        answer = await peer.ask(5, verb, arguments)
        assert answer.id == 5
        assert answer.error is not None
        assert answer.error.name == name
        assert (await peer.ask(6, "public_key", ("node",))).error is None


async def test_coins_are_answered_yes_or_no(thread: SignerThread) -> None:
    """A point that is none, a secret of nothing: no, and no error."""
    async with bank(thread) as peer:
        await peer.hello()
        questions = [
            ProofToVerify(SAT, 1, b"x", POINT),
            ProofToVerify(SAT, 1, b"", b""),
            ProofToVerify(SAT, 1, b"x", bytes(70)),
        ]
        answer = await peer.ask(1, "verify_proofs", (questions,))
        assert wire.value_from_raw("verify_proofs", answer.value) == [False] * 3


async def test_a_flood_is_answered_in_the_end(thread: SignerThread) -> None:
    """More requests than are worked on at once, in one go: the signer reads on as it finishes."""
    async with bank(thread) as peer:
        await peer.hello()
        for number in range(5000):
            peer.send(msgspec.msgpack.encode((number, "public_key", ("node",))))
        assert {(await peer.answer()).id for _ in range(5000)} == set(range(5000))


async def test_a_bank_that_reads_nothing_is_not_fed_without_end(thread: SignerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers wait within a bound, requests are not read meanwhile; when it reads again all are answered."""
    monkeypatch.setattr(signer_server, "_UNSENT_BYTES", 20_000)
    async with bank(thread) as peer:
        await peer.hello()
        for number in range(300):
            peer.send(msgspec.msgpack.encode((number, "wrap", (bytes(10_000), b""))))
        await asyncio.sleep(0.3)
        assert {(await peer.answer()).id for _ in range(300)} == set(range(300))


async def test_other_users_are_not_let_in() -> None:
    """The kernel says whose process it is; whoever is not allowed gets no handshake."""
    thread = SignerThread(true_signer(), users=frozenset({os.geteuid() + 1}))
    try:
        with pytest.raises(UnavailableError):
            await RemoteSigner.probe(thread.place, thread.bank, clock=CLOCK)
        await thread.tells("is not allowed")
    finally:
        await asyncio.to_thread(thread.stop)


async def test_who_speaks_no_tls_gets_nothing(thread: SignerThread) -> None:
    """Plain text, and a client without a certificate."""
    reader, writer = await asyncio.open_unix_connection(str(thread.place))
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert not (await asyncio.wait_for(reader.read(100), 10)).startswith(b"HTTP")
    writer.close()
    await thread.tells("TLS:")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_unix_connection(str(thread.place), ssl=context, server_hostname="x")
    with contextlib.suppress(OSError):
        assert await asyncio.wait_for(reader.read(100), 10) == b""
    writer.transport.abort()
    await asyncio.sleep(0.01)
    await thread.tells("peer did not return a certificate")


async def test_connections_are_bounded(thread: SignerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than the bound is hung up on before a handshake."""
    monkeypatch.setattr(signer_server, "_CONNECTIONS", 1)
    async with bank(thread) as peer:
        await peer.hello()
        with pytest.raises(UnavailableError):
            await RemoteSigner.probe(thread.place, thread.bank, clock=CLOCK)
        await thread.tells("too many connections")


async def test_requests_under_way_are_answered_when_it_stops() -> None:
    """A stop lets what runs finish, then closes; a new connection finds nobody."""
    started, go = asyncio.Event(), asyncio.Event()
    true = true_signer()

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(true, name)

        async def sign_schnorr(self, ref: str, digests: list[bytes]) -> list[bytes]:
            started.set()
            await go.wait()
            return await true.sign_schnorr(ref, digests)

    thread = await asyncio.to_thread(SignerThread, true_signer())
    await asyncio.to_thread(thread.stop, forget=False)
    place = thread.home / "own.sock"
    server = SignerServer(
        Slow(),  # type: ignore[arg-type]
        bind_signer_socket(place),
        thread.ours,
        clock=CLOCK,
        users={os.geteuid()},
        tell=lambda event, **facts: None,
    )
    await server.start()
    remote = await RemoteSigner.open(place, thread.bank, clock=CLOCK, entropy=CountingEntropy())
    call = asyncio.create_task(remote.sign_schnorr("node", [bytes(32)]))
    await asyncio.wait_for(started.wait(), 10)
    await remote.public_key("node")
    closing = asyncio.create_task(server.close())
    await asyncio.sleep(0.01)
    go.set()
    # Its answer is there; the look at the key it is checked with was cached before.
    assert len(await call) == 1
    await closing
    with pytest.raises(UnavailableError):
        await RemoteSigner.probe(place, thread.bank, clock=CLOCK)
    await remote.close()
    shutil.rmtree(thread.home)


async def test_an_answer_that_is_too_long_is_an_error_of_its_request(
    thread: SignerThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer beyond the bound of a frame is refused, under its id, and the connection goes on."""
    async with bank(thread) as peer:
        await peer.hello()
        monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 2000)
        answer = await peer.ask(1, "keyset_public_keys", (SAT, [1 << bit for bit in range(64)]))
        assert answer.error is not None
        assert answer.error.name == "MalformedError"
        assert (await peer.ask(2, "public_key", ("node",))).error is None


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name."""
    with tempfile.TemporaryDirectory(prefix="signer-") as name:
        yield Path(name)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_socket_is_for_its_owner_or_one_group(place: Path) -> None:
    """0700 and 0600 alone, 0750 and 0660 with a group; a file left by a dead process is replaced."""
    for _ in range(2):
        bind_signer_socket(place / "own" / "s.sock").close()
    assert (mode(place / "own"), mode(place / "own/s.sock")) == (0o700, 0o600)
    bind_signer_socket(place / "shared" / "s.sock", group=os.getegid()).close()
    assert (mode(place / "shared"), mode(place / "shared/s.sock")) == (0o750, 0o660)


def test_places_that_are_no_place_for_a_socket(place: Path) -> None:
    """A directory where others may write, another file under the name, a path too long, a directory that is a file."""
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    with pytest.raises(RefusedError, match="others may write"):
        bind_signer_socket(place / "open" / "s.sock")
    (place / "file").write_text("kept")
    with pytest.raises(RefusedError, match="no socket"):
        bind_signer_socket(place / "file")
    assert (place / "file").read_text() == "kept"
    with pytest.raises(RefusedError, match="too long"):
        bind_signer_socket(place / ("x" * 200))
    with pytest.raises(RefusedError, match="cannot be made"):
        bind_signer_socket(place / "file" / "s.sock")


def test_a_system_that_does_not_say_who_connects_gets_no_signer(thread: SignerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SO_PEERCRED there is no check of users, so there is no signer."""
    monkeypatch.delattr(socket, "SO_PEERCRED")
    with socket.socket(socket.AF_UNIX) as listener, pytest.raises(RefusedError, match="SO_PEERCRED"):
        SignerServer(
            true_signer(),
            listener,
            thread.ours,
            clock=CLOCK,
            users={0},
            tell=lambda event, **facts: None,
        )


def test_an_oversized_answer_is_malformed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound holds for whoever sends."""
    with pytest.raises(MalformedError):
        wire.answer_to_frame(1, bytes(wire.MAX_FRAME_BYTES))
