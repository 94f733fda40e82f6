"""The keysets a mint knows: read once, refreshed when any process changes them, their keys derived by the signer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec

from specie.audit import AuditLog
from specie.ecash import (
    Keyset,
    derive_keyset_id,
    is_expired,
)
from specie.ecash.codes import (
    KeysetExpiredError,
    KeysetInactiveError,
    KeysetUnknownError,
    UnitUnsupportedError,
)
from specie.kernel import Clock, RefusedError, Telemetry
from specie.keys import SOFTWARE, KeysetRef, Signer
from specie.mint.ports import KeysetRecord, MintStore
from specie.storage import Storage, Transaction

__all__ = ["AMOUNTS", "KEYSETS_CHANNEL", "Catalogue", "Entry", "MakeKeys"]

AMOUNTS = tuple(1 << power for power in range(64))
"""Every keyset has a key for each power of two up to 2^63 (NUT-01)."""

KEYSETS_CHANNEL = "mint_keysets"

MakeKeys = Callable[[KeysetRef, Sequence[int]], Awaitable[dict[int, bytes]]]
"""Makes the keys of a new keyset in its home; their public keys by amount."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A keyset as wallets see it, and the name under which the signer knows its keys."""

    keyset: Keyset
    ref: KeysetRef
    configured_fee_ppk: int


class Catalogue:
    """All keysets of one mint, by id. Reading is synchronous and costs a dictionary look-up."""

    def __init__(
        self,
        storage: Storage,
        store: MintStore,
        signer: Signer,
        clock: Clock,
        telemetry: Telemetry,
        audit: AuditLog | None = None,
        make_keys: MakeKeys | None = None,
    ) -> None:
        """`make_keys` makes the keys of a new keyset whose home is not the seed, in that home; None where there is none."""
        self._storage = storage
        self._store = store
        self._signer = signer
        self._clock = clock
        self._make_keys = make_keys
        self._telemetry = telemetry
        self._audit = audit
        self._entries: dict[str, Entry] = {}
        self._lock = asyncio.Lock()

    async def load(self) -> None:
        """Read all keysets and derive the public keys of those not seen before."""
        async with self._lock:
            records = await self._storage.read(self._store.keysets)
            entries: dict[str, Entry] = {}
            for record in records:
                known = self._entries.get(record.id)
                if known is None:
                    entries[record.id] = await self._entry(record)
                elif known.keyset.active == record.active:
                    entries[record.id] = known
                else:  # the id commits to the keys, so they are not asked for again
                    keyset = msgspec.structs.replace(known.keyset, active=record.active)
                    entries[record.id] = Entry(keyset, known.ref, known.configured_fee_ppk)
            self._entries = entries

    async def _entry(self, record: KeysetRecord) -> Entry:
        ref = KeysetRef(record.unit, record.index, record.home)
        if record.home != SOFTWARE and self._make_keys is None:
            raise RefusedError(f"keyset {record.id} has its keys in {record.home}, and this bank's settings name none")
        keys = await self._signer.keyset_public_keys(ref, AMOUNTS)
        keyset = Keyset(
            id=record.id,
            unit=record.unit,
            keys=keys,
            active=record.active,
            input_fee_ppk=record.input_fee_ppk,
            final_expiry=record.final_expiry,
        )
        derived = derive_keyset_id(
            record.version,
            unit=record.unit,
            keys=keys,
            input_fee_ppk=record.input_fee_ppk,
            final_expiry=record.final_expiry,
        )
        if derived != record.id:
            if record.home != SOFTWARE:
                raise RefusedError(f"the keys in {record.home} are not those of keyset {record.id}; they make {derived}")
            raise RefusedError(f"the signer's seed does not belong to this store: keyset {record.id} derives to {derived}")
        return Entry(keyset, ref, record.configured_fee_ppk)

    async def ensure(self, unit: str, *, version: int, input_fee_ppk: int) -> None:
        """Make the first keyset of a unit, or a new one where the configured fee or id version has changed (NUT-02).

        A fee that an operator chose for one rotation stays, as long as the setting does.
        """
        _check_fee(input_fee_ppk)
        made = None
        while made is None:  # another process may make it first
            await self.load()
            active = [entry for entry in self._entries.values() if entry.keyset.unit == unit and entry.keyset.active]
            if active and active[0].configured_fee_ppk == input_fee_ppk and int(active[0].keyset.id[:2], 16) == version:
                return
            made = await self._add(unit, version, input_fee_ppk, None, configured_fee_ppk=input_fee_ppk)

    async def rotate(
        self,
        unit: str,
        *,
        version: int,
        input_fee_ppk: int,
        final_expiry: int | None,
        configured_fee_ppk: int,
        home: str | None = None,
    ) -> Keyset:
        """Make a new keyset the only active one of its unit. RefusedError for a fee or an expiry that cannot be.

        Its keys live in `home`; where that of the unit's active keyset are, unless given.
        """
        _check_fee(input_fee_ppk)
        if final_expiry is not None and not self._clock.now() < final_expiry < 2**63:
            raise RefusedError("final_expiry must be in the future, in seconds that a store can hold")
        made = None
        while made is None:
            await self.load()
            made = await self._add(unit, version, input_fee_ppk, final_expiry, configured_fee_ppk=configured_fee_ppk, home=home)
        return made

    async def _add(
        self,
        unit: str,
        version: int,
        input_fee_ppk: int,
        final_expiry: int | None,
        *,
        configured_fee_ppk: int,
        home: str | None = None,
    ) -> Keyset | None:
        """The unit's next keyset as the only active one; None if another process made one since the last `load`."""
        ours = [entry for entry in self._entries.values() if entry.ref.unit == unit]
        index = 1 + max((entry.ref.index for entry in ours), default=-1)
        if home is None:
            home = next((entry.ref.home for entry in ours if entry.keyset.active), SOFTWARE)
        ref = KeysetRef(unit, index, home)
        if home == SOFTWARE:
            keys = await self._signer.keyset_public_keys(ref, AMOUNTS)
        elif self._make_keys is not None:
            keys = await self._make_keys(ref, AMOUNTS)
        else:
            raise RefusedError(f"no keys of this bank can live in {home}: its settings name none")
        keyset_id = derive_keyset_id(version, unit=unit, keys=keys, input_fee_ppk=input_fee_ppk, final_expiry=final_expiry)
        record = KeysetRecord(
            id=keyset_id,
            unit=unit,
            index=index,
            version=version,
            active=True,
            input_fee_ppk=input_fee_ppk,
            final_expiry=final_expiry,
            created_at=self._clock.now(),
            configured_fee_ppk=configured_fee_ppk,
            home=home,
        )

        draft = None
        if self._audit is not None:
            facts = {"position": index, "input_fee_ppk": input_fee_ppk, "final_expiry": final_expiry, "keys": home}
            draft = self._audit.draft("keyset.create", keyset_id, detail={"unit": unit, **facts})

        async def body(tx: Transaction) -> bool:
            added = await self._store.add_keyset(tx, record)
            if added and self._audit is not None and draft is not None:
                await self._audit.append(tx, draft)
            if added:
                tx.notify(KEYSETS_CHANNEL, record.id)
            return added

        if not await self._storage.transact(body):
            return None
        if self._audit is not None:
            await self._audit.anchor()
        await self.load()
        self._telemetry.event("keyset_rotated", unit=unit, keyset=keyset_id, input_fee_ppk=input_fee_ppk)
        return self._entries[keyset_id].keyset

    def all(self) -> list[Keyset]:
        """Every keyset, oldest first within its unit; an expired one is shown as inactive."""
        return [self._shown(entry.keyset) for entry in self._entries.values()]

    def shown(self, keyset_id: str) -> Keyset:
        """One keyset as wallets see it; KeysetUnknownError."""
        return self._shown(self.get(keyset_id).keyset)

    def _shown(self, keyset: Keyset) -> Keyset:
        if keyset.active and is_expired(keyset, self._clock.now()):
            return msgspec.structs.replace(keyset, active=False)
        return keyset

    def get(self, keyset_id: str) -> Entry:
        """One keyset by its full id; KeysetUnknownError."""
        entry = self._entries.get(keyset_id)
        if entry is None:
            raise KeysetUnknownError
        return entry

    def spendable(self, keyset_id: str, now: int) -> Entry:
        """A keyset whose coins are taken: known and not past its final expiry."""
        entry = self.get(keyset_id)
        if is_expired(entry.keyset, now):
            raise KeysetExpiredError
        return entry

    def signable(self, keyset_id: str, now: int) -> Entry:
        """A keyset that signs: active and not past its final expiry."""
        entry = self.spendable(keyset_id, now)
        if not entry.keyset.active:
            raise KeysetInactiveError
        return entry

    def active(self, unit: str) -> Keyset:
        """The keyset that signs for a unit now; UnitUnsupportedError."""
        now = self._clock.now()
        for entry in self._entries.values():
            if entry.keyset.unit == unit and entry.keyset.active and not is_expired(entry.keyset, now):
                return entry.keyset
        raise UnitUnsupportedError(f"no active keyset for {unit}")


def _check_fee(input_fee_ppk: int) -> None:
    if not 0 <= input_fee_ppk < 2**31:
        raise RefusedError("input_fee_ppk must be from 0 to 2^31-1")
