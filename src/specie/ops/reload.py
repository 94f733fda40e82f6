"""A running bank takes a changed settings file: whole, or not at all.

    read        the file, the environment and the command line, as at the start     told what is wrong: refused
    validate    what needs a restart is not changed; every secret can be read       told which keys: refused
    prepare     each part of the bank makes what it needs                           a part cannot: refused
    record      the revision is in the store as applied                             the store is not there: nothing changed
    swap        every part, without a pause in which anything else could run        a part fails: those before it are put back,
                                                                                     and the revision is told to be undone

A rollback writes the file of an earlier revision between prepare and record, and puts the old one back if the store refuses.

    killed while                            the file is    history                        the next start
    reading, validating, preparing          as given       nothing                        takes the file, records it
    a rollback's file is written            the earlier    nothing                        takes it, records it
    recorded, not swapped                   as given       applied                        takes the file: the same settings
    swapped                                 as given       applied                        takes the file: the same settings
    swapped back, not yet told so           as given       applied, and was not           takes the file; fails as it would have

So the file is what the next start reads, and history says of each revision what was decided; neither is ever half written.
Not here: which parts there are, and how settings are read; whoever makes a `Reloader` says both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from specie.kernel.clock import Clock
from specie.kernel.errors import RefusedError, SpecieError, UnavailableError, UncertainError
from specie.kernel.telemetry import Telemetry
from specie.ops.config import parse_document
from specie.ops.errors import SettingsError, SettingsProblem
from specie.ops.revision import (
    Outcome,
    Revision,
    changes_between,
    document_text,
    redacted_document,
    restart_keys,
    shown,
)
from specie.ops.settings import BankSettings
from specie.ops.settings_file import digest_of, file_content, replaced

__all__ = ["Reloader", "RevisionStore", "SettingsRefusedError", "Swap"]

_MAX_REASON_CHARS = 2000
_MAX_REASONS = 100
_MAX_AUTHOR_CHARS = 100
_IDLE_S = 2.0
"""Between two looks at whether the file is to be watched."""
_EMPTIED = "the file sets nothing any more, which would be every default; specie config apply takes it if that is meant"


class SettingsRefusedError(RefusedError):
    """The running bank took nothing of the settings file. The text says all that is in the way.

    Attributes:
        reasons: one sentence each.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True, slots=True)
class Swap:
    """One part's change, made ready: `do` and `undo` cannot wait, and should not fail."""

    do: Callable[[], object]
    undo: Callable[[], object]


class RevisionStore(Protocol):
    """Where revisions are remembered."""

    async def add(self, revision: Revision) -> Revision:
        """Remember it under the next number; durable when this returns."""
        ...

    async def undo(self, number: int, reasons: Sequence[str]) -> None:
        """Say of an applied revision that it was taken back."""
        ...

    async def find(self, number: int) -> Revision | None:
        """One revision."""
        ...

    async def newest(self, place: str, limit: int, *, applied: bool = False) -> list[Revision]:
        """The newest of one place, newest first."""
        ...


@dataclass(frozen=True, slots=True)
class _Read:
    """A file that can be used: its settings, its tables, and what differs from what runs."""

    settings: BankSettings
    document: dict[str, Any] | None
    digest: str
    empty: bool
    """Whether the file sets nothing."""


class Reloader:
    """The settings of one running bank, and the way to others.

    `settings` were built of `content`, None where there was no file. `load` builds settings of a file's content and place,
    as the start did; `file` is what the next start will read.
    `secrets` tells which secrets cannot be read. `parts` make a `Swap` each from new settings, or raise. `place` tells
    banks on one store apart.
    """

    def __init__(
        self,
        settings: BankSettings,
        *,
        file: Path,
        content: bytes | None,
        load: Callable[[bytes, Path], BankSettings],
        secrets: Callable[[BankSettings], Sequence[SettingsProblem]],
        parts: Sequence[Callable[[BankSettings], Swap]],
        store: RevisionStore,
        clock: Clock,
        telemetry: Telemetry,
        place: str = "",
    ) -> None:
        self.settings = settings
        """What runs."""
        self.revision: Revision | None = None
        """The one that runs, once `start` has recorded it."""
        self.refused: tuple[str, ...] = ()
        """Why the file was refused, as long as it is not the one that runs."""
        self._file = file
        self._load = load
        self._secrets = secrets
        self._parts = tuple(parts)
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._place = place
        self._had_file = content is not None
        self._digest = digest_of(content)
        """Of the content that was judged last."""
        self._document = _document(content)
        self._empty = _is_empty(content or b"")
        self._turn = asyncio.Lock()
        self._asked = asyncio.Event()

    # -- what is asked --------------------------------------------------------------------------------------------------

    async def start(self) -> Revision:
        """Record what the bank was started with, unless it is what it ran with before."""
        async with self._turn:
            last = await self._store.newest(self._place, 1, applied=True)
            now = shown(self.settings)
            if last and dict(last[0].settings) == now:
                self.revision = last[0]
                return last[0]
            before = dict(last[0].settings) if last else shown(BankSettings())
            revision = self._revision("start", Outcome.APPLIED, (), self.settings, self._document, before)
            self.revision = await self._store.add(revision)
            return self.revision

    async def apply(self, author: str) -> Revision:
        """Take the file now. The revision that then runs, which is the one before if nothing differs.

        SettingsRefusedError, with every reason, and the bank goes on as it was; UnavailableError if the store is not there.
        """
        async with self._turn:
            before = self._digest
            try:
                content = await asyncio.to_thread(self._content)
                self._digest = digest_of(content)
                read = await asyncio.to_thread(self._read, content)
                return await self._take(author, read)
            except SettingsError as error:
                refusal = await self._refuse(author, [str(problem) for problem in error.problems])
                self.refused = refusal.reasons
                raise refusal from None
            except SettingsRefusedError as refusal:
                self.refused = refusal.reasons
                raise
            except Exception:
                self._digest = before  # it was not judged: the watch may try again
                raise

    async def rollback(self, number: int, author: str) -> Revision:
        """Write the file of an earlier revision, a copy of the present one beside it, and take it.

        SettingsRefusedError as `apply`, and then the file is as it was; RefusedError for a revision that cannot be taken again.
        """
        async with self._turn:
            found = await self._store.find(number)
            if found is None or found.place != self._place:
                raise RefusedError(f"there is no revision {number}; specie config history lists them")
            if found.outcome is not Outcome.APPLIED:
                raise RefusedError(f"revision {number} was {found.outcome.value}; only one that was applied can be taken again")
            if found.document is None:
                raise RefusedError(f"the file of revision {number} held a secret in the clear, so it was not kept")
            content = document_text(found.document, f"Revision {number}, written by specie config rollback.").encode()
            try:
                read = await asyncio.to_thread(self._read, content)
            except SettingsError as error:
                raise await self._refuse(author, [str(problem) for problem in error.problems]) from None
            return await self._take(author, read, content)

    async def check(self, file: Path | None = None) -> dict[str, Any]:
        """What `apply` would make of a file (the bank's unless given): `problems`, `changes`, keys that need a `restart`."""
        facts: dict[str, Any] = {"problems": [], "changes": [], "restart": [], "file": str(file or self._file)}
        facts["revision"] = None if self.revision is None else self.revision.number
        try:
            content = await asyncio.to_thread(self._content, file)
            read = await asyncio.to_thread(self._read, content, file)
        except SettingsError as error:
            return facts | {"problems": [str(problem) for problem in error.problems]}
        changes = changes_between(shown(self.settings), shown(read.settings))
        return facts | {
            "changes": [asdict(change) for change in changes],
            "restart": restart_keys(self.settings, read.settings),
        }

    def ask(self) -> None:
        """Have `follow` take the file soon, as a signal's handler does."""
        self._asked.set()

    async def health(self) -> Mapping[str, object]:
        """A check for the health page: not well while the file was refused."""
        if self.refused:
            running = self.revision.number if self.revision else 0
            raise UnavailableError(f"the settings file was refused, revision {running} runs: {'; '.join(self.refused)}")
        return {"revision": self.revision.number if self.revision else 0}

    # -- what goes on by itself -------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Take the file whenever `ask` was called; until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self._try("SIGHUP")

    async def watch(self) -> None:
        """Take the file once two looks in a row found the same new content, so none is taken half written; until cancelled."""
        waiting: str | None = None
        while True:
            pause_s = self.settings.reload.watch_s
            await self._clock.sleep(pause_s or _IDLE_S)
            if not pause_s:
                continue
            try:
                content = await asyncio.to_thread(file_content, self._file)
            except OSError:
                continue  # what cannot be read is told when it is asked for
            found = digest_of(content)
            if not found or found == self._digest:
                waiting = None
            elif found != waiting:
                waiting = found
            elif not self._empty and _is_empty(content or b""):
                await self._leave(found)
            else:
                await self._try("file watch")

    async def _leave(self, digest: str) -> None:
        """Refuse a file that sets nothing any more: more likely it was lost than meant, and every default would be taken."""
        async with self._turn:
            self._digest = digest
            self.refused = (await self._refuse("file watch", [_EMPTIED])).reasons

    async def _try(self, author: str) -> None:
        try:
            await self.apply(author)
        except SettingsRefusedError:
            return  # it is in the log already
        except SpecieError as error:
            self._telemetry.event("settings_not_taken", author=author, detail=error.detail)
        except Exception as error:  # a supervisor: it must outlive one bad look
            self._telemetry.page("settings could not be taken", author=author, error=repr(error))

    # -- the steps ----------------------------------------------------------------------------------------------------------

    def _content(self, file: Path | None = None) -> bytes:
        place = file or self._file
        try:
            content = file_content(place)
        except OSError as error:
            raise SettingsError([SettingsProblem(str(place), "", f"cannot be read: {error.strerror or error}")]) from None
        if content is None:
            if file is not None or self._had_file:
                raise SettingsError([SettingsProblem(str(place), "", "is not there any more")])
            return b""
        return content

    def _read(self, content: bytes, file: Path | None = None) -> _Read:
        settings = self._load(content, file or self._file)
        if problems := self._secrets(settings):
            raise SettingsError(list(problems))
        return _Read(settings, _document(content), digest_of(content), _is_empty(content))

    async def _take(self, author: str, read: _Read, content: bytes | None = None) -> Revision:
        """Validate, prepare, write (a rollback's `content`), record, swap."""
        needs = restart_keys(self.settings, read.settings)
        if needs:
            names = ", ".join(needs)
            word = "needs" if len(needs) == 1 else "need"
            reason = f"{names} {word} a restart; nothing else of this file was taken either"
            raise await self._refuse(author, [reason], read)
        try:
            swaps = [part(read.settings) for part in self._parts]
        except (ValueError, SpecieError) as error:
            raise await self._refuse(author, [str(error)], read) from None
        back: Callable[[], None] = _nothing
        if content is not None:
            kept, back = await asyncio.to_thread(replaced, self._file, content, self._clock.now())
            self._telemetry.event("settings_file_written", file=str(self._file), copy=str(kept or ""))
        if self.revision is None or shown(read.settings) != shown(self.settings):
            try:
                made = await self._record(author, read)
            except BaseException:
                back()
                raise
            await self._swap(made, swaps, back)
            self.revision = made
            self._telemetry.event(
                "settings_applied", revision=made.number, author=made.author, keys=[change.key for change in made.changes]
            )
        self.settings = read.settings
        self.refused = ()
        self._had_file = self._had_file or self._file.exists()
        self._digest = read.digest
        self._empty = read.empty
        self._telemetry.count("settings_reload", result="applied")
        return self.revision

    async def _record(self, author: str, read: _Read) -> Revision:
        revision = self._revision(author, Outcome.APPLIED, (), read.settings, read.document, shown(self.settings))
        try:
            return await self._store.add(revision)
        except UncertainError:  # it may be there; if it cannot be seen now, nothing is swapped
            newest = await self._store.newest(self._place, 1)
            before = self.revision.number if self.revision else 0
            if newest and newest[0].number > before and newest[0].settings == revision.settings:
                return newest[0]
            raise UnavailableError("the store did not take the revision; the bank goes on as it was") from None

    async def _swap(self, made: Revision, swaps: Sequence[Swap], back: Callable[[], None]) -> None:
        done: list[Swap] = []
        try:
            for swap in swaps:  # nothing is awaited here: no request sees one part changed and another not
                done.append(swap)
                swap.do()
        except Exception as error:  # whatever it is, no half of it may stay
            for swap in reversed(done):
                swap.undo()
            back()
            reasons = (f"it was taken back: {type(error).__name__}",)
            self._telemetry.page("new settings were taken back", revision=made.number, error=repr(error))
            self._telemetry.count("settings_reload", result="undone")
            try:
                await self._store.undo(made.number, reasons)
            except SpecieError as failed:
                self._telemetry.event("settings_refusal_not_recorded", detail=failed.detail)
            raise SettingsRefusedError(reasons) from error

    async def _refuse(self, author: str, reasons: Sequence[str], read: _Read | None = None) -> SettingsRefusedError:
        """Remember a refusal, log it, and give the error to raise."""
        told = [reason[:_MAX_REASON_CHARS] for reason in reasons[:_MAX_REASONS]]
        settings, document = (None, None) if read is None else (read.settings, read.document)
        revision = self._revision(author, Outcome.REFUSED, told, settings, document, shown(self.settings))
        self._telemetry.count("settings_reload", result="refused")
        self._telemetry.event("settings_refused", author=revision.author, reasons=told)
        try:
            await self._store.add(revision)
        except SpecieError as error:
            self._telemetry.event("settings_refusal_not_recorded", detail=error.detail)
        return SettingsRefusedError(told)

    def _revision(
        self,
        author: str,
        outcome: Outcome,
        reasons: Sequence[str],
        settings: BankSettings | None,
        document: Mapping[str, Any] | None,
        before: Mapping[str, str],
    ) -> Revision:
        after = {} if settings is None else shown(settings)
        return Revision(
            number=0,
            place=self._place,
            at=self._clock.now(),
            author="".join(char for char in author if char.isprintable())[:_MAX_AUTHOR_CHARS],
            outcome=outcome,
            reasons=tuple(reasons),
            settings=after,
            document=document,
            changes=changes_between(before, after) if after else (),
        )


def _document(content: bytes | None) -> dict[str, Any] | None:
    return redacted_document(parse_document(content or b""))


def _is_empty(content: bytes) -> bool:
    """Whether a file sets nothing; one that cannot be read is not such."""
    try:
        return not parse_document(content)
    except ValueError:
        return False


def _nothing() -> None:
    """What is put back where nothing was written."""
