"""An answer has the same bytes whether it is written at once or by ASGI; what is not plain goes by ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from specie.server import direct
from specie.server.errors import Answer
from specie.server.http import SECURITY_HEADERS, Receive, Request, Scope, Send, send_answer
from specie.server.peers import Peer

HOST = b"host: bank\r\n"
ANSWERS = [
    Answer(b'{"ok":true}', headers=[(b"cache-control", b"no-store")]),
    Answer(b"", 204, [(b"allow", b"GET")]),
    Answer(b"", 304, [(b"ETag", b'"1"')]),
    Answer(b"missing", 404, content_type=b"text/plain"),
]


class Wire(asyncio.Transport):
    """A transport that remembers what was written, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 80)})
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Bank:
    """An application that reads the body and gives one answer, on one connection of uvicorn."""

    def __init__(self, answer: Answer, default: list[tuple[bytes, bytes]] | None = None) -> None:
        self.answer = answer
        self.bodies: list[bytes] = []
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        config.load()
        state = ServerState()
        state.default_headers = [(b"date", b"now")] if default is None else default
        self.wire = Wire()
        self.connection = HttpToolsProtocol(config, state, {})
        self.connection.connection_made(self.wire)

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, Peer("127.0.0.1", True), 1000, 5.0)
        self.bodies.append(await request.body())
        await send_answer(send, self.answer, SECURITY_HEADERS, head=scope["method"] == "HEAD")

    async def ask(self, *pieces: bytes) -> list[bytes]:
        """Send pieces of a request; what was written."""
        for piece in pieces:
            self.connection.data_received(piece)
            for _ in range(10):
                await asyncio.sleep(0)
        timer = self.connection.timeout_keep_alive_task
        if timer is not None:
            timer.cancel()
        return self.wire.written


def _by_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specie.server.http.answered_at_once", lambda *_, **__: False)
    monkeypatch.setattr("specie.server.http.body_at_hand", lambda _: None)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: str(answer.status))
@pytest.mark.parametrize("method", [b"POST", b"HEAD"])
async def test_the_bytes_are_the_same(answer: Answer, method: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of answer, with and without its body: one write where ASGI takes two, and byte for byte the same."""
    request = method + b" /v1/swap HTTP/1.1\r\n" + HOST + b"content-length: 4\r\n\r\nbody"
    at_once = await Bank(answer).ask(request)
    _by_asgi(monkeypatch)
    by_messages = await Bank(answer).ask(request)
    assert len(at_once) == 1
    assert len(by_messages) == (1 if method == b"HEAD" else 2)
    assert at_once[0] == b"".join(by_messages)


async def test_one_connection_goes_on() -> None:
    """Several requests, one of them in pieces, one behind another: every body arrives, every answer leaves in order."""
    bank = Bank(Answer(b"ok"))
    head = b"POST /v1/swap HTTP/1.1\r\n" + HOST + b"content-length: 4\r\n\r\n"
    written = await bank.ask(head + b"one.", head + b"tw", b"o.", head + b"tre." + head + b"four")
    assert bank.bodies == [b"one.", b"two.", b"tre.", b"four"]
    assert len(written) == 4
    assert len(set(written)) == 1
    assert not bank.wire.closed


@pytest.mark.parametrize(
    ("head", "default"),
    [
        (b"POST / HTTP/1.1\r\n" + HOST + b"connection: close\r\n", None),
        (b"POST / HTTP/1.0\r\n" + HOST, None),
        (b"POST / HTTP/1.1\r\n" + HOST, [(b"connection", b"close")]),
        (b"POST / HTTP/1.1\r\n" + HOST + b"expect: 100-continue\r\n", None),
    ],
    ids=["the peer closes", "an old peer", "a bank that drains", "a peer that asks first"],
)
async def test_what_is_not_plain_goes_by_messages(
    head: bytes, default: list[tuple[bytes, bytes]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that end with the answer, and bodies that wait to be asked for: as without the short way."""
    request = head + b"content-length: 4\r\n\r\nbody"
    bank = Bank(Answer(b"ok"), default)
    written = b"".join(await bank.ask(request))
    _by_asgi(monkeypatch)
    plain = Bank(Answer(b"ok"), default)
    assert written == b"".join(await plain.ask(request))
    assert bank.bodies == plain.bodies == [b"body"]
    assert bank.wire.closed is plain.wire.closed


async def test_a_header_that_is_none_is_not_sent() -> None:
    """A line break in a header would begin another answer: the connection gets an error instead."""
    bank = Bank(Answer(b"ok", headers=[(b"location", b"/\r\nset-cookie: x")]))
    written = await bank.ask(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 0\r\n\r\n")
    assert b"".join(written).startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in b"".join(written)


@pytest.mark.parametrize(
    "change",
    [
        lambda cycle: setattr(cycle, "disconnected", True),
        lambda cycle: setattr(cycle, "response_started", True),
        lambda cycle: cycle.flow.pause_writing(),
        lambda cycle: setattr(cycle, "access_log", True),
    ],
    ids=["gone", "begun", "slow", "logged"],
)
async def test_other_states_are_left_to_uvicorn(change: Callable[[RequestResponseCycle], None]) -> None:
    """A peer that is gone or does not read, an answer that has begun, a log of requests: nothing is done here."""
    bank = Bank(Answer(b"ok"))
    bank.connection.data_received(b"POST / HTTP/1.1\r\n" + HOST + b"content-length: 4\r\n\r\nbo")
    cycle = bank.connection.cycle
    assert direct.body_at_hand(cycle.receive) is None
    change(cycle)
    assert not direct.answered_at_once(cycle.send, bank.answer, (), head=False)
    assert not bank.wire.written
    for task in list(bank.connection.tasks):
        task.cancel()
    await asyncio.sleep(0)


async def test_other_servers_go_by_messages() -> None:
    """Whoever passes a function of its own is sent messages."""

    async def own(*_: Any) -> None:
        pass

    assert direct.body_at_hand(own) is None
    assert not direct.answered_at_once(own, ANSWERS[0], (), head=False)
