"""What every verb of the mint is given: its plugs, its settings and the keysets it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specie.ecash.codes import (
    UnitUnsupportedError,
)
from specie.kernel import Clock, Entropy, Rail, Telemetry, UnavailableError
from specie.keys import Signer
from specie.ledger import Ledger
from specie.mint.engine.catalogue import Catalogue
from specie.mint.engine.large_reads import LargeReads
from specie.mint.ports import MintStore
from specie.mint.settings import MintSettings
from specie.storage import Storage

__all__ = ["CHANGES", "Context"]

CHANGES = "mint_changes"
"""Storage channel on which verbs announce what changed: lines of `kind:key,key,...`."""


@dataclass(slots=True, eq=False, kw_only=True)
class Context:
    """Shared by the verbs of one `Mint`. Nothing of it changes but `settings`, which `Mint.adopt` replaces whole."""

    settings: MintSettings
    storage: Storage
    store: MintStore
    ledger: Ledger
    signer: Signer
    rails: Sequence[Rail]
    clock: Clock
    entropy: Entropy
    telemetry: Telemetry
    catalogue: Catalogue
    large_reads: LargeReads
    owner: str
    """Names this process in leases; FRESH at each start."""
    paged: set[str]
    """Quotes in flight about which someone was already told in this run."""
    exclusive: bool
    """True if no other process can run on this store, so that a lease of another owner is a dead one's."""

    def rail_for(self, method: str, unit: str) -> Rail:
        """The rail that serves a method in a unit; UnitUnsupportedError where there is none."""
        if unit in self.settings.units:
            for rail in self.rails:
                if rail.method == method:
                    return rail
        raise UnitUnsupportedError(f"{method} is not served in {unit}")

    def rail(self, name: str) -> Rail:
        """The rail a stored quote names; UnavailableError if it is no longer plugged in, for wallets may still ask of it."""
        for rail in self.rails:
            if rail.name == name:
                return rail
        raise UnavailableError(f"rail {name} has open business but is not configured", retry_after_s=60.0)
