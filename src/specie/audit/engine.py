"""The audit log's verbs: what is recorded is recorded before or with its effect, or the effect does not happen.

What a crash leaves behind: a record whose effect is in the same transaction is there exactly if the effect is. A verb whose
effect is elsewhere has a record BEGUN and none after it: look at what it was about. A checkpoint is kept with its record;
an anchor that missed it is given it with the next one.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

from specie.audit.errors import AuditBrokenError
from specie.audit.ports import Anchor, AuditStore, Head, StoredRecord
from specie.audit.record import NO_RECORD, Checkpoint, Draft, Outcome, Scalar, Tree, checkpoint_text, record_hash, record_text
from specie.kernel.clock import Clock
from specie.kernel.errors import MalformedError, RefusedError, SpecieError, UnavailableError
from specie.kernel.telemetry import NULL_TELEMETRY, Telemetry
from specie.storage import Storage, Transaction

__all__ = ["AuditLog"]

T = TypeVar("T")

_PAGE = 1000
_ANCHOR_S = 5.0
"""For one answer of the anchor: a verb waits no longer for a place that is not needed to go on."""

_acting: contextvars.ContextVar[str] = contextvars.ContextVar("specie_audit_actor", default="")


class AuditLog:
    """The log of one bank; any number of processes on one store write one chain.

    `process` names this process where nobody else acts. Every `every` records there is a checkpoint, which goes to `anchor`;
    each answer of that is waited for at most `anchor_s` seconds.
    """

    def __init__(
        self,
        storage: Storage,
        store: AuditStore,
        clock: Clock,
        *,
        process: str = "bank",
        every: int = 1,
        anchor: Anchor | None = None,
        telemetry: Telemetry = NULL_TELEMETRY,
        anchor_s: float = _ANCHOR_S,
    ) -> None:
        self._storage = storage
        self._store = store
        self._clock = clock
        self._process = process
        self._every = every
        self._anchor = anchor
        self._telemetry = telemetry
        self._anchor_s = anchor_s
        self._anchoring = asyncio.Lock()
        self._late: Future[Any] | None = None

    @contextmanager
    def acting(self, actor: str) -> Iterator[None]:
        """Whatever is recorded by this task while inside was done by `actor`."""
        token = _acting.set(actor)
        try:
            yield
        finally:
            _acting.reset(token)

    def draft(
        self, verb: str, subject: str = "", outcome: Outcome = Outcome.DONE, detail: Mapping[str, Scalar] | None = None
    ) -> Draft:
        """What `append` writes; made outside a transaction, for the time and the actor are of now. AuditDetailError."""
        return Draft(self._clock.now(), _acting.get() or self._process, verb, subject, outcome, detail or {})

    async def append(self, tx: Transaction, draft: Draft) -> int:
        """Write a record in the transaction of its effect; its number. AuditBrokenError where the tables were changed."""
        while True:
            old = await self._store.head(tx)
            tree = self._tree(old)
            number = tree.size + 1
            text = record_text(draft, number, NO_RECORD if old is None else old.hash)
            own = record_hash(text)
            tree.append(text)
            if await self._store.move_head(tx, old, Head(number, own, tree.peaks)):
                break
        if not await self._store.add(tx, StoredRecord(number, text, own)):
            raise AuditBrokenError(f"the audit log has a record {number} already; specie audit verify says more")
        if number % self._every == 0:
            await self._store.add_checkpoint(tx, number, checkpoint_text(Checkpoint(draft.at, number, own, tree.root)))
        return number

    @staticmethod
    def _tree(head: Head | None) -> Tree:
        if head is None:
            return Tree()
        try:
            return Tree(head.count, head.peaks)
        except MalformedError:
            raise AuditBrokenError("the audit log's head was changed; specie audit verify says more") from None

    async def record(
        self, verb: str, subject: str = "", outcome: Outcome = Outcome.DONE, detail: Mapping[str, Scalar] | None = None
    ) -> int:
        """Write a record of its own, durably before this returns; its number. Whoever asked must not act if this raises."""
        draft = self.draft(verb, subject, outcome, detail)
        number = await self._storage.transact(lambda tx: self.append(tx, draft))
        await self.anchor()
        return number

    @asynccontextmanager
    async def recorded(self, verb: str, subject: str = "", detail: Mapping[str, Scalar] | None = None) -> AsyncIterator[None]:
        """BEGUN before what is inside, which does not run if that cannot be written; how it ended after it.

        Where the end cannot be written what was done is done: somebody is paged.
        """
        await self.record(verb, subject, Outcome.BEGUN, detail)
        outcome, facts = Outcome.FAILED, dict(detail or {})
        try:
            yield
            outcome = Outcome.DONE
        except BaseException as error:
            outcome = Outcome.REFUSED if isinstance(error, RefusedError) else Outcome.FAILED
            facts["error"] = type(error).__name__
            raise
        finally:
            try:
                await self.record(verb, subject, outcome, facts)
            except SpecieError as error:
                self._telemetry.page("the end of an audited verb could not be recorded", verb=verb, error=error.detail)

    async def checkpoint(self) -> Checkpoint | None:
        """Keep a checkpoint of the log as it is now, and hand it to the anchor; None for an empty log."""
        now = self._clock.now()

        async def body(tx: Transaction) -> Checkpoint | None:
            head = await self._store.head(tx)
            if head is None:
                return None
            made = Checkpoint(now, head.count, head.hash, self._tree(head).root)
            await self._store.add_checkpoint(tx, head.count, checkpoint_text(made))
            return made

        made = await self._storage.transact(body)
        await self.anchor()
        return made

    async def anchor(self) -> int:
        """Hand the anchor every checkpoint that it lacks; how many. What cannot be handed over pages somebody and waits.

        A log that is not the one that the anchor has seen is not handed over: its later checkpoints would vouch for it.
        """
        anchor = self._anchor
        if anchor is None:
            return 0
        async with self._anchoring:
            try:
                last = await self._asked(anchor.last)
                if not await self._holds(last):
                    self._telemetry.page("the audit log is not the one that its anchor has seen")
                    return 0
                count, given = 0 if last is None else last.count, 0
                while found := await self.checkpoints(after=count, limit=_PAGE):
                    await self._asked(partial(anchor.add, [text for _, text in found]))
                    count, given = found[-1][0], given + len(found)
            except (SpecieError, OSError) as error:
                self._telemetry.page("checkpoints of the audit log were not anchored", error=str(error))
                return 0
        return given

    async def _asked(self, call: Callable[[], T]) -> T:
        """What the anchor answers; UnavailableError where that takes too long.

        A place that is gone may never answer. So it has a thread that nothing waits for, not even the end of the program,
        and is not asked again while that one is stuck.
        """
        if self._late is not None and not self._late.done():
            raise UnavailableError("the audit log's anchor still does not answer")
        answer: Future[T] = Future()
        answer.set_running_or_notify_cancel()  # so that giving up here does not disturb the thread

        def run() -> None:
            try:
                answer.set_result(call())
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=run, name="specie-anchor", daemon=True).start()
        try:
            async with asyncio.timeout(self._anchor_s):
                return await asyncio.wrap_future(answer)
        except TimeoutError:
            self._late = answer
            raise UnavailableError(f"the audit log's anchor did not answer within {self._anchor_s:g} s") from None

    async def _holds(self, last: Checkpoint | None) -> bool:
        """Whether the record that a checkpoint ends with is in the log as it was."""
        if last is None:
            return True
        rows = await self.records(after=last.count - 1, limit=1)
        return bool(rows) and rows[0].sequence == last.count and rows[0].hash == last.head

    async def agrees_with_anchor(self) -> bool:
        """Whether the record that the anchor's newest checkpoint ends with is in the log as it was. UnavailableError."""
        return self._anchor is None or await self._holds(await self._asked(self._anchor.last))

    async def anchor_is_new(self) -> bool:
        """Whether there is an anchor that has seen nothing, beside a log that has records. UnavailableError."""
        if self._anchor is None or await self._asked(self._anchor.last) is not None:
            return False
        return await self.head() is not None

    async def head(self) -> Head | None:
        """Where the chain ends, as the store says."""
        return await self._storage.read(self._store.head)

    async def records(self, *, after: int = 0, limit: int = _PAGE) -> list[StoredRecord]:
        """Records in order, as they lie in the store; nothing is checked."""
        return await self._storage.read(lambda tx: self._store.records(tx, after=after, limit=limit))

    async def checkpoints(self, *, after: int = 0, limit: int = _PAGE) -> Sequence[tuple[int, str]]:
        """Counts and texts of checkpoints in order."""
        return await self._storage.read(lambda tx: self._store.checkpoints(tx, after=after, limit=limit))
