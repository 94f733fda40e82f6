"""Answers leave in one piece, and nothing of them is ever left behind."""

from __future__ import annotations

import pytest

from specie.server.joined import _JoinedTransport

UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Wire:
    """Remembers what was written, and whether it was closed."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.mark.parametrize(
    ("writes", "written"),
    [
        ([HEAD, b"ok"], [HEAD + b"ok"]),
        ([HEAD, b""], [HEAD]),
        ([HEAD, b"ok", HEAD, b"ok"], [HEAD + b"ok", HEAD + b"ok"]),
        ([HEAD, b"5\r\nhello\r\n", b"0\r\n\r\n"], [HEAD + b"5\r\nhello\r\n", b"0\r\n\r\n"]),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", HEAD, b"ok"], [b"HTTP/1.1 100 Continue\r\n\r\n", HEAD + b"ok"]),
        (
            [b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"\x81\x02hi"],
            [b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"\x81\x02hi"],
        ),
        ([HEAD], []),
    ],
    ids=["with a body", "without", "two", "in chunks", "after an interim answer", "an upgrade", "only begun"],
)
def test_a_head_goes_with_what_follows_it(writes: list[bytes], written: list[bytes]) -> None:
    """One write an answer, in order, byte for byte; closing writes what was kept back."""
    wire = Wire()
    joined = _JoinedTransport(wire)  # type: ignore[arg-type]  # as much of a transport as is used
    for data in writes:
        joined.write(data)
    assert wire.written == written
    joined.close()
    assert wire.closed
    assert joined.is_closing()
    assert b"".join(wire.written) == b"".join(writes)
