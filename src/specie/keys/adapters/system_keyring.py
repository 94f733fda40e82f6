"""The operating system's keyring: which backends are taken, and what becomes of their errors.

The `keyring` package is imported only where a keyring is asked for: it costs more start-up time than all else here.
Everything here blocks, for as long as it takes a person to unlock the keyring.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from specie.kernel.errors import UnavailableError
from specie.keys.errors import KeyringUnsafeError
from specie.keys.sealing import keyring_is_safe

__all__ = ["Keyring", "safe_keyring"]


class Keyring(Protocol):
    """What is used of a backend of the `keyring` package."""

    def get_password(self, service: str, username: str) -> str | None:
        """The stored text, or None."""
        ...

    def set_password(self, service: str, username: str, password: str) -> None:
        """Store a text."""
        ...

    def delete_password(self, service: str, username: str) -> None:
        """Remove a text."""
        ...


class _Answering:
    """A keyring whose errors are ours: besides KeyringError it raises what the libraries below it do."""

    def __init__(self, backend: Keyring) -> None:
        self._backend = backend

    def get_password(self, service: str, username: str) -> str | None:
        with _errors():
            return self._backend.get_password(service, username)

    def set_password(self, service: str, username: str, password: str) -> None:
        with _errors():
            self._backend.set_password(service, username, password)

    def delete_password(self, service: str, username: str) -> None:
        with _errors():
            self._backend.delete_password(service, username)


def safe_keyring(backend: Keyring | None = None) -> Keyring:
    """The system's keyring, or `backend`; of a chain the first that is safe. KeyringUnsafeError where none is.

    What is returned raises UnavailableError for whatever goes wrong in the keyring, and nothing else.
    """
    import keyring
    from keyring.backends.chainer import ChainerBackend

    with _errors():
        found = keyring.get_keyring() if backend is None else backend
        candidates: list[Keyring] = list(found.backends) if isinstance(found, ChainerBackend) else [found]
    for candidate in candidates:
        if keyring_is_safe(type(candidate).__module__):
            return _Answering(candidate)
    names = ", ".join(type(candidate).__module__ for candidate in candidates) or "none"
    raise KeyringUnsafeError(
        f"the operating system offers no keyring known to be safe (found: {names}); use a passphrase file instead"
    )


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise UnavailableError(f"the keyring did not answer ({type(error).__name__})", retry_after_s=5.0) from error
