"""A history for a store on RocksDB: sorted files written by a process a core, and taken in by the store whole.

That is the state in which a store has had time to compact what it holds.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rocksdict import SstFileWriter

from bench.fill import amount_of, keys
from specie.storage.adapters.rocks import RocksStorage
from specie.storage.adapters.rocks_file import _options
from specie.storage.adapters.rocks_rows import encode_row

__all__ = ["fill_rocks"]

_A_FILE = 500_000
"""Rows of one file, some 60 to 110 MB."""

_TABLES = {
    "mint_proof": ("y", "keyset", "amount", "state", "operation", "quote", "witness", "at"),
    "mint_output": ("b_", "keyset", "amount", "c_", "dleq_e", "dleq_s", "operation", "quote", "position", "at"),
}


def _proof(key: bytes, keyset: str, amount: str, at: int, random_bytes: Callable[[int], bytes]) -> tuple[object, ...]:
    return (key, keyset, amount, 2, random_bytes(32), None, None, at)


def _output(key: bytes, keyset: str, amount: str, at: int, random_bytes: Callable[[int], bytes]) -> tuple[object, ...]:
    some = random_bytes(128)
    return (key, keyset, amount, b"\x02" + some[:32], some[32:64], some[64:96], some[96:], None, 0, at)


_ROWS = {"mint_proof": _proof, "mint_output": _output}


def _write(table: str, prefix: bytes, path: str, keyset: str, rows: int, start: int, stop: int, at: int) -> str:
    """One file: the rows from `start` to before `stop`."""
    writer, row = SstFileWriter(_options()), _ROWS[table]
    random_bytes = random.Random(f"{table}/{start}").randbytes
    amounts = [str(amount_of(place)) for place in range(8)]
    writer.open(path)
    for place, key in enumerate(keys(rows, 5, start, stop), start):
        writer[prefix + key] = encode_row(row(key, keyset, amounts[place % 8], at, random_bytes))  # type: ignore[arg-type]
    writer.finish()
    return path


def fill_rocks(path: Path, keyset: str, rows: int) -> None:
    """Put `rows` spent coins and as many signed outputs into the store in `path`, which nobody has open."""
    storage = RocksStorage(path, inline=True)
    try:
        prefixes = {}
        for table, columns in _TABLES.items():
            relation = storage._plans.relation(table)
            found = tuple(column.name for column in relation.table.columns)
            if found != columns:
                raise RuntimeError(f"{table} has other columns now: {', '.join(found)}")
            prefixes[table] = relation.prefix
        scratch = path.with_name("filling")
        scratch.mkdir()
        context, at = multiprocessing.get_context("spawn"), int(time.time())
        with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=context) as pool:
            jobs = [
                pool.submit(
                    _write,
                    table,
                    prefixes[table],
                    str(scratch / f"{table}-{start}.sst"),
                    keyset,
                    rows,
                    start,
                    min(rows, start + _A_FILE),
                    at,
                )
                for start in range(0, rows, _A_FILE)
                for table in _TABLES
            ]
            storage._database.ingest_external_file([job.result() for job in jobs])
        for left in scratch.iterdir():
            left.unlink()
        scratch.rmdir()
    finally:
        storage._let_go()
