"""The bank's composition root: from settings to a running mint. Only here do its adapters meet its engines."""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from specie._version import __version__
from specie.app.audit import MIGRATIONS as AUDIT_MIGRATIONS
from specie.app.audit import bank_log, check_anchor, life
from specie.app.directory import DataDirectoryInUseError, owned_directory
from specie.app.remote_keys import open_remote_signer
from specie.app.secret_sources import revealed
from specie.app.system import SystemClock, SystemEntropy
from specie.audit import AuditLog, Outcome
from specie.kernel import Clock, Entropy, InvariantError, Rail, RefusedError, SpecieError, Telemetry
from specie.keys import OpenedSeed, SealSource, Signer
from specie.keys.adapters.native_batch import NativeBatch, Unbuilt, native_batch
from specie.keys.adapters.routing import KeysetHome, RoutingSigner
from specie.keys.adapters.seed_store import SeedStore
from specie.keys.adapters.software import SoftwareSigner
from specie.ledger import Ledger
from specie.ledger.adapters.store_sql import MIGRATIONS as LEDGER_MIGRATIONS
from specie.ledger.adapters.store_sql import SqlLedgerStore
from specie.lightning.adapters.play import MIGRATIONS as PLAY_MIGRATIONS
from specie.lightning.adapters.play import PlaySettings
from specie.lightning.adapters.play_methods import play_rail
from specie.lightning.adapters.play_network import PlayNetwork
from specie.mint import Auth, Mint
from specie.mint.adapters.auth_sql import SqlAuthStore
from specie.mint.adapters.liability_store import SqlLiabilityStore
from specie.mint.adapters.openid import OpenIdKeySource
from specie.mint.adapters.prune_sql import SqlPruneStore
from specie.mint.adapters.store_sql import MIGRATIONS as MINT_MIGRATIONS
from specie.mint.adapters.store_sql import SqlMintStore
from specie.ops.adapters.revision_sql import MIGRATIONS as OPS_MIGRATIONS
from specie.ops.adapters.revision_sql import SqlRevisionStore
from specie.ops.config import is_dsn
from specie.ops.secret import Secret
from specie.ops.settings import BankSettings, KeysProvider, RailKind, RailSettings, SealingSource, StoreEngine
from specie.storage import Storage
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage

__all__ = ["MIGRATIONS", "Bank", "DataDirectoryInUseError", "open_bank", "open_storage", "owned_directory", "reseal_bank"]

MIGRATIONS = (*LEDGER_MIGRATIONS, *MINT_MIGRATIONS, *PLAY_MIGRATIONS, *AUDIT_MIGRATIONS, *OPS_MIGRATIONS)
"""The schema of every room that a bank's store holds."""


@dataclass(frozen=True, slots=True)
class Bank:
    """A started bank. `sealed` says how its seed is kept, None where a signer process does; the signer alone has the seed."""

    settings: BankSettings
    storage: Storage
    signer: Signer
    rails: tuple[Rail, ...]
    mint: Mint
    sealed: OpenedSeed | None
    curve: str
    """What does the mint's curve work: `native`, or `binding: ` and why, or `signer` where a signer process does."""
    audit: AuditLog
    revisions: SqlRevisionStore
    """Every set of settings that the bank was given."""


async def open_storage(settings: BankSettings, telemetry: Telemetry) -> Storage:
    """The store that the settings name, as it is: nothing is migrated. RefusedError, UnavailableError."""
    if settings.store.dsn is None:
        _check_only_store(settings)
        return _open_rocks(settings.store_path) if _on_rocksdb(settings) else SqliteStorage(settings.store_path)
    dsn = Secret(revealed(settings.store.dsn))
    if not is_dsn(dsn):
        raise RefusedError(f"store.dsn: what stands at {settings.store.dsn} must begin with postgresql://")
    return await PostgresStorage.connect(dsn.reveal(), writers=settings.store.writers, telemetry=telemetry)


def _on_rocksdb(settings: BankSettings) -> bool:
    return settings.store.engine is StoreEngine.ROCKSDB


def _check_only_store(settings: BankSettings) -> None:
    """Keep a bank from a second, empty store: every coin that its own knows as spent would be good again."""
    if settings.store.path is not None or settings.store_path.exists():
        return
    for engine in StoreEngine:
        other = settings.data_dir / f"bank.{engine.value}"
        if engine is not settings.store.engine and other.exists():
            raise RefusedError(
                f"this bank's books are in {other}: start it with --store {engine.value} (store.engine), "
                "for a store is chosen once and no command moves one to another engine"
            )


def _open_rocks(path: Path) -> Storage:
    try:
        from specie.storage.adapters.rocks import RocksStorage  # its libraries take a while to load, and few need them
    except ModuleNotFoundError as error:
        raise RefusedError(f"a store on RocksDB needs {error.name}: install specie[rocksdb]") from error
    return RocksStorage(path)


def _seal_source(settings: BankSettings) -> SealSource:
    keys = settings.keys
    return SealSource(
        passphrase_file=None if keys.passphrase_file is None else str(keys.passphrase_file),
        passphrase=None if keys.passphrase is None else revealed(keys.passphrase),
        keyring=keys.sealing is SealingSource.KEYRING,
    )


def _shard(data_dir: Path, seat: int) -> str:
    """Where this process keeps its running balances on a shared store: the same at each start, another on each machine."""
    place = f"{socket.gethostname()}:{data_dir.resolve()}" + (f":{seat}" if seat else "")
    return hashlib.sha256(place.encode()).hexdigest()[:12]


@contextlib.asynccontextmanager
async def open_bank(
    settings: BankSettings,
    *,
    telemetry: Telemetry,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    serve: bool = True,
    seat: int = 0,
    migrated: Callable[[int], None] = lambda count: None,
) -> AsyncIterator[Bank]:
    """Build and start everything the settings name; on the way out stop it in the opposite order.

    An embedded store is owned by this process alone (DataDirectoryInUseError); one on PostgreSQL is shared, and `seat` tells
    the processes of one data directory apart. `migrated` hears how many schema steps were applied. Without `serve` the
    bank is opened to be looked at: nothing runs by itself.
    """
    clock = clock or SystemClock()
    entropy = entropy or SystemEntropy()
    embedded = settings.store.dsn is None
    async with contextlib.AsyncExitStack() as stack:
        if embedded:
            stack.enter_context(owned_directory(settings.data_dir))
        else:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            main, sealed, curve = await _open_signer(settings, clock, entropy, telemetry)
        except SpecieError as error:
            await _record_closed_seed(settings, error, clock, telemetry)
            raise
        routing = None
        if settings.keys.pkcs11.module:
            routing = RoutingSigner(main, {"pkcs11": partial(_open_token, settings, main)}, telemetry=telemetry)
        signer: Signer = routing or main
        stack.push_async_callback(signer.close)
        storage = await open_storage(settings, telemetry)
        stack.push_async_callback(storage.close)
        migrated(len(await storage.migrate(MIGRATIONS)))
        audit = bank_log(settings, storage, clock, telemetry, serve=serve, seat=seat)
        await check_anchor(audit, telemetry)
        sealing = "signer" if sealed is None else sealed.kind.value
        if sealed is not None:
            await audit.record("seed.create" if sealed.created else "seed.open", "mint", detail={"sealing": sealing})
        facts = {"version": __version__, "store": settings.store.label, "sealing": sealing}
        started = await stack.enter_async_context(life(audit, facts, telemetry)) if serve else None
        rails: list[Rail] = []
        for rail_settings in settings.rails:
            network = await _open_network(stack, rail_settings, clock)
            rail = await _open_rail(rail_settings, storage, signer, clock, entropy, telemetry, network=network, start=serve)
            stack.push_async_callback(rail.close)
            rails.append(rail)
        auth = _open_auth(settings, storage, signer, clock, entropy, telemetry)
        if auth is not None:
            stack.push_async_callback(auth.close)
        mint = Mint(
            settings=settings.mint,
            storage=storage if auth is None else auth.storage,
            store=SqlMintStore(),
            ledger=Ledger(SqlLedgerStore(shard="0" if embedded else _shard(settings.data_dir, seat))),
            signer=signer,
            rails=rails,
            clock=clock,
            entropy=entropy,
            telemetry=telemetry,
            version=f"specie/{__version__}",
            exclusive=embedded,
            liability_store=SqlLiabilityStore(),
            prune_store=SqlPruneStore(),
            auth=auth,
            make_keys=None if routing is None else routing.create_keyset,
            audit=audit,
        )
        await mint.start(serve=serve)
        stack.push_async_callback(mint.close)
        if started is not None:
            await started()
        yield Bank(settings, storage, signer, tuple(rails), mint, sealed, curve, audit, SqlRevisionStore(storage, audit))


async def _record_closed_seed(settings: BankSettings, error: SpecieError, clock: Clock, telemetry: Telemetry) -> None:
    """A seed that did not open is recorded where there is a log to record it in; what keeps it from that is told."""
    if settings.store.dsn is None and not settings.store_path.exists():
        return
    outcome = Outcome.REFUSED if isinstance(error, RefusedError) else Outcome.FAILED
    try:
        storage = await open_storage(settings, telemetry)
        try:
            await storage.migrate(AUDIT_MIGRATIONS)
            audit = bank_log(settings, storage, clock, telemetry, serve=True)
            await audit.record("seed.open", "mint", outcome, {"error": type(error).__name__})
        finally:
            await storage.close()
    except SpecieError as reason:
        telemetry.event("audit_unwritten", verb="seed.open", reason=reason.detail)


async def _open_signer(
    settings: BankSettings, clock: Clock, entropy: Entropy, telemetry: Telemetry
) -> tuple[Signer, OpenedSeed | None, str]:
    """Who signs, how its seed is kept (without the seed), and what does the curve work."""
    seeds = SeedStore(settings.data_dir, entropy=entropy)
    if settings.keys.provider is KeysProvider.REMOTE:
        if seeds.exists():
            raise RefusedError(
                f"{seeds.path} is there, yet keys.provider is remote: move it into the signer's data directory if it is this"
                " bank's seed, so that no key is left where the bank runs"
            )
        signers = await open_remote_signer(settings.keys, clock=clock, entropy=entropy, telemetry=telemetry)
        return signers, None, "signer"
    sealed = seeds.open_or_create(_seal_source(settings), all_play=all(rail.play for rail in settings.rails))
    batch = native_batch() if settings.keys.native else Unbuilt("keys.native is false")
    signer = SoftwareSigner(sealed.seed, entropy=entropy, batch=batch if isinstance(batch, NativeBatch) else None)
    curve = f"binding: {batch.reason}" if isinstance(batch, Unbuilt) else "native"
    return signer, OpenedSeed(b"", sealed.kind, sealed.created, sealed.where), curve


def reseal_bank(settings: BankSettings, new: SealSource, *, entropy: Entropy | None = None) -> OpenedSeed:
    """Seal the bank's seed in another way, at once or not at all; the answer holds no seed.

    For a bank that does not run (DataDirectoryInUseError). The settings say how it is sealed now; errors as of `SeedStore`.
    """
    if settings.keys.provider is KeysProvider.REMOTE:
        raise RefusedError("this bank's keys are with its signer: reseal them there, by the signer's data directory (--data)")
    with owned_directory(settings.data_dir):
        seeds = SeedStore(settings.data_dir, entropy=entropy or SystemEntropy())
        all_play = all(rail.play for rail in settings.rails)
        sealed = seeds.reseal(_seal_source(settings), new, all_play=all_play)
    return OpenedSeed(b"", sealed.kind, sealed.created, sealed.where)


async def _open_token(settings: BankSettings, main: Signer) -> KeysetHome:
    """The token in which keysets may live. One process alone makes keys in it, so that no name has two.

    Names begin with a mark of this bank's seed: a key that another bank made is never taken for one of this bank's.
    """
    if settings.store.dsn is not None:
        raise RefusedError("keys of keysets can live in a token only where one process runs the bank: with an embedded store")
    from specie.app.keys import open_token

    mark = hashlib.sha256(await main.public_key("mint")).hexdigest()[:8]
    return await open_token(settings.keys.pkcs11, mark)


async def _open_network(stack: contextlib.AsyncExitStack, settings: RailSettings, clock: Clock) -> PlayNetwork | None:
    """The file that play banks share, opened as a store of its own."""
    if settings.network is None:
        return None
    storage = SqliteStorage(settings.network)
    stack.push_async_callback(storage.close)
    await storage.migrate(PLAY_MIGRATIONS)
    return PlayNetwork(storage, clock)


def _open_auth(
    settings: BankSettings, storage: Storage, signer: Signer, clock: Clock, entropy: Entropy, telemetry: Telemetry
) -> Auth | None:
    """Who may use the mint, where the settings say so; None for everybody."""
    auth = settings.mint.auth
    if not auth.openid_discovery:
        return None
    return Auth(
        settings=auth,
        storage=storage,
        store=SqlAuthStore(),
        signer=signer,
        source=OpenIdKeySource(auth.openid_discovery),
        clock=clock,
        entropy=entropy,
        telemetry=telemetry,
        keyset_version=settings.mint.keyset_version,
        exclusive=settings.store.dsn is None,
    )


async def _open_rail(
    settings: RailSettings,
    storage: Storage,
    signer: Signer,
    clock: Clock,
    entropy: Entropy,
    telemetry: Telemetry,
    *,
    network: PlayNetwork | None,
    start: bool,
) -> Rail:
    if settings.kind is not RailKind.PLAY:
        raise InvariantError(f"no adapter for rail {settings.kind}")
    rail = play_rail(
        settings.method,
        storage,
        signer,
        clock,
        entropy,
        PlaySettings(confirmations=settings.confirmations, block_s=settings.block_s or None),
        name=settings.full_name,
        autopay_delay_s=settings.autopay_delay_s if settings.autopay else None,
        telemetry=telemetry,
        network=network,
    )
    if start:
        await rail.start()
    return rail
