"""Small secrets kept for the wallet: tokens that grant access at a mint, and their like. Never plaintext on disk.

Each is sealed by the signer's own wrapping key, so it is as safe as the words are, and goes into backups with the tables.
"""

from __future__ import annotations

from specie.kernel.errors import MalformedError
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context

__all__ = ["KeptSecrets"]

_MOST_NAME = 512
_MOST_BYTES = 64 * 1024


class KeptSecrets:
    """The `keys.SecretStore` of a wallet. Names may be read by whoever reads the database; secrets may not."""

    def __init__(self, ctx: Context) -> None:
        """Take the wallet's ports."""
        self._context = ctx

    async def put(self, name: str, secret: str) -> None:
        """Keep `secret` under `name`, in place of what was there. MalformedError beyond 512 characters or 64 KiB."""
        data = secret.encode()
        if not 1 <= len(name) <= _MOST_NAME or len(data) > _MOST_BYTES:
            raise MalformedError("a secret has a name of 1 to 512 characters and at most 64 KiB")
        ctx = self._context
        sealed, now = await ctx.signer.wrap(data, context=_use(name)), ctx.clock.now()

        async def body(tx: Transaction) -> None:
            await ctx.store.save_secret(tx, name, sealed, now)

        await ctx.storage.transact(body)

    async def get(self, name: str) -> str | None:
        """The secret of this name, or None. SealBrokenError where it was changed or belongs to another wallet."""
        ctx = self._context
        sealed = await ctx.storage.read(lambda tx: ctx.store.secret(tx, name))
        return None if sealed is None else (await ctx.signer.unwrap(sealed, context=_use(name))).decode()

    async def delete(self, name: str) -> None:
        """Forget the secret of this name; nothing happens where there is none."""
        ctx = self._context

        async def body(tx: Transaction) -> None:
            await ctx.store.delete_secret(tx, name)

        await ctx.storage.transact(body)


def _use(name: str) -> bytes:
    return b"wallet secret 1 " + name.encode()
