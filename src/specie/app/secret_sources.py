"""Where a bank's secrets come from: its environment, files, and the system's keyring, asked within a time limit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from specie.kernel.errors import UnavailableError
from specie.keys.adapters.system_keyring import safe_keyring
from specie.ops.secret import Secret
from specie.ops.secret_reference import SecretReference, Sources, resolve

__all__ = ["revealed", "system_sources"]

_KEYRING_S = 60.0
"""For a person to unlock the keyring."""

T = TypeVar("T")


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` gives or raises; UnavailableError after `seconds`, and its thread is left behind."""
    came: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            came.append(ask())
        except Exception as error:  # carried to whoever waits
            failed.append(error)

    thread = threading.Thread(target=run, name="keyring", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not came:
        raise UnavailableError(f"the keyring did not answer within {seconds:g} s")
    return came[0]


def system_sources(environ: Mapping[str, str] | None = None, keyring_s: float = _KEYRING_S) -> Sources:
    """The sources of this process."""
    return Sources(
        os.environ if environ is None else environ,
        lambda service, user: _within(keyring_s, lambda: safe_keyring().get_password(service, user)),
    )


def revealed(value: Secret | SecretReference, sources: Sources | None = None) -> str:
    """A secret as text, read now if it is a reference; SecretReferenceError says which one leads nowhere, and why.

    UnavailableError, or KeyringUnsafeError, where the keyring cannot be asked.
    """
    if isinstance(value, Secret):
        return value.reveal()
    return resolve(value, sources or system_sources()).reveal()
