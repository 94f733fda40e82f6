"""A play rail in a test: its plugs, foreign invoices, and the books it must keep."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from specie.kernel import PaymentOrder, curve
from specie.keys.adapters.software import SoftwareSigner
from specie.lightning import InvoiceDraft, Network, encode_invoice
from specie.lightning.adapters.play import MIGRATIONS, PlayFaults, PlayRail, PlaySettings
from specie.storage import Storage, Transaction
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.virtual import START, SeededEntropy, VirtualClock, run_virtual

P = ParamSpec("P")
T = TypeVar("T")

SEED = bytes(range(32))
FOREIGN_KEY = b"\x07" * 32


def virtual(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Run an async test on a virtual loop: waiting costs nothing."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_virtual(test(*args, **kwargs))

    return run


async def foreign_invoice(
    amount_msat: int | None = 100_000,
    *,
    name: str = "foreign",
    timestamp: int = START,
    payment_hash: bytes | None = None,
    network: Network = Network.REGTEST,
    expiry_s: int = 3600,
) -> str:
    """An invoice of some other node; equal names have equal payment hashes."""
    draft = InvoiceDraft(
        network=network,
        amount_msat=amount_msat,
        timestamp=timestamp,
        payment_hash=payment_hash or hashlib.sha256(name.encode()).digest(),
        payment_secret=hashlib.sha256(b"secret" + name.encode()).digest(),
        description=name,
        expiry_s=expiry_s,
    )
    return await encode_invoice(draft, lambda digest: curve.ecdsa_sign_recoverable(digest, FOREIGN_KEY))


@dataclass
class PlayWorld:
    """One store and the rails on it; `rail` makes another one, as another process or the next start would."""

    storage: Storage
    clock: VirtualClock
    entropy: SeededEntropy
    rails: list[PlayRail] = field(default_factory=list)
    orders: int = 0

    @classmethod
    async def make(cls, storage: Storage | None = None, *, seed: object = 0) -> PlayWorld:
        """A fresh world, migrated."""
        world = cls(storage or SqliteStorage(":memory:", inline=True), VirtualClock(), SeededEntropy(seed))
        await world.storage.migrate(MIGRATIONS)
        return world

    def rail(
        self,
        settings: PlaySettings | None = None,
        *,
        autopay_delay_s: float | None = None,
        faults: PlayFaults | None = None,
        **plugs: Any,
    ) -> PlayRail:
        """A rail on this world's store, not started."""
        signer = SoftwareSigner(SEED, threads=0, entropy=self.entropy)
        made = PlayRail(
            plugs.pop("storage", self.storage),
            signer,
            self.clock,
            self.entropy,
            settings,
            autopay_delay_s=autopay_delay_s,
            faults=faults,
            **plugs,
        )
        self.rails.append(made)
        return made

    async def order(
        self, rail: PlayRail, request: str, *, attempt: str = "", deadline_s: float = 60.0, **changes: Any
    ) -> PaymentOrder:
        """The order that a mint would give for a request, after a quote."""
        quote = await rail.quote(request, amount_msat=changes.pop("amount_msat", None))
        self.orders += 1
        values = {
            "payment_id": quote.payment_id,
            "attempt": attempt or f"attempt-{self.orders}",
            "request": request,
            "amount_msat": quote.amount_msat,
            "max_fee_msat": quote.fee_reserve_msat,
            "deadline_s": deadline_s,
        }
        return PaymentOrder(**(values | changes))

    async def books(self) -> tuple[int, int]:
        """(arrived, paid out with fees) in millisatoshi, added up from the rows; checks what must hold of them."""

        async def body(tx: Transaction) -> tuple[int, int]:
            arrived = await tx.fetch("SELECT cursor, payment_id, amount_msat FROM play_arrival ORDER BY cursor")
            assert [row[0] for row in arrived] == list(range(1, len(arrived) + 1)), "cursors have a gap"
            settled = await tx.fetch("SELECT payment_id FROM play_invoice WHERE settled_ms IS NOT NULL")
            assert sorted(row[0] for row in settled) == sorted(row[1] for row in arrived)
            paid = await tx.fetch("SELECT payment_id, amount_msat, fee_msat FROM play_payment WHERE state = 'PAID'")
            assert len({row[0] for row in paid}) == len(paid), "a payment was made twice"
            return sum(int(row[2]) for row in arrived), sum(int(row[1]) + int(row[2]) for row in paid)

        return await self.storage.read(body)

    async def close(self) -> None:
        """End every rail, then the store."""
        for rail in self.rails:
            await rail.close()
        await self.storage.close()
