"""The audit log as a bank's composition root makes it, and the records of the bank's own life."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from specie.audit import AuditLog, Outcome
from specie.audit.adapters.anchor_file import FileAnchor
from specie.audit.adapters.store_sql import MIGRATIONS, SqlAuditStore
from specie.kernel import Clock, SpecieError, Telemetry
from specie.ops.settings import BankSettings
from specie.storage import Storage

__all__ = ["MIGRATIONS", "bank_log", "check_anchor", "life"]


def bank_log(
    settings: BankSettings, storage: Storage, clock: Clock, telemetry: Telemetry, *, serve: bool, seat: int = 0
) -> AuditLog:
    """The log of a bank over its opened store; `serve` and `seat` tell who acts where no operator does."""
    who = f"bank seat {seat}" if serve else "operator"
    audit = settings.audit
    return AuditLog(
        storage,
        SqlAuditStore(),
        clock,
        process=f"{who} (uid {os.getuid()}, pid {os.getpid()}, {socket.gethostname()})",
        every=audit.checkpoint_every,
        anchor=None if audit.anchor_file is None else FileAnchor(audit.anchor_file),
        telemetry=telemetry,
    )


async def check_anchor(log: AuditLog, telemetry: Telemetry) -> None:
    """Page, and record, a log that is not the one its anchor has seen; record an anchor that has seen nothing yet.

    UnavailableError for an anchor that cannot be used.
    """
    if await log.anchor_is_new():
        await log.record("audit.anchor", outcome=Outcome.BEGUN, detail={"reason": "nothing was anchored there before"})
    if not await log.agrees_with_anchor():
        telemetry.page("the audit log is not the one that its anchor has seen")
        await log.record("audit.anchor", outcome=Outcome.FAILED, detail={"reason": "the log differs from its anchor"})


@asynccontextmanager
async def life(
    log: AuditLog, detail: Mapping[str, str | int | bool | None], telemetry: Telemetry
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Record that the bank starts, when what is given says so that it did, and at the end that it stopped."""
    await log.record("bank.start", outcome=Outcome.BEGUN, detail=detail)

    async def started() -> None:
        await log.record("bank.start", detail=detail)

    outcome, facts = Outcome.DONE, dict[str, str | int | bool | None]()
    try:
        yield started
    except BaseException as error:
        outcome, facts = Outcome.FAILED, {"error": type(error).__name__}
        raise
    finally:
        try:
            await log.record("bank.stop", outcome=outcome, detail=facts)
        except SpecieError as error:
            telemetry.page("the stop of the bank could not be recorded", error=error.detail)
