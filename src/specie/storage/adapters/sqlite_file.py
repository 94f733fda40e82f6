"""The file under the SQLite store: making it, opening it, copying it, encrypting it. Knows nothing of transactions.

Encryption is SQLite3 Multiple Ciphers' ChaCha20-Poly1305 with a key of 32 bytes that the caller derives; the log and the
copies made beside the store are encrypted by the same key. What a crash during `convert_file` leaves behind:

| after ...                     | leaves behind                                   |
|-------------------------------|-------------------------------------------------|
| the log was folded in         | the old file                                    |
| the new file was written      | the old file, and a `.converting` beside it     |
| the new file took its name    | the new file, complete and durable              |
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import apsw

from specie.kernel.errors import RefusedError, UnavailableError

__all__ = ["backup_file", "convert_file", "is_encrypted", "open_connection", "prepare_file"]

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


_KEY_BYTES = 32
_PLAIN_HEADER = b"SQLite format 3\x00"


def is_encrypted(path: Path) -> bool:
    """Whether a store's file is encrypted, by its first bytes; an empty one is not. UnavailableError if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_PLAIN_HEADER))
    except OSError as error:
        raise UnavailableError(f"cannot read the store at {path}: {error.strerror}") from error
    return bool(head) and head != _PLAIN_HEADER


def _unlock(connection: apsw.Connection, key: bytes | None) -> None:
    """Give a connection its key, before anything is read; and keep what it would write beside the file in memory."""
    if key is None:
        return
    if len(key) != _KEY_BYTES:
        raise ValueError("the key of a store has 32 bytes")
    connection.execute("PRAGMA cipher = 'chacha20'").fetchall()
    connection.execute(f"PRAGMA key = 'raw:{key.hex()}'").fetchall()
    connection.execute("PRAGMA temp_store = MEMORY").fetchall()


def _not_opened(path: Path | None, key: bytes | None) -> RefusedError:
    if key is not None:
        return RefusedError(f"{path} does not open with this key: it is encrypted by another one, or not at all")
    if path is not None and is_encrypted(path):
        return RefusedError(f"{path} is not a specie store, or it is encrypted and needs its key")
    return RefusedError(f"{path} is not a specie store")


def open_connection(
    path: Path | None, busy_ms: int, *, synchronous: str = "FULL", reader: bool = False, key: bytes | None = None
) -> apsw.Connection:
    """A connection with our settings; `path` None is a store in memory. `key`: 32 bytes, of an encrypted store.

    Raises:
        RefusedError: the file is not a database, or not one of this key.
        UnavailableError: it cannot be opened now.
    """
    flags = apsw.SQLITE_OPEN_READONLY if reader else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    try:
        connection = apsw.Connection(":memory:" if path is None else str(path), flags=flags, statementcachesize=256)
    except apsw.Error as error:
        raise UnavailableError(f"cannot open the store at {path}: {error}") from error
    try:
        connection.set_busy_timeout(busy_ms)
        _unlock(connection, key)
        settings = ["foreign_keys = ON", "trusted_schema = OFF", f"cache_size = -{_CACHE_KIB // 2 if reader else _CACHE_KIB}"]
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
        raise _not_opened(path, key) from error
    except apsw.Error as error:
        connection.close()
        raise UnavailableError(f"cannot open the store at {path}: {error}") from error
    return connection


def backup_file(source: apsw.Connection, target: Path, *, key: bytes | None = None) -> None:
    """Copy what `source` sees to the new file `target` (0600): written beside it, made durable, then given its name.

    `key` is that of `source`; the copy is encrypted by it, too.

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
            _unlock(copy, key)
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


def convert_file(path: Path, *, old: bytes | None, new: bytes | None) -> None:
    """Write a store that nobody has open with another key (None: unencrypted), at once or not at all; see the table above.

    Raises:
        RefusedError: `old` does not open it.
        UnavailableError: another process has it open, or the disk refuses; the old file stands.
    """
    target = path.with_name(path.name + ".converting")
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI)
    except apsw.Error as error:
        raise UnavailableError(f"cannot open the store at {path}: {error}") from error
    try:
        _unlock(connection, old)
        connection.execute("PRAGMA temp_store = MEMORY").fetchall()
        mode = connection.execute("PRAGMA journal_mode = DELETE").fetchall()[0][0]  # folds the log in; needs to be alone
        if mode != "delete":
            raise UnavailableError(f"another process has the store at {path} open")
        target.unlink(missing_ok=True)
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        secret = "key=" if new is None else f"cipher=chacha20&key=raw:{new.hex()}"
        connection.execute("VACUUM INTO ?", (f"{target.absolute().as_uri()}?{secret}",))
        _proved(connection, target, new)
        _flush(target)
        os.replace(target, path)
        _flush(path.parent)
    except apsw.NotADBError as error:
        raise _not_opened(path, old) from error
    except (OSError, apsw.Error) as error:
        raise UnavailableError(f"cannot convert the store at {path}: {_told(error)}") from None
    finally:
        connection.close()
        with contextlib.suppress(OSError):
            target.unlink()


def _told(error: Exception) -> str:
    """What a failure was, without what it was done with: statements and names of files may hold the key."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else type(error).__name__


def _proved(connection: apsw.Connection, target: Path, key: bytes | None) -> None:
    """The new file opens with its key, is sound and has as many rows in each table as the old one."""
    copy = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        _unlock(copy, key)
        sound = copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        same = _row_counts(copy) == _row_counts(connection)
    finally:
        copy.close()
    if not (sound and same):
        raise UnavailableError(f"the copy at {target} is not what was copied")


def _row_counts(connection: apsw.Connection) -> dict[str, int]:
    names = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    counts: dict[str, int] = {}
    for name in names:
        quoted = '"' + name.replace('"', '""') + '"'
        counts[name] = int(str(connection.execute(f"SELECT count(*) FROM {quoted}").fetchall()[0][0]))  # noqa: S608
    return counts


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
