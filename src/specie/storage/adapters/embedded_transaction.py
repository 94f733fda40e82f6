"""What the transactions of embedded stores share: how a body is driven without an event loop, and what it leaves to the end."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TypeVar, cast

from specie.kernel.errors import InvariantError, SpecieError
from specie.storage.deferred import Deferred, RerunError
from specie.storage.ports import Body, Tally, Transaction

__all__ = ["EmbeddedTransaction"]

T = TypeVar("T")


class EmbeddedTransaction:
    """One body's work. After a failed statement the body is doomed: each later one fails the same way.

    `mine`: what the body leaves to the end of its commit.
    """

    __slots__ = ("fault", "mine", "notices")

    lane = 0

    def __init__(self) -> None:
        self.mine = Deferred()
        self.fault: SpecieError | RerunError | None = None
        self.notices: list[tuple[str, str]] | None = None

    def check(self) -> None:
        """Raise what doomed the body, or ended it."""
        if self.fault is not None:
            raise self.fault

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
