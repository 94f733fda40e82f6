"""Our keys for locks, `p2pk/{n}` behind the signer: found in a lock as they are or blinded (NUT-28), and signing.

Keys count as ours up to a gap beyond the last known one, so that a lock made before the wallet was lost still opens after
its words brought it back (NUT-11, derived keys). Blinded keys have to be tried one by one: those that opened a coin of the
same token are tried first, on every pathway, before all others are; and a coin that none opens ends the search, so a
foreign token costs one search.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from specie.ecash.conditions import Pathway, SpendingCondition, open_pathways, parse_secret
from specie.ecash.p2bk import SLOTS, first_slots
from specie.ecash.proof import Proof
from specie.keys.ports import BlindedKey
from specie.storage.ports import Transaction
from specie.wallet.engine.context import Context

__all__ = ["PURPOSE", "OwnKey", "OwnKeys", "own_keys"]

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

    async def of(
        self,
        pathway: Pathway,
        p2pk_e: bytes | None,
        first_slot: int,
        *,
        without: Collection[bytes] = (),
        thorough: bool = True,
    ) -> dict[bytes, OwnKey]:
        """Those keys of a pathway that are ours, in its order and at most as many as it asks for beyond `without`.

        `first_slot`: the slot of its first key, for coins with an ephemeral key. `without`: keys that are not wanted.
        Unless `thorough`, blinded ones are tried only with keys of ours that have opened a coin before.
        """
        wanted = pathway.n_sigs - len(without)
        places = [(first_slot + place, key) for place, key in enumerate(pathway.keys) if key not in without]
        found = await self._search(places, p2pk_e, wanted, thorough=thorough)
        if thorough and len(found) < wanted and self._ahead is None:
            await self._look_ahead()
            found = await self._search(places, p2pk_e, wanted, thorough=True)
        for key in found.values():
            if key.index not in self._recent:
                self._recent.insert(0, key.index)
        await self._remember(found.values())
        return dict(list(found.items())[:wanted])

    async def guarding(self, proofs: Iterable[Proof]) -> set[bytes]:
        """Keys in the locks of coins that are ours, x-only: all plain ones, and of blinded ones as many as a pathway asks for.

        Blinded refund keys are tried only with keys that have opened a coin before: one that is not found makes a coin look
        less safe than it is.
        """
        found = set(self._known)
        for proof in proofs:
            condition = None if proof.p2pk_e is None else parse_secret(proof.secret)
            if condition is not None:
                for way, (pathway, slot) in enumerate(_ways(condition)):
                    found |= {key[1:] for key in await self.of(pathway, proof.p2pk_e, slot, thorough=not way)}
        return found

    async def sign(self, key: OwnKey, digest: bytes) -> bytes:
        """BIP 340 signature of a digest by one of our keys."""
        signer = self._ctx.signer
        if key.blinded is not None:
            return (await signer.sign_blinded(key.blinded, [digest]))[0]
        return (await signer.sign_schnorr(f"{PURPOSE}/{key.index}", [digest]))[0]

    async def _search(
        self, places: Sequence[tuple[int, bytes]], p2pk_e: bytes | None, wanted: int, *, thorough: bool
    ) -> dict[bytes, OwnKey]:
        """Ours among keys, each with its slot; blinded ones are looked for until `wanted` are found."""
        found = {key: OwnKey(self._known[key[1:]]) for _, key in places if key[1:] in self._known}
        if p2pk_e is None:
            return found
        recent = list(self._recent)
        others = [index for index in sorted(self._known.values(), reverse=True) if index not in recent]
        for indices in (recent, others if thorough else []):
            if len(found) >= wanted:
                break
            tasks = [
                (key, OwnKey(index, BlindedKey(f"{PURPOSE}/{index}", p2pk_e, slot, key)))
                for index in indices
                for slot, key in places
                if key not in found and slot < SLOTS
            ]
            ours = await self._ctx.signer.own_blinded([task.blinded for _, task in tasks if task.blinded is not None])
            for (key, key_of_ours), is_ours in zip(tasks, ours, strict=True):
                if is_ours:
                    found.setdefault(key, key_of_ours)
        return {key: found[key] for _, key in places if key in found}

    async def _look_ahead(self) -> None:
        """Add the keys of the gap behind the last known one."""
        start = max(self._known.values(), default=-1) + 1
        self._ahead = {
            index: await self._ctx.signer.public_key(f"{PURPOSE}/{index}")
            for index in range(start, start + self._ctx.settings.key_gap)
        }
        self._known |= {public[1:]: index for index, public in self._ahead.items()}

    async def _remember(self, found: Iterable[OwnKey]) -> None:
        """Put keys that were found in the gap, and all before them, among the stored ones: they are in use."""
        last = max((key.index for key in found), default=-1)
        used = {index: public for index, public in (self._ahead or {}).items() if index <= last}

        async def body(tx: Transaction) -> None:
            for index, public in used.items():
                await self._ctx.store.save_key(tx, PURPOSE, index, public)

        if used:
            await self._ctx.storage.transact(body)
            self._ahead = {index: public for index, public in (self._ahead or {}).items() if index > last}


def _ways(condition: SpendingCondition) -> list[tuple[Pathway, int]]:
    """The main pathway and, open or not, the refund pathway, each with the slot of its first key."""
    expired = 0 if condition.locktime is None else condition.locktime + 1
    return list(zip(open_pathways(condition, expired), first_slots(condition), strict=False))


async def own_keys(ctx: Context) -> OwnKeys:
    """The keys of a wallet, as it knows them now."""
    return OwnKeys(ctx, await ctx.storage.read(lambda tx: ctx.store.keys(tx, PURPOSE)))
