"""Small secrets kept in the wallet's database: tokens that grant access, and their like. Never plaintext on disk.

Each is sealed by the signer's own wrapping key, so it is as safe as the words are, and goes into backups with the tables.
Logins are here unless the keyring seals the words: see `MovedSecrets`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from specie.kernel.errors import MalformedError

if TYPE_CHECKING:
    from specie.kernel.clock import Clock
    from specie.keys.ports import Signer
    from specie.storage.ports import Storage, Transaction
    from specie.wallet.ports import WalletStore

__all__ = ["KeptSecrets"]

_MOST_NAME = 512
_MOST_BYTES = 64 * 1024


class KeptSecrets:
    """The `keys.SecretStore` of a wallet. Names may be read by whoever reads the database; secrets may not."""

    def __init__(self, storage: Storage, store: WalletStore, signer: Signer, clock: Clock) -> None:
        """Take the wallet's ports."""
        self._storage = storage
        self._store = store
        self._signer = signer
        self._clock = clock

    async def put(self, name: str, secret: str) -> None:
        """Keep `secret` under `name`, in place of what was there. MalformedError beyond 512 characters or 64 KiB."""
        data = secret.encode()
        if not 1 <= len(name) <= _MOST_NAME or len(data) > _MOST_BYTES:
            raise MalformedError("a secret has a name of 1 to 512 characters and at most 64 KiB")
        sealed, now = await self._signer.wrap(data, context=_use(name)), self._clock.now()

        async def body(tx: Transaction) -> None:
            await self._store.save_secret(tx, name, sealed, now)

        await self._storage.transact(body)

    async def get(self, name: str) -> str | None:
        """The secret of this name, or None. SealBrokenError where it was changed or belongs to another wallet."""
        sealed = await self._storage.read(lambda tx: self._store.secret(tx, name))
        return None if sealed is None else (await self._signer.unwrap(sealed, context=_use(name))).decode()

    async def delete(self, name: str) -> None:
        """Forget the secret of this name; nothing happens where there is none."""

        async def body(tx: Transaction) -> None:
            await self._store.delete_secret(tx, name)

        await self._storage.transact(body)


def _use(name: str) -> bytes:
    return b"wallet secret 1 " + name.encode()
