"""A keyring in memory that can be locked, bounded, lossy or killed, and says on which threads it was called."""

from __future__ import annotations

import threading
from collections.abc import Callable

from keyring.errors import KeyringLocked, PasswordDeleteError

__all__ = ["KilledError", "MemoryKeyring"]


class KilledError(BaseException):
    """The process dies here; nothing may catch it."""


class MemoryKeyring:
    """Entries by (service, user). Without `backend.priority`, so it never becomes the keyring of the process."""

    def __init__(self, most_bytes: int = 2560) -> None:
        self.entries: dict[tuple[str, str], str] = {}
        self.most_bytes = most_bytes
        self.refusal: Exception | None = None
        self.lives: int | None = None
        self.reads = 0
        self.writes = 0
        self.threads: set[threading.Thread] = set()
        self.on_read: Callable[[str], None] = lambda username: None

    def lock(self) -> None:
        self.refusal = KeyringLocked("locked")

    def _called(self, *, write: bool) -> None:
        self.threads.add(threading.current_thread())
        if self.refusal is not None:
            raise self.refusal
        self.reads += not write
        self.writes += write
        if write and self.lives is not None:
            if not self.lives:
                raise KilledError
            self.lives -= 1

    def get_password(self, service: str, username: str) -> str | None:
        self._called(write=False)
        self.on_read(username)
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._called(write=True)
        if len(password.encode("utf-16-le")) > self.most_bytes:
            raise OSError("the stub received bad data")  # as Windows says it
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._called(write=True)
        if (service, username) not in self.entries:
            raise PasswordDeleteError("absent")
        del self.entries[service, username]


MemoryKeyring.__module__ = "keyring.backends.SecretService"
