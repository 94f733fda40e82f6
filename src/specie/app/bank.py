"""The bank's composition root: from settings to a running mint. Only here do its adapters meet its engines."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from specie._version import __version__
from specie.app.system import SystemClock, SystemEntropy
from specie.kernel import Clock, Entropy, InvariantError, Rail, RefusedError, Telemetry
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
from specie.ops.settings import BankSettings, RailKind, RailSettings, SealingSource, StoreEngine
from specie.storage import Storage
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage

__all__ = ["MIGRATIONS", "Bank", "DataDirectoryInUseError", "open_bank", "owned_directory", "reseal_bank"]

MIGRATIONS = (*LEDGER_MIGRATIONS, *MINT_MIGRATIONS, *PLAY_MIGRATIONS)
"""The schema of every room that a bank's store holds."""


class DataDirectoryInUseError(RefusedError):
    """Another process runs the bank of this data directory."""


@dataclass(frozen=True, slots=True)
class Bank:
    """A started bank. `sealed` says how its seed is kept; the seed itself is nowhere but in the signer."""

    settings: BankSettings
    storage: Storage
    signer: Signer
    rails: tuple[Rail, ...]
    mint: Mint
    sealed: OpenedSeed
    curve: str
    """What does the mint's curve work: `native`, or `binding: ` and why."""


@contextlib.contextmanager
def owned_directory(path: Path) -> Iterator[None]:
    """Make `path` (mode 0700) if need be and hold its lock; DataDirectoryInUseError if another process does.

    The kernel drops the lock when this process ends, however it ends.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirectoryInUseError(f"another process runs the bank in {path}") from None
        yield
    finally:
        os.close(handle)


async def _open_storage(settings: BankSettings, telemetry: Telemetry) -> Storage:
    if settings.store.dsn is None:
        _check_only_store(settings)
        return _open_rocks(settings.store_path) if _on_rocksdb(settings) else SqliteStorage(settings.store_path)
    return await PostgresStorage.connect(settings.store.dsn.reveal(), writers=settings.store.writers, telemetry=telemetry)


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
        passphrase=None if keys.passphrase is None else keys.passphrase.reveal(),
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
        all_play = all(rail.play for rail in settings.rails)
        seeds = SeedStore(settings.data_dir, entropy=entropy)
        sealed = seeds.open_or_create(_seal_source(settings), all_play=all_play)
        batch = native_batch() if settings.keys.native else Unbuilt("keys.native is false")
        seeded = SoftwareSigner(sealed.seed, entropy=entropy, batch=batch if isinstance(batch, NativeBatch) else None)
        routing = RoutingSigner(seeded, {"pkcs11": partial(_open_token, settings)}) if settings.keys.pkcs11.module else None
        signer: Signer = routing or seeded
        stack.push_async_callback(signer.close)
        sealed = OpenedSeed(b"", sealed.kind, sealed.created, sealed.where)
        storage = await _open_storage(settings, telemetry)
        stack.push_async_callback(storage.close)
        migrated(len(await storage.migrate(MIGRATIONS)))
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
        )
        await mint.start(serve=serve)
        stack.push_async_callback(mint.close)
        curve = f"binding: {batch.reason}" if isinstance(batch, Unbuilt) else "native"
        yield Bank(settings, storage, signer, tuple(rails), mint, sealed, curve)


def reseal_bank(settings: BankSettings, new: SealSource, *, entropy: Entropy | None = None) -> OpenedSeed:
    """Seal the bank's seed in another way, at once or not at all; the answer holds no seed.

    For a bank that does not run (DataDirectoryInUseError). The settings say how it is sealed now; errors as of `SeedStore`.
    """
    with owned_directory(settings.data_dir):
        seeds = SeedStore(settings.data_dir, entropy=entropy or SystemEntropy())
        all_play = all(rail.play for rail in settings.rails)
        sealed = seeds.reseal(_seal_source(settings), new, all_play=all_play)
    return OpenedSeed(b"", sealed.kind, sealed.created, sealed.where)


async def _open_token(settings: BankSettings) -> KeysetHome:
    """The token in which keysets may live. One process alone makes keys in it, so that no name has two."""
    if settings.store.dsn is not None:
        raise RefusedError("keys of keysets can live in a token only where one process runs the bank: with an embedded store")
    from specie.app.keys import open_token

    return await open_token(settings.keys.pkcs11)


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
