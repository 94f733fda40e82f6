"""Past ASGI's messages: a body that is all there is taken from uvicorn's connection, and an answer written to it in one piece.

ASGI splits both into messages, each checked and copied again, and an answer into two system calls that wake the peer twice.
Only for HTTP/1.1 requests of uvicorn in their plainest state; whatever else there may be goes by ASGI, and so does everything
under another server. The bytes of an answer are the same either way.
"""

from __future__ import annotations

from functools import lru_cache

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

from specie.server.errors import Answer

__all__ = ["answered_at_once", "body_at_hand"]


def body_at_hand(receive: object) -> bytes | None:
    """The whole body of a request that has arrived; None where it has to be received."""
    cycle = getattr(receive, "__self__", None)
    if type(cycle) is not RequestResponseCycle or cycle.more_body:
        return None
    if cycle.disconnected or cycle.response_complete or cycle.waiting_for_100_continue:
        return None
    body, cycle.body = bytes(cycle.body), bytearray()
    cycle.message_event.clear()
    cycle.flow.resume_reading()
    return body


def answered_at_once(send: object, answer: Answer, shared: tuple[tuple[bytes, bytes], ...], *, head: bool) -> bool:
    """Send an answer; False, and nothing is done, where it has to go by `send`. RuntimeError for what is no header."""
    cycle = getattr(send, "__self__", None)
    if type(cycle) is not RequestResponseCycle or cycle.response_started or cycle.disconnected or not cycle.keep_alive:
        return False
    if cycle.flow.write_paused or cycle.access_log or cycle.waiting_for_100_continue:
        return False
    lines = [STATUS_LINE[answer.status]]
    for name, value in cycle.default_headers:
        if name == b"connection":
            return False
        lines += (name, b": ", value, b"\r\n")
    lines += (_lines(shared), _lines(tuple(answer.headers)))
    if answer.status not in (204, 304):
        lines += (_lines(((b"content-type", answer.content_type),)), b"content-length: %d\r\n" % len(answer.body))
    lines += (b"\r\n", b"" if head else answer.body)
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(b"".join(lines))
    cycle.message_event.set()
    cycle.on_response()
    return True


@lru_cache(maxsize=512)
def _lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
    if any(HEADER_RE.search(name) or HEADER_VALUE_RE.search(value) for name, value in headers):
        raise RuntimeError("an answer's header holds what no header may")
    return b"".join([name.lower() + b": " + value + b"\r\n" for name, value in headers])
