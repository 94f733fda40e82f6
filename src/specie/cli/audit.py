"""`specie audit ...`: who did what to the bank, and whether the log that says so is whole.

A running bank is asked through its operator's socket; else the store is opened, without any key. An exported log is checked
without a bank.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TextIO

from cyclopts import App, Parameter

from specie.cli.arguments import ScreenArgument
from specie.cli.bank_options import BankOptions, bank_settings
from specie.cli.errors import CHECK_FAILED, UsageError
from specie.cli.screen import shown, table

if TYPE_CHECKING:
    from specie.audit import Checkpoint, Report
    from specie.audit.ports import Head, StoredRecord

__all__ = ["app"]

app = App(name="audit", help="Who did what to the bank: read, check and export its audit log.", help_epilogue="")

_PAGE = 1000
_MAX_ANCHOR_LINES = 5_000_000


class _Log(Protocol):
    """The log of a bank, running or not."""

    async def head(self) -> Head | None: ...

    async def records(self, *, after: int = 0, limit: int = _PAGE) -> list[StoredRecord]: ...

    async def checkpoints(self, *, after: int = 0, limit: int = _PAGE) -> Sequence[tuple[int, str]]: ...

    async def checkpoint(self) -> Checkpoint | None: ...


@asynccontextmanager
async def _log(options: BankOptions | None) -> AsyncIterator[_Log]:
    from specie.kernel.errors import UnavailableError
    from specie.server.admin_client import admin_client
    from specie.server.audit_client import AuditClient

    settings = bank_settings(options or BankOptions())
    if settings.admin_socket.exists():
        async with admin_client(settings.admin_socket) as client:
            try:
                await client.audit_log("head")
            except UnavailableError:
                pass  # the file was left by a bank that died
            else:
                yield AuditClient(client)
                return
    from specie.app.audit_opening import open_log

    async with open_log(settings) as log:
        yield log


async def _pages(log: _Log, after: int = 0) -> AsyncIterator[StoredRecord]:
    """Every record, in order. What is numbered below what came before it is shown, too, where the store has such."""
    while rows := await log.records(after=after):
        for row in rows:
            yield row
        after = rows[-1].sequence


async def _checkpoints(log: _Log) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    while rows := await log.checkpoints(after=found[-1][0] if found else 0):
        found += rows
    return found


@app.command(name="list")
async def list_(
    *,
    limit: Annotated[int, Parameter(help="How many of the newest, 1 to 1,000.")] = 50,
    after: Annotated[int | None, Parameter(help="Begin behind this record instead, oldest first.")] = None,
    bank: BankOptions | None = None,
    screen: ScreenArgument,
) -> None:
    """Records of the audit log as they lie in the store; `verify` says whether they may be believed."""
    if not 1 <= limit <= _PAGE:
        raise UsageError(f"--limit: expected from 1 to {_PAGE:,}")
    async with _log(bank) as log:
        if after is None:
            head = await log.head()
            after = max(0, (0 if head is None else head.count) - limit)
        rows = [_facts(row) for row in await log.records(after=max(0, after), limit=limit)]
    columns = (("no", "right"), "when", "who", "did", "to", "outcome", "detail")
    lines = [
        (
            row["sequence"],
            _when(row["at"]),
            shown(row["actor"]),
            shown(row["verb"]),
            shown(row["subject"], 40),
            shown(row["outcome"]),
            shown(", ".join(f"{name} {value}" for name, value in row["detail"].items() if value is not None)),
        )
        for row in rows
    ]
    screen.answer({"records": rows}, table(columns, lines) if lines else "[dim]nothing was recorded yet[/dim]")


@app.command
async def verify(
    *,
    anchor: Annotated[
        Path | None,
        Parameter(help="Checkpoints kept elsewhere, one a line; audit.anchor_file of the settings unless given."),
    ] = None,
    file: Annotated[Path | None, Parameter(help="Check this exported log (JSON lines) instead of a bank's own.")] = None,
    bank: BankOptions | None = None,
    screen: ScreenArgument,
) -> int:
    """Compute every hash and checkpoint of the log again, and compare with an anchor. Exit code 1 if anything is wrong.

    Without an anchor kept elsewhere nobody can tell a whole log from one that was written anew, or cut off at its end, by
    somebody who can change every table of the store.
    """
    from specie.audit.verify import without_pieces

    if anchor is None and file is None:
        anchor = bank_settings(bank or BankOptions()).audit.anchor_file
    anchors = [] if anchor is None else without_pieces(_lines(anchor))
    with screen.progress("computing every hash"):
        report = _file_report(file, anchors) if file is not None else await _bank_report(bank, anchors)
    facts = {
        "whole": report.holds,
        "records": report.count,
        "head": report.head.hex(),
        "root": report.root.hex(),
        "checkpoints": report.checkpoints,
        "covered": report.covered,
        "anchor": None if anchor is None else str(anchor),
        "anchors": report.anchors,
        "anchored": report.anchored,
        "findings": [{"kind": one.kind.value, "record": one.sequence, "detail": one.detail} for one in report.findings],
    }
    screen.answer(facts, *_verdict(report, anchor))
    return 0 if report.holds else CHECK_FAILED


async def _bank_report(bank: BankOptions | None, anchors: Sequence[str]) -> Report:
    from specie.audit.verify import Verifier

    async with _log(bank) as log:
        verifier = Verifier(await _checkpoints(log), anchors)
        last = 0
        while True:
            async for row in _pages(log, last):
                verifier.add(row)
                last = row.sequence
            head = await log.head()
            if head is None or head.count <= last or not await log.records(after=last, limit=1):
                return verifier.finish(head)  # else something was recorded between both looks


def _file_report(file: Path, anchors: Sequence[str]) -> Report:
    """Check an exported log. Its checkpoints stand behind its records, so it is read twice."""
    from specie.audit.export import line_read
    from specie.audit.record import checkpoint_from_text
    from specie.audit.verify import Verifier
    from specie.kernel.errors import MalformedError

    checkpoints: list[tuple[int, str]] = []
    for line in _lines(file):
        found = line_read(line, 0)
        if isinstance(found, str):
            try:
                checkpoints.append((checkpoint_from_text(found).count, found))
            except MalformedError:
                checkpoints.append((0, found))
    verifier, expected = Verifier(checkpoints, anchors), 1
    for line in _lines(file):
        found = line_read(line, expected)
        if not isinstance(found, str):
            verifier.add(found)
            expected = found.sequence + 1
    return verifier.finish()


def _lines(path: Path) -> Iterator[str]:
    """Whole lines of a file; one cut short by a crash is left out. RefusedError for a file that cannot be such."""
    from specie.audit.export import MAX_LINE
    from specie.kernel.errors import RefusedError

    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for _ in range(_MAX_ANCHOR_LINES):
                line = file.readline(MAX_LINE + 1)
                if len(line) > MAX_LINE:
                    raise RefusedError(f"{path} has a line longer than any of an audit log")
                if not line.endswith("\n"):
                    return
                yield line[:-1]
            raise RefusedError(f"{path} has more than {_MAX_ANCHOR_LINES:,} lines")
    except OSError as error:
        raise RefusedError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RefusedError(f"{path} is no text") from None


def _verdict(report: Report, anchor: Path | None) -> list[Any]:
    from rich.text import Text

    lines: list[Any] = []
    if report.findings:
        rows = [(one.kind.value, f"{one.sequence:,}", shown(one.detail, 300)) for one in report.findings]
        lines.append(table(("found", ("record", "right"), "what"), rows))
        lines.append(Text(f"✗ the log is not whole: {len(report.findings)} findings", "bold red"))
    else:
        lines.append(Text(f"✓ {report.count:,} records follow one another", "green"))
        lines.append(Text(f"✓ {report.checkpoints:,} checkpoints agree, up to record {report.covered:,}", "green"))
    if anchor is None:
        note = "no anchor was given: a log rewritten as a whole, or cut off with its checkpoints, looks whole (--anchor)"
        lines.append(Text(f"! {note}", "yellow"))
    elif report.anchored < report.count:
        note = f"the anchor vouches up to record {report.anchored:,} of {report.count:,}; later ones could be cut off unseen"
        lines.append(Text(f"! {note}", "yellow"))
    else:
        lines.append(Text(f"✓ the anchor has seen all of it ({report.anchors:,} checkpoints)", "green"))
    return lines


@app.command
async def export(
    *,
    format: Annotated[
        Literal["jsonl", "csv"], Parameter(help="jsonl can be verified again, with its checkpoints; csv is for a spreadsheet.")
    ] = "jsonl",
    out: Annotated[Path | None, Parameter(help="File to make; it must not exist. Standard output unless given.")] = None,
    bank: BankOptions | None = None,
    screen: ScreenArgument,
) -> None:
    """Write the whole log: JSON lines (`verify --file` checks them anywhere) or CSV."""
    import os
    import sys

    from specie.kernel.errors import RefusedError

    if out is None:
        if screen.json:
            raise UsageError("--json: the log goes to standard output by itself; give --out FILE")
        async with _log(bank) as log:
            await _write(log, sys.stdout, format)
        return
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RefusedError(f"{out} cannot be made: {error.strerror}") from None
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        try:
            async with _log(bank) as log:
                count = await _write(log, file, format)
        except BaseException:
            out.unlink()
            raise
        file.flush()
        os.fsync(handle)
    screen.answer({"path": str(out), "format": format, "records": count}, f"{count:,} records written to {out}")


async def _write(log: _Log, file: TextIO, form: str) -> int:
    from specie.audit.export import checkpoint_line, csv_line, record_line

    checkpoints, count = await _checkpoints(log), 0
    if form == "csv":
        file.write(csv_line(None))
    async for row in _pages(log):
        file.write(csv_line(row) if form == "csv" else record_line(row) + "\n")
        count += 1
    if form == "jsonl":
        for _, text in checkpoints:
            file.write(checkpoint_line(text) + "\n")
    return count


@app.command
async def checkpoint(*, bank: BankOptions | None = None, screen: ScreenArgument) -> None:
    """Keep a checkpoint of the log now, hand it to the anchor file, and print it: write it down where nobody else writes."""
    from hashlib import sha256

    from specie.audit.record import checkpoint_text
    from specie.kernel.errors import RefusedError

    async with _log(bank) as log:
        made = await log.checkpoint()
    if made is None:
        raise RefusedError("nothing was recorded yet")
    text = checkpoint_text(made)
    facts = {"at": made.at, "count": made.count, "head": made.head.hex(), "root": made.root.hex()}
    screen.bare(facts | {"digest": sha256(text.encode()).hexdigest()}, text)


def _facts(row: StoredRecord) -> dict[str, Any]:
    """A record for people and programs; one that cannot be read is shown as such."""
    from dataclasses import asdict

    from specie.audit.record import record_from_text
    from specie.kernel.errors import MalformedError

    try:
        found = asdict(record_from_text(row.text))
    except MalformedError:
        blank = dict.fromkeys(("tenant", "actor", "subject", "outcome"), "")
        found = {"at": 0, "verb": "unreadable", "previous": b"", "detail": {}, **blank}
    return found | {"sequence": row.sequence, "previous": found["previous"].hex(), "hash": row.hash.hex()}


def _when(at: int) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(at)
