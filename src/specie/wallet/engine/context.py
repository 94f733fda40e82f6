"""What every part of the engine shares: the ports, the mints' clients, and what is known of keysets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from specie.ecash import wire
from specie.ecash.info import MintInfo
from specie.kernel.entropy import Entropy, uuid7
from specie.kernel.errors import MalformedError
from specie.wallet.errors import MintUnknownError

if TYPE_CHECKING:
    from specie.ecash.keyset import Keyset
    from specie.kernel.clock import Clock
    from specie.kernel.telemetry import Telemetry
    from specie.keys.ports import Signer
    from specie.storage.ports import Storage
    from specie.wallet.holding import KnownKeyset, MintRecord, StoredProof
    from specie.wallet.placement import HealthTally
    from specie.wallet.ports import MintClient, MintClients, WalletStore
    from specie.wallet.selection import KeysetTerms
    from specie.wallet.settings import WalletSettings

__all__ = ["AdmitMint", "Context"]

AdmitMint = Callable[[str, MintInfo], None]
"""Told the URL and NUT-06 answer of a mint that is about to be trusted; raises where it must not be."""


class Context:
    """The wallet's ports and short-lived knowledge.

    `busy` holds operations that a task of this process works on, `tallies` what it has seen of each mint's health.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        store: WalletStore,
        signer: Signer,
        clients: MintClients,
        clock: Clock,
        entropy: Entropy,
        telemetry: Telemetry,
        settings: WalletSettings,
        admit: AdmitMint | None = None,
    ) -> None:
        """Take the ports; nothing is opened here."""
        self.storage = storage
        self.store = store
        self.signer = signer
        self.clock = clock
        self.entropy = entropy
        self.telemetry = telemetry
        self.settings = settings
        self.admit = admit
        self.busy: set[str] = set()
        self.tallies: dict[str, HealthTally] = {}
        self._clients = clients
        self._open: dict[str, MintClient] = {}
        self._infos: dict[str, tuple[bytes, MintInfo]] = {}
        self._keysets: dict[str, tuple[int | None, list[KnownKeyset]]] = {}

    def client(self, mint: str) -> MintClient:
        """The guarded client of a mint's normalised URL, made on first use."""
        client = self._open.get(mint)
        if client is None:
            from specie.wallet.breaker import Breaker
            from specie.wallet.engine.guard import GuardedClient
            from specie.wallet.placement import HealthTally

            breaker = Breaker(threshold=self.settings.breaker_threshold, pause_s=self.settings.breaker_pause_s)
            client = self._open[mint] = GuardedClient(
                self._clients(mint),
                breaker,
                self.settings.retry,
                self.clock,
                self.entropy,
                self.telemetry,
                self.tallies.setdefault(mint, HealthTally()),
            )
        return client

    def new_id(self) -> str:
        """A fresh UUIDv7: ids made later sort later."""
        return uuid7(self.clock.now_ns() // 1_000_000, self.entropy.bytes(10))

    async def pause(self, attempt: int) -> None:
        """Wait before trying again after failed try number `attempt`."""
        await self.clock.sleep(self.settings.retry.delay_s(attempt, self.entropy.bytes(4)))

    async def mint_record(self, mint: str) -> MintRecord:
        """A mint of ours; MintUnknownError otherwise."""
        for record in await self.storage.read(self.store.mints):
            if record.url == mint:
                return record
        raise MintUnknownError(mint)

    async def info(self, mint: str) -> MintInfo:
        """What the mint last said of itself (NUT-06), as stored; empty where it never said anything readable."""
        record = await self.mint_record(mint)
        known = self._infos.get(mint)
        if known is None or known[0] != record.info:
            try:
                known = (record.info, wire.info_from_json(record.info, limits=self.settings.limits))
            except MalformedError:
                known = (record.info, MintInfo())
            self._infos[mint] = known
        return known[1]

    async def keysets(self, mint: str) -> list[KnownKeyset]:
        """The mint's keysets as stored; read again when this process or another has refreshed them."""
        refreshed_at = next((r.refreshed_at for r in await self.storage.read(self.store.mints) if r.url == mint), None)
        known = self._keysets.get(mint)
        if known is None or known[0] != refreshed_at:
            known = self._keysets[mint] = (refreshed_at, await self.storage.read(lambda tx: self.store.keysets(tx, mint)))
        return known[1]

    def forget_keysets(self, mint: str) -> None:
        """The stored keysets have changed."""
        self._keysets.pop(mint, None)

    def forget_all_keysets(self) -> None:
        """The stored mints and keysets have changed."""
        self._keysets.clear()
        self._infos.clear()

    async def array_limit(self, mint: str) -> int:
        """The longest array to put into a request: the mint's bound or ours, whichever is less."""
        ours = self.settings.limits.array_length
        return min(ours, (await self.info(mint)).max_array_length or ours)

    async def terms(self, mint: str, proofs: Sequence[StoredProof]) -> dict[str, KeysetTerms]:
        """What selection must know of the mint's keysets, by id; those of `proofs` (all of this mint) are among them."""
        from specie.wallet.selection import KeysetTerms

        keysets = await self.keysets(mint)
        if not {stored.proof.id for stored in proofs} <= {known.keyset.id for known in keysets}:
            self.forget_keysets(mint)  # another process has learnt of one meanwhile
            keysets = await self.keysets(mint)
        now = self.clock.now()
        horizon = self.settings.leaving_horizon_s
        return {k.keyset.id: KeysetTerms(k.keyset.input_fee_ppk, k.leaving(now, horizon)) for k in keysets}

    def choose_keyset(self, keysets: Sequence[KnownKeyset], unit: str) -> Keyset | None:
        """The keyset for new coins of a unit: usable, rather not expiring soon, then the cheapest; None if there is none."""
        now = self.clock.now()
        usable = [k for k in keysets if k.keyset.unit == unit and k.usable(now)]
        if not usable:
            return None
        horizon = self.settings.leaving_horizon_s
        best = min(usable, key=lambda k: (k.leaving(now, horizon), k.keyset.input_fee_ppk, k.keyset.id))
        return best.keyset

    async def close(self) -> None:
        """Close every client."""
        clients, self._open = list(self._open.values()), {}
        for client in clients:
            await client.close()
