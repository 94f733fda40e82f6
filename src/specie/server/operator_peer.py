"""Who speaks on the operator's socket, as the kernel knows it: a user id and a process id, not what a client says of itself."""

from __future__ import annotations

import os
import pwd
import socket
import struct
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["OperatorProtocol", "operator_name", "this_user"]

_CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""


class OperatorProtocol(HttpToolsProtocol):
    """uvicorn's HTTP on a unix socket; the client's address is its user (`uid 1000`) and its process."""

    def connection_made(self, transport: Any) -> None:
        """A client connected; where the system cannot tell who, its address stays empty."""
        super().connection_made(transport)
        found = _credentials(transport.get_extra_info("socket"))
        if found is not None:
            self.client = (f"uid {found[1]}", found[0])


def _credentials(peer: Any) -> tuple[int, int] | None:
    """Process and user at the other end; None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if peer is None or option is None:
        return None
    try:
        pid, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
    except (OSError, struct.error):
        return None
    return pid, uid


def this_user() -> tuple[str, int]:
    """The address of this process, for one that asks without a socket."""
    return f"uid {os.getuid()}", os.getpid()


@lru_cache(maxsize=64)
def operator_name(address: str) -> str:
    """`operator alice (uid 1000)` for a client's address; without the name where the system has none."""
    head, _, number = address.partition(" ")
    if head != "uid" or not number.isascii() or not number.isdigit():
        return "operator"
    try:
        return f"operator {pwd.getpwuid(int(number)).pw_name} ({address})"
    except (KeyError, OverflowError):
        return f"operator ({address})"
