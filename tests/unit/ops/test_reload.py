"""A settings file is taken whole or not at all, and what became of it is remembered."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from specie.kernel.errors import RefusedError, UnavailableError, UncertainError
from specie.ops.config import load_settings
from specie.ops.errors import SettingsProblem
from specie.ops.reload import Reloader, SettingsRefusedError, Swap
from specie.ops.revision import Change, Outcome, Revision, document_text, shown
from specie.ops.settings import BankSettings
from specie.ops.settings_file import replaced

ONE = '[mint]\nname = "one"\n'
TWO = '# two\n[mint]\nname = "two"\nfee_limit_ppm = 7\n[server.rate]\nburst = 9\n'
RESTART = '[mint]\nname = "three"\n[server]\nport = 4000\n[store]\nwriters = 9\n'
BAD = "[mint]\nname = 3\nmint_maxx = 1\n[server]\nport = 70000\n"


class Killed(BaseException):
    """The process dies here."""


class MemoryStore:
    """Revisions in a list. `before` and `after` an `add` something may happen."""

    def __init__(self) -> None:
        self.revisions: list[Revision] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.blind = False

    async def add(self, revision: Revision) -> Revision:
        self.before()
        made = replace(revision, number=len(self.revisions) + 1)
        self.revisions.append(made)
        self.after()
        return made

    async def undo(self, number: int, reasons: Sequence[str]) -> None:
        self.revisions[number - 1] = replace(self.revisions[number - 1], outcome=Outcome.UNDONE, reasons=tuple(reasons))

    async def find(self, number: int) -> Revision | None:
        return self.revisions[number - 1] if 0 < number <= len(self.revisions) else None

    async def newest(self, place: str, limit: int, *, applied: bool = False) -> list[Revision]:
        if self.blind:
            raise UnavailableError("the store is away")
        found = [one for one in self.revisions if one.place == place and (not applied or one.outcome is Outcome.APPLIED)]
        return found[::-1][:limit]

    @property
    def outcomes(self) -> list[str]:
        return [one.outcome.value for one in self.revisions]


class TickClock:
    """Time that passes when it is told to: each `tick` ends one sleep."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._gate = asyncio.Semaphore(0)
        self._asleep = asyncio.Event()

    def now(self) -> int:
        return 1_800_000_000

    def now_ns(self) -> int:
        return self.now() * 10**9

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._asleep.set()
        await self._gate.acquire()

    async def tick(self) -> None:
        """End the sleep that goes on, and come back when the next has begun."""
        await self._asleep.wait()
        self._asleep.clear()
        self._gate.release()
        await self._asleep.wait()


class Reports:
    """Telemetry as a list."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def count(self, name: str, /, amount: int = 1, **labels: str) -> None:
        pass

    def observe(self, name: str, seconds: float, /, **labels: str) -> None:
        pass

    def event(self, name: str, /, **facts: object) -> None:
        self.events.append((name, facts))

    page = event

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class Bank:
    """A reloader over a file, and two parts that hold the settings they were given."""

    def __init__(self, tmp_path: Path, store: MemoryStore | None = None) -> None:
        self.file = tmp_path / "bank.toml"
        if not self.file.exists():
            self.file.write_text(ONE)
        self.store = store or MemoryStore()
        self.clock = TickClock()
        self.reports = Reports()
        self.held: list[BankSettings] = []
        self.problems: list[SettingsProblem] = []
        self.refusal: Exception | None = None
        self.failure: BaseException | None = None
        settings = load_settings(self.file)
        self.held = [settings, settings]
        self.reloader = Reloader(
            settings,
            file=self.file,
            content=self.file.read_bytes(),
            load=lambda content, file: load_settings(file, content=content),
            secrets=lambda settings: self.problems,
            parts=(self._part(0), self._part(1)),
            store=self.store,
            clock=self.clock,
            telemetry=self.reports,
        )

    def _part(self, at: int) -> Callable[[BankSettings], Swap]:
        def prepare(new: BankSettings) -> Swap:
            before = self.held[at]
            if self.refusal is not None:
                raise self.refusal

            def do() -> None:
                self.held[at] = new
                if at == 1 and self.failure is not None:
                    raise self.failure

            return Swap(do, lambda: self.held.__setitem__(at, before))

        return prepare

    @property
    def names(self) -> list[str]:
        return [held.mint.name for held in self.held]


@pytest.fixture
async def bank(tmp_path: Path) -> Bank:
    made = Bank(tmp_path)
    await made.reloader.start()
    return made


async def test_a_start_is_remembered_once(tmp_path):
    """The same settings again make no revision; others do, with what changed."""
    first = Bank(tmp_path)
    assert (await first.reloader.start()).number == 1
    assert first.store.revisions[0].author == "start"
    assert [change.key for change in first.store.revisions[0].changes] == ["mint.name"]
    again = Bank(tmp_path, first.store)
    assert (await again.reloader.start()).number == 1
    again.file.write_text(TWO)
    other = Bank(tmp_path, first.store)
    assert (await other.reloader.start()).number == 2
    assert [change.key for change in first.store.revisions[1].changes] == [
        "server.rate.burst",
        "mint.name",
        "mint.fee_limit_ppm",
    ]


@pytest.mark.parametrize("text", [TWO, "[mint"])
async def test_a_file_edited_while_the_bank_starts_is_looked_at_later(tmp_path, text):
    """The first revision is what runs, and the start goes on; the watch sees the file as a change."""
    bank = Bank(tmp_path)
    bank.file.write_text(text)
    made = await bank.reloader.start()
    assert made.document == {"mint": {"name": "one"}}
    task = asyncio.create_task(bank.reloader.watch())
    try:
        for _ in range(3):
            await bank.clock.tick()
        assert bank.store.outcomes == ["applied", "applied" if text == TWO else "refused"]
        assert bank.names == (["two", "two"] if text == TWO else ["one", "one"])
    finally:
        task.cancel()


async def test_an_emptied_file_is_taken_only_if_it_is_asked_for(bank):
    """The watch takes no file that lost all it said: refused once, and told by the health page until it is whole."""
    task = asyncio.create_task(bank.reloader.watch())
    try:
        await bank.clock.tick()
        bank.file.write_text("# nothing\n")
        for _ in range(4):
            await bank.clock.tick()
        assert bank.names == ["one", "one"]
        assert bank.store.outcomes == ["applied", "refused"]
        with pytest.raises(UnavailableError, match="sets nothing any more"):
            await bank.reloader.health()
        bank.file.write_text(ONE)
        for _ in range(3):
            await bank.clock.tick()
        assert await bank.reloader.health() == {"revision": 1}
        bank.file.write_text("")
        made = await bank.reloader.apply("alice")
        assert (made.outcome, bank.names) == (Outcome.APPLIED, ["specie", "specie"])
        bank.file.write_text("# still nothing\n")
        for _ in range(3):
            await bank.clock.tick()
        assert await bank.reloader.health() == {"revision": made.number}
        bank.file.write_text(TWO)
        for _ in range(3):
            await bank.clock.tick()
        assert bank.names == ["two", "two"]
    finally:
        task.cancel()


async def test_a_refused_rollback_does_not_blame_the_file(bank):
    """The file is the one that runs, so the health page has nothing to say; one refused before is still so."""
    bank.store.revisions.append(replace(bank.store.revisions[0], number=2, document={"server": {"port": 1}}))
    bank.store.revisions.append(replace(bank.store.revisions[0], number=3, document={"server": {"port": "x"}}))
    for number in (2, 3):
        with pytest.raises(SettingsRefusedError):
            await bank.reloader.rollback(number, "bob")
        assert await bank.reloader.health() == {"revision": 1}
    bank.failure = RuntimeError("no")
    bank.store.revisions.append(replace(bank.store.revisions[0], number=6, document={"mint": {"name": "two"}}))
    with pytest.raises(SettingsRefusedError, match="taken back"):
        await bank.reloader.rollback(6, "bob")
    assert await bank.reloader.health() == {"revision": 1}
    bank.file.write_text(BAD)
    with pytest.raises(SettingsRefusedError):
        await bank.reloader.apply("alice")
    with pytest.raises(SettingsRefusedError):
        await bank.reloader.rollback(3, "bob")
    with pytest.raises(UnavailableError, match="mint_maxx"):
        await bank.reloader.health()


async def test_a_changed_file_is_taken_by_every_part(bank):
    """All parts, the settings of the reloader, the history with author and changes; again it is no new revision."""
    bank.file.write_text(TWO)
    made = await bank.reloader.apply("alice\n\x1b[31m" + "x" * 200)
    assert bank.names == ["two", "two"]
    assert bank.reloader.settings.server.rate.burst == 9
    assert (made.number, made.outcome) == (2, Outcome.APPLIED)
    assert made.author.startswith("alice[31mx")
    assert len(made.author) == 100
    assert made.changes[0] == Change("server.rate.burst", "240", "9", True)
    assert (await bank.reloader.apply("bob")).number == 2
    assert bank.store.outcomes == ["applied"] * 2
    assert await bank.reloader.health() == {"revision": 2}


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        (BAD, ["mint.name", "mint_maxx", "server.port"]),
        ("[mint", ["bank.toml"]),
        (RESTART, ["server.port, store.writers need a restart"]),
        (None, ["is not there any more"]),
    ],
)
async def test_what_cannot_be_taken_changes_nothing(bank, text, reasons):
    """A wrong file, one that needs a restart, none at all: every reason at once, in history, log and health page."""
    if text is None:
        bank.file.unlink()
    else:
        bank.file.write_text(text)
    with pytest.raises(SettingsRefusedError) as caught:
        await bank.reloader.apply("alice")
    for reason in reasons:
        assert reason in str(caught.value)
    assert bank.names == ["one", "one"]
    assert bank.store.outcomes == ["applied", "refused"]
    assert bank.store.revisions[1].reasons == caught.value.reasons
    assert "settings_refused" in bank.reports.names
    with pytest.raises(UnavailableError, match="revision 1 runs"):
        await bank.reloader.health()
    bank.file.write_text(ONE)
    assert (await bank.reloader.apply("alice")).number == 1
    assert await bank.reloader.health() == {"revision": 1}


async def test_the_least_payment_needs_a_restart(bank):
    """Payments to addresses that were given out are held against it, so it does not change under them."""
    bank.file.write_text("[mint]\nmint_min = 1000\n")
    with pytest.raises(SettingsRefusedError, match=r"mint\.mint_min needs a restart"):
        await bank.reloader.apply("alice")


async def test_a_pipe_in_the_place_of_the_file_is_refused(bank):
    """It is not waited for: `apply` says what it is, and the bank can still stop."""
    bank.file.unlink()
    os.mkfifo(bank.file)
    async with asyncio.timeout(20):
        with pytest.raises(SettingsRefusedError, match="no regular file"):
            await bank.reloader.apply("alice")
    assert bank.names == ["one", "one"]


async def test_a_secret_that_cannot_be_read_and_a_part_that_cannot_are_refusals(bank):
    """Before anything is recorded as applied."""
    bank.file.write_text(TWO)
    bank.problems = [SettingsProblem("store.dsn", "", "file:/x: there is no such file")]
    with pytest.raises(SettingsRefusedError, match="no such file"):
        await bank.reloader.apply("alice")
    bank.problems, bank.refusal = [], ValueError("no network")
    with pytest.raises(SettingsRefusedError, match="no network"):
        await bank.reloader.apply("alice")
    assert bank.names == ["one", "one"]
    assert bank.store.outcomes == ["applied", "refused", "refused"]


async def test_a_part_that_fails_takes_all_back(bank):
    """The second part fails: the first is as it was, history says undone, a human is told."""
    bank.file.write_text(TWO)
    bank.failure = RuntimeError("no")
    with pytest.raises(SettingsRefusedError, match="taken back: RuntimeError"):
        await bank.reloader.apply("alice")
    assert bank.names == ["one", "one"]
    assert bank.reloader.settings.mint.name == "one"
    assert bank.store.outcomes == ["applied", "undone"]
    assert "new settings were taken back" in bank.reports.names

    async def away(number: int, reasons: Sequence[str]) -> None:
        raise UnavailableError("the store is away")

    bank.store.undo = away
    with pytest.raises(SettingsRefusedError, match="taken back"):
        await bank.reloader.apply("alice")
    assert bank.names == ["one", "one"]
    assert "settings_refusal_not_recorded" in bank.reports.names


async def test_without_the_store_nothing_is_taken(bank):
    """Not there: nothing changed. Unsure: what is there decides, and what cannot be seen is not taken."""
    bank.file.write_text(TWO)

    def away() -> None:
        raise UnavailableError("the store is away")

    def unsure() -> None:
        raise UncertainError("the connection broke")

    bank.store.before = away
    with pytest.raises(UnavailableError):
        await bank.reloader.apply("alice")
    assert bank.names == ["one", "one"]
    bank.file.write_text(BAD)
    with pytest.raises(SettingsRefusedError):
        await bank.reloader.apply("alice")
    assert "settings_refusal_not_recorded" in bank.reports.names
    bank.file.write_text(TWO)
    bank.store.before = unsure
    with pytest.raises(UnavailableError, match="as it was"):
        await bank.reloader.apply("alice")
    bank.store.before, bank.store.after = (lambda: None), unsure
    assert (await bank.reloader.apply("alice")).number == 2
    assert bank.names == ["two", "two"]


async def test_check_tells_what_apply_would_do_and_does_nothing(bank, tmp_path):
    """Changes and restart keys of the file, of another file; problems where it is wrong."""
    bank.file.write_text(RESTART)
    told = await bank.reloader.check()
    assert told["restart"] == ["server.port", "store.writers"]
    assert {(item["key"], item["live"]) for item in told["changes"]} == {
        ("server.port", False),
        ("store.writers", False),
        ("mint.name", True),
    }
    other = tmp_path / "other.toml"
    other.write_text(BAD)
    told = await bank.reloader.check(other)
    assert len(told["problems"]) == 3
    assert all(str(other) in problem for problem in told["problems"])
    assert (await bank.reloader.check(tmp_path / "absent"))["problems"]
    assert bank.store.outcomes == ["applied"]
    assert bank.names == ["one", "one"]


async def test_a_rollback_writes_the_file_and_takes_it(bank, tmp_path):
    """The earlier settings run, the file says so, a copy of what it was is beside it, with its mode."""
    bank.file.chmod(0o640)
    bank.file.write_text(TWO)
    await bank.reloader.apply("alice")
    made = await bank.reloader.rollback(1, "bob")
    assert made.number == 3
    assert bank.names == ["one", "one"]
    assert load_settings(bank.file).mint.name == "one"
    assert stat.S_IMODE(bank.file.stat().st_mode) == 0o640
    copies = list(tmp_path.glob("*.bak"))
    assert [copy.read_text() for copy in copies] == [TWO]
    bank.file.write_text(BAD)
    assert (await bank.reloader.rollback(3, "bob")).number == 3
    assert load_settings(bank.file).mint.name == "one"
    assert {copy.read_text() for copy in tmp_path.glob("*.bak")} == {TWO, BAD}
    again = Bank(tmp_path, bank.store)
    assert (await again.reloader.start()).number == 3


async def test_what_cannot_be_rolled_back_leaves_the_file(bank, tmp_path):
    """Unknown, refused, not kept, needing a restart, or refused by the store: the file is byte for byte what it was."""
    bank.file.write_text(RESTART)
    with pytest.raises(SettingsRefusedError):
        await bank.reloader.apply("alice")
    bank.store.revisions.append(replace(bank.store.revisions[0], number=3, document=None))
    bank.store.revisions.append(replace(bank.store.revisions[0], number=4, document={"server": {"port": 1}}))
    bank.store.revisions.append(replace(bank.store.revisions[0], number=5, document={"server": {"port": "x"}}))
    bank.store.revisions.append(replace(bank.store.revisions[0], number=6, place="elsewhere"))
    for number, reason in (
        (99, "no revision"),
        (2, "was refused"),
        (3, "in the clear"),
        (4, "restart"),
        (5, "port"),
        (6, "no rev"),
    ):
        with pytest.raises(RefusedError, match=reason):
            await bank.reloader.rollback(number, "bob")
    bank.file.write_text(TWO)
    await bank.reloader.apply("alice")

    def away() -> None:
        raise UnavailableError("the store is away")

    bank.store.before = away
    with pytest.raises(UnavailableError):
        await bank.reloader.rollback(1, "bob")
    assert bank.file.read_text() == TWO
    assert bank.names == ["two", "two"]
    assert not list(tmp_path.glob("*.bak"))
    bank.store.before, bank.failure = (lambda: None), RuntimeError("no")
    with pytest.raises(SettingsRefusedError, match="taken back"):
        await bank.reloader.rollback(1, "bob")
    assert bank.file.read_text() == TWO
    assert bank.names == ["two", "two"]


@pytest.mark.parametrize("step", ["before the record", "after the record", "in the swap"])
@pytest.mark.parametrize("way", ["apply", "rollback"])
async def test_killed_between_the_steps_file_and_history_are_sound(bank, tmp_path, monkeypatch, step, way):
    """Wherever it dies, the file is whole, and the next start runs what it says and history agrees."""
    bank.file.write_text(TWO)
    if way == "rollback":
        await bank.reloader.apply("alice")

    def die() -> None:
        raise Killed

    if step == "in the swap":
        bank.failure = Killed()
    elif step == "before the record":
        bank.store.before = die
    else:
        bank.store.after = die
    if way == "rollback":  # a dead process puts nothing back
        monkeypatch.setattr("specie.ops.reload.replaced", lambda *given: (replaced(*given)[0], lambda: None))
    with pytest.raises(Killed):
        await (bank.reloader.apply("alice") if way == "apply" else bank.reloader.rollback(1, "bob"))
    bank.store.before = bank.store.after = lambda: None
    again = Bank(tmp_path, bank.store)
    made = await again.reloader.start()
    assert again.names == (["two", "two"] if way == "apply" else ["one", "one"])
    assert dict(made.settings) == shown(again.held[0])
    assert (await bank.store.newest("", 1, applied=True)) == [made]
    assert made.author == ("start" if step == "before the record" else {"apply": "alice", "rollback": "bob"}[way])


async def test_a_watched_file_is_taken_when_it_rests(bank):
    """Two looks that agree; a file that still changes is left alone, a bad one is told once, an absent one is no change."""
    task = asyncio.create_task(bank.reloader.watch())
    try:
        await bank.clock.tick()
        bank.file.write_text("")
        await bank.clock.tick()
        bank.file.write_text(TWO)
        await bank.clock.tick()
        assert bank.names == ["one", "one"]
        await bank.clock.tick()
        assert bank.names == ["two", "two"]
        assert bank.store.revisions[-1].author == "file watch"
        bank.file.write_text(BAD)
        for _ in range(4):
            await bank.clock.tick()
        assert bank.store.outcomes == ["applied", "applied", "refused"]
        bank.file.unlink()
        for _ in range(3):
            await bank.clock.tick()
        assert bank.store.outcomes == ["applied", "applied", "refused"]
        bank.file.write_text(TWO + "[reload]\nwatch_s = 0\n")
        for _ in range(3):
            await bank.clock.tick()
        assert bank.store.outcomes[3:] == ["applied"]
        bank.file.write_text(ONE)
        for _ in range(3):
            await bank.clock.tick()
        assert bank.names == ["two", "two"]
        assert set(bank.clock.slept) == {2.0}
    finally:
        task.cancel()


async def test_the_watch_tries_again_where_the_store_was_away(bank):
    """A file that could not be judged is not forgotten."""

    def away() -> None:
        raise UnavailableError("the store is away")

    bank.store.before = away
    bank.file.write_text(TWO)
    task = asyncio.create_task(bank.reloader.watch())
    try:
        for _ in range(3):
            await bank.clock.tick()
        assert "settings_not_taken" in bank.reports.names
        bank.store.before = lambda: None
        await bank.clock.tick()
        assert bank.names == ["two", "two"]
    finally:
        task.cancel()


async def test_a_signal_is_followed_once_for_many(bank):
    """Asked often in one moment, the file is taken once; what goes wrong unexpectedly is paged and survived."""
    bank.file.write_text(TWO)
    task = asyncio.create_task(bank.reloader.follow())
    for _ in range(5):
        bank.reloader.ask()

    async def until(done: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not done():
                await asyncio.sleep(0)

    try:
        await until(lambda: len(bank.store.revisions) == 2)
        assert bank.store.revisions[1].author == "SIGHUP"
        bank.file.write_text(ONE)
        bank.refusal = KeyError("unexpected")
        bank.reloader.ask()
        await until(lambda: "settings could not be taken" in bank.reports.names)
        bank.refusal = None
        bank.reloader.ask()
        await until(lambda: len(bank.store.revisions) == 3)
    finally:
        task.cancel()


def test_a_document_is_written_as_it_was_read(tmp_path):
    """Tables, lists, pairs, rails, large amounts and odd text come back the same."""
    import tomllib

    text = """
    data_dir = "bo\\"oks"
    [mint]
    contact = [["email", "a@b"], ["x", "y\\n\\u0007"]]
    mint_max = 18446744073709551615
    [mint.limits]
    array_length = 64
    [server]
    drain_s = 0.5
    [[rails]]
    kind = "play"
    autopay = false
    [[rails]]
    method = "bolt12"
    """
    document = tomllib.loads(text)
    assert tomllib.loads(document_text(document, "A note.")) == document
    file = tmp_path / "written.toml"
    file.write_text(document_text(document))
    assert load_settings(file).rails[1].method == "bolt12"


def test_a_file_that_cannot_be_replaced_is_left(tmp_path):
    """The directory is a file: refused, with its name. A link stays a link; a file that was not there goes away again."""
    (tmp_path / "blocked").write_text("")
    with pytest.raises(RefusedError, match="cannot be replaced"):
        replaced(tmp_path / "blocked" / "bank.toml", b"", 0)
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_text(ONE)
    link.symlink_to(real)
    kept, _ = replaced(link, TWO.encode(), 0)
    assert link.is_symlink()
    assert real.read_text() == TWO
    assert kept == tmp_path / "real.toml.19700101T000000Z.bak"
    _, back = replaced(tmp_path / "new.toml", b"x", 0)
    back()
    assert not (tmp_path / "new.toml").exists()
    back()


def test_a_directory_that_cannot_be_flushed_takes_the_file_back(tmp_path, monkeypatch):
    """What was refused did not happen: the file is as it was, and no copy is left."""
    file = tmp_path / "bank.toml"
    file.write_text(ONE)

    def broken(directory: Path) -> None:
        raise OSError(5, "no disk")

    monkeypatch.setattr("specie.ops.settings_file._settle", broken)
    with pytest.raises(RefusedError, match="no disk"):
        replaced(file, TWO.encode(), 0)
    assert file.read_text() == ONE
    assert not list(tmp_path.glob("*.bak"))


@pytest.mark.parametrize("allowed", [True, False])
def test_a_replaced_file_keeps_its_group_or_is_read_by_nobody_else(tmp_path, monkeypatch, allowed):
    """A mode says who may read only together with the group."""
    file = tmp_path / "bank.toml"
    file.write_text(ONE)
    file.chmod(0o640)
    was, given, fstat = file.stat().st_gid, [], os.fstat

    def other(handle: int) -> os.stat_result:
        found = list(fstat(handle))
        found[5] = was + 1
        return os.stat_result(found)

    def fchown(handle: int, uid: int, gid: int) -> None:
        given.append((uid, gid))
        if not allowed:
            raise PermissionError(1, "not yours")

    monkeypatch.setattr("specie.ops.settings_file.os.fstat", other)
    monkeypatch.setattr("specie.ops.settings_file.os.fchown", fchown)
    kept, _ = replaced(file, TWO.encode(), 0)
    assert given == [(-1, was)] * 2
    assert kept is not None
    assert {stat.S_IMODE(one.stat().st_mode) for one in (file, kept)} == {0o640 if allowed else 0o600}
