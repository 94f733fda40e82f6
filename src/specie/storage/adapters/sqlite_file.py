"""The file under the SQLite store: making it, opening it, copying it. Knows nothing of transactions."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import apsw

from specie.kernel.errors import RefusedError, UnavailableError

__all__ = ["backup_file", "open_connection", "prepare_file"]

_CACHE_KIB = 64 * 1024
"""Pages kept by the writer: inserts under random keys touch the whole tree."""


def prepare_file(path: Path) -> None:
    """Make the file (0600) and its directory (0700) where missing; close an open file to others.

    SQLite gives its log and index files the mode of the database.

    Raises:
        UnavailableError: the file system refuses.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnavailableError(f"cannot open the store at {path}: {error.strerror}") from error


def open_connection(path: Path | None, busy_ms: int, *, synchronous: str = "FULL", reader: bool = False) -> apsw.Connection:
    """A connection with our settings; `path` None is a store in memory.

    Raises:
        RefusedError: the file is not a database.
        UnavailableError: it cannot be opened now.
    """
    flags = apsw.SQLITE_OPEN_READONLY if reader else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    try:
        connection = apsw.Connection(":memory:" if path is None else str(path), flags=flags, statementcachesize=256)
    except apsw.Error as error:
        raise UnavailableError(f"cannot open the store at {path}: {error}") from error
    try:
        connection.set_busy_timeout(busy_ms)
        settings = ["foreign_keys = ON", "trusted_schema = OFF", f"cache_size = -{_CACHE_KIB // 8 if reader else _CACHE_KIB}"]
        if reader:
            settings.append("query_only = 1")
        else:
            settings += ["journal_mode = WAL", f"synchronous = {synchronous}", "wal_autocheckpoint = 8000"]
            settings.append(f"journal_size_limit = {64 * 1024 * 1024}")
        for setting in settings:
            connection.execute(f"PRAGMA {setting}").fetchall()
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except apsw.NotADBError as error:
        connection.close()
        raise RefusedError(f"{path} is not a specie store") from error
    except apsw.Error as error:
        connection.close()
        raise UnavailableError(f"cannot open the store at {path}: {error}") from error
    return connection


def backup_file(source: apsw.Connection, target: Path) -> None:
    """Copy what `source` sees to the new file `target` (0600): written beside it, made durable, then given its name.

    Raises:
        RefusedError: `target` exists.
        UnavailableError: the copy failed; nothing is left behind.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise RefusedError(f"{target} exists already") from None
    except OSError as error:
        raise UnavailableError(f"cannot write {target}: {error.strerror}") from error
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        copy = apsw.Connection(str(partial))
        try:
            with copy.backup("main", source, "main") as pages:
                while not pages.done:
                    pages.step(-1)  # all at once: one snapshot, writers go on
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()  # one file, no log beside it
        finally:
            copy.close()
        _flush(partial)
        os.replace(partial, target)
        _flush(target.parent)
    except (OSError, apsw.Error) as error:
        for path in (partial, target):
            with contextlib.suppress(OSError):
                path.unlink()
        raise UnavailableError(f"cannot copy the store to {target}: {error}") from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
