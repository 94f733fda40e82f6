"""A wallet's backups: making one, proving one without touching the wallet, and taking one up into it.

What a crash leaves behind while a backup is made: before its name is there, a `.partial` beside it that opens like the backup,
or nothing; after that, the backup, complete and durable. For taking one up see `wallet.engine.merging`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from specie.app.system import SystemClock, SystemEntropy
from specie.app.wallet_files import backup_key, database_key
from specie.ecash.info import MintInfo
from specie.ecash.wire import info_from_json
from specie.kernel.entropy import Entropy
from specie.kernel.errors import InvariantError, MalformedError, RefusedError, UnavailableError
from specie.kernel.hd import entropy_from_words, seed_from_words, words_from_entropy
from specie.kernel.limits import DEFAULT_LIMITS
from specie.keys.adapters.software import SoftwareSigner
from specie.storage.adapters.sqlite import SqliteStorage
from specie.storage.adapters.sqlite_file import is_encrypted
from specie.storage.errors import SchemaError
from specie.wallet import MintClient
from specie.wallet import Wallet as WalletEngine
from specie.wallet.adapters.http import HttpMintClient
from specie.wallet.adapters.store_sql import MIGRATIONS, SqlWalletStore
from specie.wallet.backup import MOST_BYTES, Snapshot, backup_ways, open_backup, seal_backup
from specie.wallet.engine.merging import CoinLook, look_at_coins, merge
from specie.wallet.errors import BackupForeignError, BackupMalformedError
from specie.wallet.merge import RULES, MergeReport, Record, Tables

__all__ = [
    "DrillReport",
    "DrillTable",
    "Held",
    "Taken",
    "Vault",
    "drill_backup",
    "mints_of",
    "read_backup",
    "ways_of_backup",
    "words_of_backup",
]

_COPY_ATTEMPTS = 3
_STORE = SqlWalletStore()


@dataclass(frozen=True, slots=True)
class Taken:
    """What taking a backup up came to: the merge, operations still open (with the reason), and what mints said of coins."""

    merged: MergeReport
    open: dict[str, str]
    unreachable: list[str]
    looks: list[CoinLook]


@dataclass(frozen=True, slots=True)
class DrillTable:
    """Rows of one table in the backup and in the live wallet; `missing` of the live ones are not in the backup."""

    table: str
    backup: int
    live: int
    missing: int


@dataclass(frozen=True, slots=True)
class Held:
    """Coins that are not spent, at one mint, in one unit: as the backup and as the live wallet know them."""

    mint: str
    unit: str
    backup: int
    live: int


@dataclass(frozen=True, slots=True)
class DrillReport:
    """What a drill found. `complete`: the live wallet holds nothing that the backup has not."""

    made_at: int
    ways: frozenset[str]
    schema: dict[str, int]
    tables: list[DrillTable]
    held: list[Held]
    looks: list[CoinLook] = field(default_factory=list)
    compared: bool = True

    @property
    def complete(self) -> bool:
        """Whether nothing of the live wallet is missing from the backup."""
        return all(not table.missing for table in self.tables)


def _read_file(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise BackupMalformedError(f"{file} cannot be read: {error.strerror}") from None
    return data


def ways_of_backup(file: Path) -> frozenset[str]:
    """What can open a backup: `words`, `passphrase`. BackupMalformedError for what is none. Blocks."""
    return backup_ways(_read_file(file))


def read_backup(file: Path, *, words: str | None = None, passphrase: str | None = None) -> Snapshot:
    """Open a backup by the wallet's words or by its passphrase. Blocks. BackupLockedError, BackupMalformedError."""
    key = None if words is None else backup_key(entropy_from_words(words))
    return open_backup(_read_file(file), words_key=key, passphrase=None if passphrase is None else passphrase.encode())


def words_of_backup(file: Path, passphrase: str) -> str:
    """The words of the wallet that a backup is of. Blocks. Errors as `read_backup`."""
    return words_from_entropy(read_backup(file, passphrase=passphrase).entropy)


@contextlib.asynccontextmanager
async def _scratch(snapshot: Snapshot) -> AsyncIterator[SqliteStorage]:
    """A store in memory with the backup's rows, brought to the present schema. SchemaError for a newer one."""
    storage = SqliteStorage(":memory:", inline=True)
    try:
        newest = {step.room: step.version for step in MIGRATIONS}
        for room, version in snapshot.schema.items():
            if version > newest.get(room, 0):
                raise SchemaError(
                    f"the backup's schema is newer than this program: {room} is at {version}, known is {newest.get(room, 0)}; "
                    "use the program that made it"
                )
        await storage.migrate([step for step in MIGRATIONS if step.version <= snapshot.schema.get(step.room, 0)])
        await storage.transact(lambda tx: _STORE.fill(tx, snapshot.tables))
        await storage.migrate(MIGRATIONS)
        yield storage
    finally:
        await storage.close()


async def _tables_now(snapshot: Snapshot) -> dict[str, list[Record]]:
    async with _scratch(snapshot) as storage:
        return await storage.read(_STORE.tables)


class Vault:
    """The backups of one open wallet; `wallet.vault`."""

    def __init__(self, wallet: WalletEngine, directory: Path, entropy_bytes: bytes, entropy: Entropy) -> None:
        """Made by `Wallet.open`."""
        self._wallet = wallet
        self._directory = directory
        self._entropy_bytes = entropy_bytes
        self._entropy = entropy

    def forget(self) -> None:
        """The wallet was closed."""
        self._entropy_bytes = b""

    async def backup(self, target: Path, *, passphrase: str | None = None) -> None:
        """Write everything that the wallet knows to one new file of mode 0600, encrypted.

        The wallet's words open it, and `passphrase` (Argon2id) if one is given; whoever opens it has the money. RefusedError
        if `target` exists; UnavailableError where the disk refuses: nothing is left behind. InvariantError where the wallet
        has a table that no rule of merging knows.
        """
        context = self._wallet._context
        schema = await context.storage.read(_STORE.schema)
        tables = await context.storage.read(_STORE.tables)
        strange = sorted(set(tables) - set(RULES))
        if strange:
            raise InvariantError(f"no rule says how a backup of the table {strange[0]} would be taken up: nothing was written")
        snapshot = Snapshot(context.clock.now(), self._entropy_bytes, schema, tables)
        key, secret = backup_key(self._entropy_bytes), None if passphrase is None else passphrase.encode()

        def write() -> None:
            data = seal_backup(snapshot, words_key=key, passphrase=secret, entropy=self._entropy)
            if open_backup(data, words_key=key) != snapshot:
                raise UnavailableError("the backup just made does not open; nothing was written")
            _write_once(target, data)

        await asyncio.to_thread(write)

    async def restore(self, file: Path, *, passphrase: str | None = None) -> Taken:
        """Take a backup of this wallet up: merge it, carry its operations on, and ask the mints about its coins.

        Nothing here is overwritten by something older, and it can be repeated. BackupForeignError for a backup of other
        words; BackupLockedError, BackupMalformedError, SchemaError; mints that are not reached are reported, not raised.
        """
        words = None if passphrase is not None else words_from_entropy(self._entropy_bytes)
        snapshot = await asyncio.to_thread(read_backup, file, words=words, passphrase=passphrase)
        return await self.take_up(snapshot)

    async def take_up(self, snapshot: Snapshot) -> Taken:
        """As `restore`, of a backup that was read before."""
        if snapshot.entropy != self._entropy_bytes:
            raise BackupForeignError("this backup is of a wallet with other words; nothing was changed")
        context = self._wallet._context
        tables = await _tables_now(snapshot)
        await self._admitted(tables)
        merged = await merge(context, tables)
        resumed = await self._wallet.resume()
        checked = await self._wallet.check_pending()
        return Taken(merged, resumed.open, checked.unreachable, await look_at_coins(context))

    async def _admitted(self, tables: Tables) -> None:
        """Judge the mints that would come with the backup, as if they were added."""
        context = self._wallet._context
        if context.admit is None:
            return
        known = {view.url for view in await self._wallet.mints()}
        for url, info in mints_of(tables).items():
            if url not in known:
                context.admit(url, info)


def mints_of(tables: Tables) -> dict[str, MintInfo]:
    """The mints in a backup's tables, with what they last said of themselves."""
    found: dict[str, MintInfo] = {}
    for row in tables.get("wallet_mint", ()):
        info = row["info"]
        try:
            found[str(row["url"])] = info_from_json(info if isinstance(info, bytes) else b"", limits=DEFAULT_LIMITS)
        except MalformedError:
            found[str(row["url"])] = MintInfo()
    return found


def _write_once(target: Path, data: bytes) -> None:
    """A new file of mode 0600, complete and durable under its name, or not there at all."""
    partial = target.with_name(target.name + ".partial")
    if os.path.lexists(target):
        raise RefusedError(f"{target} exists already")
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.link(partial, target)  # unlike a rename, never replaces
        partial.unlink()
        _flush(target.parent)
    except FileExistsError:
        raise RefusedError(f"{target} exists already") from None
    except OSError as error:
        raise UnavailableError(f"cannot write {target}: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy_live(directory: Path, scratch: Path) -> Path:
    """The live database and its log, copied as they stand at one moment. UnavailableError where they keep changing."""
    names = ("wallet.db", "wallet.db-wal")

    def moment() -> list[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        for name in names:
            try:
                status = (directory / name).stat()
                found.append((status.st_mtime_ns, status.st_size))
            except FileNotFoundError:
                found.append(None)
        return found

    for _ in range(_COPY_ATTEMPTS):
        before = moment()
        for name, there in zip(names, before, strict=True):
            (scratch / name).unlink(missing_ok=True)
            if there is not None:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copyfile(directory / name, scratch / name)
        if moment() == before:
            return scratch / "wallet.db"
    raise UnavailableError("the wallet is being used; try again when no command runs")


async def _live_tables(directory: Path, entropy_bytes: bytes) -> dict[str, list[Record]]:
    """The live wallet's rows, read from a copy in a scratch directory; its own files are only read."""
    if not (directory / "wallet.db").exists():
        return {}
    with tempfile.TemporaryDirectory(prefix=".drill-", dir=directory) as place:  # no less private than what is copied
        path = await asyncio.to_thread(_copy_live, directory, Path(place))
        storage = SqliteStorage(path, key=database_key(entropy_bytes) if is_encrypted(path) else None)
        try:
            await storage.migrate(MIGRATIONS)
            return await storage.read(_STORE.tables)
        finally:
            await storage.close()


async def drill_backup(
    file: Path,
    *,
    words: str | None = None,
    passphrase: str | None = None,
    live: Path | None = None,
    ask_mints: bool = False,
    clients: Callable[[str], MintClient] | None = None,
    entropy: Entropy | None = None,
) -> DrillReport:
    """Prove a backup: open it, bring it to the present schema in memory, count, and compare with the wallet in `live`.

    The live wallet's files are copied to a scratch directory beside them and not touched otherwise. With `ask_mints` the
    mints are asked about the backup's free coins (NUT-07 only). Errors as `read_backup`, and
    SchemaError, BackupForeignError, UnavailableError.
    """
    snapshot = await asyncio.to_thread(read_backup, file, words=words, passphrase=passphrase)
    ways = await asyncio.to_thread(ways_of_backup, file)
    if words is not None and entropy_from_words(words) != snapshot.entropy:
        raise BackupForeignError("this backup is of a wallet with other words")
    looks: list[CoinLook] = []
    async with _scratch(snapshot) as storage:
        kept = await storage.read(_STORE.tables)
        if ask_mints:
            looks = await _asked(storage, snapshot, clients, entropy or SystemEntropy())
    held = await _live_tables(live, snapshot.entropy) if live is not None else {}
    tables = [_compared(name, kept.get(name, []), held.get(name, [])) for name in RULES]
    return DrillReport(
        snapshot.made_at, ways, dict(snapshot.schema), tables, _money(kept, held), looks, compared=live is not None
    )


def _compared(name: str, kept: list[Record], held: list[Record]) -> DrillTable:
    key = RULES[name].key
    there = {tuple(row[column] for column in key) for row in kept}
    missing = sum(tuple(row[column] for column in key) not in there for row in held) if RULES[name].needed else 0
    return DrillTable(name, len(kept), len(held), missing)


def _money(kept: Tables, held: Tables) -> list[Held]:
    sums: dict[tuple[str, str], list[int]] = {}
    for place, tables in enumerate((kept, held)):
        for coin in tables.get("wallet_proof", ()):
            if coin["state"] != "SPENT":
                sums.setdefault((str(coin["mint"]), str(coin["unit"])), [0, 0])[place] += int(str(coin["amount"]))
    return [Held(mint, unit, *amounts) for (mint, unit), amounts in sorted(sums.items())]


async def _asked(
    storage: SqliteStorage, snapshot: Snapshot, clients: Callable[[str], MintClient] | None, entropy: Entropy
) -> list[CoinLook]:
    signer = SoftwareSigner(seed_from_words(words_from_entropy(snapshot.entropy)), entropy=entropy)
    engine = WalletEngine(
        storage=storage,
        store=_STORE,
        signer=signer,
        clients=clients or HttpMintClient,
        clock=SystemClock(),
        entropy=entropy,
    )
    try:
        return await look_at_coins(engine._context)
    finally:
        await engine.close()
        await signer.close()
