"""The reading thread of the SQLite store."""

from __future__ import annotations

import apsw

from specie.storage.adapters.jobs import Job, answer
from specie.storage.adapters.sqlite_transaction import SqliteTransaction, translated

__all__ = ["Reader"]


class Reader:
    """One read-only connection; all the bodies it takes at a time share one snapshot."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._cursor = connection.cursor()

    def run(self, jobs: list[Job]) -> None:
        """Run and answer."""
        try:
            self._cursor.execute("BEGIN")
            for job in jobs:
                try:
                    job.result = SqliteTransaction(self._connection, self._cursor).run(job.body)
                except BaseException as error:
                    job.error = error
            if self._connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except Exception as error:
            for job in jobs:
                job.error = job.error or translated(error)
        answer(jobs)
