"""A process to be killed: commits rows through a store and prints each number once its commit is acknowledged.

python committer.py sqlite|rocksdb|postgres PATH|DSN
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path

from specie.storage import Storage, Transaction
from specie.storage.adapters.postgres import PostgresStorage
from specie.storage.adapters.sqlite import SqliteStorage


async def main(kind: str, where: str) -> None:
    """Commit for ever, sixteen callers at a time."""
    store: Storage
    if kind == "rocksdb":
        from specie.storage.adapters.rocks import RocksStorage

        store = RocksStorage(Path(where))
    else:
        store = SqliteStorage(Path(where)) if kind == "sqlite" else await PostgresStorage.connect(where)
    numbers = itertools.count(1)

    async def caller() -> None:
        for number in numbers:

            async def body(tx: Transaction, number: int = number) -> None:
                await tx.execute("INSERT INTO note (name, number) VALUES ($1, $2)", f"a{number}", number)
                await tx.execute("INSERT INTO note (name, number) VALUES ($1, $2)", f"b{number}", number)

            await store.transact(body)
            os.write(1, f"{number}\n".encode())

    await asyncio.gather(*(caller() for _ in range(16)))


asyncio.run(main(*sys.argv[1:]))
