"""The directory under the RocksDB store: making it, opening it, copying it. Knows nothing of transactions.

Memory is bounded whatever the history: data, indexes and filters lie in one cache of fixed size, and are read when they are
asked for, not at the start; what is written waits in buffers of fixed size, and a start reads no more log than these hold.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from specie.kernel.errors import RefusedError, UnavailableError

__all__ = ["StoreInUseError", "backup_directory", "commit_options", "open_database"]

_CACHE_BYTES = 128 * 2**20
_BUFFER_BYTES = 32 * 2**20
_BUFFERS = 3
_OPEN_FILES = 512
_BITS_A_KEY = 10
"""Of the filter that says of a new key, nearly always, that no file has it."""

_MARK = b"\x00\x00format"
_FORMAT = b"specie 1"

_FILES = re.compile(r"LOCK|LOG.*|IDENTITY|CURRENT.*|MANIFEST.*|OPTIONS.*|[0-9]+\.\w+|rocksdict-config\.json")
"""What a store that was never opened to the end may have left behind."""


class StoreInUseError(RefusedError):
    """Another process, or another store of this one, has the directory open: RocksDB has one owner."""


def _options() -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(_CACHE_BYTES))
    blocks.set_block_size(8 * 1024)
    blocks.set_format_version(5)
    blocks.set_bloom_filter(_BITS_A_KEY, False)
    blocks.set_index_type(BlockBasedIndexType.two_level_index_search())
    blocks.set_partition_filters(True)
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_top_level_index_and_filter(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_write_buffer_size(_BUFFER_BYTES)
    options.set_max_write_buffer_number(_BUFFERS)
    options.set_db_write_buffer_size(_BUFFER_BYTES * _BUFFERS)
    options.set_max_total_wal_size(_BUFFER_BYTES * _BUFFERS)
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.02)
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())  # up to the last whole batch, as SQLite's log is read
    options.set_max_open_files(_OPEN_FILES)
    options.set_skip_stats_update_on_db_open(True)
    options.set_max_background_jobs(2)
    options.set_bytes_per_sync(2**20)
    options.set_keep_log_file_num(4)
    options.set_max_log_file_size(2**20)
    options.set_stats_dump_period_sec(0)
    options.set_is_fd_close_on_exec(True)
    return options


def commit_options(*, sync: bool) -> WriteOptions:
    """How a batch is written: `sync` makes it durable against loss of power."""
    options = WriteOptions()
    options.sync = sync
    return options


def open_database(path: Path) -> Rdict:
    """Open the store in the directory `path`; it is made (0700) where missing.

    Raises:
        StoreInUseError: somebody has it open.
        RefusedError: the directory holds something else.
        UnavailableError: it cannot be opened.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        strange = not (path / "CURRENT").exists() and any(not _FILES.fullmatch(name) for name in os.listdir(path))
    except (FileExistsError, NotADirectoryError):
        raise RefusedError(f"{path} is not a specie store of the RocksDB kind: it is no directory") from None
    except OSError as error:
        raise UnavailableError(f"cannot open the store at {path}: {error.strerror}") from error
    if strange:
        raise RefusedError(f"{path} is not a specie store of the RocksDB kind, and it is not empty")
    try:
        database = Rdict(str(path), _options())
    except Exception as error:
        if "LOCK" in str(error):
            raise StoreInUseError(f"the store at {path} is open already, and RocksDB has one owner") from error
        raise UnavailableError(f"cannot open the store at {path}: {error}") from error
    try:
        mark = database.get(_MARK)
        if mark is None and next(database.keys(), None) is None:
            batch = WriteBatch(raw_mode=True)
            batch.put(_MARK, _FORMAT)
            database.write(batch, commit_options(sync=True))
        elif mark != _FORMAT:
            raise RefusedError(f"{path} is not a specie store, or one of a later version")
    except BaseException:
        database.close()
        raise
    return database


def backup_directory(database: Rdict, target: Path) -> None:
    """Copy what is committed to the new directory `target` (0700): written beside it, made durable, then given its name.

    Files that never change again are linked, not copied, where the file system is the same.

    Raises:
        RefusedError: `target` exists.
        UnavailableError: the copy failed; nothing is left behind.
    """
    partial = target.with_name(target.name + ".partial")
    if os.path.lexists(target):
        raise RefusedError(f"{target} exists already")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        Checkpoint(database).create_checkpoint(str(partial))
        partial.chmod(0o700)
        for name in os.listdir(partial):
            _flush(partial / name)
        _flush(partial)
        os.rename(partial, target)
        _flush(target.parent)
    except Exception as error:
        with contextlib.suppress(OSError):
            shutil.rmtree(partial)
        if os.path.lexists(target):
            raise RefusedError(f"{target} exists already") from error
        raise UnavailableError(f"cannot copy the store to {target}: {error}") from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
