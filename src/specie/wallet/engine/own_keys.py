"""Our keys for locks, `p2pk/{n}` behind the signer: found in a lock as they are or blinded (NUT-28), and signing.

Keys count as ours up to a gap beyond the last known one, so that a lock made before the wallet was lost still opens after
its words brought it back (NUT-11, derived keys). Blinded keys have to be tried one by one: those that opened a coin of the
same token are tried first, and a coin that none opens ends the search, so a foreign token costs one search.
"""

from __future__ import annotations

from dataclasses import dataclass

from specie.ecash.conditions import Pathway
from specie.ecash.p2bk import SLOTS
from specie.keys.ports import BlindedKey
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context

__all__ = ["PURPOSE", "OwnKey", "OwnKeys"]

PURPOSE = "p2pk"


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A key of ours in a lock: plain, or blinded."""

    index: int
    blinded: BlindedKey | None = None


class OwnKeys:
    """The keys this wallet can sign with, for one opening of coins."""

    def __init__(self, ctx: Context, known: dict[bytes, int]) -> None:
        """`known`: our public keys, x-only, with their indices."""
        self._ctx = ctx
        self._known = dict(known)
        self._recent: list[int] = []
        self._ahead: dict[int, bytes] | None = None

    async def of(self, pathway: Pathway, p2pk_e: bytes | None, first_slot: int) -> list[OwnKey]:
        """Those keys of a pathway that are ours, in its order and at most as many as it asks for.

        `first_slot`: the slot of its first key, for coins with an ephemeral key.
        """
        found = await self._search(pathway, p2pk_e, first_slot)
        if len(found) < pathway.n_sigs and self._ahead is None:
            await self._look_ahead()
            found = await self._search(pathway, p2pk_e, first_slot)
        for key in found:
            if key.index not in self._recent:
                self._recent.insert(0, key.index)
        await self._remember(found)
        return found[: pathway.n_sigs]

    async def sign(self, key: OwnKey, digest: bytes) -> bytes:
        """BIP 340 signature of a digest by one of our keys."""
        signer = self._ctx.signer
        if key.blinded is not None:
            return (await signer.sign_blinded(key.blinded, [digest]))[0]
        return (await signer.sign_schnorr(f"{PURPOSE}/{key.index}", [digest]))[0]

    async def _search(self, pathway: Pathway, p2pk_e: bytes | None, first_slot: int) -> list[OwnKey]:
        places = list(enumerate(pathway.keys))
        found = {place: OwnKey(self._known[key[1:]]) for place, key in places if key[1:] in self._known}
        if p2pk_e is None:
            return [found[place] for place in sorted(found)]
        recent = list(self._recent)
        others = [index for index in sorted(self._known.values(), reverse=True) if index not in recent]
        for indices in (recent, others):
            if len(found) >= pathway.n_sigs:
                break
            tasks = [
                (place, OwnKey(index, BlindedKey(f"{PURPOSE}/{index}", p2pk_e, first_slot + place, key)))
                for index in indices
                for place, key in places
                if place not in found and first_slot + place < SLOTS
            ]
            ours = await self._ctx.signer.own_blinded([task.blinded for _, task in tasks if task.blinded is not None])
            for (place, key_of_ours), is_ours in zip(tasks, ours, strict=True):
                if is_ours:
                    found.setdefault(place, key_of_ours)
        return [found[place] for place in sorted(found)]

    async def _look_ahead(self) -> None:
        """Add the keys of the gap behind the last known one."""
        start = max(self._known.values(), default=-1) + 1
        self._ahead = {
            index: await self._ctx.signer.public_key(f"{PURPOSE}/{index}")
            for index in range(start, start + self._ctx.settings.key_gap)
        }
        self._known |= {public[1:]: index for index, public in self._ahead.items()}

    async def _remember(self, found: list[OwnKey]) -> None:
        """Put keys that were found in the gap, and all before them, among the stored ones: they are in use."""
        last = max((key.index for key in found), default=-1)
        used = {index: public for index, public in (self._ahead or {}).items() if index <= last}

        async def body(tx: Transaction) -> None:
            for index, public in used.items():
                await self._ctx.store.save_key(tx, PURPOSE, index, public)

        if used:
            await self._ctx.storage.transact(body)
            self._ahead = {index: public for index, public in (self._ahead or {}).items() if index > last}
