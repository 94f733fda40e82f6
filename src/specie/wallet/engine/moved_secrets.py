"""Small secrets on their way from one place to another: each moves when it is first asked for.

So the logins of a wallet that the keyring seals leave its database, where versions before this one, a backup taken up and
a change of the seal put them.

What a crash leaves behind: the secret in both places after it was put in the new one, and then the new one's counts; before
that, in the old place alone. Nothing is ever put in the old place instead of the new one, except by `move_back`.
"""

from __future__ import annotations

import asyncio

from specie.keys.ports import SecretShelf, SecretStore

__all__ = ["MovedSecrets"]


class MovedSecrets:
    """The secrets of `place`, among them those that lie in `old` until they are first used. A `keys.SecretStore`."""

    def __init__(self, place: SecretShelf, old: SecretStore) -> None:
        """Nothing is moved yet."""
        self._place = place
        self._old = old
        self._turn = asyncio.Lock()

    async def put(self, name: str, secret: str) -> None:
        """Keep `secret` in the new place, and nothing of this name in the old one. Errors of both."""
        async with self._turn:
            await self._place.put(name, secret)
            await self._old.delete(name)

    async def get(self, name: str) -> str | None:
        """The secret of this name, moved if it was in the old place, or None. Errors of both; then nothing is lost."""
        async with self._turn:
            left = await self._old.get(name)
            found = await self._place.get(name)
            if left is not None:
                if found is None:
                    await self._place.put(name, left)
                    found = left
                await self._old.delete(name)
            return found

    async def delete(self, name: str) -> None:
        """Forget the secret of this name in both places."""
        async with self._turn:
            await self._old.delete(name)
            await self._place.delete(name)

    async def move_back(self) -> None:
        """Put all secrets in the old place and leave nothing in the new one. If interrupted, repeat it, or go on as before."""
        async with self._turn:
            for name in sorted(await self._place.names()):
                found = await self._place.get(name)
                if found is not None:
                    await self._old.put(name, found)
                await self._place.delete(name)
