"""The operator's unix socket: made so that at no moment anyone else can connect, and reachable under long paths.

The file system is its lock: mode 0600 in the bank's own directory. Not here: what is spoken over it (`admin`).
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from specie.kernel.errors import RefusedError, UnavailableError
from specie.server.errors import SocketInUseError

__all__ = ["bind_unix_socket", "reachable_name", "remove_unix_socket"]

_MAX_NAME_BYTES = 103
"""What every system takes; Linux takes 107."""


@contextmanager
def reachable_name(path: Path) -> Iterator[str]:
    """A name of `path` that fits a socket address while inside; RefusedError where there is none."""
    name = os.fsencode(path.absolute())
    if len(name) <= _MAX_NAME_BYTES:
        yield os.fsdecode(name)
        return
    if sys.platform != "linux":
        raise RefusedError(f"{path} is too long for a unix socket; choose a data directory with a shorter path")
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"{path.parent} cannot be opened: {error.strerror}") from None
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def bind_unix_socket(path: Path) -> socket.socket:
    """A bound socket, mode 0600, not yet listening. A file left by a bank that died is replaced.

    SocketInUseError if someone answers there; RefusedError if something else stands under the name.
    """
    _clear(path)
    with reachable_name(path) as name:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(name)
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise SocketInUseError(f"another bank is starting with {path}") from None
            raise RefusedError(f"{path} cannot be made: {error.strerror}") from None
        finally:
            os.umask(before)
    path.chmod(0o600)
    listener.setblocking(False)
    return listener


def _clear(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise RefusedError(f"{path} is there and is no socket")
    with reachable_name(path) as name, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            return
        except OSError:
            raise SocketInUseError(f"{path} belongs to a running bank that does not answer") from None
        else:
            raise SocketInUseError(f"a bank is running with {path}")


def remove_unix_socket(path: Path) -> None:
    """Take the file away after the last connection; silent if it is gone."""
    path.unlink(missing_ok=True)
