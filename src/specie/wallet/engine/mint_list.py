"""`wallet.mint_list`: the list of trusted mints, kept encrypted on Nostr relays under a key of the seed (NUT-27).

With the words alone, another device finds the mints to restore from. What is kept there is only ever added to: a device
that knows fewer mints does not make others' backups shorter. Relays learn that the key exists, when it is used, and from
where; not which mints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specie.ecash import wire
from specie.kernel.errors import MalformedError
from specie.wallet.engine.context import Context
from specie.wallet.engine.requests import Requests

__all__ = ["MintBackup", "MintList"]

_REF = "mint-backup"
_KIND = 30078
_NAME = "mint-list"


@dataclass(frozen=True, slots=True)
class MintBackup:
    """A list of mints on relays. `relays`: how many hold it; `new`: those of it that this wallet does not trust yet."""

    mints: tuple[str, ...]
    new: tuple[str, ...]
    written_at: int | None
    """Unix seconds; None where there was no backup."""
    relays: int


class MintList:
    """Backup and restore of the mints a wallet trusts."""

    def __init__(self, ctx: Context, requests: Requests) -> None:
        """Share the wallet's ports, and its client of relays."""
        self._ctx = ctx
        self._requests = requests

    async def backup(self, relays: Sequence[str]) -> MintBackup:
        """Add our mints to the list on these relays, those that answer; what stands there now.

        UnavailableError where no relay answers or takes it; MalformedError where what stands there cannot be read, which is
        not overwritten; TransportUnsupportedError without Nostr.
        """
        found, answered, dated = await self._read(relays)
        known = await self._known()
        mints = tuple(dict.fromkeys((*found.mints, *known)))
        if mints == found.mints and found.relays == len(set(relays)):
            return found
        at = max(self._ctx.clock.now(), dated + 1)
        body = wire.mint_list_to_json(mints, at).decode()
        taken = await self._requests.nostr().write_record(_REF, answered, body, kind=_KIND, name=_NAME, at=at)
        return MintBackup(mints, found.new, at, taken)

    async def restore(self, relays: Sequence[str]) -> MintBackup:
        """The list on these relays. Nothing is added: show `new` to the owner, and `add_mint` what they agree to.

        UnavailableError where no relay answers; MalformedError for a list that cannot be read.
        """
        return (await self._read(relays))[0]

    async def _known(self) -> list[str]:
        return [record.url for record in await self._ctx.storage.read(self._ctx.store.mints)]

    async def _read(self, relays: Sequence[str]) -> tuple[MintBackup, tuple[str, ...], int]:
        """The list, the relays that answered, and when the event says it was made."""
        if not relays:
            raise MalformedError("name at least one relay")
        record = await self._requests.nostr().read_record(_REF, tuple(dict.fromkeys(relays)), kind=_KIND, name=_NAME)
        if record.text is None:
            return MintBackup((), (), None, 0), record.answered, 0
        mints, at = wire.mint_list_from_json(record.text, limits=self._ctx.settings.limits)
        known = await self._known()
        new = tuple(mint for mint in mints if mint not in known)
        return MintBackup(mints, new, at, record.holding), record.answered, record.created_at
