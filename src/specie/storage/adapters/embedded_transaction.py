"""What the transactions of embedded stores share: how a body is driven without an event loop, and what it leaves to the end."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from specie.kernel.errors import InvariantError, SpecieError
from specie.storage.deferred import Deferred, RerunError
from specie.storage.ports import Body, Tally, Transaction, Value

__all__ = ["EmbeddedTransaction"]

T = TypeVar("T")


class EmbeddedTransaction:
    """One body's work. After a failed statement the body is doomed: each later one fails the same way.

    `batch`: what earlier bodies of the commit left to its end, if this one may do so too. `mine`: what this one leaves.
    `wrote`: whether anything of this body is in the database already.
    """

    __slots__ = ("batch", "fault", "mine", "notices", "wrote")

    lane = 0

    def __init__(self, batch: Deferred | None = None) -> None:
        self.batch = batch
        self.mine = Deferred()
        self.wrote = False
        self.fault: SpecieError | RerunError | None = None
        self.notices: list[tuple[str, str]] | None = None

    def check(self) -> None:
        """Raise what doomed the body, or ended it."""
        if self.fault is not None:
            raise self.fault

    @abstractmethod
    def insert_rows(self, table: str, columns: str, rows: Sequence[Sequence[Value]]) -> bool:
        """Insert at once; False if a key of the rows is taken. SpecieError if they do not fit."""

    async def insert(self, table: str, columns: str, rows: Sequence[Sequence[Value]]) -> bool:
        """As the port."""
        self.check()
        if self.batch is None:
            return self.insert_rows(table, columns, rows)
        self.mine.insert(table, columns, rows)
        return True

    def flush(self) -> None:
        """Write what waits, of the bodies before and of this one; RerunError if a key of it is taken."""
        for waiting in () if self.batch is None else (self.batch, self.mine):
            for table, columns, rows in waiting.rows():
                self.wrote = self.wrote or waiting is self.mine
                try:
                    taken = not self.insert_rows(table, columns, rows)
                except SpecieError:  # some body's rows do not fit: by itself it hears of it
                    taken = True
                if taken:
                    self.fault = RerunError()
                    raise self.fault
            if waiting is self.batch:
                self.keep_batch()

    def keep_batch(self) -> None:
        """The rows of earlier bodies were written: undoing this one has to leave them. For engines that undo one alone."""

    def notify(self, channel: str, payload: str) -> None:
        """As the port."""
        self.check()
        if self.notices is None:
            self.notices = []
        self.notices.append((channel, payload))

    def tally(self, target: Tally, sums: Mapping[tuple[str, ...], int]) -> None:
        """As the port."""
        self.check()
        self.mine.add(target, sums)

    def run(self, body: Body[T]) -> T:
        """Drive `body` to its end; it cannot suspend, because nothing here does. RerunError, whatever the body made of it."""
        steps = body(cast(Transaction, self)).__await__()
        try:
            next(steps)
        except StopIteration as stop:
            self.check()  # the body may have swallowed the failure of a statement
            result: T = stop.value
            return result
        except BaseException:
            if isinstance(self.fault, RerunError):
                raise self.fault from None
            raise
        finally:
            self.fault = self.fault or InvariantError("this transaction is over")
        with contextlib.suppress(Exception):
            getattr(steps, "close", lambda: None)()
        raise InvariantError("a body awaited something that is not a method of its transaction")
