"""The audit log of a bank that does not run: opened without its keys, to be read, or to record what is done to its files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from specie.app.audit import MIGRATIONS, bank_log
from specie.app.bank import open_storage, owned_directory, reseal_bank
from specie.app.system import SystemClock
from specie.audit import AuditLog, Outcome
from specie.kernel import NULL_TELEMETRY, RefusedError, SpecieError, Telemetry
from specie.keys import OpenedSeed, SealSource
from specie.ops.settings import BankSettings

__all__ = ["open_log", "reseal_recorded"]


@asynccontextmanager
async def open_log(settings: BankSettings, *, telemetry: Telemetry = NULL_TELEMETRY) -> AsyncIterator[AuditLog]:
    """The log alone. An embedded store must belong to no running bank (DataDirectoryInUseError); no key is opened."""
    async with AsyncExitStack() as stack:
        if settings.store.dsn is None:
            if not settings.store_path.exists():
                raise RefusedError(f"there is no bank in {settings.data_dir}; specie up starts one")
            stack.enter_context(owned_directory(settings.data_dir))
        storage = await open_storage(settings, telemetry)
        stack.push_async_callback(storage.close)
        await storage.migrate(MIGRATIONS)
        yield bank_log(settings, storage, SystemClock(), telemetry, serve=False)


async def reseal_recorded(settings: BankSettings, new: SealSource) -> OpenedSeed:
    """`reseal_bank`, recorded before and after; nothing is resealed that cannot be recorded.

    The store is closed meanwhile, for the bank's lock has one holder. A bank without a store has no log yet: its seed is
    resealed as it is.
    """
    if settings.store.dsn is None and not settings.store_path.exists():
        return reseal_bank(settings, new)
    detail = {"way": "passphrase" if new.passphrase_file else "keyring" if new.keyring else "play-key"}
    async with open_log(settings) as log:
        await log.record("seed.reseal", "mint", Outcome.BEGUN, detail)
    try:
        sealed = reseal_bank(settings, new)
    except SpecieError as error:
        outcome = Outcome.REFUSED if isinstance(error, RefusedError) else Outcome.FAILED
        async with open_log(settings) as log:
            await log.record("seed.reseal", "mint", outcome, detail | {"error": type(error).__name__})
        raise
    async with open_log(settings) as log:
        await log.record("seed.reseal", "mint", Outcome.DONE, detail | {"sealing": sealed.kind.value})
    return sealed
