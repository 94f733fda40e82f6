"""A whole mint in one process for tests: real engine, ledger, signer, play rail and store; virtual or seeded plugs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from specie.ecash import (
    BlindedMessage,
    BlindSignature,
    Keyset,
    MeltQuote,
    MeltQuoteRequest,
    MeltRequest,
    MintQuote,
    MintQuoteRequest,
    MintRequest,
    Proof,
    SwapRequest,
    blinded_message,
    unblind_signature,
)
from specie.kernel import Rail, Telemetry, split_amount
from specie.keys.adapters.routing import KeysetHome, RoutingSigner
from specie.keys.adapters.software import SoftwareSigner
from specie.ledger import Ledger
from specie.ledger.adapters.store_sql import MIGRATIONS as LEDGER_MIGRATIONS
from specie.ledger.adapters.store_sql import SqlLedgerStore
from specie.lightning.adapters.play import MIGRATIONS as PLAY_MIGRATIONS
from specie.lightning.adapters.play import PlayRail, PlaySettings
from specie.lightning.adapters.play_methods import play_rail
from specie.lightning.adapters.play_network import PlayNetwork
from specie.lightning.adapters.play_onchain import PlayOnchainRail
from specie.lightning.adapters.play_requests import PlayRequestRail
from specie.mint import Auth, KeySource, Mint, MintSettings
from specie.mint.adapters.auth_sql import SqlAuthStore
from specie.mint.adapters.liability_store import SqlLiabilityStore
from specie.mint.adapters.prune_sql import SqlPruneStore
from specie.mint.adapters.store_sql import MIGRATIONS as MINT_MIGRATIONS
from specie.mint.adapters.store_sql import SqlMintStore
from specie.storage import Storage
from specie.storage.adapters.sqlite import SqliteStorage
from tests.support.virtual import SeededEntropy, VirtualClock

MIGRATIONS = (*LEDGER_MIGRATIONS, *MINT_MIGRATIONS, *PLAY_MIGRATIONS)
SEED = bytes(range(32))


@dataclass
class Pages:
    """Telemetry that remembers what it was told."""

    pages: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, /, amount: int = 1, **labels: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + amount

    def observe(self, name: str, seconds: float, /, **labels: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def event(self, name: str, /, **facts: object) -> None:
        self.events.append((name, facts))

    def page(self, reason: str, /, **facts: object) -> None:
        self.pages.append((reason, facts))


@dataclass
class House:
    """A running mint and its plugs."""

    mint: Mint
    storage: Storage
    rail: PlayRail
    signer: SoftwareSigner
    clock: VirtualClock
    entropy: SeededEntropy
    telemetry: Pages
    requests: dict[str, PlayRequestRail] = field(default_factory=dict)
    """Rails of the methods beside BOLT 11, by method, where the house was built with some."""

    @property
    def onchain(self) -> PlayOnchainRail:
        """The rail of play blocks."""
        rail = self.requests["onchain"]
        assert isinstance(rail, PlayOnchainRail)
        return rail

    def keyset(self, unit: str = "sat") -> Keyset:
        """The active keyset."""
        return next(keyset for keyset in self.mint.keysets() if keyset.unit == unit and keyset.active)

    async def pay(self, quote: MintQuote) -> MintQuote:
        """Have the play network pay a mint quote's invoice now."""
        from specie.lightning import decode_invoice

        await self.rail.settle(decode_invoice(quote.request).payment_hash.hex())
        return await self.mint.mint_quote(quote.quote, quote.method)


@contextlib.asynccontextmanager
async def house(
    *,
    storage: Storage | None = None,
    clock: VirtualClock | None = None,
    seed: object = 0,
    settings: MintSettings | None = None,
    autopay_delay_s: float | None = None,
    rails: Sequence[Rail] | None = None,
    telemetry: Telemetry | None = None,
    keys: bytes = SEED,
    methods: Sequence[str] = (),
    play: PlaySettings | None = None,
    network: PlayNetwork | None = None,
    auth_source: KeySource | None = None,
    homes: Mapping[str, Callable[[], Awaitable[KeysetHome]]] | None = None,
    **mint: Any,
) -> AsyncIterator[House]:
    """A started mint. With `storage` given it is neither migrated twice nor closed, so a world can be restarted on it.

    `homes` opens what holds the keys of keysets that are rotated into it.
    `methods` are those beside BOLT 11 that it has play rails for; blocks come by hand unless `play` says otherwise.
    """
    clock = clock or VirtualClock()
    entropy = SeededEntropy(seed)
    own = storage is None
    store = storage or SqliteStorage(":memory:", inline=True)
    await store.migrate(MIGRATIONS)
    signer = SoftwareSigner(keys, threads=0, entropy=entropy)
    routing = None if homes is None else RoutingSigner(signer, homes)
    rail = PlayRail(
        storage=store, signer=signer, clock=clock, entropy=entropy, autopay_delay_s=autopay_delay_s, network=network
    )
    await rail.start()
    requests: dict[str, PlayRequestRail] = {}
    for method in methods:
        made = play_rail(
            method, store, signer, clock, entropy, play or PlaySettings(block_s=None), autopay_delay_s=autopay_delay_s
        )
        assert isinstance(made, PlayRequestRail)
        await made.start()
        requests[method] = made
    pages = telemetry if isinstance(telemetry, Pages) else Pages()
    settings = settings or MintSettings()
    auth = None
    if auth_source is not None:
        auth = Auth(
            settings=settings.auth,
            storage=store,
            store=SqlAuthStore(),
            signer=signer,
            source=auth_source,
            clock=clock,
            entropy=entropy,
            telemetry=pages,
            exclusive=mint.get("exclusive", True),
        )
    running = Mint(
        settings=settings,
        storage=store if auth is None else auth.storage,
        auth=auth,
        store=SqlMintStore(),
        ledger=Ledger(SqlLedgerStore()),
        signer=routing or signer,
        make_keys=None if routing is None else routing.create_keyset,
        rails=rails or [rail, *requests.values()],
        clock=clock,
        entropy=entropy,
        telemetry=pages,
        **{"liability_store": SqlLiabilityStore(), "prune_store": SqlPruneStore()} | mint,
    )
    try:
        await running.start()
        yield House(running, store, rail, signer, clock, entropy, pages, requests)
    finally:
        await running.close()
        for one in (rail, *requests.values()):
            await one.close()
        if own:
            await store.close()


class Purse:
    """The least wallet there can be: makes outputs from random secrets and unblinds what comes back."""

    def __init__(self, house: House, seed: object = "purse") -> None:
        self.house = house
        self._entropy = SeededEntropy(seed)

    def outputs(self, amounts: Sequence[int], keyset: Keyset | None = None, secrets: Sequence[str] = ()) -> Outputs:
        """FRESH blinded messages for `amounts`, or for given secret texts."""
        keyset = keyset or self.house.keyset()
        texts = list(secrets) or [self._entropy.bytes(32).hex() for _ in amounts]
        factors = [self._entropy.bytes(32) for _ in amounts]
        messages = [blinded_message(a, keyset.id, s, r) for a, s, r in zip(amounts, texts, factors, strict=True)]
        return Outputs(keyset, tuple(messages), tuple(texts), tuple(factors))

    async def mint(self, amount: int, unit: str = "sat") -> list[Proof]:
        """Coins for a quote that the play network pays at once."""
        quote = await self.house.mint.request_mint_quote(MintQuoteRequest("bolt11", unit, amount))
        await self.house.pay(quote)
        outputs = self.outputs(split_amount(amount, self.house.keyset(unit).keys), self.house.keyset(unit))
        return outputs.proofs(await self.house.mint.issue(MintRequest("bolt11", quote.quote, outputs.messages)))

    async def swap(self, inputs: Sequence[Proof], amounts: Sequence[int]) -> list[Proof]:
        """Coins for coins."""
        outputs = self.outputs(amounts)
        return outputs.proofs(await self.house.mint.swap(SwapRequest(tuple(inputs), outputs.messages)))

    async def melt_quote(self, invoice: str, **options: Any) -> MeltQuote:
        """A price for an invoice."""
        return await self.house.mint.request_melt_quote(MeltQuoteRequest("bolt11", invoice, "sat", **options))

    async def melt(self, quote: MeltQuote, inputs: Sequence[Proof], blanks: int = 0, **options: Any) -> MeltQuote:
        """Pay with coins."""
        outputs = self.outputs([1] * blanks)
        return await self.house.mint.melt(MeltRequest("bolt11", quote.quote, tuple(inputs), outputs.messages, **options))


@dataclass(frozen=True)
class Outputs:
    """Blinded messages with what unblinds them."""

    keyset: Keyset
    messages: tuple[BlindedMessage, ...]
    secrets: tuple[str, ...]
    factors: tuple[bytes, ...]

    def proofs(self, signatures: Sequence[BlindSignature], *, blank: bool = False, proven: bool = True) -> list[Proof]:
        """Coins, each checked by its DLEQ, unless they need not be `proven`."""
        return [
            unblind_signature(
                message,
                signature,
                secret=secret,
                r=r,
                key=self.keyset.keys[signature.amount],
                blank=blank,
                require_dleq=proven,
            )
            for message, signature, secret, r in zip(self.messages, signatures, self.secrets, self.factors, strict=not blank)
        ]
