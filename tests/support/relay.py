"""A real Nostr relay in this process, on a loopback port, for tests of what travels over relays."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from nostr_sdk import LocalRelay, LocalRelayBuilder


@contextlib.asynccontextmanager
async def running_relay() -> AsyncIterator[tuple[LocalRelay, str]]:
    """The relay and its address."""
    relay = LocalRelayBuilder().addr("127.0.0.1").build()
    await relay.run()
    try:
        yield relay, str(await relay.url())
    finally:
        relay.shutdown()
